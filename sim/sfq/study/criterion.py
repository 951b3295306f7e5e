"""What 'works' means: a function from a batch to one bool a corner.

    SameSlips    the watched junctions slip in the same order, as often, each within +- t_tol_s   (docs/sfq.md 6)
    Counts       each junction slips between so and so many times
    Custom       a function of yours
    AllOf        all of several

Each is plain data that prints and hashes, and names in ``watch`` the junctions it needs; ``None`` needs all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sim.sfq.batch import BatchRun
from sim.sfq.circuit import Floats, Ints

Bools: TypeAlias = NDArray[np.bool_]

T_TOL_S = 5e-12
"""Default tolerance of a slip's time. Source: docs/sfq.md 6."""

TIE_S = 1e-12
"""Expected slips closer than this may change places. Own choice: half the delay of a junction in a JTL (1.9 ps)."""


class Criterion(Protocol):
    """Does each corner work?"""

    @property
    def watch(self) -> tuple[str, ...] | None:
        """Junctions whose slips it looks at; None for all."""

    def __call__(self, run: BatchRun) -> Bools:
        """(corners,)"""


def jj_name(name: str) -> str:
    """JoSIM's name of a junction: ``b1.x2`` is ``B1|X2``."""
    return name.upper().replace(".", "|")


@dataclass(frozen=True)
class SameSlips:
    """The slips of ``junctions`` are those expected: as many, of the same sign, in the same order, in time.

    ``at`` (index into ``junctions``), ``time_s`` and ``sign`` list the expected slips, ordered by junction and time.
    A corner works if each of its slips lies within ``t_tol_s`` of its counterpart (``inf``: any time), and no two
    that are expected more than ``tie_s`` apart come the other way round (``inf``: any order between junctions).
    """

    junctions: tuple[str, ...]
    at: Ints
    time_s: Floats
    sign: Ints
    t_tol_s: float = T_TOL_S
    tie_s: float = TIE_S

    @property
    def watch(self) -> tuple[str, ...]:
        """The junctions."""
        return self.junctions

    def __call__(self, run: BatchRun) -> Bools:
        """(corners,)"""
        corner, at, time, sign = _rows_of(run, self.junctions)
        n = len(self.junctions)
        seen = np.bincount(corner * n + at, minlength=run.corners * n).reshape(run.corners, n)
        works: Bools = (seen == np.bincount(self.at, minlength=n)).all(axis=1)
        mine = works[corner]
        shape = (int(works.sum()), len(self.at))
        works[works] = self._alike(time[mine].reshape(shape), sign[mine].reshape(shape))
        return works

    def _alike(self, time: Floats, sign: Ints) -> Bools:
        """Of corners (rows) with the right counts: signs, times, order."""
        good: Bools = (sign == self.sign).all(axis=1) & (np.abs(time - self.time_s) <= self.t_tol_s).all(axis=1)
        order = np.argsort(self.time_s, kind="stable")
        expected, time = self.time_s[order], time[:, order]
        before = np.searchsorted(expected, expected - self.tie_s, side="left")
        latest = np.maximum.accumulate(time, axis=1)
        later = np.flatnonzero(before)
        good &= (time[:, later] > latest[:, before[later] - 1]).all(axis=1)
        return good

    def __str__(self) -> str:
        return f"{len(self.at)} slips of {len(self.junctions)} junctions, each within {self.t_tol_s * 1e12:g} ps"


def _rows_of(run: BatchRun, junctions: Sequence[str]) -> tuple[Ints, Ints, Floats, Ints]:
    """Rows of some junctions, ordered by corner, junction (in the order given) and time."""
    place = np.full(len(run.names), -1, np.int64)
    for k, name in enumerate(junctions):
        place[run.at(name)] = k
    at = place[run.junction]
    rows = np.flatnonzero(at >= 0)
    rows = rows[np.lexsort((run.time_s[rows], at[rows], run.corner[rows]))]
    return run.corner[rows], at[rows], run.time_s[rows], run.sign[rows]


def same_slips(
    run: BatchRun, corner: int = 0, junctions: Sequence[str] | None = None, t_tol_s: float = T_TOL_S,
    tie_s: float = TIE_S,
) -> SameSlips:  # fmt: skip
    """Expect what a corner of a run did (default: all its watched junctions)."""
    names = run.names if junctions is None else tuple(jj_name(j) for j in junctions)
    corners, at, time, sign = _rows_of(run, names)
    mine = corners == corner
    return SameSlips(names, at[mine], time[mine], sign[mine], t_tol_s, tie_s)


def expected_slips(times_s: Mapping[str, Sequence[float]], t_tol_s: float = T_TOL_S, tie_s: float = TIE_S) -> SameSlips:
    """Expect slips at these times; a negative time stands for a slip of -2 pi at its magnitude."""
    names = tuple(jj_name(j) for j in times_s)
    rows = [(k, abs(t), -1 if t < 0 else 1) for k, ts in enumerate(times_s.values()) for t in ts]
    rows.sort(key=lambda row: row[:2])
    at, time, sign = (np.array([row[k] for row in rows]) for k in range(3))
    return SameSlips(names, at.astype(np.int64), time.astype(np.float64), sign.astype(np.int64), t_tol_s, tie_s)


@dataclass(frozen=True)
class Counts:
    """Each junction makes between ``low`` and ``high`` slips (both allowed) of ``sign`` from ``after_s`` on.

    ``Counts({"B1|X2|XY2": (3, inf)})`` is the 01 pattern of an XOR, ``(0, 0)`` the 11 pattern. The slips of the other
    sign must be as many as ``other`` says, 0 by default.
    """

    ranges: Mapping[str, tuple[float, float]]
    sign: int = 1
    after_s: float = 0.0
    before_s: float = inf
    other: tuple[float, float] = (0, 0)

    @property
    def watch(self) -> tuple[str, ...]:
        """The junctions."""
        return tuple(jj_name(j) for j in self.ranges)

    def __call__(self, run: BatchRun) -> Bools:
        """(corners,)"""
        works = np.ones(run.corners, np.bool_)
        inside = (run.time_s >= self.after_s) & (run.time_s < self.before_s)
        for name, (low, high) in self.ranges.items():
            mine = inside & (run.junction == run.at(name))
            for sign, (least, most) in ((self.sign, (low, high)), (-self.sign, self.other)):
                count = np.bincount(run.corner[mine & (run.sign == sign)], minlength=run.corners)
                works &= (count >= least) & (count <= most)
        return works

    def __str__(self) -> str:
        return ", ".join(f"{name} {low:g}..{high:g}" for name, (low, high) in self.ranges.items())


@dataclass(frozen=True)
class Custom:
    """Your own function of a batch, ``(corners,)`` bool. Processes must be able to import it: no lambda."""

    function: Callable[[BatchRun], Bools]
    watch: tuple[str, ...] | None = None

    def __call__(self, run: BatchRun) -> Bools:
        """(corners,). Errors: ``ValueError`` for a function that answers anything else."""
        works = np.asarray(self.function(run))
        if works.shape != (run.corners,) or works.dtype != np.bool_:
            raise ValueError(
                f"criterion {self.function.__name__}: returned {works.dtype} {works.shape}, must be bool "
                f"({run.corners},), one a corner"
            )
        return works


@dataclass(frozen=True)
class AllOf:
    """All of several criteria."""

    parts: tuple[Criterion, ...]

    @property
    def watch(self) -> tuple[str, ...] | None:
        """The junctions of all parts."""
        wanted = [p.watch for p in self.parts]
        known = [w for w in wanted if w is not None]
        return None if len(known) < len(wanted) else tuple(dict.fromkeys(jj_name(j) for w in known for j in w))

    def __call__(self, run: BatchRun) -> Bools:
        """(corners,)"""
        works: Bools = np.logical_and.reduce([p(run) for p in self.parts])
        return works
