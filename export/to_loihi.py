"""A Network as a program for a Loihi-class chip: integers, placement, losses.

Chip step and network step: every connection takes one chip step, so a population that is ``depth`` connections from
the input treats network step k in chip step ``k + 1 + depth``. Populations are reset at the start of their own first
step (LIFReset with that offset), so what leaves is the network's answer, ``latency`` steps late.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.network import Input, Loss, Network, Pair, Shape, Spiking
from export.package import Arrays, PackageError, digest, read_package, write_package
from export.place import Placement, place
from export.program import MappingError, Usage
from hardware.loihi import load_chip

FORMAT, VERSION = "loihi-int", 1
SIGNS = ("mixed", "excitatory", "inhibitory")


@dataclass(frozen=True)
class Population:
    """Integer LIF: ``du, dv, vth`` as lava-nc takes them; ``reset`` "subtract" is our extension, not portable.

    ``bias (n,)`` are mantissas, applied as ``bias << bias_exp`` to v in every step. ``depth``: connections from input.
    """

    shape: Shape
    du: int
    dv: int
    vth: int
    depth: int
    reset: str = "zero"
    bias: npt.NDArray[np.int32] | None = None
    bias_exp: int = 0


@dataclass(frozen=True)
class Connection:
    """``kind`` "dense": ``weight (out, in)``; "conv": ``weight (out, in/groups, kh, kw)`` in torch's orientation.

    ``delay``: network steps between source and target (0: same step); ``chip_delay``: what the chip adds to its one
    step so that this holds. ``graded``: payload bits, 0 for binary spikes.
    """

    src: str
    dst: str
    kind: str
    weight: npt.NDArray[np.int32]
    weight_exp: int = 0
    num_weight_bits: int = 8
    sign_mode: str = "mixed"
    graded: int = 0
    delay: int = 0
    chip_delay: int = 0
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def effective(self) -> npt.NDArray[np.int32]:
        """The weights that the chip stores: clipped and truncated as lava-nc does (convolutions are taken as is)."""
        return self.weight if self.kind == "conv" else prepare(self.weight, self.sign_mode, self.num_weight_bits)


@dataclass(frozen=True, eq=False)
class LoihiProgram:
    """Populations and connections in integers, with placement, usage and losses."""

    input_name: str
    input_shape: Shape
    output_name: str
    populations: Mapping[str, Population]
    connections: Sequence[Connection]
    dt_s: float
    latency: int
    profile: str
    placement: Placement
    losses: Sequence[Loss] = ()
    source_hash: str = ""
    machine: str = field(default="loihi", init=False)

    @property
    def usage(self) -> Usage:
        """``{resource: (used, max)}`` over the chips used."""
        return self.placement.usage

    @property
    def watched(self) -> tuple[str, ...]:
        """Probes that can be asked for."""
        return tuple(f"{n}.s" for n in self.populations)

    def order(self) -> list[str]:
        """Populations by depth: each after the sources of its undelayed connections."""
        return sorted(self.populations, key=lambda n: self.populations[n].depth)

    def shape_of(self, name: str) -> Shape:
        """Shape of a population or of the input."""
        return self.input_shape if name == self.input_name else self.populations[name].shape

    def check(self) -> None:
        """Raise ``ValueError`` naming the population or connection that breaks a limit of the integer law."""
        for name, p in self.populations.items():
            _range(name, "vth", p.vth, 1, 2**17 - 1)
            _range(name, "du", p.du, -1, 4095)
            _range(name, "dv", p.dv, 0, 4096)
            _range(name, "bias_exp", p.bias_exp, 0, 7)
            if p.bias is not None and np.abs(p.bias).max(initial=0) > 4095:
                raise ValueError(f"{name}: bias mantissa {np.abs(p.bias).max()} is over 4095; raise bias_exp")
        for c in self.connections:
            where = f"{c.src} -> {c.dst}"
            if c.sign_mode not in SIGNS:
                raise ValueError(f"{where}: sign_mode '{c.sign_mode}' is none of {SIGNS}")
            _range(where, "chip_delay", c.chip_delay, 0, 62)
            _range(where, "weight_exp", c.weight_exp, -8, 7)

    def to_manifest(self) -> tuple[dict[str, Any], Arrays]:
        """Plain JSON data and arrays, as saved."""
        arrays: Arrays = {}
        nodes, edges = [], []
        for n, p in self.populations.items():
            row = {k: v for k, v in p.__dict__.items() if k != "bias"}
            if p.bias is not None:
                arrays[f"{n}.bias"] = p.bias
            nodes.append({"id": n, "kind": "lif"} | row)
        for k, c in enumerate(self.connections):
            arrays[f"e{k}.w"] = c.weight
            edges.append({a: v for a, v in c.__dict__.items() if a != "weight"})
        return {
            "format": FORMAT,
            "version": VERSION,
            "dt": self.dt_s,
            "latency": self.latency,
            "profile": self.profile,
            "input": {"id": self.input_name, "shape": self.input_shape},
            "output": self.output_name,
            "nodes": nodes,
            "edges": edges,
            "losses": [[x.node, x.what, x.size] for x in self.losses],
            "provenance": {"network": self.source_hash},
        }, arrays

    def hash(self) -> str:
        """SHA-256 of what is saved."""
        return digest(*self.to_manifest())

    def save(self, path: str | Path) -> Path:
        """Write one ``.npz`` with a JSON manifest, no pickle."""
        return write_package(path, *self.to_manifest())

    @classmethod
    def load(cls, path: str | Path) -> LoihiProgram:
        """Read what :meth:`save` wrote, placed anew and checked. Errors: ``PackageError``, ``ValueError``."""
        manifest, arrays = read_package(path, FORMAT)
        if manifest.get("version") != VERSION:
            raise PackageError(f"{path}: version {manifest.get('version')}, this spikeport reads {VERSION}")
        try:
            return _from_manifest(manifest, arrays)
        except (KeyError, TypeError) as error:
            raise PackageError(f"{path}: manifest is not that of a Loihi program ({error!r})") from None


def compile_loihi(
    network: Network, *, profile: str = "loihi1", graded_bits: int = 0, soft_reset: bool = False
) -> LoihiProgram:
    """The network in integers on ``profile``; see ``export.quantize`` for the mapping of numbers.

    ``graded_bits``: payload bits of the input (0: binary spikes). ``soft_reset`` allows reset "subtract" as an
    extension that lava-nc does not have. Errors: ``MappingError`` (node, rule, fix), ``CapacityError``.
    """
    from export.quantize import quantize

    network.check()
    chip = load_chip(profile)
    populations, connections, losses = quantize(network, graded_bits, soft_reset, chip.limits["delay_max"])
    last = network.sources(network.output)
    if len(last) != 1 or not isinstance(network.nodes[last[0].src], Spiking):
        raise MappingError(f"{network.output}: the chip answers in spikes; put a spiking node before the output")
    shape = network.nodes[network.input]
    if not isinstance(shape, Input):
        raise MappingError(f"{network.input}: is no Input")
    program = LoihiProgram(
        network.input,
        shape.shape,
        last[0].src,
        populations,
        connections,
        network.dt_s,
        max(p.depth for p in populations.values()),
        profile,
        place(populations, connections, shape.shape, chip),
        (*network.losses, *losses),
        network.hash(),
    )
    program.check()
    return program


def prepare(w: npt.NDArray[Any], sign_mode: str, num_weight_bits: int) -> npt.NDArray[np.int32]:
    """lava-nc's weight preparation for Dense and Sparse: clip to 8 bits, drop the low bits.

    excitatory: ``(clip(w, 0, 255) >> s) << s``; inhibitory: the same of ``-w``, negated; mixed:
    ``(clip(w, -256, 255) >> s + 1) << s + 1``, s = 8 - num_weight_bits.
    """
    s = 8 - num_weight_bits
    w = np.asarray(w, np.int32)
    if sign_mode == "excitatory":
        return (np.clip(w, 0, 255) >> s) << s
    if sign_mode == "inhibitory":
        return -((np.clip(-w, 0, 255) >> s) << s)
    return (np.clip(w, -256, 255) >> (s + 1)) << (s + 1)


def _from_manifest(manifest: dict[str, Any], arrays: Arrays) -> LoihiProgram:
    populations = {}
    for row in manifest["nodes"]:
        row = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items() if k not in ("kind", "id")} | {
            "id": row["id"]
        }
        name = row.pop("id")
        populations[name] = Population(bias=arrays.get(f"{name}.bias"), **row)
    connections = [
        Connection(weight=arrays[f"e{k}.w"], **{a: tuple(v) if isinstance(v, list) else v for a, v in row.items()})
        for k, row in enumerate(manifest["edges"])
    ]
    program = LoihiProgram(
        manifest["input"]["id"],
        tuple(manifest["input"]["shape"]),
        manifest["output"],
        populations,
        connections,
        manifest["dt"],
        manifest["latency"],
        manifest["profile"],
        place(populations, connections, tuple(manifest["input"]["shape"]), load_chip(manifest["profile"])),
        tuple(Loss(n, w, s) for n, w, s in manifest["losses"]),
        manifest["provenance"]["network"],
    )
    program.check()
    return program


def _range(owner: str, name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{owner}: {name} must be in [{low}, {high}], got {value}")
