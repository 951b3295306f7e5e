"""Each junction's numbers as designers know them: its shunt, its damping, and the inductance next to it.

    beta_c = 2 pi Ic R^2 C / Phi0,    beta_L = 2 pi L Ic / Phi0

Source: docs/sfq.md 1.2.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from sim.sfq.circuit import Circuit
from sim.sfq.constants import PHI0_WB

LEAST_SHUNT_OHM = 1e-3
"""A smaller resistor is a lossless connection in disguise."""


@dataclass(frozen=True)
class JunctionNumbers:
    """One junction: Ic, C, the external shunt (None if none was found), and beta_c with it and its own resistance.

    ``inductance_H`` is the smallest next to it that is neither its shunt's nor its way to ground; beta_L is with it.
    """

    name: str
    ic_A: float
    c_F: float
    shunt_ohm: float | None
    beta_c: float
    inductance_H: float | None
    beta_L: float | None


def parameters(circuit: Circuit) -> list[JunctionNumbers]:
    """The numbers of each junction.

    A shunt is a resistor whose series chain of inductors ends where the junction does, or one of them at ground by the
    junction's own inductor. Several shunts are taken in parallel.
    """
    look = _Neighbours(circuit)
    j = circuit.junctions
    own = [r0 if t else rn for t, r0, rn in zip(j.rtype.tolist(), j.r0_ohm.tolist(), j.rn_ohm.tolist(), strict=True)]
    out = []
    rows = zip(j.names, j.a.tolist(), j.b.tolist(), j.ic_A.tolist(), j.c_F.tolist(), own, strict=True)
    for name, a, b, ic, c, inner in rows:
        shunts, chains = look.shunts(a, b)
        conductance = sum(1.0 / r for r in shunts)
        total = 1.0 / (1.0 / inner + conductance)
        near = look.inductance(a, b, chains)
        out.append(
            JunctionNumbers(
                name, ic, c, 1.0 / conductance if shunts else None, 2.0 * math.pi * ic * total**2 * c / PHI0_WB,
                near, None if near is None else 2.0 * math.pi * near * ic / PHI0_WB,
            )
        )  # fmt: skip
    return out


class _Neighbours:
    """What is on each node: inductors, resistors with the chains of inductors at their ends, and how many elements."""

    def __init__(self, circuit: Circuit) -> None:
        self.inductors: dict[int, list[tuple[int, int]]] = defaultdict(list)
        self.degree: dict[int, int] = defaultdict(int)
        self.values = circuit.inductors.value.tolist()
        for _, a, b in circuit.branches():
            self.degree[a] += 1
            self.degree[b] += 1
        for group in (circuit.lines, circuit.controlled):
            for end in ("a", "b", "c", "d", "ca", "cb"):
                for v in getattr(group, end, ()):
                    self.degree[int(v)] += 1
        inductors, r = circuit.inductors, circuit.resistors
        for k, (a, b) in enumerate(zip(inductors.a.tolist(), inductors.b.tolist(), strict=True)):
            self.inductors[a].append((k, b))
            self.inductors[b].append((k, a))
        self.branches: dict[tuple[int, int], list[tuple[float, frozenset[int]]]] = defaultdict(list)
        for a, b, value in zip(r.a.tolist(), r.b.tolist(), r.value.tolist(), strict=True):
            (u, left), (v, right) = self.chain(a), self.chain(b)
            self.branches[(min(u, v), max(u, v))].append((value, left | right))

    def chain(self, node: int) -> tuple[int, frozenset[int]]:
        """Along inductors while nothing else is on the way: the end, and the inductors passed."""
        passed: set[int] = set()
        while node and self.degree[node] == 2 and len(self.inductors[node]) == 1:
            k, other = self.inductors[node][0]
            if k in passed:
                break
            passed.add(k)
            node = other
        while node and self.degree[node] == 2 and len(self.inductors[node]) == 2:
            step = next(((k, o) for k, o in self.inductors[node] if k not in passed), None)
            if step is None:
                break
            passed.add(step[0])
            node = step[1]
        return node, frozenset(passed)

    def grounding(self, node: int) -> list[tuple[int, frozenset[int]]]:
        """The node itself, and ground where an inductor leads from it to ground."""
        ends: list[tuple[int, frozenset[int]]] = [(node, frozenset())]
        ends += [(0, frozenset({k})) for k, other in self.inductors[node] if node and other == 0]
        return ends

    def shunts(self, a: int, b: int) -> tuple[list[float], set[int]]:
        """Resistances beside a junction, and the inductors that belong to them or lead it to ground.

        Only a junction without one on its own nodes is looked at from ground: a load there is no shunt.
        """
        found: list[float] = []
        chains: set[int] = set()
        for u, first in self.grounding(a):
            for v, second in self.grounding(b):
                chains |= first | second
                if u == v or (found and (first or second)):
                    continue
                for value, passed in self.branches.get((min(u, v), max(u, v)), []):
                    if value > LEAST_SHUNT_OHM:
                        found.append(value)
                        chains |= passed
        return found, chains

    def inductance(self, a: int, b: int, chains: Iterable[int]) -> float | None:
        """The smallest inductor on the junction's nodes that is none of ``chains``."""
        known = set(chains)
        near = [self.values[k] for v in (a, b) if v for k, _ in self.inductors[v] if k not in known]
        return min((v for v in near if v > 0), default=None)
