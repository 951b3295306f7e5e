"""Which neuron has a synapse on which, read from the connection as it is stored: nothing is written out as pairs.

A :class:`~export.pairs.Structure` answers for one connection what placement, routes and time need. Dense weights are
looked at in blocks of rows, a kernel by its windows, single synapses sorted by target.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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


def met_once(edges: Sequence[Edge], shapes: Mapping[str, Shape], cores: Mapping[str, Int]) -> Iterator[tuple[Int, Int]]:
    """``(source, core)`` where a source has a synapse on a core, each once, about ``BLOCK`` at a time.

    ``edges`` leave the same population; ``cores`` of the neurons of each population.
    """
    single = [e for e in edges if isinstance(e, SparseEdge)]
    if edges and len(single) == len(edges):
        count = 1 + max(int(cores[e.dst].max()) for e in edges)
        for first, keys in _keys(single, cores, count):
            of, core = np.divmod(keys[_new(keys)], count)
            yield of + first, core
        return
    made = [(structure(e, shapes[e.src], shapes[e.dst]), cores[e.dst]) for e in edges]
    held: list[tuple[int, Int]] = []
    size = 0
    for k, of in joined(made):
        held.append((k, of))
        size += len(of)
        if size > BLOCK:
            yield _together(held)
            held, size = [], 0
    if held:
        yield _together(held)


def _together(held: list[tuple[int, Int]]) -> tuple[Int, Int]:
    of = np.concatenate([o for _, o in held])
    return of, np.repeat([k for k, _ in held], [len(o) for _, o in held])


def _keys(edges: Sequence[SparseEdge], cores: Mapping[str, Int], count: int) -> Iterator[tuple[int, Int]]:
    """``(first, keys)``: of the synapses of some sources from ``first``, ``(source - first) count + core``, sorted."""
    rows = len(edges[0].pointer) - 1
    ends: Int = np.add.reduce([e.pointer for e in edges], dtype=np.int64)
    first = 0
    while first < rows:
        last = max(first + 1, int(np.searchsorted(ends, ends[first] + BLOCK, "right")) - 1)
        kind: Any = np.int32 if (last - first) * count < 2**31 else np.int64  # the smaller sorts twice as fast
        parts = []
        for e in edges:
            here = slice(int(e.pointer[first]), int(e.pointer[last]))
            key = np.repeat(np.arange(last - first, dtype=kind) * kind(count), np.diff(e.pointer[first : last + 1]))
            key += cores[e.dst][e.target[here]].astype(kind)
            on = e.w[here] != 0
            parts.append(key if on.all() else key[on])
        yield first, np.sort(parts[0] if len(parts) == 1 else np.concatenate(parts))
        first = last


def _new(keys: Int) -> npt.NDArray[np.bool_]:
    return np.concatenate([np.ones(min(1, len(keys)), bool), keys[1:] != keys[:-1]])


def columns(edge: Edge, src: Shape, dst: Shape, core: Int, cores: int) -> Any:
    """``(sources, cores)``: synapses of each source on each core, where ``core`` is that of each target; scipy CSR."""
    if isinstance(edge, SparseEdge):
        return _columns_of_single(edge, core, cores)
    s = structure(edge, src, dst)
    data, where, size = [], [], np.zeros(cores, np.int64)
    for k, targets in on_core(core):
        of, n = s.counts(targets)
        where.append(of.astype(np.int32))
        data.append(n.astype(np.int32))
        size[k] = len(of)
    by_core = np.concatenate(data), np.concatenate(where), _pointer(size)
    data.clear()
    where.clear()
    return sparse.csc_array(by_core, shape=(s.sources, cores)).tocsr()


def _columns_of_single(edge: SparseEdge, core: Int, cores: int) -> Any:
    data, where, size = [], [], np.zeros(len(edge.pointer) - 1, np.int64)
    for first, keys in _keys([edge], {edge.dst: core}, cores):
        at = np.flatnonzero(_new(keys))
        of, away = np.divmod(keys[at], cores)
        where.append(away.astype(np.int32))
        data.append(np.diff(at, append=len(keys)).astype(np.int32))
        each = np.bincount(of)
        size[first : first + len(each)] = each
    by_source = np.concatenate(data), np.concatenate(where), _pointer(size)
    return sparse.csr_array(by_source, shape=(len(size), cores))


def _pointer(size: Int) -> Int:
    pointer = np.concatenate([[0], np.cumsum(size)])
    return pointer.astype(np.int32) if pointer[-1] < 2**31 else pointer


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
        to, of = np.nonzero(self.w[span(targets)])
        return to, of

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
