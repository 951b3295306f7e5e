"""The readable engine: a program chip step by chip step, the integer law in code.

The laws of populations are :mod:`sim.loihi.laws`. A connection turns the messages s of step t into what arrives in
step ``t + 1 + delay``:

    x              s != 0 (num_message_bits 0: a payload's sign and size are lost), else the signed payload
    dense, sparse  wrap32(wrap32(w x) << weight_exp)  or  >> -weight_exp of the sum; apart for each delay
                   dense with delays wraps each product and shifts the sum as it is, as lava's DelayDense does
    conv           wrap24(w * x)                  no clipping, no exponent; under law "hw" wrap24((w * x) << weight_exp)

What arrives on several connections is added in 32 bits. Source: lava-nc 0.10.0, ``proc/dense``, ``proc/sparse``,
``proc/conv``, ``utils/weightutils``. "Equal to lava-nc's fixed-point models" is all that is claimed: those models are
known to differ from silicon (lava-nc issue 322).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from export.loihi import ConvEdge, DenseEdge, Edge, Int, LoihiProgram, SparseEdge
from export.network import Shape
from sim.loihi import laws
from sim.loihi.counting import Activity, checked, finish, message_type, unwrapped
from sim.loihi.laws import Ints, Moment, wrap
from sim.run import Run


@dataclass(frozen=True)
class State:
    """Before chip step ``t``: per population its variables ``(samples, neurons)``, per connection what is under way.

    ``wires[k][d]``: what connection k delivers d steps from now, ``(samples, target neurons)``.
    """

    t: int
    vars: dict[str, dict[str, Ints]]
    wires: list[list[Ints]]


def dense(edge: DenseEdge, w: Int, s: Ints) -> Ints:
    """``s (samples, source neurons) -> (samples, target neurons)`` through the weights of one delay."""
    x, w = payload(edge, s), w.astype(np.int64)
    if edge.delayed:
        return _shift(np.array([wrap(one * w, 32).sum(axis=1) for one in x]), edge.weight_exp)
    return _shift(wrap(x @ w.T, 32), edge.weight_exp)


def sparse(edge: SparseEdge, which: Int, s: Ints, targets: int) -> Ints:
    """``s (samples, source neurons) -> (samples, target neurons)`` through the synapses ``which``."""
    a = np.zeros((targets, len(s)), np.int64)
    sent = payload(edge, s)[:, edge.of()[which]] * edge.w[which].astype(np.int64)
    np.add.at(a, edge.target[which], sent.T)
    return _shift(wrap(a.T, 32), edge.weight_exp)


def _shift(a: Ints, exp: int) -> Ints:
    return wrap(a << exp if exp > 0 else a >> -exp, 32)


def conv(edge: ConvEdge, s: Ints, src: Shape, dst: Shape, exp: int) -> Ints:
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
    y = y.reshape(len(x), -1)
    return wrap(y << exp if exp > 0 else y >> -exp, 24)


def payload(edge: Edge, s: Ints) -> Ints:
    """What a synapse multiplies: the message, or only that there is one."""
    return s if edge.num_message_bits else (s != 0).astype(np.int64)


def initial(program: LoihiProgram, samples: int) -> State:
    """Nothing under way, every variable at its first value."""
    found = {n: laws.initial(p, samples, program.size(n)) for n, p in program.populations.items()}
    wires = [[np.zeros((samples, program.size(e.dst)), np.int64)] * (e.delay_range()[1] + 1) for e in program.edges]
    return State(0, found, wires)


def advance(program: LoihiProgram, state: State, x: Ints) -> tuple[dict[str, Moment], State]:
    """One chip step: ``(state, x (samples, inputs)) -> (moment of each population, state)``; nothing is changed."""
    after_vars, moments = {}, {}
    for name, node in program.populations.items():
        a = {p: np.zeros((len(x), program.size(name)), np.int64) for p in ("real", "imag")}
        for edge, wire in zip(program.edges, state.wires, strict=True):
            if edge.dst == name:
                a[edge.port] = wrap(a[edge.port] + wire[0], 32)
        if state.t < node.start:
            no = np.zeros(a["real"].shape, bool)
            moments[name], after_vars[name] = Moment(np.zeros_like(a["real"]), no, no, no), state.vars[name]
        else:
            moments[name], after_vars[name] = laws.step(node, state.t, state.vars[name], a)
    wires = []
    for edge, wire in zip(program.edges, state.wires, strict=True):
        s = x if edge.src == program.input else moments[edge.src].s
        after = [*wire[1:], np.zeros_like(wire[0])]
        for delay, a_out in sent(program, edge, s):
            after[delay] = wrap(after[delay] + a_out, 32)
        wires.append(after)
    return moments, State(state.t + 1, after_vars, wires)


def sent(program: LoihiProgram, edge: Edge, s: Ints) -> list[tuple[int, Ints]]:
    """``(delay, what arrives)`` that the messages ``s`` send over one connection."""
    if isinstance(edge, ConvEdge):
        exp = edge.weight_exp if program.law == "hw" else 0
        return [(0, conv(edge, s, program.nodes[edge.src].shape, program.nodes[edge.dst].shape, exp))]
    if isinstance(edge, SparseEdge):
        return [(delay, sparse(edge, which, s, program.size(edge.dst))) for delay, which in edge.bins()]
    return [(delay, dense(edge, w, s)) for delay, w in edge.bins()]


def step(program: LoihiProgram, state: State | None, x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], State]:
    """One chip step: ``(state or None to begin, x (samples, *input)) -> (y (samples, *output), state)``.

    What x causes leaves ``program.latency`` steps later. Errors: ``ValueError`` as :func:`run`.
    """
    x = checked(program, x[:, None])[:, 0]
    state = initial(program, len(x)) if state is None else state
    moments, state = advance(program, state, x.reshape(len(x), -1).astype(np.int64))
    if program.law == "hw":
        unwrapped({n: np.array([0, m.wrapped.sum(), 0]) for n, m in moments.items()})
    y = moments[program.output].s.astype(message_type(program, program.output))
    return y.reshape(len(x), *program.output_shape), state


def run(
    program: LoihiProgram,
    x: npt.NDArray[Any],
    *,
    probes: Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
) -> Run:
    """All steps of integer ``x (samples, T, *input)``, every sample from rest; ``y (samples, T, *output)``.

    Each population is read over its own T steps, from its ``start`` on, so that ``y[t]`` answers ``x[t]``. Probes:
    ``"<node>.s"`` messages, ``"<node>.<variable>"`` (u and v of a Lif) after each step.
    Errors: ``ValueError`` for another shape, for fractions, and for values that the program's input does not carry.
    """
    began, x = time.perf_counter(), checked(program, x)
    samples, steps = x.shape[:2]
    activity = Activity.empty(program, samples, steps, probes)
    state = initial(program, samples)
    end = steps + max(p.start for p in program.populations.values())
    quiet = np.zeros((samples, program.size(program.input)), np.int64)
    for t in range(end):
        now = x[:, t].reshape(samples, -1).astype(np.int64) if t < steps else quiet
        moments, state = advance(program, state, now)
        for name, node in program.populations.items():
            k = t - node.start
            if 0 <= k < steps:
                m = moments[name]
                activity.record(name, k, m.s, state.vars[name])
                activity.add(name, int(m.active.sum()), int(m.wrapped.sum()), int(m.clipped.sum()))
        if progress is not None:
            progress((t + 1) / end)
    return finish(program, x, activity, probes, "loihi-reference", began)
