"""A netlist as tables: everything gets its number.

Ports are numbered instance by instance, inputs apart from outputs, in the order of the cell; a soma has one input for
each of its branches. Pulses that arrive together are taken in the order of those numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sim.sfq.pulse.cells import CellError, Neighbours, PulseCell
from sim.sfq.pulse.netlist import Instance, Netlist
from sim.sfq.pulse.tables import (
    CELL,
    EMISSION,
    INPUT,
    INSTANCE,
    KINDS,
    OUTPUT,
    RULE,
    SOMA_NUMBERS,
    TICK_S,
    TRANSITION,
    Compiled,
    Corrections,
    Floats,
    Ints,
    Records,
    Tables,
    ticks,
)


def compile_netlist(
    netlist: Netlist,
    watch: Sequence[str] | None = None,
    *,
    corrections: Corrections | None = None,
    temperature_K: float | None = None,
) -> Compiled:
    """Number everything. ``watch``: nets whose pulses are kept, default the outputs; ``corrections`` of neighbours,
    default the library's; ``temperature_K`` of the stochastic cells, default what they were measured at.

    Errors: CellError of :meth:`Netlist.check`, for a pair that does not work together, or naming a net that is not
    there.
    """
    netlist.check()
    if corrections is None:
        corrections = getattr(netlist.library, "corrections", {})
    return _Builder(netlist, corrections, temperature_K).build(watch)


class _Builder:
    def __init__(self, netlist: Netlist, corrections: Corrections, temperature_K: float | None) -> None:
        self.netlist, self.corrections, self.temperature_K = netlist, corrections, temperature_K
        self.misfits: Mapping[tuple[str, str], str] = getattr(netlist.library, "misfits", {})
        self.instances = tuple(netlist.instances.values())
        kinds = {i.cell.name: i.cell for i in self.instances}
        self.cells = tuple(kinds.values())
        self.cell_at = {name: k for k, name in enumerate(kinds)}
        self.transitions = tuple(tuple(c.table()) for c in self.cells)
        self.shift_at: dict[tuple[str, str, str], int] = {}
        self.shift_rows: list[tuple[int, int]] = []

    def build(self, watch: Sequence[str] | None) -> Compiled:
        self.number_ports()
        wanted = list(self.netlist.outputs if watch is None else dict.fromkeys(watch))
        inputs, outputs = self.lines()
        seen: dict[str, int] = {}
        for net in wanted:
            starts = self.netlist.drivers.get(net, [])
            if len(starts) > 1 or (not starts and net not in self.netlist.loads):
                raise CellError(
                    f"watch {net}: no such line, or a summing node; lines: {_some(self.netlist.drivers)}; inputs: "
                    f"{_some(self.netlist.inputs)}"
                )
            if starts:
                seen[net] = self.out_at[starts[0]]
                outputs["watched"][seen[net]] = True
                if outputs["to"][seen[net]] >= 0:
                    inputs["watch"][outputs["to"][seen[net]]] = seen[net]
        instances, numbers = self.per_instance()
        tables = Tables(instances, *self.per_cell(), inputs, outputs, self.shifts(), *self.recoveries(), numbers)
        sources = {net: self.in_at[self.netlist.loads[net][0]] for net in self.netlist.inputs}
        return Compiled(
            tables, self.cells, self.transitions, self.instances, tuple(self.ins), sources, seen,
            tuple(n for n in wanted if n not in seen),
        )  # fmt: skip

    def number_ports(self) -> None:
        """Inputs (name, port) and outputs in order; a soma's branches are its drivers, in order."""
        self.ins: list[tuple[str, str]] = []
        self.outs: list[tuple[str, str]] = []
        self.weights: list[float] = []
        self.in_at: dict[tuple[str, str], int] = {}
        self.out_at: dict[tuple[str, str], int] = {}
        self.branch: dict[tuple[str, str], int] = {}
        self.index = {i.name: k for k, i in enumerate(self.instances)}
        self.first_in, self.first_out = [0], [0]
        for i in self.instances:
            if i.cell.kind == "soma" and not i.cell.branches:
                for name, port in self.netlist.drivers.get(i.nets[i.cell.inputs[0]], []):
                    self.branch[name, port] = len(self.ins)
                    self.ins.append((i.name, f"{i.cell.inputs[0]} from {name}"))
                    self.weights.append(self.netlist.instances[name].cell.weight)
                if len(self.ins) == self.first_in[-1]:
                    raise CellError(f"{i.name}: a {i.cell.name} without synapses; let SYNP or SYNM drive its input")
            else:
                for port in i.cell.inputs:
                    self.in_at[i.name, port] = len(self.ins)
                    self.ins.append((i.name, port))
                    self.weights.append(1.0)
            for port in i.cell.outputs:
                self.out_at[i.name, port] = len(self.outs)
                self.outs.append((i.name, port))
            self.first_in.append(len(self.ins))
            self.first_out.append(len(self.outs))

    def lines(self) -> tuple[Records, Records]:
        """Inputs and outputs: where each output goes, and the extra delays of each pair."""
        inputs, outputs = np.zeros(len(self.ins), INPUT), np.zeros(len(self.outs), OUTPUT)
        inputs["owner"], inputs["weight"] = [self.index[n] for n, _ in self.ins], self.weights
        outputs["to"] = -1
        inputs["shift_at"] = inputs["watch"] = -1
        for (name, port), k in self.out_at.items():
            instance = self.netlist.instances[name]
            ends = self.netlist.loads.get(instance.nets[port], [])
            to = self.branch.get((name, port), self.in_at.get(ends[0], -1)) if ends else -1
            outputs["to"][k] = to
            shift = self.pair(outputs, name, port, ends[0] if ends else None)
            if ends:
                inputs["shift_at"][to] = shift
        for net in self.netlist.inputs:
            end = self.netlist.loads[net][0]
            inputs["shift_at"][self.in_at[end]] = self.pair(outputs, "", "", end)
        return inputs, outputs

    def pair(self, outputs: Records, name: str, port: str, end: tuple[str, str] | None) -> int:
        """Add what a line's ends do to each other to the outputs' extra delays; the load's part of the shifts."""
        driver = f"{self.netlist.instances[name].cell.name}.{port}" if name else "SOURCE"
        load = f"{self.netlist.instances[end[0]].cell.name}.{end[1]}" if end else "END"
        if end and (driver, load) in self.misfits:
            raise CellError(f"{end[0]}.{end[1]}: {driver} cannot drive {load}: {self.misfits[driver, load]}")
        found = self.corrections.get((driver, load))
        if found is None:
            return -1
        usual = ticks(sum(found.later_s) / len(found.later_s))
        if name:
            outputs["extra"][self.out_at[name, port]] += usual
            for other, later in found.aside_s.items():
                outputs["extra"][self.out_at[name, other]] += ticks(later)
        if end is None:
            return -1
        return self.shift(driver, self.netlist.instances[end[0]].cell, end[1], found, usual)

    def shift(self, driver: str, cell: PulseCell, port: str, found: Neighbours, usual: int) -> int:
        """Rows of the shifts of a pair, one for each transition of the load."""
        key = (driver, cell.name, port)
        if key not in self.shift_at:
            self.shift_at[key] = len(self.shift_rows)
            on = {"mealy": port}.get(cell.kind)
            for t in self.transitions[self.cell_at[cell.name]]:
                state = cell.states.index(t.state)
                mine = cell.kind != "soma" and (on is None or t.on == on)
                row = (ticks(found.later_s[state]) - usual, ticks(found.after_s[state])) if mine else (0, 0)
                self.shift_rows.append(row)
        return self.shift_at[key]

    def shifts(self) -> Ints:
        return np.array(self.shift_rows, np.int64).reshape(len(self.shift_rows), 2)

    def per_instance(self) -> tuple[Records, Floats]:
        """Instances, and the numbers of somas and stochastic cells."""
        out = np.zeros(len(self.instances), INSTANCE)
        out["cell"] = [self.cell_at[i.cell.name] for i in self.instances]
        out["key"] = [stream(i.name) for i in self.instances]
        out["in_at"], out["in_end"] = self.first_in[:-1], self.first_in[1:]
        out["out_at"], out["out_end"] = self.first_out[:-1], self.first_out[1:]
        sizes = np.array([len(t) for t in self.transitions])[out["cell"]]
        out["taken_at"] = np.cumsum(sizes) - sizes
        rows: list[list[float]] = []
        for k, i in enumerate(self.instances):
            out["row"][k] = -1 if i.cell.kind == "mealy" else len(rows)
            if i.cell.kind == "soma":
                rows.append(self.soma(i, self.first_in[k + 1] - self.first_in[k]))
            elif i.cell.kind == "stochastic":
                rows.append([self.probability(i)] + [0.0] * (len(SOMA_NUMBERS) - 1))
        return out, np.array(rows, np.float64).reshape(len(rows), len(SOMA_NUMBERS))

    def soma(self, i: Instance, branches: int) -> list[float]:
        """The numbers of a soma. Errors: CellError for a bias that leaves no threshold, or too many branches."""
        m = i.cell.membrane
        if m is None:
            raise CellError(f"{i.name}: {i.cell.name} is a soma without a membrane")
        try:
            found = m.row(i.cell.branches or branches)
        except CellError as error:
            raise CellError(f"{i.name}: {error}") from None
        bias = i.currents.get("bias", m.bias_A)
        if bias >= found.ic_A:
            raise CellError(
                f"{i.name}: bias {bias * 1e6:g} uA is not below the critical {found.ic_A * 1e6:.1f} uA of a soma with "
                f"{branches} branches, which then fires by itself; lower it"
            )
        back = (found.ic_A + bias + m.back_A) / found.pulse_A
        return [
            (found.ic_A - bias) / found.pulse_A, found.tau_s / TICK_S, found.reset, -back, float(ticks(m.refractory_s)),
            found.late_s / TICK_S, found.late_v, found.slip_s / TICK_S,
        ]  # fmt: skip

    def probability(self, i: Instance) -> float:
        chance = i.cell.chance
        if chance is None or len(i.currents) != 1:
            raise CellError(f"{i.name}: a stochastic cell needs one weight current at {i.cell.controls}")
        return chance.probability(next(iter(i.currents.values())), self.temperature_K)

    def per_cell(self) -> tuple[Records, Records, Records, Records]:
        """Cells, transitions, emissions, rules."""
        cells: list[tuple[int, ...]] = []
        rows: list[tuple[int, ...]] = []
        emits: list[tuple[int, int, float, float]] = []
        rules: list[tuple[int, int, bool]] = []
        recoveries = 0
        for c, table in zip(self.cells, self.transitions, strict=True):
            states = {s: k for k, s in enumerate(c.states)}
            cells.append((KINDS[c.kind], len(c.events), len(rows)))
            for t in table:
                at = (len(emits), recoveries, len(rules))
                emits += [
                    (c.outputs.index(e.out), ticks(e.delay_s), e.jitter_s / TICK_S, e.blend_per_s * TICK_S)
                    for e in t.emits
                ]
                recoveries += len(t.recoveries)
                on = t.on if c.kind == "mealy" else c.inputs[0]
                mine = [s for s in c.separations if s.then == on and s.state in ("", t.state) and c.kind != "soma"]
                rules += [(c.inputs.index(s.first), ticks(s.least_s), s.drops) for s in mine]
                rows.append((states[t.to], at[0], len(emits), at[1], recoveries, at[2], len(rules)))
        return np.array(cells, CELL), np.array(rows, TRANSITION), np.array(emits, EMISSION), np.array(rules, RULE)

    def recoveries(self) -> tuple[Ints, Ints, Floats]:
        """Inputs, times and extra delays, in the order of the transitions."""
        pairs = [(c, r) for c, ts in zip(self.cells, self.transitions, strict=True) for t in ts for r in t.recoveries]
        first = np.array([c.inputs.index(r.first) for c, r in pairs], np.int64)
        width = 1 + max((len(r.since_s) for _, r in pairs), default=0)
        since, extra = np.zeros((len(pairs), width), np.int64), np.zeros((len(pairs), width))
        for k, (_, r) in enumerate(pairs):
            since[k] = ticks(r.since_s[-1])
            since[k, : len(r.since_s)] = [ticks(x) for x in r.since_s]
            extra[k, : len(r.since_s)] = [x / TICK_S for x in r.extra_s]
        return first, since, extra


def stream(name: str) -> int:
    """64 bits of a name: the key of an instance's random numbers, whatever else is in the netlist."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def _some(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:6]) + (" .." if len(listed) > 6 else "")
