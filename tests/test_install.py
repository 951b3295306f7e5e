"""The wheel in a fresh environment, outside the checkout: base install simulates, without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export import Flatten, Input, Linear, Network, Output, Spiking
from neuro.neuron import Law, Tau

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}


def call(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with nothing but the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("base")
    call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT, cwd=folder)
    call(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    wheel = next(folder.glob("spikeport-*.whl"))
    python = folder / "venv" / "bin" / "python"
    call(python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=folder)
    return folder


def network() -> Network:
    rng = np.random.default_rng(0)
    weight = rng.normal(0.1, 0.3, (3, 16)).astype(np.float32)
    return Network.sequential(
        {"in": Input((1, 4, 4)), "flat": Flatten(), "fc": Linear(weight), "out": Spiking(Law(Tau(2.0))), "y": Output()}
    )


@pytest.mark.install
@pytest.mark.slow
def test_base_install_runs_a_network(base: Path) -> None:
    python, command = base / "venv" / "bin" / "python", base / "venv" / "bin" / "spikeport"
    network().save(base / "net.npz")
    x = (np.random.default_rng(1).random((5, 6, 1, 4, 4)) < 0.5).astype(np.float32)
    np.savez(base / "x.npz", x=x)

    for machine in ("float", "loihi", "loihi-reference"):
        call(command, "run", "net.npz", "--on", machine, "--input", "x.npz", "-o", f"run-{machine}", cwd=base)
        run = json.loads((base / f"run-{machine}" / "run.json").read_text())
        assert run["counts"]["spikes"]["out"] > 0
    with np.load(base / "run-loihi" / "run.npz") as a, np.load(base / "run-loihi-reference" / "run.npz") as b:
        assert (a["y"] == b["y"]).all()

    call(command, "report", "run-float", "run-loihi", "-o", "report", cwd=base)
    assert (base / "report" / "report.html").stat().st_size > 10_000
    out = call(command, "machines", cwd=base)
    assert "onnx" in out
    assert "spikeport[edge]" in out
    places = call(python, "-c", "import neuro, hardware, export, sim; print(sim.__file__)", cwd=base)
    assert str(base) in places, "the wheel's packages, not the checkout's"


@pytest.mark.install
@pytest.mark.slow
def test_base_install_has_no_torch(base: Path) -> None:
    python = base / "venv" / "bin" / "python"
    names = {p["name"].lower() for p in json.loads(call(python, "-m", "pip", "list", "--format=json", cwd=base))}
    assert not names & {"torch", "onnx", "onnxruntime", "spikingjelly"}
    assert {"spikeport", "numpy", "numba"} <= names
