"""Run a recipe: data, model, its stages one after the other on the same weights, and what came of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neuro.models.vgg11_bn import with_pool_merged
from neuro.modules import steps
from neuro.recipe import Recipe, Stage
from neuro.recipe_data import Sets
from neuro.train import Augment, Scale, train

Pipeline: TypeAlias = Callable[[Recipe, Path | None, int, bool, bool], dict[str, Any]]
"""``(recipe, folder, seed, resume, progress)`` to the fields of :class:`Outcome` but for the time."""

TESTED = 2000
"""Test samples that are kept beside the network, at most."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A trained recipe. ``module`` is ready for ``export.from_torch``; ``trained`` is what was trained.

    ``x (samples, T, ...)``, ``labels``: of the test set, at most :data:`TESTED`. ``history``: a row an epoch.
    ``facts``: what a manifest says of data, time and training. ``results``: figures beside ``accuracy``, by name.
    """

    module: nn.Module
    trained: nn.Module
    input_shape: tuple[int, ...]
    dt_s: float
    x: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    accuracy: float
    seconds: float
    history: list[dict[str, Any]]
    facts: Mapping[str, Any]
    results: Mapping[str, Any] = field(default_factory=dict)


def run(
    recipe: Recipe, *, folder: str | Path | None = None, seed: int | None = None, resume: bool = False,
    progress: bool = False,
) -> Outcome:  # fmt: skip
    """Train ``recipe``; checkpoints of each stage go to ``folder``, ``resume`` goes on from them to the same bits.

    ``seed`` None takes the recipe's. Errors: ``ValueError`` where data is not here, or a checkpoint is of another run.
    """
    seed = recipe.seed if seed is None else seed
    start = time.perf_counter()
    from neuro import recipe_pipelines as whole

    pipelines: dict[str, Pipeline] = {"iir": whole.iir, "dcls": whole.dcls}
    how = pipelines.get(recipe.first["method"].kind, _stages)
    done = how(recipe, None if folder is None else Path(folder), seed, resume, progress)
    return Outcome(**done, seconds=time.perf_counter() - start)


def build(recipe: Recipe, sets: Sets, seed: int) -> nn.Module:
    """The model of the first stage for ``sets``, with the neurons that the recipe names."""
    neuron = recipe.first.get("neuron")
    law = None if neuron is None else neuron.make()
    made: nn.Module = recipe.first["model"].make(_sets=sets, _law=law, _seed=seed)
    return made


def exportable(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """The same function in layers that the machines have: a mean to a fixed size goes into the classifier."""
    if not isinstance(module, nn.Sequential):
        return module
    at = next((k for k, m in enumerate(module) if isinstance(m, nn.AdaptiveAvgPool2d)), None)
    if at is None:
        return module
    with torch.no_grad():
        before, _ = steps(module[:at].eval(), torch.zeros(1, 1, *shape))
    return with_pool_merged(module, before.shape[-1]).eval()


def _stages(recipe: Recipe, folder: Path | None, seed: int, resume: bool, progress: bool) -> dict[str, Any]:
    sets: Sets = recipe.first["data"].make()
    model, history, tested = build(recipe, sets, seed), [], 0.0
    for k, stage in enumerate(recipe.stages):
        if k and stage["data"] != recipe.stages[k - 1]["data"]:
            sets = stage["data"].make()
        done = train(
            model, sets.train, test=sets.test, seed=seed, progress=progress, **settings(stage, sets),
            checkpoint=None if folder is None else folder / f"{stage.name}.pt", resume=resume,
        )  # fmt: skip
        rows = zip(done.loss, done.accuracy, done.test_accuracy, strict=True)
        history += [
            {"stage": stage.name, "epoch": e, "loss": a, "accuracy": b, "test_accuracy": c}
            for e, (a, b, c) in enumerate(rows, 1)
        ]
        tested = done.test_accuracy[-1]
    return outcome(model, sets, history, tested, seed, recipe)


def outcome(
    model: nn.Module, sets: Sets, history: list[dict[str, Any]], accuracy: float, seed: int, recipe: Recipe,
    module: nn.Module | None = None, results: Mapping[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The fields of :class:`Outcome` but for the time."""
    model.eval()
    x, labels = sets.tested_on(TESTED)
    with torch.no_grad():
        answer, _ = steps(model, torch.as_tensor(x[:1]).float().transpose(0, 1))
    facts = {
        "T": sets.steps,
        "horizon": len(answer),
        "dt_s": sets.dt_s,
        "encoder": sets.encoder,
        "split": sets.split,
        "augmentation": sets.changes or "none",
        "selection": "the last epoch; no epoch is picked by the test set",
        "seed": seed,
        "threads": torch.get_num_threads(),
        "recipe": recipe.to_dict(),
    }
    return {
        "module": exportable(model, sets.shape) if module is None else module, "trained": model,
        "input_shape": sets.shape, "dt_s": sets.dt_s, "x": x, "labels": labels, "accuracy": accuracy,
        "history": history, "facts": facts, "results": results or {},
    }  # fmt: skip


def settings(stage: Stage, sets: Sets) -> dict[str, Any]:
    """What :func:`neuro.train.train` takes of a stage. Errors: ``ValueError`` for a section that is missing."""
    for section in ("loss", "optimizer"):
        if stage.get(section) is None:
            raise ValueError(f"{stage.name}: method {stage['method'].kind} needs [{section}]; add it to the recipe")
    loop = stage["train"].make()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    kinds = {"none": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    kinds["mixed"] = torch.float16 if device == "cuda" else torch.bfloat16
    scale = Scale(amp=kinds[loop.amp], accumulate=loop.accumulate, clip=loop.clip or None)
    return {
        "device": device,
        "scale": scale,
        "augment": augment(sets),
        "method": stage["method"].make(),
        "loss": stage["loss"].make(),
        "optimizer": stage["optimizer"].make(),
        "schedule": stage["schedule"].make(),
        "epochs": loop.epochs,
        "batch": loop.batch,
    }


def augment(sets: Sets) -> Augment | None:
    """The changes of ``sets`` as training takes them: random only by the batch's generator."""
    change = sets.change
    if change is None:
        return None

    def changed(x: Tensor, y: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        return torch.as_tensor(change(x.cpu().numpy(), int(rng.integers(2**31))), device=x.device), y

    return changed
