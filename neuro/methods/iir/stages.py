"""Iterative initialisation and retraining: train at T = 5, hand all parameters on to T = 4, train, ..., T = 1.

    SNN_5 <- convert(ANN); train at T = 5
    for T in 4, 3, 2, 1:  SNN_T <- all parameters of the network before (weights, biases, V, k), nothing rescaled;
                          fresh optimiser and learning rate; train; keep the epoch that validates best

The logits U[T] are a sum over T, so they shrink where T does and the first epoch makes up for it. A control always runs
beside: T of the last stage trained directly from the converted network, with the epochs of all stages together.
Source: Chowdhury, Rathi, Roy 2021 (arXiv 2110.05929). Their code keeps the epoch that is best on the test set; here a
validation set decides and the test set is only reported.
"""

from __future__ import annotations

import copy
import hashlib
import io
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from neuro.beside import write_beside
from neuro.methods.iir.convert import convert, populations, set_steps, spikes
from neuro.methods.iir.recipe import SNN_CIFAR, DirectBPTT, Recipe, cross_entropy
from neuro.methods.iir.report import IIRResult, StageResult
from neuro.train import Data, evaluate, last, train

DEAD = 1e-3
"""Spikes a neuron, over all T, below which a population is dead and a run stops."""
CALIBRATION, WATCHED = 512, 512
"""Images for thresholds; validation images on which spikes are counted."""

Tell = Callable[[str, int, int, float, float], None]
"""Told after each epoch: stage, epochs done, epochs, mean loss, training accuracy."""
Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class IIR:
    """``schedule``: T of the stages, the paper's (5, 4, 3, 2, 1) or the released script's (5, 3, 1).

    ``recipe``: of each stage. ``q``, ``scale``, ``calibration_steps``, ``least``: of :func:`~.convert.convert`.
    Errors: ``ValueError`` for a schedule that does not fall.
    """

    schedule: tuple[int, ...] = (5, 4, 3, 2, 1)
    recipe: Recipe = SNN_CIFAR
    q: float = 90.0
    scale: float = 1.0
    calibration_steps: int | None = None
    least: float | None = None

    def __post_init__(self) -> None:
        falls = all(a > b for a, b in zip(self.schedule, self.schedule[1:], strict=False))
        if not self.schedule or self.schedule[-1] < 1 or not falls:
            raise ValueError(f"IIR.schedule: must fall to 1 or more, got {self.schedule}")

    def run(
        self,
        ann: nn.Sequential,
        data: Data,
        validation: Data,
        test: Data,
        *,
        seed: int = 0,
        folder: str | Path | None = None,
        resume: bool = False,
        progress: Tell | None = None,
    ) -> IIRResult:
        """From a trained ``ann`` to the last T of the schedule, and the control.

        ``data``, ``validation``, ``test``: images ``(samples, 1, ...)`` as the ANN was trained on, and labels.
        ``folder``: checkpoints of every stage go there, and ``resume`` goes on from them, within a stage too, to the
        same bits. Errors: ``ValueError`` for data, a checkpoint of another run, and a population that has died.
        """
        images = torch.as_tensor(data[0])[_some(len(data[0]), seed), 0]
        calibrated = {"steps": self.calibration_steps, "q": self.q, "scale": self.scale, "least": self.least}
        start = convert(
            ann, images, steps=self.schedule[0], q=self.q, scale=self.scale,
            calibration_steps=self.calibration_steps, dropout=self.recipe.dropout, least=self.least,
        )  # fmt: skip
        converted = {t: _at(start, t, test) for t in dict.fromkeys((self.schedule[0], self.schedule[-1]))}
        thresholds = {n: float(p.threshold.detach()) for n, p in populations(start).items()}
        stages, snn = [], copy.deepcopy(start)
        total = self.recipe.epochs * len(self.schedule)
        with _folder(folder) as root:
            for k, steps in enumerate(self.schedule):
                stage = _Stage(f"stage{k + 1}-T{steps}", steps, self.recipe.epochs, seed * 100 + k, self.recipe, root)
                stages.append(stage.run(snn, data, validation, test, resume and folder is not None, progress))
            stage = _Stage(
                f"control-T{self.schedule[-1]}", self.schedule[-1], total, seed * 100 + 99, self.recipe, root
            )
            control = stage.run(start, data, validation, test, resume and folder is not None, progress)
        settings = {"schedule": list(self.schedule), "recipe": self.recipe.to_dict(), "seed": seed}
        sizes = {"training": len(data[0]), "validation": len(validation[0]), "test": len(test[0])}
        return IIRResult(
            evaluate(ann, *test, readout=last),
            converted,
            tuple(stages),
            control,
            calibrated | {"thresholds": thresholds, "images": len(images), "images_sha256": _hash({"x": images})},
            settings | {"samples": sizes},
        )


@dataclass(frozen=True)
class _Stage:
    name: str
    steps: int
    epochs: int
    seed: int
    recipe: Recipe
    folder: Path

    def run(
        self, snn: nn.Module, data: Data, validation: Data, test: Data, resume: bool, tell: Tell | None
    ) -> StageResult:
        """Train ``snn`` in place and leave it at the epoch that validated best."""
        began = time.perf_counter()
        set_steps(snn, self.steps)
        first, at_load = _hash(snn.state_dict()), evaluate(snn, *test, readout=last)
        checkpoint = self.folder / f"{self.name}.pt"

        def after(epoch: int, epochs: int, loss: float, accuracy: float) -> None:
            self._keep(checkpoint)
            if tell is not None:
                tell(self.name, epoch, epochs, loss, accuracy)

        if resume and checkpoint.exists():
            self._keep(checkpoint)
        done = train(
            snn,
            data,
            method=DirectBPTT(self.steps),
            loss=cross_entropy,
            epochs=self.epochs,
            batch=self.recipe.batch,
            optimizer=self.recipe.optimizer(),
            schedule=self.recipe.schedule,
            test=validation,
            seed=self.seed,
            checkpoint=checkpoint,
            resume=resume,
            progress=after,
        )
        best = _best(done.test_accuracy)
        snn.load_state_dict(torch.load(self._kept, weights_only=True))
        rates = _rates(snn, validation, self.steps, self.name)
        return StageResult(
            self.steps, self.epochs, best + 1, at_load, done.test_accuracy[best], evaluate(snn, *test, readout=last),
            rates,
            {n: float(p.threshold.detach()) for n, p in populations(snn).items()},
            {n: float(p.leak.detach()) for n, p in populations(snn).items()},
            first,
            _hash(snn.state_dict()),
            {"loss": done.loss, "accuracy": done.accuracy, "validation": done.test_accuracy},
            time.perf_counter() - began,
            {n: p.detach().clone() for n, p in snn.state_dict().items()},
        )  # fmt: skip

    @property
    def _kept(self) -> Path:
        return self.folder / f"{self.name}.best.pt"

    def _keep(self, checkpoint: Path) -> None:
        """Copy the checkpoint's parameters if its last epoch is the best; it is the only source, so a kill between
        the two files is made up for when the run goes on."""
        saved = torch.load(checkpoint, weights_only=True)
        accuracy = saved["history"]["test_accuracy"]
        if _best(accuracy) == len(accuracy) - 1:
            buffer = io.BytesIO()
            torch.save(saved["model"], buffer)
            write_beside(self._kept, lambda out: out.write(buffer.getvalue()))


def _best(accuracy: list[float]) -> int:
    """The last of the best: of equal ones it has learned longest."""
    return max(range(len(accuracy)), key=lambda k: (accuracy[k], k))


def _rates(snn: nn.Module, validation: Data, steps: int, name: str) -> dict[str, float]:
    """Spikes a neuron. Errors: ``ValueError`` naming a dead population."""
    images = torch.as_tensor(validation[0])[:WATCHED, 0]
    rates = {n: float(a.mean()) for n, a in spikes(snn, images, steps).items()}
    for population, rate in rates.items():
        if rate < DEAD or math.isnan(rate):
            raise ValueError(
                f"{name}: population {population} fires {rate:.2g} spikes a neuron in {steps} steps and is dead; put "
                "stages between, lower q or scale, or train with a lower rate"
            )
    return rates


def _at(snn: nn.Module, steps: int, test: Data) -> float:
    other = copy.deepcopy(snn)
    set_steps(other, steps)
    return evaluate(other, *test, readout=last)


def _some(samples: int, seed: int) -> Tensor:
    return torch.randperm(samples, generator=torch.Generator().manual_seed(seed))[:CALIBRATION]


def _hash(tensors: dict[str, Tensor]) -> str:
    h = hashlib.sha256()
    for name, tensor in tensors.items():
        h.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return h.hexdigest()


@contextmanager
def _folder(given: str | Path | None) -> Iterator[Path]:
    if given is not None:
        Path(given).mkdir(parents=True, exist_ok=True)
        yield Path(given)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)
