"""What a latency reduction found, as data: a table to print and a JSON file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from neuro.beside import write_beside


@dataclass(frozen=True)
class StageResult:
    """One training at one T. Accuracies are shares; ``rates``: spikes a neuron over all T steps, by population.

    ``at_load``: test accuracy before the first step of training. ``validation``: of the epoch that was kept, ``best``
    (from 1). ``first`` and ``last``: SHA-256 of all parameters at the start and as kept. ``history``: loss, training
    and validation accuracy of each epoch.
    """

    steps: int
    epochs: int
    best: int
    at_load: float
    validation: float
    test: float
    rates: Mapping[str, float]
    thresholds: Mapping[str, float]
    leaks: Mapping[str, float]
    first: str
    last: str
    history: Mapping[str, Sequence[float]]
    seconds: float
    parameters: Mapping[str, Tensor] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """JSON data, without the parameters."""
        rows = {k: v for k, v in self.__dict__.items() if k != "parameters"}
        return {k: dict(v) if isinstance(v, Mapping) else v for k, v in rows.items()}


@dataclass(frozen=True)
class IIRResult:
    """``ann`` and ``converted`` (by T, no training of the spiking network): test accuracy; the stages in order.

    ``control``: T of the last stage directly from the converted network, with as many epochs as all stages together.
    ``calibration``: thresholds by population, q, steps, and SHA-256 of the images. ``settings``: what the run was
    asked for.
    """

    ann: float
    converted: Mapping[int, float]
    stages: Sequence[StageResult]
    control: StageResult
    calibration: Mapping[str, Any]
    settings: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "ann": self.ann,
            "converted": {str(t): a for t, a in self.converted.items()},
            "stages": [s.to_dict() for s in self.stages],
            "control": self.control.to_dict(),
            "calibration": dict(self.calibration),
            "settings": dict(self.settings),
        }

    def save(self, path: str | Path) -> Path:
        """Write JSON, beside and renamed."""
        text = json.dumps(self.to_dict(), indent=1).encode()
        write_beside(Path(path), lambda out: out.write(text))
        return Path(path)

    def __str__(self) -> str:
        rows = [f"{'':<18}{'T':>3}{'epochs':>8}{'at load':>9}{'valid.':>9}{'test':>8}{'s':>7}  spikes a neuron"]
        rows.append(f"{'ANN':<18}{'':>3}{'':>8}{'':>9}{'':>9}{100 * self.ann:>8.2f}")
        rows += [f"{'converted only':<18}{t:>3}{'':>8}{'':>9}{'':>9}{100 * a:>8.2f}" for t, a in self.converted.items()]
        rows += [_row(f"stage {k}", s) for k, s in enumerate(self.stages, start=1)]
        rows.append(_row("control, direct", self.control))
        return "\n".join(rows)


def _row(name: str, s: StageResult) -> str:
    shares = "".join(f"{100 * a:>{w}.2f}" for a, w in ((s.at_load, 9), (s.validation, 9), (s.test, 8)))
    rates = " ".join(f"{r:.3f}" for r in s.rates.values())
    return f"{name:<18}{s.steps:>3}{s.epochs:>8}{shares}{s.seconds:>7.0f}  {rates}"
