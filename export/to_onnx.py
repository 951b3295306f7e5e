"""A Network as a standard ONNX file, built node by node: one step with its state in and out, or a Scan.

    to_onnx_step    x (N, ...), states            -> y (N, ...), states.next, watched
    to_onnx_scan    x (T, N, ...)                 -> y (T, N, ...), states.next, watched (T, N, ...)

``states`` start at the values in the metadata (step) or inside (scan); the last states of a scan go into a
step program, which goes on from there. ``watched`` are spikes ``<node>.s`` and, where a layer's input is not
the spikes of one node, that input ``<layer>.in``: what a count of work needs. Everything else about the
network rides in the file's metadata, keys ``snn.*``, so that a file runs and is counted without the network
it came from. Only standard operators of opset 17, IR 8: onnxruntime-web refuses files newer than it knows.

What is exact. The neuron law (states and spikes), AveragePool, Flatten, delays and sums of two edges have the
bits of torch. Conv and Gemm add up in an order of their own, which changes with batch size, threads and CPU;
they have the bits of torch where every partial sum is exact, as with weights on a grid of 2**-k and spikes as
input, and agree to rounding otherwise. A difference shows as a spike only where ``h`` is that close to the
threshold: see ``sim.edge.native`` for how often. ``h >= threshold`` here and ``h - threshold >= 0`` in
:mod:`neuro.neuron` are the same comparison (gradual underflow).
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from export.network import Loss, Network, Shape
from export.package import PackageError, write_bytes
from export.program import CapacityError

FORMAT = "spikeport-onnx"
VERSION = "1"
OPSET, IR_VERSION = 17, 8
MAX_BYTES = 2**31 - 1
"""Protobuf's limit for one message, so for an .onnx file in one piece (protobuf.dev, "Encoding")."""


@dataclass(frozen=True, eq=False)
class OnnxProgram:
    """An ONNX file in memory: ``model`` its bytes, ``network`` what it computes, ``meta`` its ``snn.*`` keys.

    ``form``: ``step``, ``scan`` or ``once``. ``usage``: bytes of the file against protobuf's limit.
    """

    model: bytes = field(repr=False)
    network: Network = field(repr=False)
    meta: Mapping[str, str] = field(repr=False)
    machine: ClassVar[str] = "onnx"

    @property
    def form(self) -> str:
        """``step``, ``scan``, or ``once`` of :mod:`export.to_onnx_once`."""
        return self.meta["snn.form"]

    @property
    def usage(self) -> dict[str, tuple[int, int]]:
        """``{"file_bytes": (used, 2**31 - 1)}``."""
        return {"file_bytes": (len(self.model), MAX_BYTES)}

    @property
    def losses(self) -> Sequence[Loss]:
        """What the import into the network changed; the export itself changes nothing."""
        return self.network.losses

    @property
    def dt_s(self) -> float:
        """Seconds that one step stands for."""
        return self.network.dt_s

    @property
    def input_shape(self) -> Shape:
        """One step of one sample."""
        return self.network.shapes()[self.network.input]

    @property
    def output_shape(self) -> Shape:
        """One step of one sample."""
        return self.network.shapes()[self.network.output]

    @cached_property
    def states(self) -> list[dict[str, Any]]:
        """``[{"name", "next", "shape", "init"}]``: input, output, shape without batch, first value."""
        found: list[dict[str, Any]] = json.loads(self.meta["snn.states"])
        return found

    @cached_property
    def outputs(self) -> dict[str, Shape]:
        """Outputs beside ``y`` and the states: name to shape without batch and time."""
        return {n: tuple(s) for n, s in json.loads(self.meta["snn.outputs"]).items()}

    @property
    def watched(self) -> tuple[str, ...]:
        """Those outputs that are spikes, ``<node>.s`` in execution order."""
        return tuple(json.loads(self.meta["snn.spikes"]))

    def hash(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.model).hexdigest()

    def save(self, path: str | Path) -> Path:
        """Write the ``.onnx`` file, beside and renamed."""
        return write_bytes(path, self.model)

    @classmethod
    def load(cls, path: str | Path) -> OnnxProgram:
        """Read what :meth:`save` wrote. Errors: ``PackageError`` naming the file and the fix."""
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise PackageError(
                f"{path}: cannot be read ({error.strerror}); give an .onnx file of this package"
            ) from None
        return cls.from_bytes(data, str(path))

    @classmethod
    def from_bytes(cls, data: bytes, owner: str = "program") -> OnnxProgram:
        """The program in the bytes of a file, checked against its hash; ``owner`` is named in errors."""
        need("onnx")
        from export import onnx_graph

        model, meta, arrays = onnx_graph.read(data, owner)
        if meta.get("snn.format") != FORMAT or meta.get("snn.version") != VERSION:
            raise PackageError(
                f"{owner}: metadata says snn.format {meta.get('snn.format')!r}, version "
                f"{meta.get('snn.version')!r}, expected {FORMAT!r}, {VERSION!r}; "
                "make the file with export.to_onnx, other ONNX files have no neuron law"
            )
        if onnx_graph.seal(model) != meta.get("snn.sha256"):
            raise PackageError(
                f"{owner}: content does not match its hash; the file was changed or damaged, export it again"
            )
        return cls(data, Network.from_manifest(json.loads(meta["snn.network"]), arrays, owner), meta)


def to_onnx_step(network: Network, *, watch: bool = True, opset: int = OPSET) -> OnnxProgram:
    """One step with explicit state: the form for streams, and for runtimes without control flow.

    Inputs ``x (N, ...)`` and every state; outputs ``y``, ``<state>.next`` and, with ``watch``, the spikes and
    layer inputs that counting needs. ``N`` is symbolic. ``opset``: 13 to 21. Errors: ``NetworkError``;
    ``MappingError`` for float64 with a convolution; ``CapacityError`` over 2 GiB.
    """
    return program_of(network, "step", watch, opset)


def to_onnx_scan(network: Network, *, watch: bool = True, opset: int = OPSET) -> OnnxProgram:
    """The whole time in one Scan: ``x (T, N, ...) -> y (T, N, ...)``, ``T`` and ``N`` symbolic.

    States start inside the graph and leave as ``<state>.next (N, ...)``. Errors as :func:`to_onnx_step`.
    """
    return program_of(network, "scan", watch, opset)


def need(module: str) -> Any:
    """The module, or ``ValueError`` with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(f"{module} is not installed; it comes with: pip install 'spikeport[edge]'") from None


def program_of(network: Network, form: str, watch: bool, opset: int) -> OnnxProgram:
    """What the functions of this kind do: ``form`` is ``step``, ``scan`` or ``once``."""
    network.check()
    need("onnx")
    from export import onnx_graph

    if not 13 <= opset <= 21:
        raise ValueError(f"opset: must be 13 to 21, which browsers and onnxruntime both read, got {opset}")
    graph, states, watched = onnx_graph.GRAPHS[form](network, watch)
    used = sum(a.nbytes for a in network.to_manifest()[1].values())
    if used > MAX_BYTES:
        raise CapacityError(f"{network.name}: weights need {used} bytes, an .onnx file holds {MAX_BYTES}")
    meta = {
        "snn.format": FORMAT,
        "snn.version": VERSION,
        "snn.form": form,
        "snn.dt_s": repr(network.dt_s),
        "snn.states": json.dumps(states),
        "snn.outputs": json.dumps(watched),
        "snn.spikes": json.dumps([n for n in watched if n.endswith(".s")]),
        "snn.losses": json.dumps([[x.node, x.what, x.size] for x in network.losses]),
        "snn.network": json.dumps(network.to_manifest()[0]),
        "snn.network_hash": network.hash(),
        "snn.tool_version": _version(),
    }
    data, sealed = onnx_graph.write(graph, meta, opset, IR_VERSION)
    return OnnxProgram(data, network, sealed)


def _version() -> str:
    try:
        return metadata.version("spikeport")
    except metadata.PackageNotFoundError:
        return "source"
