"""Back-propagation through time: the exact gradient of the surrogate network, memory O(T)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuro.modules import steps
from neuro.train import Loss, step_losses


@dataclass(frozen=True)
class BPTT:
    """``dL/dW`` through every route in space and time, all T steps in one graph."""

    def __call__(self, model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """``x (N, T, ...), y (N, ...) -> (loss (), summed output (N, ...))``; gradients accumulate."""
        out, _ = steps(model, x.transpose(0, 1))
        total = step_losses(loss, out, y) / x.shape[1]
        torch.autograd.backward(total)
        return total.detach(), out.detach().sum(0)
