"""Ten thousand MNIST digits, 28 x 28, from one checked ``.npz`` (``x`` uint8 (N, 28, 28), ``y`` integers (N,)).

Pixels become ``x / 255``, exactly representable by 8-bit messages; nothing is shifted, so black stays silent.
Source: LeCun, Bottou, Bengio, Haffner, Proc. IEEE 86(11) (1998); the file's own SOURCE.txt says which digits.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from neuro.data.folder import data_folder
from neuro.data.split import Split, stratified

SIZE, CLASSES = 28, 10
LEVELS = 255
"""Grey levels above black: ``x * LEVELS`` is a whole number."""
FILE = "mnist_10k.npz"


def mnist_10k(folder: str | Path | None = None, *, test_share: float = 0.2, seed: int = 0) -> Split:
    """Images (N, 1, 28, 28) in [0, 1] and labels 0 to 9, split by class: about 8000 to train with and 2000 to test.

    ``folder``: by default ``$SPIKEPORT_DATA/mnist_10k``. The same seed gives the same split, in a shuffled order.
    Errors: ``ValueError`` naming the file, what is wrong with it and the fix.
    """
    path = (data_folder("mnist_10k") if folder is None else Path(folder)) / FILE
    if not path.is_file():
        raise ValueError(f"MNIST: no {path}; put {FILE} (x uint8 (N, {SIZE}, {SIZE}), y) there, or set SPIKEPORT_DATA")
    x, y = read(path)
    images = (x[:, None] / np.float32(LEVELS)).astype(np.float32)
    order = np.random.default_rng(seed).permutation(len(y))
    return stratified(images[order], y[order], test_share=test_share, seed=seed)


def read(path: str | Path) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Images and labels of a file, checked. Errors: ``ValueError`` naming the file."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as z:
            columns: dict[str, Any] = {k: z[k] for k in ("x", "y")}
        x, y = columns["x"], columns["y"]
        if x.dtype != np.uint8 or x.ndim != 3 or x.shape[1:] != (SIZE, SIZE) or not len(x):
            raise ValueError(f"x is {x.dtype} {x.shape}, expected uint8 (N, {SIZE}, {SIZE})")
        if not np.issubdtype(y.dtype, np.integer) or y.shape != (len(x),):
            raise ValueError(f"y is {y.dtype} {y.shape}, expected integers ({len(x)},)")
        if y.min() < 0 or y.max() >= CLASSES:
            raise ValueError(f"labels go from {y.min()} to {y.max()}, digits from 0 to {CLASSES - 1}")
        blank = np.flatnonzero(x.reshape(len(x), -1).max(axis=1) == 0)
        if len(blank):
            raise ValueError(f"image {blank[0]} is black all over")
        return x, y.astype(np.int64)
    except (OSError, EOFError, KeyError, ValueError, BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: holds no MNIST digits ({error}); fetch it again") from None
