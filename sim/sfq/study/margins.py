"""Margins: how far each parameter can be scaled, down and up, before the circuit fails.

The margin is the connected region around 1. A round of the search is one batch: all parameters, both sides, up to 16
factors a side between the last factor that works and the first that fails; rounds go on until these are no more than
``tolerance`` apart (3 rounds for [0, 2.5] and 0.5 %). A circuit may work again beyond its first failure: such factors
of the first round's grid are listed, and not counted. A gap narrower than the grid (1/16 of a side) can be missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.sfq.circuit import Circuit
from sim.sfq.deck import Deck
from sim.sfq.study.bench import Bench, bench, works
from sim.sfq.study.criterion import T_TOL_S, Criterion
from sim.sfq.study.many import Many, Progress
from sim.sfq.study.parameters import Parameter, corners_of, of_instance, parameter
from sim.sfq.study.section import Section, Side
from sim.sfq.study.tables import save, text_table

POINTS = 16
LIMITS = (0.0, 2.5)
TOLERANCE = 0.005
"""Points of a section, range of factors, and width of the last bracket. Source: docs/sfq.md 6."""


@dataclass(frozen=True)
class Margin:
    """Both sides of one parameter."""

    name: str
    low: Side
    high: Side

    @property
    def critical(self) -> float:
        """The smaller side; 0.2 is +-20 %."""
        return min(self.low.size, self.high.size)


@dataclass(frozen=True)
class Margins:
    """Margins by parameter, the most critical first. ``runs`` is the number of corners simulated."""

    rows: tuple[Margin, ...]
    runs: int
    tolerance: float

    @property
    def critical(self) -> Margin:
        """The parameter with the smallest side."""
        return self.rows[0]

    def __getitem__(self, name: str) -> Margin:
        """The margin of a parameter by name. Errors: ``KeyError``."""
        key = name.upper().replace(".", "|")
        for row in self.rows:
            if row.name == key:
                return row
        raise KeyError(f"no margin of {name}; there are {[r.name for r in self.rows]}")

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "critical": {"parameter": self.critical.name, "margin": self.critical.critical},
            "tolerance": self.tolerance,
            "runs": self.runs,
            "margins": [{"parameter": r.name, "low": vars(r.low), "high": vars(r.high)} for r in self.rows],
        }

    def save(self, path: str | Path) -> Path:
        """Write ``.json`` or ``.csv``."""
        header = ("parameter", "low_works", "low_fails", "high_works", "high_fails", "again")
        return save(
            path, self.to_dict(), header,
            ((r.name, r.low.works_at, _blank(r.low.fails_at), r.high.works_at, _blank(r.high.fails_at),
              " ".join(f"{f:g}" for f in (*r.low.again, *r.high.again))) for r in self.rows),
        )  # fmt: skip

    def __str__(self) -> str:
        table = [(r.name, _percent(r.low, "-"), _percent(r.high, "+"), _again(r)) for r in self.rows]
        head = f"critical margin {self.critical.critical:.1%} ({self.critical.name})"
        return head + "\n" + text_table(("parameter", "low", "high", "works again at"), table)


def _blank(factor: float | None) -> float | str:
    return "" if factor is None else factor


def _percent(side: Side, sign: str) -> str:
    return f"{'>' if side.fails_at is None else ''}{sign}{side.size:.1%}"


def _again(r: Margin) -> str:
    return " ".join(f"x{f:.3g}" for f in (*r.low.again, *r.high.again))


def margins(
    source: Deck | Circuit | Bench,
    criterion: Criterion | None = None,
    *,
    parameters: Sequence[str | Parameter] | None = None,
    cell: str | None = None,
    watch: Sequence[str] | None = None,
    t_tol_s: float = T_TOL_S,
    h: float | None = None,
    t_stop: float | None = None,
    seed: int | None = None,
    limits: tuple[float, float] = LIMITS,
    tolerance: float = TOLERANCE,
    points: int = POINTS,
    executor: Executor | None = None,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
) -> Margins:
    """Margins of ``parameters`` (text as in :mod:`parameters`; default I, V, L, IC, R where there are any, and each
    element of the instance ``cell``) of a deck, circuit or bench, judged by ``criterion`` (default: the slips of
    ``watch``, see :func:`bench`).

    Errors: ``ValueError`` where the circuit itself fails its criterion, DeckError for the circuit.
    """
    tested = bench(source, criterion, watch=watch, t_tol_s=t_tol_s, h=h, t_stop=t_stop, seed=seed)
    origin = tested.circuit if isinstance(source, Bench) else source
    chosen = choose(origin, parameters, cell)
    low, high = limits
    if not (0 <= low < 1 < high and 0 < tolerance < 1 and points > 1):
        raise ValueError(f"margins: limits {limits}, tolerance {tolerance}, points {points}; need 0 <= low < 1 < high")
    searches = [
        Section(1.0, max(low, 0.0 if p.may_vanish else tolerance) if down else high, k)
        for k, p in enumerate(chosen)
        for down in (True, False)
    ]
    many = Many(executor, checkpoint=checkpoint, progress=progress)
    runs = _rounds(tested, chosen, searches, many, points, tolerance)
    rows = [Margin(p.name, searches[2 * k].side(), searches[2 * k + 1].side()) for k, p in enumerate(chosen)]
    return Margins(tuple(sorted(rows, key=lambda r: r.critical)), runs, tolerance)


def choose(
    source: Deck | Circuit, parameters: Sequence[str | Parameter] | None = None, cell: str | None = None
) -> list[Parameter]:
    """The parameters asked for, or the default ones. Errors: ``ValueError`` for none."""
    circuit = source.flatten() if isinstance(source, Deck) else source
    found = [parameter(source, p) for p in parameters or ()]
    if parameters is None:
        for letter in ("I", "V", "L", "IC", "R"):
            try:
                found.append(parameter(circuit, letter))
            except ValueError:
                continue  # a circuit without such elements has no such margin
    if cell is not None:
        found += of_instance(circuit, cell)
    if not found:
        raise ValueError("margins: no parameters; name some, or an instance with cell=")
    return found


def _rounds(
    tested: Bench, chosen: Sequence[Parameter], searches: Sequence[Section], many: Many, points: int, tolerance: float
) -> int:
    """Search all sides together. Returns the number of corners; the first of all is the circuit itself."""
    runs, share = 0, 0.0
    while True:
        asked = [s.ask(points, tolerance) for s in searches]
        count = sum(map(len, asked))
        if not count:
            return runs
        factors = np.ones((1 + count if runs == 0 else count, len(chosen)))
        row = len(factors) - count
        spans: list[slice] = []
        for s, f in zip(searches, asked, strict=True):
            factors[row : row + len(f), s.column] = f
            spans.append(slice(row, row + len(f)))
            row += len(f)
        part = (share, share + (1 - share) / 2)
        right = works(tested, corners_of(tested.circuit, chosen, factors), many, part)
        if runs == 0 and not right[0]:
            raise ValueError(_nominal_fails(tested))
        for s, span in zip(searches, spans, strict=True):
            s.tell(right[span])
        runs, share = runs + len(factors), part[1]


def _nominal_fails(tested: Bench) -> str:
    from sim.sfq.corners import Corners

    case = tested.cases[int(tested.fails(Corners(1))[0])]
    return (
        f"margins: the circuit as it stands fails its criterion in case {case.name} ({case.works}); "
        "correct the circuit or the criterion"
    )
