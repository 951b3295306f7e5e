"""How near two inputs of a cell may come, and what their nearness does to its outputs, measured at junction level.

trial      to a state, one input, a gap, another input, and home; the widest gap is the rule for all
legal      all junctions slip as with the widest gap, and the output is not much later
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sim.sfq.pulse.bench import FIRST_S, Bench
from sim.sfq.pulse.cells import PulseCell, Transition
from sim.sfq.pulse.measure import EARLY_S, walk
from sim.sfq.pulse.tables import Floats

GAPS_S = tuple(
    1e-12 * d for d in (60, 40, 30, 25, 22, 20, 18, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
)
"""Times between two source pulses that are tried; the first is far enough to be the rule for all."""
SOON_S = 6e-12
"""Source pulses into one input must not overlap."""
MOST_EXTRA_S = 0.5e-12
"""A pulse that comes out later than this is too near to failing: its time is not legal."""


@dataclass(frozen=True)
class Gap:
    """Transition ``(state, then)`` a time after input ``first``: ``since_s`` at the cell's inputs, its outputs
    ``extra_s`` later than the base. ``least_s``: from this on all junctions slip as they should and no output is much
    later.
    """

    state: str
    first: str
    then: str
    since_s: tuple[float, ...]
    extra_s: tuple[float, ...]
    least_s: float


def gaps(library: Mapping[str, PulseCell], cell: PulseCell) -> Iterator[Gap]:
    """Every transition after every input that can come before it."""
    for t in cell.transitions:
        for before in cell.transitions:
            if before.to == t.state:
                yield _gap(library, cell, before, t)


def _gap(library: Mapping[str, PulseCell], cell: PulseCell, before: Transition, t: Transition) -> Gap:
    """Trials in one run, each: to the state, ``before``, a gap, the transition, and home."""
    steps = {(x.state, x.on): x for x in cell.transitions}
    to = walk(cell, cell.start, before.state)
    home = walk(cell, t.to, cell.start)
    tried = [g for g in GAPS_S if before.on != t.on or g >= SOON_S]
    word: list[tuple[float, str]] = []
    marks = []
    at = FIRST_S
    for gap in tried:
        begin = at
        for on in to:
            word.append((at, on))
            at += SETTLE_S
        word += [(at, before.on), (at + gap, t.on)]
        marks.append((begin, at, gap))
        at += gap + SETTLE_S
        for on in home:
            word.append((at, on))
            at += SETTLE_S
        at += SETTLE_S
    got = Bench(library, cell).play(word)
    ends = [*(m[0] for m in marks[1:]), at + SETTLE_S]
    inside = got.inside["XC"]
    nominal: list[int] | None = None
    since, extra, right = [], [], []
    for (begin, first, gap), end in zip(marks, ends, strict=True):
        mine = inside[(inside[:, 0] > begin - EARLY_S) & (inside[:, 0] < end - EARLY_S)]
        slips = sorted(mine[:, 2].astype(int).tolist())
        nominal = nominal if nominal is not None else slips
        a, b = (_nearest(got.times[f"i{on}"], at) for on, at in ((before.on, first), (t.on, first + gap)))
        since.append(b - a)
        late = [
            _delay(got.times["XC.n" if cell.weight else f"o{e.out}"], b) - e.delay_s for e in steps[t.state, t.on].emits
        ]
        extra.append(max(late, key=abs) if late else 0.0)
        right.append(slips == nominal and abs(extra[-1]) < MOST_EXTRA_S)
    good = next((k for k, ok in enumerate(right) if not ok), len(right))
    return Gap(
        t.state, before.on, t.on, tuple(since[:good][::-1]), tuple(extra[:good][::-1]),
        0.0 if good == len(right) and before.on != t.on else max(0.0, float(since[good - 1])),
    )  # fmt: skip


SETTLE_S = 70e-12
FLIGHT_S = 10.7e-12
"""From a source pulse through three JTL; what is nearest to that is its pulse."""


def _nearest(times: Floats, source: float) -> float:
    return float(times[np.abs(times - source - FLIGHT_S).argmin()]) if len(times) else float("nan")


def _delay(times: Floats, came: float) -> float:
    """From a pulse to the next output; NaN for none."""
    later = times[times > came]
    return float(later[0] - came) if len(later) else float("nan")
