"""Compiled laws of populations, equal to :mod:`sim.loihi.laws` to the last bit. All have one signature:

    fire(k, a, x, par, num, s, traces, flags)

``k`` chip step of the first row; ``a (ports, rows, neurons)`` int32, what arrives; ``x (variables, neurons)`` int32,
changed in place; ``par (parameters, neurons)`` float64 and ``num`` int64, as :mod:`sim.loihi.plan` lays them out;
``s (rows, neurons)`` takes the messages; ``traces (variables, rows, neurons)`` is written where it has rows; ``flags``
adds active updates, wrapped currents, clipped voltages.

Products of a 32-bit state and a 13-bit decay are exact in float64, and its conversion truncates toward zero as the law
does: that runs on vector units, where 64-bit integer products do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from sim.loihi.kernels import compiled

TOP = 8388608
TAME = 131071
"""Inputs of -131071 to 131070, shifted by 6, stay within 24 bits; the magnitude is ``~a`` for a negative one."""
inlined: Callable[[Any], Any] = njit(inline="always")


@compiled
def lif(k: Any, a: Any, x: Any, par: Any, num: Any, s: Any, traces: Any, flags: Any) -> None:
    """Lif. ``par``: what u and v keep, threshold << 6, bias; ``num``: what a spike takes off << 6 (0: all), P, O.

    While no input of a row reaches 2^17 and no current has left 24 bits, nothing leaves 32: that row runs in int32.
    """
    n, off, interval, offset = a.shape[2], np.int32(num[0]), num[1], num[2]
    u, v, keep_u, keep_v = x[0], x[1], par[0], par[1]
    limit, bias = par[2].astype(np.int32), par[3].astype(np.int32)
    memory: Any = 0
    wild: Any = 0
    for j in range(n):
        memory += keep_u[j] != 0
        wild += abs(np.int64(u[j])) > TOP
    for t in range(a.shape[1]):
        if interval > 0 and (k + t + 1) % interval == offset:
            u[:] = 0
            v[:] = 0
        into, spikes = a[0, t], s[t]
        most = np.int32(0)
        for j in range(n):
            most = max(most, np.int32(into[j] if into[j] >= 0 else ~into[j]))
        if wild == 0 and most < TAME and memory == 0 and off == 0:
            _lif_plain(into, u, v, keep_v, limit, bias, spikes, flags)
        elif wild == 0 and most < TAME:
            _lif_row(into, u, v, keep_u, keep_v, limit, bias, off, spikes, flags)
        else:
            wild = _lif_wild(into, u, v, keep_u, keep_v, limit, bias, off, spikes, flags)
        if traces.shape[1]:
            traces[0, t] = u
            traces[1, t] = v


@compiled
def _lif_plain(into: Any, u: Any, v: Any, keep_v: Any, limit: Any, bias: Any, spikes: Any, flags: Any) -> None:
    """A row without memory of current, reset to zero."""
    top = np.int32(TOP)
    active, clipped = np.int32(0), np.int32(0)
    for j in range(into.shape[0]):
        active += np.int32((into[j] != 0) | (u[j] != 0) | (v[j] != 0) | (bias[j] != 0))
        w = np.int32(into[j] << 6)
        y = np.int32(np.int32(v[j] * keep_v[j]) + w + bias[j])
        z = np.int32(min(max(y, np.int32(1 - top)), np.int32(top - 1)))
        clipped += np.int32(z != y)
        fired = z > limit[j]
        u[j] = w
        spikes[j] = fired
        v[j] = np.int32(0) if fired else z
    flags[0] += active
    flags[2] += clipped


@compiled
def _lif_row(
    into: Any, u: Any, v: Any, keep_u: Any, keep_v: Any, limit: Any, bias: Any, off: Any, spikes: Any, flags: Any
) -> None:
    """A row whose sums stay in 32 bits."""
    top = np.int32(TOP)
    active, wrapped, clipped = np.int32(0), np.int32(0), np.int32(0)
    for j in range(into.shape[0]):
        active += np.int32((into[j] != 0) | (u[j] != 0) | (v[j] != 0) | (bias[j] != 0))
        c = np.int32(np.int32(u[j] * keep_u[j]) + np.int32(into[j] << 6))
        w = np.int32(c - 2 * top) if c > top else (np.int32(c + 2 * top) if c <= -top else c)
        wrapped += np.int32(w != c)
        y = np.int32(np.int32(v[j] * keep_v[j]) + w + bias[j])
        z = np.int32(min(max(y, np.int32(1 - top)), np.int32(top - 1)))
        clipped += np.int32(z != y)
        fired = z > limit[j]
        u[j] = w
        spikes[j] = fired
        v[j] = np.int32(z - off if off != 0 else 0) if fired else z
    flags[0] += active
    flags[1] += wrapped
    flags[2] += clipped


@compiled
def _lif_wild(
    into: Any, u: Any, v: Any, keep_u: Any, keep_v: Any, limit: Any, bias: Any, off: Any, spikes: Any, flags: Any
) -> Any:
    """A row of any input; how many currents are left outside 24 bits."""
    wild: Any = 0
    for j in range(into.shape[0]):
        flags[0] += (into[j] != 0) | (u[j] != 0) | (v[j] != 0) | (bias[j] != 0)
        w, y, z = _integrate(into[j], u[j], v[j], keep_u[j], keep_v[j], bias[j])
        flags[1] += w[1]
        flags[2] += z != y
        fired = z > limit[j]
        u[j] = w[0]
        wild += abs(np.int64(w[0])) > TOP
        spikes[j] = fired
        v[j] = (z - off if off != 0 else np.int32(0)) if fired else z
    return wild


@inlined
def _integrate(a: Any, u: Any, v: Any, keep_u: Any, keep_v: Any, bias: Any) -> Any:
    """``((u, wrapped), y before the clip, v)``."""
    top = np.int32(TOP)
    c = np.int32(np.int32(u * keep_u) + np.int32(a << 6))
    w = np.int32(c - 2 * top) if c > top else (np.int32(c + 2 * top) if c <= -top else c)
    y = np.int64(np.int32(v * keep_v)) + np.int64(w) + np.int64(bias)
    return (w, w != c), y, np.int32(min(max(y, np.int64(1 - TOP)), np.int64(TOP - 1)))


@compiled
def ternary(k: Any, a: Any, x: Any, par: Any, num: Any, s: Any, traces: Any, flags: Any) -> None:
    """Ternary. ``par``: what u and v keep, upper threshold << 6, bias, lower threshold << 6."""
    u, v = x[0], x[1]
    for t in range(a.shape[1]):
        for j in range(a.shape[2]):
            bias, into = np.int32(par[3, j]), a[0, t, j]
            flags[0] += (into != 0) | (u[j] != 0) | (v[j] != 0) | (bias != 0)
            w, y, z = _integrate(into, u[j], v[j], par[0, j], par[1, j], bias)
            flags[1] += w[1]
            flags[2] += z != y
            fired = np.int32(z > par[2, j]) - np.int32(z < par[4, j])
            u[j] = w[0]
            s[t, j] = fired
            v[j] = 0 if fired != 0 else z
        if traces.shape[1]:
            traces[0, t] = u
            traces[1, t] = v


@compiled
def sigma(k: Any, a: Any, x: Any, par: Any, num: Any, s: Any, traces: Any, flags: Any) -> None:
    """Sigma."""
    for t in range(a.shape[1]):
        for j in range(a.shape[2]):
            flags[0] += (a[0, t, j] != 0) | (x[0, j] != 0)
            x[0, j] += a[0, t, j]
            s[t, j] = x[0, j]
        if traces.shape[1]:
            traces[0, t] = x[0]


@compiled
def delta(k: Any, a: Any, x: Any, par: Any, num: Any, s: Any, traces: Any, flags: Any) -> None:
    """Delta. ``num``: threshold shifted, cum_error, state_exp, spike_exp + state_exp."""
    for t in range(a.shape[1]):
        for j in range(a.shape[2]):
            flags[0] += (a[0, t, j] != 0) | (x[0, j] != 0) | (x[1, j] != 0)
            s[t, j] = _send(np.int32(np.int64(a[0, t, j]) << num[3]), x, 0, j, num)
        if traces.shape[1]:
            traces[:, t] = x


@compiled
def sigma_delta(k: Any, a: Any, x: Any, par: Any, num: Any, s: Any, traces: Any, flags: Any) -> None:
    """SigmaDelta. ``par``: bias shifted; ``num``: as of :func:`delta`, then whether the activation is relu."""
    for t in range(a.shape[1]):
        for j in range(a.shape[2]):
            into = a[0, t, j]
            x[0, j] += into
            y = np.int32(np.int64(x[0, j]) + np.int64(par[0, j]))
            y = np.int32(0) if num[4] and y < 0 else y
            flags[0] += (into != 0) | (x[0, j] != 0) | (x[1, j] != 0) | (x[2, j] != 0) | (y != 0)
            s[t, j] = _send(y, x, 1, j, num)
        if traces.shape[1]:
            traces[:, t] = x


@inlined
def _send(y: Any, x: Any, first: Any, j: Any, num: Any) -> Any:
    """The message; act, residue and error are ``x[first]``, ``x[first + 1]`` and ``x[first + 2]``."""
    d = np.int32(np.int32(y - x[first, j]) + x[first + 1, j])
    e = d
    if num[1]:
        e = np.int32(x[first + 2, j] + d)
        x[first + 2, j] = e
    size = np.int32(-e) if e < 0 else e
    out = d if size >= num[0] else np.int32(0)
    if num[1] and (np.int32(-out) if out < 0 else out) > 0:
        x[first + 2, j] = 0
    x[first + 1, j] = np.int32(d - out)
    x[first, j] = y
    return out >> num[2]


@compiled
def resonate_fire(k: Any, a: Any, x: Any, par: Any, num: Any, s: Any, traces: Any, flags: Any) -> None:
    """ResonateFire. ``num``: cos, sin, decay_bits, threshold shifted, state_exp, izhikevich."""
    scale, top = 1.0 / (1 << num[2]), np.int64(TOP)
    cos, sin, vth, exp = num[0] * scale, num[1] * scale, num[3], num[4]
    for t in range(a.shape[1]):
        for j in range(a.shape[2]):
            re, im = x[0, j], x[1, j]
            a_re, a_im = np.int32(np.int64(a[0, t, j]) << exp), np.int32(np.int64(a[1, t, j]) << exp)
            flags[0] += (a_re != 0) | (a_im != 0) | (re != 0) | (im != 0)
            y_re = np.int64(cos * re) - np.int64(sin * im) + np.int64(a_re)
            y_im = np.int64(sin * re) + np.int64(cos * im) + np.int64(a_im)
            new_re, new_im = min(max(y_re, 1 - top), top - 1), min(max(y_im, 1 - top), top - 1)
            flags[2] += (new_re != y_re) | (new_im != y_im)
            if num[5]:
                fired = new_im >= vth
                new_re, new_im = (np.int64(0), vth - 1) if fired else (new_re, new_im)
            else:
                fired = (new_re >= vth) & (new_im >= 0) & (im < 0)
            x[0, j], x[1, j] = np.int32(new_re), np.int32(new_im)
            s[t, j] = fired
        if traces.shape[1]:
            traces[:, t] = x


@compiled
def graded(k: Any, a: Any, x: Any, par: Any, num: Any, s: Any, traces: Any, flags: Any) -> None:
    """Graded. ``num``: threshold, relu."""
    for t in range(a.shape[1]):
        for j in range(a.shape[2]):
            v = a[0, t, j]
            flags[0] += v != 0
            size = v if num[1] or v >= 0 else np.int32(-v)
            s[t, j] = v if size > num[0] else 0
