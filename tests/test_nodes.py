"""Conv1d, SumPool2d, Scale, Delay, partial Flatten and Integrator: literal series, torch's own layers, every engine."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from export import (
    Conv1d,
    Conv2d,
    Delay,
    Edge,
    Flatten,
    Input,
    Integrator,
    Linear,
    MappingError,
    Network,
    NetworkError,
    Output,
    Scale,
    Spiking,
    SumPool2d,
)
from export.lower import lower
from export.to_loihi import compile_loihi
from export.to_onnx import to_onnx_scan, to_onnx_step
from export.to_torch import run_torch
from neuro.neuron import Decay, Law, NoLeak, Rate, Tau
from sim import numpy_engine
from sim.edge import counts, native
from sim.loihi import engine, reference

RNG = np.random.default_rng(3)
SOFT = Law(NoLeak(), threshold=0.5, reset="subtract")


def grid(*shape: int, gain: float = 0.5) -> Any:
    """Multiples of 2**-6: every partial sum of spikes is exact in float32."""
    return (np.round(RNG.normal(0.1, gain, shape) * 64) / 64).astype(np.float32)


def bits(*shape: int, rate: float = 0.4) -> Any:
    return (RNG.random(shape) < rate).astype(np.float32)


def sequential(**nodes: Any) -> Network:
    return Network.sequential({"in": nodes.pop("start"), **nodes, "out": Output()})


def series(node: Any, x: Any) -> list[Any]:
    """What a node alone answers to ``x (T, n)``."""
    net = sequential(start=Input(x.shape[1:]), node=node)
    found = numpy_engine.run(net, x[None]).y[0]
    torch_y, _ = run_torch(net, x[None])
    np.testing.assert_array_equal(found, torch_y[0])
    return found.tolist()  # type: ignore[no-any-return]


def test_delay_series() -> None:
    x = np.array([[1, 1, 1], [2, 2, 2], [3, 3, 3], [4, 4, 4]], np.float32)
    assert series(Delay(np.array([0, 1, 3])), x) == [[1, 0, 0], [2, 1, 0], [3, 2, 0], [4, 3, 1]]
    assert series(Delay(np.array([2, 1, 1])), x) == [[0, 0, 0], [0, 1, 1], [1, 2, 2], [2, 3, 3]]
    assert series(Delay(np.array([0, 0, 0])), x) == x.tolist()


@pytest.mark.parametrize(
    ("node", "want"),
    [
        (Integrator(), [1.0, 1.0, 2.0, 2.0]),
        (Integrator(Tau(2.0, decay_input=False)), [1.0, 0.5, 1.25, 0.625]),
        (Integrator(Tau(2.0, rest=1.0)), [1.5, 1.25, 1.625, 1.3125]),  # begins at its rest
        (Integrator(Rate(0.5)), [0.5, 0.25, 0.625, 0.3125]),
        (Integrator(Decay(0.5, 0.5), 3.0), [4.0, 4.0, 4.75, 4.5]),  # i: 1 .5 1.25 .625; v: 1 1 1.75 1.5
    ],
    ids=["I", "LI", "LI rest", "LI rate", "CubaLI offset"],
)
def test_integrator_series(node: Integrator, want: list[float]) -> None:
    x = np.array([[1], [0], [1], [0]], np.float32)
    assert [v[0] for v in series(node, x)] == want


@pytest.mark.parametrize(("stride", "padding", "dilation", "groups"), [(1, 0, 1, 1), (2, 1, 1, 2), (1, 3, 2, 1)])
def test_conv1d_is_torchs(stride: int, padding: int, dilation: int, groups: int) -> None:
    node = Conv1d(grid(6, 4 // groups, 3), grid(6), stride, padding, dilation, groups)
    x = RNG.normal(size=(3, 4, 11)).astype(np.float32)
    want = functional.conv1d(
        torch.tensor(x), torch.tensor(node.weight), torch.tensor(node.bias), stride, padding, dilation, groups
    )
    assert node.out_shape((4, 11)) == tuple(want.shape[1:])
    np.testing.assert_allclose(numpy_engine.apply(node, x), want.numpy(), atol=1e-5)


def test_sum_pool_is_torchs_average_times_window() -> None:
    x = torch.tensor(RNG.integers(0, 2, (2, 3, 7, 6)).astype(np.float32))
    want = functional.lp_pool2d(x, 1.0, (2, 3), (1, 2))  # the 1-norm of what is not negative is its sum
    node = SumPool2d((2, 3), (1, 2))
    np.testing.assert_array_equal(numpy_engine.apply(node, x.numpy()), want.numpy())
    assert node.out_shape((3, 7, 6)) == tuple(want.shape[1:])


def test_partial_flatten_is_torchs() -> None:
    x = RNG.normal(size=(2, 3, 4, 5))
    for a, b in ((0, -1), (0, 1), (1, 2), (-2, -1), (1, 1)):
        want = torch.tensor(x).flatten(a + 1 if a >= 0 else a, b + 1 if b >= 0 else b)
        assert Flatten(a, b).out_shape((3, 4, 5)) == tuple(want.shape[1:])
        np.testing.assert_array_equal(numpy_engine.apply(Flatten(a, b), x), want.numpy())
    with pytest.raises(ValueError, match="flattens axes 1 to 3"):
        Flatten(1, 3).out_shape((3, 4, 5))


def zoo(readout: Integrator | None = None) -> Network:
    """Every new kind, an early Delay in a loop and a mixed one on a branch."""
    nodes = {
        "in": Input((2, 12)),
        "conv": Conv1d(grid(4, 2, 3), grid(4), 1, 1),
        "s1": Spiking(SOFT),
        "flat1": Flatten(),
        "scale": Scale(np.tile(np.array([0.5, 1.0, 2.0, 0.25], np.float32), 12)),
        "fc": Linear(grid(32, 48, gain=0.2)),
        "line": Delay(RNG.integers(0, 4, 48)),
        "s2": Spiking(SOFT),
        "loop": Delay(RNG.integers(1, 4, 32)),
        "back": Linear(grid(32, 32, gain=0.1) - np.float32(0.125)),
        "fc2": Linear(grid(5, 32)),
        "read": readout or Integrator(Decay(0.5, 0.75), 0.25),
        "out": Output(),
    }
    names = [
        ("in", "conv"), ("conv", "s1"), ("s1", "flat1"), ("flat1", "line"), ("line", "scale"), ("scale", "fc"),
        ("fc", "s2"), ("s2", "loop"), ("loop", "back"), ("back", "s2"), ("s2", "fc2"), ("fc2", "read"), ("read", "out"),
    ]  # fmt: skip
    net = Network(nodes, [Edge(a, b) for a, b in names], name="zoo")
    net.check()
    return net


def images() -> Network:
    return Network.sequential(
        {
            "in": Input((2, 9, 8)),
            "c1": Conv2d(grid(4, 2, 3, 3), grid(4), padding=(1, 1)),
            "s1": Spiking(SOFT),
            "wait": Delay(RNG.integers(0, 3, (4, 9, 8))),
            "pool": SumPool2d((2, 2), (2, 2), (1, 0)),
            "half": Scale(np.full((4, 5, 4), 0.25, np.float32)),
            "s2": Spiking(SOFT),
            "rows": Flatten(1, 2),
            "c2": Conv1d(grid(3, 4, 4), None, 4),
            "s3": Spiking(SOFT),
            "flat": Flatten(),
            "fc": Linear(grid(4, 15)),
            "read": Integrator(Tau(4.0, rest=0.5)),
            "out": Output(),
        }
    )


@pytest.mark.parametrize("make", [zoo, images])
def test_engines_agree_to_the_bit(make: Any, tmp_path: Path) -> None:
    net = make()
    assert Network.load(net.save(tmp_path / "net.npz")).hash() == net.hash()
    x = bits(3, 15, *net.shapes()["in"])
    probes = tuple(f"{n}.s" for n in net.spiking())
    want = numpy_engine.run(net, x, probes=probes)
    for p in probes:
        assert 0.02 < want.probes[p].mean() < 0.98, p
    y, spikes = run_torch(net, x)
    np.testing.assert_array_equal(y, want.y)
    for n in net.spiking():
        np.testing.assert_array_equal(spikes[n], want.probes[f"{n}.s"])
    for program in (to_onnx_step(net), to_onnx_scan(net)):
        got = native.run(program, x, probes=probes)
        np.testing.assert_array_equal(got.y, want.y)
        for p in probes:
            np.testing.assert_array_equal(got.probes[p], want.probes[p])
        assert got.counts == want.counts


def test_counted_work() -> None:
    net = zoo()
    done = counts.work(net)
    assert done["macs"] == {"conv": 4 * 12 * 2 * 3, "fc": 32 * 48, "back": 32 * 32, "fc2": 5 * 32}
    assert done["elementwise_ops"]["scale"] == 48
    assert done["elementwise_ops"]["read"] == 5 * 5  # two-stage decay and the offset
    assert done["neuron_updates"] == {"s1": 48, "s2": 32}
    assert counts.fanout(net, "conv").tolist() == [
        int(np.count_nonzero(net.nodes["conv"].weight[:, c, max(0, i - 10) : min(3, i + 2)][:, ::-1]))  # type: ignore[union-attr]
        for c in range(2)
        for i in range(12)
    ]
    with pytest.raises(ValueError, match=r"^in: a Input has no weights; layers are"):
        counts.fanout(net, "in")


def test_refused() -> None:
    x = Input((3,))
    with pytest.raises(NetworkError, match=r"^d: steps must be in 0\.\.65536, got -1 to 2"):
        sequential(start=x, d=Delay(np.array([-1, 0, 2])))
    with pytest.raises(NetworkError, match=r"^d: takes \(4,\), got \(3,\)"):
        sequential(start=x, d=Delay(np.ones(4, int)))
    with pytest.raises(NetworkError, match=r"^k: scale\[1\] is nan"):
        sequential(start=x, k=Scale(np.array([1.0, np.nan, 1.0])))
    with pytest.raises(NetworkError, match=r"^c: takes \(2, n\), got \(3,\)"):
        sequential(start=x, c=Conv1d(grid(2, 2, 3)))
    loop = {"in": x, "a": Spiking(), "d": Delay(np.array([0, 1, 1])), "out": Output()}
    edges = [Edge("in", "a"), Edge("a", "d"), Edge("d", "a"), Edge("a", "out")]
    with pytest.raises(NetworkError, match="cycle without delay through a, d"):
        Network(loop, edges).check()


def spiking_zoo(delays: Any) -> Network:
    """A chip-like net: per-element delays behind the input, before the neurons, and in a loop."""
    before, after = delays
    nodes = {
        "in": Input((10,)),
        "near": Delay(before),
        "fc": Linear(grid(8, 10)),
        "far": Delay(after),
        "s1": Spiking(Law(NoLeak())),
        "fc2": Linear(grid(6, 8)),
        "s2": Spiking(Law(NoLeak())),
        "out": Output(),
    }
    return Network(nodes, [Edge(a, b) for a, b in pairwise(nodes)])


@pytest.mark.parametrize(
    ("before", "after", "links"),
    [
        (np.zeros(10, int), np.full(8, 3), 1),
        (np.arange(10), np.zeros(8, int), 1),
        (np.zeros(10, int), np.arange(8) % 3, 1),
        (np.arange(10) % 4, np.arange(8) % 3, 1),
    ],
    ids=["uniform", "source", "target", "both"],
)
def test_delays_become_those_of_synapses(before: Any, after: Any, links: int) -> None:
    """The chip's integers, on weights that eight bits hold exactly, spike as the float law does."""
    net = spiking_zoo((before, after))
    found = [x for x in lower(net).links if x.dst == "s1"]
    assert len(found) == links
    want = after[:, None] + before[None, :]
    mine = found[0].delays if found[0].delays is not None else np.full((8, 10), found[0].delay)
    used = found[0].weight != 0
    np.testing.assert_array_equal(mine[used], want[used])
    assert found[0].delay == want[used].min()
    x = bits(3, 25, 10)
    truth = numpy_engine.run(net, x, probes=("s1.s", "s2.s"))
    program = compile_loihi(net)
    for chip in (engine, reference):
        got = chip.run(program, x, probes=("s1.s", "s2.s"))
        for p in ("s1.s", "s2.s"):
            assert 0.05 < truth.probes[p].mean() < 0.95
            np.testing.assert_array_equal(got.probes[p], truth.probes[p])


def test_delay_between_two_maps_makes_a_link_of_each_delay() -> None:
    """Through each hidden line a synapse has another delay: several synapses of one pair, as links."""
    nodes = {
        "in": Input((6,)),
        "a": Linear(grid(4, 6)),
        "d": Delay(np.array([0, 2, 2, 5])),
        "b": Linear(grid(5, 4)),
        "s": Spiking(Law(NoLeak(), threshold=0.25)),
        "out": Output(),
    }
    net = Network(nodes, [Edge(a, b) for a, b in pairwise(nodes)])
    links = lower(net).links
    assert [x.delay for x in links] == [0, 2, 5]
    assert all(x.delays is None for x in links)
    x = RNG.normal(size=(2, 12, 6)).astype(np.float32)
    want = numpy_engine.run(net, x, probes=("s.s",)).probes["s.s"]
    total = np.zeros((2, 12, 5))
    for k in links:
        total[:, k.delay :] += x[:, : 12 - k.delay] @ k.weight.T
    state, found = net.nodes["s"].law.initial(np.zeros((2, 5))), []  # type: ignore[union-attr]
    for t in range(12):
        s, state = net.nodes["s"].law.step(state, total[:, t])  # type: ignore[union-attr]
        found.append(s)
    np.testing.assert_array_equal(np.stack(found, 1), want)


def test_scale_sum_pool_and_conv1d_compose_exactly() -> None:
    net = images()
    net = Network.sequential({n: net.nodes[n] for n in list(net.nodes)[:-2]} | {"s4": Spiking(SOFT), "out": Output()})
    found = lower(net)
    shapes = net.shapes()
    # links into s2 against the nodes themselves: sum pooling, scale and delay of an impulse at every pixel
    links = [k for k in found.links if k.dst == "s2"]
    spike = bits(1, *shapes["s1"])
    wait = net.nodes["wait"]
    assert isinstance(wait, Delay)
    for d in range(3):
        late = np.where(wait.steps == d, spike, 0)
        want = 0.25 * functional.avg_pool2d(torch.tensor(late), 2, 2, (1, 0), divisor_override=1).numpy()
        got = sum(
            np.where(k.delays == d, k.weight, 0.0) @ spike.ravel() for k in links if k.delays is not None
        )  # fmt: skip
        np.testing.assert_allclose(np.reshape(got, shapes["s2"]), want[0], atol=1e-12)
    conv, node = next(k for k in found.links if k.dst == "s3"), net.nodes["c2"]
    assert isinstance(node, Conv1d)
    x = bits(4, 20)
    want = functional.conv1d(torch.tensor(x), torch.tensor(node.weight), stride=4)
    np.testing.assert_allclose(conv.weight @ x.ravel(), want.numpy().ravel(), atol=1e-6)


def test_readout_is_refused_on_the_chip() -> None:
    with pytest.raises(MappingError, match=r"the output is 'read'; let one Spiking node"):
        compile_loihi(zoo())
    inside = sequential(start=Input((3,)), i=Integrator(), s=Spiking())
    with pytest.raises(MappingError, match=r"^i: does not spike, .*exchange it for a Spiking node"):
        lower(inside)
    late = sequential(start=Input((3,)), fc=Linear(np.eye(3), np.ones(3)), d=Delay(np.array([0, 1, 2])), s=Spiking())
    with pytest.raises(MappingError, match=r"^d: its bias passes a delay of 2; delay its input"):
        lower(late)
    loop = {
        "in": Input((3,)),
        "k": Scale(np.full(3, 0.5)),
        "d": Delay(np.ones(3, int)),
        "s": Spiking(),
        "out": Output(),
    }
    edges = [("in", "k"), ("k", "d"), ("d", "k"), ("k", "s"), ("s", "out")]
    with pytest.raises(MappingError, match="lies in a loop without a Spiking node"):
        lower(Network(loop, [Edge(a, b) for a, b in edges]))
