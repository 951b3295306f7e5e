"""Weights that are pass probabilities, and the noise of the bias currents that set them.

    s      = sign(w) Bernoulli(p),     p = |w| kept in [LEAST, MOST]      each pulse passes or not
    p'     = Phi(Phi^-1(p) + NOISE e), e ~ N(0, 1) once a run             its bias current is off by 1 %

Phi(z): a stochastic synapse passes with ``p = erfc(-(I - i50) / (sqrt2 sigma)) / 2``, so an error of the current moves
the argument. The gradient is that of the mean, ``w``, straight through draw and clamp. Source: docs/sfq.md 3.4.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.special import ndtr, ndtri

LEAST, MOST = 0.02, 0.98
"""Beyond them a synapse is hardly stochastic: its bias would be more than two sigma away."""

NOISE = 0.01 * 70.4 / 3.98
"""1 % of i50 in sigma: 0.18. Source: hardware/sfq_cells/STSYN.toml; a test compares."""


def disturbed(w: Tensor, e: Tensor) -> Tensor:
    """Mean weight ``sign(w) p'`` under bias errors ``e`` in units of 1 %; the gradient is that of ``w``."""
    p = ndtr(ndtri(w.abs().clamp(LEAST, MOST)) + NOISE * e)
    return w + (torch.where(w < 0, -p, p) - w).detach()


def passed(mean: Tensor, like: Tensor) -> Tensor:
    """Draws ``sign(mean) Bernoulli(|mean|)`` of the shape of ``like``; the gradient is that of ``mean``."""
    drawn = (torch.rand_like(like) < mean.detach().abs()).to(mean.dtype) * torch.sign(mean.detach())
    return mean + (drawn - mean).detach()
