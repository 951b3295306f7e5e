"""The fast engine: event-driven, compiled, equal to :mod:`sim.loihi.reference` to the last bit.

Without loops in the program each population runs over all steps of a sample at once, after its sources, so that one
weight matrix stays hot; samples share the processor's cores. With loops, and in :func:`step`, it goes chip step by
chip step. Without numba the same plan runs in numpy (:mod:`sim.loihi.fallback`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from export.loihi import InputNode, LoihiProgram
from sim.loihi import plan as plans
from sim.loihi.counting import Activity, checked, finish, message_type, owner, tally, unwrapped
from sim.loihi.plan import Plan
from sim.run import Run

Array = npt.NDArray[Any]
ROWS = 2**17
"""Elements of the input-current buffer of a population (half a MiB, to stay in cache); longer runs go in pieces."""
NO_TRACE = np.zeros((0, 0, 0), np.int32)
_PLANS: WeakKeyDictionary[LoihiProgram, dict[bool | None, Plan]] = WeakKeyDictionary()
_LOCK = Lock()


@dataclass
class State:
    """Before chip step ``t``, per population in the engine's order: ``x (variables, samples, neurons)`` int32.

    ``rings (slots, ports, samples, neurons)``: input current of the steps to come; step t has slot ``t % slots``.
    ``s (samples, neurons)``: messages of the last step.
    """

    plan: Plan
    t: int
    x: dict[str, Array]
    rings: dict[str, Array]
    s: dict[str, Array]
    flags: dict[str, Array]

    def __post_init__(self) -> None:
        """What :func:`_advance` goes through: views, made once."""
        samples = self.s[self.plan.program.output].shape[0]
        self.moves, self.sends = [], []
        for n, p in self.plan.program.populations.items():
            ring, x, s = self.rings[n], self.x[n], self.s[n]
            own = ring.reshape(*ring.shape[:2], 1, s.size), x.reshape(len(x), s.size), s.reshape(1, s.size)
            self.moves.append((p.start, self.plan.fire(n, samples), *own, self.flags[n]))
        for n, parts in self.plan.out_of.items():
            self.sends += [(part, self.s.get(n), self.rings[part.dst]) for part in parts]

    def copy(self) -> State:
        """An independent copy."""
        parts = ({k: a.copy() for k, a in d.items()} for d in (self.x, self.rings, self.s, self.flags))
        return State(self.plan, self.t, *parts)

    def read(self, node: str, variable: str) -> Array:
        """A variable of a population, ``(samples, neurons)`` in C order."""
        k = self.plan.program.populations[node].states.index(variable)
        return self.plan.outward(node, self.x[node][k])


def run(
    program: LoihiProgram,
    x: Array,
    *,
    probes: Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
    threads: int | None = None,
    numba: bool | None = None,
) -> Run:
    """As :func:`sim.loihi.reference.run`, bit for bit. ``threads``: samples at a time (all processors).

    ``numba``: False takes the numpy loops; None takes numba where it is installed.
    """
    plan, x = _plan(program, numba), checked(program, x)
    began = time.perf_counter()
    samples, steps = x.shape[:2]
    activity = Activity.empty(program, samples, steps, probes)
    given = plan.inward(program.input, x.reshape(samples, steps, -1))
    workers = min(samples, threads or _processors()) if plan.compiled else 1
    if program.order is None:  # a loop: chip step by chip step, some samples side by side
        pieces = [range(k, samples, workers) for k in range(workers)]
        one: Callable[..., None] = _stepwise
    else:
        pieces, one = [range(k, k + 1) for k in range(samples)], _layerwise
    done, lock = 0, Lock()

    def work(piece: range) -> None:
        nonlocal done
        one(plan, given, piece, activity)
        with lock:
            done += len(piece)
            if progress is not None:
                progress(done / samples)

    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, pieces))
    else:
        for piece in pieces:
            work(piece)
    _events(plan, given, activity)
    return finish(program, x, activity, probes, "loihi", began)


def step(program: LoihiProgram, state: State | None, x: Array) -> tuple[Array, State]:
    """One chip step: ``(state or None to begin, x (samples, *input)) -> (y (samples, *output), state)``.

    The given state is used up: the one returned holds its arrays (``state.copy()`` keeps one). What x causes leaves
    ``program.latency`` steps later.
    """
    x = checked(program, x[:, None])[:, 0]
    state = begin(_plan(program, None), len(x)) if state is None else state
    _advance(state, state.plan.inward(program.input, x.reshape(len(x), -1)))
    if program.law == "hw":
        unwrapped(state.flags)
    y = state.plan.outward(program.output, state.s[program.output])
    return y.reshape(len(x), *program.output_shape).copy(), state


def begin(plan: Plan, samples: int) -> State:
    """The state before the first chip step."""
    program = plan.program
    size = {n: program.size(n) for n in program.populations}
    slots = {n: 1 + max((e.delay for e in plan.into[n]), default=0) for n in size}
    return State(
        plan,
        0,
        {n: np.ascontiguousarray(np.repeat(plan.x0[n][:, None], samples, axis=1)) for n in size},
        {n: np.zeros((slots[n], plan.ports[n], samples, k), np.int32) for n, k in size.items()},
        {n: np.zeros((samples, k), message_type(program, n)) for n, k in size.items()},
        {n: np.zeros(3, np.int64) for n in size},
    )


def _advance(state: State, x: Array) -> None:
    """One chip step in place, ``x (samples, inputs)`` in the engine's order."""
    t = state.t
    for start, fire, ring, own, s, flags in state.moves:
        slot = ring[t % len(ring)]
        if t >= start:
            fire(t, slot, own, s, NO_TRACE, flags)
        slot.fill(0)
    for part, sent, ring in state.sends:
        part.ahead(x if sent is None else sent, ring, t)
    state.t += 1


def _stepwise(plan: Plan, given: Array, piece: range, activity: Activity) -> None:
    """Some samples of a program with loops, side by side."""
    program, steps, which = plan.program, given.shape[1], slice(piece.start, piece.stop, piece.step)
    x = given[which].transpose(1, 0, 2).copy()
    state, quiet = begin(plan, len(piece)), np.zeros_like(x[0])
    last = max(p.start for p in program.populations.values())
    kept = [(np.empty((steps + last, *a.shape), a.dtype), a) for a in state.s.values()]
    asked = [k for k in activity.traces if k[-2:] != ".s"]
    traced = {k: np.empty((steps + last, len(piece), program.size(owner(k))), np.int32) for k in asked}
    for t in range(steps + last):
        outside = (
            [] if last <= t < steps else [n for n, p in program.populations.items() if not 0 <= t - p.start < steps]
        )
        before = {n: state.flags[n].copy() for n in outside}
        _advance(state, x[t] if t < steps else quiet)
        for n in outside:
            state.flags[n][:] = before[n]
        for raster, s in kept:
            raster[t] = s
        for k, trace in traced.items():
            trace[t] = state.read(owner(k), k.rpartition(".")[2])
    for (n, p), (raster, _) in zip(program.populations.items(), kept, strict=True):
        activity.spikes[n][which] = plan.outward(n, raster[p.start : p.start + steps]).transpose(1, 0, 2)
    for k, trace in traced.items():
        first = program.nodes[owner(k)].start
        activity.traces[k][which] = trace[first : first + steps].transpose(1, 0, 2)
    with _LOCK:
        for n, flags in state.flags.items():
            activity.add(n, *(int(f) for f in flags))


def _layerwise(plan: Plan, given: Array, piece: range, activity: Activity) -> None:
    """One sample of a program without loops, population after population."""
    k, program, steps = piece.start, plan.program, given.shape[1]
    x = given[k]
    spikes = {program.input: x}
    for name in program.order or ():
        node = program.nodes[name]
        if isinstance(node, InputNode):
            continue
        n, ports, own, fire = program.size(name), plan.ports[name], plan.x0[name].copy(), plan.fire(name)
        s, flags = np.empty((steps, n), message_type(program, name)), np.zeros(3, np.int64)
        asked = [i for i, v in enumerate(node.states) if f"{name}.{v}" in activity.traces]
        traces = np.empty((len(node.states), steps if asked else 0, n), np.int32)
        rows = max(1, min(steps, ROWS // n))
        buffer = np.empty((ports, rows, n), np.int32)
        for first in range(0, steps, rows):
            a = buffer[:, : min(rows, steps - first)]
            a.fill(0)
            for e in plan.into[name]:
                e.add(spikes[e.src], first, a[e.port])
            part = slice(first, first + a.shape[1])
            fire(node.start + first, a, own, s[part], traces[:, part], flags)
        spikes[name] = s
        activity.spikes[name][k] = plan.outward(name, s)
        for i in asked:
            activity.traces[f"{name}.{node.states[i]}"][k] = plan.outward(name, traces[i])
        with _LOCK:
            activity.add(name, *(int(f) for f in flags))


def _events(plan: Plan, given: Array, activity: Activity) -> None:
    """Synaptic events: spikes times the non-zero synapses that they visit."""
    program = plan.program
    each = {n: tally(s) for n, s in activity.spikes.items()}
    each[program.input] = plan.outward(program.input, tally(given))
    for e, fan in zip(program.edges, program.fan_out, strict=True):
        activity.events[e.dst] += int(each[e.src] @ fan)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plan(program: LoihiProgram, numba: bool | None) -> Plan:
    with _LOCK:
        kept = _PLANS.setdefault(program, {})
        if numba not in kept:
            kept[numba] = plans.make(program, numba)
        return kept[numba]
