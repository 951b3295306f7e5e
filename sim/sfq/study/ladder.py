"""How high candidates climb: the fitness of the centring optimiser.

The fitness of a candidate is the largest t at which it works with every margin parameter at 1 - t w and at 1 + t w
(w: the weight of the parameter, 1 or a target), and at all smaller t of the ladder:

    fitness = t + (t' - t) (share of the corners that work at t'),    t works, t' is the first that fails
    fitness = -1 + (share of the corners that work at t_1)            if it does not work as it stands (t = 0)

One rung is one batch: all candidates left, all parameters, both sides; then the stretch between the last rung that
works and the first that fails is halved, twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sim.sfq.circuit import Floats, Ints
from sim.sfq.study.bench import Bench
from sim.sfq.study.criterion import Bools
from sim.sfq.study.many import Arrays
from sim.sfq.study.parameters import Parameter, corners_of

LADDER = tuple(0.05 * k for k in range(1, 13))
"""Rungs t: 5 % to 60 %."""

HALVINGS = 2
"""Of the stretch between the last rung that works and the first that fails: 5 % to 1.25 %."""


@dataclass(frozen=True)
class Ladder:
    """A job of :class:`Many`: the fitness of candidates ``factors (candidates, variables)``.

    ``weights``: a margin parameter at rung t is scaled by 1 - t w and 1 + t w. Results: ``fitness``, ``runs``.
    """

    bench: Bench
    variables: tuple[Parameter, ...]
    margins: tuple[Parameter, ...]
    weights: tuple[float, ...]
    rungs: tuple[float, ...]
    factors: Floats
    halvings: int = HALVINGS

    @property
    def count(self) -> int:
        """Candidates."""
        return len(self.factors)

    def take(self, first: int, last: int) -> Ladder:
        """Some of them."""
        return replace(self, factors=self.factors[first:last])

    def run(self, threads: int) -> Arrays:
        """Climb, then halve the last stretch."""
        climb = _Climb(self, threads)
        climb.up()
        for _ in range(self.halvings):
            climb.halve()
        return {"fitness": climb.fitness, "runs": climb.runs}

    def works(self, factors: Floats, at: Floats, threads: int) -> Bools:
        """(candidates, corners) at heights ``at`` (candidates,); one corner each, the candidate itself, at 0."""
        shifts = np.zeros((1, len(self.margins)))
        if at.any():
            shifts = np.concatenate([-np.diag(self.weights), np.diag(self.weights)])
        scaled = 1.0 + (at[:, None, None] * shifts).reshape(-1, len(self.margins))
        both = np.concatenate([np.repeat(factors, len(shifts), axis=0), scaled], axis=1)
        corners = corners_of(self.bench.circuit, (*self.variables, *self.margins), both)
        right: Bools = (self.bench.fails(corners, threads) < 0).reshape(len(factors), len(shifts))
        return right


class _Climb:
    """Candidates on the ladder: how high each works, where it fails, and the share of corners that work there."""

    def __init__(self, ladder: Ladder, threads: int) -> None:
        self.ladder, self.threads, count = ladder, threads, ladder.count
        self.runs = np.zeros(count, np.int64)
        self.share = np.zeros(count)
        self.alive: Bools = self.try_at(np.arange(count), np.zeros(count))
        self.below = np.where(self.alive, 0.0, -1.0)
        self.above = np.where(self.alive, np.inf, 0.0)

    def try_at(self, who: Ints, at: Floats) -> Bools:
        """Which of some candidates work in all corners at their heights; the share of corners of all of them."""
        right = self.ladder.works(self.ladder.factors[who], at, self.threads)
        self.runs[who] += right.shape[1]
        self.share[who] = right.mean(axis=1)
        whole: Bools = np.asarray(right.all(axis=1))
        return whole

    def up(self) -> None:
        """Rung by rung to the first failure; candidates that fail as they stand try the first rung for their share."""
        left = np.arange(self.ladder.count)
        for rung in self.ladder.rungs:
            whole = self.try_at(left, np.full(len(left), rung))
            self.above[left] = np.where(self.alive[left] & ~whole, rung, self.above[left])
            left = left[self.alive[left] & whole]
            self.below[left] = rung
            if not len(left):
                break

    def halve(self) -> None:
        """Try the middle between the last height that works and the first that fails."""
        who = np.flatnonzero(self.alive & np.isfinite(self.above))
        if not len(who):
            return
        middle = 0.5 * (self.below[who] + self.above[who])
        kept = self.share[who].copy()
        whole = self.try_at(who, middle)
        self.below[who[whole]] = middle[whole]
        self.above[who[~whole]] = middle[~whole]
        self.share[who[whole]] = kept[whole]

    @property
    def fitness(self) -> Floats:
        """See the module; the last rung where nothing failed."""
        stretch = np.where(np.isfinite(self.above), self.above - self.below, 0.0)
        return self.below + stretch * self.share
