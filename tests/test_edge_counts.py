"""Counts of the edge engine against the published network, convolutions of masks and the graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from float_networks import (
    GRID,
    LAWS,
    Array,
    chain,
    residual,
    spikes_in,
)
from torch.nn import functional as F

from export import (
    AvgPool2d,
    Conv2d,
    Flatten,
    Input,
    Linear,
    Network,
    Output,
    Spiking,
)
from export.to_onnx import OnnxProgram, to_onnx_step
from neuro.neuron import Law, Tau
from sim.edge import native
from sim.edge.counts import fanout, law_ops, layers
from sim.run import Run

ROOT = Path(__file__).resolve().parent.parent


def run(program: OnnxProgram, x: Array, **options: Any) -> Run:
    """With the spikes of every node."""
    return native.run(program, x, **{"probes": program.watched} | options)


def test_macs_of_the_reference_network() -> None:
    """The edge spec's convsnn, 7,800,064 a step."""

    def zeros(*shape: int) -> Array:
        return np.zeros(shape, np.float32)

    s, half = Spiking(Law(Tau(2.0))), AvgPool2d((2, 2), (2, 2))
    nodes: dict[str, Any] = {"in": Input((2, 32, 32))}
    for k, (i, o) in enumerate(((2, 32), (32, 64), (64, 64)), 1):
        nodes |= {f"c{k}": Conv2d(zeros(o, i, 3, 3), padding=(1, 1)), f"s{k}": s, f"p{k}": half}
    nodes |= {
        "f": Flatten(),
        "l1": Linear(zeros(128, 1024)),
        "s4": s,
        "l2": Linear(zeros(10, 128)),
        "s5": s,
        "y": Output(),
    }
    found = run(to_onnx_step(Network.sequential(nodes)), np.ones((2, 3, 2, 32, 32), np.float32))
    per_step = {n: m // 6 for n, m in found.counts["macs"].items()}
    assert per_step == {"c1": 589_824, "c2": 4_718_592, "c3": 2_359_296, "l1": 131_072, "l2": 1_280}
    assert sum(per_step.values()) == 7_800_064
    assert found.total("acs") == 0, "zero weights"
    assert found.counts["weight_bytes"] == {
        n: 6 * 4 * m for n, m in zip(per_step, (576, 18432, 36864, 131072, 1280), strict=True)
    }


def test_effective_operations_are_a_convolution_of_masks() -> None:
    rng = np.random.default_rng(0)
    network = residual(LAWS["tau2"], seed=1)
    sparse = {
        n: Conv2d(np.where(rng.random(c.weight.shape) < 0.5, 0, c.weight), c.bias, c.stride, c.padding)
        for n, c in network.nodes.items()
        if isinstance(c, Conv2d)
    }
    network = network.with_nodes(**sparse)
    x = spikes_in(network)
    x[:, :, 0] *= 0.5  # graded input: multiplications
    found = run(to_onnx_step(network), x)
    hidden = {n: torch.tensor(a).float() for n, a in found.probes.items()}

    def effective(layer: str, into: torch.Tensor) -> int:
        node: Any = network.nodes[layer]
        on, w = (into.flatten(0, 1) != 0).double(), torch.tensor(node.weight != 0).double()
        y = F.conv2d(on, w, None, node.stride, node.padding) if isinstance(node, Conv2d) else F.linear(on, w)
        return int(y.sum())

    assert found.counts["acs"] == {
        "conv2": effective("conv2", hidden["s1.s"]),
        "skip": effective("skip", hidden["s1.s"]),
        "fc": effective("fc", hidden["s3.s"].flatten(2)),
        "back": effective("back", hidden["s4.s"]),
    }
    both = hidden["s4.s"].clone()
    both[:, 2:] += hidden["s4.s"][:, :-2]
    assert both.max() == 2
    assert found.counts["effective_macs"] == {
        "conv1": effective("conv1", torch.tensor(x)),
        "fc2": effective("fc2", both),
    }
    assert found.counts["spikes"]["in"] == int((x != 0).sum())
    assert found.counts["spikes"]["s3"] == int(found.probes["s3.s"].sum())


def test_fanout_of_dilated_grouped_strided_convolutions() -> None:
    network = chain(LAWS["if"], grid=True)  # the grid rounds some weights to zero
    for layer in layers(network):
        node: Any = network.nodes[layer]
        shape = network.shapes()[network.sources(layer)[0].src]
        one = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
        w = torch.tensor(node.weight != 0).double()
        if isinstance(node, Conv2d):
            y = F.conv2d(one, w, None, node.stride, node.padding, node.dilation, node.groups)
        else:
            y = F.linear(one, w)
        assert (fanout(network, layer) == y.flatten(1).sum(1).numpy()).all(), layer
        assert (node.weight % GRID == 0).all()


@pytest.mark.parametrize("law", LAWS)
def test_elementwise_operations_are_the_nodes_of_the_graph(law: str) -> None:
    model = onnx.load_model_from_string(to_onnx_step(chain(LAWS[law])).model)
    arithmetic = ("Add", "Sub", "Mul", "Div", "GreaterOrEqual", "Where")
    nodes = [n for n in model.graph.node if n.name.startswith("s1.") and n.op_type in arithmetic]
    assert len(nodes) == law_ops(LAWS[law])


def test_counts_scale_with_samples_and_steps() -> None:
    network = chain(LAWS["if"])
    x = spikes_in(network)
    one, four = (run(to_onnx_step(network), a) for a in (x, np.concatenate([x] * 4)))
    assert {e: {n: 4 * k for n, k in by.items()} for e, by in one.counts.items()} == four.counts


def test_without_watch_only_what_is_known_is_counted() -> None:
    network = chain(LAWS["if"])
    x = spikes_in(network)
    bare, full = run(to_onnx_step(network, watch=False), x), run(to_onnx_step(network), x)
    assert (bare.y == full.y).all()
    assert not {"acs", "effective_macs"} & set(bare.counts)
    assert set(bare.counts["spikes"]) == {"in"}
    assert "watch=False" in bare.notes[0]


def test_probes_and_saved_run(tmp_path: Path) -> None:
    network = chain(LAWS["if"])
    x = spikes_in(network)
    assert native.run(to_onnx_step(network), x).probes == {}
    found = run(to_onnx_step(network), x, probes=("s2.s",))
    assert set(found.probes) == {"s2.s"}
    assert found.y.dtype == np.int8
    again = Run.load(found.save(tmp_path / "run"))
    assert (again.y == found.y).all()
    assert again.counts == found.counts
