"""Learned delays, the recipe: anneal, round, and learn the weights again (DCLS-Delays).

1. Weights and positions together, bumps narrowing over the first quarter (:class:`neuro.delays.Annealing`). Two
   groups of one Adam: weights by one cycle, positions 100 times faster, without decay, by a cosine to 0.
2. Positions to whole numbers: one tap a synapse (:func:`neuro.delays.rounded`).
3. Weights alone, delays fixed, no dropout. A tap's height jumps at rounding from 0.787 w, or 0.5 w, to w, so neurons
   tuned to coincidences go off at single spikes: without this stage a rounded network can be at chance.

Loss ``CE(m, y)``, ``m = sum_t softmax(v[t])`` over all steps and tails: the softmax within CE is a second one, as in
the authors' code. Stage 3 is in their code, unused there; the result here is always the network after it.

Source: Hammouamri, Khalfaoui-Hassani, Masquelier, ICLR 2024, arXiv 2306.17670.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from neuro.delays import delay_layers, rounded
from neuro.losses import Loss, Readout, backward, softmax_total
from neuro.modules import HeldDropout, steps
from neuro.optim import adam, grouped
from neuro.schedules import OneCycle, cosine
from neuro.train import Data, Training, evaluate, train


@dataclass(frozen=True)
class DCLS:
    """The gradient: back-propagation through time of ``loss(readout(o), y)``, all steps in one graph.

    ``detach_v``: states are passed on without history, as SLTT does it; delays still carry the gradient back in time.
    With a leak of 0.005 the two differ by nothing that matters, and the backward pass has no sequence left.
    """

    detach_v: bool = False
    readout: Readout = softmax_total

    def __call__(self, model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """``x (N, T, ...), y (N,) -> (loss (), what decides (N, classes))``; gradients accumulate."""
        out, _ = steps(model, x.transpose(0, 1), detached=self.detach_v)
        summed = self.readout(out)
        value = loss(summed, y)
        backward(value)
        return value.detach(), summed.detach()


@dataclass(frozen=True)
class Recipe:
    """Settings of the recipe; rates are peaks. Published (SHD): 150 epochs, batch 256, and the rates given here.

    ``tune_epochs`` 0 leaves stage 3 out; its rate is published as 1.2e-4 over 30 epochs.

    Errors: ``ValueError`` for epochs, batch or rates below what makes sense.
    """

    epochs: int = 150
    tune_epochs: int = 30
    batch: int = 256
    rate: float = 5e-3
    position_rate: float = 0.1
    tune_rate: float = 1.2e-4
    weight_decay: float = 1e-5
    method: DCLS = DCLS()

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.tune_epochs < 0 or self.batch < 1:
            raise ValueError(
                f"Recipe: epochs and batch must be at least 1 and tune_epochs 0, got {self.epochs}, {self.batch} "
                f"and {self.tune_epochs}"
            )
        for name in ("rate", "position_rate", "tune_rate"):
            if not getattr(self, name) > 0.0:
                raise ValueError(f"Recipe.{name}: must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, eq=False)
class Learned:
    """What :func:`learn` made: ``annealed`` with its bumps, ``module`` with whole delays, the result.

    Shares of test samples decided right: ``bumps`` by ``annealed`` as it is, ``rounded`` by it rounded, ``tuned`` by
    ``module``; NaN without test data. Without delays, or with fixed ones, the three may be the same.
    """

    annealed: nn.Module
    module: nn.Module
    bumps: float
    rounded: float
    tuned: float
    histories: tuple[Training, ...]

    def __str__(self) -> str:
        return f"bumps {self.bumps:.4f}, rounded {self.rounded:.4f}, rounded and tuned {self.tuned:.4f}"


def fix_delays(model: nn.Module) -> nn.Module:
    """Control: the delays it has now, drawn at random, rounded, stay; ``model`` in place."""
    for layer in delay_layers(model):
        layer.round_()
    return model


def learn(
    model: nn.Module,
    data: Data,
    recipe: Recipe | None = None,
    *,
    loss: Loss = nn.functional.cross_entropy,
    test: Data | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: Any = False,
) -> Learned:
    """Run all stages; ``model`` ends as it is after the first. ``checkpoint``: a file, the third stage's beside it.

    ``resume`` goes on where it was stopped, in whichever stage. Errors: as of :func:`neuro.train.train`.
    """
    recipe = recipe or Recipe()
    file = None if checkpoint is None else Path(checkpoint)
    run: dict[str, Any] = {"method": recipe.method, "loss": loss, "batch": recipe.batch, "seed": seed}
    run |= {"resume": resume, "progress": progress}
    histories = [train(model, data, epochs=recipe.epochs, checkpoint=file, **_rates(model, recipe), **run)]
    result = without_dropout(rounded(model))
    bumps, whole = (_score(m, test, recipe.method.readout) for m in (model, result))
    if recipe.tune_epochs:
        beside = None if file is None else file.with_name(f"{file.stem}-tuned{file.suffix}")
        rates = grouped(adam(recipe.tune_rate), result, weight_decay=0.0)
        tuning: dict[str, Any] = {"optimizer": rates, "schedule": OneCycle(start=1.2), "epochs": recipe.tune_epochs}
        histories.append(train(result, data, checkpoint=beside, **tuning, **run))
    result.eval()
    tuned = _score(result, test, recipe.method.readout)
    return Learned(model, result, bumps, whole, tuned, tuple(histories))


def without_dropout(model: nn.Module) -> nn.Module:
    """``model`` with every dropout at 0, in place."""
    for module in model.modules():
        if isinstance(module, HeldDropout | nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    return model


def _rates(model: nn.Module, recipe: Recipe) -> dict[str, Any]:
    """Optimizer and schedules of the first stage."""
    learns = any(layer.position.requires_grad for layer in delay_layers(model))
    own = {"position": {"lr": recipe.position_rate}} if learns else None
    rule = grouped(adam(recipe.rate), model, weight_decay=recipe.weight_decay, own=own)
    return {"optimizer": rule, "schedule": {"decayed": OneCycle(), "undecayed": OneCycle(), "position": cosine}}


def _score(model: nn.Module, test: Data | None, readout: Readout) -> float:
    return math.nan if test is None else evaluate(model, *test, readout=readout)
