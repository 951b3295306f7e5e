"""Damaged files of every format: refused by a ``ValueError`` that names the file, or read as what passes the checks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_files import FORMATS

CASES = 120


def damaged(whole: bytes, k: int) -> bytes:
    """Cut, one byte, bits, or a stretch replaced by another of other length."""
    rng, data = np.random.default_rng(k), bytearray(whole)
    at = int(rng.integers(0, len(data)))
    if k % 4 == 0:
        return bytes(data[:at])
    if k % 4 == 1:
        data[at] = int(rng.integers(0, 256))
    elif k % 4 == 2:
        for place in rng.integers(0, len(data), 8):
            data[place] ^= 1 << int(rng.integers(0, 8))
    else:
        data[at : at + int(rng.integers(1, 20))] = rng.bytes(int(rng.integers(0, 20)))
    return bytes(data)


@pytest.mark.parametrize("name", FORMATS)
def test_damage_is_refused_by_name_or_harmless(name: str, tmp_path: Path) -> None:
    file, write, read = FORMATS[name]
    path = tmp_path / file
    write(path)
    whole = path.read_bytes()
    read(path)
    refused = 0
    for k in range(CASES):
        path.write_bytes(damaged(whole, k))
        try:
            read(path)
        except ValueError as error:
            refused += 1
            assert str(tmp_path) in str(error)  # noqa: PT017
            assert "; " in str(error)  # noqa: PT017  # the fix
    assert refused >= CASES // 3


@pytest.mark.parametrize("name", FORMATS)
def test_absent_and_empty_files_are_named(name: str, tmp_path: Path) -> None:
    file, write, read = FORMATS[name]
    path = tmp_path / file
    write(path)
    for change in (lambda: path.write_bytes(b""), path.unlink, path.mkdir):
        change()
        if name == "wfdb beats" and not path.is_file():
            continue  # a record may have none
        with pytest.raises(ValueError, match=rf"{path.stem}.*; "):
            read(path)
