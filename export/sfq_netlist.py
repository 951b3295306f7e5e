"""Drawing a deck cell by cell: lines, splitter trees, somas, mergers, and the text that comes of it.

Instances are ``XI<input><P|N>..`` and ``XL<layer>N<neuron>..``, nodes are named after the cell that drives them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from export.network import Loss
from export.program import CapacityError
from export.sfq_map import Layer, Neuron
from export.sfq_program import Wiring
from hardware.sfq import Technology, library, parts


def pulse_points(
    spikes: npt.NDArray[np.bool_], start_s: float, step_s: float, peak_V: float, rise_s: float
) -> tuple[list[float], list[float]]:
    """Times (s) and values (V) of the line through one triangle of area ``peak_V rise_s`` per spike of ``(T,)``."""
    times, values = [0.0], [0.0]
    for t in np.flatnonzero(spikes):
        at = start_s + float(t) * step_s
        times += [at, at + rise_s, at + 2 * rise_s]
        values += [0.0, peak_V, 0.0]
    return times, values


@dataclass(frozen=True)
class Line:
    """A node that carries pulses (or anti-pulses).

    The first junction behind it slips ``arrival_s`` after the input pulse on the fastest way, ``latest_s`` on the
    slowest.
    """

    node: str
    arrival_s: float
    latest_s: float
    negative: bool = False


@dataclass
class Netlist:
    tech: Technology
    polarities: tuple[int, ...] = (1, -1)
    delays: Mapping[tuple[int, int], float] = field(default_factory=dict)
    body: list[str] = field(default_factory=list)
    used: dict[str, float | None] = field(default_factory=dict)
    junctions: int = 0
    bias_A: float = 0.0
    widest: int = 0
    sources: dict[str, tuple[int, int]] = field(default_factory=dict)
    neurons: dict[str, list[str]] = field(default_factory=dict)
    latency_s: dict[str, list[float]] = field(default_factory=dict)
    synapses: dict[str, list[str]] = field(default_factory=dict)
    skew_ps: dict[str, float] = field(default_factory=dict)

    def cell(self, name: str, kind: str, *into: Line, out: str | None = None, count: int = 1) -> list[Line]:
        """Draw ``X<name>``; its output lines, at nodes named after it unless ``out`` names the one."""
        cell = self.tech.cells[kind]
        outs = [out or f"{name.lower()}{'abc'[k] if count > 1 else ''}" for k in range(count)]
        self.body.append(f"X{name} {kind} {' '.join(i.node for i in into)} {' '.join(outs)}")
        self.used.setdefault(kind, None)
        self.junctions += cell.junctions
        self.bias_A += cell.bias_A
        first, latest = min(i.arrival_s for i in into), max(i.latest_s for i in into)
        negative = kind in ("JTLN", "SPLITN", "INV", "STSYNN")
        return [Line(o, first + cell.delay_s, latest + cell.delay_s, negative) for o in outs]

    def jtl(self, name: str, line: Line) -> Line:
        """A JTL of the line's polarity."""
        return self.cell(name, "JTLN" if line.negative else "JTL", line)[0]

    def spread(self, name: str, line: Line, count: int) -> list[Line]:
        """``count`` copies of a line by a balanced splitter tree, a JTL behind each output."""
        if count < 2:
            return [line][:count]
        halves = self.cell(f"{name}S", "SPLITN" if line.negative else "SPLIT", line, count=2)
        left, right = (self.jtl(f"{name}{k}J", half) for k, half in zip("AB", halves, strict=True))
        return self.spread(f"{name}A", left, count - count // 2) + self.spread(f"{name}B", right, count // 2)

    def inputs(self, index: int, positive: int, negative: int) -> tuple[list[Line], list[Line]]:
        """Positive and negative copies of an input's line, driven from outside in :attr:`polarities`.

        A line that no synapse takes is not drawn.
        """
        if -1 in self.polarities or not negative:
            return self.driven(index, 1, positive), self.driven(index, -1, negative)
        return self.fan_out(self.driven(index, 1, 1)[0], positive, negative)

    def driven(self, index: int, sign: int, count: int) -> list[Line]:
        """``count`` copies of a line with a source of its own, which goes through two JTL."""
        if not count:
            return []
        name = f"I{index}{'P' if sign > 0 else 'N'}"
        start = self.tech.numbers["drive_delay_s"] + self.delays.get((index, sign), 0.0)
        self.sources[f"V{name}"] = (index, sign)
        line = Line(name.lower(), start, start, sign < 0)
        return self.spread(name, self.jtl(f"{name}2", self.jtl(f"{name}1", line)), count)

    def fan_out(self, line: Line, positive: int, negative: int) -> tuple[list[Line], list[Line]]:
        """Positive and negative copies of a line; an inverter makes the second kind."""
        name = line.node.upper()
        if not positive + negative:
            self.body.append(f"R{name} {line.node} 0 3")
        copies = self.spread(f"{name}P", line, positive + (1 if negative else 0))
        if not negative:
            return copies, []
        turned = self.cell(f"{name}V", "INV", copies.pop())[0]
        return copies, self.spread(f"{name}N", self.jtl(f"{name}VJ", turned), negative)

    def layer(self, k: int, layer: Layer, lines: list[Line] | None, last: bool) -> list[Line]:
        """Draw a layer behind ``lines``, or behind the inputs (None); its neurons' lines."""
        weights = np.array([n.weights for n in layer.neurons])
        branches: list[list[Line]] = [[] for _ in layer.neurons]
        waits = [0] * weights.shape[1] if lines is None else self.waits(np.abs(weights).sum(axis=0))
        for source in range(weights.shape[1]):
            if lines is not None:
                lines[source] = self.wait(lines[source], waits[source])
            plus, minus = (np.maximum(sign * weights[:, source], 0) for sign in (1, -1))
            wanted_of = int(plus.sum()), int(minus.sum())
            copies = self.inputs(source, *wanted_of) if lines is None else self.fan_out(lines[source], *wanted_of)
            for j in range(len(layer.neurons)):
                for copy, wanted in zip(copies, (plus[j], minus[j]), strict=True):
                    taken = [copy.pop(0) for _ in range(int(wanted))]
                    pass_A = layer.neurons[j].pass_A[source] if layer.neurons[j].pass_A else 0.0
                    branches[j] += [self.gate(f"L{k}N{j}G{source}", b, pass_A) if pass_A else b for b in taken]
        self.neurons[layer.node], self.latency_s[layer.node], self.synapses[layer.node] = [], [], []
        drawn = enumerate(zip(layer.neurons, branches, strict=True))
        return [self.neuron(f"L{k}N{j}", layer.node, neuron, into, last) for j, (neuron, into) in drawn]

    def waits(self, copies: npt.NDArray[np.int64]) -> list[int]:
        """JTLs before each line's tree of so many copies, that all trees end together to within half a level."""
        level = self.tech.cells["SPLIT"].delay_s + self.tech.cells["JTL"].delay_s
        depths = [(max(int(n), 1) - 1).bit_length() for n in copies]
        return [
            round((max(depths) - d) * level / self.tech.cells["JTL"].delay_s) if n else 0
            for d, n in zip(depths, copies, strict=True)
        ]

    def wait(self, line: Line, count: int) -> Line:
        """The line behind ``count`` JTLs."""
        name = line.node.upper()
        for k in range(count):
            line = self.jtl(f"{name}W{k}", line)
        return line

    def gate(self, name: str, line: Line, pass_A: float) -> Line:
        """The line behind a stochastic synapse with its weight current, and the JTL behind that."""
        passed = self.cell(name, "STSYNN" if line.negative else "STSYN", line)[0]
        ends = f"{name.lower()}w"
        self.body[-1] += f" {ends}"
        current = f"pwl(0 0 5p {pass_A * 1e6:.1f}u)"
        self.body.append(f"I{name} {ends} 0 {current}" if line.negative else f"I{name} 0 {ends} {current}")
        self.bias_A += pass_A
        return self.jtl(f"{name}J", passed)

    def neuron(self, name: str, node: str, neuron: Neuron, branches: list[Line], last: bool) -> Line:
        """A soma with its synapses, or a relay, and the JTL behind it; noted in the tables."""
        if neuron.bias_A is None:
            line, seen = self.relay(name, node, branches)
        else:
            line, seen = self.soma(name, node, neuron.bias_A, branches)
        line = self.jtl(f"{name}J", line)
        if last:
            half = self.tech.cells["JTL"].delay_s / 2
            seen = (f"B1|X2|X{name}O", line.arrival_s + half)
            line = self.jtl(f"{name}O", line)
            self.body.append(f"R{name} {line.node} 0 3")
        apart_ps = (line.latest_s - line.arrival_s) * 1e12
        if apart_ps > self.skew_ps.get(node, 0.1):
            self.skew_ps[node] = apart_ps
        self.neurons[node].append(seen[0])
        self.latency_s[node].append(seen[1])
        return line

    def soma(self, name: str, node: str, bias_A: float, branches: list[Line]) -> tuple[Line, tuple[str, float]]:
        """Synapses into a summing node, and the soma there."""
        into = f"{name.lower()}i"
        ends = []
        for k, branch in enumerate(branches):
            ends += self.cell(f"{name}Y{k}", "SYNM" if branch.negative else "SYNP", branch, out=into)
            self.synapses[node].append(f"B1|X1|X{name}Y{k}")
        exciting = [e for e, b in zip(ends, branches, strict=True) if not b.negative] or ends
        summed = Line(into, min(e.arrival_s for e in exciting), max(e.latest_s for e in ends))
        own = self.tech.numbers["soma_bias_A"]
        uA = round(bias_A * 1e6)
        kind = "SOMA" if uA == round(own * 1e6) else f"SOMA{'M' if uA < 0 else ''}{abs(uA)}"
        out = self.cell(name, "SOMA", summed)[0]
        self.body[-1] = self.body[-1].replace(" SOMA ", f" {kind} ", 1)
        self.used[kind] = bias_A
        self.bias_A += abs(bias_A) - own
        self.widest = max(self.widest, len(branches))
        return out, (f"B1|X1|X{name}", summed.arrival_s)

    def relay(self, name: str, node: str, branches: list[Line]) -> tuple[Line, tuple[str, float]]:
        """A balanced tree of mergers, a JTL between two levels; the earliest branches go where it is deepest."""
        if len(branches) == 1:
            self.synapses[node].append(f"B1|X1|X{name}J")
            return branches[0], (f"B1|X1|X{name}J", branches[0].arrival_s)
        merged = self.merge(f"{name}M", node, sorted(branches, key=lambda b: b.arrival_s))
        return merged, (f"B1|X5|X{name}M0", merged.arrival_s)

    def merge(self, name: str, node: str, lines: list[Line]) -> Line:
        """One line of many; the root is ``<name>0``, the halves of it ``<name>A0`` and ``<name>B0``."""
        half = (len(lines) + 1) // 2
        ends = []
        for part, port, side in ((lines[:half], "X1", "A"), (lines[half:], "X3", "B")):
            if len(part) == 1:
                self.synapses[node].append(f"B1|{port}|X{name}0")
                ends.append(part[0])
            else:
                ends.append(self.jtl(f"{name}{side}J", self.merge(f"{name}{side}", node, part)))
        return self.cell(f"{name}0", "MERGE", *ends)[0]

    def losses(self) -> list[Loss]:
        """Trees of different depth: pulses of one step come at different times."""
        return [Loss(node, "pulses of one step arrive apart by up to, ps", ps) for node, ps in self.skew_ps.items()]

    def usage(self) -> dict[str, tuple[int, int]]:
        """Junctions, bias in uA, branches of the widest soma."""
        limit = self.tech.numbers
        return {
            "junctions": (self.junctions, int(limit["junctions_max"])),
            "bias_uA": (round(self.bias_A * 1e6), round(limit["bias_max_A"] * 1e6)),
            "branches_per_soma": (self.widest, int(limit["branches_max"])),
        }

    def check(self) -> None:
        """Raise :class:`CapacityError` for what is over its limit."""
        for what, (used, most) in self.usage().items():
            if used > most:
                raise CapacityError(f"deck: needs {used} {what}, {self.tech.name} allows {most}; use fewer synapses")

    def text(self, wiring: Wiring, pattern: npt.NDArray[np.float64]) -> str:
        """The whole deck: the wiring as a comment, the cells that are used, sources, instances, .tran and .print."""
        latest = max(t for ts in wiring.latency_s.values() for t in ts)
        stop = math.ceil((max(wiring.start_s) + (len(pattern) + 1) * wiring.step_s + latest) * 1e12)
        step = self.tech.numbers["solver_step_s"] * 1e12
        noise = [".temp 4.2", ".neb 1e12"] if {"STSYN", "STSYNN"} & set(self.used) else []
        current = f"{self.bias_A * 1e3:.2f} mA"
        head = [
            # a name with a line break must not become a line of the deck
            " ".join(f"* {wiring.network}: {self.junctions} junctions, {current}; {self.tech.title}".split()),
            "* open with: josim-cli -a 1 -o out.csv <this file>; the next line is read by spikeport",
            f"* spikeport {wiring.to_json()}",
        ]
        drive = [f"{name} {name[1:].lower()} 0 {self.source(wiring, name, pattern)}" for name in wiring.sources]
        shown = [f".print p({j.replace('|', '.')})" for js in wiring.neurons.values() for j in js]
        return "\n".join(
            [*head, *noise, *self.cells(), *drive, *self.body, f".tran {step:g}p {stop}p", *shown, ".end", ""]
        )

    def source(self, wiring: Wiring, name: str, pattern: npt.NDArray[np.float64]) -> str:
        """One source's shape, in ps and uV."""
        index, sign = wiring.sources[name]
        spikes = pattern[:, index] > 0
        start = wiring.start_s[index] + wiring.delay_s.get(name, 0.0)
        times, values = pulse_points(spikes, start, wiring.step_s, sign * wiring.peak_V, wiring.rise_s)
        pairs = [f"{t * 1e12:.10g}p {v * 1e6:.10g}u" for t, v in zip(times, values, strict=True)]
        return f"pwl({' '.join(pairs if len(pairs) > 1 else [*pairs, '1p 0'])})"

    def cells(self) -> list[str]:
        """The model and every subcircuit that is used, parts first, somas with their bias."""
        model, cells = library(self.tech.netlists)
        wanted: dict[str, str] = {}
        for kind, bias in self.used.items():
            if bias is not None and kind != "SOMA":
                base = cells["SOMA"].replace(".subckt SOMA ", f".subckt {kind} ", 1)
                own = f"{round(self.tech.numbers['soma_bias_A'] * 1e6)}u"
                cells[kind] = base.replace(f"5p {own})", f"5p {round(bias * 1e6)}u)", 1)
            for part in parts(cells[kind]):
                wanted.setdefault(part, cells[part])
        return [model, *wanted.values(), *(cells[k] for k in self.used if k != "SOMA" or self.used[k] is not None)]
