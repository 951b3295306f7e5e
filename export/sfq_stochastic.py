"""Weights as pass probabilities: a stochastic synapse before every branch, its weight current from the probability.

    weight p > 0     line of pulses       -> STSYN  -> SYNP       each pulse passes with probability p
    weight p < 0     line of anti-pulses  -> STSYNN -> SYNM       with |p|
    |weight| = 1     no STSYN: every pulse passes
    IW = i50 + sigma sqrt2 erfinv(2 |p| - 1)

i50 and sigma are those of the cell at 4.2 K. What the network's law adds to a membrane is the mean of what the circuit
adds. A bias of 1 % too much moves p by up to ``0.01 i50 / (sigma sqrt(2 pi))``, 0.07: train with that noise
(``neuro.passing``). Source: docs/sfq.md 3.4 and 4.1; after the idea of arXiv 2311.10721, whose element values were not
public: ours are our own realisation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from export.network import Linear, Loss, Network
from export.program import MappingError
from export.sfq_map import Drawn
from export.sfq_program import SfqProgram
from export.sfq_timing import LEAD_S
from export.to_deck import BOTH, draw
from hardware.sfq import Technology
from hardware.sfq_cells import PassFit, load_cell

LEAST = 1e-3
"""A connection that passes fewer is not drawn; one that passes more than 1 - LEAST has no stochastic synapse."""
GRID_A = 0.1e-6
"""Grid of weight currents: a fortieth of sigma."""


def weight_current_A(p: float, fit: PassFit) -> float:
    """The weight current at which a share ``p`` in (0, 1) passes."""
    return fit.i50_A + fit.sigma_A * NormalDist().inv_cdf(p)


def probabilities(name: str, network: Network, technology: Technology) -> Drawn:
    """The weights of a Linear as signs and weight currents. Errors: :class:`MappingError` for one outside [-1, 1]."""
    del technology
    node = network.nodes[name]
    if not isinstance(node, Linear):
        raise MappingError(f"{name}: expected a Linear node, got {node}")
    if node.bias is not None and node.bias.any():
        raise MappingError(f"{name}: has a bias; a soma's constant current is its threshold: put it into Law.threshold")
    p = np.abs(node.weight)
    if (p > 1.0).any():
        i, j = np.argwhere(p > 1.0)[0]
        raise MappingError(
            f"{name}: weight[{i}, {j}] is {node.weight[i, j]:g}, no pass probability; keep |weights| at most 1 and "
            "scale the threshold, or export whole numbers with to_deck"
        )
    signs = np.where(p < LEAST, 0, np.sign(node.weight)).astype(np.int64)
    silent = np.flatnonzero(~signs.any(axis=1))
    if len(silent):
        raise MappingError(f"{name}: row {silent[0]} passes no pulse, its neuron never fires; prune the neuron")
    fit = load_cell("STSYN").stochastic
    if fit is None:
        raise MappingError(f"{name}: the cell STSYN has no [stochastic] table; derive it again")
    gated = (p >= LEAST) & (p <= 1.0 - LEAST)
    currents: npt.NDArray[np.float64] = np.zeros(p.shape)
    currents[gated] = [round(weight_current_A(float(q), fit) / GRID_A) * GRID_A for q in p[gated]]
    worst = 0.01 * fit.i50_A / (fit.sigma_A * math.sqrt(2.0 * math.pi))
    what = "pass probability: 1 % of the weight current moves it by up to"
    return Drawn(signs, currents, (Loss(name, what, worst),) if gated.any() else ())


def to_stochastic_deck(
    network: Network,
    *,
    x: npt.ArrayLike | None = None,
    technology: str | Path = "sfq_own",
    step_s: float | None = None,
    start_s: Sequence[float] | None = None,
    polarities: tuple[int, ...] = BOTH,
    lead_s: float | None = LEAD_S,
) -> SfqProgram:
    """Export a chain of Linear (weights in [-1, 1]) and Spiking (reset "subtract") nodes; else as ``to_deck``.

    Junction level draws the noise of resistors and junctions at 4.2 K; pulse level draws each pulse's fate.
    Errors: :class:`MappingError` naming node, rule and fix; ``CapacityError`` for too many junctions.
    """
    return draw(network, probabilities, x, technology, step_s, start_s, polarities, lead_s)
