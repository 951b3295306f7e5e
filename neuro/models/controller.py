"""Spiking controllers that learn from a teacher: one that balances a cart-pole, one that follows a signal.

Two layers, hard reset to 0, ``v[t] = v[t-1]/2 + W x[t]``: what integer chips run as it stands. The output is read as
spike counts over the K steps of an environment step.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neuro.data import cartpole
from neuro.methods.imitation import Policy, imitate
from neuro.modules import Spiking, Stack
from neuro.neuron import Law, Tau
from neuro.stream import Bells, Coded, Encoder, Rate
from neuro.surrogate import Triangle

Array = npt.NDArray[Any]
LATENCY = 2
"""Chip steps from input to output of two layers: quiet steps after each observation."""


def controller_net(lines: int, hidden: int, outputs: int, *, seed: int = 0) -> Stack:
    """``(N, lines) -> (N, outputs)`` a step: linear, spiking, linear, spiking."""
    law = Law(Tau(2.0, decay_input=False))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Stack(
            OrderedDict(
                fc1=nn.Linear(lines, hidden, bias=False),
                lif1=Spiking(law, Triangle()),
                fc2=nn.Linear(hidden, outputs, bias=False),
                lif2=Spiking(law, Triangle()),
            )
        )


@dataclass(frozen=True)
class Controller:
    """A trained module with its encoder; ``seconds`` it took."""

    module: nn.Module
    encoder: Encoder
    seconds: float
    loss: list[float]


def cartpole_encoder(steps: int = 8) -> Coded:
    """Twelve bells for each of position, speed, angle and turn, as rates over K steps."""
    high = (1.2, 1.5, 0.15, 1.5)
    return Coded(Bells(tuple(-h for h in high), high, 12), Rate(steps))


def train_cartpole(*, seed: int = 0, rounds: int = 3, epochs: int = 6, hidden: int = 64, carts: int = 192) -> Controller:
    """A controller for CartPole-v1 that learns from :func:`neuro.data.cartpole.teacher`.

    Each round trains on everything seen so far: first what the teacher sees, then what the controller itself runs
    into. Streams of 6 environment steps out of episodes of 200.
    """
    began, rng = time.perf_counter(), np.random.default_rng(seed)
    encoder = cartpole_encoder()
    model = controller_net(encoder.lines, hidden, 2, seed=seed)
    seen: list[Array] = []
    loss: list[float] = []
    for k in range(rounds):
        seen.append(_visit(rng, carts, None if k == 0 else Policy(model.eval(), encoder, LATENCY)))
        obs = np.concatenate(seen)
        loss += imitate(
            model, encoder, obs, cartpole.teacher(obs), loss=_decide, quiet=LATENCY, epochs=epochs, seed=seed + k
        )
    return Controller(model, encoder, time.perf_counter() - began, loss)


def _decide(counts: Tensor, side: Tensor) -> Tensor:
    return nn.functional.cross_entropy(counts.flatten(0, 1), side.flatten())


def _visit(rng: np.random.Generator, carts: int, policy: Policy | None, length: int = 200, stream: int = 6) -> Array:
    """States of ``carts`` episodes in streams ``(N, stream, 4)``; one action in ten is left to chance."""
    s, states = cartpole.start(rng, carts, 6.0), []
    for _ in range(length):
        states.append(s)
        act = cartpole.teacher(s) if policy is None else policy(s).argmax(-1)
        act = np.where(rng.random(carts) < 0.1, rng.integers(0, 2, carts), act)
        after = cartpole.advance(s, act)
        s = np.where(cartpole.fallen(after)[:, None], cartpole.start(rng, carts, 6.0), after)
    seen = np.stack(states, axis=1)
    cut = seen[:, : length // stream * stream].reshape(-1, stream, 4)
    return cut[rng.permutation(len(cut))[: 2400]]
