"""Surrogate gradients: the spike's value is the law's comparison, its slope is somebody's choice.

    forward   s = 1 where over >= 0 (or > 0), else 0          exactly ``Law.compare(over)``
    backward  ds/d over = slope(over)

One contract: a surrogate is a value with ``slope(over)``; :meth:`Surrogate.of` makes the function that
``Law.step`` takes. A new one is a frozen dataclass with one method.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from neuro.neuron import Law


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, over: Tensor, compare: Callable[[Tensor], Tensor], slope: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.save_for_backward(over)
        ctx.slope = slope
        return compare(over)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (over,) = ctx.saved_tensors
        return grad * ctx.slope(over), None, None


@dataclass(frozen=True)
class Surrogate:
    """What every surrogate is. Errors: ``ValueError`` for a parameter that is not positive."""

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if not math.isfinite(value) or value <= 0:
                raise ValueError(f"{type(self).__name__}.{f.name}: must be positive, got {value}")

    def slope(self, over: Tensor) -> Tensor:
        """``ds/d over`` of the shape of ``over``; ``over = h - threshold``."""
        raise NotImplementedError(f"{type(self).__name__} must define slope(over)")

    def of(self, law: Law) -> Callable[[Tensor], Tensor]:
        """``over -> spikes`` for ``Law.step(spike=...)``: forward ``law.compare``, backward :meth:`slope`."""

        def spike(over: Tensor) -> Tensor:
            out: Tensor = _Spike.apply(over, law.compare, self.slope)
            return out

        return spike


@dataclass(frozen=True)
class ATan(Surrogate):
    """``slope = (a/2) / (1 + (pi/2 a x)^2)``; Fang et al. 2021 (ParametricLIF), where a = 2."""

    alpha: float = 2.0

    def slope(self, over: Tensor) -> Tensor:
        return self.alpha / 2.0 / (1.0 + (math.pi / 2.0 * self.alpha * over).square())


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """``slope = a sigma(a x) (1 - sigma(a x))``; SpikingJelly's default, where a = 4."""

    alpha: float = 4.0

    def slope(self, over: Tensor) -> Tensor:
        p = (self.alpha * over).sigmoid()
        return self.alpha * p * (1.0 - p)


@dataclass(frozen=True)
class Triangle(Surrogate):
    """``slope = max(0, 1 - |x| / w) / w``; SLTT (Meng et al. 2023), where w = 1."""

    width: float = 1.0

    def slope(self, over: Tensor) -> Tensor:
        return (1.0 - over.abs() / self.width).clamp_min(0.0) / self.width


@dataclass(frozen=True)
class Rectangular(Surrogate):
    """``slope = 1 / w where |x| < w / 2, else 0``; STBP (Wu et al. 2018), where w = 1."""

    width: float = 1.0

    def slope(self, over: Tensor) -> Tensor:
        return (over.abs() < self.width / 2.0).to(over.dtype) / self.width


@dataclass(frozen=True)
class Normalised(Surrogate):
    """A slope over ``z = h / threshold - 1`` instead of ``h - threshold``, times ``gain``: DIET-SNN, IIR-SNN.

        ds/dh = gain f(z) / V;    ds/dV = -gain f(z) h / V^2         f: slope of ``inner``

    Rathi and Roy 2020, Chowdhury et al. 2021: gain 0.3, ``inner`` the triangle of width 1. ``threshold`` may be a
    tensor with a gradient.
    """

    inner: Surrogate = Triangle()
    gain: float = 0.3

    def __post_init__(self) -> None:
        if not math.isfinite(self.gain) or self.gain <= 0:
            raise ValueError(f"Normalised.gain: must be positive, got {self.gain}")

    def slope(self, over: Tensor) -> Tensor:
        """For a threshold of 1."""
        return self.gain * self.inner.slope(over)

    def of(self, law: Law) -> Callable[[Tensor], Tensor]:
        """``over -> spikes``; the comparison is the law's own on ``over``, which ``over / V`` has the sign of."""

        def spike(over: Tensor) -> Tensor:
            threshold: Any = law.threshold
            out: Tensor = _Spike.apply(over / threshold, lambda _: law.compare(over), self.slope)
            return out

        return spike
