"""lava-dl's netx HDF5 (``.net``) as an integer program that runs here as lava-dl's loader runs the file.

Reads what slayer's ``export_hdf5`` and :mod:`export.to_netx` write. What the loader ignores or changes, it ignores and
changes here too, with a loss; what it cannot load is refused by name. Source: lava-dl at d825ac5, ``netx/hdf5.py``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from export.assemble import assemble
from export.loihi import InputNode, LoihiProgram
from export.network import Shape
from export.netx_build import Builder, Settings, add_layer
from export.netx_file import NOTE, NOTE_VERSION, Layer, Reader, opened
from export.netx_layers import SPIKE_EXP
from export.package import PackageError
from export.program import MappingError


def from_netx(
    path: str | Path,
    *,
    dt_s: float | None = None,
    input_shape: Shape | None = None,
    input_message_bits: int | None = None,
    reset_interval: int | None = None,
    reset_offset: int | None = None,
    spike_exp: int | None = None,
    num_layers: int | None = None,
    late: bool | None = None,
    profile: str | None = None,
) -> LoihiProgram:
    """The network of ``path`` as ``lava.lib.dl.netx.hdf5.Network`` builds it from the same arguments.

    ``input_shape``: torch's (c, h, w), where the file has no input layer before a convolution. ``input_message_bits``:
    0 for spikes; an input layer with neurons takes signed integers of 16 bits: the bias mantissas of its LIF, or what
    its delta encoder encodes (:func:`input_transform` makes them). ``reset_interval``, ``reset_offset``: as the
    loader's, each layer one step after the one before. ``num_layers``: only so many groups of the file. ``late``: each
    layer starts with its first input, as under the loader with ``reset_offset=1`` (0 with input neurons), and the
    output is read without lag; ``late=False``: all layers run from the first step, as without reset. A file that
    :mod:`export.to_netx` wrote knows all of these; the defaults for others are dt 1 ms, no reset, ``late=True``.

    Errors: ``PackageError`` for a broken file, ``MappingError`` naming the layer, the rule and the fix.
    """
    with opened(path) as reader:
        note = _note(reader)
        settings = Settings(
            _int(note, "input_message_bits", input_message_bits, 0),
            _int(note, "reset_interval", reset_interval, 0),
            _int(note, "reset_offset", reset_offset, 0),
            _int(note, "spike_exp", spike_exp, SPIKE_EXP),
        )
        layers = note.get("layers", [])
        b = Builder(settings, [x["name"] for x in layers], note.get("input", "input"), input_shape, settings.bits)
        for k in range(min(reader.layers, num_layers or reader.layers)):
            add_layer(b, Layer(reader, k))
    if b.last not in b.nodes or len(b.nodes) < 2:
        raise MappingError(f"{path}: has no layer with neurons; export the whole network")
    known = late is None and len(layers) == len(b.nodes) - 1
    if known:
        _restore(b, layers, note)
    elif late is False:
        for name, node in b.nodes.items():
            b.nodes[name] = node if isinstance(node, InputNode) else replace(node, start=b.shift)
    return assemble(
        b.nodes, b.edges, b.last, dt_s=dt_s or float(note.get("dt_s", 1e-3)),
        profile=profile or str(note.get("profile", "loihi1")), name=str(note.get("name") or Path(path).stem),
        losses=b.losses, source_hash=str(note.get("source", "")),
        scale={x["name"]: x["scale"] for x in layers if x["scale"]}, late=not known and late is not False,
    )  # fmt: skip


def input_transform(path: str | Path) -> tuple[int, int]:
    """``(weight, bias)`` of an input layer with neurons: it takes ``weight x + bias`` as integers. Default (64, 0)."""
    with opened(path) as reader:
        layer = Layer(reader, 0)
        if layer.text("type") != "input" or "neuron/type" not in layer:
            raise MappingError(f"{layer.label}: is no input layer with neurons; feed spikes to the network")
        weight = layer.number("weight") if "weight" in layer else 64
        return weight, layer.number("bias") if "bias" in layer else 0


def _note(reader: Reader) -> dict[str, Any]:
    """What :mod:`export.to_netx` left, checked."""
    note = reader.note(NOTE)
    try:
        for layer in note.get("layers", []):
            layer |= {
                "name": str(layer["name"]),
                "start": int(layer["start"]),
                "shape": tuple(int(n) for n in layer["shape"]),
                "scale": None if layer.get("scale") is None else float(layer["scale"]),
            }
        if note and (note["version"] != NOTE_VERSION or not float(note["dt_s"]) > 0):
            raise ValueError("another version")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise PackageError(
            f"{reader.path}: dataset '{NOTE}' is of another version; delete it or export again"
        ) from None
    return note


def _int(note: dict[str, Any], key: str, given: int | None, default: int) -> int:
    value = note.get(key) if given is None else given
    return default if value is None else int(value)


def _restore(b: Builder, layers: list[dict[str, Any]], note: dict[str, Any]) -> None:
    """Starts, and the shapes that dense layers had, as the program that was written had them."""
    for (name, node), layer in zip(
        [x for x in b.nodes.items() if not isinstance(x[1], InputNode)], layers, strict=True
    ):
        shape = layer["shape"] if int(np.prod(layer["shape"])) == int(np.prod(node.shape)) else node.shape
        b.nodes[name] = replace(node, shape=shape, start=layer["start"])
    first = next(n for n, node in b.nodes.items() if isinstance(node, InputNode))
    b.nodes[first] = InputNode(b.nodes[first].shape, _int(note, "message_bits", None, 0))
