"""What a training did, epoch by epoch, and where it is written while it runs: CSV or TensorBoard."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from torch import Tensor

from neuro.beside import write_beside

Report: TypeAlias = Callable[[int, int, float, float], None]
"""Told after each epoch: ``(epochs done, epochs, mean loss, training accuracy)``."""

Score: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``(what decides (N, ...), y (N, ...)) -> (N,)``: how good each sample's answer is; higher is better."""


@dataclass
class Training:
    """What :func:`neuro.train.train` did: per epoch the mean loss, training and test accuracy (NaN without test data).

    ``valid``: mean score on the validation data, NaN without; ``rate``: learning rate of the first parameter group in
    the epoch's last batch; ``seconds``: time the epoch took here, evaluation included; no part of a comparison.
    """

    loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    valid: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list, compare=False)

    def __post_init__(self) -> None:
        # lists are equal where NaN is the same object
        for values in (self.loss, self.accuracy, self.test_accuracy, self.valid):
            values[:] = [math.nan if math.isnan(v) else v for v in values]

    @property
    def epochs(self) -> int:
        """Epochs done."""
        return len(self.loss)

    @property
    def best_epoch(self) -> int | None:
        """The first epoch, counted from 1, with the best score on the validation data; None without such."""
        scores = [s for s in self.valid if not math.isnan(s)]
        return 1 + self.valid.index(max(scores)) if scores else None

    def row(self, epoch: int) -> dict[str, float]:
        """Every number of an epoch, counted from 0, by name."""
        return {name: getattr(self, name)[epoch] for name in COLUMNS}


COLUMNS = ("loss", "accuracy", "valid", "test_accuracy", "rate", "seconds")


def right(decided: Tensor, y: Tensor) -> Tensor:
    """1 where the argmax is the label, else 0: the mean is the accuracy; the first wins a tie."""
    return (decided.argmax(1) == y).double()


def likelihood(decided: Tensor, y: Tensor) -> Tensor:
    """``log softmax(decided)[y]``: minus the cross entropy, for an early stop by loss."""
    return decided.double().log_softmax(1).gather(1, y[:, None])[:, 0]


class Metrics(Protocol):
    """Somewhere to write to. Called in this order: ``begin`` once, ``epoch`` after each epoch, ``close`` at the end."""

    def begin(self, done: Training) -> None:
        """Before the first epoch: what stands after ``done`` was written by a run that a kill took back."""

    def epoch(self, done: Training) -> None:
        """Write the last epoch of ``done``."""

    def close(self) -> None:
        """Nothing comes any more."""


class Csv:
    """One line an epoch: epoch (from 1), then :data:`COLUMNS`; numbers that read back to the same bits, NaN as nothing.

    A line is appended whole and synced before the epoch's checkpoint is, so a kill loses no line that a checkpoint
    knows; a resumed run first writes the file again up to where it goes on. Errors: ``ValueError`` for a file with
    another first line, which is left as it is.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def begin(self, done: Training) -> None:
        """Head, and the lines of the epochs done."""
        head = _line(("epoch", *COLUMNS))
        if self.path.exists():
            with self.path.open(encoding="utf-8", newline="") as file:
                first = file.readline()
            if first and first != head and not (head.startswith(first) and not first.endswith("\n")):
                raise ValueError(f"{self.path}: is no table of training metrics; give Csv another path")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = "".join(self._row(done, k) for k in range(done.epochs))
        write_beside(self.path, lambda file: file.write((head + rows).encode()))

    def epoch(self, done: Training) -> None:
        """Append the line of the last epoch."""
        with self.path.open("ab", buffering=0) as file:
            file.write(self._row(done, done.epochs - 1).encode())
            os.fsync(file.fileno())

    def close(self) -> None:
        """Nothing is held open."""

    @staticmethod
    def _row(done: Training, epoch: int) -> str:
        return _line((epoch + 1, *("" if math.isnan(v) else repr(v) for v in done.row(epoch).values())))


class TensorBoard:
    """Scalars under ``folder`` by epoch (from 1), through ``torch.utils.tensorboard``.

    A resumed run hides what was written after where it goes on (``purge_step``). Errors: ``ValueError`` where
    tensorboard is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ValueError("TensorBoard: tensorboard is not installed; pip install tensorboard, or use Csv") from None
        self.folder = Path(folder)
        self._make: Any = SummaryWriter
        self._writer: Any = None

    def begin(self, done: Training) -> None:
        """Open a file of events."""
        self._writer = self._make(str(self.folder), purge_step=done.epochs + 1 if done.epochs else None)

    def epoch(self, done: Training) -> None:
        """Write the last epoch and flush."""
        for name, value in done.row(done.epochs - 1).items():
            if not math.isnan(value):
                self._writer.add_scalar(name, value, done.epochs)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


def _line(cells: tuple[Any, ...]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()
