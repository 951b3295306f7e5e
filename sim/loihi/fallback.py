"""The inner loops in plain numpy, for machines without numba: the laws themselves, and exact sums. Same bits.

Sums of spikes run as float64 matrix products, exact below 2^53; those of payloads in int64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sim.loihi import laws

Array = npt.NDArray[Any]


def window(spk: Array, first: int, shift: int, out: Array) -> tuple[Array, Array]:
    """The rows of ``spk`` that arrive in ``out``, and the rows of ``out`` that they arrive in."""
    low = max(0, first - shift)
    high = min(len(spk), first + len(out) - shift)
    if high <= low:
        return spk[:0], out[:0]
    return spk[low:high], out[low + shift - first : high + shift - first]


def product(rows: Array, w: Any, graded: bool) -> Array:
    """``rows @ w`` in int64; ``w`` is an array or a scipy matrix."""
    if graded:
        return np.asarray(rows.astype(np.int64) @ w.astype(np.int64))
    return np.asarray((rows != 0).astype(np.float64) @ w.astype(np.float64)).astype(np.int64)


def wrapped(a: Array, bits: int = 32) -> Array:
    """int64 to int32, in two's complement of so many bits."""
    if bits == 32:
        return a.astype(np.int32)
    half = 2 ** (bits - 1)
    return ((a + half & 2 * half - 1) - half).astype(np.int32)


def fire(node: Any, k: int, a: Array, x: Array, s: Array, traces: Array, flags: Array) -> None:
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
