"""Back-propagation through time of a loss on spike counts, for somas that have a floor and lines that lose pulses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from neuro.losses import Loss, backward
from neuro.modules import ModuleState, Spiking, steps
from neuro.neuron import Law
from neuro.surrogate import Surrogate


class Soma(Spiking):
    """A population that notes how far inhibition pushes it: ``strain += mean(max(0, -h - floor)^2)`` in each step.

    A superconducting soma slips back near ``-floor`` pulses, which the law does not know: training keeps away from it.
    The state is ``(v, strain)``.
    """

    def __init__(self, law: Law, surrogate: Surrogate, floor: float) -> None:
        super().__init__(law, surrogate)
        self.floor = floor

    def forward(self, x: Tensor, state: ModuleState = None) -> tuple[Tensor, ModuleState]:
        """``x, v (N, ...) -> spikes, state``."""
        before, strain = (None, x.new_zeros(())) if state is None else ((state[0],), state[1])
        spikes, after = super().forward(x, before)
        h = after[0] + self.law.threshold * spikes
        return spikes, (after[0], strain + torch.relu(-h - self.floor).square().mean())


class LosesPulses(nn.Module):
    """In training each spike is lost with probability ``share``; in evaluation none is. No state."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """``x (N, ...)`` to the same shape."""
        return x * (torch.rand_like(x) >= self.share) if self.training else x


@dataclass(frozen=True)
class CountBPTT:
    """``loss(sum_t o[t], y) + strain sum(strains of the somas)``; all T steps in one graph."""

    strain: float = 0.1

    def __call__(self, model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """``x (N, T, ...), y (N, ...) -> (loss (), summed output (N, ...))``; gradients accumulate."""
        out, state = steps(model, x.transpose(0, 1))
        summed = out.sum(0)
        strains = [s[1] for m, s in zip(model.children(), state or (), strict=True) if isinstance(m, Soma)]
        total = loss(summed, y) + self.strain * sum(strains, x.new_zeros(()))
        backward(total)
        return total.detach(), summed.detach()
