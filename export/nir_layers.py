"""NIR's nodes without dynamics as nodes of a Network and back, and a gain folded into weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.network import (
    AvgPool2d,
    Conv1d,
    Conv2d,
    Flatten,
    Float,
    Input,
    Linear,
    NetworkError,
    Node,
    Output,
    Pair,
    Scale,
    Shape,
    SumPool2d,
    Weighted,
)
from export.nir_file import Raw
from export.program import MappingError

Notes: TypeAlias = list[tuple[str, float]]
WHOLE = 1e-3
"""A delay within so much of a step is whole: 1e-3 steps, far above the rounding of a file's seconds."""


def read_layer(name: str, raw: Raw, shape: Shape | None) -> tuple[Node, Notes]:
    """The node, and what was changed. Errors: :class:`MappingError` for an unknown type; ``ValueError`` for values."""
    kind = raw["type"]
    if kind == "Input":
        return Input(_input_shape(name, raw)), []
    if kind == "Output":
        return Output(), []
    if kind in ("Affine", "Linear"):
        return Linear(_weight(name, raw, 2), _array(name, raw, "bias") if kind == "Affine" else None), []
    if kind == "Scale":
        scale = _array(name, raw, "scale")
        return Scale(np.broadcast_to(scale, shape).copy() if shape is not None and scale.size == 1 else scale), []
    if kind in ("Conv1d", "Conv2d"):
        return _conv(name, raw), []
    if kind in ("AvgPool2d", "SumPool2d"):
        pool = AvgPool2d if kind == "AvgPool2d" else SumPool2d
        kernel = _pair(raw["kernel_size"])
        return pool(kernel, _pair(raw.get("stride", kernel)), _pair(raw.get("padding", 0))), []
    if kind == "Flatten":
        return Flatten(int(raw.get("start_dim", 1)), int(raw.get("end_dim", -1))), []
    raise MappingError(
        f"{name}: node type {kind!r} is not one of nir 1.0.8; write it with Affine, Linear, Scale, Conv1d, Conv2d, "
        "SumPool2d, AvgPool2d, Delay, Flatten, I, IF, LI, LIF, CubaLI, CubaLIF, Threshold"
    )


def delay_steps(name: str, raw: Raw, dt: float) -> tuple[npt.NDArray[np.int64], float]:
    """Whole steps of a Delay node and the largest error in seconds.

    Errors: :class:`MappingError` where a delay is no whole number of steps, or negative.
    """
    delay = np.atleast_1d(_array(name, raw, "delay").astype(np.float64))
    if not np.isfinite(delay).all() or delay.min() < 0:
        raise MappingError(
            f"{name}: delays must be finite and >= 0 s, are {delay.min():g} to {delay.max():g}; correct them"
        )
    steps = np.rint(delay / dt)
    off = np.abs(delay / dt - steps)
    if off.max() > WHOLE:
        worst = float(delay.flat[int(off.argmax())])
        raise MappingError(
            f"{name}: a delay of {worst:g} s is {worst / dt:g} steps of {dt:g} s, not a whole number; "
            "choose dt_s to divide the delays, or round them in the file"
        )
    error = float(np.abs(delay - steps * dt).max())
    return steps.astype(np.int64), error if error > 1e-6 * dt else 0.0


def fold_gain(node: Node, gain: float | npt.NDArray[np.float64]) -> Node | None:
    """``node`` with its output times ``gain``, a number or one a target; None where its weights cannot hold it."""
    if not isinstance(node, Weighted):
        return None
    rows = np.asarray(gain, np.float64)
    if rows.ndim > 1:  # (c, ...): one number a channel, or none
        flat = rows.reshape(len(rows), -1)
        if (flat != flat[:, :1]).any():
            return None
        rows = flat[:, 0]
    elif rows.ndim and not isinstance(node, Linear):
        return None
    kind = node.weight.dtype
    weight = (node.weight * (rows.reshape(-1, *[1] * (node.weight.ndim - 1)) if rows.ndim else rows)).astype(kind)
    bias = None if node.bias is None else (node.bias * rows).astype(node.bias.dtype)
    return replace(node, weight=weight, bias=bias)


def _input_shape(name: str, raw: Raw) -> Shape:
    stated = raw.get("shape", raw.get("input_type"))
    if isinstance(stated, dict):
        stated = stated.get("input")
    if stated is None:
        raise NetworkError(f"{name}: states no shape; give nir.Input the shape of one step of one sample")
    return tuple(int(n) for n in np.atleast_1d(stated)) or (1,)


def _conv(name: str, raw: Raw) -> Conv1d | Conv2d:
    axes = 1 if raw["type"] == "Conv1d" else 2
    weight = _weight(name, raw, 2 + axes)
    bias = None if raw.get("bias") is None else _array(name, raw, "bias")
    meta = raw.get("metadata") or {}
    if bias is not None and not bias.any() and "bias" not in meta:
        bias = None  # exporters always write one
    stride, dilation = (_ints(raw.get(k, 1), axes) for k in ("stride", "dilation"))
    groups = int(raw.get("groups", 1))
    padding = raw.get("padding", 0)
    if isinstance(padding, str):
        weight, pad, dilation = _named_padding(name, padding, weight, stride, dilation)
    else:
        pad = _ints(padding, axes)
    if axes == 1:
        return Conv1d(weight, bias, stride[0], pad[0], dilation[0], groups)
    return Conv2d(weight, bias, (stride[0], stride[1]), (pad[0], pad[1]), (dilation[0], dilation[1]), groups)


def _named_padding(
    name: str, padding: str, weight: Float, stride: Sequence[int], dilation: Sequence[int]
) -> tuple[Float, list[int], list[int]]:
    """'valid': none. 'same' (stride 1): half before, the rest behind; where uneven, the kernel gets a 0 in front."""
    if padding == "valid":
        return weight, [0] * len(stride), list(dilation)
    if padding != "same" or max(stride) > 1:
        raise MappingError(f"{name}: padding {padding!r} with stride {tuple(stride)} is not mapped; give numbers")
    pads, spread = [], list(dilation)
    for axis, d in enumerate(dilation, start=2):
        total = d * (weight.shape[axis] - 1)
        if total % 2:
            dense = np.zeros((*weight.shape[:axis], total + 2, *weight.shape[axis + 1 :]), weight.dtype)
            np.moveaxis(dense, axis, 0)[1::d] = np.moveaxis(weight, axis, 0)
            weight, spread[axis - 2], total = dense, 1, total + 1
        pads.append(total // 2)
    return weight, pads, spread


def _weight(name: str, raw: Raw, ndim: int) -> Float:
    w = _array(name, raw, "weight")
    if w.ndim != ndim:
        raise NetworkError(f"{name}: {raw['type']} weight must have {ndim} axes, got {w.shape}; one matrix per node")
    return w


def _array(name: str, raw: Raw, key: str) -> Float:
    """float32 stays, everything else becomes float64."""
    if raw.get(key) is None:
        raise NetworkError(f"{name}: {raw['type']} lacks '{key}'; export it again with nir 1.0")
    a = np.asarray(raw[key])
    if a.dtype.kind not in "fiub":
        raise NetworkError(f"{name}: {key} has type {a.dtype}, not numbers; export it again")
    return a if a.dtype == np.float32 else a.astype(np.float64)


def _ints(value: Any, axes: int) -> list[int]:
    found = [int(v) for v in np.atleast_1d(value)]
    found = found * axes if len(found) == 1 else found
    if len(found) != axes:
        raise ValueError(f"expects {axes} numbers, got {found}")
    return found


def _pair(value: Any) -> Pair:
    a, b = _ints(value, 2)
    return a, b


def write_layer(node: Node, shape: Shape, out: Shape) -> Raw:
    """``{"type", fields}`` of a node without dynamics; ``shape`` of its input, ``out`` of its output."""
    if isinstance(node, Input | Output):
        return {"type": type(node).__name__, "shape": np.array(out)}
    if isinstance(node, Linear):
        return {"type": "Linear", "weight": node.weight} | (
            {} if node.bias is None else {"type": "Affine", "bias": node.bias}
        )
    if isinstance(node, Scale):
        return {"type": "Scale", "scale": node.scale}
    if isinstance(node, Conv1d | Conv2d):
        bias = np.zeros(len(node.weight), node.weight.dtype) if node.bias is None else node.bias
        common = {"weight": node.weight, "groups": node.groups, "bias": bias}
        if isinstance(node, Conv1d):
            return common | {
                "type": "Conv1d", "input_shape": shape[1], "stride": node.stride, "padding": node.padding,
                "dilation": node.dilation,
            }  # fmt: skip
        return common | {
            "type": "Conv2d", "input_shape": shape[1:], "stride": node.stride, "padding": node.padding,
            "dilation": node.dilation,
        }  # fmt: skip
    if isinstance(node, AvgPool2d | SumPool2d):
        return {
            "type": type(node).__name__, "kernel_size": np.array(node.kernel), "stride": np.array(node.stride),
            "padding": np.array(node.padding),
        }  # fmt: skip
    if isinstance(node, Flatten):
        return {
            "type": "Flatten", "start_dim": node.start_dim, "end_dim": node.end_dim, "input_type": np.array(shape),
        }  # fmt: skip
    raise MappingError(f"a {type(node).__name__} has no NIR node")
