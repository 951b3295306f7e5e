"""Data that comes batch by batch, against the same samples as arrays: the same bits, from any batch on."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from neuro.batches import Arrays, Generated, Items, Iterated, source
from neuro.methods.sltt import SLTT
from neuro.modules import Spiking, Stack
from neuro.train import Scale, train

SAMPLES, EPOCHS = 26, 2


def arrays() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return (rng.random((SAMPLES, 3, 6)) < 0.4).astype(np.float32), rng.integers(0, 3, SAMPLES)


def net() -> Stack:
    torch.manual_seed(0)
    model = Stack(nn.Linear(6, 16), Spiking(), nn.Dropout(0.2), nn.Linear(16, 3))
    nn.init.uniform_(model[0].weight, -1.0, 2.0)  # so that it fires
    return model


def trained(data: Any, **more: Any) -> tuple[Any, list[Tensor]]:
    model = net()
    options: dict[str, Any] = {"method": SLTT(), "epochs": EPOCHS, "batch": 8, "seed": 1, **more}
    done = train(model, data, **options)
    return done, [v.clone() for v in model.state_dict().values()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


class OnDemand(Dataset[Any]):
    """Counts what is read."""

    def __init__(self) -> None:
        self.x, self.y = arrays()
        self.reads: list[int] = []

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, k: int) -> tuple[Any, int]:
        self.reads.append(k)
        return self.x[k], int(self.y[k])


def on_disk(folder: Path, kind: str) -> Any:
    """The spikes as single bytes, in a file that is read row by row."""
    x, y = arrays()
    if kind == "hdf5":
        with h5py.File(folder / "x.h5", "w") as file:
            file["x"], file["y"] = x.astype(np.uint8), y
        opened = h5py.File(folder / "x.h5", "r")
        return Arrays(opened["x"], opened["y"])
    np.save(folder / "x.npy", x.astype(np.uint8))
    return Arrays(np.load(folder / "x.npy", mmap_mode="r"), y)


@pytest.mark.parametrize("kind", ["mmap", "hdf5", "dataset", "torch"])
@pytest.mark.parametrize("ahead", [0, 3])
def test_any_way_to_the_samples_gives_the_same_bits(tmp_path: Path, kind: str, ahead: int) -> None:
    expected, weights = trained(arrays(), test=arrays(), valid=arrays())
    if kind in ("mmap", "hdf5"):
        data = on_disk(tmp_path, kind)
    else:
        data = OnDemand() if kind == "dataset" else TensorDataset(*map(torch.as_tensor, arrays()))
    done, mine = trained(data, test=data, valid=data, scale=Scale(fetch_ahead=ahead))
    assert done == expected
    assert same(weights, mine)
    if isinstance(data, OnDemand):
        assert sorted(data.reads) == sorted(list(range(SAMPLES)) * 3 * EPOCHS)
        assert data.reads[:SAMPLES] != sorted(data.reads[:SAMPLES])


def test_rows_of_a_file_are_those_asked_for(tmp_path: Path) -> None:
    x, y = arrays()
    for kind in ("mmap", "hdf5"):
        given = on_disk(tmp_path, kind)
        pick = torch.tensor([5, 2, 2, 25, 0])
        rows, labels = given.take(pick)
        assert rows.dtype == torch.float32
        assert np.array_equal(rows, x[pick])
        assert np.array_equal(labels, y[pick])
        assert len(given.take(pick[:0])[0]) == 0
    assert len(Items(OnDemand()).take(torch.zeros(0, dtype=torch.long))[0]) == 0


def made(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
    y = rng.integers(0, 3, n)
    return torch.from_numpy((rng.random((n, 3, 6)) < 0.2 + 0.2 * y[:, None, None]).astype(np.float32)), y


def noisy(x: Tensor, y: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    return x + torch.from_numpy(rng.normal(0.0, 0.1, x.shape)).float(), y


@pytest.mark.parametrize("kind", ["arrays", "made", "loader"])
@pytest.mark.parametrize("ahead", [0, 2])
def test_made_and_changed_batches_go_on_where_they_stopped(tmp_path: Path, kind: str, ahead: int) -> None:
    """Stopped in the second epoch, after its second batch, by a real signal; augmentation and order as without."""

    def data() -> Any:
        if kind == "arrays":
            return arrays()
        return Generated(made, SAMPLES) if kind == "made" else loader()

    expected, weights = trained(data(), augment=noisy, test=data(), scale=Scale(fetch_ahead=ahead))
    again, repeated = trained(data(), augment=noisy, test=data())
    assert again == expected
    assert same(weights, repeated)
    plain, _ = trained(data(), test=data())
    assert plain != expected

    calls = [0]

    def stopping(out: Tensor, y: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] == 3 * (4 + 2):  # three steps a batch, four batches an epoch
            signal.raise_signal(signal.SIGINT)
        return nn.functional.mse_loss(out, nn.functional.one_hot(y, 3).to(out.dtype))

    file = tmp_path / "run.pt"
    more: dict[str, Any] = {"augment": noisy, "test": data(), "checkpoint": file, "scale": Scale(fetch_ahead=ahead)}
    with pytest.raises(KeyboardInterrupt):
        trained(data(), loss=stopping, **more)
    assert torch.load(file, weights_only=True)["within"]["batches"] == 2
    done, mine = trained(data(), resume=True, **more)
    assert done == expected
    assert same(weights, mine)


def loader() -> Any:
    return DataLoader(TensorDataset(*map(torch.as_tensor, arrays())), batch_size=8, shuffle=True)


def test_made_data_differ_by_batch_epoch_and_seed_and_stay() -> None:
    given = Generated(made, 20)

    def batches(seed: int, epoch: int) -> list[Tensor]:
        return [fetch(0, 1)[0] for fetch in given.epoch(seed, epoch, 8)]

    first = batches(0, 0)
    assert [len(x) for x in first] == [8, 8, 4]
    assert all(torch.equal(a, b) for a, b in zip(first, batches(0, 0), strict=True))
    others = [first[1], batches(0, 1)[0], batches(1, 0)[0], next(iter(given.in_order(8)))(0, 1)[0]]
    assert not any(torch.equal(first[0], x) for x in others)
    halves = [fetch(rank, 2)[0] for fetch in given.epoch(0, 0, 8) for rank in (0, 1)]
    assert torch.equal(torch.cat(halves), torch.cat(first))


def test_iterable_that_is_made_anew() -> None:
    x, y = arrays()
    seen: list[int] = []

    def batches(epoch: int) -> Iterator[tuple[Any, Any]]:
        seen.append(epoch)
        for k in range(0, SAMPLES, 8):
            yield x[k : k + 8], y[k : k + 8]

    done, _ = trained(Iterated(batches, count=4), scale=Scale(rate_per_batch=True))
    assert seen == [0, 1]
    assert done.epochs == 2


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from zip(*arrays(), strict=True)


def one_epoch_only() -> Any:
    batches = iter([tuple(map(torch.as_tensor, arrays()))])
    return Iterated(lambda _: batches)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (lambda: iter([arrays()]), "runs once"),
        (Stream, "DataLoader"),
        (lambda: 3, "got int"),
        (one_epoch_only, "must run anew"),
        (lambda: Arrays(arrays()[0].astype(np.uint8), arrays()[1], cast=False), "x must be floats"),
        (lambda: Arrays(arrays()[0], arrays()[1][:5]), "one row a sample"),
        (lambda: Items([]), "empty"),
        (lambda: Generated(made, 0), "at least 1"),
        (lambda: Iterated(lambda _: [(arrays()[0], arrays()[1][:3])]), "one y a sample"),
    ],
)
def test_what_is_no_data_is_refused(data: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        trained(data())


def test_rate_within_epochs_needs_their_length() -> None:
    with pytest.raises(ValueError, match="count"):
        trained(loader(), scale=Scale(rate_per_batch=True))


def test_source_stays_what_it_is() -> None:
    given = Generated(made, 4)
    assert source(given, "cpu", "data") is given
