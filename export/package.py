"""One file for one value: a JSON manifest and named arrays in an ``.npz``, without pickle.

Networks, integer programs and runs are saved through here, so every one of them is written beside its place and
renamed, carries the hash of its arrays, and is read with bounds and a clear error.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuro.beside import write_beside

Arrays = dict[str, npt.NDArray[Any]]

MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 64 * 2**20
MAX_ARRAY_BYTES = 8 * 2**30


class PackageError(ValueError):
    """A saved file that cannot be read: says which, what is wrong with it and what to do."""


def digest(manifest: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """SHA-256 (hex) over the canonical JSON of ``manifest`` and dtype, shape and bytes of each array."""
    h = hashlib.sha256(json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(arrays):
        a = np.ascontiguousarray(arrays[name])
        h.update(f"{name}:{a.dtype.str}:{a.shape}".encode())
        h.update(a.tobytes())
    return h.hexdigest()


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write ``data`` beside ``path`` and rename: a reader sees the old file or the new one, never half."""
    path = Path(path)
    write_beside(path, lambda out: out.write(data))
    return path


def write_text(path: str | Path, text: str) -> Path:
    """:func:`write_bytes` for UTF-8 text."""
    return write_bytes(path, text.encode())


def write_package(path: str | Path, manifest: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> Path:
    """Save ``manifest`` (JSON data with a ``format`` key) and ``arrays`` as one ``.npz``.

    Errors: ``ValueError`` for an array that would need pickle.
    """
    for name, a in arrays.items():
        if a.dtype.hasobject:
            raise ValueError(f"array '{name}' has dtype object, which needs pickle; make it a numeric array")
    stamped = dict(manifest) | {"sha256": digest(manifest, arrays)}
    return write_bytes(path, _zip(arrays, {MANIFEST: json.dumps(stamped, indent=1).encode()}))


def write_npz(path: str | Path, arrays: Mapping[str, npt.NDArray[Any]]) -> Path:
    """Plain ``.npz`` of arrays, written beside and renamed; equal arrays give equal files."""
    return write_bytes(path, _zip(arrays, {}))


def read_manifest(path: str | Path) -> dict[str, Any]:
    """The manifest alone, to see what a file is. Errors: :class:`PackageError`."""
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as z:
            return _manifest(z, path)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise _broken(path, error) from None


def read_package(path: str | Path, expect: str) -> tuple[dict[str, Any], Arrays]:
    """Load what :func:`write_package` wrote, checked against its hash.

    ``expect`` is the ``format`` that the caller reads. Errors: :class:`PackageError`, naming the file.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as z:
            manifest = _manifest(z, path)
            if manifest.get("format") != expect:
                raise PackageError(f"{path}: holds '{manifest.get('format')}', expected '{expect}'")
            size = sum(i.file_size for i in z.infolist())
            if size > MAX_ARRAY_BYTES:
                raise PackageError(f"{path}: unpacks to {size} bytes, over the limit of {MAX_ARRAY_BYTES}")
            arrays = {
                i.filename.removesuffix(".npy"): np.load(io.BytesIO(z.read(i)), allow_pickle=False)
                for i in z.infolist()
                if i.filename != MANIFEST
            }
    except PackageError:
        raise
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, KeyError) as error:
        raise _broken(path, error) from None
    claimed = manifest.pop("sha256", None)
    if claimed != digest(manifest, arrays):
        raise PackageError(f"{path}: content does not match its hash; the file was changed or damaged, export it again")
    return manifest, arrays


def _zip(arrays: Mapping[str, npt.NDArray[Any]], extra: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as z:
        for name, data in extra.items():
            _entry(z, name, data)
        for name in sorted(arrays):
            a = io.BytesIO()
            np.save(a, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            _entry(z, f"{name}.npy", a.getvalue())
    return buffer.getvalue()


def _entry(z: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))  # fixed: equal values give equal files
    info.compress_type = zipfile.ZIP_DEFLATED
    z.writestr(info, data)


def _manifest(z: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        info = z.getinfo(MANIFEST)
    except KeyError:
        raise PackageError(f"{path}: no {MANIFEST} inside; not a spikeport file") from None
    if info.file_size > MAX_MANIFEST_BYTES:
        raise PackageError(f"{path}: manifest of {info.file_size} bytes is over {MAX_MANIFEST_BYTES}")
    manifest = json.loads(z.read(info))
    if not isinstance(manifest, dict):
        raise PackageError(f"{path}: manifest is not a JSON object")
    return manifest


def _broken(path: Path, error: Exception) -> PackageError:
    if isinstance(error, FileNotFoundError):
        return PackageError(f"{path}: no such file")
    return PackageError(
        f"{path}: cannot be read ({error}); the file is truncated or no spikeport file, export it again"
    )
