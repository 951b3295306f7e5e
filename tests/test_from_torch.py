"""Torch and SpikingJelly modules into a Network and back: the same spikes; refusals name path and fix."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from export import AvgPool2d, Conv2d, Integrator, Spiking
from export.from_torch import from_torch
from export.to_torch import run_torch
from neuro.models.digits import INPUT_SHAPE, digits_net
from neuro.modules import HeldDropout, Integrating, LearnedSpiking, ParametricSpiking, norm_mode, unroll
from neuro.modules import Spiking as SpikingModule
from neuro.neuron import Decay, Law, Leaky, NoLeak, Rate, Tau

T = 12


def trained(net: nn.Module) -> nn.Module:
    """Give BatchNorm statistics and weights that are not those of the start, as training does."""
    g = torch.Generator().manual_seed(0)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            with torch.no_grad():
                m.running_mean.copy_(0.2 * torch.randn(m.num_features, generator=g))
                m.running_var.copy_(0.2 + 0.3 * torch.rand(m.num_features, generator=g))
                if m.affine:
                    m.weight.copy_(0.8 + 0.8 * torch.rand(m.num_features, generator=g))
                    m.bias.copy_(0.3 * torch.randn(m.num_features, generator=g) + 0.4)
    return net.eval()


def spikes(n: int, shape: tuple[int, ...], rate: float = 0.4) -> Tensor:
    return (torch.rand(n, T, *shape, generator=torch.Generator().manual_seed(5)) < rate).float()


def sj_conv(step_mode: str = "s") -> nn.Module:
    """A convolutional network out of SpikingJelly's own parts, all four nodes, both resets."""
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.Sequential(
            layer.Conv2d(2, 6, 3, padding=1, bias=False),
            layer.BatchNorm2d(6),
            neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan()),
            layer.AvgPool2d(2, 2),
        ),
        nn.Sequential(
            layer.Conv2d(6, 8, 3, stride=2, padding=1, groups=2),
            layer.BatchNorm2d(8, affine=False),
            neuron.IFNode(v_reset=None),
            layer.Dropout(0.3),
        ),
        layer.Flatten(),
        layer.Linear(32, 20),
        layer.BatchNorm1d(20),
        neuron.ParametricLIFNode(init_tau=3.0, decay_input=False, v_threshold=0.9),
        layer.Linear(20, 10),
        nn.Identity(),
        neuron.CUBALIFNode(0.4, 0.8, 0.3, None),
    )
    functional.set_step_mode(net, step_mode)
    return net


def reference(net: nn.Module, x: Tensor) -> list[np.ndarray[Any, Any]]:
    """Spikes of every spiking module of a SpikingJelly network under its own loop."""
    seen: list[list[Tensor]] = []
    handles = []
    for m in net.modules():
        if isinstance(m, neuron.BaseNode):
            here: list[Tensor] = []
            seen.append(here)
            handles.append(m.register_forward_hook(lambda _m, _x, y, here=here: here.append(y)))
    functional.reset_net(net)
    with torch.no_grad():
        for t in range(x.shape[1]):
            net(x[:, t])
    for h in handles:
        h.remove()
    return [torch.stack(s, 1).numpy() for s in seen]


def test_spikingjelly_conv_net_gives_the_same_spikes() -> None:
    net, x = trained(sj_conv()), spikes(16, (2, 8, 8))
    expected = reference(net, x)
    network = from_torch(net, (2, 8, 8), name="sj")
    y, by_node = run_torch(network, x.numpy(), dtype=torch.float32)
    assert list(by_node) == ["0.2", "1.2", "5", "8"]
    for (name, s), e in zip(by_node.items(), expected, strict=True):
        assert 0.005 < e.mean() < 0.9, name
        # folding rounds; only a potential within that of the threshold may decide otherwise
        assert np.mean(s != e) <= 1e-4, name
    np.testing.assert_array_equal(y, by_node["8"])
    kinds = [type(n.law.charge) for n in network.nodes.values() if isinstance(n, Spiking)]
    assert kinds == [Tau, NoLeak, Rate, Decay]
    assert [loss.node for loss in network.losses] == ["0.0", "1.0", "3"]
    assert all(0.0 < loss.size < 1e-5 and "BatchNorm folded" in loss.what for loss in network.losses)


def test_without_batchnorm_the_bits_are_the_same() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding="same"),
        neuron.LIFNode(3.0, False, 0.3),
        nn.AvgPool2d(2),
        neuron.IFNode(v_threshold=0.4),
        nn.Flatten(),
        nn.Linear(64, 5, bias=False),
        neuron.LIFNode(1.5, v_threshold=0.1, v_reset=None),
    )
    x = spikes(8, (1, 8, 8))
    expected = reference(net, x)
    network = from_torch(net, (1, 8, 8))
    _, by_node = run_torch(network, x.numpy())
    for (name, s), e in zip(by_node.items(), expected, strict=True):
        assert 0.005 < e.mean() < 0.9, name
        np.testing.assert_array_equal(s, e)
    assert network.losses == ()


def test_multi_step_mode_is_the_same_network() -> None:
    single, multi = trained(sj_conv("s")), trained(sj_conv("m"))
    multi.load_state_dict(single.state_dict())
    a, b = (from_torch(n, (2, 8, 8), name="n") for n in (single, multi))
    assert a.hash() == b.hash()


def test_our_model_folds_and_keeps_its_spikes() -> None:
    net = trained(digits_net(seed=1))
    with torch.no_grad():
        net.get_submodule("fc").weight *= 5.0  # untrained, the output hardly fires
    x = spikes(16, INPUT_SHAPE)
    network = from_torch(net, INPUT_SHAPE, name="digits")
    assert " ".join(network.nodes) == "input conv1 lif1 conv2 lif2 flatten fc lif3 output"
    y, by_node = run_torch(network, x.numpy(), batch=5)
    with torch.no_grad():
        expected = unroll(net, x).numpy()
    assert all(0.005 < s.mean() < 0.9 for s in by_node.values())
    assert np.mean(y != expected) <= 1e-3
    assert y.dtype == np.uint8


def test_fold_is_the_closed_form() -> None:
    conv, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)
    with torch.no_grad():
        conv.weight.fill_(3.0)
        conv.bias.fill_(1.0)
        norm.running_mean.fill_(5.0)
        norm.running_var.fill_(4.0)
        norm.weight.fill_(8.0)
        norm.bias.fill_(-2.0)
    network = from_torch(nn.Sequential(conv, norm, neuron.IFNode()), (1, 2, 2))
    node = network.nodes["0"]
    assert isinstance(node, Conv2d)
    assert node.weight.item() == 12.0  # 3 * 8 / 2
    assert node.bias is not None
    assert node.bias.item() == -18.0  # (1 - 5) * 8 / 2 - 2
    assert network.losses[0].size == 0.0


def test_conversion_leaves_the_module_alone() -> None:
    net = sj_conv().train()
    net[1].eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    modes = [m.training for m in net.modules()]
    from_torch(net, (2, 8, 8))
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


class Residual(nn.Module):
    """A forward of its own: branch, addition, functional flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), neuron.IFNode(0.4))
        self.branch = nn.Conv2d(4, 4, 3, padding=1)
        self.lif = neuron.LIFNode(2.0, v_threshold=0.3)
        self.fc = nn.Linear(64, 3)
        self.last = neuron.IFNode()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.lif(self.branch(x) + x)
        return self.last(self.fc(torch.flatten(x, 1)))


def test_forward_with_a_residual_is_traced() -> None:
    torch.manual_seed(0)
    net, x = trained(Residual()), spikes(16, (1, 4, 4))
    network = from_torch(net, (1, 4, 4))
    assert {(e.src, e.dst) for e in network.edges} >= {
        ("branch", "lif"),
        ("stem.2", "lif"),
        ("stem.2", "branch"),
    }
    expected = reference(net, x)
    _, by_node = run_torch(network, x.numpy())
    for (name, s), e in zip(by_node.items(), expected, strict=True):
        assert 0.005 < e.mean() < 0.9, name
        assert np.mean(s != e) <= 1e-3, name


def law_of(node: Any) -> Law:
    (found,) = [n for n in from_torch(node, (3,)).nodes.values() if isinstance(n, Spiking)]
    return found.law


def test_laws_are_read_from_the_module_not_its_defaults() -> None:
    lif = neuron.LIFNode(3.0, v_threshold=0.5)
    lif.tau, lif.decay_input, lif.v_threshold = 5.0, False, 0.25
    assert law_of(lif) == Law(Tau(5.0, False), 0.25)
    assert law_of(neuron.LIFNode(3.0, v_reset=-0.5)) == Law(Tau(3.0, True, -0.5), 1.0, "zero", -0.5)
    assert law_of(neuron.IFNode(v_reset=None)) == Law(NoLeak(), 1.0, "subtract")
    assert law_of(neuron.CUBALIFNode(0.1, 0.2, 0.3)) == Law(Decay(0.1, 0.2), 0.3)
    plif = neuron.ParametricLIFNode(2.0)
    with torch.no_grad():
        plif.w.fill_(1.25)
    assert law_of(plif).charge == Rate(float(torch.tensor(1.25).sigmoid()))
    strict = neuron.IFNode(surrogate_function=lambda x: (x > 0).float())
    assert law_of(strict).fires == ">"
    assert law_of(SpikingModule(Law(Tau(2.0), fires=">"))) == Law(Tau(2.0), fires=">")
    mine = ParametricSpiking(Law(Rate(0.3)))
    with torch.no_grad():
        mine.w.fill_(1.25)
    assert law_of(mine).charge == law_of(plif).charge


def test_surrogate_leaves_no_trace() -> None:
    a, b = (neuron.IFNode(surrogate_function=s) for s in (surrogate.ATan(7.0), surrogate.Sigmoid()))
    assert from_torch(a, (3,), name="n").hash() == from_torch(b, (3,), name="n").hash()


def test_learned_leaks_held_dropout_and_norms_by_mode_are_read() -> None:
    torch.manual_seed(3)
    learned = LearnedSpiking(Law(Leaky(0.75), 0.5, reset="subtract", fires=">"))
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        learned,
        HeldDropout(0.3),
        nn.AdaptiveAvgPool2d((4, None)),
        nn.AvgPool2d((1, 2)),
        nn.Flatten(),
        nn.Linear(96, 5, bias=False),
        nn.BatchNorm1d(5),
        Integrating(Leaky(0.5)),
    )
    trained(net)
    x = spikes(8, (2, 8, 8))
    plain = from_torch(net, (2, 8, 8), name="n")
    for mode in ("per_step", "chunk", "frozen"):
        norm_mode(net, mode)
        assert from_torch(net, (2, 8, 8), name="n").hash() == plain.hash()
    assert plain.nodes["4"] == AvgPool2d((2, 1), (2, 1))
    assert plain.nodes["9"] == Integrator(Leaky(0.5))
    assert plain.law("2") == learned.law
    y, by_node = run_torch(plain, x.numpy())
    with torch.no_grad():
        expected = unroll(net.eval(), x).numpy()
    assert 0.02 < by_node["2"].mean() < 0.9
    np.testing.assert_allclose(y, expected, atol=1e-4)


def test_pooling_to_one_place_is_the_mean_of_the_map() -> None:
    for module in (nn.AdaptiveAvgPool2d(1), layer.AdaptiveAvgPool2d((1, 1))):
        network = from_torch(nn.Sequential(module), (3, 6, 4))
        assert network.nodes["0"] == AvgPool2d((6, 4), (6, 4))
        x = spikes(2, (3, 6, 4))
        np.testing.assert_allclose(run_torch(network, x.numpy())[0], x.mean((3, 4), keepdim=True).numpy(), atol=1e-6)
