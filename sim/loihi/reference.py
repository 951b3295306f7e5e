"""The integer law in code, chip step by chip step: lava-nc 0.10.0's fixed-point LIF, Dense, DelayDense and Conv.

With ``>>`` arithmetic, ``trunc12(p) = sign(p) (|p| >> 12)``, V = 2^23, wrapN two's complement of N bits:

    a  = wrap32 of the sum over connections of what arrives now
    x  = wrap32(trunc12(u (4096 - (du + 1))) + wrap32(a << 6))
    u  = x - 2V where x > V, x + 2V where x <= -V, else x          the current wraps, once
    y  = trunc12(v (4096 - dv)) + u + bias                         bias = mantissa << bias_exp
    v  = clip(y, -V + 1, V - 1)                                    the voltage saturates
    s  = v > (vth << 6);   then v = 0 where s                      u is not reset
                           or v - (subtract << 6) where s          reset "subtract", our extension

A connection turns the spikes s of step t into what arrives in step t + 1 + delay:

    x    = s != 0 (num_message_bits 0: a payload's sign and size are lost), else the signed payload
    dense  wrap32((w x) << weight_exp)    or  >> -weight_exp of the sum; apart for each delay
    conv   wrap24(w * x)                  no clipping, no exponent

u and v are in 1/64 of a weight unit. A population rests, silent and untouched, until its ``start``: LIFReset with that
offset. Source: lava-nc 0.10.0, ``proc/lif``, ``proc/dense``, ``proc/conv``, ``utils/weightutils``. "Equal to lava-nc's
fixed-point model" is all that is claimed: that model is known to differ from silicon (lava-nc issue 322).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.loihi import ConvEdge, DenseEdge, Edge, Int, Lif, LoihiProgram
from export.network import Shape
from sim.loihi.counting import Activity, checked, finish
from sim.run import Run

Ints: TypeAlias = npt.NDArray[np.int64]
V = 2**23


@dataclass(frozen=True)
class State:
    """Before chip step ``t``: u and v ``(samples, neurons)`` per population; what is under way on each connection.

    ``wires[k][d]``: what connection k delivers d steps from now, ``(samples, target neurons)``.
    """

    t: int
    u: dict[str, Ints]
    v: dict[str, Ints]
    wires: list[list[Ints]]


@dataclass(frozen=True)
class Moment:
    """One chip step of one population: spikes; who was active, whose current wrapped, whose voltage was clipped."""

    s: Ints
    active: npt.NDArray[np.bool_]
    wrapped: npt.NDArray[np.bool_]
    clipped: npt.NDArray[np.bool_]


def wrap(x: Ints, bits: int) -> Ints:
    """Two's complement of so many bits."""
    half = 2 ** (bits - 1)
    return np.asarray((x + half) % (2 * half) - half)


def trunc12(p: Ints) -> Ints:
    """Divided by 4096, toward zero."""
    return np.asarray(np.sign(p) * (np.abs(p) >> 12))


def lif(node: Lif, u: Ints, v: Ints, a: Ints) -> tuple[Moment, Ints, Ints]:
    """One step: ``(u, v, a) -> (moment, u, v)``, all ``(samples, neurons)``."""
    bias = np.int64(0) if node.bias is None else node.bias.astype(np.int64) << node.bias_exp
    active = (a != 0) | (u != 0) | (v != 0) | (bias != 0)
    x = wrap(trunc12(u * (4096 - (node.du + 1))) + wrap(a << 6, 32), 32)
    u = np.where(x > V, x - 2 * V, np.where(x <= -V, x + 2 * V, x))
    y = trunc12(v * (4096 - node.dv)) + u + bias
    v = np.clip(y, -V + 1, V - 1)
    s = (v > node.vth << 6).astype(np.int64)
    left = v - (node.subtract << 6) if node.reset == "subtract" else 0
    return Moment(s, active, u != x, v != y), u, np.where(s == 1, left, v)


def dense(edge: DenseEdge, w: Int, s: Ints) -> Ints:
    """``s (samples, source neurons) -> (samples, target neurons)`` through the weights of one delay."""
    a = payload(edge, s) @ w.T.astype(np.int64)
    return wrap(a << edge.weight_exp if edge.weight_exp > 0 else a >> -edge.weight_exp, 32)


def conv(edge: ConvEdge, s: Ints, src: Shape, dst: Shape) -> Ints:
    """``s (samples, source neurons) -> (samples, target neurons)`` through a convolution."""
    x = payload(edge, s).reshape(-1, *src)
    x = np.pad(x, ((0, 0), (0, 0), (edge.padding[0],) * 2, (edge.padding[1],) * 2))
    y = np.zeros((len(x), *dst), np.int64)
    per_in, per_out = edge.w.shape[1], edge.w.shape[0] // edge.groups
    for kh in range(edge.w.shape[2]):
        rows = kh * edge.dilation[0] + edge.stride[0] * np.arange(dst[1])
        for kw in range(edge.w.shape[3]):
            columns = kw * edge.dilation[1] + edge.stride[1] * np.arange(dst[2])
            seen = x[:, :, rows[:, None], columns]
            for g in range(edge.groups):
                w = edge.w[g * per_out : (g + 1) * per_out, :, kh, kw].astype(np.int64)
                part = seen[:, g * per_in : (g + 1) * per_in]
                y[:, g * per_out : (g + 1) * per_out] += np.einsum("oi,nihw->nohw", w, part)
    return wrap(y.reshape(len(x), -1), 24)


def payload(edge: Edge, s: Ints) -> Ints:
    """What a synapse multiplies: the message, or only that there is one."""
    return s if edge.num_message_bits else (s != 0).astype(np.int64)


def initial(program: LoihiProgram, samples: int) -> State:
    """Nothing under way, v = 0, u = ``u0``."""
    zero = {n: np.zeros((samples, program.size(n)), np.int64) for n in program.nodes}
    u = {n: zero[n] + (0 if p.u0 is None else p.u0) for n, p in program.lifs.items()}
    wires = [[zero[e.dst]] * (e.delay_range()[1] + 1) for e in program.edges]
    return State(0, u, {n: zero[n] for n in program.lifs}, wires)


def advance(program: LoihiProgram, state: State, x: Ints) -> tuple[dict[str, Moment], State]:
    """One chip step: ``(state, x (samples, inputs)) -> (moment of each population, state)``; nothing is changed."""
    u, v, moments = {}, {}, {}
    for name, node in program.lifs.items():
        a = np.zeros_like(state.v[name])
        for edge, wire in zip(program.edges, state.wires, strict=True):
            if edge.dst == name:
                a = wrap(a + wire[0], 32)
        u[name], v[name] = state.u[name], state.v[name]
        if state.t < node.start:
            no = np.zeros(a.shape, bool)
            moments[name] = Moment(np.zeros_like(a), no, no, no)
        else:
            moments[name], u[name], v[name] = lif(node, u[name], v[name], a)
    wires = []
    for edge, wire in zip(program.edges, state.wires, strict=True):
        s = x if edge.src == program.input else moments[edge.src].s
        after = [*wire[1:], np.zeros_like(wire[0])]
        for delay, a in sent(program, edge, s):
            after[delay] = wrap(after[delay] + a, 32)
        wires.append(after)
    return moments, State(state.t + 1, u, v, wires)


def sent(program: LoihiProgram, edge: Edge, s: Ints) -> list[tuple[int, Ints]]:
    """``(delay, what arrives)`` that the spikes ``s`` send over one connection."""
    if isinstance(edge, ConvEdge):
        return [(0, conv(edge, s, program.nodes[edge.src].shape, program.nodes[edge.dst].shape))]
    return [(delay, dense(edge, w, s)) for delay, w in edge.bins()]


def step(program: LoihiProgram, state: State | None, x: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int8], State]:
    """One chip step: ``(state or None to begin, x (samples, *input)) -> (y (samples, *output), state)``.

    What x causes leaves ``program.latency`` steps later. Errors: ``ValueError`` as :func:`run`.
    """
    x = checked(program, x[:, None])[:, 0]
    state = initial(program, len(x)) if state is None else state
    moments, state = advance(program, state, x.reshape(len(x), -1).astype(np.int64))
    return moments[program.output].s.astype(np.int8).reshape(len(x), *program.output_shape), state


def run(
    program: LoihiProgram,
    x: npt.NDArray[Any],
    *,
    probes: Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
) -> Run:
    """All steps of integer ``x (samples, T, *input)``, every sample from rest; ``y (samples, T, *output)``.

    Each population is read over its own T steps, from its ``start`` on, so that ``y[t]`` answers ``x[t]``. Probes:
    ``"<node>.s"`` spikes, ``"<node>.u"`` and ``"<node>.v"`` after each step.
    Errors: ``ValueError`` for another shape, for fractions, and for values that the program's input does not carry.
    """
    began, x = time.perf_counter(), checked(program, x)
    samples, steps = x.shape[:2]
    activity = Activity.empty(program, samples, steps, probes)
    state = initial(program, samples)
    end = steps + max(p.start for p in program.lifs.values())
    quiet = np.zeros((samples, program.size(program.input)), np.int64)
    for t in range(end):
        now = x[:, t].reshape(samples, -1).astype(np.int64) if t < steps else quiet
        moments, state = advance(program, state, now)
        for name, node in program.lifs.items():
            k = t - node.start
            if 0 <= k < steps:
                m = moments[name]
                activity.record(name, k, m.s, state.u[name], state.v[name])
                activity.add(name, int(m.active.sum()), int(m.wrapped.sum()), int(m.clipped.sum()))
                for edge, each in zip(program.edges, program.fan_out, strict=True):
                    if edge.src == name:
                        activity.events[edge.dst] += int((m.s @ each).sum())
        for edge, each in zip(program.edges, program.fan_out, strict=True):
            if edge.src == program.input:
                activity.events[edge.dst] += int(((now != 0) @ each).sum())
        if progress is not None:
            progress((t + 1) / end)
    return finish(program, x, activity, probes, "loihi-reference", began)
