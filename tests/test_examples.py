"""The examples, as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neuro.data.folder import data_folder

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_digits_walks_the_whole_way(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "examples" / "digits.py", tmp_path / "out"]
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    report = json.loads((out / "report.json").read_text())
    assert report
    html = (out / "report.html").read_text()
    for part in ("loihi1_davies2018", "cmos45_horowitz2014", "sfq_rsfq", "<svg"):
        assert part in html, part

    y = {m: np.load(out / "digits" / f"run-{m}" / "run.npz") for m in ("torch", "onnx", "loihi")}
    labels = y["torch"]["labels"]
    assert len(labels) > 300
    for machine, run in y.items():
        accuracy = (run["y"].sum(axis=1).argmax(axis=1) == labels).mean()
        assert accuracy >= 0.95, f"{machine}: {accuracy}"
    for name in y["torch"].files:
        if name.endswith(".s"):
            rate = y["torch"][name].mean()
            assert 0.005 < rate < 0.9, f"{name} fires at {rate}"
            assert (y["torch"][name] == y["onnx"][name]).all(), f"{name} differs between torch and onnx"

    with np.load(out / "xor" / "run-sfq" / "run.npz") as z:
        answers = (z["y"].sum(axis=(1, 2)) > 0).astype(int)
        assert (answers == z["labels"]).all()
        assert set(z["labels"]) == {0, 1}


@pytest.mark.slow
def test_cartpole_is_balanced_by_the_chip(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, ROOT / "examples" / "cartpole.py", out]
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in ("p99", "real-time factor, here", "real-time factor, modelled chip", "equal bit for bit"):
        assert part in done.stdout, part
    loop = json.loads((out / "loop.json").read_text())
    assert len(loop["returns"]) == 20
    assert np.mean(loop["returns"]) >= 475  # reward_threshold of gymnasium's registry
    assert loop["complete"]
    assert 0 < loop["chip_s"]["p50"] < 0.02
    assert 0 < loop["wall_s"]["act"]["p50"] <= loop["wall_s"]["act"]["p99"]
    assert "loihi1_davies2018" in (out / "report.html").read_text()


@pytest.mark.slow
def test_a_signal_is_followed_better_than_by_p_and_pi(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, ROOT / "examples" / "follow.py", out]
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "loihi-reference: equal bit for bit" in done.stdout
    errors = json.loads((out / "loop.json").read_text())["figures"]
    chip, p, pi, teacher = (errors[f"tracking error (rms), {k}"] for k in ("chip", "P", "PI", "teacher"))
    assert teacher < pi < p
    assert chip < pi
    assert chip < 1.1 * teacher


@pytest.mark.slow
def test_sfq_xor_has_both_levels_and_margins(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, ROOT / "examples" / "sfq_xor.py", out]
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("64 of 64 corners work") == 2
    for polarity in ("both", "single"):
        counts = [np.load(out / f"run-{m}-{polarity}" / "run.npz")["y"].sum(axis=(1, 2)) for m in ("sfq", "sfq-pulse")]
        assert (counts[0] == counts[1]).all()
        assert (counts[0][[0, 3]] == 0).all()
        assert (counts[0][[1, 2]] >= 3).all()
        assert json.loads((out / f"margins-{polarity}.json").read_text())["critical"]["margin"] >= 0.15


@pytest.mark.slow
def test_sfq_digits_run_as_pulses(tmp_path: Path) -> None:
    """Twelve epochs and sixty samples: most digits are right, and junctions count as pulses do, to two spikes."""
    out = tmp_path / "out"
    command = [sys.executable, ROOT / "examples" / "sfq_digits.py", out, 12, 60]
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    y, labels = (np.load(out / "run-sfq-pulse" / "run.npz")[k] for k in ("y", "labels"))
    assert (y.sum(axis=1).argmax(axis=1) == labels).mean() >= 0.75
    assert "junction level decides" in done.stdout
    deep = np.load(out / "run-sfq" / "run.npz")["y"].sum(axis=1)
    assert deep.sum() > 10
    assert np.abs(deep - y[: len(deep)].sum(axis=1)).max() <= 2


@pytest.mark.slow
def test_sltt_on_mnist_is_bptt_and_the_chip_keeps_it() -> None:
    """One epoch, a tenth of the test set on the chip."""
    if not data_folder("mnist_10k").is_dir():
        pytest.skip("mnist_10k is not here: put it into $SPIKEPORT_DATA/mnist_10k")
    command = [sys.executable, ROOT / "examples" / "sltt_mnist.py", "--epochs", "1", "--samples", "200"]
    done = subprocess.run([str(c) for c in command], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [r.split() for r in done.stdout.splitlines() if r.startswith(("sltt", "bptt"))]
    assert [r[0] for r in rows] == ["sltt_mnist", "bptt_mnist"]
    for _, _, test, plain, chip, _ in rows:
        assert float(test) > 90.0
        assert abs(float(plain) - float(chip)) <= 3.0
