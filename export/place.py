"""Neurons onto cores, greedily and always the same way; and what is used of the chip, core by core.

Populations in order, each on fresh cores, neurons in index order, or those of a convolution position by position with
all channels of each, where that takes fewer cores or, as many, fewer axons; a core is closed when the next neuron would
break one of its limits: neurons, synapse words, axons in. A core whose neurons feed too many cores (axons out) is split
further. Synapse words of a core: the bits of its synapses / 64 and one header word per presynaptic axon. A connection
is stored as whichever is smaller: all pairs (weight and delay bits each, zeros too) or its synapses alone (with index
bits). Cores count up through the tiles of a chip, chips lie in a row.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from export.layout import CoreUse, Layout, Placement, parts_of, usage_of
from export.loihi import ConvEdge, Edge, Int, Node
from export.pairs import Structure
from export.program import CapacityError
from export.synapses import joined, structure
from hardware.loihi import Profile

__all__ = ["CoreUse", "Layout", "Placement", "layout", "place"]

WORD_BITS = 64
FEW = 2**21
"""Synapses up to which both orders of a population are tried."""
LOOK = 64
"""Neurons that the first look at a population takes in."""


def place(nodes: Mapping[str, Node], edges: Sequence[Edge], profile: Profile, chips: int | None = None) -> Layout:
    """The greedy placement; ``chips`` lowers the profile's limit.

    Time and memory grow with the connections as they are stored, a block of rows at a time. Errors:
    :class:`CapacityError` naming layer, limit, need and have.
    """
    limits, chip = profile.limits, _Chip(nodes, edges, profile)
    caps = dict.fromkeys(nodes, limits["neurons_per_core"])
    cuts = {n: chip.cut(n, caps[n]) for n in nodes}
    while True:
        cores = {n: cuts[n].cores() for n in nodes}
        most = {n: cuts[n].most(chip.axons_out(n, cores)) for n in nodes}
        over = [n for n in nodes if most[n] > limits["axons_out_per_core"]]
        if not over:
            break
        for n in over:
            if caps[n] == 1:
                raise CapacityError(
                    f"{n}: one neuron feeds {most[n]} cores, {profile.name} has axons_out_per_core "
                    f"{limits['axons_out_per_core']}; make the layers that it feeds smaller"
                )
            caps[n] = max(1, min(caps[n] - 1, cuts[n].widest * limits["axons_out_per_core"] // most[n]))
            cuts[n] = chip.cut(n, caps[n])
            chip.forget(n)
    first, placement = 0, {}
    for n in nodes:
        placement[n] = (cores[n] + first).astype(np.int32)
        chip.shift(n, first)
        first += len(cuts[n].starts)
    return chip.layout(placement, chips)


def layout(
    nodes: Mapping[str, Node], edges: Sequence[Edge], placement: Placement, profile: Profile, chips: int | None = None
) -> Layout:
    """What a placement by hand uses; populations may share cores. Errors: :class:`CapacityError` if too much."""
    for n, node in nodes.items():
        cores = placement.get(n, np.zeros(0, np.int32))
        if cores.shape != (math.prod(node.shape),) or int(cores.min()) < 0:
            raise CapacityError(
                f"{n}: placement must give a core, 0 or more, to each of its {math.prod(node.shape)} neurons"
            )
    return _Chip(nodes, edges, profile).layout(placement, chips)


@dataclass(frozen=True)
class _Cut:
    """A population on its cores: ``order`` of its neurons, first place in it of each core, axons in of them all."""

    order: Int
    starts: list[int]
    axons: int

    @property
    def widest(self) -> int:
        """Neurons of the fullest core."""
        return int(np.diff([*self.starts, len(self.order)]).max())

    def cores(self) -> npt.NDArray[np.int32]:
        """Core of each neuron, from 0."""
        out = np.empty(len(self.order), np.int32)
        sizes = np.diff([*self.starts, len(self.order)])
        out[self.order] = np.repeat(np.arange(len(self.starts), dtype=np.int32), sizes)
        return out

    def most(self, each: Int) -> int:
        """The largest sum of a core, of a number for each neuron."""
        return int(np.add.reduceat(each[self.order], self.starts).max())


class _Chip:
    """One network and one profile: structures of the connections, and their columns under the cores of a moment."""

    def __init__(self, nodes: Mapping[str, Node], edges: Sequence[Edge], profile: Profile) -> None:
        self.nodes, self.edges, self.profile = nodes, edges, profile
        self.sizes = {n: math.prod(node.shape) for n, node in nodes.items()}
        self.made: list[Structure] = [structure(e, nodes[e.src].shape, nodes[e.dst].shape) for e in edges]
        self.stored = [_stored(e, s, profile) for e, s in zip(edges, self.made, strict=True)]
        self.known: dict[tuple[str, str], tuple[Int, Int]] = {}

    def into(self, name: str) -> Iterator[tuple[Edge, Structure, tuple[Int, int]]]:
        """Connections into a population: structure, bits on each target, and bits on each core whatever it holds."""
        return (x for x in zip(self.edges, self.made, self.stored, strict=True) if x[0].dst == name)

    def cut(self, name: str, cap: int) -> _Cut:
        """The population on as few cores as one of its orders makes, at most ``cap`` neurons on each."""
        inward, every = list(self.into(name)), np.arange(self.sizes[name])
        if not any(isinstance(e, ConvEdge) for e, _, _ in inward):
            return self._split(name, inward, every, cap)
        by_position = every.reshape(self.nodes[name].shape[0], -1).T.ravel()
        found = self._split(name, inward, by_position, cap)
        if sum(int(s.per_target.sum()) for _, s, _ in inward) > FEW:
            return found
        plain = self._split(name, inward, every, cap)
        return min(plain, found, key=lambda c: (len(c.starts), c.axons))

    def _split(self, name: str, inward: list[Any], order: Int, cap: int) -> _Cut:
        """Cores filled in ``order``; looks twice as far while all fits, so the work grows with what is looked at."""
        n, most = len(order), self.profile.limits["synapse_words_per_core"] * WORD_BITS
        fixed = sum(f for _, _, (_, f) in inward)
        each = sum((b for _, _, (b, _) in inward), np.zeros(n, np.int64))[order]
        bits = np.concatenate([[0], np.cumsum(each)])
        starts, first, size, axons = [], 0, LOOK, 0
        while first < n:
            starts.append(first)
            room = int(np.searchsorted(bits[first : first + cap + 1], most + bits[first] - fixed, "right")) - 1
            fits, room = 0, min(max(1, room), n - first)
            while not fits:
                look = min(room, size)
                part = bits[first : first + look + 1] - bits[first] + fixed
                fits, met = self._fits(name, inward, order[first : first + look], part, look == room)
                size *= 2
            first, size, axons = first + fits, fits + fits // 4 + 1, axons + met
        return _Cut(order, starts, axons)

    def _fits(self, name: str, inward: list[Any], targets: Int, bits: Int, every: bool) -> tuple[int, int]:
        """How many of the next neurons fit on a core, and its axons; ``bits`` of so many.

        0 where more might, unless ``every`` one that may be there is.
        """
        words, axons = self.profile.limits["synapse_words_per_core"], self.profile.limits["axons_in_per_core"]
        count = len(targets)
        fresh = np.zeros(count, np.int64)
        for src in dict.fromkeys(e.src for e, _, _ in inward):
            seen = [s.firsts(targets) for e, s, _ in inward if e.src == src]
            met = seen[0][1]
            if len(seen) > 1:  # a source counts once, wherever it is met first
                of, to = (np.concatenate(part) for part in zip(*seen, strict=True))
                order = np.lexsort((to, of))
                met = to[order][np.unique(of[order], return_index=True)[1]]
            fresh += np.bincount(met, minlength=count)
        used = np.cumsum(fresh)
        full = -(-bits[1:] // WORD_BITS) + used
        bad = (full > words) | (used > axons)
        if not bad[0]:
            fits = int(np.argmax(bad)) if bad.any() else count * every
            return fits, int(used[fits - 1])
        limit, need, have = ("synapse_words", full[0], words) if full[0] > words else ("axons_in", used[0], axons)
        raise CapacityError(
            f"{name}: neuron {targets[0]} alone needs {need} {limit}_per_core, {self.profile.name} has {have}; "
            "reduce its fan-in"
        )

    def axons_out(self, name: str, cores: Placement) -> Int:
        """Cores that each neuron of a population feeds."""
        out = np.zeros(self.sizes[name], np.int64)
        for dst in dict.fromkeys(e.dst for e in self.edges if e.src == name):
            if (name, dst) not in self.known:
                self.known[name, dst] = self.reach(name, [dst], cores)
            out += self.known[name, dst][1]
        return out

    def reach(self, src: str, targets: Collection[str], cores: Placement) -> tuple[Int, Int]:
        """``(axons that end on each core, cores that each source feeds)`` over some target populations."""
        made = [
            (s, cores[e.dst]) for e, s in zip(self.edges, self.made, strict=True) if e.src == src and e.dst in targets
        ]
        ends = np.zeros(1 + max((int(c.max()) for _, c in made), default=-1), np.int64)
        feeds = np.zeros(self.sizes[src], np.int64)
        for k, of in joined(made):
            ends[k] = len(of)
            feeds[of] += 1
        return ends, feeds

    def forget(self, name: str) -> None:
        """The cores of a population have changed."""
        self.known = {k: m for k, m in self.known.items() if k[1] != name}

    def shift(self, name: str, by: int) -> None:
        """The cores of a population count from ``by``."""
        for key, (ends, feeds) in self.known.items():
            if key[1] == name:
                self.known[key] = np.concatenate([np.zeros(by, np.int64), ends]), feeds

    def layout(self, placement: Placement, chips: int | None) -> Layout:
        """Every core under ``placement``, checked against the limits."""
        limits, profile = self.profile.limits, self.profile
        count = 1 + max(int(c.max()) for c in placement.values())
        neurons = sum((np.bincount(c, minlength=count) for c in placement.values()), np.zeros(count, np.int64))
        bits, axons = np.zeros(count, np.int64), np.zeros(count, np.int64)
        out: Int = np.zeros(count, np.int64)
        for e, (each, fixed) in zip(self.edges, self.stored, strict=True):
            here = placement[e.dst]
            bits += np.bincount(here, each, minlength=count).astype(np.int64)
            bits[np.unique(here)] += fixed
        if not self.known:  # populations may share cores, where a source that feeds several of them has one axon
            self.known = {(n, ""): self.reach(n, list(self.nodes), placement) for n in self.nodes}
        for (src, _), (ends, feeds) in self.known.items():
            axons[: len(ends)] += ends
            out += np.bincount(placement[src], feeds, minlength=count).astype(np.int64)
        words = -(-bits // WORD_BITS) + axons
        parts = parts_of(placement)
        every = tuple(
            CoreUse(
                c, c // limits["cores_per_chip"], profile.tile(c), tuple(parts[c]), int(neurons[c]), int(words[c]),
                int(axons[c]), int(out[c]),
            )
            for c in sorted(parts)
        )  # fmt: skip
        shapes = {n: node.shape for n, node in self.nodes.items()}
        return Layout(profile, placement, every, usage_of(every, profile, chips), shapes)


def _stored(edge: Edge, s: Structure, profile: Profile) -> tuple[Int, int]:
    """``(bits on each target, bits on each core whatever it holds)``: shared kernels are the latter."""
    limits, none = profile.limits, np.zeros(len(s.per_target), np.int64)
    width = edge.num_weight_bits + (edge.sign_mode == "mixed")
    if isinstance(edge, ConvEdge) and limits["conv_shared"]:
        return none, int(np.count_nonzero(edge.w)) * width
    width += limits["delay_bits"] if edge.delay_range()[1] else 0
    alone = s.per_target * (width + limits["index_bits"])
    if int(alone.sum()) < len(none) * s.sources * width:
        return alone, 0
    return none + s.sources * width, 0
