"""The way each spike takes under a program's placement: messages, tile hops, and what it makes on which core."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from scipy import sparse

from export.loihi import Int, LoihiProgram
from export.pairs import BLOCK
from export.synapses import columns, met_once
from hardware.loihi import DEFAULT_TIMING, Profile, load_profile


@dataclass(frozen=True, eq=False)
class Route:
    """Where the spikes of one population go, per neuron: ``messages`` (destination cores), tile ``hops``.

    ``far``: messages that leave their chip. ``received`` and ``synapses``, which only times need, are made when asked.
    """

    messages: Int
    hops_ew: Int
    hops_ns: Int
    far: Int
    made: Callable[[], dict[str, Any]] = field(repr=False)

    @cached_property
    def synapses(self) -> dict[str, Any]:
        """By kind of connection ("dense", ...): synaptic events of a spike on each core; (neurons, cores) CSR."""
        return self.made()

    @cached_property
    def received(self) -> Any:
        """Messages of a spike on each core: (neurons, cores) scipy CSR of ones."""
        to = _sum(self.synapses)
        return sparse.csr_array((np.ones_like(to.data), to.indices, to.indptr), shape=to.shape)


def routes(program: LoihiProgram) -> dict[str, Route]:
    """The :class:`Route` of every population under the program's placement; computed once per program."""
    if program not in _ROUTES:
        _ROUTES[program] = _routes(program)
    return _ROUTES[program]


_ROUTES: WeakKeyDictionary[LoihiProgram, dict[str, Route]] = WeakKeyDictionary()


def _routes(program: LoihiProgram) -> dict[str, Route]:
    profile, placement = load_profile(program.profile), program.placement
    cores = 1 + max(int(a.max()) for a in placement.values())
    shapes = {n: node.shape for n, node in program.nodes.items()}
    found = {}
    for name in program.nodes:
        edges = [e for e in program.edges if e.src == name]
        made = _columns(edges, shapes, placement, program.size(name), cores)
        if DEFAULT_TIMING in profile.timing:  # every run asks for times, which need all of it
            synapses = made()
            ways = _entries(_sum(synapses))
            made = synapses.copy
        else:
            ways = met_once(edges, shapes, placement)
        found[name] = Route(*_totals(ways, placement[name], cores, profile), made)
    return found


def _columns(edges: Any, shapes: Any, placement: Any, size: int, cores: int) -> Callable[[], dict[str, Any]]:
    """Synapses by kind of connection; holds no program, so that :data:`_ROUTES` lets it go."""

    def made() -> dict[str, Any]:
        out: dict[str, Any] = {}
        for e in edges:
            on = columns(e, shapes[e.src], shapes[e.dst], placement[e.dst], cores)
            out[e.kind] = out[e.kind] + on if e.kind in out else on
        return out or {"dense": sparse.csr_array((size, cores), dtype=np.int32)}

    return made


def _sum(synapses: dict[str, Any]) -> Any:
    first, *others = synapses.values()
    return sum(others, first)


def _totals(ways: Iterable[tuple[Int, Int]], home: Int, cores: int, profile: Profile) -> tuple[Int, Int, Int, Int]:
    """Messages of each source, their hops east-west and north-south, those off the chip; over ``(source, core)``."""
    tiles = np.array([profile.tile(c) for c in range(cores)], np.int32)
    across, along = np.ascontiguousarray(tiles.T)
    chip = np.arange(cores, dtype=np.int32) // profile.limits["cores_per_chip"]
    out = tuple(np.zeros(len(home), np.int64) for _ in range(4))
    for of, away in ways:
        if not len(of):
            continue
        low = int(of.min())
        at, here = of - low, home[of]
        each = (
            None, np.abs(across[here] - across[away]), np.abs(along[here] - along[away]), chip[here] != chip[away]
        )  # fmt: skip
        for total, n in zip(out, each, strict=True):
            if n is None or n.any():
                summed = np.bincount(at, n).astype(np.int64)
                total[low : low + len(summed)] += summed
    return out  # type: ignore[return-value]  # of a generator: mypy does not see that they are four


def _entries(to: Any) -> Iterator[tuple[Int, Int]]:
    """``(row, column)`` of the entries of a CSR, about ``BLOCK`` at a time."""
    pointer, first, rows = to.indptr, 0, to.shape[0]
    while first < rows:
        last = min(rows, max(first + 1, int(np.searchsorted(pointer, pointer[first] + BLOCK, "right")) - 1))
        yield (
            np.repeat(np.arange(first, last), np.diff(pointer[first : last + 1])),
            to.indices[pointer[first] : pointer[last]],
        )
        first = last
