"""The integer law in code, as readable as it can be: lava-nc 0.10.0's fixed-point LIF, Dense and Conv.

With ``>>`` arithmetic, ``trunc12(p) = sign(p) (|p| >> 12)``, ``V = 2^23``, and input current a (int32):

    x  = trunc12(u (4096 - (du + 1))) + wrap32(a << 6)
    u  = x - 2V where x > V;  x + 2V where x <= -V;  else x          the current wraps, once
    y  = trunc12(v (4096 - dv)) + u + (bias << bias_exp)
    v  = clip(y, -V + 1, V - 1)                                      the voltage saturates
    s  = v > (vth << 6);  v = 0 where s (or v - (vth << 6): "subtract", our extension)

    a  = sum over connections of  wrap32((w @ x) << weight_exp)      dense; >> for a negative exponent
                                  wrap24(conv(w, x))                 convolution, which knows no exponent

u and v are in 1/64 of a weight unit. Source: lava-nc 0.10.0, ``lava/proc/lif`` and ``lava/proc/dense``, read and run.
Each population lives on its own time axis (see ``export.to_loihi``); times below are network steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from export.to_loihi import Connection, LoihiProgram, Population
from sim.loihi.counting import Activity, count
from sim.run import Run

Ints = npt.NDArray[np.int64]
State = dict[str, Any]
V = 2**23


def wrap(x: Ints, bits: int) -> Ints:
    """Two's complement of so many bits."""
    half = 2 ** (bits - 1)
    return np.asarray((x + half) % (2 * half) - half)


def trunc12(p: Ints) -> Ints:
    """Divide by 4096, toward zero."""
    return np.asarray(np.sign(p) * (np.abs(p) >> 12))


def lif(p: Population, u: Ints, v: Ints, a: Ints, bias: Ints | int) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """One step: ``(u, v, a) -> (s, u, v, wrapped, clipped)``, all of the population's shape; the last two are flags."""
    x = wrap(trunc12(u * (4096 - (p.du + 1))) + wrap(a << 6, 32), 32)
    u = np.where(x > V, x - 2 * V, np.where(x <= -V, x + 2 * V, x))
    y = trunc12(v * (4096 - p.dv)) + u + bias
    v = np.clip(y, -V + 1, V - 1)
    s = (v > (p.vth << 6)).astype(np.int64)
    after = v - s * (p.vth << 6) if p.reset == "subtract" else v * (1 - s)
    return s, u, after, (u != x).astype(np.int64), (v != y).astype(np.int64)


def current(c: Connection, x: Ints) -> Ints:
    """What a connection sends for spikes or payloads ``x (samples, ...)``, shaped as the target's rows."""
    x = x if c.graded else (x != 0).astype(np.int64)
    w = c.effective().astype(np.int64)
    if c.kind == "conv":
        return wrap(convolve(w, x, c), 24)
    a = x.reshape(len(x), -1) @ w.T
    a = a << c.weight_exp if c.weight_exp >= 0 else a >> -c.weight_exp
    return wrap(a, 32)


def convolve(w: Ints, x: Ints, c: Connection) -> Ints:
    """Cross-correlation ``x (n, in, h, w) -> (n, out, h', w')`` in integers, in torch's orientation."""
    n, channels, g = len(x), x.shape[1], c.groups
    x = np.pad(x, ((0, 0), (0, 0), (c.padding[0],) * 2, (c.padding[1],) * 2))
    span = [d * (k - 1) + 1 for d, k in zip(c.dilation, w.shape[2:], strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(2, 3))
    view = view[:, :, :: c.stride[0], :: c.stride[1], :: c.dilation[0], :: c.dilation[1]]
    parts = view.reshape(n, g, channels // g, *view.shape[2:])
    kernels = w.reshape(g, -1, *w.shape[1:])
    return np.asarray(np.einsum("ngchwij,gocij->ngohw", parts, kernels).reshape(n, -1, *view.shape[2:4]))


def initial(program: LoihiProgram, samples: int) -> State:
    """State before the first step: u and v of each population at 0, empty delay lines."""
    longest = {n: 0 for n in (program.input_name, *program.populations)}
    for c in program.connections:
        longest[c.src] = max(longest[c.src], c.delay)
    zeros = {n: np.zeros((samples, *program.shape_of(n)), np.int64) for n in longest}
    return {
        "u": {n: zeros[n].copy() for n in program.populations},
        "v": {n: zeros[n].copy() for n in program.populations},
        "past": {n: [zeros[n]] * k for n, k in longest.items()},
        "seen": {},
    }


def step(program: LoihiProgram, state: State, x: npt.NDArray[Any]) -> tuple[dict[str, Ints], State]:
    """One network step: ``(state, x (samples, ...)) -> (spikes of every population, state)``."""
    spikes: dict[str, Ints] = {program.input_name: x.astype(np.int64)}
    after: State = {"u": {}, "v": {}, "seen": {}}
    for name in program.order():
        p = program.populations[name]
        a = np.zeros((len(x), *p.shape), np.int64)
        for c in program.connections:
            if c.dst == name:
                source = spikes[c.src] if c.delay == 0 else state["past"][c.src][c.delay - 1]
                a = wrap(a + current(c, source).reshape(a.shape), 32)
        bias: Ints | int = 0 if p.bias is None else (p.bias.astype(np.int64) << p.bias_exp).reshape(p.shape)
        u, v = state["u"][name], state["v"][name]
        busy = (a != 0) | (u != 0) | (v != 0) | (np.asarray(bias) != 0)
        s, after["u"][name], after["v"][name], wrapped, clipped = lif(p, u, v, a, bias)
        spikes[name] = s
        after["seen"][name] = (busy, int(wrapped.sum()), int(clipped.sum()))
    after["past"] = {n: [spikes[n], *held][: len(held)] for n, held in state["past"].items()}
    return spikes, after


def run(
    program: LoihiProgram,
    x: npt.NDArray[Any],
    *,
    probes: Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
) -> Run:
    """All steps of integer ``x (samples, T, ...)``. Probes: ``"<node>.s"`` spikes, ``"<node>.u"``, ``"<node>.v"`` final.

    Errors: ``ValueError`` for another shape, or values that are no spikes (or payloads) of the program.
    """
    start, x = time.perf_counter(), checked(program, x)
    state = initial(program, len(x))
    trains: dict[str, list[Any]] = {n: [] for n in program.populations}
    activity = Activity.of(program, x)
    for t in range(x.shape[1]):
        spikes, state = step(program, state, x[:, t])
        for n in program.populations:
            trains[n].append(spikes[n].astype(np.int8))
            busy, wrapped, clipped = state["seen"][n]
            activity.add(n, t, busy.reshape(len(x), -1), wrapped, clipped)
        if progress is not None:
            progress((t + 1) / x.shape[1])
    found = {n: np.stack(s, 1) for n, s in trains.items()}
    final = {n: (state["u"][n], state["v"][n]) for n in program.populations}
    return finish(program, x, found, final, activity, probes, start, "loihi-reference")


def checked(program: LoihiProgram, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``x`` as integers, or ``ValueError`` with the fix."""
    if x.ndim < 2 or x.shape[2:] != tuple(program.input_shape):
        raise ValueError(f"x must be (samples, T, {tuple(program.input_shape)}), got {x.shape}")
    whole = np.rint(x).astype(np.int32)
    if not np.array_equal(whole, x):
        raise ValueError("x holds fractions; the chip takes spikes: encode it (neuro.encode.rate) or use integer payloads")
    graded = max((c.graded for c in program.connections if c.src == program.input_name), default=0)
    if graded == 0 and (whole.min(initial=0) < 0 or whole.max(initial=0) > 1):
        raise ValueError(
            f"x holds {whole.min()}..{whole.max()}, the program takes spikes 0 and 1; "
            "encode it, or compile with graded_bits"
        )
    if graded and np.abs(whole).max(initial=0) >= 2 ** (graded - 1) * 2:
        raise ValueError(f"x holds {np.abs(whole).max()}, over the {graded} payload bits of the program")
    return whole


def finish(
    program: LoihiProgram,
    x: npt.NDArray[Any],
    trains: dict[str, npt.NDArray[Any]],
    final: dict[str, tuple[Any, Any]],
    activity: Activity,
    probes: Sequence[str],
    start: float,
    machine: str,
) -> Run:
    """The Run of either engine: counts, time of the modelled chip, asked probes."""
    wall = time.perf_counter() - start
    counts, chip_s = count(program, x, trains, activity)
    known = {f"{n}.s": s for n, s in trains.items()}
    known |= {f"{n}.{k}": a for n, pair in final.items() for k, a in zip("uv", pair, strict=True)}
    missing = [k for k in probes if k not in known]
    if missing:
        raise ValueError(f"no probe {missing[0]}; there are {', '.join(known)}")
    return Run(
        machine=machine,
        y=trains[program.output_name],
        counts=counts,
        samples=x.shape[0],
        steps=x.shape[1],
        dt_s=program.dt_s,
        probes={k: known[k] for k in probes},
        latency_steps=program.latency,
        wall_s=wall,
        machine_s=chip_s,
        notes=activity.notes(),
    )
