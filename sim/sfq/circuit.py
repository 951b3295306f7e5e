"""A flat circuit: arrays of elements, nothing left to look up. Node 0 is ground. SI units throughout.

Names are JoSIM's: the element or node first, then the instances outwards, ``B1|X1|XA1``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sim.sfq.deck import Tran
from sim.sfq.errors import NOWHERE, DeckError, Where
from sim.sfq.requests import Request
from sim.sfq.shapes import Shape

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Branches:
    """Elements of two nodes and one value: ohm, H or F. Arrays of one length."""

    names: tuple[str, ...]
    a: Ints
    b: Ints
    value: Floats

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Mutuals:
    """Couplings ``M = k sqrt(La Lb)`` between the inductors with these indices."""

    names: tuple[str, ...]
    la: Ints
    lb: Ints
    k: Floats

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Junctions:
    """Josephson junctions with their instance values (area applied).

    ``cpr`` has one row a junction, ``F(x) = sum_k cpr[k-1] sin(k x)``. ``gap`` is Delta/2kT, 0 for no temperature.
    """

    names: tuple[str, ...]
    a: Ints
    b: Ints
    ic_A: Floats
    c_F: Floats
    r0_ohm: Floats
    rn_ohm: Floats
    vg_V: Floats
    delv_V: Floats
    icfct: Floats
    rtype: Ints
    phi_rad: Floats
    cpr: Floats
    gap: Floats
    transparency: Floats

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Sources:
    """Current, voltage or phase sources from node ``a`` (N+) to node ``b`` (N-); A, V or rad."""

    names: tuple[str, ...]
    a: Ints
    b: Ints
    shapes: tuple[Shape, ...]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Circuit:
    """Everything a run needs. ``where`` maps element names to their lines, for messages."""

    nodes: tuple[str, ...]
    resistors: Branches
    inductors: Branches
    capacitors: Branches
    mutuals: Mutuals
    junctions: Junctions
    currents: Sources
    voltages: Sources
    phases: Sources
    tran: Tran | None = None
    requests: tuple[Request, ...] = ()
    where: dict[str, Where] = field(default_factory=dict)

    @property
    def jj_count(self) -> int:
        """Number of junctions."""
        return len(self.junctions)

    @property
    def bias_current_A(self) -> float:
        """Sum of the magnitudes of the constant currents that current sources settle at (a ramp's last value)."""
        return float(sum(abs(shape.bias()) for shape in self.currents.shapes))

    def branches(self) -> Iterator[tuple[str, int, int]]:
        """(name, a, b) of every element with two nodes, sources included."""
        groups = (self.resistors, self.inductors, self.capacitors, self.junctions)
        for group in (*groups, self.currents, self.voltages, self.phases):
            yield from zip(group.names, group.a.tolist(), group.b.tolist(), strict=True)

    def error(self, name: str, rule: str, fix: str) -> DeckError:
        """A DeckError at the line of the element ``name``."""
        return DeckError(self.where.get(name, NOWHERE), name, rule, fix)
