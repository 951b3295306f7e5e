"""Some samples through a program, population after population; loops chip step by chip step, samples side by side.

A population without a loop runs over all its steps at once, so that one weight matrix stays hot. What enters a loop
from outside is summed ahead for a while; inside, each chip step fires every population that is within its own steps
and sends what it fired. A message of an own step never counts in an earlier own step of its target, so that a
population is done with its last one.
"""

from __future__ import annotations

from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from export.loihi import Population
from sim.loihi.counting import Activity, message_type
from sim.loihi.parts import Part
from sim.loihi.plan import Plan

Array = npt.NDArray[Any]
ROWS = 2**17
"""Elements of the input-current buffer of a population (half a MiB, to stay in cache); longer runs go in pieces."""
NO_TRACE = np.zeros((0, 0, 0), np.int32)
_LOCK = Lock()


def run(plan: Plan, given: Array, piece: range, activity: Activity) -> None:
    """``given (samples, T, inputs)`` in the engine's order; ``piece``: which samples. Fills ``activity``."""
    program = plan.program
    spikes = {program.input: given[piece.start : piece.stop : piece.step]}
    for names in program.components:
        if names[0] == program.input:
            continue
        if program.looped(names):
            _loop(plan, names, spikes, piece, activity)
        else:
            _single(plan, names[0], spikes, piece, activity)


def at_rest(plan: Plan, name: str, samples: int, parts: list[Part]) -> tuple[Array, Array]:
    """Variables ``(variables, samples, neurons)`` and, for the steps to come of ``parts``, the ring of their input.

    ``ring (slots, ports, samples, neurons)``: chip step t has slot ``t % slots``.
    """
    slots, n = 1 + max((e.delay for e in parts), default=0), plan.program.size(name)
    x = np.ascontiguousarray(np.repeat(plan.x0[name][:, None], samples, axis=1))
    return x, np.zeros((slots, plan.ports[name], samples, n), np.int32)


def _single(plan: Plan, name: str, spikes: dict[str, Array], piece: range, activity: Activity) -> None:
    """A population whose messages do not come back to it."""
    node, n, ports = plan.program.populations[name], plan.program.size(name), plan.ports[name]
    steps, fire, flags = spikes[plan.program.input].shape[1], plan.fire(name), np.zeros(3, np.int64)
    spikes[name] = np.empty((len(piece), steps, n), message_type(plan.program, name))
    asked = _asked(name, node, activity)
    rows = max(1, min(steps, ROWS // n))
    buffer = np.empty((ports, rows, n), np.int32)
    for k, sample in enumerate(piece):
        own, s = plan.x0[name].copy(), spikes[name][k]
        traces = np.empty((len(node.states), steps if asked else 0, n), np.int32)
        for first in range(0, steps, rows):
            a = buffer[:, : min(rows, steps - first)]
            a.fill(0)
            for e in plan.into[name]:
                e.add(spikes[e.src][k], first, a[e.port])
            part = slice(first, first + a.shape[1])
            fire(node.start + first, a, own, s[part], traces[:, part], flags)
        activity.spikes[name][sample] = plan.outward(name, s)
        for i in asked:
            activity.traces[f"{name}.{node.states[i]}"][sample] = plan.outward(name, traces[i])
    with _LOCK:
        activity.add(name, *(int(f) for f in flags))


class _Member:
    """A population of a loop while it runs: all samples side by side."""

    def __init__(self, plan: Plan, name: str, inside: tuple[str, ...], samples: int, steps: int, traced: bool) -> None:
        n, ports = plan.program.size(name), plan.ports[name]
        self.node, self.steps, self.size = plan.program.populations[name], steps, n
        self.fire, self.flags = plan.fire(name, samples), np.zeros(3, np.int64)
        self.x, self.ring = at_rest(plan, name, samples, [e for e in plan.into[name] if e.src in inside])
        self.flat = self.x.reshape(len(self.x), samples * n)
        self.outer = [e for e in plan.into[name] if e.src not in inside]
        self.inner = [e for e in plan.out_of[name] if e.dst in inside]
        self.raster = np.empty((steps, samples, n), message_type(plan.program, name))
        self.traces = np.empty((len(self.x), steps if traced else 0, samples, n), np.int32)
        self.rows = max(1, min(steps, 8 * ROWS // (samples * n * ports)))
        self.drive = np.empty((samples, ports, self.rows, n), np.int32)

    def now(self, k: int, spikes: dict[str, Array]) -> Array:
        """What arrives from outside in own step ``k``, ``(ports, samples, neurons)``; summed some steps ahead."""
        row = k % self.rows
        if row == 0:
            part = self.drive[:, :, : min(self.rows, self.steps - k)]
            part.fill(0)
            for e in self.outer:
                for sample in range(len(part)):
                    e.add(spikes[e.src][sample], k, part[sample, e.port])
        return self.drive[:, :, row].transpose(1, 0, 2)

    def step(self, t: int, k: int, spikes: dict[str, Array]) -> None:
        """Chip step ``t``, its own step ``k``."""
        slot = self.ring[t % len(self.ring)]
        if self.outer:
            slot += self.now(k, spikes)
        into, s = slot.reshape(len(slot), 1, self.flat.shape[1]), self.raster[k].reshape(1, self.flat.shape[1])
        self.fire(t, into, self.flat, s, NO_TRACE, self.flags)
        slot.fill(0)
        if self.traces.shape[1]:
            self.traces[:, k] = self.x


def _loop(plan: Plan, names: tuple[str, ...], spikes: dict[str, Array], piece: range, activity: Activity) -> None:
    """Populations that feed each other."""
    samples, steps = len(piece), spikes[plan.program.input].shape[1]
    asked = {n: _asked(n, plan.program.populations[n], activity) for n in names}
    made = {n: _Member(plan, n, names, samples, steps, bool(asked[n])) for n in names}
    starts = [m.node.start for m in made.values()]
    for t in range(min(starts), max(starts) + steps):
        going = [(m, t - m.node.start) for m in made.values() if 0 <= t - m.node.start < steps]
        for m, k in going:
            m.step(t, k, spikes)
        for m, k in going:
            for e in m.inner:
                e.ahead(m.raster[k], made[e.dst].ring, t)
    which = slice(piece.start, piece.stop, piece.step)
    for n, m in made.items():
        spikes[n] = np.ascontiguousarray(m.raster.transpose(1, 0, 2))
        activity.spikes[n][which] = plan.outward(n, spikes[n])
        for i in asked[n]:
            activity.traces[f"{n}.{m.node.states[i]}"][which] = plan.outward(n, m.traces[i]).transpose(1, 0, 2)
        with _LOCK:
            activity.add(n, *(int(f) for f in m.flags))


def _asked(name: str, node: Population, activity: Activity) -> list[int]:
    """Which variables of a population are traced."""
    return [i for i, v in enumerate(node.states) if f"{name}.{v}" in activity.traces]
