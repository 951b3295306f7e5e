"""CIFAR-10 and CIFAR-100 from their binary version: a record is a label or two and 3072 bytes.

The bytes are three planes of 32 x 32, red, green, blue. The version "for Python" is a pickle, which can run anything,
and is refused.

Source: Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009; cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuro.data.files import read_bytes, reading
from neuro.data.folder import data_folder
from neuro.data.split import Images

_PIXELS = 3 * 32 * 32
_MOST_BYTES = 2**30
BINARY = {"cifar10": "cifar-10-binary.tar.gz", "cifar100": "cifar-100-binary.tar.gz"}
"""Both at cs.toronto.edu/~kriz."""


def cifar10(folder: str | Path | None = None) -> Images:
    """``data_batch_1.bin`` to ``_5.bin`` and ``test_batch.bin``; by default in ``$SPIKEPORT_DATA/cifar10``.

    Errors: ``ValueError`` naming the file that is not there or is damaged.
    """
    root = data_folder("cifar10") if folder is None else Path(folder)
    parts = [read_cifar(_found(root, f"data_batch_{k}", "cifar10"), (10,)) for k in range(1, 6)]
    train_x, train_y = (np.concatenate(a) for a in zip(*((x, y[:, 0]) for x, y in parts), strict=True))
    test_x, test_y = read_cifar(_found(root, "test_batch", "cifar10"), (10,))
    return Images(train_x, train_y, test_x, test_y[:, 0])


def cifar100(folder: str | Path | None = None, *, coarse: bool = False) -> Images:
    """``train.bin`` and ``test.bin``, the 100 fine labels or the 20 coarse ones; by default in ``$.../cifar100``.

    Errors: as :func:`cifar10`.
    """
    root = data_folder("cifar100") if folder is None else Path(folder)
    column = 0 if coarse else 1
    parts: list[Any] = []
    for name in ("train", "test"):
        x, y = read_cifar(_found(root, name, "cifar100"), (20, 100))
        parts += [x, y[:, column]]
    return Images(*parts)


def read_cifar(path: str | Path, classes: tuple[int, ...]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """One file whose records have one label for each of ``classes``: ``x (N, 3, 32, 32), y (N, labels)``.

    Errors: ``ValueError`` naming the file.
    """
    with reading(path, "CIFAR file of the binary version", f"fetch {' or '.join(BINARY.values())}"):
        data, record = read_bytes(path, _MOST_BYTES), _PIXELS + len(classes)
        if not data or len(data) % record:
            pickled = ": it is a pickle, the version for Python" if data[:1] == b"\x80" else ""
            raise ValueError(f"{len(data)} bytes are no whole number of records of {record}{pickled}")
        raw = np.frombuffer(data, np.uint8).reshape(-1, record)
        y = raw[:, : len(classes)].astype(np.int64)
        bad = (y >= np.array(classes)).any(1)
        if bad.any():
            k = int(bad.argmax())
            raise ValueError(f"record {k} has label {y[k].tolist()}, and there are {classes} classes")
        return raw[:, len(classes) :].reshape(-1, 3, 32, 32).copy(), y


def _found(root: Path, name: str, which: str) -> Path:
    path = root / f"{name}.bin"
    if path.is_file():
        return path
    if (root / name).is_file():
        raise ValueError(
            f"{root / name}: this is the version for Python, a pickle, which can run anything and is not read; fetch "
            f"{BINARY[which]} and unpack it there"
        )
    raise ValueError(f"{path}: not there; unpack {BINARY[which]} there, or point SPIKEPORT_DATA elsewhere")
