"""Optimizers against torch's own: SGD-SaI spelled out and as SGD on scaled tensors, groups that do not decay."""

from __future__ import annotations

import io
import math
from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from neuro import encode
from neuro.data.digits import digits
from neuro.data.split import stratified
from neuro.methods.sltt import SLTT
from neuro.models.digits import STEPS, digits_net
from neuro.modules import LearnedSpiking, Spiking, Stack
from neuro.optim import SGDSaI, adam, adamw, grouped, gsnr, parameter_groups, sgd, sgd_sai
from neuro.train import EarlyStop, constant, evaluate, train


def quadratic(seed: int = 0) -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(seed)
    return nn.Linear(7, 5).double(), torch.randn(40, 7).double(), torch.randn(40, 5).double()


def descend(net: nn.Module, optim: torch.optim.Optimizer, x: Tensor, y: Tensor, n: int) -> None:
    for _ in range(n):
        optim.zero_grad()
        nn.functional.mse_loss(net(x), y).backward()
        optim.step()


@pytest.mark.parametrize("shape", [(2,), (17,), (8, 9), (4, 3, 3, 3)])
def test_gsnr_is_what_its_closed_form_says(shape: tuple[int, ...]) -> None:
    g = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double() + 0.3
    n = g.numel()
    expected = (n - 1) + n * float(g.mean() / g.std()) ** 2
    assert gsnr(g) ** 2 == pytest.approx(expected, rel=1e-6)


def test_gsnr_is_1_where_there_is_no_spread() -> None:
    assert gsnr(torch.tensor(0.017)) == 1.0
    assert gsnr(torch.tensor([0.017])) == 1.0
    assert gsnr(torch.full((50,), 0.1)) == 1.0
    assert 0.017 / 1e-8 > 1e6  # what the formula alone would multiply the step by


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_steps_are_torch_sgd_with_a_rate_for_each_tensor(momentum: float) -> None:
    """With dampening mu torch's SGD has the same momentum; its decay is coupled, so it is done by hand."""
    net, x, y = quadratic()
    reference, _, _ = quadratic()
    nn.functional.mse_loss(reference(x), y).backward()
    scales = [
        math.sqrt((p.numel() - 1) + p.numel() * float(p.grad.mean() / p.grad.std()) ** 2) for p in params(reference)
    ]
    lr, decay = 1e-3, 0.1
    groups = [{"params": [p], "lr": lr * s} for p, s in zip(params(reference), scales, strict=True)]
    theirs = torch.optim.SGD(groups, lr=lr, momentum=momentum, dampening=momentum)
    for _ in range(20):
        reference.zero_grad()
        nn.functional.mse_loss(reference(x), y).backward()
        with torch.no_grad():
            for p in params(reference):
                p *= 1.0 - lr * decay
        theirs.step()
    mine = SGDSaI(net.parameters(), lr=lr, momentum=momentum, weight_decay=decay)
    descend(net, mine, x, y, 20)
    for p, q in zip(params(net), params(reference), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-9)


def params(net: nn.Module) -> list[Any]:
    return list(net.parameters())


def test_gsnr_stays_and_state_is_half_of_adams() -> None:
    net, x, y = quadratic()
    mine, theirs = SGDSaI(net.parameters()), torch.optim.AdamW(net.parameters())
    descend(net, mine, x, y, 1)
    first = [mine.state[p]["gsnr"] for p in net.parameters()]
    descend(net, mine, x, y, 10)
    assert [mine.state[p]["gsnr"] for p in net.parameters()] == first
    descend(net, theirs, x, y, 1)

    def held(optim: torch.optim.Optimizer) -> int:
        tensors = [v for s in optim.state.values() for v in s.values() if isinstance(v, Tensor) and v.ndim]
        return sum(t.numel() * t.element_size() for t in tensors)

    assert held(mine) * 2 == held(theirs) > 0
    bare = SGDSaI(net.parameters(), momentum=0.0)
    descend(net, bare, x, y, 2)
    assert held(bare) == 0


def test_silent_tensor_is_scaled_once_it_speaks() -> None:
    p = nn.Parameter(torch.ones(3))
    optim = SGDSaI([p], lr=0.1, momentum=0.0, weight_decay=0.0)
    p.grad = torch.zeros(3)
    optim.step()
    assert torch.equal(p.detach(), torch.ones(3))
    p.grad = torch.tensor([1.0, 2.0, 3.0])
    optim.step()
    scale = math.sqrt(14.0) / 1.0  # norm / std of 1, 2, 3
    torch.testing.assert_close(p.detach(), 1.0 - 0.1 * scale * torch.tensor([1.0, 2.0, 3.0]))


def test_state_goes_through_a_file() -> None:
    net, x, y = quadratic()
    other, _, _ = quadratic()
    mine = SGDSaI(net.parameters(), lr=1e-3)
    descend(net, mine, x, y, 3)
    file = io.BytesIO()
    torch.save(mine.state_dict(), file)
    file.seek(0)
    other.load_state_dict(net.state_dict())
    again = SGDSaI(other.parameters(), lr=5.0)
    again.load_state_dict(torch.load(file, weights_only=True))
    descend(net, mine, x, y, 3)
    descend(other, again, x, y, 3)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), other.parameters(), strict=True))


def test_bad_settings_are_refused() -> None:
    p = nn.Parameter(torch.ones(3, 2))
    for bad in ({"lr": -1.0}, {"momentum": 1.0}, {"weight_decay": -0.1}, {"eps": 0.0}):
        with pytest.raises(ValueError, match="SGDSaI"):
            SGDSaI([p], **bad)
    p.grad = torch.ones(3, 2).to_sparse()
    with pytest.raises(ValueError, match="sparse"):
        SGDSaI([p]).step()


class Delayed(nn.Module):
    """A layer with trainable positions, as delay layers have."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.position = nn.Parameter(torch.ones(4, 3)), nn.Parameter(torch.ones(4, 3))


def test_only_weights_decay() -> None:
    torch.manual_seed(0)
    net = Stack(
        OrderedDict(
            conv=nn.Conv2d(1, 4, 3),
            norm=nn.BatchNorm2d(4),
            lif=LearnedSpiking(),
            fc=parametrizations.weight_norm(nn.Linear(9, 4)),
            delays=Delayed(),
            frozen=nn.Linear(2, 2).requires_grad_(False),
        )
    )
    groups = {g["name"]: g for g in parameter_groups(net, weight_decay=0.3, own={"position": {"lr": 0.1}})}
    names = {id(p): n for n, p in net.named_parameters()}
    of = {k: sorted(names[id(p)] for p in g["params"]) for k, g in groups.items()}
    assert of["position"] == ["delays.position"]
    assert "conv.weight" in of["decayed"]
    assert "delays.weight" in of["decayed"]
    assert {"conv.bias", "norm.weight", "norm.bias", "lif.leak", "lif.threshold", "fc.bias"} <= set(of["undecayed"])
    assert sum(map(len, of.values())) == sum(p.requires_grad for p in net.parameters())
    assert groups["position"]["lr"] == 0.1

    optim = grouped(adamw(0.1), net, weight_decay=0.3, own={"position": {"lr": 0.1}})(net.parameters())
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optim.step()
    for name, p in net.named_parameters():
        expected = before[name] * (1.0 - 0.1 * 0.3) if name in of["decayed"] else before[name]
        torch.testing.assert_close(p.detach(), expected)
    with pytest.raises(ValueError, match="nowhere"):
        parameter_groups(net, weight_decay=0.1, own={"nowhere": {}})
    with pytest.raises(ValueError, match="not the one"):
        grouped(adam(), net, weight_decay=0.1)(nn.Linear(2, 2).parameters())


def test_own_groups_follow_their_own_schedule() -> None:
    net = Stack(nn.Linear(6, 3), Spiking())
    x, y = torch.rand(8, 2, 6), torch.zeros(8, dtype=torch.long)
    rates: list[dict[str, float]] = []
    made: list[torch.optim.Optimizer] = []

    def make(parameters: Any) -> torch.optim.Optimizer:
        made.append(grouped(sgd(0.5), net, weight_decay=0.0)(parameters))
        return made[0]

    def tell(*_: Any) -> None:
        rates.append({g["name"]: g["lr"] for g in made[0].param_groups})

    schedule = {"decayed": lambda k, n: 1.0 - k / n, "undecayed": constant}
    train(net, (x, y), method=SLTT(), epochs=2, optimizer=make, schedule=schedule, progress=tell)
    assert rates == [{"decayed": 0.5, "undecayed": 0.5}, {"decayed": 0.25, "undecayed": 0.5}]
    with pytest.raises(ValueError, match="undecayed"):
        train(net, (x, y), method=SLTT(), epochs=1, optimizer=make, schedule={"decayed": constant})


@pytest.mark.slow
def test_digits_as_with_adamw_at_an_equal_budget() -> None:
    """Three rates each, chosen on validation data; then the test set, which neither has seen."""
    data = digits()
    part = stratified(data.train_x, data.train_y, test_share=0.2, seed=1)
    given = encode.rate(part.train_x, STEPS), part.train_y
    valid = encode.rate(part.test_x, STEPS), part.test_y
    test = encode.rate(data.test_x, STEPS), data.test_y

    def best(rules: list[Any]) -> float:
        found = []
        for rule in rules:
            net = digits_net(seed=0)
            done = train(
                net, given, method=SLTT(STEPS), epochs=5, batch=32, optimizer=rule, valid=valid, stop=EarlyStop()
            )
            found.append((max(done.valid), evaluate(net, *test)))
        return max(found)[1]

    adamws = best([adamw(lr, 1e-2) for lr in (1e-3, 4e-3, 1.6e-2)])
    sais = best([sgd_sai(lr, weight_decay=1e-2) for lr in (2.5e-3, 1e-2, 4e-2)])
    assert adamws > 0.93
    assert sais >= adamws - 0.02
