"""Delays, slips and separations of a cell from runs of its bench: where its Mealy machine gets its times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from hardware.sfq_cells import Separation, Transition
from sim.sfq.batch import BatchRun
from sim.sfq.cells.bench import FIRST_S, Bench, Events, counts_right, own_slips, right, spaced
from sim.sfq.cells.machines import tour
from sim.sfq.errors import NOWHERE, DeckError

SPACING_S = 60e-12
"""Between pulses that must not touch each other."""

TAIL_S = 60e-12
NOISES = 128
"""Corners of noise behind a jitter: its own error is 1/sqrt(2 NOISES) = 6 %."""
COARSE_S, FINE_S, FARTHEST_S = 4e-12, 0.5e-12, 60e-12
PULSE_S = 5e-12
"""Length of the bench's pulses: two of one source cannot be nearer."""


def transitions(b: Bench, noisy: Bench | None = None) -> tuple[Transition, ...]:
    """Every transition of the machine as the circuit does it: delay and slips, over a tour that takes each.

    ``noisy`` is the bench at a temperature: the standard deviation of the delay there, over NOISES corners.
    Raises DeckError where the circuit does not do what the machine says.
    """
    events = spaced(tour(b.machine), SPACING_S)
    run = b.run([events], events[-1][0] + TAIL_S)
    if not right(b, run, 0, events):
        raise DeckError(NOWHERE, f"cell {b.machine.name}", "does not do what its machine says at nominal values",
                        "correct its netlist or sim/sfq/cells/machines.py")  # fmt: skip
    seen: dict[tuple[str, str], list[tuple[float, int, float]]] = {}
    for key, at, end_s in _taken(b, events):
        count, ic = own_slips(b, run, 0, at[0], end_s)
        seen.setdefault(key, []).append((_delay(b, run, 0, key, at), count, ic))
    jitter = {} if noisy is None else _jitter(noisy, events)
    return tuple(
        _transition(b, key, rows, jitter.get(key, 0.0))
        for key, rows in sorted(seen.items(), key=lambda x: _order(b, x[0]))
    )


Key = tuple[str, str]


def _taken(b: Bench, events: Events) -> list[tuple[Key, tuple[float, str], float]]:
    """(state, pin), the event and the time of the next one, of each event."""
    out, state = [], b.machine.start
    for at, nxt in pairwise([*events, (events[-1][0] + SPACING_S, "")]):
        out.append(((state, at[1]), at, nxt[0]))
        state = b.machine.step(state, at[1])[0]
    return out


def _delay(b: Bench, run: BatchRun, corner: int, key: Key, event: tuple[float, str]) -> float:
    """From the driver's last slip to the load's first, the latest output's; NaN without output."""
    out = b.machine.step(*key)[1]
    if not out:
        return math.nan
    driver = run.pulse_times(b.driver(key[1]), corner, b.sign(key[1]))
    arrived = driver[np.searchsorted(driver, event[0])]
    after = [run.pulse_times(b.load(pin), corner, b.sign(pin)) for pin in out]
    return float(max(t[np.searchsorted(t, arrived)] - arrived for t in after))


def _jitter(noisy: Bench, events: Events) -> dict[Key, float]:
    """Standard deviation (s) of each transition's delay under thermal noise; corners that went wrong are left out."""
    run = noisy.run([events] * NOISES, events[-1][0] + TAIL_S, seed=1)
    good = [k for k in range(NOISES) if right(noisy, run, k, events)]
    found: dict[Key, list[float]] = {}
    for key, at, _ in _taken(noisy, events):
        if noisy.machine.step(*key)[1]:
            delays = [_delay(noisy, run, k, key, at) for k in good]
            found.setdefault(key, []).append(float(np.std(delays)) if len(delays) > 1 else 0.0)
    return {key: float(np.mean(rows)) for key, rows in found.items()}


def _order(b: Bench, key: tuple[str, str]) -> tuple[int, int]:
    return b.machine.states.index(key[0]), b.machine.inputs.index(key[1])


def _transition(b: Bench, key: Key, rows: Sequence[tuple[float, int, float]], jitter_s: float) -> Transition:
    to, out = b.machine.step(*key)
    delay, count, ic = (np.array([r[k] for r in rows]) for k in range(3))
    return Transition(*key, to, out, float(delay.mean()), jitter_s, float(np.median(ic)), int(np.median(count)))


def separations(b: Bench) -> tuple[Separation, ...]:
    """For each ordered pair of inputs the least time from which on the second is taken as the machine says.

    From every state, followed by words that tell the states apart; the widest over all. Search: 4 ps, then 0.5 ps.
    Pulses of one source are at least 5 ps apart and the JTL before the cell spread them: there the separation is that
    of the slips of the driver's last junction.
    """
    pairs = [(i, j) for i in b.machine.inputs for j in b.machine.inputs]
    nearest = [PULSE_S if i == j else 0.0 for i, j in pairs]
    coarse = [np.arange(n, FARTHEST_S, COARSE_S) for n in nearest]
    high = _search(b, pairs, coarse)
    fine = [
        h - COARSE_S + FINE_S * np.arange(1, round(COARSE_S / FINE_S) + 1) if h > n else np.array([h])
        for h, n in zip(high, nearest, strict=True)
    ]
    least = _search(b, pairs, fine)
    if not all(map(math.isfinite, least)):
        lost = pairs[next(k for k, x in enumerate(least) if not math.isfinite(x))]
        what = f"a pulse at {lost[1]} {FARTHEST_S * 1e12:g} ps after one at {lost[0]} is not taken"
        raise DeckError(NOWHERE, f"cell {b.machine.name}", what, "correct its netlist or its machine")
    return tuple(Separation(*p, _at_cell(b, *p, x)) for p, x in zip(pairs, least, strict=True))


def _at_cell(b: Bench, first: str, then: str, apart_s: float) -> float:
    """The distance of two pulses of one source where they reach the cell; of two sources, that of the sources."""
    if first != then:
        return apart_s
    pairs = trains(b, first, then, apart_s)
    run = b.run(pairs, max(e[-1][0] for e in pairs) + TAIL_S)
    apart = []
    for corner, events in enumerate(pairs):
        close = next(k for k in range(1, len(events)) if events[k][0] - events[k - 1][0] < SPACING_S - FINE_S / 2)
        at = sum(on == first for _, on in events[:close])
        slips = run.pulse_times(b.driver(first), corner, b.sign(first))
        apart.append(float(slips[at] - slips[at - 1]))
    return max(apart)


def _search(b: Bench, pairs: Sequence[tuple[str, str]], grids: Sequence[np.ndarray]) -> list[float]:
    """The first time of each grid from which on every one is right; inf where the last one is not."""
    cases = [(k, d) for k, grid in enumerate(grids) for d in grid]
    every: list[Events] = []
    owner: list[int] = []
    for at, (k, d) in enumerate(cases):
        for events in trains(b, *pairs[k], float(d)):
            every.append(events)
            owner.append(at)
    good = np.ones(len(cases), dtype=bool)
    if every:
        run = b.run(every, max(e[-1][0] for e in every) + TAIL_S)
        for corner, at in enumerate(owner):
            good[at] &= counts_right(b, run, corner, every[corner])
    out = []
    for k, grid in enumerate(grids):
        mine = np.array([g for g, (q, _) in zip(good, cases, strict=True) if q == k])
        bad = np.flatnonzero(~mine)
        first = 0 if not len(bad) else int(bad[-1]) + 1
        out.append(float(grid[first]) if first < len(grid) else math.inf)
    return out


def trains(b: Bench, first: str, then: str, apart_s: float) -> list[Events]:
    """Both inputs ``apart_s`` apart from every state, then each word that tells the states apart."""
    out: list[Events] = []
    for state in b.machine.states:
        way = spaced(b.machine.way(state), SPACING_S)
        t = FIRST_S + len(way) * SPACING_S
        for probe in b.machine.probes():
            after = spaced(probe, SPACING_S, t + apart_s + SPACING_S)
            out.append([*way, (t, first), (t + apart_s, then), *after])
    return out


def max_rate_Hz(b: Bench) -> float:
    """Highest rate of a train of 12 rounds, each input once a round at equal distances, that is answered right.

    Searched down from 100 GHz in 1 ps of the round's period; every longer one, up to 100 ps, is right too.
    """
    periods = np.arange(10, 101) * 1e-12
    n = len(b.machine.inputs)
    every = [
        [(FIRST_S + (r + k / n) * p, on) for r in range(12) for k, on in enumerate(b.machine.inputs)] for p in periods
    ]
    run = b.run(every, max(t[-1][0] for t in every) + TAIL_S)
    good = [counts_right(b, run, k, t) for k, t in enumerate(every)]
    bad = [k for k, g in enumerate(good) if not g]
    if bad and bad[-1] == len(periods) - 1:
        return 0.0
    return float(1.0 / periods[bad[-1] + 1 if bad else 0])
