"""The papers' optimisers and learning-rate steps as data, and the training of the ANN."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from neuro.methods.bptt import BPTT
from neuro.train import Data, OptimizerFactory, Training, last, train

Rule: TypeAlias = Callable[[Iterable[nn.Parameter], float], torch.optim.Optimizer]
"""``(parameters, learning rate) -> optimizer``."""


def sgd(parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """Momentum 0.9, weight decay 5e-4."""
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=5e-4)


def amsgrad(parameters: Iterable[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """Adam with amsgrad, betas 0.9 and 0.999, no weight decay."""
    return torch.optim.Adam(parameters, lr=rate, betas=(0.9, 0.999), amsgrad=True)


@dataclass(frozen=True)
class Recipe:
    """``rate`` is divided by ``divide`` at each of ``marks``, shares of all epochs.

    Errors: ``ValueError`` for numbers that are no recipe.
    """

    rate: float
    epochs: int
    batch: int = 64
    marks: tuple[float, ...] = (0.6, 0.8, 0.9)
    divide: float = 5.0
    dropout: float = 0.2
    rule: Rule = amsgrad

    def __post_init__(self) -> None:
        if not self.rate > 0 or self.epochs < 1 or self.batch < 1 or not self.divide > 0:
            raise ValueError(f"Recipe: rate, epochs, batch and divide must be positive, got {self.to_dict()}")
        if not all(0.0 < m < 1.0 for m in self.marks) or list(self.marks) != sorted(self.marks):
            raise ValueError(f"Recipe.marks: must be rising shares in (0, 1), got {self.marks}")

    def optimizer(self) -> OptimizerFactory:
        """As :func:`neuro.train.train` takes it; fresh at every call."""
        return lambda parameters: self.rule(parameters, self.rate)

    def schedule(self, epoch: int, epochs: int) -> float:
        """``divide^-(marks passed)``, a mark passed once ``epoch >= mark epochs``."""
        return self.divide ** -sum(epoch >= m * epochs for m in self.marks)

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return dict(self.__dict__) | {"marks": list(self.marks), "rule": self.rule.__name__}


ANN_CIFAR_NORM = Recipe(0.01, 300, 64, (0.45, 0.7, 0.9), 5.0, 0.5, sgd)
ANN_CIFAR = Recipe(0.01, 500, 64, (0.45, 0.7, 0.9), 5.0, 0.2, sgd)
ANN_IMAGENET = Recipe(0.01, 101, 128, (0.45, 0.7, 0.9), 10.0, 0.5, sgd)
SNN_CIFAR = Recipe(1e-4, 500, 64, (0.6, 0.8, 0.9), 5.0, 0.2, amsgrad)
"""Released scripts of IIR-SNN: CIFAR with and without BatchNorm, ImageNet; a stage of the spiking network on CIFAR.

Its ImageNet stages (rate 2e-5, gradients of 8 batches of 16 summed, 25 epochs) need a loop that sums."""


def cross_entropy(out: Tensor, y: Tensor) -> Tensor:
    """Softmax cross entropy of the logits."""
    return functional.cross_entropy(out, y)


@dataclass(frozen=True)
class DirectBPTT:
    """Back-propagation through all T steps of ``loss(U[T], y)``: a method of :func:`neuro.train.train`.

    ``x (N, 1, ...)``: the image once; the network's ``HeldInput`` makes T steps of it. ``steps`` only says T in the
    checkpoint, so that no stage goes on from another's.
    """

    steps: int = 1

    @property
    def readout(self) -> Callable[[Tensor], Tensor]:
        """``U[T]``."""
        return last

    def __call__(
        self, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``x (N, 1, ...), y (N,) -> (loss (), U[T] (N, classes))``; gradients accumulate."""
        return BPTT(last)(model, loss, x, y)


def train_ann(ann: nn.Module, data: Data, recipe: Recipe, **options: Any) -> Training:
    """Train the ANN on ``data``: images ``(samples, 1, ...)``, labels. ``options``: of :func:`neuro.train.train`."""
    return train(
        ann,
        data,
        method=DirectBPTT(),
        loss=cross_entropy,
        epochs=recipe.epochs,
        batch=recipe.batch,
        optimizer=recipe.optimizer(),
        schedule=recipe.schedule,
        **options,
    )
