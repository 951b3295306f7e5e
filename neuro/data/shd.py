"""SHD and SSC: spoken digits and commands through a model of the inner ear, spikes on 700 channels, about 1 s.

Read from the sets' own HDF5 files (``shd_train.h5``, ``ssc_valid.h5``): ``spikes/times`` (seconds) and
``spikes/units``, one list a recording, ``labels``, and, for SHD, ``extra/speaker``. Times stay in the type of the file,
float16 there. SSC's training file does not fit every memory: ``first`` and ``most`` read a part, and
:func:`binned_file` makes bins of it part by part.

Source: Cramer, Stradmann, Schemmel, Zenke, IEEE TNNLS 33(7), 2022 (arXiv 1910.07407), CC BY 4.0.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from neuro.data.events import SpikeTrains, sorted_by_time
from neuro.data.files import MOST_BYTES, reading
from neuro.data.folder import data_folder
from neuro.frames import bins

CHANNELS = 700
CLASSES = {"shd": 20, "ssc": 35}
SPLITS = {"shd": ("train", "test"), "ssc": ("train", "valid", "test")}
_MOST_RECORDINGS = 1_000_000
_PART = 4096
"""Recordings that :func:`binned_file` holds at once."""


def shd(split: str, folder: str | Path | None = None, **part: Any) -> SpikeTrains:
    """Spiking Heidelberg Digits, "train" or "test"; by default in ``$SPIKEPORT_DATA/shd``; ``part`` as of :func:`read`.

    The set has no validation split: hold out speakers (``.speaker``). Errors: ``ValueError``.
    """
    return read(_path("shd", split, folder), classes=CLASSES["shd"], **part)


def ssc(split: str, folder: str | Path | None = None, **part: Any) -> SpikeTrains:
    """Spiking Speech Commands, "train", "valid" or "test"; by default in ``$SPIKEPORT_DATA/ssc``. Errors: as shd."""
    return read(_path("ssc", split, folder), classes=CLASSES["ssc"], **part)


def read(
    path: str | Path, *, classes: int | None = None, first: int = 0, most: int | None = None, sort: bool = False
) -> SpikeTrains:
    """Recordings ``first`` to ``first + most`` of one file, by default all to the end, checked.

    ``sort``: put spikes that run backwards in time in order, instead of refusing them.
    Errors: ``ValueError`` naming the file.
    """
    if first < 0 or (most is not None and most < 1):
        raise ValueError(f"shd.read: first must be at least 0 and most at least 1, got {first} and {most}")
    with reading(path, "HDF5 of spike trains", "fetch it again and unpack it"), h5py.File(path, "r") as file:
        times, units, labels = (_dataset(file, n) for n in ("spikes/times", "spikes/units", "labels"))
        if not len(times) == len(units) == len(labels) or first >= len(labels):
            raise ValueError(
                f"{len(times)} times, {len(units)} units and {len(labels)} labels, {first} the first asked"
            )
        if labels.dtype.kind not in "iu":
            raise ValueError(f"labels are {labels.dtype}, not integers")
        part = slice(first, len(labels) if most is None else min(len(labels), first + most))
        channel, time_s, offset = _spikes(units, times, part, sort)
        spoken = _dataset(file, "extra/speaker") if "extra/speaker" in file else None
        speaker = None if spoken is None or len(spoken) != len(labels) else spoken[part].astype(np.int64)
        label = labels[part].astype(np.int64)
        return SpikeTrains(channel, time_s, offset, label, CHANNELS, classes, Path(path).stem, speaker)


def binned_file(
    path: str | Path, dt_s: float, T: int, *, classes: int | None = None, sort: bool = False, **how: Any
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """All recordings of one file as bins ``(N, T, channels / join)`` uint8 and labels, part after part.

    ``how``: as of :func:`neuro.frames.bins`. Errors: ``ValueError``.
    """
    with reading(path, "HDF5 of spike trains", "fetch it again and unpack it"), h5py.File(path, "r") as file:
        count = len(_dataset(file, "labels"))
    parts = (read(path, classes=classes, first=k, most=_PART, sort=sort) for k in range(0, count, _PART))
    made = [(bins(replace(p, speaker=None), dt_s, T, **how), p.label) for p in parts]
    if not made:
        raise ValueError(f"{path}: no recording in it; fetch it again and unpack it")
    return np.concatenate([x for x, _ in made]), np.concatenate([y for _, y in made])


def _spikes(units: Any, times: Any, part: slice, sort: bool) -> tuple[Any, Any, npt.NDArray[np.int64]]:
    u, t, total = [], [], 0
    for k in range(part.start, part.stop):
        now, on = np.asarray(times[k]), np.asarray(units[k])
        if now.ndim != 1 or now.shape != on.shape or now.dtype.kind != "f" or on.dtype.kind not in "iu":
            raise ValueError(f"recording {k}: {now.shape} times {now.dtype} and {on.shape} units {on.dtype}")
        if sort:
            now, on = sorted_by_time(now, on)
        total += now.nbytes + on.nbytes
        if total > MOST_BYTES:
            raise ValueError(f"recordings up to {k} are more than {MOST_BYTES} bytes; read fewer at once (most=...)")
        t.append(now)
        u.append(on)
    offset = np.concatenate([[0], np.cumsum([len(a) for a in u])]).astype(np.int64)
    return np.concatenate(u), np.concatenate(t), offset


def _dataset(file: Any, name: str) -> Any:
    """One list of the file itself: no link out of it, no external storage, no absurd length."""
    for part in (name.split("/")[0], name):
        if part not in file or not isinstance(file.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"it has no {name}")
    found = file[name]
    if not isinstance(found, h5py.Dataset) or found.ndim != 1 or found.external or found.is_virtual:
        raise ValueError(f"{name} is no list of the file itself")
    if len(found) > _MOST_RECORDINGS:
        raise ValueError(f"{name} claims {len(found)} recordings")
    return found


def _path(name: str, split: str, folder: str | Path | None) -> Path:
    if split not in SPLITS[name]:
        raise ValueError(f"{name}.split: must be one of {', '.join(SPLITS[name])}, got {split!r}")
    path = (data_folder(name) if folder is None else Path(folder)) / f"{name}_{split}.h5"
    if not path.is_file():
        raise ValueError(
            f"{name.upper()}: {path} is not there; unpack {path.name}.zip of zenkelab.org/datasets there, or point "
            "SPIKEPORT_DATA elsewhere"
        )
    return path
