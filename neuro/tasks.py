"""The tasks that ``spikeport train`` knows: data, encoding, model, method and loss under one name."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import nn


Samples: TypeAlias = tuple[npt.NDArray[Any], npt.NDArray[Any]]
"""x and labels."""
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
    """Train ``digits``, ``nmnist``, ``xor``, ``sfq-xor`` or ``sfq-digits``; a checkpoint goes to ``folder``.

    Errors: ``ValueError`` for an unknown task or a checkpoint of another run.
    """
    known: dict[str, Callable[..., Trained]] = {
        "digits": _digits,
        "nmnist": _nmnist,
        "xor": _xor,
        "sfq-xor": _stochastic_xor,
        "sfq-digits": _sfq_digits,
    }
    if task not in known:
        raise ValueError(f"no task '{task}'; there are {', '.join(known)}")
    checkpoint = None if folder is None else folder / f"{task}.pt"
    return known[task](checkpoint=checkpoint, epochs=epochs, seed=seed, resume=resume)


def _digits(*, epochs: int | None, seed: int, **run: Any) -> Trained:
    """8x8 digits, rate-coded over 8 steps of 1 ms, SLTT."""
    from neuro.data.digits import digits
    from neuro.encode import rate
    from neuro.methods.sltt import SLTT
    from neuro.models import digits as model
    from neuro.train import spike_mse

    data = digits()
    given = rate(data.train_x, model.STEPS), data.train_y
    test = rate(data.test_x, model.STEPS), data.test_y
    net = model.digits_net(seed=seed)
    return _fitted(net, given, test, 1e-3, model, epochs=epochs, seed=seed, method=SLTT(), loss=spike_mse, **run)


def _nmnist(*, epochs: int | None, seed: int, **run: Any) -> Trained:
    """N-MNIST in 4 binary frames of equal time, SLTT on changed frames of all training recordings there are."""
    from neuro.data.nmnist import binary, frames_by_time, nmnist
    from neuro.methods.augmented import Augmented
    from neuro.methods.sltt import SLTT
    from neuro.models import nmnist as model
    from neuro.train import spike_ce

    recorded, tested = nmnist()
    given, held = ((binary(frames_by_time(r, model.STEPS)), r.label) for r in (recorded, tested))
    named = f"shift {model.SHIFT}, turn {model.TURN_DEGREES}, scale {model.SCALE}"
    run |= {"method": Augmented(SLTT(model.STEPS), model.changed, named), "loss": spike_ce}
    net = model.nmnist_net(seed=seed)
    return _fitted(net, given, held, NMNIST_S / model.STEPS, model, epochs=epochs, seed=seed, **run)


def _fitted(
    net: nn.Module, given: Samples, test: Samples, dt_s: float, model: Any, *, epochs: int | None, seed: int, **run: Any
) -> Trained:
    """Train ``net`` as its ``model`` file says, with a progress bar, and test it."""
    from neuro.train import adam, evaluate
    from neuro.train import train as fit

    start = time.perf_counter()
    rule = adam(model.LEARNING_RATE)
    fit(net, given, epochs=epochs or model.EPOCHS, batch=model.BATCH, optimizer=rule, seed=seed, progress=True, **run)
    seconds = time.perf_counter() - start
    net.eval()
    return Trained(net, test[0].shape[2:], dt_s, *test, evaluate(net, *test), seconds, given)


def _xor(*, checkpoint: Path | None, epochs: int | None, seed: int, resume: bool) -> Trained:
    """Rate-coded exclusive or, 2-2-1, small integer weights; see :mod:`neuro.models.xor`."""
    from neuro.models.xor import train_xor

    start = time.perf_counter()
    done = train_xor(seed=seed, epochs=epochs, checkpoint=checkpoint, resume=resume)
    seconds = time.perf_counter() - start
    # the silent case 00 last: a waveform is drawn of the first sample
    x, labels = np.roll(done.x, -1, axis=0), np.roll(done.labels, -1)
    return Trained(done.module, (2,), done.dt_s, x, labels, done.accuracy, seconds)


def _stochastic_xor(*, checkpoint: Path | None, epochs: int | None, seed: int, resume: bool) -> Trained:
    """Exclusive or whose weights are pass probabilities; see :mod:`neuro.models.xor_stochastic`."""
    from neuro.models.xor_stochastic import train_passing_xor

    start = time.perf_counter()
    done = train_passing_xor(seed=seed, epochs=epochs, checkpoint=checkpoint, resume=resume)
    seconds = time.perf_counter() - start
    x, labels = np.roll(done.x, -1, axis=0), np.roll(done.labels, -1)
    return Trained(done.module, (2,), done.dt_s, x, labels, done.accuracy, seconds)


def _sfq_digits(*, checkpoint: Path | None, epochs: int | None, seed: int, resume: bool) -> Trained:
    """Digits for a superconducting circuit, sparse small integer weights; see :mod:`neuro.models.sfq_digits`."""
    from neuro.models.sfq_digits import train_digits

    start = time.perf_counter()
    done = train_digits(seed=seed, epochs=epochs, checkpoint=checkpoint, resume=resume, progress=True)
    seconds = time.perf_counter() - start
    return Trained(done.module, (64,), done.dt_s, done.x, done.labels, done.accuracy, seconds, done.train)
