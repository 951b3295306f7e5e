"""Long work in pieces: over any ``concurrent.futures.Executor``, stopped and resumed, the result always the same.

    many = Many(executor=ProcessPoolExecutor(8), checkpoint="yield.npz")
    arrays = many.run(job)

A job is so many corners, each of which gives a row of every result. How the rows are cut into pieces, who computes
them and in which order they come back changes nothing: a piece knows its rows by number. Executors: ``None`` (here,
with all cores), threads, processes, ``mpi4py.futures``, and ``dask.distributed.Client(..).get_executor()``.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from export.package import read_package, write_package
from sim.run import versions
from sim.sfq.study.fingerprint import fingerprint

Arrays: TypeAlias = dict[str, NDArray[Any]]
Progress: TypeAlias = Callable[[float], None]
"""Called with the part that is done, 0 to 1. Raising stops the work; what is done is in the checkpoint."""

FORMAT = "spikeport-sfq-work-1"
SAVE_EVERY_S = 10.0


class Job(Protocol):
    """Rows of work. A frozen dataclass of plain data, so that it has a fingerprint and travels to other processes."""

    @property
    def count(self) -> int:
        """Number of rows."""

    def take(self, first: int, last: int) -> Job:
        """The rows ``first .. last - 1`` as a job of their own, with nothing it does not need."""

    def run(self, threads: int) -> Arrays:
        """Named arrays with one row each; a row depends on nothing but the row. ``threads``: 0 takes all cores."""


@dataclass
class Many:
    """How to work: ``executor``, rows in a piece, pieces sent ahead, ``checkpoint`` file, ``progress``.

    The file keeps the rows that are done of every job, keyed by the job's fingerprint: several jobs in turn (the
    rounds of a search) share one file, and a program started again takes from it what it has.
    """

    executor: Executor | None = None
    chunk: int = 256
    ahead: int = 32
    checkpoint: str | Path | None = None
    progress: Progress | None = None
    _store: Arrays = field(default_factory=dict, repr=False)
    _saved_at: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.ahead < 1:
            raise ValueError(f"many: chunk {self.chunk} and ahead {self.ahead} must be at least 1")
        if self.checkpoint is not None and Path(self.checkpoint).exists():
            self._store = read_package(self.checkpoint, FORMAT)[1]

    def run(self, job: Job, part: tuple[float, float] = (0.0, 1.0)) -> Arrays:
        """All rows of ``job``. ``part`` is the stretch of the progress bar that it fills.

        A key interrupt or an error leaves with what is done written to the checkpoint.
        """
        rows = _Rows(job.count, "" if self.checkpoint is None else _key(job), self._store)
        pieces = rows.missing(self.chunk)

        def take(piece: tuple[int, int], arrays: Arrays) -> None:
            rows.put(piece, arrays)
            if self.checkpoint is not None and time.monotonic() - self._saved_at > SAVE_EVERY_S:
                self._save()
            if self.progress is not None:
                self.progress(part[0] + (part[1] - part[0]) * rows.share)

        try:
            if self.executor is None:
                for piece in pieces:
                    take(piece, job.take(*piece).run(0))
            else:
                _parallel(self.executor, self.ahead, job, pieces, take)
        finally:
            if pieces and self.checkpoint is not None:
                self._save()
        return rows.result()

    def _save(self) -> None:
        if self.checkpoint is not None:
            write_package(self.checkpoint, {"format": FORMAT}, self._store)
            self._saved_at = time.monotonic()


def _key(job: Job) -> str:
    """Another release of the solver is other work."""
    return fingerprint(versions()["spikeport"], job)[:24]


def work(job: Job) -> Arrays:
    """What a worker does with a piece: one thread, since its neighbours have the other cores."""
    return job.run(1)


def _parallel(
    executor: Executor, ahead: int, job: Job, pieces: list[tuple[int, int]],
    take: Callable[[tuple[int, int], Arrays], None],
) -> None:  # fmt: skip
    waiting: dict[Future[Arrays], tuple[int, int]] = {}
    todo = iter(pieces)
    try:
        while True:
            while len(waiting) < ahead and (piece := next(todo, None)) is not None:
                waiting[executor.submit(work, job.take(*piece))] = piece
            if not waiting:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                take(waiting.pop(future), future.result())
    finally:
        for future in waiting:
            future.cancel()


class _Rows:
    """The rows of one job: which are done, and their arrays in ``store`` under ``key.name``."""

    def __init__(self, count: int, key: str, store: Arrays) -> None:
        self.count, self.prefix = count, f"{key}."
        self.store: Arrays = store if key else {}
        self.done = self.store.setdefault(self.prefix + "done", np.zeros(count, np.bool_))

    @property
    def share(self) -> float:
        return float(self.done.mean())

    def missing(self, chunk: int) -> list[tuple[int, int]]:
        """Stretches of rows still to do, none longer than ``chunk``."""
        edges = np.flatnonzero(np.diff(np.concatenate([[True], self.done, [True]]).astype(np.int8)))
        stretches = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
        return [(a, min(a + chunk, last)) for first, last in stretches for a in range(first, last, chunk)]

    def put(self, piece: tuple[int, int], arrays: Arrays) -> None:
        first, last = piece
        for name, rows in arrays.items():
            if len(rows) != last - first:
                raise ValueError(f"many: result {name} has {len(rows)} rows for {last - first} corners")
            whole = self.store.get(self.prefix + name)
            if whole is None:
                whole = self.store[self.prefix + name] = np.zeros((self.count, *rows.shape[1:]), rows.dtype)
            whole[first:last] = rows
        self.done[first:last] = True

    def result(self) -> Arrays:
        names = [n for n in self.store if n.startswith(self.prefix)]
        return {n.removeprefix(self.prefix): self.store[n] for n in names if n != self.prefix + "done"}
