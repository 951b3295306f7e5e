"""Trace files: JoSIM's form, whole or not at all; comparison on the time column."""

from __future__ import annotations

import gzip
import time
from pathlib import Path

import numpy as np
import pytest

from sim.sfq import TraceError, compare, loads, read_csv, write_csv
from sim.sfq.digits import scientific
from sim.sfq.output import output_path, read_traces, routed, write_traces

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


def test_numbers_are_cs() -> None:
    rng = np.random.default_rng(5)
    table = 10.0 ** rng.uniform(-103, 103, size=(400, 5)) * rng.choice([-1, 1], size=(400, 5))
    table[rng.random((400, 5)) < 0.1] = 0.0
    table[:200] = np.vectorize(lambda v: float(f"{v:.7e}"))(table[:200])  # eight digits: halves to round
    table[5] = [np.nan, np.inf, -np.inf, -0.0, 5e-324]
    table[6] = [9.9999995e5, 9.9999994999e5, 9.9999996e99, 1.0000005, 1e99]
    for separator in ", ":
        form = separator.join(["%.6e"] * 5) + "\n"
        assert scientific(table, separator) == "".join(form % tuple(row) for row in table.tolist())
    assert scientific(np.zeros((0, 3)), ",") == ""


def test_ten_thousand_rows_take_less_than_30_ms(tmp_path: Path) -> None:
    t = np.arange(10_000) * 1e-13
    traces = {f"V({k})": np.sin(t * 1e11 * k) * 1e-3 for k in range(9)}
    taken = []
    for _ in range(5):
        start = time.process_time()
        write_csv(tmp_path / "a.csv", t, traces)
        taken.append(time.process_time() - start)
    assert min(taken) < 0.03


@pytest.mark.parametrize("ending", ["csv", "dat", "raw", "CSV", "txt"])
def test_every_form_is_read_back(tmp_path: Path, ending: str) -> None:
    traces = {**TRACES, "I(R1|X2|X3)": np.array([0.0, -1e-3, 2.5e-4, 1e-12, -7e-20]), "P(3)": np.zeros(5)}
    back = read_traces(write_traces(tmp_path / f"a.{ending}", T, traces))
    assert list(back) == ["time", *traces]
    for name, values in {"time": T, **traces}.items():
        np.testing.assert_allclose(back[name], values, rtol=1e-5, atol=0)


def test_dat_and_raw_have_josims_form(tmp_path: Path) -> None:
    traces = {"P(B1|X1)": np.array([0.5, -1.25]), "I(R1|X1)": np.array([1e-4, 0.0]), "V(1,2)": np.zeros(2)}
    dat = write_traces(tmp_path / "a.dat", T[:2], traces).read_text().splitlines()
    assert dat[0] == 'time "P(B1|X1)" "I(R1|X1)" "V(1,2)"'
    assert dat[2] == "1.000000e-13 -1.250000e+00 0.000000e+00 0.000000e+00"
    raw = write_traces(tmp_path / "a.raw", T[:2], traces).read_text().splitlines()
    assert raw[0] == "Title: a"
    assert raw[2:6] == ["Plotname: Transient Analysis", "Flags: real", "No. Variables: 4", "No. Points: 2"]
    assert raw[7:12] == [
        "Variables:", " 0 time Seconds", " 1 P(B1|X1) Phase", " 2 R1.X1#branch Current", " 3 V(1,2) Voltage",
    ]  # fmt: skip
    assert raw[12:] == ["Values:", "0 0", "  0.5", "  0.0001", "  0", "1 1e-13", "  -1.25", "  0", "  0"]


def test_file_lines_route_what_follows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deck = loads(
        "R1 1 0 1\n.print v(1)\n.file a.csv\n.print i(R1)\n.file sub/b.raw\n.print p(1) v(1) v(9)\n.file c.dat\n"
    )
    traces = {"V(1)": T, "I(R1)": 2 * T, "P(1)": 3 * T}
    assert {f: list(t) for f, t in routed(deck.requests, deck.files, traces).items()} == {
        "a.csv": ["I(R1)"], "sub/b.raw": ["P(1)", "V(1)"], "c.dat": [],
    }  # fmt: skip
    work, folder = tmp_path / "work", tmp_path / "deck"
    work.mkdir()
    monkeypatch.chdir(work)
    assert output_path("a.csv", folder) == folder / "a.csv"
    assert output_path("sub/b.raw", folder) == work / "sub" / "b.raw"
    for name in ("../x.csv", "/etc/x.csv"):
        with pytest.raises(TraceError, match="outside the working folder"):
            output_path(name, folder)


@pytest.mark.parametrize(
    "text",
    [
        "", "Values:\n", "Flags: real\nNo. Variables: 2\nNo. Points: x\nVariables:\n 0 time s\n 1 a b\nValues:\n0 1 2",
        "Flags: complex\nNo. Variables: 2\nNo. Points: 1\nVariables:\n 0 time s\n 1 a b\nValues:\n0 1 2",
        "Flags: real\nNo. Variables: 2\nNo. Points: 1\nVariables:\n 0 time s\n 1 a b\nValues:\n0 1",
        "Flags: real\nNo. Variables: 2\nNo. Points: 1\nVariables:\n 0 time s\n 1\nValues:\n0 1 2",
        "Flags: real\nNo. Variables: 2\nNo. Points: 1\nVariables:\n 0 f s\n 1 a b\nValues:\n0 1 2",
    ],
)  # fmt: skip
def test_what_is_not_a_raw_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.raw").write_text(text)
    with pytest.raises(TraceError, match=r"a\.raw"):
        read_traces(tmp_path / "a.raw")


def test_a_trace_written_twice_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('time,"V(1)","V(1)"\n0,1,1\n1,2,2\n')
    assert list(read_csv(tmp_path / "a.csv")) == ["time", "V(1)"]


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
