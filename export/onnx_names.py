"""Names of the values in a stepped network, the same in ONNX files and in the engines that count.

``x``, ``y``; ``<node>.s`` spikes; states ``<node>.v``, ``<node>.i``, ``<source>.q`` (delay line, oldest
first), ``<node>.d`` (that of the input of a node with delays), ``<window>.t`` (steps so far); ``<layer>.in``
what enters a layer with weights, where it is neither ``x`` nor the spikes of one node.
"""

from __future__ import annotations

from export.network import Flatten, Input, Network, Spiking


def input_value(network: Network, layer: str) -> str:
    """Name of the value that enters ``layer``: ``x``, ``<node>.s``, else ``<layer>.in``, then an output."""
    name = layer
    while True:
        edges = network.sources(name)
        if len(edges) != 1 or edges[0].delay:
            return f"{layer}.in"
        name = edges[0].src
        node = network.nodes[name]
        if isinstance(node, Input):
            return "x"
        if isinstance(node, Spiking):
            return f"{name}.s"
        if not isinstance(node, Flatten):
            return f"{layer}.in"
