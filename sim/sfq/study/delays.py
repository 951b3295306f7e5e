"""Delays of a cell on its stand, with what scatters them and what they depend on: jitter, bias.

    delay = slip of the output's junction - last slip of the trigger's junction before it

Source: docs/sfq.md 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.sfq.circuit import Floats, Ints
from sim.sfq.corners import Corners
from sim.sfq.study.parameters import Parameter, corners_of, parameter
from sim.sfq.study.stand import Stand, Train
from sim.sfq.study.tables import save, text_table


@dataclass(frozen=True)
class Delays:
    """Delays (s) of every answer in every corner, ``(corners, answers)``; NaN rows are corners that answered other
    than the first corner did (as often, for each trigger)."""

    trigger: str
    output: str
    delay_s: Floats

    @property
    def mean_s(self) -> float:
        """Over all corners and answers."""
        return float(np.nanmean(self.delay_s))

    @property
    def jitter_s(self) -> float:
        """Standard deviation over the corners, averaged over the answers as variances; 0 for fewer than two."""
        rows = self.delay_s[np.isfinite(self.delay_s).all(axis=1)]
        return float(np.sqrt(rows.var(axis=0, ddof=1).mean())) if len(rows) > 1 else 0.0

    @property
    def lost(self) -> int:
        """Corners that answered otherwise."""
        return int(np.isnan(self.delay_s).any(axis=1).sum())

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        rows = [[None if np.isnan(d) else float(d) for d in row] for row in self.delay_s]
        return {
            "trigger": self.trigger, "output": self.output, "mean_s": self.mean_s, "jitter_s": self.jitter_s,
            "lost": self.lost, "delay_s": rows,
        }  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write ``.json`` or ``.csv``: a row a corner."""
        header = ["corner", *(f"delay_{k}_s" for k in range(self.delay_s.shape[1]))]
        return save(path, self.to_dict(), header, ((k, *row) for k, row in enumerate(self.delay_s.tolist())))

    def __str__(self) -> str:
        return (
            f"{self.trigger} -> {self.output}: {self.mean_s * 1e12:.2f} ps, jitter {self.jitter_s * 1e12:.2f} ps, "
            f"{len(self.delay_s)} corners ({self.lost} answered otherwise)"
        )


def delays(
    of: Stand, train: Train, trigger: str, output: str, corners: Corners | None = None, seed: int | None = None
) -> Delays:
    """Delay from the trigger's junction to the output's, for one train in every corner (default: one).

    Errors: ``ValueError`` where the first corner gives no answer.
    """
    run = of.drive([train], corners or Corners(1), seed)
    asked, given = of.times(run, trigger), of.times(run, output)
    answers = int(np.isfinite(given[0]).sum())
    if not answers:
        raise ValueError(
            f"timing: {output} does not answer {trigger} in the nominal run; look at its bias and the train"
        )
    last = _last_before(asked, given)
    if last[0, :answers].min() < 0:
        raise ValueError(f"timing: {output} answers before {trigger} arrives; name the input that makes it answer")
    good = (np.isfinite(given).sum(axis=1) == answers) & (last == last[0]).all(axis=1)
    delay = given[:, :answers] - np.take_along_axis(asked, np.maximum(last[:, :answers], 0), axis=1)
    delay[~good] = np.nan
    return Delays(trigger, output, delay)


def _last_before(asked: Floats, given: Floats) -> Ints:
    """Index of the last trigger at or before each answer, -1 for none; -1 also where there is no answer."""
    with np.errstate(invalid="ignore"):
        return (asked[:, None, :] <= given[:, :, None]).sum(axis=2) - 1


def jitter(of: Stand, train: Train, trigger: str, output: str, n: int = 256, seed: int = 1) -> Delays:
    """Delays with thermal noise in ``n`` corners of one batch; the deck's ``.temp`` makes the noise."""
    return delays(of, train, trigger, output, Corners(n), seed)


@dataclass(frozen=True)
class DelayCurve:
    """Mean delay (s) against the factor of a parameter; NaN where the cell does not answer as the circuit as it stands
    does."""

    parameter: str
    factors: Floats
    delay_s: Floats

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        values = [None if np.isnan(d) else float(d) for d in self.delay_s]
        return {"parameter": self.parameter, "factors": self.factors.tolist(), "delay_s": values}

    def save(self, path: str | Path) -> Path:
        """Write ``.json`` or ``.csv``."""
        rows = zip(self.factors.tolist(), self.delay_s.tolist(), strict=True)
        return save(path, self.to_dict(), ("factor", "delay_s"), rows)

    def __str__(self) -> str:
        rows = [(f"{f:g}", f"{d * 1e12:.2f}") for f, d in zip(self.factors, self.delay_s, strict=True)]
        return text_table((self.parameter, "delay ps"), rows)


def delay_against(
    of: Stand, train: Train, trigger: str, output: str, scaled: str | Parameter, factors: Sequence[float]
) -> DelayCurve:
    """Delay as a parameter (text as in :mod:`parameters`, ``"I"`` for all biases) is scaled; all in one batch."""
    x = np.asarray(factors, dtype=np.float64)
    chosen = parameter(of.circuit, scaled)
    corners = corners_of(of.circuit, [chosen], np.concatenate([[1.0], x])[:, None])
    table = delays(of, train, trigger, output, corners).delay_s[1:]
    return DelayCurve(chosen.name, x, table.mean(axis=1))
