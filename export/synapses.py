"""Which neuron has a synapse on which, read from the connection as it is stored: nothing is written out as pairs.

A :class:`Structure` answers for one connection what placement, routes and time need. Dense weights are looked at in
blocks of rows, a kernel by its windows, single synapses sorted by target.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from export.loihi import ConvEdge, DenseEdge, Edge, Int, SparseEdge
from export.network import Shape

BLOCK = 2**21
"""Synapses looked at in one go."""


class Structure(Protocol):
    """``per_target (targets,)``: synapses on each; ``sources``: number of neurons on the other side."""

    sources: int

    @property
    def per_target(self) -> Int:
        """Synapses on each target neuron."""

    def pairs(self, first: int, last: int) -> tuple[Int, Int]:
        """``(target, source)`` of every synapse on targets ``[first, last)``, targets ascending."""

    def firsts(self, first: int, last: int) -> tuple[Int, Int]:
        """``(sources, targets)``: each source with a synapse on ``[first, last)`` and its first target there."""

    def counts(self, first: int, last: int) -> tuple[Int, Int]:
        """``(sources, synapses)``: each source with a synapse on ``[first, last)`` and how many it has there."""


def structure(edge: Edge, src: Shape, dst: Shape) -> Structure:
    """The structure of a connection between populations of these shapes."""
    if isinstance(edge, DenseEdge):
        return Dense(edge.w)
    if isinstance(edge, SparseEdge):
        return Sorted(edge, math.prod(src), math.prod(dst))
    return Windows(edge, src, dst)


def on_core(core: Int) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """``(core, ranges of the neurons that it holds)``, cores ascending; ``core`` of each neuron."""
    order = np.argsort(core, kind="stable")
    ends = [*np.flatnonzero(np.diff(core[order])).tolist(), len(core) - 1]
    first = 0
    for end in ends:
        yield int(core[order[end]]), runs(order[first : end + 1])
        first = end + 1


def joined(several: list[Structure], core: Int) -> Iterator[tuple[int, Int]]:
    """``(core, sources with a synapse there)`` over connections between the same two; ``core`` of each target."""
    for k, ranges in on_core(core):
        parts = [s.firsts(first, last)[0] for s in several for first, last in ranges]
        yield k, parts[0] if len(parts) == 1 else np.unique(np.concatenate(parts))


def columns(s: Structure, core: Int, cores: int) -> Any:
    """``(sources, cores)``: synapses of each source on each core, where ``core`` is that of each target; scipy CSR."""
    data, where, size = [], [], np.zeros(cores, np.int64)
    for k, ranges in on_core(core):
        parts = [s.counts(first, last) for first, last in ranges]
        of, n = parts[0] if len(parts) == 1 else _merged(parts)
        where.append(of.astype(np.int32))
        data.append(n.astype(np.int32))
        size[k] = len(of)
    pointer = np.concatenate([[0], np.cumsum(size)])
    return sparse.csc_array((np.concatenate(data), np.concatenate(where), pointer), shape=(s.sources, cores)).tocsr()


def _merged(parts: list[tuple[Int, Int]]) -> tuple[Int, Int]:
    """Counts of several ranges as one."""
    of, index = np.unique(np.concatenate([a for a, _ in parts]), return_inverse=True)
    return of, np.bincount(index.ravel(), np.concatenate([n for _, n in parts])).astype(np.int64)


def runs(index: Int) -> list[tuple[int, int]]:
    """Ascending indices, at least one, as ranges ``[first, last)``."""
    cut = np.flatnonzero(np.diff(index) != 1) + 1
    starts, ends = np.concatenate([[0], cut]), np.concatenate([cut, [len(index)]])
    return [(int(index[a]), int(index[b - 1]) + 1) for a, b in zip(starts, ends, strict=True)]


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

    def pairs(self, first: int, last: int) -> tuple[Int, Int]:
        """``(target, source)`` of every synapse on a range of targets."""
        to, of = np.nonzero(self.w[first:last])
        return to + first, of

    def firsts(self, first: int, last: int) -> tuple[Int, Int]:
        """Each source with a synapse on the range and its first target there."""
        out = np.full(self.sources, last)
        for k in range(first, last, self.step):
            on = self.w[k : min(last, k + self.step)] != 0
            out = np.minimum(out, np.where(on.any(axis=0), on.argmax(axis=0) + k, last))
            if out.max(initial=first) < last:
                break
        of = np.flatnonzero(out < last)
        return of, out[of]

    def counts(self, first: int, last: int) -> tuple[Int, Int]:
        """Each source with a synapse on the range and how many it has there."""
        parts = (self.w[k : min(last, k + self.step)] for k in range(first, last, self.step))
        n = sum((np.count_nonzero(p, axis=0) for p in parts), np.zeros(self.sources, np.int64))
        of = np.flatnonzero(n)
        return of, n[of]


class _Pairs:
    """What follows from ``pairs`` alone."""

    sources: int

    @property
    def per_target(self) -> Int:
        """Synapses on each target neuron."""
        raise NotImplementedError

    def pairs(self, first: int, last: int) -> tuple[Int, Int]:
        """``(target, source)`` of every synapse on a range of targets."""
        raise NotImplementedError

    @cached_property
    def _ends(self) -> Int:
        return np.concatenate([[0], np.cumsum(self.per_target)])

    def _blocks(self, first: int, last: int) -> list[tuple[int, int]]:
        """The range in pieces of about ``BLOCK`` synapses."""
        out = []
        while first < last:
            to = int(np.searchsorted(self._ends, self._ends[first] + BLOCK, "right")) - 1
            to = min(last, max(first + 1, to))
            out.append((first, to))
            first = to
        return out

    @cached_property
    def _mark(self) -> Int:
        return np.zeros(self.sources, np.int64)

    def firsts(self, first: int, last: int) -> tuple[Int, Int]:
        """Each source with a synapse on the range and its first target there."""
        blocks = self._blocks(first, last)
        if len(blocks) == 1:
            to, of = self.pairs(first, last)
            self._mark[of[::-1]] = to[::-1]  # the last writer is the first target
            new = self._mark[of] == to
            return of[new], to[new]
        out = np.full(self.sources, last)
        for a, b in reversed(blocks):
            to, of = self.pairs(a, b)
            out[of[::-1]] = to[::-1]
        of = np.flatnonzero(out < last)
        return of, out[of]

    def counts(self, first: int, last: int) -> tuple[Int, Int]:
        """Each source with a synapse on the range and how many it has there."""
        blocks = self._blocks(first, last)
        if len(blocks) == 1:
            source, _ = self.firsts(first, last)
            self._mark[source] = np.arange(len(source))
            return source, np.bincount(self._mark[self.pairs(first, last)[1]], minlength=len(source))
        n = np.zeros(self.sources, np.int64)
        for a, b in blocks:
            n += np.bincount(self.pairs(a, b)[1], minlength=self.sources)
        of = np.flatnonzero(n)
        return of, n[of]


class Sorted(_Pairs):
    """Of single synapses: by target, in scipy's column order."""

    def __init__(self, edge: SparseEdge, sources: int, targets: int) -> None:
        on, target, pointer = edge.w != 0, edge.target, edge.pointer
        if not on.all():
            target, pointer = target[on], np.concatenate([[0], np.cumsum(on)])[pointer]
        ones = np.ones(len(target), np.int8)
        by_target = sparse.csr_array((ones, target, pointer), shape=(sources, targets)).tocsc()  # shares, only reads
        self.sources, self.pointer, self.of = sources, by_target.indptr, by_target.indices

    @property
    def per_target(self) -> Int:
        """Synapses on each target neuron."""
        return np.diff(self.pointer)

    def pairs(self, first: int, last: int) -> tuple[Int, Int]:
        """``(target, source)`` of every synapse on a range of targets."""
        to = np.repeat(np.arange(first, last), np.diff(self.pointer[first : last + 1]))
        return to, self.of[self.pointer[first] : self.pointer[last]]


class Windows(_Pairs):
    """Of a convolution: each target's window, padding left out."""

    def __init__(self, edge: ConvEdge, src: Shape, dst: Shape) -> None:
        self.edge, self.src, self.dst = edge, src, dst
        self.sources = math.prod(src)
        self.on = edge.w.reshape(*edge.w.shape[:2], -1) != 0  # out, in of a group, taps

    def _places(self, y: Int, x: Int) -> Int:
        """Source position that each tap reads for outputs at (y, x), or -1 in the padding: (outputs, taps)."""
        e, (height, width) = self.edge, self.src[1:]
        kh, kw = e.w.shape[2:]
        iy = y[:, None] * e.stride[0] - e.padding[0] + np.arange(kh) * e.dilation[0]
        ix = x[:, None] * e.stride[1] - e.padding[1] + np.arange(kw) * e.dilation[1]
        iy, ix = np.where((iy >= 0) & (iy < height), iy, -1), np.where((ix >= 0) & (ix < width), ix, -1)
        at = np.where((iy[:, :, None] < 0) | (ix[:, None] < 0), -1, iy[:, :, None] * width + ix[:, None])
        return at.reshape(len(y), -1)

    @cached_property
    def per_target(self) -> Int:
        """Synapses on each target neuron."""
        size = self.dst[1] * self.dst[2]
        inside = self._places(*np.divmod(np.arange(size), self.dst[2])) >= 0
        return (self.on.sum(axis=1) @ inside.T.astype(np.int64)).ravel()

    def pairs(self, first: int, last: int) -> tuple[Int, Int]:
        """``(target, source)`` of every synapse on a range of targets."""
        size, per_in = self.dst[1] * self.dst[2], self.edge.w.shape[1]
        target = np.arange(first, last)
        out, place = np.divmod(target, size)
        at = self._places(*np.divmod(place, self.dst[2]))
        group = out // (self.edge.w.shape[0] // self.edge.groups)
        channel = group[:, None] * per_in + np.arange(per_in)
        of = channel[:, :, None] * (self.src[1] * self.src[2]) + at[:, None]
        on = self.on[out] & (at >= 0)[:, None]
        to = np.broadcast_to(target[:, None, None], on.shape)
        return to[on], of[on]
