"""Timing of a cell on its stand: dead times, setup and hold, the highest rate (delays: :mod:`delays`).

    dead time     smallest distance of two arrivals at which every junction slips as often as when they are far apart
    setup         the same for data before clock, hold for data after it

Source: docs/sfq.md 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.sfq.batch import BatchRun
from sim.sfq.circuit import Ints
from sim.sfq.study.delays import DelayCurve as DelayCurve
from sim.sfq.study.delays import Delays as Delays
from sim.sfq.study.delays import delay_against as delay_against
from sim.sfq.study.delays import delays as delays
from sim.sfq.study.delays import jitter as jitter
from sim.sfq.study.section import Section
from sim.sfq.study.stand import RISE_S, Stand, Train
from sim.sfq.study.tables import save

POINTS = 16
TOLERANCE_S = 0.05e-12
"""Width of the last bracket of a search, half a step of 0.1 ps."""

APART_S = 150e-12
"""Distance at which two pulses do not feel each other: above ten times the delay of the slowest own cell."""


@dataclass(frozen=True)
class Closest:
    """The edge of a search over a time (s): it works at ``works_s``, fails at ``fails_s`` (None: nowhere down to the
    limit), and works again at ``again_s``. ``at_junctions_s``: the arrivals' distance in the run at ``works_s``."""

    works_s: float
    fails_s: float | None
    at_junctions_s: float | None = None
    again_s: tuple[float, ...] = ()

    @property
    def time_s(self) -> float:
        """The distance of the arrivals, or of the sources' pulses where no two arrivals were named."""
        return self.works_s if self.at_junctions_s is None else self.at_junctions_s

    @property
    def rate_Hz(self) -> float:
        """``1/time_s``, where the time is a period."""
        return 1.0 / self.time_s

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return dict(vars(self)) | {"time_s": self.time_s}

    def save(self, path: str | Path) -> Path:
        """Write ``.json`` or ``.csv``."""
        data = self.to_dict()
        return save(
            path, data, list(data), [[" ".join(map(str, v)) if isinstance(v, tuple) else v for v in data.values()]]
        )

    def __str__(self) -> str:
        edge = "works throughout" if self.fails_s is None else f"fails at {self.fails_s * 1e12:.2f} ps"
        return f"{self.time_s * 1e12:.2f} ps (works at {self.works_s * 1e12:.2f} ps, {edge})"


def closest(
    of: Stand,
    train_of: Callable[[float], Train],
    apart_s: float,
    limit_s: float,
    *,
    between: tuple[tuple[str, int], tuple[str, int]] | None = None,
    marks_s: Sequence[float] = (),
    tolerance_s: float = TOLERANCE_S,
    points: int = POINTS,
) -> Closest:
    """Search the time x of ``train_of(x)`` from ``apart_s``, where all is well, towards ``limit_s``.

    x works if every junction slips as often as at ``apart_s``, in each of the stretches that ``marks_s`` cut the run
    into. ``between`` names two arrivals (input, which of its slips) whose distance is reported.
    """
    search, reference = Section(apart_s, limit_s), np.zeros(0)
    while True:
        tried = search.ask(points, tolerance_s)
        if not len(tried):
            break
        run = of.drive([train_of(apart_s), *(train_of(float(x)) for x in tried)], every=True)
        seen = _slips(run, marks_s)
        reference = seen[0]
        search.tell((seen[1:] == reference).all(axis=1))
    if not reference.any():
        raise ValueError("timing: no junction slips when the pulses are far apart; look at the biases and sources")
    side, distance = search.side(), None
    if between is not None:
        run = of.drive([train_of(side.works_at)])
        (a, i), (b, j) = between
        distance = float(of.times(run, b)[0, j] - of.times(run, a)[0, i])
    return Closest(side.works_at, side.fails_at, distance, side.again)


def _slips(run: BatchRun, marks_s: Sequence[float]) -> Ints:
    """(corners, stretches x junctions x signs) slips of every junction."""
    stretch = np.searchsorted(np.asarray(marks_s, dtype=np.float64), run.time_s, side="right")
    width = 2 * len(run.names) * (len(marks_s) + 1)
    kind = (stretch * len(run.names) + run.junction) * 2 + (run.sign < 0)
    return np.bincount(run.corner * width + kind, minlength=run.corners * width).reshape(run.corners, width)


def dead_time(
    of: Stand, first: str, second: str, *, before: Train | None = None, after: Train | None = None,
    apart_s: float = APART_S, limit_s: float = 0.0, **settings: Any,
) -> Closest:  # fmt: skip
    """Smallest time from an arrival at ``first`` to one at ``second`` (may be the same input).

    ``before`` are pulses that prepare the cell's state (times s from the start), ``after`` pulses that ask for it
    (times from where the second is when it is far off). Settings: those of :func:`closest`.
    """
    zero = of.start_s + (_end(before) + apart_s if before else 0.0)

    def train_of(x: float) -> Train:
        later = _shift(after, zero + apart_s)
        return _merge(_shift(before, of.start_s), {first: [zero]}, {second: [zero + x]}, later)

    i = len((before or {}).get(first, ()))
    j = len((before or {}).get(second, ())) + (first == second)
    return closest(of, train_of, apart_s, limit_s, between=((first, i), (second, j)), **settings)


@dataclass(frozen=True)
class SetupHold:
    """Data must arrive ``setup_s`` before the clock to be taken by it, ``hold_s`` after it to be left for the next.

    Either may be negative; between the two the cell may do anything.
    """

    data: str
    clock: str
    setup: Closest
    hold: Closest

    @property
    def setup_s(self) -> float:
        """Clock arrival - data arrival at the edge."""
        return self.setup.time_s

    @property
    def hold_s(self) -> float:
        """Data arrival - clock arrival at the edge."""
        return self.hold.time_s

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        both = {"setup_s": self.setup_s, "hold_s": self.hold_s}
        return {
            "data": self.data,
            "clock": self.clock,
            **both,
            "setup": self.setup.to_dict(),
            "hold": self.hold.to_dict(),
        }

    def save(self, path: str | Path) -> Path:
        """Write ``.json`` or ``.csv``."""
        row = (self.data, self.clock, self.setup_s, self.hold_s)
        return save(path, self.to_dict(), ("data", "clock", "setup_s", "hold_s"), [row])

    def __str__(self) -> str:
        return f"{self.data} at {self.clock}: setup {self.setup_s * 1e12:.2f} ps, hold {self.hold_s * 1e12:.2f} ps"


def setup_hold(
    of: Stand, data: str, clock: str, *, before: Train | None = None, apart_s: float = 50e-12,
    period_s: float = 2 * APART_S, **settings: Any,
) -> SetupHold:  # fmt: skip
    """Setup and hold of ``data`` at ``clock``: one pulse of data near the first of two clocks ``period_s`` apart.

    Far before the clock, the data must be taken by it; far after, by the second. What every junction does before and
    after the second clock is compared with what it does there. ``before`` prepares the cell's state.
    """
    first = of.start_s + apart_s + (_end(before) + apart_s if before else 0.0)
    clocks = [first, first + period_s]

    def train_of(x: float) -> Train:
        return _merge(_shift(before, of.start_s), {data: [first + x]}, {clock: clocks})

    i, j = (len((before or {}).get(port, ())) for port in (data, clock))
    mark = [first + period_s / 2]
    setup = closest(
        of, lambda x: train_of(-x), apart_s, -apart_s, between=((data, i), (clock, j)), marks_s=mark, **settings
    )
    hold = closest(of, train_of, apart_s, -apart_s, between=((clock, j), (data, i)), marks_s=mark, **settings)
    return SetupHold(data, clock, setup, hold)


def maximum_rate(
    of: Stand, inputs: Sequence[str] | Mapping[str, float], *, pulses: int = 10, slowest_s: float = APART_S,
    fastest_s: float = RISE_S, **settings: Any,
) -> Closest:  # fmt: skip
    """The shortest period (``time_s``; ``rate_Hz`` is the rate) of ``pulses`` pulses at each input that every junction
    answers as at ``slowest_s``.

    ``inputs`` as a mapping gives each input's place in the period, ``{"a": 0.0, "clk": 0.5}``.
    """
    phases = inputs if isinstance(inputs, Mapping) else dict.fromkeys(inputs, 0.0)

    def train_of(period: float) -> Train:
        return {n: [of.start_s + (k + phase) * period for k in range(pulses)] for n, phase in phases.items()}

    return closest(of, train_of, slowest_s, fastest_s, **settings)


def _shift(train: Train | None, by: float) -> Train:
    return {n: [t + by for t in times] for n, times in (train or {}).items()}


def _end(train: Train | None) -> float:
    return max((t for times in (train or {}).values() for t in times), default=0.0)


def _merge(*trains: Train) -> Train:
    names = dict.fromkeys(n for t in trains for n in t)
    return {n: sorted(x for t in trains for x in t.get(n, ())) for n in names}
