"""Loops and branches from torch to the chip: SpikingJelly's and our own containers, spike for spike."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

from export import Edge, MappingError, Network
from export.from_torch import from_torch
from export.loihi import DenseEdge
from export.to_loihi import compile_loihi
from export.to_torch import run_torch
from neuro.modules import Recurrent, Spiking, Stack, unroll
from neuro.neuron import Decay, Law, NoLeak, Tau
from sim import engines
from sim.loihi import reference

T = 30
LIF = Law(Tau(2.0, decay_input=False), fires=">")


def on_grid(net: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and biases in 64ths, which floats and 8-bit integers hold exactly."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in net.named_parameters():
            back = "back" in name or "feedback" in name
            p.copy_(torch.randint(-40 if back else -24, 32 if back else 48, p.shape, generator=g) / 64)
    return net.eval()


def spikes(shape: tuple[int, ...], samples: int = 4, rate: float = 0.3) -> Any:
    return (np.random.default_rng(5).random((samples, T, *shape)) < rate).astype(np.float32)


def jelly(net: nn.Module, x: Any) -> Any:
    """SpikingJelly's own loop over time."""
    functional.reset_net(net)
    with torch.no_grad():
        y = torch.stack([net(torch.from_numpy(x[:, t])) for t in range(x.shape[1])], 1).numpy()
    functional.reset_net(net)
    return y


def same_on_the_chip(network: Network, x: Any, want: Any) -> None:
    """The float law, both chip engines and the given answer agree in every spike."""
    assert 0.02 < want.mean() < 0.9
    np.testing.assert_array_equal(run_torch(network, x)[0], want)
    program = compile_loihi(network)
    np.testing.assert_array_equal(engines.run(program, x, "loihi").y, want)
    np.testing.assert_array_equal(reference.run(program, x).y, want)


def linear_loop() -> nn.Module:
    return nn.Sequential(
        layer.LinearRecurrentContainer(
            nn.Sequential(nn.Linear(8, 8), neuron.LIFNode(2.0, decay_input=False)), 8, 8, bias=True
        ),
        nn.Linear(8, 5, bias=False),
        neuron.IFNode(),
    )


def test_jellys_linear_recurrent_container_is_read_and_runs() -> None:
    """``i[t] = W (x[t], y[t-1]) + b``: the product with the layer behind is off the 8-bit grid, the float law exact."""
    net, x = on_grid(linear_loop()), spikes((8,))
    network = from_torch(net, (8,))
    assert Edge("0.rc.back", "0.sub_module.0", 1) in network.edges
    want = jelly(net, x)
    np.testing.assert_array_equal(run_torch(network, x)[0], want)
    got = engines.run(compile_loihi(network), x, "loihi").y
    assert np.corrcoef(got.sum(1).ravel(), want.sum(1).ravel())[0, 1] > 0.98
    plain = nn.Sequential(layer.LinearRecurrentContainer(neuron.LIFNode(2.0, decay_input=False), 6, 6))
    net, x = on_grid(plain, 1), spikes((6,))
    same_on_the_chip(from_torch(net, (6,)), x, jelly(net, x))


@pytest.mark.parametrize("add", [operator.add, torch.add, lambda a, b: b + a])
def test_jellys_element_wise_container_is_read_and_runs(add: Callable[..., Any]) -> None:
    loop = layer.ElementWiseRecurrentContainer(
        nn.Sequential(nn.Linear(6, 6, bias=False), neuron.LIFNode(2.0, decay_input=False)), add
    )
    net, x = on_grid(nn.Sequential(nn.Linear(9, 6), neuron.IFNode(), loop)), spikes((9,))
    network = from_torch(net, (9,))
    assert Edge("2.sub_module.1", "2.sub_module.0", 1) in network.edges
    same_on_the_chip(network, x, jelly(net, x))


@pytest.mark.parametrize("law", [LIF, Law(NoLeak()), Law(Decay(0.5, 0.75), threshold=4.0, fires=">")])
def test_our_recurrent_container_runs_on_the_chip(law: Law) -> None:
    net = Stack(
        nn.Linear(12, 10, bias=False),
        Recurrent(Spiking(law), nn.Linear(10, 10, bias=False)),
        nn.Linear(10, 4, bias=False),
        Spiking(LIF),
    )
    net, x = on_grid(net, 3), spikes((12,), rate=0.4)
    with torch.no_grad():
        want = unroll(net, torch.from_numpy(x)).numpy()
    network = from_torch(net, (12,))
    same_on_the_chip(network, x, want)
    program = compile_loihi(network)
    assert program.loops
    (loop,) = (e for e in program.edges if e.src == e.dst)
    assert isinstance(loop, DenseEdge)
    assert loop.delay == 0  # a connection's own step is the recurrence's


def test_recurrent_alone_feeds_its_output_back() -> None:
    """``y[t] = layers(x[t] + y[t-1])`` against the sum written out."""
    net = Recurrent(Stack(nn.Linear(3, 3, bias=False), Spiking(LIF)))
    on_grid(net, 2)
    x, y, state = torch.from_numpy(spikes((3,))), torch.zeros(4, 3), None
    out, inner = [], None
    for t in range(T):
        z, state = net(x[:, t], state)
        y, inner = net.layers(x[:, t] + y, inner)
        out.append(torch.equal(z, y))
    assert all(out)


def above(x: Tensor) -> Tensor:
    """The comparison that the chip makes."""
    return (x > 0).to(x)


class Skip(nn.Module):
    """Two convolutions, the first population added behind both, as residual networks do."""

    def __init__(self) -> None:
        super().__init__()

        def lif() -> nn.Module:
            return neuron.LIFNode(2.0, decay_input=False, surrogate_function=above)

        self.stem = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), lif())
        self.a = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), lif())
        self.b, self.lif = nn.Conv2d(4, 4, 3, padding=1), lif()
        self.pool, self.fc, self.last = nn.AvgPool2d(2), nn.Linear(16, 5), lif()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.lif(self.b(self.a(x)) + x)
        return self.last(self.fc(torch.flatten(self.pool(x), 1)))


def test_residual_network_runs_on_the_chip_with_its_branches_in_step() -> None:
    net, x = on_grid(Skip(), 4), spikes((2, 4, 4), rate=0.2)
    for norm in (net.stem[0], net.a[0], net.b, net.fc):
        norm.bias.data *= 0.25
    network = from_torch(net, (2, 4, 4))
    same_on_the_chip(network, x, jelly(net, x))
    program = compile_loihi(network)
    waits = {(e.src, e.dst): e.delay for e in program.edges}
    assert waits["stem.1", "lif"] == 1
    assert program.latency == 4
    assert [(z.node, z.size) for z in program.losses if "wait for a longer path" in z.what] == [("lif", 1.0)]


def bad(kind: str) -> nn.Module:
    lif = neuron.LIFNode(2.0)
    return {
        "product": lambda: layer.ElementWiseRecurrentContainer(lif, operator.mul),
        "shapes": lambda: layer.ElementWiseRecurrentContainer(nn.Sequential(nn.Linear(4, 3), lif), operator.add),
        "empty": lambda: Recurrent(nn.Identity()),
        "bias": lambda: Recurrent(Spiking(), nn.Linear(4, 4)),
        "norm": lambda: layer.LinearRecurrentContainer(nn.Sequential(nn.BatchNorm1d(4), lif), 4, 4),
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("product", r"^0: ElementWiseRecurrentContainer joins input and output by something else than \+"),
        ("shapes", r"^0: ElementWise\w+ adds its output to its input, but their shapes are \(3,\) and \(4,\)"),
        ("empty", r"^0: Recurrent hands its input on as it is; put layers into it"),
        ("bias", r"^0: Recurrent feeds back through a bias; .*bias=False"),
        ("norm", r"^0\.sub_module\.0: BatchNorm1d is folded into a Linear or Conv1d right before it"),
    ],
)
def test_loops_that_no_network_has_are_refused(kind: str, says: str) -> None:
    with pytest.raises(MappingError, match=says):
        from_torch(nn.Sequential(bad(kind)), (4,))
