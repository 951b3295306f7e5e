"""Random numbers by counter: the same for the same seed, instance, pulse and purpose, in whatever order they are drawn.

Philox4x32-10: ten rounds of two 32-bit products each. Source: J. K. Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011, algorithm and constants of section 3.3 and table 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., Any])
compiled: Callable[[Kernel], Kernel] = njit(cache=True, nogil=True)

M0, M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
W0, W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
CHANCE, FATE, JITTER = 0, 1, 2
"""Purposes; the jitter of emission e of a transition is JITTER + e."""


@compiled
def philox(key: Any, counter_a: Any, counter_b: Any) -> Any:
    """Four 32-bit words, as two uint64 of two, of a 64-bit key and a counter of 2 x 64 bits."""
    k0, k1 = key & LOW, key >> HALF
    c0, c1, c2, c3 = counter_a & LOW, counter_a >> HALF, counter_b & LOW, counter_b >> HALF
    for _ in range(10):
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (p1 >> HALF) ^ c1 ^ k0, p1 & LOW, (p0 >> HALF) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return c0 | (c1 << HALF), c2 | (c3 << HALF)


@compiled
def uniform(seed: Any, instance: Any, pulse: Any, purpose: Any) -> Any:
    """In [0, 1), 53 bits. ``seed`` and ``instance`` uint64."""
    a, _ = philox(seed, np.uint64(pulse) | (np.uint64(purpose) << np.uint64(48)), instance)
    return np.float64(a >> np.uint64(11)) * 2.0**-53


@compiled
def normal(seed: Any, instance: Any, pulse: Any, purpose: Any) -> Any:
    """Mean 0, deviation 1 (Box and Muller)."""
    a, b = philox(seed, np.uint64(pulse) | (np.uint64(purpose) << np.uint64(48)), instance)
    u = (np.float64(a >> np.uint64(11)) + 1.0) * 2.0**-53
    turn = np.float64(b >> np.uint64(11)) * 2.0**-53
    return math.sqrt(-2.0 * math.log(u)) * math.cos(2.0 * math.pi * turn)


@compiled
def fill_normals(seed: Any, ids: Any, elements: Any, low: Any, out: Any) -> None:
    """``kernel_normals`` of kernel.c: ``out`` (4 blocks, elements, ids), a block from one counter, four normals."""
    tail = np.float64(2.0**-32)
    for block in range(out.shape[0] // 4):
        for e in range(elements.shape[0]):
            for j in range(ids.shape[0]):
                key = (seed & LOW) | (np.uint64(ids[j]) << HALF)
                pair = philox(key, np.uint64(low + block), np.uint64(elements[e]) | ((seed >> HALF) << HALF))
                for k in range(2):
                    u, v = np.float64(pair[k] & LOW), np.float64(pair[k] >> HALF)
                    radius, angle = math.sqrt(-2.0 * math.log((u + 0.5) * tail)), 2.0 * math.pi * (v + 0.5) * tail
                    out[4 * block + 2 * k, e, j] = radius * math.cos(angle)
                    out[4 * block + 2 * k + 1, e, j] = radius * math.sin(angle)
