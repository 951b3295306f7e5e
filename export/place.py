"""Neurons onto cores, greedily and always the same way; what is used of the chip; and the way each spike takes.

Populations in order, each on fresh cores, neurons in index order; a core is closed when the next neuron would break
one of its limits: neurons, synapse words, axons in. A core whose neurons feed too many cores (axons out) is split
further. Synapse words of a core: ``sum over synapses (weight + delay + index bits) / 64`` and one header word per
presynaptic axon; index bits where a connection is not all-to-all. Cores count up through the tiles of a chip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from export.loihi import ConvEdge, Edge, Int, LoihiProgram, Node
from export.program import CapacityError
from hardware.loihi import Profile, load_profile

WORD_BITS = 64
Links = Sequence[tuple[Int, Int]]


@dataclass(frozen=True)
class Need:
    """What one population asks of its cores. ``sources``: source ids of neuron j at ``pointer[j]:pointer[j + 1]``.

    ``bits``: synapse bits per neuron; ``fixed_bits``: bits per core however few neurons it has (shared kernels).
    """

    name: str
    pointer: Int
    sources: Int
    bits: Int
    fixed_bits: int
    ids: int


@dataclass(frozen=True)
class Core:
    """Neurons ``[first, last)`` of one population with the words and axons that they need."""

    first: int
    last: int
    words: int
    axons_in: int


def place(
    nodes: Mapping[str, Node], edges: Sequence[Edge], links: Links, profile: Profile, chips: int | None = None
) -> tuple[dict[str, npt.NDArray[np.int32]], dict[str, tuple[int, int]]]:
    """``({population: core of each neuron}, {resource: (used, max)})``; ``chips`` lowers the profile's limit.

    Resources: cores and chips in all; neurons, synapse words, axons in and out of the fullest core.
    Errors: :class:`CapacityError` naming layer, limit, need and have.
    """
    limits = profile.limits
    caps = dict.fromkeys(nodes, limits["neurons_per_core"])
    needs = {n: _need(n, nodes, edges, links, profile) for n in nodes}
    while True:
        split = {n: _split(needs[n], caps[n], profile) for n in nodes}
        out = _axons_out(nodes, edges, links, split)
        over = [n for n in nodes if out[n] > limits["axons_out_per_core"]]
        if not over:
            break
        for n in over:
            if caps[n] == 1:
                raise CapacityError(
                    f"{n}: one neuron feeds {out[n]} cores, {profile.name} has axons_out_per_core "
                    f"{limits['axons_out_per_core']}; make the layers that it feeds smaller"
                )
            widest = max(c.last - c.first for c in split[n])
            caps[n] = max(1, min(caps[n] - 1, widest * limits["axons_out_per_core"] // out[n]))
    return _numbered(nodes, split, out, profile, limits["max_chips"] if chips is None else chips)


def _numbered(
    nodes: Mapping[str, Node], split: Mapping[str, list[Core]], out: Mapping[str, int], profile: Profile, chips: int
) -> tuple[dict[str, npt.NDArray[np.int32]], dict[str, tuple[int, int]]]:
    limits, cores = profile.limits, 0
    placement = {}
    for n in nodes:
        parts = [np.full(c.last - c.first, cores + k, np.int32) for k, c in enumerate(split[n])]
        cores += len(parts)
        placement[n] = np.concatenate(parts)
    used = math.ceil(cores / limits["cores_per_chip"])
    if used > chips:
        worst = max(nodes, key=lambda n: len(split[n]))
        raise CapacityError(
            f"{worst}: takes {len(split[worst])} of {cores} cores; chips: need {used}, have {chips} of "
            f"{limits['cores_per_chip']} cores ({profile.name}); make the layer smaller or allow more chips"
        )
    every = [c for n in nodes for c in split[n]]
    return placement, {
        "cores": (cores, used * limits["cores_per_chip"]),
        "chips": (used, chips),
        "neurons_per_core": (max(c.last - c.first for c in every), limits["neurons_per_core"]),
        "synapse_words_per_core": (max(c.words for c in every), limits["synapse_words_per_core"]),
        "axons_in_per_core": (max(c.axons_in for c in every), limits["axons_in_per_core"]),
        "axons_out_per_core": (max(out.values()), limits["axons_out_per_core"]),
    }


def _need(name: str, nodes: Mapping[str, Node], edges: Sequence[Edge], links: Links, profile: Profile) -> Need:
    n, offset = math.prod(nodes[name].shape), 0
    ids = {}
    for k in nodes:
        ids[k], offset = offset, offset + math.prod(nodes[k].shape)
    of: list[Int] = [np.zeros(0, np.int64)]
    to: list[Int] = [np.zeros(0, np.int64)]
    bits, fixed = np.zeros(n, np.int64), 0
    for e, (src, dst) in zip(edges, links, strict=True):
        if e.dst != name:
            continue
        of.append(src + ids[e.src])
        to.append(dst)
        width = e.num_weight_bits + (e.sign_mode == "mixed")
        if isinstance(e, ConvEdge) and profile.limits["conv_shared"]:
            fixed += int(np.count_nonzero(e.w)) * width
            continue
        width += profile.limits["delay_bits"] if e.delay_range()[1] else 0
        width += profile.limits["index_bits"] if len(src) < n * math.prod(nodes[e.src].shape) else 0
        bits += np.bincount(dst, minlength=n) * width
    target, source = np.concatenate(to), np.concatenate(of)
    order = np.argsort(target, kind="stable")
    pointer = np.concatenate([[0], np.cumsum(np.bincount(target, minlength=n))])
    return Need(name, pointer, source[order], bits, fixed, offset)


def _split(need: Need, cap: int, profile: Profile) -> list[Core]:
    words_max, axons_max = profile.limits["synapse_words_per_core"], profile.limits["axons_in_per_core"]
    seen = np.full(need.ids, -1)
    cores: list[Core] = []
    first, bits, axons = 0, need.fixed_bits, 0
    for j in range(len(need.bits)):
        s = need.sources[need.pointer[j] : need.pointer[j + 1]]
        new = np.unique(s[seen[s] < first])
        words = _words(bits + int(need.bits[j]), axons + len(new))
        if j > first and (j - first >= cap or words > words_max or axons + len(new) > axons_max):
            cores.append(Core(first, j, _words(bits, axons), axons))
            first, bits, axons, new = j, need.fixed_bits, 0, np.unique(s)
            words = _words(bits + int(need.bits[j]), len(new))
        for limit, value, have in (("synapse_words", words, words_max), ("axons_in", axons + len(new), axons_max)):
            if value > have:
                raise CapacityError(
                    f"{need.name}: neuron {j} alone needs {value} {limit}_per_core, {profile.name} has {have}; "
                    "reduce its fan-in"
                )
        bits, axons = bits + int(need.bits[j]), axons + len(new)
        seen[new] = j
    cores.append(Core(first, len(need.bits), _words(bits, axons), axons))
    return cores


def _words(bits: int, axons: int) -> int:
    return -(-bits // WORD_BITS) + axons


def _axons_out(
    nodes: Mapping[str, Node], edges: Sequence[Edge], links: Links, split: Mapping[str, list[Core]]
) -> dict[str, int]:
    most = {}
    for name, node in nodes.items():
        reached: dict[str, npt.NDArray[np.bool_]] = {}
        for e, (src, dst) in zip(edges, links, strict=True):
            if e.src == name:
                starts = np.array([c.first for c in split[e.dst]])
                hit = reached.setdefault(e.dst, np.zeros((math.prod(node.shape), len(starts)), bool))
                hit[src, np.searchsorted(starts, dst, "right") - 1] = True
        per = sum((h.sum(axis=1) for h in reached.values()), np.zeros(math.prod(node.shape), np.int64))
        most[name] = max(int(per[c.first : c.last].sum()) for c in split[name])
    return most


@dataclass(frozen=True)
class Route:
    """Where the spikes of one population go, per neuron: ``messages`` (destination cores), tile ``hops``.

    ``received`` and ``synapses`` (neurons, cores): messages and synaptic events that a spike makes on each core.
    """

    messages: Int
    hops_ew: Int
    hops_ns: Int
    received: npt.NDArray[np.float32]
    synapses: npt.NDArray[np.float32]


def routes(program: LoihiProgram) -> dict[str, Route]:
    """The :class:`Route` of every population under the program's placement; computed once per program."""
    if program not in _ROUTES:
        _ROUTES[program] = _routes(program)
    return _ROUTES[program]


_ROUTES: WeakKeyDictionary[LoihiProgram, dict[str, Route]] = WeakKeyDictionary()


def _routes(program: LoihiProgram) -> dict[str, Route]:
    profile = load_profile(program.profile)
    cores = 1 + max(int(a.max()) for a in program.placement.values())
    tiles = np.array([profile.tile(c) for c in range(cores)], np.int64)
    found = {}
    for name in program.nodes:
        synapses = np.zeros((program.size(name), cores), np.float32)
        for e, (src, dst) in zip(program.edges, program.links, strict=True):
            if e.src == name:
                flat = src * cores + program.placement[e.dst][dst]
                synapses += np.bincount(flat, minlength=synapses.size).reshape(synapses.shape).astype(np.float32)
        received = (synapses > 0).astype(np.float32)
        way = np.abs(tiles[program.placement[name]][:, None] - tiles[None]) * (received[:, :, None] > 0)
        found[name] = Route(
            received.sum(axis=1).astype(np.int64), way[..., 0].sum(axis=1), way[..., 1].sum(axis=1), received, synapses
        )
    return found
