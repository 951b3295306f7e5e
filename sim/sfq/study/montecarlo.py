"""Monte Carlo: the share of circuits that work when every element scatters about its value.

    factor = 1 + s_local z_element + s_common z_group

``z`` is normal with three sigma = 1, as JoSIM's code draws it (its text says uniform; docs/sfq.md 1.8 b), or uniform in
[-1, 1]. ``s`` is the relative spread of the element; ``z_group`` is one draw for all elements of a kind in a corner
(what a wafer does to all of them). The draws of corner k come from a counter keyed by (seed, k): they depend on
nothing else, not on the number of corners, their order, or the machine.

The yield comes with Wilson's interval, n corners of which the share p works, z = Phi^-1((1 + confidence)/2):

    (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n)

Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.sfq.circuit import Circuit, Floats, Ints
from sim.sfq.corners import Corners
from sim.sfq.deck import Deck
from sim.sfq.study.bench import Bench, bench
from sim.sfq.study.criterion import T_TOL_S, Bools, Criterion
from sim.sfq.study.many import Arrays, Many, Progress
from sim.sfq.study.parameters import GROUP_OF, LETTERS, VANISHING, Parameter, parameter
from sim.sfq.study.tables import save

Draw = NDArray[np.float64]
LEAST = 0.01
"""Smallest factor of a part that cannot vanish; a normal draw is that low beyond 9.9 sigma at a spread of 30 %."""


def normal(rng: np.random.Generator, count: int) -> Draw:
    """Normal, three sigma = 1."""
    return rng.standard_normal(count) / 3.0


def uniform(rng: np.random.Generator, count: int) -> Draw:
    """Uniform in [-1, 1]."""
    return rng.uniform(-1.0, 1.0, count)


DISTRIBUTIONS = {"normal": normal, "uniform": uniform}


@dataclass(frozen=True)
class Spread:
    """Relative spreads: ``local`` by group, one number an element, ``common`` by group; ``distribution`` by name."""

    local: Mapping[str, Floats]
    common: Mapping[str, float]
    distribution: str = "normal"

    def __post_init__(self) -> None:
        if self.distribution not in DISTRIBUTIONS:
            raise ValueError(f"spread: distribution {self.distribution!r} is not one of {list(DISTRIBUTIONS)}")
        for group, s in self.local.items():
            total = s + self.common.get(group, 0.0)
            if not (np.isfinite(total).all() and (s >= 0).all() and (total < 1).all()):
                raise ValueError(f"spread: {group}: a spread is not in [0, 1): 0.1 means +-10 % at three sigma")

    def corners(self, ids: Ints, seed: int) -> Corners:
        """The corners with these numbers."""
        draw = DISTRIBUTIONS[self.distribution]
        factors: dict[str, Any] = {}
        for at, group in enumerate(GROUP_OF.values()):
            local = self.local.get(group)
            if local is None or not len(local):
                continue
            table = np.empty((len(ids), len(local)))
            for row, k in enumerate(ids):
                rng = np.random.Generator(np.random.Philox(counter=[0, 0, 0, at], key=[seed, int(k)]))
                z = draw(rng, len(local) + 1)
                table[row] = 1.0 + local * z[1:] + self.common.get(group, 0.0) * z[0]
            factors[group] = table if group in VANISHING else np.maximum(table, LEAST)
        return Corners(len(ids), ids=ids, **factors)


def spread_of(
    source: Deck | Circuit, local: Mapping[str, float] | None, common: Mapping[str, float] | None, distribution: str
) -> Spread:
    """Spreads from ``{"L": 0.1, "B": 0.1, "R*|X1": 0.2}``: parameters as text, a later one overrides an earlier one.

    ``local`` None takes the deck's ``.spread``. Errors: ``ValueError`` where there is none, or for no such element.
    """
    circuit = source.flatten() if isinstance(source, Deck) else source
    found: dict[str, Floats] = {}
    if local is None and circuit.spread is not None:
        for group in ("resistors", "junctions", "inductors", "capacitors"):
            found[group] = getattr(circuit.spread, group)
    elif local is None and not common:
        raise ValueError("montecarlo: the deck has no .spread; add one, or pass spread=dict(L=0.1, B=0.1, R=0.1)")
    shared: dict[str, float] = {}
    for key, value in (common or {}).items():
        kind = GROUP_OF.get("B" if key.upper() == "IC" else key.upper())
        if kind is None:
            raise ValueError(f"montecarlo: common={{{key!r}: ..}}: a common spread is of a kind, {' '.join(GROUP_OF)}")
        shared[kind] = value
        found.setdefault(kind, np.zeros(len(getattr(circuit, kind))))
    for key, value in (local or {}).items():
        if key.upper() not in LETTERS or len(getattr(circuit, LETTERS[key.upper()])):  # a kind may be absent
            _place(circuit, found, parameter(source, key), value)
    return Spread(found, shared, distribution)


def _place(circuit: Circuit, found: dict[str, Floats], p: Parameter, value: float) -> None:
    for part in p.parts:
        names = getattr(circuit, part.group).names
        table = found.setdefault(part.group, np.zeros(len(names)))
        at = {n: i for i, n in enumerate(names)}
        table[[at[n] for n in part.names]] = value


@dataclass(frozen=True)
class Scattered:
    """A job of :class:`Many`: corners ``first .. first + count - 1`` of a spread; result ``fails`` as in
    :meth:`Bench.fails`. Factors are drawn where the work is done, a piece at a time."""

    bench: Bench
    spread: Spread
    seed: int
    first: int
    count: int

    def take(self, first: int, last: int) -> Scattered:
        """Some of the corners."""
        return replace(self, first=self.first + first, count=last - first)

    def corners(self) -> Corners:
        """Their factors."""
        return self.spread.corners(np.arange(self.first, self.first + self.count, dtype=np.int64), self.seed)

    def run(self, threads: int) -> Arrays:
        """Simulate."""
        return {"fails": self.bench.fails(self.corners(), threads)}


def wilson(good: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share ``good/n``. Errors: ``ValueError`` for no trial or numbers that do not fit."""
    if not (0 <= good <= n and n > 0 and 0 < confidence < 1):
        raise ValueError(f"wilson: {good} of {n} at confidence {confidence}; need 0 <= good <= n, n > 0, 0 < c < 1")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p, q = good / n, z * z / n
    half = z * math.sqrt(p * (1 - p) / n + q / (4 * n))
    low, high = ((p + q / 2 + sign * half) / (1 + q) for sign in (-1, 1))
    return (0.0 if good == 0 else low), (1.0 if good == n else high)


@dataclass(frozen=True)
class MonteCarlo:
    """``fails`` (corners,): the first case that a corner gets wrong, -1 where it works; ``cases`` by name.

    ``low`` and ``high`` bound the yield at ``confidence``. :meth:`corner` is a corner again, to look at it alone.
    """

    fails: Ints
    cases: tuple[str, ...]
    seed: int
    confidence: float
    spread: Spread

    @property
    def works(self) -> Bools:
        """(corners,)"""
        good: Bools = self.fails < 0
        return good

    @property
    def yield_(self) -> float:
        """Share of the corners that work."""
        return float(self.works.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of the yield."""
        return wilson(int(self.works.sum()), len(self.fails), self.confidence)

    def corner(self, k: int) -> Corners:
        """The factors of corner k, one corner, with its number for the noise."""
        return self.spread.corners(np.array([k], dtype=np.int64), self.seed)

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        low, high = self.interval
        lost = {name: int((self.fails == k).sum()) for k, name in enumerate(self.cases)}
        return {
            "yield": self.yield_, "low": low, "high": high, "confidence": self.confidence, "corners": len(self.fails),
            "works": int(self.works.sum()), "seed": self.seed, "distribution": self.spread.distribution,
            "fails_by_case": lost, "failed_corners": np.flatnonzero(~self.works).tolist(),
        }  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write ``.json`` or ``.csv``: a row a corner."""
        rows = ((k, int(f < 0), "" if f < 0 else self.cases[f]) for k, f in enumerate(self.fails.tolist()))
        return save(path, self.to_dict(), ("corner", "works", "fails_in"), rows)

    def __str__(self) -> str:
        low, high = self.interval
        return (
            f"yield {self.yield_:.1%}, {self.confidence:.0%} interval {low:.1%} to {high:.1%} "
            f"({int(self.works.sum())} of {len(self.fails)} corners work)"
        )


def montecarlo(
    source: Deck | Circuit | Bench,
    criterion: Criterion | None = None,
    *,
    n: int = 1000,
    spread: Mapping[str, float] | None = None,
    common: Mapping[str, float] | None = None,
    distribution: str = "normal",
    seed: int = 1,
    noise: bool = False,
    confidence: float = 0.95,
    watch: Sequence[str] | None = None,
    t_tol_s: float = T_TOL_S,
    h: float | None = None,
    t_stop: float | None = None,
    chunk: int = 256,
    executor: Executor | None = None,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
) -> MonteCarlo:
    """Yield of ``n`` corners of a deck, circuit or bench, judged by ``criterion`` (default: the nominal slips of
    ``watch``, see :func:`bench`).

    ``spread`` and ``common`` as in :func:`spread_of`; with ``noise`` every corner also has thermal noise of its own.
    Errors: ``ValueError``, DeckError.
    """
    tested = bench(source, criterion, watch=watch, t_tol_s=t_tol_s, h=h, t_stop=t_stop)
    if noise:
        tested = replace(tested, seed=seed)
    if n < 1:
        raise ValueError(f"montecarlo: n is {n}; ask for at least one corner")
    scatter = spread_of(tested.circuit if isinstance(source, Bench) else source, spread, common, distribution)
    many = Many(executor, chunk=chunk, checkpoint=checkpoint, progress=progress)
    fails = many.run(Scattered(tested, scatter, seed, 0, n))["fails"]
    return MonteCarlo(fails, tuple(c.name for c in tested.cases), seed, confidence, scatter)
