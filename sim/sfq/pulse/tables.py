"""A netlist as arrays for the compiled engines. Times are whole attoseconds, so that equal paths give equal times.

Ports are numbered instance by instance, inputs apart from outputs, in the order of the cell; a soma has one input for
each of its branches. Pulses that arrive together are taken in the order of those numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sim.sfq.pulse.cells import CellError, PulseCell, Transition
from sim.sfq.pulse.netlist import Instance, Netlist

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

TICK_S = 1e-18
"""One attosecond: 2^63 of them are nine seconds."""
KINDS = {"mealy": 0, "soma": 1, "stochastic": 2}
POLICY_DROPS, POLICY_KEEPS = 1, 0
SOMA_NUMBERS = ("theta", "tau", "branches", "floor", "refractory", "late", "late_v")


class Tables(NamedTuple):
    """What a run reads. ``*_at``: first entry of a thing's part, one more than there are things."""

    cell: Ints
    """(instances) index of the cell."""
    row: Ints
    """(instances) row in ``numbers``, -1 for none."""
    in_at: Ints
    out_at: Ints
    taken_at: Ints
    """(instances + 1) first input port, output port and entry in the counts of transitions."""
    key: NDArray[np.uint64]
    """(instances) key of the random stream, a hash of the name."""
    kind: Ints
    width: Ints
    transition_at: Ints
    rule_at: Ints
    """(cells) kind, events a state, first transition, first input in ``rules_at``."""
    to: Ints
    emit_at: Ints
    recovery_at: Ints
    """(transitions) next state; first emission, first recovery (one more)."""
    emit_out: Ints
    emit_delay: Ints
    emit_jitter: Floats
    recovery_first: Ints
    recovery_since: Ints
    recovery_extra: Floats
    """(recoveries, points)"""
    rules_at: Ints
    rule_first: Ints
    rule_least: Ints
    rule_drops: NDArray[np.bool_]
    owner: Ints
    """(inputs) instance."""
    weight: Floats
    in_extra: Ints
    """(inputs) what a pulse adds to a soma; how much later the outputs are for this driver."""
    out_extra: Ints
    out_to: Ints
    """(outputs) how much later a pulse is for this load; input port that takes it, or -1."""
    watched: NDArray[np.bool_]
    numbers: Floats
    """(somas and stochastic cells, 7) see SOMA_NUMBERS; stochastic: probability first."""


@dataclass(frozen=True)
class Compiled:
    """Tables and the names that belong to them. ``sources``: input net to port; ``watch``: net to output port."""

    tables: Tables
    cells: tuple[PulseCell, ...]
    transitions: tuple[tuple[Transition, ...], ...]
    instances: tuple[Instance, ...]
    ports: tuple[tuple[str, str], ...]
    sources: Mapping[str, int]
    watch: Mapping[str, int]
    passed: tuple[str, ...] = field(default=())
    """Watched nets that are inputs: what goes in is what is seen."""


Corrections: TypeAlias = Mapping[tuple[str, str], tuple[float, float]]
"""(driver ``CELL.port``, load ``CELL.port``) to how much later (s) the driver slips, and the load after it."""


def ticks(seconds: float) -> int:
    """Whole attoseconds."""
    return round(seconds / TICK_S)


def compile_netlist(
    netlist: Netlist,
    watch: Sequence[str] | None = None,
    *,
    corrections: Corrections | None = None,
    temperature_K: float | None = None,
) -> Compiled:
    """Number everything. ``watch``: nets whose pulses are kept, default the outputs; ``temperature_K`` of the
    stochastic cells, default what they were measured at. Errors: CellError of :meth:`Netlist.check`, or naming a net
    that is not there."""
    netlist.check()
    return _Builder(netlist, corrections or {}, temperature_K).build(watch)


class _Builder:
    def __init__(self, netlist: Netlist, corrections: Corrections, temperature_K: float | None) -> None:
        self.netlist, self.corrections, self.temperature_K = netlist, corrections, temperature_K
        self.instances = tuple(netlist.instances.values())
        kinds = {i.cell.name: i.cell for i in self.instances}
        self.cells = tuple(kinds.values())
        self.cell_at = {name: k for k, name in enumerate(kinds)}
        self.transitions = tuple(tuple(c.table()) for c in self.cells)

    def build(self, watch: Sequence[str] | None) -> Compiled:
        self.number_ports()
        wanted = list(self.netlist.outputs if watch is None else dict.fromkeys(watch))
        out_extra, in_extra, out_to = self.lines()
        watched = np.zeros(len(self.outs), np.bool_)
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
                watched[seen[net]] = True
        tables = Tables(
            **self.per_instance(), **self.per_cell(), **self.rules(),
            owner=np.array([self.index[n] for n, _ in self.ins], np.int64), weight=np.array(self.weights, np.float64),
            in_extra=in_extra, out_extra=out_extra, out_to=out_to, watched=watched,
        )  # fmt: skip
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

    def lines(self) -> tuple[Ints, Ints, Ints]:
        """Extra delays of outputs and inputs, and where each output goes."""
        out_extra, out_to = np.zeros(len(self.outs), np.int64), np.full(len(self.outs), -1, np.int64)
        in_extra = np.zeros(len(self.ins), np.int64)
        for (name, port), k in self.out_at.items():
            instance = self.netlist.instances[name]
            ends = self.netlist.loads.get(instance.nets[port], [])
            driver = f"{instance.cell.name}.{port}"
            if not ends:
                out_extra[k] = ticks(self.corrections.get((driver, "END"), (0.0, 0.0))[0])
                continue
            out_to[k] = self.branch.get((name, port), self.in_at.get(ends[0], -1))
            load = f"{self.netlist.instances[ends[0][0]].cell.name}.{ends[0][1]}"
            later, after = self.corrections.get((driver, load), (0.0, 0.0))
            out_extra[k], in_extra[out_to[k]] = ticks(later), ticks(after)
        for net in self.netlist.inputs:
            end = self.netlist.loads[net][0]
            load = f"{self.netlist.instances[end[0]].cell.name}.{end[1]}"
            in_extra[self.in_at[end]] = ticks(self.corrections.get(("SOURCE", load), (0.0, 0.0))[1])
        return out_extra, in_extra, out_to

    def per_instance(self) -> dict[str, Any]:
        rows: list[list[float]] = []
        row, counts = [], [0]
        for k, i in enumerate(self.instances):
            row.append(-1 if i.cell.kind == "mealy" else len(rows))
            if i.cell.kind == "soma":
                rows.append(self.soma(i, self.first_in[k + 1] - self.first_in[k]))
            elif i.cell.kind == "stochastic":
                rows.append([self.probability(i)] + [0.0] * (len(SOMA_NUMBERS) - 1))
            counts.append(counts[-1] + len(self.transitions[self.cell_at[i.cell.name]]))
        return {
            "cell": _ints([self.cell_at[i.cell.name] for i in self.instances]), "row": _ints(row),
            "in_at": _ints(self.first_in), "out_at": _ints(self.first_out), "taken_at": _ints(counts),
            "key": np.array([stream(i.name) for i in self.instances], np.uint64),
            "numbers": np.array(rows, np.float64).reshape(len(rows), len(SOMA_NUMBERS)),
        }  # fmt: skip

    def soma(self, i: Instance, branches: int) -> list[float]:
        """The numbers of a soma. Errors: CellError for a bias that leaves no threshold, or too many branches."""
        m = i.cell.membrane
        assert_membrane = m if m is not None else _no_membrane(i)
        try:
            found = assert_membrane.row(i.cell.branches or branches)
        except CellError as error:
            raise CellError(f"{i.name}: {error}") from None
        bias = i.currents.get("bias", assert_membrane.bias_A)
        if bias >= found.ic_A:
            raise CellError(
                f"{i.name}: bias {bias * 1e6:g} uA is not below the critical {found.ic_A * 1e6:.1f} uA of a soma with "
                f"{branches} branches, which then fires by itself; lower it"
            )
        back = (found.ic_A + bias) * assert_membrane.back / found.pulse_A
        return [
            found.threshold(bias), found.tau_s / TICK_S, float(i.cell.branches or branches), -back,
            float(ticks(assert_membrane.refractory_s)), assert_membrane.late_s / TICK_S, assert_membrane.late_v,
        ]  # fmt: skip

    def probability(self, i: Instance) -> float:
        chance = i.cell.chance
        if chance is None or len(i.currents) != 1:
            raise CellError(f"{i.name}: a stochastic cell needs one weight current at {i.cell.controls}")
        return chance.probability(next(iter(i.currents.values())), self.temperature_K)

    def per_cell(self) -> dict[str, Any]:
        at, to, emit_at, recovery_at = [0], [], [0], [0]
        out, delay, jitter = [], [], []
        first: list[int] = []
        points: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
        for c, table in zip(self.cells, self.transitions, strict=True):
            states = {s: k for k, s in enumerate(c.states)}
            for t in table:
                to.append(states[t.to])
                for e in t.emits:
                    out.append(c.outputs.index(e.out))
                    delay.append(ticks(e.delay_s))
                    jitter.append(e.jitter_s / TICK_S)
                emit_at.append(len(out))
                for r in t.recoveries:
                    first.append(c.inputs.index(r.first))
                    points.append((r.since_s, r.extra_s))
                recovery_at.append(len(first))
            at.append(at[-1] + len(table))
        since, extra = _points(points)
        return {
            "kind": _ints([KINDS[c.kind] for c in self.cells]), "width": _ints([len(c.events) for c in self.cells]),
            "transition_at": _ints(at), "to": _ints(to), "emit_at": _ints(emit_at), "recovery_at": _ints(recovery_at),
            "emit_out": _ints(out), "emit_delay": _ints(delay), "emit_jitter": np.array(jitter, np.float64),
            "recovery_first": _ints(first), "recovery_since": since, "recovery_extra": extra,
        }  # fmt: skip

    def rules(self) -> dict[str, Any]:
        cell_at, at = [], [0]
        first, least, drops = [], [], []
        for c in self.cells:
            cell_at.append(len(at) - 1)
            for port in c.inputs:
                for s in c.separations:
                    if s.then == port:
                        first.append(c.inputs.index(s.first))
                        least.append(ticks(s.least_s))
                        drops.append(s.drops)
                at.append(len(first))
        return {
            "rule_at": _ints(cell_at), "rules_at": _ints(at), "rule_first": _ints(first), "rule_least": _ints(least),
            "rule_drops": np.array(drops, np.bool_),
        }  # fmt: skip


def stream(name: str) -> int:
    """64 bits of a name: the key of an instance's random numbers, whatever else is in the netlist."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def _no_membrane(i: Instance) -> Any:
    raise CellError(f"{i.name}: {i.cell.name} is a soma without a membrane")


def _points(points: list[tuple[tuple[float, ...], tuple[float, ...]]]) -> tuple[Ints, Floats]:
    """Rows of one length: the last point is repeated as a zero."""
    width = 1 + max((len(p[0]) for p in points), default=0)
    since, extra = np.zeros((len(points), width), np.int64), np.zeros((len(points), width))
    for k, (times, values) in enumerate(points):
        since[k] = ticks(times[-1])
        since[k, : len(times)] = [ticks(t) for t in times]
        extra[k, : len(times)] = [v / TICK_S for v in values]
    return since, extra


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _some(names: Any) -> str:
    listed = list(names)
    return ", ".join(listed[:6]) + (" .." if len(listed) > 6 else "")
