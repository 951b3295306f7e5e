"""Every change on the way to the chip is named once it happens, and nothing is named where nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from export import AvgPool2d, Conv2d, Edge, Flatten, Input, Linear, Loss, Network, Output, Spiking
from export.calibrate import count_error, record
from export.from_torch import from_torch
from export.grid import step_of
from export.lower import Link, lower
from export.quantize import quantize
from export.to_loihi import compile_loihi
from neuro.modules import Spiking as SpikingModule
from neuro.modules import Stack
from neuro.neuron import Decay, Law, NoLeak, Tau
from sim import numpy_engine
from sim.loihi import engine

RNG = np.random.default_rng(11)
EXACT = Law(Tau(2.0, decay_input=False), fires=">")
GRID = np.arange(-24, 40).reshape(8, 8) / 64


def layer(law: Law = EXACT, w: Any = GRID, bias: Any = None) -> Network:
    return Network.sequential({"in": Input((8,)), "fc": Linear(w, bias), "h": Spiking(law), "out": Output()})


def image(*between: tuple[str, Any], law: Law = EXACT, edges: tuple[Edge, ...] = ()) -> Network:
    nodes = {"in": Input((1, 6, 6)), **dict(between), "h": Spiking(law), "out": Output()}
    return Network(nodes, [*(Edge(a, b) for a, b in pairwise(nodes)), *edges])


def conv(padding: int = 1, inputs: int = 1) -> Conv2d:
    w = (np.arange(9 * inputs) - 3).reshape(1, inputs, 3, 3) / 16
    return Conv2d(w, None, (1, 1), (padding, padding))


def normed() -> Network:
    net = Stack(nn.Linear(8, 8), nn.BatchNorm1d(8), SpikingModule(EXACT)).eval()
    with torch.no_grad():
        net[1].running_mean.fill_(0.3)
    return from_torch(net, (8,))


def test_nothing_is_named_where_nothing_changes() -> None:
    """Weights, thresholds, decays and biases that the chip holds as they are."""
    assert compile_loihi(layer()).losses == ()
    assert compile_loihi(layer(Law(NoLeak()))).losses == ()
    assert compile_loihi(layer(bias=np.arange(8) / 64)).losses == ()
    assert compile_loihi(layer(Law(Decay(0.5, 0.75), 2.0, fires=">"))).losses == ()
    assert compile_loihi(image(("c", conv()))).losses == ()
    thirds = layer(w=(np.arange(64).reshape(8, 8) - 30) / 3, law=Law(NoLeak(), 20.0))
    assert compile_loihi(thirds).losses == ()


NAMED: dict[str, tuple[Callable[[], Network], dict[str, Any], str, str, Callable[[float], bool]]] = {
    "weights": (
        lambda: layer(w=RNG.normal(0, 1, (8, 8))), {}, "fc", "weights rounded to 8 bits, largest",
        lambda x: 0 < x < 0.02,
    ),
    "threshold": (
        lambda: image(("c", Conv2d(RNG.normal(0, 1, (1, 1, 3, 3))))), {}, "h", "threshold rounded",
        lambda x: 0 < x < 0.01,
    ),
    "decay": (
        lambda: layer(Law(Tau(3.0, decay_input=False), fires=">")), {}, "h", "decay rounded to 1/4096",
        lambda x: abs(x - abs(round(4096 / 3) / 4096 - 1 / 3)) < 1e-12,
    ),
    "current's decay": (
        lambda: layer(Law(Decay(1 / 3, 0.5), fires=">")), {}, "h", "decay rounded to 1/4096", lambda x: 0 < x < 2**-13,
    ),
    "forgetting": (
        lambda: layer(Law(Decay(0.0, 0.0), fires=">")), {}, "h", "keeps 1/4096 instead of nothing",
        lambda x: x == 1 / 4096,
    ),
    "bias": (
        lambda: layer(w=GRID, bias=RNG.normal(0, 0.1, 8)), {}, "h", "bias rounded", lambda x: 0 < x < 1e-3,
    ),
    "first current": (
        lambda: layer(Law(Decay(0.5, 0.5), 2.0, fires=">"), bias=RNG.normal(0, 0.1, 8)), {}, "h",
        "first current of a bias rounded", lambda x: 0 < x < 1e-3,
    ),
    "comparison": (
        lambda: layer(Law(Tau(2.0, decay_input=False))), {}, "h", "'>=' runs as '>': the threshold lies one unit lower",
        lambda x: 0 < x < 0.01,
    ),
    "comparison off the grid": (
        lambda: layer(Law(Tau(2.0)), RNG.normal(0, 1, (8, 8))), {}, "h", "'>=' runs as '>': equality does not fire",
        lambda x: x == 0,
    ),
    "scale by current": (
        lambda: Network.sequential(
            {"in": Input((2000,)), "fc": Linear(RNG.uniform(0.5, 1, (2, 2000))), "h": Spiking(Law(NoLeak(), 9.0)),
             "out": Output()}
        ), {}, "h", "bits lost: a current could reach 2^23", lambda x: 1 < x < 2,
    ),
    "scale by bias": (
        lambda: layer(w=RNG.normal(0, 1, (8, 8)), bias=np.full(8, -100.0)), {}, "h", "bits lost: the bias fits",
        lambda x: 0 < x < 2,
    ),
    "soft reset": (
        lambda: layer(Law(NoLeak(), reset="subtract", fires=">")), {"soft_reset": True}, "h",
        "extension of this engine, not portable", lambda x: x == 1,
    ),
    "graded": (layer, {"graded_bits": 3}, "in", "input as signed integers, not spikes", lambda x: x == 3),
    "pooling": (
        lambda: image(("pool", AvgPool2d((2, 2), (2, 2))), ("c", conv())), {}, "pool", "pooling composed",
        lambda x: x == 0,
    ),
    "conv as matrix": (
        lambda: image(("c", conv()), ("flat", Flatten())), {}, "c", "convolution runs as a matrix", lambda x: x > 20,
    ),
    "delayed conv": (
        lambda: image(("c", conv()), ("s", Spiking(EXACT)), ("d", conv()), edges=(Edge("c", "h"),)), {}, "h",
        "spikes of in wait for a longer path", lambda x: x == 1,
    ),
    "norm": (normed, {}, "0", "BatchNorm folded", lambda x: 0 <= x < 1e-5),
}  # fmt: skip


@pytest.mark.parametrize("case", NAMED)
def test_every_change_is_named_with_its_size(case: str) -> None:
    make, options, node, what, size = NAMED[case]
    net = make()
    found = [x for x in compile_loihi(net, **options).losses if x.node == node and what in x.what]
    assert len(found) == 1, compile_loihi(net, **options).losses
    assert size(found[0].size), found


def test_a_change_is_named_alone() -> None:
    """One thing off the grid gives that one loss, not its neighbours'."""
    one = compile_loihi(layer(Law(Tau(3.0, decay_input=False), fires=">"))).losses
    assert [x.what for x in one] == ["decay rounded to 1/4096, error of the fraction kept per step"]
    graded = compile_loihi(layer(), graded_bits=4).losses
    assert [x.node for x in graded] == ["in"]


def test_the_step_of_weights_is_found_in_floats() -> None:
    n = RNG.integers(-127, 127, (40, 30))
    for step in (1 / 64, 1 / 3, 0.0123):
        w = n * step
        assert step_of([w]) == pytest.approx(step * np.gcd.reduce(np.abs(n).ravel()), rel=1e-9)
        assert step_of([w.astype(np.float32).astype(np.float64)]) == pytest.approx(step, rel=1e-6)
        assert step_of([w, w[:5] * 2]) == pytest.approx(step, rel=1e-9)
    assert step_of([RNG.normal(size=(40, 30))]) is None
    assert step_of([np.zeros((3, 3))]) is None
    assert step_of([n * 0.1, n[:3] * 0.1 + 0.01]) is None


@pytest.mark.parametrize("step", [1 / 3, 0.0123, 0.0371])
def test_weights_on_any_grid_go_over_exactly(step: float) -> None:
    """float32 multiples of a step that is no power of 2, the threshold a multiple too: equal in every spike."""
    n = RNG.integers(-100, 127, (12, 8))
    w = (n * step).astype(np.float32)
    net = layer(Law(Tau(2.0, decay_input=False), float(140.25 * step), fires=">"), w.astype(np.float64))
    program = compile_loihi(net)
    assert program.losses == ()
    np.testing.assert_array_equal(np.abs(program.edges[0].w), 2 * np.abs(n))
    x = (RNG.random((6, 50, 8)) < 0.4).astype(np.float64)
    want = numpy_engine.run(net, x).y
    assert 0.05 < want.mean() < 0.9
    assert (want == engine.run(program, x).y).mean() > 0.998  # float equality at the threshold is anybody's


def test_scale_search_lowers_the_count_error_it_measures() -> None:
    w = RNG.normal(0.1, 0.6, (2, 3, 3, 3))
    net = Network.sequential(
        {"in": Input((3, 8, 8)), "c": Conv2d(w, RNG.normal(0, 0.1, 2)), "h": Spiking(Law(Tau(2.0))), "out": Output()}
    )
    x = (RNG.random((8, 20, 3, 8, 8)) < 0.3).astype(np.float64)
    largest, searched = (compile_loihi(net, calibration=x, scale_search=k) for k in (0, 12))
    want = numpy_engine.run(net, x).y.sum(1)
    wrong = [int(np.abs(engine.run(p, x).y.sum(1) - want).sum()) for p in (largest, searched)]
    assert wrong[1] < wrong[0]
    assert searched.scale["h"] < largest.scale["h"]
    (named,) = (z for z in searched.losses if "fewest wrong spike counts" in z.what)
    assert named.size == pytest.approx(np.log2(largest.scale["h"] / searched.scale["h"]))
    assert compile_loihi(net, calibration=x, scale_search=12).hash() == searched.hash()


@pytest.mark.parametrize("law", [Law(Tau(2.0)), Law(Decay(0.6, 0.8), 3.0), Law(Tau(4.0, rest=0.3), v_reset=-0.2)])
def test_the_measured_count_error_is_the_chips(law: Law) -> None:
    """The float law in the chip's units against the integer engine, to the truncation that it leaves out."""
    net = layer(law, RNG.normal(0.15, 0.5, (8, 8)), RNG.normal(0.05, 0.1, 8))
    x = (RNG.random((10, 40, 8)) < 0.4).astype(np.float64)
    lowered = lower(net)
    recording = record(net, lowered, x)
    made = quantize("h", law, lowered.links, lowered.bias["h"], [1], recording.peaks["h"])
    want = numpy_engine.run(net, x).y.sum(1)
    got = engine.run(compile_loihi(net, calibration=x), x).y.sum(1)
    assert want.sum() > 100
    assert abs(count_error(recording, "h", lowered.links, made, law.reset) - np.abs(got - want).sum()) <= 6


def test_a_soft_reset_takes_off_what_the_chip_takes_off() -> None:
    """``>=`` runs as ``> vth`` one unit lower: 550 spikes that left that unit behind would come to one spike more."""
    law = Law(NoLeak(), reset="subtract", fires=">=")
    net = image(("conv", Conv2d(np.full((1, 1, 1, 1), 0.5))), law=law)
    lowered = lower(net)
    recording = record(net, lowered, np.ones((1, 1100, *net.shapes()[net.input])))
    made = quantize("h", law, lowered.links, None, [1])
    assert (made.vth, made.subtract) == (509, 510)
    assert (recording.counts("h") == 550).all()
    assert count_error(recording, "h", lowered.links, made, law.reset) == 0


def test_peaks_are_the_largest_currents() -> None:
    """By hand: weights 1 and -2, current decay 1/2, spikes 1,1,0 and 0,1,1."""
    net = Network.sequential(
        {"in": Input((2,)), "fc": Linear(np.array([[1.0, -2.0]])), "h": Spiking(Law(Decay(0.5, 0.5))), "out": Output()}
    )
    x = np.array([[[1, 0], [1, 1], [0, 1]]], float)
    assert record(net, lower(net), x).peaks == {"h": 2.25}  # 1, 0.5 - 1, -0.25 - 2


def test_a_chain_of_losses_is_plain_data() -> None:
    found = compile_loihi(layer(w=RNG.normal(0, 1, (8, 8)))).losses
    assert all(isinstance(x, Loss) and np.isfinite(x.size) for x in found)
    assert quantize("h", EXACT, [Link("in", "h", "fc", GRID)], None, [1]).losses == []
