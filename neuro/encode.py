"""Encoders: values in [0, 1] to steps, pure functions ``x (N, ...) -> (N, T, ...)`` float32.

``rate`` and ``latency`` are the first trains of :mod:`neuro.stream`, whose encoders go on where the last one ended.

Errors, all of them: ``ValueError`` for T below 1 and, but for ``direct``, for values outside [0, 1].
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from neuro import stream

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
