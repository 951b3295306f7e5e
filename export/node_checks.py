"""What the kinds of node have in common: types, sizes of windows, checks that name the rule and the fix."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Shape: TypeAlias = tuple[int, ...]
Float: TypeAlias = npt.NDArray[np.floating[Any]]
Int: TypeAlias = npt.NDArray[np.integer[Any]]
Pair: TypeAlias = tuple[int, int]

MAX_DELAY_STEPS = 2**16
"""Longest delay of a node: its line holds so many steps of its input."""


def windows(size: Shape, kernel: Shape, stride: Pair, padding: Pair, dilation: Pair) -> Shape:
    """Sizes after windows of ``kernel`` over ``size``. Errors: ``ValueError`` where none fits."""
    out = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    if min(out) < 1:
        raise ValueError(f"a window of {kernel} does not fit into {size} with padding {padding}")
    return out


def linear_shape(weight: Float, in_shape: Shape) -> Shape:
    """``(in,) -> (out,)``. Errors: ``ValueError`` for another input."""
    if in_shape != (weight.shape[1],):
        raise ValueError(f"takes ({weight.shape[1]},), got {in_shape}; is a Flatten missing before it?")
    return (weight.shape[0],)


def check_weights(weight: Float, bias: Float | None, ndim: int) -> None:
    """Weights of ``ndim`` axes, finite, with a bias that matches. Errors: ``ValueError``."""
    if weight.ndim != ndim or not weight.size:
        raise ValueError(f"weight must have {ndim} non-empty axes, got shape {weight.shape}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have shape {weight.shape[:1]}, got {bias.shape}")
    for name, a in (("weight", weight), ("bias", bias)):
        if a is not None:
            check_finite(name, a)


def check_delays(name: str, steps: Int) -> None:
    """Whole steps, 0 to :data:`MAX_DELAY_STEPS`. Errors: ``ValueError``."""
    if not steps.size or not steps.ndim or not np.issubdtype(steps.dtype, np.integer):
        raise ValueError(f"{name} must be a non-empty integer array, got {steps.dtype} {steps.shape}")
    if steps.min() < 0 or steps.max() > MAX_DELAY_STEPS:
        raise ValueError(
            f"{name} must be in 0..{MAX_DELAY_STEPS}, got {steps.min()} to {steps.max()}; "
            "take a larger dt_s, or shorten the delay"
        )


def check_finite(name: str, a: Float) -> None:
    """Floats without NaN and infinity. Errors: ``ValueError`` naming the first."""
    if not np.issubdtype(a.dtype, np.floating):
        raise ValueError(f"{name} must be float32 or float64, got {a.dtype}")
    bad = np.argwhere(~np.isfinite(a))
    if len(bad):
        raise ValueError(
            f"{name}{[int(i) for i in bad[0]]} is {a[tuple(bad[0])]} ({len(bad)} such values); "
            "the training diverged: lower the learning rate or load an earlier checkpoint"
        )


def of_shape(in_shape: Shape, own: Shape) -> Shape:
    """``in_shape``, which must be ``own``. Errors: ``ValueError``."""
    if in_shape != own:
        raise ValueError(f"takes {own}, got {in_shape}")
    return in_shape
