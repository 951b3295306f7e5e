"""The digits on several processes: the loss curve of one, whatever their number.

python examples/ddp.py [folder] [epochs]
torchrun --nproc-per-node 2 examples/ddp.py [folder] [epochs]

The network has no BatchNorm and no dropout, whose statistics and masks are each process's own; float64 shows that the
rest is the same up to rounding. Started again, it goes on where it was stopped: Ctrl-C it, or kill it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from neuro.data.digits import digits
from neuro.encode import rate
from neuro.methods.sltt import SLTT
from neuro.modules import Spiking, Stack
from neuro.neuron import Law, Tau
from neuro.surrogate import Triangle
from neuro.train import Csv, Scale, adam, train

STEPS = 6
LAW = Law(Tau(2.0, decay_input=False))


def network() -> Stack:
    """``(N, 1, 8, 8) -> (N, 10)``: two layers of neurons behind convolutions, one behind a linear layer."""
    torch.manual_seed(0)
    return Stack(
        nn.Conv2d(1, 12, 3, padding=1),
        Spiking(LAW, Triangle()),
        nn.Conv2d(12, 24, 3, stride=2, padding=1),
        Spiking(LAW, Triangle()),
        nn.Flatten(),
        nn.Linear(24 * 16, 10),
        Spiking(LAW, Triangle()),
    ).double()


def main(folder: Path = Path("out"), epochs: int = 4) -> None:
    """Train, with a table of each epoch and a checkpoint in ``folder``; process 0 prints."""
    torch.set_num_threads(1)
    data = digits()
    x, test = (rate(a, STEPS).astype("float64") for a in (data.train_x, data.test_x))
    done = train(
        network(),
        (x, data.train_y),
        method=SLTT(STEPS),
        epochs=epochs,
        batch=32,
        optimizer=adam(4e-3),
        test=(test, data.test_y),
        checkpoint=folder / "ddp.pt",
        resume=True,
        metrics=[Csv(folder / "ddp.csv")],
        scale=Scale(checkpoint_s=30.0),
    )
    count = dist.get_world_size() if dist.is_initialized() else 1
    if not dist.is_initialized() or dist.get_rank() == 0:
        for epoch, (loss, right) in enumerate(zip(done.loss, done.test_accuracy, strict=True), 1):
            print(f"{count} process(es), epoch {epoch}: loss {loss:.9f}, test accuracy {right:.4f}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]), *map(int, sys.argv[2:3]))
