"""VGG-11 with BatchNorm and average pooling for event frames, as SLTT trains it.

    widths       64 P 128 P 256 256 P 512 512 P 512 512 P,  mean to 7 x 7,  linear 512 * 49 -> classes
    of each      3 x 3 convolution with bias, BatchNorm, neurons, dropout held over time;    P: 2 x 2 mean

Source: Meng et al., ICCV 2023, arXiv 2302.14311 and its released code. No neuron after the last layer: its outputs are
the logits of each step.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn

from neuro.modules import HeldDropout, Spiking, Stack
from neuro.neuron import Law, Tau
from neuro.surrogate import Triangle

PLAN: tuple[int | str, ...] = (64, "P", 128, "P", 256, 256, "P", 512, 512, "P", 512, 512, "P")
SLTT_LAW = Law(Tau(1.1, decay_input=False), reset="subtract")
"""``u = (1 - 1/1.1) v + I``, threshold 1, ``>=``, subtracting reset: the paper's neurons."""


def vgg11_bn(
    *,
    classes: int = 10,
    channels: int = 2,
    dropout: float = 0.0,
    pooled: int = 7,
    plan: Sequence[int | str] = PLAN,
    law: Law = SLTT_LAW,
    seed: int = 0,
) -> Stack:
    """``(N, channels, h, w) -> (N, classes)`` logits a step.

    ``plan``: widths and "P"; ``pooled``: side of the map before the classifier, which a smaller map is repeated to.
    Errors: ``ValueError`` for a plan that begins with "P" or holds another string.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        k, width = 0, channels
        for entry in plan:
            if entry == "P" and k:
                layers[f"pool{k}"] = nn.AvgPool2d(2)
                continue
            if isinstance(entry, str):
                raise ValueError(
                    f"vgg11_bn.plan: widths and 'P' after the first of them, got {entry!r} in {list(plan)}"
                )
            k += 1
            layers[f"conv{k}"] = _convolution(width, entry)
            layers[f"norm{k}"] = nn.BatchNorm2d(entry)
            layers[f"lif{k}"] = Spiking(law, Triangle())
            layers[f"drop{k}"] = HeldDropout(dropout)
            width = entry
        layers["pool"] = nn.AdaptiveAvgPool2d(pooled)
        layers["flatten"] = nn.Flatten()
        layers["fc"] = fc = nn.Linear(width * pooled**2, classes)
        nn.init.normal_(fc.weight, 0.0, 0.01)
        nn.init.zeros_(fc.bias)
    return Stack(layers)


@torch.no_grad()
def with_pool_merged(net: nn.Sequential, side: int) -> Stack:
    """The same network with the mean to ``pooled`` x ``pooled`` in the weights of the classifier, for export.

    ``side`` of the map that reaches that mean. The mean is linear, so ``W' = W P`` with its matrix P; the machines'
    layers have no adaptive mean. Layers before it are shared with ``net``. Errors: ``ValueError`` for another end.
    """
    *rest, pool, flatten, fc = net.named_children()
    if not (isinstance(pool[1], nn.AdaptiveAvgPool2d) and isinstance(fc[1], nn.Linear)):
        raise ValueError("with_pool_merged: the network must end with AdaptiveAvgPool2d, Flatten, Linear")
    if side < 1:
        raise ValueError(f"with_pool_merged.side: must be at least 1, got {side}")
    weight = fc[1].weight
    dots = torch.eye(side * side, dtype=torch.float64).reshape(-1, 1, side, side)
    means = pool[1](dots).flatten(1)
    channels = weight.shape[1] // means.shape[1]
    merged = weight.double().reshape(len(weight), channels, -1) @ means.T
    made = nn.Linear(channels * side * side, len(weight), bias=fc[1].bias is not None).to(weight)
    made.weight.copy_(merged.flatten(1))
    if fc[1].bias is not None:
        made.bias.copy_(fc[1].bias)
    return Stack(OrderedDict([*rest, flatten, (fc[0], made)]))


def _convolution(width: int, out: int) -> nn.Conv2d:
    conv = nn.Conv2d(width, out, 3, padding=1)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
