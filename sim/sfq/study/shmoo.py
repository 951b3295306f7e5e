"""Shmoo: where a circuit works over a grid of two parameters. One batch of all points."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.sfq.circuit import Circuit, Floats
from sim.sfq.deck import Deck
from sim.sfq.study.bench import Bench, bench, works
from sim.sfq.study.criterion import T_TOL_S, Bools, Criterion
from sim.sfq.study.many import Many, Progress
from sim.sfq.study.parameters import Parameter, corners_of, parameter
from sim.sfq.study.tables import save

STEPS = tuple(0.5 + 0.05 * k for k in range(21))
"""0.5 to 1.5 in 5 %."""


@dataclass(frozen=True)
class Shmoo:
    """``works`` (y factors, x factors) of the parameters named ``x`` and ``y``."""

    x: str
    y: str
    x_factors: Floats
    y_factors: Floats
    works: Bools

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "x": self.x, "y": self.y, "x_factors": self.x_factors.tolist(), "y_factors": self.y_factors.tolist(),
            "works": self.works.astype(int).tolist(),
        }  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write ``.json`` or ``.csv``: a row for each y factor, a column for each x factor, 1 where it works."""
        header = [f"{self.y} \\ {self.x}", *(f"{x:g}" for x in self.x_factors)]
        rows = ([f"{y:g}", *row] for y, row in zip(self.y_factors, self.works.astype(int).tolist(), strict=True))
        return save(path, self.to_dict(), header, rows)

    def __str__(self) -> str:
        rows = [
            f"{y:7.3g} " + "".join("#" if w else "." for w in row)
            for y, row in zip(self.y_factors[::-1], self.works[::-1], strict=True)
        ]
        foot = f"        {self.x} x{self.x_factors[0]:g} .. x{self.x_factors[-1]:g}"
        return "\n".join([f"{self.y} (up), # works", *rows, foot])


def shmoo(
    source: Deck | Circuit | Bench,
    x: str | Parameter,
    y: str | Parameter,
    criterion: Criterion | None = None,
    *,
    x_factors: Sequence[float] = STEPS,
    y_factors: Sequence[float] = STEPS,
    watch: Sequence[str] | None = None,
    t_tol_s: float = T_TOL_S,
    h: float | None = None,
    t_stop: float | None = None,
    seed: int | None = None,
    executor: Executor | None = None,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
) -> Shmoo:
    """Where a deck, circuit or bench works when ``x`` and ``y`` (text as in :mod:`parameters`) are scaled, judged as
    in :func:`sim.sfq.study.margins.margins`. Errors: ``ValueError``, DeckError."""
    tested = bench(source, criterion, watch=watch, t_tol_s=t_tol_s, h=h, t_stop=t_stop, seed=seed)
    origin = tested.circuit if isinstance(source, Bench) else source
    both = [parameter(origin, x), parameter(origin, y)]
    across, up = np.asarray(x_factors, dtype=np.float64), np.asarray(y_factors, dtype=np.float64)
    if not (across.size and up.size):
        raise ValueError("shmoo: no factors; give at least one of each parameter")
    grid = np.stack([np.tile(across, len(up)), np.repeat(up, len(across))], axis=1)
    many = Many(executor, checkpoint=checkpoint, progress=progress)
    right = works(tested, corners_of(tested.circuit, both, grid), many)
    return Shmoo(both[0].name, both[1].name, across, up, right.reshape(len(up), len(across)))
