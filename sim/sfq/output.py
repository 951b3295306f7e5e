"""Traces to files and back: JoSIM's CSV and DAT, SPICE3's ASCII raw, whole or not at all; and the difference of two.

CSV and DAT: header ``time,"P(B1|X1)",..``, numbers ``%.6e``, separated by a comma or a space. Raw: the preamble of
SPICE3, currents as ``R1.X1#branch``, six digits. Source: JoSIM Output.cpp.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import tempfile
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sim.sfq.digits import scientific
from sim.sfq.requests import Request

Floats: TypeAlias = NDArray[np.float64]
Traces: TypeAlias = Mapping[str, Floats]
"""Columns by name; one of them is ``time`` in s."""

MAX_BYTES = 2 * 1024**3
"""A trace file larger than this is refused, packed or not: 10^6 rows of 100 columns are 1.3 GB."""

ROWS_AT_ONCE = 1 << 14
RAW_TYPES = {"V": "Voltage", "P": "Phase", "I": "Current"}


class TraceError(ValueError):
    """A file that is not a trace table, or two tables that cannot be compared; the text says what to do."""


def write_traces(path: str | Path, time_s: Floats, traces: Traces) -> Path:
    """Write ``.csv``, ``.dat`` or ``.raw`` by the name's ending; any other is a CSV, as in JoSIM. Raises TraceError."""
    return WRITERS.get(Path(path).suffix.lower(), write_csv)(path, time_s, traces)


def read_traces(path: str | Path) -> dict[str, Floats]:
    """Columns of a ``.csv``, ``.dat`` or ``.raw`` file (``.gz`` too), ``time`` first. Raises TraceError."""
    ending = Path(str(path).lower().removesuffix(".gz")).suffix
    return READERS.get(ending, read_csv)(path)


def write_csv(path: str | Path, time_s: Floats, traces: Traces) -> Path:
    """Write a JoSIM CSV beside ``path`` and rename it. Raises TraceError if a trace has another length than time."""
    return _write_table(path, time_s, traces, ",")


def write_dat(path: str | Path, time_s: Floats, traces: Traces) -> Path:
    """As ``write_csv`` with spaces."""
    return _write_table(path, time_s, traces, " ")


def _write_table(path: str | Path, time_s: Floats, traces: Traces, separator: str) -> Path:
    table = _table(time_s, traces)
    head = separator.join(["time", *(f'"{name}"' for name in traces)]) + "\n"
    rows = (scientific(table[at : at + ROWS_AT_ONCE], separator) for at in range(0, len(table), ROWS_AT_ONCE))
    return _write(path, head, rows)


def _write(path: str | Path, head: str, rows: Iterable[str]) -> Path:
    """Write beside and rename. Not forced to the disk: a trace can be run again, and waiting would cost more."""
    path = Path(path)
    handle, beside = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as out:
            out.write(head)
            out.writelines(rows)
        os.chmod(beside, 0o644)
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    return path


def _table(time_s: Floats, traces: Traces) -> Floats:
    for name, values in traces.items():
        if len(values) != len(time_s):
            raise TraceError(
                f"{name} has {len(values)} values for {len(time_s)} times; write traces of one run together"
            )
    return np.column_stack([time_s, *traces.values()])


def _rows(table: Floats, form: str) -> Iterable[str]:
    """All rows as text, many rows a format string."""
    for at in range(0, len(table), ROWS_AT_ONCE):
        part = table[at : at + ROWS_AT_ONCE]
        yield (form * len(part)) % tuple(part.ravel().tolist())


def write_raw(path: str | Path, time_s: Floats, traces: Traces) -> Path:
    """Write an ASCII raw file as SPICE3 and JoSIM do, one point a block. Raises TraceError as ``write_csv``."""
    table = _table(time_s, traces)
    variables = "".join(f" {k} {_raw_name(name)}\n" for k, name in enumerate(traces, start=1))
    head = (
        f"Title: {Path(path).stem}\nDate: {time.asctime()}\nPlotname: Transient Analysis\nFlags: real\n"
        f"No. Variables: {table.shape[1]}\nNo. Points: {len(table)}\nCommand: spikeport\n"
        f"Variables:\n 0 time Seconds\n{variables}Values:\n"
    )
    width = len(str(len(table))) + 1
    form = f"%-{width}d%.6g\n" + f"{'':{width}}%.6g\n" * (table.shape[1] - 1)
    counted = np.column_stack([np.arange(len(table)), table])
    return _write(path, head, _rows(counted, form))


def _raw_name(name: str) -> str:
    kind = RAW_TYPES.get(name[:1] if name[1:2] == "(" else "", "Voltage")
    return f"{name[2:-1].replace('|', '.')}#branch {kind}" if kind == "Current" else f"{name} {kind}"


WRITERS = {".csv": write_csv, ".dat": write_dat, ".raw": write_raw}


def read_csv(path: str | Path) -> dict[str, Floats]:
    """Columns of a JoSIM CSV (``.gz`` too), ``time`` first. Raises TraceError for anything else."""
    return _read_table(path, ",", "CSV")


def read_dat(path: str | Path) -> dict[str, Floats]:
    """Columns of a JoSIM DAT, as ``read_csv``."""
    return _read_table(path, " ", "DAT")


def _text(path: Path, kind: str) -> str:
    """The text of a file, unpacked, within bounds."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                raw = file.read(MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        return raw.decode()
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise _unreadable(path, kind, error) from None


def _unreadable(path: Path, kind: str, error: object) -> TraceError:
    return TraceError(f"{path}: not a JoSIM {kind} ({error}); write it with write_traces or `josim -o file`")


def _read_table(path: str | Path, separator: str, kind: str) -> dict[str, Floats]:
    path = Path(path)
    header, _, body = _text(path, kind).partition("\n")
    names = next(csv.reader([header.strip()], delimiter=separator, skipinitialspace=True), [])
    try:
        table = np.loadtxt(io.StringIO(body), delimiter=separator.strip() or None, ndmin=2) if body.strip() else None
    except ValueError as error:
        raise _unreadable(path, kind, error) from None
    table = np.zeros((0, len(names))) if table is None else table
    return _named(path, names, table)


def _named(path: Path, names: list[str], table: Floats) -> dict[str, Floats]:
    """Columns by name. JoSIM writes a trace as often as it is asked for; the same numbers twice are one trace."""
    if not names or names[0] != "time" or table.shape[1:] != (len(names),):
        raise TraceError(f"{path}: columns {names[:4]} do not begin with time; write it with write_traces")
    out: dict[str, Floats] = {}
    for k, name in enumerate(names):
        if name in out and not np.array_equal(out[name], table[:, k], equal_nan=True):
            raise TraceError(f"{path}: two columns {name} differ; name each trace once")
        out.setdefault(name, table[:, k])
    return out


def read_raw(path: str | Path) -> dict[str, Floats]:
    """Columns of an ASCII raw file of real numbers, JoSIM's names restored. Raises TraceError for any other."""
    path = Path(path)
    text = _text(path, "raw")
    head, found, body = text.partition("Values:")
    first, listed, variables = head.partition("Variables:\n")
    fields = dict(line.partition(":")[::2] for line in first.splitlines())
    try:
        count, points = int(fields["No. Variables"]), int(fields["No. Points"])
        names = [_trace_name(line) for line in variables.splitlines() if line.strip()]
        if not found or not listed or fields["Flags"].strip() != "real" or len(names) != count:
            raise ValueError("no table of real values")
        numbers = np.array(body.split(), dtype=np.float64)
        if len(numbers) != points * (count + 1):
            raise ValueError(f"{len(numbers)} numbers for {points} points of {count} variables")
    except (KeyError, ValueError) as error:
        raise _unreadable(path, "raw", error) from None
    return _named(path, names, numbers.reshape(points, count + 1)[:, 1:])


def _trace_name(line: str) -> str:
    _, name, *_ = line.split()
    if name.endswith("#branch"):
        return f"I({name.removesuffix('#branch').replace('.', '|')})"
    return name


READERS = {".csv": read_csv, ".dat": read_dat, ".raw": read_raw}


def routed(requests: Iterable[Request], files: Iterable[str], traces: Traces) -> dict[str, dict[str, Floats]]:
    """The traces of each ``.file`` of a deck: what was asked for behind it. All go to the file given at the run.

    Only ``traces`` that there are: a request that named nothing was warned of. Source: JoSIM Output.cpp.
    """
    out: dict[str, dict[str, Floats]] = {name: {} for name in files}
    for request in requests:
        if request.file and request.label in traces:
            out.setdefault(request.file, {})[request.label] = traces[request.label]
    return out


def output_path(name: str, deck_folder: str | Path) -> Path:
    """Where a ``.file`` goes: beside the deck if it is a bare name, else from the working folder, as in JoSIM.

    Raises TraceError for a place outside both."""
    here, beside = Path.cwd().resolve(), Path(deck_folder).resolve()
    path = ((beside if Path(name).name == name else here) / name).resolve()
    if not (path.is_relative_to(here) or path.is_relative_to(beside)):
        raise TraceError(f".file {name}: is outside the working folder and the deck's; run it there, or give -o")
    return path


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
