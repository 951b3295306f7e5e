"""Trace files: JoSIM's form, whole or not at all; comparison on the time column."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from sim.sfq import TraceError, compare, read_csv, write_csv

T = np.arange(5) * 1e-13
TRACES = {"P(B1|X1)": np.linspace(0, 4, 5), "V(1,2)": np.full(5, -1.25e-4)}


def test_round_trip_and_form(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", T, TRACES)
    lines = path.read_text().splitlines()
    assert lines[0] == 'time,"P(B1|X1)","V(1,2)"'
    assert lines[2] == "1.000000e-13,1.000000e+00,-1.250000e-04"
    back = read_csv(path)
    assert list(back) == ["time", *TRACES]
    assert compare(back, {"time": T, **TRACES}) == {"P(B1|X1)": 0.0, "V(1,2)": 0.0}
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert (read_csv(tmp_path / "a.csv.gz")["time"] == back["time"]).all()


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_csv(tmp_path / "a.csv", T, TRACES)
    before = path.read_bytes()

    def fail(source: str, target: Path) -> None:
        del source, target
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_csv(path, T, {"P(B1)": np.zeros(5)})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.csv"]
    with pytest.raises(TraceError, match="4 values for 5 times"):
        write_csv(path, T, {"P(B1)": np.zeros(4)})


def test_compare_aligns_on_time() -> None:
    a = {"time": T, "x": np.array([0.0, 1, 2, 3, 4])}
    b = {"time": T[[0, 2, 3, 4]] * (1 + 1e-8), "x": np.array([0.0, 2, 3.5, 4])}
    assert compare(a, b) == {"x": 0.5}
    assert compare(b, a) == {"x": 0.5}
    assert compare(a, b, relative_above=1.0)["x"] == pytest.approx(0.5 / 3.5)
    with pytest.raises(TraceError, match="nothing to compare"):
        compare(a, {"time": T + 1.0, "x": T})
    with pytest.raises(TraceError, match="nothing to compare"):
        compare(a, {"time": T, "y": T})


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "time,x\n1\n", "time,x\n1,two\n", "time,x,x\n1,2,3\n"])
def test_what_is_not_a_trace_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(TraceError, match=r"a\.csv"):
        read_csv(tmp_path / "a.csv")
    with pytest.raises(TraceError, match="none"):
        read_csv(tmp_path / "none.csv")
