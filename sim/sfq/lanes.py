"""One block of corners through the kernel, and alone the corners that need a smaller step.

A block always has LANES corners (the last is repeated), so that a corner meets the same arithmetic in any block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sim.sfq.circuit import Circuit, Floats, Ints
from sim.sfq.corners import Corners, one, repeated
from sim.sfq.deck import Tran
from sim.sfq.errors import NOWHERE, DeckError
from sim.sfq.fast import compiled
from sim.sfq.layout import Layout
from sim.sfq.native import LANES
from sim.sfq.noise import thermal
from sim.sfq.op import at_rest
from sim.sfq.printing import Printer
from sim.sfq.probes import HISTORY, Chunk, Probe, Resolver
from sim.sfq.requests import Request
from sim.sfq.shapes import Shape
from sim.sfq.state import DONE, Drive, Options, State, Watch, before, events, start
from sim.sfq.system import System, build, own_shapes, waves
from sim.sfq.transient import Startup, settle_steps, transient

MOST_STEPS = 4096
MOST_VALUES = 1 << 19
"""Own source values or recorded values of one chunk: a few megabytes, so that they stay near the processor."""


@dataclass(frozen=True)
class Job:
    """What all blocks of a batch share."""

    circuit: Circuit
    layout: Layout
    tran: Tran
    startup: Startup
    requests: list[Request]
    seed: int
    energy: bool


@dataclass
class Part:
    """What a block gives: slips (lane, junction, time, turns) of all junctions, and per corner the rest."""

    count: int
    lane: Ints
    junction: Ints
    time_s: Floats
    turns: Ints
    slips: Ints
    weighted_A: Floats
    step_s_used: Floats
    times_s: Floats
    traces: dict[str, Floats]
    work_J: Floats | None


def run_block(job: Job, corners: Corners, progress: Callable[[float], None]) -> Part:
    """Run up to LANES corners."""
    block = _Block(job, corners, progress)
    block.go()
    part = block.part()
    for lane in np.flatnonzero(block.lost()):
        _alone(job, corners, int(lane), part)
    return part


@dataclass
class _Block:
    job: Job
    corners: Corners
    progress: Callable[[float], None]
    slips: list[tuple[Ints, Ints, Floats, Ints]] = field(default_factory=list)

    def __post_init__(self) -> None:
        job, josim = self.job, self.job.startup == "josim"
        self.h = job.tran.step_s
        self.wide = repeated(self.corners, LANES)
        self.system: System
        self.system, _ = build(job.circuit, self.h, self.wide, job.layout, josim)
        self.probes: list[list[Probe]] = []
        watch = self.watch()
        self.width = watch.width
        self.advance = compiled(self.system, job.layout, watch, Options(0, job.energy))
        self.buffer = events(max(1 << 16, 4 * LANES * len(job.circuit.junctions)))
        self.shapes: list[Shape] = list(waves(job.circuit))
        self.own: list[tuple[Shape, ...]] = own_shapes(job.circuit, self.wide)
        self.noise = thermal(job.circuit, self.wide, job.seed)
        self.steps = int(job.tran.stop_s / self.h + 1e-9)
        self.state: State = self.begin()
        self.printers = [Printer(job.tran, self.h) for _ in range(self.corners.count)] if self.probes else []
        self.history = before(self.state, watch)

    def watch(self) -> Watch:
        """What to record; currents of R, L and C need the values of the corner."""
        job = self.job
        own = any(r.quantity == "I" and r.first[:1] in "RLC" for r in job.requests)
        resolvers = []
        for lane in range(self.corners.count if own else 1):
            resolvers.append(Resolver(one(job.circuit, self.corners, lane), job.layout, self.system.border))
            for request in job.requests:
                resolvers[-1].add(request)
            self.probes.append(resolvers[-1].probes())
        made = resolvers[0].watch()
        if not job.requests:
            self.probes = []
        elif not own:
            self.probes *= self.corners.count
        nothing = np.zeros(0, np.int64)
        return made if job.requests else Watch(nothing, nothing, nothing, made.more)

    def begin(self) -> State:
        """Before the first step; a corner without an operating point begins from rest."""
        if self.job.startup != "op":
            return start(self.system)
        zero = np.zeros(1)
        rows = []
        for name, shape, factors in _sources(self.job.circuit, self.wide):
            mine = self.wide.shapes.get(name)
            values = (
                np.full(LANES, shape.sample(zero, self.h, self.job.tran.stop_s)[0])
                if mine is None
                else np.array([s.sample(zero, self.h, self.job.tran.stop_s)[0] for s in mine])
            )
            rows.append(values if factors is None else values * factors)
        now = np.array(rows).reshape(len(rows), LANES)
        return at_rest(self.job.circuit, self.system, self.job.layout, now, self.wide)[0]

    def drive(self, first: int, count: int) -> Drive:
        """Shared waveforms, and what corners have of their own: current sources, noise, other sources."""
        t = self.h * np.arange(first, first + count, dtype=np.float64)
        stop = self.job.tran.stop_s
        table = np.array([s.sample(t, self.h, stop) for s in self.shapes])
        noises = 0 if self.noise is None else len(self.noise.power)
        own = np.zeros((count, len(self.own) + noises, LANES))
        currents = len(self.system.oa) - noises
        for row, shapes in enumerate(self.own):
            at = row if row < currents else row + noises
            known: dict[Shape, Floats] = {}
            for lane, shape in enumerate(shapes):
                if shape not in known:
                    known[shape] = shape.sample(t, self.h, stop)
                own[:, at, lane] = known[shape]
        if self.noise is not None:
            self.noise.fill(first, self.h, own[:, currents : currents + noises])
        return Drive(table, own)

    def go(self) -> None:
        """All steps; a corner that breaks the guard goes on and is thrown away."""
        josim = self.job.startup == "josim"
        rows_a_step = max(1, len(self.own) + len(self.system.oa), self.width) * LANES
        most = max(16, min(MOST_STEPS, MOST_VALUES // rows_a_step))
        at = -settle_steps(self.h) if josim else 0
        guard_from = 0.01 * self.steps if josim else -1.0
        while at < self.steps:
            count = min((0 if at < 0 else self.steps) - at, most)
            rows = np.zeros((count, self.width, LANES))
            drive, done = self.drive(at, count), 0
            while done < count:
                left = Drive(np.ascontiguousarray(drive.waves[:, done:]), drive.own[done:]) if done else drive
                moved, status = self.advance(self.state, left, at + done, guard_from, rows[done:], self.buffer)
                if status != DONE:
                    raise DeckError(
                        NOWHERE, "batch", "the matrix of a corner is not positive definite",
                        "look for values out of range",
                    )  # fmt: skip
                done += moved
                self.take_slips()
            self.keep(at, rows)
            at += count
            self.progress(count / (self.steps + (settle_steps(self.h) if josim else 0)))

    def take_slips(self) -> None:
        """Empty the event buffer; slips of the filling corners are dropped."""
        b, n = self.buffer, self.buffer.filled
        mine = b.lane[:n] < self.corners.count
        if mine.any():
            self.slips.append((b.lane[:n][mine], b.jj[:n][mine], b.time[:n][mine], b.turns[:n][mine]))
        b.filled = 0

    def keep(self, first: int, new: Floats) -> None:
        """The printed steps of a chunk."""
        if not self.probes or first < 0:
            return
        rows = np.concatenate([self.history, new])
        self.history = rows[len(rows) - HISTORY :]
        times = self.h * np.arange(first, first + len(new), dtype=np.float64)
        for lane, (probes, printer) in enumerate(zip(self.probes, self.printers, strict=True)):
            chunk = Chunk(np.ascontiguousarray(rows[:, :, lane]), first, self.h, self.job.tran.stop_s)
            printer.take(times, np.array([p.values(chunk) for p in probes]))

    def lost(self) -> Ints:
        """Corners that broke the guard or have no finite phase."""
        finite = np.isfinite(self.state.f[0]).all(axis=0)
        return np.where(finite, self.state.tripped, 1)[: self.corners.count]

    def part(self) -> Part:
        """The block as a value."""
        n = self.corners.count
        none = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int64)
        lane, junction, time, turns = (np.concatenate(x) for x in zip(none, *self.slips, strict=True))
        slips = self.state.slips[:, :n].T.copy()
        area = 1.0 if self.corners.junctions is None else self.corners.junctions
        weighted = (slips * self.job.circuit.junctions.ic_A * area).sum(axis=1)
        shown = [p.result() for p in self.printers]
        labels = [r.label for r in self.job.requests]
        traces = {label: np.array([table[k] for _, table in shown]) for k, label in enumerate(labels)}
        return Part(
            n, lane.astype(np.int64), junction.astype(np.int64), time, turns.astype(np.int64), slips, weighted,
            np.full(n, self.h), shown[0][0] if shown else np.zeros(0), traces,
            self.state.work[:, :n].T.copy() if self.job.energy else None,
        )  # fmt: skip


def _sources(circuit: Circuit, corners: Corners) -> list[tuple[str, Shape, Floats | None]]:
    """Every source with its factors (corners,)."""
    out = []
    for group in ("currents", "voltages", "phases"):
        sources, factors = getattr(circuit, group), getattr(corners, group)
        for k, (name, shape) in enumerate(zip(sources.names, sources.shapes, strict=True)):
            out.append((name, shape, None if factors is None else factors[:, k]))
    return out


def _alone(job: Job, corners: Corners, lane: int, part: Part) -> None:
    """Run one corner by itself and put it in the place of what the block had of it."""
    keep = part.lane != lane
    part.lane, part.junction = part.lane[keep], part.junction[keep]
    part.time_s, part.turns = part.time_s[keep], part.turns[keep]
    number = lane if corners.ids is None else int(corners.ids[lane])
    labels = [r.label for r in job.requests]
    tran = job.tran
    try:
        run = transient(
            one(job.circuit, corners, lane), h=tran.step_s, t_stop=tran.stop_s, probes=labels, startup=job.startup,
            seed=job.seed, corner=number,
        )  # fmt: skip
    except DeckError:
        part.step_s_used[lane], part.slips[lane], part.weighted_A[lane] = np.nan, 0, 0.0
        for values in part.traces.values():
            values[lane] = np.nan
        return
    rows = [(j, t, s) for j, pulses in enumerate(run.pulses.values()) for t, s in pulses]
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 3)
    part.lane = np.concatenate([part.lane, np.full(len(rows), lane)])
    part.junction = np.concatenate([part.junction, table[:, 0].astype(np.int64)])
    part.time_s = np.concatenate([part.time_s, table[:, 1]])
    part.turns = np.concatenate([part.turns, table[:, 2].astype(np.int64)])
    part.slips[lane], part.weighted_A[lane] = list(run.slips.values()), run.slip_ic_A
    part.step_s_used[lane] = run.step_s_used
    for label, values in part.traces.items():
        values[lane] = np.interp(part.times_s, run.time_s, run.traces[label])
    if part.work_J is not None:
        e = run.energy
        part.work_J[lane] = (e.bias_J, e.source_J, e.resistor_J, e.junction_J)
