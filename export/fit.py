"""Does a float network fit a chip? Placed before any training: every synapse that a layer could have is there."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from export.ends import windows
from export.gate import gate
from export.loihi import ConvEdge, DenseEdge, Edge, InputNode, Int, Lif, Node
from export.lower import Link, lower
from export.network import Network
from export.place import Layout, place
from export.schedule import starts, timed, waits
from hardware.loihi import load_profile


def fit(network: Network, *, profile: str = "loihi1", chips: int | None = None) -> Layout:
    """The layout of ``network`` on ``profile``, weights of no matter: 8 bits with a sign for each that there can be.

    Works on untrained, random or zero weights, as from ``fit(from_torch(model, shape))``; nothing is quantised. What
    training leaves out makes it smaller. ``chips``: most chips to use. Errors: ``CapacityError`` naming layer, limit,
    need and have; ``MappingError`` for a network that no chip can time.
    """
    shapes = network.shapes()
    lowered = lower(replace(network, nodes={n: _present(node) for n, node in network.nodes.items()}))
    start = starts(network, lowered)
    nodes: dict[str, Node] = {network.input: InputNode(shapes[network.input])}
    nodes |= {n: Lif(shapes[n], 4095, 0, 1) for n in network.spiking()}
    links = [timed(link, start, shapes) for link in lowered.links]
    gated = windows(network)
    edges = [_edge(link, *waits(link, start)) for link in links if link.dst not in gated]
    for name in gated:
        more, into, _ = gate(network, name, [x for x in links if x.dst == name], start, 0)
        nodes |= more
        edges += into
    return place(nodes, edges, load_profile(profile), chips)


def _present(node: Any) -> Any:
    """The node with ones for weights or scale, which take no memory, and without bias."""
    names = {f.name for f in fields(node)}
    ones = {k: np.broadcast_to(np.float64(1), getattr(node, k).shape) for k in ("weight", "scale") if k in names}
    return replace(node, **ones, **({"bias": None} if "bias" in names else {})) if ones else node


def _edge(link: Link, delay: int, delays: Int | None) -> Edge:
    w: npt.NDArray[Any] = np.broadcast_to(np.int16(2), link.weight.shape)
    if any(link.weight.strides):
        w = (link.weight != 0).astype(np.int16) * 2
    if link.conv:
        return ConvEdge(link.src, link.dst, w, "mixed", link.stride, link.padding, link.dilation, link.groups)
    return DenseEdge(link.src, link.dst, w, "mixed", delay=delay, delays=delays)
