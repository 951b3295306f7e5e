"""Torch and SpikingJelly modules into a Network and back: the same spikes; refusals name path and fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import Tensor, nn

from export import Conv2d, Edge, Input, Linear, MappingError, Network, NetworkError, Output, Spiking
from export.from_torch import from_torch
from export.to_torch import run_torch, to_torch
from neuro.models.digits import INPUT_SHAPE, digits_net
from neuro.modules import ParametricSpiking, Stack, unroll
from neuro.modules import Spiking as SpikingModule
from neuro.neuron import Decay, Law, NoLeak, Rate, Tau
from neuro.surrogate import ATan

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
    assert list(network.nodes) == "input conv1 lif1 conv2 lif2 flatten fc lif3 output".split()
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


class OtherLIF(neuron.LIFNode):
    """A subclass with a law of its own."""


class Loop(nn.Module):
    """A time loop inside the forward, as many examples write it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 2), neuron.IFNode())

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.net(x) for _ in range(3)]).mean(0)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) if x.sum() > 0 else x


class Twice(nn.Module):
    """BatchNorm of a layer whose raw output is used too."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x)
        return self.norm(h) + h


def hooked() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 2), neuron.IFNode())
    net[0].register_forward_hook(lambda m, x, y: 2 * y)
    return net


def shared() -> nn.Module:
    node = neuron.IFNode()
    return nn.Sequential(nn.Linear(4, 4), node, nn.Linear(4, 4), node)


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "maxpool": (
        lambda: nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), neuron.IFNode(), layer.MaxPool2d(2))),
        (1, 8, 8),
        r"^0\.2: MaxPool2d has no exact counterpart.*AvgPool2d",
    ),
    "adaptive": (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1)),
        (1, 8, 8),
        r"^0: AdaptiveAvgPool2d .*kernel",
    ),
    "layernorm": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)),
        (4,),
        r"^1: LayerNorm .*BatchNorm",
    ),
    "transpose": (lambda: nn.Sequential(nn.ConvTranspose2d(1, 1, 3)), (1, 8, 8), r"^0: ConvTranspose2d"),
    "relu": (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU()), (4,), r"^1: ReLU .*spiking neuron"),
    "other node": (lambda: nn.Sequential(neuron.QIFNode()), (4,), r"^0: QIFNode .*supported are .*LIFNode"),
    "subclass": (lambda: nn.Sequential(OtherLIF()), (4,), r"^0: OtherLIF is a subclass of LIFNode"),
    "their subclass": (
        lambda: nn.Sequential(neuron.LIAFNode(nn.ReLU(), False)),
        (4,),
        r"^0: LIAFNode is a subclass",
    ),
    "padding mode": (
        lambda: nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")),
        (1, 8, 8),
        r"^0: Conv2d has padding_mode 'reflect'",
    ),
    "uneven same": (
        lambda: nn.Sequential(nn.Conv2d(1, 1, 2, padding="same")),
        (1, 8, 8),
        r"^0: Conv2d .*uneven",
    ),
    "ceil mode": (lambda: nn.Sequential(nn.AvgPool2d(2, ceil_mode=True)), (1, 7, 7), r"^0: AvgPool2d needs"),
    "pad not counted": (
        lambda: nn.Sequential(nn.AvgPool2d(2, padding=1, count_include_pad=False)),
        (1, 8, 8),
        r"^0: AvgPool2d needs",
    ),
    "flatten": (lambda: nn.Sequential(nn.Flatten(2)), (1, 8, 8), r"^0: Flatten flattens axes 2 to -1"),
    "norm first": (
        lambda: nn.Sequential(nn.BatchNorm2d(1)),
        (1, 8, 8),
        r"^0: BatchNorm2d .*before it stands input",
    ),
    "norm after pool": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2), nn.BatchNorm2d(2)),
        (1, 8, 8),
        r"^2: BatchNorm2d .*before it stands 1 \(avgpool2d\)",
    ),
    "norm of one batch": (
        lambda: nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2, track_running_stats=False)),
        (4,),
        r"^1: BatchNorm1d has no running statistics",
    ),
    "norm channels": (
        lambda: nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(3)),
        (4,),
        r"^1: BatchNorm1d normalises 3 channels, 0 before it has 2",
    ),
    "norm used twice": (Twice, (4,), r"^Twice\.norm: .*used elsewhere"),
    "half": (lambda: nn.Sequential(nn.Linear(4, 2).half()), (4,), r"^0: Linear .*\.float\(\)"),
    "soft spikes": (
        lambda: nn.Sequential(neuron.IFNode(surrogate_function=surrogate.Sigmoid(spiking=False))),
        (4,),
        r"^0: IFNode has a surrogate whose forward is no step",
    ),
    "threshold": (lambda: nn.Sequential(neuron.IFNode(v_threshold=-1.0)), (4,), r"^0: IFNode Law.threshold"),
    "shared neuron": (shared, (4,), r"^3: is the same object as 1"),
    "hooks": (hooked, (4,), r"^0: has forward hooks"),
    "time loop": (Loop, (4,), r"^net\.0: is used twice; .* leave a time loop out"),
    "branching": (Branching, (4,), r"^Branching: forward cannot be traced"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_path_rule_and_fix(case: str) -> None:
    make, shape, says = REFUSED[case]
    with pytest.raises(MappingError, match=says):
        from_torch(make(), shape)


def test_bad_weights_and_shapes_are_refused() -> None:
    net = nn.Sequential(nn.Linear(4, 3), neuron.IFNode())
    with torch.no_grad():
        net[0].weight[2, 1] = float("nan")
    with pytest.raises(NetworkError, match=r"^0: weight\[2, 1\] is nan"):
        from_torch(net, (4,))
    with pytest.raises(NetworkError, match=r"^0: takes \(4,\), got \(1, 2, 2\); is a Flatten missing"):
        from_torch(nn.Sequential(nn.Linear(4, 3)), (1, 2, 2))


def delayed() -> Network:
    """Two neurons, the second feeds the first back two steps later."""
    eye = np.eye(1, dtype=np.float32)
    return Network(
        {
            "in": Input((1,)),
            "w": Linear(eye),
            "a": Spiking(Law(NoLeak())),
            "late": Linear(eye),
            "b": Spiking(Law(NoLeak())),
            "out": Output(),
        },
        [
            Edge("in", "w"),
            Edge("w", "a"),
            Edge("a", "late", 3),
            Edge("w", "late"),
            Edge("late", "b"),
            Edge("b", "a", 2),
            Edge("b", "out"),
        ],
    )


def test_delays_and_feedback_arrive_when_they_should() -> None:
    """One spike at t = 0: a fires at 0, b at 0 by w and at 3 by a's delay; b's spikes re-enter a two steps later."""
    x = np.zeros((1, 9, 1), np.float32)
    x[0, 0] = 1.0
    _, s = run_torch(delayed(), x)
    assert s["a"].ravel().tolist() == [1, 0, 1, 0, 0, 1, 0, 1, 0]
    assert s["b"].ravel().tolist() == [1, 0, 0, 1, 0, 1, 0, 0, 1]


def test_stepping_module_is_resumable_and_has_gradients() -> None:
    network = from_torch(trained(sj_conv()), (2, 8, 8))
    module, x = to_torch(network, dtype=torch.float64, surrogate=ATan()), spikes(3, (2, 8, 8))
    whole = unroll(module, x.double())
    state, out = None, []
    for t in range(T):
        y, state = module(x[:, t], state)
        out.append(y)
    assert torch.equal(torch.stack(out, 1), whole)
    whole.sum().backward()
    grads = [p.grad for p in module.parameters()]
    assert all(g is not None and float(g.abs().max()) > 0 for g in grads)
    assert {p.dtype for p in module.parameters()} == {torch.float64}


def test_run_torch_refuses_another_shape() -> None:
    with pytest.raises(ValueError, match=r"x must be \(samples, T, 1\), got \(2, 3\)"):
        run_torch(delayed(), np.zeros((2, 3), np.float32))


def test_plain_output_stays_real() -> None:
    network = from_torch(Stack(nn.Linear(4, 2)), (4,))
    x = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    y, s = run_torch(network, x)
    node = network.nodes["0"]
    assert isinstance(node, Linear)
    assert node.bias is not None
    np.testing.assert_allclose(y, x @ node.weight.T + node.bias, rtol=1e-5, atol=1e-6)
    assert s == {}
