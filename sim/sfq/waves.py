"""Shapes that come of samples: a wave file's (``CUS``) and random ones (``NOISE``). Times in s.

Source of the formulas: JoSIM Function.cpp; docs/sfq.md 1.7, 1.9.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Custom:
    """``scale`` times the samples of a wave file, one each ``interval``, from ``delay`` on; 0 before and behind.

    ``mode`` 0 holds each sample, 1 goes to sample i during its interval from the one before (from 0 at first), so a
    straight line is one interval late, 2 is a natural cubic spline through the samples, extended over the last
    interval. ``periodic`` repeats. A mode is JoSIM's, its lateness included; an interval below the step is the step.
    """

    file: str
    samples: tuple[float, ...]
    interval: float
    scale: float = 1.0
    mode: int = 1
    delay: float = 0.0
    periodic: bool = False

    def sample(self, t: Array, h: float, t_stop: float) -> Array:
        """The samples, interpolated."""
        del t_stop
        step = max(self.interval, h)
        y = self.scale * np.array(self.samples)
        region = len(y) * step
        at = t - self.delay
        if self.periodic:
            at = at - np.floor(t / region) * region
        inside = (t >= self.delay) & (at <= region)
        i = np.clip((np.where(inside, at, 0.0) / step).astype(np.int64), 0, len(y) - 1)
        if self.mode == 0:
            value = y[i]
        elif self.mode == 1:
            before = np.concatenate([[0.0], y[:-1]])
            value = before[i] + (y[i] - before[i]) * (at / step - i)
        else:
            value = _spline(y, step, at, self.delay)
        return np.where(inside, value, 0.0)

    def bias(self) -> float:
        """A signal."""
        return 0.0


def _spline(y: Array, step: float, at: Array, delay: float) -> Array:
    """The natural cubic spline whose knots are at ``delay + k step``, at ``at``: JoSIM counts the delay twice."""
    from scipy.interpolate import CubicSpline

    knots = delay + step * np.arange(len(y))
    spline = CubicSpline(knots, y, bc_type="natural")
    past = np.maximum(at - knots[-1], 0.0)
    slope = float(spline(knots[-1], 1))
    value: Array = spline(np.clip(at, knots[0], knots[-1])) + slope * past
    before = np.minimum(at - knots[0], 0.0)
    return value + float(spline(knots[0], 1)) * before


@dataclass(frozen=True)
class Noise:
    """Straight lines between Gaussian values of deviation ``amplitude / sqrt(2 interval)``, ``interval`` apart.

    0 until ``delay``, from where the first interval leads from 0 to its value; an interval below the step is the step.
    The numbers come from a counter-based
    generator keyed by ``key``: the deck's seed and the source's name, so they depend on nothing else.
    """

    amplitude: float
    delay: float = 0.0
    interval: float | None = None
    key: int = 0

    def sample(self, t: Array, h: float, t_stop: float) -> Array:
        """The noise at the times."""
        del t_stop
        step = h if self.interval is None else max(self.interval, h)
        since = np.maximum(t - self.delay, 0.0) / step
        i = np.floor(since + 1e-9).astype(np.int64)
        first, last = (int(i.min()), int(i.max())) if len(i) else (0, 0)
        values = np.array([_normal_block(self.key, b) for b in range(first // BLOCK, (last + 1) // BLOCK + 1)]).ravel()
        values *= self.amplitude / np.sqrt(2.0 * step)
        if first < BLOCK:
            values[0] = 0.0
        y1, y2 = (values[i - (first // BLOCK) * BLOCK + k] for k in (0, 1))
        return np.where(t < self.delay, 0.0, y1 + (y2 - y1) * (since - i))

    def bias(self) -> float:
        """A signal."""
        return 0.0

    def named(self, name: str, seed: int | None) -> Noise:
        """The noise of the source ``name`` in a deck with this ``.option seed=``."""
        text = f"{0 if seed is None else seed}/{name}".encode()
        return Noise(self.amplitude, self.delay, self.interval, int.from_bytes(hashlib.sha256(text).digest()[:16]))


BLOCK = 4096
"""Numbers that one state of the generator gives."""


def _normal_block(key: int, block: int) -> Array:
    generator = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, block]))
    return generator.standard_normal(BLOCK)
