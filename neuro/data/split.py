"""Training and test data in memory, and the one way in which they are split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class Split:
    """``x`` float32 in [0, 1] as (samples, ...), labels int64 as (samples,)."""

    train_x: npt.NDArray[np.float32]
    train_y: npt.NDArray[np.int64]
    test_x: npt.NDArray[np.float32]
    test_y: npt.NDArray[np.int64]


def stratified(x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], *, test_share: float, seed: int) -> Split:
    """Put ``round(test_share * n_c)`` samples of each class c into the test set; the same for the same seed.

    Errors: ``ValueError`` for a share outside (0, 1).
    """
    if not 0.0 < test_share < 1.0:
        raise ValueError(f"stratified.test_share: must be in (0, 1), got {test_share}")
    rng = np.random.default_rng(seed)
    held_out = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        held_out[members[: round(test_share * len(members))]] = True
    return Split(x[~held_out], y[~held_out], x[held_out], y[held_out])


@dataclass(frozen=True, eq=False)
class Images:
    """Pictures as their files have them: ``x`` uint8 as (samples, channels, height, width), labels int64."""

    train_x: npt.NDArray[np.uint8]
    train_y: npt.NDArray[np.int64]
    test_x: npt.NDArray[np.uint8]
    test_y: npt.NDArray[np.int64]

    def scaled(self) -> Split:
        """Divided by 255, as :class:`Split`: four times the memory."""
        train, test = (np.divide(x, 255, dtype=np.float32) for x in (self.train_x, self.test_x))
        return Split(train, self.train_y, test, self.test_y)
