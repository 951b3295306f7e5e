"""The evolution strategy on functions with a known optimum, and its promise of the same points for the same state."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sim.sfq.circuit import Floats
from sim.sfq.study import cmaes

N = 6


def ellipsoid(x: Floats) -> Floats:
    """Condition 1e4, turned by a fixed rotation: without adapting the covariance this takes thousands of steps."""
    turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(N, N)))
    result: Floats = (((x - 0.3) @ turn) ** 2 * 10.0 ** np.linspace(0, 4, N)).sum(axis=1)
    return result


def rosenbrock(x: Floats) -> Floats:
    """A bent valley with its lowest point at 1."""
    result: Floats = (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(axis=1)
    return result


@pytest.mark.parametrize(("function", "optimum", "limit"), [(ellipsoid, 0.3, 260), (rosenbrock, 1.0, 500)])
@pytest.mark.parametrize("seed", [1, 2])
def test_finds_the_optimum(function: Callable[[Floats], Floats], optimum: float, limit: int, seed: int) -> None:
    state = cmaes.start(np.zeros(N), 0.3)
    while state.generation < limit and state.sigma > 1e-9:
        points = cmaes.ask(state, 10, seed)
        state = cmaes.tell(state, points, -function(points))
    assert state.mean == pytest.approx(np.full(N, optimum), abs=1e-4)


def test_a_generation_depends_on_its_state_and_seed() -> None:
    state = cmaes.start(np.zeros(3), 0.5)
    points = cmaes.ask(state, 8, 1)
    assert (cmaes.ask(state, 8, 1) == points).all()
    assert (cmaes.ask(state, 4, 1) == points[:4]).all()
    assert (cmaes.ask(state, 8, 2) != points).any(axis=1).all()
    after = cmaes.tell(state, points, points[:, 0])
    assert after.generation == 1
    assert after.mean[0] > 0
    assert (cmaes.ask(after, 8, 1) != points).any()


def test_only_the_order_of_the_fitness_counts() -> None:
    state = cmaes.start(np.zeros(3), 0.5)
    points = cmaes.ask(state, 8, 1)
    one, two = (cmaes.tell(state, points, f) for f in (points[:, 1], np.exp(5 * points[:, 1])))
    assert (one.mean == two.mean).all()
    assert (one.cov == two.cov).all()
