"""MNIST, Fashion-MNIST and their kind from IDX files, plain or gzip.

A file is: two zero bytes, the type (8: uint8), the number of dimensions, each dimension as 4 bytes big-endian, then the
values. Source: LeCun, Cortes, Burges, yann.lecun.com/exdb/mnist, "File formats".
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuro.data.files import read_bytes, reading, unpacked
from neuro.data.folder import data_folder
from neuro.data.split import Images

CLASSES = 10
_UINT8 = 8


def mnist(folder: str | Path | None = None) -> Images:
    """MNIST's four files in ``folder``, by default ``$SPIKEPORT_DATA/mnist``. Errors: as :func:`idx_images`."""
    return idx_images(data_folder("mnist") if folder is None else folder)


def fashion_mnist(folder: str | Path | None = None) -> Images:
    """Fashion-MNIST's, by default in ``$SPIKEPORT_DATA/fashion_mnist``. Source: Xiao, Rasul, Vollgraf 2017."""
    return idx_images(data_folder("fashion_mnist") if folder is None else folder)


def idx_images(folder: str | Path, classes: int = CLASSES) -> Images:
    """``train-images-idx3-ubyte`` and the other three of ``folder``, each plain or ``.gz``: x (N, 1, H, W).

    Errors: ``ValueError`` naming the file that is not there or is damaged.
    """
    parts = []
    for which in ("train", "t10k"):
        path = _found(Path(folder), f"{which}-images-idx3-ubyte")
        labels = _found(Path(folder), f"{which}-labels-idx1-ubyte")
        x, y = read_idx(path, 3), read_idx(labels, 1)
        if len(x) != len(y) or not len(y) or y.max() >= classes:
            raise ValueError(
                f"{labels}: {len(y)} labels up to {y.max(initial=0)} for {len(x)} images of {classes} classes; "
                "fetch both files again"
            )
        parts += [x[:, None], y.astype(np.int64)]
    return Images(*parts)


def read_idx(path: str | Path, dimensions: int) -> npt.NDArray[Any]:
    """One file of uint8 with that many dimensions. Errors: ``ValueError`` naming the file."""
    with reading(path, "IDX file"):
        data = unpacked(read_bytes(path))
        if data[:4] != bytes((0, 0, _UINT8, dimensions)):
            raise ValueError(
                f"it begins with {data[:4].hex()}; uint8 in {dimensions} dimensions is 000008{dimensions:02x}"
            )
        start = 4 + 4 * dimensions
        shape = struct.unpack_from(f">{dimensions}I", data, 4)
        if math.prod(shape) != len(data) - start:
            raise ValueError(f"shape {shape} claimed, {len(data) - start} bytes there")
        return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _found(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise ValueError(f"{folder / name}: not there, nor as .gz; put the set's four files there (neuro/data/sets.toml)")
