"""Populations to place, and what their cores hold by every single synapse."""

from __future__ import annotations

from typing import Any

import numpy as np

from export.loihi import DenseEdge, Lif, LoihiProgram


def lif(*shape: int) -> Lif:
    return Lif(shape, 4095, 0, 100)


def dense(src: str, dst: str, n_in: int, n_out: int, **kwargs: Any) -> DenseEdge:
    return DenseEdge(src, dst, np.full((n_out, n_in), 2, np.int16), kwargs.pop("sign_mode", "excitatory"), **kwargs)


def by_links(made: LoihiProgram, placement: Any) -> dict[int, tuple[int, int, int]]:
    """``core: (axons in, axons out, synapse words)`` from every single synapse."""
    ends: dict[int, set[tuple[str, int]]] = {}
    feeds: dict[int, set[tuple[str, int, int]]] = {}
    bits: dict[int, int] = {}
    for e, (of, to) in zip(made.edges, made.links, strict=True):
        width = e.num_weight_bits + (e.sign_mode == "mixed") + 6 * (e.delay_range()[1] > 0)
        sources, targets = made.size(e.src), made.size(e.dst)
        alone = len(of) * (width + 10) < sources * targets * width
        for i, j in zip(of.tolist(), to.tolist(), strict=True):
            home, away = int(placement[e.src][i]), int(placement[e.dst][j])
            ends.setdefault(away, set()).add((e.src, i))
            feeds.setdefault(home, set()).add((e.src, i, away))
            bits[away] = bits.get(away, 0) + alone * (width + 10)
        for core in () if alone else placement[e.dst].tolist():
            bits[core] = bits.get(core, 0) + sources * width
    cores = {int(c) for a in placement.values() for c in a}
    n = {c: len(ends.get(c, ())) for c in cores}
    return {c: (n[c], len(feeds.get(c, ())), -(-bits.get(c, 0) // 64) + n[c]) for c in cores}
