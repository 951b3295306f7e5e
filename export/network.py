"""The network as plain data with its discrete-time law complete: nodes, edges, ``dt_s``, shapes, checks.

A node is a frozen dataclass that owns ``out_shape(in_shape)`` and ``check()``. Shapes leave out batch and time.
One step propagates through the whole graph: an edge with ``delay`` 0 delivers in the step in which its source
speaks (as torch does), an edge with ``delay`` d delivers d steps later. A cycle needs a delay of at least 1, of an
edge, or of every element of a Delay node or synapse of a DelayedLinear. Edges that meet in one node add. The kinds of
node: :mod:`export.nodes`.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from export.delay_nodes import Delay, DelayedLinear, Window
from export.node_checks import Float, Pair, Shape
from export.nodes import (
    NODES,
    AvgPool2d,
    Conv1d,
    Conv2d,
    Flatten,
    Input,
    Integrator,
    Linear,
    Lined,
    Node,
    Output,
    Scale,
    Spiking,
    SumPool2d,
    Weighted,
    floats,
)
from export.package import Arrays, digest, read_package, write_package
from neuro.neuron import Law

__all__ = [
    "AvgPool2d",
    "Conv1d",
    "Conv2d",
    "Delay",
    "DelayedLinear",
    "Edge",
    "Flatten",
    "Float",
    "Input",
    "Integrator",
    "Linear",
    "Lined",
    "Loss",
    "Network",
    "NetworkError",
    "Node",
    "Output",
    "Pair",
    "Scale",
    "Shape",
    "Spiking",
    "SumPool2d",
    "Weighted",
    "Window",
    "floats",
    "sources_first",
]

FORMAT = "spikeport-network"
VERSION = 1


class NetworkError(ValueError):
    """A network that is not well formed: names the node, the value and the fix."""


@dataclass(frozen=True)
class Loss:
    """Something that a conversion changed: where, what, and how much (``size`` in the unit that ``what`` says)."""

    node: str
    what: str
    size: float


@dataclass(frozen=True)
class Edge:
    """``src -> dst``, arriving ``delay`` steps after the step in which ``src`` spoke."""

    src: str
    dst: str
    delay: int = 0


@dataclass(frozen=True, eq=False)
class Network:
    """Graph of named nodes in float. ``dt_s``: seconds that one step stands for.

    A value: nodes and edges stay as they are given. ``losses`` say what the import that made it changed.
    Errors: :class:`NetworkError` from :meth:`check`.
    """

    nodes: Mapping[str, Node]
    edges: Sequence[Edge]
    dt_s: float = 1e-3
    name: str = "network"
    losses: Sequence[Loss] = ()

    @classmethod
    def sequential(cls, nodes: Mapping[str, Node], **kwargs: Any) -> Network:
        """A chain in the order given, checked."""
        names = list(nodes)
        net = cls(dict(nodes), [Edge(a, b) for a, b in pairwise(names)], **kwargs)
        net.check()
        return net

    @property
    def input(self) -> str:
        """Name of the one input node."""
        return self._only(Input)

    @property
    def output(self) -> str:
        """Name of the one output node."""
        return self._only(Output)

    def sources(self, name: str) -> list[Edge]:
        """Edges into ``name``, in the order of the edge list."""
        return list(self._into.get(name, ()))

    def targets(self, name: str) -> list[Edge]:
        """Edges out of ``name``, in the order of the edge list."""
        return [e for e in self.edges if e.src == name]

    def spiking(self) -> list[str]:
        """Names of the spiking nodes in execution order."""
        return [n for n in self.order() if isinstance(self.nodes[n], Spiking)]

    def law(self, name: str) -> Law:
        """The law of a spiking node. Errors: :class:`NetworkError` for any other."""
        node = self.nodes[name]
        if not isinstance(node, Spiking):
            raise NetworkError(f"{name}: is no spiking node")
        return node.law

    def order(self) -> list[str]:
        """Execution order of one step: sources of undelayed edges first, ties by place in ``nodes``.

        An early Delay or DelayedLinear does not wait for its sources.
        """
        return list(self._order)

    @cached_property
    def _into(self) -> dict[str, list[Edge]]:
        into: dict[str, list[Edge]] = {n: [] for n in self.nodes}
        for e in self.edges:
            into.setdefault(e.dst, []).append(e)
        return into

    @cached_property
    def _order(self) -> list[str]:
        done = sources_first(
            list(self.nodes), [(e.src, e.dst) for e in self.edges if e.delay == 0 and not self.early(e.dst)]
        )
        if len(done) < len(self.nodes):
            loop = ", ".join(sorted(set(self.nodes) - set(done)))
            raise NetworkError(f"{self.name}: cycle without delay through {loop}; give one of its edges delay >= 1")
        return done

    def early(self, name: str) -> bool:
        """Does every element or synapse of the node wait at least a step, so that it speaks before it hears?"""
        node = self.nodes[name]
        return isinstance(node, Lined) and node.early

    def shapes(self) -> dict[str, Shape]:
        """Output shape of every node. Errors: :class:`NetworkError` naming the node."""
        known: dict[str, Shape] = {}
        left = self.order()
        while left:
            for name in left:
                node = self.nodes[name]
                edges = sorted(self.sources(name), key=lambda e: e.delay > 0)
                if isinstance(node, Input | Lined) or any(e.src in known for e in edges):
                    into = next((known[e.src] for e in edges if e.src in known), ())
                    into = _taken(node) if isinstance(node, Lined) else into
                    try:
                        known[name] = node.out_shape(into)
                    except ValueError as error:
                        raise NetworkError(f"{name}: {error}") from None
            if not (done := [n for n in left if n in known]):
                raise NetworkError(f"{left[0]}: nothing leads to it; connect it or remove it")
            left = [n for n in left if n not in done]
        for name, node in self.nodes.items():
            incoming = {known[e.src] for e in self.sources(name)}
            if len(incoming) > 1:
                raise NetworkError(f"{name}: inputs of different shapes {sorted(incoming)} cannot add")
            if isinstance(node, Lined) and incoming != {_taken(node)}:
                raise NetworkError(f"{name}: takes {_taken(node)}, got {', '.join(map(str, incoming)) or 'nothing'}")
        return {n: known[n] for n in self.order()}

    def check(self) -> None:
        """Raise :class:`NetworkError` unless the network can run: nodes, edges, order, shapes."""
        if not math.isfinite(self.dt_s) or self.dt_s <= 0:
            raise NetworkError(f"{self.name}: dt_s must be positive seconds, got {self.dt_s}")
        for name, node in self.nodes.items():
            if not name or "/" in name:
                raise NetworkError(f"node name {name!r}: must be non-empty and without '/'")
            try:
                node.check()
            except ValueError as error:
                raise NetworkError(f"{name}: {error}") from None
        for e in self.edges:
            for end in (e.src, e.dst):
                if end not in self.nodes:
                    raise NetworkError(f"edge {e.src} -> {e.dst}: no node '{end}'; nodes are {', '.join(self.nodes)}")
            if e.delay < 0:
                raise NetworkError(f"edge {e.src} -> {e.dst}: delay must be >= 0 steps, got {e.delay}")
        if len({(e.src, e.dst, e.delay) for e in self.edges}) < len(self.edges):
            raise NetworkError(f"{self.name}: the same edge stands twice; add the weights instead")
        self._only(Input)
        self._only(Output)
        self.shapes()

    def with_nodes(self, **nodes: Node) -> Network:
        """A copy with some nodes exchanged, checked."""
        net = replace(self, nodes=dict(self.nodes) | nodes)
        net.check()
        return net

    def to_manifest(self) -> tuple[dict[str, Any], Arrays]:
        """Plain JSON data and arrays, as saved."""
        arrays: Arrays = {}
        nodes = [{"name": n, "kind": node.kind} | _node_dict(n, node, arrays) for n, node in self.nodes.items()]
        return {
            "format": FORMAT,
            "version": VERSION,
            "name": self.name,
            "dt_s": self.dt_s,
            "nodes": nodes,
            "edges": [[e.src, e.dst, e.delay] for e in self.edges],
            "losses": [[x.node, x.what, x.size] for x in self.losses],
        }, arrays

    def hash(self) -> str:
        """SHA-256 of everything that is saved; equal networks hash equal."""
        return digest(*self.to_manifest())

    def save(self, path: str | Path) -> Path:
        """Write one ``.npz`` (JSON and arrays, no pickle), beside and renamed."""
        return write_package(path, *self.to_manifest())

    @classmethod
    def load(cls, path: str | Path) -> Network:
        """Read what :meth:`save` wrote, checked. Errors: ``PackageError`` or :class:`NetworkError`."""
        return cls.from_manifest(*read_package(path, FORMAT), owner=str(path))

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any], arrays: Arrays, owner: str = FORMAT) -> Network:
        """Inverse of :meth:`to_manifest`, checked; ``owner`` is named in the :class:`NetworkError`."""
        if manifest.get("version") != VERSION:
            raise NetworkError(f"{owner}: network version {manifest.get('version')}, this spikeport reads {VERSION}")
        try:
            net = cls(
                {d["name"]: _node_from(d, arrays) for d in manifest["nodes"]},
                [Edge(str(s), str(t), int(k)) for s, t, k in manifest["edges"]],
                float(manifest["dt_s"]),
                str(manifest["name"]),
                tuple(Loss(str(n), str(w), float(s)) for n, w, s in manifest["losses"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise NetworkError(f"{owner}: manifest is not that of a network ({error})") from None
        net.check()
        return net

    def __str__(self) -> str:
        shapes = self.shapes()
        rows = [f"{self.name}  dt {self.dt_s:g} s  {self.hash()[:12]}"]
        rows += [f"  {n:<16} {_describe(self.nodes[n]):<44} -> {shapes[n]}" for n in self.order()]
        return "\n".join(rows)

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        return ((n, self.nodes[n]) for n in self.order())

    def _only(self, kind: type[Input] | type[Output]) -> str:
        names = [n for n, node in self.nodes.items() if isinstance(node, kind)]
        if len(names) != 1:
            raise NetworkError(f"{self.name}: needs exactly one {kind.__name__} node, has {len(names)}: {names}")
        return names[0]


def _taken(node: Lined) -> Shape:
    """The shape of the input, which such a node knows by itself."""
    return node.steps.shape if isinstance(node, Delay) else node.weight.shape[1:]


def sources_first(names: Sequence[str], arcs: Sequence[tuple[str, str]]) -> list[str]:
    """``names`` in an order of execution, ties by their place; what lies on a cycle or behind one is left out."""
    place = {n: k for k, n in enumerate(names)}
    waiting = dict.fromkeys(names, 0)
    after: dict[str, list[str]] = {}
    for a, b in arcs:
        waiting[b] += 1
        after.setdefault(a, []).append(b)
    ready = [place[n] for n, k in waiting.items() if k == 0]
    done: list[str] = []
    while ready:
        name = names[heapq.heappop(ready)]
        done.append(name)
        for b in after.get(name, ()):
            waiting[b] -= 1
            if waiting[b] == 0:
                heapq.heappush(ready, place[b])
    return done


def _node_dict(name: str, node: Node, arrays: Arrays) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for f in fields(node):
        value = getattr(node, f.name)
        if isinstance(value, np.ndarray):
            arrays[f"{name}.{f.name}"] = value
            out[f.name] = {"array": f"{name}.{f.name}"}
        elif f.name == "charge":
            out[f.name] = Law(value).to_dict()["charge"]
        else:
            out[f.name] = value.to_dict() if isinstance(value, Law) else value
    return out


def _node_from(data: dict[str, Any], arrays: Arrays) -> Node:
    data = {k: v for k, v in data.items() if k != "name"}
    kind = data.pop("kind")
    if kind not in NODES:
        raise ValueError(f"node kind {kind!r} is unknown; this version knows {', '.join(NODES)}")
    for key, value in data.items():
        if key == "law":
            data[key] = Law.from_dict(value)
        elif key == "charge":
            data[key] = Law.from_dict({"charge": value}).charge
        elif isinstance(value, dict):
            data[key] = arrays[value["array"]]
        elif isinstance(value, list):
            data[key] = tuple(int(v) for v in value)
    node: Node = NODES[kind](**data)
    return node


def _describe(node: Node) -> str:
    if isinstance(node, Spiking):
        law = node.law
        return f"{law.charge} {law.fires} {law.threshold:g} reset {law.reset}"
    if isinstance(node, Weighted):
        return f"{node.kind} {tuple(node.weight.shape)}{'' if node.bias is None else ' + bias'}"
    if isinstance(node, DelayedLinear):
        late = f"delays {node.waits[0]} to {node.waits[-1]}"
        return f"{node.kind} {tuple(node.weight.shape)} {late}{'' if node.bias is None else ' + bias'}"
    if isinstance(node, Delay):
        return f"delay {node.steps.min()} to {node.steps.max()} steps"
    if isinstance(node, Scale):
        return f"scale {node.scale.min():g} to {node.scale.max():g}"
    return str(node)
