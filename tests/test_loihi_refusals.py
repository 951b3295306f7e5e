"""Every network that the chip cannot run is refused on the way to it: module path, rule and fix in the message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn
from torch.nn import functional

from export import CapacityError, Conv2d, Delay, Edge, Input, Linear, Network, Output, Spiking
from export.from_torch import from_torch
from export.program import MappingError
from export.to_loihi import compile_loihi
from neuro.modules import Spiking as SpikingModule
from neuro.neuron import Decay, Law, Tau
from sim import engines

Make = Callable[[], nn.Module]


def fc(node: nn.Module, n: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(nn.Linear(n, n), node))


def weights(value: float) -> nn.Module:
    net = fc(neuron.IFNode())
    with torch.no_grad():
        net[0][0].weight.fill_(value)
        net[0][0].weight[0, 0] = value
    return net


def with_field(node: nn.Module, name: str, value: Any) -> nn.Module:
    setattr(node, name, value)
    return fc(node)


class Calls(nn.Module):
    """A forward that calls a function instead of a module."""

    def __init__(self, call: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.call, self.fc, self.lif = call, nn.Linear(4, 4), neuron.IFNode()

    def forward(self, x: Tensor) -> Tensor:
        return self.lif(self.call(self.fc(x)))


class LIFRefracCell(nn.Module):
    """As norse calls its refractory neuron."""


IMAGE = (2, 8, 8)
CASES: dict[str, tuple[Make, tuple[int, ...], dict[str, Any], str]] = {
    "soft reset": (
        lambda: fc(neuron.IFNode(v_reset=None)), (4,), {},
        r"^0\.1: reset 'subtract' is in no stock lava process; train with reset 'zero' .*hard_reset.*soft_reset=True",
    ),
    "tau per neuron": (
        lambda: with_field(neuron.ParametricLIFNode(2.0), "w", nn.Parameter(torch.zeros(4))), (4,), {},
        r"^0\.1: ParametricLIFNode has 4 values of w; a population has one: give each group .*layer of its own",
    ),
    "threshold per neuron": (
        lambda: with_field(neuron.LIFNode(2.0), "v_threshold", torch.rand(4)), (4,), {},
        r"^0\.1: LIFNode has 4 values of v_threshold; .*each group",
    ),
    "leak target without bias budget": (
        lambda: fc(SpikingModule(Law(Tau(2.0, rest=-1e5), fires=">"))), (4,), {},
        r"^0\.1: the bias fits 4095 << 7: .*bring the leak's target and v_reset together",
    ),
    "max pooling": (
        lambda: nn.Sequential(nn.Conv2d(2, 2, 3), neuron.IFNode(), nn.MaxPool2d(2)), IMAGE, {},
        r"^2: MaxPool2d has no exact counterpart.*AvgPool2d",
    ),
    "layer norm": (lambda: fc(nn.LayerNorm(4)), (4,), {}, r"^0\.1: LayerNorm .*BatchNorm"),
    "group norm": (lambda: nn.Sequential(nn.GroupNorm(1, 2)), IMAGE, {}, r"^0: GroupNorm .*BatchNorm"),
    "softmax": (lambda: fc(nn.Softmax(1)), (4,), {}, r"^0\.1: Softmax .*spike count"),
    "attention": (lambda: fc(nn.MultiheadAttention(4, 1)), (4,), {}, r"^0\.1: MultiheadAttention .*multiplies"),
    "spiking attention": (
        lambda: fc(layer.SpikingSelfAttention(4, 2)), (4,), {}, r"^0\.1: SpikingSelfAttention .*multiplies",
    ),
    "function softmax": (
        lambda: nn.Sequential(Calls(lambda x: functional.softmax(x, 1))), (4,), {}, r"^0: forward uses .*spike count",
    ),
    "function relu": (
        lambda: nn.Sequential(Calls(torch.relu)), (4,), {}, r"^0: forward uses 'relu'.*put a spiking neuron there",
    ),
    "product": (lambda: nn.Sequential(Calls(lambda x: x * x)), (4,), {}, r"^0: forward uses 'mul'.*multiplies"),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 2, 3)), IMAGE, {}, r"^0: ConvTranspose2d .*use Conv2d",
    ),
    "complex": (
        lambda: nn.Sequential(nn.Linear(4, 4, dtype=torch.complex64)), (4,), {},
        r"^0: Linear has a complex weight; activations are spikes",
    ),
    "padding mode": (
        lambda: nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular")), IMAGE, {},
        r"^0: Conv2d has padding_mode 'circular'; only 'zeros'",
    ),
    "refractory": (lambda: fc(LIFRefracCell()), (4,), {}, r"^0\.1: LIFRefracCell .*no refractory time"),
    "zero weights": (lambda: weights(0.0), (4,), {}, r"^0\.0: all weights are 0, there is no scale; train it"),
    "nan weights": (lambda: weights(float("nan")), (4,), {}, r"^0\.0: weight\[0, 0\] is nan .*earlier checkpoint"),
    "threshold of nothing": (
        lambda: fc(neuron.IFNode(v_threshold=1e-6)), (4,), {},
        r"^0\.1: threshold 1e-06 rounds to .*lower them or raise the threshold",
    ),
    "current overflow": (
        lambda: fc(neuron.LIFNode(2.0), 64), (64,), {"graded_bits": 20},
        r"^0\.1: a current could reach 2\^23: .*pass calibration=",
    ),
    "endless current": (
        lambda: fc(SpikingModule(Law(Decay(1.0, 0.5)))), (4,), {}, r"^0\.1: a current that keeps 1 .*no legal du",
    ),
    "threshold below reset": (
        lambda: fc(neuron.IFNode(v_reset=1.5)), (4,), {}, r"^0\.1: threshold 1 is not above v_reset 1\.5; lower",
    ),
    "no spikes at the end": (
        lambda: nn.Sequential(nn.Linear(4, 4)), (4,), {}, r"^output: the chip sends spikes, but the output is '0'",
    ),
    "graded_bits": (lambda: fc(neuron.IFNode()), (4,), {"graded_bits": 25}, r"^input: graded_bits must be 0 to 24"),
    "search without a batch": (
        lambda: fc(neuron.IFNode()), (4,), {"scale_search": 8}, r"scale_search=8 .*give calibration=",
    ),
    "real calibration": (
        lambda: fc(neuron.IFNode()), (4,), {"calibration": np.full((2, 3, 4), 0.5)},
        r"^input: a synapse takes spikes, 0 and 1, the calibration batch holds 0\.5 .*neuro\.encode.*graded_bits",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_refused_with_path_rule_and_fix(case: str) -> None:
    make, shape, options, says = CASES[case]
    with pytest.raises(ValueError, match=says):
        compile_loihi(from_torch(make(), shape), **options)


@pytest.mark.parametrize(
    "make",
    [
        neuron.QIFNode,
        neuron.EIFNode,
        neuron.IzhikevichNode,
        neuron.KLIFNode,
        neuron.TernaryIFNode,
        neuron.HalfThresholdIFNode,
        neuron.RAFNode,
        lambda: neuron.PSN(4),
        lambda: neuron.SimpleLIFNode(2.0, True),
        lambda: neuron.ILIFNode(2.0),
    ],
)
def test_other_neurons_are_refused(make: Make) -> None:
    node = make()
    with pytest.raises(MappingError, match=rf"^0\.1: {type(node).__name__} .*(supported are .*LIFNode|use LIFNode)"):
        from_torch(fc(node), (4,))


def test_delays_below_0_and_above_62_are_refused() -> None:
    nodes = {"in": Input((2,)), "fc": Linear(np.eye(2)), "h": Spiking(), "out": Output()}
    chain = [Edge("in", "fc"), Edge("fc", "h"), Edge("h", "out")]
    with pytest.raises(ValueError, match=r"^edge h -> fc: delay must be >= 0 steps, got -1"):
        compile_loihi(Network(nodes, [*chain, Edge("h", "fc", -1)]))
    with pytest.raises(MappingError, match=r"^h -> h: needs a delay of 63 steps, .*relay the spikes"):
        compile_loihi(Network(nodes, [*chain, Edge("h", "fc", 64)]))


def test_a_synapse_with_a_delay_above_62_is_refused() -> None:
    """Synapses of delay 0 beside it, so that no step of it is absorbed by a later start."""

    def late(steps: int) -> Network:
        nodes = {
            "in": Input((3,)), "wait": Delay(np.array([0, 5, steps])), "fc": Linear(np.eye(3)), "h": Spiking(),
            "out": Output(),
        }  # fmt: skip
        return Network.sequential(nodes)

    with pytest.raises(MappingError, match=r"^in -> h: needs a delay of 63 steps, a synapse has at most 62; shorten"):
        compile_loihi(late(63))
    program = compile_loihi(late(62))
    assert program.edges[0].delay_range() == (0, 62)
    assert program.losses == ()


def test_more_synapses_than_a_core_holds_are_refused() -> None:
    wide = Network.sequential(
        {"in": Input((200_000,)), "fc": Linear(np.ones((1, 200_000))), "h": Spiking(), "out": Output()}
    )
    few = (np.arange(200_000) < 9).astype(np.float32)[None, None]  # bounds the current: its worst case is refused first
    with pytest.raises(CapacityError, match=r"^h: neuron 0 alone needs \d+ \w+_per_core, .* has \d+"):
        compile_loihi(wide, calibration=few)


def test_fractions_are_refused_where_synapses_take_spikes() -> None:
    program = compile_loihi(from_torch(fc(neuron.IFNode()), (4,)))
    with pytest.raises(ValueError, match=r"^input: x holds fractions, .*neuro\.encode.*graded_bits"):
        engines.run(program, np.full((1, 3, 4), 0.3), "loihi")
    with pytest.raises(ValueError, match=r"^input: x holds 0 to 3, the program takes 0 to 1; .*graded_bits"):
        engines.run(program, np.arange(4.0)[None, None].repeat(2, 1), "loihi")


def test_layers_of_one_population_that_differ_too_much_are_refused() -> None:
    nodes = {
        "in": Input((2, 4, 4)), "a": Conv2d(np.full((2, 2, 3, 3), 1.0), None, (1, 1), (1, 1)),
        "b": Conv2d(np.full((2, 2, 1, 1), 1e-4)), "h": Spiking(), "out": Output(),
    }  # fmt: skip
    edges = [Edge(*e) for e in (("in", "a"), ("in", "b"), ("a", "h"), ("b", "h"), ("h", "out"))]
    with pytest.raises(MappingError, match=r"^h: the weights: .*round to 0; the layers .* differ too much in size"):
        compile_loihi(Network(nodes, edges))
