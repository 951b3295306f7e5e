"""SLTT, BPTT, the training loop and the encoders, against autograd, closed forms and an uninterrupted run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from neuro import encode
from neuro.data.digits import digits
from neuro.data.split import stratified
from neuro.data.xor import xor
from neuro.methods.bptt import BPTT
from neuro.methods.sltt import SLTT
from neuro.models.digits import BATCH, EPOCHS, LEARNING_RATE, STEPS, digits_net
from neuro.modules import ParametricSpiking, Spiking, Stack, step, steps, unroll
from neuro.neuron import Decay, Law, NoLeak, Rate, Tau
from neuro.surrogate import Triangle
from neuro.train import adam, ce_mse, constant, evaluate, predict, spike_mse, train

T, SIZES = 12, (40, 64, 48, 10)


def fully_connected(law: Law, seed: int = 0) -> Stack:
    """40-64-48-10 of the specification, float64, no neuron on the last layer."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in zip(SIZES, SIZES[1:], strict=False):
        layers += [nn.Linear(a, b), Spiking(law, Triangle())]
    net = Stack(*layers[:-1]).double()
    with torch.no_grad():
        for p in net.parameters():
            p *= 5.0  # so that every layer fires
    return net


def sample(n: int = 6, t: int = T) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    x = (torch.rand(n, t, SIZES[0], generator=g) < 0.3).double()
    return x, torch.randint(0, SIZES[-1], (n,), generator=g)


def gradients(net: nn.Module, method: Any, x: Tensor, y: Tensor, loss: Any = ce_mse) -> list[Tensor]:
    net.zero_grad()
    method(net, loss, x, y)
    return [p.grad.clone() for p in net.parameters() if p.grad is not None]


def furthest(a: list[Tensor], b: list[Tensor]) -> float:
    assert len(a) == len(b) > 0
    return max(float((p - q).abs().max()) for p, q in zip(a, b, strict=True))


def leaky(lam: float, **kwargs: Any) -> Law:
    """Charge ``u = lam v + I``."""
    return Law(Rate(1.0 - lam, decay_input=False), reset="subtract", **kwargs)


def rates(net: Stack, x: Tensor) -> list[float]:
    """Mean spikes per neuron and step of each spiking layer."""
    out, now = [], x.transpose(0, 1)
    for m in net:
        now, _ = steps(m, now)
        if isinstance(m, Spiking):
            out.append(float(now.detach().mean()))
    return out


def unrolled_by_hand(net: Stack, x: Tensor, y: Tensor) -> list[Tensor]:
    """Spec 1.2 spelled out: full unroll, u = lam v.detach() + W s, autograd on the whole."""
    first, second, last = (m for m in net if isinstance(m, nn.Linear))
    law, slope = net[1].law, Triangle()
    lam = 1.0 - law.charge.rate
    v1 = v2 = torch.zeros((), dtype=x.dtype)
    total = torch.zeros((), dtype=x.dtype)
    for t in range(x.shape[1]):
        u1 = lam * v1 + first(x[:, t])
        s1 = slope.of(law)(u1 - 1.0)
        u2 = lam * v2 + second(s1)
        s2 = slope.of(law)(u2 - 1.0)
        v1, v2 = (u1 - s1).detach(), (u2 - s2).detach()
        total = total + ce_mse(last(s2), y) / x.shape[1]
    return list(torch.autograd.grad(total, list(net.parameters())))


@pytest.mark.parametrize("lam", [0.0909, 0.5, 0.9])
def test_sltt_is_the_unroll_with_v_detached(lam: float) -> None:
    net, (x, y) = fully_connected(leaky(lam)), sample()
    assert all(0.005 < r < 0.9 for r in rates(net, x))
    assert furthest(gradients(net, SLTT(), x, y), unrolled_by_hand(net, x, y)) <= 1e-15


@pytest.mark.parametrize("charge", [NoLeak(), Tau(2.0), Tau(2.0, False), Decay(0.5, 0.7)])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_sltt_gradient_does_not_see_the_chunk(charge: Any, reset: Any) -> None:
    net, (x, y) = fully_connected(Law(charge, reset=reset)), sample()
    assert all(0.005 < r < 0.9 for r in rates(net, x))
    online = gradients(net, SLTT(), x, y)
    assert max(float(g.abs().max()) for g in online) > 1e-3
    for chunk in (2, 5, T, 100):
        assert furthest(online, gradients(net, SLTT(chunk), x, y)) <= 1e-15


def test_sltt_gradient_does_not_see_the_reset_slope() -> None:
    """Spec 1.2: v is detached, so the reset reaches nothing; a slope of 0 at the reset changes no gradient."""
    net, (x, y) = fully_connected(leaky(0.9)), sample()

    class Detached(Spiking):
        def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
            s, (v, *rest) = super().forward(x, state)
            return s, (v.detach(), *rest)

    other = Stack(*(Detached(m.law, m.surrogate) if isinstance(m, Spiking) else m for m in net))
    assert furthest(gradients(net, SLTT(4), x, y), gradients(other, SLTT(4), x, y)) == 0.0


def test_one_step_is_bptt_bit_for_bit() -> None:
    net, (x, y) = fully_connected(leaky(0.9)), sample(t=1)
    assert furthest(gradients(net, SLTT(), x, y), gradients(net, BPTT(), x, y)) == 0.0


def test_without_leak_memory_sltt_is_bptt() -> None:
    net, (x, y) = fully_connected(leaky(0.0)), sample()
    assert furthest(gradients(net, SLTT(3), x, y), gradients(net, BPTT(), x, y)) <= 1e-15


def test_cosine_to_bptt_falls_with_memory() -> None:
    """Spec 1.8, 5: tau 1.0526, 1.1, 1.25, 2, 10; the last layer has no temporal route and agrees."""
    x, y = sample()
    cosines = []
    for tau in (1.0526, 1.1, 1.25, 2.0, 10.0):
        net = fully_connected(leaky(1.0 - 1.0 / tau))
        a, b = gradients(net, SLTT(4), x, y), gradients(net, BPTT(), x, y)
        cosines.append(float(torch.cosine_similarity(a[0].flatten(), b[0].flatten(), dim=0)))
        assert furthest(a[-2:], b[-2:]) <= 1e-15
    assert cosines[1] > 0.99
    assert all(p > q for p, q in zip(cosines, cosines[1:], strict=False))
    assert cosines[-1] < 0.97


def test_bptt_gradient_is_spikingjellys() -> None:
    """The same network out of SpikingJelly's own modules and loop, reset attached, hard reset."""
    mine = fully_connected(Law(Tau(2.0)))
    sj = nn.Sequential(
        *(
            neuron.LIFNode(2.0, surrogate_function=surrogate.PiecewiseQuadratic(1.0))
            if isinstance(m, Spiking)
            else m
            for m in mine
        )
    )
    x, y = sample()
    expected = gradients(mine, BPTT(), x, y)
    sj.zero_grad()
    functional.reset_net(sj)
    torch.stack([ce_mse(sj(x[:, t]), y) for t in range(T)]).mean().backward()
    assert furthest(expected, [p.grad for p in sj.parameters() if p.grad is not None]) <= 1e-15


def held_bytes(method: Any, t: int) -> int:
    """Largest sum of bytes that autograd holds at once (saved tensors not yet freed)."""
    net, (x, y) = fully_connected(leaky(0.9)), sample(t=t)
    alive: dict[int, int] = {}
    most = 0

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal most
            self.tensor = tensor
            alive[id(self)] = tensor.numel() * tensor.element_size()
            most = max(most, sum(alive.values()))

        def __del__(self) -> None:
            alive.pop(id(self), None)

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        gradients(net, method, x, y)
    return most


def test_sltt_memory_does_not_grow_with_time() -> None:
    assert held_bytes(SLTT(), 64) <= 1.10 * held_bytes(SLTT(), 4)
    assert held_bytes(SLTT(4), 64) <= 1.10 * held_bytes(SLTT(4), 8)
    assert held_bytes(BPTT(), 64) > 10 * held_bytes(BPTT(), 4)
    assert held_bytes(SLTT(), 64) > 10_000


def test_batchnorm_statistics_are_per_step() -> None:
    torch.manual_seed(0)
    make: Callable[[], Stack] = lambda: Stack(nn.Linear(40, 10), nn.BatchNorm1d(10), Spiking())  # noqa: E731
    one, all_ = make().double(), make().double()
    all_.load_state_dict(one.state_dict())
    x, y = sample()
    a = gradients(one, SLTT(1), x, y, spike_mse)
    b = gradients(all_, SLTT(T), x, y, spike_mse)
    assert furthest(a, b) <= 1e-14
    assert one[1].num_batches_tracked == all_[1].num_batches_tracked == T
    torch.testing.assert_close(one[1].running_var, all_[1].running_var, rtol=1e-12, atol=0)


def test_what_credit_through_time_needs() -> None:
    """Spec 1.8, 10: the input is silent after the first step and only the last step is judged; SLTT is blind."""
    net = fully_connected(leaky(0.9))
    x, y = sample()
    x[:, 1:] = 0.0

    last_only = lambda o, _: o.square().sum() if count() == T - 1 else 0.0 * o.sum()  # noqa: E731
    for method, blind in ((SLTT(), True), (BPTT(), False)):
        seen = iter(range(T))
        count = lambda seen=seen: next(seen)  # noqa: E731
        first = gradients(net, method, x, y, last_only)[0]
        assert (float(first.abs().max()) == 0.0) == blind


def test_steps_is_step_after_step() -> None:
    net, (x, _) = fully_connected(Law(Decay(0.5, 0.7))), sample()
    state, each = None, []
    for t in range(T):
        y, state = net(x[:, t], state)
        each.append(y)
    torch.testing.assert_close(unroll(net, x), torch.stack(each, 1), rtol=0, atol=1e-14)


def test_spikingjelly_modules_step_with_explicit_state() -> None:
    torch.manual_seed(0)
    head = nn.Sequential(nn.Flatten(), nn.Linear(144, 5))
    sj = nn.Sequential(layer.Conv2d(1, 4, 3), neuron.LIFNode(2.0), head, neuron.IFNode())
    x = 20.0 * torch.rand(3, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mine = unroll(sj, x)
        again = unroll(sj, x)
        functional.reset_net(sj)
        theirs = torch.stack([sj(x[:, t]) for t in range(6)], 1)
    assert torch.equal(mine, again)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert 0.005 < float(mine.mean()) < 0.9
    functional.set_step_mode(sj, "m")
    with pytest.raises(ValueError, match="set_step_mode"):
        step(sj, x[:, 0])


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
    return Stack(
        nn.Linear(20, 32), nn.BatchNorm1d(32), Spiking(), nn.Dropout(0.2), nn.Linear(32, 3), Spiking()
    )


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
    train(
        net, (x, data.train_y), method=SLTT(STEPS), epochs=EPOCHS, batch=BATCH, optimizer=adam(LEARNING_RATE)
    )
    assert evaluate(net, test, data.test_y) >= 0.95
    counts = predict(net, test)
    assert 0.005 < float(counts.mean()) / STEPS < 0.9
    assert torch.equal(counts, counts.round())


def test_digits_are_real_and_split_by_class() -> None:
    data, again = digits(), digits()
    assert len(data.train_y) + len(data.test_y) == 1797
    assert data.train_x.shape[1:] == (1, 8, 8)
    assert data.train_x.max() == 1.0
    assert data.train_x.min() == 0.0
    np.testing.assert_array_equal(data.test_x, again.test_x)
    share = np.bincount(data.test_y) / (np.bincount(data.test_y) + np.bincount(data.train_y))
    assert np.abs(share - 0.2).max() < 0.005
    joined = np.concatenate([data.train_x, data.test_x]).reshape(1797, -1)
    from sklearn.datasets import load_digits

    assert sorted(map(bytes, joined)) == sorted(map(bytes, (load_digits().data / 16.0).astype(np.float32)))
    with pytest.raises(ValueError, match="test_share"):
        stratified(data.test_x, data.test_y, test_share=1.0, seed=0)


def test_xor_is_the_truth_table() -> None:
    x, y = xor(8)
    assert x.sum(1).tolist() == [[0, 0], [0, 8], [8, 0], [8, 8]]
    assert y.tolist() == [0, 1, 1, 0]
    with pytest.raises(ValueError, match="low must be below high"):
        xor(8, high=0.2, low=0.5)


def test_rate_code_is_evenly_spaced() -> None:
    assert encode.rate([0.0, 0.25, 0.5, 0.75, 1.0], 8).tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0, 1],
        [0, 1, 0, 1, 0, 1, 0, 1],
        [0, 1, 1, 1, 0, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1],
    ]
    for t in (1, 7, 10, 49, 100):
        x = np.arange(t + 1) / t
        np.testing.assert_array_equal(encode.rate(x, t).sum(1), np.arange(t + 1))


def test_other_codes() -> None:
    x = np.random.default_rng(0).random((4, 3, 50))
    drawn = encode.bernoulli(x, 400, seed=5)
    np.testing.assert_array_equal(drawn, encode.bernoulli(x, 400, seed=5))
    assert drawn.shape == (4, 400, 3, 50)
    assert np.abs(drawn.mean(1) - x).max() < 5 * math.sqrt(0.25 / 400)
    assert encode.latency([1.0, 0.5, 0.001, 0.0], 5).tolist() == [
        [1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0],
    ]
    np.testing.assert_array_equal(encode.direct(x, 3)[:, 2], x.astype(np.float32))


@pytest.mark.parametrize("bad", [[1.5], [-0.1], [math.nan]])
def test_encoders_refuse_what_is_no_rate(bad: list[float]) -> None:
    for code in (encode.rate, encode.latency, lambda x, t: encode.bernoulli(x, t, seed=0)):
        with pytest.raises(ValueError, match=r"encode\.\w+: x must be"):
            code(bad, 4)
        with pytest.raises(ValueError, match="T must be at least 1"):
            code([0.5], 0)
