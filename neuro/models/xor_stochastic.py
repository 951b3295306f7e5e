"""Exclusive or, 2-2-1, whose weights are pass probabilities, trained with the noise of their bias currents.

    h = b v[t-1] + sum_i s_i x_i[t],   fires where h >= V,   v[t] = h - V s[t];   s_i = sign(w_i) Bernoulli(|w_i|)

The idea of a synapse that passes pulses at random is that of arXiv 2311.10721; circuit and values are our own
realisation. Steps, answer and the many starts are those of :mod:`neuro.models.xor`. A pulse that slips through makes an
answer of one: 1 is decided where the output spiked :data:`LEAST_SPIKES` times.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neuro.data.xor import noisy_xor, xor
from neuro.methods.bptt import BPTT
from neuro.models.xor import BATCH, DROP, DT_S, LATE, STEPS, answer_law
from neuro.modules import ModuleState, Spiking, Stack, unroll
from neuro.neuron import Law, Rate
from neuro.passing import LEAST, MOST, disturbed, passed
from neuro.surrogate import ATan
from neuro.train import adam
from neuro.train import train as fit

TAU_S, THRESHOLD = 128.2e-12, 2.0
"""Of a soma with two branches, which a slip takes two pulses out of. Source: hardware/profiles/sfq_own.toml, soma_2."""
STARTS, EPOCHS, LEARNING_RATE = 48, 40, 0.05
LEAST_SPIKES = 4
WRONG = 0.1
"""Share of the disturbed training samples that the start taken may decide wrong."""


def hidden_law() -> Law:
    """That of the circuit: two branches, soft reset."""
    kept = math.exp(-DT_S / TAU_S)
    return Law(Rate(1.0 - kept, decay_input=False), threshold=THRESHOLD, reset="subtract")


class PassingStarts(nn.Module):
    """R networks 2-2-1 side by side: ``(N, 2), state -> (N, R), state``; weights uniform in (-1, 1), answers (0, 1).

    The state is ``(bias errors, first, second)``: the errors are drawn at the first step and stay.
    """

    explicit_state = True

    def __init__(self, starts: int, seed: int) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.w1 = nn.Parameter(2.0 * torch.rand((starts, 2, 2), generator=rng) - 1.0)
        self.w2 = nn.Parameter(torch.rand((starts, 1, 2), generator=rng))
        self.hidden, self.answer = Spiking(hidden_law(), ATan(1.0)), Spiking(answer_law(), ATan(1.0))

    def forward(self, x: Tensor, state: ModuleState = None) -> tuple[Tensor, ModuleState]:
        """One step of every replica."""
        if state is None:
            state = ((torch.randn_like(self.w1), torch.randn_like(self.w2)), None, None)
        (e1, e2), first, second = state
        m1, m2 = disturbed(self.w1, e1), disturbed(self.w2.abs(), e2)
        s1 = passed(m1, x.new_empty((len(x), *m1.shape)))
        h, first = self.hidden(torch.einsum("nrhi,ni->nrh", s1, x), first)
        s2 = passed(m2, x.new_empty((len(x), *m2.shape)))
        y, second = self.answer(torch.einsum("nroh,nrh->nro", s2, h), second)
        return y[..., 0], ((e1, e2), first, second)

    def network(self, start: int) -> Stack:
        """Replica ``start`` with its weights ``sign p``: ``fc1, hidden, fc2, answer``."""
        stack = Stack(
            OrderedDict(
                fc1=nn.Linear(2, 2, bias=False),
                hidden=Spiking(hidden_law(), ATan(1.0)),
                fc2=nn.Linear(2, 1, bias=False),
                answer=Spiking(answer_law(), ATan(1.0)),
            )
        )
        with torch.no_grad():
            for name, w in (("fc1", self.w1[start]), ("fc2", self.w2[start].abs())):
                layer: Any = stack.get_submodule(name)
                layer.weight.copy_(torch.sign(w) * w.abs().clamp(LEAST, MOST))
        return stack.eval()


@dataclass(frozen=True)
class TrainedPassing:
    """``module``: weights are signed pass probabilities. ``accuracy``: share of the training samples that the start
    taken decided right, each with other bias errors; ``x``, ``labels``: the four cases."""

    module: nn.Module
    dt_s: float
    x: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    accuracy: float


def train_passing_xor(
    *, seed: int = 0, epochs: int | None = None, checkpoint: Path | None = None, resume: bool = False
) -> TrainedPassing:
    """Train :data:`STARTS` networks and keep the one that decides most disturbed samples right.

    Errors: ``ValueError`` where no start learns, or for a checkpoint of another run.
    """
    clean, right = xor(STEPS)
    noisy, noisy_right = noisy_xor(30, STEPS, drop=DROP, late=LATE, seed=seed)
    x, y = np.concatenate([np.tile(clean, (4, 1, 1)), noisy]), np.concatenate([np.tile(right, 4), noisy_right])
    with torch.random.fork_rng(devices=[]):
        model = PassingStarts(STARTS, seed)
    fit(
        model,
        (x, y),
        method=BPTT(),
        loss=_each_start,
        epochs=epochs or EPOCHS,
        batch=BATCH,
        optimizer=adam(LEARNING_RATE),
        seed=seed,
        checkpoint=checkpoint,
        resume=resume,
    )
    wrong = _wrong(model, x, y, seed)
    best = int(wrong.argmin())
    if wrong[best] > WRONG:
        raise ValueError(
            f"train_passing_xor: the best of {STARTS} starts decides {wrong[best]:.0%} of the training samples wrong "
            f"after {epochs or EPOCHS} epochs; give it more epochs, or another seed"
        )
    return TrainedPassing(model.network(best), DT_S, clean, right, 1.0 - float(wrong[best]))


def decide(counts: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """1 where the output spiked at least :data:`LEAST_SPIKES` times."""
    return (counts >= LEAST_SPIKES).astype(np.int64)


def _each_start(out: Tensor, y: Tensor) -> Tensor:
    """``sum_r mean_n (o[t, n, r] - y[n])^2``: the starts add, so none sees another's gradient."""
    return (out - y[:, None]).square().mean(0).sum()


@torch.no_grad()
def _wrong(
    model: PassingStarts, x: npt.NDArray[np.float32], y: npt.NDArray[np.int64], seed: int, draws: int = 4
) -> npt.NDArray[np.float64]:
    """Share of samples decided wrong by every start, over ``draws`` of the bias errors."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        counts = np.stack([unroll(model, torch.from_numpy(x)).sum(1).numpy() for _ in range(draws)])
    wrong: npt.NDArray[np.float64] = (decide(counts) != y[:, None]).mean((0, 1))
    return wrong
