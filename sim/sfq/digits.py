"""Tables of numbers to text as C's ``%.6e`` writes them, a table at a time.

A number is its seven digits m and its exponent e, ``m = |x| 10^(6-e)`` rounded. Scaling errs by less than 1e-8 in m;
where that could decide the rounding, and for what has no two-digit exponent, Python formats the number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LARGEST = 99
"""Exponents of two digits; the rest goes the slow way."""

_POWER = np.array([float(f"1e{k}") for k in range(6 - LARGEST, 7 + LARGEST)])
_THREE = np.array([f"{k:03d}".encode() for k in range(1000)], dtype="S3")
_TWO = np.array([f"{k:02d}".encode() for k in range(100)], dtype="S2")
_ONE = np.array([f"{k}".encode() for k in range(10)], dtype="S1")
_ROW = np.dtype(
    [("minus", "S1"), ("first", "S1"), ("point", "S1"), ("high", "S3"), ("low", "S3"), ("e", "S1"), ("sign", "S1"),
     ("exponent", "S2"), ("end", "S1")]
)  # fmt: skip


def scientific(table: NDArray[np.float64], separator: str) -> str:
    """Rows of ``table`` (rows, columns) as lines of ``%.6e`` with a one-letter separator."""
    x = np.ascontiguousarray(table, dtype=np.float64).ravel()
    size = np.abs(x)
    small = size < 10.0 ** -float(LARGEST)
    zero = x == 0.0
    plain = (size < 10.0 ** float(LARGEST)) & (zero | ~small)
    with np.errstate(divide="ignore", invalid="ignore"):
        e = np.floor(np.log10(np.where(plain & ~zero, size, 1.0))).astype(np.int64)
    scaled = np.where(plain, size, 1.0) * _POWER[LARGEST - e]
    low, high = scaled < 1e6, scaled >= 1e7
    e += high
    e -= low & ~zero
    scaled = np.where(low, scaled * 10.0, np.where(high, scaled * 0.1, scaled))
    m = np.rint(scaled).astype(np.int64)
    plain &= np.abs(np.abs(scaled - m) - 0.5) > 1e-6
    over = m >= 10_000_000
    m = np.where(over, 1_000_000, m)
    e += over
    if not (plain.all() and (np.abs(e) <= LARGEST).all()):
        return _mixed(x, plain & (np.abs(e) <= LARGEST), table.shape[1], separator)
    return _text(x, m, e, table.shape[1], separator)


def _text(x: NDArray[np.float64], m: NDArray[np.int64], e: NDArray[np.int64], columns: int, separator: str) -> str:
    rows = np.empty(len(x), dtype=_ROW)
    rows["minus"], rows["point"], rows["e"] = b"-", b".", b"e"
    first, rest = np.divmod(m, 1_000_000)
    high, low = np.divmod(rest, 1000)
    rows["first"], rows["high"], rows["low"] = _ONE[first], _THREE[high], _THREE[low]
    rows["sign"] = np.where(e < 0, b"-", b"+")
    rows["exponent"] = _TWO[np.abs(e)]
    ends = rows["end"].reshape(-1, columns)
    ends[:] = separator.encode()
    ends[:, -1] = b"\n"
    letters = rows.view(np.uint8).reshape(len(x), _ROW.itemsize)
    keep = np.ones(letters.shape, dtype=bool)
    keep[:, 0] = np.signbit(x)
    return letters[keep].tobytes().decode("ascii")


def _mixed(x: NDArray[np.float64], plain: NDArray[np.bool_], columns: int, separator: str) -> str:
    """Lines without a difficult number the fast way, the others by Python."""
    table = x.reshape(-1, columns)
    hard = np.asarray(~plain.reshape(-1, columns).all(axis=1))
    form = separator.join(["%.6e"] * columns) + "\n"
    parts = []
    bounds = np.flatnonzero(np.diff(hard, prepend=~hard[:1], append=~hard[-1:]))
    for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        part = table[start:stop]
        easy = not hard[start]
        parts.append(scientific(part, separator) if easy else (form * len(part)) % tuple(part.ravel().tolist()))
    return "".join(parts)
