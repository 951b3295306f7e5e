"""CMA-ES, the (mu/mu_w, lambda) evolution strategy with covariance adaptation, as pure steps on an explicit state.

    x_i  = m + sigma N(0, C),   the mu best of lambda, weighted w_i ~ log(mu + 1/2) - log(i):
    m'   = m + sum w_i (x_i - m)
    ps'  = (1 - cs) ps + sqrt(cs (2 - cs) mu_eff) C^-1/2 (m' - m)/sigma
    pc'  = (1 - cc) pc + hs sqrt(cc (2 - cc) mu_eff) (m' - m)/sigma
    C'   = (1 - c1 - cm) C + c1 pc' pc'^T + cm sum w_i y_i y_i^T,   y_i = (x_i - m)/sigma
    s'   = s exp((cs/ds) (|ps'|/E|N(0, 1)| - 1))

The points of a generation depend on (seed, generation) and the state only. Source: N. Hansen, The CMA Evolution
Strategy: A Tutorial, arXiv 1604.00772 (constants of its table 1, without active update).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sim.sfq.circuit import Floats


@dataclass(frozen=True)
class State:
    """Mean (n,), step, covariance (n, n), the two paths (n,), and the number of the generation."""

    mean: Floats
    sigma: float
    cov: Floats
    path_sigma: Floats
    path_c: Floats
    generation: int = 0


def start(mean: Floats, sigma: float) -> State:
    """A round cloud about ``mean``."""
    n = len(mean)
    return State(mean.astype(np.float64), sigma, np.eye(n), np.zeros(n), np.zeros(n))


def population(n: int) -> int:
    """The usual number of points a generation, ``4 + floor(3 ln n)``."""
    return 4 + int(3 * math.log(n))


def ask(state: State, count: int, seed: int) -> Floats:
    """(count, n) points of this generation."""
    values, axes = np.linalg.eigh(state.cov)
    normal = np.random.Generator(np.random.Philox(key=[seed, state.generation])).standard_normal(
        (count, len(state.mean))
    )
    points: Floats = state.mean + state.sigma * (normal * np.sqrt(np.maximum(values, 0.0))) @ axes.T
    return points


def tell(state: State, points: Floats, fitness: Floats) -> State:
    """The state after a generation; a larger fitness is better, ties keep the order of the points."""
    count, n = points.shape
    best = np.argsort(-fitness, kind="stable")[: count // 2]
    w = math.log(count / 2 + 0.5) - np.log(np.arange(1, len(best) + 1))
    w /= w.sum()
    mu = 1.0 / float((w**2).sum())
    cs, cc = (mu + 2) / (n + mu + 5), (4 + mu / n) / (n + 4 + 2 * mu / n)
    c1 = 2 / ((n + 1.3) ** 2 + mu)
    cm = min(1 - c1, 2 * (mu - 2 + 1 / mu) / ((n + 2) ** 2 + mu))
    damping = 1 + 2 * max(0.0, math.sqrt((mu - 1) / (n + 1)) - 1) + cs
    y = (points[best] - state.mean) / state.sigma
    step = w @ y
    values, axes = np.linalg.eigh(state.cov)
    whitened = axes @ ((axes.T @ step) / np.sqrt(np.maximum(values, 1e-20)))
    ps = (1 - cs) * state.path_sigma + math.sqrt(cs * (2 - cs) * mu) * whitened
    length = float(np.linalg.norm(ps)) / (math.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n)))
    calm = length / math.sqrt(1 - (1 - cs) ** (2 * (state.generation + 1))) < 1.4 + 2 / (n + 1)
    pc = (1 - cc) * state.path_c + (math.sqrt(cc * (2 - cc) * mu) * step if calm else 0.0)
    lost = 0.0 if calm else c1 * cc * (2 - cc)
    cov = (1 - c1 - cm + lost) * state.cov + c1 * np.outer(pc, pc) + cm * (y.T * w) @ y
    sigma = state.sigma * math.exp(min(1.0, cs / damping * (length - 1)))
    return State(state.mean + state.sigma * step, sigma, (cov + cov.T) / 2, ps, pc, state.generation + 1)
