"""Which neuron has a synapse on which, read from the connection as it is stored: nothing is written out as pairs.

A :class:`Structure` answers for one connection what placement, routes and time need. Dense weights are looked at in
blocks of rows, a kernel by its windows, anything else by its links sorted by target.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy import sparse

from export.loihi import ConvEdge, DenseEdge, Edge, Int
from export.network import Shape

BLOCK = 2**21
"""Synapses looked at in one go."""


class Structure(Protocol):
    """``per_target (targets,)``: synapses on each; ``sources``: neurons on the other side; ``full``: all to all."""

    sources: int

    @property
    def per_target(self) -> Int:
        """Synapses on each target neuron."""

    def pairs(self, first: int, last: int) -> tuple[Int, Int]:
        """``(target, source)`` of every synapse on targets ``[first, last)``, targets ascending."""

    def seen_first(self, first: int, last: int) -> Int:
        """``(sources,)``: the first target in ``[first, last)`` that a source has a synapse on, or ``last``."""

    def counts(self, first: int, last: int) -> Int:
        """``(sources,)``: synapses of each source on targets ``[first, last)``."""


def structure(edge: Edge, src: Shape, dst: Shape) -> Structure:
    """The structure of a connection between populations of these shapes."""
    if isinstance(edge, DenseEdge):
        return Dense(edge.w)
    if isinstance(edge, ConvEdge):
        return Windows(edge, src, dst)
    of, to = edge.links(src, dst)
    return Sorted(of, to, math.prod(src), math.prod(dst))


def full(s: Structure) -> bool:
    """Is every source joined to every target?"""
    return bool((s.per_target == s.sources).all())


def columns(s: Structure, core: Int, cores: int) -> Any:
    """``(sources, cores)``: synapses of each source on each core, where ``core`` is that of each target; scipy CSR."""
    data, where, pointer = [], [], [0]
    order = np.argsort(core, kind="stable")
    ends = np.searchsorted(core[order], np.arange(cores + 1))
    for k in range(cores):
        found = np.zeros(s.sources, np.int64)
        for first, last in runs(order[ends[k] : ends[k + 1]]):
            found += s.counts(first, last)
        on = np.flatnonzero(found)
        where.append(on.astype(np.int32))
        data.append(found[on].astype(np.int32))
        pointer.append(pointer[-1] + len(on))
    joined = (np.concatenate(data), np.concatenate(where), np.array(pointer))
    return sparse.csc_array(joined, shape=(s.sources, cores)).tocsr()


def runs(index: Int) -> list[tuple[int, int]]:
    """Ascending indices as ranges ``[first, last)``."""
    if not len(index):
        return []
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

    def seen_first(self, first: int, last: int) -> Int:
        """The first target in the range that a source has a synapse on."""
        out = np.full(self.sources, last)
        for k in range(first, last, self.step):
            on = self.w[k : min(last, k + self.step)] != 0
            out = np.minimum(out, np.where(on.any(axis=0), on.argmax(axis=0) + k, last))
            if out.max(initial=first) < last:
                break
        return out

    def counts(self, first: int, last: int) -> Int:
        """Synapses of each source on the range."""
        parts = (self.w[k : min(last, k + self.step)] for k in range(first, last, self.step))
        return sum((np.count_nonzero(p, axis=0) for p in parts), np.zeros(self.sources, np.int64))


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

    def seen_first(self, first: int, last: int) -> Int:
        """The first target in the range that a source has a synapse on."""
        out = np.full(self.sources, last)
        for a, b in reversed(self._blocks(first, last)):
            to, of = self.pairs(a, b)
            out[of[::-1]] = to[::-1]  # the last writer is the first target
        return out

    def counts(self, first: int, last: int) -> Int:
        """Synapses of each source on the range."""
        out = np.zeros(self.sources, np.int64)
        for a, b in self._blocks(first, last):
            out += np.bincount(self.pairs(a, b)[1], minlength=self.sources)
        return out


class Sorted(_Pairs):
    """Of any connection: its synapses by target."""

    def __init__(self, of: Int, to: Int, sources: int, targets: int) -> None:
        by_source = sparse.coo_array((np.ones(len(of), np.int8), (of, to)), shape=(sources, targets))
        by_target = by_source.tocsc()
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
