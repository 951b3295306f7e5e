"""A first-order plant that should follow a signal, and the controllers it is usually given.

    y[t + 1] = y[t] + (1 - exp(-dt / tau)) (u[t] - y[t])         tau y' = -y + u, u held for a step; exact

    P          u = kp e,                 e = r - y
    PI         u = kp e + ki sum(e) dt
    teacher    u = r + kp e              P with the reference fed forward: no error at rest

``u`` is held within +-U_MAX for all of them. The gains are a choice of this example, not of a source.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
DT_S, TAU_S, U_MAX = 0.02, 0.2, 3.0
KP, KI = 4.0, 10.0
SPAN = 1.5
"""Largest size of the reference."""


def advance(y: Floats, u: Floats) -> Floats:
    """One step of the plant, any shape."""
    return y + (1.0 - math.exp(-DT_S / TAU_S)) * (u - y)


def observe(y: Floats, r: Floats) -> Floats:
    """What a controller sees, ``(..., 2)``: error and reference."""
    return np.stack([r - y, r], axis=-1)


def teacher(obs: Floats) -> Floats:
    """``obs (..., 2) -> u (...)``."""
    return np.clip(obs[..., 1] + KP * obs[..., 0], -U_MAX, U_MAX)


def reference(steps: int) -> Floats:
    """The test signal ``(steps,)``: a sine of 0.25 Hz and size 1, then steps to 0.8, -0.5, 1.2 and 0, half and half."""
    t = np.arange(steps) * DT_S
    levels = np.array([0.8, -0.5, 1.2, 0.0])
    held = levels[np.minimum(np.arange(steps) * 8 // steps % 4, 3)]
    return np.where(np.arange(steps) < steps // 2, np.sin(2 * math.pi * 0.25 * t), held)


def references(rng: np.random.Generator, n: int, steps: int) -> Floats:
    """Random signals to learn from ``(n, steps)``: a sine of up to 0.5 Hz and a level that jumps once a second."""
    t = np.arange(steps) * DT_S
    sine = rng.uniform(0, 0.8, (n, 1)) * np.sin(
        2 * math.pi * rng.uniform(0.05, 0.5, (n, 1)) * t + rng.uniform(0, 2 * math.pi, (n, 1))
    )
    jumps = rng.random((n, steps)) < DT_S
    which = np.maximum.accumulate(np.where(jumps, np.arange(steps), 0), axis=1)
    level = np.take_along_axis(rng.uniform(-0.9, 0.9, (n, steps)), which, axis=1)
    return np.clip(sine + level, -SPAN, SPAN)


def follow(r: Floats, act: Callable[[Floats], Floats | float]) -> Floats:
    """The plant under ``act(obs (2,)) -> u``, from y = 0: ``r (steps,) -> y (steps,)``, y as it was when acted on."""
    y, out = np.zeros(()), np.zeros(len(r))
    for t, want in enumerate(r):
        out[t] = y
        u = np.clip(np.asarray(act(observe(y, want)), np.float64).reshape(()), -U_MAX, U_MAX)
        y = advance(y, u)
    return out


def proportional(obs: Floats) -> float:
    """The P controller."""
    return KP * float(obs[0])


def proportional_integral() -> Callable[[Floats], float]:
    """A PI controller at rest; its integral stands still while u is at its limit."""
    total = 0.0

    def act(obs: Floats) -> float:
        nonlocal total
        u = KP * float(obs[0]) + KI * (total + float(obs[0]) * DT_S)
        if abs(u) < U_MAX:
            total += float(obs[0]) * DT_S
        return u

    return act


def rms(r: Floats, y: Floats) -> float:
    """``sqrt(mean((r - y)^2))``."""
    return float(np.sqrt(np.mean((r - y) ** 2)))
