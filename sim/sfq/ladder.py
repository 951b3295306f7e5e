"""A run of one corner that goes down to half its step where a junction moves too far in one, and back up.

Between two steps the past is a cubic through the last four phases of each place (a parabola through the last three
junction voltages), so that a step of half the size finds what BDF2 needs; going up, it is read off every second step.
Nothing is run twice. Rows are recorded at the run's own steps only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sim.sfq.circuit import Circuit, Floats
from sim.sfq.errors import NOWHERE, DeckError
from sim.sfq.layout import Layout
from sim.sfq.state import FIT, STEP_TOO_LARGE, Advance, Drive, Engine, Events, Options, State, Watch
from sim.sfq.system import System, build

MAX_HALVINGS = 12
BLOCK_STEPS = 64
"""Steps that are made at half size once the guard has asked; doubled each time it asks again at once."""

Drives = Callable[[float, int, int], Drive]
"""``(h, first, steps)`` to the values of the sources at times ``i h``."""


class Ladder:
    """Steps a run at ``h`` with levels of ``h/2``, ``h/4`` .. below it, made as they are needed."""

    def __init__(
        self, circuit: Circuit, layout: Layout, system: System, state: State, engine: Engine, watch: Watch,
        options: Options, drives: Drives, events: Events, flush: Callable[[], None],
    ) -> None:  # fmt: skip
        self.circuit, self.layout, self.engine, self.watch, self.options = circuit, layout, engine, watch, options
        self.drives, self.events, self.flush = drives, events, flush
        self.systems: list[System] = [system]
        self.advances: list[Advance] = [engine(system, layout, watch, options)]
        self.states: list[State] = [state]
        self.again = [BLOCK_STEPS]
        self.last_end = [-(10**18)]
        self.guard_from = -1.0
        self.finest = 0

    def steps(self, first: int, count: int, level: int = 0, stop_at_guard: bool = False) -> tuple[Floats, int]:
        """Rows (count, width) of the steps ``first`` .. at this level; fewer if the guard is to stop the run."""
        rows = np.zeros((count, self.watch.width, 1))
        done = 0
        drive = self.drives(self.systems[level].h, first, count)
        while done < count:
            left = Drive(np.ascontiguousarray(drive.waves[:, done:]), drive.own[done:]) if done else drive
            guard = self.guard_from if level == 0 else -1.0
            moved, status = self.advances[level](
                self.states[level], left, first + done, guard, rows[done:], self.events
            )
            done += moved
            if status == STEP_TOO_LARGE:
                if stop_at_guard:
                    return rows[:done], STEP_TOO_LARGE
                span = self.span(level, first + done, count - done)
                rows[done : done + span] = self.halved(level, first + done, span)
                done += span
            elif status:
                raise DeckError(
                    NOWHERE, "transient", "the matrix is not positive definite", "look for values out of range"
                )
            elif done < count:
                self.flush()
        return rows, 0

    def span(self, level: int, at: int, most: int) -> int:
        """How many steps to make at half size."""
        close = at - self.last_end[level] < BLOCK_STEPS
        self.again[level] = min(2 * self.again[level], 1 << 16) if close else BLOCK_STEPS
        span = min(self.again[level], most)
        self.last_end[level] = at + span
        return span

    def halved(self, level: int, first: int, count: int) -> Floats:
        """``count`` steps of this level, made as twice as many of the next."""
        self.descend(level)
        coarse = self.states[level]
        self.states[level + 1] = refine(coarse, self.systems[level], self.systems[level + 1], first)
        bulk = max(0, count - FIT)
        rows = [self.steps(2 * first - 1, 2 * bulk, level + 1)[0][1::2]] if bulk else []
        phases, volts, sources = list(coarse.f[::-1]), list(coarse.jv[::-1]), list(coarse.source[::-1])
        for k in range(bulk, count):
            rows.append(self.steps(2 * (first + k) - 1, 2, level + 1)[0][1::2])
            fine = self.states[level + 1]
            phases.append(fine.f[0].copy())
            volts.append(fine.jv[0].copy())
            sources.append(fine.source[0].copy())
        if bulk:
            phases, volts, sources = phases[-FIT:], volts[-FIT:], sources[-FIT:]
        self.states[level] = coarsen(
            self.states[level + 1], np.array(phases[-FIT:])[::-1], np.array(volts[-3:])[::-1],
            np.array(sources[-FIT:])[::-1], self.systems[level], self.systems[level + 1], first + count - 1,
        )  # fmt: skip
        return np.concatenate(rows)

    def descend(self, level: int) -> None:
        """Make the next level if it is not there."""
        self.finest = max(self.finest, level + 1)
        if level + 1 < len(self.systems):
            return
        h = self.systems[level].h / 2
        if level + 1 > MAX_HALVINGS:
            raise DeckError(
                self.circuit.where.get(self.circuit.junctions.names[0], NOWHERE),
                "transient",
                f"a junction's phase still jumps at a step of {2 * h:g} s",
                "look for a junction without shunt or with a wrong unit in its capacitance",
            )
        system, _ = build(self.circuit, h, layout=self.layout)
        self.systems.append(system)
        self.advances.append(self.engine(system, self.layout, self.watch, self.options))
        self.states.append(self.states[level])
        self.again.append(BLOCK_STEPS)
        self.last_end.append(-(10**18))


def refine(state: State, coarse: System, fine: System, first: int) -> State:
    """The state at half the step; the next step of the coarse level would be ``first``."""
    f, v, s = state.f, state.jv, state.source
    tw = np.zeros((fine.depth, *state.tw.shape[1:]))
    last = first - 1
    for back in range(min(fine.depth, 2 * (coarse.depth - 1))):
        fine_step = 2 * last - back
        near, far = fine_step // 2, (fine_step + 1) // 2
        tw[fine_step % fine.depth] = 0.5 * (state.tw[near % coarse.depth] + state.tw[far % coarse.depth])
    return replace(
        state, f=_between(f), jv=np.stack([v[0], 0.375 * v[0] + 0.75 * v[1] - 0.125 * v[2], v[1]]),
        source=_between(s), tw=tw,
    )  # fmt: skip


def _between(f: Floats) -> Floats:
    """Values at 0, -1/2, -1, -3/2 of those at 0, -1, -2, -3, by the cubic through them."""
    half = (5.0 * f[0] + 15.0 * f[1] - 5.0 * f[2] + f[3]) / 16.0
    more = (-f[0] + 9.0 * f[1] + 9.0 * f[2] - f[3]) / 16.0
    return np.stack([f[0], half, f[1], more])


def coarsen(state: State, f: Floats, jv: Floats, source: Floats, coarse: System, fine: System, last: int) -> State:
    """The state at twice the step after its step ``last``; ``f``, ``jv``, ``source`` at its own steps, newest first."""
    tw = np.zeros((coarse.depth, *state.tw.shape[1:]))
    for back in range(coarse.depth):
        if 2 * back < fine.depth:
            tw[(last - back) % coarse.depth] = state.tw[(2 * (last - back)) % fine.depth]
    parts = {"f": f, "jv": jv, "source": source, "tw": tw}
    return replace(state, **{k: np.ascontiguousarray(v) for k, v in parts.items()})
