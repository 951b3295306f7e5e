"""The training loop: seeded, resumable to the same bits, one optimizer step a batch.

Everything random in an epoch (order of samples, dropout) is seeded by ``(seed, epoch)``, and the learning
rate is a function of the epoch, so the checkpoint at an epoch's end is model, optimizer and a number: what
follows is the same whether or not the run was stopped there. The caller's random state is left as it was.
"""

from __future__ import annotations

import io
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from neuro.modules import steps

Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``(o[t] (N, ...), y (N, ...)) -> ()``, a mean over the batch."""

Readout: TypeAlias = Callable[[Tensor], Tensor]
"""``o (T, N, ...) -> (N, ...)``: what the argmax decides by. A method may name its own as ``readout``."""

Method: TypeAlias = Callable[[nn.Module, Loss, Tensor, Tensor], tuple[Tensor, Tensor]]
Data: TypeAlias = tuple[Any, Any]
"""``x (samples, T, ...)`` and integer labels ``y (samples,)``; numpy or torch."""

OptimizerFactory: TypeAlias = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Schedule: TypeAlias = Callable[[int, int], float]
"""``(epoch, epochs) -> factor`` of the optimizer's own learning rate."""

Report: TypeAlias = Callable[[int, int, float, float], None]
"""Told after each epoch: ``(epochs done, epochs, mean loss, training accuracy)``."""

CHECKPOINT = 1


@dataclass
class Training:
    """What :func:`train` did: per epoch the mean loss, training and test accuracy (NaN without test data)."""

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return len(self.loss)


def cosine(epoch: int, epochs: int) -> float:
    """``(1 + cos(pi epoch / epochs)) / 2``: from 1 to 0 (Loshchilov and Hutter 2017, without restarts)."""
    return 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))


def constant(epoch: int, epochs: int) -> float:  # noqa: ARG001
    """1."""
    return 1.0


def spike_mse(out: Tensor, y: Tensor) -> Tensor:
    """``mean((o[t] - onehot(y))^2)``: the right one fires in each step, others never; Fang et al. 2021."""
    return nn.functional.mse_loss(out, nn.functional.one_hot(y, out.shape[-1]).to(out.dtype))


def spike_ce(out: Tensor, y: Tensor, *, gain: float = 4.0) -> Tensor:
    """``CE(gain o[t], y)`` on spikes 0 and 1: with gain 4 and 10 classes a perfect step still costs 0.15."""
    return nn.functional.cross_entropy(gain * out, y)


def ce_mse(out: Tensor, y: Tensor, *, share: float = 0.05, target: float = 1.0) -> Tensor:
    """``(1 - a) CE(o[t], y) + a MSE(o[t], r)`` on real-valued outputs; Meng et al. 2023: a = 0.05, r = 1."""
    mse = nn.functional.mse_loss(out, torch.full_like(out, target))
    return (1.0 - share) * nn.functional.cross_entropy(out, y) + share * mse


def total(out: Tensor) -> Tensor:
    """``sum_t o[t]``."""
    return out.sum(0)


def softmax_total(out: Tensor) -> Tensor:
    """``sum_t softmax(o[t])`` over the last axis: the readout of DCLS-Delays (Hammouamri et al. 2024)."""
    return out.softmax(-1).sum(0)


def last(out: Tensor) -> Tensor:
    """``o[T]``: of an accumulator, its end."""
    return out[-1]


def step_losses(loss: Loss, out: Tensor, y: Tensor) -> Tensor:
    """``sum_t loss(o[t], y)`` for ``out (K, N, ...)``."""
    return torch.stack([loss(o, y) for o in out]).sum()


def adam(lr: float = 2e-3, weight_decay: float = 0.0) -> OptimizerFactory:
    """Adam on all parameters."""
    return lambda parameters: torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)


def train(
    model: nn.Module,
    data: Data,
    *,
    method: Method,
    epochs: int,
    loss: Loss = spike_mse,
    batch: int = 64,
    optimizer: OptimizerFactory | None = None,
    schedule: Schedule = cosine,
    test: Data | None = None,
    target: float | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    checkpoint: str | Path | None = None,
    resume: bool = False,
    progress: bool | Report = False,
) -> Training:
    """Train ``model`` in place; return its history.

    ``method``: ``SLTT(...)`` or ``BPTT()``. ``checkpoint`` is written whole after each epoch; ``resume`` goes
    on from it, and starts anew where there is none. ``target``: stop once the test accuracy reaches it.
    ``progress``: a bar on the terminal, or a function that is told of each epoch.

    A module's ``after_step()`` and ``after_epoch(epochs done, epochs)`` are called where it has them.

    Errors: ``ValueError`` for data, for a checkpoint of another run, and for a loss that is not finite.
    """
    x, y = _tensors(data, device, "data")
    held_out = None if test is None else _tensors(test, device, "test")
    _check(epochs, batch, target, held_out)
    model.to(device)
    optim = (optimizer or adam())(model.parameters())
    readout = getattr(method, "readout", None) or total
    base = [float(group["lr"]) for group in optim.param_groups]
    about = {"seed": seed, "epochs": epochs, "batch": batch, "samples": len(x), "method": str(method)}
    done = _resume(checkpoint, model, optim, about, device) if checkpoint and resume else Training()
    with _reporting(progress) as tell, torch.random.fork_rng(devices=_cuda(device)):
        for epoch in range(done.epochs, epochs):
            if target is not None and done.test_accuracy and done.test_accuracy[-1] >= target:
                break
            for group, lr in zip(optim.param_groups, base, strict=True):
                group["lr"] = lr * schedule(epoch, epochs)
            mean, right = _epoch(model, x, y, method, loss, batch, optim, _rng(seed, epoch), epoch, checkpoint)
            _tell(model, "after_epoch", epoch + 1, epochs)
            done.loss.append(mean)
            done.accuracy.append(right)
            done.test_accuracy.append(math.nan if held_out is None else evaluate(model, *held_out, readout=readout))
            if checkpoint:
                _save(Path(checkpoint), model, optim, done, about)
            tell(epoch + 1, epochs, mean, right)
    model.eval()
    return done


@torch.no_grad()
def evaluate(model: nn.Module, x: Any, y: Any, *, batch: int = 512, readout: Readout = total) -> float:
    """Share of samples whose label is the argmax of ``readout``; evaluation mode, the first wins a tie."""
    counts = predict(model, x, batch=batch, readout=readout)
    return float((counts.argmax(1).cpu() == torch.as_tensor(y).cpu()).double().mean())


@torch.no_grad()
def predict(model: nn.Module, x: Any, *, batch: int = 512, readout: Readout = total) -> Tensor:
    """``readout(o)`` of each sample, ``x (samples, T, ...) -> (samples, classes)``, in evaluation mode."""
    training = model.training
    model.eval()
    device = next(iter(model.parameters()), torch.zeros(0)).device
    parts = torch.split(torch.as_tensor(x), batch)
    out = [readout(steps(model, part.to(device).transpose(0, 1))[0]) for part in parts]
    model.train(training)
    return torch.cat(out)


def _epoch(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    method: Method,
    loss: Loss,
    batch: int,
    optim: torch.optim.Optimizer,
    rng: np.random.Generator,
    epoch: int,
    checkpoint: str | Path | None,
) -> tuple[float, float]:
    model.train()
    torch.manual_seed(int(rng.integers(2**63)))
    order = torch.from_numpy(rng.permutation(len(x))).to(x.device)
    total, right = 0.0, 0
    for k, pick in enumerate(torch.split(order, batch)):
        optim.zero_grad()
        value, summed = method(model, loss, x[pick], y[pick])
        if not torch.isfinite(value):
            last = f"{checkpoint} holds the epoch before" if checkpoint and epoch else "no epoch is kept"
            raise ValueError(
                f"train: loss is {float(value)} in epoch {epoch + 1}, batch {k + 1}; lower the learning rate "
                f"or look for NaN in the data; {last}"
            )
        optim.step()
        _tell(model, "after_step")
        total += float(value) * len(pick)
        right += int((summed.argmax(1) == y[pick]).sum())
    return total / len(x), right / len(x)


def _tell(model: nn.Module, what: str, *args: int) -> None:
    """Call ``module.<what>(*args)`` of every module that has it: limits of parameters, schedules of its own."""
    for module in model.modules():
        if hasattr(module, what):
            getattr(module, what)(*args)


def _rng(seed: int, epoch: int) -> np.random.Generator:
    return np.random.default_rng([seed, epoch])


def _cuda(device: str | torch.device) -> list[torch.device]:
    return [torch.device(device)] if torch.device(device).type == "cuda" else []


def _tensors(data: Data, device: str | torch.device, name: str) -> tuple[Tensor, Tensor]:
    x, y = (torch.as_tensor(a) for a in data)
    if x.ndim < 2 or not len(x) or len(x) != len(y):
        shapes = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise ValueError(f"{name}: needs x (samples, T, ...) and y (samples,), got {shapes}")
    if not x.is_floating_point() or not bool(torch.isfinite(x).all()):
        raise ValueError(f"{name}: x must be finite floats, got {x.dtype}; encode it first (neuro.encode)")
    return x.to(device), y.to(device)


def _check(epochs: int, batch: int, target: float | None, test: object) -> None:
    if epochs < 1 or batch < 1:
        raise ValueError(f"train: epochs and batch must be at least 1, got {epochs} and {batch}")
    if target is not None and test is None:
        raise ValueError(f"train: target {target} is a test accuracy; give test=(x, y)")


def _save(path: Path, model: nn.Module, optim: torch.optim.Optimizer, done: Training, about: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    history = {"loss": done.loss, "accuracy": done.accuracy, "test_accuracy": done.test_accuracy}
    torch.save(
        {
            "version": CHECKPOINT,
            "model": model.state_dict(),
            "optimizer": optim.state_dict(),
            "history": history,
            "about": about,
        },
        buffer,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(fd, "wb") as out:
            out.write(buffer.getbuffer())
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _resume(
    path: str | Path,
    model: nn.Module,
    optim: torch.optim.Optimizer,
    about: dict[str, Any],
    device: str | torch.device,
) -> Training:
    if not Path(path).exists():
        return Training()
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        if saved["version"] != CHECKPOINT:
            raise ValueError(f"version {saved['version']}, this one reads {CHECKPOINT}")
        changed = {k: (saved["about"].get(k), v) for k, v in about.items() if saved["about"].get(k) != v}
        if changed:
            says = ", ".join(f"{k} was {a} and is {b}" for k, (a, b) in changed.items())
            raise ValueError(f"it is of another run: {says}; use the same settings, or another file")
        model.load_state_dict(saved["model"])
        optim.load_state_dict(saved["optimizer"])
        return Training(**saved["history"])
    except (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError) as error:
        says = " ".join(str(error).split())
        raise ValueError(f"checkpoint {path}: cannot go on from it ({says}); delete it to start anew") from None
    except Exception as error:
        if type(error).__name__ != "UnpicklingError":  # torch raises a class that only pickle can name
            raise
        says = "is no checkpoint of plain tensors; delete it to start anew"
        raise ValueError(f"checkpoint {path}: {says}") from None


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
