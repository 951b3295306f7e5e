"""Which steps of a run are printed: print start and step, and JoSIM's filter before decimation.

    kept: for each print time ``start + k step`` the first step at or after it
    filter (fifth value of ``.tran``, a window w in s): y_j = sum_k g_k x_(j + m - k),  m = floor(w / 2h),
    g_k = (1 - cos(2 pi (k + 1/2)/(2m + 1))) / sum g,  k = 0..2m;  steps outside the run count as its first or last

The window looks w/2 ahead: a filtered value is known only that much later. Source: JoSIM Output.cpp; docs/sfq.md 1.9.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sim.sfq.circuit import Floats
from sim.sfq.deck import Tran

BLOCK = 1 << 20
"""Values of one filter product at a time: bounds memory where a long window meets a short print step."""


def hann(window_s: float, stop_s: float, h: float) -> Floats:
    """The filter's weights, an odd number of them with sum 1; ``[1.]`` for no window, the run's length at most."""
    half = int(0.5 * min(window_s, stop_s) / h) if window_s > 0.0 else 0
    k = np.arange(2 * half + 1) + 0.5
    weights = 1.0 - np.cos(k * (2.0 * np.pi / (2 * half + 1)))
    out: Floats = weights / weights.sum()
    return out


class Printer:
    """Takes chunks of steps in order and keeps the printed ones. Source: the module's equations."""

    def __init__(self, tran: Tran, h: float) -> None:
        """``h`` is the step really used, in s."""
        self.start, self.step, self.h = tran.print_start_s, max(tran.print_step_s, h), h
        self.weights = hann(tran.window_s, tran.stop_s, h)
        self.half = len(self.weights) // 2
        self.tail: Floats | None = None
        self.waiting: list[Floats] = []
        self.times: list[Floats] = []
        self.kept: list[Floats] = []

    def printed(self, t: Floats) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Which of these times are printed: for each print time, the first step at or after it."""
        slot = np.floor((t - self.start) / self.step + 1e-6)
        before = np.floor((t - self.h - self.start) / self.step + 1e-6)
        return (slot >= 0) & ((slot > before) | (before < 0))

    def take(self, times: Floats, table: Floats) -> None:
        """The next steps: ``times`` (steps,) in s and ``table`` (columns, steps)."""
        if not len(times):
            return
        if not self.half:
            keep = self.printed(times)
            self.times.append(times[keep])
            self.kept.append(table[:, keep])
            return
        if self.tail is None:
            self.tail = np.repeat(table[:, :1], self.half, axis=1)
        self.waiting.append(times)
        self._filter(np.concatenate([self.tail, table], axis=1))

    def _filter(self, data: Floats) -> None:
        """Filter all steps of ``data`` that have a full window, and keep the rest for later."""
        ready = data.shape[1] - 2 * self.half
        times = np.concatenate(self.waiting)
        self.tail, self.waiting = data, [times]
        if ready <= 0:
            return
        keep = np.flatnonzero(self.printed(times[:ready]))
        windows = sliding_window_view(data, len(self.weights), axis=1)
        block = max(1, BLOCK // (len(self.weights) * max(len(data), 1)))
        for at in range(0, len(keep), block):
            self.kept.append(windows[:, keep[at : at + block]] @ self.weights)
        self.times.append(times[keep])
        self.tail, self.waiting = data[:, ready:].copy(), [times[ready:]]

    def result(self) -> tuple[Floats, Floats]:
        """All that is printed: times (rows,) and values (columns, rows). Ends the run: take no more after it."""
        if self.tail is not None and self.half:
            self._filter(np.concatenate([self.tail, np.repeat(self.tail[:, -1:], self.half, axis=1)], axis=1))
            self.half = 0
        if not self.times:
            return np.zeros(0), np.zeros((0, 0))
        return np.concatenate(self.times), np.concatenate(self.kept, axis=1)
