"""Weights that already lie on the chip's grid: finding the step, so that they go over without rounding.

Weights ``w = n step`` with whole n of at most 8 bits are exact at the scales that make ``n`` (even, with mixed signs)
integers. Trained weights do so after quantisation-aware training (:mod:`neuro.methods.qat`), or when made by hand.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Float: TypeAlias = npt.NDArray[np.float64]
TOLERANCE = 2.0**-22
"""Relative: two roundings of a float32, in which networks are trained and saved."""

FEW = 64


def step_of(weights: list[Float]) -> float | None:
    """The largest step of which all weights are multiples, none above 256 of it; None where there is none."""
    sizes = np.unique(np.concatenate([np.abs(w).ravel() for w in weights]))
    sizes = sizes[sizes > 0]
    if not len(sizes):
        return None
    top, few = sizes[-1], sizes[:: max(1, len(sizes) // FEW)]
    for m in range(1, 257):
        if _whole(few * (m / top)) and _whole(sizes * (m / top)):
            n = np.rint(sizes * (m / top))
            return float((sizes @ n) / (n @ n))
    return None


def is_whole(x: float) -> bool:
    """An integer, as far as float32 tells."""
    return abs(x - round(x)) <= TOLERANCE * max(1.0, abs(x))


def _whole(x: Float) -> bool:
    n = np.rint(x)
    return bool((np.abs(x - n) <= TOLERANCE * n).all())
