"""The way each spike takes under a program's placement: messages, tile hops, and what it makes on which core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from scipy import sparse

from export.loihi import Int, LoihiProgram
from export.synapses import columns, structure
from hardware.loihi import load_profile


@dataclass(frozen=True)
class Route:
    """Where the spikes of one population go, per neuron: ``messages`` (destination cores), tile ``hops``.

    ``synapses`` (neurons, cores) scipy CSR of integers: synaptic events that a spike makes on each core that it sends
    a message to. ``far``: messages that leave their chip.
    """

    messages: Int
    hops_ew: Int
    hops_ns: Int
    far: Int
    synapses: Any

    @property
    def received(self) -> Any:
        """Messages on each core: :attr:`synapses` with ones."""
        ones = np.ones_like(self.synapses.data)
        return sparse.csr_array((ones, self.synapses.indices, self.synapses.indptr), shape=self.synapses.shape)


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
    chips = np.arange(cores) // profile.limits["cores_per_chip"]
    found = {}
    for name in program.nodes:
        size, home = program.size(name), program.placement[name]
        on = sparse.csr_array((size, cores), dtype=np.int32)
        for e in program.edges:
            if e.src == name:
                made = structure(e, program.nodes[name].shape, program.nodes[e.dst].shape)
                used, local = np.unique(program.placement[e.dst], return_inverse=True)
                part = columns(made, local.ravel(), len(used))
                on = on + sparse.csr_array((part.data, used[part.indices], part.indptr), shape=(size, cores))
        of = np.repeat(np.arange(size), np.diff(on.indptr))
        way = np.abs(tiles[home[of]] - tiles[on.indices])
        sums = (
            np.bincount(of, k, minlength=size).astype(np.int64)
            for k in (way[:, 0], way[:, 1], chips[home[of]] != chips[on.indices])
        )
        found[name] = Route(np.diff(on.indptr).astype(np.int64), *sums, on)
    return found
