"""What a trained network is, as data to keep beside it: its law by population, what was folded and pooled, its time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from export.network import AvgPool2d, Delay, Network, Spiking, SumPool2d

FORMAT, VERSION = "spikeport-training", 1


def manifest(network: Network, facts: Mapping[str, Any], versions: Mapping[str, str]) -> dict[str, Any]:
    """JSON data. By population ``reset``, ``compare``, ``lam`` (fraction kept in a step), ``Vth``; pooling kernels;

    delays; whether BatchNorm was folded; then ``facts`` of the training (T, horizon, dt_s, encoder, split, seed).
    """
    laws = {n: network.law(n) for n in network.spiking()}
    return {
        "format": FORMAT,
        "version": VERSION,
        "network": network.name,
        "network_hash": network.hash(),
        "populations": {
            n: {
                "reset": law.reset,
                "compare": law.fires,
                "lam": law.charge.canonical()[1],
                "Vth": law.threshold,
                "law": law.to_dict(),
            }
            for n, law in laws.items()
        },
        "batchnorm_folded": any("BatchNorm folded" in x.what for x in network.losses),
        "pooling": {n: _pooling(node) for n, node in network if isinstance(node, AvgPool2d | SumPool2d)},
        "delays": {n: d for n, node in network if (d := _delays(node)) is not None},
        "losses": [{"node": x.node, "what": x.what, "size": x.size} for x in network.losses],
        **facts,
        "versions": dict(versions),
    }


def _pooling(node: AvgPool2d | SumPool2d) -> dict[str, Any]:
    kind = "mean" if isinstance(node, AvgPool2d) else "sum"
    return {"kind": kind, "kernel": list(node.kernel), "stride": list(node.stride)}


def _delays(node: Any) -> dict[str, int] | None:
    """Longest delay of a node that has any, and how many different ones."""
    steps = node.steps if isinstance(node, Delay) else getattr(node, "delays", None)
    if isinstance(node, Spiking) or steps is None:
        return None
    return {"longest": int(np.max(steps)), "different": len(np.unique(steps))}
