"""What each environment step costs the modelled chip: counts, seconds and joules, a block of steps at a time.

The spikes of every population are kept for a block and reduced to integers of each environment step:

    counts[event][node] = sum over the chip steps of spikes times what one spike does
    seconds             = sum over the chip steps of T_step          (:mod:`sim.loihi.timing`)
    joules              = sum over events of counts x price

The reduction happens between environment steps, not inside the time that is reported for one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from export.loihi import LoihiProgram
from hardware.energy import Bill, price
from sim.loihi.steps import per_spike
from sim.loihi.timing import step_seconds, timing_of
from sim.loop.steppers import Stepper
from sim.run import Counts

Array = npt.NDArray[Any]
BLOCK_BYTES = 2**23


class Meter:
    """Counts for ``program``, ``rows`` chip steps an environment step."""

    def __init__(self, program: LoihiProgram, rows: int) -> None:
        self.program, self.rows = program, rows
        per_step = sum(program.size(n) for n in program.nodes) * rows
        self.block = max(1, min(256, BLOCK_BYTES // per_step))
        self._rasters = {n: np.zeros((self.block * rows, program.size(n)), np.bool_) for n in program.nodes}
        self._at = np.zeros(self.block, np.int64)
        self._active = {n: np.zeros(self.block, np.int64) for n in program.populations}
        self._fill = 0
        self._each = _columns(program)
        self._table: dict[tuple[str, str, str], list[Array]] = {}
        self._seconds: list[Array] = []
        self._timing = timing_of(program)
        self._before: dict[str, int] = {}

    def begin(self, active: dict[str, int] | None = None) -> None:
        """The chip is at rest again, or restored to where its active updates stand so."""
        self._before = dict(active or {})

    def watch(self, stepper: Stepper, k: int) -> bool:
        """Chip step ``k`` of the environment step; False where the chip does not show its spikes."""
        return stepper.watch(self._rasters, self._fill * self.rows + k)

    def add(self, x: Array, at: int, stepper: Stepper) -> None:
        """The environment step is over: its input ``x (rows, inputs)``, and the chip step ``at`` it began with."""
        self._rasters[self.program.input][self._fill * self.rows : (self._fill + 1) * self.rows] = x
        self._at[self._fill] = at
        active = stepper.active()
        for n, kept in self._active.items():
            kept[self._fill] = active[n] - self._before.get(n, 0)
        self._before = active
        self._fill += 1
        if self._fill == self.block:
            self.flush()

    def flush(self) -> None:
        """Reduce what is waiting to counts."""
        n = self._fill
        if not n:
            return
        rasters = {name: r[: n * self.rows] for name, r in self._rasters.items()}
        for name, (keys, each) in self._each.items():
            spikes = rasters[name].reshape(n, self.rows, -1).sum(axis=1, dtype=np.int32)
            for key, column in zip(keys, (spikes.astype(np.float64) @ each).astype(np.int64).T, strict=True):
                self._put((*key, name), column)
        for name, node in self.program.populations.items():
            on = np.clip(self._at[:n] + self.rows - node.start, 0, self.rows) * self.program.size(name)
            active = self._active[name][:n].copy()
            self._put(("neuron_updates", name, name), on)
            self._put(("neuron_updates_active", name, name), active)
            self._put(("neuron_updates_inactive", name, name), on - active)
        if self._timing is not None:
            each_step = step_seconds(self.program, rasters, self._timing)
            self._seconds.append(each_step.reshape(n, self.rows).sum(axis=1))
        self._fill = 0

    def _put(self, key: tuple[str, str, str], column: Array) -> None:
        self._table.setdefault(key, []).append(column)

    def counts(self) -> Counts:
        """Totals over all environment steps, as a run has them."""
        self.flush()
        out: Counts = {}
        for (event, node, _), columns in self._table.items():
            by = out.setdefault(event, {})
            by[node] = by.get(node, 0) + sum(int(c.sum()) for c in columns)
        return out

    def seconds(self) -> Array | None:
        """Modelled time of each environment step; None where the profile has no timing."""
        self.flush()
        if self._timing is None:
            return None
        return np.concatenate(self._seconds) if self._seconds else np.zeros(0)

    def joules(self, bill: Bill) -> Array | None:
        """Energy of each environment step at the typical prices of ``bill``; None where it has no total."""
        self.flush()
        if bill.total_J is None:
            return None
        each = {t.event: t.price_J.typical for t in bill.terms}
        parts = [np.concatenate(c) * each[event] for (event, _, _), c in self._table.items() if event in each]
        return np.sum(parts, axis=0) if parts else None

    def bill(self, table: str) -> Bill:
        """The bill of all environment steps."""
        seconds = self.seconds()
        return price(self.counts(), table, None if seconds is None else float(seconds.sum()))


def _columns(program: LoihiProgram) -> dict[str, tuple[list[tuple[str, str]], Array]]:
    """What a spike of each neuron of a node counts as: ``((event, node), ...)`` and ``(neurons, events)``."""
    found: dict[str, dict[tuple[str, str], Any]] = {n: {} for n in program.nodes}
    for e in per_spike(program):
        mine = found[e.source]
        mine[e.event, e.node] = mine.get((e.event, e.node), 0) + e.counts
    return {n: (list(f), np.stack([np.asarray(v, np.float64) for v in f.values()], axis=1)) for n, f in found.items()}
