"""torch and SpikingJelly modules into a :class:`Network`: the module itself is read, never its defaults.

What cannot be mapped is refused with the module's path and what to do; what the import changes is in ``losses``.
BatchNorm is folded into the layer before it, as in evaluation:

    W' = W gamma / sqrt(var + eps),   b' = beta + (b - mean) gamma / sqrt(var + eps)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from export.network import (
    AvgPool2d,
    Conv2d,
    Flatten,
    Input,
    Linear,
    Loss,
    Network,
    NetworkError,
    Node,
    Output,
    Pair,
    Spiking,
)
from export.program import MappingError
from neuro import modules
from neuro.neuron import Charge, Decay, Law, NoLeak, Rate, Tau

Array: TypeAlias = npt.NDArray[Any]

IDENTITY = {"Identity", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d"}
FIXES = {
    "MaxPool2d": "use AvgPool2d or a convolution with stride, and train again",
    "LayerNorm": "use BatchNorm, which folds into the weights, and train again",
    "ConvTranspose2d": "use an upsampling followed by Conv2d outside the exported part",
    "ReLU": "put a spiking neuron in its place; a chip has no real-valued activation",
    "Softmax": "leave it to the decoder: the largest spike count is the largest probability",
    "AdaptiveAvgPool2d": "write the AvgPool2d that it amounts to for this input size",
    "LSTM": "use a recurrent spiking layer",
}


def from_torch(
    module: nn.Module, input_shape: Sequence[int], *, dt_s: float = 1e-3, name: str = "network"
) -> Network:
    """The chain of layers in ``module`` as a Network in float32 or float64, as the module is.

    ``module``: ``nn.Sequential`` (nested, ``neuro.modules.Stack``, SpikingJelly's ``SeqToANNContainer``) of Linear,
    Conv2d, BatchNorm1d/2d, AvgPool2d, Flatten, Dropout, Identity, ``neuro.modules.Spiking`` and SpikingJelly's
    IFNode, LIFNode, ParametricLIFNode, CUBALIFNode. ``input_shape``: one step of one sample. Errors:
    ``MappingError`` or ``NetworkError``, with the path of the module.
    """
    nodes: dict[str, Node] = {"input": Input(tuple(int(n) for n in input_shape))}
    losses: list[Loss] = []
    for path, layer in _leaves(module, ""):
        if type(layer).__name__ in IDENTITY:
            continue
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            last = list(nodes)[-1]
            nodes[last] = _fold(nodes[last], last, layer, path)
            losses.append(Loss(last, f"BatchNorm {path} folded: rounding of the folded weights, largest relative", _eps(layer)))
            continue
        nodes[path.replace("/", ".")] = _node(path, layer)
    try:
        return Network.sequential(nodes | {"output": Output()}, dt_s=dt_s, name=name, losses=tuple(losses))
    except NetworkError as error:
        raise NetworkError(f"{error} (module path of {type(module).__name__})") from None


def _leaves(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, nn.Sequential):
        for key, child in module.named_children():
            yield from _leaves(child, f"{path}.{key}" if path else key)
    else:
        yield path or "0", module


def _node(path: str, layer: nn.Module) -> Node:
    if isinstance(layer, modules.Spiking):
        return Spiking(layer.law)
    kind = type(layer)
    if kind.__module__.startswith("spikingjelly") and hasattr(layer, "v_threshold"):
        return Spiking(_law(path, layer))
    if isinstance(layer, nn.Linear):
        return Linear(_array(layer.weight), _bias(layer))
    if isinstance(layer, nn.Conv2d):
        return _conv(path, layer)
    if isinstance(layer, nn.AvgPool2d):
        return _pool(path, layer)
    if isinstance(layer, nn.Flatten):
        if layer.start_dim != 1 or layer.end_dim != -1:
            raise _refusal(path, layer, "flattens part of the axes; use Flatten(start_dim=1)")
        return Flatten()
    fix = FIXES.get(kind.__name__, "write it with the layers from_torch knows (see its docstring), in a Sequential")
    raise _refusal(path, layer, fix)


def _conv(path: str, layer: nn.Conv2d) -> Conv2d:
    if layer.padding_mode != "zeros":
        raise _refusal(path, layer, f"padding_mode '{layer.padding_mode}'; only zeros can be exported")
    padding = layer.padding
    if isinstance(padding, str):
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        if padding == "same" and any(t % 2 for t in total):
            raise _refusal(path, layer, "padding 'same' of an even kernel is uneven; give padding as numbers")
        padding = tuple(t // 2 for t in total) if padding == "same" else (0, 0)
    return Conv2d(
        _array(layer.weight),
        _bias(layer),
        _pair(layer.stride),
        _pair(padding),
        _pair(layer.dilation),
        layer.groups,
    )


def _pool(path: str, layer: nn.AvgPool2d) -> AvgPool2d:
    padding = _pair(layer.padding)
    if layer.ceil_mode or layer.divisor_override or (padding != (0, 0) and not layer.count_include_pad):
        raise _refusal(path, layer, "ceil_mode, divisor_override and count_include_pad=False cannot be exported")
    return AvgPool2d(_pair(layer.kernel_size), _pair(layer.stride), padding)


def _fold(node: Node, name: str, bn: nn.BatchNorm1d | nn.BatchNorm2d, path: str) -> Node:
    if not isinstance(node, Linear | Conv2d):
        raise _refusal(path, bn, f"stands after {name}, which is no Linear or Conv2d to fold it into; move it")
    if bn.running_mean is None or bn.running_var is None:
        raise _refusal(path, bn, "keeps no running statistics; set track_running_stats=True and train again")
    if len(bn.running_mean) != len(node.weight):
        raise _refusal(path, bn, f"has {len(bn.running_mean)} channels, {name} gives {len(node.weight)}")
    dtype = node.weight.dtype
    mean, var = (_array(t).astype(np.float64) for t in (bn.running_mean, bn.running_var))
    gamma = np.ones_like(mean) if bn.weight is None else _array(bn.weight).astype(np.float64)
    beta = np.zeros_like(mean) if bn.bias is None else _array(bn.bias).astype(np.float64)
    factor = gamma / np.sqrt(var + bn.eps)
    bias = 0.0 if node.bias is None else node.bias.astype(np.float64)
    weight = node.weight.astype(np.float64) * factor.reshape(-1, *([1] * (node.weight.ndim - 1)))
    return replace(node, weight=weight.astype(dtype), bias=(beta + (bias - mean) * factor).astype(dtype))


def _law(path: str, node: nn.Module) -> Law:
    """SpikingJelly's neuron as a law; only the exact types whose equations are known."""
    n: Any = node
    kind = type(node).__name__
    rest = 0.0 if n.v_reset is None else float(n.v_reset)
    charge: Charge
    if kind == "IFNode":
        charge = NoLeak()
    elif kind == "LIFNode":
        charge = Tau(float(n.tau), bool(n.decay_input), rest)
    elif kind == "ParametricLIFNode":
        charge = Rate(float(n.w.detach().sigmoid()), bool(n.decay_input), rest)
    elif kind == "CUBALIFNode":
        charge = Decay(float(n.c_decay), float(n.v_decay))
    else:
        raise _refusal(path, node, "is no IFNode, LIFNode, ParametricLIFNode or CUBALIFNode; use one of these")
    threshold = float(n.v_threshold)
    if n.v_reset is None:
        return Law(charge, threshold, "subtract")
    return Law(charge, threshold, "zero", rest)


def _refusal(path: str, layer: nn.Module, fix: str) -> MappingError:
    return MappingError(f"{path}: {type(layer).__name__} cannot be exported: {fix}")


def _array(t: torch.Tensor) -> Array:
    return t.detach().cpu().numpy().copy()


def _bias(layer: nn.Linear | nn.Conv2d) -> Array | None:
    return None if layer.bias is None else _array(layer.bias)


def _eps(bn: nn.Module) -> float:
    dtype = next((p.dtype for p in bn.parameters()), torch.float32)
    return float(torch.finfo(dtype).eps) / 2  # the folded products are computed in float64 and rounded once


def _pair(value: Any) -> Pair:
    a = (value, value) if isinstance(value, int) else tuple(value)
    return int(a[0]), int(a[1])


