"""Encoders for a stream of observations: pure, state in and out, whole messages.

    encoder.begin(seed) -> state
    encoder(state, obs (..., n)) -> (x (..., K, lines), state)

Most are a tuning, values to one drive in [0, 1] a line, and a train, drives to K steps of 0 and 1:
``Coded(Bells(low, high), Rate(K))``. States are arrays that save and compare; leading axes are independent streams.
:mod:`neuro.encode` makes steps of data that is all there at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from neuro.tuning import Floats, Tuning

Ints: TypeAlias = npt.NDArray[np.integer[Any]]
State: TypeAlias = npt.NDArray[Any]
SLACK = 5e-10
"""Added before a floor, so that the spike count of ``k / K`` is k whatever its binary form."""


class Encoder(Protocol):
    """What an encoder is. ``observations`` values in, ``lines`` out for each of ``steps`` chip steps."""

    @property
    def observations(self) -> int:
        """Values of one observation."""

    @property
    def lines(self) -> int:
        """Input lines of the network."""

    @property
    def steps(self) -> int:
        """K, chip steps per observation."""

    def begin(self, seed: int = 0) -> State:
        """The state before the first observation."""

    def __call__(self, state: State, obs: Floats) -> tuple[Ints, State]:
        """``(state, obs (..., observations)) -> (x (..., steps, lines), state)``."""


class Train(Protocol):
    """Drives in [0, 1] to spikes: ``(state, p (..., lines)) -> (s (..., steps, lines), state)``."""

    @property
    def steps(self) -> int:
        """K, steps of a train."""

    def begin(self, lines: int, seed: int) -> State:
        """The state before the first train."""

    def __call__(self, state: State, p: Floats) -> tuple[Ints, State]:
        """The spikes and the next state."""


@dataclass(frozen=True)
class Rate:
    """Evenly spaced spikes whose phase goes on: ``s[k] = floor(f + p (k + 1)) - floor(f + p k)``, then f += p K mod 1.

    Over many observations no part of a spike is lost.
    """

    steps: int
    _edges: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _steps(self)
        object.__setattr__(self, "_edges", np.arange(self.steps + 1.0)[:, None])

    def begin(self, lines: int, seed: int) -> State:
        """Phase 0."""
        return np.zeros(lines)

    def __call__(self, state: State, p: Floats) -> tuple[Ints, State]:
        """The spikes and the next phase."""
        edges = self._edges * p[..., None, :] + state[..., None, :]
        edges += SLACK
        whole = edges.astype(np.int16 if self.steps < 2**15 else np.int64)
        s = whole[..., 1:, :] - whole[..., :-1, :]
        left = edges[..., -1, :] - whole[..., -1, :] - SLACK
        return s.astype(np.int8), np.maximum(left, 0.0)


@dataclass(frozen=True)
class Bernoulli:
    """A spike with probability p, independent in every step; state ``(seed, trains so far)``."""

    steps: int

    def __post_init__(self) -> None:
        _steps(self)

    def begin(self, lines: int, seed: int) -> State:
        """No train yet."""
        return np.array([seed, 0], np.int64)

    def __call__(self, state: State, p: Floats) -> tuple[Ints, State]:
        """The spikes and the next state."""
        bits = np.random.Philox(key=state.astype(np.uint64))
        draw = np.random.Generator(bits).random((*p.shape[:-1], self.steps, p.shape[-1]))
        return (draw < p[..., None, :]).astype(np.int8), state + np.array([0, 1])


@dataclass(frozen=True)
class Latency:
    """One spike each, at ``round((1 - p)(K - 1))``: the larger the earlier; none for p = 0."""

    steps: int

    def __post_init__(self) -> None:
        _steps(self)

    def begin(self, lines: int, seed: int) -> State:
        """Nothing to keep."""
        return np.zeros(0)

    def __call__(self, state: State, p: Floats) -> tuple[Ints, State]:
        """The spikes."""
        when = np.where(p > 0, np.rint((1.0 - p) * (self.steps - 1)), self.steps)
        return (np.arange(self.steps)[:, None] == when[..., None, :]).astype(np.int8), state


@dataclass(frozen=True)
class Coded:
    """A tuning and a train."""

    tuning: Tuning
    train: Train

    @property
    def observations(self) -> int:
        """Those of the tuning."""
        return self.tuning.observations

    @property
    def lines(self) -> int:
        """Those of the tuning."""
        return self.tuning.lines

    @property
    def steps(self) -> int:
        """Those of the train."""
        return self.train.steps

    def begin(self, seed: int = 0) -> State:
        """That of the train."""
        return self.train.begin(self.lines, seed)

    def __call__(self, state: State, obs: Floats) -> tuple[Ints, State]:
        """The spikes and the next state."""
        return self.train(state, self.tuning(obs))


@dataclass(frozen=True)
class Crossing:
    """A spike for each level crossed: upward on line i, downward on line n + i; one a step and line.

    Levels lie ``delta`` apart from 0; the state is the level last told. A step change larger than K levels is told
    over several observations. ``told * delta`` is within one delta of the value once K levels suffice: send on delta.
    """

    delta: tuple[float, ...]
    steps: int

    def __post_init__(self) -> None:
        _steps(self)
        if not self.delta or not all(math.isfinite(d) and d > 0 for d in self.delta):
            raise ValueError(f"Crossing.delta: must be positive numbers, one a value, got {self.delta}")

    @property
    def observations(self) -> int:
        """As many as deltas."""
        return len(self.delta)

    @property
    def lines(self) -> int:
        """Up and down."""
        return 2 * len(self.delta)

    def begin(self, seed: int = 0) -> State:
        """Level 0."""
        return np.zeros(len(self.delta), np.int64)

    def __call__(self, state: State, obs: Floats) -> tuple[Ints, State]:
        """The spikes and the levels told."""
        apart = np.fix(obs / self.delta - state + np.copysign(SLACK, obs / self.delta - state))
        go = np.clip(apart, -self.steps, self.steps).astype(np.int64)
        count = np.concatenate([np.maximum(go, 0), np.maximum(-go, 0)], axis=-1)
        x = np.arange(self.steps)[:, None] < count[..., None, :]
        return x.astype(np.int8), state + go


@dataclass(frozen=True)
class Payload:
    """The value itself as a signed message, in every step: ``rint(x / unit)``, held within ``+-(2^bits - 1)``.

    For programs compiled with ``graded_bits=bits``.
    """

    unit: tuple[float, ...]
    steps: int
    bits: int = 8

    def __post_init__(self) -> None:
        _steps(self)
        if not self.unit or not all(math.isfinite(u) and u > 0 for u in self.unit):
            raise ValueError(f"Payload.unit: must be positive numbers, one a value, got {self.unit}")
        if not 1 <= self.bits <= 24:
            raise ValueError(f"Payload.bits: must be 1 to 24, got {self.bits}")

    @property
    def observations(self) -> int:
        """As many as units."""
        return len(self.unit)

    @property
    def lines(self) -> int:
        """One a value."""
        return len(self.unit)

    def begin(self, seed: int = 0) -> State:
        """Nothing to keep."""
        return np.zeros(0)

    def __call__(self, state: State, obs: Floats) -> tuple[Ints, State]:
        """The messages."""
        most = 2**self.bits - 1
        held = np.clip(np.rint(obs / self.unit), -most, most).astype(np.int32)
        return np.repeat(held[..., None, :], self.steps, axis=-2), state


def _steps(owner: Any) -> None:
    if isinstance(owner.steps, bool) or not isinstance(owner.steps, int) or owner.steps < 1:
        raise ValueError(f"{type(owner).__name__}.steps: K must be at least 1 chip step, got {owner.steps}")
