"""Random crops as a layer: what an image classifier sees in training, and nothing in evaluation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class RandomShift(nn.Module):
    """In training moves each image by up to ``most`` pixels either way, zeros coming in; identity in evaluation.

    Errors: ``ValueError`` for a number below 0.
    """

    def __init__(self, most: int = 2) -> None:
        super().__init__()
        if most < 0:
            raise ValueError(f"RandomShift.most: must be 0 pixels and more, got {most}")
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        """``x (N, C, H, W)`` to the same shape."""
        if not self.training or not self.most:
            return x
        m, (h, w) = self.most, x.shape[2:]
        wide = functional.pad(x, (m, m, m, m))
        rows = torch.randint(0, 2 * m + 1, (len(x), 1), device=x.device) + torch.arange(h, device=x.device)
        cols = torch.randint(0, 2 * m + 1, (len(x), 1), device=x.device) + torch.arange(w, device=x.device)
        each = torch.arange(len(x), device=x.device)[:, None, None]
        return wide.permute(0, 2, 3, 1)[each, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)
