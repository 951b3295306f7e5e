"""Networks in double precision for the Brian 2 tests: random graphs, and a check that names the first departure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from float_networks import LAWS, STRICT, Array, margins

from export import (
    AvgPool2d,
    Conv1d,
    Conv2d,
    Delay,
    Edge,
    Flatten,
    Input,
    Integrator,
    Linear,
    Network,
    Output,
    Scale,
    Spiking,
    SumPool2d,
)

ALL_LAWS = LAWS | STRICT
ROUNDING = 1e-12
"""Sums of some hundred doubles of size 1 in two orders differ by less."""


def double(network: Network) -> Network:
    """The same network with float64 weights: the float engine then computes in float64."""
    nodes = {
        n: replace(v, weight=np.asarray(v.weight, float), bias=None if v.bias is None else np.asarray(v.bias, float))
        for n, v in network.nodes.items()
        if isinstance(v, Linear | Conv2d)
    }
    return replace(network, nodes=dict(network.nodes) | nodes)


class Grown:
    """A random graph on maps (3, 6, 6) and vectors of 12: convolutions of all geometries, pooling, chains of layers
    without neurons between them, sums of sources, delays and loops."""

    def __init__(self, seed: int, grid: bool) -> None:
        self.rng, self.grid = np.random.default_rng(seed), grid
        self.laws = list(ALL_LAWS.values())
        self.nodes: dict[str, Any] = {"in": Input((3, 6, 6))}
        self.edges: list[Edge] = []
        self.maps = ["in"]

    def network(self) -> Network:
        for k in range(4):
            self.map(k)
        self.add("rows", Flatten(1, 2), self.maps[-1], 0)
        self.add("conv1d", Conv1d(self.weights(3, 1, 4), self.bias(3), 1, 3, 2, 3), "rows", 0)
        self.add("s_conv1d", self.neurons(), "conv1d", 0)
        self.add("flat", Flatten(), "s_conv1d", int(self.rng.integers(2)))
        self.add("fc", Linear(self.weights(12, 108), self.bias(12)), "flat", 0)
        self.add("s_fc", self.neurons(), "fc", 0)
        self.add("back", Linear(self.weights(12, 12)), "s_fc", int(self.rng.integers(2)))
        self.edges.append(Edge("back", "s_fc", int(self.rng.integers(1, 4))))
        self.vectors()
        self.add("last", Linear(self.weights(4, 12), self.bias(4)), "s_fc", 0)
        self.edges.append(Edge(str(self.rng.choice(["s_fc", "scale", "late", "early"])), "last", 1))
        if self.rng.random() < 0.5:
            charge = self.neurons().law.charge
            self.add("read", Integrator(charge, 0.25 * self.rng.integers(2)), "last", int(self.rng.integers(3)))
            self.add("out", Output(), "read", int(self.rng.integers(3)))  # graded
        else:
            self.add("s_last", self.neurons(), "last", 0)
            self.add("out", Output(), "s_last", 0)
        net = Network(self.nodes, [self.undelay(e) for e in self.edges], name="grown")
        net.check()
        return net

    def vectors(self) -> None:
        """Delays of each element, before and behind values that are not spikes; a loop through one of them."""
        self.add("scale", Scale(self.weights(12)), "s_fc", int(self.rng.integers(2)))
        self.add("late", Delay(self.rng.integers(0, 5, 12)), str(self.rng.choice(["scale", "s_fc"])), 0)
        self.add("early", Delay(self.rng.integers(1, 4, 12)), "s_fc", 0)
        self.edges.append(Edge("scale", "early", 1))
        self.add("loop", Linear(self.weights(12, 12) * 0.5), "early", 0)
        self.edges.append(Edge("loop", "s_fc", 0))

    def undelay(self, e: Edge) -> Edge:
        """The first edge into a node has no delay, as a network asks."""
        first = next(f for f in self.edges if f.dst == e.dst)
        return replace(e, delay=0) if e is first else e

    def map(self, k: int) -> None:
        kind = self.rng.choice(["conv", "dilated", "pool", "sum", "chain", "direct"]) if k else "conv"
        name, layer = f"s{k}", f"c{k}"
        sources = [self.maps[-1], *([str(self.rng.choice(self.maps))] if self.rng.random() < 0.6 else [])]
        if kind == "direct":
            self.add(name, self.neurons(), self.maps[-1], 0)
        else:
            nodes = {
                "conv": Conv2d(self.weights(3, 3, 3, 3), self.bias(3), padding=(1, 1)),
                "chain": Conv2d(self.weights(3, 3, 3, 3), self.bias(3), padding=(1, 1)),
                "dilated": Conv2d(self.weights(3, 1, 3, 2), None, (1, 1), (2, 1), (2, 2), 3),
                "pool": AvgPool2d((3, 3), (1, 1), (1, 1)),
                "sum": SumPool2d((3, 1), (1, 1), (1, 0)),
            }
            self.add(layer, nodes[str(kind)], sources[0], 0)
            for s in set(sources[1:]) - {sources[0]}:
                self.edges.append(Edge(s, layer, int(self.rng.integers(4))))
            if kind == "chain":
                self.add(f"{layer}b", Conv2d(self.weights(3, 3, 1, 1), self.bias(3)), layer, 0)
            self.add(name, self.neurons(), f"{layer}b" if kind == "chain" else layer, 0)
            if self.rng.random() < 0.5:
                self.add(f"r{k}", Conv2d(self.weights(3, 3, 1, 1) * 0.5), name, 0)
                self.edges.append(Edge(f"r{k}", name, int(self.rng.integers(1, 4))))
        self.maps.append(name)

    def add(self, name: str, node: Any, src: str, delay: int) -> None:
        self.nodes[name] = node
        self.edges.append(Edge(src, name, delay))

    def neurons(self) -> Spiking:
        return Spiking(self.laws[self.rng.integers(len(self.laws))])

    def weights(self, *shape: int) -> Array:
        fan_in = int(np.prod(shape[1:]))
        return self.rounded(self.rng.normal(0.4 / np.sqrt(fan_in), 2 / np.sqrt(fan_in), shape))

    def bias(self, n: int) -> Array:
        return self.rounded(self.rng.normal(0.1, 0.1, n))

    def rounded(self, a: Array) -> Array:
        return np.round(a * 64) / 64 if self.grid else a


def same_or_rounding(network: Network, x: Array, truth: dict[str, Array], found: dict[str, Array]) -> int:
    """Spikes ``<node>.s`` are equal up to one that stood within :data:`ROUNDING` of its threshold; how many differ."""
    names = [n for n in network.spiking() if f"{n}.s" in truth]
    assert names
    wrong = {n: truth[f"{n}.s"] != found[f"{n}.s"] for n in names}
    total = sum(int(w.sum()) for w in wrong.values())
    if total:
        step = next(t for t in range(x.shape[1]) if any(wrong[n][:, t].any() for n in names))
        node = next(n for n in names if wrong[n][:, step].any())
        margin = margins(network, x, node, step)[wrong[node][:, step]]
        assert margin.max() <= ROUNDING, f"{node} at step {step} differs with |h - threshold| = {margin.max():g}"
    return total
