"""Back-propagation through time: the exact gradient of the surrogate network, memory O(T)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from neuro.losses import Loss, Readout, backward, step_losses, total
from neuro.modules import steps


@dataclass(frozen=True)
class BPTT:
    """``dL/dW`` through every route in space and time, all T steps in one graph.

    ``readout`` None: ``L = (1/T) sum_t loss(o[t], y)``; else ``L = loss(readout(o), y)``, and what ``readout`` gives
    is also what decides, in training as in evaluation (:data:`neuro.losses.Readout`).
    """

    readout: Readout | None = None

    def __call__(self, model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """``x (N, T, ...), y (N, ...) -> (loss (), what decides (N, ...))``; gradients accumulate."""
        out, _ = steps(model, x.transpose(0, 1))
        if self.readout is None:
            value, summed = step_losses(loss, out, y) / x.shape[1], total(out.detach())
        else:
            summed = self.readout(out)
            value = loss(summed, y)
        backward(value)
        return value.detach(), summed.detach()
