"""The analyses that a deck asks for itself: ``.margin``, ``.mc`` and ``.iv``, each run as its line says."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import TypedDict

from sim.sfq.asked import MarginRequest, McRequest
from sim.sfq.deck import Deck
from sim.sfq.study.iv import IvCurve, josim_iv
from sim.sfq.study.many import Progress
from sim.sfq.study.margins import Margins, margins
from sim.sfq.study.montecarlo import MonteCarlo, montecarlo


class How(TypedDict, total=False):
    """How to work, see :class:`sim.sfq.study.many.Many`."""

    executor: Executor | None
    checkpoint: str | Path | None
    progress: Progress | None


def margins_asked(deck: Deck, request: MarginRequest, how: How | None = None) -> Margins:
    """``.margin``: its targets (default all kinds), its tolerances, the slips as the deck stands."""
    return margins(
        deck, parameters=request.targets or None, watch=request.watch or None, t_tol_s=request.dt_s,
        tolerance=request.tol, limits=(0.0, request.factor_max), **(how or {}),
    )  # fmt: skip


def yield_asked(deck: Deck, request: McRequest, how: How | None = None) -> MonteCarlo:
    """``.mc``: its spreads, or the deck's ``.spread``; with thermal noise where the deck has a temperature."""
    circuit = deck.flatten()
    seed = next(s for s in (request.seed, circuit.seed, 1) if s is not None)
    return montecarlo(
        deck, n=request.runs, spread=request.spread or None, common=request.common, seed=seed,
        distribution="uniform" if request.uniform else "normal", noise=circuit.temperature_K is not None,
        watch=request.watch or None, t_tol_s=request.dt_s, **(how or {}),
    )  # fmt: skip


def curves_asked(deck: Deck) -> dict[str, IvCurve]:
    """``.iv``: the curve of each line by the file it names (``save_josim`` writes it)."""
    return {r.file: josim_iv(deck, f"{r.model}|{r.subckt}" if r.subckt else r.model, r.imax_A) for r in deck.asked.iv}
