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


def _no_ints() -> Ints:
    return np.zeros(0, np.int64)


def _no_floats() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True)
class Lines:
    """Lossless transmission lines: port 1 from ``a`` to ``b``, port 2 from ``c`` to ``d``; ohm and s.

    V1(t) - Z I1(t) = V2(t - td) + Z I2(t - td) and the same with the ports exchanged, I into the line.
    """

    names: tuple[str, ...] = ()
    a: Ints = field(default_factory=_no_ints)
    b: Ints = field(default_factory=_no_ints)
    c: Ints = field(default_factory=_no_ints)
    d: Ints = field(default_factory=_no_ints)
    z0_ohm: Floats = field(default_factory=_no_floats)
    td_s: Floats = field(default_factory=_no_floats)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Controlled:
    """Controlled sources: output from ``a`` to ``b``, control from ``ca`` to ``cb``, letter E F G H in ``kinds``.

    E: V = gain Vc, F: I = gain Ic, G: I = gain Vc, H: V = gain Ic, the current flowing in the source from ``a`` to
    ``b``. F and H sense the current of a branch of no voltage between ``ca`` and ``cb``.
    """

    names: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    a: Ints = field(default_factory=_no_ints)
    b: Ints = field(default_factory=_no_ints)
    ca: Ints = field(default_factory=_no_ints)
    cb: Ints = field(default_factory=_no_ints)
    gain: Floats = field(default_factory=_no_floats)

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class PerElement:
    """A number for each resistor, junction, inductor and capacitor, in the order of the circuit."""

    resistors: Floats
    junctions: Floats
    inductors: Floats
    capacitors: Floats


@dataclass(frozen=True)
class Circuit:
    """Everything a run needs. ``where`` maps element names to their lines, for messages.

    ``temperature_K`` (0: no noise), ``neb_Hz`` (0: the native noise) and ``spread`` (relative, 3 sigma) are None where
    the deck asks for none; ``start_V`` and ``start_rad`` are the junctions' initial conditions, None for the operating
    point. ``seed`` is ``.option seed=``.
    """

    nodes: tuple[str, ...]
    resistors: Branches
    inductors: Branches
    capacitors: Branches
    mutuals: Mutuals
    junctions: Junctions
    currents: Sources
    voltages: Sources
    phases: Sources
    lines: Lines = field(default_factory=Lines)
    controlled: Controlled = field(default_factory=Controlled)
    temperature_K: PerElement | None = None
    neb_Hz: PerElement | None = None
    spread: PerElement | None = None
    start_V: Floats | None = None
    start_rad: Floats | None = None
    seed: int | None = None
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

    def sources(self) -> tuple[Shape, ...]:
        """Shapes of all current, voltage and phase sources, in this order."""
        return (*self.currents.shapes, *self.voltages.shapes, *self.phases.shapes)

    def branches(self) -> Iterator[tuple[str, int, int]]:
        """(name, a, b) of every element with two nodes, sources included."""
        groups = (self.resistors, self.inductors, self.capacitors, self.junctions)
        for group in (*groups, self.currents, self.voltages, self.phases):
            yield from zip(group.names, group.a.tolist(), group.b.tolist(), strict=True)

    def error(self, name: str, rule: str, fix: str) -> DeckError:
        """A DeckError at the line of the element ``name``."""
        return DeckError(self.where.get(name, NOWHERE), name, rule, fix)
