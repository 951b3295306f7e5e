"""Which neuron has a synapse on which, read from the connection as it is stored: nothing is written out as pairs.

A :class:`~export.pairs.Structure` answers for one connection what placement, routes and time need. Dense weights are
looked at in blocks of rows, a kernel by its windows, single synapses sorted by target.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from export.loihi import DenseEdge, Edge, Int, SparseEdge
from export.network import Shape
from export.pairs import BLOCK, Pairs, Structure, span
from export.windows import Windows

def structure(edge: Edge, src: Shape, dst: Shape) -> Structure:
    """The structure of a connection between populations of these shapes."""
    if isinstance(edge, DenseEdge):
        return Dense(edge.w)
    if isinstance(edge, SparseEdge):
        return Sorted(edge, math.prod(src), math.prod(dst))
    return Windows(edge, src, dst)


def on_core(core: Int) -> Iterator[tuple[int, Int]]:
    """``(core, neurons that it holds)``, both ascending; ``core`` of each neuron."""
    order = np.argsort(core, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(core[order])) + 1):
        yield int(core[part[0]]), part


def joined(several: Sequence[tuple[Structure, Int]]) -> Iterator[tuple[int, Int]]:
    """``(core, sources with a synapse there)`` over connections of the same sources, each with its targets' cores."""
    held = [dict(on_core(core)) for _, core in several]
    for k in sorted(set().union(*held)):
        parts = [s.met(on[k]) for (s, _), on in zip(several, held, strict=True) if k in on]
        yield k, parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))


def columns(s: Structure, core: Int, cores: int) -> Any:
    """``(sources, cores)``: synapses of each source on each core, where ``core`` is that of each target; scipy CSR."""
    data, where, size = [], [], np.zeros(cores, np.int64)
    for k, targets in on_core(core):
        of, n = s.counts(targets)
        where.append(of.astype(np.int32))
        data.append(n.astype(np.int32))
        size[k] = len(of)
    pointer = np.concatenate([[0], np.cumsum(size)])
    if pointer[-1] < 2**31:
        pointer = pointer.astype(np.int32)
    by_core = np.concatenate(data), np.concatenate(where), pointer
    data.clear()
    where.clear()
    return sparse.csc_array(by_core, shape=(s.sources, cores)).tocsr()


class Dense:
    """Of a weight matrix (targets, sources)."""

    def __init__(self, w: npt.NDArray[Any]) -> None:
        self.w = w
        self.sources = w.shape[1]
        self.step = max(1, BLOCK // max(1, w.shape[1]))

    @cached_property
    def per_target(self) -> Int:
        """Synapses on each target neuron."""
        parts = [np.count_nonzero(self.w[k : k + self.step], axis=1) for k in range(0, len(self.w), self.step)]
        return np.concatenate(parts)

    def _rows(self, targets: Int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Weights of the targets, a block at a time, with its first place."""
        for k in range(0, len(targets), self.step):
            yield k, self.w[span(targets[k : k + self.step])]

    def pairs(self, targets: Int) -> tuple[Int, Int]:
        """``(place, source)`` of every synapse on the targets."""
        return np.nonzero(self.w[span(targets)])

    def firsts(self, targets: Int) -> tuple[Int, Int]:
        """Each source with a synapse on the targets and the place of its first one."""
        none = len(targets)
        out = np.full(self.sources, none)
        for k, rows in self._rows(targets):
            on = rows != 0
            out = np.minimum(out, np.where(on.any(axis=0), on.argmax(axis=0) + k, none))
            if out.max(initial=0) < none:
                break
        of = np.flatnonzero(out < none)
        return of, out[of]

    def counts(self, targets: Int) -> tuple[Int, Int]:
        """Each source with a synapse on the targets and how many it has there."""
        n = np.zeros(self.sources, np.int64)
        for _, rows in self._rows(targets):
            n += np.count_nonzero(rows, axis=0)
        of = np.flatnonzero(n)
        return of, n[of]

    def met(self, targets: Int) -> Int:
        """Each source with a synapse on the targets."""
        seen = np.zeros(self.sources, bool)
        for _, rows in self._rows(targets):
            seen |= (rows != 0).any(axis=0)
            if seen.all():
                break
        return np.flatnonzero(seen)


class Sorted(Pairs):
    """Of single synapses: by target, in scipy's column order."""

    def __init__(self, edge: SparseEdge, sources: int, targets: int) -> None:
        on, target, pointer = edge.w != 0, edge.target, edge.pointer
        if not on.all():
            target, pointer = target[on], np.concatenate([[0], np.cumsum(on)])[pointer]
        if len(target) < 2**31:
            pointer = pointer.astype(np.int32)
        ones = np.ones(len(target), np.int8)
        by_target = sparse.csr_array((ones, target, pointer), shape=(sources, targets)).tocsc()  # shares, only reads
        self.sources, self.pointer, self.of = sources, by_target.indptr, by_target.indices

    @cached_property
    def per_target(self) -> Int:
        """Synapses on each target neuron."""
        return np.diff(self.pointer)

    def pairs(self, targets: Int) -> tuple[Int, Int]:
        """``(place, source)`` of every synapse on the targets."""
        every = span(targets)
        if isinstance(every, slice):
            to = np.repeat(np.arange(len(targets)), np.diff(self.pointer[every.start : every.stop + 1]))
            return to, self.of[self.pointer[every.start] : self.pointer[every.stop]]
        n = self.per_target[targets]
        to, begin = np.repeat(np.arange(len(targets)), n), np.cumsum(n) - n
        return to, self.of[self.pointer[targets][to] + np.arange(len(to)) - begin[to]]
