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

from neuro.data import cartpole, tracking
from neuro.methods.imitation import Policy, imitate
from neuro.modules import Spiking, Stack
from neuro.neuron import Law, Tau
from neuro.stream import Coded, Encoder, Rate
from neuro.surrogate import Triangle
from neuro.tuning import Bells

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


def train_cartpole(*, seed: int = 0, rounds: int = 3, epochs: int = 4, hidden: int = 32, carts: int = 64) -> Controller:
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
    return cut[rng.permutation(len(cut))[:1200]]


TRACKING_OUTPUTS = 16


def tracking_weights(steps: int = 8) -> npt.NDArray[np.float64]:
    """The fixed read-out ``u = w counts``, ``(1, outputs)``: half push up, half down, by different amounts."""
    k = TRACKING_OUTPUTS // 2
    up = np.arange(1, k + 1) / (k * (k + 1) / 2)
    return (1.5 * tracking.U_MAX / steps * np.concatenate([up, -up]))[None]


def train_tracking(
    *, seed: int = 0, rounds: int = 2, epochs: int = 5, hidden: int = 48, signals: int = 64
) -> Controller:
    """A controller for :mod:`neuro.data.tracking`, from error and reference to u; learns from its teacher."""
    began, rng = time.perf_counter(), np.random.default_rng(seed)
    high = (1.0, tracking.SPAN)
    encoder = Coded(Bells(tuple(-h for h in high), high, 16), Rate(8))
    model = controller_net(encoder.lines, hidden, TRACKING_OUTPUTS, seed=seed)
    w = torch.from_numpy(tracking_weights()[0]).float()

    def miss(counts: Tensor, u: Tensor) -> Tensor:
        return nn.functional.mse_loss(counts @ w, u)

    seen: list[Array] = []
    loss: list[float] = []
    for k in range(rounds):
        seen.append(_track(rng, signals, None if k == 0 else Policy(model.eval(), encoder, LATENCY)))
        obs = np.concatenate(seen)
        target = tracking.teacher(obs).astype(np.float32)
        loss += imitate(model, encoder, obs, target, loss=miss, quiet=LATENCY, epochs=epochs, seed=seed + k)
    return Controller(model, encoder, time.perf_counter() - began, loss)


def _track(rng: np.random.Generator, signals: int, policy: Policy | None, length: int = 120, stream: int = 6) -> Array:
    """Observations of ``signals`` runs in streams ``(N, stream, 2)``; noise on u shows more of the plant."""
    r, w, seen = tracking.references(rng, signals, length), tracking_weights()[0], []
    y = rng.uniform(-1.0, 1.0, signals)
    for now in r.T:
        seen.append(tracking.observe(y, now))
        u = tracking.teacher(seen[-1]) if policy is None else policy(seen[-1]) @ w
        y = tracking.advance(y, np.clip(u + rng.normal(0, 0.3, signals), -tracking.U_MAX, tracking.U_MAX))
    cut = np.stack(seen, axis=1).reshape(-1, stream, 2)
    return cut[rng.permutation(len(cut))]
