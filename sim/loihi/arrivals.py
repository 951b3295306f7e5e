"""Which neurons a message reached in which step, and spikes as sparse rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from export.loihi import ConvEdge, DenseEdge, Edge, InputNode, LoihiProgram
from export.synapses import structure

Array = npt.NDArray[Any]
BLOCK = 2**21
"""Synapses, or neurons times steps, looked at in one go."""


def received(
    program: LoihiProgram, spikes: Mapping[str, Array], starts: Mapping[str, int] | None = None
) -> dict[str, npt.NDArray[np.bool_]]:
    """Per population ``(rows, neurons)``: does a message count there in that step, over a synapse that is not 0?

    Rows as those of its ``spikes``, row k being chip step ``k + starts[node]``. A message of step t counts in step
    ``t + 1 + delay``. Costs about what running the program costs.
    """
    starts = starts or {}
    out = {n: np.zeros(s.shape, bool) for n, s in spikes.items() if not isinstance(program.nodes[n], InputNode)}
    for edge in program.edges:
        for delay, part in _by_delay(edge):
            made = structure(part, program.nodes[edge.src].shape, program.nodes[edge.dst].shape)
            shift = delay + 1 + starts.get(edge.src, 0) - starts.get(edge.dst, 0)
            now = window(spikes[edge.src], shift, 0, len(out[edge.dst]))
            if (made.per_target == made.sources).all():
                out[edge.dst] |= (np.diff(now.indptr) > 0)[:, None]
                continue
            targets = program.size(edge.dst)
            step = max(1, BLOCK // max(made.sources, len(out[edge.dst])))
            for first in range(0, targets, step):
                last = min(targets, first + step)
                to, of = made.pairs(np.arange(first, last))
                ones = np.ones(len(of), np.int32)
                joined = sparse.coo_array((ones, (of, to)), shape=(made.sources, last - first)).tocsr()
                out[edge.dst][:, first:last] |= (now @ joined).toarray() > 0
    return out


def window(s: Array, start: int, begin: int, rows: int) -> Any:
    """Rows of chip steps ``[begin, begin + rows)`` as CSR of 0 and 1; row k of ``s`` is chip step ``k + start``."""
    low, high = max(0, begin - start), max(0, min(len(s), begin + rows - start))
    at, neuron = np.nonzero(s[low:high] != 0)  # of bool is several times faster
    pointer = np.searchsorted(at, np.arange(rows + 1) - max(0, start - begin))
    return sparse.csr_array((np.ones(len(at), np.int32), neuron, pointer), shape=(rows, s.shape[1]))


def _by_delay(edge: Edge) -> list[tuple[int, Edge]]:
    """``(delay, the connection with only the synapses of that delay)``."""
    if isinstance(edge, ConvEdge) or edge.delays is None:
        return [(edge.delay, edge)]
    if isinstance(edge, DenseEdge):
        return [(d, replace(edge, w=w, delays=None)) for d, w in edge.bins()]
    parts: list[tuple[int, Edge]] = []
    for d, which in edge.bins():
        w = np.zeros_like(edge.w)
        w[which] = edge.w[which]
        parts.append((d, replace(edge, w=w, delays=None)))
    return parts
