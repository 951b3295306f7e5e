"""Networks, SpikingJelly's answer for the chains among them, and a check that what is compared fires."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from spikingjelly.activation_based import neuron
from torch import nn

from export import AvgPool2d, Conv2d, Edge, Flatten, Input, Linear, Network, Output, Spiking
from neuro.neuron import Decay, Law, Leaky, NoLeak, Rate, Tau
from sim import numpy_engine

Array = npt.NDArray[Any]
GRID = 2.0**-6
"""Weights on this grid and spikes as input make every partial sum exact in float32."""

PARAMETER = torch.tensor(-0.5)
RATE = float(PARAMETER.sigmoid())
"""As SpikingJelly's ParametricLIFNode has it from its parameter."""

LAWS = {
    "if": Law(NoLeak()),
    "if_soft": Law(NoLeak(), reset="subtract"),
    **{f"tau{t:g}": Law(Tau(t, decay_input=False)) for t in (1.5, 2.0, 3.0, 10.0)},
    **{f"tau{t:g}_input": Law(Tau(t), threshold=0.9 / t) for t in (1.5, 2.0, 3.0, 10.0)},
    "tau3_soft": Law(Tau(3.0, decay_input=False), reset="subtract"),
    "tau3_rest": Law(Tau(3.0, rest=-0.1), threshold=0.3, v_reset=-0.1),
    "rate": Law(Rate(RATE, decay_input=False)),
    "rate_input": Law(Rate(RATE, decay_input=True, rest=-0.1), threshold=0.3, v_reset=-0.1),
    "leaky": Law(Leaky(0.7)),
    "leaky_soft": Law(Leaky(0.93), threshold=1.2, reset="subtract"),
    "decay": Law(Decay(0.3, 0.7)),
    "decay_soft": Law(Decay(0.6, 0.9), threshold=3.0, reset="subtract"),
}
STRICT = {f"{k}_strict": Law(v.charge, v.threshold, v.reset, v.v_reset, ">") for k, v in LAWS.items()}


class Weights:
    """Random float32 weights, on :data:`GRID` or not."""

    def __init__(self, seed: int, grid: bool) -> None:
        self.rng, self.grid = np.random.default_rng(seed), grid

    def __call__(self, *shape: int, gain: float = 1.8, mean: float = 0.15) -> Array:
        fan_in = int(np.prod(shape[1:])) or 1
        a = self.rng.normal(mean / np.sqrt(fan_in), 1 / np.sqrt(fan_in), shape) * gain
        return self._round(a)

    def bias(self, n: int) -> Array:
        return self._round(self.rng.normal(0.1, 0.1, n))

    def _round(self, a: Array) -> Array:
        return (np.round(a / GRID) * GRID if self.grid else a).astype(np.float32)


def chain(law: Law, seed: int = 0, grid: bool = True) -> Network:
    """Strided, grouped, padded and dilated convolutions, pooling and linear layers, one law everywhere."""
    w, s = Weights(seed, grid), Spiking(law)
    return Network.sequential(
        {
            "in": Input((2, 12, 10)),
            "conv1": Conv2d(w(8, 2, 3, 3), w.bias(8), padding=(1, 1)),
            "s1": s,
            "pool": AvgPool2d((2, 2), (2, 2)),
            "conv2": Conv2d(w(12, 4, 3, 2, gain=3.5), None, (2, 1), (1, 1), (1, 2), groups=2),
            "s2": s,
            "flat": Flatten(),
            "fc1": Linear(w(32, 180, gain=2.0, mean=0.0), w.bias(32)),
            "s3": s,
            "fc2": Linear(w(7, 32, gain=2.5)),
            "s4": s,
            "out": Output(),
        },
        name="chain",
    )


def residual(law: Law, seed: int = 0, grid: bool = True) -> Network:
    """A skip connection that adds, pooling of 9 values before neurons, and two delayed loops."""
    w, s = Weights(seed, grid), Spiking(law)
    nodes = {
        "in": Input((3, 8, 8)),
        "conv1": Conv2d(w(6, 3, 3, 3, gain=2.0), w.bias(6), padding=(1, 1)),
        "s1": s,
        "conv2": Conv2d(w(6, 6, 3, 3), w.bias(6), padding=(1, 1)),
        "skip": Conv2d(w(6, 6, 1, 1)),
        "s2": s,
        "pool": AvgPool2d((3, 3), (2, 2), (1, 1)),
        "s3": Spiking(Law(NoLeak(), threshold=0.5)),
        "flat": Flatten(),
        "fc": Linear(w(20, 96), w.bias(20)),
        "s4": s,
        "back": Linear(w(20, 20, mean=-0.3)),
        "fc2": Linear(w(5, 20)),
        "s5": s,
        "out": Output(),
    }
    names = [
        ("in", "conv1", 0), ("conv1", "s1", 0), ("s1", "conv2", 0), ("s1", "skip", 0), ("conv2", "s2", 0),
        ("skip", "s2", 0), ("s2", "pool", 0), ("pool", "s3", 0), ("s3", "flat", 0), ("flat", "fc", 0),
        ("back", "s4", 1), ("fc", "s4", 0), ("back", "s4", 3), ("s4", "back", 0), ("s4", "fc2", 0),
        ("s4", "fc2", 2), ("fc2", "s5", 0), ("s5", "out", 0),
    ]  # fmt: skip
    net = Network(nodes, [Edge(a, b, d) for a, b, d in names], name="residual")
    net.check()
    return net


def spikes_in(network: Network, samples: int = 4, steps: int = 12, seed: int = 1) -> Array:
    """Bernoulli 0.3 input ``(samples, T, ...)``."""
    shape = network.shapes()[network.input]
    return (np.random.default_rng(seed).random((samples, steps, *shape)) < 0.3).astype(np.float32)


def must_fire(spikes: dict[str, Array]) -> None:
    """Equality of silent layers proves nothing: every rate lies in (0.005, 0.9)."""
    assert spikes
    for name, a in spikes.items():
        assert 0.005 < a.mean() < 0.9, f"{name} fires at {a.mean():.4f}: nothing would be compared"


def jelly_node(law: Law) -> nn.Module:
    """SpikingJelly's own neuron for a law that it has (``>=``; rest at the reset voltage)."""
    c = law.charge
    reset = None if law.reset == "subtract" else law.v_reset
    common: dict[str, Any] = {"v_threshold": law.threshold, "v_reset": reset}
    if isinstance(c, NoLeak):
        return neuron.IFNode(**common)
    if isinstance(c, Tau):
        return neuron.LIFNode(tau=c.tau, decay_input=c.decay_input, **common)
    if isinstance(c, Rate):
        node = neuron.ParametricLIFNode(init_tau=2.0, decay_input=c.decay_input, **common)
        with torch.no_grad():
            node.w.copy_(PARAMETER)
        return node
    current, voltage = (0.0, c.beta) if isinstance(c, Leaky) else (c.current, c.voltage)
    return neuron.CUBALIFNode(c_decay=current, v_decay=voltage, **common)


def jelly_layers(network: Network) -> dict[str, nn.Module]:
    """The nodes of a chain as torch and SpikingJelly modules with the same weights."""
    found: dict[str, nn.Module] = {}
    for name, node in network:
        if isinstance(node, Linear):
            layer: nn.Module = nn.Linear(*node.weight.shape[::-1], bias=node.bias is not None)
        elif isinstance(node, Conv2d):
            out, per_group, *kernel = node.weight.shape
            layer = nn.Conv2d(
                per_group * node.groups, out, kernel, node.stride, node.padding, node.dilation, node.groups,
                node.bias is not None,
            )  # fmt: skip
        elif isinstance(node, AvgPool2d):
            layer = nn.AvgPool2d(node.kernel, node.stride, node.padding)
        elif isinstance(node, Flatten):
            layer = nn.Flatten()
        elif isinstance(node, Spiking):
            layer = jelly_node(node.law)
        else:
            continue
        if isinstance(node, Linear | Conv2d):
            layer.weight.data = torch.tensor(node.weight)
            if node.bias is not None:
                layer.bias.data = torch.tensor(node.bias)
        found[name] = layer.eval()
    return found


@torch.no_grad()
def jelly(layers: dict[str, nn.Module], x: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Step the chain over ``x (samples, T, ...)``: spikes ``<node>.s``, and ``<node>.v`` after each step."""
    spikes: dict[str, list[Array]] = {}
    states: dict[str, list[Array]] = {}
    for t in range(x.shape[1]):
        value = torch.tensor(x[:, t])
        for name, layer in layers.items():
            value = layer(value)
            if hasattr(layer, "v_threshold"):
                spikes.setdefault(f"{name}.s", []).append(value.numpy().copy())
                states.setdefault(f"{name}.v", []).append(layer.v.numpy().copy())
    return _stacked(spikes), _stacked(states)


def _stacked(series: dict[str, list[Array]]) -> dict[str, Array]:
    return {n: np.stack(a, axis=1) for n, a in series.items()}


def same(a: dict[str, Array], b: dict[str, Array], names: Iterable[str] | None = None) -> None:
    """Bit equality of named arrays, saying where it ends."""
    for name in names or a:
        wrong = int((a[name] != b[name]).sum())
        assert a[name].shape == b[name].shape
        assert wrong == 0, f"{name}: {wrong} of {a[name].size} values differ"


def agree(network: Network, x: Array, truth: dict[str, Array], found: dict[str, Array]) -> None:
    """Spikes ``<node>.s`` are equal; where one is not, the first of them stood at its threshold to rounding.

    Sums in another order differ in their last bits, so on some CPU a spike may flip: at most 1e-4 of them, and
    the first one, in time and then in the order of the nodes, with ``|h - threshold| <= 1e-5``.
    """
    must_fire(truth)
    names = [f"{n}.s" for n in network.spiking()]
    wrong = {n: truth[n] != found[n] for n in names}
    total = sum(int(w.sum()) for w in wrong.values())
    if not total:
        return
    assert total <= 1e-4 * sum(w.size for w in wrong.values()), f"{total} spikes differ"
    step = next(t for t in range(x.shape[1]) if any(wrong[n][:, t].any() for n in names))
    node = next(n for n in network.spiking() if wrong[f"{n}.s"][:, step].any())
    margin = margins(network, x, node, step)[wrong[f"{node}.s"][:, step]]
    assert margin.max() <= 1e-5, f"{node} at step {step} differs with |h - threshold| = {margin.max():g}"


def margins(network: Network, x: Array, node: str, step: int) -> Array:
    """``|h - threshold|`` of ``node`` in that step, by the numpy engine: who cannot fire keeps ``h``."""
    state = numpy_engine.initial(network, len(x))
    for t in range(step):
        _, state = numpy_engine.step(network, state, x[:, t])
    spiking = network.nodes[node]
    assert isinstance(spiking, Spiking)
    silent = network.with_nodes(**{node: Spiking(replace(spiking.law, threshold=1e9))})
    _, after = numpy_engine.step(silent, state, x[:, step])
    found: Array = np.abs(after[f"{node}.v"] - spiking.law.threshold)
    return found
