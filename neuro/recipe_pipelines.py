"""Recipes whose method is a whole procedure: latency reduction of IIR-SNN, learned delays of DCLS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neuro.methods.dcls import fix_delays, learn
from neuro.methods.iir import IIR, convert, deployed, one_step, set_steps, train_ann
from neuro.recipe import Recipe
from neuro.recipe_data import Array, Sets
from neuro.recipe_run import build, outcome
from neuro.train import Training


def iir(recipe: Recipe, folder: Path | None, seed: int, resume: bool, progress: bool) -> dict[str, Any]:
    """ANN, conversion, stages, control; the network is that of the last stage. A validation share picks epochs."""
    sets: Sets = recipe.first["data"].make()
    if sets.steps != 1:
        raise ValueError(f"{recipe.path}: data.steps must be 1, got {sets.steps}; IIR-SNN shows one image, T times")
    plan = recipe.first["method"].make(_loop=recipe.first["train"].make())
    data, validation = _parted(*arrays(sets.train), plan.validation, seed)
    test = arrays(sets.test)
    ann: Any = build(recipe, sets, seed)
    checkpoint = None if folder is None else folder / "ann.pt"
    trained = train_ann(ann, data, plan.ann, seed=seed, checkpoint=checkpoint, resume=resume, progress=progress)
    rows = _rows("ann", trained)
    tell = _told(progress)
    method: IIR = plan.method
    result = method.run(ann, data, validation, test, seed=seed, folder=folder, resume=resume, progress=tell)
    images = torch.as_tensor(data[0])[:512, 0]
    snn = convert(ann, images, steps=method.schedule[0], q=method.q)
    last = result.stages[-1]
    snn.load_state_dict(dict(last.parameters))
    set_steps(snn, last.steps)
    for name, stage in [(f"T{s.steps}", s) for s in result.stages] + [("control", result.control)]:
        for k, epoch in enumerate(zip(*(stage.history[c] for c in ("loss", "accuracy", "validation")), strict=True), 1):
            rows.append(dict(zip(_COLUMNS, (name, k, *epoch), strict=True)))
    shown = replace(
        sets, steps=last.steps, test=(np.repeat(test[0], last.steps, axis=1), test[1]),
        split=f"{sets.split}; {plan.validation:g} of the training images validate",
    )  # fmt: skip
    module = one_step(snn) if last.steps == 1 else deployed(snn)
    results = {"ann": result.ann, "converted": {str(t): a for t, a in result.converted.items()}}
    results |= {"stages": {str(s.steps): s.test for s in result.stages}, "control": result.control.test}
    if folder is not None:
        result.save(folder / "iir.json")
    made = outcome(module, shown, rows, last.test, seed, recipe, module=module, results=results)
    made["facts"] |= {"selection": "the epoch that validates best, of each stage; the test set picks nothing"}
    return made | {"trained": snn}


def dcls(recipe: Recipe, folder: Path | None, seed: int, resume: bool, progress: bool) -> dict[str, Any]:
    """Annealed bumps, rounding, weights tuned: three figures, the last is the result, and its network what is kept."""
    sets: Sets = recipe.first["data"].make()
    plan = recipe.first["method"].make(_loop=recipe.first["train"].make())
    model = build(recipe, sets, seed)
    if plan.delays == "fixed":
        fix_delays(model)
    checkpoint = None if folder is None else folder / "delays.pt"
    done = learn(
        model, arrays(sets.train), plan.settings, test=arrays(sets.test), seed=seed, checkpoint=checkpoint,
        resume=resume, progress=progress,
    )  # fmt: skip
    rows = [row for name, t in zip(("annealed", "tuned"), done.histories, strict=False) for row in _rows(name, t)]
    results = {"bumps": done.bumps, "rounded": done.rounded, "tuned": done.tuned}
    made = outcome(done.module, sets, rows, done.tuned, seed, recipe, results=results)
    made["facts"] |= {"readout": "sum over steps of the softmax of the potentials, tails included"}
    return made


def arrays(data: Any) -> tuple[Array, Array]:
    """Arrays as they are; a map-style data set, whole."""
    if isinstance(data, tuple):
        return data
    items = [data[i] for i in range(len(data))]
    return np.stack([x for x, _ in items]), np.array([y for _, y in items], np.int64)


_COLUMNS = ("stage", "epoch", "loss", "accuracy", "test_accuracy")


def _rows(name: str, done: Training) -> list[dict[str, Any]]:
    columns = zip(done.loss, done.accuracy, done.test_accuracy, strict=True)
    return [dict(zip(_COLUMNS, (name, k, *row), strict=True)) for k, row in enumerate(columns, 1)]


def _parted(x: Array, y: Array, share: float, seed: int) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """What is left to train with, and ``share`` of it, drawn at random, to validate; one sample at least."""
    order = np.random.default_rng(seed).permutation(len(y))
    k = max(1, round(share * len(y)))
    return (x[order[k:]], y[order[k:]]), (x[order[:k]], y[order[:k]])


def _told(progress: bool) -> Callable[[str, int, int, float, float], None] | None:
    if not progress:
        return None

    def tell(stage: str, epoch: int, epochs: int, loss: float, accuracy: float) -> None:
        print(f"{stage}: {epoch} of {epochs}, loss {loss:.3f}, accuracy {accuracy:.3f}", flush=True)

    return tell
