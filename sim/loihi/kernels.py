"""Compiled loops of the fast engine. Sums are int32 and wrap, as the law does modulo 2^32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange


@njit(cache=True, nogil=True)
def add_dense(spikes: Any, rows: Any, acc: Any) -> None:
    """``acc (n,) += sum over sources i of payload[i] rows[i]``; ``rows (sources, n)`` int16."""
    for i in range(spikes.shape[0]):
        p = spikes[i]
        if p == 1:
            for j in range(acc.shape[0]):
                acc[j] += rows[i, j]
        elif p != 0:
            for j in range(acc.shape[0]):
                acc[j] += np.int32(p) * np.int32(rows[i, j])


@njit(cache=True, nogil=True)
def add_conv(spikes: Any, taps: Any, geometry: Any, acc: Any) -> None:
    """Scatter ``spikes (C, H, W)`` into ``acc (h, w, O)`` by ``taps (C, kh, kw, O/groups)``, one row of channels a hit.

    ``geometry``: stride, padding, dilation (each two), groups.
    """
    sh, sw, ph, pw, dh, dw, groups = geometry
    channels, height, width = spikes.shape
    kh, kw, out_g = taps.shape[1], taps.shape[2], taps.shape[3]
    for c in range(channels):
        first = (c // (channels // groups)) * out_g
        for y in range(height):
            for x in range(width):
                p = spikes[c, y, x]
                if p == 0:
                    continue
                for i in range(kh):
                    top = y + ph - i * dh
                    if top < 0 or top % sh or top // sh >= acc.shape[0]:
                        continue
                    for j in range(kw):
                        left = x + pw - j * dw
                        if left < 0 or left % sw or left // sw >= acc.shape[1]:
                            continue
                        row = acc[top // sh, left // sw]
                        for o in range(out_g):
                            row[first + o] += np.int32(p) * np.int32(taps[c, i, j, o])


@njit(cache=True, nogil=True)
def fire(a: Any, u: Any, v: Any, s: Any, bias: Any, busy: Any, law: Any, flags: Any) -> None:
    """The LIF law of ``sim.loihi.reference`` on one population, in place; ``law`` = du, dv, vth, subtract."""
    big = np.int64(1) << 23
    keep_u, keep_v = 4096 - (law[0] + 1), 4096 - law[1]
    limit = law[2] << 6
    for j in range(a.shape[0]):
        if a[j] != 0 or u[j] != 0 or v[j] != 0 or bias[j] != 0:
            busy[j] += 1
        p = np.int64(u[j]) * keep_u
        p = p >> 12 if p >= 0 else -((-p) >> 12)
        x = np.int64(np.int32(p + np.int64(np.int32(a[j] << 6))))
        w = x
        if x > big:
            w = x - 2 * big
        elif x <= -big:
            w = x + 2 * big
        flags[0] += w != x
        q = np.int64(v[j]) * keep_v
        q = q >> 12 if q >= 0 else -((-q) >> 12)
        y = q + w + bias[j]
        z = min(max(y, -big + 1), big - 1)
        flags[1] += z != y
        u[j] = w
        s[j] = z > limit
        if z > limit:
            v[j] = z - limit if law[3] else 0
        else:
            v[j] = z


@njit(cache=True, nogil=True, parallel=True)
def dense_layer(x: Any, rows: Any, exponent: Any, u: Any, v: Any, s: Any, bias: Any, busy: Any, law: Any, flags: Any) -> None:
    """All samples and steps of a population with one dense input: ``x (N, T, sources)`` -> ``s (N, T, n)``."""
    for n in prange(x.shape[0]):
        acc = np.empty(u.shape[1], np.int32)
        for t in range(x.shape[1]):
            acc[:] = 0
            add_dense(x[n, t], rows, acc)
            if exponent:
                for j in range(acc.shape[0]):
                    acc[j] <<= exponent
            fire(acc, u[n], v[n], s[n, t], bias, busy[n, t], law, flags[n])


@njit(cache=True, nogil=True, parallel=True)
def conv_layer(x: Any, taps: Any, geometry: Any, shape: Any, u: Any, v: Any, s: Any, bias: Any, busy: Any, law: Any, flags: Any) -> None:
    """The same for one convolution: ``x (N, T, C, H, W)``, ``shape`` = (O, h, w) of the target; channels first in s."""
    channels, height, width = shape
    for n in prange(x.shape[0]):
        acc = np.empty((height, width, channels), np.int32)
        flat = np.empty(channels * height * width, np.int32)
        for t in range(x.shape[1]):
            acc[:] = 0
            add_conv(x[n, t], taps, geometry, acc)
            k = 0
            for o in range(channels):
                for y in range(height):
                    for z in range(width):
                        flat[k] = np.int32(acc[y, z, o] << 8) >> 8  # lava-nc wraps a convolution to 24 bits
                        k += 1
            fire(flat, u[n], v[n], s[n, t], bias, busy[n, t], law, flags[n])
