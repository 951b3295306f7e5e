"""Batch normalisation: how it takes its statistics in training, and, with those of evaluation, as weights and bias of
the layer before it.

    y = gamma (W x + b - mean) / sqrt(var + eps) + beta
    g = gamma / sqrt(var + eps);  W' = g W;  b' = (b - mean) g + beta

In float64, rounded by who puts them somewhere.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Array: TypeAlias = npt.NDArray[Any]
Norm: TypeAlias = nn.BatchNorm1d | nn.BatchNorm2d


def folded(weight: Array, bias: Array | None, norm: Norm) -> tuple[Array, Array]:
    """``(W', b')`` in float64. Errors: ``ValueError`` where the norm has no running statistics."""
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None:
        raise ValueError("has no running statistics (track_running_stats=False); train it with them")
    gain = 1.0 / np.sqrt(_array(var) + norm.eps)
    shift = 0.0 if norm.bias is None else _array(norm.bias)
    if norm.weight is not None:
        gain = gain * _array(norm.weight)
    before = 0.0 if bias is None else bias.astype(np.float64)
    return weight * gain.reshape(-1, *[1] * (weight.ndim - 1)), (before - _array(mean)) * gain + shift


class ChunkNorm1d(nn.BatchNorm1d):
    """BatchNorm whose training statistics are over all steps handed in at once, T N of them, as DCLS-Delays has it."""


class ChunkNorm2d(nn.BatchNorm2d):
    """BatchNorm whose training statistics are over all steps handed in at once, T N of them."""


class FrozenNorm1d(nn.BatchNorm1d):
    """BatchNorm that normalises with its running statistics in training too; weight and bias learn."""

    def train(self, mode: bool = True) -> FrozenNorm1d:
        """Stays in evaluation mode."""
        return super().train(False)


class FrozenNorm2d(nn.BatchNorm2d):
    """As :class:`FrozenNorm1d`."""

    def train(self, mode: bool = True) -> FrozenNorm2d:
        """Stays in evaluation mode."""
        return super().train(False)


NORM_MODES: dict[str, dict[type[nn.Module], type[nn.Module]]] = {
    "per_step": {nn.BatchNorm1d: nn.BatchNorm1d, nn.BatchNorm2d: nn.BatchNorm2d},
    "chunk": {nn.BatchNorm1d: ChunkNorm1d, nn.BatchNorm2d: ChunkNorm2d},
    "frozen": {nn.BatchNorm1d: FrozenNorm1d, nn.BatchNorm2d: FrozenNorm2d},
}
"""How a BatchNorm takes its statistics in training: each step's (SLTT's reference), those of all steps, none."""


def norm_mode(model: nn.Module, mode: str) -> None:
    """Make every BatchNorm of ``model`` one of ``mode``; weights and statistics stay.

    Errors: ``ValueError`` for a mode that is not in :data:`NORM_MODES`.
    """
    if mode not in NORM_MODES:
        raise ValueError(f"norm_mode: {mode!r} is none of {', '.join(NORM_MODES)}")
    for module in model.modules():
        base = next((b for b in NORM_MODES[mode] if isinstance(module, b)), None)
        if base is not None:
            module.__class__ = NORM_MODES[mode][base]
            module.train(model.training)


@torch.no_grad()
def fold(layer: nn.Linear | nn.Conv1d | nn.Conv2d, norm: Norm) -> None:
    """Put ``norm`` into ``layer``, rounded once to its dtype. Errors: as of :func:`folded`."""
    w = layer.weight
    weight, bias = folded(_array(w), None if layer.bias is None else _array(layer.bias), norm)
    w.copy_(torch.from_numpy(weight))
    layer.bias = nn.Parameter(torch.from_numpy(bias).to(w))


def _array(t: Tensor) -> npt.NDArray[np.float64]:
    return t.detach().cpu().numpy().astype(np.float64)
