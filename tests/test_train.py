"""The training loop: the same bits after an interruption, clear refusals, and the digits learned."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from neuro import encode
from neuro.data.digits import digits
from neuro.methods.bptt import BPTT
from neuro.methods.sltt import SLTT
from neuro.models.digits import BATCH, EPOCHS, LEARNING_RATE, STEPS, digits_net
from neuro.modules import ParametricSpiking, Spiking, Stack, unroll
from neuro.neuron import Law, Rate, Tau
from neuro.train import adam, constant, evaluate, predict, train


def test_parametric_leak_trains_and_keeps_spikingjellys_bits() -> None:
    mine = ParametricSpiking(Law(Rate(0.5)))
    theirs = neuron.ParametricLIFNode(2.0)
    x = torch.randn(4, 10, 30, generator=torch.Generator().manual_seed(0)) + 1.0
    out = unroll(mine, x)
    ref = torch.stack([theirs(x[:, t]) for t in range(10)], 1)
    assert torch.equal(out, ref)
    assert 0.005 < float(out.detach().mean()) < 0.9
    out.sum().backward()
    assert mine.w.grad is not None
    assert abs(float(mine.w.grad)) > 0
    assert mine.law.charge == Rate(0.5)
    with pytest.raises(ValueError, match="charge must be Rate"):
        ParametricSpiking(Law(Tau(2.0)))


def task(samples: int = 96) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return (rng.random((samples, 5, 20)) < 0.3).astype(np.float32), rng.integers(0, 3, samples)


def small(seed: int = 0) -> Stack:
    torch.manual_seed(seed)
    return Stack(nn.Linear(20, 32), nn.BatchNorm1d(32), Spiking(), nn.Dropout(0.2), nn.Linear(32, 3), Spiking())


def same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(p, q) for p, q in pairs)


def test_resume_gives_the_same_bits(tmp_path: Path) -> None:
    whole, halves = small(), small()
    options: dict[str, Any] = {"method": SLTT(2), "epochs": 4, "batch": 16, "seed": 3, "test": task(32)}
    before = torch.random.get_rng_state()
    history = train(whole, task(), **options)
    assert torch.equal(before, torch.random.get_rng_state())

    def interrupt(epoch: int, *_: Any) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    file = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        train(halves, task(), checkpoint=file, progress=interrupt, **options)
    assert not same(whole, halves)
    fresh = small(seed=9)  # what is not in the checkpoint would show
    resumed = train(fresh, task(), checkpoint=file, resume=True, **options)
    assert same(whole, fresh)
    assert resumed == history
    assert [p.name for p in tmp_path.iterdir()] == ["run.pt"]
    assert not same(whole, small(seed=0))


def test_checkpoint_errors(tmp_path: Path) -> None:
    file, data = tmp_path / "run.pt", task()
    train(small(), data, method=SLTT(), epochs=1, checkpoint=file)
    with pytest.raises(ValueError, match=r"seed was 0 and is 1"):
        train(small(), data, method=SLTT(), epochs=1, seed=1, checkpoint=file, resume=True)
    with pytest.raises(ValueError, match=r"run\.pt.*delete it"):
        train(Stack(nn.Linear(20, 3), Spiking()), data, method=SLTT(), epochs=1, checkpoint=file, resume=True)
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"run\.pt.*delete it"):
            train(small(), data, method=SLTT(), epochs=1, checkpoint=file, resume=True)
    torch.save({"version": 1, "model": Path("x")}, file)  # an object that only unpickling would build
    with pytest.raises(ValueError, match=r"run\.pt.*delete it"):
        train(small(), data, method=SLTT(), epochs=1, checkpoint=file, resume=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 0}, "epochs and batch must be at least 1"),
        ({"target": 0.9}, "give test="),
        ({"data": (np.zeros((4, 5, 20), np.float32), np.zeros(3))}, r"needs x \(samples, T"),
        ({"data": (np.full((4, 5, 20), np.nan, np.float32), np.zeros(4, int))}, "must be finite"),
        ({"data": (np.zeros((4, 5, 20), int), np.zeros(4, int))}, "encode it first"),
        (
            {"loss": lambda o, _: o.sum() * math.nan},
            "loss is nan in epoch 1, batch 1; lower the learning rate",
        ),
    ],
)
def test_bad_training_is_refused(change: dict[str, Any], says: str) -> None:
    options: dict[str, Any] = {"data": task(), "method": SLTT(), "epochs": 1} | change
    with pytest.raises(ValueError, match=says):
        train(small(), options.pop("data"), **options)
    with pytest.raises(ValueError, match=r"SLTT.chunk"):
        SLTT(0)


def test_target_stops_early_and_constant_rate_is_constant() -> None:
    done = train(small(), task(), method=BPTT(), epochs=5, test=task(), target=0.0, schedule=constant)
    assert done.epochs == 1
    assert constant(3, 5) == 1.0


def test_bar_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    train(small(), task(), method=SLTT(5), epochs=1, progress=True)
    assert "training: loss" in capsys.readouterr().out


@pytest.mark.slow
def test_digits_reach_95_percent_by_sltt() -> None:
    data = digits()
    x, test = encode.rate(data.train_x, STEPS), encode.rate(data.test_x, STEPS)
    net = digits_net(seed=0)
    assert evaluate(net, test, data.test_y) < 0.3
    train(net, (x, data.train_y), method=SLTT(STEPS), epochs=EPOCHS, batch=BATCH, optimizer=adam(LEARNING_RATE))
    assert evaluate(net, test, data.test_y) >= 0.95
    counts = predict(net, test)
    assert 0.005 < float(counts.mean()) / STEPS < 0.9
    assert torch.equal(counts, counts.round())
