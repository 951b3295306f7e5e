"""What placement, routes and time ask of a connection, and the answers that follow from its pairs alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Protocol

import numpy as np

from export.loihi import Int

BLOCK = 2**21
"""Synapses looked at in one go."""


class Structure(Protocol):
    """``per_target (targets,)``: synapses on each; ``sources``: number of neurons on the other side.

    Asked about some ``targets``: their indices, each once, in any order; a place is one in that list.
    """

    sources: int

    @property
    def per_target(self) -> Int:
        """Synapses on each target neuron."""

    def pairs(self, targets: Int) -> tuple[Int, Int]:
        """``(place, source)`` of every synapse on the targets, places ascending."""

    def firsts(self, targets: Int) -> tuple[Int, Int]:
        """``(sources, places)``: each source with a synapse on the targets and the place of its first one."""

    def counts(self, targets: Int) -> tuple[Int, Int]:
        """``(sources, synapses)``: each source with a synapse on the targets and how many it has there."""

    def met(self, targets: Int) -> Int:
        """Each source with a synapse on the targets."""


def span(targets: Int) -> slice | Int:
    """The targets as a slice where they count up by one: reads without a copy."""
    if len(targets) and targets[-1] - targets[0] == len(targets) - 1 and (np.diff(targets) == 1).all():
        return slice(int(targets[0]), int(targets[-1]) + 1)
    return targets


class Pairs(Structure):
    """Answers from ``pairs`` alone, in blocks of targets."""

    @cached_property
    def _mark(self) -> Int:
        return np.zeros(self.sources, np.int64)

    def _blocks(self, targets: Int) -> Iterator[tuple[int, Int]]:
        """The targets in pieces of about ``BLOCK`` synapses, each with its first place."""
        ends = np.concatenate([[0], np.cumsum(self.per_target[span(targets)], dtype=np.int64)])
        first = 0
        while first < len(targets):
            last = max(first + 1, int(np.searchsorted(ends, ends[first] + BLOCK, "right")) - 1)
            yield first, targets[first:last]
            first = last

    def firsts(self, targets: Int) -> tuple[Int, Int]:
        """Each source with a synapse on the targets and the place of its first one."""
        blocks = list(self._blocks(targets))
        if len(blocks) == 1:
            to, of = self.pairs(targets)
            self._mark[of[::-1]] = to[::-1]  # the last writer is the first target
            new = self._mark[of] == to
            return of[new], to[new]
        out = np.full(self.sources, len(targets))
        for first, some in reversed(blocks):
            to, of = self.pairs(some)
            out[of[::-1]] = to[::-1] + first
        of = np.flatnonzero(out < len(targets))
        return of, out[of]

    def counts(self, targets: Int) -> tuple[Int, Int]:
        """Each source with a synapse on the targets and how many it has there."""
        blocks = list(self._blocks(targets))
        if len(blocks) == 1:
            to, of = self.pairs(targets)
            self._mark[of[::-1]] = to[::-1]
            source = of[self._mark[of] == to]
            self._mark[source] = np.arange(len(source))
            return source, np.bincount(self._mark[of], minlength=len(source))
        n = np.zeros(self.sources, np.int64)
        for _, some in blocks:
            n += np.bincount(self.pairs(some)[1], minlength=self.sources)
        of = np.flatnonzero(n)
        return of, n[of]

    def met(self, targets: Int) -> Int:
        """Each source with a synapse on the targets."""
        return self.firsts(targets)[0]
