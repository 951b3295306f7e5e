"""The network as plain data with its discrete-time law complete: nodes, edges, ``dt_s``, shapes, checks.

A node is a frozen dataclass that owns ``out_shape(in_shape)`` and ``check()``. Shapes leave out batch and time.
One step propagates through the whole graph: an edge with ``delay`` 0 delivers in the step in which its source
speaks (as torch does), an edge with ``delay`` d delivers d steps later. A cycle needs a delay of at least 1.
Edges that meet in one node add.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from export.package import Arrays, digest, read_package, write_package
from neuro.neuron import Law

Shape: TypeAlias = tuple[int, ...]
Float: TypeAlias = npt.NDArray[np.floating[Any]]
Pair: TypeAlias = tuple[int, int]

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
class Input:
    """Where ``x`` enters: ``shape`` of one step, without batch and time."""

    shape: Shape
    kind: ClassVar[str] = "input"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``shape``."""
        return self.shape

    def check(self) -> None:
        """Positive sizes."""
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"shape must have positive sizes, got {self.shape}")


@dataclass(frozen=True)
class Output:
    """Where ``y`` leaves; identity."""

    kind: ClassVar[str] = "output"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``in_shape``."""
        return in_shape

    def check(self) -> None:
        """Nothing to check."""


@dataclass(frozen=True, eq=False)
class Linear:
    """``y = W x + b``: ``weight`` (out, in), ``bias`` (out,) or None."""

    weight: Float
    bias: Float | None = None
    kind: ClassVar[str] = "linear"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``(in,) -> (out,)``."""
        if in_shape != (self.weight.shape[1],):
            raise ValueError(f"takes ({self.weight.shape[1]},), got {in_shape}; is a Flatten missing before it?")
        return (self.weight.shape[0],)

    def check(self) -> None:
        """Two-dimensional finite weight, matching bias."""
        _check_weights(self.weight, self.bias, 2)


@dataclass(frozen=True, eq=False)
class Conv2d:
    """Cross-correlation as in torch: ``weight`` (out, in / groups, kh, kw), zero padding, all pairs (h, w)."""

    weight: Float
    bias: Float | None = None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    kind: ClassVar[str] = "conv2d"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``(in, h, w) -> (out, h', w')`` with ``h' = (h + 2 p - d (k - 1) - 1) // s + 1``."""
        channels = self.weight.shape[1] * self.groups
        if len(in_shape) != 3 or in_shape[0] != channels:
            raise ValueError(f"takes ({channels}, h, w), got {in_shape}")
        return (
            self.weight.shape[0],
            *_windows(in_shape[1:], self.weight.shape[2:], self.stride, self.padding, self.dilation),
        )

    def check(self) -> None:
        """Four-dimensional finite weight, matching bias, legal geometry."""
        _check_weights(self.weight, self.bias, 4)
        if self.groups < 1 or self.weight.shape[0] % self.groups:
            raise ValueError(f"groups {self.groups} does not divide {self.weight.shape[0]} output channels")
        if min(self.stride) < 1 or min(self.dilation) < 1 or min(self.padding) < 0:
            raise ValueError(f"stride {self.stride}, dilation {self.dilation}, padding {self.padding} is not legal")


@dataclass(frozen=True)
class AvgPool2d:
    """Mean over windows, padding counted (torch ``count_include_pad=True``); pairs (h, w)."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    kind: ClassVar[str] = "avgpool2d"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``(c, h, w) -> (c, h', w')``."""
        if len(in_shape) != 3:
            raise ValueError(f"takes (c, h, w), got {in_shape}")
        return (in_shape[0], *_windows(in_shape[1:], self.kernel, self.stride, self.padding, (1, 1)))

    def check(self) -> None:
        """Legal geometry."""
        if min(self.kernel) < 1 or min(self.stride) < 1 or min(self.padding) < 0:
            raise ValueError(f"kernel {self.kernel}, stride {self.stride}, padding {self.padding} is not legal")
        if any(2 * p > k for p, k in zip(self.padding, self.kernel, strict=True)):
            raise ValueError(f"padding {self.padding} is more than half of kernel {self.kernel}")


@dataclass(frozen=True)
class Flatten:
    """All axes into one, last axis fastest (C order of (c, h, w))."""

    kind: ClassVar[str] = "flatten"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``(...) -> (n,)``."""
        return (math.prod(in_shape),)

    def check(self) -> None:
        """Nothing to check."""


@dataclass(frozen=True)
class Spiking:
    """A population of neurons under one :class:`neuro.neuron.Law`; shape as its input's."""

    law: Law = field(default_factory=Law)
    kind: ClassVar[str] = "spiking"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``in_shape``."""
        return in_shape

    def check(self) -> None:
        """The law checked itself when it was made."""


Node: TypeAlias = Input | Output | Linear | Conv2d | AvgPool2d | Flatten | Spiking
NODES: dict[str, Any] = {c.kind: c for c in (Input, Output, Linear, Conv2d, AvgPool2d, Flatten, Spiking)}


@dataclass(frozen=True)
class Edge:
    """``src -> dst``, arriving ``delay`` steps after the step in which ``src`` spoke."""

    src: str
    dst: str
    delay: int = 0


@dataclass(frozen=True, eq=False)
class Network:
    """Graph of named nodes in float. ``dt_s``: seconds that one step stands for.

    ``losses`` say what the import that made it changed. Errors: :class:`NetworkError` from :meth:`check`.
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
        return [e for e in self.edges if e.dst == name]

    def targets(self, name: str) -> list[Edge]:
        """Edges out of ``name``, in the order of the edge list."""
        return [e for e in self.edges if e.src == name]

    def spiking(self) -> list[str]:
        """Names of the spiking nodes in execution order."""
        return [n for n in self.order() if isinstance(self.nodes[n], Spiking)]

    def order(self) -> list[str]:
        """Execution order of one step: sources of undelayed edges first, ties by place in ``nodes``."""
        place = {n: k for k, n in enumerate(self.nodes)}
        waiting = {n: sum(e.delay == 0 for e in self.sources(n)) for n in self.nodes}
        ready = [place[n] for n, k in waiting.items() if k == 0]
        heapq.heapify(ready)
        names, done = list(self.nodes), []
        while ready:
            name = names[heapq.heappop(ready)]
            done.append(name)
            for e in self.targets(name):
                if e.delay == 0:
                    waiting[e.dst] -= 1
                    if waiting[e.dst] == 0:
                        heapq.heappush(ready, place[e.dst])
        if len(done) < len(names):
            loop = ", ".join(sorted(set(names) - set(done)))
            raise NetworkError(f"{self.name}: cycle without delay through {loop}; give one of its edges delay >= 1")
        return done

    def shapes(self) -> dict[str, Shape]:
        """Output shape of every node. Errors: :class:`NetworkError` naming the node."""
        known: dict[str, Shape] = {}
        delayed = [e for e in self.edges if e.delay]
        for name in self.order():
            incoming = {known[e.src] for e in self.sources(name) if e.src in known}
            if len(incoming) > 1:
                raise NetworkError(f"{name}: inputs of different shapes {sorted(incoming)} cannot add")
            if not incoming and not isinstance(self.nodes[name], Input):
                raise NetworkError(f"{name}: nothing undelayed leads to it; connect it or remove it")
            try:
                known[name] = self.nodes[name].out_shape(next(iter(incoming), ()))
            except ValueError as error:
                raise NetworkError(f"{name}: {error}") from None
        for e in delayed:
            into = {known[s.src] for s in self.sources(e.dst)}
            if len(into) > 1:
                raise NetworkError(f"{e.dst}: inputs of different shapes {sorted(into)} cannot add")
        return known

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


def _windows(size: Shape, kernel: Shape, stride: Pair, padding: Pair, dilation: Pair) -> Shape:
    out = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    if min(out) < 1:
        raise ValueError(f"a window of {kernel} does not fit into {size} with padding {padding}")
    return out


def _check_weights(weight: Float, bias: Float | None, ndim: int) -> None:
    if weight.ndim != ndim or not weight.size:
        raise ValueError(f"weight must have {ndim} non-empty axes, got shape {weight.shape}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"bias must have shape {weight.shape[:1]}, got {bias.shape}")
    for name, a in (("weight", weight), ("bias", bias)):
        if a is None:
            continue
        if not np.issubdtype(a.dtype, np.floating):
            raise ValueError(f"{name} must be float32 or float64, got {a.dtype}")
        bad = np.argwhere(~np.isfinite(a))
        if len(bad):
            raise ValueError(
                f"{name}{[int(i) for i in bad[0]]} is {a[tuple(bad[0])]} ({len(bad)} such values); "
                "the training diverged: lower the learning rate or load an earlier checkpoint"
            )


def _node_dict(name: str, node: Node, arrays: Arrays) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for f in fields(node):
        value = getattr(node, f.name)
        if isinstance(value, np.ndarray):
            arrays[f"{name}.{f.name}"] = value
            out[f.name] = {"array": f"{name}.{f.name}"}
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
    if isinstance(node, Linear | Conv2d):
        return f"{node.kind} {tuple(node.weight.shape)}{'' if node.bias is None else ' + bias'}"
    return str(node)
