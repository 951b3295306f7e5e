"""The ladder of interpreters: tried in order, built whole or not at all, recorded, and clear where none works."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lava_programs import ready

from sim import engines
from sim.lava import setup as ladder
from sim.lava.cases import cases
from sim.lava.client import Client
from sim.lava.doctor import differing, outcomes
from sim.lava.link import WorkerCrashed, WorkerUnavailable
from sim.lava.setup import PINS, Environment, interpreters, recorded, setup
from sim.loihi import engine

HELLO = {"python": "3.10.0", "numpy": "1", "scipy": "1", "lava": "0.10.0", "shim": []}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for the environment, and a machine with nothing on it."""
    monkeypatch.setenv("SPIKEPORT_LAVA", str(tmp_path / "lava"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("SPIKEPORT_LAVA_PYTHON", "PYENV_ROOT", "CONDA_PREFIX", "MAMBA_ROOT_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    return tmp_path


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_interpreters_are_looked_for_on_path_and_with_pyenv_and_conda(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert interpreters("3.10") == []
    want = [
        script(folder / "bin" / "python3.10", "exit 1"),
        script(folder / "home" / ".pyenv" / "versions" / "3.10.13" / "bin" / "python", "exit 1"),
        script(folder / "home" / "miniconda3" / "envs" / "lava" / "bin" / "python3.10", "exit 1"),
    ]
    script(folder / "home" / ".pyenv" / "versions" / "3.9.1" / "bin" / "python", "exit 1")
    monkeypatch.setenv("PATH", f"{folder / 'none'}:{folder / 'bin'}")
    assert interpreters("3.10") == [str(p) for p in want]


def test_an_interpreter_that_does_not_start_is_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyenv's shim for a version that is not selected prints a hint and fails; a 3.9 and a PyPy are not for lava."""
    broken = script(folder / "a" / "python3.10", "echo 'pyenv: python3.10: command not found' >&2; exit 127")
    old = script(folder / "b" / "python3.10", "echo cpython 3 9")
    other = script(folder / "c" / "python3.10", "echo pypy 3 10")
    good = script(folder / "d" / "python3.10", "echo cpython 3 10")
    monkeypatch.setenv("PATH", ":".join(str(p.parent) for p in (broken, old, other, good)))
    built: list[Any] = []

    def do(line: Any) -> None:
        built.append([str(w) for w in line])

    def hello(_: Path) -> dict[str, Any]:
        return dict(HELLO)

    monkeypatch.setattr(ladder, "_do", lambda line: (do(line), _pretend(line)))
    monkeypatch.setattr(ladder, "_hello", hello)
    said: list[str] = []
    found = setup(echo=said.append)
    assert found.rung == f"CPython 3.10, {good}"
    assert found.python == str(folder / "lava" / "env" / "bin" / "python")
    assert [line[:3] for line in built] == [[str(good), "-m", "venv"], [built[1][0], "-m", "pip"]]
    assert set(built[1]) >= {"--no-deps", "--ignore-requires-python", "lava-nc==0.10.0", *PINS[(3, 10)]}
    told = "\n".join(said)
    for what in (
        "pyenv: python3.10: command not found",
        "is cpython 3 9; lava-nc 0.10 runs on CPython",
        "is pypy 3 10",
    ):
        assert what in told
    assert recorded() == found
    assert setup() == found
    assert len(built) == 2


def _pretend(line: Any) -> None:
    """What ``-m venv FOLDER`` leaves."""
    if "venv" in line:
        script(Path(line[-1]) / "bin" / "python", "exit 0")


def test_a_half_environment_is_built_again_and_a_failed_one_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder / "lava"
    script(place / "env" / "bin" / "python", "exit 0")  # killed before it was recorded
    (place / ".building-1").mkdir()
    assert recorded() is None
    (place / "lava.json").write_text("{half")
    assert recorded() is None
    with pytest.raises(WorkerUnavailable, match="no interpreter here can run lava-nc"):
        setup("/no/such/python")
    assert not (place / ".building-1").exists()
    good = script(folder / "python3.10", "echo cpython 3 10")

    def broken(line: Any) -> None:
        _pretend(line)
        if "pip" in line:
            raise WorkerUnavailable("no network")

    monkeypatch.setattr(ladder, "_do", broken)
    with pytest.raises(WorkerUnavailable, match="no network"):
        setup(str(good))
    assert sorted(p.name for p in place.iterdir()) == ["env", "lava.json", "lock"]
    monkeypatch.setattr(ladder, "_do", _pretend)
    hellos = iter([WorkerUnavailable("has no lava"), HELLO, HELLO])

    def hello(_: Path) -> Any:
        said = next(hellos)
        if isinstance(said, Exception):
            raise said
        return dict(said)

    monkeypatch.setattr(ladder, "_hello", hello)
    assert setup(str(good)).rung == f"an environment on {good}"
    (place / "env" / "bin" / "python").unlink()
    assert recorded() is None
    assert json.loads((place / "lava.json").read_text())["format"] == 1


def test_what_was_built_on_a_given_interpreter_is_what_starts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter of SPIKEPORT_LAVA_PYTHON need not have lava itself."""
    bare = script(folder / "python3.10", "echo cpython 3 10")

    def hello(python: Path) -> Any:
        if python == bare:
            raise WorkerCrashed("No module named 'lava'")
        return dict(HELLO)

    monkeypatch.setenv("SPIKEPORT_LAVA_PYTHON", str(bare))
    monkeypatch.setattr(ladder, "_do", _pretend)
    monkeypatch.setattr(ladder, "_hello", hello)
    assert ladder.environment().python == str(bare)
    said: list[str] = []
    found = setup(echo=said.append)
    assert said[0] == f"trying {bare} as it is"
    assert found.python == str(folder / "lava" / "env" / "bin" / "python")
    assert ladder.environment() == found
    assert setup(echo=said.append) == found
    assert said[-1] == f"trying an environment on {bare}"
    assert len([s for s in said if "building" in s]) == 1
    monkeypatch.setenv("SPIKEPORT_LAVA_PYTHON", "/another/python")
    assert ladder.environment() == Environment("/another/python", "/another/python as it is")


@pytest.mark.usefixtures("folder")
def test_without_an_environment_everyone_is_told_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WorkerUnavailable, match=r"lava-nc is not set up here.*'spikeport lava setup'"):
        ladder.environment()
    with pytest.raises(ValueError, match="machine 'lava' is not ready here: lava-nc is not set up"):
        engines.engine("lava")
    with pytest.raises(WorkerUnavailable, match="lava-nc is not set up"), Client() as lava:
        assert lava.hello
    monkeypatch.setenv("SPIKEPORT_LAVA_PYTHON", "/mine/python")
    assert ladder.environment() == Environment("/mine/python", "/mine/python as it is")
    monkeypatch.setattr(sys, "executable", "/no/python")
    monkeypatch.delenv("SPIKEPORT_LAVA_PYTHON")
    with pytest.raises(WorkerUnavailable) as caught:
        setup()
    for line in (
        "uv python install 3.10 && spikeport lava setup",
        "conda create -n lava python=3.10",
        "spikeport lava setup --python /path/to/python3.10",
        "--ignore-requires-python --only-binary=:all: lava-nc==0.10.0 numpy==1.26.4",
    ):
        assert line in str(caught.value)


@pytest.mark.lava
@pytest.mark.slow
def test_this_python_with_the_shim_runs_lava_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lowest rung, built for real: CPython 3.11 to 3.13, which lava-nc's metadata refuses."""
    ready()
    if sys.version_info[:2] not in PINS:
        pytest.skip(f"lava-nc is not known to run on Python {sys.version_info[:2]}")
    monkeypatch.setenv("SPIKEPORT_LAVA", str(tmp_path))
    found = setup(sys.executable)
    assert isinstance(found, Environment)
    assert "hash" in found.hello["shim"]
    assert found.hello["python"].split(".")[:2] == [str(n) for n in sys.version_info[:2]]
    which = cases()[::6]
    with Client() as lava:
        for case, theirs in zip(which, outcomes(lava, which), strict=True):
            assert differing(case, theirs, engine.run) == []


@pytest.mark.lava
@pytest.mark.slow
def test_the_commands_as_typed(tmp_path: Path) -> None:
    ready()

    def spikeport(*words: str, code: int = 0, **env: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "sim.cli", *words], capture_output=True, text=True, env=os.environ | env, timeout=600
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "lava-nc 0.10.0 on CPython 3." in spikeport("lava", "setup")
    told = spikeport("lava", "doctor")
    assert "54 of 54 cases identical" in told
    assert "rung: " in told
    assert "spikeport: lava-nc is not set up here" in spikeport("lava", "doctor", code=2, SPIKEPORT_LAVA=str(tmp_path))
    assert "'spikeport lava setup'" in spikeport("machines", SPIKEPORT_LAVA=str(tmp_path))
