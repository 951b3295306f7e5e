"""The cart-pole: its equations, and a linear controller that balances it, to learn from.

Barto, Sutton and Anderson 1983 (IEEE Trans. Systems, Man and Cybernetics 13(5)), without friction, in the form and
with the constants of gymnasium's CartPole-v1. State ``(x, x', a, a')``: m, m/s, rad, rad/s; force +-F:

    q   = (F + m l a'^2 sin a) / (M + m)
    a'' = (g sin a - q cos a) / (l (4/3 - m cos^2 a / (M + m)))
    x'' = q - m l a'' cos a / (M + m)
    s[t + 1] = s[t] + tau (x', x'', a', a'')                    Euler

m, M: mass of pole and cart; l: half the pole's length. The teacher is the linear-quadratic regulator of these
equations linearised at rest; with a force of one size only it pushes to the side that the regulator wants.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import scipy.linalg

Floats = npt.NDArray[np.float64]
GRAVITY, CART, POLE, HALF_LENGTH, FORCE, TAU_S = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
"""m/s^2, kg, kg, m, N, s. Source: gymnasium 1.4, envs/classic_control/cartpole.py."""

X_LIMIT, ANGLE_LIMIT = 2.4, 12 * 2 * math.pi / 360
"""An episode ends outside these; m and rad. Source: as above."""

TOTAL = CART + POLE


def advance(s: Floats, action: npt.NDArray[np.integer]) -> Floats:
    """One step of many carts: ``s (..., 4), action (...)`` 0 left, 1 right, ``-> s (..., 4)``."""
    _, speed, angle, turn = np.moveaxis(s, -1, 0)
    sin, cos = np.sin(angle), np.cos(angle)
    q = (np.where(action == 1, FORCE, -FORCE) + POLE * HALF_LENGTH * turn * turn * sin) / TOTAL
    turning = (GRAVITY * sin - q * cos) / (HALF_LENGTH * (4.0 / 3.0 - POLE * cos * cos / TOTAL))
    speeding = q - POLE * HALF_LENGTH * turning * cos / TOTAL
    return s + TAU_S * np.stack([speed, speeding, turn, turning], axis=-1)


def fallen(s: Floats) -> npt.NDArray[np.bool_]:
    """Whether the episode is over: ``s (..., 4) -> (...)``."""
    return (np.abs(s[..., 0]) > X_LIMIT) | (np.abs(s[..., 2]) > ANGLE_LIMIT)


def regulator() -> Floats:
    """Gains k ``(4,)`` of ``F = -k s``: discrete LQR of the linearised equations, unit state cost, force cost 1e-3."""
    d = HALF_LENGTH * (4.0 / 3.0 - POLE / TOTAL)
    a, b = np.eye(4), np.zeros((4, 1))
    a[0, 1] = a[2, 3] = TAU_S
    a[3, 2] = TAU_S * GRAVITY / d
    a[1, 2] = -TAU_S * POLE * HALF_LENGTH / TOTAL * GRAVITY / d
    b[3, 0] = -TAU_S / (TOTAL * d)
    b[1, 0] = TAU_S / TOTAL * (1.0 + POLE * HALF_LENGTH / (TOTAL * d))
    q, r = np.eye(4), np.array([[1e-3]])
    p = scipy.linalg.solve_discrete_are(a, b, q, r)
    return np.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)[0]


def teacher(s: Floats) -> npt.NDArray[np.int64]:
    """The side that the regulator pushes to: ``s (..., 4) -> (...)``, 0 or 1."""
    return (-(s @ regulator()) > 0).astype(np.int64)


def start(rng: np.random.Generator, carts: int, wide: float = 1.0) -> Floats:
    """First states, uniform in +-0.05 as gymnasium's, times ``wide``: ``(carts, 4)``."""
    return rng.uniform(-0.05, 0.05, (carts, 4)) * wide
