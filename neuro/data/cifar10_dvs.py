"""CIFAR10-DVS: CIFAR-10 images moved before an event camera, 128 x 128 pixels, 1000 recordings a class.

Read from the data set's own files ``<class>/cifar10_<class>_<number>.aedat`` (AEDAT 2.0). An address has polarity at
bit 0 (0: brighter), one coordinate at bits 1 to 7 and the other at bits 8 to 14; x, y and p are given as SpikingJelly
gives them: ``x = 127 - bits 8 to 14``, ``y = 127 - bits 1 to 7``, ``p = 1 - bit 0``. The set has no split of its own;
that of many papers, the first 100 numbers of each class for the test, is :func:`cifar10_dvs`'s.

Source: Li, Liu, Ji, Li, Shi, Front. Neurosci. 11:309 (2017), CC BY 4.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neuro.data.aedat import addresses
from neuro.data.events import Events, sorted_by_time
from neuro.data.files import read_bytes, reading
from neuro.data.folder import data_folder

SENSOR = (128, 128)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TESTED = 100
"""Recordings 0 to 99 of each class are tested on."""


def cifar10_dvs(split: str, folder: str | Path | None = None) -> Iterator[Events]:
    """The recordings of ``split``, "train" or "test", one at a time, class after class and number after number.

    By default of ``$SPIKEPORT_DATA/cifar10_dvs``. Errors: ``ValueError`` naming what is not there and where to get
    it, or what is wrong with a file.
    """
    if split not in ("train", "test"):
        raise ValueError(f"cifar10_dvs.split: must be train or test, got {split!r}")
    root = data_folder("cifar10_dvs") if folder is None else Path(folder)
    found = [(k, f) for k, name in enumerate(CLASSES) for f in _numbered(root / name, name, split)]
    if not found:
        raise ValueError(
            f"CIFAR10-DVS: {root} holds no <class>/cifar10_<class>_<number>.aedat for {split}; unpack the ten .zip "
            "of its figshare page (doi 10.6084/m9.figshare.4724671) there, or point SPIKEPORT_DATA elsewhere"
        )
    return (read_recording(f, k) for k, f in found)


def read_recording(path: str | Path, label: int, *, sort: bool = False) -> Events:
    """One ``.aedat`` file. ``sort``: put events that run backwards in time in order, instead of refusing them.

    Errors: ``ValueError`` naming the file.
    """
    with reading(path, "recording of CIFAR10-DVS"):
        address, t = addresses(read_bytes(path))
        if (address >> 15).any():
            raise ValueError(f"address {int(address[(address >> 15).argmax()]):#x} is none of a DVS128")
        if sort:
            t, address = sorted_by_time(t, address)
        first, second = (address >> 1 & 127).astype(np.uint8), (address >> 8 & 127).astype(np.uint8)
        p = (1 - (address & 1)).astype(np.uint8)
        offset, labels = np.array([0, len(p)]), np.array([label])
        return Events(127 - second, 127 - first, p, t, offset, labels, SENSOR, len(CLASSES), "CIFAR10-DVS")


def _numbered(folder: Path, name: str, split: str) -> list[Path]:
    numbers = {}
    for f in folder.glob(f"cifar10_{name}_*.aedat"):
        number = f.stem.rpartition("_")[2]
        if number.isascii() and number.isdigit() and (int(number) < TESTED) == (split == "test"):
            numbers[int(number)] = f
    return [numbers[n] for n in sorted(numbers)]
