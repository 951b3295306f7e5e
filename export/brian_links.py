"""From one Brian 2 group to another: which projection, its synapses, how many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from export.brian_synapses import Array, Listed, convolution, dense, identity
from export.network import AvgPool2d, Conv2d, Linear, Network, Node, Pair, Shape
from export.program import MappingError

Window: TypeAlias = tuple[Array, Shape, Pair, Pair, Pair, int]
"""Arguments of :func:`convolution`."""


@dataclass(frozen=True)
class Projection:
    """One Synapses: ``src`` to ``dst`` by the weights of node ``by`` (None: one to one) on ``event`` of ``src``.

    ``delay``: steps in Brian's queue. ``steps``: the delay in the network, path and all.
    """

    src: str
    dst: str
    by: str | None
    event: str
    delay: int
    steps: int
    effect: str


def synapses(network: Network, projection: Projection) -> Listed:
    """``(pre, post, weight)`` of one projection."""
    shapes = network.shapes()
    if projection.by is None:
        return identity(math.prod(shapes[projection.src]))
    node = network.nodes[projection.by]
    if isinstance(node, Linear):
        return dense(node.weight)
    shape = shapes[network.sources(projection.by)[0].src]
    return convolution(*kernel(node, shape))


def kernel(node: Node, shape: Shape) -> Window:
    """Arguments of :func:`convolution`; pooling sums its windows, the relay divides."""
    if isinstance(node, Conv2d):
        return node.weight, shape, node.stride, node.padding, node.dilation, node.groups
    if isinstance(node, AvgPool2d):
        return np.ones((shape[0], 1, *node.kernel)), shape, node.stride, node.padding, (1, 1), shape[0]
    raise MappingError(f"{node}: is no window; this is a fault of spikeport")


def synapse_count(network: Network, projection: Projection) -> int:
    """Synapses of a projection, without listing them."""
    shapes = network.shapes()
    if projection.by is None:
        return math.prod(shapes[projection.src])
    node = network.nodes[projection.by]
    if isinstance(node, Linear):
        return int(np.count_nonzero(node.weight))
    weight, shape, *window, _ = kernel(node, shapes[network.sources(projection.by)[0].src])
    lands = []
    for axis in (0, 1):
        stride, padding, dilation = (pair[axis] for pair in window)
        at = np.arange(shapes[projection.by][1 + axis]) * stride - padding
        at = at + np.arange(weight.shape[2 + axis])[:, None] * dilation
        lands.append(((at >= 0) & (at < shape[1 + axis])).sum(1))
    return int(np.einsum("oikl,k,l->", (weight != 0).astype(np.int64), *lands))
