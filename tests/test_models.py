"""The SLTT papers' networks: sizes against torchvision and by hand, equal networks of SpikingJelly, their exports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from export.from_torch import from_torch
from export.to_loihi import compile_loihi
from neuro.methods.bptt import BPTT
from neuro.methods.sltt import SLTT
from neuro.models.mnist_conv import mnist_conv
from neuro.models.nf_resnet import nf_resnet
from neuro.models.preact_resnet import preact_resnet18
from neuro.models.vgg11_bn import PLAN, vgg11_bn, with_pool_merged
from neuro.modules import HeldDropout, Spiking, Stack, step, steps, unroll
from neuro.readout import split_readout
from neuro.residual import Scaled, Sum
from neuro.train import ce_mse
from sim import engines
from sim.compare import compare

SMALL: dict[str, Callable[..., Stack]] = {
    "vgg": lambda **k: vgg11_bn(plan=(8, "P", 8, "P", 8, 8, "P"), pooled=3, **k),
    "preact": lambda **k: preact_resnet18(widths=(6, 8), blocks=(2, 2), pool=8, channels=2, **k),
    "nf34": lambda **k: nf_resnet(34, widths=(6, 8), blocks=(2, 2), pool=2, channels=2, classes=10, **k),
    "nf50": lambda **k: nf_resnet(50, widths=(4, 6), blocks=(2, 2), pool=2, channels=2, classes=10, **k),
}
STEPS = 5


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def macs(net: nn.Module, shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of one step of one sample, counted by torch on shapes alone."""
    x = torch.zeros(1, *shape, device="meta")
    with FlopCounterMode(display=False) as counted:
        if isinstance(net, nn.Sequential):
            step(net.eval(), x)
        else:
            net.eval()(x)
    return int(counted.get_total_flops()) // 2


def kernels(net: nn.Module) -> int:
    """Weights of convolutions."""
    return sum(m.weight.numel() for m in net.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize("depth", [34, 50, 101])
def test_nf_resnet_has_the_convolutions_of_torchvisions(depth: int) -> None:
    with torch.device("meta"):
        mine, theirs = nf_resnet(depth), getattr(torchvision.models, f"resnet{depth}")()
    shape = (3, 224, 224)
    assert kernels(mine) == kernels(theirs)
    assert macs(mine, shape) == macs(theirs, shape)
    convs = [m for m in mine.modules() if isinstance(m, nn.Conv2d)]
    # a gain and a bias of each channel, as theirs has weight and bias of a norm; and a gain of each block
    blocks = sum(isinstance(m, Scaled) and m.gain is not None for m in mine.modules())
    assert blocks == {34: 16, 50: 16, 101: 33}[depth]
    assert parameters(mine) == parameters(theirs) + blocks
    assert len(convs) == sum(isinstance(m, nn.Conv2d) for m in theirs.modules())


def test_vgg11_has_the_convolutions_of_torchvisions() -> None:
    with torch.device("meta"):
        mine, theirs = vgg11_bn(channels=3, classes=10), torchvision.models.vgg11_bn()
    assert [m.weight.shape for m in mine.modules() if isinstance(m, nn.Conv2d)][1:] == [
        m.weight.shape for m in theirs.modules() if isinstance(m, nn.Conv2d)
    ][1:]
    assert kernels(mine) == kernels(theirs)
    by_hand, width, side = 0, 2, 48
    for entry in PLAN:
        if entry == "P":
            side //= 2
        else:
            by_hand += 9 * width * int(entry) * side**2
            width = int(entry)
    with torch.device("meta"):
        assert macs(vgg11_bn(), (2, 48, 48)) == by_hand + 512 * 49 * 10


def test_preact_resnet18_has_the_size_that_its_equations_give() -> None:
    with torch.device("meta"):
        net = preact_resnet18()
    weights, norms, macs_, before, side = 9 * 3 * 64, 0, 9 * 3 * 64 * 32**2, 64, 32
    for width in (64, 128, 256, 512):
        for b in (0, 1):
            side = side // 2 if width > 64 and not b else side
            first = 9 * before * width + 9 * width * width
            joined = before * width if before != width else 0
            weights += first + joined + (width if joined else 0)
            norms += 2 * (before + width)
            macs_ += (first + joined) * side**2
            before = width
    assert parameters(net) == weights + norms + 2 * 512 + 512 * 10 + 10
    assert macs(net, (3, 32, 32)) == macs_ + 512 * 10


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


class Theirs(nn.Module):
    """SpikingJelly's nodes and plain torch, with hidden state, from the same description."""

    def __init__(self, mine: nn.Module, node: Callable[[], nn.Module]) -> None:
        super().__init__()
        if isinstance(mine, Sum):
            self.way = "sum"
            self.body = Theirs(mine.body, node)
            self.side = None if mine.shortcut is None else Theirs(mine.shortcut, node)
        elif isinstance(mine, Spiking):
            self.way, self.inner = "call", node()
        elif isinstance(mine, nn.Sequential):
            self.way, self.parts = "row", nn.ModuleList(Theirs(m, node) for m in mine)
        else:
            self.way, self.inner = "call", mine

    def forward(self, x: Tensor) -> Tensor:
        if self.way == "sum":
            return self.body(x) + (x if self.side is None else self.side(x))
        if self.way == "row":
            for part in self.parts:
                x = part(x)
            return x
        y = self.inner(x)
        return y[0] if isinstance(y, tuple) else y


def node_of(kind: type[nn.Module]) -> Callable[[], nn.Module]:
    """Of section 1.9: what SpikingJelly takes by default is not the paper's."""
    slope = surrogate.PiecewiseQuadratic(1.0)
    return lambda: kind(1.1, decay_input=False, v_reset=None, surrogate_function=slope, detach_reset=False)


def stirred(net: Stack) -> Stack:
    """With statistics, gains and a classifier that are not those of the start."""
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.copy_(0.3 * torch.randn(m.num_features, generator=g))
                m.running_var.copy_(0.5 + torch.rand(m.num_features, generator=g))
                m.weight.copy_(0.8 + torch.rand(m.num_features, generator=g))
                m.bias.copy_(0.6 * torch.rand(m.num_features, generator=g) - 0.2)
            elif isinstance(m, Scaled) and m.gain is not None:
                m.gain.fill_(1.5)
            elif isinstance(m, nn.Linear):
                m.weight.copy_(0.3 * torch.randn(m.weight.shape, generator=g))
    return net


def events(n: int = 4, steps: int = STEPS, scale: int = 7) -> Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.randint(0, scale + 1, (n, steps, 2, 16, 16), generator=g).to(torch.get_default_dtype())


def small(kind: str, **kwargs: Any) -> Stack:
    torch.set_default_dtype(torch.float64)
    return stirred(SMALL[kind](**kwargs)).double()


@pytest.mark.parametrize("kind", SMALL)
def test_outputs_are_spikingjellys(kind: str) -> None:
    net = small(kind).eval()
    theirs = Theirs(net, node_of(neuron.LIFNode)).eval()
    x = events()
    with torch.no_grad():
        expected = torch.stack([theirs(x[:, t]) for t in range(STEPS)], 1)
        assert float(expected.abs().max()) > 0.01
        torch.testing.assert_close(unroll(net, x), expected, rtol=0, atol=1e-12)
        state, each = None, []
        for t in range(STEPS):  # one step at a time is the same
            y, state = net(x[:, t], state)
            each.append(y)
        torch.testing.assert_close(torch.stack(each, 1), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 2, STEPS])
@pytest.mark.parametrize("kind", SMALL)
def test_sltt_gradients_and_statistics_are_spikingjellys(kind: str, chunk: int) -> None:
    net, other = small(kind).train(), small(kind).train()
    theirs = Theirs(other, node_of(neuron.SLTTLIFNode)).train()
    x, y = events(), torch.tensor([0, 3, 9, 3])
    value, _ = SLTT(chunk)(net, ce_mse, x, y)
    expected = 0.0
    for t in range(STEPS):
        loss = ce_mse(theirs(x[:, t]), y) / STEPS
        loss.backward()
        expected += float(loss.detach())
    assert float(value) == pytest.approx(expected, rel=1e-12)
    compared = 0
    for (name, mine), (_, p) in zip(net.named_parameters(), other.named_parameters(), strict=True):
        assert mine.grad is not None, name
        assert p.grad is not None, name
        torch.testing.assert_close(mine.grad, p.grad, rtol=1e-9, atol=1e-12, msg=name)
        compared += bool(p.grad.abs().max() > 1e-6)
    assert compared > 5
    for (name, mine), (_, b) in zip(net.named_buffers(), other.named_buffers(), strict=True):
        torch.testing.assert_close(mine, b, rtol=1e-12, atol=1e-14, msg=name)


def test_bptt_gradients_are_spikingjellys() -> None:
    net, other = small("preact").train(), small("preact").train()
    theirs = Theirs(other, node_of(neuron.LIFNode)).train()
    x, y = events(), torch.tensor([0, 3, 9, 3])
    BPTT()(net, ce_mse, x, y)
    functional.reset_net(theirs)
    torch.stack([ce_mse(theirs(x[:, t]), y) for t in range(STEPS)]).mean().backward()
    for mine, p in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, p.grad, rtol=1e-9, atol=1e-12)


def test_dropout_of_a_residual_block_is_held_over_time() -> None:
    torch.manual_seed(0)
    net = Sum(HeldDropout(0.5)).train()
    y, state = steps(net, torch.ones(3, 2, 50))
    again, _ = steps(net, torch.ones(2, 2, 50), state)
    assert (y == y[0]).all()
    assert (again == y[0]).all()
    assert set(y.unique().tolist()) == {1.0, 3.0}


def test_sum_names_shapes_that_differ() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\).*shortcut"):
        step(Sum(nn.Linear(4, 3)), torch.ones(2, 4))


def test_standardised_weights_have_the_moments_of_the_paper() -> None:
    net = nf_resnet(34, widths=(6, 8), blocks=(1, 1), classes=4)
    conv = net[2].body.branch.conv1
    weight = conv.weight.detach().flatten(1)
    raw = conv.parametrizations.weight.original.detach().flatten(1).double().numpy()
    expected = (raw - raw.mean(1, keepdims=True)) / np.sqrt(54 * raw.var(1, ddof=1, keepdims=True) + 1e-4)
    np.testing.assert_allclose(weight.numpy(), expected, rtol=0, atol=1e-6)
    net(torch.ones(1, 3, 64, 64))[0].sum().backward()
    assert conv.parametrizations.weight[0].g.shape == (6,)
    torch.testing.assert_close(net[1].kernel_size, 3)
    assert float(net.fc.weight.detach().abs().max()) == 0.0


def test_expected_variance_of_a_stage() -> None:
    """1, then 0.04 more a block; 1.04 after a change of shape, before which it is what the stage came to."""
    net = nf_resnet(34, widths=(4, 4), blocks=(3, 2))
    factors = {n: m.factor for n, m in net.named_modules() if isinstance(m, Scaled) and "beta" in n}
    squares = {n.split(".")[0]: round(f**-2, 6) for n, f in factors.items()}
    assert squares == {"block1_2": 1.04, "block1_3": 1.08, "block2_1": 1.12, "block2_2": 1.04, "beta": 1.08}


@pytest.mark.parametrize("kind", SMALL)
def test_export_is_the_module(kind: str) -> None:
    """BN behind a sum goes into both ways; factors and shortcuts stay exact."""
    net = small(kind).eval()
    x = events()
    with torch.no_grad():
        expected = unroll(net, x).numpy()
    whole = with_pool_merged(net, 2) if kind == "vgg" else net
    module = engines_float64(from_torch(whole, (2, 16, 16)))
    with torch.no_grad():
        got = unroll(module, x).numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    assert abs(expected).max() > 0.01


def engines_float64(network: Any) -> nn.Module:
    from export.to_torch import to_torch

    return to_torch(network, dtype=torch.float64)


def cut(net: Stack) -> Stack:
    """Up to the last neurons, whose spikes a host reads out."""
    last = max(k for k, m in enumerate(net) if isinstance(m, Spiking))
    return net[: last + 1]


@pytest.mark.parametrize("kind", SMALL)
def test_spiking_part_runs_on_the_integer_engine(kind: str) -> None:
    """Event counts as messages of 3 bits; also the shortcut of NF-ResNet, which is synapses from every block before.

    Subtracting reset is this engine's extension.
    """
    net = stirred(SMALL[kind]()).eval()
    x = events()
    network = from_torch(cut(net), (2, 16, 16))
    program = compile_loihi(network, soft_reset=True, graded_bits=3)
    chip = engines.run(program, x.numpy().astype(np.int64), "loihi")
    float_ = engines.run(network, x.numpy(), "torch")
    same = compare(float_, chip)
    assert float_.y.mean() > 0.005
    assert same.equal / same.compared > 0.96


def test_readout_splits_into_chip_and_host() -> None:
    net = stirred(mnist_conv(channels=8)).eval()
    x = 5.0 * torch.rand(3, 4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    chip, host = split_readout(net)
    assert [n for n, _ in host.named_children()] == ["flatten", "fc"]
    with torch.no_grad():
        spikes = unroll(chip, x)
        assert set(spikes.unique().tolist()) == {0.0, 1.0}
        torch.testing.assert_close(unroll(host, spikes), unroll(net, x), rtol=0, atol=0)
    for wrong in (Stack(nn.Linear(2, 2)), Stack(nn.Linear(2, 2), Spiking())):
        with pytest.raises(ValueError, match="Spiking one, and a readout behind"):
            split_readout(wrong)


def test_chip_refuses_the_logits_by_name() -> None:
    with pytest.raises(ValueError, match=r"the output is 'fc'.*Spiking"):
        compile_loihi(from_torch(SMALL["preact"]().eval(), (2, 16, 16)), soft_reset=True, graded_bits=3)


def test_norm_behind_a_sum_without_a_layer_is_refused() -> None:
    net = Stack(nn.Conv2d(1, 1, 1), Spiking(), Sum(Spiking()), nn.BatchNorm2d(1)).eval()
    with pytest.raises(ValueError, match=r"3: BatchNorm2d follows the sum .*put one there"):
        from_torch(net, (1, 2, 2))


def test_mnist_conv_is_on_the_chip_whole() -> None:
    net = stirred(mnist_conv(channels=2, spiking=True)).eval()
    x = (torch.rand(2, 4, 1, 28, 28, generator=torch.Generator().manual_seed(0)) < 0.3).float()
    network = from_torch(net, (1, 28, 28))
    chip = engines.run(compile_loihi(network, soft_reset=True), x.numpy(), "loihi")
    assert chip.y.shape == (2, 4, 10)
