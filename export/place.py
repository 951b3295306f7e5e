"""Neurons onto cores, greedily and always the same way; and what is used of the chip, core by core.

Populations in order, each on fresh cores, neurons in index order; a core is closed when the next neuron would break
one of its limits: neurons, synapse words, axons in. A core whose neurons feed too many cores (axons out) is split
further. Synapse words of a core: the bits of its synapses / 64 and one header word per presynaptic axon. A connection
is stored as whichever is smaller: all pairs (weight and delay bits each, zeros too) or its synapses alone (with index
bits). Cores count up through the tiles of a chip, chips lie in a row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from rich.text import Text

from export.loihi import ConvEdge, Edge, Int, Node
from export.program import CapacityError, Usage
from export.synapses import Structure, joined, structure
from hardware.loihi import Profile

WORD_BITS = 64
Placement: TypeAlias = Mapping[str, Int]


@dataclass(frozen=True)
class CoreUse:
    """One core: ``parts`` are neurons ``(population, first, last)``, ``[first, last)``; what they take of its limits.

    ``chip`` and ``tile`` (column, row; columns count on through the chips) say where it is.
    """

    core: int
    chip: int
    tile: tuple[int, int]
    parts: tuple[tuple[str, int, int], ...]
    neurons: int
    synapse_words: int
    axons_in: int
    axons_out: int


@dataclass(frozen=True)
class Layout:
    """``placement[population]``: core of each neuron; ``usage`` ``{resource: (used, max)}``; each core.

    Resources: cores and chips in all; neurons, synapse words, axons in and out of the fullest core. Prints as a table.
    """

    profile: Profile
    placement: Placement = field(repr=False)
    cores: tuple[CoreUse, ...] = field(repr=False)
    usage: Usage

    def table(self) -> Table:
        """One row for each core."""
        table = Table(box=None, pad_edge=False)
        for k, head in enumerate(
            ("core", "chip", "tile", "neurons", "synapse words", "axons in", "axons out", "holds")
        ):
            table.add_column(head, justify="left" if k == 7 else "right")
        for c in self.cores:
            holds = ", ".join(f"{n}[{a}:{b}]" for n, a, b in c.parts)
            cells = (
                c.core,
                c.chip,
                "{},{}".format(*c.tile),
                c.neurons,
                c.synapse_words,
                c.axons_in,
                c.axons_out,
                holds,
            )
            table.add_row(*(Text(str(cell)) for cell in cells))
        return table

    def summary(self) -> list[str]:
        """A line for each resource, and one for each population with the cores that it takes."""
        lines = [f"{k}: {used} of {most}" for k, (used, most) in self.usage.items()]
        for n, cores in self.placement.items():
            found = np.unique(cores)
            where = f"core {found[0]}" if len(found) == 1 else f"{len(found)} cores, {found[0]} to {found[-1]}"
            lines.append(f"{n}: {len(cores)} neurons on {where}")
        return lines

    def __str__(self) -> str:
        console = Console(width=160, no_color=True, highlight=False)
        with console.capture() as got:
            console.print(self.table())
        rows = (line.rstrip() for line in got.get().splitlines())
        return "\n".join([self.profile.name, *(f"  {line}" for line in self.summary()), *rows])


def place(nodes: Mapping[str, Node], edges: Sequence[Edge], profile: Profile, chips: int | None = None) -> Layout:
    """The greedy placement; ``chips`` lowers the profile's limit.

    Time and memory grow with the connections as they are stored, a block of rows at a time. Errors:
    :class:`CapacityError` naming layer, limit, need and have.
    """
    limits, chip = profile.limits, _Chip(nodes, edges, profile)
    caps = dict.fromkeys(nodes, limits["neurons_per_core"])
    starts = {n: chip.split(n, caps[n]) for n in nodes}
    while True:
        cores = {n: _numbers(starts[n], chip.sizes[n]) for n in nodes}
        out = {n: chip.axons_out(n, cores) for n in nodes}
        over = [n for n in nodes if _worst(out[n], starts[n]) > limits["axons_out_per_core"]]
        if not over:
            break
        for n in over:
            most = _worst(out[n], starts[n])
            if caps[n] == 1:
                raise CapacityError(
                    f"{n}: one neuron feeds {most} cores, {profile.name} has axons_out_per_core "
                    f"{limits['axons_out_per_core']}; make the layers that it feeds smaller"
                )
            widest = int(np.diff([*starts[n], chip.sizes[n]]).max())
            caps[n] = max(1, min(caps[n] - 1, widest * limits["axons_out_per_core"] // most))
            starts[n] = chip.split(n, caps[n])
            chip.forget(n)
    first, placement = 0, {}
    for n in nodes:
        placement[n] = (cores[n] + first).astype(np.int32)
        chip.shift(n, first)
        first += len(starts[n])
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

    def split(self, name: str, cap: int) -> list[int]:
        """First neuron of each core that the population takes."""
        n, limits = self.sizes[name], self.profile.limits
        inward = list(self.into(name))
        fixed = sum(f for _, _, (_, f) in inward)
        bits = np.concatenate([[0], np.cumsum(sum((b for _, _, (b, _) in inward), np.zeros(n, np.int64)))])
        starts, first = [], 0
        while first < n:
            starts.append(first)
            first = self._close(name, inward, first, min(n, first + cap), bits[first:] - bits[first] + fixed, limits)
        return starts

    def _close(self, name: str, inward: list[Any], first: int, last: int, bits: Int, limits: Mapping[str, int]) -> int:
        """The neuron behind the last that fits on a core which begins with ``first``; ``bits`` of so many neurons."""
        words, axons = limits["synapse_words_per_core"], limits["axons_in_per_core"]
        room = int(np.searchsorted(bits, words * WORD_BITS, "right")) - 1
        last = max(first + 1, min(last, first + room))
        fresh = np.zeros(last - first, np.int64)
        for src in dict.fromkeys(e.src for e, _, _ in inward):
            seen = [s.firsts(first, last) for e, s, _ in inward if e.src == src]
            met = seen[0][1]
            if len(seen) > 1:  # a source counts once, wherever it is met first
                of, to = (np.concatenate(part) for part in zip(*seen, strict=True))
                order = np.lexsort((to, of))
                met = to[order][np.unique(of[order], return_index=True)[1]]
            fresh += np.bincount(met - first, minlength=last - first)
        used = np.cumsum(fresh)
        full = -(-bits[1 : last - first + 1] // WORD_BITS) + used
        bad = (full > words) | (used > axons)
        if not bad[0]:
            return first + (int(np.argmax(bad)) if bad.any() else last - first)
        limit, need, have = ("synapse_words", full[0], words) if full[0] > words else ("axons_in", used[0], axons)
        raise CapacityError(
            f"{name}: neuron {first} alone needs {need} {limit}_per_core, {self.profile.name} has {have}; "
            "reduce its fan-in"
        )

    def axons_out(self, name: str, cores: Placement) -> Int:
        """Cores that each neuron of a population feeds."""
        out = np.zeros(self.sizes[name], np.int64)
        for dst in dict.fromkeys(e.dst for e in self.edges if e.src == name):
            out += self.reach(name, dst, cores[dst])[1]
        return out

    def reach(self, src: str, dst: str, cores: Int) -> tuple[Int, Int]:
        """``(axons that end on each core, cores that each source feeds)``; ``cores`` of the targets."""
        if (src, dst) not in self.known:
            made = [s for e, s in zip(self.edges, self.made, strict=True) if (e.src, e.dst) == (src, dst)]
            ends, feeds = np.zeros(int(cores.max()) + 1, np.int64), np.zeros(self.sizes[src], np.int64)
            for k, of in joined(made, cores):
                ends[k] = len(of)
                feeds[of] += 1
            self.known[src, dst] = ends, feeds
        return self.known[src, dst]

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
        for src, dst in dict.fromkeys((e.src, e.dst) for e in self.edges):
            ends, feeds = self.reach(src, dst, placement[dst])
            axons[: len(ends)] += ends
            out += np.bincount(placement[src], feeds, minlength=count).astype(np.int64)
        words = -(-bits // WORD_BITS) + axons
        parts = _parts(placement)
        every = tuple(
            CoreUse(
                c, c // limits["cores_per_chip"], profile.tile(c), tuple(parts[c]), int(neurons[c]), int(words[c]),
                int(axons[c]), int(out[c]),
            )
            for c in sorted(parts)
        )  # fmt: skip
        return Layout(profile, placement, every, _usage(every, profile, chips))


def _usage(cores: Sequence[CoreUse], profile: Profile, chips: int | None) -> dict[str, tuple[int, int]]:
    limits = profile.limits
    most = limits["max_chips"] if chips is None else chips
    used = 1 + max(c.chip for c in cores)
    if used > most:
        held: dict[str, int] = {}
        for c in cores:
            for n in {n for n, _, _ in c.parts}:
                held[n] = held.get(n, 0) + 1
        worst = max(held, key=lambda n: held[n])
        raise CapacityError(
            f"{worst}: takes {held[worst]} of {len(cores)} cores; chips: need {used}, have {most} of "
            f"{limits['cores_per_chip']} cores ({profile.name}); make the layer smaller or allow more chips"
        )
    usage = {"cores": (len(cores), used * limits["cores_per_chip"]), "chips": (used, most)}
    for what in ("neurons", "synapse_words", "axons_in", "axons_out"):
        limit = f"{what}_per_core"
        top = max(cores, key=lambda c: getattr(c, what))
        value = getattr(top, what)
        if value > limits[limit]:
            raise CapacityError(
                f"{top.parts[0][0]}: core {top.core} needs {value} {limit}, {profile.name} has {limits[limit]}; "
                "spread its neurons over more cores"
            )
        usage[limit] = (value, limits[limit])
    return usage


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


def _parts(placement: Placement) -> dict[int, list[tuple[str, int, int]]]:
    """Ranges of neurons on each core."""
    parts: dict[int, list[tuple[str, int, int]]] = {}
    for n, cores in placement.items():
        cut = np.flatnonzero(np.diff(cores)) + 1
        for a, b in zip([0, *cut.tolist()], [*cut.tolist(), len(cores)], strict=True):
            parts.setdefault(int(cores[a]), []).append((n, a, b))
    return parts


def _numbers(starts: list[int], size: int) -> npt.NDArray[np.int32]:
    return np.repeat(np.arange(len(starts), dtype=np.int32), np.diff([*starts, size]))


def _worst(out: Int, starts: list[int]) -> int:
    return int(np.add.reduceat(out, starts).max())
