"""Centring: element values for which the worst margin is largest.

The fitness of a candidate is how high it climbs the ladder of :mod:`sim.sfq.study.ladder`. New candidates come from
CMA-ES over the logarithms of the factors; the winner is rounded to the grid and improved there step by step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.package import read_package, write_package
from sim.sfq.circuit import Circuit, Floats
from sim.sfq.corners import one
from sim.sfq.deck import Deck
from sim.sfq.study import cmaes
from sim.sfq.study.bench import Bench, bench
from sim.sfq.study.criterion import Criterion
from sim.sfq.study.fingerprint import fingerprint
from sim.sfq.study.ladder import LADDER, Ladder
from sim.sfq.study.many import Many, Progress
from sim.sfq.study.parameters import Parameter, corners_of, parameter, value_of
from sim.sfq.study.tables import save, text_table

FORMAT = "spikeport-sfq-centring-1"
POLISH_ROUNDS = 6
SIGMA = 0.25
"""First step, as a share of the range of each variable."""
SIGMA_MIN = 2e-3


@dataclass(frozen=True)
class Variable:
    """What the optimiser may change: a parameter's factor between ``low`` and ``high``; the values it finds are
    rounded to multiples of ``grid`` (SI: A, H, ohm; 0: not rounded), by the parameter's first element."""

    parameter: Parameter
    low: float = 0.5
    high: float = 2.0
    grid: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.low < self.high and self.grid >= 0):
            raise ValueError(
                f"optimise: {self.parameter.name}: bounds {self.low} and {self.high}, grid {self.grid}; "
                "need 0 < low < high and a grid of 0 or more"
            )


@dataclass(frozen=True)
class Optimum:
    """What the optimiser found: per variable the value at the start, the best, and that on the grid (SI).

    ``fitness`` is that of the three in turn; ``history`` the best of each generation; ``evaluations`` the candidates
    tried, ``runs`` the corners simulated.
    """

    variables: tuple[Variable, ...]
    start: tuple[float, ...]
    best: tuple[float, ...]
    rounded: tuple[float, ...]
    fitness: tuple[float, float, float]
    history: tuple[float, ...]
    evaluations: int
    runs: int

    @property
    def values(self) -> dict[str, float]:
        """The value on the grid of each variable's first element."""
        return dict(zip((v.parameter.name for v in self.variables), self.rounded, strict=True))

    def apply(self, circuit: Circuit) -> Circuit:
        """The circuit with the values on the grid; every element of a variable gets the same factor."""
        factors = np.array([b / a for a, b in zip(self.start, self.rounded, strict=True)])
        return one(circuit, corners_of(circuit, [v.parameter for v in self.variables], factors[None, :]), 0)

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        keys = ("start", "best", "rounded")
        rows = zip(self.variables, *(getattr(self, k) for k in keys), strict=True)
        return {
            "variables": [{"name": v.parameter.name, **dict(zip(keys, x, strict=True))} for v, *x in rows],
            "fitness": dict(zip(keys, self.fitness, strict=True)),
            "history": list(self.history), "evaluations": self.evaluations, "runs": self.runs,
        }  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write ``.json`` or ``.csv``."""
        rows = self.to_dict()["variables"]
        return save(path, self.to_dict(), ("name", "start", "best", "rounded"), (tuple(r.values()) for r in rows))

    def __str__(self) -> str:
        rows = [
            (r["name"], *(f"{r[k]:.4g}" for k in ("start", "best", "rounded"))) for r in self.to_dict()["variables"]
        ]
        a, b, c = (f"{f:.3f}" for f in self.fitness)
        return text_table(("value", "start", "best", "on the grid"), [*rows, ("fitness", a, b, c)])


def optimise(
    source: Deck | Circuit | Bench,
    criterion: Criterion | None = None,
    *,
    variables: Sequence[Variable | str],
    margins: Sequence[str | Parameter] | Mapping[str, float],
    rungs: Sequence[float] = LADDER,
    generations: int = 40,
    candidates: int = 0,
    seed: int = 1,
    enough: float = np.inf,
    watch: Sequence[str] | None = None,
    t_tol_s: float = np.inf,
    h: float | None = None,
    t_stop: float | None = None,
    executor: Executor | None = None,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
) -> Optimum:
    """Centre the ``variables`` of a circuit or bench so that the worst of the ``margins`` is largest.

    ``margins`` are parameters (text as in :mod:`parameters`), or a mapping to weights: ``{"I": 2.0, "L": 1.0}`` wants
    twice the margin for the bias. ``candidates`` a generation (0: the usual number, at least 16). It ends after
    ``generations``, at a fitness of ``enough``, or when the steps are tiny. Without ``criterion``, slips in order and
    number must be the starting circuit's; where that does not work, give a criterion.
    """
    tested = bench(source, criterion, watch=watch, t_tol_s=t_tol_s, h=h, t_stop=t_stop)
    origin = tested.circuit if isinstance(source, Bench) else source
    chosen = tuple(v if isinstance(v, Variable) else Variable(parameter(origin, v)) for v in variables)
    weights = margins if isinstance(margins, Mapping) else dict.fromkeys(margins, 1.0)
    _check(chosen, weights, rungs)
    ladder = Ladder(
        tested, tuple(v.parameter for v in chosen), tuple(parameter(origin, m) for m in weights),
        tuple(weights.values()), tuple(rungs), np.ones((1, len(chosen))),
    )  # fmt: skip
    count = candidates or max(16, cmaes.population(len(chosen)))
    many = Many(executor, chunk=count if executor is None else -(-count // 8))
    search = _Search(ladder, chosen, many, count, seed, checkpoint)
    while search.state.generation < generations and search.best[1] < enough and search.state.sigma > SIGMA_MIN:
        search.step()
        if progress is not None:
            progress(search.state.generation / generations)
    return search.finish()


def _check(variables: Sequence[Variable], weights: Mapping[Any, float], rungs: Sequence[float]) -> None:
    if not variables or not weights:
        raise ValueError("optimise: needs at least one variable and one margin parameter")
    climbing = list(rungs) == sorted(set(rungs)) and len(rungs) > 0 and rungs[0] > 0
    if not climbing or min(weights.values()) <= 0 or max(rungs) * max(weights.values()) >= 1:
        raise ValueError(
            f"optimise: rungs {tuple(rungs)} must rise from above 0, and the largest times the largest weight "
            f"{max(weights.values()):g} stay below 1, where a part would vanish"
        )


class _Search:
    """Generations, the best so far, and the file that keeps both."""

    def __init__(
        self, ladder: Ladder, variables: tuple[Variable, ...], many: Many, count: int, seed: int,
        checkpoint: str | Path | None,
    ) -> None:  # fmt: skip
        self.ladder, self.variables, self.many = ladder, variables, many
        self.count, self.seed, self.file = count, seed, checkpoint
        bounds = np.log([(v.low, v.high) for v in variables])
        self.low, self.width = bounds[:, 0], bounds[:, 1] - bounds[:, 0]
        self.history: list[float] = []
        self.evaluations = self.runs = 0
        self.key = "" if checkpoint is None else fingerprint(ladder, variables, count, seed)
        centre = np.clip(-self.low / self.width, 0.0, 1.0)
        self.state = cmaes.start(centre, SIGMA)
        if checkpoint is None or not Path(checkpoint).exists():
            self.first = float(self.score(ladder.factors)[0])
            self.best = (np.ones(len(variables)), self.first)
        else:
            self.load(checkpoint)

    def score(self, factors: Floats) -> Floats:
        """Fitness of candidates."""
        done = self.many.run(replace(self.ladder, factors=factors))
        self.evaluations += len(factors)
        self.runs += int(done["runs"].sum())
        return done["fitness"]

    def step(self) -> None:
        """One generation; points outside the bounds count as the nearest inside, less their distance."""
        points = cmaes.ask(self.state, self.count, self.seed)
        inside = np.clip(points, 0.0, 1.0)
        factors = np.exp(self.low + self.width * inside)
        fitness = self.score(factors)
        top = int(np.argmax(fitness))
        if fitness[top] > self.best[1]:
            self.best = (factors[top], float(fitness[top]))
        self.history.append(self.best[1])
        self.state = cmaes.tell(self.state, points, fitness - ((points - inside) ** 2).sum(axis=1))
        if self.file is not None:
            self.save(self.file)

    def finish(self) -> Optimum:
        """The best, rounded, and improved on the grid one step of one value at a time while that helps."""
        circuit = self.ladder.bench.circuit
        start = np.array([value_of(circuit, v.parameter) for v in self.variables])
        grid = np.array([v.grid for v in self.variables])
        low, high = (start * [getattr(v, k) for v in self.variables] for k in ("low", "high"))
        snapped = self._snap(start * self.best[0], grid)
        score = float(self.score((snapped / start)[None, :])[0])
        steps = np.concatenate([np.diag(grid), -np.diag(grid)])[np.tile(grid > 0, 2)]
        for _ in range(POLISH_ROUNDS if len(steps) else 0):
            near = snapped + steps
            near = near[((near >= np.minimum(low, high)) & (near <= np.maximum(low, high))).all(axis=1)]
            found = self.score(near / start) if len(near) else np.array([-np.inf])
            if found.max() <= score:
                break
            snapped, score = near[int(found.argmax())], float(found.max())
        lists = [tuple(float(x) for x in values) for values in (start, start * self.best[0], snapped)]
        return Optimum(
            self.variables, lists[0], lists[1], lists[2], (self.first, self.best[1], score), tuple(self.history),
            self.evaluations, self.runs,
        )  # fmt: skip

    def _snap(self, values: Floats, grid: Floats) -> Floats:
        safe = np.where(grid > 0, grid, 1.0)
        rounded: Floats = np.where(grid > 0, np.round(values / safe) * safe, values)
        return rounded

    def save(self, file: str | Path) -> None:
        s = self.state
        arrays = {
            "mean": s.mean, "cov": s.cov, "path_sigma": s.path_sigma, "path_c": s.path_c, "best": self.best[0],
            "history": np.array(self.history), "numbers": np.array([s.sigma, self.best[1], self.first]),
            "counts": np.array([s.generation, self.evaluations, self.runs]),
        }  # fmt: skip
        write_package(file, {"format": FORMAT, "key": self.key}, arrays)

    def load(self, file: str | Path) -> None:
        manifest, a = read_package(file, FORMAT)
        if manifest["key"] != self.key:
            raise ValueError(
                f"{file}: is the checkpoint of another circuit, other variables, margins or seed; "
                "give another file, or remove it to start again"
            )
        sigma, best, self.first = (float(x) for x in a["numbers"])
        generation, self.evaluations, self.runs = (int(x) for x in a["counts"])
        self.state = cmaes.State(a["mean"], sigma, a["cov"], a["path_sigma"], a["path_c"], generation)
        self.best, self.history = (a["best"], best), a["history"].tolist()
