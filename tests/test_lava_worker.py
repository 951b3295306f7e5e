"""The real worker: programs stepped, run and resumed as our engine does, and survived when it is killed or hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lava_programs import fds, gone, ready, session
from loihi_programs import program

from export.assemble import assemble
from export.loihi import ConvEdge, DenseEdge, InputNode, Lif, LoihiProgram, ResonateFire, Ternary
from sim import engines
from sim.lava import client as module
from sim.lava.client import Client
from sim.lava.link import WorkerCrashed, WorkerTimeout
from sim.loihi import engine, reference

pytestmark = pytest.mark.lava


@pytest.fixture(scope="module", autouse=True)
def _lava() -> None:
    ready()


@pytest.fixture
def lava() -> Iterator[Client]:
    before = fds()
    with Client(timeout_s=60) as made:
        yield made
        pid = None if made.link is None else made.link.process.pid
    assert pid is None or gone(pid)
    assert fds() == before


def small() -> tuple[LoihiProgram, Any]:
    """A loop of two populations, bias and state from a later start on, delays and a residual path."""
    rng = np.random.default_rng(7)

    def w(n: int, m: int) -> Any:
        return rng.integers(-120, 130, (n, m)).astype(np.int16)

    bias = rng.integers(0, 400, 10).astype(np.int16)
    nodes = {
        "in": InputNode((12,)),
        "a": Lif((10,), 2047, 1024, 150, bias, 3, u0=rng.integers(-9000, 9000, 10)),
        "b": Lif((4,), 4095, 512, 80, np.full(4, 60, np.int16), 4, v0=np.arange(4) * 500),
    }
    edges = [
        DenseEdge("in", "a", w(10, 12), "mixed"),
        DenseEdge("a", "b", w(4, 10), "mixed", delays=rng.integers(0, 3, (4, 10))),
        DenseEdge("b", "a", w(10, 4), "mixed", -1),
        DenseEdge("in", "b", w(4, 12), "mixed", 1, delay=1),
    ]
    return assemble(nodes, edges, "b"), (rng.random((3, 24, 12)) < 0.3).astype(np.int8)


def worker_of(lava: Client) -> int:
    assert lava.link is not None
    return int(lava.link.hello["pid"])


def keeper_of(lava: Client) -> int:
    assert lava.link is not None
    return lava.link.process.pid


@pytest.mark.slow
def test_a_closed_loop_of_1000_steps_is_identical(lava: Client) -> None:
    made, _ = small()
    rng, state, last, fired = np.random.default_rng(1), None, np.zeros((2, 4), np.int8), 0
    lava.load(made)
    for _ in range(1000):
        x = (rng.random((2, *made.input_shape)) < 0.2 + 0.2 * last.mean()).astype(np.int8)
        x[:, :4] ^= last
        want, state = engine.step(made, state, x)
        last = lava.step(x)
        assert (last == want).all()
        fired += int(last.sum())
    assert 500 < fired < 7500
    assert lava.stats()["running"]["steps"] == 1000


def test_steps_have_probes_and_reset_begins_again(lava: Client) -> None:
    made, x = small()
    lava.load(made)
    probes = ("a.u", "b.v")
    for _ in range(2):
        state = None
        for t in range(6):
            seen = lava.watch(x[:, t], probes)
            _, state = reference.step(made, state, x[:, t])
            assert (seen.found["a.u"][:, 0] == state.vars["a"]["u"]).all()
            assert (seen.found["b.v"][:, 0] == state.vars["b"]["v"]).all()
        lava.reset()
    with pytest.raises(ValueError, match=r"no probe 'a\.w'; there are a\.s, a\.u"):
        lava.watch(x[:, 0], ("a.w",))


def test_many_samples_go_in_several_graphs(lava: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    made, x = small()
    monkeypatch.setattr(module, "PROCESSES", 20)
    lava.load(made)
    shares: list[float] = []
    got = lava.run(x[:, :10], ("a.v",), shares.append)
    want = reference.run(made, x[:, :10], probes=("a.v",))
    assert (got.y == want.y).all()
    assert (got.found["a.v"] == want.probes["a.v"]).all()
    assert len(shares) > 1
    assert shares[-1] == 1.0
    assert got.wall_s > 0
    assert got.steps == len(shares) * (10 + made.latency)


def test_lava_is_an_engine_like_the_others() -> None:
    made, x = small()
    assert engines.engine("lava").kind == "loihi"
    got = engines.run(made, x[:, :12], "lava")
    want = engines.run(made, x[:, :12], "loihi")
    for probe in made.watched:
        assert (got.probes[probe] == want.probes[probe]).all()
    assert (got.y == want.y).all()
    for event in ("spikes", "synaptic_events", "messages", "neuron_updates", "hops_ew", "hops_ns"):
        assert got.counts[event] == want.counts[event]
    assert got.machine_s == want.machine_s
    assert got.versions["lava-nc"].startswith("0.10")
    assert not any("stock" in n for n in got.notes)
    soft = {n: replace(p, reset="subtract", subtract=9) if isinstance(p, Lif) else p for n, p in made.nodes.items()}
    noted = engines.run(replace(made, nodes=soft), x[:, :3], "lava").notes
    assert any("no stock lava process" in n for n in noted)


def test_killed_in_mid_run_says_so_and_starts_again(lava: Client) -> None:
    made, x = small()
    long = np.repeat(x[:1], 200, axis=1)
    lava.load(made)
    keeper, target = keeper_of(lava), worker_of(lava)
    timer = threading.Timer(1.0, os.kill, (target, signal.SIGKILL))
    timer.start()
    with pytest.raises(WorkerCrashed, match=r"lava run: the worker ended \(SIGKILL\); it starts again"):
        lava.run(long)
    timer.join()
    assert gone(keeper)
    assert not list(Path("/dev/shm").glob(f"{module.shared_name(keeper)}*"))
    assert (lava.run(x[:, :5]).y == engine.run(made, x[:, :5]).y).all()


def test_one_of_lavas_processes_dies_and_it_is_said(lava: Client) -> None:
    made, x = small()
    lava.load(made)
    lava.step(x[:, 0])
    keeper = keeper_of(lava)
    os.kill(max(session(keeper)), signal.SIGKILL)
    with pytest.raises(WorkerCrashed, match="one of lava's processes ended with exit code -9"):
        lava.step(x[:, 1])
    assert gone(keeper)
    with pytest.raises(WorkerCrashed, match="its state is lost"):
        lava.step(x[:, 2])
    want, _ = engine.step(made, None, x[:, 0])
    assert (lava.step(x[:, 0]) == want).all()


def test_stopped_worker_is_a_timeout(lava: Client) -> None:
    made, x = small()
    lava.load(made)
    keeper = keeper_of(lava)
    os.kill(worker_of(lava), signal.SIGSTOP)
    lava.timeout_s = 1.0
    with pytest.raises(WorkerTimeout):
        lava.run(x)
    assert gone(keeper)


def test_what_lava_raises_comes_back_with_its_traceback(lava: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delay over 63 gets past us here; lava refuses it in one of its processes, while the graph runs."""
    edge = DenseEdge("in", "h", np.full((2, 2), 8, np.int16), "mixed", delay=70)
    made = assemble({"in": InputNode((2,)), "h": Lif((2,), 0, 0, 1)}, [replace(edge, delay=1)], "h")
    monkeypatch.setattr(module, "refuse", lambda _: None)
    lava.load(replace(made, edges=[edge]))
    with pytest.raises(WorkerCrashed, match=r"(?s)lava run: RuntimeError.*expects values between 0 and 63"):
        lava.run(np.ones((1, 3, 2), np.int8))


def test_a_client_that_dies_takes_its_worker_along() -> None:
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from test_lava_worker import small\n"
        "from sim.lava.client import Client\n"
        "made, x = small(); lava = Client(); lava.load(made); lava.step(x[:, 0])\n"
        "print(lava.link.process.pid, flush=True); time.sleep(1000)\n"
    )
    line = [sys.executable, "-c", code, str(Path(__file__).parent)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        keeper = int(other.stdout.readline())
        assert len(session(keeper)) > 5
        other.kill()
    assert gone(keeper, 5.0)
    assert not list(Path("/dev/shm").glob(f"{module.shared_name(keeper)}*"))


def test_floats_and_what_lava_does_not_have_are_refused_here() -> None:
    base, _ = program("dense", 2)
    lif = Lif((4,), 0, 0, 1)
    with Client() as lava:
        for node, says in (
            (replace(lif, du=0.5), r"o: du holds floats"),
            (replace(lif, bias=np.ones(4)), r"o: bias must hold integers"),
            (replace(lif, vth=np.full(4, 1.5)), r"o: vth must hold integers|o: vth holds floats"),
        ):
            with pytest.raises(ValueError, match=says):
                lava.load(replace(base, nodes=dict(base.nodes) | {"o": node}))
        image = assemble(
            {"in": InputNode((1, 3, 3)), "o": Lif((1, 2, 2), 0, 0, 1)},
            [ConvEdge("in", "o", np.full((1, 1, 2, 2), 8, np.int16), "mixed")], "o", law="hw",
        )  # fmt: skip
        with pytest.raises(ValueError, match="lava's Conv neither clips nor shifts; compile with law='lava'"):
            lava.load(image)
        for late in (ResonateFire((2,), 1, 1, 1, 0, izhikevich=True), Ternary((2,), 0, 0, 5, 1)):
            edge = DenseEdge("in", "o", np.full((2, 1), 8, np.int16), "mixed")
            with pytest.raises(ValueError, match="o: fires at rest, before its start"):
                lava.load(assemble({"in": InputNode((1,)), "o": late}, [edge], "o"))
        assert lava.link is None
        with pytest.raises(ValueError, match="0 programs are loaded"):
            lava.run(np.zeros((1, 1, 1), np.int8))
