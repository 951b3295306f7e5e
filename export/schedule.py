"""When each population of a lowered network takes its first chip step, and how long connections wait for that."""

from __future__ import annotations

from collections.abc import Mapping

from export.loihi import MAX_DELAY, Int
from export.lower import Link, Lowered, as_matrix
from export.network import Network, Shape, Spiking, Window
from export.program import MappingError


def starts(network: Network, lowered: Lowered) -> dict[str, int]:
    """First chip step of each population: the longest way from the input, a connection one step, a delay one back.

    A spike of network step k leaves at ``k + start[src]``, and is integrated at ``k + delay + start[dst]``. The chip
    takes at least one step from one to the other: ``start[dst] >= start[src] + 1 - delay``.
    """
    start = {network.input: 0} | {n: 1 for n, node in network if isinstance(node, Spiking | Window)}
    for _ in range(len(start) + 1):
        late = [x for x in lowered.links if start[x.dst] < start[x.src] + 1 - x.delay]
        if not late:
            return start
        for x in late:
            start[x.dst] = max(start[x.dst], start[x.src] + 1 - x.delay)
    loop = late[0]
    raise MappingError(
        f"{loop.src} -> {loop.dst}: a loop has more connections than steps of delay, and each connection takes a chip "
        "step; give a loop over n populations a delay of n steps in all"
    )


def timed(link: Link, start: Mapping[str, int], shapes: Mapping[str, Shape]) -> Link:
    """The link as one the chip can delay: a convolution that must wait becomes a matrix."""
    wait, each = waits(link, start)
    longest = wait if each is None else int(each.max())
    if longest > MAX_DELAY:
        raise MappingError(
            f"{link.src} -> {link.dst}: needs a delay of {longest} steps, a synapse has at most {MAX_DELAY}; shorten "
            "the delay or the other path, or relay the spikes through a population"
        )
    return as_matrix(link, shapes[link.src], shapes[link.dst]) if wait and link.conv else link


def waits(link: Link, start: Mapping[str, int]) -> tuple[int, Int | None]:
    """Steps that a connection waits on the chip, and those of each synapse where they differ."""
    ahead = start[link.dst] - start[link.src] - 1
    return link.delay + ahead, None if link.delays is None else link.delays + ahead
