"""Agreement of two runs: the numbers by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sim.compare import accuracy, compare, decide
from sim.run import Run


def run(machine: str, y: list[list[list[int]]], hidden: list[list[list[int]]]) -> Run:
    a = np.array(y, np.int8)
    return Run(machine, a, {}, len(a), a.shape[1], 1e-3, probes={"h.s": np.array(hidden, np.int8)})


A = run("torch", [[[1, 0], [1, 0]], [[0, 1], [0, 1]]], [[[1], [0]], [[1], [1]]])
B = run("loihi", [[[1, 0], [0, 0]], [[0, 1], [1, 1]]], [[[1], [0]], [[1], [0]]])


def test_counts_by_hand() -> None:
    found = compare(A, B)
    assert found.by_node == {"h": (3, 4), "y": (6, 8)}
    assert (found.equal, found.compared, found.exact) == (9, 12, False)
    assert found.first_departure == "h"
    assert found.decisions == (2, 2)
    a, b = [2, 0, 0, 2], [1, 0, 1, 2]  # spike counts per sample and output
    assert found.count_correlation == pytest.approx(np.corrcoef(a, b)[0, 1])


def test_equal_runs_are_exact() -> None:
    found = compare(A, A)
    assert found.exact
    assert found.first_departure is None
    assert found.count_correlation == pytest.approx(1.0)


def test_decisions() -> None:
    assert decide(A.y).tolist() == [0, 1]
    assert decide(np.zeros((2, 3, 4), int)).tolist() == [0, 0], "a tie goes to the lower index"
    assert decide(np.array([[[0], [0]], [[1], [0]]])).tolist() == [0, 1], "one output: spiked at all"
    assert accuracy(A.y, np.array([0, 0])) == 0.5
    with pytest.raises(ValueError, match="one per sample"):
        accuracy(A.y, np.array([0]))


def test_silent_runs_have_no_correlation() -> None:
    silent = run("loihi", [[[0, 0], [0, 0]], [[0, 0], [0, 0]]], [[[1], [0]], [[1], [1]]])
    assert compare(A, silent).count_correlation is None


def test_different_shapes_are_refused() -> None:
    other = run("loihi", [[[1, 0]], [[0, 1]]], [[[1]], [[1]]])
    with pytest.raises(ValueError, match="one network on one input"):
        compare(A, other)
