"""Checkpoints under real kills and signals; the same bits after any of them; tables without a line too many."""

from __future__ import annotations

import builtins
import csv
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))
import training_programs as programs

from neuro.beside import write_beside
from neuro.checkpoint import described
from neuro.methods.bptt import BPTT
from neuro.metrics import COLUMNS, Csv, TensorBoard, Training
from neuro.train import Scale, evaluate, softmax_total, train

PROGRAM = str(Path(programs.__file__))
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As the children run: sums of a matrix product depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def start(what: str, folder: Path, **settings: Any) -> subprocess.Popen[str]:
    """The program in a process, begun to train."""
    child = subprocess.Popen(
        [sys.executable, PROGRAM, what, str(folder), json.dumps(settings)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "started\n"
    return child


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


SETTINGS: dict[str, Any] = {"epochs": 15, "width": 300, "scale": {"checkpoint_batches": 1}}


@pytest.mark.slow
def test_kills_at_any_moment_lose_nothing(tmp_path: Path) -> None:
    """SIGKILL again and again while it writes after every batch, 1 MB each; it ends with the bits of a quiet run."""
    quiet, quiet_net = programs.run(tmp_path / "quiet", **SETTINGS)
    folder, rng = tmp_path / "killed", random.Random(0)
    folder.mkdir()
    file, kills, within = folder / "run.pt", 0, 0
    while not (folder / "done-0.json").exists():
        before = file.stat().st_mtime_ns if file.exists() else 0
        child = start("history", folder, **SETTINGS)
        while child.poll() is None and (not file.exists() or file.stat().st_mtime_ns == before):
            time.sleep(0.001)  # until it has written once more
        time.sleep(0.1 * rng.random())
        if kills < 4 and child.poll() is None:
            child.kill()
            kills += 1
        _, err = child.communicate()
        assert child.returncode in (0, -signal.SIGKILL), err
        within += bool(torch.load(file, weights_only=True)["within"]["batches"])  # whole after every kill
    assert kills >= 3
    assert within >= 1
    assert not list(folder.glob(".run*")), "what killed runs left is swept"
    done, net = programs.run(folder, **SETTINGS)
    assert done == quiet
    assert same(net, quiet_net)
    assert table(folder / "run.csv") == table(tmp_path / "quiet" / "run.csv")
    assert len(table(folder / "run.csv")) == 15


def test_kill_in_mid_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A child writes 64 MB files over and over; wherever the kill falls, the file is one of those, whole."""
    code = (
        "import sys; from pathlib import Path; from neuro.beside import write_beside\n"
        "k = 0\n"
        "while True:\n"
        "    k = (k + 1) % 256\n"
        "    write_beside(Path(sys.argv[1]), lambda f: [f.write(bytes([k]) * 2**20) for _ in range(64)])\n"
        "    print(k, flush=True)\n"
    )
    file, left = tmp_path / "big.bin", 0
    for wait in (0.0, 0.01, 0.03, 0.06):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(file)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(wait)
        child.kill()
        child.communicate()
        content = file.read_bytes()
        assert len(content) == 64 * 2**20
        assert content == content[:1] * len(content)
        left += len(list(tmp_path.glob(".big.bin.*.part")))
    assert left, "no kill fell into a write"


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(b"old")

    def full(_: Any) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        write_beside(file, full)
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 128 + 15)])
def test_signal_saves_and_stops(tmp_path: Path, number: int, code: int) -> None:
    settings = {"epochs": 3000}
    child = start("history", tmp_path, **settings)
    end = time.monotonic() + 60
    while not (tmp_path / "run.pt").exists() and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(0.1)
    child.send_signal(number)
    _, err = child.communicate(timeout=60)
    assert child.returncode in (code, 128 + number), err
    assert ("KeyboardInterrupt" in err) == (number == signal.SIGINT)
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    assert len(saved["history"]["loss"]) >= 1
    assert len(table(tmp_path / "run.csv")) == len(saved["history"]["loss"])


@pytest.mark.parametrize("batch", [0, 2, 6])
@pytest.mark.parametrize("method", ["sltt", "bptt"])
def test_stopped_within_an_epoch_it_goes_on_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, method: str
) -> None:
    """The signal comes in the given batch of the second epoch: 7 batches, dropout, noise, an annealed buffer."""
    whole, whole_net = programs.run(tmp_path / "whole", method=method)
    folder = tmp_path / "parts"
    seen = [0]
    real = programs.METHODS[method]

    class Interrupting:
        def __call__(self, *args: Any) -> Any:
            seen[0] += 1
            if seen[0] == 7 + batch + 1:
                os.kill(os.getpid(), signal.SIGINT)
            return real(*args)

        def __str__(self) -> str:
            return str(real)

    monkeypatch.setitem(programs.METHODS, method, Interrupting())
    monkeypatch.setattr("neuro.loop.described", lambda value: str(value))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        programs.run(folder, method=method)
    assert signal.getsignal(signal.SIGINT) is before
    saved = torch.load(folder / "run.pt", weights_only=True)
    assert saved["within"]["batches"] == batch + 1
    monkeypatch.undo()
    monkeypatch.setattr("neuro.loop.described", lambda value: str(value))
    done, net = programs.run(folder, method=method)
    assert done == whole
    assert same(net, whole_net)
    assert float(net[2].sigma) == pytest.approx(0.5 / 2**done.best_epoch)
    assert table(folder / "run.csv") == table(tmp_path / "whole" / "run.csv")


def test_float16_scale_goes_through_the_checkpoint(tmp_path: Path) -> None:
    """torch doubles the factor after 2000 good steps; here it is one that only the checkpoint can know."""
    settings = {"noisy": False, "scale": {"amp": torch.float16}}
    programs.run(tmp_path, **settings)
    saved = torch.load(tmp_path / "run.pt", weights_only=True)
    assert saved["scaler"]["scale"] == 65536.0
    assert saved["scaler"]["_growth_tracker"] == 28
    saved["scaler"]["scale"] = 4.0
    saved["history"] = {k: v[:2] for k, v in saved["history"].items()}
    torch.save(saved, tmp_path / "run.pt")
    programs.run(tmp_path, **settings)
    assert torch.load(tmp_path / "run.pt", weights_only=True)["scaler"]["scale"] == 4.0
    with pytest.raises(ValueError, match=r"amp was torch\.float16 and is None"):
        programs.run(tmp_path, noisy=False)


def test_function_settings_are_the_same_in_every_process() -> None:
    assert "0x" not in described(BPTT(softmax_total))
    assert described(BPTT(softmax_total)) == "BPTT(readout=softmax_total)"
    assert described(BPTT(softmax_total)) != described(BPTT())


def test_table_is_cut_filled_and_appended(tmp_path: Path) -> None:
    """Two epochs are done; a kill left a line too many and half of another."""
    numbers = [0.1 + 0.2, 1.0 / 3.0]
    nothing = [math.nan] * 2
    done = Training(*(list(v) for v in (numbers, numbers, nothing, nothing, numbers, numbers)))
    path = tmp_path / "m" / "run.csv"
    sink = Csv(path)
    sink.begin(Training())
    assert path.read_text() == ",".join(("epoch", *COLUMNS)) + "\n"
    sink.begin(done)
    with path.open("a") as file:
        file.write("3,1,1,,,1,1\n4,0.12")
    Csv(path).begin(done)
    rows = table(path)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [float(row["loss"]) for row in rows] == numbers
    assert rows[0]["valid"] == ""
    for values in (getattr(done, name) for name in COLUMNS):
        values.append(0.5)
    sink.epoch(done)
    assert path.read_text().endswith("3,0.5,0.5,0.5,0.5,0.5,0.5\n")
    (tmp_path / "other.csv").write_text("name,price\nx,1\n")
    with pytest.raises(ValueError, match="no table of training metrics"):
        Csv(tmp_path / "other.csv").begin(Training())
    assert (tmp_path / "other.csv").read_text() == "name,price\nx,1\n"


def test_tensorboard_reads_what_is_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    net = programs.network(noisy=False)
    options: dict[str, Any] = {"method": BPTT(), "loss": programs.loss, "checkpoint": tmp_path / "run.pt"}

    def stop(epoch: int, *_: Any) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(net, programs.data(), epochs=3, metrics=[TensorBoard(tmp_path / "tb")], progress=stop, **options)
    time.sleep(1.1)  # files of events are named by the second
    board = TensorBoard(tmp_path / "tb")
    done = train(net, programs.data(), epochs=3, resume=True, metrics=[board], **options)
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "accuracy", "rate", "seconds"}
    scalars = events.Scalars("loss")
    assert [e.step for e in scalars] == [1, 2, 3]
    assert [e.value for e in scalars] == pytest.approx(done.loss, rel=1e-6)


def test_missing_tensorboard_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if "tensorboard" in name:
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        TensorBoard(tmp_path)


def test_phases_go_on_with_one_network(tmp_path: Path) -> None:
    """Several trainings of one network, each with its own checkpoint, as staged methods do."""
    net = programs.network(noisy=True)
    for phase in range(3):
        before = {k: v.clone() for k, v in net.state_dict().items()}
        options: dict[str, Any] = {"checkpoint": tmp_path / f"{phase}.pt", "resume": True, "loss": programs.loss}
        done = train(net, programs.data(), method=BPTT(), epochs=2, scale=Scale(checkpoint_s=0.001), **options)
        assert done.epochs == 2
        assert any(not torch.equal(before[k], v) for k, v in net.state_dict().items())
    again = programs.network(noisy=True, seed=9)
    train(again, programs.data(), method=BPTT(), epochs=2, **options)
    assert same(net, again)
    assert evaluate(again, *programs.data()) == evaluate(net, *programs.data())
