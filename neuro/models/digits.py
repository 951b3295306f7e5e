"""Convolutional network for 8 x 8 digits with binary input and spiking output, decoded by spike count."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from neuro.modules import Spiking, Stack
from neuro.neuron import Law, Tau
from neuro.surrogate import Surrogate, Triangle

STEPS = 8
INPUT_SHAPE = (1, 8, 8)
EPOCHS, BATCH, LEARNING_RATE = 16, 32, 4e-3
"""With ``SLTT``, ``spike_mse`` and Adam: 97 % and more of the test digits, seeds 0 to 2."""


def digits_net(
    *, seed: int = 0, channels: int = 16, law: Law | None = None, surrogate: Surrogate | None = None
) -> Stack:
    """``(N, 1, 8, 8) -> (N, 10)`` a step: conv 3 x 3, conv 3 x 3 stride 2, linear, each into spiking neurons.

    ``law`` defaults to ``h = v - v/2 + x``, threshold 1, reset to 0, which integer engines run as it stands.
    """
    law = law or Law(Tau(2.0, decay_input=False))

    def spiking() -> Spiking:
        return Spiking(law, surrogate or Triangle())

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Stack(
            OrderedDict(
                conv1=nn.Conv2d(1, channels, 3, padding=1, bias=False),
                norm1=nn.BatchNorm2d(channels),
                lif1=spiking(),
                conv2=nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False),
                norm2=nn.BatchNorm2d(2 * channels),
                lif2=spiking(),
                flatten=nn.Flatten(),
                fc=nn.Linear(2 * channels * 16, 10),
                lif3=spiking(),
            )
        )
