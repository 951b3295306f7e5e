"""IIR-SNN: conversion, thresholds, gradients, the T = 1 network; against numpy, closed forms and finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from iir_images import SHAPE, images, small_ann, with_statistics
from torch import Tensor, nn
from torch.nn import functional

from neuro.methods.iir import (
    DirectBPTT,
    HeldInput,
    calibrate,
    convert,
    cross_entropy,
    deployed,
    one_step,
    percentile,
    populations,
    set_steps,
    spikes,
)
from neuro.models.resnet20 import resnet20
from neuro.models.vgg import MNIST, VGG5, VGG9, VGG16, vgg, vgg_mnist
from neuro.modules import HeldDropout, Integrating, LearnedSpiking, Stack, step, steps
from neuro.neuron import Law, Leaky, NoLeak
from neuro.train import last, predict

T = 4


def converted(steps: int = T, *, norm: bool = True) -> Stack:
    """A network with thresholds between two currents, so that no neuron stands on an edge."""
    x, _ = images(64, 3)
    snn = convert(with_statistics(small_ann(norm=norm)), x[:, 0], steps=steps)
    with torch.no_grad():
        for k, p in enumerate(populations(snn).values()):
            p.threshold += 0.00137
            p.leak.fill_(0.93 - 0.05 * k)
    return snn


def currents_of(snn: Stack, x: Tensor, t: int) -> dict[str, list[Tensor]]:
    """Currents into each population, by single steps through its children."""
    state: list[Any] = [None] * len(snn)
    found: dict[str, list[Tensor]] = {n: [] for n in populations(snn)}
    for _ in range(t):
        y = x
        for k, (name, module) in enumerate(snn.named_children()):
            if name in found:
                found[name].append(y.detach())
            y, state[k] = step(module, y, state[k])
    return found


def test_norms_fold_to_the_same_logits() -> None:
    ann = with_statistics(small_ann(norm=True))
    x, _ = images(64, 1)
    snn = convert(ann, x[:, 0], steps=1)
    folded = Stack(*(nn.ReLU() if isinstance(m, LearnedSpiking) else m for m in snn if not isinstance(m, Integrating)))
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded)
    with torch.no_grad():
        reference, ours = ann(x[:, 0])[0], folded.eval()(x[:, 0])[0]
    assert float(reference.abs().max()) > 0.1
    assert float((ours - reference).abs().max()) <= 1e-5


@pytest.mark.parametrize("q", [50.0, 90.0, 99.7, 100.0])
@pytest.mark.parametrize("n", [1, 7, 100, 1001])
def test_percentile_is_numpys_to_a_rank(q: float, n: int) -> None:
    values = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    found = percentile(torch.from_numpy(values), q)
    ranked = np.sort(values)
    theirs = float(np.percentile(values, q, method="nearest"))
    assert abs(int(np.searchsorted(ranked, found)) - int(np.searchsorted(ranked, theirs))) <= 1
    assert found == ranked[round(q / 100 * (n - 1))]


def test_a_tenth_of_the_currents_is_above_each_threshold() -> None:
    x, _ = images(64, 3)
    snn = convert(with_statistics(small_ann(norm=True)), x[:, 0], steps=T)
    for name, currents in currents_of(snn, x[:, 0], T).items():
        v = populations(snn)[name].threshold.detach()
        highest = max(currents, key=lambda c: percentile(c, 90.0))
        n = highest.numel()
        assert float(v) > 0
        assert int((highest > v).sum()) <= 0.1 * n + 1
        assert int((highest >= v).sum()) >= 0.1 * n - 1


def test_first_threshold_does_not_see_the_time() -> None:
    x, _ = images(64, 3)
    ann = with_statistics(small_ann(norm=True))
    found = [
        [float(p.threshold.detach()) for p in populations(convert(ann, x[:, 0], calibration_steps=t)).values()]
        for t in (1, 7)
    ]
    assert found[0][0] == found[1][0]
    assert all(a != b for a, b in zip(found[0][1:], found[1][1:], strict=True))


def test_calibration_names_default_and_silence() -> None:
    x, _ = images(32, 3)
    snn = convert(small_ann().eval(), x[:, 0], only=["lif1"])
    assert [round(float(p.threshold.detach()), 6) for p in populations(snn).values()][1:] == [0.4, 0.4]
    blank = convert(small_ann().eval(), torch.zeros(8, *SHAPE))
    assert [round(float(p.threshold.detach()), 6) for p in populations(blank).values()] == [0.1] * 3
    doubled = calibrate(snn, x[:, 0], steps=2, scale=2.0)
    once = calibrate(snn, x[:, 0], steps=2)
    assert doubled["lif1"] == pytest.approx(2 * once["lif1"])
    with pytest.raises(ValueError, match=r"calibrate.only: lif9 are no populations; there are lif1"):
        calibrate(snn, x[:, 0], steps=2, only=["lif9"])
    with pytest.raises(ValueError, match=r"q must be in \(0, 100\]"):
        calibrate(snn, x[:, 0], steps=2, q=0.0)
    with pytest.raises(ValueError, match=r"below -.* < 0; raise q"):
        calibrate(convert(small_ann().eval(), x[:, 0]), x[:, 0], steps=1, q=1.0)


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(50, 3)),
            "MaxPool2d has no spiking",
        ),
        (nn.Sequential(nn.Flatten(), nn.Linear(144, 3), nn.ReLU()), "without ReLU"),
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(144), nn.Linear(144, 3)), "folds into the layer right before"),
    ],
)
def test_refusals_name_the_module(module: nn.Sequential, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        convert(module.eval(), images(4, 0)[0][:, 0])


def test_first_layer_runs_once_and_nothing_changes() -> None:
    snn, (x, y) = converted(), images(16, 5)
    seen: list[int] = []
    hook = snn.conv1.register_forward_hook(lambda _, __, out: seen.append(len(out)))
    once, _ = steps(snn, x.transpose(0, 1))
    hook.remove()
    each, _ = steps(
        Stack(*(m for m in snn if not isinstance(m, HeldInput))),
        x.transpose(0, 1).expand(T, *x.transpose(0, 1).shape[1:]),
    )
    assert seen == [16]
    assert once.shape == (T, 16, 10)
    torch.testing.assert_close(once, each, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="takes one image a sample"):
        steps(snn, x.transpose(0, 1).expand(2, *x.transpose(0, 1).shape[1:]))
    DirectBPTT(T)(snn, cross_entropy, x, y)
    held = snn.conv1.weight.grad.clone()  # type: ignore[union-attr, operator]
    snn.zero_grad()
    logits, _ = steps(Stack(*(m for m in snn if not isinstance(m, HeldInput))), torch.cat([x] * T, 1).transpose(0, 1))
    cross_entropy(logits[-1], y).backward()
    torch.testing.assert_close(held, snn.conv1.weight.grad, rtol=1e-3, atol=1e-6)


def test_one_step_is_a_net_of_binary_activations() -> None:
    snn = converted(1)
    x, _ = images(32, 7)
    p = list(populations(snn).values())
    with torch.no_grad():
        a = functional.conv2d(x[:, 0], snn.conv1.weight, snn.conv1.bias, padding=1)  # type: ignore[arg-type]
        a = functional.avg_pool2d((a > p[0].threshold).float(), 2)
        a = functional.conv2d(a, snn.conv2.weight, snn.conv2.bias, padding=1)  # type: ignore[arg-type]
        a = functional.avg_pool2d((a > p[1].threshold).float(), 2).flatten(1)
        a = (functional.linear(a, snn.fc1.weight) > p[2].threshold).float()  # type: ignore[arg-type]
        by_hand = functional.linear(a, snn.fc2.weight)  # type: ignore[arg-type]
        bare, _ = one_step(snn)(x[:, 0])
    assert 0.02 < float(a.mean()) < 0.5
    assert torch.equal(predict(snn, x, readout=last), bare)
    torch.testing.assert_close(bare, by_hand, rtol=1e-6, atol=1e-6)
    set_steps(snn, 2)
    with pytest.raises(ValueError, match=r"is at T = 2; train it down to 1 first"):
        one_step(snn)


def test_scaling_weights_with_the_threshold_changes_nothing() -> None:
    snn, (x, y) = converted(1), images(32, 7)
    before = predict(snn, x, readout=last)
    DirectBPTT()(snn, cross_entropy, x, y)
    slope = snn.conv2.weight.grad.clone()  # type: ignore[union-attr, operator]
    snn.zero_grad()
    with torch.no_grad():
        for t in (snn.conv2.weight, snn.conv2.bias, snn.lif2.threshold):
            t *= 4.0  # type: ignore[operator]
    assert torch.equal(predict(snn, x, readout=last), before)
    DirectBPTT()(snn, cross_entropy, x, y)
    torch.testing.assert_close(4.0 * snn.conv2.weight.grad, slope, rtol=1e-4, atol=1e-8)  # type: ignore[union-attr, operator]


def test_leaks_learn_from_two_steps_on() -> None:
    x, y = images(32, 7)
    for t, silent in ((1, True), (2, False), (T, False)):
        snn = converted(t)
        DirectBPTT(t)(snn, cross_entropy, x, y)
        for p in populations(snn).values():
            assert p.threshold.grad is not None
            assert p.leak.grad is not None
            assert float(p.threshold.grad) != 0.0
            assert (float(p.leak.grad) == 0.0) == silent


def smooth(z: Tensor) -> Tensor:
    """Integral of ``0.3 max(0, 1 - |z|)``."""
    c = z.clamp(-1.0, 1.0)
    return 0.3 * (c - c * c.abs() / 2.0 + 0.5)


def smoothed_loss(net: Stack, x: Tensor, y: Tensor, at: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
    """The network with ``o = H(z0) + G(z) - G(z0)``, G the integral of the slope, z0 at the point ``at``.

    At that point it is the spiking network itself, and its derivative is the surrogate's; the reset's H stays H(z0).
    """
    z0 = iter(at or [])
    seen: list[Tensor] = []
    first, one, second, two, out = (m for m in net if isinstance(m, nn.Linear | LearnedSpiking))
    v1 = v2 = torch.zeros((), dtype=x.dtype)
    total = torch.zeros((), dtype=x.dtype)
    for _ in range(T):
        spikes_of = []
        current, values = first(x), []
        for p, v, layer in ((one, v1, second), (two, v2, out)):
            u = p.leak * v + current
            z = u / p.threshold - 1.0
            seen.append(z.detach())
            base = next(z0) if at else z.detach()
            fired = (base > 0).to(x.dtype)
            o = fired + smooth(z) - smooth(base)
            values.append(u - p.threshold * fired)
            current = layer(o)
            spikes_of.append(o)
        v1, v2 = values
        total = total + current
    return cross_entropy(total, y), seen


def test_gradients_are_the_smoothed_networks() -> None:
    """Every threshold and leak, and some weights, by central differences in float64."""
    torch.manual_seed(2)
    law = Law(Leaky(0.9), 0.7, "subtract", fires=">")
    net = Stack(
        HeldInput(T), nn.Linear(12, 16, bias=False), LearnedSpiking(law), nn.Linear(16, 14, bias=False),
        LearnedSpiking(law), nn.Linear(14, 4, bias=False), Integrating(NoLeak()),
    ).double()  # fmt: skip
    with torch.no_grad():
        for m in net:
            if isinstance(m, nn.Linear):
                m.weight *= 3.0
    x, y = torch.rand(9, 12).double(), torch.randint(0, 4, (9,))
    value, _ = DirectBPTT(T)(net, cross_entropy, x[:, None], y)
    with torch.no_grad():
        base, at = smoothed_loss(net, x, y, None)
        assert float(base) == pytest.approx(float(value), abs=1e-12)
        assert 0.1 < float(torch.cat([(z > 0).double().flatten() for z in at]).mean()) < 0.9
        eps, checked = 1e-6, 0
        for p in net.parameters():
            assert p.grad is not None
            flat, slope = p.view(-1), p.grad.reshape(-1)
            for k in range(0, flat.numel(), 1 if flat.numel() == 1 else 17):
                here = float(flat[k])
                found = []
                for sign in (1.0, -1.0):
                    flat[k] = here + sign * eps
                    found.append(float(smoothed_loss(net, x, y, at)[0]))
                flat[k] = here
                assert (found[0] - found[1]) / (2 * eps) == pytest.approx(float(slope[k]), abs=1e-6)
                checked += abs(float(slope[k])) > 1e-4
    assert checked > 20


def test_soft_reset_keeps_the_sum() -> None:
    """k = 1: what came in is in the membrane or was spent on spikes; numbers on a grid, so exactly."""
    p = LearnedSpiking(Law(Leaky(1.0), 0.75, "subtract", fires=">"))
    x = torch.randint(-8, 17, (20, 50), generator=torch.Generator().manual_seed(0)) / 16.0
    with torch.no_grad():
        out, (v,) = steps(p, x[:, None])
    assert torch.equal(x.sum(0), v[0] + 0.75 * out.sum((0, 1)))
    constant = torch.arange(1, 12) / 16.0  # below the threshold: ceil(sum / V) - 1 spikes, strictly above V
    with torch.no_grad():
        out, _ = steps(p, constant.expand(40, 1, -1))
    assert torch.equal(out.sum((0, 1)), (40 * constant / 0.75).ceil() - 1)


def test_logits_grow_with_time() -> None:
    """Neurons that fire in every step: twice the steps, twice the logits, nothing is averaged."""
    snn = converted(T)
    with torch.no_grad():
        for p in populations(snn).values():
            p.leak.fill_(1.0)
            p.threshold.fill_(1e-3)
    x = torch.rand(4, 1, *SHAPE) + 1.0
    with torch.no_grad():
        for m in snn.modules():
            if isinstance(m, nn.Conv2d | nn.Linear):
                m.weight.abs_()
        short = predict(snn, x, readout=last)
        set_steps(snn, 2 * T)
        torch.testing.assert_close(predict(snn, x, readout=last), 2.0 * short, rtol=1e-6, atol=0)
    assert all(float(a.mean()) == 8.0 for a in spikes(snn, x[:, 0], 8).values())


def test_deployed_steps_as_the_trained_network() -> None:
    snn, (x, _) = converted(), images(16, 5)
    plain = deployed(snn)
    assert not any(isinstance(m, HeldInput | HeldDropout | LearnedSpiking) for m in plain.modules())
    with torch.no_grad():
        held, _ = steps(snn, x.transpose(0, 1))
        state = None
        for t in range(T):
            out, state = plain(x[:, 0], state)
            torch.testing.assert_close(out, held[t], rtol=1e-5, atol=1e-5)
    assert [float(p.law.charge.beta) for p in plain if hasattr(p, "law")] == pytest.approx([0.93, 0.88, 0.83])


def test_spikes_are_counted_over_all_steps() -> None:
    snn, (x, _) = converted(), images(16, 5)
    found = spikes(snn, x[:, 0], T, batch=7)
    y, total = x.transpose(0, 1), {}
    with torch.no_grad():
        for name, m in snn.named_children():
            y, _ = steps(m, y)
            if isinstance(m, LearnedSpiking):
                total[name] = y.sum(0).mean(0).double().numpy()
    assert set(found) == set(total)
    for name, count in total.items():
        np.testing.assert_allclose(found[name], count, atol=1e-6)
        assert count.sum() > 0


@pytest.mark.parametrize(
    ("notation", "shape", "weights"),
    [
        (VGG16, (3, 32, 32), 14_714_688 - 4224 + 2048 * 4096 + 4096 * 4096 + 40960),
        (VGG9, (3, 32, 32), None),
        (VGG5, (3, 32, 32), None),
        (MNIST, (1, 28, 28), None),
    ],
)
def test_vgg_of_a_list(notation: Any, shape: tuple[int, int, int], weights: int | None) -> None:
    with torch.device("meta"):
        net = vgg(notation, shape, 10)
    assert all(m.bias is None for m in net if isinstance(m, nn.Conv2d | nn.Linear))
    assert not any(isinstance(m, nn.MaxPool2d) for m in net)
    convs = [m.out_channels for m in net if isinstance(m, nn.Conv2d)]
    assert convs == [e for e in notation if e != "A"]
    names = list(dict(net.named_children()))
    for k, entry in enumerate(notation[:-1]):
        number = sum(e != "A" for e in notation[: k + 1])
        if entry != "A":
            assert (f"drop{number}" in names) == (notation[k + 1] != "A")
    if weights is not None:
        assert sum(p.numel() for p in net.parameters()) == weights
    with pytest.raises(ValueError, match="is no list of widths"):
        vgg(("A", 4), shape, 10)
    with pytest.raises(ValueError, match="is too small for 5 halvings"):
        vgg((4, "A", "A", "A", "A", "A"), (1, 12, 12), 10)


def test_resnet20_converts_with_its_blocks() -> None:
    ann = with_statistics(resnet20((3, 16, 16), 10, widths=(4, 4, 8, 8), norm=True))
    x = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    snn = convert(ann, x, steps=2, only=["lif1", "lif2", "lif3"])
    values = {n: round(float(p.threshold.detach()), 6) for n, p in populations(snn).items()}
    assert len(values) == 19
    assert all(v == 0.4 for n, v in values.items() if n.startswith("block"))
    snn = convert(ann, x, steps=2)
    assert all(float(a.mean()) > 0 for a in spikes(snn, x, 2).values())
    DirectBPTT(2)(snn, cross_entropy, x[:, None], torch.arange(16) % 10)
    assert all(p.grad is not None and bool(p.grad.any()) for p in snn.parameters())
    full = resnet20()
    assert full.fc.weight.shape == (10, 2048)
    assert sum(isinstance(m, nn.ReLU) for m in full.modules()) == 19


def test_mnist_net_trains_with_shifts_and_deploys_without() -> None:
    net = vgg_mnist(shift=2)
    x = torch.rand(4, 1, 28, 28)
    net.train()
    assert not torch.equal(net.shift(x), x)  # type: ignore[operator]
    net.eval()
    assert torch.equal(net.shift(x), x)  # type: ignore[operator]
    names = dict(one_step(convert(net, x, steps=1)).named_children())
    assert "shift" not in names
    assert "held" not in names


def test_shift_moves_by_whole_pixels() -> None:
    from neuro.models.shift import RandomShift

    moves = RandomShift(2).train()
    x = torch.zeros(200, 1, 9, 9)
    x[:, :, 4, 4] = 1.0
    torch.manual_seed(0)
    out = moves(x)
    at = out.flatten(1).argmax(1)
    assert torch.equal(out.sum((1, 2, 3)), torch.ones(200))
    assert {int(k) for k in at} == {9 * i + j for i in range(2, 7) for j in range(2, 7)}
