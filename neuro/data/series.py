"""Time series: the ``.ts`` files of the UEA archive, Japanese Vowels among them, and MNIST-1D.

A ``.ts`` file is lines: comments ``#``, heads ``@name value``, then after ``@data`` a series a line, its dimensions
separated by ``:``, values by ``,``, the class last. Series may differ in length.

Sources: Bagnall et al. 2018, arXiv 1811.00075 (the format); Kudo, Toyama, Shimbo, Pattern Recognition Letters 20, 1999
(Japanese Vowels: 9 speakers, 12 LPC cepstra); Greydanus, Kobak 2024, arXiv 2011.14439 (MNIST-1D).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuro.data.files import npz_columns, read_bytes, reading
from neuro.data.folder import data_folder
from neuro.data.split import Split

_MOST_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class Series:
    """``x[k] (steps, dimensions)`` float32, ``label (N,)`` indices into ``classes``, the names in the file's order."""

    x: tuple[npt.NDArray[np.float32], ...]
    label: npt.NDArray[np.int64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.x)

    def padded(self, steps: int | None = None) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """``(N, steps, dimensions)`` with zeros after each end, and the lengths; by default as long as the longest."""
        lengths = np.array([len(x) for x in self.x], np.int64)
        steps = int(lengths.max()) if steps is None else steps
        out = np.zeros((len(self), steps, self.x[0].shape[1]), np.float32)
        for row, x in zip(out, self.x, strict=True):
            row[: min(steps, len(x))] = x[:steps]
        return out, np.minimum(lengths, steps)


def japanese_vowels(folder: str | Path | None = None) -> tuple[Series, Series]:
    """270 training and 370 test utterances; by default in ``$SPIKEPORT_DATA/japanese_vowels``.

    Errors: ``ValueError`` naming the file.
    """
    root = data_folder("japanese_vowels") if folder is None else Path(folder)
    train, test = (read_ts(root / f"JapaneseVowels_{which}.ts") for which in ("TRAIN", "TEST"))
    return train, test


def mnist1d(path: str | Path | None = None) -> Split:
    """Signals ``(N, 40)``, not scaled, by default of ``$SPIKEPORT_DATA/mnist1d/mnist1d.npz``.

    Errors: ``ValueError`` naming the file.
    """
    path = data_folder("mnist1d") / "mnist1d.npz" if path is None else path
    with reading(path, "table of MNIST-1D"):
        c = npz_columns(path, ("x", "y", "x_test", "y_test"), _MOST_BYTES)
        parts: list[Any] = []
        for x, y in ((c["x"], c["y"]), (c["x_test"], c["y_test"])):
            if x.ndim != 2 or y.shape != (len(x),) or not len(x) or x.shape[1] != c["x"].shape[1]:
                raise ValueError(f"signals {x.shape} and labels {y.shape} do not fit")
            if x.dtype.kind != "f" or not np.isfinite(x).all() or y.dtype.kind not in "iu":
                raise ValueError("signals must be finite floats and labels integers")
            if y.min() < 0 or y.max() > 9:
                raise ValueError(f"labels must be 0 to 9, got {y.min()} to {y.max()}")
            parts += [x.astype(np.float32), y.astype(np.int64)]
        return Split(*parts)


def read_ts(path: str | Path) -> Series:
    """One ``.ts`` file with classes, and without time stamps and gaps. Errors: ``ValueError`` naming the file."""
    with reading(path, "time series of a .ts file", "fetch it again, or put it where SPIKEPORT_DATA points"):
        lines = read_bytes(path, _MOST_BYTES).decode("utf-8").splitlines()
        heads, start = _heads(lines)
        classes = tuple(heads.get("@classlabel", "").split()[1:])
        if heads.get("@timestamps", "false").lower() != "false" or not classes:
            raise ValueError("it has time stamps, or no classes, which this reader does not take")
        count = int(heads.get("@dimensions", "1"))
        found = [(k, line) for k, line in enumerate(lines[start:], start + 1) if line.strip()]
        if not found:
            raise ValueError("no series after @data")
        parts = [_one(k, line, count, classes) for k, line in found]
        return Series(tuple(x for x, _ in parts), np.array([y for _, y in parts], np.int64), classes)


def _heads(lines: list[str]) -> tuple[dict[str, str], int]:
    heads: dict[str, str] = {}
    for k, line in enumerate(lines):
        text = line.strip()
        if text.lower() == "@data":
            return heads, k + 1
        if text.startswith("@"):
            name, _, value = text.partition(" ")
            heads[name.lower()] = value.strip()
        elif text and not text.startswith("#"):
            raise ValueError(f"line {k + 1} is neither comment nor head, and comes before @data")
    raise ValueError("it has no @data")


def _one(k: int, line: str, count: int, classes: tuple[str, ...]) -> tuple[npt.NDArray[np.float32], int]:
    *parts, name = line.strip().split(":")
    rows = [[float(v) for v in part.split(",")] for part in parts if part.strip() != "?"]
    if len(rows) != count or len({len(r) for r in rows}) != 1:
        raise ValueError(f"line {k}: {sorted({len(r) for r in rows})} values in {len(rows)} dimensions of {count}")
    x = np.array(rows, np.float64).T
    if not np.isfinite(x).all() or np.abs(x).max() > np.finfo(np.float32).max:
        raise ValueError(f"line {k}: a value is no finite number")
    if name.strip() not in classes:
        raise ValueError(f"line {k}: class {name.strip()!r} is none of {', '.join(classes)}")
    return np.ascontiguousarray(x, np.float32), classes.index(name.strip())
