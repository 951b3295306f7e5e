"""The two ways to run a job: ``heap_engine`` for any netlist, ``level_engine`` for one without loops."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from sim.sfq.pulse import heap, levels
from sim.sfq.pulse.cells import CellError
from sim.sfq.pulse.kernel import MOST_OUT, Found
from sim.sfq.pulse.state import State
from sim.sfq.pulse.tables import Compiled, Ints

MOST_FOUND = 10_000
"""Violations that are listed; more are counted."""
WINDOW_EVENTS = 4_000_000
"""Pulses of a window of the level engine: what fits the caches' neighbourhood, not the memory."""
THREAD_PULSES = 20_000
"""Fewer pulses in a level are not worth a second thread."""
Progress = Callable[[float], None]


@dataclass
class Job:
    """A run: what it reads, the state it changes, what it found. Times in attoseconds; ``seen`` rows (output, time)."""

    compiled: Compiled
    state: State
    src_t: Ints
    src_p: Ints
    end: int
    policy: int
    seed: int
    jitter: bool
    seen: list[Ints] = field(default_factory=list)
    found: list[Ints] = field(default_factory=list)
    violations: int = 0
    begun: int = field(init=False)
    taken_before: Ints = field(init=False)
    events_before: int = field(init=False)

    def __post_init__(self) -> None:
        self.begun, self.events_before = self.state.time, self.state.events
        self.taken_before = self.state.taken.copy()

    def waiting(self) -> tuple[Ints, Ints]:
        """All pulses not yet taken, sorted by (time, port): on their way, and from outside."""
        t = np.concatenate([self.state.way_t, self.src_t])
        p = np.concatenate([self.state.way_p, self.src_p])
        order = np.lexsort((p, t))
        return t[order], p[order]

    def leave(self, t: Ints, p: Ints, time: int) -> None:
        """Put what is still on its way into the state, which now stands at ``time``."""
        order = np.lexsort((p, t))
        self.state.way_t, self.state.way_p, self.state.time = t[order], p[order], time
        self.src_t, self.src_p = self.src_t[:0], self.src_p[:0]

    def note(self, found: Found) -> None:
        """Keep the violations of a kernel call."""
        n = int(found.count[0])
        self.violations += n
        self.found.append(found.rows[: min(n, len(found.rows))].copy())
        found.count[0] = 0


def new_found() -> Found:
    """An empty list of violations."""
    return Found(np.zeros((MOST_FOUND, 5), np.int64), np.zeros(1, np.int64))


def somas_of(compiled: Compiled) -> Ints:
    """The instance of each row of ``numbers``."""
    row = compiled.tables.instances["row"]
    return np.flatnonzero(row >= 0).astype(np.int64)


def heap_engine(job: Job, progress: Progress | None = None) -> None:
    """Event by event, by (time, port)."""
    tb, s, now = job.compiled.tables, job.state.cells(), job.state
    t, p = job.waiting()
    timers = np.flatnonzero(now.somas["timer"])
    order = np.lexsort((timers, now.somas["timer"][timers]))
    heap_t, heap_p = np.zeros(4096 + len(timers), np.int64), np.zeros(4096 + len(timers), np.int64)
    heap_t[: len(timers)] = now.somas["timer"][timers][order]
    heap_p[: len(timers)] = timers[order] + len(tb.inputs)
    fill = np.array([len(timers), 0, 0, 0], np.int64)
    seen, out, found = np.zeros((1 << 16, 2), np.int64), np.zeros((MOST_OUT, 2), np.int64), new_found()
    rows = somas_of(job.compiled)
    steps = 1 if progress is None else 100
    for k in range(1, steps + 1):
        end = job.begun + (job.end - job.begun) * k // steps
        status = heap.GROW
        while status == heap.GROW:
            if fill[0] + MOST_OUT > len(heap_t):
                heap_t, heap_p = (np.concatenate([x, np.zeros_like(x)]) for x in (heap_t, heap_p))
            status = heap.advance(
                tb, s, rows, heap_t, heap_p, fill, t, p, end, job.policy, np.uint64(job.seed), job.jitter, out, seen,
                found,
            )  # fmt: skip
            job.seen.append(seen[: fill[2]].copy())
            fill[2] = 0
        if status == heap.VIOLATED or progress is None:
            break
        progress(k / steps)
    now.events += int(fill[3])
    job.note(found)
    left_t, left_p = heap_t[: fill[0]], heap_p[: fill[0]]
    pulses = left_p < len(tb.inputs)
    job.leave(np.concatenate([left_t[pulses], t[fill[1] :]]), np.concatenate([left_p[pulses], p[fill[1] :]]), job.end)


@dataclass(frozen=True)
class Level:
    """Instances that wait for none of each other; their linked outputs, watched last outputs and watched inputs."""

    which: Ints
    linked: Ints
    ends: Ints
    seen: Ints

    @classmethod
    def of(cls, compiled: Compiled, which: Ints) -> Level:
        """Of the instances ``which``."""
        t = compiled.tables
        mine = t.instances[which]
        ins, outs = _ranges(mine["in_at"], mine["in_end"]), _ranges(mine["out_at"], mine["out_end"])
        linked = t.outputs["to"][outs] >= 0
        return cls(which, outs[linked], outs[t.outputs["watched"][outs] & ~linked], ins[t.inputs["watch"][ins] >= 0])


def _ranges(begin: Ints, end: Ints) -> Ints:
    """begin[0]..end[0], begin[1]..end[1], .. in one array."""
    counts = end - begin
    first: Ints = np.repeat(begin - (np.cumsum(counts) - counts), counts)
    return first + np.arange(int(counts.sum()))


def level_engine(job: Job, progress: Progress | None = None) -> None:
    """Level by level, in windows of some million pulses, a level's instances in threads.

    Errors: :class:`CellError` for a netlist with a loop, which only the heap runs.
    """
    order = [Level.of(job.compiled, which) for which in flow(job.compiled)]
    share = (job.end - job.begun) // 64 or 1
    end = job.begun
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        while end < job.end:
            begun, before = end, job.state.events
            end = min(job.end, end + share)
            _window(job, order, end, threads)
            if job.violations and job.policy == 0:
                return
            rate = (job.state.events - before) / (end - begun)
            share = max(1, min(8 * share, int(WINDOW_EVENTS / rate))) if rate > 0 else 8 * share
            if progress is not None:
                progress((end - job.begun) / (job.end - job.begun))
    if end == job.begun:
        job.leave(*job.waiting(), end)


def flow(compiled: Compiled) -> list[Ints]:
    """Instances by level: each behind all that drive it. Errors: CellError naming an instance of a loop."""
    t = compiled.tables
    count = len(t.instances)
    start = np.repeat(np.arange(count), t.instances["out_end"] - t.instances["out_at"])
    linked = t.outputs["to"] >= 0
    start, end = start[linked], t.inputs["owner"][t.outputs["to"][linked]]
    by_start = np.argsort(start, kind="stable")
    end_sorted = end[by_start]
    at = np.searchsorted(start[by_start], np.arange(count + 1))
    waits = np.bincount(end, minlength=count)
    level: list[Ints] = []
    now = np.flatnonzero(waits == 0)
    while len(now):
        level.append(now.astype(np.int64))
        reached = end_sorted[_ranges(at[now], at[now + 1])]
        waits -= np.bincount(reached, minlength=len(waits))
        candidates = np.unique(reached)
        now = candidates[waits[candidates] == 0]
    if sum(map(len, level)) < count:
        stuck = compiled.instances[int(np.flatnonzero(waits > 0)[0])].name
        raise CellError(f"{stuck}: is in a loop or behind one, which has no levels; run it with engine=heap_engine")
    return level


def _window(job: Job, order: list[Level], end: int, threads: ThreadPoolExecutor) -> None:
    """All pulses before ``end``."""
    inputs = np.arange(len(job.compiled.tables.inputs))
    wait_t, wait_p = job.waiting()
    by_port = np.argsort(wait_p, kind="stable")
    pool, ports = wait_t[by_port], wait_p[by_port]
    train = Trains(pool, np.searchsorted(ports, inputs), np.searchsorted(ports, inputs, side="right"), len(pool))
    for level in order:
        _level(job, train, level, end, threads)
    left = np.repeat(inputs, train.end - train.begin)
    job.leave(train.pool[_ranges(train.begin, train.end)], left, end)


@dataclass
class Trains:
    """``pool[begin[p]:end[p]]``: the pulses that input p has yet to take; ``size`` of the pool is used."""

    pool: Ints
    begin: Ints
    end: Ints
    size: int


def _level(job: Job, train: Trains, level: Level, end: int, threads: ThreadPoolExecutor) -> None:
    """Run the instances of a level; their outputs become the trains of their loads."""
    tb, s, which = job.compiled.tables, job.state.cells(), level.which
    filled, load = np.zeros(len(tb.outputs), np.int64), np.zeros(len(which), np.int64)
    size = levels.reserve(tb, s, which, train.begin, train.end, train.size, filled, load)
    if size > len(train.pool):
        train.pool = np.concatenate([train.pool, np.zeros(size + size // 2 - len(train.pool), np.int64)])
    levels.hand_over(tb, which, train.pool, train.begin, train.end, filled)
    new, old = filled[level.ends], train.begin[level.seen]
    futures = [threads.submit(_part, job, train, part, filled, end) for part in _parts(which, load)]
    for future in futures:
        events, found = future.result()
        job.state.events += events
        job.note(found)
    shown = [(o, train.pool[at : filled[o]]) for o, at in zip(level.ends, new, strict=True)]
    for p, at in zip(level.seen, old, strict=True):
        shown.append((tb.inputs["watch"][p], train.pool[at : train.begin[p]]))
    job.seen += [np.stack([np.full(len(times), o), times], axis=1) for o, times in shown]
    train.end[tb.outputs["to"][level.linked]] = filled[level.linked]
    train.size = size


def _part(job: Job, train: Trains, which: Ints, filled: Ints, end: int) -> tuple[int, Found]:
    found, out = new_found(), np.zeros((MOST_OUT, 2), np.int64)
    events = levels.run_instances(
        job.compiled.tables, job.state.cells(), which, train.pool, train.begin, train.end, filled, end, job.policy,
        np.uint64(job.seed), job.jitter, out, found,
    )  # fmt: skip
    return int(events if events >= 0 else -1 - events), found


def _parts(which: Ints, load: Ints) -> list[Ints]:
    """The instances of a level in as many parts of like load as there are cores; one if that is not worth a thread."""
    cores = os.cpu_count() or 1
    total = int(load.sum())
    if cores == 1 or total < THREAD_PULSES:
        return [which]
    cuts = np.searchsorted(np.cumsum(load), np.arange(1, cores) * (total / cores))
    return [part for part in np.split(which, cuts) if len(part)]
