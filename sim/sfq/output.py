"""Traces to files and back: JoSIM's CSV, written whole or not at all; and the difference of two of them.

Header ``time,"P(B1|X1)",..``, numbers ``%.6e``. Source: JoSIM Output.cpp.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Traces: TypeAlias = Mapping[str, Floats]
"""Columns by name; one of them is ``time`` in s."""


class TraceError(ValueError):
    """A file that is not a trace table, or two tables that cannot be compared; the text says what to do."""


def write_csv(path: str | Path, time_s: Floats, traces: Traces) -> Path:
    """Write a JoSIM CSV beside ``path`` and rename it. Raises TraceError if a trace has another length than time."""
    path = Path(path)
    for name, values in traces.items():
        if len(values) != len(time_s):
            raise TraceError(
                f"{name} has {len(values)} values for {len(time_s)} times; write traces of one run together"
            )
    text = io.StringIO()
    text.write(",".join(["time", *(f'"{name}"' for name in traces)]) + "\n")
    np.savetxt(text, np.column_stack([time_s, *traces.values()]), fmt="%.6e", delimiter=",")
    handle, beside = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as out:
            out.write(text.getvalue())
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    return path


def read_csv(path: str | Path) -> dict[str, Floats]:
    """Columns of a JoSIM CSV (``.gz`` too), ``time`` first. Raises TraceError for anything else."""
    path = Path(path)
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        header, _, body = raw.decode().partition("\n")
        names = next(csv.reader([header]), [])
        table = np.loadtxt(io.StringIO(body), delimiter=",", ndmin=2) if body.strip() else np.zeros((0, len(names)))
    except (OSError, ValueError, StopIteration, EOFError) as error:
        raise TraceError(f"{path}: not a JoSIM CSV ({error}); write it with write_csv or `josim -o file.csv`") from None
    if not names or names[0] != "time" or table.shape[1:] != (len(names),) or len(set(names)) != len(names):
        raise TraceError(f"{path}: columns {names[:4]} do not begin with time or repeat; write it with write_csv")
    return {name: table[:, k] for k, name in enumerate(names)}


def align(ta: Floats, tb: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of two sorted time columns that are one time within 1e-6 of it (the file's digits).

    JoSIM leaves out one row near the start, so rows never match by number.
    """
    if not len(ta) or not len(tb):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    near = np.clip(np.searchsorted(tb, ta), 1, max(len(tb) - 1, 1)) - 1
    near = np.where(np.abs(tb[near] - ta) <= np.abs(tb[np.minimum(near + 1, len(tb) - 1)] - ta), near, near + 1)
    near = np.minimum(near, len(tb) - 1)
    rows = np.flatnonzero(np.abs(tb[near] - ta) <= 1e-6 * np.abs(ta))
    return rows, near[rows]


def compare(a: Traces, b: Traces, relative_above: float = np.inf) -> dict[str, float]:
    """The largest difference of each column that both have, over the times that both have.

    Differences are absolute up to ``relative_above`` and then relative: ``|a - b| / max(1, |b|/relative_above)``.
    Raises TraceError if no time or no column is common.
    """
    names = [n for n in a if n in b and n != "time"]
    rows_a, rows_b = (
        align(a["time"], b["time"]) if "time" in a and "time" in b else (np.zeros(0, int), np.zeros(0, int))
    )
    if not names or not len(rows_a):
        raise TraceError(
            f"nothing to compare: columns {list(a)[:4]} and {list(b)[:4]}; use two runs of one deck and step"
        )
    out = {}
    for name in names:
        x, y = a[name][rows_a], b[name][rows_b]
        out[name] = float((np.abs(x - y) / np.maximum(1.0, np.abs(y) / relative_above)).max())
    return out
