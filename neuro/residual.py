"""What residual networks need beside a row of modules: a sum of two ways, and a factor."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from neuro.modules import ModuleState, step, steps


class Sum(nn.Module):
    """``y[t] = body(x[t]) + shortcut(x[t])``; ``shortcut`` None for x itself. The state is ``[body's, shortcut's]``.

    Takes all steps at once where its two ways do. Errors: ``ValueError`` where their shapes differ.
    """

    explicit_state = True

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor, state: ModuleState = None) -> tuple[Tensor, ModuleState]:
        """One step, ``x (N, ...)``."""
        inner, side = (None, None) if state is None else state
        y, inner = step(self.body, x, inner)
        z, side = (x, None) if self.shortcut is None else step(self.shortcut, x, side)
        return self._joined(y, z), [inner, side]

    def forward_steps(self, x: Tensor, state: ModuleState, detached: bool) -> tuple[Tensor, ModuleState]:
        """K steps, ``x (K, N, ...)``; see :func:`neuro.modules.steps`."""
        inner, side = (None, None) if state is None else state
        y, inner = steps(self.body, x, inner, detached=detached)
        z, side = (x, None) if self.shortcut is None else steps(self.shortcut, x, side, detached=detached)
        return self._joined(y, z), [inner, side]

    @staticmethod
    def _joined(y: Tensor, z: Tensor) -> Tensor:
        if y.shape != z.shape:
            shapes = f"{tuple(y.shape)} and {tuple(z.shape)}"
            raise ValueError(f"Sum: body and shortcut give {shapes}; give the shortcut a layer that makes them agree")
        return y + z


class Scaled(nn.Module):
    """``y = factor * gain * x``; ``gain``: a trainable scalar that starts at ``start``, or 1 where that is None.

    With start 0 it is SkipInit's (De and Smith 2020). Errors: ``ValueError`` for a factor that is not finite.
    """

    def __init__(self, factor: float, start: float | None = None) -> None:
        super().__init__()
        if not math.isfinite(factor):
            raise ValueError(f"Scaled.factor: must be finite, got {factor}")
        self.factor = factor
        self.gain = None if start is None else nn.Parameter(torch.tensor(float(start)))

    def forward(self, x: Tensor) -> Tensor:
        """Shapes as ``x``."""
        return x * self.factor if self.gain is None else x * (self.factor * self.gain)

    def forward_steps(self, x: Tensor, state: ModuleState, detached: bool) -> tuple[Tensor, ModuleState]:
        """K steps at once: it has no memory."""
        return self(x), None

    def extra_repr(self) -> str:
        return f"{self.factor:g}"
