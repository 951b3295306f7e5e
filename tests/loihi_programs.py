"""Random integer programs that reach into every corner of the law, with input to match."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from export.assemble import assemble
from export.loihi import (
    ConvEdge,
    Delta,
    DenseEdge,
    Edge,
    Graded,
    InputNode,
    Lif,
    LoihiProgram,
    Node,
    ResonateFire,
    Sigma,
    SigmaDelta,
    SparseEdge,
    Ternary,
)

Array = npt.NDArray[Any]
KINDS = (
    "dense", "delay", "recurrent", "conv", "sparse", "sparse delay", "reset", "ternary", "sigma delta", "resonate",
    "graded",
)  # fmt: skip


class Maker:
    """Draws nodes and edges. ``wild`` allows payloads and exponents with which currents wrap."""

    def __init__(self, kind: str, seed: int, wild: bool) -> None:
        self.kind, self.wild, self.rng = kind, wild, np.random.default_rng([KINDS.index(kind), seed, wild])
        self.bits = int(self.rng.choice([8, 16])) if wild else 0
        if kind in ("sigma delta", "graded"):
            self.bits = self.bits or 8

    def weights(self, *shape: int) -> tuple[Array, Any]:
        sign = str(self.rng.choice(["mixed", "excitatory", "inhibitory"], p=[0.6, 0.3, 0.1]))
        w = self.rng.integers(-200, 256, shape)
        w[self.rng.random(shape) < self.rng.choice([0.0, 0.5])] = 0
        w = np.where(sign == "mixed", w, np.abs(w) if sign == "excitatory" else -np.abs(w))
        return w.astype(np.int16), sign

    def population(self, *shape: int) -> Any:
        """A population of the kind that this program is about."""
        r, n = self.rng, int(np.prod(shape))
        exps = [int(k) for k in r.integers(0, 3, 2)]
        vth = int(r.choice([1, 20, 300]))
        if self.kind == "reset":
            many = r.random() < 0.5
            du, dv, limit = (r.choice(a, n) if many else int(r.choice(a)) for a in ([4095, 2047], [0, 1024], [99, 600]))
            bias = r.integers(-200, 300, n).astype(np.int16)
            v0 = r.integers(-5000, 5000, n) if r.random() < 0.5 else None
            period, offset = int(r.integers(2, 9)), int(r.integers(0, 12))
            return Lif(
                shape, du, dv, limit, bias, int(r.integers(-3, 3)), v0=v0, reset_interval=period, reset_offset=offset
            )
        if self.kind == "ternary":
            bias = r.integers(-300, 300, n).astype(np.int16) if r.random() < 0.5 else None
            du, low = int(r.choice([4095, 2047])), -int(r.choice([100, 900]))
            return Ternary(
                shape, du, int(r.choice([0, 1024])), int(r.choice([100, 900])), low, bias, int(r.integers(0, 3))
            )
        if self.kind == "sigma delta":
            bias = r.integers(-500, 500, n) if r.random() < 0.5 else None
            made = SigmaDelta(shape, vth, bias, str(r.choice(["relu", "unit"])), bool(r.random() < 0.5), *exps)  # type: ignore[arg-type]
            return made if r.random() < 0.6 else Delta(shape, vth, bool(r.random() < 0.5), *exps)
        if self.kind == "resonate":
            period, alpha = float(r.choice([3.0, 5.5, 12.0])), float(r.choice([0.0, 0.05, 0.3]))
            bits, swap = int(r.choice([6, 12])), bool(r.random() < 0.4)
            limit = int(r.choice([50, 600]))
            return ResonateFire.of_period(
                shape, period, alpha, limit, decay_bits=bits, state_exp=exps[0], izhikevich=swap
            )
        if self.kind == "graded":
            return Graded(shape, vth, bool(r.random() < 0.5)) if r.random() < 0.8 else Sigma(shape)
        return self.lif(*shape)

    def lif(self, *shape: int) -> Lif:
        n, r = int(np.prod(shape)), self.rng
        vth = int(r.choice([100, 600, 3000]))
        return Lif(
            shape,
            int(r.choice([4095, 2047, 0, -1] if self.wild else [4095, 4095, 2047, 1000])),
            int(r.choice([0, 1024, 2048, 4095])),
            vth,
            r.integers(-200, 300, n).astype(np.int16) if r.random() < 0.5 else None,
            int(r.integers(0, 8 if self.wild else 4)),
            *(("subtract", vth + 1) if r.random() < 0.2 else ("zero", 0)),
            u0=r.integers(-5000, 5000, n).astype(np.int32) if r.random() < 0.2 else None,
        )

    def edge(self, src: str, dst: str, n_in: int, n_out: int) -> Edge:
        """A connection of the kind that this program is about."""
        made = self.dense(src, dst, n_in, n_out)
        if self.kind == "resonate" and self.rng.random() < 0.5 and dst != "o":
            made = replace(made, port="imag")
        if self.kind.startswith("sparse") or (self.kind not in KINDS[:4] and self.rng.random() < 0.3):
            return SparseEdge.of_dense(made)
        return made

    def dense(self, src: str, dst: str, n_in: int, n_out: int) -> DenseEdge:
        w, sign = self.weights(n_out, n_in)
        exp = int(self.rng.choice([-6, -3, 3, 7] if self.wild else [-3, 0, 0, 1]))
        bits = int(self.rng.choice([8, 8, 7, 5, 2]))
        graded = self.bits if src == "in" and self.rng.random() < 0.8 else 0
        if src != "in" and self.kind in ("ternary", "sigma delta", "graded"):
            graded = 24
        edge = DenseEdge(src, dst, w, sign, exp, bits, graded)
        if self.kind not in ("delay", "sparse delay"):
            return edge
        if self.rng.random() < 0.5:
            return DenseEdge(src, dst, w, sign, exp, bits, graded, int(self.rng.integers(0, 9)))
        return DenseEdge(src, dst, w, sign, exp, bits, graded, 0, self.rng.integers(0, 9, w.shape).astype(np.int16))

    def conv(self, src: str, dst: str, shape: tuple[int, ...], out: int, groups: int) -> ConvEdge:
        kernel = [min(int(self.rng.integers(1, 4)), n) for n in shape[1:]]
        w, sign = self.weights(out, shape[0] // groups, *kernel)
        stride, padding = tuple(self.rng.integers(1, 4, 2).tolist()), tuple(self.rng.integers(0, 3, 2).tolist())
        fits = [n // max(1, k) for n, k in zip(shape[1:], kernel, strict=True)]
        dilation = tuple(min(2, max(1, f), int(d)) for f, d in zip(fits, self.rng.integers(1, 3, 2), strict=True))
        graded = self.bits if src == "in" else 0
        return ConvEdge(src, dst, w, sign, stride, padding, dilation, groups, num_message_bits=graded)  # type: ignore[arg-type]

    def chain(self) -> tuple[dict[str, Node], list[Edge]]:
        n = [int(k) for k in self.rng.integers(5, 60, 3)]
        nodes: dict[str, Node] = {"in": InputNode((n[0],), self.bits)}
        nodes |= {"a": self.population(n[1]), "b": self.population(n[2]), "o": self.lif(4)}
        edges = [self.edge("in", "a", n[0], n[1]), self.edge("a", "b", n[1], n[2]), self.edge("b", "o", n[2], 4)]
        if self.rng.random() < 0.5:
            edges.append(self.edge("in", "o", n[0], 4))
        if self.kind == "recurrent":
            edges += [self.dense("a", "a", n[1], n[1]), self.dense("o", "a", 4, n[1])]
        return nodes, edges

    def images(self) -> tuple[dict[str, Node], list[Edge]]:
        groups = int(self.rng.integers(1, 3))
        shape = (groups * int(self.rng.integers(1, 4)), *self.rng.integers(5, 10, 2).tolist())
        first = self.conv("in", "a", shape, 4 * groups, groups)
        middle = first.out_shape(shape)
        second = self.conv("a", "b", middle, 6, 1)
        last = second.out_shape(middle)
        n, m = int(np.prod(middle)), int(np.prod(last))
        nodes: dict[str, Node] = {"in": InputNode(shape, self.bits), "a": self.lif(*middle)}
        nodes |= {"b": self.lif(*last), "o": self.lif(5)}
        edges: list[Edge] = [first, second, self.dense("b", "o", m, 5)]
        return nodes, [*edges, self.dense("a", "o", n, 5)] if self.rng.random() < 0.5 else edges


def program(kind: str, seed: int, wild: bool = False) -> tuple[LoihiProgram, Array]:
    """``(program, x (samples, T, *input))``."""
    make = Maker(kind, seed, wild)
    nodes, edges = make.images() if kind == "conv" else make.chain()
    made = assemble(nodes, edges, "o")
    size = (3, int(make.rng.integers(5, 40)), *made.input_shape)
    on = make.rng.random(size) < make.rng.choice([0.05, 0.3, 0.8])
    if not make.bits:
        return made, on.astype(np.int8)
    return made, make.rng.integers(-(2**make.bits) + 1, 2**make.bits, size) * on
