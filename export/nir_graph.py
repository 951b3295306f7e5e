"""The graph of a NIR file made flat: nested graphs inlined, duplicate edges removed, loops closed over one step.

NIR says nothing of time steps. A loop without a Delay of a step or more cannot be computed in one, so its closing
edge takes one step, as snnTorch's recurrent layers do: an edge closes a loop where its target dominates its source
(every way from the input to the source leads through the target), which does not depend on the order of nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from export.network import Loss, NetworkError, sources_first
from export.nir_file import Raw
from export.program import MappingError

Arc: TypeAlias = tuple[str, str]
MAX_NODES = 4096


@dataclass
class Flat:
    """Nodes by name without nested graphs, and edges, each once; ``losses``: what was changed."""

    nodes: dict[str, Raw] = field(default_factory=dict)
    edges: list[Arc] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)


def flatten(graph: Raw, name: str) -> Flat:
    """Errors: :class:`NetworkError` naming the edge or node."""
    flat = Flat()
    _add(graph, "", flat, name)
    if len(flat.nodes) > MAX_NODES:
        raise NetworkError(f"{name}: has {len(flat.nodes)} nodes, at most {MAX_NODES} are read; a node is a population")
    _once(flat)
    for node in [n for n, raw in flat.nodes.items() if raw["type"] == "port"]:
        before = [a for a, b in flat.edges if b == node]
        after = [b for a, b in flat.edges if a == node]
        flat.edges = [(a, b) for a, b in flat.edges if node not in (a, b)] + [(a, b) for a in before for b in after]
        del flat.nodes[node]
        _once(flat)  # here, not at the end: copies would multiply from port to port
    return flat


def _once(flat: Flat) -> None:
    """Leaves out copies of edges."""
    times = Counter(flat.edges)
    for (a, b), k in times.items():
        if k > 1:
            flat.losses.append(
                Loss(b, f"the edge from {a} stands more than once and is taken once; times left out", k - 1)
            )
    flat.edges = list(times)


def _add(graph: Raw, prefix: str, flat: Flat, owner: str) -> None:
    nodes, edges = graph.get("nodes"), graph.get("edges")
    if not isinstance(nodes, dict) or edges is None:
        raise NetworkError(f"{owner}: a graph needs 'nodes' and 'edges'; export it again")
    for key, raw in nodes.items():
        name = prefix + key
        if not isinstance(raw, dict) or not isinstance(raw.get("type"), str):
            raise NetworkError(f"{name}: is no node, it has no 'type'; export it again")
        if raw["type"] == "NIRGraph":
            _ports(raw, name)
            _add(raw, f"{name}.", flat, name)
        elif prefix and raw["type"] in ("Input", "Output"):
            flat.nodes[name] = {"type": "port"}
        else:
            flat.nodes[name] = raw
    for pair in edges:
        if len(pair) != 2:
            raise NetworkError(f"{owner}: edge {pair!r} is no pair of names; export it again")
        a, b = (str(p) for p in pair)
        for end in (a, b):
            if end not in nodes:
                raise NetworkError(
                    f"{owner}: edge {a} -> {b}: there is no node '{end}'; nodes are {', '.join(nodes)}. "
                    "Rename the node or the edge's end in the exporter"
                )
        src = f"{prefix}{a}.{_ports(nodes[a], a)[1]}" if nodes[a]["type"] == "NIRGraph" else prefix + a
        dst = f"{prefix}{b}.{_ports(nodes[b], b)[0]}" if nodes[b]["type"] == "NIRGraph" else prefix + b
        flat.edges.append((src, dst))


def _ports(raw: Raw, name: str) -> tuple[str, str]:
    nodes = raw.get("nodes")
    if not isinstance(nodes, dict):
        raise NetworkError(f"{name}: a graph needs 'nodes' and 'edges'; export it again")
    ends = [[k for k, n in nodes.items() if isinstance(n, dict) and n.get("type") == t] for t in ("Input", "Output")]
    for what, found in zip(("Input", "Output"), ends, strict=True):
        if len(found) != 1:
            raise NetworkError(f"{name}: a nested graph needs exactly one {what}, has {len(found)}; split it")
    return ends[0][0], ends[1][0]


def closing(
    names: Sequence[str], edges: Sequence[Arc], start: str, opens: Callable[[str], bool], keeps: Callable[[str], bool]
) -> list[Arc]:
    """Edges to delay by a step so that no cycle without delay is left, in the order of ``edges``.

    ``opens(name)``: the node speaks before it hears (a Delay of a step or more). ``keeps(name)``: it has a state, so
    that a delay behind it is no less than one behind what follows it. Errors: :class:`MappingError` naming the loop.
    """
    direct = [(a, b) for a, b in edges if not opens(b)]
    if not cyclic(direct):
        return []
    dominators = _dominators(names, direct, [start, *(n for n in names if opens(n))])
    closed = {_moved((a, b), edges, keeps) for a, b in direct if b in dominators.get(a, ())}
    left = cyclic([e for e in direct if e not in closed])
    if left:  # a loop that can be entered at two places has no one closing edge: every neuron in it delays
        extra = {(a, b) for a, b in direct if a in left and b in left and keeps(a)}
        closed |= extra
        if cyclic([e for e in direct if e not in closed]):
            raise MappingError(f"loop through {', '.join(sorted(left))}: no neuron and no Delay in it; put one there")
    for a, b in closed:
        if not any(keeps(n) for n in _loop(a, b, direct)):
            raise MappingError(f"loop {a} -> {b}: no neuron and no Delay lies in it; put one there")
    return [e for e in edges if e in closed]


def _moved(arc: Arc, edges: Sequence[Arc], keeps: Callable[[str], bool]) -> Arc:
    """The delay moved back to the neuron whose spikes come round, so that a bias on the way acts from the start."""
    a, b = arc
    for _ in range(len(edges)):
        before = [e for e in edges if e[1] == a]
        after = [e for e in edges if e[0] == a]
        if keeps(a) or len(before) != 1 or len(after) != 1:
            break
        a, b = before[0]
    return a, b


def _loop(a: str, b: str, edges: Sequence[Arc]) -> set[str]:
    """Nodes on ways from ``b`` to ``a``."""
    return set(breadth_first([b], edges)) & set(breadth_first([a], [(y, x) for x, y in edges]))


def breadth_first(starts: Sequence[str], edges: Sequence[Arc]) -> list[str]:
    """What can be reached, the starts included, nearest first."""
    after: dict[str, list[str]] = {}
    for a, b in edges:
        after.setdefault(a, []).append(b)
    found = dict.fromkeys(starts)
    ring = list(found)
    while ring:
        ring = [b for b in dict.fromkeys(b for a in ring for b in after.get(a, ())) if b not in found]
        found |= dict.fromkeys(ring)
    return list(found)


def _dominators(names: Sequence[str], edges: Sequence[Arc], starts: Sequence[str]) -> dict[str, set[str]]:
    """Of every node that can be reached: the nodes on every way to it, itself included."""
    before: dict[str, list[str]] = {n: [] for n in names}
    for a, b in edges:
        before[b].append(a)
    order = breadth_first(starts, edges)
    dom: dict[str, set[str]] = {n: {n} if n in starts else set(order) for n in order}
    changed = True
    while changed:
        changed = False
        for n in order:
            if n in starts:
                continue
            sets = [dom[p] for p in before[n] if p in dom]
            new = set.intersection(*sets) | {n} if sets else {n}
            if new != dom[n]:
                dom[n], changed = new, True
    return dom


def cyclic(edges: Sequence[Arc]) -> set[str]:
    """Nodes that lie on a cycle or between cycles; empty where there is none."""
    left = list(edges)
    while True:
        sources, targets = {a for a, _ in left}, {b for _, b in left}
        kept = [(a, b) for a, b in left if a in targets and b in sources]
        if len(kept) == len(left):
            return {n for e in left for n in e}
        left = kept


def ordered(names: Sequence[str], edges: Sequence[Arc]) -> list[str]:
    """Sources first, ties by name: the same for any order in the file."""
    done = sources_first(sorted(names), edges)
    if len(done) < len(names):
        loop = ", ".join(sorted(set(names) - set(done)))
        raise MappingError(f"loop without a delay through {loop}; put a Delay into it")
    return done
