"""Nodes of a circuit to the unknowns of a run.

The unknowns are node phases. A voltage or phase source fixes the difference of two phases, so its nodes share one
unknown: ``f[child] = f[parent] + s`` along the tree of sources, and the tree that holds ground has none. The matrix
stays symmetric positive definite whatever the sources touch; only a loop of sources has no solution.

State vector: unknowns in elimination order, then the other nodes of source trees ("extra"), then ground.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sim.sfq.circuit import Circuit, Ints, Sources
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

    Raises DeckError for a floating node and for a loop of voltage or phase sources.
    """
    _refuse_floating(circuit)
    edges, root = _source_trees(circuit)
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
    for set_ in coupled:
        ends = unknown[np.concatenate([circuit.inductors.a[set_], circuit.inductors.b[set_]])].tolist()
        yield from ((a, b) for x, a in enumerate(ends) for b in ends[:x])


def _refuse_floating(circuit: Circuit) -> None:
    """Every node must reach ground through something other than a current source or a coupling."""
    near: list[list[int]] = [[] for _ in circuit.nodes]
    current = set(circuit.currents.names)
    for name, a, b in circuit.branches():
        if name not in current:
            near[a].append(b)
            near[b].append(a)
    seen, stack = {0}, [0]
    while stack:
        for v in near[stack.pop()]:
            if v not in seen:
                seen.add(v)
                stack.append(v)
    lost = [v for v in range(len(circuit.nodes)) if v not in seen]
    if lost:
        name = next(name for name, a, b in circuit.branches() if a == lost[0] or b == lost[0])
        names = ", ".join(circuit.nodes[v] for v in lost[:8])
        raise circuit.error(
            name, f"floating node{'s' if len(lost) > 1 else ''} {names}: no way to ground",
            "connect one of them to 0 by an element other than a current source or a coupling",
        )  # fmt: skip


def _source_trees(circuit: Circuit) -> tuple[list[Edge], Ints]:
    """The sources as trees, parents before children, and each node's root (itself outside a tree)."""
    near: dict[int, list[tuple[int, Edge]]] = {}
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
