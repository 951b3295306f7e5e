"""What a float network does when it runs densely, counted from its shapes and its spikes.

``macs``: multiply-adds that a dense runtime executes, padding included, per weight layer.
``acs``: accumulates that are not in vain: non-zero input times non-zero weight, padding excluded; for a layer whose
input holds other values than -1, 0 and 1 they are counted as ``effective_macs`` (NeuroBench's split).
``elementwise_ops``: additions and multiplications of the neuron law and of pooling.
``weight_bytes``, ``activation_bytes``: each weight read once a step, each layer's input and output moved once.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from export.network import AvgPool2d, Conv2d, Linear, Network, Spiking
from neuro.neuron import Decay, Law, NoLeak
from sim.run import Counts

Array = npt.NDArray[Any]


def static_counts(network: Network, samples: int, steps: int) -> Counts:
    """Counts that follow from shapes alone. ``weight_bytes`` per step for one sample at a time."""
    shapes = network.shapes()
    n = samples * steps
    out: Counts = {}

    def add(event: str, node: str, value: int) -> None:
        out.setdefault(event, {})[node] = value

    for name, node in network:
        size = math.prod(shapes[name])
        if isinstance(node, Linear | Conv2d):
            fan_in = math.prod(node.weight.shape[1:])
            add("macs", name, n * size * fan_in)
            add("weight_bytes", name, n * (node.weight.nbytes + (0 if node.bias is None else node.bias.nbytes)))
        elif isinstance(node, Spiking):
            add("neuron_updates", name, n * size)
            add("elementwise_ops", name, n * size * law_ops(node.law))
        elif isinstance(node, AvgPool2d):
            add("elementwise_ops", name, n * size * math.prod(node.kernel))
        if isinstance(node, Linear | Conv2d | Spiking | AvgPool2d):
            source = network.sources(name)[0].src
            add("activation_bytes", name, n * 4 * (size + math.prod(shapes[source])))
    return out


def law_ops(law: Law) -> int:
    """Additions, multiplications, divisions and comparisons of one step of one neuron, as ``neuro.neuron`` writes."""
    charge = 1 if isinstance(law.charge, NoLeak) else 4
    charge -= law.charge.kind in ("tau", "rate") and law.charge.rest == 0.0  # v - 0 is not computed
    charge = 4 if isinstance(law.charge, Decay) else charge
    return charge + 1 + (2 if law.reset == "subtract" else 1)


def accumulates(network: Network, name: str, x: Array) -> tuple[str, int]:
    """``("acs" | "effective_macs", count)`` of weight layer ``name`` for its input ``x (n, ...)``."""
    node = network.nodes[name]
    on = x != 0
    binary = bool(np.isin(x, (-1, 0, 1)).all())
    return ("acs" if binary else "effective_macs"), int((on.sum(axis=0) * fan_out(node, x.shape[1:])).sum())


def fan_out(node: Linear | Conv2d | Any, shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Non-zero weights that each input element reaches, in the shape of the input."""
    used = node.weight != 0
    if isinstance(node, Linear):
        return np.asarray(used.sum(axis=0), np.int64)
    _, height, width = shape
    per_group = used.reshape(node.groups, -1, *used.shape[1:]).sum(axis=1)  # (groups, in/groups, kh, kw)
    taps = per_group.reshape(-1, *used.shape[2:])
    rows, cols = (_reach(n, k, axis, node) for axis, (n, k) in enumerate(zip((height, width), used.shape[2:], strict=True)))
    return np.asarray(np.einsum("ckl,kh,lw->chw", taps, rows, cols), np.int64)


def _reach(n: int, kernel: int, axis: int, node: Conv2d) -> npt.NDArray[np.int64]:
    """``[k, i] = 1`` where tap k of some output window falls on input i."""
    s, p, d = node.stride[axis], node.padding[axis], node.dilation[axis]
    windows = (n + 2 * p - d * (kernel - 1) - 1) // s + 1
    hit = np.zeros((kernel, n), np.int64)
    for k in range(kernel):
        at = np.arange(windows) * s - p + k * d
        hit[k, at[(at >= 0) & (at < n)]] = 1
    return hit
