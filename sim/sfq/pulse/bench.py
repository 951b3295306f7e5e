"""One cell between other cells at junction level: what it is driven with, and when its outputs slip.

    V - JTL - JTL - driver - | cell | - load - JTL - 3 ohm

JTLN where a port takes or gives anti-pulses. A driver with memory gets the word that makes it emit once and leaves it
as it was. Times of pulses are slips of the junction that speaks for a line (``to_deck.speaker``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sim.sfq.deck import loads
from sim.sfq.pulse.cells import CellError, PulseCell
from sim.sfq.pulse.netlist import Netlist
from sim.sfq.pulse.tables import Floats
from sim.sfq.pulse.to_deck import deck_text, speaker
from sim.sfq.transient import transient

STEP_S = 0.05e-12
"""Of the calibration's simulations: pulse times are right to about 0.01 ps (docs/sfq.md 2.4)."""
SLOT_S = 160e-12
"""Between two pulses into the cell: everything has settled."""
WORD_S = 40e-12
"""Between the pulses of a word that arms a driver."""
FIRST_S = 60e-12


Nets = dict[str, Any]


@dataclass
class Slips:
    """Slips at junction level: times (s) by line (a synapse's: ``<instance>.n``), of the sign that it carries.

    ``inside``: by instance, the slips of all its junctions, rows (time in s, Ic in A, number of the junction).
    """

    times: dict[str, Floats]
    inside: dict[str, Floats]


def junction_level(netlist: Netlist, pulses: Mapping[str, Floats], t_stop: float, step: float = STEP_S) -> Slips:
    """Simulate a netlist's deck; the slips of its lines and of its instances."""
    circuit = loads(deck_text(netlist, pulses, t_stop, step)).flatten()
    done = transient(circuit, probes=())
    ic = dict(zip(circuit.junctions.names, circuit.junctions.ic_A.tolist(), strict=True))
    times = {}
    for i in netlist.instances.values():
        for port in i.cell.outputs:
            sign = -1 if port in i.cell.negative or i.cell.weight < 0 else 1
            line = f"{i.name}.{port}" if i.cell.weight else i.nets[port]
            times[line] = done.pulse_times(f"{speaker(i.cell.name, port)}|{i.name}", sign)
    times |= {net: np.asarray(t, np.float64) for net, t in pulses.items()}
    owners = {name.upper(): name for name in netlist.instances}
    rows: dict[str, list[Floats]] = {name: [np.zeros((0, 3))] for name in netlist.instances}
    for k, (name, slips) in enumerate(done.pulses.items()):
        same = np.ones(len(slips))
        rows[owners[name.rsplit("|", 1)[1]]].append(np.stack([slips[:, 0], same * ic[name], same * k], axis=1))
    return Slips(times, {name: np.concatenate(r) for name, r in rows.items()})


def word_to(cell: PulseCell, state: str, goal: Callable[[str, str], bool]) -> list[str]:
    """Shortest word from ``state`` whose last transition ``goal(state, input)`` names.

    Errors: CellError if there is none.
    """
    at = {(t.state, t.on): t for t in cell.transitions}
    seen = {state}
    queue: list[tuple[str, list[str]]] = [(state, [])]
    for here, word in queue:
        for on in cell.inputs:
            t = at[here, on]
            if goal(here, on):
                return [*word, on]
            if t.to not in seen:
                seen.add(t.to)
                queue.append((t.to, [*word, on]))
    raise CellError(f"{cell.name}: no word from '{state}' does what is asked; its machine is incomplete")


def leads(cell: PulseCell, state: str) -> Callable[[str, str], bool]:
    """Whether a transition leads to ``state`` and sends nothing."""
    at = {(t.state, t.on): t for t in cell.transitions}
    return lambda here, on: at[here, on].to == state and not at[here, on].emits


def emits(cell: PulseCell, port: str) -> Callable[[str, str], bool]:
    """Whether a transition sends a pulse at ``port``."""
    at = {(t.state, t.on): {e.out for e in t.emits} for t in cell.transitions}
    return lambda state, on: port in at[state, on]


@dataclass
class Bench:
    """A cell ``XC`` with its drivers and loads. ``drivers``: input to (cell, output); ``loads``: output to (cell,
    input); JTL where nothing is named. SOURCE drives without cells, END is a resistor; with
    ``end`` a resistor stands in the cell's place at that input. Nets: ``i<port>`` into the cell, ``o<port>`` out of it.
    """

    library: Mapping[str, PulseCell]
    cell: PulseCell
    drivers: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    loads: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    end: str = ""
    weight_A: float | None = None

    def __post_init__(self) -> None:
        self.net = Netlist(self.library)
        self.words: dict[str, list[tuple[float, str]]] = {}
        for port in self.cell.inputs:
            driver, out = self.drivers.get(port, (_line(self.cell, port), "q"))
            if driver == SOURCE:
                self.words[port] = [(0.0, f"i{port}")]
            else:
                self.drive(port, self.library[driver], out)
        if self.end:
            return
        for port in self.cell.outputs:
            load, into = self.loads.get(port, ("SOMA", "n") if self.cell.weight else (_line(self.cell, port), "a"))
            if load == "SOMA":
                self.soma(f"N{port}", f"o{port}")
            elif load != END:
                self.load(port, self.library[load], into)
        nets: Nets = {p: f"i{p}" for p in self.cell.inputs} | {p: f"o{p}" for p in self.cell.outputs}
        self.net.add("XC", self.cell.name, **nets, **dict.fromkeys(self.cell.controls, self.weight_A or PASS_A))

    def source(self, name: str, net: str, cell: PulseCell, port: str) -> str:
        """Two JTL before a port; the input net."""
        kind = _line(cell, port)
        self.net.add(f"X{name}1", kind, a=f"v{name}", q=f"{name}m").add(f"X{name}2", kind, a=f"{name}m", q=net)
        return f"v{name}"

    def soma(self, name: str, net: str, bias_A: float = 0.0, out: str = "") -> None:
        """A soma at a summing node; one that never fires ends in a JTL."""
        self.net.add(f"X{name}", "SOMA", n=net, q=out or f"{name}q", bias_A=bias_A)
        if not out:
            self.net.add(f"X{name}J", "JTL", a=f"{name}q", q=f"{name}r")

    def drive(self, port: str, driver: PulseCell, out: str) -> None:
        """The driver of a port, with its own sources, and the word that makes it emit."""
        if driver.kind == "soma":
            self.net.add(f"XY{port}", "SYNP", a=f"d{port}", n=f"c{port}")
            source = self.source(f"s{port}", f"d{port}", self.library["SYNP"], "a")
            self.soma(f"D{port}", f"c{port}", FIRING_A, f"i{port}")
            self.words[port] = [(-10e-12, source), (0.0, source)]
            return
        nets: Nets = {out: f"i{port}"}
        sources = {}
        for p in driver.inputs:
            nets[p] = f"d{port}{p}"
            sources[p] = self.source(f"s{port}{p}", f"d{port}{p}", driver, p)
        for p in driver.outputs:
            if p != out:
                nets[p] = f"e{port}{p}"
                self.net.add(f"XE{port}{p}", _line(driver, p), a=f"e{port}{p}", q=f"z{port}{p}")
        self.net.add(f"XD{port}", driver.name, **nets, **dict.fromkeys(driver.controls, PASS_A))
        word = word_to(driver, driver.start, emits(driver, out))
        state = driver.start
        for p in word:
            state = next(t.to for t in driver.transitions if (t.state, t.on) == (state, p))
        back = word_to(driver, state, leads(driver, driver.start)) if state != driver.start else []
        first = 1 - len(word)
        self.words[port] = [((first + k) * WORD_S, sources[p]) for k, p in enumerate([*word, *back])]

    def load(self, port: str, load: PulseCell, into: str) -> None:
        """The load of a port; its other inputs are silent, its outputs end in a JTL."""
        nets: Nets = {into: f"o{port}"}
        for p in load.inputs:
            if p != into:
                nets[p] = f"l{port}{p}"
                self.source(f"t{port}{p}", f"l{port}{p}", load, p)
        for p in load.outputs:
            nets[p] = f"l{port}{p}"
            if load.weight:
                self.soma(f"N{port}", nets[p])
            else:
                self.net.add(f"XF{port}{p}", _line(load, p), a=f"l{port}{p}", q=f"g{port}{p}")
        self.net.add(f"XL{port}", load.name, **nets, **dict.fromkeys(load.controls, PASS_A))

    def play(self, word: Sequence[tuple[float, str]], slot: float = SLOT_S) -> Slips:
        """Pulses (time in s, input) into the cell; the junction level's answer, which ends a ``slot`` later."""
        pulses: dict[str, list[float]] = {}
        for t, port in word:
            for offset, source in self.words[port]:
                pulses.setdefault(source, []).append(t + offset)
        ready = {n: np.sort(np.array(ts)) for n, ts in pulses.items()}
        return junction_level(self.net, ready, max(t for t, _ in word) + slot)


SOURCE, END = "SOURCE", "END"
FIRING_A = 200e-6
"""Bias at which two pulses 10 ps apart on one branch make a soma slip once."""


def _line(cell: PulseCell, port: str) -> str:
    return "JTLN" if port in cell.negative else "JTL"


BLOCK_A = 50e-6
"""Weight current at which a stochastic synapse blocks every pulse."""
PASS_A = 80e-6
"""Weight current at which a stochastic synapse passes every pulse without noise, and 99 % with it."""


def tour(cell: PulseCell) -> list[tuple[str, str]]:
    """(state, input) one after the other from the start, every transition at least twice."""
    at = {(t.state, t.on): t for t in cell.transitions}
    out: list[tuple[str, str]] = []
    here = cell.start
    for _ in range(2):
        for state in cell.states:
            for on in cell.inputs:
                # mypy does not type a lambda's default
                for step in word_to(cell, here, lambda s, i, want=(state, on): (s, i) == want):  # type: ignore[misc]
                    out.append((here, step))
                    here = at[here, step].to
    return out
