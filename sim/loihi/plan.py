"""A program laid out for the fast engine: weights by source, images with channels last, windows precomputed."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from export.loihi import ConvEdge, DenseEdge, Edge, Lif, LoihiProgram
from export.lower import convolve
from export.network import Shape
from sim.loihi import fallback

Array = npt.NDArray[Any]


def backend(numba: bool | None = None) -> ModuleType:
    """:mod:`sim.loihi.kernels`, or :mod:`sim.loihi.fallback` where numba is missing or not wanted."""
    if numba is None:
        numba = importlib.util.find_spec("numba") is not None
    if not numba:
        return fallback
    from sim.loihi import kernels

    return kernels


@dataclass(frozen=True, eq=False)
class Dense:
    """One delay of a dense connection: ``w (sources, targets)``."""

    src: str
    dst: str
    delay: int
    shift: int
    w: Array
    exp: int
    graded: bool
    group: int
    code: ModuleType

    def add(self, spk: Array, first: int, shift: int, out: Array) -> None:
        """``out += `` what ``spk`` sends."""
        if self.graded:
            self.code.add_dense_graded(spk, first, shift, self.w, self.exp, out)
        else:
            self.code.add_dense(spk, first, shift, self.w, self.group, self.exp, out)


@dataclass(frozen=True, eq=False)
class Conv:
    """A convolution: per input position the contiguous pieces of weights and where they go."""

    src: str
    dst: str
    delay: int
    shift: int
    edge: ConvEdge
    graded: bool
    w: Array
    pointer: Array
    runs: Array
    kind: Any
    code: ModuleType

    def add(self, spk: Array, first: int, shift: int, out: Array) -> None:
        """``out += `` what ``spk`` sends."""
        acc, w = np.empty(out.shape[1], self.kind), self.edge.w
        self.code.add_conv(
            spk, first, shift, self.w, self.pointer, self.runs, w.shape[0], w.shape[1], self.edge.groups, self.graded,
            acc, out,
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class PlainConv:
    """A convolution without numba, channels first."""

    src: str
    dst: str
    delay: int
    shift: int
    edge: ConvEdge
    shape: Shape
    graded: bool

    def add(self, spk: Array, first: int, shift: int, out: Array) -> None:
        """``out += `` what ``spk`` sends."""
        rows, to = fallback.window(spk, first, shift, out)
        e, x = self.edge, (rows if self.graded else rows != 0).reshape(-1, *self.shape).astype(np.float64)
        y = convolve(x, e.w.astype(np.float64), e.stride, e.padding, e.dilation, e.groups)
        a = y.reshape(len(rows), -1).astype(np.int64)
        to += ((a + 2**23 & 2**24 - 1) - 2**23).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Plan:
    """``order[node]``: index in C order of each neuron as the engine has it, or None where they agree.

    ``law`` and ``bias`` as ``fire`` takes them; ``into`` and ``out_of`` the connections of a node, one per delay.
    """

    program: LoihiProgram
    code: ModuleType
    order: dict[str, Array | None]
    law: dict[str, Array]
    bias: dict[str, Array]
    u0: dict[str, Array]
    into: dict[str, list[Any]]
    out_of: dict[str, list[Any]]

    def inward(self, node: str, a: Array) -> Array:
        """Last axis from C order to the engine's, contiguous."""
        order = self.order[node]
        return np.ascontiguousarray(a if order is None else a[..., order])

    def outward(self, node: str, a: Array) -> Array:
        """Last axis from the engine's order to C order."""
        if self.order[node] is None:
            return a
        c, h, w = self.program.nodes[node].shape
        return np.moveaxis(a.reshape(*a.shape[:-1], h, w, c), -1, -3).reshape(a.shape)


def make(program: LoihiProgram, numba: bool | None = None) -> Plan:
    """The plan of a program; cheap beside a run, and kept with the program by the engine."""
    code = backend(numba)
    order = {n: _channels_last(node.shape) if code is not fallback else None for n, node in program.nodes.items()}
    law, bias, u0 = {}, {}, {}
    for n, p in program.lifs.items():
        off = p.subtract << 6 if p.reset == "subtract" else 0
        law[n] = np.array([4095 - p.du, 4096 - p.dv, p.vth << 6, off], np.int64)
        bias[n], u0[n] = _vector(program, n, p, order[n])
    into: dict[str, list[Any]] = {n: [] for n in program.nodes}
    out_of: dict[str, list[Any]] = {n: [] for n in program.nodes}
    for edge in program.edges:
        for part in _parts(program, edge, order, code):
            into[edge.dst].append(part)
            out_of[edge.src].append(part)
    return Plan(program, code, order, law, bias, u0, into, out_of)


def _vector(program: LoihiProgram, name: str, p: Lif, order: Array | None) -> tuple[Array, Array]:
    zero = np.zeros(program.size(name), np.int64)
    bias = zero if p.bias is None else p.bias.astype(np.int64) << p.bias_exp
    u0 = zero if p.u0 is None else p.u0.astype(np.int64)
    return (bias, u0) if order is None else (bias[order], u0[order])


def _channels_last(shape: Shape) -> Array | None:
    if len(shape) != 3 or shape[0] == 1 or shape[1] * shape[2] == 1:
        return None
    return np.arange(math.prod(shape)).reshape(shape).transpose(1, 2, 0).ravel()


def _parts(program: LoihiProgram, edge: Edge, order: dict[str, Array | None], code: ModuleType) -> list[Any]:
    graded = edge.num_message_bits > 0 and edge.src == program.input  # the others send 0 and 1
    late = 1 + program.nodes[edge.src].start - program.nodes[edge.dst].start
    if isinstance(edge, DenseEdge):
        return [_dense(edge, d, w, d + late, graded, order, code) for d, w in edge.bins()]
    src, dst = program.nodes[edge.src].shape, program.nodes[edge.dst].shape
    if code is fallback:
        return [PlainConv(edge.src, edge.dst, 0, late, edge, src, graded)]
    w, tap_at = _taps(edge)
    pointer, runs = _runs(edge, src, dst, tap_at)
    most = int(np.abs(edge.w.astype(np.int64)).reshape(len(edge.w), -1).sum(axis=1).max())
    kind = np.int64 if graded else np.int16 if most < 2**15 else np.int32
    return [Conv(edge.src, edge.dst, 0, late, edge, graded, w, pointer, runs, kind, code)]


def _dense(
    edge: DenseEdge, delay: int, w: Array, shift: int, graded: bool, order: dict[str, Array | None], code: ModuleType
) -> Dense:
    rows = w.T
    source, target = order[edge.src], order[edge.dst]
    rows = rows if source is None else rows[source]
    rows = np.ascontiguousarray(rows if target is None else rows[:, target], np.int16)
    group = 32767 // max(1, int(np.abs(rows.astype(np.int64)).max()))
    return Dense(edge.src, edge.dst, delay, shift, rows, edge.weight_exp, graded, group, code)


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
