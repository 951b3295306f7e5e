"""Reading HDF5 that others wrote: every size checked before a byte is read, every fault named with its fix."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from export.loihi import Int
from export.network import Shape
from export.package import MAX_ARRAY_BYTES, PackageError

NOTE = "spikeport"
"""Dataset in which :mod:`export.to_netx` leaves what the layout has no place for."""
NOTE_VERSION = 1
MAX_LAYERS = 1024
MAX_NEURONS = 2**26
MAX_NOTE_BYTES = 2**20


class Layer:
    """One group of the file: its datasets by name, as integers, with what was rounded on the way."""

    def __init__(self, reader: Reader, index: int) -> None:
        self.reader, self.index = reader, index
        self.label = f"{reader.path}: layer {index}"
        self.rounded: dict[str, float] = {}

    def __contains__(self, name: str) -> bool:
        return self.reader.has(f"layer/{self.index}/{name}")

    def array(self, name: str) -> npt.NDArray[Any]:
        """A numeric dataset as it is. Errors: ``PackageError`` for one that is absent, too large or no numbers."""
        if name not in self:
            raise PackageError(f"{self.label}: dataset '{name}' is missing; export the network again")
        a = np.asarray(self.reader.read(f"layer/{self.index}/{name}"))
        if a.dtype.kind not in "iufb" or a.size == 0:
            raise PackageError(f"{self.label}: '{name}' must hold numbers, has {a.dtype} {a.shape}; export it again")
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise PackageError(f"{self.label}: '{name}' has NaN or infinity in it; train and export it again")
        if np.abs(a.astype(np.float64)).max() > 2**31 - 1:
            raise PackageError(f"{self.label}: '{name}' reaches beyond 32 bits; export the network again")
        return a

    def ints(self, name: str) -> Int:
        """As the loader reads arrays: fractions are cut off, and noted in ``rounded``."""
        a = self.array(name)
        whole = np.trunc(a.astype(np.float64)).astype(np.int64)
        if (whole != a).any():
            self.rounded[name] = float(np.abs(whole - a).max())
        return whole

    def pair(self, name: str, default: int) -> tuple[int, int]:
        """(h, w) of a number or of two."""
        if name not in self:
            return default, default
        a = self.ints(name).ravel()
        if a.size not in (1, 2):
            raise PackageError(f"{self.label}: '{name}' must be one number or (h, w), has {a.size}; export it again")
        return int(a[0]), int(a[-1])

    def number(self, name: str) -> int:
        """One integer."""
        a = self.ints(name)
        if a.size != 1:
            raise PackageError(f"{self.label}: '{name}' must be one number, has shape {a.shape}; share it in the layer")
        return int(a.ravel()[0])

    def text(self, name: str) -> str:
        """A short string."""
        if name not in self:
            raise PackageError(f"{self.label}: dataset '{name}' is missing; export the network again")
        value = np.asarray(self.reader.read(f"layer/{self.index}/{name}")).ravel()
        raw = value[0] if value.size == 1 else None
        if isinstance(raw, str):
            raw = raw.encode()
        if not isinstance(raw, bytes) or len(raw) > 64:
            raise PackageError(f"{self.label}: '{name}' must be one short string; export the network again")
        return raw.decode("ascii", "replace")

    def shape(self) -> Shape:
        """Dataset ``shape``, (n,) or (c, h, w)."""
        sizes = tuple(int(n) for n in self.ints("shape").ravel())
        if min(sizes) < 1 or len(sizes) > 3 or math.prod(sizes) > MAX_NEURONS:
            raise PackageError(f"{self.label}: shape {sizes} must be (n,) or (c, h, w), up to {MAX_NEURONS} in all")
        return sizes


class Reader:
    """An open netx file. ``layers``: how many it has."""

    def __init__(self, path: Path, file: h5py.File) -> None:
        self.path, self.file, self.left = path, file, MAX_ARRAY_BYTES
        group = self._get("layer")
        if not isinstance(group, h5py.Group):
            raise PackageError(f"{path}: has no group 'layer'; give a .net file that lava-dl or spikeport exported")
        self.layers = len(group)
        if not 0 < self.layers <= MAX_LAYERS:
            raise PackageError(f"{path}: has {self.layers} layers, must be 1 to {MAX_LAYERS}; is it a netx file?")
        for k in range(self.layers):
            if not isinstance(self._get(f"layer/{k}"), h5py.Group):
                raise PackageError(f"{path}: layer {k} of {self.layers} is missing; layers are groups 0, 1, ...")

    def has(self, name: str) -> bool:
        """Is there a dataset of that name?"""
        return isinstance(self._get(name), h5py.Dataset)

    def read(self, name: str) -> Any:
        """The value of a dataset, if it and all before fit the bound."""
        data = self._get(name)
        size = int(data.size or 0) * max(data.dtype.itemsize, 1)
        self.left -= size
        if self.left < 0:
            raise PackageError(f"{self.path}: '{name}' of {size} bytes goes over the limit of {MAX_ARRAY_BYTES} in all")
        if data.external or data.is_virtual:
            raise PackageError(f"{self.path}: '{name}' points to another file; copy its values in")
        return data[()]

    def note(self, name: str) -> dict[str, Any]:
        """JSON that this package's writer left, or nothing."""
        if not self.has(name):
            return {}
        data = self._get(name)
        if data.shape != () or data.dtype.itemsize > MAX_NOTE_BYTES or data.dtype.kind != "S":
            raise PackageError(f"{self.path}: dataset '{name}' is no note of spikeport; delete it or export again")
        try:
            note = json.loads(self.read(name))
        except ValueError:
            note = None
        if not isinstance(note, dict):
            raise PackageError(f"{self.path}: dataset '{name}' is damaged; delete it or export again")
        return note

    def _get(self, name: str) -> Any:
        """Follows hard links only: a file must not lead to another."""
        node: Any = self.file
        for part in name.split("/"):
            if not isinstance(node, h5py.Group) or not isinstance(node.get(part, getlink=True), h5py.HardLink):
                return None
            node = node[part]
        return node


@contextmanager
def opened(path: str | Path) -> Iterator[Reader]:
    """The file at ``path``. Errors: ``PackageError`` naming it, for whatever HDF5 finds wrong with it."""
    path = Path(path)
    if not path.is_file():
        raise PackageError(f"{path}: no such file; give a .net file that lava-dl or spikeport exported")
    try:
        with h5py.File(path, "r") as file:
            yield Reader(path, file)
    except (PackageError, MemoryError):
        raise
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise PackageError(
            f"{path}: cannot be read ({error}); truncated or no HDF5: fetch it whole (git lfs pull) or export again"
        ) from None
