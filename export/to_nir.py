"""A Network as a NIR graph or ``.nir`` file: differential equations for other tools, and beside them in the metadata
what NIR cannot say, so that :func:`export.from_nir.from_nir` gives the same network back.

Graph metadata: ``dt``, ``discretization`` = "euler", ``name``, ``order`` (JSON list of node names), and where all
neurons agree ``reset`` ("hard", "soft") and ``spike_cmp`` (">", ">="). Node metadata: ``law`` (JSON), ``reset``,
``spike_cmp``; ``edge`` on a Delay that is an edge's delay; ``bias`` on a convolution whose zeros are meant.

The equations: :mod:`export.nir_law`. A loop's closing edge of one step is written as a plain edge, for every tool
closes it so; any other delay becomes a Delay node. Delays of synapses: :mod:`export.nir_delays`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from export.ends import NATURAL
from export.network import (
    Conv1d,
    Conv2d,
    Delay,
    DelayedLinear,
    Edge,
    Integrator,
    Loss,
    Network,
    Node,
    Shape,
    Spiking,
    Window,
)
from export.nir_delays import Expanded, expand
from export.nir_file import Raw
from export.nir_graph import closing
from export.nir_law import write_population
from export.nir_layers import write_layer
from export.package import digest, write_bytes
from export.program import MappingError
from neuro.neuron import Law


@dataclass(frozen=True, eq=False)
class NirProgram:
    """A NIR graph as plain data (``raw``), what it says less than ``network``, and its file."""

    raw: Raw = field(repr=False)
    network: Network = field(repr=False)
    losses: Sequence[Loss] = ()
    usage: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    machine: ClassVar[str] = "nir"

    @cached_property
    def graph(self) -> Any:
        """The ``nir.NIRGraph``."""
        import nir

        nodes = {name: _node(nir, raw) for name, raw in self.raw["nodes"].items()}
        return nir.NIRGraph(nodes, list(self.raw["edges"]), metadata=dict(self.raw["metadata"]), type_check=False)

    @property
    def name(self) -> str:
        """Name of the network."""
        return self.network.name

    @property
    def dt_s(self) -> float:
        """Seconds that one step stands for."""
        return self.network.dt_s

    def hash(self) -> str:
        """SHA-256 of nodes, parameters, edges and metadata."""
        arrays = {
            f"{n}.{k}": np.asarray(v) for n, raw in self.raw["nodes"].items() for k, v in raw.items() if _numbers(v)
        }
        plain = {n: {k: v for k, v in raw.items() if not _numbers(v)} for n, raw in self.raw["nodes"].items()}
        return digest({"nodes": plain, "edges": self.raw["edges"], "metadata": self.raw["metadata"]}, arrays)

    def save(self, path: str | Path) -> Path:
        """Write the ``.nir`` file, beside and renamed."""
        import nir

        buffer: Any = io.BytesIO()
        nir.write(buffer, self.graph)
        return write_bytes(path, buffer.getvalue())


def to_nir(network: Network, path: str | Path | None = None) -> NirProgram:
    """The graph, written to ``path`` where one is given; ``losses`` say what stands in the metadata only.

    Errors: :class:`MappingError` naming the node for what NIR has no primitive for; ``NetworkError``.
    """
    network.check()
    shapes = network.shapes()
    wide = {n: expand(n, node, network.dt_s) for n, node in network.nodes.items() if isinstance(node, DelayedLinear)}
    nodes = {
        n: _written(n, node, _into(network, n, shapes), shapes[n], network.dt_s)
        for n, node in network.nodes.items()
        if n not in wide
    }
    implied = _implied(network)
    edges, lines = _edges(network, shapes, implied)
    for name, one in wide.items():
        taken = sorted(set(one.nodes) & (set(nodes) | set(lines)))
        if taken:
            raise MappingError(f"{taken[0]}: is the name that a part of {name} takes; rename the node")
        nodes |= one.nodes
    edges = _entered(edges, wide)
    raw: Raw = {"type": "NIRGraph", "nodes": nodes | lines, "edges": edges, "metadata": _metadata(network)}
    program = NirProgram(raw, network, (*network.losses, *_losses(network, implied)))
    if path is not None:
        program.save(path)
    return program


def _written(name: str, node: Node, shape: Shape, out: Shape, dt: float) -> Raw:
    if isinstance(node, Spiking):
        law = node.law
        meta = {"law": json.dumps(law.to_dict()), "reset": _reset(law), "spike_cmp": law.fires}
        return write_population(name, node, out, dt) | {"metadata": meta}
    if isinstance(node, Integrator):
        meta = {"law": json.dumps({"charge": Law(node.charge).to_dict()["charge"]})}
        return write_population(name, node, out, dt) | {"metadata": meta}
    if isinstance(node, Delay):
        return {"type": "Delay", "delay": node.steps * dt}
    if isinstance(node, Window):
        raise MappingError(f"{name}: NIR has nothing that ends after {node.stop} steps; {NATURAL}")
    try:
        raw = write_layer(node, shape, out)
    except MappingError as error:
        raise MappingError(f"{name}: {error}") from None
    if isinstance(node, Conv1d | Conv2d) and node.bias is not None and not node.bias.any():
        raw["metadata"] = {"bias": "kept"}
    return raw


def _reset(law: Law) -> str:
    return "soft" if law.reset == "subtract" else "hard"


def _into(network: Network, name: str, shapes: Mapping[str, Shape]) -> Shape:
    edges = network.sources(name)
    return shapes[edges[0].src] if edges else shapes[name]


def _edges(
    network: Network, shapes: Mapping[str, Shape], implied: Collection[Edge]
) -> tuple[list[tuple[str, str]], dict[str, Raw]]:
    """Edges, with Delay nodes in those whose delay the graph does not imply."""
    edges: list[tuple[str, str]] = []
    lines: dict[str, Raw] = {}
    for e in network.edges:
        if e.delay == 0 or e in implied:
            edges.append((e.src, e.dst))
            continue
        name = f"{e.src}.to.{e.dst}.{e.delay}"
        if name in network.nodes:
            raise MappingError(f"{name}: is the name that the delay of {e.src} -> {e.dst} takes; rename the node")
        shape = shapes[e.src]
        lines[name] = {"type": "Delay", "delay": np.full(shape, e.delay * network.dt_s), "metadata": {"edge": 1}}
        edges += [(e.src, name), (name, e.dst)]
    return edges, lines


def _entered(edges: list[tuple[str, str]], wide: Mapping[str, Expanded]) -> list[tuple[str, str]]:
    """Edges into a layer of delays to each of its parts, and those within it."""
    out = [(a, entry) for a, b in edges for entry in (wide[b].entries if b in wide else [b])]
    return out + [e for one in wide.values() for e in one.edges]


def _implied(network: Network) -> set[Edge]:
    """Edges of one step with which an importer closes a loop by itself."""
    wide = {n for n, node in network.nodes.items() if isinstance(node, DelayedLinear)}
    plain = {e for e in network.edges if e.delay == 1 and not {e.src, e.dst} & wide}
    pairs = [(e.src, e.dst) for e in network.edges]
    plain -= {e for e in plain if pairs.count((e.src, e.dst)) > 1}

    def keeps(name: str) -> bool:
        return isinstance(network.nodes[name], Spiking | Integrator)

    while plain:
        kept = [e for e in network.edges if e.delay == 0 or e in plain]
        arcs = [(e.src, e.dst) for e in kept]
        try:
            closed = set(closing(list(network.nodes), arcs, network.input, network.early, keeps))
        except MappingError:
            return set()
        wrong = {e for e in plain if (e.src, e.dst) not in closed}
        if not wrong:
            return plain if closed == {(e.src, e.dst) for e in plain} else set()
        plain -= wrong
    return plain


def _metadata(network: Network) -> dict[str, Any]:
    laws = [n.law for n in network.nodes.values() if isinstance(n, Spiking)]
    meta: dict[str, Any] = {"dt": network.dt_s, "discretization": "euler", "name": network.name}
    meta["order"] = json.dumps(list(network.nodes))
    for key, values in (("reset", {_reset(law) for law in laws}), ("spike_cmp", {law.fires for law in laws})):
        if len(values) == 1:
            meta[key] = values.pop()
    return meta


def _losses(network: Network, implied: Collection[Edge]) -> list[Loss]:
    """What other tools will not see."""
    out = [Loss(network.name, "dt stands in the metadata only; seconds", network.dt_s)]
    for name, node in network.nodes.items():
        if not isinstance(node, Spiking):
            continue
        if node.law.reset == "subtract":
            what = "reset 'subtract' stands in the metadata only, NIR resets to v_reset; threshold"
            out.append(Loss(name, what, node.law.threshold))
        if node.law.fires == ">=":
            out.append(Loss(name, "'>=' stands in the metadata only, NIR fires at '>'; threshold", node.law.threshold))
    for name, node in network.nodes.items():
        if isinstance(node, Conv1d | Conv2d) and (node.groups > 1 or len(set(node.weight.shape[2:])) > 1):
            what = "nir 1.0.8 checks the shape of square, ungrouped kernels only: read with type_check=False; groups"
            out.append(Loss(name, what, node.groups))
    for name, node in network.nodes.items():
        if isinstance(node, DelayedLinear):
            what = "NIR delays channels: each delay of a synapse became a Delay and a Linear with its weights; delays"
            out.append(Loss(name, what, len(node.waits)))
    for e in network.edges:
        if e in implied:
            out.append(Loss(e.src, f"the step from {e.src} to {e.dst} is implied by the loop; steps", 1.0))
    return out


def _node(nir: Any, raw: Raw) -> Any:
    data = {k: v for k, v in raw.items() if k != "type"}
    if raw["type"] in ("Input", "Output"):
        return nir.Input(data["shape"]) if raw["type"] == "Input" else nir.Output(data["shape"])
    return getattr(nir, raw["type"])(**data)


def _numbers(value: Any) -> bool:
    return isinstance(value, np.ndarray)
