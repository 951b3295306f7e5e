"""Convolutional network for N-MNIST in binary frames, spiking output, decoded by spike count."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from neuro.data.augment import shifted, turned
from neuro.modules import Spiking, Stack
from neuro.neuron import Law, Tau
from neuro.surrogate import Triangle

STEPS = 4
EPOCHS, BATCH, LEARNING_RATE = 60, 36, 4e-3
SHIFT, TURN_DEGREES, SCALE = 1, 8.0, 0.05
"""Chosen on 200 of the training recordings, held out: 4 steps of about 76 ms, for a shorter one sees too few edges."""


def changed(frames: Any, seed: int) -> Any:
    """Frames turned, scaled and moved a little: what :class:`neuro.methods.augmented.Augmented` trains with."""
    return shifted(turned(frames, TURN_DEGREES, SCALE, seed=seed), SHIFT, seed=seed)


def nmnist_net(*, seed: int = 0, channels: int = 32) -> Stack:
    """``(N, 2, 34, 34) -> (N, 10)`` a step: conv 5 x 5 stride 2, mean, conv 3 x 3, mean, linear, each into neurons.

    These charge ``h = v - v/2 + x``, the last ones ``h = v - v/8 + x``, so that they gather what all steps say;
    threshold 1, reset to 0. Integer engines run it as it stands.
    """
    law, last = Law(Tau(2.0, decay_input=False)), Law(Tau(8.0, decay_input=False))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Stack(
            OrderedDict(
                conv1=nn.Conv2d(2, channels, 5, stride=2, padding=1, bias=False),
                norm1=nn.BatchNorm2d(channels),
                lif1=Spiking(law, Triangle()),
                pool1=nn.AvgPool2d(2),
                conv2=nn.Conv2d(channels, 2 * channels, 3, padding=1, bias=False),
                norm2=nn.BatchNorm2d(2 * channels),
                lif2=Spiking(law, Triangle()),
                pool2=nn.AvgPool2d(2),
                flatten=nn.Flatten(),
                drop=nn.Dropout(0.3),
                fc=nn.Linear(2 * channels * 16, 10, bias=False),
                norm3=nn.BatchNorm1d(10),
                lif3=Spiking(last, Triangle()),
            )
        )
