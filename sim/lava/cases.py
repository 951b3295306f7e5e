"""The conformance cases: 54 small programs over every law, in which lava-nc and our engines must agree to the bit.

Currents wrap, voltages clip and payloads overflow in many of them. ``spikeport lava doctor`` runs them on the lava that
is installed; ``tests/golden_lava`` holds what lava-nc 0.10.0 made of them, for machines without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
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
    SignMode,
    SparseEdge,
    Ternary,
)

Array = npt.NDArray[Any]
SIGNS: tuple[SignMode, ...] = ("mixed", "excitatory", "inhibitory")
SHAPES = [  # in channels, out channels, groups, kernel, stride, padding, dilation; pairs (h, w)
    (1, 3, 1, (3, 3), (1, 1), (0, 0), (1, 1)),
    (2, 4, 2, (2, 3), (2, 1), (1, 0), (1, 1)),
    (3, 2, 1, (3, 2), (1, 2), (2, 1), (2, 1)),
    (4, 4, 4, (1, 1), (1, 1), (0, 0), (1, 1)),
    (2, 3, 1, (2, 2), (3, 2), (1, 2), (2, 3)),
    (4, 6, 2, (3, 3), (2, 2), (1, 1), (1, 2)),
]


@dataclass(frozen=True, eq=False)
class Case:
    """One program and its input ``x (1, T, *input)``."""

    name: str
    program: LoihiProgram
    x: Array

    @property
    def probes(self) -> tuple[str, ...]:
        """Messages and every variable of every population, after each step."""
        return tuple(f"{n}.{k}" for n, p in self.program.populations.items() for k in ("s", *p.states))

    @property
    def ends(self) -> tuple[str, ...]:
        """Messages of each step, every variable after the last."""
        return tuple(p if p.endswith(".s") else f"{p}@end" for p in self.probes)


def cases() -> list[Case]:
    """All of them; the same each time."""
    return [Case(name, *make) for name, make in _all()]


def _all() -> Iterator[tuple[str, tuple[LoihiProgram, Array]]]:
    k = 0
    for neuron in ("lif", "reset", "ternary"):
        for sign in SIGNS:
            for exp, bits in ((-3, 8), (3, 5)):
                k += 1
                yield f"{neuron} {sign} exp {exp} bits {bits}", _chain(k, neuron, sign, exp, bits)
    for kind in ("dense", "sparse", "delay dense", "delay sparse"):
        for exp, bits in ((-6, 8), (-3, 7), (0, 5), (3, 2), (7, 8)):
            k += 1
            yield f"{kind} graded exp {exp} bits {bits}", _payloads(k, kind, exp, bits)
    for wide in (False, True):
        for reset in (0, 7):
            k += 1
            yield f"recurrent{' wide' * wide} reset {reset}", _loops(k, wide, reset)
    for shape in SHAPES:
        k += 1
        yield f"conv {'x'.join(map(str, shape[0:3]))} stride {shape[4]}", _conv(k, *shape)
    for cum_error in (False, True):
        for activation in ("relu", "unit"):
            k += 1
            bias = np.arange(-400, 500, 100)
            node = SigmaDelta((9,), 30, bias, activation, cum_error, 1, 2)
            encoder = Delta((9,), 5, cum_error, 0, 1)
            yield f"sigma delta {activation}{' cumulated' * cum_error}", _between(k, node, encoder)
    for swap in (False, True):
        k += 1
        yield f"resonate{' izhikevich' * swap}", _resonate(k, swap)


class _Draw:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([54, seed])

    def w(self, sign: str, *shape: int) -> Array:
        w = self.rng.integers(-230, 256, shape) * (self.rng.random(shape) < 0.7)
        return np.asarray(w if sign == "mixed" else abs(w) if sign == "excitatory" else -abs(w), np.int16)

    def spikes(self, *size: int, rate: float = 0.3) -> Array:
        return np.asarray(self.rng.random((1, *size)) < rate, np.int8)

    def payload(self, bits: int, *size: int) -> Array:
        x = self.rng.integers(-(2**bits) + 1, 2**bits, (1, *size)) * (self.rng.random((1, *size)) < 0.5)
        return x.astype(np.int32)

    def lif(self, n: int, **more: Any) -> Lif:
        bias = self.rng.integers(-200, 300, n).astype(np.int16)
        du, dv = int(self.rng.choice([4095, 2047, 0])), int(self.rng.choice([0, 1024, 4095]))
        return Lif((n,), du, dv, 120, bias, 4, **more)


def _chain(seed: int, neuron: str, sign: SignMode, exp: int, bits: int) -> tuple[LoihiProgram, Array]:
    d = _Draw(seed)
    middle: Node = d.lif(11)
    if neuron == "reset":
        middle = d.lif(11, reset_interval=5, reset_offset=7, v0=d.rng.integers(-9000, 9000, 11))
    elif neuron == "ternary":
        middle = Ternary((11,), 2047, 512, 250, -180, d.rng.integers(-200, 200, 11).astype(np.int16), 1)
    edges: list[Edge] = [
        DenseEdge("in", "h", d.w(sign, 11, 13), sign, exp, bits),
        DenseEdge("h", "o", d.w("mixed", 4, 11), "mixed", 1, 8, 1 if neuron == "ternary" else 0),
        DenseEdge("in", "o", d.w(sign, 4, 13), sign, 0, bits, delay=1),
    ]
    made = assemble({"in": InputNode((13,)), "h": middle, "o": d.lif(4)}, edges, "o")
    return made, d.spikes(24, 13, rate=0.02 if sign == "inhibitory" else 0.3)


def _payloads(seed: int, kind: str, exp: int, bits: int) -> tuple[LoihiProgram, Array]:
    d = _Draw(seed)
    first = DenseEdge("in", "h", d.w("mixed", 9, 12), "mixed", exp, bits, 16)
    if kind.startswith("delay"):
        first = replace(first, delays=d.rng.integers(0, 7, (9, 12)))
    made: Edge = SparseEdge.of_dense(first) if kind.endswith("sparse") else first
    edges = [made, DenseEdge("h", "o", d.w("mixed", 3, 9), "mixed", -1, 8, 16)]
    nodes: dict[str, Node] = {"in": InputNode((12,), 15), "h": Graded((9,), 40, seed % 2 == 0), "o": d.lif(3)}
    return assemble(nodes, edges, "o"), d.payload(15, 20, 12)


def _loops(seed: int, wide: bool, reset: int) -> tuple[LoihiProgram, Array]:
    d, exp = _Draw(seed), 7 if wide else 0
    nodes: dict[str, Node] = {"in": InputNode((10,)), "a": d.lif(8, reset_interval=reset), "b": d.lif(6)}
    edges: list[Edge] = [
        DenseEdge("in", "a", d.w("mixed", 8, 10), "mixed", exp),
        DenseEdge("a", "b", d.w("excitatory", 6, 8), "excitatory", exp),
        DenseEdge("a", "a", d.w("inhibitory", 8, 8), "inhibitory"),
        DenseEdge("b", "a", d.w("mixed", 8, 6), "mixed", exp, delays=d.rng.integers(0, 4, (8, 6))),
    ]
    return assemble(nodes, edges, "b"), d.spikes(30, 10)


def _conv(seed: int, n: int, out: int, groups: int, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    d, size = _Draw(seed), (n, 7, 6)
    edge = ConvEdge("in", "h", d.w("mixed", out, n // groups, *kernel), "mixed", stride, padding, dilation, groups, 16)
    shape = edge.out_shape(size)
    many = int(np.prod(shape))
    nodes: dict[str, Node] = {
        "in": InputNode(size, 15),
        "h": replace(d.lif(many), shape=shape, bias=None),
        "o": d.lif(3),
    }
    edges: list[Edge] = [edge, DenseEdge("h", "o", d.w("mixed", 3, many), "mixed")]
    return assemble(nodes, edges, "o"), d.payload(15, 12, *size)


def _between(seed: int, middle: SigmaDelta, encoder: Delta) -> tuple[LoihiProgram, Array]:
    d = _Draw(seed)
    nodes: dict[str, Node] = {"in": InputNode((9,), 8), "e": encoder, "h": middle, "t": Sigma((5,)), "o": d.lif(3)}
    edges: list[Edge] = [
        DenseEdge("in", "e", d.w("mixed", 9, 9), "mixed", -4, 8, 8),
        DenseEdge("e", "h", d.w("mixed", 9, 9), "mixed", -5, 8, 16),
        DenseEdge("h", "t", d.w("mixed", 5, 9), "mixed", -6, 8, 16),
        DenseEdge("t", "o", d.w("mixed", 3, 5), "mixed", -8, 8, 16),
    ]
    return assemble(nodes, edges, "o"), d.payload(8, 24, 9)


def _resonate(seed: int, izhikevich: bool) -> tuple[LoihiProgram, Array]:
    d = _Draw(seed)
    middle = ResonateFire.of_period((10,), 6.5, 0.08, 400, state_exp=2, izhikevich=izhikevich)
    edges = [
        DenseEdge("in", "h", d.w("mixed", 10, 12), "mixed", 1),
        DenseEdge("in", "h", d.w("mixed", 10, 12), "mixed", 0, port="imag"),
        DenseEdge("h", "o", d.w("mixed", 3, 10), "mixed"),
    ]
    return assemble({"in": InputNode((12,)), "h": middle, "o": d.lif(3)}, edges, "o"), d.spikes(40, 12)
