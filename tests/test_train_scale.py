"""Training at scale against plain torch loops: parts of a batch, clipping, half precision, schedules, early stop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neuro.losses import backward, spike_mse, step_losses
from neuro.methods.bptt import BPTT
from neuro.methods.counts import CountBPTT
from neuro.methods.sltt import SLTT
from neuro.modules import Spiking, Stack, steps
from neuro.neuron import Law, Leaky
from neuro.optim import sgd
from neuro.scale import EarlyStop, Scale
from neuro.schedules import Milestones, OneCycle, WarmUp, constant, cosine
from neuro.surrogate import Triangle
from neuro.train import evaluate, likelihood, train

LAW = Law(Leaky(0.5), reset="subtract")
T, SAMPLES, BATCH, EPOCHS, LR, CLIP = 4, 37, 12, 3, 0.5, 0.05


def net(seed: int = 0) -> Stack:
    torch.manual_seed(seed)
    return Stack(nn.Linear(9, 16), Spiking(LAW, Triangle()), nn.Linear(16, 3)).double()


def data(seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return 2.0 * torch.rand(SAMPLES, T, 9, generator=g).double(), torch.randint(0, 3, (SAMPLES,), generator=g)


def loss(out: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(out, y)


def plain_loop(model: Stack, x: Tensor, y: Tensor, *, detached: bool, clip: float | None = CLIP) -> list[float]:
    """The same training out of torch alone: forward spelled out, torch's optimizer, schedule and clipping."""
    first, _, second = model
    slope = Triangle().of(LAW)
    optim = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optim, EPOCHS)
    curve = []
    for epoch in range(EPOCHS):
        rng = np.random.default_rng([0, epoch])
        rng.integers(2**63)
        total = 0.0
        for pick in torch.split(torch.from_numpy(rng.permutation(len(x))), BATCH):
            optim.zero_grad()
            v = torch.zeros(len(pick), 16, dtype=x.dtype)
            value = torch.zeros((), dtype=x.dtype)
            for t in range(T):
                u = 0.5 * (v.detach() if detached else v) + first(x[pick, t])
                s = slope(u - 1.0)
                v = u - s
                value = value + loss(second(s), y[pick]) / T
            value.backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optim.step()
            total += float(value.detach()) * len(pick)
        rates.step()
        curve.append(total / len(x))
    return curve


def furthest(a: nn.Module, b: nn.Module) -> float:
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return max(float((p - q).detach().abs().max()) for p, q in pairs)


OPTIONS: dict[str, Any] = {"epochs": EPOCHS, "batch": BATCH, "loss": loss, "optimizer": sgd(LR)}


@pytest.mark.parametrize("method", [SLTT(), SLTT(3), BPTT()])
@pytest.mark.parametrize("parts", [1, 3, 5, 50])
def test_parts_and_clipping_are_a_plain_torch_loop(method: Any, parts: int) -> None:
    """12 rows in 5 parts are 3, 3, 2, 2, 2: each counts by its rows; the last batch has one row."""
    mine, reference = net(), net()
    expected = plain_loop(reference, *data(), detached=isinstance(method, SLTT))
    done = train(mine, data(), method=method, scale=Scale(accumulate=parts, clip=CLIP), **OPTIONS)
    np.testing.assert_allclose(done.loss, expected, rtol=0, atol=1e-12)
    assert furthest(mine, reference) < 1e-12
    assert furthest(mine, net()) > 1e-3
    unclipped = net()
    plain_loop(unclipped, *data(), detached=isinstance(method, SLTT), clip=None)
    assert furthest(mine, unclipped) > 1e-3


def test_method_that_runs_backward_itself_takes_parts_too() -> None:
    def own(model: nn.Module, loss: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        out, _ = steps(model, x.transpose(0, 1))
        value = step_losses(loss, out, y) / T + 0.01 * sum(p.square().sum() for p in model.parameters())
        value.backward()
        return value.detach(), out.detach().sum(0)

    a, b = net(), net()
    train(a, data(), method=own, scale=Scale(accumulate=4), **OPTIONS)
    train(b, data(), method=own, **OPTIONS)
    assert furthest(a, b) < 1e-12
    with pytest.raises(ValueError, match=r"neuro\.losses\.backward"):
        train(net().float(), (data()[0].float(), data()[1]), method=own, scale=Scale(amp=torch.float16), **OPTIONS)


class Watched(torch.optim.SGD):
    """Counts its steps and keeps the gradients it got."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gradients: list[list[Tensor]] = []

    def step(self, closure: Any = None) -> Any:
        self.gradients.append([p.grad.clone() for g in self.param_groups for p in g["params"]])
        return super().step(closure)


def one_batch(amp: torch.dtype | None, gain: float, method: Any = None, clip: float | None = None) -> Watched:
    """The gradients of one batch whose loss is multiplied by ``gain``."""
    seen: list[Watched] = []

    def make(parameters: Any) -> Watched:
        seen.append(Watched(parameters, lr=0.1))
        return seen[0]

    x, y = data()
    options = {**OPTIONS, "epochs": 1, "batch": SAMPLES, "optimizer": make}
    options["loss"] = lambda o, y: gain * loss(o, y)
    model = net().float()
    train(model, (x.float(), y), method=method or SLTT(), scale=Scale(amp=amp, clip=clip), **options)
    return seen[0]


@pytest.mark.parametrize(("amp", "rounding"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
@pytest.mark.parametrize("method", [SLTT(), BPTT()])
def test_half_precision_gradients_are_near_float32(amp: torch.dtype, rounding: float, method: Any) -> None:
    (exact,), (half,) = one_batch(None, 1.0, method).gradients, one_batch(amp, 1.0, method).gradients
    for p, q in zip(exact, half, strict=True):
        assert q.dtype == torch.float32
        error = float((p - q).norm() / p.norm())
        assert error < 60 * rounding  # a spike that flips counts for more than the rounding that flipped it
    assert any(not torch.equal(p, q) for p, q in zip(exact, half, strict=True))


def test_float16_does_not_lose_small_gradients() -> None:
    """At 1e-6 of the size they are below the smallest half, 6e-8; the factor brings them through, once a batch."""
    exact, half = one_batch(None, 1e-6), one_batch(torch.float16, 1e-6)
    assert len(half.gradients) == 1
    for p, q in zip(exact.gradients[0], half.gradients[0], strict=True):
        assert float(p.abs().max()) < 1e-6
        assert float((p - q).norm() / p.norm()) < 0.05


def test_clipping_sees_gradients_without_the_factor() -> None:
    for gradients in one_batch(torch.float16, 1.0, clip=CLIP).gradients:
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
        assert norm == pytest.approx(CLIP, rel=1e-4)


def test_overflow_takes_the_factor_down_and_no_step() -> None:
    """65536 times a gradient of this size is beyond the largest half; torch halves the factor until it fits."""
    assert len(one_batch(torch.float16, 1.0).gradients) == 1
    assert len(one_batch(torch.float16, 1e36).gradients) == 0  # the factor overflows float32 too


def test_membrane_is_float32_under_autocast() -> None:
    """0.001 a step for 2000 steps comes to 2 only where the membrane is no bfloat16, which stands still at 0.25."""
    seen: list[torch.dtype] = []

    class Probe(Spiking):
        def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
            y, state = super().forward(x, state)
            seen.append(state[0].dtype)
            return y, state

        def forward_steps(self, x: Tensor, state: Any, detached: bool) -> tuple[Tensor, Any]:
            out = []
            for now in x:
                y, state = self.forward(now, state)
                out.append(y)
            return torch.stack(out), state

    model = Stack(nn.Linear(1, 1), Probe(Law(Leaky(1.0), threshold=1e9)))
    nn.init.constant_(model[0].weight, 1.0)
    nn.init.zeros_(model[0].bias)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        _, state = steps(model, torch.full((2000, 1, 1), 0.001))
    assert set(seen) == {torch.float32}
    assert float(state[1][0]) == pytest.approx(2.0, rel=0.01)


def test_strain_of_counts_is_scaled_too() -> None:
    exact, half = (one_batch(a, 1.0, CountBPTT()) for a in (None, torch.float16))
    for p, q in zip(exact.gradients[0], half.gradients[0], strict=True):
        assert float((p - q).norm() / p.norm()) < 0.05


def test_backward_outside_training_is_torchs() -> None:
    p = torch.ones(3, requires_grad=True)
    backward((2.0 * p).sum())
    assert torch.equal(p.grad, torch.full((3,), 2.0))


def rates_of(scheduler: Any, optim: torch.optim.Optimizer, n: int) -> list[float]:
    out = []
    for _ in range(n):
        out.append(optim.param_groups[0]["lr"])
        optim.step()
        scheduler.step()
    return out


@pytest.mark.parametrize("n", [5, 10, 37, 200])
def test_schedules_are_torchs(n: int) -> None:
    from torch.optim import SGD
    from torch.optim import lr_scheduler as theirs

    def optim() -> SGD:
        return SGD([nn.Parameter(torch.zeros(1))], lr=2.0)

    def same(mine: Any, make: Any) -> None:
        o = optim()
        np.testing.assert_allclose([2.0 * mine(k, n) for k in range(n)], rates_of(make(o), o, n), rtol=1e-9, atol=1e-12)

    same(cosine, lambda o: theirs.CosineAnnealingLR(o, n))
    same(constant, lambda o: theirs.ConstantLR(o, 1.0, n))
    at = (0.45, 0.7, 0.9)
    same(Milestones(at, 0.2), lambda o: theirs.MultiStepLR(o, [int(round(a * n, 6)) for a in at], 0.2))
    same(OneCycle(0.3), lambda o: theirs.OneCycleLR(o, 2.0, total_steps=n, pct_start=0.3, cycle_momentum=False))
    rising = round(0.2 * n)
    same(
        WarmUp(cosine, 0.2, 0.1),
        lambda o: theirs.SequentialLR(
            o, [theirs.LinearLR(o, 0.1, 1.0, rising), theirs.CosineAnnealingLR(o, n - rising)], [rising]
        ),
    )


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Milestones((0.9, 0.5)),
        lambda: Milestones((1.5,)),
        lambda: Milestones(factor=0.0),
        lambda: OneCycle(rise=0.0),
        lambda: WarmUp(share=1.0),
        lambda: Scale(amp=torch.float64),
        lambda: Scale(accumulate=0),
        lambda: Scale(clip=0.0),
        lambda: Scale(checkpoint_s=-1.0),
        lambda: EarlyStop(patience=0),
        lambda: train(net(), data(), method=SLTT(), stop=EarlyStop(2), **OPTIONS),
    ],
)
def test_bad_settings_are_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|needs|give"):
        bad()


def test_rate_moves_within_an_epoch() -> None:
    seen: list[float] = []

    class Noted(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append(self.param_groups[0]["lr"])
            return super().step(closure)

    options = {**OPTIONS, "optimizer": lambda ps: Noted(ps, lr=2.0)}
    done = train(net(), data(), method=SLTT(), schedule=OneCycle(), scale=Scale(rate_per_batch=True), **options)
    n = EPOCHS * -(-SAMPLES // BATCH)
    o = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    np.testing.assert_allclose(seen, rates_of(torch.optim.lr_scheduler.OneCycleLR(o, 2.0, n), o, n), rtol=1e-9)
    assert done.rate[-1] == seen[-1]


def test_early_stop_keeps_the_best_weights() -> None:
    """The scores are dictated, so where it stops and which weights are back is known."""
    scores = iter([0.2, 0.6, 0.5, 0.6, 0.1, 0.9])

    def score(decided: Tensor, _: Tensor) -> Tensor:
        return torch.full((len(decided),), now[0], dtype=torch.float64)

    weights: list[Tensor] = []
    now = [next(scores)]
    model = net()

    def tell(*_: Any) -> None:
        weights.append(model[0].weight.detach().clone())
        now[0] = next(scores)

    options = {**OPTIONS, "epochs": 6}
    stop = EarlyStop(patience=3, score=score)
    done = train(model, data(), method=SLTT(), valid=data(1), stop=stop, progress=tell, **options)
    assert done.valid == pytest.approx([0.2, 0.6, 0.5, 0.6, 0.1])
    assert done.best_epoch == 2
    assert torch.equal(model[0].weight, weights[1])
    assert not torch.equal(model[0].weight, weights[4])
    assert all(math.isnan(a) for a in done.test_accuracy)


def test_valid_and_test_are_told_apart() -> None:
    model = net()
    done = train(model, data(), method=SLTT(), valid=data(1), test=data(2), stop=EarlyStop(score=likelihood), **OPTIONS)
    assert done.best_epoch is not None
    assert evaluate(model, *data(2)) == done.test_accuracy[done.best_epoch - 1]
    with torch.no_grad():
        out = steps(model, data(1)[0].transpose(0, 1))[0].sum(0)
    assert max(done.valid) == pytest.approx(-float(nn.functional.cross_entropy(out, data(1)[1])), rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("method", [SLTT(T), BPTT()])
def test_compiled_training_is_the_plain_one(method: Any) -> None:
    a, b = net(), net()
    left = train(a, data(), method=method, scale=Scale(compile=True), **{**OPTIONS, "batch": SAMPLES})
    right = train(b, data(), method=method, **{**OPTIONS, "batch": SAMPLES})
    np.testing.assert_allclose(left.loss, right.loss, rtol=1e-9)
    assert furthest(a, b) < 1e-9


def test_losses_are_imported_from_where_they_were() -> None:
    import neuro.train

    assert neuro.train.spike_mse is spike_mse
    assert all(hasattr(neuro.train, name) for name in neuro.train.__all__)
