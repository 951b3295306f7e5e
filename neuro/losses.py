"""Losses on what a network puts out in one step, what decides after all steps, and the call that runs them backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

import torch
from torch import Tensor, nn

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``(o[t] (N, ...), y (N, ...)) -> ()``, a mean over the batch."""

Readout: TypeAlias = Callable[[Tensor], Tensor]
"""``o (T, N, ...) -> (N, ...)``: what the argmax decides by. A method may name its own as ``readout``."""


def spike_mse(out: Tensor, y: Tensor) -> Tensor:
    """``mean((o[t] - onehot(y))^2)``: the right one fires in each step, others never; Fang et al. 2021."""
    return nn.functional.mse_loss(out, nn.functional.one_hot(y, out.shape[-1]).to(out.dtype))


def spike_ce(out: Tensor, y: Tensor, *, gain: float = 4.0) -> Tensor:
    """``CE(gain o[t], y)`` on spikes 0 and 1: with gain 4 and 10 classes a perfect step still costs 0.15."""
    return nn.functional.cross_entropy(gain * out, y)


def ce_mse(out: Tensor, y: Tensor, *, share: float = 0.05, target: float = 1.0) -> Tensor:
    """``(1 - a) CE(o[t], y) + a MSE(o[t], r)`` on real-valued outputs; Meng et al. 2023: a = 0.05, r = 1."""
    mse = nn.functional.mse_loss(out, torch.full_like(out, target))
    return (1.0 - share) * nn.functional.cross_entropy(out, y) + share * mse


def total(out: Tensor) -> Tensor:
    """``sum_t o[t]``."""
    return out.sum(0)


def softmax_total(out: Tensor) -> Tensor:
    """``sum_t softmax(o[t])`` over the last axis: the readout of DCLS-Delays (Hammouamri et al. 2024)."""
    return out.softmax(-1).sum(0)


def last(out: Tensor) -> Tensor:
    """``o[T]``: of an accumulator, its end."""
    return out[-1]


def step_losses(loss: Loss, out: Tensor, y: Tensor) -> Tensor:
    """``sum_t loss(o[t], y)`` for ``out (K, N, ...)``."""
    return torch.stack([loss(o, y) for o in out]).sum()


class Scaling:
    """Around the calls of a method: what each backward call multiplies by, and how many there were."""

    def __init__(self, by: Callable[[Tensor], Tensor]) -> None:
        self.by, self.calls = by, 0


_scaling: ContextVar[Scaling | None] = ContextVar("scaling", default=None)


def backward(value: Tensor) -> None:
    """Run ``value ()`` backward; gradients accumulate. What a method calls, so that training can scale its gradients.

    In mixed precision by float16 it is ``f value`` that runs, with the factor f that training takes out again before
    the step; backward runs outside autocast, in the types in which forward ran.
    """
    scaling = _scaling.get()
    if scaling is not None:
        scaling.calls += 1
        value = scaling.by(value)
    with torch.autocast(value.device.type, enabled=False):
        torch.autograd.backward(value)


@contextmanager
def gradients_scaled(by: Callable[[Tensor], Tensor]) -> Iterator[Scaling]:
    """Each :func:`backward` inside runs ``by(value)``; what is given tells how many there were."""
    scaling = Scaling(by)
    token = _scaling.set(scaling)
    try:
        yield scaling
    finally:
        _scaling.reset(token)
