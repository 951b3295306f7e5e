"""The inner loops of :mod:`sim.loihi.kernels` in plain numpy, for machines without numba. Same signatures, same bits.

Sums run as float64 matrix products, exact below 2^53: 24-bit payloads, 9-bit weights and 2^20 synapses.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
TOP = 2**23


def add_dense(spk: Array, first: int, shift: int, w: Array, group: int, exp: int, out: Array) -> None:  # noqa: ARG001
    """As the compiled one; ``group`` has no meaning here."""
    add_dense_graded(spk != 0, first, shift, w, exp, out)


def add_dense_graded(spk: Array, first: int, shift: int, w: Array, exp: int, out: Array) -> None:
    """``out[t] += wrap32((w x) << exp)``."""
    rows, to = window(spk, first, shift, out)
    a = (rows.astype(np.float64) @ w.astype(np.float64)).astype(np.int64)
    to += (a << exp if exp >= 0 else a >> -exp).astype(np.int32)


def window(spk: Array, first: int, shift: int, out: Array) -> tuple[Array, Array]:
    """The rows of ``spk`` that arrive in ``out``, and the rows of ``out`` that they arrive in."""
    low = max(0, first - shift)
    high = min(len(spk), first + len(out) - shift)
    if high <= low:
        return spk[:0], out[:0]
    return spk[low:high], out[low + shift - first : high + shift - first]


def fire(
    a: Array, u: Array, v: Array, bias: Array, law: Array, s: Array, trace_u: Array, trace_v: Array, flags: Array
) -> None:
    """The LIF law, one row of neurons at a time."""
    keep_u, keep_v, limit, off = (int(k) for k in law)
    uu, vv = u.astype(np.int64), v.astype(np.int64)
    for t in range(len(a)):
        flags[0] += np.count_nonzero((a[t] != 0) | (uu != 0) | (vv != 0) | (bias != 0))
        x = (_trunc12(uu * keep_u) + (a[t] << 6)).astype(np.int32).astype(np.int64)
        uu = np.where(x > TOP, x - 2 * TOP, np.where(x <= -TOP, x + 2 * TOP, x))
        flags[1] += np.count_nonzero(uu != x)
        y = _trunc12(vv * keep_v) + uu + bias
        vv = np.clip(y, 1 - TOP, TOP - 1)
        flags[2] += np.count_nonzero(vv != y)
        s[t] = vv > limit
        vv = np.where(s[t] == 1, vv - off if off else 0, vv)
        for trace, value in ((trace_u, uu), (trace_v, vv)):
            if len(trace):
                trace[t] = value
    u[:], v[:] = uu, vv


def _trunc12(p: Array) -> Array:
    return np.asarray(np.where(p >= 0, p >> 12, -(-p >> 12)))
