"""A circuit and what it must do: one run, or several patterns of input that it must all get right.

A bench answers for many corners at once; a corner that fails a pattern is not run in the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sim.sfq.batch import BatchRun, batch
from sim.sfq.circuit import Circuit, Ints
from sim.sfq.corners import GROUPS, Corners
from sim.sfq.deck import Deck
from sim.sfq.errors import DeckError
from sim.sfq.study.criterion import T_TOL_S, TIE_S, Bools, Criterion, SameSlips, jj_name, same_slips
from sim.sfq.study.many import Arrays, Many
from sim.sfq.transient import Startup


def quiet(circuit: Circuit, seed: int | None) -> Circuit:
    """The circuit without its noise where no seed is given."""
    return replace(circuit, temperature_K=None) if seed is None else circuit


@dataclass(frozen=True)
class Case:
    """One run of the circuit and its criterion."""

    circuit: Circuit
    works: Criterion
    name: str = "nominal"


@dataclass(frozen=True)
class Bench:
    """Cases with the same elements (other sources), and how they are run: step and end (s), noise seed, start.

    ``seed`` None: without noise, whatever the deck's temperature.
    """

    cases: tuple[Case, ...]
    h: float | None = None
    t_stop: float | None = None
    seed: int | None = None
    startup: Startup | None = None

    def __post_init__(self) -> None:
        first = self.circuit
        for case in self.cases[1:]:
            for group in GROUPS:
                a, b = getattr(first, group).names, getattr(case.circuit, group).names
                if a != b:
                    odd = sorted(set(a) ^ set(b))[:4] or "their order"
                    raise ValueError(
                        f"bench: {group} of case {case.name} differ from {self.cases[0].name}: {odd}; "
                        "patterns may differ in values and shapes only"
                    )

    @property
    def circuit(self) -> Circuit:
        """The first case's circuit: names and values of the elements. Errors: ``ValueError`` for no case."""
        if not self.cases:
            raise ValueError("bench: has no case; give at least one circuit and its criterion")
        return self.cases[0].circuit

    def run(self, corners: Corners, case: int = 0, threads: int = 0) -> BatchRun:
        """Simulate corners of one case."""
        one = self.cases[case]
        return batch(
            quiet(one.circuit, self.seed), corners, h=self.h, t_stop=self.t_stop, watch=one.works.watch, seed=self.seed,
            startup=self.startup, threads=threads,
        )  # fmt: skip

    def fails(self, corners: Corners, threads: int = 0) -> Ints:
        """(corners,) index of the first case that a corner gets wrong, -1 where all are right."""
        fails = np.full(corners.count, -1, np.int64)
        for k in range(len(self.cases)):
            left = np.flatnonzero(fails < 0)
            if len(left):
                fails[left[~self._works(pick(corners, left), k, threads)]] = k
        return fails

    def _works(self, corners: Corners, case: int, threads: int) -> Bools:
        """(corners,) of one case. A corner without a solution does not work; a circuit without one is an error."""
        try:
            return self.cases[case].works(self.run(corners, case, threads))
        except DeckError:
            self.run(Corners(1), case, threads)
            if corners.count == 1:
                return np.zeros(1, np.bool_)
            middle = corners.count // 2
            halves = (slice(0, middle), slice(middle, corners.count))
            return np.concatenate([self._works(corners.take(half), case, threads) for half in halves])


def pick(corners: Corners, at: Ints) -> Corners:
    """Some of the corners by number; each keeps its own noise."""
    numbers = np.arange(corners.count, dtype=np.int64) if corners.ids is None else corners.ids
    parts = {g: None if getattr(corners, g) is None else getattr(corners, g)[at] for g in GROUPS}
    shapes = {name: [s[k] for k in at] for name, s in corners.shapes.items()}
    return Corners(len(at), shapes=shapes, ids=numbers[at], **parts)


@dataclass(frozen=True)
class Pass:
    """A job of :class:`Many`: which of these corners work; result ``fails`` as :meth:`Bench.fails`."""

    bench: Bench
    corners: Corners

    @property
    def count(self) -> int:
        """Corners."""
        return self.corners.count

    def take(self, first: int, last: int) -> Pass:
        """Some of them."""
        return Pass(self.bench, self.corners.take(slice(first, last)))

    def run(self, threads: int) -> Arrays:
        """Simulate."""
        return {"fails": self.bench.fails(self.corners, threads)}


def works(bench: Bench, corners: Corners, many: Many, part: tuple[float, float] = (0.0, 1.0)) -> Bools:
    """(corners,) whether each corner gets every case right."""
    right: Bools = many.run(Pass(bench, corners), part)["fails"] < 0
    return right


def bench(
    source: Deck | Circuit | Bench,
    works: Criterion | None = None,
    *,
    watch: Sequence[str] | None = None,
    t_tol_s: float = T_TOL_S,
    tie_s: float = TIE_S,
    h: float | None = None,
    t_stop: float | None = None,
    seed: int | None = None,
    startup: Startup | None = None,
) -> Bench:
    """A bench of one circuit. Without a criterion: the slips of ``watch`` (default all junctions) must be the nominal
    circuit's without noise, each within ``t_tol_s`` (see :class:`SameSlips`). A bench is returned as it is."""
    if isinstance(source, Bench):
        return source
    circuit = source.flatten() if isinstance(source, Deck) else source
    if works is None:
        works = nominal(circuit, watch=watch, t_tol_s=t_tol_s, tie_s=tie_s, h=h, t_stop=t_stop, startup=startup)
    return Bench((Case(circuit, works),), h, t_stop, seed, startup)


def nominal(
    circuit: Circuit,
    *,
    watch: Sequence[str] | None = None,
    t_tol_s: float = T_TOL_S,
    tie_s: float = TIE_S,
    h: float | None = None,
    t_stop: float | None = None,
    startup: Startup | None = None,
) -> SameSlips:
    """Expect of every corner what the circuit does as it stands, without noise.

    Errors: ``ValueError`` where nothing slips, since such a criterion would pass a dead circuit.
    """
    names = None if watch is None else [jj_name(w) for w in watch]
    run = batch(quiet(circuit, None), 1, h=h, t_stop=t_stop, watch=names, startup=startup)
    expected = same_slips(run, t_tol_s=t_tol_s, tie_s=tie_s)
    if not len(expected.at):
        raise ValueError(
            f"criterion: none of {len(run.names)} watched junctions slips in the nominal run, so a dead circuit would "
            "pass; watch the output, drive the input, or give Counts(..)"
        )
    return expected


def patterns(
    sources: Mapping[str, Deck | Circuit],
    works: Mapping[str, Criterion] | None = None,
    *,
    watch: Sequence[str] | None = None,
    t_tol_s: float = T_TOL_S,
    h: float | None = None,
    t_stop: float | None = None,
    seed: int | None = None,
    startup: Startup | None = None,
) -> Bench:
    """A bench of several input patterns by name, each with its criterion; one without is held to its nominal run.

    ``patterns({"01": deck01, "11": deck11}, {"01": Counts({"B1|X2|XY2": (3, inf)}), "11": Counts({..: (0, 0)})})``
    Errors: ``ValueError`` for decks whose elements differ.
    """
    cases = []
    for name, source in sources.items():
        circuit = source.flatten() if isinstance(source, Deck) else source
        given = (works or {}).get(name)
        if given is None:
            given = nominal(circuit, watch=watch, t_tol_s=t_tol_s, h=h, t_stop=t_stop, startup=startup)
        cases.append(Case(circuit, given, name))
    return Bench(tuple(cases), h, t_stop, seed, startup)
