"""N-MNIST: MNIST digits as an event camera saw them in three saccades, 34 x 34 pixels, two polarities, about 0.3 s.

Read from the data set's own files (``Train/<label>/<number>.bin``, 40 bits an event: x, y, polarity and 23 bits of
microseconds, big-endian) or from ``.npz`` tables of them (``x, y, p`` uint8, ``t_us`` uint32, ``offset`` int64 of each
recording's first event and the end, ``label``). What is read is checked before it is used.

Source: Orchard, Jayawant, Cohen, Thakor, Front. Neurosci. 9:437 (2015), CC BY-SA 4.0.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from neuro.data.folder import data_folder

SIZE = 34
SHAPE = (2, SIZE, SIZE)
"""Of one frame: polarity, y, x."""

TABLES = {"train": "train1K.npz", "test": "test100.npz"}
_COLUMNS = ("x", "y", "p", "t_us", "offset", "label")

Frames = npt.NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Recordings:
    """Events of several recordings one after the other; those of recording i are ``offset[i]:offset[i + 1]``.

    Errors: ``ValueError`` naming recording and event for a pixel outside the sensor, a polarity that is neither 0
    nor 1, time that runs backwards, a label that is no digit, an empty recording.
    """

    x: npt.NDArray[np.uint8]
    y: npt.NDArray[np.uint8]
    p: npt.NDArray[np.uint8]
    t_us: npt.NDArray[np.uint32]
    offset: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        n, o = len(self.x), self.offset
        if not (len(self.y) == len(self.p) == len(self.t_us) == n) or len(o) != len(self.label) + 1:
            raise ValueError(f"N-MNIST: {n} events and {len(self.label)} labels, but columns of other lengths")
        if not len(self.label) or o[0] != 0 or o[-1] != n or (np.diff(o) < 1).any():
            raise ValueError(f"N-MNIST: offsets must rise from 0 to the {n} events, one event and more a recording")
        for what, bad in (
            (f"lies outside the {SIZE} x {SIZE} pixels", (self.x >= SIZE) | (self.y >= SIZE)),
            ("has a polarity that is neither 0 nor 1", self.p > 1),
        ):
            if bad.any():
                raise ValueError(f"N-MNIST: {self._where(int(bad.argmax()))} {what}; fetch the file again")
        back = np.flatnonzero(self.t_us[1:] < self.t_us[:-1]) + 1
        back = back[~np.isin(back, o)]
        if len(back):
            raise ValueError(f"N-MNIST: {self._where(int(back[0]))} is earlier than the one before it; sort by time")
        if self.label.min() < 0 or self.label.max() > 9:
            raise ValueError(f"N-MNIST: labels must be 0 to 9, got {self.label.min()} to {self.label.max()}")

    def __len__(self) -> int:
        return len(self.label)

    def _where(self, event: int) -> str:
        k = int(np.searchsorted(self.offset, event, "right")) - 1
        return f"recording {k}, event {event - int(self.offset[k])}"


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
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as z:
            columns: dict[str, Any] = {k: z[k] for k in _COLUMNS}
        if not all(np.issubdtype(a.dtype, np.integer) and a.ndim == 1 for a in columns.values()):
            raise ValueError("columns must be one-dimensional integers")
        return Recordings(**columns | {"label": columns["label"].astype(np.int64)})
    except (OSError, EOFError, KeyError, ValueError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: no table of N-MNIST recordings ({error}); fetch it again") from None


def read_bin(path: str | Path, label: int) -> Recordings:
    """One recording of the data set's own format, checked. Errors: ``ValueError`` naming the file."""
    try:
        raw = np.fromfile(path, np.uint8)
        if not len(raw) or len(raw) % 5:
            raise ValueError(f"{len(raw)} bytes are no whole number of 5-byte events")
        x, y, high, mid, low = raw.reshape(-1, 5).T
        t = (high & 127).astype(np.uint32) << 16 | mid.astype(np.uint32) << 8 | low
        return Recordings(
            x, y, (high >> 7).astype(np.uint8), t.astype(np.uint32), np.array([0, len(x)]), np.array([label])
        )
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: no N-MNIST recording ({error}); fetch it again") from None


def read_folder(path: str | Path) -> Recordings:
    """All ``<label>/*.bin`` below ``path``, labels ascending, files by name. Errors: ``ValueError``."""
    parts = [read_bin(f, k) for k in range(10) for f in sorted((Path(path) / str(k)).glob("*.bin"))]
    if not parts:
        raise ValueError(f"{path}: no <label>/*.bin in it, labels 0 to 9; unpack the data set there")
    ends = np.cumsum([len(r.x) for r in parts])
    columns = {k: np.concatenate([getattr(r, k) for r in parts]) for k in ("x", "y", "p", "t_us", "label")}
    return Recordings(**columns, offset=np.concatenate([[0], ends]))


def frames_by_time(recordings: Recordings, T: int) -> Frames:
    """Events counted in T windows of equal time: ``(N, T, 2, 34, 34)``.

    A window lasts ``(last - first) // T`` microseconds; the last one takes the rest.
    """
    return _frames(recordings, T, lambda t: (t - t[0]).astype(np.int64) // max(1, int(t[-1] - t[0]) // T))


def frames_by_count(recordings: Recordings, T: int) -> Frames:
    """Events counted in T windows of ``events // T`` each, the last one with the rest: ``(N, T, 2, 34, 34)``."""
    return _frames(recordings, T, lambda t: np.arange(len(t)) // max(1, len(t) // T))


def binary(frames: Frames) -> npt.NDArray[np.float32]:
    """1 where anything happened: spikes for a chip whose synapses take 0 and 1."""
    return (frames > 0).astype(np.float32)


def _frames(recordings: Recordings, T: int, window: Any) -> Frames:
    if T < 1:
        raise ValueError(f"N-MNIST frames: T must be at least 1, got {T}")
    r = recordings
    out = np.zeros((len(r), T, *SHAPE), np.uint16)
    for k in range(len(r)):
        part = slice(int(r.offset[k]), int(r.offset[k + 1]))
        at = np.minimum(window(r.t_us[part]), T - 1)
        flat = np.ravel_multi_index((at, r.p[part], r.y[part], r.x[part]), out.shape[1:])
        out[k] = np.bincount(flat, minlength=out[k].size).reshape(out.shape[1:])
    return out
