"""Variants of one circuit: what margins, Monte Carlo, shmoo and noise run side by side.

A corner multiplies element values. Its number (``ids``) names its noise, so that a corner gives the same run whatever
batch or process it is in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sim.sfq.circuit import Branches, Circuit, Floats, Ints, Sources
from sim.sfq.shapes import Shape

GROUPS = ("resistors", "inductors", "capacitors", "junctions", "currents", "voltages", "phases", "mutuals")
"""Fields of a circuit that a corner scales, and of :class:`Corners` with the factors."""


@dataclass(frozen=True)
class Corners:
    """``count`` variants of a circuit. Each group: factors (count, elements) in the circuit's order; None is 1.

    A junction's factor is its area: Ic and C times it, R0 and RN divided by it. A source's multiplies its waveform.
    ``shapes`` replaces sources by name: one shape a corner. ``ids`` (count,) name the corners' noise.
    """

    count: int
    resistors: Floats | None = None
    inductors: Floats | None = None
    capacitors: Floats | None = None
    junctions: Floats | None = None
    currents: Floats | None = None
    voltages: Floats | None = None
    phases: Floats | None = None
    mutuals: Floats | None = None
    shapes: Mapping[str, Sequence[Shape]] = field(default_factory=dict)
    ids: Ints | None = None

    def take(self, at: slice) -> Corners:
        """Some of the corners, with their own numbers."""
        numbers = np.arange(self.count, dtype=np.int64) if self.ids is None else self.ids
        parts = {g: None if getattr(self, g) is None else getattr(self, g)[at] for g in GROUPS}
        shapes = {name: list(s)[at] for name, s in self.shapes.items()}
        return Corners(len(numbers[at]), shapes=shapes, ids=numbers[at], **parts)

    def check(self, circuit: Circuit) -> None:
        """Errors: ``ValueError`` naming the group whose factors do not fit, are not finite or not above 0."""
        if self.count < 1:
            raise ValueError(f"corners: count is {self.count}; give at least one")
        for group in GROUPS:
            factors = getattr(self, group)
            if factors is None:
                continue
            wanted = (self.count, len(getattr(circuit, group)))
            if factors.shape != wanted:
                raise ValueError(f"corners: {group} has factors of shape {factors.shape}, needs {wanted}")
            signed = group in ("currents", "voltages", "phases", "mutuals")
            if not np.isfinite(factors).all() or (not signed and (factors <= 0).any()):
                raise ValueError(f"corners: a factor of {group} is not finite or not above 0; a part cannot vanish")
        names = {*circuit.currents.names, *circuit.voltages.names, *circuit.phases.names}
        for name, shapes in self.shapes.items():
            if name not in names or len(shapes) != self.count:
                raise ValueError(
                    f"corners: shapes of {name}: no such source, or {len(shapes)} for {self.count} corners"
                )


@dataclass(frozen=True)
class Scaled:
    """A shape times a factor."""

    shape: Shape
    factor: float

    def sample(self, t: Floats, h: float, t_stop: float) -> Floats:
        """``factor`` times the shape."""
        return self.factor * self.shape.sample(t, h, t_stop)

    def bias(self) -> float:
        """``factor`` times the shape's."""
        return self.factor * self.shape.bias()


def one(circuit: Circuit, corners: Corners, at: int) -> Circuit:
    """The circuit of one corner, spelled out: what a batch must agree with."""
    changed: dict[str, Any] = {}
    for group in ("resistors", "inductors", "capacitors"):
        factors, branches = getattr(corners, group), getattr(circuit, group)
        if factors is not None:
            changed[group] = Branches(branches.names, branches.a, branches.b, branches.value * factors[at])
    if corners.mutuals is not None:
        changed["mutuals"] = replace(circuit.mutuals, k=circuit.mutuals.k * corners.mutuals[at])
    if corners.junctions is not None:
        f, j = corners.junctions[at], circuit.junctions
        changed["junctions"] = replace(j, ic_A=j.ic_A * f, c_F=j.c_F * f, r0_ohm=j.r0_ohm / f, rn_ohm=j.rn_ohm / f)
    for group in ("currents", "voltages", "phases"):
        changed[group] = _sources(getattr(circuit, group), getattr(corners, group), corners, at)
    return replace(circuit, **changed)


def _sources(sources: Sources, factors: Floats | None, corners: Corners, at: int) -> Sources:
    shapes = [
        corners.shapes[n][at] if n in corners.shapes else s for n, s in zip(sources.names, sources.shapes, strict=True)
    ]
    if factors is not None:
        shapes = [s if f == 1.0 else Scaled(s, float(f)) for s, f in zip(shapes, factors[at], strict=True)]
    return replace(sources, shapes=tuple(shapes))


def join(parts: Sequence[Corners]) -> Corners:
    """Corners after one another; a group that only some have is 1 in the others. Numbers must be given or absent."""
    counts = [p.count for p in parts]
    out: dict[str, Any] = {}
    for group in GROUPS:
        given = [getattr(p, group) for p in parts]
        width = next((g.shape[1] for g in given if g is not None), 0)
        known = [np.ones((c, width)) if g is None else g for g, c in zip(given, counts, strict=True)]
        out[group] = np.concatenate(known) if width else None
    names = {n for p in parts for n in p.shapes}
    if any(set(p.shapes) != names for p in parts):
        raise ValueError("corners: parts replace different sources; give every part the same names in shapes")
    ids = None if any(p.ids is None for p in parts) else np.concatenate([p.ids for p in parts if p.ids is not None])
    return Corners(sum(counts), shapes={n: [s for p in parts for s in p.shapes[n]] for n in names}, ids=ids, **out)


def repeated(corners: Corners, count: int) -> Corners:
    """``count`` corners, the last one again and again."""
    missing = count - corners.count
    if not missing:
        return corners if corners.ids is not None else corners.take(slice(None))
    known = corners.take(slice(None))
    last = corners.take(slice(corners.count - 1, None))
    return join([known, *[last] * missing])
