"""From one Brian 2 group to another: which projection, its synapses, how many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from export.brian_synapses import Array, Listed, convolution, dense, identity
from export.network import AvgPool2d, Conv1d, Conv2d, Delay, DelayedLinear, Linear, Network, Pair, Shape, SumPool2d
from export.program import MappingError

Window: TypeAlias = tuple[Array, Shape, Pair, Pair, Pair, int]
"""Arguments of :func:`convolution`."""
Windowed = Conv1d | Conv2d | AvgPool2d | SumPool2d
QUEUED = "x_post += w"
"""What a spike does that waits in Brian's queue."""


@dataclass(frozen=True)
class Projection:
    """One Synapses: ``src`` to ``dst`` by the weights of node ``by`` (None: one to one) on ``event`` of ``src``.

    ``delay``: steps in Brian's queue, to which a node with delays adds those of its elements or synapses. ``steps``:
    the delay in the network without them. ``only``: the elements or synapses that wait so long; None for all.
    """

    src: str
    dst: str
    by: str | None
    event: str
    delay: int
    steps: int
    effect: str
    only: int | None = None


def synapses(network: Network, projection: Projection) -> Listed:
    """``(pre, post, weight)`` of one projection."""
    node = None if projection.by is None else network.nodes[projection.by]
    if isinstance(node, Linear):
        return dense(node.weight)
    if isinstance(node, DelayedLinear):
        return dense(node.weight if projection.only is None else node.masked(projection.only))
    if isinstance(node, Windowed):
        return convolution(*window(network, projection))
    if isinstance(node, Delay) and projection.only is not None:
        return identity(np.flatnonzero(node.steps == projection.only))
    return identity(np.arange(math.prod(network.shapes()[projection.src])))


def waits(network: Network, projection: Projection) -> Array:
    """Steps that each synapse waits in Brian's queue: one number, or one for each."""
    node = None if projection.by is None else network.nodes[projection.by]
    if isinstance(node, Delay) and projection.only is None:
        return projection.delay + node.steps.ravel()
    if isinstance(node, DelayedLinear) and projection.only is None:
        return projection.delay + node.delays.T[node.weight.T != 0].astype(np.int64)
    return np.asarray(projection.delay)


def window(network: Network, projection: Projection) -> Window:
    """Arguments of :func:`convolution` for a layer with windows; pooling sums, what divides is its relay."""
    layer = str(projection.by)
    node, shape = network.nodes[layer], network.shapes()[network.sources(layer)[0].src]
    if isinstance(node, Conv1d):
        node, shape = node.conv2d(), (shape[0], 1, *shape[1:])
    if isinstance(node, Conv2d):
        return node.weight, shape, node.stride, node.padding, node.dilation, node.groups
    if isinstance(node, AvgPool2d | SumPool2d):
        return np.ones((shape[0], 1, *node.kernel)), shape, node.stride, node.padding, (1, 1), shape[0]
    raise MappingError(f"{layer}: {type(node).__name__} has no windows; use a Conv1d, Conv2d, AvgPool2d or SumPool2d")


def synapse_count(network: Network, projection: Projection) -> int:
    """Synapses of a projection, without listing them."""
    node = None if projection.by is None else network.nodes[projection.by]
    if isinstance(node, Linear):
        return int(np.count_nonzero(node.weight))
    if isinstance(node, DelayedLinear):
        return int(np.count_nonzero(node.weight if projection.only is None else node.masked(projection.only)))
    if not isinstance(node, Windowed):
        return len(synapses(network, projection)[0])
    weight, shape, stride, padding, dilation, _ = window(network, projection)
    lands = []
    for n, k, s, p, d in zip(shape[1:], weight.shape[2:], stride, padding, dilation, strict=True):
        at = np.arange((n + 2 * p - d * (k - 1) - 1) // s + 1) * s - p + np.arange(k)[:, None] * d
        lands.append(((at >= 0) & (at < n)).sum(1))
    return int(np.einsum("oikl,k,l->", (weight != 0).astype(np.int64), *lands))
