"""A Window on the chip, exactly: a relay of the spikes, and a clock of one neuron that shuts it and keeps it shut.

    relay   fires where its source fired and the clock did not        u = 64 s - 128 clock,  v = u (+ 1/4096 of before)
    clock   v = 64 (t + 1 - stop) + 64 > 64  first at t = stop, then fed by its own spike in every step

in units of which a threshold of 1 has 64. What the relay's membrane keeps, below 3, lies far from its threshold of 32.
A relay takes a chip step, for which the connections around it wait as for any population.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from export.ends import NATURAL
from export.loihi import ConvEdge, DenseEdge, Edge, Lif, Node
from export.lower import Link
from export.network import Loss, Network, Window
from export.program import MappingError
from export.schedule import waits

SPIKE, SHUT, RELAY_VTH = 64, -128, 32
MAX_STOP = 2**17 - 1
"""``v0`` of the clock in 24 bits: 64 (1 - stop)."""


def gate(
    network: Network, name: str, links: list[Link], start: Mapping[str, int], graded: int
) -> tuple[dict[str, Node], list[Edge], list[Loss]]:
    """Relay and clock of window ``name`` with what leads to them: the one link of ``links``.

    Errors: :class:`MappingError` for a window that is too long, or on an input of graded messages.
    """
    node, (link,), shape = network.nodes[name], links, network.shapes()[name]
    stop = node.stop if isinstance(node, Window) else 0
    clock = f"{name}.clock"
    if stop > MAX_STOP:
        raise MappingError(f"{name}: stops after {stop} steps, the chip's clock counts to {MAX_STOP}; {NATURAL}")
    if link.src == network.input and graded:
        raise MappingError(f"{name}: its relay passes spikes, the input sends graded messages; {NATURAL}")
    if clock in network.nodes:
        raise MappingError(f"{clock}: is the name that the clock of {name} takes; rename the node")
    begin = start[name] - 1
    nodes: dict[str, Node] = {
        name: Lif(shape, 4095, 4095, RELAY_VTH, start=start[name]),
        clock: Lif((1,), 4095, 0, 1, np.array([64], np.int16), v0=np.array([64 * (1 - stop)], np.int32), start=begin),
    }
    shut = np.full((int(np.prod(shape)), 1), SHUT, np.int16)
    again = np.full((1, 1), 64, np.int16)
    edges = [
        _into(link, waits(link, start)[0]),
        DenseEdge(clock, clock, again, "excitatory"),
        DenseEdge(clock, name, shut, "inhibitory"),
    ]
    what = f"the window of {stop} steps runs as a relay of the spikes and a clock, exactly; neurons more"
    return nodes, edges, [Loss(name, what, float(len(shut) + 1))]


def _into(link: Link, wait: int) -> Edge:
    w = (link.weight != 0).astype(np.int16) * SPIKE
    if link.conv:
        return ConvEdge(link.src, link.dst, w, "excitatory", groups=link.groups)
    return DenseEdge(link.src, link.dst, w, "excitatory", delay=wait)
