"""A network as integers for a Loihi-class chip: nodes, connections, :class:`LoihiProgram`, its checks and its file.

The law that these numbers feed is :mod:`sim.loihi.reference`. Every connection adds one step: a spike of step t is
integrated in step ``t + 1 + delay``. Shapes are torch's, (c, h, w), flattened in C order; :func:`lava_kernel` turns a
kernel into lava's layout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from export.network import Loss, Pair, Shape
from export.package import Arrays, PackageError, digest, read_package, write_package
from export.program import Usage

Int: TypeAlias = npt.NDArray[np.integer[Any]]
SignMode: TypeAlias = Literal["mixed", "excitatory", "inhibitory"]

FORMAT = "loihi-int"
VERSION = 1
MAX_DELAY = 62  # steps (Davies et al. 2018, IEEE Micro 38(1): up to 62)


class ProgramError(ValueError):
    """An integer program that breaks the chip's number ranges: names the node, the value and the rule."""


@dataclass(frozen=True)
class InputNode:
    """Spikes from outside: 0 or 1, or with ``message_bits`` signed integers of magnitude below ``2**message_bits``."""

    shape: Shape
    message_bits: int = 0
    start: int = 0
    kind: ClassVar[str] = "input"


@dataclass(frozen=True, eq=False)
class Lif:
    """A population of CUBA-LIF neurons under one set of integers.

    ``du, dv`` decay in 1/4096 (the chip adds 1 to ``du``), ``vth`` threshold in 64 voltage units, ``bias`` mantissa
    per neuron with exponent ``bias_exp``, ``u0`` current before the first step. ``start``: chip step of its first
    step; it rests before. ``reset="subtract"`` takes ``subtract << 6`` off and is an extension of this engine: no
    stock lava process does it.
    """

    shape: Shape
    du: int
    dv: int
    vth: int
    bias: Int | None = None
    bias_exp: int = 0
    reset: Literal["zero", "subtract"] = "zero"
    subtract: int = 0
    u0: Int | None = None
    start: int = 0
    kind: ClassVar[str] = "lif"


@dataclass(frozen=True, eq=False)
class DenseEdge:
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
    kind: ClassVar[str] = "dense"

    def bins(self) -> list[tuple[int, Int]]:
        """``(delay, weights with only the synapses of that delay)``, delays ascending."""
        if self.delays is None:
            return [(self.delay, self.w)]
        found = np.unique(self.delays[self.w != 0])
        return [(int(d), np.where(self.delays == d, self.w, 0).astype(self.w.dtype)) for d in found]

    def delay_range(self) -> tuple[int, int]:
        """Least and largest delay of a synapse."""
        d = self.delays
        return (self.delay, self.delay) if d is None or not d.size else (int(d.min()), int(d.max()))

    def links(self, src: Shape, dst: Shape) -> tuple[Int, Int]:
        """Source and target index of every non-zero synapse."""
        to, of = np.nonzero(self.w)
        return of, to


@dataclass(frozen=True, eq=False)
class ConvEdge:
    """Cross-correlation as in torch, ``w`` (out, in / groups, kh, kw), pairs (h, w); the sum wraps to 24 bits.

    Neither clipped nor scaled when it runs (lava's Conv ignores ``weight_exp`` and ``num_weight_bits``): ``w`` must be
    legal as it stands.
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
    weight_exp: ClassVar[int] = 0
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


Node: TypeAlias = InputNode | Lif
Edge: TypeAlias = DenseEdge | ConvEdge


@dataclass(frozen=True, eq=False)
class LoihiProgram:
    """One network in a chip's integers. Make it with ``compile_loihi`` or ``assemble`` of :mod:`export.to_loihi`.

    ``output``: the population that is read. ``placement``: core of each neuron. ``scale``: integer weight units that
    1.0 of the float network's potential became, per population. ``losses``: what the conversion changed.
    Errors of :meth:`check`: :class:`ProgramError`.
    """

    nodes: Mapping[str, Node]
    edges: Sequence[Edge]
    output: str
    dt_s: float
    profile: str
    placement: Mapping[str, Int] = field(repr=False)
    usage: Usage
    losses: Sequence[Loss] = ()
    name: str = "network"
    source_hash: str = ""
    scale: Mapping[str, float] = field(default_factory=dict)
    machine: ClassVar[str] = "loihi"

    @property
    def input(self) -> str:
        """Name of the input node."""
        return next(n for n, node in self.nodes.items() if isinstance(node, InputNode))

    @property
    def input_shape(self) -> Shape:
        """One step of one sample."""
        return self.nodes[self.input].shape

    @property
    def output_shape(self) -> Shape:
        """One step of one sample."""
        return self.nodes[self.output].shape

    @property
    def latency(self) -> int:
        """Steps by which the output lags the input that caused it."""
        return self.nodes[self.output].start

    @property
    def watched(self) -> tuple[str, ...]:
        """Probes ``"<node>.s"`` of every population."""
        return tuple(f"{n}.s" for n in self.lifs)

    @property
    def lifs(self) -> dict[str, Lif]:
        """The spiking populations in order."""
        return {n: node for n, node in self.nodes.items() if isinstance(node, Lif)}

    def size(self, node: str) -> int:
        """Number of neurons (or input lines)."""
        return math.prod(self.nodes[node].shape)

    def into(self, node: str) -> list[Edge]:
        """Connections into ``node``."""
        return [e for e in self.edges if e.dst == node]

    @cached_property
    def links(self) -> list[tuple[Int, Int]]:
        """Per connection: source and target index of its non-zero synapses."""
        return [e.links(self.nodes[e.src].shape, self.nodes[e.dst].shape) for e in self.edges]

    @cached_property
    def fan_out(self) -> list[Int]:
        """Per connection: non-zero synapses of each source neuron."""
        return [np.bincount(of, minlength=self.size(e.src)) for e, (of, _) in zip(self.edges, self.links, strict=True)]

    @cached_property
    def order(self) -> list[str] | None:
        """Populations so that sources come first, or None where there is a loop."""
        waiting = {n: {e.src for e in self.into(n)} for n in self.nodes}
        done: list[str] = []
        while len(done) < len(waiting):
            ready = [n for n, s in waiting.items() if n not in done and s <= set(done)]
            if not ready:
                return None
            done += ready
        return done

    def check(self) -> None:
        """Ranges of every number, shapes, names. Errors: :class:`ProgramError` naming the node."""
        from export.loihi_check import check

        check(self)

    def hash(self) -> str:
        """SHA-256 of everything that is saved."""
        return digest(*self.to_manifest())

    def to_manifest(self) -> tuple[dict[str, Any], Arrays]:
        """Plain JSON data and integer arrays, as saved."""
        from export.loihi_file import to_manifest

        return to_manifest(self)

    def save(self, path: str | Path) -> Path:
        """Write one ``.npz`` of integers and JSON, beside and renamed."""
        return write_package(path, *self.to_manifest())

    @classmethod
    def load(cls, path: str | Path) -> LoihiProgram:
        """Read what :meth:`save` wrote, checked. Errors: ``PackageError`` or :class:`ProgramError`."""
        from export.loihi_file import from_manifest

        manifest, arrays = read_package(path, FORMAT)
        if manifest.get("version") != VERSION:
            raise PackageError(f"{path}: version {manifest.get('version')}, expected {VERSION}; compile again")
        try:
            program = from_manifest(manifest, arrays)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PackageError(f"{path}: no {FORMAT} manifest ({error!r}); compile again") from None
        program.check()
        return program


def effective(w: Int, sign_mode: SignMode, num_weight_bits: int = 8) -> Int:
    """Weights as the chip stores them (lava-nc 0.10.0, Dense).

    excitatory ``(clip(w, 0, 255) >> s) << s``, inhibitory the same of ``-w`` and negated, both ``s = 8 - bits``;
    mixed ``(clip(w, -256, 255) >> s) << s`` with ``s = 9 - bits``: always even, rounded down.
    """
    s = 8 - num_weight_bits
    w = np.asarray(w, np.int64)
    if sign_mode == "excitatory":
        out = np.clip(w, 0, 255) >> s << s
    elif sign_mode == "inhibitory":
        out = -(np.clip(-w, 0, 255) >> s << s)
    else:
        out = np.clip(w, -256, 255) >> (s + 1) << (s + 1)
    return out.astype(np.int16)


def lava_kernel(w: Int) -> Int:
    """Torch kernel (out, in, kh, kw), correlation -> lava kernel (out, kw, kh, in), true convolution."""
    return np.ascontiguousarray(w[:, :, ::-1, ::-1].transpose(0, 3, 2, 1))
