"""Tuning: what drives each input line. Pure, ``(..., observations) -> (..., lines)``, drives in [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]


class Tuning(Protocol):
    """Values to drives in [0, 1]: ``(..., observations) -> (..., lines)``."""

    @property
    def observations(self) -> int:
        """Values of one observation."""

    @property
    def lines(self) -> int:
        """Drives that they become."""

    def __call__(self, obs: Floats) -> Floats:
        """The drives."""


@dataclass(frozen=True)
class Scaled:
    """One line a value: ``p = (x - low) / (high - low)``, held within 0 and 1."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    _part: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _range(self)
        object.__setattr__(self, "_part", (np.array(self.low), 1.0 / (np.array(self.high) - np.array(self.low))))

    @property
    def observations(self) -> int:
        """As many as limits."""
        return len(self.low)

    @property
    def lines(self) -> int:
        """One a value."""
        return len(self.low)

    def __call__(self, obs: Floats) -> Floats:
        """The drives."""
        low, gain = self._part
        return np.clip((obs - low) * gain, 0.0, 1.0)


@dataclass(frozen=True)
class Opposed:
    """Two lines a value, first all for what is above 0, then all for what is below: ``p = (x, -x) / span``, held."""

    span: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.span or not all(math.isfinite(s) and s > 0 for s in self.span):
            raise ValueError(f"Opposed.span: must be positive numbers, one a value, got {self.span}")

    @property
    def observations(self) -> int:
        """As many as spans."""
        return len(self.span)

    @property
    def lines(self) -> int:
        """Two a value."""
        return 2 * len(self.span)

    def __call__(self, obs: Floats) -> Floats:
        """The drives."""
        x = obs / self.span
        return np.clip(np.concatenate([x, -x], axis=-1), 0.0, 1.0)


@dataclass(frozen=True)
class Bells:
    """A population a value: ``count`` bell curves over [low, high], ``p = exp(-(x - centre)^2 / (2 width^2))``.

    Centres ``low + (i - 1/2) d``, i = 0 .. count - 1, ``d = (high - low) / (count - 2)``, width ``d / beta``: the
    receptive fields of Bohte, Kok and La Poutre 2002 (Neurocomputing 48), where beta = 1.5. A value outside is held
    at the limit. Lines: all of the first value, then all of the second.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    count: int = 12
    beta: float = 1.5
    _part: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _range(self)
        if self.count < 3 or not self.beta > 0:
            raise ValueError(f"Bells: count must be >= 3 and beta > 0, got {self.count} and {self.beta}")
        low, high = np.array(self.low), np.array(self.high)
        d = (high - low) / (self.count - 2)
        centres = low[:, None] + (np.arange(self.count) - 0.5) * d[:, None]
        object.__setattr__(self, "_part", (low, high, centres, (self.beta / d / math.sqrt(2.0))[:, None]))

    @property
    def observations(self) -> int:
        """As many as limits."""
        return len(self.low)

    @property
    def lines(self) -> int:
        """``count`` a value."""
        return self.count * len(self.low)

    def __call__(self, obs: Floats) -> Floats:
        """The drives."""
        low, high, centres, steep = self._part
        z = (np.clip(obs, low, high)[..., None] - centres) * steep
        p: Floats = np.exp(-z * z)
        return p.reshape(*obs.shape[:-1], -1)


def _range(owner: Any) -> None:
    pairs = list(zip(owner.low, owner.high, strict=False))
    if not pairs or len(owner.low) != len(owner.high):
        raise ValueError(f"{type(owner).__name__}: low and high need one number a value, got {owner.low}, {owner.high}")
    if not all(math.isfinite(a) and math.isfinite(b) and a < b for a, b in pairs):
        raise ValueError(
            f"{type(owner).__name__}: low must be below high and both finite, got {owner.low}, {owner.high}"
        )
