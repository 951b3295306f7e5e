"""Imitation: a spiking controller learns to answer a stream of observations as a teacher does.

Two sources of data, as in DAgger (Ross, Gordon and Bagnell 2011): states that the teacher visits, then those that the
controller itself gets into, labelled by the teacher. The network is trained as it will run in the loop: sequences of
environment steps, K steps with input and then ``quiet`` ones without, its state carried through all of them; the
answer is the spike count over the K.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neuro.modules import ModuleState, step, steps
from neuro.stream import Encoder

Array: TypeAlias = npt.NDArray[Any]
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``(counts (..., outputs), target (...)) -> ()``."""


def encode(encoder: Encoder, obs: Array) -> npt.NDArray[np.float32]:
    """Streams of observations ``obs (N, S, n) -> x (N, S, K, lines)``, the encoder's state carried along each."""
    state = encoder.begin()  # without the axis of streams, which the first observation brings
    parts = []
    for now in np.moveaxis(obs, 1, 0):
        x, state = encoder(state, now)
        parts.append(x)
    return np.stack(parts, axis=1).astype(np.float32)


def answers(model: nn.Module, x: Tensor, quiet: int) -> Tensor:
    """Spike counts of each environment step: ``x (N, S, K, lines) -> (N, S, outputs)``, from rest."""
    n, s, k, lines = x.shape
    padded = nn.functional.pad(x, (0, 0, 0, quiet)).reshape(n, s * (k + quiet), lines)
    y, _ = steps(model, padded.transpose(0, 1))
    return y.transpose(0, 1).reshape(n, s, k + quiet, -1)[:, :, :k].sum(2)


@dataclass
class Policy:
    """The float network as it acts in a loop, many streams side by side: ``(obs (N, n)) -> counts (N, outputs)``."""

    model: nn.Module
    encoder: Encoder
    quiet: int
    state: ModuleState = None
    code: Any = None

    @torch.no_grad()
    def __call__(self, obs: Array) -> Array:
        """One environment step."""
        if self.code is None:
            self.code = self.encoder.begin()
        x, self.code = self.encoder(self.code, obs)
        padded = torch.from_numpy(np.pad(x, ((0, 0), (0, self.quiet), (0, 0))).astype(np.float32))
        out = []
        for now in padded.unbind(1):
            y, self.state = step(self.model, now, self.state)
            out.append(y)
        counts: Array = torch.stack(out[: x.shape[1]]).sum(0).numpy()
        return counts


def imitate(
    model: nn.Module,
    encoder: Encoder,
    obs: Array,
    target: Array,
    *,
    loss: Loss,
    quiet: int,
    epochs: int,
    batch: int = 64,
    lr: float = 4e-3,
    seed: int = 0,
) -> list[float]:
    """Train in place on streams ``obs (N, S, n)`` with ``target (N, S, ...)``; the mean loss of each epoch.

    Adam with a cosine schedule, all S environment steps in one graph. Errors: ``ValueError`` for data that is not
    finite, and for a loss that is not.
    """
    if obs.ndim != 3 or len(obs) != len(target) or not len(obs) or not np.isfinite(obs).all():
        raise ValueError(f"imitate: needs finite obs (N, S, n) and target (N, S, ...), got {obs.shape}, {target.shape}")
    if epochs < 1 or batch < 1:
        raise ValueError(f"imitate: epochs and batch must be at least 1, got {epochs} and {batch}")
    x, y = torch.from_numpy(encode(encoder, obs)), torch.from_numpy(target)
    optim = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optim, epochs * -(-len(x) // batch))
    history = []
    model.train()
    for epoch in range(epochs):
        order, total = torch.from_numpy(np.random.default_rng([seed, epoch]).permutation(len(x))), 0.0
        for pick in torch.split(order, batch):
            optim.zero_grad()
            value = loss(answers(model, x[pick], quiet), y[pick])
            if not torch.isfinite(value):
                raise ValueError(f"imitate: loss is {float(value)} in epoch {epoch + 1}; lower the learning rate")
            torch.autograd.backward(value)
            optim.step()
            schedule.step()
            total += float(value.detach()) * len(pick)
        history.append(total / len(x))
    model.eval()
    return history
