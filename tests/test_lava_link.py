"""Whatever the worker does, the client ends in time with the right error, no process and no descriptor left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lava_programs import fds, gone, session

from sim.lava import protocol
from sim.lava.link import Link, WorkerCrashed, WorkerProtocolError, WorkerTimeout, WorkerUnavailable, shared_name

FAKE = Path(__file__).with_name("lava_fake_worker.py")


def command(mode: str) -> list[str]:
    return [sys.executable, str(FAKE), mode]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = fds()
    yield
    assert fds() == before


@pytest.mark.parametrize(
    ("mode", "error", "says"),
    [
        ("hang", WorkerTimeout, "no answer in time; the worker was killed"),
        ("half", WorkerTimeout, "no answer in time"),
        ("closed", WorkerCrashed, "closed its pipe"),
        ("exit", WorkerCrashed, r"exit code 7.*\n.*\nx+the cause"),
        ("abort", WorkerCrashed, "SIGABRT"),
        ("orphan", WorkerCrashed, "exit code 9"),
        ("error", WorkerCrashed, "lava run: RuntimeError: lava broke\nTraceback: line 1"),
        ("garbage", WorkerProtocolError, "over the limit"),
        ("garbage-forever", WorkerProtocolError, "no frame"),
        ("oversized", WorkerProtocolError, "announces 10 and 4294967295 bytes, over the limit"),
        ("no-zip", WorkerProtocolError, "no frame"),
        ("no-object", WorkerProtocolError, "no JSON object"),
        ("wrong-seq", WorkerProtocolError, "reply 'ok' to 2, asked 1"),
    ],
)
def test_each_misbehaviour_is_named_and_nothing_survives(mode: str, error: type[Exception], says: str) -> None:
    link = Link(command(mode))
    pid = link.process.pid
    assert session(pid)
    began = time.monotonic()
    with pytest.raises(error, match=f"(?s){says}") as caught:
        link.ask("run", timeout_s=1.0)
    assert time.monotonic() - began < 5.0
    assert len(str(caught.value)) < 5000
    assert not link.alive
    assert gone(pid)


@pytest.mark.parametrize(
    ("mode", "error", "says"),
    [
        ("mute", WorkerTimeout, "lava hello: no answer in time"),
        ("old-proto", WorkerProtocolError, "speaks protocol 0, this is 1; run 'spikeport lava setup' again"),
        ("old-lava", WorkerUnavailable, "has lava-nc 0.9.1, the law here is that of 0.10.x"),
    ],
)
def test_a_worker_that_is_not_ours_is_refused_at_its_hello(mode: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Link(command(mode), start_s=1.0)
    mine = str(FAKE).encode()
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if mine in _read(p)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_another_version_can_be_forced_and_no_interpreter_is_said() -> None:
    link = Link(command("old-lava"), force=True)
    assert link.hello["lava"] == "0.9.1"
    link.close()
    with pytest.raises(WorkerUnavailable, match=r"cannot start the lava worker.*'spikeport lava setup'"):
        Link(["/no/such/python"])
    assert issubclass(WorkerUnavailable, ValueError)


def test_much_noise_on_standard_error_does_not_block() -> None:
    link = Link(command("noise"))
    for _ in range(3):
        assert link.ask("run", timeout_s=20.0)[0]["fine"]
    link.close()


def test_a_request_over_the_limit_is_refused_before_it_is_sent() -> None:
    link = Link(command("noise"), limit=2**16)
    with pytest.raises(ValueError, match=r"run: a frame of \d+ bytes is over the limit of 65536; send fewer samples"):
        link.ask("run", arrays={"x": np.zeros(2**16, np.int8)})
    assert link.ask("run", timeout_s=20.0)[0]["fine"]
    link.close()
    assert gone(link.process.pid)


def test_shared_memory_of_a_killed_worker_is_taken_away() -> None:
    link = Link(command("hang"))
    left = Path("/dev/shm") / f"{shared_name(link.process.pid)}ab"
    left.write_bytes(b"lava would have unlinked this")
    os.kill(link.process.pid, signal.SIGKILL)
    with pytest.raises(WorkerCrashed, match="SIGKILL"):
        link.ask("run", timeout_s=5.0)
    assert not left.exists()


def test_frames_round_trip_and_spikes_travel_as_bits() -> None:
    x = np.random.default_rng(0).random((3, 5, 7)) < 0.5
    bits, shape = protocol.pack(x)
    assert bits.nbytes == 14
    assert (protocol.unpack(bits, shape) == x).all()
    graded = np.array([[-3, 70000]], np.int32)
    same, none = protocol.pack(graded)
    assert none is None
    assert (protocol.unpack(same, none) == graded).all()
    data = protocol.encode({"op": "run", "seq": 3}, {"x": bits})
    head, payload = protocol.sizes(data[:8])
    header, arrays = protocol.decode(data[8 : 8 + head], data[8 + head : 8 + head + payload])
    assert header == {"op": "run", "seq": 3}
    assert (arrays["x"] == bits).all()
    pickled = protocol.encode({}, {"x": np.zeros(1)})
    assert json.loads(pickled[8:10]) == {}
    with pytest.raises(protocol.FrameError, match="no frame"):
        protocol.decode(b"{", b"")


def test_workers_and_tests_do_not_need_our_packages() -> None:
    """Worker-side files import the standard library, numpy, scipy, lava and each other."""
    code = "import ast, sys; print(*{n.module for n in ast.walk(ast.parse(open(sys.argv[1]).read())) "
    code += "if isinstance(n, ast.ImportFrom)})"
    folder = Path(protocol.__file__).parent
    for name in ("worker.py", "serve.py", "build.py", "nodes.py", "host.py", "shim.py", "protocol.py"):
        done = subprocess.run([sys.executable, "-c", code, folder / name], capture_output=True, text=True, check=True)
        ours = {m for m in done.stdout.split() if m.split(".")[0] in ("sim", "export", "hardware", "neuro")}
        side = {f"sim.lava.{n}" for n in ("serve", "build", "nodes", "host", "shim", "protocol")} | {"sim.lava"}
        assert ours <= side, name
