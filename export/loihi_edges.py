"""Connections of an integer program: dense, sparse and convolutional, with delays.

Every connection adds one step: a message of step t is integrated in step ``t + 1 + delay``. ``num_message_bits``: 0
makes every message a 1 and loses its sign and size; above 0 it is a signed integer. ``port``: which input of a
resonate-and-fire population it goes to. Shapes are torch's; :func:`lava_kernel` turns a kernel into lava's layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from export.loihi_nodes import Int
from export.network import Pair, Shape

SignMode: TypeAlias = Literal["mixed", "excitatory", "inhibitory"]
Port: TypeAlias = Literal["real", "imag"]


class _Delayed:
    """What a connection with a ``delay``, or ``delays`` of each synapse, can say of them."""

    delay: int
    delays: Int | None

    def delay_range(self) -> tuple[int, int]:
        """Least and largest delay of a synapse."""
        d = self.delays
        return (self.delay, self.delay) if d is None or not d.size else (int(d.min()), int(d.max()))

    @property
    def delayed(self) -> bool:
        """Is it a DelayDense or DelaySparse of lava?"""
        return self.delay > 0 or self.delays is not None


@dataclass(frozen=True, eq=False)
class DenseEdge(_Delayed):
    """``a = W x`` then ``<< weight_exp``; ``w`` (out, in).

    ``delays``: steps per synapse, shaped as ``w``; None delays all of them by ``delay``.
    """

    src: str
    dst: str
    w: Int
    sign_mode: SignMode
    weight_exp: int = 0
    num_weight_bits: int = 8
    num_message_bits: int = 0
    delay: int = 0
    delays: Int | None = None
    port: Port = "real"
    kind: ClassVar[str] = "dense"

    def bins(self) -> list[tuple[int, Int]]:
        """``(delay, weights with only the synapses of that delay)``, delays ascending."""
        if self.delays is None:
            return [(self.delay, self.w)]
        found = np.unique(self.delays[self.w != 0])
        return [(int(d), np.where(self.delays == d, self.w, 0).astype(self.w.dtype)) for d in found]

    def links(self, src: Shape, dst: Shape) -> tuple[Int, Int]:
        """Source and target index of every non-zero synapse."""
        to, of = np.nonzero(self.w)
        return of, to

    def fan_out(self, src: Shape, dst: Shape) -> Int:
        """Non-zero synapses of each source neuron."""
        return np.count_nonzero(self.w, axis=0)


@dataclass(frozen=True, eq=False)
class SparseEdge(_Delayed):
    """As :class:`DenseEdge`, only the synapses that there are: those of source i at ``pointer[i]:pointer[i + 1]``.

    ``target``: which neuron; ``w``: weight; ``delays``: steps of each, or None for ``delay`` of all. A pair of neurons
    has at most one synapse.
    """

    src: str
    dst: str
    pointer: Int
    target: Int
    w: Int
    sign_mode: SignMode
    weight_exp: int = 0
    num_weight_bits: int = 8
    num_message_bits: int = 0
    delay: int = 0
    delays: Int | None = None
    port: Port = "real"
    kind: ClassVar[str] = "sparse"

    @classmethod
    def of_dense(cls, edge: DenseEdge) -> SparseEdge:
        """The non-zero synapses of a dense connection."""
        rows = np.ascontiguousarray(edge.w.T)
        of, to = np.nonzero(rows)
        delays = None if edge.delays is None else edge.delays.T[of, to]
        return cls(
            edge.src, edge.dst, np.concatenate([[0], np.cumsum(np.count_nonzero(rows, axis=1))]), to.astype(np.int32),
            rows[of, to], edge.sign_mode, edge.weight_exp, edge.num_weight_bits, edge.num_message_bits, edge.delay,
            delays, edge.port,
        )  # fmt: skip

    def of(self) -> Int:
        """Source index of every synapse."""
        return np.repeat(np.arange(len(self.pointer) - 1), np.diff(self.pointer))

    @property
    def sorted(self) -> bool:
        """Do the targets of every source rise? Then no pair of neurons has two synapses."""
        rises = np.diff(self.target) > 0
        starts = self.pointer[1:-1]
        rises[starts[(starts > 0) & (starts < len(self.target))] - 1] = True
        return bool(rises.all())

    def bins(self) -> list[tuple[int, Int]]:
        """``(delay, which synapses have it)``, delays ascending."""
        if self.delays is None:
            return [(self.delay, np.arange(len(self.w)))]
        return [(int(d), np.flatnonzero(self.delays == d)) for d in np.unique(self.delays)]

    def links(self, src: Shape, dst: Shape) -> tuple[Int, Int]:
        """Source and target index of every non-zero synapse."""
        on = self.w != 0
        return self.of()[on], self.target[on].astype(np.int64)

    def fan_out(self, src: Shape, dst: Shape) -> Int:
        """Non-zero synapses of each source neuron."""
        if np.count_nonzero(self.w) == len(self.w):
            return np.diff(self.pointer)
        return np.bincount(self.of()[self.w != 0], minlength=len(self.pointer) - 1)


@dataclass(frozen=True, eq=False)
class ConvEdge:
    """Cross-correlation as in torch, ``w`` (out, in / groups, kh, kw), pairs (h, w); the sum wraps to 24 bits.

    Under a program's law "lava" neither clipped nor scaled when it runs (lava's Conv ignores ``weight_exp`` and
    ``num_weight_bits``); under "hw" prepared and shifted as a dense connection.
    """

    src: str
    dst: str
    w: Int
    sign_mode: SignMode
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    num_message_bits: int = 0
    num_weight_bits: int = 8
    delay: int = 0
    weight_exp: int = 0
    port: Port = "real"
    delays: ClassVar[None] = None
    kind: ClassVar[str] = "conv"

    def delay_range(self) -> tuple[int, int]:
        """None has a delay."""
        return self.delay, self.delay

    def out_shape(self, src: Shape) -> Shape:
        """``(in, h, w) -> (out, h', w')``."""
        size = zip(src[1:], self.w.shape[2:], self.stride, self.padding, self.dilation, strict=True)
        return (self.w.shape[0], *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in size))

    def taps(self, axis: int, k: int, n_in: int, n_out: int) -> tuple[Int, Int]:
        """Output and input indices along ``axis`` that kernel element ``k`` joins."""
        out = np.arange(n_out)
        inner = out * self.stride[axis] - self.padding[axis] + k * self.dilation[axis]
        ok = (inner >= 0) & (inner < n_in)
        return out[ok], inner[ok]

    def links(self, src: Shape, dst: Shape) -> tuple[Int, Int]:
        """Source and target index of every non-zero synapse, padding left out."""
        of, to = [], []
        per_in, per_out = self.w.shape[1], self.w.shape[0] // self.groups
        for kh in range(self.w.shape[2]):
            oh, ih = self.taps(0, kh, src[1], dst[1])
            for kw in range(self.w.shape[3]):
                ow, iw = self.taps(1, kw, src[2], dst[2])
                o, i = np.nonzero(self.w[:, :, kh, kw])
                c = i + o // per_out * per_in
                of.append(((c[:, None, None] * src[1] + ih[:, None]) * src[2] + iw).ravel())
                to.append(((o[:, None, None] * dst[1] + oh[:, None]) * dst[2] + ow).ravel())
        return np.concatenate(of), np.concatenate(to)

    def fan_out(self, src: Shape, dst: Shape) -> Int:
        """Non-zero synapses of each source neuron."""
        from export.windows import Windows

        of, n = Windows(self, src, dst).counts(np.arange(int(np.prod(dst))))
        out = np.zeros(int(np.prod(src)), np.int64)
        out[of] = n
        return out


Edge: TypeAlias = DenseEdge | SparseEdge | ConvEdge


def effective(w: Int, sign_mode: SignMode, num_weight_bits: int = 8) -> Int:
    """Weights as the chip stores them (lava-nc 0.10.0, Dense).

    excitatory ``(clip(w, 0, 255) >> s) << s``, inhibitory the same of ``-w`` and negated, both ``s = 8 - bits``;
    mixed ``(clip(w, -256, 255) >> s) << s`` with ``s = 9 - bits``: always even, rounded down.
    """
    s = 8 - num_weight_bits
    w = np.clip(w, -256, 256).astype(np.int16)
    if sign_mode == "excitatory":
        out = np.clip(w, 0, 255) >> s << s
    elif sign_mode == "inhibitory":
        out = -(np.clip(-w, 0, 255) >> s << s)
    else:
        out = np.clip(w, -256, 255) >> (s + 1) << (s + 1)
    return np.asarray(out, np.int16)


def lava_kernel(w: Int) -> Int:
    """Torch kernel (out, in, kh, kw), correlation -> lava kernel (out, kw, kh, in), true convolution."""
    return np.ascontiguousarray(w[:, :, ::-1, ::-1].transpose(0, 3, 2, 1))
