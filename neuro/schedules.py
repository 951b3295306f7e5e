"""Learning rates over a training: functions ``(done, whole) -> factor`` of the optimizer's own learning rate.

``done`` of ``whole`` epochs, or of ``whole`` batches where training moves the rate within an epoch
(``Scale(rate_per_batch=True)``): no schedule knows which, for none has a state. So a resumed run needs no number
but where it is. Those with settings are values that print, and a checkpoint refuses to go on under another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Schedule: TypeAlias = Callable[[int, int], float]
"""``(done, whole) -> factor``, ``0 <= done < whole``."""

Schedules: TypeAlias = Schedule | Mapping[str, Schedule]
"""One for all, or one for each parameter group by its ``name`` (:func:`neuro.optim.parameter_groups`)."""


def cosine(epoch: int, epochs: int) -> float:
    """``(1 + cos(pi epoch / epochs)) / 2``: from 1 to 0 (Loshchilov and Hutter 2017, without restarts)."""
    return 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))


def constant(epoch: int, epochs: int) -> float:  # noqa: ARG001 (a schedule takes both)
    """1."""
    return 1.0


@dataclass(frozen=True)
class Milestones:
    """``factor^k`` after k of the milestones, each a fraction of the whole, rounded down to whole epochs.

    ``Milestones((0.6, 0.8, 0.9), 0.2)`` is IIR-SNN's. Errors: ``ValueError`` for fractions outside (0, 1) or out of
    order, and for a factor that is not positive.
    """

    at: tuple[float, ...] = (0.5, 0.75)
    factor: float = 0.1

    def __post_init__(self) -> None:
        if not all(0.0 < a < 1.0 for a in self.at) or list(self.at) != sorted(self.at):
            raise ValueError(f"Milestones.at: must be rising fractions in (0, 1), got {self.at}")
        _positive("Milestones.factor", self.factor)

    def __call__(self, epoch: int, epochs: int) -> float:
        # 0.7 * 10 is above 7 in floats, so products are rounded before they are cut
        passed = sum(epoch >= math.floor(round(a * epochs, 9)) for a in self.at)
        return float(self.factor**passed)


@dataclass(frozen=True)
class OneCycle:
    """Up by half a cosine from ``1 / start`` to 1 over ``rise`` of the way, then down to ``1 / (start end)``.

    The optimizer's own rate is the peak. Numbers and shape are those of ``torch.optim.lr_scheduler.OneCycleLR`` (Smith
    and Topin 2019); momentum does not cycle. Errors: ``ValueError`` for ``rise`` outside (0, 1), divisors below 1.
    """

    rise: float = 0.3
    start: float = 25.0
    end: float = 1e4

    def __post_init__(self) -> None:
        if not 0.0 < self.rise < 1.0 or self.start < 1.0 or self.end < 1.0:
            raise ValueError(f"OneCycle: rise must be in (0, 1), start and end at least 1, got {self}")

    def __call__(self, epoch: int, epochs: int) -> float:
        low, lowest = 1.0 / self.start, 1.0 / (self.start * self.end)
        top = self.rise * epochs - 1.0
        if epoch <= top:
            return _between(low, 1.0, epoch / top if top else 1.0)
        return _between(1.0, lowest, (epoch - top) / (epochs - 1.0 - top))


@dataclass(frozen=True)
class WarmUp:
    """In a line from ``start`` to 1 over the first ``share`` of the way, then ``then`` over what is left of it.

    Goyal et al. 2017. Errors: ``ValueError`` for a share outside (0, 1) or ``start`` outside [0, 1].
    """

    then: Schedule = cosine
    share: float = 0.05
    start: float = 0.01

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0 or not 0.0 <= self.start <= 1.0:
            raise ValueError(f"WarmUp: share must be in (0, 1) and start in [0, 1], got {self.share} and {self.start}")

    def __call__(self, epoch: int, epochs: int) -> float:
        rising = max(1, round(self.share * epochs))
        if epoch < rising:
            return self.start + (1.0 - self.start) * epoch / rising
        return self.then(epoch - rising, epochs - rising)


def _between(a: float, b: float, way: float) -> float:
    """Half a cosine from a to b."""
    return b + (a - b) * 0.5 * (1.0 + math.cos(math.pi * way))


def _positive(name: str, value: float) -> None:
    if not value > 0.0:
        raise ValueError(f"{name}: must be positive, got {value}")
