"""``spikeport sfq`` as a user types it: files, messages, exit codes; JoSIM's stored traces as the judge."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sim import cli
from sim.sfq import read_csv

GOLDEN = Path(__file__).parent / "golden" / "sfq"
JTL = """\
* a JTL
.include cells.inc
VA a 0 pulse(0 827.13u 50p 2.5p 2.5p 0 50p)
XA1 JTL a a1
XA2 JTL a1 q
RQ q 0 3
.tran 0.1p 200p
.print p(B1.X1.XA1) p(B1.X2.XA2) v(q)
.end
"""
ONE = """\
.model jm jj(rtype=1, vg=2.8m, cap=0.07p, r0=160, rn=16, icrit=0.1m)
B1 1 0 jm
R1 1 0 1
I1 0 1 0
.tran 0.05p 200p
.print v(1)
"""
Spikeport = Callable[..., str]


@pytest.fixture
def spikeport(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Spikeport:
    """The command in ``tmp_path``, which holds the golden decks and ``jtl.cir``; returns what it printed."""
    for file in GOLDEN.glob("*.cir"):
        shutil.copy(file, tmp_path)
    for file in GOLDEN.glob("*.inc"):
        shutil.copy(file, tmp_path)
    (tmp_path / "jtl.cir").write_text(JTL)
    monkeypatch.chdir(tmp_path)

    def call(*args: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["spikeport", "sfq", *args])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        assert (ended.value.code or 0) == code, out + err
        assert code != 0 or not err, "no bar without a terminal"
        assert code == 0 or err.count("\n") <= 1 or "Usage" in err, "an error is one line"
        return out if code in (0, 1) else err

    return call


def test_every_command_helps_with_an_example(spikeport: Spikeport) -> None:
    for command in ("run", "compare", "margins", "mc", "shmoo", "iv", "op", "check", "flatten", "cells"):
        text = spikeport(command, "--help")
        assert f"spikeport sfq {command} " in re.sub(r"\s+", " ", text), command
        assert "Example:" in text


def test_run_writes_josims_table(spikeport: Spikeport, tmp_path: Path) -> None:
    """JoSIM 2.7's stored traces, to its printed digits."""
    said = spikeport("run", "tb_dff.cir", "-o", "dff.csv", "--startup", "josim")
    assert "500 steps" not in said
    assert "5000 steps of 100 fs" in said
    josim = str(GOLDEN / "tb_dff.csv.gz")
    text = spikeport("compare", "dff.csv", josim, "--tolerance", "1.1e-6", "--relative-above", "1")
    assert len(text.strip().splitlines()) == 4
    assert "above" not in text
    header = (tmp_path / "dff.csv").read_text().splitlines()[0]
    assert header == 'time,"P(B1|X1|XD1)","P(B1|X1|XC1)","P(B1|X2|XQ2)","I(L2|XF)"'


def test_compare_tells_the_column_and_fails(spikeport: Spikeport, tmp_path: Path) -> None:
    spikeport("run", "jtl.cir", "-o", "a.csv")
    spikeport("run", "jtl.cir", "-o", "b.csv", "--step", "0.05p")
    table = read_csv(tmp_path / "a.csv"), read_csv(tmp_path / "b.csv")
    assert len(table[0]["time"]) == 2000
    free = spikeport("compare", "a.csv", "b.csv")
    assert [line.split()[0] for line in free.splitlines()] == ["P(B1|X1|XA1)", "P(B1|X2|XA2)", "V(Q)"]
    found = spikeport("compare", "a.csv", "b.csv", "--tolerance", "1e-3", code=1)
    assert [("above" in line) for line in found.splitlines()] == [True, True, False], "volts are small"
    assert spikeport("compare", "a.csv", "a.csv", "--tolerance", "0").count("0.000e+00") == 3


def test_run_draws_checks_the_step_and_says_the_energy(spikeport: Spikeport, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="drawings are not tested: matplotlib (extra plot) is missing")
    said = spikeport("run", "jtl.cir", "--png", "w.png", "--pulses", "p.png", "--check-step")
    assert (tmp_path / "w.png").stat().st_size > 5000
    assert (tmp_path / "p.png").stat().st_size > 5000
    assert "4 junctions" in said
    assert "12 slips" in said, "three pulses through four junctions"
    shift = re.search(r"largest shift is (\S+) ps", said)
    assert shift is not None
    assert 0 < float(shift[1]) < 0.1
    assert re.search(r"Ic Phi0 6\.2\d? aJ", said), "12 slips of 250 uA"


def test_file_lines_go_to_their_files(spikeport: Spikeport, tmp_path: Path) -> None:
    deck = JTL.replace(".end", ".file other.csv\n.print v(a1)\n.end")
    (tmp_path / "two.cir").write_text(deck)
    said = spikeport("run", "two.cir", "-o", "main.csv")
    assert said.count("wrote") == 2
    assert list(read_csv(tmp_path / "other.csv")) == ["time", "V(A1)"]
    assert list(read_csv(tmp_path / "main.csv"))[-1] == "V(A1)", "JoSIM writes all to the file given"
    (tmp_path / "out.cir").write_text(deck.replace("other.csv", "../other.csv"))
    assert "../other.csv: is outside" in spikeport("run", "out.cir", "-o", "main.csv", code=2)


@pytest.mark.parametrize("kind", ["dat", "raw"])
def test_other_forms_hold_the_same(spikeport: Spikeport, kind: str) -> None:
    spikeport("run", "jtl.cir", "-o", "a.csv", "-o", f"a.{kind}")
    found = spikeport("compare", "a.csv", f"a.{kind}", "--tolerance", "1e-4")
    assert len(found.splitlines()) == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("run", "none.cir"), "none.cir: cannot be read"),
        (("run", "jtl.cir", "--step", "fast"), "--step fast"),
        (("run", "jtl.cir", "--step", "-1p"), "--step -1p: must be above 0"),
        (("run", "jtl.cir", "--step", "1n"), "use 0 < h < t_stop"),
        (("run", "jtl.cir", "--startup", "warm"), "--startup warm: must be op, josim, none"),
        (("margins", "jtl.cir", "--watch", "B9.X1"), "B9|X1"),
        (("margins", "jtl.cir", "--count", "B1.X2.XA2=lots"), "--count B1.X2.XA2=lots: write JUNCTION=N"),
        (("margins", "jtl.cir", "jtl.cir", "jtl.cir", "--count", "A=1", "--count", "A=1"), "2 times for 3 decks"),
        (("margins", "jtl.cir", "-o", "m.txt"), "m.txt: results are saved as .json or .csv"),
        (("margins", "jtl.cir", "-p", "L99"), "L99"),
        (("mc", "jtl.cir", "-n", "4"), "add one, or pass spread"),
        (("mc", "jtl.cir", "--spread", "L:0.1"), "--spread L:0.1: write NAME=NUMBER"),
        (("shmoo", "jtl.cir", "--x-range", "1:2"), "--x-range 1:2: write LOW:HIGH:POINTS"),
        (("compare", "jtl.cir", "jtl.cir"), "jtl.cir"),
    ],
)  # fmt: skip
def test_errors_are_one_line_with_the_fix(spikeport: Spikeport, args: tuple[str, ...], message: str) -> None:
    assert message in spikeport(*args, code=2)


def test_margins_of_two_patterns(spikeport: Spikeport, tmp_path: Path) -> None:
    counts = ["--count", "B1.X2.XY2=3:", "--count", "B1.X2.XY2=0"]
    short = ["xor_01.cir", "xor_11.cir", "--step", "0.2p", "--stop", "700p"]
    said = spikeport("margins", *short, *counts, "-p", "I", "-o", "m.json")
    assert said.startswith("critical margin")
    kept = json.loads((tmp_path / "m.json").read_text())
    (row,) = kept["margins"]
    assert row["parameter"] == "I"
    low, high = 1 - row["low"]["works_at"], row["high"]["works_at"] - 1
    assert 0.1 < low < 0.25, "docs/sfq.md 3.5: all biases together work from x0.85 to x1.25"
    assert 0.1 < high < 0.35
    assert [p.name for p in tmp_path.glob("m.json*")] == ["m.json"], "the checkpoint is gone when all is done"


def test_yield_and_shmoo(spikeport: Spikeport, tmp_path: Path) -> None:
    said = spikeport("mc", "jtl.cir", "--spread", "L=0.1", "--spread", "B=0.1", "-n", "12", "-o", "mc.csv")
    assert "yield 100.0%" in said
    with (tmp_path / "mc.csv").open() as file:
        assert len(list(csv.reader(file))) == 13
    args = ["--x", "I", "--y", "IC", "--x-range", "0:1:2", "--y-range", "1:1:1", "-o", "s.json"]
    spikeport("shmoo", "jtl.cir", *args)
    assert json.loads((tmp_path / "s.json").read_text())["works"] == [[0, 1]], "dead without bias"


def heeds_ctrl_c() -> None:
    """A shell's background job, and all it starts, ignores SIGINT; a test's child must not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_ctrl_c_leaves_a_checkpoint_and_no_result(tmp_path: Path) -> None:
    """A process of its own, stopped as a user does, goes on where it was and ends as one that was never stopped."""
    for file in GOLDEN.glob("*.inc"):
        shutil.copy(file, tmp_path)
    (tmp_path / "jtl.cir").write_text(JTL)
    # many small batches, so that there is something to stop
    args = ["mc", "jtl.cir", "--spread", "L=0.3", "--spread", "B=0.3", "-n", "3000", "-o", "mc.json"]
    command = [sys.executable, "-m", "sim.cli", "sfq", *args]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen(
        command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True, preexec_fn=heeds_ctrl_c
    )
    kept = tmp_path / "mc.json.work.npz"
    give_up = time.monotonic() + 120
    while not kept.exists() and process.poll() is None and time.monotonic() < give_up:
        time.sleep(0.02)
    assert process.poll() is None, "ended before it could be stopped"
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 130, said
    assert "the same command goes on" in said
    assert kept.exists()
    assert not (tmp_path / "mc.json").exists()
    assert not list(tmp_path.glob("*.part"))
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, timeout=300)
    stopped = json.loads((tmp_path / "mc.json").read_text())
    assert not kept.exists()
    (tmp_path / "mc.json").unlink()
    subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True, timeout=300)
    assert json.loads((tmp_path / "mc.json").read_text()) == stopped


def test_flat_deck_gives_the_same(spikeport: Spikeport, tmp_path: Path) -> None:
    spikeport("flatten", "tb_cells.cir", "-o", "flat.cir")
    assert "subckt" not in (tmp_path / "flat.cir").read_text().lower()
    spikeport("run", "flat.cir", "-o", "flat.csv", "--startup", "josim")
    josim = str(GOLDEN / "tb_cells.csv.gz")
    spikeport("compare", "flat.csv", josim, "--tolerance", "1.1e-6", "--relative-above", "1")
    assert spikeport("flatten", "tb_cells.cir") == (tmp_path / "flat.cir").read_text()


def test_operating_point_obeys_the_law(spikeport: Spikeport) -> None:
    rows = [line.split() for line in spikeport("op", "jtl.cir").splitlines()[1:]]
    assert len(rows) == 4
    for _, ic, current, share, turns in rows:
        phase = 2 * math.pi * float(turns)
        assert float(current) == pytest.approx(float(ic) * math.sin(phase), rel=2e-3), "I = Ic sin(phase)"
        assert float(share) == pytest.approx(math.sin(phase), abs=2e-3)


def test_operating_point_that_is_none(spikeport: Spikeport, tmp_path: Path) -> None:
    (tmp_path / "over.cir").write_text(ONE.replace("I1 0 1 0", "I1 0 1 150u"))
    assert "no operating point" in spikeport("op", "over.cir", code=2)


def test_check_tells_numbers_and_findings(spikeport: Spikeport, tmp_path: Path) -> None:
    said = spikeport("check", "jtl.cir")
    assert said.splitlines()[1].split() == ["B1|X1|XA1", "250.0", "2.74", "0.92", "1.52"]
    assert said.endswith("0 findings\n")
    (tmp_path / "fan.cir").write_text(JTL.replace("XA2 JTL a1 q", "XA2 JTL a1 q\nXA3 JTL a1 q3\nRQ3 q3 0 3"))
    found = spikeport("check", "fan.cir")
    assert "note: fan.cir:" in found
    assert "SPLIT" in found.upper()
    (tmp_path / "loop.cir").write_text(JTL.replace("RQ q 0 3", "RQ q 0 3\nVB a 0 1m"))
    assert "error: loop.cir:" in spikeport("check", "loop.cir", code=1)


def test_iv_curve_follows_the_overdamped_law(spikeport: Spikeport, tmp_path: Path) -> None:
    """V = R sqrt(I^2 - Ic^2) with R of the shunt and R0 together, docs/sfq.md 2.5."""
    (tmp_path / "one.cir").write_text(ONE)
    args = ["--drive", "I1", "--across", "B1", "--high", "200u", "--by", "25u", "--dwell", "200p", "-o", "iv.csv"]
    assert "voltage from 125 uA" in spikeport("iv", "one.cir", *args)
    with (tmp_path / "iv.csv").open() as file:
        rows = [(float(i), float(v)) for i, v in list(csv.reader(file))[1:]]
    assert len(rows) == 17
    for current, voltage in rows:
        law = 160 / 161 * math.sqrt(max(current**2 - 1e-8, 0.0))
        assert voltage == pytest.approx(law, abs=3e-6)
    assert "give --drive and --across, or --model" in spikeport("iv", "one.cir", code=2)


def test_iv_of_a_model_is_josims_form(spikeport: Spikeport, tmp_path: Path) -> None:
    (tmp_path / "one.cir").write_text(ONE + ".iv jm 5u curve.csv\n")
    assert "curve.csv" in spikeport("run", "one.cir")
    lines = (tmp_path / "curve.csv").read_text().splitlines()
    assert lines[0] == "V,I"
    assert {float(line.split(",")[1]) for line in lines[1:]} >= {2.5e-6, 5e-6, -5e-6}


def test_measurements_of_a_deck(spikeport: Spikeport, tmp_path: Path) -> None:
    """Counts, times and voltages against the train that drives it: three pulses of one flux quantum, 50 ps apart."""
    lines = [
        ".measure n count B1.X2.XA2", ".measure p period B1.X2.XA2", ".measure d delay B1.X1.XA1 B1.X2.XA2",
        ".measure t time B1.X2.XA2 n=2", ".measure none time B1.X2.XA2 n=9", ".measure back count B1.X2.XA2 sign=-1",
        ".measure flux integral v(q) from=40p to=180p", ".measure top max v(q)", ".measure dip min v(q)",
        ".measure both pp v(q)", ".measure mean avg v(q) from=40p to=180p", ".measure half count B1.X2.XA2 to=100p",
        ".measure eff rms v(q) from=40p to=180p",
    ]  # fmt: skip
    (tmp_path / "m.cir").write_text(JTL.replace(".end", "\n".join([*lines, ".end"])))
    said = spikeport("run", "m.cir", "-o", "m.csv")
    found = {n: float(v) for n, v in re.findall(r"^(\w+) = (\S+)$", said, re.MULTILINE)}
    assert list(read_csv(tmp_path / "m.csv")) == ["time", "P(B1|X1|XA1)", "P(B1|X2|XA2)", "V(Q)"]
    assert (found["n"], found["half"], found["back"]) == (3, 1, 0)
    assert found["p"] == pytest.approx(50e-12, rel=1e-3)
    assert 1e-12 < found["d"] < 10e-12
    assert found["t"] == pytest.approx(50e-12 + found["p"] + found["d"], abs=10e-12)
    assert math.isnan(found["none"])
    assert found["both"] == pytest.approx(found["top"] - found["dip"], rel=1e-5)
    assert 0 < found["flux"] < 3 * 2.07e-15, "a part of each pulse is turned back at the end"
    assert found["mean"] == pytest.approx(found["flux"] / 140e-12, rel=1e-5)
    assert found["mean"] < found["eff"] < found["top"]
    (tmp_path / "m.cir").write_text(JTL.replace(".end", ".measure n count B9\n.end"))
    assert "B9: no such junction in .measure N" in spikeport("run", "m.cir", code=2)


def test_cells_are_listed_told_and_written(spikeport: Spikeport, tmp_path: Path) -> None:
    from hardware.sfq_cells import load_cells

    known = load_cells()
    lines = spikeport("cells").splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(known)
    text = spikeport("cells", "dff")
    assert "in a c; out q" in text
    assert f"{known['DFF'].transition('1', 'c').delay_s * 1e12:.2f}" in text
    spikeport("cells", "--netlist", "all.inc")
    (tmp_path / "own.cir").write_text(JTL.replace("cells.inc", "all.inc"))
    assert "12 slips" in spikeport("run", "own.cir")
    assert "no SFQ cell" in spikeport("cells", "--check", "NONESUCH", code=2)
    assert "NONESUCH" in spikeport("cells", "NONESUCH", code=2)


def test_a_cell_is_derived_again(spikeport: Spikeport, tmp_path: Path) -> None:
    from hardware.sfq_cells import load_cell

    assert "wrote" in spikeport("cells", "--derive", "jtl", "-o", "out")
    again, kept = load_cell("JTL", tmp_path / "out"), load_cell("JTL")
    assert again.junctions == kept.junctions == 2
    assert again.transitions[0].delay_s == pytest.approx(kept.transitions[0].delay_s, abs=0.1e-12)


def test_deck_may_say_its_margins_and_yield_itself(spikeport: Spikeport, tmp_path: Path) -> None:
    extra = ".margin I watch=B1.X2.XA2 tol=0.1\n.mc 5 L=0.1 watch=B1.X2.XA2\n.end"
    (tmp_path / "own.cir").write_text(JTL.replace(".end", extra))
    said = spikeport("margins", "own.cir")
    assert len(said.strip().splitlines()) == 3, "one parameter"
    assert "of 5 corners work" in spikeport("mc", "own.cir")
    assert "of 3 corners work" in spikeport("mc", "own.cir", "--spread", "L=0.1", "-n", "3"), "options win"
