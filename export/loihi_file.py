"""The integer program as a manifest and arrays, and back."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

import numpy as np

from export.loihi import FORMAT, POPULATIONS, VERSION, ConvEdge, DenseEdge, InputNode, LoihiProgram, SparseEdge
from export.network import Loss
from export.package import Arrays

NODES: dict[str, Any] = {c.kind: c for c in (InputNode, *POPULATIONS)}
EDGES: dict[str, Any] = {c.kind: c for c in (DenseEdge, SparseEdge, ConvEdge)}
LAYOUTS = {
    "dense": "out,in",
    "sparse": "by source: pointer, target",
    "conv": "torch: out,in/groups,kh,kw; correlation",
}


def to_manifest(program: LoihiProgram) -> tuple[dict[str, Any], Arrays]:
    """See :meth:`LoihiProgram.to_manifest`."""
    arrays: Arrays = {f"{n}.core": np.asarray(a, np.int32) for n, a in program.placement.items()}
    nodes = [{"id": n, "kind": node.kind} | _plain(node, n, arrays) for n, node in program.nodes.items()]
    edges = [{"kind": e.kind} | _plain(e, f"e{k}", arrays) for k, e in enumerate(program.edges)]
    for e, written in zip(program.edges, edges, strict=True):
        written["layout"] = LAYOUTS[e.kind]
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": program.name,
        "dt": program.dt_s,
        "latency": program.latency,
        "output": program.output,
        "profile": program.profile,
        "law": program.law,
        "nodes": nodes,
        "edges": edges,
        "usage": {k: list(v) for k, v in program.usage.items()},
        "losses": [[x.node, x.what, x.size] for x in program.losses],
        "provenance": {"source": program.source_hash, "scale": dict(program.scale)},
    }, arrays


def from_manifest(manifest: dict[str, Any], arrays: Arrays) -> LoihiProgram:
    """Inverse of :func:`to_manifest`, unchecked."""
    nodes = {d["id"]: _made(NODES[d["kind"]], d, arrays) for d in manifest["nodes"]}
    return LoihiProgram(
        nodes=nodes,
        edges=[_made(EDGES[d["kind"]], d, arrays) for d in manifest["edges"]],
        output=manifest["output"],
        dt_s=float(manifest["dt"]),
        profile=manifest["profile"],
        placement={n: arrays[f"{n}.core"] for n in nodes},
        usage={k: (int(a), int(b)) for k, (a, b) in manifest["usage"].items()},
        losses=tuple(Loss(str(n), str(w), float(s)) for n, w, s in manifest["losses"]),
        name=str(manifest["name"]),
        source_hash=str(manifest["provenance"]["source"]),
        scale={k: float(v) for k, v in manifest["provenance"]["scale"].items()},
        law=manifest.get("law", "lava"),
    )


def _plain(thing: Any, owner: str, arrays: Arrays) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for f in fields(thing):
        value = getattr(thing, f.name)
        if isinstance(value, np.ndarray):
            arrays[f"{owner}.{f.name}"] = value
            value = {"array": f"{owner}.{f.name}"}
        out[f.name] = list(value) if isinstance(value, tuple) else value
    return out


def _made(cls: Any, data: dict[str, Any], arrays: Arrays) -> Any:
    given = {}
    for f in fields(cls):
        if f.name not in data and f.default is not MISSING:
            continue  # written before there was such a field
        value = data[f.name]
        if isinstance(value, dict):
            value = arrays[value["array"]]
        given[f.name] = tuple(int(v) for v in value) if isinstance(value, list) else value
    return cls(**given)
