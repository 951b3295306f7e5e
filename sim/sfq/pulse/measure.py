"""What the pulse level must know of a cell, measured at junction level: delays, slips, neighbours, recovery.

base       cell between JTLs, pulses far apart: delay of each emission from slip to slip, slips of each transition
pair       (driver, load): how much later the driver slips with this load instead of a JTL, and how much later the
           load's outputs are with this driver instead of a JTL
recovery   delay of a transition against the time since another input, less the base
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from sim.sfq.pulse.bench import BLOCK_A, END, FIRST_S, SLOT_S, SOURCE, Bench, Slips, tour, word_to
from sim.sfq.pulse.cells import PASS, CellError, Neighbours, PulseCell, Transition
from sim.sfq.pulse.tables import Floats

EARLY_S = 15e-12
"""A window of a slot begins so much before its pulse leaves the source."""


def twin(cell: PulseCell) -> PulseCell:
    """A stochastic cell as one that passes everything, which it does at a high weight current; others unchanged."""
    if cell.kind != "stochastic":
        return cell
    rows = tuple(replace(t, on=cell.inputs[0]) for t in cell.transitions if t.on == PASS)
    return replace(cell, kind="mealy", chance=None, transitions=rows)


def window(times: Floats, at: float, slot: float = SLOT_S) -> Floats:
    """The pulses of the slot of a source pulse at ``at``."""
    return times[(times > at - EARLY_S) & (times < at + slot - EARLY_S)]


def base(library: Mapping[str, PulseCell], cell: PulseCell) -> PulseCell:
    """The cell with measured delays and slips. Errors: CellError if it does not do what its machine says."""
    bench, steps = Bench(library, cell), tour(cell)
    at = [FIRST_S + k * SLOT_S for k in range(len(steps))]
    got = bench.play([(t, on) for t, (_, on) in zip(at, steps, strict=True)])
    delays: dict[tuple[str, str, str], list[float]] = {}
    inside: dict[tuple[str, str], Floats] = {}
    table = {(t.state, t.on): t for t in cell.transitions}
    for t, (state, on) in zip(at, steps, strict=True):
        came = window(got.times[f"i{on}"], t)
        for port in cell.outputs:
            out = window(got.times["XC.n" if cell.weight else f"o{port}"], t)
            wanted = any(e.out == port for e in table[state, on].emits)
            if len(out) != wanted or len(came) != 1:
                raise CellError(
                    f"{cell.name}: in state '{state}' a pulse at {on} gives {len(out)} at {port}, its machine says "
                    f"{int(wanted)}; correct the cell or its machine"
                )
            if wanted:
                delays.setdefault((state, on, port), []).append(float(out[0] - came[0]))
        inside[state, on] = got.inside["XC"][
            (got.inside["XC"][:, 0] > t - EARLY_S) & (got.inside["XC"][:, 0] < t + SLOT_S - EARLY_S)
        ]
    return replace(cell, transitions=tuple(_measured(t, delays, inside[t.state, t.on]) for t in cell.transitions))


def _measured(t: Transition, delays: Mapping[tuple[str, str, str], list[float]], slips: Floats) -> Transition:
    emitted = tuple(replace(e, delay_s=float(np.median(delays[t.state, t.on, e.out]))) for e in t.emits)
    return replace(t, emits=emitted, slips=len(slips), slip_ic_A=float(slips[:, 1].sum()))


@dataclass(frozen=True)
class Pair:
    """``neighbours``: what driver and load do to each other; ``misfit``: why the two do not work together."""

    driver: str
    load: str
    neighbours: Neighbours
    misfit: str = ""


def drivers(library: Mapping[str, PulseCell]) -> Iterator[tuple[str, str]]:
    """(cell, output) of everything that drives a line."""
    for c in library.values():
        if not c.weight:
            yield from ((c.name, p) for p in c.outputs)


def takers(library: Mapping[str, PulseCell]) -> Iterator[tuple[str, str]]:
    """(cell, input) of everything that takes pulses from a line."""
    for c in library.values():
        if c.kind != "soma":
            yield from ((c.name, p) for p in c.inputs)


def pairs(library: Mapping[str, PulseCell]) -> Iterator[Pair]:
    """Every driver with every load of its sign, a source and a resistor among them."""
    sign = {(c.name, p): p in c.negative for c in library.values() for p in (*c.inputs, *c.outputs)}
    alone = {end: _answer(library, end, ("JTLN" if sign[end] else "JTL", "a")) for end in drivers(library)}
    usual = {end: _answer(library, ("JTLN" if sign[end] else "JTL", "q"), end) for end in takers(library)}
    for load in takers(library):
        for driver in drivers(library):
            if sign[driver] == sign[load]:
                yield _pair(library, driver, load, alone[driver], usual[load])
        found = _answer(library, (SOURCE, ""), load)
        after = np.nan_to_num(np.array(found.delay) - usual[load].delay)
        yield Pair(SOURCE, ".".join(load), Neighbours((0.0,) * len(after), tuple(after.tolist()), {}))
    for driver in drivers(library):
        if library[driver[0]].kind != "soma":
            found = _answer(library, driver, (END, ""))
            yield Pair(".".join(driver), END, _neighbours(found, alone[driver], (0.0,)))


@dataclass(frozen=True)
class Answer:
    """By state of the load: when the driver slips from the source's pulse on, and how much later the load's outputs do
    (NaN: it has none). ``aside``: when the driver's other outputs slip."""

    slip: tuple[float, ...]
    delay: tuple[float, ...]
    aside: Mapping[str, float]


def _neighbours(found: Answer, alone: Answer, usual: tuple[float, ...]) -> Neighbours:
    later = tuple(s - alone.slip[0] for s in found.slip)
    after = tuple(float(np.nan_to_num(d - u)) for d, u in zip(found.delay, usual, strict=True))
    return Neighbours(later, after, {p: t - alone.aside[p] for p, t in found.aside.items()})


def _pair(
    library: Mapping[str, PulseCell], driver: tuple[str, str], load: tuple[str, str], alone: Answer, usual: Answer
) -> Pair:
    """``alone`` and ``usual``: with JTLs. A soma's threshold moves with its load, so that only a JTL fits it."""
    names, nothing = (".".join(driver), ".".join(load)), Neighbours((), (), {})
    if library[driver[0]].kind == "soma" and not load[0].startswith("JTL"):
        return Pair(*names, nothing, "a soma's threshold moves with its load; put a JTL between")
    try:
        found = _answer(library, driver, load)
    except CellError as error:
        return Pair(*names, nothing, str(error))
    return Pair(*names, _neighbours(found, alone, usual.delay))


def _answer(library: Mapping[str, PulseCell], driver: tuple[str, str], load: tuple[str, str]) -> Answer:
    """Pulses far apart, one in each state of the load. Errors: CellError if the two do not work together."""
    if load[0] == END:
        cell = library["JTLN" if driver[1] in library[driver[0]].negative else "JTL"]
        bench, port = Bench(library, cell, drivers={"a": driver}, end="a"), "a"
    else:
        cell, port = library[load[0]], load[1]
        bench = Bench(library, cell, drivers={port: driver})
    word: list[str] = []
    marks = []
    for state in cell.states:
        word += walk(cell, cell.start, state)
        marks.append((state, len(word)))
        word.append(port)
        word += walk(cell, next(t.to for t in cell.transitions if (t.state, t.on) == (state, port)), cell.start)
    at = [FIRST_S + 100e-12 + k * SLOT_S for k in range(len(word))]
    got = bench.play(list(zip(at, word, strict=True)))
    seen = [_seen(got, cell, state, port, at[k], bool(load[0] == END)) for state, k in marks]
    aside = {}
    if driver[0] in library:
        for other in library[driver[0]].outputs:
            if other != driver[1] and library[driver[0]].kind == "mealy":
                aside[other] = float(window(got.times[f"e{port}{other}"], at[marks[0][1]])[0] - at[marks[0][1]])
    return Answer(tuple(s for s, _ in seen), tuple(d for _, d in seen), aside)


def _seen(got: Slips, cell: PulseCell, state: str, port: str, at: float, ended: bool) -> tuple[float, float]:
    """Slip of the driver and delay of the load's outputs for the pulse at ``at``."""
    came = window(got.times[f"i{port}"], at)
    if len(came) != 1:
        raise CellError(f"{cell.name}.{port}: the driver gives {len(came)} pulses for one; they do not fit")
    late = []
    for out in [] if ended else _outs(cell, state, port):
        gone = window(got.times["XC.n" if cell.weight else f"o{out}"], at)
        if len(gone) != 1:
            raise CellError(f"{cell.name}.{port}: {len(gone)} pulses come out at {out}; they do not fit")
        late.append(gone[0] - came[0])
    return float(came[0] - at), float(np.mean(late)) if late else float("nan")


def _outs(cell: PulseCell, state: str, on: str) -> list[str]:
    return [e.out for t in cell.transitions if (t.state, t.on) == (state, on) for e in t.emits]


def blocked(library: Mapping[str, PulseCell], cell: PulseCell) -> tuple[int, float]:
    """Slips of a stochastic cell that blocks a pulse, and the sum of their critical currents (A)."""
    inside = Bench(library, cell, weight_A=BLOCK_A).play([(FIRST_S, cell.inputs[0])]).inside["XC"]
    return len(inside), float(inside[:, 1].sum())


SLOW = (("DFF", "q"), ("XOR", "q"), ("NDRO", "q"), ("MERGE", "q"))
"""Drivers whose pulses are slow, the slowest first: the first that fits a cell is taken to measure its blend."""
HEAVY = (("MERGE", "a"), ("DFF", "c"))
"""Loads that make a cell late."""


@dataclass(frozen=True)
class Blend:
    """A slow driver and a heavy load together make an output later than one by one: by ``per_s`` times the product of
    the two (s)."""

    cell: str
    on: str
    out: str
    per_s: float


def blends(library: Mapping[str, PulseCell], cell: PulseCell) -> Iterator[Blend]:
    """For each input and output of a cell for pulses; one for anti-pulses has none."""
    for on in cell.inputs:
        for out in cell.outputs:
            if on in cell.negative or out in cell.negative or cell.weight or cell.kind == "soma":
                continue
            if any(t.on == on and out in _outs(cell, t.state, t.on) for t in cell.transitions):
                yield Blend(cell.name, on, out, _blend(library, cell, on, out))


def _blend(library: Mapping[str, PulseCell], cell: PulseCell, on: str, out: str) -> float:
    def hop(driver: tuple[str, str], load: tuple[str, str]) -> float:
        bench = Bench(library, cell, drivers={on: driver}, loads={out: load})
        word = word_to(cell, cell.start, lambda s, i: i == on and out in _outs(cell, s, i))
        at = [FIRST_S + 100e-12 + k * SLOT_S for k in range(len(word))]
        got = bench.play(list(zip(at, word, strict=True)))
        came, gone = window(got.times[f"i{on}"], at[-1]), window(got.times[f"o{out}"], at[-1])
        return float(gone[0] - came[0]) if len(came) == len(gone) == 1 else float("nan")

    driver, load = ("JTL", "q"), ("JTL", "a")
    usual = hop(driver, load)
    for slow in SLOW:
        after = hop(slow, load) - usual
        later = np.array([hop(driver, heavy) - usual for heavy in HEAVY])
        cross = np.array([hop(slow, heavy) - usual for heavy in HEAVY]) - after - later
        if np.isfinite(cross).all() and abs(after) > 0.1e-12:
            return float((after * later) @ cross / ((after * later) @ (after * later)))
    return 0.0


def walk(cell: PulseCell, here: str, there: str) -> list[str]:
    """Shortest word from a state to another."""
    if here == there:
        return []
    to = {(t.state, t.on): t.to for t in cell.transitions}
    return word_to(cell, here, lambda s, on: to[s, on] == there)
