"""Digits in one step for a superconducting circuit: 64 black or white pixels, two layers of threshold gates, a readout.

    h = q x,  o = 1 where h > V        q whole, sum |q| = K in every row (neuro.branches), no bias

The second layer takes positive weights only: behind an inverter inhibition would come later than the excitation of
the same step, and a soma fires as soon as it can. The readout's real weights stay with the host. Trained as an ANN,
converted and brought from T = 5 to 1 by :mod:`neuro.methods.iir`; whole sums make every V between two of them the same
gate, so a soma's bias current need not be exact.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from neuro.branches import branched
from neuro.data.digits import digits
from neuro.data.split import stratified
from neuro.methods.iir import IIR, IIRResult, Recipe, amsgrad, convert, one_step, train_ann
from neuro.modules import Stack

FIRST, SECOND = (80, 6), (48, 10)
"""Neurons and branches of each."""

LEAST = 2.05
"""Thresholds stay above: somas of 6 and 10 branches fire from 3 pulses on, not from 2 (sfq_own.toml, largest bias)."""

ANN = Recipe(2e-3, 40, 64, (0.6, 0.85), dropout=0.0, rule=amsgrad)
STAGE = Recipe(2e-3, 10, 64, dropout=0.0)


@dataclass(frozen=True)
class TrainedGates:
    """``module``: the T = 1 network, plain layers. ``x (samples, 1, 64)`` of 0 and 1 and ``labels``: the test set."""

    module: Stack
    x: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    result: IIRResult


def black_and_white(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Images (N, 1, 8, 8) in [0, 1] to (N, 1, 64): 1 where a pixel is at least half."""
    return (images.reshape(len(images), 1, -1) >= 0.5).astype(np.float32)


def gates_ann(seed: int = 0) -> Stack:
    """``fc1, relu1, fc2, relu2, fc3``: real weights behind the whole ones of the first two."""
    (a, fan_a), (b, fan_b) = FIRST, SECOND
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Stack(
            OrderedDict(
                fc1=branched(64, a, fan_a),
                relu1=nn.ReLU(),
                fc2=branched(a, b, fan_b, signed=False),
                relu2=nn.ReLU(),
                fc3=nn.Linear(b, 10, bias=False),
            )
        )


def train_gates(*, seed: int = 0, epochs: int | None = None, folder: Path | None = None) -> TrainedGates:
    """From random weights. ``epochs``: of a stage. The readout's test accuracy is in ``result``."""
    data = digits()
    part = stratified(black_and_white(data.train_x), data.train_y, test_share=0.15, seed=0)
    validation, test = (part.test_x, part.test_y), (black_and_white(data.test_x), data.test_y)
    ann = gates_ann(seed)
    train_ann(ann, (part.train_x, part.train_y), ANN, seed=seed)
    recipe = STAGE if epochs is None else Recipe(STAGE.rate, epochs, STAGE.batch, dropout=0.0)
    rule = IIR(recipe=recipe, least=LEAST)
    result = rule.run(ann, (part.train_x, part.train_y), validation, test, seed=seed, folder=folder)
    snn = convert(ann, part.train_x[:64, 0], steps=1)
    snn.load_state_dict(result.stages[-1].parameters)
    return TrainedGates(plain(one_step(snn)), *test, result)


def plain(stack: Stack) -> Stack:
    """The same with linear layers that hold the whole weights."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, module in stack.named_children():
        if isinstance(module, nn.Linear):
            made = nn.Linear(module.weight.shape[1], module.weight.shape[0], bias=False)
            made.weight = nn.Parameter(module.weight.detach().clone())
            layers[name] = made
        else:
            layers[name] = module
    return Stack(layers).eval()
