"""SLTT and BPTT gradients against a spelled-out unroll and against SpikingJelly; memory over time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from neuro.methods.bptt import BPTT
from neuro.methods.sltt import SLTT, chunk_within, runs
from neuro.modules import Spiking, Stack, step, steps, unroll
from neuro.neuron import Decay, Law, NoLeak, Rate, Tau
from neuro.surrogate import Triangle
from neuro.train import ce_mse, spike_mse

T, SIZES = 12, (40, 64, 48, 10)


def fully_connected(law: Law, seed: int = 0) -> Stack:
    """40-64-48-10, float64, no neuron on the last layer."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in pairwise(SIZES):
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
    """The method spelled out: full unroll, u = lam v.detach() + W s, autograd on the whole."""
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
    """v is detached, so the reset reaches nothing: a detached reset changes no gradient (Meng et al.)."""
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
    """tau 1.0526, 1.1, 1.25, 2, 10; the last layer has no temporal route and agrees."""
    x, y = sample()
    cosines = []
    for tau in (1.0526, 1.1, 1.25, 2.0, 10.0):
        net = fully_connected(leaky(1.0 - 1.0 / tau))
        a, b = gradients(net, SLTT(4), x, y), gradients(net, BPTT(), x, y)
        cosines.append(float(torch.cosine_similarity(a[0].flatten(), b[0].flatten(), dim=0)))
        assert furthest(a[-2:], b[-2:]) <= 1e-15
    assert cosines[1] > 0.99
    assert all(p > q for p, q in pairwise(cosines))
    assert cosines[-1] < 0.97


def test_bptt_gradient_is_spikingjellys() -> None:
    """The same network out of SpikingJelly's own modules and loop, reset attached, hard reset."""
    mine = fully_connected(Law(Tau(2.0)))
    sj = nn.Sequential(
        *(
            neuron.LIFNode(2.0, surrogate_function=surrogate.PiecewiseQuadratic(1.0)) if isinstance(m, Spiking) else m
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
    """Input silent after the first step, only the last step judged: SLTT is blind, BPTT is not."""
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


def learned_from(monkeypatch: pytest.MonkeyPatch, chosen: tuple[int, ...], t: int) -> None:
    """Let the next draw of SLTT-K be ``chosen``."""
    rest = [k for k in range(t) if k not in chosen]
    monkeypatch.setattr(torch, "randperm", lambda _: torch.tensor([*chosen, *rest]))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_sltt_k_in_expectation(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over all subsets of K of 5 steps: the mean gradient is K/T of SLTT's (weight 1/T), or SLTT's (weight 1/K)."""
    t = 5
    net, (x, y) = fully_connected(leaky(0.5)), sample(t=t)
    whole = gradients(net, SLTT(), x, y)
    for scale, share in (("T", k / t), ("K", 1.0)):
        each = []
        for chosen in combinations(range(t), k):
            learned_from(monkeypatch, chosen, t)
            each.append(gradients(net, SLTT(2, k, scale), x, y))  # type: ignore[arg-type]
        mean = [torch.stack(g).mean(0) for g in zip(*each, strict=True)]
        assert furthest(mean, [share * g for g in whole]) <= 2e-17 * len(each) * 10
        assert furthest(each[0], each[-1]) > 1e-4


def test_sltt_k_runs_backward_k_times(monkeypatch: pytest.MonkeyPatch) -> None:
    net, (x, y) = fully_connected(leaky(0.5)), sample()
    calls = []
    real = torch.autograd.backward
    monkeypatch.setattr(torch.autograd, "backward", lambda v: (calls.append(1), real(v))[1])
    for k in (0, 1, 5, T):
        calls.clear()
        net.zero_grad()
        torch.manual_seed(k)
        SLTT(1, k)(net, ce_mse, x, y)
        assert len(calls) == k
        assert all((p.grad is None) == (k == 0) for p in net.parameters())
    assert furthest(gradients(net, SLTT(3, T), x, y), gradients(net, SLTT(3), x, y)) == 0.0


def test_sltt_k_leaves_the_forward_pass_alone() -> None:
    """Logits, loss and running statistics are those of SLTT: the steps without a graph run in training mode too."""
    found = []
    for k in (None, 3):
        torch.manual_seed(0)
        net = Stack(nn.Linear(40, 10), nn.BatchNorm1d(10), Spiking(leaky(0.5), Triangle()), nn.Linear(10, 10)).double()
        value, summed = SLTT(1, k)(net, ce_mse, *sample())
        found.append([value, summed, *net.buffers()])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)


def test_sltt_k_draws_without_replacement_and_anew() -> None:
    """Each step is drawn equally often: 2000 draws of 4 of 12, within 5 standard deviations of the mean."""
    seen = torch.zeros(T)
    net = Stack(nn.Linear(1, 1, bias=False)).double()
    x, y = torch.eye(T, dtype=torch.float64)[None, :, :, None], torch.zeros(1)
    for draw in range(2000):
        torch.manual_seed(draw)
        drawn: list[int] = []

        def loss(out: Tensor, _: Tensor, drawn: list[int] = drawn) -> Tensor:
            if out.requires_grad:
                drawn.append(1)
            return out.sum()

        steps_seen = torch.randperm(T)[:4]
        torch.manual_seed(draw)
        SLTT(1, 4)(net, loss, x[:, :, :1], y)
        assert len(drawn) == 4
        seen[steps_seen] += 1
    assert float((seen - 2000 / 3).abs().max()) < 5 * (2000 / 3 * 2 / 3) ** 0.5


def test_runs_of_steps() -> None:
    assert list(runs([True] * 5, 2)) == [(0, 2), (2, 4), (4, 5)]
    assert list(runs([True, False, False, False, True], 2)) == [(0, 1), (1, 3), (3, 4), (4, 5)]
    assert list(runs([], 2)) == []


def test_sltt_k_refusals() -> None:
    with pytest.raises(ValueError, match=r"SLTT\.k: 13 of 12 steps cannot be drawn"):
        SLTT(1, 13)(fully_connected(leaky(0.5)), ce_mse, *sample())
    with pytest.raises(ValueError, match=r"SLTT\.k: must be at least 0"):
        SLTT(1, -1)
    with pytest.raises(ValueError, match="loss_scale: must be 'T' or 'K'"):
        SLTT(1, 1, "k")  # type: ignore[arg-type]


def test_sltt_gradient_is_spikingjellys() -> None:
    """A convolutional net with BatchNorm against ``SLTTLIFNode``, the paper's arguments given, in float64."""
    law = Law(Tau(1.1, decay_input=False), reset="subtract")
    torch.manual_seed(0)
    body = [nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), Spiking(law, Triangle()), nn.AvgPool2d(2)]
    mine = Stack(*body, nn.Flatten(), nn.Linear(96, 48), Spiking(law, Triangle()), nn.Linear(48, 4)).double()
    torch.manual_seed(0)
    node: Callable[[], nn.Module] = lambda: neuron.SLTTLIFNode(  # noqa: E731
        tau=1.1, decay_input=False, v_reset=None, surrogate_function=Triangle().of(law)
    )
    theirs = nn.Sequential(*(node() if isinstance(m, Spiking) else m for m in mine))
    g = torch.Generator().manual_seed(1)
    x, y = 3.0 * torch.rand(5, T, 2, 8, 8, generator=g, dtype=torch.float64), torch.arange(5) % 4
    found = gradients(mine, SLTT(5), x, y)
    theirs.zero_grad()
    functional.reset_net(theirs)
    for t in range(T):
        (ce_mse(theirs(x[:, t]), y) / T).backward()
    assert furthest(found, [p.grad for p in theirs.parameters() if p.grad is not None]) <= 1e-15
    assert max(float(p.abs().max()) for p in found) > 1e-3


def test_a_chunk_that_fits_a_budget() -> None:
    """700-256-20 at batch 8 saves the input and, of 256 neurons, h and spikes: 4 (700 + 2 x 256) 8 bytes a step."""
    net = Stack(nn.Linear(700, 256), Spiking(leaky(0.5), Triangle()), nn.Linear(256, 20))
    x = torch.rand(8, 6, 700)
    a_step = 8 * 4 * (700 + 2 * 256)
    assert chunk_within(net, x, 3 * a_step) == 3
    assert chunk_within(net, x, 3 * a_step - 1) == 2
    assert chunk_within(net, x, 1) == 1
