"""The chip's grid in torch: weights and biases on it with a straight-through gradient, laws with its decays.

Straight-through estimator: Bengio, Leonard, Courville, arXiv 1308.3432 (2013).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from neuro.neuron import Charge, Decay, Law, NoLeak, Rate, Tau

Weighted: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d


def chip_law(law: Law) -> Law:
    """The law with its decays on the chip's grid of 1/4096 and ``>``; all else as it is.

    Errors: ``ValueError`` for a current that the chip cannot keep.
    """
    a, b, _, _ = law.charge.canonical()
    current, kept = round(a * 4096) / 4096, max(1, round(b * 4096)) / 4096
    if current >= 1.0:
        raise ValueError(f"a current that keeps {a:g} a step has no counterpart; keep at most {1 - 1 / 4096:.6f}")
    charge: Charge = law.charge
    if isinstance(charge, Tau | Rate) and (kept != b or isinstance(charge, Rate)):
        charge = Rate(1.0 - kept, charge.decay_input, charge.rest)
    elif isinstance(charge, Decay):
        charge = Decay(current, kept)
    elif not isinstance(charge, NoLeak | Tau):
        raise ValueError(f"{charge} has no canonical form here")
    return replace(law, charge=charge, fires=">")


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


@torch.no_grad()
def fold(layer: Weighted, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    """``W' = g W;  b' = (b - mean) g + beta;  g = gamma / sqrt(var + eps)``, in float64, into ``layer``."""
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None:
        raise ValueError("BatchNorm without running statistics has nothing to fold; track_running_stats=True")
    gain = (var.double() + norm.eps).rsqrt()
    shift: Any = 0.0 if norm.bias is None else norm.bias.double()
    if norm.weight is not None:
        gain = gain * norm.weight.double()
    bias = 0.0 if layer.bias is None else layer.bias.double()
    w = layer.weight
    new = (bias - mean.double()) * gain + shift
    layer.weight.copy_(w.double() * gain.reshape(-1, *[1] * (w.ndim - 1)))
    layer.bias = nn.Parameter(new.to(w.dtype))
