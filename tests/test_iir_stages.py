"""IIR-SNN: stages hand over every bit, limits hold after each step, a stopped run goes on, and it learns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from iir_images import images, small_ann, with_statistics

from neuro.data.folder import data_folder
from neuro.data.mnist import FILE, mnist_10k, read
from neuro.methods.iir import (
    ANN_CIFAR,
    ANN_CIFAR_NORM,
    ANN_IMAGENET,
    IIR,
    SNN_CIFAR,
    DirectBPTT,
    IIRResult,
    Recipe,
    amsgrad,
    convert,
    cross_entropy,
    populations,
    set_steps,
    sgd,
    train_ann,
)
from neuro.modules import Stack
from neuro.train import evaluate, last, train

SETS = (images(160, 1), images(80, 2), images(80, 3))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """What trainings give depends on the number of threads: they are run as they were measured, on one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def short(schedule: tuple[int, ...] = (3, 2, 1), epochs: int = 2, rule: Any = amsgrad) -> IIR:
    return IIR(schedule, Recipe(2e-3, epochs, 40, dropout=0.1, rule=rule))


def without_seconds(result: IIRResult) -> str:
    data = result.to_dict()
    for stage in (*data["stages"], data["control"]):
        del stage["seconds"]
    return json.dumps(data)


def test_stages_begin_with_the_bits_of_the_one_before() -> None:
    """Weights, biases, thresholds and leaks; and an optimizer that knows nothing."""
    made: list[torch.optim.Optimizer] = []
    begun: list[list[torch.Tensor]] = []

    def noted(parameters: Any, rate: float) -> torch.optim.Optimizer:
        given = list(parameters)
        begun.append([p.detach().clone() for p in given])
        made.append(amsgrad(given, rate))
        assert not made[-1].state
        assert made[-1].param_groups[0]["lr"] == 2e-3
        return made[-1]

    result = short(rule=noted).run(with_statistics(small_ann(norm=True)), *SETS)
    assert len(made) == len({id(m) for m in made}) == 4  # three stages and the control
    stages = result.stages
    for a, b, start in zip(stages, stages[1:], begun[1:], strict=False):
        assert a.last == b.first
        assert a.parameters
        names = [n for n in a.parameters if "lif" in n or "conv" in n or "fc" in n]
        for n, p in zip(names, start, strict=True):
            assert torch.equal(a.parameters[n], p), n
    assert all(s.first != s.last for s in stages)
    assert result.control.first == stages[0].first
    assert result.control.epochs == sum(s.epochs for s in stages)
    assert [s.steps for s in stages] == [3, 2, 1]
    assert all(len(s.history["loss"]) == s.epochs for s in (*stages, result.control))
    assert all(s.validation == max(s.history["validation"]) == s.history["validation"][s.best - 1] for s in stages)
    assert stages[-1].leaks == stages[-2].leaks  # dead at T = 1
    assert stages[-1].thresholds != stages[-2].thresholds
    assert list(result.converted) == [3, 1]


def test_best_epoch_is_what_goes_on() -> None:
    """The kept parameters are those of the epoch that validates best, not the last one."""
    wild = IIR((2, 1), Recipe(0.03, 6, 40, dropout=0.0))
    try:
        result = wild.run(with_statistics(small_ann()), *SETS)
    except ValueError as error:
        pytest.fail(f"chosen so that no layer dies: {error}")
    snn = convert(with_statistics(small_ann()), SETS[0][0][:, 0], steps=2)
    for stage in result.stages:
        set_steps(snn, stage.steps)
        snn.load_state_dict(stage.parameters)  # type: ignore[arg-type]
        assert evaluate(snn, *SETS[1], readout=last) == stage.validation
        assert evaluate(snn, *SETS[2], readout=last) == stage.test
    assert any(s.best < s.epochs for s in (*result.stages, result.control))


def test_leaks_and_thresholds_stay_in_range_after_every_step() -> None:
    """Steps so large that both would leave; one batch an epoch, so each report is after one step."""
    snn = convert(with_statistics(small_ann()), SETS[0][0][:, 0], steps=3)
    seen: list[tuple[float, float]] = []

    def look(*_: Any) -> None:
        seen.extend((float(p.leak.detach()), float(p.threshold.detach())) for p in populations(snn).values())

    train(
        snn, SETS[0], method=DirectBPTT(3), loss=cross_entropy, epochs=6, batch=160,
        optimizer=lambda p: amsgrad(p, 0.5), progress=look,
    )  # fmt: skip
    leaks, thresholds = np.array(seen).T
    assert len(seen) == 18
    assert leaks.min() >= 0.0
    assert leaks.max() <= 1.0
    assert thresholds.min() >= np.float32(1e-3)
    assert 0.0 in leaks or 1.0 in leaks[3:]


@pytest.mark.parametrize("stop", [("stage1-T3", 1), ("stage2-T2", 2), ("control-T1", 3)])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path, stop: tuple[str, int]) -> None:
    ann = with_statistics(small_ann(norm=True))
    whole = short().run(ann, *SETS, seed=5)

    def kill(stage: str, epoch: int, *_: Any) -> None:
        if (stage, epoch) == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        short().run(ann, *SETS, seed=5, folder=tmp_path, progress=kill)
    (tmp_path / f"{stop[0]}.best.pt").unlink()  # as if killed between the checkpoint and its copy
    if stop[1] != 1:  # the copy can be made again only if the last epoch is the best, else it was there before
        short().run(ann, *SETS, seed=5, folder=tmp_path / "other")
        (tmp_path / f"{stop[0]}.best.pt").write_bytes((tmp_path / "other" / f"{stop[0]}.best.pt").read_bytes())
    told: list[str] = []
    resumed = short().run(ann, *SETS, seed=5, folder=tmp_path, resume=True, progress=lambda name, *_: told.append(name))
    assert without_seconds(resumed) == without_seconds(whole)
    assert told[0].split("-")[0] >= stop[0].split("-")[0] or stop[0].startswith("control")
    again = short().run(ann, *SETS, seed=5, folder=tmp_path, resume=True)
    assert without_seconds(again) == without_seconds(whole)
    with pytest.raises(ValueError, match="it is of another run"):
        short(epochs=3).run(ann, *SETS, seed=5, folder=tmp_path, resume=True)


def test_result_prints_and_saves(tmp_path: Path) -> None:
    result = short((2, 1), 1).run(with_statistics(small_ann()), *SETS)
    data = json.loads(result.save(tmp_path / "a" / "iir.json").read_text())
    assert data == json.loads(json.dumps(result.to_dict()))
    assert {"ann", "converted", "stages", "control", "calibration", "settings"} == set(data)
    assert len(data["calibration"]["images_sha256"]) == 64
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["iir.json"]
    table = str(result).splitlines()
    assert len(table) == 1 + 1 + 2 + 2 + 1
    assert table[-1].startswith("control, direct     1       2")


def test_a_dead_population_stops_the_run() -> None:
    with pytest.raises(
        ValueError, match=r"stage1-T1: population lif1 fires 0 spikes .* and is dead; put stages between"
    ):
        IIR((1,), Recipe(1e-9, 1, 40), scale=50.0).run(with_statistics(small_ann()), *SETS)


def test_recipes_are_the_papers() -> None:
    """LR / 5 at 45, 70, 90 % (ANN) and 60, 80, 90 % (SNN); ImageNet / 10."""
    factors = [ANN_CIFAR_NORM.schedule(e, 300) for e in (0, 134, 135, 210, 269, 270)]
    assert factors == pytest.approx([1, 1, 0.2, 0.04, 0.04, 0.008])
    assert [SNN_CIFAR.schedule(e, 500) for e in (299, 300, 400, 450)] == pytest.approx([1, 0.2, 0.04, 0.008])
    assert ANN_IMAGENET.schedule(100, 101) == pytest.approx(1e-3)
    (group,) = ANN_CIFAR.optimizer()([torch.nn.Parameter(torch.zeros(1))]).param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.01, 0.9, 5e-4)
    (group,) = SNN_CIFAR.optimizer()([torch.nn.Parameter(torch.zeros(1))]).param_groups
    assert (group["lr"], group["amsgrad"], group["betas"], group["weight_decay"]) == (1e-4, True, (0.9, 0.999), 0)
    for bad in ({"rate": 0.0}, {"epochs": 0}, {"marks": (0.9, 0.5)}, {"marks": (0.0,)}):
        with pytest.raises(ValueError, match="Recipe"):
            Recipe(**{"rate": 1.0, "epochs": 1} | bad)
    for schedule in ((), (1, 2), (2, 0), (3, 3)):
        with pytest.raises(ValueError, match=r"IIR.schedule: must fall"):
            IIR(schedule)


@pytest.mark.slow
def test_one_step_is_reached_in_stages_and_not_by_conversion() -> None:
    """Section 2.5 in small: conversion alone collapses at T = 1, the stages keep within 2 points of the ANN."""
    data, validation, test = images(2000, 11), images(400, 12), images(1000, 13)
    ann: Stack = small_ann(norm=True)
    train_ann(ann, data, Recipe(0.05, 8, 64, (0.45, 0.7, 0.9), dropout=0.1, rule=sgd))
    result = IIR(recipe=Recipe(1e-3, 4, 64, dropout=0.1)).run(ann, data, validation, test)
    assert result.ann >= 0.97
    assert result.converted[1] < 0.5 < result.converted[5]
    assert all(s.test >= result.ann - 0.02 for s in result.stages)
    assert result.control.test > 0.9


def digits_file(folder: Path, **changed: Any) -> Path:
    rng = np.random.default_rng(0)
    x = rng.integers(1, 256, (60, 28, 28)).astype(np.uint8)
    folder.mkdir(exist_ok=True)
    np.savez(folder / FILE, **{"x": x, "y": np.repeat(np.arange(6), 10).astype(np.uint8)} | changed)
    return folder


def test_mnist_is_split_by_class_and_whole(tmp_path: Path) -> None:
    folder = digits_file(tmp_path)
    a, b, c = mnist_10k(folder), mnist_10k(folder), mnist_10k(folder, seed=1)
    assert a.train_x.shape == (48, 1, 28, 28)
    assert a.train_x.dtype == np.float32
    assert np.bincount(a.test_y).tolist() == [2] * 6
    assert np.array_equal(a.test_x, b.test_x)
    assert not np.array_equal(a.test_x, c.test_x)
    assert len({im.tobytes() for im in (*a.train_x, *a.test_x)}) == 60
    whole = np.concatenate([a.train_x, a.test_x]) * 255
    assert np.array_equal(whole, np.rint(whole))
    assert a.train_y[:10].tolist() != sorted(a.train_y[:10].tolist())


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"x": np.ones((60, 28, 28))}, "x is float64"),
        ({"x": np.ones((60, 28, 27), np.uint8)}, "expected uint8"),
        ({"y": np.zeros(59, np.uint8)}, r"y is uint8 \(59,\)"),
        ({"y": np.full(60, 10, np.uint8)}, "labels go from 10 to 10"),
        ({"x": np.zeros((60, 28, 28), np.uint8)}, "image 0 is black"),
        ({"y": np.array([{}] * 60, dtype=object)}, "allow_pickle"),
    ],
)
def test_a_broken_mnist_file_is_named(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=rf"{FILE}: holds no MNIST digits \(.*{says}.*\); fetch it again"):
        read(digits_file(tmp_path, **changed) / FILE)


def test_mnist_not_there_or_cut(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"MNIST: no .*; put mnist_10k.npz .* there, or set SPIKEPORT_DATA"):
        mnist_10k(tmp_path)
    path = digits_file(tmp_path) / FILE
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(ValueError, match="holds no MNIST digits"):
        read(path)


def test_the_real_digits() -> None:
    if not (data_folder("mnist_10k") / FILE).is_file():
        pytest.skip("mnist_10k is not here: put mnist_10k.npz into $SPIKEPORT_DATA/mnist_10k")
    data = mnist_10k()
    assert (len(data.train_y), len(data.test_y)) == (8000, 2000)
    assert 0.12 < float(data.train_x.mean()) < 0.14  # MNIST's mean grey is 0.1307
