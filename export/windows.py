"""The structure of a convolution, by its windows: channels that read one position are looked at together."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import numpy.typing as npt

from export.loihi import ConvEdge, Int
from export.network import Shape
from export.pairs import Pairs

SETS = 64
"""More different sets of channels than this among some targets, and each target is looked at alone."""


class _Group:
    """Output positions of which the same channels are asked. ``rows``: which positions; ``columns``: which channels."""

    def __init__(self, rows: Int, columns: Int) -> None:
        self.rows, self.columns = rows, columns


class _Set:
    """Targets as a table of positions and channels: ``place (positions, channels)``, or ``none`` where not asked."""

    def __init__(self, targets: Int, size: int) -> None:
        channel, position = np.divmod(targets, size)
        self.none = len(targets)
        self.channels, column = np.unique(channel, return_inverse=True)
        self.positions, row = np.unique(position, return_inverse=True)
        self.place = np.full((len(self.positions), len(self.channels)), self.none)
        self.place[row, column] = np.arange(len(targets))

    def groups(self) -> list[_Group]:
        """Positions by the set of their channels."""
        bits = np.packbits(self.place < self.none, axis=1)
        _, kind = np.unique(bits, axis=0, return_inverse=True)
        kind = kind.ravel()
        order = np.argsort(kind, kind="stable")
        parts = np.split(order, np.flatnonzero(np.diff(kind[order])) + 1)
        return [_Group(rows, np.flatnonzero(self.place[rows[0]] < self.none)) for rows in parts]


class Windows(Pairs):
    """Of a convolution: each target's window, padding left out."""

    def __init__(self, edge: ConvEdge, src: Shape, dst: Shape) -> None:
        self.edge, self.src, self.dst = edge, src, dst
        self.sources = math.prod(src)
        self.on = edge.w.reshape(*edge.w.shape[:2], -1) != 0  # out, in of a group, taps
        self.size, self.per_out = dst[1] * dst[2], edge.w.shape[0] // edge.groups

    def _places(self, position: Int) -> Int:
        """Source position that each tap reads for outputs at these, or -1 in the padding: (outputs, taps)."""
        e, (height, width) = self.edge, self.src[1:]
        y, x = np.divmod(position, self.dst[2])
        kh, kw = e.w.shape[2:]
        iy = y[:, None] * e.stride[0] - e.padding[0] + np.arange(kh) * e.dilation[0]
        ix = x[:, None] * e.stride[1] - e.padding[1] + np.arange(kw) * e.dilation[1]
        iy, ix = np.where((iy >= 0) & (iy < height), iy, -1), np.where((ix >= 0) & (ix < width), ix, -1)
        at = np.where((iy[:, :, None] < 0) | (ix[:, None] < 0), -1, iy[:, :, None] * width + ix[:, None])
        return at.reshape(len(y), -1)

    @cached_property
    def per_target(self) -> Int:
        """Synapses on each target neuron."""
        inside = self._places(np.arange(self.size)) >= 0
        return (self.on.sum(axis=1) @ inside.T.astype(np.int64)).ravel()

    def pairs(self, targets: Int) -> tuple[Int, Int]:
        """``(place, source)`` of every synapse on the targets."""
        out, position = np.divmod(targets, self.size)
        at, per_in = self._places(position), self.edge.w.shape[1]
        channel = (out // self.per_out)[:, None] * per_in + np.arange(per_in)
        of = channel[:, :, None] * (self.src[1] * self.src[2]) + at[:, None]
        on = self.on[out] & (at >= 0)[:, None]
        to = np.broadcast_to(np.arange(len(targets))[:, None, None], on.shape)
        return to[on], of[on]

    def firsts(self, targets: Int) -> tuple[Int, Int]:
        """Each source with a synapse on the targets and the place of its first one.

        Among the channels of one position the targets must ascend.
        """
        asked = _Set(targets, self.size)
        groups = asked.groups()
        if len(groups) > SETS:
            return super().firsts(targets)
        at, near = self._near(asked)
        inputs = self._inputs(asked.channels)
        out = np.full((len(near), len(inputs)), asked.none)
        for g in groups:
            on, column = self._on(asked, g, inputs)
            number = np.where(on, np.arange(len(g.columns))[:, None, None], len(g.columns))
            first = np.minimum.reduceat(number, column[0], axis=0)  # the first channel of those that have the synapse
            first = first.reshape(-1, on.shape[2])
            place = np.pad(asked.place[np.ix_(g.rows, g.columns)], ((0, 0), (0, 1)), constant_values=asked.none)
            for tap in range(on.shape[2]):  # windows never read one source through the same tap
                rows = np.flatnonzero(at[g.rows, tap] >= 0)
                cell = np.ix_(at[g.rows[rows], tap], column[1])
                out[cell] = np.minimum(out[cell], place[np.ix_(rows, first[:, tap])])
        return self._listed(out, out < asked.none, near, inputs)

    def counts(self, targets: Int) -> tuple[Int, Int]:
        """Each source with a synapse on the targets and how many it has there."""
        asked = _Set(targets, self.size)
        groups = asked.groups()
        if len(groups) > SETS:
            return super().counts(targets)
        at, near = self._near(asked)
        inputs, taps = self._inputs(asked.channels), at.shape[1]
        out = np.zeros((len(near), len(inputs)))
        for g in groups:
            on, column = self._on(asked, g, inputs)
            each = np.add.reduceat(on, column[0], axis=0, dtype=np.float64).reshape(-1, taps)
            rows, tap = np.nonzero(at[g.rows] >= 0)
            reads = np.bincount(at[g.rows[rows], tap] * taps + tap, minlength=len(near) * taps).reshape(-1, taps)
            out[:, column[1]] += reads @ each.T  # whole numbers far below 2^53
        return self._listed(out.astype(np.int64), out > 0, near, inputs)

    def met(self, targets: Int) -> Int:
        """Each source with a synapse on the targets."""
        return self.counts(targets)[0]

    def _near(self, asked: _Set) -> tuple[Int, Int]:
        """Source positions in the windows; each window's taps as indices into them, or -1: (outputs, taps)."""
        at = self._places(asked.positions)
        near, index = np.unique(at, return_inverse=True)
        padded = int(len(near) > 0 and near[0] < 0)
        return index.reshape(at.shape) - padded, near[padded:]

    def _inputs(self, channels: Int) -> Int:
        """Input channels of the groups that these output channels are in."""
        per_in = self.edge.w.shape[1]
        return (np.unique(channels // self.per_out)[:, None] * per_in + np.arange(per_in)).ravel()

    def _on(self, asked: _Set, g: _Group, inputs: Int) -> tuple[npt.NDArray[np.bool_], tuple[Int, Int]]:
        """Synapses of a group's channels; where each group of the convolution starts, and its columns of ``inputs``."""
        channels = asked.channels[g.columns]
        starts = np.flatnonzero(np.diff(channels // self.per_out, prepend=-1))
        return self.on[channels], (starts, np.searchsorted(inputs, self._inputs(channels)))

    def _listed(self, table: Int, which: npt.NDArray[np.bool_], near: Int, inputs: Int) -> tuple[Int, Int]:
        """``(sources, values)`` of a table (source positions, input channels), sources ascending."""
        channel, position = np.nonzero(which.T)
        return inputs[channel] * (self.src[1] * self.src[2]) + near[position], table[position, channel]
