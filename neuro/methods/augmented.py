"""A method whose batches are changed before each step: augmentation that checkpoints and resumes to the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from neuro.train import Loss, Method, Readout, total

Change: TypeAlias = Callable[[Any, int], Any]
"""``(x (N, T, ...) numpy, seed) -> x`` of the same shape: the functions of :mod:`neuro.data.augment`."""


@dataclass(frozen=True)
class Augmented:
    """``method`` on ``change(x, seed)``, the seed drawn from torch's generator, which an epoch of training seeds.

    ``name`` tells checkpoints of one change from those of another: ``Augmented(SLTT(8), shift, "shift 2")``.
    """

    method: Method
    change: Change = field(repr=False)
    name: str = ""

    @property
    def readout(self) -> Readout:
        """That of the method."""
        return getattr(self.method, "readout", None) or total

    def __call__(self, model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """As of the method."""
        seed = int(torch.randint(2**31, ()))
        changed = torch.as_tensor(self.change(x.cpu().numpy(), seed), dtype=x.dtype, device=x.device)
        return self.method(model, loss, changed, y)
