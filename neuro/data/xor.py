"""Exclusive or of two spike trains: the smallest task that one layer cannot do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from neuro.encode import rate


def xor(
    T: int, *, high: float = 1.0, low: float = 0.0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The four cases: ``x (4, T, 2)``, rates ``high`` for 1 and ``low`` for 0; labels ``a != b``.

    Errors: ``ValueError`` for rates outside [0, 1] or ``low >= high``.
    """
    if not low < high:
        raise ValueError(f"xor: low must be below high, got {low} and {high}")
    bits = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    return rate(np.where(bits == 1, high, low), T), (bits[:, 0] != bits[:, 1]).astype(np.int64)
