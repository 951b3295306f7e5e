"""Reading files that others wrote: never more than a bound, never a pickle, and an error that names file and fix."""

from __future__ import annotations

import gzip
import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

MOST_BYTES = 4 * 2**30
"""What one file of these data sets may hold, unpacked; the largest, a recording set as ``.npz``, is far below."""


@contextmanager
def reading(path: str | Path, what: str, fix: str = "fetch it again") -> Iterator[None]:
    """Turn whatever reading ``path`` as ``what`` raises into a ``ValueError`` with file, reason and fix.

    Parsers of other packages raise almost anything over a damaged file; the first error stays as the cause.
    """
    try:
        yield
    except Exception as error:
        says = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            says = error.strerror
        raise ValueError(f"{path}: no {what} ({says}); {fix}") from error


def read_bytes(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """The whole file, at most ``most`` bytes. Errors: ``OSError``; ``ValueError`` for a longer one."""
    with open(path, "rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise ValueError(f"it is longer than the {most} bytes that it may have")
    return data


def unpacked(data: bytes, most: int = MOST_BYTES) -> bytes:
    """``data``, or what it holds if it is gzip. Errors: ``ValueError`` past ``most`` bytes; what gzip raises."""
    if data[:2] != b"\x1f\x8b":
        return data
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        out = file.read(most + 1)
    if len(out) > most:
        raise ValueError(f"it unpacks to more than the {most} bytes that it may have")
    return out


def npz_columns(path: str | Path, names: Sequence[str], most: int = MOST_BYTES) -> dict[str, npt.NDArray[Any]]:
    """Arrays ``names`` of an ``.npz``, without pickle, none allocated before its size is known to be true.

    Errors: ``ValueError`` (and what zipfile raises) for absent names, objects, and arrays that are not the size that
    their header claims or are more than ``most`` bytes together.
    """
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        absent = [n for n in names if f"{n}.npy" not in members]
        if absent:
            raise ValueError(f"{', '.join(absent)} not in it")
        infos = {n: members[f"{n}.npy"] for n in names}
        if sum(i.file_size for i in infos.values()) > most:
            raise ValueError(f"its arrays are more than the {most} bytes that they may have")
        return {n: _array(archive, info) for n, info in infos.items()}


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> npt.NDArray[Any]:
    with archive.open(info) as file:
        data = file.read(info.file_size + 1)
    raw, npy = io.BytesIO(data), cast(Any, np.lib.format)
    version = npy.read_magic(raw)
    shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(raw)
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds Python objects, which only a pickle can carry, and none is read")
    if math.prod(shape) * dtype.itemsize != len(data) - raw.tell() or len(shape) > 32:
        raise ValueError(f"{info.filename} claims shape {shape}, which its {len(data)} bytes do not fill")
    raw.seek(0)
    array: npt.NDArray[Any] = npy.read_array(raw, allow_pickle=False)
    return array
