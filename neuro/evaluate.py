"""What a trained network decides, and how much of it is right."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuro.batches import Source
from neuro.distributed import ALONE, Processes
from neuro.losses import Readout, total
from neuro.metrics import Score
from neuro.modules import steps

BATCH = 512


@torch.no_grad()
def evaluate(model: nn.Module, x: Any, y: Any, *, batch: int = BATCH, readout: Readout = total) -> float:
    """Share of samples whose label is the argmax of ``readout``; evaluation mode, the first wins a tie."""
    counts = predict(model, x, batch=batch, readout=readout)
    return float((counts.argmax(1).cpu() == torch.as_tensor(y).cpu()).double().mean())


@torch.no_grad()
def predict(model: nn.Module, x: Any, *, batch: int = BATCH, readout: Readout = total) -> Tensor:
    """``readout(o)`` of each sample, ``x (samples, T, ...) -> (samples, classes)``, in evaluation mode."""
    training = model.training
    model.eval()
    device = _device(model)
    parts = torch.split(torch.as_tensor(x), batch)
    out = [_decided(model, part.to(device), readout) for part in parts]
    model.train(training)
    return torch.cat(out)


@torch.no_grad()
def scored(
    model: nn.Module,
    source: Source,
    score: Score,
    *,
    readout: Readout = total,
    batch: int = BATCH,
    among: Processes = ALONE,
) -> float:
    """Mean ``score`` over the samples of ``source``, in evaluation mode; each process takes its rows of each batch."""
    training = model.training
    model.eval()
    device = _device(model)
    value, samples = 0.0, 0
    for fetch in source.in_order(batch):
        x, y = fetch(among.rank, among.count)
        if len(x):
            value += float(score(_decided(model, x.to(device), readout), y.to(device)).double().sum())
            samples += len(x)
    model.train(training)
    value, seen = among.summed((value, samples), device)
    if not seen:
        raise ValueError("evaluation: the data gave no samples; an iterable must run anew for each epoch")
    return value / seen


def _decided(model: nn.Module, x: Tensor, readout: Readout) -> Tensor:
    return readout(steps(model, x.transpose(0, 1))[0])


def _device(model: nn.Module) -> torch.device:
    return next(iter(model.parameters()), torch.zeros(0)).device
