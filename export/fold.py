"""Batch normalisation into the layer before it, with the rounding of it measured.

    y = gamma (W x + b - mean) / sqrt(var + eps) + beta
    g = gamma / sqrt(var + eps);  W' = g W;  b' = (b - mean) g + beta

W' and b' are computed in float64 and rounded once to the layer's own dtype.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from export.network import Conv1d, Linear, Loss, Shape, Weighted

SAMPLES = 8


def fold(node: Weighted, norm: nn.BatchNorm1d | nn.BatchNorm2d, in_shape: Shape, name: str) -> tuple[Weighted, Loss]:
    """``node`` with ``norm`` in it, and the largest absolute change of the output on random spikes.

    Errors: ``ValueError`` where the norm has no running statistics or another number of channels.
    """
    mean, var = norm.running_mean, norm.running_var
    if mean is None or var is None:
        raise ValueError("has no running statistics (track_running_stats=False); train it with them")
    if mean.shape[0] != node.weight.shape[0]:
        raise ValueError(f"normalises {mean.shape[0]} channels, {name} before it has {node.weight.shape[0]}")
    gain = 1.0 / np.sqrt(_array(var) + norm.eps)
    shift = 0.0 if norm.bias is None else _array(norm.bias)
    if norm.weight is not None:
        gain = gain * _array(norm.weight)
    bias = 0.0 if node.bias is None else node.bias.astype(np.float64)
    kind = node.weight.dtype
    weight = node.weight * gain.reshape(-1, *[1] * (node.weight.ndim - 1))
    folded = replace(node, weight=weight.astype(kind), bias=((bias - _array(mean)) * gain + shift).astype(kind))
    size = _difference(node, folded, norm, in_shape)
    what = f"BatchNorm folded in {kind}; largest absolute change of the output on random spikes"
    return folded, Loss(name, what, size)


def _difference(before: Weighted, after: Weighted, norm: nn.Module, in_shape: Shape) -> float:
    draw = np.random.default_rng(0).random((SAMPLES, *in_shape)) < 0.5
    x = torch.from_numpy(draw.astype(before.weight.dtype))
    n: Any = norm
    with torch.no_grad():
        y = functional.batch_norm(apply(before, x), n.running_mean, n.running_var, n.weight, n.bias, False, 0.0, n.eps)
        return float((y - apply(after, x)).abs().max())


def apply(node: Weighted, x: torch.Tensor) -> torch.Tensor:
    """The node's function in torch, ``x (N, ...)``."""
    weight = torch.from_numpy(np.ascontiguousarray(node.weight))
    bias = None if node.bias is None else torch.from_numpy(np.ascontiguousarray(node.bias))
    if isinstance(node, Linear):
        return functional.linear(x, weight, bias)
    if isinstance(node, Conv1d):
        return functional.conv1d(x, weight, bias, node.stride, node.padding, node.dilation, node.groups)
    return functional.conv2d(x, weight, bias, node.stride, node.padding, node.dilation, node.groups)


def _array(t: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    return t.detach().cpu().numpy().astype(np.float64)
