"""Compiled inner loops of the fast engine. They release the interpreter lock; sums in int32 wrap as the law's do.

``spk (T, sources)`` are one sample's messages in int8 (0 or 1) or int32; row t of ``out (rows, targets)`` int32 takes
what row ``first + t - shift`` of ``spk`` sends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., Any])
compiled: Callable[[Kernel], Kernel] = njit(cache=True, nogil=True)
U = np.uint64


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
def add_dense_graded(spk: Any, first: Any, shift: Any, w: Any, exp: Any, apart: Any, out: Any) -> None:
    """``out[t] += wrap32(wrap32(w x) << exp)`` for signed payloads; ``apart`` wraps each product instead of the sum."""
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
                if apart:
                    for j in range(m):
                        acc[j] += np.int32(p * w[i, j])
                else:
                    for j in range(m):
                        acc[j] += p * w[i, j]
        for j in range(m):
            total = acc[j] if apart else np.int64(np.int32(acc[j]))
            out[t, j] += np.int32(total << exp if exp >= 0 else total >> -exp)


@compiled
def add_conv(
    spk: Any, first: Any, shift: Any, w: Any, pointer: Any, runs: Any, channels: Any, per_in: Any, groups: Any,
    graded: Any, exp: Any, acc: Any, out: Any,
) -> None:  # fmt: skip
    """Scatter each spike of a channels-last image: ``out[t] += wrap24(sum << exp)``.

    Input position p adds, for each of its ``runs[pointer[p]:pointer[p + 1]]`` = (where in out, where in w, length), a
    contiguous piece of ``w[channel]`` (int16) to ``acc``, of whatever integer type holds the sums. Indices are
    unsigned, so that none is looked at for being negative.
    """
    width, n_in, row_w = U(channels // groups), U(per_in * groups), U(w.shape[1])
    flat, n = w.reshape(-1), U(out.shape[1])
    events = np.empty(spk.shape[1] + 1, np.uint64)
    for t in range(out.shape[0]):
        row = first + t - shift
        if row < 0 or row >= spk.shape[0]:
            continue
        line, count = spk[row], U(0)
        for i in range(U(spk.shape[1])):
            events[count] = i
            count += U(line[i] != 0)
        if count == 0:
            continue
        acc[:] = 0
        for e in range(count):
            place = events[e] // n_in
            channel = events[e] - place * n_in
            base, start = channel // U(per_in) * width, channel * row_w
            for k in range(pointer[place], pointer[place + U(1)]):
                to, of, length = runs[k, 0] + base, runs[k, 1] + start, runs[k, 2]
                if graded:
                    p = np.int64(line[events[e]])
                    for j in range(length):
                        acc[to + j] += p * flat[of + j]
                else:
                    for j in range(length):
                        acc[to + j] += flat[of + j]
        to_ = out[t]
        for j in range(n):
            y = np.int32(acc[j] << exp if exp >= 0 else acc[j] >> -exp)
            to_[j] += ((y + 8388608) & 16777215) - 8388608


@compiled
def add_sparse(
    spk: Any, first: Any, shift: Any, pointer: Any, target: Any, late: Any, w: Any, exp: Any, graded: Any, ring: Any,
    apart: Any, acc: Any, out: Any,
) -> None:  # fmt: skip
    """``out[t + late] += (p w) << exp`` for each synapse ``pointer[i]:pointer[i + 1]`` of each source that spikes.

    ``late``: steps of each synapse on top of ``shift``, or nothing for 0. ``ring``: slots that rows wrap around in, or
    0. A shift to the left is the same before and after a sum modulo 2^32; one to the right is not, and takes ``acc``
    (int64, per target) and synapses of one delay; ``apart`` wraps each product instead of the sum.
    """
    rows = out.shape[0]
    most = late.max() if late.shape[0] else 0
    low = 0 if ring else max(0, first - shift - most)
    high = spk.shape[0] if ring else min(spk.shape[0], first + rows - shift)
    for t in range(low, high):
        row = t + shift - first
        if exp < 0:
            acc[:] = 0
        for i in range(spk.shape[1]):
            if spk[t, i] == 0:
                continue
            p, begin, end = np.int64(spk[t, i]) if graded else np.int64(1), U(pointer[i]), U(pointer[i + 1])
            if exp < 0:
                for j in range(begin, end):
                    acc[target[j]] += np.int32(p * w[j]) if apart else p * w[j]
                continue
            scaled = np.int32(p << exp)
            if late.shape[0]:
                for j in range(begin, end):
                    to = row + late[j]
                    if ring:
                        to %= ring
                    elif to < 0 or to >= rows:
                        continue
                    out[to, target[j]] += np.int32(scaled * w[j])
            else:
                line = out[row]
                for j in range(begin, end):
                    line[U(target[j])] += np.int32(scaled * w[j])
        if exp < 0:
            for j in range(acc.shape[0]):
                out[row, j] += np.int32((acc[j] if apart else np.int64(np.int32(acc[j]))) >> -exp)


@compiled
def charge(
    spk: Any, low: Any, high: Any, shift: Any, home: Any, sends: Any, pointer: Any, core: Any, takes: Any,
    generate: Any, receive: Any,
) -> None:  # fmt: skip
    """Seconds that the messages in rows ``low`` to ``high`` of ``spk (T, sources)`` cost each core in each step.

    Row r is charged to row ``r + shift``: ``sends[i]`` to ``generate`` of the core that holds source i, ``takes`` to
    ``receive`` of each core ``core[pointer[i]:pointer[i + 1]]``.
    """
    events = np.empty(spk.shape[1] + 1, np.uint64)
    for t in range(low, high):
        made, met, line, count = generate[t + shift], receive[t + shift], spk[t], U(0)
        for i in range(U(spk.shape[1])):
            events[count] = i
            count += U(line[i] != 0)
        for e in range(count):
            i = events[e]
            made[U(home[i])] += sends[i]
            for k in range(U(pointer[i]), U(pointer[i + U(1)])):
                met[U(core[k])] += takes[k]
