"""Batch normalisation with evaluation statistics, as weights and bias of the layer before it.

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


@torch.no_grad()
def fold(layer: nn.Linear | nn.Conv1d | nn.Conv2d, norm: Norm) -> None:
    """Put ``norm`` into ``layer``, rounded once to its dtype. Errors: as of :func:`folded`."""
    w = layer.weight
    weight, bias = folded(_array(w), None if layer.bias is None else _array(layer.bias), norm)
    w.copy_(torch.from_numpy(weight))
    layer.bias = nn.Parameter(torch.from_numpy(bias).to(w))


def _array(t: Tensor) -> npt.NDArray[np.float64]:
    return t.detach().cpu().numpy().astype(np.float64)
