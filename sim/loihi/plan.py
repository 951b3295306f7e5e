"""A program laid out for the fast engine: weights by source, images with channels last, windows precomputed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from export.loihi import (
    ConvEdge,
    Delta,
    DenseEdge,
    Edge,
    Graded,
    Lif,
    LoihiProgram,
    Population,
    ResonateFire,
    SigmaDelta,
    SparseEdge,
    Ternary,
)
from export.network import Shape
from sim.loihi import fallback, laws, parts
from sim.loihi.parts import Part

Array = npt.NDArray[Any]
Fire = Callable[[int, Array, Array, Array, Array, Array], None]
"""``fire(k, a, x, s, traces, flags)``: see :mod:`sim.loihi.fire`."""


@dataclass(frozen=True, eq=False)
class Plan:
    """``order[node]``: index in C order of each neuron as the engine has it, or None where they agree.

    ``laws``, ``ports`` and first state ``x0 (variables, neurons)`` of each population, its numbers in that order;
    ``into`` and ``out_of`` the connections of a node, in parts that each add in one go.
    """

    program: LoihiProgram
    compiled: bool
    order: dict[str, Array | None]
    laws: dict[str, Population]
    ports: dict[str, int]
    x0: dict[str, Array]
    into: dict[str, list[Part]]
    out_of: dict[str, list[Part]]

    def fire(self, node: str, samples: int = 1) -> Fire:
        """The law of a population for so many samples side by side, ``samples * neurons`` columns."""
        law = _each(self.laws[node], lambda a: np.tile(a, samples))
        return _compiled(law, samples * self.program.size(node)) if self.compiled else partial(fallback.fire, law)

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
    compiled = fallback.has_numba(numba)
    order = {n: _channels_last(node.shape) if compiled else None for n, node in program.nodes.items()}
    own, x0 = {}, {}
    for n, p in program.populations.items():
        by = order[n]
        own[n] = node = p if by is None else _each(p, partial(np.take, indices=by))
        x0[n] = np.array([a[0] for a in laws.initial(node, 1, program.size(n)).values()], np.int32)
        x0[n] = x0[n].reshape(len(node.states), program.size(n))
    into: dict[str, list[Part]] = {n: [] for n in program.nodes}
    out_of: dict[str, list[Part]] = {n: [] for n in program.nodes}
    for edge in program.edges:
        for part in _parts(program, edge, order, compiled):
            into[edge.dst].append(part)
            out_of[edge.src].append(part)
    ports = {n: 2 if isinstance(p, ResonateFire) else 1 for n, p in program.populations.items()}
    return Plan(program, compiled, order, own, ports, x0, into, out_of)


def _channels_last(shape: Shape) -> Array | None:
    if len(shape) != 3 or shape[0] == 1 or shape[1] * shape[2] == 1:
        return None
    return np.arange(math.prod(shape)).reshape(shape).transpose(1, 2, 0).ravel()


def _each(p: Population, change: Callable[[Array], Array]) -> Population:
    """The population with its per-neuron numbers changed."""
    changed: dict[str, Any] = {k: change(v) for k, v in vars(p).items() if isinstance(v, np.ndarray)}
    return replace(p, **changed) if changed else p


def _compiled(p: Population, n: int) -> Fire:
    """The compiled law with its parameters; see :mod:`sim.loihi.fire`."""
    from sim.loihi import fire

    par, num = np.zeros((0, n)), [0]
    if isinstance(p, Lif | Ternary):
        high = p.vth if isinstance(p, Lif) else p.vth_hi
        rows = [(4095 - p.du) / 4096, (4096 - p.dv) / 4096, high * 64, laws.shifted(p.bias, p.bias_exp)]
        rows += [p.vth_lo * 64] if isinstance(p, Ternary) else []
        par = np.array([np.broadcast_to(r, n) for r in rows], np.float64)
        if isinstance(p, Lif):
            off = p.subtract << 6 if p.reset == "subtract" else 0
            num = [off, p.reset_interval, p.reset_offset % max(1, p.reset_interval)]
    elif isinstance(p, SigmaDelta | Delta):
        shift = p.spike_exp + p.state_exp
        num = [p.vth << shift, int(p.cum_error), p.state_exp, shift]
        if isinstance(p, SigmaDelta):
            par, num = np.broadcast_to(laws.shifted(p.bias, shift), (1, n)), [*num, int(p.activation == "relu")]
    elif isinstance(p, ResonateFire):
        num = [p.cos_decay, p.sin_decay, p.decay_bits, p.vth << p.state_exp, p.state_exp, int(p.izhikevich)]
    elif isinstance(p, Graded):
        num = [p.vth, int(p.relu)]
    law, floats, ints = getattr(fire, p.kind), np.array(par, np.float64), np.array(num, np.int64)

    def run(k: int, a: Array, x: Array, s: Array, traces: Array, flags: Array) -> None:
        law(k, a, x, floats, ints, s, traces, flags)

    return run


def _parts(program: LoihiProgram, edge: Edge, order: dict[str, Array | None], compiled: bool) -> Sequence[Part]:
    src, dst = program.nodes[edge.src], program.nodes[edge.dst]
    graded = edge.num_message_bits > 0 and src.graded  # the others send 0 and 1
    shift = 1 + src.start - dst.start
    if isinstance(edge, ConvEdge):
        exp = edge.weight_exp if program.law == "hw" else 0
        if compiled:
            return [parts.conv(edge, src.shape, dst.shape, shift, graded, exp)]
        return [parts.plain_conv(edge, src.shape, shift, graded, exp)]
    apart = isinstance(edge, DenseEdge)
    if isinstance(edge, DenseEdge):
        if edge.delays is None and compiled:
            return [parts.dense(edge, shift, graded, order)]
        if edge.delays is None:
            return [parts.plain_dense(edge, shift, graded)]
        edge = SparseEdge.of_dense(edge)
    if compiled:
        return parts.sparse(edge, shift, graded, order, apart)
    return parts.plain_sparse(edge, math.prod(dst.shape), shift, graded, apart)
