"""The compiled core against the pure law: the same spikes and states to the bit, the same gradients to rounding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from neuro import fused
from neuro.methods.bptt import BPTT
from neuro.methods.sltt import SLTT
from neuro.modules import LearnedSpiking, ParametricSpiking, Spiking, Stack, detach, steps
from neuro.neuron import Charge, Decay, Law, Leaky, NoLeak, Rate, Tau
from neuro.surrogate import ATan, Normalised, Rectangular, Sigmoid, Surrogate, Triangle
from neuro.train import ce_mse

CHARGES = (NoLeak(), Tau(2.3), Tau(1.7, True, 0.1), Tau(1.7, False, 0.1), Rate(0.3), Rate(0.3, False, 0.2), Leaky(0.9),
           Decay(0.4, 0.7))  # fmt: skip
RESETS = (("zero", 0.0), ("zero", 0.25), ("subtract", 0.0))
SLOPES = (ATan(), Sigmoid(), Triangle(), Triangle(0.5), Rectangular(), Normalised(), Normalised(ATan(), 0.7))
TOLERANCE = {torch.float32: 3e-6, torch.float64: 2e-14}
K = 5

pytestmark = pytest.mark.skipif(fused.library() is None, reason="no C compiler: the compiled core is not compared")


def pure(module: nn.Module, x: Tensor, state: Any = None, detached: bool = False) -> tuple[Tensor, Any]:
    """Step after step by ``Law.step`` and torch's own layers."""
    out = []
    for now in x:
        y, state = module(now, state)
        state = detach(state) if detached else state
        out.append(y)
    return torch.stack(out), state


def tensor(seed: int, *shape: int, dtype: torch.dtype = torch.float64, size: float = 1.5) -> Tensor:
    return size * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(a: Tensor, b: Tensor) -> None:
    assert float((a - b).abs().max()) <= TOLERANCE[a.dtype] * float(a.abs().max())
    assert float(a.abs().max()) > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("charge", CHARGES, ids=str)
@pytest.mark.parametrize("reset", RESETS, ids=str)
def test_every_law_and_slope(charge: Charge, reset: Any, dtype: torch.dtype) -> None:
    for fires in (">", ">="):
        law = Law(charge, 0.8, *reset, fires)  # type: ignore[arg-type]
        for detach_reset in (False, True):
            for slope in SLOPES:
                one_law(law, slope, detach_reset, dtype)


def one_law(law: Law, slope: Surrogate, detach_reset: bool, dtype: torch.dtype) -> None:
    x = tensor(0, K, 3, 7, 4, dtype=dtype).requires_grad_()
    start = tuple(tensor(4 + k, 3, 7, 4, dtype=dtype).requires_grad_() for k in range(law.charge.states))
    g, g_state = tensor(1, K, 3, 7, 4, dtype=dtype), tensor(2, 3, 7, 4, dtype=dtype)
    found = []
    for run in (pure, lambda m, x, s: m.forward_steps(x, s, False)):
        x.grad = None
        for s in start:
            s.grad = None
        y, after = run(Spiking(law, slope, detach_reset=detach_reset), x, start)
        (y * g).sum().add(sum((s * g_state).sum() for s in after)).backward()
        found.append(([y, *after], [x.grad, *(s.grad for s in start)]))
    assert 0.05 < float(found[0][0][0].detach().mean()) < 0.95
    assert all(torch.equal(a, b) for a, b in zip(found[0][0], found[1][0], strict=True)), (law, slope)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        close(a, b)


def test_equality_and_not_a_number() -> None:
    """h on the threshold to the bit fires by the law's sign; a NaN never does and stays."""
    x = torch.tensor([[1.0, 0.5, float("nan"), -0.0]])[:, None]
    for fires, spikes in ((">=", [1.0, 0.0, 0.0, 0.0]), (">", [0.0] * 4)):
        s, (v,) = Spiking(Law(NoLeak(), fires=fires)).forward_steps(x, None, False)  # type: ignore[arg-type]
        assert s.flatten().tolist() == spikes
        assert v.isnan().flatten().tolist() == [False, False, True, False]


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: ParametricSpiking(Law(Rate(0.3))),
        lambda: ParametricSpiking(Law(Rate(0.3, False, 0.1), v_reset=0.1), Triangle()),
        lambda: LearnedSpiking(),  # threshold 1: where z = h / V - 1 and h - V are the same number
        lambda: LearnedSpiking(Law(Leaky(0.8), 0.7, "subtract", fires=">")),
        lambda: LearnedSpiking(Law(Leaky(0.8), 0.7, "subtract", fires=">"), detach_reset=False),
        lambda: LearnedSpiking(Law(Leaky(0.8), 0.7), Triangle(), detach_reset=False),
    ],
    ids=["rate", "rate, rest", "threshold 1", "learned", "learned, reset attached", "learned, to zero"],
)
def test_trained_leak_and_threshold(make: Callable[[], Spiking], detached: bool) -> None:
    found = []
    x, g = tensor(0, K, 3, 700), tensor(1, K, 3, 700)
    for run in (pure, lambda m, x, s, d: m.forward_steps(x, s, d)):
        module = make().double()
        y, _ = run(module, x, None, detached)
        (y * g).sum().backward()
        found.append((y, [p.grad for p in module.parameters()]))
    assert torch.equal(found[0][0], found[1][0])
    for a, b in zip(found[0][1], found[1][1], strict=True):
        close(a, b)


@pytest.mark.parametrize("shape", [(4, 3, 6, 8, 8), (4, 3, 6, 12, 12), (3, 16, 32, 16, 16), (4, 300, 6), (2, 9, 130)])
@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("law", [Law(Tau(1.1, False), 0.8, "subtract"), Law(Decay(0.4, 0.7), 0.8)], ids=str)
def test_norm_population_and_pooling_in_one(shape: tuple[int, ...], detached: bool, law: Law) -> None:
    side = 3 if shape[-1] == 12 else 2
    for pool, affine in ((True, True), (False, False)):
        x = tensor(0, *shape).requires_grad_()
        runs = []
        for run in (pure, lambda m, x, s, d: steps(m, x, s, detached=d)):
            norm = (nn.BatchNorm2d if len(shape) == 5 else nn.BatchNorm1d)(shape[2], affine=affine).double()
            if affine:
                with torch.no_grad():
                    norm.weight.copy_(tensor(5, shape[2])).abs_()
                    norm.bias.copy_(tensor(6, shape[2], size=0.3))
            last = [nn.AvgPool2d(side)] if pool and len(shape) == 5 else []
            x.grad = None
            y, _ = run(Stack(norm, Spiking(law, Triangle()), *last), x, None, detached)
            (y * tensor(7, *y.shape)).sum().backward()
            runs.append((y, [x.grad, *(p.grad for p in norm.parameters())], norm))
        assert torch.equal(runs[0][0], runs[1][0])
        for a, b in zip(runs[0][1], runs[1][1], strict=True):
            assert float((a - b).abs().max()) <= 1e-12 * float(a.abs().max())
        for name, buffer in runs[0][2].named_buffers():
            torch.testing.assert_close(buffer, runs[1][2].get_buffer(name), rtol=1e-13, atol=1e-15)


def test_threads_do_not_change_the_bits() -> None:
    """Sums are taken in blocks of one size, so one thread and two give the same gradients."""
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            x = tensor(0, 4, 16, 32, 16, 16, dtype=torch.float32).requires_grad_()
            norm, unit = nn.BatchNorm2d(32), LearnedSpiking()
            y, _ = steps(Stack(norm, Spiking(Law(Tau(2.0)), Triangle()), nn.AvgPool2d(2), unit), x)
            (y * tensor(1, *y.shape, dtype=torch.float32)).sum().backward()
            found.append([y.detach(), x.grad, norm.weight.grad, norm.bias.grad, unit.leak.grad, unit.threshold.grad])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def conv_net() -> Stack:
    torch.manual_seed(0)
    law = Law(Tau(1.3, decay_input=False), reset="subtract")
    parts: list[nn.Module] = []
    for a, b in ((3, 8), (8, 16)):
        parts += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), Spiking(law, Triangle()), nn.AvgPool2d(2)]
    return Stack(*parts, nn.Flatten(), nn.Linear(64, 5)).double()


@pytest.mark.parametrize("method", [BPTT(), SLTT(), SLTT(3), SLTT(4, k=4)], ids=str)
def test_a_network_learns_the_same_without_a_compiler(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """``SPIKEPORT_FUSED=0``: torch's own layers and ``Law.step``; gradients of a conv net to rounding."""
    x, y = tensor(0, 6, 7, 3, 8, 8), torch.arange(6) % 5
    found = []
    for compiled in (True, False):
        monkeypatch.setattr(fused, "library", fused.library if compiled else lambda: None)
        net = conv_net()
        torch.manual_seed(1)
        value, summed = method(net, ce_mse, x, y)
        found.append([value, summed, *(p.grad for p in net.parameters()), *net.buffers()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


def test_what_is_not_taken_goes_step_by_step() -> None:
    """Another class, another type, a hook, an odd window: the readable way, with the same result."""

    class Own(Spiking):
        def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
            s, state = super().forward(x, state)
            return 2.0 * s, state

    x = tensor(0, 3, 2, 4, 6, 6)
    assert float(steps(Own(), x)[0].max()) == 2.0
    assert not fused.able(x.to(torch.bfloat16), Law(), ATan())
    seen = []
    norm = nn.BatchNorm2d(4).double()
    norm.register_forward_hook(lambda *_: seen.append(1))
    steps(Stack(norm, Spiking()), x)
    assert len(seen) == 3
    odd = Stack(nn.BatchNorm2d(4).double(), Spiking(), nn.AvgPool2d(4))
    again = Stack(nn.BatchNorm2d(4).double(), Spiking(), nn.AvgPool2d(4))
    assert torch.equal(steps(odd, x)[0], pure(again, x)[0])


def test_a_compiler_that_fails_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("SPIKEPORT_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", "/bin/false")
    assert fused.library.__wrapped__() is None
    monkeypatch.delenv("CC")
    monkeypatch.setenv("SPIKEPORT_FUSED", "0")
    assert fused.library.__wrapped__() is None
    assert list(tmp_path.glob("*.so")) == []
