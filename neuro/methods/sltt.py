"""Spatial learning through time (Meng et al., ICCV 2023, arXiv 2302.14311): memory independent of T.

Back-propagation with one tensor detached, the carried state in the charge ``u[t] = lam v[t-1] + I[t]``:

    e^l[t]   = e^{l+1}[t] W^{l+1} diag(sigma'(u^l[t] - V))       no term from t+1
    grad W^l = sum_t e^l[t]^T s^{l-1}[t]

Steps are therefore independent once forward is done: forward and backward go chunk by chunk, and each chunk's
graph is freed before the next. The gradient is that of every other chunk length up to rounding; batch
normalisation takes the statistics of each step, as in the authors' code, so it does not see the chunk either.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuro.losses import Loss, backward, step_losses
from neuro.modules import steps


@dataclass(frozen=True)
class SLTT:
    """``chunk`` steps share one graph: 1 needs the least memory, more is faster. Only the state is detached.

    Errors: ``ValueError`` for a chunk below 1.
    """

    chunk: int = 1

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"SLTT.chunk: must be at least 1 step, got {self.chunk}")

    def __call__(self, model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """``x (N, T, ...), y (N, ...) -> (loss (), summed output (N, ...))``; gradients accumulate."""
        state = None
        total, summed = x.new_zeros(()), x.new_zeros(())
        for chunk in torch.split(x.transpose(0, 1), self.chunk):
            out, state = steps(model, chunk, state, detached=True)
            part = step_losses(loss, out, y) / x.shape[1]
            backward(part)
            total = total + part.detach()
            summed = summed + out.detach().sum(0)
        return total, summed
