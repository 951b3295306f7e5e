"""A network as integers for a Loihi-class chip: :class:`LoihiProgram`, its checks and its file.

Its parts are in :mod:`export.loihi_nodes` and :mod:`export.loihi_edges`; the law that these numbers feed is
:mod:`sim.loihi.reference`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

from export.loihi_edges import ConvEdge, DenseEdge, Edge, Port, SignMode, SparseEdge, effective, lava_kernel
from export.loihi_nodes import (
    POPULATIONS,
    Delta,
    Graded,
    InputNode,
    Int,
    Lif,
    Node,
    Population,
    ResonateFire,
    Sigma,
    SigmaDelta,
    Ternary,
)
from export.network import Loss, Shape
from export.package import Arrays, PackageError, digest, read_package, write_package
from export.program import Usage

__all__ = [
    "POPULATIONS", "ConvEdge", "Delta", "DenseEdge", "Edge", "Graded", "InputNode", "Int", "Lif", "LoihiProgram",
    "Node", "Population", "Port", "ProgramError", "ResonateFire", "Sigma", "SigmaDelta", "SignMode", "SparseEdge",
    "Ternary", "effective", "lava_kernel",
]  # fmt: skip

FORMAT = "loihi-int"
VERSION = 2
MAX_DELAY = 62  # steps (Davies et al. 2018, IEEE Micro 38(1): up to 62)


class ProgramError(ValueError):
    """An integer program that breaks the chip's number ranges: names the node, the value and the rule."""


@dataclass(frozen=True, eq=False)
class LoihiProgram:
    """One network in a chip's integers. Made by :mod:`export.to_loihi` or :mod:`export.assemble`.

    ``output``: the population that is read. ``placement``: core of each neuron. ``scale``: integer weight units that
    1.0 of the float network's potential became, per population. ``losses``: what the conversion changed. ``law``:
    "lava" as lava-nc 0.10.0 computes; "hw" also prepares and shifts the weights of convolutions, and a current that
    wraps is an error. Errors of :meth:`check`: :class:`ProgramError`.
    """

    nodes: Mapping[str, Node]
    edges: Sequence[Edge]
    output: str
    dt_s: float
    profile: str
    placement: Mapping[str, Int] = field(repr=False)
    usage: Usage
    losses: Sequence[Loss] = ()
    name: str = "network"
    source_hash: str = ""
    scale: Mapping[str, float] = field(default_factory=dict)
    law: Literal["lava", "hw"] = "lava"
    machine: ClassVar[str] = "loihi"

    @cached_property
    def input(self) -> str:
        """Name of the input node."""
        return next(n for n, node in self.nodes.items() if isinstance(node, InputNode))

    @cached_property
    def input_shape(self) -> Shape:
        """One step of one sample."""
        return self.nodes[self.input].shape

    @cached_property
    def output_shape(self) -> Shape:
        """One step of one sample."""
        return self.nodes[self.output].shape

    @cached_property
    def latency(self) -> int:
        """Steps by which the output lags the input that caused it."""
        return self.nodes[self.output].start

    @cached_property
    def watched(self) -> tuple[str, ...]:
        """Probes ``"<node>.s"`` of every population."""
        return tuple(f"{n}.s" for n in self.populations)

    @cached_property
    def populations(self) -> dict[str, Population]:
        """The populations in order: every node that is no input."""
        return {n: node for n, node in self.nodes.items() if not isinstance(node, InputNode)}

    def size(self, node: str) -> int:
        """Number of neurons (or input lines)."""
        return math.prod(self.nodes[node].shape)

    def into(self, node: str) -> list[Edge]:
        """Connections into ``node``."""
        return [e for e in self.edges if e.dst == node]

    @cached_property
    def links(self) -> list[tuple[Int, Int]]:
        """Per connection: source and target index of its non-zero synapses."""
        return [e.links(self.nodes[e.src].shape, self.nodes[e.dst].shape) for e in self.edges]

    @cached_property
    def fan_out(self) -> list[Int]:
        """Per connection: non-zero synapses of each source neuron."""
        return [e.fan_out(self.nodes[e.src].shape, self.nodes[e.dst].shape) for e in self.edges]

    @property
    def loops(self) -> bool:
        """Does a message come back to where it came from?"""
        return any(self.looped(c) for c in self.components)

    def looped(self, component: tuple[str, ...]) -> bool:
        """Whether it is a loop, or a single node that does not feed itself."""
        return len(component) > 1 or any(e.src == e.dst == component[0] for e in self.edges)

    @cached_property
    def components(self) -> list[tuple[str, ...]]:
        """Nodes that feed each other in a loop, and single ones; sources first."""
        after = {n: {e.dst for e in self.edges if e.src == n} for n in self.nodes}
        reach: dict[str, set[str]] = {}
        for n in self.nodes:
            seen, ring = set(after[n]), set(after[n])
            while ring:
                ring = {d for r in ring for d in after[r]} - seen
                seen |= ring
            reach[n] = seen
        done: list[tuple[str, ...]] = []
        waiting = dict.fromkeys(self.nodes)
        while waiting:
            for n in waiting:
                group = tuple(m for m in waiting if m == n or (m in reach[n] and n in reach[m]))
                if not any(n in reach[m] for m in waiting if m not in group):
                    break
            done.append(group)
            for m in group:
                del waiting[m]
        return done

    def check(self) -> None:
        """Ranges of every number, shapes, names. Errors: :class:`ProgramError` naming the node."""
        from export.loihi_check import check

        check(self)

    def hash(self) -> str:
        """SHA-256 of everything that is saved."""
        return digest(*self.to_manifest())

    def to_manifest(self) -> tuple[dict[str, Any], Arrays]:
        """Plain JSON data and integer arrays, as saved."""
        from export.loihi_file import to_manifest

        return to_manifest(self)

    def save(self, path: str | Path) -> Path:
        """Write one ``.npz`` of integers and JSON, beside and renamed."""
        return write_package(path, *self.to_manifest())

    @classmethod
    def load(cls, path: str | Path) -> LoihiProgram:
        """Read what :meth:`save` wrote, checked. Errors: ``PackageError`` or :class:`ProgramError`."""
        from export.loihi_file import from_manifest

        manifest, arrays = read_package(path, FORMAT)
        if manifest.get("version") not in range(1, VERSION + 1):
            raise PackageError(f"{path}: version {manifest.get('version')}, this reads up to {VERSION}; compile again")
        try:
            program = from_manifest(manifest, arrays)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PackageError(f"{path}: no {FORMAT} manifest ({error!r}); compile again") from None
        program.check()
        return program
