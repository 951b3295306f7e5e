"""What a pulse-level run gives, and the error of a pulse that came too early."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.package import write_package
from sim.sfq.constants import PHI0_WB
from sim.sfq.pulse.cells import CellError
from sim.sfq.pulse.engines import Job
from sim.sfq.pulse.state import State
from sim.sfq.pulse.tables import TICK_S, Compiled, Floats, Ints


@dataclass(frozen=True)
class Broken:
    """A pulse at ``port`` of ``instance`` that came at ``time_s``, before ``legal_s``, the earliest time that the
    separation ``first`` to ``then`` of ``least_s`` allows. ``lost``: it was dropped."""

    instance: str
    cell: str
    port: str
    time_s: float
    first: str
    least_s: float
    legal_s: float
    lost: bool

    def __str__(self) -> str:
        """Cell, input, time, rule, earliest legal time."""
        fate = "lost" if self.lost else "taken"
        return (
            f"{self.instance} ({self.cell}): pulse at {self.port} at {self.time_s * 1e12:.3f} ps comes "
            f"{(self.legal_s - self.time_s) * 1e12:.3f} ps too early: {self.least_s * 1e12:g} ps must pass after "
            f"{self.first}; earliest legal time {self.legal_s * 1e12:.3f} ps ({fate})"
        )


class Violation(CellError):
    """A pulse came too early and the policy is "error". ``broken`` is the earliest one."""

    def __init__(self, broken: Broken) -> None:
        super().__init__(
            f"{str(broken).rsplit(' (', 1)[0]}. Fix: move the pulse, or run with policy warn, drop or random"
        )
        self.broken = broken


@dataclass(frozen=True)
class PulseRun:
    """``pulses``: times (s) of the watched nets between ``begin_s`` and ``t_stop_s``; ``signs``: -1 for anti-pulses.

    ``taken (transitions)``: how often each transition of each instance was taken in this run, see :meth:`counts`.
    ``events``: pulses that cells took. ``violations``: the first ten thousand, by time; ``violation_count`` has all.
    ``state`` is where the next run goes on.
    """

    pulses: dict[str, Floats]
    signs: dict[str, int]
    begin_s: float
    t_stop_s: float
    events: int
    violations: tuple[Broken, ...]
    violation_count: int
    taken: Ints
    state: State
    compiled: Compiled

    def __getitem__(self, net: str) -> Floats:
        """Times (s) of the pulses on a watched net. Errors: CellError naming the watched ones."""
        if net not in self.pulses:
            raise CellError(f"{net} is not watched; watch= one of {', '.join(list(self.pulses)[:8])}")
        return self.pulses[net]

    def counts(self) -> dict[str, dict[str, int]]:
        """Instance to transition, ``"state:on"``, to how often it was taken."""
        out: dict[str, dict[str, int]] = {}
        for k, i in enumerate(self.compiled.instances):
            at = self.compiled.tables.instances[k]
            table = self.compiled.transitions[at["cell"]]
            mine = self.taken[at["taken_at"] : at["taken_at"] + len(table)]
            out[i.name] = {f"{t.state}:{t.on}": int(n) for t, n in zip(table, mine, strict=True)}
        return out

    def cell_counts(self) -> dict[str, dict[str, int]]:
        """The same summed over the instances of a cell."""
        out: dict[str, dict[str, int]] = {}
        for instance, counts in self.counts().items():
            total = out.setdefault(self._cell(instance), {})
            for key, n in counts.items():
                total[key] = total.get(key, 0) + n
        return out

    def slips(self) -> dict[str, int]:
        """Instance to slips of its junctions, by the cells' tables."""
        return {name: int(n) for name, n in self._sums([[t.slips for t in c] for c in self.compiled.transitions])}

    def slip_ic_A(self) -> dict[str, float]:
        """Instance to the sum of the critical currents of its slips."""
        return dict(self._sums([[t.slip_ic_A for t in c] for c in self.compiled.transitions]))

    @property
    def energy_J(self) -> float:
        """E = sum of slip_ic_A times one flux quantum."""
        return sum(self.slip_ic_A().values()) * PHI0_WB

    def _sums(self, values: list[list[float]] | list[list[int]]) -> list[tuple[str, float]]:
        tb = self.compiled.tables
        each = np.concatenate([values[c] for c in tb.instances["cell"]])
        total = np.add.reduceat(np.append(self.taken * each, 0.0), tb.instances["taken_at"])
        return [(i.name, float(n)) for i, n in zip(self.compiled.instances, total, strict=True)]

    def _cell(self, instance: str) -> str:
        return next(i.cell.name for i in self.compiled.instances if i.name == instance)

    def __str__(self) -> str:
        """A few lines: pulses of each net, events, energy, violations."""
        nets = [f"  {net}: {len(t)} pulses{' (anti)' if self.signs[net] < 0 else ''}" for net, t in self.pulses.items()]
        head = f"{self.begin_s * 1e12:g} to {self.t_stop_s * 1e12:g} ps: {self.events} events, {self.energy_J:.3g} J"
        more = [f"  {b}" for b in self.violations[:5]]
        if self.violation_count:
            more.insert(0, f"  {self.violation_count} pulses too early")
        return "\n".join([head, *nets[:20], *more])

    def save(self, path: str | Path) -> Path:
        """Pulses and counts as one ``.npz``; the state has its own ``save``."""
        nets = list(self.pulses)
        manifest = {
            "format": "spikeport-pulse-run", "version": 1, "nets": nets, "signs": [self.signs[n] for n in nets],
            "begin_s": self.begin_s, "t_stop_s": self.t_stop_s, "events": self.events, "energy_J": self.energy_J,
            "counts": self.cell_counts(), "violations": [str(b) for b in self.violations],
            "violation_count": self.violation_count,
        }  # fmt: skip
        return write_package(path, manifest, {f"net{k}": self.pulses[n] for k, n in enumerate(nets)})


def collect(job: Job, passed: dict[str, Floats]) -> PulseRun:
    """The run of a job. Errors: :class:`Violation` under the policy "error"."""
    broken = _broken(job)
    if broken and job.policy == 0:
        raise Violation(broken[0])
    c, now = job.compiled, job.state
    rows = np.concatenate([now.late, *job.seen])
    shown = rows[:, 1] < job.end
    now.late = rows[~shown]
    rows = rows[shown]
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    at = np.searchsorted(rows[:, 0], np.arange(len(c.tables.outputs) + 1))
    pulses = {net: rows[at[o] : at[o + 1], 1] * TICK_S for net, o in c.watch.items()}
    begin_s, end_s = job.begun * TICK_S, job.end * TICK_S
    for net, times in passed.items():
        pulses[net] = times[(times >= begin_s) & (times < end_s)]
    return PulseRun(
        pulses, _signs(c, pulses), begin_s, end_s, now.events - job.events_before, tuple(broken), job.violations,
        now.taken - job.taken_before, now, c,
    )  # fmt: skip


def _signs(c: Compiled, pulses: dict[str, Floats]) -> dict[str, int]:
    negative = {i.nets[p] for i in c.instances for p in i.cell.negative if p in i.nets}
    return {net: -1 if net in negative else 1 for net in pulses}


def _broken(job: Job) -> list[Broken]:
    """Violations as text, by time."""
    if not job.violations:
        return []
    rows = np.concatenate(job.found)
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    tb = job.compiled.tables
    out = []
    for time, port, rule, legal, lost in rows.tolist():
        i = job.compiled.instances[tb.inputs[port]["owner"]]
        first = i.cell.inputs[int(tb.rules[rule]["first"])]
        least = int(tb.rules[rule]["least"]) * TICK_S
        out.append(
            Broken(
                i.name,
                i.cell.name,
                job.compiled.ports[port][1],
                time * TICK_S,
                first,
                least,
                legal * TICK_S,
                bool(lost),
            )
        )
    return out
