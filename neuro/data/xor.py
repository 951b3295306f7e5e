"""Exclusive or of two spike trains: the smallest task that one layer cannot do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuro.encode import rate

BITS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
"""The four cases, in the order in which :func:`xor` gives them."""


def xor(T: int, *, high: float = 1.0, low: float = 0.0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The four cases: ``x (4, T, 2)``, rates ``high`` for 1 and ``low`` for 0; labels ``a != b``.

    Errors: ``ValueError`` for rates outside [0, 1] or ``low >= high``.
    """
    if not low < high:
        raise ValueError(f"xor: low must be below high, got {low} and {high}")
    return rate(np.where(BITS == 1, high, low), T), (BITS[:, 0] != BITS[:, 1]).astype(np.int64)


def noisy_xor(
    repeats: int, T: int, *, drop: float, late: int, seed: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The four cases, ``repeats`` times, disturbed: ``x (4 repeats, T, 2)`` and labels.

    Each pulse is lost with probability ``drop``; each train begins 0 to ``late`` steps late, drawn for each.
    Errors: ``ValueError`` for ``drop`` outside [0, 1), or ``late`` outside 0 to T - 1.
    """
    if not 0.0 <= drop < 1.0:
        raise ValueError(f"noisy_xor.drop: must be in [0, 1), got {drop}")
    if not 0 <= late < T:
        raise ValueError(f"noisy_xor.late: must be 0 to T - 1 = {T - 1} steps, got {late}")
    rng = np.random.default_rng(seed)
    x, labels = xor(T)
    x, labels = np.tile(x, (repeats, 1, 1)), np.tile(labels, repeats)
    kept = rng.random(x.shape) >= drop
    begins = rng.integers(0, late + 1, size=(len(x), 1, 2))
    begun = np.arange(T)[:, None] >= begins
    return (x * kept * begun).astype(np.float32), labels
