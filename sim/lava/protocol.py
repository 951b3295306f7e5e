"""Frames between client and worker, version 1: length of header and payload, JSON header, arrays as an ``.npz``.

    u32 header bytes, u32 payload bytes (both little-endian), header, payload

Strictly one reply to one request. Requests carry ``op`` and ``seq``; a reply echoes ``seq`` and has ``op`` "ok" or
"error"; ``sha256`` is that of the payload. The worker speaks first, with ``op`` "hello". Needs numpy and nothing of
ours: both sides import it.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from typing import Any

import numpy as np

PROTO = 1
MAX_FRAME = 256 * 2**20
"""Bytes of one frame."""
HEAD = struct.Struct("<II")

Arrays = dict[str, Any]


class FrameError(ValueError):
    """Bytes that are no frame of this protocol, or one that is too large."""


def encode(header: dict[str, Any], arrays: Arrays | None = None, limit: int = MAX_FRAME) -> bytes:
    """One frame. Errors: :class:`FrameError` over ``limit``."""
    buffer = io.BytesIO()
    if arrays:
        np.savez(buffer, **arrays)
    payload = buffer.getvalue()
    stamp = {"sha256": hashlib.sha256(payload).hexdigest()} if payload else {}
    text = json.dumps(header | stamp).encode()
    size = HEAD.size + len(text) + len(payload)
    if size > limit:
        raise FrameError(f"a frame of {size} bytes is over the limit of {limit}; send fewer samples or steps at a time")
    return HEAD.pack(len(text), len(payload)) + text + payload


def sizes(head: bytes, limit: int = MAX_FRAME) -> tuple[int, int]:
    """``(header, payload)`` bytes that follow the first eight. Errors: :class:`FrameError`."""
    header, payload = HEAD.unpack(head)
    if HEAD.size + header + payload > limit:
        raise FrameError(f"{head!r} announces {header} and {payload} bytes, over the limit of {limit}")
    return header, payload


def decode(header: bytes, payload: bytes) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays. Errors: :class:`FrameError`."""
    try:
        head = json.loads(header)
        if not isinstance(head, dict):
            raise ValueError("the header is no JSON object")
        if not payload:
            return head, {}
        if head.get("sha256") != hashlib.sha256(payload).hexdigest():
            raise ValueError("the arrays do not have the hash that the header gives")
        with np.load(io.BytesIO(payload), allow_pickle=False) as z:
            return head, {k: z[k] for k in z.files}
    except Exception as error:  # json, zipfile, zlib and numpy each have errors of their own
        raise FrameError(f"no frame: {error!r}; starts with {header[:40]!r}") from None


def pack(x: Any) -> tuple[Any, list[int] | None]:
    """``(array to send, shape)``: spikes as bits, eight a byte; shape None where it is sent as it is."""
    x = np.asarray(x)
    if x.size and x.min() >= 0 and x.max() <= 1:
        return np.packbits(x.astype(np.uint8)), list(x.shape)
    return x, None


def unpack(a: Any, shape: list[int] | None) -> Any:
    """What :func:`pack` was given; bits as int8."""
    if shape is None:
        return a
    return np.unpackbits(a, count=int(np.prod(shape))).reshape(shape).astype(np.int8)
