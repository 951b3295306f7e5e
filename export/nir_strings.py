"""Strings of variable length in an HDF5 file, read with bounds.

The HDF5 library does not come back from some damaged global heaps, so these are read here as the file format says
(HDF5 File Format Specification 3.0, III.E "Global Heap"): a contiguous data set of references (length u32, address
u64, index u32) into collections ``GCOL``, version 1, size u64, then objects (index u16, references u16, reserved u32,
size u64, data padded to 8 bytes; index 0 ends them).
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

REFERENCE, HEAD, OBJECT = struct.Struct("<IQI"), struct.Struct("<4sB3xQ"), struct.Struct("<HHIQ")
MAX_HEAP = 2**26
"""Bytes of one collection; names and metadata of a network take far less."""


class Strings:
    """Reads from one open file. Errors: ``ValueError`` saying what is damaged."""

    def __init__(self, file: Any, path: Path) -> None:
        self.plain = file.userblock_size == 0 and tuple(file.id.get_create_plist().get_sizes()) == (8, 8)
        self.path = path
        self.size = path.stat().st_size
        self.heaps: dict[int, dict[int, bytes]] = {}

    def read(self, item: Any) -> Any:
        """A string for a scalar, else an object array of them."""
        offset = item.id.get_offset()
        count = math.prod(item.shape)
        if not self.plain or offset is None:
            raise ValueError(f"strings of {item.name} are not stored in one piece; write it with nir.write")
        data = self._at(offset, REFERENCE.size * count)
        found = [self._string(*REFERENCE.unpack_from(data, REFERENCE.size * k)) for k in range(count)]
        return np.array(found, object).reshape(item.shape) if item.shape else found[0]

    def _string(self, length: int, address: int, index: int) -> str:
        if not length:
            return ""
        heap = self.heaps.get(address)
        if heap is None:
            heap = self.heaps[address] = self._heap(address)
        if index not in heap or length > len(heap[index]):
            raise ValueError("a string's place in the global heap is damaged")
        return heap[index][:length].rstrip(b"\0").decode("utf8")

    def _heap(self, address: int) -> dict[int, bytes]:
        magic, version, size = HEAD.unpack(self._at(address, HEAD.size))
        if magic != b"GCOL" or version != 1 or not HEAD.size <= size <= MAX_HEAP:
            raise ValueError("a global heap is damaged")
        data, at, found = self._at(address, size), HEAD.size, {}
        while at + OBJECT.size <= size:
            index, _, _, length = OBJECT.unpack_from(data, at)
            if index == 0:
                break
            at += OBJECT.size
            if length > size - at:
                raise ValueError("an object in a global heap is damaged")
            found[index] = data[at : at + length]
            at += (length + 7) // 8 * 8
        return found

    def _at(self, offset: int, count: int) -> bytes:
        if offset + count > self.size:
            raise ValueError("a string lies beyond the end of the file")
        with self.path.open("rb") as f:
            f.seek(offset)
            return f.read(count)
