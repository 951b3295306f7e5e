"""Small convolutional network for 28 x 28 digits, read out by a linear layer or by spike count."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from neuro.modules import Spiking, Stack
from neuro.neuron import Law, Tau
from neuro.surrogate import Triangle

LAW = Law(Tau(2.0, decay_input=False), reset="subtract")
"""``u = v/2 + I``: a leak at which dropping the route through time could cost."""


def mnist_conv(*, channels: int = 24, classes: int = 10, spiking: bool = False, law: Law = LAW, seed: int = 0) -> Stack:
    """``(N, 1, 28, 28) -> (N, classes)`` a step: conv 5 x 5, conv 3 x 3, both stride 2 and into neurons; linear.

    ``channels`` of the first convolution, the second has twice as many. ``spiking``: norm and neurons behind the linear
    layer too, so that the whole network is one for a chip; else its outputs are logits.
    """
    layers: OrderedDict[str, nn.Module]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = OrderedDict(
            conv1=nn.Conv2d(1, channels, 5, stride=2, padding=2, bias=False),
            norm1=nn.BatchNorm2d(channels),
            lif1=Spiking(law, Triangle()),
            conv2=nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False),
            norm2=nn.BatchNorm2d(2 * channels),
            lif2=Spiking(law, Triangle()),
            flatten=nn.Flatten(),
            fc=nn.Linear(2 * channels * 49, classes, bias=not spiking),
        )
        if spiking:
            layers |= {"norm3": nn.BatchNorm1d(classes), "lif3": Spiking(law, Triangle())}
    return Stack(layers)
