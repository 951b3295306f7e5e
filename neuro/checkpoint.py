"""Checkpoints: one file that is whole at every moment, plain tensors and numbers, all that training goes on from.

A file is written beside its place, synced and renamed, the folder synced after: a kill at any instant leaves the file
that was there or the new one. What a kill leaves beside it is swept by the next run.

What it holds: model (with buffers, such as an annealed sigma), optimizer, scale of float16, history, best weights, and
within an epoch the number of batches done with their sums and the random state of each process. What is random in an
epoch is seeded by ``(seed, epoch)`` and the learning rate is a function of where training is: nothing else is needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuro.beside import write_beside

CHECKPOINT = 2


@dataclass
class Within:
    """Where an epoch stands: ``batches`` done, over ``seen`` samples the summed loss and how many were right.

    ``random``: the state of torch's generators in each process, by rank (CPU, then CUDA where it trains there).
    """

    batches: int = 0
    seen: float = 0.0
    loss: float = 0.0
    right: float = 0.0
    random: list[list[Tensor]] = field(default_factory=list)


def sweep(path: Path) -> None:
    """Remove what killed runs left beside ``path``; two runs at once must not share a checkpoint."""
    for left in path.parent.glob(f".{path.name}.*.part"):
        left.unlink(missing_ok=True)


def save(path: Path, content: dict[str, Any]) -> None:
    """Write ``content``, tensors and plain data, as a checkpoint."""
    write_beside(path, lambda file: torch.save({"version": CHECKPOINT, **content}, file))


def load(
    path: Path,
    about: dict[str, Any],
    take: Callable[[dict[str, Any]], None],
    device: str | torch.device,
) -> None:
    """Read the checkpoint at ``path`` and hand it to ``take``, on ``device``.

    Errors: ``ValueError`` for a file that is damaged or no checkpoint, for one whose ``about`` differs, and where
    ``take`` finds that something does not fit.
    """
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        if saved["version"] != CHECKPOINT:
            raise ValueError(f"version {saved['version']}, this one reads {CHECKPOINT}")
        changed = {k: (saved["about"].get(k), v) for k, v in about.items() if saved["about"].get(k) != v}
        if changed:
            says = ", ".join(f"{k} was {a} and is {b}" for k, (a, b) in changed.items())
            raise ValueError(f"it is of another run: {says}; use the same settings, or another file")
        take(saved)
    except (OSError, EOFError, KeyError, TypeError, ValueError, RuntimeError) as error:
        says = " ".join(str(error).split())
        raise ValueError(f"checkpoint {path}: cannot go on from it ({says}); delete it to start anew") from None
    except Exception as error:
        if type(error).__name__ != "UnpicklingError":  # torch raises a class that only pickle can name
            raise
        says = "is no checkpoint of plain tensors; delete it to start anew"
        raise ValueError(f"checkpoint {path}: {says}") from None


def plain(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, for :func:`save`."""
    return asdict(value)


def described(value: Any) -> str:
    """A setting in words that are the same in every process: no addresses of functions."""
    if is_dataclass(value) or not callable(value):
        return re.sub(r"<(?:function|class|bound method) ([^ >]+)[^>]*>", r"\1", str(value))
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def copied(model: nn.Module) -> dict[str, Any]:
    """A copy of the weights and buffers in main memory."""
    return {k: v.detach().cpu().clone() if isinstance(v, Tensor) else v for k, v in model.state_dict().items()}


def random_state(device: torch.device) -> list[Tensor]:
    """torch's generators here: of the CPU, then of the CUDA device."""
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *cuda]


def set_random_state(state: list[Tensor], device: torch.device) -> None:
    """Put back what :func:`random_state` gave."""
    torch.set_rng_state(state[0].cpu())
    if len(state) > 1 and device.type == "cuda":
        torch.cuda.set_rng_state(state[1].cpu(), device)
