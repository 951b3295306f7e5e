"""The tasks that ``spikeport train`` knows: data, encoding, model, method and loss under one name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

if TYPE_CHECKING:
    from torch import nn

Report = Callable[[int, int, float, float], None]


@dataclass(frozen=True)
class Trained:
    """A trained module with what it was tested on: ``x (samples, T, ...)`` spikes and ``labels (samples,)``.

    ``accuracy``: share of test samples decided right; ``seconds``: time that training took.
    """

    module: nn.Module
    input_shape: tuple[int, ...]
    dt_s: float
    x: npt.NDArray[Any]
    labels: npt.NDArray[Any]
    accuracy: float
    seconds: float


def train(
    task: str, *, folder: Path | None = None, epochs: int | None = None, seed: int = 0, resume: bool = False
) -> Trained:
    """Train ``digits`` or ``xor`` with a progress bar; a checkpoint goes to ``folder``.

    Errors: ``ValueError`` for an unknown task or a checkpoint of another run.
    """
    known: dict[str, Callable[..., Trained]] = {"digits": _digits, "xor": _xor}
    if task not in known:
        raise ValueError(f"no task '{task}'; there are {', '.join(known)}")
    checkpoint = None if folder is None else folder / f"{task}.pt"
    return known[task](checkpoint=checkpoint, epochs=epochs, seed=seed, resume=resume)


def _digits(*, checkpoint: Path | None, epochs: int | None, seed: int, resume: bool) -> Trained:
    """8x8 digits, rate-coded over 8 steps of 1 ms, SLTT, cross-entropy of the scaled spikes in every step."""
    import torch
    from torch.nn import functional as F

    from neuro.data.digits import digits
    from neuro.encode import rate
    from neuro.methods import sltt
    from neuro.models.digits import digits_net
    from neuro.train import evaluate
    from neuro.train import train as fit

    data, steps, n = digits(), 8, epochs or 15
    x, test = rate(data.train_x, steps), rate(data.test_x, steps)
    torch.manual_seed(seed)
    model = digits_net()
    start = time.perf_counter()
    with _bar("training digits", n) as report:
        fit(
            model,
            torch.from_numpy(x),
            torch.from_numpy(data.train_y),
            method=sltt.backward,
            loss=lambda s, target: F.cross_entropy(4.0 * s, target),
            epochs=n,
            seed=seed,
            checkpoint=checkpoint,
            resume=resume,
            progress=report,
        )
    seconds = time.perf_counter() - start
    right = evaluate(model, torch.from_numpy(test), torch.from_numpy(data.test_y))
    return Trained(model, test.shape[2:], 1e-3, test, data.test_y, right, seconds)


def _xor(*, checkpoint: Path | None, epochs: int | None, seed: int, resume: bool) -> Trained:
    """Rate-coded exclusive or, 2-2-1, small integer weights; see :mod:`neuro.models.xor`."""
    from neuro.models.xor import train_xor

    start = time.perf_counter()
    with _bar("training xor", 1) as report:
        done = train_xor(seed=seed, epochs=epochs, checkpoint=checkpoint, resume=resume)
        report(1, 1, done.loss, done.accuracy)
    return Trained(done.module, (2,), done.dt_s, done.x, done.labels, done.accuracy, time.perf_counter() - start)


@contextmanager
def _bar(label: str, epochs: int) -> Iterator[Report]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task(label, total=epochs)

        def report(epoch: int, total: int, loss: float, accuracy: float) -> None:
            text = f"{label}: loss {loss:.3f}, training accuracy {accuracy:.3f}"
            progress.update(task, completed=epoch, total=total, description=text)

        yield report
