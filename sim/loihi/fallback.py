"""The inner loops in plain numpy, for machines without numba. Same bits.

Sums of spikes run as float32 matrix products where no sum can leave 2^24, else float64, both exact; those of payloads
in int64. CUBA-LIF runs in float64, where products of a state and a decay are exact; other populations run their law.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from export.loihi import Lif
from sim.loihi import laws
from sim.loihi.laws import shifted

Array = npt.NDArray[Any]
TOP = 2.0**23


def has_numba(wanted: bool | None = None) -> bool:
    """Whether to run compiled; None: where numba is installed."""
    return importlib.util.find_spec("numba") is not None if wanted is None else wanted


def backend() -> ModuleType:
    """:mod:`sim.loihi.kernels`, or this module where there is no numba, for what both have."""
    return importlib.import_module("sim.loihi.kernels") if has_numba() else sys.modules[__name__]


def charge(
    spk: Array, low: int, high: int, shift: int, home: Array, sends: Array, pointer: Array, core: Array, takes: Array,
    generate: Array, receive: Array,
) -> None:  # fmt: skip
    """As :func:`sim.loihi.kernels.charge`."""
    sources, cores = len(home), generate.shape[1]
    on, to = scipy.sparse.csr_array(spk[low:high] != 0), slice(low + shift, high + shift)
    for into, by_source in ((generate, (sends, home, np.arange(sources + 1))), (receive, (takes, core, pointer))):
        into[to] += (on @ scipy.sparse.csr_array(by_source, shape=(sources, cores))).toarray()


def window(spk: Array, first: int, shift: int, out: Array) -> tuple[Array, Array]:
    """The rows of ``spk`` that arrive in ``out``, and the rows of ``out`` that they arrive in."""
    low = max(0, first - shift)
    high = min(len(spk), first + len(out) - shift)
    if high <= low:
        return spk[:0], out[:0]
    return spk[low:high], out[low + shift - first : high + shift - first]


def product(rows: Array, w: Any, graded: bool, apart: bool) -> Array:
    """``rows @ w`` in int64; ``w`` is an array or a scipy matrix.

    Sums of payloads wrap to 32 bits; ``apart`` wraps each product instead.
    """
    if graded and apart and np.abs(rows.astype(np.int64)).max(initial=0) * 256 >= 2**31:
        each = np.asarray(w.toarray() if hasattr(w, "toarray") else w, np.int64)
        return np.array([wrapped(one[:, None] * each).sum(axis=0, dtype=np.int64) for one in rows.astype(np.int64)])
    if graded:
        return wrapped(np.asarray(rows.astype(np.int64) @ w.astype(np.int64))).astype(np.int64)
    kind = np.float32 if w.shape[0] < 2**16 else np.float64  # a weight has 9 bits
    return np.asarray((rows != 0).astype(kind) @ w.astype(kind)).astype(np.int64)


def wrapped(a: Array, bits: int = 32) -> Array:
    """int64 to int32, in two's complement of so many bits."""
    if bits == 32:
        return a.astype(np.int32)
    half = 2 ** (bits - 1)
    return ((a + half & 2 * half - 1) - half).astype(np.int32)


def fire(node: Any, k: int, a: Array, x: Array, s: Array, traces: Array, flags: Array) -> None:
    """The law of a population; arguments as of :mod:`sim.loihi.fire`."""
    (fire_lif if isinstance(node, Lif) else fire_any)(node, k, a, x, s, traces, flags)


def fire_lif(node: Lif, k: int, a: Array, x: Array, s: Array, traces: Array, flags: Array) -> None:
    """CUBA-LIF: the current of all rows first, then the voltage row by row."""
    rows, n = a.shape[1:]
    into, bias = (a[0] << 6).astype(np.float64), shifted(node.bias, node.bias_exp).astype(np.float64)
    keep_u, keep_v = (4095 - np.asarray(node.du)) / 4096, (4096 - np.asarray(node.dv)) / 4096
    limit, off = np.asarray(node.vth) * 64.0, node.subtract * 64.0 if node.reset == "subtract" else 0.0
    when = (np.arange(k + 1, k + 1 + rows) % node.reset_interval if node.reset_interval else -np.ones(rows)).tolist()
    reset = node.reset_offset % max(1, node.reset_interval)
    us, vs = np.empty((rows + 1, n)), np.empty((rows + 1, n))
    us[0], vs[0] = x
    if not keep_u.any():
        us[1:], flags_u = _wrap_once(into)
    else:
        flags_u = 0
        for t in range(rows):
            was = us[t] if when[t] != reset else us[t] * 0.0
            y = np.trunc(was * keep_u) + into[t]
            y = _wrap32(y) if y.max() >= 2.0**31 or y.min() < -(2.0**31) else y
            us[t + 1], more = _wrap_once(y)
            flags_u += more
    clipped, total = 0, us[1:] + bias
    for t in range(rows):
        v, was = vs[t + 1], vs[t] if when[t] != reset else vs[t] * 0.0
        np.multiply(was, keep_v, out=v)
        np.trunc(v, out=v)
        v += total[t]
        if v.max() >= TOP or v.min() <= -TOP:
            clipped += int(np.count_nonzero(np.abs(v) >= TOP))
            np.clip(v, 1 - TOP, TOP - 1, out=v)
        fired = np.greater(v, limit, out=s[t].view(np.bool_))
        if off:
            v -= fired * off
        else:
            v[fired] = 0.0
    if node.reset_interval:
        quiet = np.array(when) == reset
        before = [np.where(quiet[:, None], 0.0, a[:-1]) for a in (us, vs)]
    else:
        before = [us[:-1], vs[:-1]]
    active = np.count_nonzero((a[0] != 0) | (before[0] != 0) | (before[1] != 0) | (bias != 0))
    flags += (active, flags_u, clipped)
    x[:] = us[-1], vs[-1]
    if traces.shape[1]:
        traces[:] = us[1:], vs[1:]


def _wrap32(y: Array) -> Array:
    return y.astype(np.int64).astype(np.int32).astype(np.float64)


def _wrap_once(y: Array) -> tuple[Array, int]:
    """The current within 24 bits, and how many wrapped."""
    if y.size and max(y.max(), -y.min()) < TOP:
        return y, 0
    out = np.where(y > TOP, y - 2 * TOP, np.where(y <= -TOP, y + 2 * TOP, y))
    return out, int(np.count_nonzero(out != y))


def fire_any(node: Any, k: int, a: Array, x: Array, s: Array, traces: Array, flags: Array) -> None:
    """The law of :mod:`sim.loihi.laws`, a row at a time; arguments as of :mod:`sim.loihi.fire`."""
    state = {name: row[None].astype(np.int64) for name, row in zip(node.states, x, strict=True)}
    wide = a.astype(np.int64)
    for t in range(a.shape[1]):
        into = {"real": wide[0, t : t + 1], "imag": wide[-1, t : t + 1]}
        m, state = laws.step(node, k + t, state, into)
        s[t] = m.s[0]
        flags += (np.count_nonzero(m.active), np.count_nonzero(m.wrapped), np.count_nonzero(m.clipped))
        if traces.shape[1]:
            traces[:, t] = [state[name][0] for name in node.states]
    for row, name in zip(x, node.states, strict=True):
        row[:] = state[name][0]
