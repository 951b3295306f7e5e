"""The commands as a user types them, in a process of their own: files, messages, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from export import Conv2d, Flatten, Input, Linear, Network, Output, Spiking
from neuro.neuron import Law, Tau

RNG = np.random.default_rng(0)
LIF = Law(Tau(2.0, decay_input=False))


def spikeport(*args: str | Path, cwd: Path, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sim.cli", *map(str, args)], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A network and an input in a folder, and the folder."""
    Network.sequential(
        {
            "in": Input((1, 6, 6)),
            "conv": Conv2d(RNG.normal(0.1, 0.4, (3, 1, 3, 3)).astype(np.float32)),
            "lif1": Spiking(LIF),
            "flat": Flatten(),
            "fc": Linear(RNG.normal(0.05, 0.3, (4, 48)).astype(np.float32)),
            "lif2": Spiking(LIF),
            "out": Output(),
        },
        name="small",
    ).save(tmp_path / "net.npz")
    x = (RNG.random((6, 5, 1, 6, 6)) < 0.4).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x, labels=np.arange(6) % 4)
    return tmp_path


def test_help_teaches(tmp_path: Path) -> None:
    text = spikeport("--help", cwd=tmp_path)
    for command in ("train", "export", "run", "report", "machines"):
        assert command in text
        assert "--help" in spikeport(command, "--help", cwd=tmp_path)


def test_export_run_report(folder: Path) -> None:
    for kind, file, machines in (
        ("loihi", "chip.npz", ("loihi", "loihi-reference")),
        ("onnx", "net.onnx", ("onnx",)),
    ):
        assert file in spikeport("export", "net.npz", "--to", kind, "-o", file, cwd=folder)
        for machine in machines:
            spikeport("run", file, "--on", machine, "--input", "x.npz", "-o", f"run-{machine}", cwd=folder)
    spikeport("run", "net.npz", "--on", "float", "--input", "x.npz", "-o", "run-float", cwd=folder)
    y = {}
    for machine in ("float", "onnx", "loihi", "loihi-reference"):
        with np.load(folder / f"run-{machine}" / "run.npz", allow_pickle=False) as z:
            y[machine] = z["y"]
        assert y[machine].shape == (6, 5, 4)
        facts = json.loads((folder / f"run-{machine}" / "run.json").read_text())
        assert facts["counts"]
        assert facts["versions"]["spikeport"]
    assert 0.005 < y["float"].mean() < 0.9
    assert (y["float"] == y["onnx"]).all()
    assert (y["loihi"] == y["loihi-reference"]).all()
    shown = spikeport("report", "run-float", "run-onnx", "run-loihi", "-o", "out", cwd=folder)
    assert "loihi1_davies2018" in shown
    assert json.loads((folder / "out" / "report.json").read_text())
    assert "<html" in (folder / "out" / "report.html").read_text()


def test_input_without_time_axis_is_repeated(folder: Path) -> None:
    np.savez(folder / "still.npz", x=np.ones((2, 1, 6, 6), np.float32))
    args = ("run", "net.npz", "--on", "float", "--input", "still.npz", "--steps", "3", "-o", "r")
    spikeport(*args, cwd=folder)
    with np.load(folder / "r" / "run.npz") as z:
        assert z["y"].shape == (2, 3, 4)


def test_machines_lists_engines_and_tables(tmp_path: Path) -> None:
    text = spikeport("machines", cwd=tmp_path)
    for name in ("loihi", "loihi-reference", "onnx", "sfq", "sfq-pulse", "float", "loihi1_davies2018", "sfq_rsfq"):
        assert name in text


def test_user_errors_are_one_line_with_the_fix(folder: Path) -> None:
    (folder / "short.npz").write_bytes((folder / "net.npz").read_bytes()[:300])
    cases = {
        ("run", "short.npz", "--on", "float", "-o", "r"): "export it again",
        ("run", "none.npz", "--on", "float", "-o", "r"): "no such file",
        ("run", "net.npz", "--on", "abacus", "--input", "x.npz", "-o", "r"): "no machine 'abacus'",
        ("export", "net.npz", "--to", "paper", "-o", "p"): "no exporter to 'paper'",
        ("run", "net.npz", "--on", "float", "--input", "net.npz", "-o", "r"): "array 'x'",
        ("report", "nowhere", "-o", "r"): "run the program again",
    }
    for args, message in cases.items():
        text = spikeport(*args, cwd=folder, code=2)
        assert message in text, text
        assert text.count("\n") == 1, text


def test_running_a_saved_program_does_not_import_torch(folder: Path) -> None:
    code = (
        "import sys\nfrom sim.engines import compile_for, load, run\nimport numpy as np\n"
        "net = load('net.npz')[1]\nx = np.load('x.npz')['x']\n"
        "for kind, file, on in (('loihi', 'c.npz', 'loihi'), ('onnx', 'c.onnx', 'onnx')):\n"
        "    compile_for(kind, net).save(file)\n    run(load(file)[1], x, on)\n"
        "print([m for m in ('torch', 'spikingjelly') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert out == "[]\n"
