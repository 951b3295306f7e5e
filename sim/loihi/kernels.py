"""Compiled inner loops of the fast engine. They release the interpreter lock; sums in int32 wrap as the law's do.

``spk (T, sources)`` are one sample's messages in int8 (0 or 1) or int32; row t of ``out (rows, targets)`` int32 takes
what row ``first + t - shift`` of ``spk`` sends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., None])
compiled: Callable[[Kernel], Kernel] = njit(cache=True, nogil=True)


@compiled
def add_dense(spk: Any, first: Any, shift: Any, w: Any, group: Any, exp: Any, out: Any) -> None:
    """``out[t] += (sum of the rows w[i] of the sources that spike) << exp``; ``w (sources, targets)`` int16.

    At most ``group`` rows fit an int16 accumulator, which is flushed in between: twice the lanes of int32.
    """
    n, m = w.shape
    acc, wide, events = np.empty(m, np.int16), np.empty(m, np.int32), np.empty(n + 1, np.int64)
    for t in range(out.shape[0]):
        row = first + t - shift
        if row < 0 or row >= spk.shape[0]:
            continue
        k = 0
        for i in range(n):
            events[k] = i
            k += spk[row, i] != 0
        if k == 0:
            continue
        to = out[t]
        wide[:] = 0
        e = 0
        while e < k:
            stop = min(k, e + group)
            acc[:] = 0
            while e + 8 <= stop:
                a, b, c, d = w[events[e]], w[events[e + 1]], w[events[e + 2]], w[events[e + 3]]
                f, g, h, r = w[events[e + 4]], w[events[e + 5]], w[events[e + 6]], w[events[e + 7]]
                for j in range(m):
                    acc[j] += np.int16(a[j] + b[j] + c[j] + d[j] + f[j] + g[j] + h[j] + r[j])
                e += 8
            while e < stop:
                a = w[events[e]]
                for j in range(m):
                    acc[j] += a[j]
                e += 1
            for j in range(m):
                wide[j] += acc[j]
        for j in range(m):
            to[j] += np.int32(wide[j] << exp) if exp >= 0 else wide[j] >> -exp


@compiled
def add_dense_graded(spk: Any, first: Any, shift: Any, w: Any, exp: Any, out: Any) -> None:
    """``out[t] += wrap32((w x) << exp)`` for signed payloads; sums in int64."""
    n, m = w.shape
    acc = np.empty(m, np.int64)
    for t in range(out.shape[0]):
        row = first + t - shift
        if row < 0 or row >= spk.shape[0]:
            continue
        acc[:] = 0
        for i in range(n):
            p = np.int64(spk[row, i])
            if p != 0:
                for j in range(m):
                    acc[j] += p * w[i, j]
        for j in range(m):
            out[t, j] += np.int32(acc[j] << exp if exp >= 0 else acc[j] >> -exp)


@compiled
def add_conv(
    spk: Any, first: Any, shift: Any, w: Any, pointer: Any, runs: Any, channels: Any, per_in: Any, groups: Any,
    graded: Any, acc: Any, out: Any,
) -> None:  # fmt: skip
    """Scatter each spike of a channels-last image: ``out[t] += wrap24(sum)``.

    Input position p adds, for each of its ``runs[pointer[p]:pointer[p + 1]]`` = (where in out, where in w, length), a
    contiguous piece of ``w[channel]`` (int16) to ``acc``, of whatever integer type holds the sums.
    """
    width, n_in = channels // groups, per_in * groups
    events = np.empty(spk.shape[1] + 1, np.int64)
    for t in range(out.shape[0]):
        row = first + t - shift
        if row < 0 or row >= spk.shape[0]:
            continue
        count = 0
        for i in range(spk.shape[1]):
            events[count] = i
            count += spk[row, i] != 0
        if count == 0:
            continue
        acc[:] = 0
        for e in range(count):
            place, channel = events[e] // n_in, events[e] % n_in
            base = channel // per_in * width
            for k in range(pointer[place], pointer[place + 1]):
                to, of, length = runs[k, 0] + base, runs[k, 1], runs[k, 2]
                into, piece = acc[to : to + length], w[channel, of : of + length]
                if graded:
                    p = np.int64(spk[row, events[e]])
                    for j in range(length):
                        into[j] += p * piece[j]
                else:
                    for j in range(length):
                        into[j] += piece[j]
        to_ = out[t]
        for j in range(out.shape[1]):
            to_[j] += ((np.int32(acc[j]) + 8388608) & 16777215) - 8388608


@compiled
def fire(a: Any, u: Any, v: Any, bias: Any, law: Any, s: Any, trace_u: Any, trace_v: Any, flags: Any) -> None:
    """The LIF law of :mod:`sim.loihi.reference` over the rows of ``a (rows, neurons)``; u and v in place.

    ``law``: what u and v keep of 4096, threshold and what a spike takes off (0: all), both << 6. ``flags``: active
    updates, wrapped currents, clipped voltages. Traces are written where they have rows.
    """
    top = np.int64(8388608)
    keep_u, keep_v, limit, off = law[0], law[1], law[2], law[3]
    n = a.shape[1]
    active, wrapped, clipped = 0, 0, 0
    for t in range(a.shape[0]):
        into, spikes = a[t], s[t]
        for j in range(n):
            active += (into[j] != 0) | (u[j] != 0) | (v[j] != 0) | (bias[j] != 0)
            p = np.int64(u[j]) * keep_u
            p = p >> 12 if p >= 0 else -((-p) >> 12)
            x = np.int64(np.int32(p + np.int64(np.int32(into[j] << 6))))
            w = x - 2 * top if x > top else (x + 2 * top if x <= -top else x)
            wrapped += w != x
            q = np.int64(v[j]) * keep_v
            q = q >> 12 if q >= 0 else -((-q) >> 12)
            y = q + w + bias[j]
            z = min(max(y, 1 - top), top - 1)
            clipped += z != y
            fired = z > limit
            u[j] = w
            spikes[j] = fired
            v[j] = (z - off if off != 0 else 0) if fired else z
        if trace_u.shape[0]:
            trace_u[t] = u
        if trace_v.shape[0]:
            trace_v[t] = v
    flags[0] += active
    flags[1] += wrapped
    flags[2] += clipped
