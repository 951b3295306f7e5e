"""Digits for a superconducting circuit: 64 rate-coded lines, sparse rows of small integers, soft reset, no bias.

    h = b v[t-1] + W x[t],   fires where h >= V,   v[t] = h - V s[t],   b = exp(-dt/tau)

Both layers obey what the circuit can do (docs/sfq.md 3.3, 4.1): a weight is a number of branches, 0 to 2; a soma has
:data:`HIDDEN` or :data:`OUT` of them in all; a slip takes a flux quantum out of each, so V is near that number, as
near as the grid of bias currents allows; tau is that of a loop with so many branches. Hidden neurons take both signs,
for their inputs come as pulses and as anti-pulses; the answers take positive weights only, which need no inverter.

Training: BPTT of the cross entropy of spike counts, rounding straight through. Recipe chosen on a fifth of the training
set, seeds 0 and 1. Tested with the law, the counts of ten neurons: the most spikes win.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neuro.branches import branched
from neuro.data.digits import digits
from neuro.encode import rate
from neuro.methods.counts import CountBPTT, LosesPulses, Soma
from neuro.modules import Spiking, Stack
from neuro.neuron import Law, Rate
from neuro.surrogate import ATan
from neuro.train import Report, adam, evaluate
from neuro.train import train as fit

DT_S, STEPS = 30e-12, 63
"""33.3 GHz, the highest rate of the cells; 63 steps last 1.9 ns."""

GAIN = 1.3
"""A pixel of 1/GAIN and more fires in every step."""

NEURONS, HIDDEN, OUT = 96, 6, 10
"""Hidden neurons; branches of a hidden soma, and of an answer's."""

SOMA = {6: (164.85e-12, 5.971, 12.06), 10: (195.9e-12, 9.943, 12.24)}
"""By branches: tau in s, threshold in pulses at a bias on the 5 uA grid, floor in pulses at which a soma slips back.
Source: rows soma_4, soma_8 and soma_16 of hardware/profiles/sfq_own.toml, linear between; a test compares."""

EPOCHS, BATCH, LEARNING_RATE, STRAIN = 80, 64, 0.02, 0.1
LOST = 0.1
"""Share of input pulses that training loses, so that no answer hangs on one."""


def soma_law(fan_in: int) -> Law:
    """The law of a soma with so many branches: kept ``exp(-dt/tau)`` a step, soft reset."""
    tau_s, threshold, _ = SOMA[fan_in]
    return Law(Rate(1.0 - math.exp(-DT_S / tau_s), decay_input=False), threshold=threshold, reset="subtract")


def encode(images: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Images (N, 1, 8, 8) in [0, 1] to pulses (N, T, 64), evenly spaced."""
    return rate(np.minimum(GAIN * images.reshape(len(images), -1), 1.0), STEPS)


def digits_somas(seed: int = 0) -> Stack:
    """The network in training: ``lines, fc1, hidden, fc2, answer``, real-valued weights behind integers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Stack(
            OrderedDict(
                lines=LosesPulses(LOST),
                fc1=branched(64, NEURONS, HIDDEN),
                hidden=_soma(HIDDEN),
                fc2=branched(NEURONS, 10, OUT, signed=False),
                answer=_soma(OUT),
            )
        )


def frozen(stack: Stack) -> Stack:
    """The same with integer weights and plain neurons, for export."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name, module in stack.named_children():
        if isinstance(module, Spiking):
            layers[name] = Spiking(module.law, module.surrogate)
        elif isinstance(module, nn.Linear):
            weight: Any = module.weight
            layers[name] = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            layers[name].weight = nn.Parameter(weight.detach().clone())
    return Stack(layers).eval()


@dataclass(frozen=True)
class TrainedDigits:
    """``module``: frozen. ``x (samples, T, 64)``, ``labels``: the test set; ``train``: what it was trained on."""

    module: nn.Module
    dt_s: float
    x: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    accuracy: float
    train: tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


def train_digits(
    *,
    seed: int = 0,
    epochs: int | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    progress: bool | Report = False,
) -> TrainedDigits:
    """Train from random weights, under a minute on a core; ``accuracy`` is that of the law on the test set."""
    data = digits()
    given = encode(data.train_x), data.train_y
    model = digits_somas(seed)
    with _one_thread():
        fit(
            model,
            given,
            method=CountBPTT(STRAIN),
            loss=_cross_entropy,
            epochs=epochs or EPOCHS,
            batch=BATCH,
            optimizer=adam(LEARNING_RATE),
            seed=seed,
            checkpoint=checkpoint,
            resume=resume,
            progress=progress,
        )
    module = frozen(model)
    x = encode(data.test_x)
    return TrainedDigits(module, DT_S, x, data.test_y, evaluate(module, x, data.test_y), given)


def _soma(fan_in: int) -> Soma:
    law = soma_law(fan_in)
    return Soma(law, ATan(4.0 / (math.pi * law.threshold)), 0.9 * SOMA[fan_in][2])


def _cross_entropy(counts: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(counts, y)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The sums of small matrices are fastest, and everywhere the same, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
