"""Spatial learning through time (Meng et al., ICCV 2023, arXiv 2302.14311): memory independent of T.

Back-propagation with one tensor detached, the carried state in the charge ``u[t] = lam v[t-1] + I[t]``:

    e^l[t]   = e^{l+1}[t] W^{l+1} diag(sigma'(u^l[t] - V))       no term from t+1
    grad W^l = sum_t e^l[t]^T s^{l-1}[t]

Steps are therefore independent once forward is done: forward and backward go chunk by chunk, and each chunk's
graph is freed before the next. The gradient is that of every other chunk length up to rounding; batch
normalisation takes the statistics of each step, as in the authors' code, so it does not see the chunk either.

SLTT-K draws K of the T steps for each batch, uniformly and without replacement; the others run forward without a graph,
in training mode. With the forward pass fixed, ``E[grad_K] = (K / T) grad_SLTT`` under the reference's weight 1/T.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from neuro.losses import Loss, backward, step_losses
from neuro.modules import steps


@dataclass(frozen=True)
class SLTT:
    """``chunk`` steps share one graph: 1 needs the least memory, more is faster. Only the state is detached.

    ``k``: steps of a batch that are learned from, drawn anew from torch's random state; None for all. ``loss_scale``:
    each of their losses counts 1/T (``"T"``, the reference) or 1/k (``"K"``, an unbiased gradient). The loss that is
    returned is the mean over all T steps in any case.

    Errors: ``ValueError`` for a chunk or k below 1; at the call for k above T.
    """

    chunk: int = 1
    k: int | None = None
    loss_scale: Literal["T", "K"] = "T"

    def __post_init__(self) -> None:
        if self.chunk < 1:
            raise ValueError(f"SLTT.chunk: must be at least 1 step, got {self.chunk}")
        if self.k is not None and self.k < 0:
            raise ValueError(f"SLTT.k: must be at least 0 steps, got {self.k}; None learns from all")
        if self.loss_scale not in ("T", "K"):
            raise ValueError(f"SLTT.loss_scale: must be 'T' or 'K', got {self.loss_scale!r}")

    def __call__(self, model: nn.Module, loss: Loss, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """``x (N, T, ...), y (N, ...) -> (loss (), summed output (N, ...))``; gradients accumulate."""
        T = x.shape[1]
        if self.k is not None and self.k > T:
            raise ValueError(f"SLTT.k: {self.k} of {T} steps cannot be drawn; give at most {T}")
        learned = torch.ones(T, dtype=torch.bool)
        if self.k is not None:
            learned = torch.zeros(T, dtype=torch.bool).index_fill_(0, torch.randperm(T)[: self.k], True)
        share = 1.0 if self.k is None or self.loss_scale == "T" or not self.k else T / self.k
        state = None
        total, summed = x.new_zeros(()), x.new_zeros(())
        for first, end in runs(learned.tolist(), self.chunk):
            with torch.set_grad_enabled(bool(learned[first])):
                out, state = steps(model, x[:, first:end].transpose(0, 1), state, detached=True)
                part = step_losses(loss, out, y) / T
            if learned[first]:
                backward(part * share)
            total = total + part.detach()
            summed = summed + out.detach().sum(0)
        return total, summed


def chunk_within(model: nn.Module, x: Tensor, budget_bytes: int) -> int:
    """The longest chunk whose graph holds at most ``budget_bytes``: that over what a step of ``x`` saves, at least 1.

    Counted on a copy of ``model`` by what autograd saves of activations in the first step; parameters do not count.
    """
    probe = copy.deepcopy(model)
    own = {p.untyped_storage().data_ptr() for p in probe.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out, _ = steps(probe, x[:, :1].transpose(0, 1).clone(), None, detached=True)
    del out
    return max(1, budget_bytes // max(1, sum(saved.values())))


def runs(flags: list[bool], longest: int) -> Iterator[tuple[int, int]]:
    """``(first, end)`` of pieces of equal flags, none longer than ``longest``."""
    first = 0
    for t in range(1, len(flags) + 1):
        if t == len(flags) or flags[t] != flags[first] or t - first == longest:
            yield first, t
            first = t
