"""Training on several processes: the same steps as one process with the whole batch, up to rounding.

Each of N processes takes its rows of every batch, weighs its gradients by their share, and all are summed once before
the optimizer steps, whatever number of backward calls the method made:

    g = sum_r (n_r / n) g_r,    n = sum_r n_r

So the optimizer of each process makes the same step, and no weight is ever sent after the start. Random masks differ
between processes, and a BatchNorm takes the statistics of its own rows (``nn.SyncBatchNorm`` takes all, on CUDA); its
running ones are those of process 0 at each evaluation and checkpoint.

``torchrun --nproc-per-node 2 script.py`` starts such processes; the script calls ``train`` as ever.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

BUCKET_BYTES = 32 * 2**20
"""Gradients are sent in pieces of about this size: fewer calls than one a tensor, less memory than all at once."""


@dataclass(frozen=True)
class Processes:
    """Process ``rank`` of ``count`` that train together; one alone talks to nobody."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes files and shows progress."""
        return self.rank == 0

    def summed(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Each value summed over the processes, in float64."""
        if self.count == 1:
            return [float(v) for v in values]
        both = torch.tensor(values, dtype=torch.float64, device=_meeting(device))
        dist.all_reduce(both)
        return both.tolist()

    def gathered(self, values: Sequence[Tensor], device: torch.device) -> list[list[Tensor]]:
        """Tensors of the same shapes from every process, by rank."""
        if self.count == 1:
            return [list(values)]
        everyone: list[list[Tensor]] = [[] for _ in range(self.count)]
        for value in values:
            here = value.to(_meeting(device))
            parts = [torch.empty_like(here) for _ in range(self.count)]
            dist.all_gather(parts, here)
            for rank, part in enumerate(parts):
                everyone[rank].append(part.to(value.device))
        return everyone

    @torch.no_grad()
    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum each gradient over the processes; one that nobody has stays None, one that a process lacks is 0 there."""
        if self.count == 1:
            return
        device = parameters[0].device
        has = torch.tensor([p.grad is not None for p in parameters], dtype=torch.uint8, device=_meeting(device))
        dist.all_reduce(has, op=dist.ReduceOp.MAX)
        mine = [p for p, some in zip(parameters, has.tolist(), strict=True) if some]
        for p in mine:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        for bucket in _buckets(p.grad for p in mine if p.grad is not None):
            flat = torch.cat([g.flatten() for g in bucket])
            dist.all_reduce(flat)
            for g, part in zip(bucket, torch.split(flat, [g.numel() for g in bucket]), strict=True):
                g.copy_(part.view_as(g))

    @torch.no_grad()
    def share(self, tensors: Iterable[Tensor]) -> None:
        """Every process takes the values of process 0."""
        if self.count > 1:
            for t in tensors:
                sent = t.detach().contiguous()
                sent = sent.to(torch.uint8) if sent.dtype is torch.bool else sent
                dist.broadcast(sent, 0)
                t.detach().copy_(sent)

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            dist.barrier()


ALONE = Processes()


def processes(distributed: bool | None, device: torch.device) -> Processes:
    """Those that train together: None finds out (more than one started by ``torchrun``, or a group that is up).

    Joins the group where that is still to do: nccl on CUDA, gloo else; it ends with the process. Errors:
    ``ValueError`` for True where nothing says which process this is.
    """
    if distributed is False or not dist.is_available():
        return ALONE
    if not dist.is_initialized():
        started = "RANK" in os.environ and "WORLD_SIZE" in os.environ
        if distributed and not started:
            raise ValueError(
                "train: distributed=True needs RANK and WORLD_SIZE; start the script with torchrun, or call "
                "torch.distributed.init_process_group first"
            )
        if not started or (not distributed and os.environ["WORLD_SIZE"] == "1"):
            return ALONE
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(_leave)
    return Processes(dist.get_rank(), dist.get_world_size())


def own_device(device: str | torch.device) -> torch.device:
    """``cuda`` without a number is this process's own card under ``torchrun``."""
    place = torch.device(device)
    if str(place) == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", torch.cuda.current_device())))
        torch.cuda.set_device(place)
    return place


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _meeting(device: torch.device) -> torch.device:
    """nccl sends only what is on a card."""
    return device if dist.get_backend() == "nccl" else torch.device("cpu")


def _buckets(gradients: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    held: list[Tensor] = []
    size = 0
    for g in gradients:
        if held and (size + g.nbytes > BUCKET_BYTES or g.dtype != held[0].dtype):
            yield held
            held, size = [], 0
        held.append(g)
        size += g.nbytes
    if held:
        yield held
