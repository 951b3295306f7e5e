"""Settings of training that change how it runs, and, but for rounding, not what it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuro.metrics import Score, right
from neuro.modules import ModuleState, steps


@dataclass(frozen=True)
class Scale:
    """How a training runs. Whatever is set here, one batch is one step of the optimizer.

    ``amp``: matrix products and convolutions in ``torch.bfloat16``, or in ``torch.float16`` with gradients scaled
    against underflow; states, thresholds, norms and losses stay float32. ``compile``: forward through
    ``torch.compile``. ``accumulate``: each batch in this many parts whose gradients add up, so that only a part's
    graph is held. ``clip``: the norm of all gradients together is cut to this, once a batch.

    ``checkpoint_batches``, ``checkpoint_s``: write the checkpoint within an epoch too, after so many batches or
    seconds. ``rate_per_batch``: the schedule counts batches, not epochs. ``fetch_ahead``: threads that fetch and
    augment the next batches meanwhile.

    Errors: ``ValueError`` for settings out of range.
    """

    amp: torch.dtype | None = None
    compile: bool = False
    accumulate: int = 1
    clip: float | None = None
    checkpoint_batches: int | None = None
    checkpoint_s: float | None = None
    rate_per_batch: bool = False
    fetch_ahead: int = 0

    def __post_init__(self) -> None:
        if self.amp not in (None, torch.bfloat16, torch.float16):
            raise ValueError(f"Scale.amp: must be torch.bfloat16, torch.float16 or None, got {self.amp}")
        if self.accumulate < 1 or self.fetch_ahead < 0:
            raise ValueError(
                f"Scale: accumulate must be at least 1 and fetch_ahead at least 0, got {self.accumulate} and "
                f"{self.fetch_ahead}"
            )
        for name in ("clip", "checkpoint_batches", "checkpoint_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"Scale.{name}: must be above 0, or None, got {value}")


PLAIN = Scale()


@dataclass(frozen=True)
class EarlyStop:
    """Stop after ``patience`` epochs without a better mean ``score`` on the validation data, which decides ``best``.

    The weights of the best epoch are what training ends with. ``patience`` None only does that. Errors: ``ValueError``
    for a patience below 1.
    """

    patience: int | None = None
    score: Score = right

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"EarlyStop.patience: must be at least 1 epoch, got {self.patience}")

    def stops(self, scores: list[float]) -> bool:
        """Whether these scores, one an epoch, end it."""
        if self.patience is None or not scores:
            return False
        return len(scores) - 1 - scores.index(max(scores)) >= self.patience


class Compiled(nn.Module):
    """``module`` whose K steps run through ``torch.compile`` as one graph: compiled anew for each shape and K."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self._run: Any = torch.compile(self._steps)

    def _steps(self, x: Tensor, state: ModuleState, detached: bool) -> tuple[Tensor, ModuleState]:
        return steps(self.module, x, state, detached=detached)

    def forward_steps(self, x: Tensor, state: ModuleState, detached: bool) -> tuple[Tensor, ModuleState]:
        """As :func:`neuro.modules.steps`."""
        y, state = self._run(x, state, detached)
        return y, state


@contextmanager
def precision(amp: torch.dtype | None, device: torch.device) -> Iterator[None]:
    """``torch.autocast`` where ``amp`` names a type."""
    if amp is None:
        yield
    else:
        with torch.autocast(device.type, dtype=amp):
            yield


def in_float(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss on outputs in float32, outside autocast: what it sums would not fit a half."""

    def full(out: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(out.device.type, enabled=False):
            return loss(out.float(), y)

    return full
