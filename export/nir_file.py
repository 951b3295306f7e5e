"""A ``.nir`` file (HDF5) or a ``nir.NIRGraph`` as plain dicts, arrays and strings: ``{"type", "nodes", "edges", ...}``.

A file is not trusted: only hard links inside it are followed, only numbers and strings are read, and depth, number of
objects and size are bounded before anything is allocated. Shapes are not checked here, so that files which
``nir.read(type_check=True)`` refuses (parameters given as scalars, no ``input_shape``) can be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from export.package import PackageError
from export.program import MappingError

Raw: TypeAlias = dict[str, Any]

MAX_BYTES = 2**31
"""Most bytes that the arrays of one file may unpack to."""
MAX_OBJECTS = 200_000
MAX_DEPTH = 12


def read_nir(path: str | Path) -> Raw:
    """What the file holds. Errors: ``PackageError`` naming the file, what is wrong with it and the fix."""
    import h5py

    path = Path(path)
    if not path.is_file():
        raise PackageError(f"{path}: no such file; give a .nir file, as nir.write makes them")
    try:
        with h5py.File(path, "r") as f:
            root = f.get("node")
            if not isinstance(root, h5py.Group):
                raise PackageError(f"{path}: has no group 'node'; it is HDF5 but no NIR file: write it with nir.write")
            return _Reader(path).group(root, 0)
    except PackageError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeDecodeError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PackageError(
            f"{path}: cannot be read ({what}); the file is truncated, damaged or no NIR file: export it again"
        ) from None


class _Reader:
    """Counts what it reads against the limits."""

    def __init__(self, path: Path) -> None:
        self.path, self.objects, self.bytes = path, 0, 0

    def group(self, group: Any, depth: int) -> Raw:
        import h5py

        if depth > MAX_DEPTH:
            raise PackageError(f"{self.path}: {group.name} is nested more than {MAX_DEPTH} deep; flatten the graph")
        out: Raw = {}
        for key in group:
            self.objects += 1
            if self.objects > MAX_OBJECTS:
                raise PackageError(f"{self.path}: holds more than {MAX_OBJECTS} objects; split the network")
            where = f"{group.name}/{key}"
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise PackageError(f"{self.path}: {where} is a link, which is not followed; store the data itself")
            item = group[key]
            out[key] = self.group(item, depth + 1) if isinstance(item, h5py.Group) else self.value(item, where)
        return out

    def value(self, item: Any, where: str) -> Any:
        import h5py

        if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
            raise PackageError(f"{self.path}: {where} is no plain data set inside the file; store the data itself")
        text = h5py.check_string_dtype(item.dtype) is not None
        if not text and item.dtype.kind not in "fiub":
            raise PackageError(f"{self.path}: {where} has type {item.dtype}; only numbers and strings are read")
        self.bytes += int(np.prod(item.shape, dtype=object)) * item.dtype.itemsize if item.shape is not None else 0
        if self.bytes > MAX_BYTES:
            raise PackageError(f"{self.path}: {where} {item.shape} brings its arrays over {MAX_BYTES} bytes; shrink it")
        return _plain(item[()])


def graph_dict(graph: Any) -> Raw:
    """The same of a graph in memory: a ``nir.NIRGraph``, or anything with its ``to_dict``. Errors: ``MappingError``."""
    if not hasattr(graph, "to_dict"):
        raise MappingError(f"{type(graph).__name__} is no NIR graph; give a nir.NIRGraph or the path of a .nir file")
    return _plain_dict(graph.to_dict())


def _plain_dict(data: Raw) -> Raw:
    return {str(k): _plain_dict(v) if isinstance(v, dict) else _plain(v) for k, v in data.items()}


def _plain(value: Any) -> Any:
    """Bytes to strings; numbers to arrays or Python numbers; lists of strings stay lists."""
    if isinstance(value, bytes):
        return value.decode("utf8")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if hasattr(value, "detach"):  # a torch tensor, as snnTorch's exporter leaves them
        value = value.detach().cpu().numpy()
    a = np.asarray(value)
    if a.dtype.kind in "OSU":
        flat = [_plain(v.item() if isinstance(v, np.generic) else v) for v in a.ravel()]
        width = a.shape[1] if a.ndim == 2 else 0
        return [tuple(flat[k : k + width]) for k in range(0, len(flat), width)] if width else flat
    return a.item() if a.ndim == 0 and a.dtype.kind in "iub" else a
