"""Saved files: whole, hashed, bounded, refused with the fix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.package import PackageError, read_package, write_package
from sim.run import Run

ARRAYS = {"w": np.arange(6, dtype=np.int32).reshape(2, 3), "b": np.array([0.5, -1.0])}


def saved(folder: Path) -> Path:
    return write_package(folder / "a.npz", {"format": "thing", "n": 1}, ARRAYS)


def test_round_trip(tmp_path: Path) -> None:
    manifest, arrays = read_package(saved(tmp_path), "thing")
    assert manifest == {"format": "thing", "n": 1}
    assert all((arrays[k] == v).all() and arrays[k].dtype == v.dtype for k, v in ARRAYS.items())
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_equal_values_give_equal_files(tmp_path: Path) -> None:
    one, two = (
        saved(tmp_path),
        write_package(tmp_path / "b.npz", {"n": 1, "format": "thing"}, dict(reversed(ARRAYS.items()))),
    )
    assert one.read_bytes() != b""
    assert read_package(one, "thing")[0] == read_package(two, "thing")[0]


@pytest.mark.parametrize("keep", [0, 10, 200, -10])
def test_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(PackageError, match=r"a\.npz.*export it again"):
        read_package(path, "thing")


def test_changed_content_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with np.load(path) as z:
        manifest = bytes(z["manifest.json"]) if isinstance(z["manifest.json"], bytes) else z["manifest.json"]
    import zipfile

    with zipfile.ZipFile(path, "w") as out:
        out.writestr("manifest.json", manifest)
        out.writestr("w.npy", b"garbage")
    with pytest.raises(PackageError):
        read_package(path, "thing")
    np.savez(path, w=np.zeros(3))
    with pytest.raises(PackageError, match=r"no manifest\.json"):
        read_package(path, "thing")


def test_hash_guards_the_arrays(tmp_path: Path) -> None:
    import json
    import zipfile

    path = saved(tmp_path)
    with zipfile.ZipFile(path) as z:
        entries = {n: z.read(n) for n in z.namelist()}
    manifest = json.loads(entries["manifest.json"])
    manifest["n"] = 2
    with zipfile.ZipFile(path, "w") as out:
        for name, data in entries.items():
            out.writestr(name, json.dumps(manifest) if name == "manifest.json" else data)
    with pytest.raises(PackageError, match="does not match its hash"):
        read_package(path, "thing")


def test_wrong_format_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="holds 'thing', expected 'other'"):
        read_package(saved(tmp_path), "other")
    with pytest.raises(PackageError, match="no such file"):
        read_package(tmp_path / "none.npz", "thing")


def test_objects_need_pickle_and_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dtype object"):
        write_package(tmp_path / "o.npz", {"format": "t"}, {"a": np.array([{}], dtype=object)})
    assert not list(tmp_path.iterdir())


def test_run_round_trip_and_broken(tmp_path: Path) -> None:
    run = Run(
        "float", np.ones((2, 3, 4), np.int8), {"spikes": {"a": 7}}, 2, 3, 1e-3, probes={"a.s": np.zeros((2, 3, 5))}
    )
    back = Run.load(run.save(tmp_path / "r"))
    assert back.to_dict() == run.to_dict()
    assert (back.y == run.y).all()
    assert (back.probes["a.s"] == 0).all()
    (tmp_path / "r" / "run.npz").write_bytes(b"PK")
    with pytest.raises(PackageError, match="run the program again"):
        Run.load(tmp_path / "r")
