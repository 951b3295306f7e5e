"""Learned delays: the authors' formulation by conv1d and autograd, delay lines in plain loops, closed forms."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neuro import delay_kernels
from neuro.delay_kernels import Gauss, Kernel, Tent, build, delayed
from neuro.delays import Annealing, Constant, DelayLinear, Sharing, Tail, delay_layers, horizon, rounded
from neuro.modules import Spiking, Stack, step, steps
from neuro.neuron import Law

SHAPES = [
    (3, 20, 7, 5, 5, 0),
    (16, 40, 33, 70, 9, 0),
    (2, 30, 13, 20, 25, 24),
    (1, 8, 4, 100, 11, 3),
    (2, 3, 5, 2, 9, 1),
]
"""Samples, steps, inputs, outputs, taps, steps of the past."""


def by_the_library(x: Tensor, w: Tensor, p: Tensor, spread: float, kind: str, taps: int, eps: float = 0.0) -> Tensor:
    """DCLS's layer as published: a kernel over time of every synapse, cross-correlation of the padded input.

    ``x (N, n_in, T) -> (N, n_out, T + (taps - 1) / 2)``.
    """
    h = taps // 2
    off = torch.arange(taps, dtype=x.dtype) - (p + h)[:, :, None]
    if kind == "gauss":
        g = torch.exp(-0.5 * (off / (abs(spread) + 0.27)) ** 2)
    else:
        g = torch.relu(abs(spread) + 1.0 - off.abs())
    k = w[:, :, None] * g / (g.sum(-1, keepdim=True) + eps)
    return nn.functional.conv1d(nn.functional.pad(x, (taps - 1, h)), k)


def by_loops(x: np.ndarray, w: np.ndarray, d: np.ndarray) -> np.ndarray:
    """``y[t, n, o] = sum_i w[o, i] x[t - d[o, i], n, i]``, one delay line a synapse."""
    y = np.zeros((len(x), x.shape[1], len(w)))
    for o, i in np.ndindex(*w.shape):
        line = np.zeros(x.shape[:2])
        line[d[o, i] :] = x[: len(x) - d[o, i], :, i]
        y[:, :, o] += w[o, i] * line
    return y


def events(*shape: int, density: float = 0.2, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=g, dtype=dtype) * (torch.rand(shape, generator=g) < density)).to(dtype)


def parameters(n_out: int, n_in: int, taps: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1)
    w = torch.randn(n_out, n_in, generator=g, dtype=dtype)
    p = (torch.rand(n_out, n_in, generator=g, dtype=dtype) * 2.0 - 1.0) * (taps // 2)
    p[0, 0], p[-1, -1] = taps // 2, -(taps // 2)  # both borders
    return w.requires_grad_(), p.requires_grad_()


def largest(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    assert bool(torch.isfinite(a).all())
    return float((a - b).detach().abs().max() / b.detach().abs().max())


@pytest.mark.parametrize("path", ["compiled", "torch"])
@pytest.mark.parametrize(("spread", "kernel"), [(6.0, Gauss()), (0.23, Gauss()), (0.7, Tent()), (3.0, Tent())])
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients_are_the_librarys(
    path: str, spread: float, kernel: Kernel, shape: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if path == "torch":
        monkeypatch.setattr(delay_kernels, "_native", lambda dtype: None)  # noqa: ARG005
    elif delay_kernels._native(torch.float64) is None:
        pytest.skip("no C compiler: the compiled delay kernels are not tested")
    n, t, n_in, n_out, taps, past = shape
    w, p = parameters(n_out, n_in, taps)
    for density in (0.1, 1.0):
        x = events(past + t, n, n_in, density=density).requires_grad_()
        y = delayed(x, w, p, spread, kernel, taps, past)
        kind = "gauss" if isinstance(kernel, Gauss) else "max"
        whole = by_the_library(x.permute(1, 2, 0), w, p, spread, kind, taps)
        theirs = whole.permute(2, 0, 1)[past : past + t]
        assert largest(y, theirs) <= 1e-14
        weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
        mine = torch.autograd.grad((y * weights).sum(), (x, w, p))
        for a, b in zip(mine, torch.autograd.grad((theirs * weights).sum(), (x, w, p)), strict=True):
            assert largest(a, b) <= 1e-10


def test_single_precision_follows_double() -> None:
    w, p = parameters(70, 33, 25)
    x = events(60, 4, 33).requires_grad_()
    for spread in (12.0, 1.0, 0.23):
        exact = delayed(x, w, p, spread, Gauss(), 25)
        rough = delayed(x.float(), w.float(), p.float(), spread, Gauss(), 25)
        assert rough.dtype == torch.float32
        assert largest(rough.double(), exact) <= 3e-6
        gradients = torch.autograd.grad(exact.square().sum(), (x, w, p))
        for a, b in zip(torch.autograd.grad(rough.square().sum(), (x, w, p)), gradients, strict=True):
            assert largest(a, b) <= 3e-5


def test_gradient_of_the_position_by_formula_and_by_differences() -> None:
    """dk/dw = ghat; dk/dp = w ghat (m - d) / size^2 with m the truncated mean, borders included."""
    taps, h, spread = 25, 12, 0.6
    w, p = parameters(6, 5, taps)
    g = torch.exp(-0.5 * ((torch.arange(taps)[:, None, None] - (h - p.detach())) / (spread + 0.27)) ** 2)
    ghat = g / g.sum(0)
    m = (torch.arange(taps)[:, None, None] * ghat).sum(0)
    c = torch.randn(5, taps, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = c.permute(1, 2, 0)
    expected_w = (seen * ghat).sum(0)
    slope = (m - torch.arange(taps)[:, None, None]) / (spread + 0.27) ** 2
    expected_p = (seen * w.detach() * ghat * slope).sum(0)

    def value(weight: Tensor, position: Tensor) -> Tensor:
        """An impulse at every input in a sample of its own reads the kernel out."""
        x = torch.zeros(taps, 5, 5, dtype=torch.float64)
        x[0] = torch.eye(5, dtype=torch.float64)
        return (delayed(x, weight, position, spread, Gauss(), taps) * c.permute(1, 0, 2)).sum()

    dw, dp = torch.autograd.grad(value(w, p), (w, p))
    assert float((dw - expected_w).abs().max()) <= 1e-12
    assert float((dp - expected_p).abs().max()) <= 1e-10
    inside = p.detach().clone()
    for o, i in ((0, 0), (2, 3), (5, 4)):
        more, less = inside.clone(), inside.clone()
        more[o, i] += 1e-5
        less[o, i] -= 1e-5
        numeric = float(value(w.detach(), more) - value(w.detach(), less)) / 2e-5
        assert abs(numeric - float(dp[o, i])) <= 1e-6


@pytest.mark.parametrize("spread", [12.0, 5.0, 1.0, 0.23, 0.0])
@pytest.mark.parametrize("kernel", [Gauss(), Tent()])
def test_mass_of_a_kernel_is_its_weight(spread: float, kernel: Kernel) -> None:
    w, p = parameters(6, 5, 25)
    k = build(w, p, spread, kernel, 25)
    assert float((k.sum(1) - w.t()).detach().abs().max()) <= 1e-14


def test_middle_tap_of_the_last_annealed_bump() -> None:
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    k = build(one, zero, 0.23, Gauss(), 25)[0, :, 0]
    assert abs(float(k[12]) - 0.78657) <= 1e-5
    assert abs(float(build(one, zero, 12.0, Gauss(), 25)[0, 12, 0]) - 0.0470) <= 1e-4


@pytest.mark.parametrize("sharing", ["synapse", "axon", "dendrite"])
def test_rounded_layer_is_delay_lines(sharing: Sharing) -> None:
    torch.manual_seed(0)
    layer = DelayLinear(9, 12, 25, bias=True, delay_sharing=sharing)
    with torch.no_grad():
        layer.weight[3, 4] = 0.0
        assert layer.bias is not None
        layer.bias.normal_()
    twin = rounded(layer)
    weight, delays = twin.discrete()
    assert delays.min() >= 0
    assert delays.max() <= 24
    assert np.array_equal(delays, 12 - np.broadcast_to(np.round(layer.position.detach().numpy()), delays.shape))
    k = build(twin.weight, twin.position.expand(12, 9), 0.0, Tent(), 25)
    assert bool(((k != 0).sum(1) == (twin.weight.t() != 0)).all())
    x = events(60, 4, 9, dtype=torch.float32)
    truth = by_loops(x.double().numpy(), weight, delays) + layer.bias.detach().double().numpy()
    with torch.no_grad():
        replayed = steps(twin, x)[0].double().numpy()
        assert np.abs(replayed - truth).max() <= 5e-7 * np.abs(truth).max()
    twin.weight.requires_grad_(True)
    trained = steps(twin, x)[0].detach().double().numpy()
    assert np.abs(trained - truth).max() <= 5e-7 * np.abs(truth).max()
    twin.double()
    with torch.no_grad():
        assert np.abs(steps(twin, x.double())[0].numpy() - truth).max() <= 1e-14 * np.abs(truth).max()


def test_replay_sees_a_weight_that_changed() -> None:
    layer = DelayLinear(3, 4, 5).round_()
    x = events(12, 2, 3, dtype=torch.float32)
    with torch.no_grad():
        before = steps(layer, x)[0]
        layer.weight.mul_(2.0)
        torch.testing.assert_close(steps(layer, x)[0], 2.0 * before, rtol=1e-6, atol=1e-7)
        layer.weight.data *= 2.0  # past the version counter
        torch.testing.assert_close(steps(layer, x)[0], 4.0 * before, rtol=1e-6, atol=1e-7)
        layer.load_state_dict(DelayLinear(3, 4, 5).round_().state_dict())
        weight, delays = layer.discrete()
        truth = torch.from_numpy(by_loops(x.numpy(), weight, delays)).float()
        torch.testing.assert_close(steps(layer, x)[0], truth, rtol=1e-6, atol=1e-6)


def test_impulse_arrives_after_its_delay() -> None:
    torch.manual_seed(0)
    layer = rounded(DelayLinear(4, 6, 9))
    weight, delays = layer.discrete()
    for i in range(4):
        x = torch.zeros(20, 1, 4)
        x[5, 0, i] = 1.0
        y = steps(layer, x)[0].detach().numpy()[:, 0]
        assert [tuple(np.flatnonzero(y[:, o])) for o in range(6)] == [(5 + d,) for d in delays[:, i]]
        assert np.array_equal(y[5 + delays[:, i], np.arange(6)], weight[:, i])


def test_output_depends_on_the_window_of_delays_alone() -> None:
    torch.manual_seed(0)
    layer, t, taps = DelayLinear(3, 5, 9).double(), 14, 9
    x = events(30, 2, 3, density=1.0).requires_grad_()
    (reach,) = torch.autograd.grad(steps(layer, x)[0][t].square().sum(), x)
    seen = reach.abs().sum((1, 2)) > 0
    assert seen.nonzero().flatten().tolist() == list(range(t - taps + 1, t + 1))


@pytest.mark.parametrize("make", [lambda d: d, rounded])
def test_steps_is_step_after_step(make: Any) -> None:
    """Whole, in pieces, one at a time; gradients through the pieces too."""
    torch.manual_seed(0)
    layer = make(DelayLinear(5, 4, 9).double())
    x = events(23, 3, 5).requires_grad_()
    whole, end = steps(layer, x)
    singly: list[Tensor] = []
    state: Any = None
    for now in x:
        y, state = step(layer, now, state)
        singly.append(y)
    assert largest(torch.stack(singly), whole) <= 1e-14
    assert torch.equal(end, state[-8:])
    a, state = steps(layer, x[:3])
    b, state = steps(layer, x[3:4], state)
    c, _ = steps(layer, x[4:], state)
    pieces = torch.cat([a, b, c])
    assert largest(pieces, whole) <= 1e-14
    wanted = (x, layer.weight)
    for p, q in zip(
        torch.autograd.grad(pieces.square().sum(), wanted),
        torch.autograd.grad(whole.square().sum(), wanted),
        strict=True,
    ):
        assert largest(p, q) <= 1e-12
    assert not steps(layer, x, detached=True)[1].requires_grad


@pytest.mark.parametrize("sharing", ["axon", "dendrite"])
def test_shared_delay_collects_the_gradient_of_its_synapses(sharing: Sharing) -> None:
    torch.manual_seed(0)
    shared = DelayLinear(5, 4, 9, delay_sharing=sharing).double()
    each = DelayLinear(5, 4, 9).double()
    with torch.no_grad():
        each.weight.copy_(shared.weight)
        each.position.copy_(shared.position.expand(4, 5))
    x = events(30, 2, 5)
    for layer in (shared, each):
        torch.autograd.backward(steps(layer, x)[0].square().sum())
    assert each.position.grad is not None
    assert shared.position.grad is not None
    axis = 0 if sharing == "axon" else 1
    assert largest(shared.position.grad, each.position.grad.sum(axis, keepdim=True)) <= 1e-12


def test_annealing_multiplies_once_an_epoch() -> None:
    """S0 alpha^min(e + 1, E1), alpha = (0.23 / S0)^(1 / E1): the published three, then constant."""
    for taps, epochs, last, alpha in ((25, 150, 37, 0.898633), (31, 60, 15, 0.756907), (31, 100, 25, 0.846107)):
        layer = DelayLinear(2, 2, taps)
        s = [float(layer.spread)]
        for done in range(1, epochs + 1):
            layer.after_epoch(done, epochs)
            s.append(float(layer.spread))
        assert s[0] == taps // 2
        ratios = [b / a for a, b in pairwise(s)]
        assert sum(r != 1.0 for r in ratios) == last
        assert ratios[:last] == pytest.approx([alpha] * last, abs=1e-6)
        assert abs(s[-1] - 0.23) <= 1e-9
    fixed = DelayLinear(2, 2, 25, schedule=Constant())
    fixed.after_epoch(3, 10)
    assert float(fixed.spread) == 0.23


def test_tails_lengthen_a_sequence_layer_by_layer() -> None:
    h = 4
    net = Stack(*(m for _ in range(3) for m in (Tail(h), DelayLinear(3, 3, 2 * h + 1), Spiking(Law()))))
    x = events(17, 2, 3, dtype=torch.float32)
    y, state = steps(net, x)
    assert len(y) == horizon(net, 17) == 17 + 3 * h
    (first, *_) = delay_layers(net)
    theirs = by_the_library(x.permute(1, 2, 0), first.weight, first.position, 4.0, "gauss", 9)
    assert largest(steps(net[:2], x)[0].permute(1, 2, 0), theirs) <= 1e-6
    now, _ = step(net[0], x[0])
    assert torch.equal(now, x[0])
    with pytest.raises(ValueError, match="whole sequence"):
        steps(net, x, state)


def test_rounded_copy_leaves_the_original_alone() -> None:
    torch.manual_seed(0)
    net = Stack(Tail(4), DelayLinear(3, 3, 9), Spiking(Law()))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    twin = rounded(net)
    (layer,), (other,) = delay_layers(net), delay_layers(twin)
    with torch.no_grad():
        steps(twin, events(17, 2, 3, dtype=torch.float32))
        other.weight.zero_()
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in before.items())
    assert isinstance(layer.kernel, Gauss)
    assert isinstance(layer.schedule, Annealing)
    assert layer.position.requires_grad
    assert not other.position.requires_grad
    assert other.is_discrete()
    assert not layer.is_discrete()


def test_positions_begin_and_stay_in_range() -> None:
    torch.manual_seed(0)
    layer = DelayLinear(200, 200, 25)
    d = layer.delays()
    share = [float((d == k).mean()) for k in (0, 12, 24)]
    # U(-13, 12) clamped and rounded: half a tap at delay 0, one in the middle, one and a half at 24, of 25
    assert share == pytest.approx([0.5 / 25, 1.0 / 25, 1.5 / 25], abs=0.004)
    assert abs(float(layer.weight.detach().abs().max()) - math.sqrt(6.0 / 200)) < 1e-3
    with torch.no_grad():
        layer.position.add_(20.0 * torch.randn_like(layer.position))
    layer.after_step()
    assert float(layer.position.detach().abs().max()) == 12.0


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: DelayLinear(2, 2, 24), "must be odd"),
        (lambda: DelayLinear(0, 2), "at least 1"),
        (lambda: DelayLinear(2, 2, delay_sharing="layer"), "synapse, axon, dendrite"),  # type: ignore[arg-type]
        (lambda: Tail(-1), "at least 0"),
        (lambda: Annealing(end=0.0), "end must be > 0"),
        (lambda: steps(DelayLinear(2, 2), torch.zeros(3, 1, 4)), r"must be \(steps, N, 2\)"),
    ],
)
def test_what_cannot_be_is_refused(call: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()
