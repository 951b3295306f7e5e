"""Where batches come from: arrays in memory, arrays on disk, a ``Dataset``, a function that makes them, an iterable.

A :class:`Source` gives, for an epoch, functions that fetch one batch each, or this process's share of it. The order of
samples is a function of ``(seed, epoch)``, and what is made or changed on the way of ``(seed, epoch, batch)``, so a
run that begins at any batch sees the same as one that came there by itself.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor

Batch: TypeAlias = tuple[Tensor, Tensor]
Fetch: TypeAlias = Callable[[int, int], Batch]
"""``(rank, of how many) -> x (n, T, ...), y (n, ...)``: that process's rows of one batch, in order of rank."""

Data: TypeAlias = tuple[Any, Any]
"""``x (samples, T, ...)`` and integer labels ``y (samples,)``; numpy or torch."""

Augment: TypeAlias = Callable[[Tensor, Tensor, np.random.Generator], Batch]
"""``(x, y, rng) -> (x, y)``: what is done to a batch before training sees it; random only by ``rng``."""


@runtime_checkable
class Source(Protocol):
    """Samples that come batch by batch."""

    def size(self, batch: int) -> tuple[int | None, int | None]:
        """``(samples, batches)`` of an epoch, None where it is not known before."""

    def epoch(self, seed: int, epoch: int, batch: int) -> Iterator[Fetch]:
        """Each sample once, in the order of that epoch."""

    def in_order(self, batch: int) -> Iterator[Fetch]:
        """Each sample once, in an order that is always the same: for evaluation."""


def order(seed: int, epoch: int, samples: int) -> Tensor:
    """The order of samples in an epoch."""
    return torch.from_numpy(_rng(seed, epoch)[1].permutation(samples))


def torch_seed(seed: int, epoch: int, rank: int = 0) -> int:
    """What torch's generators of process ``rank`` start the epoch from."""
    return int(batch_rng(seed, epoch, rank, use=2**32 - 1).integers(2**63)) if rank else _rng(seed, epoch)[0]


def batch_rng(seed: int, epoch: int, batch: int, use: int = 0) -> np.random.Generator:
    """A generator for one batch; ``use`` tells those of several purposes or processes apart."""
    return np.random.default_rng(np.random.SeedSequence([seed, epoch], spawn_key=(batch, use)))


def _rng(seed: int, epoch: int) -> tuple[int, np.random.Generator]:
    rng = np.random.default_rng([seed, epoch])
    return int(rng.integers(2**63)), rng


class _Indexed(ABC):
    """A source of which each sample can be asked for by its number."""

    @abstractmethod
    def __len__(self) -> int:
        """Samples."""

    @abstractmethod
    def take(self, pick: Tensor) -> Batch:
        """The samples of these numbers, in this order."""

    def size(self, batch: int) -> tuple[int | None, int | None]:
        return len(self), -(-len(self) // batch)

    def epoch(self, seed: int, epoch: int, batch: int) -> Iterator[Fetch]:
        yield from map(self._fetch, torch.split(order(seed, epoch, len(self)), batch))

    def in_order(self, batch: int) -> Iterator[Fetch]:
        yield from map(self._fetch, torch.split(torch.arange(len(self)), batch))

    def _fetch(self, pick: Tensor) -> Fetch:
        return lambda rank, of: self.take(torch.tensor_split(pick, of)[rank])


class Memory(_Indexed):
    """Tensors that lie whole on the device where training runs; what ``(x, y)`` becomes."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def take(self, pick: Tensor) -> Batch:
        """Rows."""
        pick = pick.to(self.x.device)
        return self.x[pick], self.y[pick]


class Arrays(_Indexed):
    """Arrays of which only the rows of a batch are read: ``np.load(file, mmap_mode="r")``, ``np.memmap``, h5py.

    ``x (samples, T, ...), y (samples, ...)`` may have any type, such as spikes in uint8; what training gets is ``x`` in
    float32 where ``cast``, else as it is, for an ``augment`` that makes floats of it. Rows are read in rising order,
    as disks and h5py like it. Errors: ``ValueError`` for arrays of different or no length.
    """

    def __init__(self, x: Any, y: Any, *, cast: bool = True) -> None:
        if len(x) != len(y) or not len(x):
            raise ValueError(f"Arrays: x and y need one row a sample, got {len(x)} and {len(y)}")
        self.x, self.y, self.cast = x, y, cast

    def __len__(self) -> int:
        return len(self.x)

    def take(self, pick: Tensor) -> Batch:
        """Rows, copied into memory."""
        rising, back = np.unique(pick.numpy(), return_inverse=True)
        x = torch.from_numpy(np.array(self.x[rising])[back])
        y = torch.from_numpy(np.array(self.y[rising])[back])
        return x.float() if self.cast else x, y


class Items(_Indexed):
    """A map-style ``torch.utils.data.Dataset``: ``dataset[i] -> (x (T, ...), y)`` and ``len(dataset)``.

    What is random in it is not seeded here: put that into ``augment``. Errors: ``ValueError`` for an empty one.
    """

    def __init__(self, dataset: Any) -> None:
        if not len(dataset):
            raise ValueError("Items: the dataset is empty")
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, pick: Tensor) -> Batch:
        """Items, stacked."""
        numbers = pick.tolist()
        if not numbers:
            x, y = self.take(torch.zeros(1, dtype=torch.long))
            return x[:0], y[:0]
        many = getattr(self.dataset, "__getitems__", None)
        items = many(numbers) if many else [self.dataset[i] for i in numbers]
        return torch.stack([torch.as_tensor(x) for x, _ in items]), torch.stack([torch.as_tensor(y) for _, y in items])


@dataclass(frozen=True)
class Generated:
    """Samples that are made when they are needed: ``make(rng, n) -> (x (n, T, ...), y (n, ...))``.

    ``samples`` make an epoch; each batch has its own generator by ``(seed, epoch, batch)``. For evaluation they are
    those of seed ``fixed``, always the same. Errors: ``ValueError`` for no samples.
    """

    make: Callable[[np.random.Generator, int], tuple[Any, Any]]
    samples: int
    fixed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"Generated.samples: must be at least 1, got {self.samples}")

    def size(self, batch: int) -> tuple[int | None, int | None]:
        """As in :class:`Source`."""
        return self.samples, -(-self.samples // batch)

    def epoch(self, seed: int, epoch: int, batch: int) -> Iterator[Fetch]:
        """As in :class:`Source`."""
        for k, start in enumerate(range(0, self.samples, batch)):
            yield partial(self._made, seed, epoch, k, min(batch, self.samples - start))

    def in_order(self, batch: int) -> Iterator[Fetch]:
        """As in :class:`Source`; epoch 2^32 - 1, which no training reaches."""
        return self.epoch(self.fixed, 2**32 - 1, batch)

    def _made(self, seed: int, epoch: int, k: int, n: int, rank: int, of: int) -> Batch:
        # each process makes the whole batch, so that N of them see what one sees
        return _share(self.make(batch_rng(seed, epoch, k, use=1), n), rank, of)


@dataclass(frozen=True)
class Iterated:
    """Batches of an iterable: ``batches(epoch)`` gives one that runs through ``(x, y)`` batches; ``batch`` is theirs.

    A ``DataLoader`` is one: ``Iterated(lambda epoch: loader)``; its shuffling follows torch's generator, which each
    epoch seeds. To go on within an epoch, those before are read and dropped. ``count``: batches of an epoch, where a
    learning rate moves within one.
    """

    batches: Callable[[int], Iterable[tuple[Any, Any]]]
    count: int | None = None

    def size(self, batch: int) -> tuple[int | None, int | None]:
        """As in :class:`Source`."""
        return None, self.count

    def epoch(self, seed: int, epoch: int, batch: int) -> Iterator[Fetch]:
        """As in :class:`Source`."""
        for given in self.batches(epoch):
            yield partial(_share, given)

    def in_order(self, batch: int) -> Iterator[Fetch]:
        """As in :class:`Source`: epoch 0."""
        return self.epoch(0, 0, batch)


def source(data: Any, device: str | torch.device, name: str) -> Source:
    """What training takes, as a source: one as it is, arrays ``(x, y)``, a ``Dataset``, an iterable of batches.

    Errors: ``ValueError`` for arrays that do not fit each other or are not finite floats, and for anything else.
    """
    if isinstance(data, Source):
        return data
    if isinstance(data, tuple | list) and len(data) == 2:
        return Memory(*_tensors((data[0], data[1]), device, name))
    if isinstance(data, Iterator):
        raise ValueError(f"{name}: an iterator runs once, training needs one an epoch; give neuro.batches.Iterated")
    if isinstance(data, torch.utils.data.IterableDataset):
        raise ValueError(f"{name}: an IterableDataset gives samples; give DataLoader(dataset, batch_size=...)")
    if isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
        return Iterated(partial(_same, data))
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return Items(data)
    raise ValueError(f"{name}: needs (x, y), a Dataset or a source of neuro.batches, got {type(data).__name__}")


def fetched(
    numbered: Iterable[tuple[int, Fetch]], rank: int, of: int, change: Callable[[int, Batch], Batch], ahead: int
) -> Iterator[Batch]:
    """This process's part of each batch, through ``change(number, batch)``; ``ahead`` threads fetch the next ones."""

    def one(k: int, fetch: Fetch) -> Batch:
        return change(k, fetch(rank, of))

    if not ahead:
        yield from itertools.starmap(one, numbered)
        return
    pool = ThreadPoolExecutor(ahead)
    waiting: deque[Future[Batch]] = deque()
    try:
        for k, fetch in numbered:
            waiting.append(pool.submit(one, k, fetch))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _same(batches: Iterable[tuple[Any, Any]], _: int) -> Iterable[tuple[Any, Any]]:
    return batches


def _share(batch: tuple[Any, Any], rank: int, of: int) -> Batch:
    x, y = (torch.as_tensor(a) for a in batch)
    if len(x) != len(y):
        raise ValueError(f"data: a batch needs one y a sample, got x {tuple(x.shape)} and y {tuple(y.shape)}")
    return torch.tensor_split(x, of)[rank], torch.tensor_split(y, of)[rank]


def _tensors(data: Data, device: str | torch.device, name: str) -> Batch:
    x, y = (torch.as_tensor(a) for a in data)
    if x.ndim < 2 or not len(x) or len(x) != len(y):
        shapes = f"{tuple(x.shape)} and {tuple(y.shape)}"
        raise ValueError(f"{name}: needs x (samples, T, ...) and y (samples,), got {shapes}")
    if not x.is_floating_point() or not bool(torch.isfinite(x).all()):
        raise ValueError(f"{name}: x must be finite floats, got {x.dtype}; encode it first (neuro.encode)")
    return x.to(device), y.to(device)
