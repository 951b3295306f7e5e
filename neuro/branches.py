"""Weights that are numbers of branches: small integers, and as many of them in a row as a soma has branches.

    q = sign(w) n,   n the branches that w gets of ``fan_in``, at most ``most`` of them;  gradient of w straight through

A superconducting soma sums the currents of its branches, and its time constant and reset depend on how many there are
(docs/sfq.md 3.3), so a population has one law only if ``sum |q| = fan_in`` in every row. The k-th branch of a weight is
worth ``|w| - (k - 1)``; the ``fan_in`` of most worth in a row are drawn. The other weights go on learning behind.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


def branches(w: Tensor, fan_in: int, *, most: int = 2, signed: bool = True) -> Tensor:
    """Integers of ``w (neurons, inputs)`` with ``sum |q| = fan_in`` in each row; not ``signed``: none below 0.

    Errors: ``ValueError`` for a row that cannot hold so many branches.
    """
    if w.ndim != 2 or not 1 <= fan_in <= most * w.shape[1]:
        raise ValueError(
            f"branches: {fan_in} branches of at most {most} a weight do not fit weights of shape {tuple(w.shape)}; "
            f"use 1 to {most * w.shape[-1]}"
        )
    size = w.abs() if signed else w
    worth = torch.stack([size - k for k in range(most)], dim=-1)
    drawn = worth.flatten(1).topk(fan_in, dim=1).indices
    number = torch.zeros_like(worth).flatten(1).scatter_(1, drawn, 1.0).reshape(worth.shape).sum(-1)
    return torch.where(w < 0, -number, number) if signed else number


class Branches(nn.Module):
    """Parametrisation of a weight: :func:`branches` in front, the gradient straight through."""

    def __init__(self, fan_in: int, *, most: int = 2, signed: bool = True) -> None:
        super().__init__()
        self.fan_in, self.most, self.signed = fan_in, most, signed

    def forward(self, w: Tensor) -> Tensor:
        """``w (neurons, inputs)`` to integers."""
        return w + (branches(w, self.fan_in, most=self.most, signed=self.signed) - w).detach()


def branched(inputs: int, neurons: int, fan_in: int, *, most: int = 2, signed: bool = True) -> nn.Linear:
    """A linear layer without bias whose rows have ``fan_in`` branches; begins uniform in (-1/2, 1/2), or (0, 1)."""
    layer = nn.Linear(inputs, neurons, bias=False)
    low = -0.5 if signed else 0.0
    nn.init.uniform_(layer.weight, low, low + 1.0)
    parametrize.register_parametrization(layer, "weight", Branches(fan_in, most=most, signed=signed))
    return layer
