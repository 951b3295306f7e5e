"""The fast engine: event-driven, compiled, equal to :mod:`sim.loihi.reference` to the last bit.

A run goes through the program population after population (:mod:`sim.loihi.flow`), samples sharing the processor's
cores; :func:`step` goes chip step by chip step with the state in hand. Without numba the same plan runs in numpy
(:mod:`sim.loihi.fallback`).
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

from export.loihi import LoihiProgram
from sim.loihi import flow
from sim.loihi import plan as plans
from sim.loihi.counting import Activity, checked, finish, message_type, unwrapped
from sim.loihi.plan import Plan
from sim.run import Run

Array = npt.NDArray[Any]
_PLANS: WeakKeyDictionary[LoihiProgram, dict[bool | None, Plan]] = WeakKeyDictionary()
_LOCK = Lock()
WIDE = 2**14
"""Neurons times samples of a chip step below which a thread of its own loses more than it wins (784-n-n, measured)."""


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
    if program.loops:  # they take samples side by side
        widest = max(program.size(n) for n in program.populations)
        workers = max(1, min(workers, samples * widest // WIDE))
        pieces = [range(k, samples, workers) for k in range(workers)]
    else:
        pieces = [range(k, k + 1) for k in range(samples)]
    done, lock = 0, Lock()

    def work(piece: range) -> None:
        nonlocal done
        flow.run(plan, given, piece, activity)
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
    made = {n: flow.at_rest(plan, n, samples, plan.into[n]) for n in program.populations}
    return State(
        plan,
        0,
        {n: x for n, (x, _) in made.items()},
        {n: ring for n, (_, ring) in made.items()},
        {n: np.zeros((samples, program.size(n)), message_type(program, n)) for n in made},
        {n: np.zeros(3, np.int64) for n in made},
    )


def _advance(state: State, x: Array) -> None:
    """One chip step in place, ``x (samples, inputs)`` in the engine's order."""
    t = state.t
    for start, fire, ring, own, s, flags in state.moves:
        slot = ring[t % len(ring)]
        if t >= start:
            fire(t, slot, own, s, flow.NO_TRACE, flags)
        slot.fill(0)
    for part, sent, ring in state.sends:
        part.ahead(x if sent is None else sent, ring, t)
    state.t += 1


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plan(program: LoihiProgram, numba: bool | None) -> Plan:
    with _LOCK:
        kept = _PLANS.setdefault(program, {})
        if numba not in kept:
            kept[numba] = plans.make(program, numba)
        return kept[numba]
