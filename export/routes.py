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

    ``far``: messages that leave their chip. ``received`` (neurons, cores) scipy CSR of ones: messages on each core;
    ``synapses``: the same by kind of connection ("dense", ...) with the synaptic events that a spike makes there.
    """

    messages: Int
    hops_ew: Int
    hops_ns: Int
    far: Int
    received: Any
    synapses: dict[str, Any]


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
        synapses: dict[str, Any] = {}
        for e in program.edges:
            if e.src == name:
                made = structure(e, program.nodes[name].shape, program.nodes[e.dst].shape)
                on = columns(made, program.placement[e.dst], cores)
                synapses[e.kind] = synapses[e.kind] + on if e.kind in synapses else on
        to = sum(synapses.values(), sparse.csr_array((size, cores), dtype=np.int32))
        of = np.repeat(np.arange(size), np.diff(to.indptr))
        way, over = np.abs(tiles[home[of]] - tiles[to.indices]), chips[home[of]] != chips[to.indices]
        ew, ns, far = (np.bincount(of, k, minlength=size).astype(np.int64) for k in (way[:, 0], way[:, 1], over))
        received = sparse.csr_array((np.ones_like(to.data), to.indices, to.indptr), shape=to.shape)
        found[name] = Route(np.diff(to.indptr).astype(np.int64), ew, ns, far, received, synapses)
    return found
