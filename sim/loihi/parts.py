"""Connections laid out for the fast engine: each part adds what its source sends to the current of its target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse

from export.loihi import ConvEdge, DenseEdge, Edge, SparseEdge
from export.lower import convolve
from export.network import Shape
from sim.loihi import fallback

Array = npt.NDArray[Any]
NOTHING = np.zeros(0, np.int16)


def _kernels() -> Any:
    """The compiled loops, where numba is."""
    from sim.loihi import kernels

    return kernels


class Part(Protocol):
    """``src -> dst`` at input ``port``. ``delay``: largest of its synapses; ``shift``: row of the target's run less
    that of the source's at which a message of no delay arrives."""

    @property
    def src(self) -> str: ...
    @property
    def dst(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def delay(self) -> int: ...
    @property
    def shift(self) -> int: ...

    def add(self, spk: Array, first: int, out: Array) -> None:
        """``out[t] += `` what arrives in row ``first + t`` of the target from ``spk (rows, sources)``."""

    def ahead(self, spk: Array, ring: Array, t: int) -> None:
        """One chip step of some samples: ``ring[(t + 1 + delay) % slots] += `` what ``spk (samples, sources)`` sends.

        ``ring (slots, ports, samples, targets)``.
        """


@dataclass(frozen=True, eq=False)
class _Part:
    src: str
    dst: str
    port: int
    delay: int
    shift: int
    graded: bool

    def into(self, spk: Array, first: int, shift: int, out: Array) -> None:
        """``out[t] += `` what row ``first + t - shift`` of ``spk`` sends; all of one delay."""
        raise NotImplementedError

    def add(self, spk: Array, first: int, out: Array) -> None:
        self.into(spk, first, self.shift + self.delay, out)

    def ahead(self, spk: Array, ring: Array, t: int) -> None:
        self.into(spk, 0, 0, ring[(t + 1 + self.delay) % len(ring), self.port])  # rows are samples


@dataclass(frozen=True, eq=False)
class Dense(_Part):
    """``w (sources, targets)`` int16; ``group``: rows whose sum fits int16."""

    w: Array
    exp: int
    group: int
    apart: bool
    code: Any = field(default_factory=_kernels, repr=False)

    def into(self, spk: Array, first: int, shift: int, out: Array) -> None:
        if self.graded:
            self.code.add_dense_graded(spk, first, shift, self.w, self.exp, self.apart, out)
        else:
            self.code.add_dense(spk, first, shift, self.w, self.group, self.exp, out)


@dataclass(frozen=True, eq=False)
class Plain(_Part):
    """Dense or sparse without numba: ``w (sources, targets)``, an array or a scipy matrix."""

    w: Any
    exp: int
    apart: bool

    def into(self, spk: Array, first: int, shift: int, out: Array) -> None:
        rows, to = fallback.window(spk, first, shift, out)
        a = fallback.product(rows, self.w, self.graded, self.apart)
        to += fallback.wrapped(a << self.exp if self.exp >= 0 else a >> -self.exp)


@dataclass(frozen=True, eq=False)
class Sparse(_Part):
    """Synapses by source; ``late`` steps of each on top of none, or empty where all have ``delay``."""

    pointer: Array
    target: Array
    late: Array
    w: Array
    exp: int
    apart: bool
    code: Any = field(default_factory=_kernels, repr=False)

    def into(self, spk: Array, first: int, shift: int, out: Array) -> None:
        self._add(spk, first, shift, 0, out)

    def add(self, spk: Array, first: int, out: Array) -> None:
        self._add(spk, first, self.shift + (0 if len(self.late) else self.delay), 0, out)

    def ahead(self, spk: Array, ring: Array, t: int) -> None:
        if not len(self.late):
            super().ahead(spk, ring, t)
            return
        for k in range(len(spk)):
            self._add(spk[k : k + 1], 0, (t + 1) % len(ring), len(ring), ring[:, self.port, k])

    def _add(self, spk: Array, first: int, shift: int, ring: int, out: Array) -> None:
        acc = np.empty(out.shape[1] if self.exp < 0 else 0, np.int64)
        self.code.add_sparse(
            spk, first, shift, self.pointer, self.target, self.late, self.w, self.exp, self.graded, ring, self.apart,
            acc, out,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Conv(_Part):
    """A convolution: per input position the contiguous pieces of weights and where they go."""

    edge: ConvEdge
    w: Array
    pointer: Array
    runs: Array
    kind: Any
    exp: int
    code: Any = field(default_factory=_kernels, repr=False)

    def into(self, spk: Array, first: int, shift: int, out: Array) -> None:
        acc, w = np.empty(out.shape[1], self.kind), self.edge.w
        self.code.add_conv(
            spk, first, shift, self.w, self.pointer, self.runs, w.shape[0], w.shape[1], self.edge.groups, self.graded,
            self.exp, acc, out,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class PlainConv(_Part):
    """A convolution without numba, channels first."""

    edge: ConvEdge
    shape: Shape
    exp: int

    def into(self, spk: Array, first: int, shift: int, out: Array) -> None:
        rows, to = fallback.window(spk, first, shift, out)
        e, kind = self.edge, np.int64 if self.graded else np.float64
        x: Any = (rows if self.graded else rows != 0).reshape(-1, *self.shape).astype(kind)
        y = convolve(x, e.w.astype(kind), e.stride, e.padding, e.dilation, e.groups)
        a = y.reshape(len(rows), -1).astype(np.int64)
        to += fallback.wrapped(a << self.exp if self.exp >= 0 else a >> -self.exp, 24)


def dense(edge: DenseEdge, shift: int, graded: bool, order: Mapping[str, Array | None]) -> Dense:
    """A dense connection of one delay, for the compiled engine."""
    source, target = order[edge.src], order[edge.dst]
    rows = edge.w.T if source is None else edge.w.T[source]
    rows = np.ascontiguousarray(rows if target is None else rows[:, target], np.int16)
    group = 32767 // max(1, -int(rows.min()), int(rows.max()))
    return Dense(*_head(edge, edge.delay, shift, graded), rows, edge.weight_exp, group, edge.delayed)


def plain_dense(edge: DenseEdge, shift: int, graded: bool) -> Plain:
    """A dense connection of one delay, for numpy."""
    return Plain(*_head(edge, edge.delay, shift, graded), edge.w.T, edge.weight_exp, edge.delayed)


def sparse(edge: SparseEdge, shift: int, graded: bool, order: Mapping[str, Array | None], apart: bool) -> list[Sparse]:
    """Single synapses for the compiled engine: one part, or one per delay where the sum of each is rounded."""
    exp = edge.weight_exp
    if edge.delays is None:
        late, last = NOTHING, edge.delay
    else:
        late, last = edge.delays.astype(np.int16), int(edge.delays.max(initial=0))
    head = _head(edge, last, shift, graded)
    if exp >= 0 or not len(late):
        return [Sparse(*head, *_rows(edge, order, late, slice(None)), exp, apart)]
    return [
        Sparse(*_head(edge, delay, shift, graded), *_rows(edge, order, NOTHING, which), exp, apart)
        for delay, which in edge.bins()
    ]


def plain_sparse(edge: SparseEdge, targets: int, shift: int, graded: bool, apart: bool) -> list[Plain]:
    """Single synapses for numpy: a matrix for each delay."""
    shape, of, parts = (len(edge.pointer) - 1, targets), edge.of(), []
    for delay, which in edge.bins():
        synapses = edge.w[which].astype(np.int64), (of[which], edge.target[which])
        w = scipy.sparse.csr_array(synapses, shape)
        parts.append(Plain(*_head(edge, delay, shift, graded), w, edge.weight_exp, apart))
    return parts


def _head(edge: Edge, delay: int, shift: int, graded: bool) -> tuple[str, str, int, int, int, bool]:
    """What every part begins with."""
    return edge.src, edge.dst, int(edge.port == "imag"), delay, shift, graded


def _placed(index: Array, order: Array | None) -> Array:
    """C order to the engine's."""
    if order is None:
        return index
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return np.asarray(inverse[index])


def _rows(
    edge: SparseEdge, order: Mapping[str, Array | None], late: Array, which: Array | slice
) -> tuple[Array, Array, Array, Array]:
    """``(pointer, target, late, w)`` of the synapses ``which``, by source, in the engine's order, targets rising."""
    source, place = order[edge.src], order[edge.dst]
    if source is None and place is None and isinstance(which, slice) and edge.sorted:
        target, w = edge.target.astype(np.int32, copy=False), edge.w.astype(np.int16, copy=False)
        return edge.pointer.astype(np.int64), target, late, w  # as they are stored
    of, to = _placed(edge.of()[which], source), _placed(edge.target[which].astype(np.int64), place)
    by = np.lexsort((to, of))
    pointer = np.concatenate([[0], np.cumsum(np.bincount(of, minlength=len(edge.pointer) - 1))])
    return pointer, to[by].astype(np.int32), late[by] if len(late) else late, edge.w[which][by].astype(np.int16)


def conv(edge: ConvEdge, src: Shape, dst: Shape, shift: int, graded: bool, exp: int) -> Conv:
    """A convolution for the compiled engine."""
    w, tap_at = _taps(edge)
    pointer, runs = _runs(edge, src, dst, tap_at)
    most = int(np.abs(edge.w.astype(np.int64)).reshape(len(edge.w), -1).sum(axis=1).max())
    kind = np.int64 if graded else np.int16 if most < 2**15 else np.int32
    return Conv(*_head(edge, 0, shift, graded), edge, w, pointer, runs, kind, exp)


def plain_conv(edge: ConvEdge, src: Shape, shift: int, graded: bool, exp: int) -> PlainConv:
    """A convolution for numpy."""
    return PlainConv(*_head(edge, 0, shift, graded), edge, src, exp)


def _taps(edge: ConvEdge) -> tuple[Array, dict[tuple[int, int], int]]:
    """Weights ``(in channels, taps * out channels of a group)`` int16 and the place of each tap in a row.

    Taps that neighbouring outputs use lie side by side: along a kernel row, by residue modulo the stride, falling.
    """
    o, per_in, kh, kw = edge.w.shape
    stride, dilation = edge.stride[1], edge.dilation[1]
    taps = [(y, x) for y in range(kh) for x in sorted(range(kw), key=lambda k: (k * dilation % stride, -k))]
    by_group = edge.w.reshape(edge.groups, o // edge.groups, per_in, kh, kw)
    rows = np.stack([by_group[..., y, x] for y, x in taps], axis=-1)  # groups, out, in, taps
    w = rows.transpose(0, 2, 3, 1).reshape(edge.groups * per_in, -1)
    return np.ascontiguousarray(w, np.int16), {tap: k * (o // edge.groups) for k, tap in enumerate(taps)}


def _runs(edge: ConvEdge, src: Shape, dst: Shape, at: dict[tuple[int, int], int]) -> tuple[Array, Array]:
    """``(pointer (positions + 1,), runs (n, 3))``: where in the output, where in the weights, how long."""
    width = dst[0] // edge.groups
    places: list[list[list[int]]] = [[] for _ in range(src[1] * src[2])]
    for y, x in at:
        rows = list(zip(*edge.taps(0, y, src[1], dst[1]), strict=True))
        columns = list(zip(*edge.taps(1, x, src[2], dst[2]), strict=True))
        for oh, ih in rows:
            for ow, iw in columns:
                runs = places[int(ih) * src[2] + int(iw)]
                to, of = (int(oh) * dst[2] + int(ow)) * dst[0], at[y, x]
                if runs and edge.groups == 1 and runs[-1][0] + runs[-1][2] == to and runs[-1][1] + runs[-1][2] == of:
                    runs[-1][2] += width
                else:
                    runs.append([to, of, width])
    pointer = np.cumsum([0, *(len(r) for r in places)])
    flat = [r for runs in places for r in runs]
    return pointer.astype(np.uint64), np.array(flat, np.uint64).reshape(-1, 3)
