"""Encoders: values in [0, 1] to steps, pure functions ``x (N, ...) -> (N, T, ...)`` float32.

Errors, all of them: ``ValueError`` for T below 1 and, but for ``direct``, for values outside [0, 1].
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Values: TypeAlias = npt.ArrayLike
Steps: TypeAlias = npt.NDArray[np.float32]


def rate(x: Values, T: int) -> Steps:
    """Evenly spaced spikes, ``s[t] = 1 where floor(x (t+1)) > floor(x t)``: ``floor(x T)`` spikes, no chance.

    Products are rounded to 1e-9 first, so that the spike count of ``k / T`` is k whatever its binary form.
    """
    p = _unit("rate", x, T)
    edges = np.arange(T + 1).reshape(1, T + 1, *[1] * (p.ndim - 1))
    filled = np.floor(np.round(p[:, None] * edges, 9))
    return (np.diff(filled, axis=1) > 0).astype(np.float32)


def bernoulli(x: Values, T: int, *, seed: int) -> Steps:
    """``s[t] = 1`` with probability x, independent in every step; the same for the same seed."""
    p = _unit("bernoulli", x, T)
    draw = np.random.default_rng(seed).random((p.shape[0], T, *p.shape[1:]))
    return (draw < p[:, None]).astype(np.float32)


def latency(x: Values, T: int) -> Steps:
    """One spike each, ``at t = round((1 - x) (T - 1))``: the larger the earlier; none for x = 0."""
    p = _unit("latency", x, T)
    when = np.where(p > 0, np.rint((1.0 - p) * (T - 1)), T)
    steps = np.arange(T).reshape(1, T, *[1] * (p.ndim - 1))
    out: Steps = (steps == when[:, None]).astype(np.float32)
    return out


def direct(x: Values, T: int) -> Steps:
    """The value itself in every step; the first layer turns it into spikes."""
    values = _finite("direct", x, T)
    out: Steps = np.repeat(values[:, None], T, axis=1).astype(np.float32)
    return out


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
