"""VGG networks for IIR-SNN from their list notation: numbers are 3 x 3 convolutions, 'A' is a 2 x 2 mean.

    64, 64, A, ...   ->   conv 64, ReLU, dropout, conv 64, ReLU, mean, ...

'A' takes the place of the dropout before it; then linear layers with ReLU and dropout between, no bias anywhere, mean
pooling and never maximum. With ``norm`` a BatchNorm follows each convolution, which folding turns into a bias. These
are the ANNs that :func:`neuro.methods.iir.convert` takes; a ReLU stands where a spiking population will.

Source: Chowdhury, Rathi, Roy 2021 (arXiv 2110.05929) and the authors' DIET-SNN; VGG16 on 32 x 32 is 338.4 M MAC.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, TypeAlias

import torch
from torch import nn

from neuro.models.shift import RandomShift
from neuro.modules import HeldDropout, Stack

Notation: TypeAlias = Sequence[int | Literal["A"]]

VGG5: Notation = (64, "A", 128, 128, "A")
VGG9: Notation = (64, "A", 128, 256, "A", 256, 512, "A", 512, "A", 512)
VGG16: Notation = (64, 64, "A", 128, 128, "A", 256, 256, 256, "A", 512, 512, 512, "A", 512, 512, 512)
HIDDEN = (4096, 4096)
"""Widths of the linear layers between the convolutions and the classes."""

MNIST: Notation = (12, "A", 20, 20, "A")
MNIST_HIDDEN = (96,)
"""VGG5 in small, for 28 x 28 grey images on a processor: 1.3 M MAC; its widest fan-in, 3920 with the pooling in the
weights, is within the 4096 axons of a Loihi core."""


def vgg(
    notation: Notation,
    input_shape: tuple[int, int, int],
    classes: int,
    *,
    hidden: Sequence[int] = HIDDEN,
    norm: bool = False,
    dropout: float = 0.2,
    shift: int = 0,
    seed: int = 0,
) -> Stack:
    """``(N, *input_shape) -> (N, classes)`` a step; layers named ``conv1, norm1, relu1, drop1 | pool1, ..., fc1, ...``.

    ``shift``: pixels by which training moves an image. Errors: ``ValueError`` for a notation that is none, or images
    too small for it.
    """
    channels, *size = input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if shift:
        layers["shift"] = RandomShift(shift)
    k = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for entry in _checked(notation):
            if entry == "A":
                layers.pop(f"drop{k}", None)
                layers[f"pool{k}"] = nn.AvgPool2d(2)
                size = [n // 2 for n in size]
                continue
            k += 1
            layers[f"conv{k}"] = _conv(channels, entry)
            if norm:
                layers[f"norm{k}"] = nn.BatchNorm2d(entry)
            layers |= {f"relu{k}": nn.ReLU(), f"drop{k}": HeldDropout(dropout)}
            channels = entry
        if min(size) < 1:
            raise ValueError(
                f"vgg: {input_shape} is too small for {list(notation).count('A')} halvings; leave some out"
            )
        layers["flatten"] = nn.Flatten()
        widths = [channels * math.prod(size), *hidden, classes]
        for n, (a, b) in enumerate(pairwise(widths), start=1):
            layers[f"fc{n}"] = _linear(a, b)
            if n < len(widths) - 1:
                layers |= {f"relu{k + n}": nn.ReLU(), f"drop{k + n}": HeldDropout(dropout)}
    return Stack(layers)


def vgg_mnist(*, norm: bool = True, dropout: float = 0.1, shift: int = 1, seed: int = 0) -> Stack:
    """The small VGG5 for 28 x 28 grey images, ten classes."""
    return vgg(MNIST, (1, 28, 28), 10, hidden=MNIST_HIDDEN, norm=norm, dropout=dropout, shift=shift, seed=seed)


def _checked(notation: Notation) -> Notation:
    bad = [e for e in notation if e != "A" and (isinstance(e, bool) or not isinstance(e, int) or e < 1)]
    if bad or not notation or notation[0] == "A":
        raise ValueError(f"vgg: {list(notation)} is no list of widths and 'A' that begins with a width")
    return notation


def _conv(a: int, b: int) -> nn.Conv2d:
    layer = nn.Conv2d(a, b, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer


def _linear(a: int, b: int) -> nn.Linear:
    layer = nn.Linear(a, b, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layer
