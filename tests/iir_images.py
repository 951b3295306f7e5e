"""A generated ten-class image set, and a small ANN for it, for the tests of IIR-SNN."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from neuro.models.vgg import vgg
from neuro.modules import Stack

SHAPE = (1, 12, 12)
Data = tuple[torch.Tensor, torch.Tensor]


def images(n: int, seed: int) -> Data:
    """Smoothed random prototypes, moved by up to a pixel, with noise: ``x (n, 1, 1, 12, 12)``, labels."""
    prototypes = np.random.default_rng(0).random((10, 14, 14))
    for axis in (1, 2):
        prototypes = (np.roll(prototypes, 1, axis) + prototypes + np.roll(prototypes, -1, axis)) / 3
    spread: Any = prototypes.reshape(10, -1)
    spread = (spread - spread.min(1, keepdims=True)) / (spread.max(1, keepdims=True) - spread.min(1, keepdims=True))
    prototypes = spread.reshape(10, 14, 14)
    rng = np.random.default_rng([seed, 1])
    y = rng.integers(0, 10, n)
    at = rng.integers(0, 3, (n, 2))
    x = np.stack([prototypes[c, i : i + 12, j : j + 12] for c, (i, j) in zip(y, at, strict=True)])
    x = (x + 0.15 * rng.standard_normal(x.shape)).astype(np.float32)
    return torch.from_numpy(x[:, None, None]), torch.from_numpy(y)


def small_ann(*, norm: bool = False, seed: int = 0) -> Stack:
    """Two convolutions with pooling, two linear layers."""
    return vgg((8, "A", 16, "A"), SHAPE, 10, hidden=(32,), norm=norm, dropout=0.1, seed=seed)


def with_statistics(ann: Stack, seed: int = 0) -> Stack:
    """The ANN with norms that have seen something, in evaluation mode."""
    g = torch.Generator().manual_seed(seed)
    for m in ann.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            for t, low in ((m.running_mean, -0.5), (m.running_var, 0.5), (m.weight, 0.5), (m.bias, -0.3)):
                assert t is not None
                t.data.copy_(low + torch.rand(t.shape, generator=g))
    return ann.eval()
