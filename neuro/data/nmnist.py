"""N-MNIST: MNIST digits as an event camera saw them in three saccades, 34 x 34 pixels, two polarities, about 0.3 s.

Read from the data set's own files (``Train/<label>/<number>.bin``, 40 bits an event: x, y, polarity and 23 bits of
microseconds, big-endian) or from ``.npz`` tables of them (``x, y, p`` uint8, ``t_us`` uint32, ``offset`` int64 of each
recording's first event and the end, ``label``). What is read is checked before it is used. Frames are made by
:mod:`neuro.frames`.

Source: Orchard, Jayawant, Cohen, Thakor, Front. Neurosci. 9:437 (2015), CC BY-SA 4.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neuro.data.events import Events, joined
from neuro.data.files import npz_columns, read_bytes, reading
from neuro.data.folder import data_folder
from neuro.frames import Frames, binary, frames_by_count, frames_by_time

__all__ = [
    "SHAPE",
    "SIZE",
    "TABLES",
    "Frames",
    "Recordings",
    "binary",
    "frames_by_count",
    "frames_by_time",
    "nmnist",
    "read_bin",
    "read_folder",
    "read_npz",
]
"""With the frames that N-MNIST is mostly taken as."""

SIZE = 34
SHAPE = (2, SIZE, SIZE)
"""Of one frame: polarity, y, x."""

TABLES = {"train": "train1K.npz", "test": "test100.npz"}
_COLUMNS = ("x", "y", "p", "t_us", "offset", "label")


@dataclass(frozen=True, eq=False)
class Recordings(Events):
    """:class:`neuro.data.events.Events` of N-MNIST. Errors: as there, and for a recording without events."""

    sensor: tuple[int, int] = (SIZE, SIZE)
    classes: int | None = 10
    name: str = "N-MNIST"

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.counts() < 1).any():
            raise ValueError("N-MNIST: offsets must rise by one event and more a recording; fetch the file again")


def nmnist(folder: str | Path | None = None) -> tuple[Recordings, Recordings]:
    """Training and test recordings in ``folder``, by default ``$SPIKEPORT_DATA/nmnist_small``.

    Errors: ``ValueError`` naming what is not there and where to get it, or what is wrong with a file.
    """
    root = data_folder("nmnist_small") if folder is None else Path(folder)
    if all((root / name).is_file() for name in TABLES.values()):
        return read_npz(root / TABLES["train"]), read_npz(root / TABLES["test"])
    if all((root / name).is_dir() for name in ("Train", "Test")):
        return read_folder(root / "Train"), read_folder(root / "Test")
    raise ValueError(
        f"N-MNIST: {root} holds neither {' and '.join(TABLES.values())} nor the folders Train and Test; unpack "
        "Train.zip and Test.zip of garrickorchard.com/datasets/n-mnist there, or point SPIKEPORT_DATA elsewhere"
    )


def read_npz(path: str | Path) -> Recordings:
    """One table of recordings, checked. Errors: ``ValueError`` naming the file."""
    with reading(path, "table of N-MNIST recordings"):
        columns = npz_columns(path, _COLUMNS)
        if not all(np.issubdtype(a.dtype, np.integer) and a.ndim == 1 for a in columns.values()):
            raise ValueError("columns must be one-dimensional integers")
        x, y, p, t_us, offset, label = (columns[k] for k in _COLUMNS)
        return Recordings(x, y, p, t_us, offset.astype(np.int64), label.astype(np.int64))


def read_bin(path: str | Path, label: int) -> Recordings:
    """One recording of the data set's own format, checked. Errors: ``ValueError`` naming the file."""
    with reading(path, "N-MNIST recording"):
        raw = np.frombuffer(read_bytes(path), np.uint8)
        if not len(raw) or len(raw) % 5:
            raise ValueError(f"{len(raw)} bytes are no whole number of 5-byte events")
        x, y, high, mid, low = (np.ascontiguousarray(c) for c in raw.reshape(-1, 5).T)
        t = (high & 127).astype(np.uint32) << 16 | mid.astype(np.uint32) << 8 | low
        return Recordings(x, y, high >> 7, t, np.array([0, len(x)]), np.array([label]))


def read_folder(path: str | Path) -> Recordings:
    """All ``<label>/*.bin`` below ``path``, labels ascending, files by name. Errors: ``ValueError``."""
    parts = [read_bin(f, k) for k in range(10) for f in sorted((Path(path) / str(k)).glob("*.bin"))]
    if not parts:
        raise ValueError(f"{path}: no <label>/*.bin in it, labels 0 to 9; unpack the data set there")
    return joined(parts)
