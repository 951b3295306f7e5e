"""Encoders: values to steps, pure functions ``x (N, ...) -> (N, T, ...)`` float32.

    rate, latency, bernoulli   values in [0, 1]        one line each
    direct                     any values              themselves
    population                 values in a range       a population of lines each
    level_crossing, crossings  signals (N, T, C)       two lines each, rises and falls

All but ``direct`` and ``crossings`` are the first trains of :mod:`neuro.stream`, whose encoders go on where the last
one ended. For speech there is the filter bank of :mod:`neuro.speech`, for events :mod:`neuro.frames`.

Errors, all of them: ``ValueError`` for T below 1, for values that are not finite, and for values out of range.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from neuro import stream
from neuro.tuning import Bells

Values: TypeAlias = npt.ArrayLike
Steps: TypeAlias = npt.NDArray[np.float32]


def rate(x: Values, T: int) -> Steps:
    """Evenly spaced spikes, ``s[t] = 1 where floor(x (t+1)) > floor(x t)``: ``floor(x T)`` spikes, no chance."""
    p = _unit("rate", x, T)
    return _first(stream.Rate(int(T)), p)


def bernoulli(x: Values, T: int, *, seed: int) -> Steps:
    """``s[t] = 1`` with probability x, independent in every step; the same for the same seed."""
    p = _unit("bernoulli", x, T)
    draw = np.random.default_rng(seed).random((p.shape[0], T, *p.shape[1:]))
    return (draw < p[:, None]).astype(np.float32)


def latency(x: Values, T: int) -> Steps:
    """One spike each, ``at t = round((1 - x) (T - 1))``: the larger the earlier; none for x = 0."""
    p = _unit("latency", x, T)
    return _first(stream.Latency(int(T)), p)


def direct(x: Values, T: int) -> Steps:
    """The value itself in every step; the first layer turns it into spikes."""
    values = _finite("direct", x, T)
    out: Steps = np.repeat(values[:, None], T, axis=1).astype(np.float32)
    return out


def population(
    x: Values,
    T: int,
    *,
    low: float = 0.0,
    high: float = 1.0,
    count: int = 12,
    beta: float = 1.5,
    code: Callable[[Values, int], Steps] = latency,
) -> Steps:
    """Gaussian receptive fields, then ``code`` on their answers: ``x (N, n) -> (N, T, n count)``.

    The fields are :class:`neuro.tuning.Bells` over [low, high]; with ``latency`` the nearest field fires first, as in
    Bohte, Kok, La Poutre 2002; with ``rate`` it fires most. Errors: a value outside [low, high].
    """
    values = _finite("population", x, T)
    if values.ndim != 2:
        raise ValueError(f"encode.population: x must be (N, n), got shape {values.shape}")
    if values.size and (values.min() < low or values.max() > high):
        raise ValueError(
            f"encode.population: x must be in [{low:g}, {high:g}], got {values.min():g} to {values.max():g}; give its "
            "low and high"
        )
    n = values.shape[1]
    return code(Bells((low,) * n, (high,) * n, count, beta)(values), T)


def level_crossing(x: Values, delta: float | Sequence[float], *, steps: int = 1, from_first: bool = True) -> Steps:
    """Send on delta: ``x (N, T, C) -> (N, T steps, 2 C)``, all rises, then all falls; one spike a level crossed.

        k[t] = trunc(x[t] / delta - m[t-1]) within +-steps;   m[t] = m[t-1] + k[t]

    ``delta``: one or one a channel; ``steps``: chip steps a sample and so the most levels told of it; what is over is
    told with the next. ``m`` begins at the first sample, or at level 0 with ``from_first=False``. It is
    :class:`neuro.stream.Crossing` over the whole signal.
    """
    told = crossings(x, delta, most=steps, from_first=from_first)
    at = np.arange(steps)[:, None]
    size = np.concatenate([np.maximum(told, 0), np.maximum(-told, 0)], axis=-1)[:, :, None]
    return (at < size).astype(np.float32).reshape(len(told), -1, size.shape[-1])


def crossings(
    x: Values, delta: float | Sequence[float], *, most: int = 2**15 - 1, from_first: bool = True
) -> npt.NDArray[np.int16]:
    """``k[t]`` of :func:`level_crossing`: signed levels crossed in each sample, ``x (N, T, C) -> (N, T, C)``."""
    values = _finite("crossings", x, 1)
    if values.ndim != 3 or not values.size:
        raise ValueError(f"encode.crossings: x must be signals (N, T, C), got shape {values.shape}")
    if not 1 <= most < 2**15:
        raise ValueError(f"encode.crossings: steps must be 1 to {2**15 - 1}, got {most}")
    sizes = np.broadcast_to(np.asarray(delta, np.float64), values.shape[2:])
    if not (np.isfinite(sizes).all() and (sizes > 0).all()):
        raise ValueError(f"encode.crossings: delta must be positive numbers, one or one a channel, got {delta}")
    if from_first:
        values = values - values[:, :1]
    levels = np.ascontiguousarray((values / sizes).transpose(1, 0, 2)).reshape(values.shape[1], -1)
    told = _compiled()(levels, most, stream.SLACK)
    return told.reshape(values.shape[1], values.shape[0], -1).transpose(1, 0, 2)


@functools.cache
def _compiled() -> Callable[..., npt.NDArray[np.int16]]:
    """:func:`_crossed` compiled; numba is imported only where signals are told."""
    from numba import njit

    return njit(cache=True)(_crossed)


def _crossed(levels: npt.NDArray[Any], most: int, slack: float) -> npt.NDArray[np.int16]:
    """Levels crossed, ``(T, lines) -> (T, lines)``: sequential in T, for each sample is compared with what was told."""
    told = np.zeros(levels.shape, np.int16)
    for line in range(levels.shape[1]):
        at = 0
        for t in range(levels.shape[0]):
            apart = levels[t, line] - at
            whole = math.floor(apart + slack) if apart > 0 else math.ceil(apart - slack)
            step = min(max(whole, -most), most)
            told[t, line] = step
            at += step
    return told


def _first(train: stream.Train, p: npt.NDArray[Any]) -> Steps:
    n, shape = len(p), p.shape[1:]
    lines = math.prod(shape)
    spikes, _ = train(train.begin(lines, 0), p.reshape(n, lines))
    return spikes.reshape(n, train.steps, *shape).astype(np.float32)


def _finite(name: str, x: Values, T: int) -> npt.NDArray[Any]:
    values = np.asarray(x, dtype=np.float64)
    if T < 1:
        raise ValueError(f"encode.{name}: T must be at least 1 step, got {T}")
    if values.ndim < 1 or not np.isfinite(values).all():
        raise ValueError(f"encode.{name}: x must be finite and (N, ...), got shape {values.shape}")
    return values


def _unit(name: str, x: Values, T: int) -> npt.NDArray[Any]:
    values = _finite(name, x, T)
    if values.size and (values.min() < 0.0 or values.max() > 1.0):
        raise ValueError(
            f"encode.{name}: x must be in [0, 1], got {values.min():g} to {values.max():g}; scale it first"
        )
    return values
