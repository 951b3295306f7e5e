"""docs/sfq_tutorial.md runs: decks are saved, commands and Python executed in its order; the slow ones made short."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sim import cli

DOC = Path(__file__).parent.parent / "docs" / "sfq_tutorial.md"
BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(?<![\w|.])\d+(?:\.\d+)?(?:e-?\d+)?")
SHORTER = ((".tran 0.1p 1000p 0 1p", ".tran 0.2p 700p 0 1p"), ("-n 64", "-n 8"), ("-n 200", "-n 20"))


def blocks() -> list[tuple[str, str, str]]:
    return BLOCK.findall(DOC.read_text())


def shorter(text: str) -> str:
    for a, b in SHORTER:
        text = text.replace(a, b)
    return text


def alike(a: str, b: str) -> bool:
    """The same words, and numbers that differ by the cells' next derivation at most."""
    if NUMBER.sub("#", a) != NUMBER.sub("#", b):
        return False
    pairs = zip(NUMBER.findall(a), NUMBER.findall(b), strict=True)
    return all(float(x) == pytest.approx(float(y), rel=0.1, abs=0.01) for x, y in pairs)


def command(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    words = shlex.split(line)
    assert words[0] == "spikeport"
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert not ended.value.code, f"{line}\n{out}{err}"
    return out


def test_the_tutorial_has_what_it_promises() -> None:
    kinds = [kind for kind, _, _ in blocks()]
    assert kinds.count("spice") == 3
    assert kinds.count("python") >= 4
    commands = {line.split()[2] for kind, _, text in blocks() if kind == "sh" for line in text.splitlines()}
    assert {"run", "compare", "margins", "mc", "shmoo", "cells", "op", "check"} <= commands


@pytest.mark.slow
def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="the tutorial draws: matplotlib (extra plot) is missing")
    monkeypatch.chdir(tmp_path)
    said: dict[str, str] = {}
    for kind, name, text in blocks():
        if kind == "spice":
            (tmp_path / name).write_text(shorter(text))
        elif kind == "sh":
            for line in shorter(text).splitlines():
                said[line] = command(line, monkeypatch, capsys)
        elif kind == "python":
            root = str(Path(__file__).parent.parent)
            code = f"import sys; sys.path.insert(0, {root!r})\n{text}"
            done = subprocess.run(
                [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
            )
            assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
    printed = next(text for kind, _, text in blocks() if kind == "text")
    (first,) = [out for line, out in said.items() if line.startswith("spikeport sfq run jtl.cir -o jtl.csv")]
    for wanted, got in zip(printed.splitlines(), first.splitlines()[-len(printed.splitlines()) :], strict=True):
        assert alike(wanted, got), f"the tutorial prints {wanted!r}, the command {got!r}"
    for drawing in ("jtl", "pulses", "margins", "shmoo", "dff", "xor", "xor_10", "xor_10_pulses"):
        assert (tmp_path / f"{drawing}.png").stat().st_size > 5000
    assert 'id="sfq"' in (tmp_path / "report" / "report.html").read_text()
    found = json.loads((tmp_path / "xor.json").read_text())
    rows = {r["parameter"]: r for r in found["margins"]}
    assert {"I", "L", "IC", "R"} <= set(rows)
    assert 0.03 < found["critical"]["margin"] < 0.6
