"""The worker: a stand-alone script for an interpreter that has lava-nc. It imports nothing of ours but this folder.

    python -I worker.py

Standard input and output carry the frames of :mod:`sim.lava.protocol`; whatever lava or Python prints goes to standard
error. It ends, with everything that lava started, when its input closes or its parent dies.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import signal
import sys
import threading
import time
import traceback
import types
from multiprocessing import shared_memory
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent
CAPABILITIES = ("load", "run", "step", "reset", "stats", "bye")


def main() -> None:
    """Say hello, then answer until the input closes."""
    inward, outward = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    _apart(inward, outward)
    shared_memory._SHM_NAME_PREFIX = f"/sp{os.getpid():x}_"  # type: ignore[attr-defined]  # so that a kill can clean up
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
    _write(outward, protocol.encode(hello | versions() | {"capabilities": list(CAPABILITIES), "pid": os.getpid()}))
    while True:
        head = _read(inward, protocol.HEAD.size)
        parts = [_read(inward, n) for n in protocol.sizes(head, limit)]
        header, arrays = protocol.decode(*parts)
        seq, op = header.get("seq"), str(header.get("op"))
        try:
            if header.get("sha256") not in (None, hashlib.sha256(parts[1]).hexdigest()):
                raise ValueError("the arrays do not have the hash that the header gives")
            if op == "bye":
                server.stop()
            reply, found = ({}, {}) if op == "bye" else server.answer(op, header, arrays)
            frame = protocol.encode({"op": "ok", "seq": seq, **reply}, found, limit)
        except Exception as error:  # whatever lava raises goes to the client, with where
            told = {"op": "error", "seq": seq, "where": op, "code": type(error).__name__, "message": str(error)}
            frame = protocol.encode(told | {"traceback": traceback.format_exc()[-8000:]})
        _write(outward, frame)
        if op == "bye":
            _end(0)


def _apart(inward: int, outward: int) -> None:
    """Lava's processes do not hold our pipes, and do not outlive us; we do not outlive our parent."""
    parent = os.getppid()

    def child() -> None:
        os.close(inward)
        os.close(outward)

    os.register_at_fork(after_in_child=child)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        _end(1)

    threading.Thread(target=watch, daemon=True).start()


def _end(code: int) -> NoReturn:
    """Leave at once, and take the process group with us if we lead it."""
    if os.getpgid(0) == os.getpid():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)
    os._exit(code)


def _read(fd: int, n: int) -> bytes:
    parts = []
    while n:
        part = os.read(fd, min(n, 2**20))
        if not part:
            _end(0)
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


if __name__ == "__main__":
    main()
