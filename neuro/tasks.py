"""The tasks that ``spikeport train`` knows: data, encoding, model, method and loss under one name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import nn


NMNIST_S = 0.306
"""About what a recording of N-MNIST lasts (Orchard et al. 2015: three saccades of 0.1 s); a step is its part."""


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
    train: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None = None
    """What it was trained on, to calibrate or fine-tune with: x and labels; None where that was made up on the way."""


def train(
    task: str, *, folder: Path | None = None, epochs: int | None = None, seed: int = 0, resume: bool = False
) -> Trained:
    """Train ``digits``, ``nmnist`` or ``xor`` with a progress bar; a checkpoint goes to ``folder``.

    Errors: ``ValueError`` for an unknown task or a checkpoint of another run.
    """
    known: dict[str, Callable[..., Trained]] = {"digits": _digits, "nmnist": _nmnist, "xor": _xor}
    if task not in known:
        raise ValueError(f"no task '{task}'; there are {', '.join(known)}")
    checkpoint = None if folder is None else folder / f"{task}.pt"
    return known[task](checkpoint=checkpoint, epochs=epochs, seed=seed, resume=resume)


def _digits(*, checkpoint: Path | None, epochs: int | None, seed: int, resume: bool) -> Trained:
    """8x8 digits, rate-coded over 8 steps of 1 ms, SLTT."""
    from neuro.data.digits import digits
    from neuro.encode import rate
    from neuro.methods.sltt import SLTT
    from neuro.models.digits import BATCH, EPOCHS, LEARNING_RATE, STEPS, digits_net
    from neuro.train import adam, evaluate
    from neuro.train import train as fit

    data = digits()
    x, test = rate(data.train_x, STEPS), rate(data.test_x, STEPS)
    model = digits_net(seed=seed)
    start = time.perf_counter()
    fit(
        model,
        (x, data.train_y),
        method=SLTT(),
        epochs=epochs or EPOCHS,
        batch=BATCH,
        optimizer=adam(LEARNING_RATE),
        seed=seed,
        checkpoint=checkpoint,
        resume=resume,
        progress=True,
    )
    seconds = time.perf_counter() - start
    model.eval()
    given = (x, data.train_y)
    return Trained(model, test.shape[2:], 1e-3, test, data.test_y, evaluate(model, test, data.test_y), seconds, given)


def _nmnist(*, checkpoint: Path | None, epochs: int | None, seed: int, resume: bool) -> Trained:
    """N-MNIST in 8 binary frames of equal time, SLTT; tested on held-out training recordings, then the test ones."""
    from neuro.data.nmnist import binary, frames_by_time, nmnist
    from neuro.data.split import stratified
    from neuro.methods.sltt import SLTT
    from neuro.models.nmnist import BATCH, EPOCHS, LEARNING_RATE, STEPS, nmnist_net
    from neuro.train import adam, evaluate, spike_ce
    from neuro.train import train as fit

    given, test = nmnist()
    data = stratified(binary(frames_by_time(given, STEPS)), given.label, test_share=0.2, seed=0)
    x = np.concatenate([data.test_x, binary(frames_by_time(test, STEPS))])
    labels = np.concatenate([data.test_y, test.label])
    model = nmnist_net(seed=seed)
    start = time.perf_counter()
    fit(
        model,
        (data.train_x, data.train_y),
        method=SLTT(STEPS),
        loss=spike_ce,
        epochs=epochs or EPOCHS,
        batch=BATCH,
        optimizer=adam(LEARNING_RATE),
        seed=seed,
        checkpoint=checkpoint,
        resume=resume,
        progress=True,
    )
    seconds = time.perf_counter() - start
    model.eval()
    trained_on = (data.train_x, data.train_y)
    return Trained(model, x.shape[2:], NMNIST_S / STEPS, x, labels, evaluate(model, x, labels), seconds, trained_on)


def _xor(*, checkpoint: Path | None, epochs: int | None, seed: int, resume: bool) -> Trained:
    """Rate-coded exclusive or, 2-2-1, small integer weights; see :mod:`neuro.models.xor`."""
    from neuro.models.xor import train_xor

    start = time.perf_counter()
    done = train_xor(seed=seed, epochs=epochs, checkpoint=checkpoint, resume=resume)
    seconds = time.perf_counter() - start
    # the silent case 00 last: a waveform is drawn of the first sample
    x, labels = np.roll(done.x, -1, axis=0), np.roll(done.labels, -1)
    return Trained(done.module, (2,), done.dt_s, x, labels, done.accuracy, seconds)
