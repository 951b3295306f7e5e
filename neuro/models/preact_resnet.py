"""Pre-activation ResNet-18 for 32 x 32 images, as SLTT trains it.

    stem    3 x 3 convolution to 64, no bias
    block   s = LIF(BN(x));  y = conv2(drop(LIF(BN(conv1(s))))) + shortcut(s)       shortcut: s, or 1 x 1 with bias
    stages  widths 64 128 256 512, two blocks each, strides 1 2 2 2
    tail    BN, LIF, 4 x 4 mean, linear

Source: Meng et al., ICCV 2023, arXiv 2302.14311 and its released code. Both ways of a block end as current into the
next neurons, so that only spikes travel; in the export BN goes into both (:mod:`export.fold`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from neuro.models.vgg11_bn import SLTT_LAW
from neuro.modules import HeldDropout, Spiking, Stack
from neuro.neuron import Law
from neuro.residual import Sum
from neuro.surrogate import Triangle


def preact_resnet18(
    *,
    classes: int = 10,
    channels: int = 3,
    dropout: float = 0.0,
    widths: Sequence[int] = (64, 128, 256, 512),
    blocks: Sequence[int] = (2, 2, 2, 2),
    pool: int = 4,
    law: Law = SLTT_LAW,
    seed: int = 0,
) -> Stack:
    """``(N, channels, 32, 32) -> (N, classes)`` logits a step.

    ``pool``: kernel of the last mean, the side of what reaches it: input side / 2^(stages - 1).
    Errors: ``ValueError`` for widths and blocks of different number.
    """
    if len(widths) != len(blocks) or not widths:
        raise ValueError(f"preact_resnet18: one number of blocks for each width, got {list(widths)}, {list(blocks)}")
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers["stem"] = _convolution(channels, widths[0], 1)
        before = widths[0]
        for k, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            for b in range(count):
                stride = 2 if k and not b else 1
                layers[f"block{k + 1}_{b + 1}"] = _block(before, width, stride, dropout, law)
                before = width
        layers |= {"norm": nn.BatchNorm2d(before), "lif": Spiking(law, Triangle()), "pool": nn.AvgPool2d(pool)}
        layers |= {"flatten": nn.Flatten(), "fc": nn.Linear(before, classes)}
        for m in nn.Sequential(layers).modules():
            if isinstance(m, nn.Linear) and m.bias is not None:
                nn.init.zeros_(m.bias)
    return Stack(layers)


def _block(before: int, width: int, stride: int, dropout: float, law: Law) -> Stack:
    body = Stack(
        OrderedDict(
            conv1=_convolution(before, width, stride),
            norm2=nn.BatchNorm2d(width),
            lif2=Spiking(law, Triangle()),
            drop=HeldDropout(dropout),
            conv2=_convolution(width, width, 1),
        )
    )
    shortcut = None
    if stride != 1 or before != width:
        shortcut = nn.Conv2d(before, width, 1, stride=stride)
        nn.init.kaiming_normal_(shortcut.weight, mode="fan_out", nonlinearity="relu")
        if shortcut.bias is not None:
            nn.init.zeros_(shortcut.bias)
    parts = OrderedDict(norm1=nn.BatchNorm2d(before), lif1=Spiking(law, Triangle()), sum=Sum(body, shortcut))
    return Stack(parts)


def _convolution(before: int, width: int, stride: int) -> nn.Conv2d:
    conv = nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return conv
