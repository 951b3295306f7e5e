"""Batch normalisation into the layer before it (:mod:`neuro.norm`), rounded once to its dtype and that measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from export.network import Conv1d, DelayedLinear, Linear, Loss, Shape, Weighted
from neuro.norm import folded

SAMPLES = 8


Foldable: TypeAlias = Weighted | DelayedLinear


def fold(node: Foldable, norm: nn.BatchNorm1d | nn.BatchNorm2d, in_shape: Shape, name: str) -> tuple[Foldable, Loss]:
    """``node`` with ``norm`` in it, and the largest absolute change of the output on random spikes.

    Errors: ``ValueError`` where the norm has no running statistics or another number of channels.
    """
    if norm.num_features != node.weight.shape[0]:
        raise ValueError(f"normalises {norm.num_features} channels, {name} before it has {node.weight.shape[0]}")
    kind = node.weight.dtype
    weight, bias = folded(node.weight, node.bias, norm)
    made = replace(node, weight=weight.astype(kind), bias=bias.astype(kind))
    size = _difference(node, made, norm, in_shape)
    what = f"BatchNorm folded in {kind}; largest absolute change of the output on random spikes"
    return made, Loss(name, what, size)


def gain_of(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> npt.NDArray[np.float64]:
    """``gamma / sqrt(var + eps)`` of each channel. Errors: ``ValueError`` without running statistics."""
    return folded(np.ones((norm.num_features, 1)), None, norm)[0][:, 0]


def with_gain(node: Foldable, gain: npt.NDArray[np.float64]) -> Foldable:
    """``gain * node(x)``, a gain for each output channel, rounded once to the node's dtype."""
    weight = node.weight * gain.reshape(-1, *[1] * (node.weight.ndim - 1))
    bias = None if node.bias is None else (node.bias * gain).astype(node.weight.dtype)
    return replace(node, weight=weight.astype(node.weight.dtype), bias=bias)


def _difference(before: Foldable, after: Foldable, norm: nn.Module, in_shape: Shape) -> float:
    draw = np.random.default_rng(0).random((SAMPLES, *in_shape)) < 0.5
    x = torch.from_numpy(draw.astype(before.weight.dtype))
    n: Any = norm
    with torch.no_grad():
        y = functional.batch_norm(apply(before, x), n.running_mean, n.running_var, n.weight, n.bias, False, 0.0, n.eps)
        return float((y - apply(after, x)).abs().max())


def apply(node: Foldable, x: torch.Tensor) -> torch.Tensor:
    """The node's function in torch, ``x (N, ...)``; of delayed synapses, what they make of an input that stays."""
    weight = torch.from_numpy(np.ascontiguousarray(node.weight))
    bias = None if node.bias is None else torch.from_numpy(np.ascontiguousarray(node.bias))
    if isinstance(node, Linear | DelayedLinear):
        return functional.linear(x, weight, bias)
    if isinstance(node, Conv1d):
        return functional.conv1d(x, weight, bias, node.stride, node.padding, node.dilation, node.groups)
    return functional.conv2d(x, weight, bias, node.stride, node.padding, node.dilation, node.groups)
