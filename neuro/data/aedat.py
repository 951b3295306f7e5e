"""AEDAT files of event cameras: version 2 (jAER) and 3.1 (cAER), as plain columns, checked as far as the format says.

    2.0   lines that begin with #, then 8 bytes an event, big-endian: address, microseconds
    3.1   lines that begin with # up to #!END-HEADER, then packets, little-endian: 28 bytes of header (type, source,
          size, offset of time, overflow of time, capacity, events, valid events) and the events; a polarity event
          (type 1) is a word with x at bit 17, y at bit 2, polarity at bit 1, validity at bit 0, and microseconds

Source: the formats' pages at inivation.github.io/inivation-docs, "AEDAT 2.0" and "AEDAT 3.1". Events marked invalid are
left out and packets of other types passed over, as that page asks. Errors, all: ``ValueError`` without the file's name,
which the caller adds (:func:`neuro.data.files.reading`).
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]
_HEADER = struct.Struct("<HHIIIIII")
_POLARITY = 1
_MOST_EVENT_BYTES = 64 * 2**20
_OVERFLOW = 31
"""Bits of time in an event of version 3; the packet counts what is above."""


def version(data: bytes) -> str:
    """What the first line says: ``2.0``, ``3.1``. Errors: a file that does not begin with ``#!AER-DAT``."""
    if not data.startswith(b"#!AER-DAT"):
        raise ValueError(f"it begins with {data[:9]!r} instead of b'#!AER-DAT'")
    return data[9:32].split(b"\n")[0].strip().decode("ascii", "replace")


def addresses(data: bytes) -> tuple[Column, Column]:
    """Version 2: ``(address uint32, t_us uint32)``, both (events,)."""
    if not version(data).startswith("2"):
        raise ValueError(f"it is AEDAT {version(data)}, and AEDAT 2.0 is wanted")
    start = 0
    while data[start : start + 1] == b"#":
        end = data.find(b"\n", start)
        if end < 0:
            raise ValueError("its header has no end")
        start = end + 1
    body = memoryview(data)[start:]
    if not len(body) or len(body) % 8:
        raise ValueError(f"{len(body)} bytes after the header are no whole number of 8-byte events")
    address, time = np.frombuffer(body, ">u4").reshape(-1, 2).T.astype(np.uint32)
    return address, time


def polarity_events(data: bytes) -> tuple[Column, Column, Column, Column]:
    """Version 3.1: ``(x uint16, y uint16, p uint8, t_us int64)`` of all valid polarity events, in the file's order."""
    if version(data) != "3.1":
        raise ValueError(f"it is AEDAT {version(data)}, and AEDAT 3.1 is wanted")
    end = data.find(b"#!END-HEADER\r\n")
    if end < 0:
        raise ValueError("its header has no #!END-HEADER")
    words, times = _packets(memoryview(data), end + len(b"#!END-HEADER\r\n"))
    if not words:
        raise ValueError("it has no polarity events")
    word, time = np.concatenate(words), np.concatenate(times)
    valid = (word & 1) == 1
    word, time = word[valid], time[valid]
    x, y = (word >> 17 & 0x7FFF).astype(np.uint16), (word >> 2 & 0x7FFF).astype(np.uint16)
    return x, y, (word >> 1 & 1).astype(np.uint8), time


def _packets(data: memoryview, at: int) -> tuple[list[Column], list[Column]]:
    words, times = [], []
    while at < len(data):
        if len(data) - at < _HEADER.size:
            raise ValueError(f"it ends within the header of a packet, at byte {at}")
        kind, _, size, _, overflow, capacity, number, valid = _HEADER.unpack_from(data, at)
        body = at + _HEADER.size
        if not valid <= number <= capacity or not 1 <= size <= _MOST_EVENT_BYTES or overflow >= 2**16:
            raise ValueError(
                f"the packet at byte {at} claims {valid} of {number} events of {size} bytes, no such thing"
            )
        if capacity * size > len(data) - body:
            raise ValueError(f"it ends within the packet at byte {at}")
        if kind == _POLARITY:
            if size != 8:
                raise ValueError(f"the packet at byte {at} has polarity events of {size} bytes, not 8")
            raw = np.frombuffer(data[body : body + 8 * number], "<u4").reshape(-1, 2)
            words.append(raw[:, 0])
            times.append(raw[:, 1].astype(np.int64) | overflow << _OVERFLOW)
        at = body + capacity * size
    return words, times
