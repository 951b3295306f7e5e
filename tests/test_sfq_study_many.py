"""Work in pieces: however it is cut, spread, stopped and resumed, the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from sfq_study_decks import switch, switches

from export.package import PackageError, read_package
from sim.sfq.study.bench import Pass, bench
from sim.sfq.study.fingerprint import fingerprint
from sim.sfq.study.many import FORMAT, Arrays, Many
from sim.sfq.study.montecarlo import montecarlo
from sim.sfq.study.parameters import corners_of, parameter


@dataclass(frozen=True)
class Squares:
    """Row k is (k, k^2); ``until`` stops it on the way."""

    first: int
    last: int
    until: int = 10**9

    @property
    def count(self) -> int:
        return self.last - self.first

    def take(self, first: int, last: int) -> Squares:
        return replace(self, first=self.first + first, last=self.first + last)

    def run(self, threads: int) -> Arrays:
        if self.last > self.until:
            raise KeyboardInterrupt
        k = np.arange(self.first, self.last)
        return {"square": k**2, "pair": np.stack([k, -k], axis=1), "right": k % 3 == 0}


def same(a: Arrays, b: Arrays) -> None:
    assert a.keys() == b.keys()
    for name, rows in a.items():
        assert rows.dtype == b[name].dtype
        assert np.array_equal(rows, b[name]), name


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_pieces_come_together_in_order(chunk: int) -> None:
    seen: list[float] = []
    done = Many(chunk=chunk, progress=seen.append).run(Squares(0, 20), part=(0.5, 1.0))
    same(done, Squares(0, 20).run(1))
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    assert min(seen) > 0.5


def passes() -> Pass:
    deck = switch()
    tested = bench(deck, switches())
    factors = np.linspace(0.78, 1.3, 12)[:, None]
    return Pass(tested, corners_of(tested.circuit, [parameter(deck, "I")], factors))


def test_threads_and_processes_give_the_same_bits() -> None:
    """A real circuit over an executor of each kind; the margins are known: 5/6 and 5/4."""
    here = Many(chunk=5).run(passes())
    right = here["fails"] < 0
    x = np.linspace(0.78, 1.3, 12)
    assert right.tolist() == ((x > 5 / 6) & (x < 5 / 4)).tolist()
    pools: list[Executor] = [ThreadPoolExecutor(2), ProcessPoolExecutor(2, mp_context=get_context("spawn"))]
    for pool in pools:
        with pool:
            same(Many(pool, chunk=4, ahead=2).run(passes()), here)


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "work.npz"
    done: list[float] = []
    with pytest.raises(KeyboardInterrupt):
        Many(chunk=3, checkpoint=file, progress=stop_at(0.5)).run(Squares(0, 20))
    rest = Many(chunk=4, checkpoint=file, progress=done.append).run(Squares(0, 20))
    same(rest, Squares(0, 20).run(1))
    assert len(done) == 2, "12 rows were done, 8 are left: two pieces of 4"
    assert list(tmp_path.iterdir()) == [file], "written beside and renamed, nothing left"


def stop_at(share: float) -> object:
    def progress(part: float) -> None:
        if part > share:
            raise KeyboardInterrupt

    return progress


INTERRUPTED = """
import sys
from sfq_study_decks import switch, switches
from sim.sfq import montecarlo

def progress(part):
    print(part, flush=True)

montecarlo(switch(), switches(), n=4000, spread={"B": 0.6}, seed=3, chunk=8, checkpoint=sys.argv[1], progress=progress)
"""


def heeds_ctrl_c() -> None:
    """A shell's background job, and all it starts, ignores SIGINT; a test's child must not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_leaves_a_file_to_go_on_from(tmp_path: Path) -> None:
    """A real interrupt of a real process, somewhere on the way; the rows it wrote are those of an unbroken run."""
    file, here = tmp_path / "mc.npz", Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(file)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path}, preexec_fn=heeds_ctrl_c,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        assert [float(child.stdout.readline()) for _ in range(3)] == [0.002, 0.004, 0.006]
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
    assert child.returncode != 0
    assert "KeyboardInterrupt" in errors
    arrays = read_package(file, FORMAT)[1]
    done = next(rows for name, rows in arrays.items() if name.endswith(".done"))
    fails = next(rows for name, rows in arrays.items() if name.endswith(".fails"))
    count = int(done.sum())
    assert 24 <= count < 4000
    assert done[:count].all()
    whole = montecarlo(switch(), switches(), n=min(count, 100), spread={"B": 0.6}, seed=3)
    assert fails[: len(whole.fails)].tolist() == whole.fails.tolist()


def test_a_worker_that_fails_stops_the_run_and_keeps_what_is_done(tmp_path: Path) -> None:
    file = tmp_path / "work.npz"
    job = Squares(0, 20, until=13)
    with ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt):
        Many(pool, chunk=4, ahead=2, checkpoint=file).run(job)
    with pytest.raises(KeyboardInterrupt):
        Many(chunk=4, checkpoint=file, progress=stop_at(2.0)).run(job)


def test_one_file_for_several_jobs(tmp_path: Path) -> None:
    file = tmp_path / "work.npz"
    many = Many(chunk=8, checkpoint=file)
    first, second = many.run(Squares(0, 9)), many.run(Squares(5, 9))
    again = Many(checkpoint=file, progress=never)
    same(again.run(Squares(5, 9)), second)
    same(again.run(Squares(0, 9)), first)


def never(part: float) -> None:
    raise AssertionError(f"nothing was left to do, yet {part} was done")


def test_bad_files_and_settings(tmp_path: Path) -> None:
    file = tmp_path / "work.npz"
    file.write_bytes(b"PK not a file")
    with pytest.raises(PackageError, match=r"work\.npz"):
        Many(checkpoint=file)
    with pytest.raises(ValueError, match="at least 1"):
        Many(chunk=0)


@dataclass(frozen=True)
class Short(Squares):
    """Gives a row too few."""

    def run(self, threads: int) -> Arrays:
        return {"square": np.zeros(self.count - 1)}


def test_a_job_must_give_a_row_a_corner() -> None:
    with pytest.raises(ValueError, match="square has 3 rows for 4 corners"):
        Many().run(Short(0, 4))


def scaled(k: float, x: float) -> float:
    return k * x


def test_fingerprints_name_content() -> None:
    circuit = switch().flatten()
    again = replace(switch().flatten(), where={})
    assert fingerprint(circuit) == fingerprint(again)
    thicker = replace(circuit, resistors=replace(circuit.resistors, value=circuit.resistors.value * 2))
    assert fingerprint(thicker) != fingerprint(circuit)
    assert fingerprint(switches()) == fingerprint(switches())
    assert fingerprint(partial(scaled, 2.0)) != fingerprint(partial(scaled, 3.0))
    assert fingerprint(lambda x: x + 1) != fingerprint(lambda x: x + 2)
    assert fingerprint(np.zeros(2)) != fingerprint(np.zeros((2, 1)))
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint(1) != fingerprint(1.0)
    assert fingerprint(np.float64(1.5)) == fingerprint(1.5)
    with pytest.raises(ValueError, match="by its content"):
        fingerprint(object())


def named(name: str) -> bool:
    return name in {"alpha", "beta", "gamma", "delta"}


def test_fingerprints_are_those_of_another_process() -> None:
    code = "from test_sfq_study_many import *; print(fingerprint(named, passes(), partial(scaled, 2.0)))"
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "77"}
    other = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    mine = fingerprint(named, passes(), partial(scaled, 2.0))
    assert other.strip() == mine
