"""Augmentation of event frames: pure, seeded, of the same shape and type; one draw a sample, held over its time.

    shifted   moved by whole pixels, what leaves is lost      s[n] ~ U{-most .. most} for y and x
    turned    turned about the middle and scaled, nearest     angle ~ U(-degrees, degrees), size ~ U(1 - by, 1 + by)
    flipped   mirrored left to right with probability share
    dropped   each entry silenced with probability share, every step for itself
    cut       a square of ``size`` silenced in every step and polarity (cutout, DeVries and Taylor 2017)

Shift and flip are what Li et al. 2022 (Neuromorphic Data Augmentation, ECCV) found best for event frames. Frames are
``(N, ..., H, W)``. Errors, all: ``ValueError`` for what is out of range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Array = TypeVar("Array", bound=npt.NDArray[np.generic])


def shifted(frames: Array, most: int, *, seed: int) -> Array:
    """Each sample moved by its own whole number of pixels, up to ``most`` each way in y and x."""
    if most < 0 or most >= min(_picture("shifted", frames)):
        raise ValueError(f"shifted.most: must be 0 to below the {frames.shape[-2:]} pixels, got {most}")
    moves = np.random.default_rng(seed).integers(-most, most + 1, (len(frames), 2))
    out = np.zeros_like(frames)
    height, width = frames.shape[-2:]
    for k, (dy, dx) in enumerate(moves):
        into_y, from_y = _overlap(int(dy), height)
        into_x, from_x = _overlap(int(dx), width)
        out[k, ..., into_y, into_x] = frames[k, ..., from_y, from_x]
    return out


def shifted_by(most: int) -> Callable[[Any, int], Any]:
    """``(frames, seed) -> shifted(frames, most)``, as :class:`neuro.methods.augmented.Augmented` takes it."""
    return lambda frames, seed: shifted(frames, most, seed=seed)


def turned(frames: Array, degrees: float, by: float = 0.0, *, seed: int) -> Array:
    """Each sample turned about its middle and scaled by its own draw; a pixel takes the value nearest to its origin.

    ``y = c + R(-a) (y' - c) / size`` for each pixel ``y'`` of the result; what comes from outside is 0.
    """
    height, width = _picture("turned", frames)
    if not 0.0 <= degrees <= 180.0 or not 0.0 <= by < 1.0:
        raise ValueError(f"turned: degrees must be in [0, 180] and by in [0, 1), got {degrees} and {by}")
    rng = np.random.default_rng(seed)
    angles, sizes = np.deg2rad(rng.uniform(-degrees, degrees, len(frames))), rng.uniform(1 - by, 1 + by, len(frames))
    rows, columns = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    out = np.zeros_like(frames)
    for k, (sin, cos, size) in enumerate(zip(np.sin(angles), np.cos(angles), sizes, strict=True)):
        y = np.rint((cos * rows - sin * columns) / size + (height - 1) / 2).astype(np.int64)
        x = np.rint((sin * rows + cos * columns) / size + (width - 1) / 2).astype(np.int64)
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        out[k] = np.where(inside, frames[k][..., np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)], 0)
    return out


def flipped(frames: Array, share: float = 0.5, *, seed: int) -> Array:
    """Some samples mirrored left to right; not for digits and letters, whose mirror is another or none."""
    _share("flipped", share)
    _picture("flipped", frames)
    which = np.random.default_rng(seed).random(len(frames)) < share
    out = frames.copy()
    out[which] = frames[which][..., ::-1]
    return out


def dropped(frames: Array, share: float, *, seed: int) -> Array:
    """Entries set to 0, each with probability ``share`` and for itself."""
    _share("dropped", share)
    keep = np.random.default_rng(seed).random(frames.shape, dtype=np.float32) >= share
    out = frames.copy()
    out[~keep] = 0
    return out


def cut(frames: Array, size: int, *, seed: int) -> Array:
    """A square of each sample set to 0; its centre is drawn over all pixels, so that part of it may lie outside."""
    height, width = _picture("cut", frames)
    if not 0 <= size <= min(height, width):
        raise ValueError(f"cut.size: must be 0 to {min(height, width)} pixels, got {size}")
    centres = np.random.default_rng(seed).integers(0, (height, width), (len(frames), 2))
    out = frames.copy()
    for k, (y, x) in enumerate(centres - size // 2):
        out[k, ..., max(0, y) : max(0, y + size), max(0, x) : max(0, x + size)] = 0
    return out


def _overlap(by: int, length: int) -> tuple[slice, slice]:
    return slice(max(0, by), length + min(0, by)), slice(max(0, -by), length - max(0, by))


def _share(name: str, share: float) -> None:
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"{name}.share: must be in [0, 1], got {share}")


def _picture(name: str, frames: npt.NDArray[np.generic]) -> tuple[int, int]:
    if frames.ndim < 3:
        raise ValueError(f"{name}: frames must be (N, ..., H, W), got shape {frames.shape}")
    return frames.shape[-2], frames.shape[-1]
