"""The worker: a stand-alone script for an interpreter that has lava-nc. It imports nothing of ours but this folder.

    python -I worker.py

Standard input and output carry the frames of :mod:`sim.lava.protocol`; whatever lava or Python prints goes to standard
error. Two processes: a keeper, which imports nothing and waits, and the worker proper. When the worker ends, however
it ends, when the keeper is told to stop, or when the client dies, the keeper kills and reaps all that lava started.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import platform
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable
from multiprocessing import shared_memory
from pathlib import Path

HERE = Path(__file__).resolve().parent
SUBREAPER = 36
"""``PR_SET_CHILD_SUBREAPER`` of linux/prctl.h."""
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> None:
    """Say hello, then answer until the input closes."""
    _keep()
    inward, outward = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    _apart(inward, outward)
    shared_memory._SHM_NAME_PREFIX = f"/sp{os.getppid():x}_"  # type: ignore[attr-defined]  # a private name of Python's: so that a kill can clean up
    for name, where in (("sim", HERE.parent), ("sim.lava", HERE)):  # this folder of the package, without the package
        package = types.ModuleType(name)
        package.__path__ = [str(where)]
        sys.modules[name] = package
    from sim.lava import protocol, shim

    mended = shim.load()
    logging.getLogger("lava").setLevel(logging.INFO)
    from sim.lava.serve import Server, versions

    server, limit = Server(), protocol.MAX_FRAME
    hello = {"op": "hello", "proto": protocol.PROTO, "python": platform.python_version(), "shim": mended}
    _write(outward, protocol.encode(hello | versions() | {"pid": os.getpid()}))
    while True:
        head = _read(inward, protocol.HEAD.size)
        parts = [_read(inward, n) for n in protocol.sizes(head, limit)]
        header, arrays = protocol.decode(*parts)
        seq, op = header.get("seq"), str(header.get("op"))
        try:
            if op == "bye":
                server.stop()
            reply, found = ({}, {}) if op == "bye" else server.answer(op, header, arrays)
            frame = protocol.encode({"op": "ok", "seq": seq, **reply}, found, limit)
        except Exception as error:  # whatever lava raises goes to the client, with where
            told = {"op": "error", "seq": seq, "where": op, "code": type(error).__name__, "message": str(error)}
            frame = protocol.encode(told | {"traceback": traceback.format_exc()[-8000:]})
        _write(outward, frame)
        if op == "bye":
            os._exit(0)


def _keep() -> None:
    """Fork; the child, in a process group of its own, returns and is the worker, this process keeps it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)  # Linux: orphans of the worker become ours, not init's
    client = os.getppid()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        return
    with contextlib.suppress(OSError):
        os.setpgid(child, child)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    for each in STOPS:
        signal.signal(each, _stop)
    _while_parent(client, lambda: os.kill(os.getpid(), signal.SIGTERM))
    status = int(signal.SIGTERM)
    with contextlib.suppress(_Stopped, ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == child:
                break
        _deaf()  # within the block: a signal that still comes must not end what follows
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    for left in Path("/dev/shm").glob(f"sp{os.getpid():x}_*"):  # lava unlinks its memory at a regular end only
        with contextlib.suppress(OSError):
            left.unlink()
    if os.WIFSIGNALED(status):  # end as the worker did, so that the client can say how
        number: int = os.WTERMSIG(status)
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


class _Stopped(Exception):
    """The keeper is to end."""


def _stop(*_: object) -> None:
    _deaf()
    raise _Stopped


def _deaf() -> None:
    for each in STOPS:
        signal.signal(each, signal.SIG_IGN)


def _while_parent(parent: int, after: Callable[[], None]) -> None:
    """Call ``after`` once ``parent`` is gone."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.3)
        after()

    threading.Thread(target=watch, daemon=True).start()


def _apart(inward: int, outward: int) -> None:
    """Lava's processes do not hold our pipes; we do not outlive the keeper."""

    def child() -> None:
        os.close(inward)
        os.close(outward)

    os.register_at_fork(after_in_child=child)
    _while_parent(os.getppid(), lambda: os.killpg(0, signal.SIGKILL))


def _read(fd: int, n: int) -> bytes:
    parts = []
    while n:
        part = os.read(fd, min(n, 2**20))
        if not part:
            os._exit(0)
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


if __name__ == "__main__":
    main()
