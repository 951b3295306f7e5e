"""Network: what it refuses, what it keeps through a file, and shapes against torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from export import (
    AvgPool2d,
    Conv2d,
    Edge,
    Flatten,
    Input,
    Linear,
    Loss,
    Network,
    NetworkError,
    Output,
    Spiking,
)
from neuro.neuron import Decay, Law, NoLeak, Rate, Tau

rng = np.random.default_rng(0)


def weight(*shape: int) -> np.ndarray[Any, Any]:
    return rng.normal(size=shape).astype(np.float32)


def conv_net() -> Network:
    """Every kind of node and charge, a branch, a delay and a loss."""
    nodes = {
        "in": Input((2, 8, 8)),
        "c1": Conv2d(weight(4, 2, 3, 3), weight(4), padding=(1, 1)),
        "s1": Spiking(Law(Tau(2.0, False, -0.25), 0.75, v_reset=-0.25)),
        "p1": AvgPool2d((2, 2), (2, 2)),
        "c2": Conv2d(weight(4, 2, 3, 3).astype(np.float64), None, (1, 1), (1, 1), (1, 1), 2),
        "s2": Spiking(Law(Rate(0.25), reset="subtract", fires=">")),
        "flat": Flatten(),
        "fc": Linear(weight(3, 64)),
        "s3": Spiking(Law(Decay(0.5, 0.75))),
        "out": Output(),
    }
    chain = [Edge(a, b) for a, b in pairwise(nodes)]
    extra = [Edge("p1", "s2", 0), Edge("s2", "c2", 2)]
    return Network(nodes, chain + extra, 2e-3, "net", (Loss("c1", "folded", 1e-7),))


def chain(**nodes: Any) -> Network:
    names = list(nodes)
    return Network(nodes, [Edge(a, b) for a, b in pairwise(names)])


def test_shapes_and_order() -> None:
    net = conv_net()
    net.check()
    assert net.shapes() == {
        "in": (2, 8, 8),
        "c1": (4, 8, 8),
        "s1": (4, 8, 8),
        "p1": (4, 4, 4),
        "c2": (4, 4, 4),
        "s2": (4, 4, 4),
        "flat": (64,),
        "fc": (3,),
        "s3": (3,),
        "out": (3,),
    }
    assert net.order() == list(net.nodes)
    assert net.spiking() == ["s1", "s2", "s3"]
    assert (net.input, net.output) == ("in", "out")
    shuffled = replace(net, nodes=dict(reversed(list(net.nodes.items()))))
    assert shuffled.order() == net.order()
    assert "net  dt 0.002 s" in str(net)


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2]),
)
def test_window_shapes_are_torchs(
    size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> None:
    conv = Conv2d(np.ones((4, 2 // groups, *kernel), np.float32), None, stride, padding, dilation, groups)
    x = torch.zeros(1, 2, *size)
    try:
        expected = functional.conv2d(x, torch.from_numpy(conv.weight), None, stride, padding, dilation, groups).shape[
            1:
        ]
    except RuntimeError:
        with pytest.raises(ValueError, match="does not fit"):
            conv.out_shape((2, *size))
        return
    assert conv.out_shape((2, *size)) == tuple(expected)
    assume(all(2 * p <= k for p, k in zip(padding, kernel, strict=True)))
    assume(all(n + 2 * p >= k for n, p, k in zip(size, padding, kernel, strict=True)))
    pooled = functional.avg_pool2d(x, kernel, stride, padding).shape[1:]
    assert AvgPool2d(kernel, stride, padding).out_shape((2, *size)) == tuple(pooled)


def test_save_load_keeps_everything(tmp_path: Path) -> None:
    net = conv_net()
    again = Network.load(net.save(tmp_path / "net.npz"))
    assert again.hash() == net.hash()
    assert str(again) == str(net)
    assert again.losses == net.losses
    assert list(again.edges) == list(net.edges)
    for name, node in net.nodes.items():
        for key, value in vars(node).items():
            other = vars(again.nodes[name])[key]
            if isinstance(value, np.ndarray):
                assert value.dtype == other.dtype
                np.testing.assert_array_equal(value, other)
            else:
                assert value == other
    assert (tmp_path / "net.npz").read_bytes() == again.save(tmp_path / "b.npz").read_bytes()


def test_hash_sees_every_part() -> None:
    net = conv_net()
    bumped = net.nodes["fc"].weight.copy()  # type: ignore[union-attr]
    bumped[0, 0] = np.nextafter(bumped[0, 0], np.float32(9))
    others = [
        net.with_nodes(fc=Linear(bumped)),
        net.with_nodes(s3=Spiking(Law(Decay(0.5, 0.75), fires=">"))),
        replace(net, dt_s=1e-3),
        replace(net, name="other"),
        replace(net, edges=[*net.edges[:-1], Edge("s2", "c2", 3)]),
        replace(net, losses=()),
    ]
    assert len({n.hash() for n in [net, *others]}) == 7


def nan_net() -> Network:
    w = weight(3, 4)
    w[1, 2] = np.nan
    return chain(a=Input((4,)), fc=Linear(w), b=Output())


def loop_net() -> Network:
    net = chain(a=Input((4,)), fc=Linear(weight(4, 4)), s=Spiking(), b=Output())
    return replace(net, edges=[*net.edges, Edge("s", "fc")])


REFUSED: dict[str, tuple[Callable[[], Network], str]] = {
    "cycle": (loop_net, "cycle without delay through .*fc, s; give one of its edges delay >= 1"),
    "nan": (nan_net, r"^fc: weight\[1, 2\] is nan \(1 such values\); the training diverged"),
    "shape": (
        lambda: chain(a=Input((5,)), fc=Linear(weight(3, 4)), b=Output()),
        r"^fc: takes \(4,\), got \(5,\); is a Flatten missing",
    ),
    "channels": (
        lambda: chain(a=Input((3, 8, 8)), c=Conv2d(weight(1, 2, 3, 3)), b=Output()),
        r"^c: takes \(2, h, w\), got \(3, 8, 8\)",
    ),
    "window": (
        lambda: chain(a=Input((1, 2, 2)), c=Conv2d(weight(1, 1, 3, 3)), b=Output()),
        r"^c: a window of \(3, 3\) does not fit",
    ),
    "sum": (
        lambda: Network(
            {"a": Input((4,)), "f": Linear(weight(3, 4)), "s": Spiking(), "b": Output()},
            [Edge("a", "f"), Edge("f", "s"), Edge("a", "s"), Edge("s", "b")],
        ),
        r"^s: inputs of different shapes \[\(3,\), \(4,\)\] cannot add",
    ),
    "delayed sum": (
        lambda: Network(
            {"a": Input((4,)), "f": Linear(weight(3, 4)), "s": Spiking(), "b": Output()},
            [Edge("a", "f"), Edge("f", "s"), Edge("a", "s", 1), Edge("s", "b")],
        ),
        r"^s: inputs of different shapes",
    ),
    "bias": (
        lambda: chain(a=Input((4,)), fc=Linear(weight(3, 4), weight(4)), b=Output()),
        r"^fc: bias must have shape \(3,\), got \(4,\)",
    ),
    "integers": (
        lambda: chain(a=Input((4,)), fc=Linear(np.ones((3, 4), int)), b=Output()),  # type: ignore[arg-type]
        "^fc: weight must be float32 or float64",
    ),
    "groups": (
        lambda: chain(a=Input((4, 8, 8)), c=Conv2d(weight(3, 2, 3, 3), groups=2), b=Output()),
        "^c: groups 2 does not divide 3",
    ),
    "pool": (
        lambda: chain(a=Input((1, 8, 8)), p=AvgPool2d((2, 2), (2, 2), (2, 2)), b=Output()),
        "^p: padding .* is more than half",
    ),
    "no output": (lambda: chain(a=Input((4,)), s=Spiking()), "needs exactly one Output node, has 0"),
    "two inputs": (
        lambda: Network({"a": Input((4,)), "c": Input((4,)), "b": Output()}, [Edge("a", "b"), Edge("c", "b")]),
        r"exactly one Input node, has 2: \['a', 'c'\]",
    ),
    "lonely": (
        lambda: Network({"a": Input((4,)), "s": Spiking(), "b": Output()}, [Edge("a", "b")]),
        "^s: nothing leads to it",
    ),
    "unknown end": (
        lambda: Network({"a": Input((4,)), "b": Output()}, [Edge("a", "x")]),
        "edge a -> x: no node 'x'; nodes are a, b",
    ),
    "twice": (
        lambda: Network({"a": Input((4,)), "b": Output()}, [Edge("a", "b"), Edge("a", "b")]),
        "the same edge stands twice",
    ),
    "negative delay": (
        lambda: Network({"a": Input((4,)), "b": Output()}, [Edge("a", "b", -1)]),
        "edge a -> b: delay must be >= 0",
    ),
    "name": (lambda: chain(**{"a": Input((4,)), "x/y": Spiking(), "b": Output()}), "node name 'x/y'"),
    "dt": (lambda: replace(chain(a=Input((4,)), b=Output()), dt_s=0.0), "dt_s must be positive seconds"),
    "input": (lambda: chain(a=Input((0, 4)), b=Output()), "^a: shape must have positive sizes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_check_names_node_value_and_fix(case: str) -> None:
    make, says = REFUSED[case]
    with pytest.raises(NetworkError, match=says):
        make().check()


def test_delay_opens_a_cycle() -> None:
    net = loop_net()
    replace(net, edges=[*net.edges[:-1], Edge("s", "fc", 1)]).check()


def test_with_nodes_checks() -> None:
    net = chain(a=Input((4,)), fc=Linear(weight(3, 4)), s=Spiking(Law(NoLeak())), b=Output())
    assert net.with_nodes(fc=Linear(weight(2, 4))).shapes()["b"] == (2,)
    with pytest.raises(NetworkError, match=r"^fc: takes"):
        net.with_nodes(fc=Linear(weight(2, 5)))
