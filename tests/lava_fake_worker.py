"""A worker that misbehaves, ``python lava_fake_worker.py MODE``; it has its own words for the protocol's frames."""

from __future__ import annotations

import json
import os
import struct
import sys
import time
from typing import Any

MODE = sys.argv[1]


def write(data: bytes) -> None:
    """To the pipe."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def frame(header: dict[str, Any], payload: bytes = b"") -> bytes:
    """One frame."""
    text = json.dumps(header).encode()
    return struct.pack("<II", len(text), len(payload)) + text + payload


def read(n: int) -> bytes:
    """From the pipe, or end."""
    data = sys.stdin.buffer.read(n)
    if len(data) < n:
        sys.exit(0)
    return data


def misbehave(seq: int) -> None:
    """What MODE says, instead of an answer."""
    if MODE == "hang":
        time.sleep(1000)
    elif MODE == "exit":
        sys.stderr.write("x" * 10000 + "the cause\n")
        sys.exit(7)
    elif MODE == "abort":
        os.abort()
    elif MODE == "garbage":
        write(b"Warning: something printed this\n" * 3)
    elif MODE == "garbage-forever":
        while True:
            write(b"\0" * 65536)
    elif MODE == "oversized":
        write(struct.pack("<II", 10, 2**32 - 1) + b"{}")
    elif MODE == "half":
        write(frame({"op": "ok", "seq": seq}, b"PK..")[:-2])
        time.sleep(1000)
    elif MODE == "no-zip":
        write(frame({"op": "ok", "seq": seq}, b"no zip at all"))
    elif MODE == "no-object":
        write(struct.pack("<II", 2, 0) + b"[]")
    elif MODE == "wrong-seq":
        write(frame({"op": "ok", "seq": seq + 1}))
    elif MODE == "orphan":  # a child keeps the pipes open, the worker is gone
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(9)
    elif MODE == "error":
        told = {"code": "RuntimeError", "message": "lava broke", "where": "run", "traceback": "Traceback: line 1"}
        write(frame({"op": "error", "seq": seq, **told}))
    elif MODE == "noise":
        sys.stderr.write("noise\n" * 100000)
        sys.stderr.flush()
        write(frame({"op": "ok", "seq": seq, "fine": True}))
    elif MODE == "closed":
        os.close(1)
        time.sleep(1000)


if MODE == "mute":
    time.sleep(1000)
hello = {"op": "hello", "proto": 1, "lava": "0.10.0", "python": "3", "numpy": "1", "pid": os.getpid()}
write(frame(hello | {"old-proto": {"proto": 0}, "old-lava": {"lava": "0.9.1"}}.get(MODE, {})))
while True:
    size, more = struct.unpack("<II", read(8))
    request = json.loads(read(size))
    read(more)
    if request["op"] in ("load", "bye"):
        write(frame({"op": "ok", "seq": request["seq"]}))
    else:
        misbehave(request["seq"])
