"""A Network in a file: damaged, changed or foreign files are refused, nothing is unpickled."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import Edge, Input, Linear, Network, NetworkError, Output, Spiking
from export.package import PackageError, read_package, write_package
from neuro.neuron import Law, Tau


def network() -> Network:
    weight = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    nodes = {"in": Input((4,)), "fc": Linear(weight), "s": Spiking(Law(Tau(2.0))), "out": Output()}
    return Network(nodes, [Edge("in", "fc"), Edge("fc", "s"), Edge("s", "out")])


def rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The same package with another manifest and a hash that fits it."""
    manifest, arrays = read_package(path, "spikeport-network")
    change(manifest)
    return write_package(path, manifest, arrays)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = network().save(tmp_path / "net.npz")
    whole = path.read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:cut])
        with pytest.raises(PackageError, match=r"net\.npz: cannot be read .*export it again"):
            Network.load(path)
    with pytest.raises(PackageError, match="no such file"):
        Network.load(tmp_path / "absent.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(PackageError, match="not a spikeport file"):
        Network.load(tmp_path / "other.npz")


def test_changed_content_does_not_match_its_hash(tmp_path: Path) -> None:
    path = network().save(tmp_path / "net.npz")
    with zipfile.ZipFile(path) as z:
        parts = {n: z.read(n) for n in z.namelist()}
    manifest = json.loads(parts["manifest.json"])
    manifest["dt_s"] = 5e-3
    with zipfile.ZipFile(path, "w") as z:
        for name, data in parts.items():
            z.writestr(name, json.dumps(manifest) if name == "manifest.json" else data)
    with pytest.raises(PackageError, match="does not match its hash"):
        Network.load(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(version=99), "version 99, this spikeport reads 1"),
        (lambda m: m["nodes"][1].update(kind="lstm"), "node kind 'lstm' is unknown"),
        (lambda m: m["nodes"][2]["law"].update(threshold=-1.0), "Law.threshold"),
        (lambda m: m["nodes"][2]["law"]["charge"].update(kind="izhikevich"), "'izhikevich' is unknown"),
        (lambda m: m.pop("edges"), "is not that of a network"),
        (lambda m: m["edges"].append(["s", "fc", 0]), "cycle without delay"),
    ],
)
def test_manifest_of_another_kind_is_refused(tmp_path: Path, change: Any, says: str) -> None:
    path = rewritten(network().save(tmp_path / "net.npz"), change)
    with pytest.raises(NetworkError, match=says):
        Network.load(path)


def test_object_arrays_are_never_unpickled(tmp_path: Path) -> None:
    path = network().save(tmp_path / "net.npz")
    with zipfile.ZipFile(path) as z:
        parts = {n: z.read(n) for n in z.namelist()}
    np.save(tmp_path / "evil.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    parts["fc.weight.npy"] = (tmp_path / "evil.npy").read_bytes()
    with zipfile.ZipFile(path, "w") as z:
        for name, data in parts.items():
            z.writestr(name, data)
    with pytest.raises(PackageError, match="cannot be read"):
        Network.load(path)
