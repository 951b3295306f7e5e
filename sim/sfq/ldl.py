"""Sparse A = L D L^T with little fill and few levels: the pattern once per topology, the numbers as often as needed.

SFQ circuits are chains of small loops, so L has hardly more entries than A (docs/sfq.md 2.1). The pattern lists, for
each column k, its rows and every product L[i,k] L[j,k] D[k] that later entries must subtract; the numeric part is then
three flat loops, without search, the same for one circuit or many corners.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


FILL_FIRST = 1 << 40
"""Behind any stretch: unknowns with more than two neighbours wait, the fewest first."""

STRETCH = 1024
"""Unknowns, in the order of the deck, that are ordered among themselves."""


@dataclass(frozen=True)
class Pattern:
    """Where the numbers of L and D live: one array, D first (n), then L by columns (nnz), then one place for waste.

    ``order[k]`` is the unknown eliminated k-th; all other indices are in that order. Column k of L is
    ``rows[start[k]:start[k+1]]`` (ascending). Column k's updates are ``targets[first[k]:first[k+1]]``, for the pairs
    of its rows ``(i, j)``, j <= i, j slowest.
    """

    order: Ints
    start: Ints
    rows: Ints
    first: Ints
    targets: Ints

    @property
    def n(self) -> int:
        """Number of unknowns."""
        return len(self.order)

    @property
    def waste(self) -> int:
        """The place that takes entries of ground."""
        return self.n + len(self.rows)

    def slots(self, i: Ints, j: Ints) -> Ints:
        """Places of the entries (i, j), indices in elimination order, n for ground; (i, j) and (j, i) are one.

        Raises KeyError for an entry that is not in the pattern.
        """
        low, high = np.minimum(i, j), np.maximum(i, j)
        column = np.repeat(np.arange(self.n), np.diff(self.start))
        keys = column * (self.n + 1) + self.rows
        wanted = low * (self.n + 1) + high
        at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        inside = (low != high) & (high < self.n)
        if inside.any() and (not len(keys) or (keys[at[inside]] != wanted[inside]).any()):
            raise KeyError("an entry is not in the pattern")
        out = np.where(low == high, low, self.n + at)
        out[high == self.n] = self.waste
        return out.astype(np.int64)


def analyse(n: int, pairs: Iterable[tuple[int, int]]) -> Pattern:
    """The pattern for a symmetric matrix with these off-diagonal entries; see ``_eliminate``."""
    near: list[set[int]] = [set() for _ in range(n)]
    for a, b in pairs:
        if a != b:
            near[a].add(b)
            near[b].add(a)
    order, columns = _eliminate(near)
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    sizes = np.fromiter((len(c) for c in columns), dtype=np.int64, count=n)
    members = place[np.fromiter((v for c in columns for v in c), dtype=np.int64, count=int(sizes.sum()))]
    rows = members[np.lexsort((members, np.repeat(np.arange(n), sizes)))]
    start = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    first = np.concatenate([[0], np.cumsum(sizes * (sizes + 1) // 2)]).astype(np.int64)
    pattern = Pattern(np.array(order, dtype=np.int64), start, rows, first, np.zeros(int(first[-1]), np.int64))
    _targets(pattern, sizes)
    return pattern


def _eliminate(near: list[set[int]]) -> tuple[list[int], list[set[int]]]:
    """The order, and the neighbours of each unknown when its turn comes.

    ``level`` is the longest way of dependent columns to an unknown. Up to two neighbours cost no fill worth saving, and
    then the lowest level goes first: a chain is taken every second unknown at a time, not from its ends, so that the
    sweeps do not wait for themselves (JTL of 100 junctions: 9 levels instead of 154, 25 % more entries). A long deck
    is taken a stretch at a time, so that what belongs together stays together in memory.
    """

    def rank(v: int) -> tuple[int, int, int]:
        degree = len(near[v])
        return (v // STRETCH, level[v], degree) if degree <= 2 else (FILL_FIRST, degree, level[v])

    level = [0] * len(near)
    heap = [(rank(v), v) for v in range(len(near))]
    heapq.heapify(heap)
    done = [False] * len(near)
    order: list[int] = []
    columns: list[set[int]] = []
    while heap:
        key, v = heapq.heappop(heap)
        if done[v] or key != rank(v):
            continue
        done[v] = True
        order.append(v)
        columns.append(near[v])
        for u in near[v]:
            near[u] |= near[v]
            near[u] -= {u, v}
            level[u] = max(level[u], level[v] + 1)
            heapq.heappush(heap, (rank(u), u))
    return order, columns


def _targets(pattern: Pattern, sizes: Ints) -> None:
    """Fill the pattern's targets, columns of one size at a time."""
    for size in np.unique(sizes[sizes > 0]).tolist():
        at = np.flatnonzero(sizes == size)
        members = pattern.rows[pattern.start[at][:, None] + np.arange(size)]
        low, high = np.triu_indices(size)
        slots = pattern.slots(members[:, high].ravel(), members[:, low].ravel())
        pattern.targets[pattern.first[at][:, None] + np.arange(len(low))] = slots.reshape(len(at), -1)


def factor(pattern: Pattern, values: Floats, definite: bool = True) -> Floats:
    """D and L from A, both in the pattern's places; the readable form of the kernels'. ``values`` may
    have corners last.

    Raises ValueError if the matrix is not positive definite; without ``definite`` nothing is checked.
    """
    v = values.copy()
    for k in range(pattern.n):
        if definite and not (v[k] > 0).all():
            raise ValueError(f"the matrix is not positive definite at unknown {pattern.order[k]}")
        column = pattern.n + np.arange(pattern.start[k], pattern.start[k + 1])
        scaled = v[column] / v[k]
        products = [scaled[x] * v[column[x:]] for x in range(len(column))]
        if products:
            np.subtract.at(v, pattern.targets[pattern.first[k] : pattern.first[k + 1]], np.concatenate(products))
        v[column] = scaled
    return v


def solve(pattern: Pattern, factors: Floats, b: Floats) -> Floats:
    """x of A x = b, with b and x in elimination order, corners last."""
    x = b.copy()
    lower = factors[pattern.n :]
    for k in range(pattern.n):
        span = slice(pattern.start[k], pattern.start[k + 1])
        x[pattern.rows[span]] -= lower[span] * x[k]
    x /= factors[: pattern.n]
    for k in reversed(range(pattern.n)):
        span = slice(pattern.start[k], pattern.start[k + 1])
        x[k] -= (lower[span] * x[pattern.rows[span]]).sum(axis=0)
    return x
