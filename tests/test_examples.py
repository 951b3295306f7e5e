"""The examples, as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

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
