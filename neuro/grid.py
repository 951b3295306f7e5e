"""The chip's grid (:mod:`neuro.chip`) in torch: weights and biases on it with a straight-through gradient.

Straight-through estimator: Bengio, Leonard, Courville, arXiv 1308.3432 (2013).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class WeightGrid(nn.Module):
    """``step round(w / step)``, clipped to ``low step..high step``; gradient 1 inside, 0 where clipped."""

    def __init__(self, step: float, low: int, high: int) -> None:
        super().__init__()
        self.step, self.low, self.high = step, low, high

    def forward(self, w: Tensor) -> Tensor:
        """On the grid, shape as ``w``."""
        n = (w.double() / self.step).round()
        legal = n.clamp(self.low, self.high)
        inside = torch.where(n == legal, w, w.detach())
        return (legal * self.step).to(w.dtype) + (inside - inside.detach())

    def right_inverse(self, w: Tensor) -> Tensor:
        """The trained value behind starts as the layer's own."""
        return w


class BiasGrid(WeightGrid):
    """:class:`WeightGrid` of ``bias + shift``: what enters v besides the bias has its share of the grid."""

    def __init__(self, step: float, high: int, shift: float) -> None:
        super().__init__(step, -high, high)
        self.shift = shift

    def forward(self, w: Tensor) -> Tensor:
        """On the grid, shape as ``w``."""
        total = super().forward(w.double() + self.shift) - self.shift
        return total.to(w.dtype)


def short(x: float) -> float:
    """x in 10 significant bits: sums of its multiples, below 2^14 of them, are exact in float32 in any order."""
    part, exponent = math.frexp(x)
    return math.ldexp(round(part * 2**10), exponent - 10)
