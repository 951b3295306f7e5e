"""The environment that the lava worker runs in: found, built and recorded by ``spikeport lava setup``.

lava-nc 0.10.0 pins CPython 3.10 and numpy below 2, so it gets a private environment. Rungs, the first that works:

1. the interpreter given with ``--python`` or in ``SPIKEPORT_LAVA_PYTHON``, and then no other; as it is if it has lava,
   else to build on
2. the environment recorded by an earlier setup
3. a CPython 3.10 on PATH, of pyenv or of conda, each tried, for a shim on PATH need not start
4. uv, which fetches a CPython 3.10
5. CPython 3.11 to 3.13, the running one first, with the mending of :mod:`sim.lava.shim`

Installed without a resolver, in exact versions, beside its place and renamed; recorded last, so that a half environment
is seen and built again. ``SPIKEPORT_LAVA`` is the folder; the user's data folder otherwise.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from export.package import write_text
from sim.lava.link import Link, WorkerCrashed, WorkerProtocolError, WorkerTimeout, WorkerUnavailable

LAVA = "lava-nc==0.10.0"
PINS = {
    (3, 10): ("numpy==1.26.4", "scipy==1.15.3", "networkx==2.8.7", "asteval==0.9.33"),
    (3, 11): ("numpy==1.26.4", "scipy==1.15.3", "networkx==3.4.2", "asteval==1.0.6"),
    (3, 12): ("numpy==1.26.4", "scipy==1.15.3", "networkx==3.4.2", "asteval==1.0.6"),
    (3, 13): ("numpy==2.2.6", "scipy==1.15.3", "networkx==3.4.2", "asteval==1.0.6"),
}
"""What is installed per Python, all that lava's neurons and connections import; 3.10 within lava's own ranges."""
FORMAT = 1
FAILURES = (OSError, subprocess.SubprocessError, WorkerUnavailable, WorkerTimeout, WorkerCrashed, WorkerProtocolError)
"""What passes over a rung."""
HELP = (
    "'spikeport lava setup' builds its environment; with an interpreter of yours: 'spikeport lava setup --python PATH'"
)

Echo = Callable[[str], None]


@dataclass(frozen=True)
class Environment:
    """A worker's interpreter: where, found on which rung, and what it said of itself."""

    python: str
    rung: str
    hello: dict[str, Any] = field(default_factory=dict)


def folder() -> Path:
    """Where the environment and its record are."""
    given = os.environ.get("SPIKEPORT_LAVA")
    if given:
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "spikeport" / "lava"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "spikeport" / "lava"


def recorded() -> Environment | None:
    """What an earlier setup left, or None where there is nothing, or a half of it."""
    try:
        data = json.loads((folder() / "lava.json").read_text())
        if data.pop("format") != FORMAT:
            return None
        found = Environment(**data)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return found if Path(found.python).exists() else None


def environment() -> Environment:
    """What to start a worker with: the interpreter given, or what was built on it; else what is recorded.

    Errors: :class:`WorkerUnavailable` with the commands that help.
    """
    given, found = os.environ.get("SPIKEPORT_LAVA_PYTHON"), recorded()
    if given and (found is None or found.rung != _built_on(given)):
        return Environment(given, _as_it_is(given))
    if found is None:
        raise WorkerUnavailable(f"lava-nc is not set up here ({folder()} has no whole environment): {HELP}")
    return found


def missing() -> list[str]:
    """What the engine "lava" lacks here, with the command that helps; empty means ready."""
    try:
        environment()
    except WorkerUnavailable as error:
        return [str(error)]
    return []


def command(python: str | Path) -> list[str]:
    """What starts the worker: isolated, so that no package of ours or of the user's site gets in."""
    return [str(python), "-I", str(Path(__file__).with_name("worker.py"))]


def setup(python: str | None = None, *, rebuild: bool = False, echo: Echo = lambda _: None) -> Environment:
    """Find or build the environment, record it. ``rebuild`` passes over the recorded one.

    Errors: :class:`WorkerUnavailable` with what was tried and the exact commands.
    """
    if not hasattr(os, "fork"):
        raise WorkerUnavailable(
            "lava's worker forks its processes: use Linux, macOS, or the Linux subsystem of Windows"
        )
    folder().mkdir(parents=True, exist_ok=True)
    tried: list[str] = []
    with _locked(folder() / "lock"):
        for half in folder().glob(".building-*"):
            shutil.rmtree(half, ignore_errors=True)
        for rung, make in _rungs(python, rebuild, echo):
            echo(f"trying {rung}")
            try:
                found = Environment(str(path := make()), rung, _hello(path))
            except FAILURES as error:
                tried.append(f"{rung}: {_short(error)}")
                echo(f"  no: {_short(error)}")
                continue
            write_text(folder() / "lava.json", json.dumps({"format": FORMAT} | asdict(found), indent=1))
            return found
    raise WorkerUnavailable(_advice(tried))


def _rungs(python: str | None, rebuild: bool, echo: Echo) -> Iterator[tuple[str, Callable[[], Path]]]:
    given = python or os.environ.get("SPIKEPORT_LAVA_PYTHON")
    old = None if rebuild else recorded()
    if old is not None and (not given or old.rung == _built_on(given)):
        yield old.rung, partial(Path, old.python)
    if given:
        yield _as_it_is(given), partial(_has_lava, given)
        yield _built_on(given), partial(_build, given, echo)
        return
    for path in interpreters("3.10"):
        yield f"CPython 3.10, {path}", partial(_build, path, echo)
    if uv := shutil.which("uv"):
        yield "CPython 3.10 by uv", partial(_build, uv, echo)
    for path in dict.fromkeys([sys.executable, *(p for minor in (11, 12, 13) for p in interpreters(f"3.{minor}"))]):
        yield f"CPython 3.11 to 3.13 with the shim, {path}", partial(_build, path, echo)


def _as_it_is(python: str) -> str:
    return f"{python} as it is"


def _built_on(python: str) -> str:
    return f"an environment on {python}"


def interpreters(version: str) -> list[str]:
    """Interpreters of that version that are there, on PATH, of pyenv and of conda; whether they start is not tried."""
    found = [Path(d) / f"python{version}" for d in os.environ.get("PATH", "").split(os.pathsep) if d]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found += sorted(pyenv.glob(f"{version}*/bin/python"), reverse=True)
    roots = [Path.home() / name for name in ("miniconda3", "anaconda3", "miniforge3", "mambaforge", ".conda")]
    roots += [Path(os.environ[k]) for k in ("CONDA_PREFIX", "MAMBA_ROOT_PREFIX") if os.environ.get(k)]
    found += [
        p for root in roots for p in (root / "bin" / f"python{version}", *root.glob(f"envs/*/bin/python{version}"))
    ]
    return list(dict.fromkeys(str(p) for p in found if os.access(p, os.X_OK)))


def _version(python: str) -> tuple[int, int]:
    """Errors: :class:`WorkerUnavailable` where it does not start, is no CPython or cannot make environments."""
    code = "import sys, venv, ensurepip; print(sys.implementation.name, *sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise WorkerUnavailable(f"does not start: {error}") from None
    words = done.stdout.split()
    if done.returncode or len(words) != 3:
        raise WorkerUnavailable(f"does not start, or has no venv: {done.stderr.strip()[-200:]}")
    if words[0] != "cpython" or (version := (int(words[1]), int(words[2]))) not in PINS:
        raise WorkerUnavailable(f"is {' '.join(words)}; lava-nc 0.10 runs on CPython 3.10 to 3.13")
    return version


def _has_lava(python: str) -> Path:
    _version(python)
    return Path(python)


def _build(tool: str, echo: Echo) -> Path:
    """An environment on the interpreter ``tool``, or by uv; whole or not at all."""
    by_uv = Path(tool).name == "uv"
    version = (3, 10) if by_uv else _version(tool)
    beside, place = folder() / f".building-{os.getpid()}", folder() / "env"
    try:
        echo(f"  building {place}: {LAVA} {' '.join(PINS[version])}")
        _do([tool, "venv", "--seed", "--python", "3.10", str(beside)] if by_uv else [tool, "-m", "venv", str(beside)])
        _do([str(beside / "bin" / "python"), *_pip(version)])
        _hello(beside / "bin" / "python")
        if place.exists():
            place.rename(folder() / f".building-{os.getpid()}-old")
        beside.rename(place)
    finally:
        for half in folder().glob(f".building-{os.getpid()}*"):
            shutil.rmtree(half, ignore_errors=True)
    return place / "bin" / "python"


def _pip(version: tuple[int, int]) -> list[str]:
    return [
        "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--ignore-requires-python",
        "--only-binary=:all:", LAVA, *PINS[version],
    ]  # fmt: skip


def _do(line: Sequence[str]) -> None:
    done = subprocess.run(line, capture_output=True, text=True, timeout=900)
    if done.returncode:
        last = (done.stderr or done.stdout).strip()[-600:]
        raise WorkerUnavailable(f"'{' '.join(line)}' failed: {last}")


def _hello(python: Path) -> dict[str, Any]:
    link = Link(command(python), start_s=120.0)
    link.close()
    return {k: link.hello[k] for k in ("python", "numpy", "scipy", "lava", "shim")}


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return " ... ".join(dict.fromkeys([lines[0], lines[-1]])) if lines else repr(error)


def _advice(tried: Sequence[str]) -> str:
    install = " ".join(_pip((3, 10))[2:])
    return "\n  ".join(
        [
            "no interpreter here can run lava-nc 0.10. Tried:",
            *(tried or ["nothing: none was found"]),
            "Give one, any of these ways:",
            "uv python install 3.10 && spikeport lava setup",
            "conda create -n lava python=3.10 && spikeport lava setup",
            "spikeport lava setup --python /path/to/python3.10",
            f"or by hand: /path/to/python3.10 -m pip {install} && spikeport lava setup --python /path/to/python3.10",
        ]
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One setup at a time: tests in several processes ask for it at once."""
    import fcntl

    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
