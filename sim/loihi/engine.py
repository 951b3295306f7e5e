"""The fast engine: event-driven, compiled, bit for bit the reference.

A feed-forward population with one dense or convolution input runs over all steps at once, samples on all cores, work
proportional to its input spikes. Any other population (recurrent, several inputs, negative exponent) steps through
the reference's law, on vectors of samples.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from export.to_loihi import Connection, LoihiProgram, Population
from sim.loihi import reference
from sim.loihi.counting import Activity
from sim.run import Run

Array = npt.NDArray[Any]
step, initial = reference.step, reference.initial


def run(
    program: LoihiProgram,
    x: Array,
    *,
    probes: Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
) -> Run:
    """As :func:`sim.loihi.reference.run`, with the same result to the last bit."""
    if not fits(program):
        return reference.run(program, x, probes=probes, progress=progress)
    start, x = time.perf_counter(), reference.checked(program, x)
    activity = Activity.of(program, x)
    trains: dict[str, Array] = {program.input_name: x}
    final = {}
    order = program.order()
    for k, name in enumerate(order):
        (c,) = [c for c in program.connections if c.dst == name]
        trains[name], final[name] = _layer(program.populations[name], c, trains[c.src], activity, name)
        if progress is not None:
            progress((k + 1) / len(order))
    del trains[program.input_name]
    return reference.finish(program, x, trains, final, activity, probes, start, "loihi")


def fits(program: LoihiProgram) -> bool:
    """Whether every population has one undelayed input whose sums may wrap modulo 2^32 (no right shift)."""
    into = [[c for c in program.connections if c.dst == n] for n in program.populations]
    return all(len(cs) == 1 and cs[0].delay == 0 and cs[0].weight_exp >= 0 for cs in into)


def _layer(p: Population, c: Connection, x: Array, activity: Activity, name: str) -> tuple[Array, tuple[Array, Array]]:
    from sim.loihi import kernels

    samples, steps = x.shape[:2]
    n = int(np.prod(p.shape))
    x = x if c.graded else (x != 0)
    u, v = np.zeros((samples, n), np.int32), np.zeros((samples, n), np.int32)
    s, busy = np.zeros((samples, steps, n), np.int8), np.zeros((samples, steps, n), np.int8)
    flags = np.zeros((samples, 2), np.int64)
    bias = np.zeros(n, np.int64) if p.bias is None else p.bias.astype(np.int64) << p.bias_exp
    law = np.array([p.du, p.dv, p.vth, p.reset == "subtract"], np.int64)
    w = c.effective().astype(np.int16)
    if c.kind == "dense":
        rows = np.ascontiguousarray(w.T)
        flat = np.ascontiguousarray(x.reshape(samples, steps, -1), np.int32)
        kernels.dense_layer(flat, rows, c.weight_exp, u, v, s, bias, busy, law, flags)
    else:
        geometry = np.array([*c.stride, *c.padding, *c.dilation, c.groups], np.int64)
        taps = _taps(w, c.groups)
        image = np.ascontiguousarray(x, np.int32)
        kernels.conv_layer(image, taps, geometry, np.array(p.shape), u, v, s, bias, busy, law, flags)
    activity.busy[name] += busy.sum(axis=0)
    activity.wrapped[name], activity.clipped[name] = (int(k) for k in flags.sum(axis=0))
    shape = (samples, *p.shape)
    final = (u.reshape(shape).astype(np.int64), v.reshape(shape).astype(np.int64))
    return s.reshape(samples, steps, *p.shape), final


def _taps(w: Array, groups: int) -> Array:
    """``(O, C/groups, kh, kw) -> (C, kh, kw, O/groups)``, rows of output channels contiguous."""
    g = w.reshape(groups, -1, *w.shape[1:])
    return np.ascontiguousarray(g.transpose(0, 2, 3, 4, 1).reshape(-1, *w.shape[2:], g.shape[1]))
