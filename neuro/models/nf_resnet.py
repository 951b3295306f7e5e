"""Normaliser-free ResNets for ImageNet, as SLTT trains them: no statistics, so that each step stands alone.

    W      = g (W0 - mean) / sqrt(fan_in var(W0) + 1e-4)           per output channel, unbiased var, g begins at 1
    h      = 2.74 LIF(x / beta)
    block  y = 0.2 gain branch(h) + (x, or a 1 x 1 convolution of h where the shape changes);  gain begins at 0
    branch conv3 LIF 2.74 conv3  (ResNet-34),  conv1 LIF 2.74 conv3 LIF 2.74 conv1  (ResNet-50, 101)
    beta   = sqrt(expected variance of x): 1 at first, 0.04 more with each block, 1.04 after a change of shape
    stem   7 x 7 stride 2, 3 x 3 mean stride 2;  tail: LIF, mean, linear that begins at 0

Source: Meng et al., ICCV 2023, arXiv 2302.14311, after Brock et al. 2021 (arXiv 2101.08692). Where it does not say:
convolutions have a bias, and the neurons of the tail are scaled as those of a block. The shortcut carries real values;
they are sums of currents, never sent as messages: see ``docs/training.md`` for what that means on a chip.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neuro.models.vgg11_bn import SLTT_LAW
from neuro.modules import Spiking, Stack
from neuro.neuron import Law
from neuro.residual import Scaled, Sum
from neuro.surrogate import Triangle

GAMMA = 2.74
"""Restores the variance that neurons take from their input, as the paper has it."""
ALPHA = 0.2
EPSILON = 1e-4
BLOCKS = {34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class Standardised(nn.Module):
    """Parametrisation of a weight ``(out, ...)``: ``g (W - mean) / sqrt(fan_in var + 1e-4)`` for each output."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(out))

    def forward(self, weight: Tensor) -> Tensor:
        """``weight (out, in, kh, kw)`` to the same shape."""
        flat = weight.flatten(1)
        var, mean = torch.var_mean(flat, 1, keepdim=True)
        scale = self.g[:, None] / (flat.shape[1] * var + EPSILON).sqrt()
        return ((flat - mean) * scale).reshape(weight.shape)


def nf_resnet(
    depth: int = 34,
    *,
    classes: int = 1000,
    channels: int = 3,
    widths: Sequence[int] = (64, 128, 256, 512),
    blocks: Sequence[int] | None = None,
    pool: int = 7,
    law: Law = SLTT_LAW,
    seed: int = 0,
) -> Stack:
    """``(N, channels, 224, 224) -> (N, classes)`` logits a step.

    ``blocks`` a stage, ``widths`` and ``pool`` (kernel of the last mean) make smaller ones of the same kind.
    Errors: ``ValueError`` for a depth that is none of 34, 50 and 101.
    """
    if depth not in BLOCKS:
        raise ValueError(f"nf_resnet.depth: must be one of {', '.join(map(str, BLOCKS))}, got {depth}")
    kind = _Kind(law, bottleneck=depth > 34)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers |= {"stem": _convolution(channels, widths[0], 7, 2), "pool1": nn.AvgPool2d(3, 2, 1)}
        before, variance = widths[0], 1.0
        for k, (width, count) in enumerate(zip(widths, blocks or BLOCKS[depth], strict=True)):
            for b in range(count):
                stride = 2 if k and not b else 1
                out = width * (4 if kind.bottleneck else 1)
                changes = stride != 1 or before != out
                layers[f"block{k + 1}_{b + 1}"] = kind.block(before, width, out, stride, variance)
                variance = (1.0 if changes else variance) + ALPHA**2
                before = out
        layers |= kind.activation(variance, "") | {"pool2": nn.AvgPool2d(pool), "flatten": nn.Flatten()}
        layers["fc"] = fc = nn.Linear(before, classes)
        nn.init.zeros_(fc.weight)
        nn.init.zeros_(fc.bias)
    return Stack(layers)


@dataclass(frozen=True)
class _Kind:
    law: Law
    bottleneck: bool

    def activation(self, variance: float, suffix: str) -> dict[str, nn.Module]:
        """``2.74 LIF(x / sqrt(variance))``."""
        before = {f"beta{suffix}": Scaled(1.0 / math.sqrt(variance))} if variance != 1.0 else {}
        return before | {f"lif{suffix}": Spiking(self.law, Triangle()), f"gamma{suffix}": Scaled(GAMMA)}

    def branch(self, before: int, width: int, out: int, stride: int) -> Stack:
        """From ``h`` to ``0.2 gain conv(...)``."""
        kernels = (1, 3, 1) if self.bottleneck else (3, 3)
        strides = (1, stride, 1) if self.bottleneck else (stride, 1)
        sizes = (before, *[width] * (len(kernels) - 1), out)
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for k, (kernel, each) in enumerate(zip(kernels, strides, strict=True), 1):
            layers |= self.activation(1.0, str(k)) if k > 1 else {}
            layers[f"conv{k}"] = _convolution(sizes[k - 1], sizes[k], kernel, each)
        layers["skip"] = Scaled(ALPHA, start=0.0)
        return Stack(layers)

    def block(self, before: int, width: int, out: int, stride: int, variance: float) -> nn.Module:
        """A block whose input has that expected variance."""
        branch, first = self.branch(before, width, out, stride), OrderedDict(self.activation(variance, "1"))
        if stride != 1 or before != out:
            return Stack(OrderedDict(first, sum=Sum(branch, _convolution(before, out, 1, stride))))
        return Sum(Stack(OrderedDict(first, branch=branch)))


def _convolution(before: int, width: int, kernel: int, stride: int) -> nn.Conv2d:
    conv = nn.Conv2d(before, width, kernel, stride=stride, padding=kernel // 2)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    made: Any = parametrize.register_parametrization(conv, "weight", Standardised(width))
    return made
