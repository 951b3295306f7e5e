"""A population whose time constants differ from neuron to neuron, as populations of one each.

    name.in.g  Linear: picks the neurons of group g     name.g  the population, its parameters picked
    name.out.g Linear: puts them back in their places   name    Scale by 1: their sum, under the old name

Exact: every neuron sees its own input and nothing else. A law here has one time constant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from export.network import Edge, Loss
from export.nir_file import Raw

TAUS = ("tau", "tau_syn", "tau_mem")
MAX_GROUPS = 64
"""More distinct time constants than this are refused: each brings three nodes."""


def split(known: Mapping[str, Raw], edges: Sequence[Edge]) -> tuple[dict[str, Raw], list[Edge], list[Loss]]:
    """Nodes and edges with every such population split where it is one-dimensional; what was done, as losses."""
    nodes, out, losses = dict(known), list(edges), []
    weights = [np.asarray(r["weight"]) for r in known.values() if r.get("weight") is not None]
    kind = np.float32 if weights and all(w.dtype == np.float32 for w in weights) else np.float64
    for name, raw in known.items():
        groups = _groups(raw)
        if groups is None:
            continue
        n, into = len(groups), [e for e in out if e.dst == name]
        out = [e for e in out if e.dst != name]
        nodes[name] = {"type": "Scale", "scale": np.ones(n, kind)}
        count = int(groups.max()) + 1
        for g in range(count):
            picks = np.eye(n, dtype=kind)[groups == g]
            ends = (f"{name}.in.{g}", f"{name}.{g}", f"{name}.out.{g}")
            nodes[ends[0]] = {"type": "Linear", "weight": picks}
            nodes[ends[1]] = {k: _picked(v, groups == g) for k, v in raw.items()}
            nodes[ends[2]] = {"type": "Linear", "weight": picks.T.copy()}
            out += [replace(e, dst=ends[0]) for e in into]
            out += [Edge(ends[0], ends[1]), Edge(ends[1], ends[2]), Edge(ends[2], name)]
        losses.append(Loss(name, "time constants that differ: split into populations of one each; populations", count))
    return nodes, out, losses


def _groups(raw: Raw) -> np.ndarray[Any, Any] | None:
    """Group of each neuron, or None where nothing is to be split or it cannot be."""
    found = [np.asarray(raw[k]) for k in TAUS if raw.get(k) is not None]
    found = [a for a in found if a.ndim == 1 and a.size > 1 and a.dtype.kind == "f"]
    if not any((a != a[0]).any() for a in found) or len({a.shape for a in found}) > 1:
        return None
    _, groups = np.unique(np.stack(found, 1), axis=0, return_inverse=True)
    groups = np.asarray(groups).ravel()
    return groups if int(groups.max()) < MAX_GROUPS else None


def _picked(value: object, mask: np.ndarray[Any, Any]) -> object:
    return value[mask] if isinstance(value, np.ndarray) and value.shape == mask.shape else value
