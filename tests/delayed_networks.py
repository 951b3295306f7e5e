"""Random networks of delayed synapses and windows, and what they answer by torch's conv1d over all of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from export import DelayedLinear, Edge, Input, Integrator, Linear, Network, Output, Spiking, Window
from export.to_brian import to_brian
from export.to_loihi import compile_loihi
from export.to_onnx import to_onnx_scan, to_onnx_step
from neuro.neuron import Law, Leaky, NoLeak, Tau
from sim import brian, numpy_engine, torch_engine
from sim.edge import native
from sim.loihi import engine, reference
from sim.run import Run

Array = npt.NDArray[Any]
LAWS = (Law(Leaky(0.75), fires=">"), Law(Tau(2.0, decay_input=False), fires=">"), Law(NoLeak(), fires=">="))


def layer(
    rng: np.random.Generator, out: int, features: int, most: int, *, least: int = 0, bias: bool = True
) -> DelayedLinear:
    """Weights on the grid of 1/64 that eight bits hold, a tenth of them 0."""
    weight = rng.integers(-40, 60, (out, features)) * (rng.random((out, features)) < 0.9) / np.float32(64)
    shift = (rng.integers(-8, 8, out) / np.float32(64)).astype(np.float32) if bias else None
    return DelayedLinear(weight.astype(np.float32), rng.integers(least, most + 1, (out, features)), shift)


def chain(seed: int, *, exact: bool, readout: bool = False) -> Network:
    """Three layers of delays; ``exact`` closes them after 12, 15 and 18 steps. ``readout``: ends in potentials."""
    rng = np.random.default_rng(seed)
    spiking = Spiking(LAWS[seed % len(LAWS)])
    nodes: dict[str, Any] = {
        "in": Input((10,)),
        "end0": Window(12),
        "d1": layer(rng, 12, 10, 6),
        "s1": spiking,
        "end1": Window(15),
        "d2": layer(rng, 8, 12, 9),
        "s2": spiking,
        "end2": Window(18),
        "d3": layer(rng, 5, 8, 4, least=1, bias=False),
        "s3": Integrator(Leaky(0.5)) if readout else spiking,
        "out": Output(),
    }
    return Network.sequential({n: x for n, x in nodes.items() if exact or not isinstance(x, Window)}, name="delayed")


def recurrent(seed: int) -> Network:
    """Two populations that hear themselves and each other through delayed synapses, of no and of several steps."""
    rng = np.random.default_rng(seed)
    spiking = Spiking(LAWS[seed % len(LAWS)])
    nodes = {
        "in": Input((9,)),
        "d1": layer(rng, 8, 9, 3),
        "own": layer(rng, 8, 8, 5, least=1),
        "a": spiking,
        "d2": layer(rng, 6, 8, 4),
        "b": spiking,
        "back": layer(rng, 8, 6, 4, least=2, bias=False),
        "last": Linear((rng.integers(-40, 60, (4, 6)) / 64).astype(np.float32)),
        "late": layer(rng, 4, 8, 7, bias=False),
        "c": spiking,
        "out": Output(),
    }
    edges = [
        ("in", "d1", 0), ("d1", "a", 0), ("a", "own", 0), ("own", "a", 0), ("a", "d2", 0), ("a", "d2", 2),
        ("d2", "b", 0), ("b", "back", 0), ("back", "a", 0), ("b", "last", 0), ("a", "late", 1), ("last", "c", 0),
        ("late", "c", 0), ("c", "out", 0),
    ]  # fmt: skip
    net = Network(nodes, [Edge(*e) for e in edges], name="recurrent")
    net.check()
    return net


def spikes_in(network: Network, steps: int = 30, samples: int = 3, seed: int = 1) -> Array:
    shape = network.shapes()[network.input]
    return (np.random.default_rng(seed).random((samples, steps, *shape)) < 0.4).astype(np.float32)


def probes(network: Network) -> tuple[str, ...]:
    return tuple(f"{n}.s" for n in network.spiking())


def truth(network: Network, x: Array) -> dict[str, Array]:
    """A chain's values by name, layer by layer over all steps: torch's conv1d with a kernel of one tap a synapse."""
    value, steps = torch.from_numpy(x.astype(np.float64)), x.shape[1]
    found: dict[str, Array] = {}
    for name, node in network:
        if isinstance(node, Window):
            value = value * (torch.arange(steps) < node.stop)[None, :, None]
        elif isinstance(node, DelayedLinear):
            kernel = torch.zeros(*node.weight.shape, node.depth + 1, dtype=torch.float64)
            place = torch.from_numpy(node.depth - node.delays.astype(np.int64))[..., None]
            kernel.scatter_(2, place, torch.from_numpy(node.weight.astype(np.float64))[..., None])
            bias = None if node.bias is None else torch.from_numpy(node.bias.astype(np.float64))
            padded = functional.pad(value.transpose(1, 2), (node.depth, 0))
            value = functional.conv1d(padded, kernel, bias).transpose(1, 2)
        elif isinstance(node, Spiking | Integrator):
            law = node.law if isinstance(node, Spiking) else node
            state, out = law.initial(value[:, 0]), []
            for t in range(steps):
                y, state = law.step(state, value[:, t])
                out.append(y)
            value = torch.stack(out, 1)
        found[name] = value.numpy()
    return found


def double(network: Network) -> Network:
    """The same with float64 weights, as Brian 2 computes."""
    nodes = dict(network.nodes)
    for n, node in network.nodes.items():
        if isinstance(node, DelayedLinear | Linear):
            bias = None if node.bias is None else node.bias.astype(np.float64)
            nodes[n] = replace(node, weight=node.weight.astype(np.float64), bias=bias)
    return replace(network, nodes=nodes)


def _brian(network: Network, x: Array) -> Run:
    return brian.run(to_brian(network), x, probes=probes(network))


FLOAT: dict[str, Callable[[Network, Array], Run]] = {
    "numpy": lambda n, x: numpy_engine.run(n, x, probes=probes(n)),
    "torch": lambda n, x: torch_engine.run(n, x, probes=probes(n)),
    "onnx step": lambda n, x: native.run(to_onnx_step(n), x, probes=probes(n)),
    "onnx scan": lambda n, x: native.run(to_onnx_scan(n), x, probes=probes(n)),
    "brian": _brian,
}
CHIP: dict[str, Callable[[Network, Array], Run]] = {
    "loihi": lambda n, x: engine.run(compile_loihi(n), x, probes=probes(n)),
    "loihi-reference": lambda n, x: reference.run(compile_loihi(n), x, probes=probes(n)),
}


def same(found: Run, want: dict[str, Array], network: Network) -> None:
    """Equal spikes of every population and equal output; what is compared fires."""
    for n in network.spiking():
        assert 0.02 < want[n].mean() < 0.95, f"{n} fires at {want[n].mean():.3f}: nothing would be compared"
        np.testing.assert_array_equal(found.probes[f"{n}.s"], want[n], err_msg=n)
    np.testing.assert_array_equal(found.y, want[network.output])
