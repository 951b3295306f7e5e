"""A layer with a delay for each synapse in NIR, whose Delay has one for each channel, and back.

    x -> name.late.d (Delay d) -> name.at.d (Linear, the synapses of that delay) -> name (Scale by 1: their sum)

for each distinct d; without the Delay for d = 0. The bias is in the first Linear, behind the Delay, so that it acts in
every step. Metadata of the Scale: ``synapses``, JSON of the delays' type and of the delays where the weight is 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from export.network import Delay, DelayedLinear, Edge, Linear, Node, Scale
from export.nir_file import Raw
from export.nir_graph import Arc

NOTE = "synapses"


@dataclass(frozen=True)
class Expanded:
    """``nodes``; ``entries``: what takes the layer's input; ``edges`` between the nodes."""

    nodes: dict[str, Raw]
    entries: list[str]
    edges: list[Arc]


def expand(name: str, node: DelayedLinear, dt: float) -> Expanded:
    """The nodes of the module's docstring."""
    out, features = node.weight.shape
    silent = [[int(k), int(node.delays.flat[k])] for k in np.flatnonzero(node.weight == 0)]
    note = json.dumps({"type": str(node.delays.dtype), "silent": silent})
    nodes: dict[str, Raw] = {
        name: {"type": "Scale", "scale": np.ones(out, node.weight.dtype), "metadata": {NOTE: note}}
    }
    entries, edges = [], []
    for k, d in enumerate(node.waits):
        layer, late = f"{name}.at.{d}", f"{name}.late.{d}"
        nodes[layer] = {"type": "Linear", "weight": node.masked(d)}
        if node.bias is not None and k == 0:
            nodes[layer] |= {"type": "Affine", "bias": node.bias}
        if d:
            nodes[late] = {"type": "Delay", "delay": np.full(features, d * dt)}
            edges.append((late, layer))
        entries.append(late if d else layer)
        edges.append((layer, name))
    return Expanded(nodes, entries, edges)


def restore(
    nodes: Mapping[str, Node], edges: list[Edge], notes: Mapping[str, Any]
) -> tuple[dict[str, Node], list[Edge]]:
    """Layers that :func:`expand` wrote, in one piece again; what a hand made of other shape stays as it is.

    ``notes``: ``synapses`` of the nodes that have it. What the graph says wins over them.
    """
    made = dict(nodes)
    for name, note in notes.items():
        found = _whole(name, made, edges, note)
        if found is None:
            continue
        node, entries, inner = found
        made[name] = node
        kept: list[Edge] = []
        for e in edges:
            if e.dst in entries and e.src not in inner:
                e = replace(e, dst=name)
            if e.src not in inner and e not in kept:
                kept.append(e)
        edges = kept
        made = {n: x for n, x in made.items() if n not in inner}
    return made, edges


def _whole(
    name: str, nodes: Mapping[str, Node], edges: list[Edge], note: Any
) -> tuple[DelayedLinear, set[str], set[str]] | None:
    """The layer, the nodes that take its input, and all that it is made of; None where they are not its alone."""
    told, scale = _told(note), nodes[name]
    layers = [e.src for e in edges if e.dst == name and not e.delay]
    if told is None or not layers or not isinstance(scale, Scale) or (scale.scale != 1).any():
        return None
    parts: list[tuple[Linear, int, str]] = []
    for layer in layers:
        node, into = nodes[layer], [e for e in edges if e.dst == layer]
        before = nodes[into[0].src] if into else None
        if not isinstance(node, Linear) or sum(e.src == layer for e in edges) != 1 or not into:
            return None
        if isinstance(before, Delay) and into[0].src == layer.replace(".at.", ".late."):
            steps = int(before.steps.flat[0])
            one = len(into) == 1 and sum(e.src == into[0].src for e in edges) == 1
            if not one or into[0].delay or (before.steps != steps).any():
                return None
            parts.append((node, steps, into[0].src))
        else:
            parts.append((node, 0, layer))
    taken = [{(e.src, e.delay) for e in edges if e.dst == entry} for _, _, entry in parts]
    if any(t != taken[0] for t in taken) or len({p.weight.shape for p, _, _ in parts}) > 1:
        return None
    if (sum((p.weight != 0).astype(int) for p, _, _ in parts) > 1).any() or any(
        p.bias is not None for p, *_ in parts[1:]
    ):
        return None
    return _joined(parts, told), {entry for *_, entry in parts}, {*layers, *(entry for *_, entry in parts)}


def _joined(parts: list[tuple[Linear, int, str]], told: tuple[Any, list[tuple[int, int]]]) -> DelayedLinear:
    kind, silent = told
    weight = np.zeros_like(parts[0][0].weight)
    delays = np.full(weight.shape, parts[0][1], np.int64)
    for at, late in silent:
        if 0 <= at < weight.size:
            delays.flat[at] = late
    for layer, steps, _ in parts:
        delays[layer.weight != 0] = steps
    for layer, steps, _ in parts:
        weight[delays == steps] = layer.weight[delays == steps]  # a zero with its sign too
    fits = delays.min() >= np.iinfo(kind).min and delays.max() <= np.iinfo(kind).max
    return DelayedLinear(weight, delays.astype(kind) if fits else delays, parts[0][0].bias)


def _told(note: Any) -> tuple[Any, list[tuple[int, int]]] | None:
    """Type of the delays, and the delays without a weight; None for what is not ours."""
    try:
        data = json.loads(str(note))
        kind = np.dtype(str(data["type"]))
        silent = [(int(at), int(late)) for at, late in data["silent"]]
    except (ValueError, TypeError, KeyError):
        return None
    return (kind, silent) if kind.kind in "iu" else None
