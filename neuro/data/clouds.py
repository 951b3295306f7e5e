"""Point clouds in ``.npz`` tables: lidar scenes with ground labels, and surfaces of five shapes in two poses.

Sources: Sithole, Vosselman 2004, ISPRS J. Photogramm. 59 (15 scenes, filter test); the shapes and both sets' points as
Point Cloud Library keeps them (github.com/PointCloudLibrary/data, BSD-3-Clause).
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuro.data.files import npz_columns, reading
from neuro.data.folder import data_folder

Points = npt.NDArray[np.float32]
_MOST_BYTES = 2**30


def lidar_terrain(path: str | Path | None = None) -> dict[str, tuple[Points, npt.NDArray[np.bool_]]]:
    """Scenes by name: points ``(n, 3)`` in metres, and which of them are ground ``(n,)``.

    By default of ``$SPIKEPORT_DATA/lidar_terrain/terrain.npz``. Errors: ``ValueError`` naming the file.
    """
    path = data_folder("lidar_terrain") / "terrain.npz" if path is None else path
    with reading(path, "table of lidar scenes"):
        tables = _all(path)
        scenes = sorted(n.removesuffix("_xyz") for n in tables if n.endswith("_xyz"))
        out = {}
        for name in scenes:
            ground = tables.get(f"{name}_ground", np.zeros(0))
            points = _points(name, tables[f"{name}_xyz"])
            if ground.dtype != np.bool_ or ground.shape != points.shape[:1]:
                raise ValueError(f"{name}: {len(points)} points and {ground.shape} {ground.dtype} labels of ground")
            out[name] = (points, ground)
        if not out:
            raise ValueError("no <scene>_xyz in it")
        return out


def shapes(path: str | Path | None = None) -> dict[str, dict[str, Points]]:
    """``{"train": {"cat": (n, 3), ...}, "test": ...}``, one pose each.

    By default of ``$SPIKEPORT_DATA/shapes_ism/shapes_ism.npz``. Errors: ``ValueError`` naming the file.
    """
    path = data_folder("shapes_ism") / "shapes_ism.npz" if path is None else path
    with reading(path, "table of shapes"):
        tables = _all(path)
        out = {
            split: {n.partition("_")[2]: _points(n, a) for n, a in sorted(tables.items()) if n.startswith(f"{split}_")}
            for split in ("train", "test")
        }
        if not out["train"] or out["train"].keys() != out["test"].keys():
            raise ValueError(f"poses of {sorted(out['train'])} and {sorted(out['test'])}, the same shapes are wanted")
        return out


def _all(path: str | Path) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(path) as archive:
        names = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
    return npz_columns(path, names, _MOST_BYTES)


def _points(name: str, a: npt.NDArray[Any]) -> Points:
    if a.ndim != 2 or a.shape[1] != 3 or a.dtype.kind != "f" or not len(a) or not np.isfinite(a).all():
        raise ValueError(f"{name}: points must be finite floats (n, 3), got {a.dtype} {a.shape}")
    return a.astype(np.float32)
