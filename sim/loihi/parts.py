"""Connections laid out for the fast engine: each part adds what its source sends to the current of its target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse

from export.loihi import ConvEdge, DenseEdge, SparseEdge
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


def dense(edge: DenseEdge, shift: int, graded: bool, order: dict[str, Array | None], compiled: bool) -> Dense | Plain:
    """A dense connection of one delay."""
    head = (edge.src, edge.dst, int(edge.port == "imag"), edge.delay, shift, graded)
    rows = edge.w.T
    if not compiled:
        return Plain(*head, rows, edge.weight_exp, edge.delayed)
    source, target = order[edge.src], order[edge.dst]
    rows = rows if source is None else rows[source]
    rows = np.ascontiguousarray(rows if target is None else rows[:, target], np.int16)
    group = 32767 // max(1, -int(rows.min()), int(rows.max()))
    return Dense(*head, rows, edge.weight_exp, group, edge.delayed)


def sparse(
    edge: SparseEdge, targets: int, shift: int, graded: bool, order: dict[str, Array | None], compiled: bool,
    apart: bool,
) -> list[Part]:  # fmt: skip
    """A sparse connection: one part, or one per delay where the sum of each is rounded or numpy does it."""
    port, exp = int(edge.port == "imag"), edge.weight_exp
    as_is, one = order[edge.src] is None and order[edge.dst] is None and edge.sorted, edge.delays is None or exp >= 0
    late = NOTHING if edge.delays is None else edge.delays.astype(np.int16)
    last = edge.delay if edge.delays is None else int(late.max(initial=0))
    head = (edge.src, edge.dst, port, last, shift, graded)
    if compiled and one and as_is:
        pointer, target = edge.pointer.astype(np.int64), edge.target.astype(np.int32, copy=False)
        return [Sparse(*head, pointer, target, late, edge.w.astype(np.int16, copy=False), exp, apart)]
    of, target = edge.of(), edge.target.astype(np.int64)
    if compiled:
        of, target = _placed(of, order[edge.src]), _placed(target, order[edge.dst])
    sources = len(edge.pointer) - 1
    if compiled and one:
        return [Sparse(*head, *_rows(of, target, late, edge.w, sources), exp, apart)]
    parts: list[Part] = []
    for delay, which in edge.bins():
        head = (edge.src, edge.dst, port, delay, shift, graded)
        if compiled:
            parts.append(Sparse(*head, *_rows(of[which], target[which], NOTHING, edge.w[which], sources), exp, apart))
        else:
            shape = (sources, targets)
            w = scipy.sparse.csr_array((edge.w[which].astype(np.int64), (of[which], target[which])), shape)
            parts.append(Plain(*head, w, exp, apart))
    return parts


def _placed(index: Array, order: Array | None) -> Array:
    """C order to the engine's."""
    if order is None:
        return index
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return np.asarray(inverse[index])


def _rows(of: Array, target: Array, late: Array, w: Array, sources: int) -> tuple[Array, Array, Array, Array]:
    """``(pointer, target, late, w)`` by source, targets rising."""
    by = np.lexsort((target, of))
    pointer = np.concatenate([[0], np.cumsum(np.bincount(of, minlength=sources))])
    return pointer, target[by].astype(np.int32), late[by] if len(late) else late, w[by].astype(np.int16)


def conv(edge: ConvEdge, src: Shape, dst: Shape, shift: int, graded: bool, exp: int) -> Conv:
    """A convolution for the compiled engine."""
    w, tap_at = _taps(edge)
    pointer, runs = _runs(edge, src, dst, tap_at)
    most = int(np.abs(edge.w.astype(np.int64)).reshape(len(edge.w), -1).sum(axis=1).max())
    kind = np.int64 if graded else np.int16 if most < 2**15 else np.int32
    head = (edge.src, edge.dst, int(edge.port == "imag"), 0, shift, graded)
    return Conv(*head, edge, w, pointer, runs, kind, exp)


def plain_conv(edge: ConvEdge, src: Shape, shift: int, graded: bool, exp: int) -> PlainConv:
    """A convolution for numpy."""
    return PlainConv(edge.src, edge.dst, int(edge.port == "imag"), 0, shift, graded, edge, src, exp)


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
    return pointer.astype(np.int64), np.array(flat, np.int64).reshape(-1, 3)
