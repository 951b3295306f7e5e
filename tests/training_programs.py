"""Trainings that tests start as processes of their own: to kill, to interrupt, to run on two at once.

python tests/training_programs.py <what> <folder> [<settings as JSON>]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuro.methods.bptt import BPTT
from neuro.methods.sltt import SLTT
from neuro.modules import Spiking, Stack
from neuro.neuron import Law, Leaky
from neuro.optim import sgd
from neuro.surrogate import Triangle
from neuro.train import Csv, EarlyStop, Scale, train

METHODS: dict[str, Any] = {"sltt": SLTT(2), "bptt": BPTT()}


class Annealed(nn.Module):
    """Noise whose strength is a buffer that each epoch lowers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sigma", torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sigma * torch.randn_like(x) if self.training else x

    def after_epoch(self, epoch: int, epochs: int) -> None:
        self.sigma *= 0.5


def data(samples: int = 50, seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return 2.0 * torch.rand(samples, 4, 12, generator=g).double(), torch.randint(0, 3, (samples,), generator=g)


def network(*, noisy: bool, width: int = 24, seed: int = 0) -> Stack:
    torch.manual_seed(seed)
    law = Law(Leaky(0.5), reset="subtract")
    layers = [nn.Linear(12, width), Spiking(law, Triangle()), nn.Linear(width, 3)]
    if noisy:
        layers[1:1] = [nn.BatchNorm1d(width), Annealed(), nn.Dropout(0.1)]
    return Stack(*layers).double()


def loss(out: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(out, y)


def run(folder: Path, **settings: Any) -> Any:
    """One training with a checkpoint and a table in ``folder``; returns its history and the network."""
    given = {"method": "sltt", "epochs": 4, "batch": 8, "noisy": True, "width": 24, "seed": 0, "scale": {}} | settings
    net = network(noisy=given["noisy"], width=given["width"])
    calls = [0]

    def stopping(out: Tensor, y: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] == given.get("stop_after"):
            raise RuntimeError("stopped")
        return loss(out, y)

    done = train(
        net,
        data(),
        method=METHODS[given["method"]],
        loss=stopping,
        optimizer=sgd(0.2),
        epochs=given["epochs"],
        batch=given["batch"],
        valid=data(30, 1),
        test=data(30, 2),
        stop=EarlyStop(patience=1000),
        checkpoint=folder / "run.pt",
        resume=True,
        metrics=[Csv(folder / "run.csv")],
        scale=Scale(**given["scale"]),
        distributed=given.get("distributed"),
    )
    return done, net


def main(what: str, folder: Path, settings: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    print("started", flush=True)
    done, net = run(folder, **settings)
    rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
    weights = {k: v.tolist() for k, v in net.state_dict().items()} if what == "weights" else {}
    history = {k: getattr(done, k) for k in ("loss", "accuracy", "valid", "test_accuracy")}
    (folder / f"done-{rank}.json").write_text(json.dumps({**history, "weights": weights}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]) if len(sys.argv) > 3 else {})
