"""Two local processes against one with the same batch, and against torch's own DistributedDataParallel rule by hand."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
import training_programs as programs

from neuro.distributed import ALONE, processes
from neuro.train import train

ROOT = Path(__file__).resolve().parent.parent


def launched(count: int, command: list[str]) -> subprocess.CompletedProcess[str]:
    """A Python program under torchrun, on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--nnodes=1", f"--nproc-per-node={count}", "--master-addr=127.0.0.1", f"--master-port={port}"]
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *where, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def torchrun(folder: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Two processes of the program."""
    folder.mkdir(exist_ok=True)
    return launched(2, [programs.__file__, "weights", str(folder), json.dumps(settings)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "scale"),
    [("sltt", {}), ("bptt", {"accumulate": 3, "clip": 0.05})],
)
def test_two_processes_are_one(tmp_path: Path, method: str, scale: dict[str, Any]) -> None:
    """50 samples in batches of 7: the last batch has one row, so one process has none; early stop, tables, files."""
    settings: dict[str, Any] = {"method": method, "batch": 7, "noisy": False, "scale": scale}
    done, net = programs.run(tmp_path / "one", **settings)
    ran = torchrun(tmp_path / "two", **settings)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    both = [json.loads((tmp_path / "two" / f"done-{rank}.json").read_text()) for rank in (0, 1)]
    assert both[0] == both[1]
    for name in ("loss", "valid", "accuracy", "test_accuracy"):
        np.testing.assert_allclose(both[0][name], getattr(done, name), rtol=0, atol=1e-6)
    np.testing.assert_allclose(both[0]["loss"], done.loss, rtol=0, atol=1e-11)
    assert done.loss[-1] < done.loss[0] - 0.01
    for name, value in net.state_dict().items():
        np.testing.assert_allclose(both[0]["weights"][name], value, rtol=0, atol=1e-9)
    assert sorted(p.name for p in (tmp_path / "two").glob("*run*")) == ["run.csv", "run.pt"]
    assert len((tmp_path / "two" / "run.csv").read_text().splitlines()) == 5
    # what two processes have written one goes on from, as it stands at an epoch's end
    again, _ = programs.run(tmp_path / "two", **settings)
    assert again.loss == both[0]["loss"]


@pytest.mark.slow
def test_noisy_processes_go_on_within_an_epoch_to_the_same_bits(tmp_path: Path) -> None:
    """Dropout and noise differ by process, so each one's generator must be put back."""
    settings: dict[str, Any] = {"batch": 10, "epochs": 2, "scale": {"checkpoint_batches": 3}}
    quiet, stopped = tmp_path / "quiet", tmp_path / "stopped"
    ran = torchrun(quiet, **settings)
    assert ran.returncode == 0, ran.stderr
    ran = torchrun(stopped, **settings, stop_after=4 * 9 + 1)  # in batch 10 of 2 epochs of 5, 4 steps each
    assert ran.returncode != 0
    saved = torch.load(stopped / "run.pt", weights_only=True)
    assert saved["within"]["batches"] == 3
    random = saved["within"]["random"]
    assert len(random) == 2
    assert not torch.equal(random[0][0], random[1][0])
    with pytest.raises(ValueError, match=r"within an epoch of 2 process"):
        programs.run(stopped, **settings)
    ran = torchrun(stopped, **settings)
    assert ran.returncode == 0, ran.stderr
    for rank in (0, 1):
        file = f"done-{rank}.json"
        assert json.loads((stopped / file).read_text()) == json.loads((quiet / file).read_text())


def test_share_of_each_process_by_hand() -> None:
    """sum_r (n_r / n) grad_r is the gradient of the whole batch's mean: torch's autograd, 5 rows in 2 parts."""
    torch.manual_seed(0)
    layer, x, y = nn.Linear(4, 3).double(), torch.randn(5, 4).double(), torch.tensor([0, 1, 2, 1, 0])

    def gradient(rows: slice) -> Tensor:
        layer.zero_grad()
        nn.functional.cross_entropy(layer(x[rows]), y[rows]).backward()
        assert layer.weight.grad is not None
        return layer.weight.grad.clone()

    parts = 3 / 5 * gradient(slice(0, 3)) + 2 / 5 * gradient(slice(3, 5))
    torch.testing.assert_close(parts, gradient(slice(0, 5)), rtol=0, atol=1e-15)


def test_alone_unless_started_as_one_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    cpu = torch.device("cpu")
    assert processes(None, cpu) is ALONE
    with pytest.raises(ValueError, match="torchrun"):
        train(
            programs.network(noisy=False), programs.data(), method=programs.METHODS["bptt"], epochs=1, distributed=True
        )
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert processes(None, cpu) is ALONE
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes(False, cpu) is ALONE


@pytest.mark.slow
def test_example_has_the_curve_of_one(tmp_path: Path) -> None:
    alone, two = tmp_path / "alone", tmp_path / "two"
    example = str(ROOT / "examples" / "ddp.py")
    one = subprocess.run(
        [sys.executable, example, str(alone), "2"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert one.returncode == 0, one.stderr
    ran = launched(2, [example, str(two), "2"])
    assert ran.returncode == 0, ran.stderr
    a, b = (np.genfromtxt(folder / "ddp.csv", delimiter=",", names=True) for folder in (alone, two))
    np.testing.assert_allclose(b["loss"], a["loss"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(b["test_accuracy"], a["test_accuracy"], rtol=0, atol=1e-6)
    assert a["loss"][1] < a["loss"][0]
    assert ran.stdout.count("2 process(es), epoch") == 2
