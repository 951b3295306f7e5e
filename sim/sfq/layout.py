"""Nodes of a circuit to the unknowns of a run.

The unknowns are node phases. A voltage or phase source fixes the difference of two phases, so its nodes share one
unknown: ``f[child] = f[parent] + s`` along the tree of sources, and the tree that holds ground has none. The matrix
stays symmetric positive definite whatever the sources touch; only a loop of sources has no solution.

State vector: unknowns in elimination order, then the other nodes of source trees ("extra"), then ground.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sim.sfq.circuit import Circuit, Ints, Sources
from sim.sfq.errors import DeckWarning
from sim.sfq.ldl import Pattern, analyse


@dataclass(frozen=True)
class Edge:
    """One V or P source of a tree: nodes as numbered in the circuit, ``sign`` +1 if ``child`` is its N+."""

    parent: int
    child: int
    sign: int
    phase: bool
    index: int


@dataclass(frozen=True)
class Layout:
    """``state[node]`` is a node's place in the state vector; ``row[place]`` the unknown behind it, n for ground."""

    pattern: Pattern
    state: Ints
    row: Ints
    edges: tuple[Edge, ...]

    @property
    def n(self) -> int:
        """Number of unknowns."""
        return self.pattern.n

    @property
    def ground(self) -> int:
        """Ground's place, the last."""
        return len(self.row) - 1


def lay_out(circuit: Circuit, coupled: list[Ints]) -> Layout:
    """Number the unknowns. ``coupled`` are the groups of inductors that mutuals tie together.

    An island is pinned to ground at one node, with a DeckWarning. Raises DeckError for a loop of voltage or phase
    sources.
    """
    pinned = islands(circuit)
    if pinned:
        _warn(circuit, pinned)
    edges, root = _source_trees(circuit, pinned)
    extra = [e.child for e in edges]
    is_extra = np.zeros(len(circuit.nodes), dtype=bool)
    is_extra[extra] = True
    free = [v for v in range(1, len(circuit.nodes)) if not is_extra[v]]
    n = len(free)
    unknown = np.full(len(circuit.nodes), n, dtype=np.int64)
    unknown[free] = np.arange(n)
    unknown[extra] = unknown[root[extra]]
    pattern = analyse(n, ((a, b) for a, b in _pairs(circuit, coupled, unknown) if a != n and b != n))
    place = np.append(np.argsort(pattern.order), n)
    state = place[unknown]
    state[extra] = n + np.arange(len(extra))
    state[0] = n + len(extra)
    row = np.concatenate([np.arange(n), place[unknown[extra]], [n]]).astype(np.int64)
    return Layout(pattern, state.astype(np.int64), row, tuple(edges))


def _pairs(circuit: Circuit, coupled: list[Ints], unknown: Ints) -> Iterator[tuple[int, int]]:
    for group in (circuit.resistors, circuit.inductors, circuit.capacitors, circuit.junctions):
        yield from zip(unknown[group.a].tolist(), unknown[group.b].tolist(), strict=True)
    t, x = circuit.lines, circuit.controlled
    for ends in ((t.a, t.b), (t.c, t.d), (x.a, x.b), (x.ca, x.cb)):
        yield from zip(unknown[ends[0]].tolist(), unknown[ends[1]].tolist(), strict=True)
    for set_ in coupled:
        members = unknown[np.concatenate([circuit.inductors.a[set_], circuit.inductors.b[set_]])].tolist()
        yield from ((a, b) for k, a in enumerate(members) for b in members[:k])


def links(circuit: Circuit) -> Iterator[tuple[str, int, int]]:
    """(name, a, b) of all that ties two nodes' phases: everything but current sources and couplings."""
    current = set(circuit.currents.names)
    yield from (branch for branch in circuit.branches() if branch[0] not in current)
    t, x = circuit.lines, circuit.controlled
    for name, a, b, c, d in zip(t.names, t.a.tolist(), t.b.tolist(), t.c.tolist(), t.d.tolist(), strict=True):
        yield name, a, b
        yield name, c, d
    for name, kind, a, b, ca, cb in zip(
        x.names, x.kinds, x.a.tolist(), x.b.tolist(), x.ca.tolist(), x.cb.tolist(), strict=True
    ):
        if kind in "EH":
            yield name, a, b
        if kind in "FH":
            yield name, ca, cb


def islands(circuit: Circuit) -> list[int]:
    """The first node of every part of the circuit that nothing ties to ground; such a node is pinned, with a warning.

    A phase has no meaning but against another: pinning one node of an island changes no voltage and no current in it.
    """
    near: list[list[int]] = [[] for _ in circuit.nodes]
    for _, a, b in links(circuit):
        near[a].append(b)
        near[b].append(a)
    seen = [False] * len(near)
    pinned: list[int] = []
    for start in range(len(near)):
        if seen[start]:
            continue
        if start:
            pinned.append(start)
        seen[start] = True
        stack = [start]
        while stack:
            for v in near[stack.pop()]:
                if not seen[v]:
                    seen[v] = True
                    stack.append(v)
    return pinned


def _warn(circuit: Circuit, pinned: list[int]) -> None:
    names = ", ".join(circuit.nodes[v] for v in pinned[:8])
    more = f" and {len(pinned) - 8} more" if len(pinned) > 8 else ""
    warnings.warn(
        DeckWarning(
            f"floating node {names}{more}: no way to ground but current sources and couplings; its phase is taken as "
            "0. Connect it to 0 where that is not meant"
        ),
        stacklevel=6,
    )


def _source_trees(circuit: Circuit, pinned: list[int]) -> tuple[list[Edge], Ints]:
    """The sources as trees, parents before children, and each node's root (itself outside a tree).

    A pin is a phase source of 0 rad to ground with index -1 - k.
    """
    near: dict[int, list[tuple[int, Edge]]] = {}
    for at, node in enumerate(pinned):
        near.setdefault(0, []).append((node, Edge(0, node, 1, True, -1 - at)))
        near.setdefault(node, []).append((0, Edge(node, 0, -1, True, -1 - at)))
    for phase, sources in enumerate((circuit.voltages, circuit.phases)):
        for at, (a, b) in enumerate(zip(sources.a.tolist(), sources.b.tolist(), strict=True)):
            near.setdefault(a, []).append((b, Edge(a, b, -1, bool(phase), at)))
            near.setdefault(b, []).append((a, Edge(b, a, 1, bool(phase), at)))
    edges: list[Edge] = []
    root = np.arange(len(circuit.nodes))
    seen: set[int] = set()
    used: set[tuple[bool, int]] = set()
    for start in sorted(near):
        stack = [] if start in seen else [start]
        seen.add(start)
        while stack:
            for node, edge in near[stack.pop()]:
                if (edge.phase, edge.index) in used:
                    continue
                used.add((edge.phase, edge.index))
                if node in seen:
                    _refuse_loop(circuit, circuit.phases if edge.phase else circuit.voltages, edge)
                seen.add(node)
                root[node] = root[edge.parent]
                edges.append(edge)
                stack.append(node)
    return edges, root


def _refuse_loop(circuit: Circuit, sources: Sources, edge: Edge) -> None:
    raise circuit.error(
        sources.names[edge.index],
        f"closes a loop of voltage or phase sources (0 H and 0 ohm count) at {circuit.nodes[edge.child]}",
        "put a resistor or an inductor in series with one of them",
    )
