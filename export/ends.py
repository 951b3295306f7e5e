"""A network of layers with delays as a stream takes it: without the windows that end each layer in training."""

from __future__ import annotations

from dataclasses import replace

from export.network import Network, Window

NATURAL = "export natural(network), spikeport export --natural: without windows what is on its way goes on"
"""The way out where a machine has no windows."""


def windows(network: Network) -> list[str]:
    """Names of the Window nodes in execution order."""
    return [n for n, node in network if isinstance(node, Window)]


def natural(network: Network) -> Network:
    """The network without its windows: what is on its way at their end goes on. Other nodes and names stay."""
    ends = windows(network)
    edges = list(network.edges)
    for name in ends:
        into = [e for e in edges if e.dst == name]
        passed = {e: [replace(a, dst=e.dst, delay=a.delay + e.delay) for a in into] for e in edges if e.src == name}
        edges = [x for e in edges if e.dst != name for x in passed.get(e, [e])]  # each in its place: sums keep order
    made = replace(network, nodes={n: x for n, x in network.nodes.items() if n not in ends}, edges=edges)
    made.check()
    return made
