"""The training loop: seeded, resumable to the same bits, one optimizer step a batch.

Everything random in an epoch (order of samples, dropout) is seeded by ``(seed, epoch)``, and the learning
rate is a function of where training is, so a checkpoint at an epoch's end is model, optimizer and a number: what
follows is the same whether or not the run was stopped there. Within an epoch the state of torch's generators is
added. The caller's random state is left as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from neuro.batches import Augment, Data, Source, source
from neuro.checkpoint import CHECKPOINT
from neuro.distributed import own_device, processes
from neuro.evaluate import evaluate, predict
from neuro.interrupts import interrupts
from neuro.loop import Method, Run
from neuro.losses import Loss, Readout, backward, ce_mse, last, softmax_total, spike_ce, spike_mse, step_losses, total
from neuro.metrics import Csv, Metrics, Report, Score, TensorBoard, Training, likelihood, right
from neuro.optim import OptimizerFactory, adam
from neuro.scale import PLAIN, EarlyStop, Scale
from neuro.schedules import Milestones, OneCycle, Schedule, Schedules, WarmUp, constant, cosine

__all__ = [
    "CHECKPOINT",
    "Augment",
    "Csv",
    "Data",
    "EarlyStop",
    "Loss",
    "Method",
    "Metrics",
    "Milestones",
    "OneCycle",
    "OptimizerFactory",
    "Readout",
    "Report",
    "Scale",
    "Schedule",
    "Schedules",
    "Score",
    "Source",
    "TensorBoard",
    "Training",
    "WarmUp",
    "adam",
    "backward",
    "ce_mse",
    "constant",
    "cosine",
    "evaluate",
    "last",
    "likelihood",
    "predict",
    "right",
    "softmax_total",
    "spike_ce",
    "spike_mse",
    "step_losses",
    "total",
    "train",
]


def train(
    model: nn.Module,
    data: Data | Any,
    *,
    method: Method,
    epochs: int,
    loss: Loss = spike_mse,
    batch: int = 64,
    optimizer: OptimizerFactory | None = None,
    schedule: Schedules = cosine,
    test: Data | Any | None = None,
    target: float | None = None,
    valid: Data | Any | None = None,
    stop: EarlyStop = EarlyStop(),  # noqa: B008 (a frozen value)
    augment: Augment | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: bool | Report = False,
    metrics: Sequence[Metrics] = (),
    scale: Scale = PLAIN,
    distributed: bool | None = None,
) -> Training:
    """Train ``model`` in place; return its history.

    ``data``: arrays, or anything :func:`neuro.batches.source` takes. ``method``: ``SLTT(...)`` or ``BPTT()``.
    ``test`` is only reported, and ``target`` stops once the accuracy on it reaches that; ``valid`` decides: training
    ends with the weights of the epoch that was best on it, after ``stop.patience`` epochs without a better one.

    ``checkpoint`` is written whole after each epoch, within one as ``scale`` says, and at Ctrl-C or SIGTERM, which end
    training after the batch at hand; ``resume`` goes on from it, and starts anew where there is none. ``progress``: a
    bar on the terminal, or a function that is told of each epoch; ``metrics``: where each epoch is written.

    ``distributed``: with the processes that ``torchrun`` started; None finds out. ``batch`` is that of all together.
    A module's ``after_step()`` and ``after_epoch(epochs done, epochs)`` are called where it has them.

    Errors: ``ValueError`` for data, for a checkpoint of another run, and for a loss that is not finite.
    """
    place = own_device(device)
    among = processes(distributed, place)
    given = source(data, place, "data")
    held = {name: source(d, place, name) for name, d in (("test", test), ("valid", valid)) if d is not None}
    _check(epochs, batch, target, stop, held, given, scale)
    model.to(place)
    optim = (optimizer or adam())(model.parameters())
    run = Run(model, optim, given, method, loss, batch, epochs, seed, schedule, augment, place, scale, among)
    run.held, run.stop, run.target = held, stop, target
    run.file = None if checkpoint is None else Path(checkpoint)
    with ExitStack() as around:
        run.begin(resume)
        if among.first:
            for place_to_write in metrics:
                place_to_write.begin(run.done)
                around.callback(place_to_write.close)
        run.asked = around.enter_context(interrupts(run.file is not None))
        tell = around.enter_context(_reporting(progress if among.first else False))
        around.enter_context(torch.random.fork_rng(devices=[place] if place.type == "cuda" else []))
        while not run.ended():
            run.epoch(metrics)
            tell(run.done.epochs, epochs, run.done.loss[-1], run.done.accuracy[-1])
    if run.best is not None:
        model.load_state_dict(run.best)
    model.eval()
    return run.done


def _check(
    epochs: int,
    batch: int,
    target: float | None,
    stop: EarlyStop,
    held: Mapping[str, Source],
    given: Source,
    scale: Scale,
) -> None:
    if epochs < 1 or batch < 1:
        raise ValueError(f"train: epochs and batch must be at least 1, got {epochs} and {batch}")
    if target is not None and "test" not in held:
        raise ValueError(f"train: target {target} is a test accuracy; give test=(x, y)")
    if stop.patience is not None and "valid" not in held:
        raise ValueError(f"train: patience {stop.patience} is on validation data; give valid=(x, y)")
    if scale.rate_per_batch and given.size(batch)[1] is None:
        raise ValueError("train: rate_per_batch needs the number of batches; give neuro.batches.Iterated its count")


@contextmanager
def _reporting(progress: bool | Report) -> Iterator[Report]:
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda *_: None
    else:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns) as bar:
            task = bar.add_task("training", total=None)

            def tell(epoch: int, epochs: int, loss: float, accuracy: float) -> None:
                text = f"training: loss {loss:.3f}, accuracy {accuracy:.3f}"
                bar.update(task, completed=epoch, total=epochs, description=text)

            yield tell
