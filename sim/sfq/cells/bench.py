"""A cell between two JTL at each pin, driven by single flux quanta, loaded with 3 ohm: what everything is measured in.

    pulse source - JTL - JTL - pin | cell | pin - JTL - JTL - 3 ohm

Names: the cell is ``XD``; input pin ``a`` has the source ``VPA`` and the drivers ``XPA1``, ``XPA2``; output ``q`` the
loads ``XPQ1``, ``XPQ2``. A pulse is a triangle of 827.13 uV and 2.5 ps each way, whose area is one flux quantum.
Anti-fluxon pins get JTLN and negative triangles.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hardware.sfq import CELLS, library, parts
from sim.sfq.batch import BatchRun, batch
from sim.sfq.cells.machines import Machine
from sim.sfq.circuit import Circuit, Floats, Ints
from sim.sfq.corners import Corners
from sim.sfq.deck import loads
from sim.sfq.shapes import Pwl

STEP_S = 0.1e-12
PEAK_V = 827.13e-6
RISE_S = 2.5e-12
LOAD_OHM = 3
FIRST_S = 50e-12
"""First pulse: biases ramp up in 5 ps, the rest is settling."""

Events = Sequence[tuple[float, str]]
"""(time in s, pin), in order."""


@dataclass(frozen=True)
class Bench:
    """One cell's bench: its deck without pulses and who to watch. Pulses come with :meth:`shapes`."""

    machine: Machine
    deck: str
    cells: Path = CELLS

    @cached_property
    def circuit(self) -> Circuit:
        """The flat circuit."""
        return loads(self.deck).flatten()

    @cached_property
    def watch(self) -> tuple[str, ...]:
        """Junctions whose pulses are kept: all, for what a pulse does inside is part of the answer."""
        return self.circuit.junctions.names

    def driver(self, pin: str) -> str:
        """The last junction before an input."""
        return f"B1|X2|XP{pin.upper()}2"

    def load(self, pin: str) -> str:
        """The first junction after an output."""
        return f"B1|X1|XP{pin.upper()}1"

    def sign(self, pin: str) -> int:
        """-1 for a pin of anti-fluxons."""
        return -1 if pin in self.machine.anti else 1

    @cached_property
    def own(self) -> Ints:
        """Indices of the cell's own junctions."""
        names = self.circuit.junctions.names
        return np.array([k for k, n in enumerate(names) if n.split("|")[-1] == "XD"], dtype=np.int64)

    def shapes(self, trains: Sequence[Events]) -> dict[str, list[Pwl]]:
        """The pulse sources of each corner, for :class:`sim.sfq.corners.Corners`."""
        return {
            f"VP{pin.upper()}": [triangles([t for t, on in events if on == pin], self.sign(pin)) for events in trains]
            for pin in self.machine.inputs
        }

    def run(
        self, trains: Sequence[Events], t_stop: float, corners: Corners | None = None, **options: object
    ) -> BatchRun:
        """One corner a train; ``corners`` may scale elements, of the same count."""
        factors = {} if corners is None else {k: v for k, v in vars(corners).items() if k not in ("count", "shapes")}
        every = Corners(len(trains), shapes=self.shapes(trains), **factors)
        # the options are batch's own, checked there
        return batch(self.circuit, every, h=STEP_S, t_stop=t_stop, watch=self.watch, **options)  # type: ignore[arg-type]


def bench(machine: Machine, cells: Path = CELLS, temperature_K: float = 0.0) -> Bench:
    """The bench of a cell that answers pulse by pulse, with thermal noise above 0 K. Control pins get their current."""
    lines = [f"* bench of {machine.name}", *netlist(machine.name, cells)]
    for pin in machine.inputs:
        jtl, p = ("JTLN" if pin in machine.anti else "JTL"), f"P{pin.upper()}"
        lines += [f"V{p} d{pin} 0 pwl(0 0)", f"X{p}1 {jtl} d{pin} e{pin}", f"X{p}2 {jtl} e{pin} n{pin}"]
    pins = " ".join(f"n{pin}" for pin in (*machine.inputs, *machine.outputs, *machine.controls))
    lines.append(f"XD {machine.name} {pins}")
    for pin in machine.outputs:
        jtl, p = ("JTLN" if pin in machine.anti else "JTL"), f"P{pin.upper()}"
        lines += [f"X{p}1 {jtl} n{pin} f{pin}", f"X{p}2 {jtl} f{pin} g{pin}", f"R{p} g{pin} 0 {LOAD_OHM}"]
    for pin in machine.controls:
        lines.append(f"IP{pin.upper()} 0 n{pin} pwl(0 0 5p {machine.control_A * 1e6:g}u)")
    lines += [f".temp {temperature_K:g}"] if temperature_K > 0 else []
    lines += [f".tran {STEP_S * 1e12:g}p 1n", ".end", ""]
    return Bench(machine, "\n".join(lines), cells)


def netlist(name: str, cells: Path = CELLS, also: Sequence[str] = ("JTL", "JTLN")) -> list[str]:
    """Model and subcircuits that a cell, and the JTL of its bench, need."""
    model, blocks = library(cells)
    needed: list[str] = []
    stack = [name, *also]
    while stack:
        part = stack.pop()
        if part not in needed:
            needed.append(part)
            stack += parts(blocks[part])
    return [model, *(blocks[n] for n in blocks if n in needed)]


def digest(name: str, cells: Path = CELLS) -> str:
    """SHA-256 of a cell's netlist with all that it uses: tells whether a table belongs to it. White space is one."""
    text = "\n".join(netlist(name, cells, also=()))
    return hashlib.sha256(" ".join(text.lower().split()).encode()).hexdigest()


def triangles(times: Sequence[float], sign: int = 1) -> Pwl:
    """A source's pulses of one flux quantum each; nearer than 5 ps they overlap and are refused."""
    at: list[float] = [0.0]
    level: list[float] = [0.0]
    for t in sorted(times):
        if t < at[-1]:
            raise ValueError(f"pulses of one source {t * 1e12:g} ps: nearer than {2 * RISE_S * 1e12:g} ps; space them")
        if t > at[-1]:
            at.append(t)
            level.append(0.0)
        at += [t + RISE_S, t + 2 * RISE_S]
        level += [sign * PEAK_V, 0.0]
    return Pwl(tuple(at), tuple(level))


def spaced(word: Sequence[str], spacing_s: float, first_s: float = FIRST_S) -> Events:
    """A word as pulses at equal distances."""
    return [(first_s + k * spacing_s, on) for k, on in enumerate(word)]


def answers(b: Bench, run: BatchRun, corner: int, events: Events) -> list[tuple[str, ...]] | None:
    """What came out after each input and before the next, as the machine writes it; None if an input got lost.

    An input is where its driver's last junction slips, an output where its load's first does.
    """
    slots = _slots(b, run, corner, events)
    if slots is None:
        return None
    out: list[list[str]] = [[] for _ in events]
    for pin in b.machine.outputs:
        for sign in (1, -1):
            for t in run.pulse_times(b.load(pin), corner, sign):
                at = int(np.searchsorted(slots, t, side="right")) - 1
                if at < 0 or sign != b.sign(pin):
                    return None
                out[at].append(pin)
    order = {pin: k for k, pin in enumerate(b.machine.outputs)}
    return [tuple(sorted(o, key=lambda p: order[p])) for o in out]


def _slots(b: Bench, run: BatchRun, corner: int, events: Events) -> Floats | None:
    """Times of the inputs at the cell, in the order of the events."""
    at = {pin: run.pulse_times(b.driver(pin), corner, b.sign(pin)) for pin in b.machine.inputs}
    seen = dict.fromkeys(b.machine.inputs, 0)
    slots = []
    for _, on in events:
        if seen[on] >= len(at[on]):
            return None
        slots.append(at[on][seen[on]])
        seen[on] += 1
    if any(seen[pin] != len(at[pin]) for pin in at):
        return None
    return np.array(slots)


def right(b: Bench, run: BatchRun, corner: int, events: Events) -> bool:
    """Whether a corner did what the machine says, pulse by pulse."""
    wanted = b.machine.play([on for _, on in events])
    return answers(b, run, corner, events) == wanted


def counts_right(b: Bench, run: BatchRun, corner: int, events: Events) -> bool:
    """Whether as many pulses came out at each pin as the machine says; for trains faster than the cell's delay."""
    word = b.machine.play([on for _, on in events])
    arrived = all(
        len(run.pulse_times(b.driver(p), corner, b.sign(p))) == sum(on == p for _, on in events)
        for p in b.machine.inputs
    )
    return arrived and all(
        len(run.pulse_times(b.load(p), corner, b.sign(p))) == sum(p in out for out in word)
        and len(run.pulse_times(b.load(p), corner, -b.sign(p))) == 0
        for p in b.machine.outputs
    )


def own_slips(b: Bench, run: BatchRun, corner: int, low_s: float, high_s: float) -> tuple[int, float]:
    """Slips of the cell's own junctions in a time, and the sum of their critical currents (A)."""
    first, last = np.searchsorted(run.corner, [corner, corner + 1])
    part = slice(first, last)
    inside = (run.time_s[part] >= low_s) & (run.time_s[part] < high_s)
    mine = run.junction[part][inside]
    mine = mine[np.isin(mine, b.own)]
    return len(mine), float(b.circuit.junctions.ic_A[mine].sum())
