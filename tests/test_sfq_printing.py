"""What is printed of a run: print start and step, and JoSIM's filter against its formula written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim.sfq.deck import Tran
from sim.sfq.printing import Printer, hann

H = 0.1


def printed(tran: Tran, table: np.ndarray, sizes: list[int], h: float = H) -> tuple[np.ndarray, np.ndarray]:
    printer = Printer(tran, h)
    at = 0
    for size in sizes:
        part = table[:, at : at + size]
        printer.take(h * np.arange(at, at + part.shape[1]), part)
        at += size
    return printer.result()


def test_print_start_and_step() -> None:
    table = np.arange(20.0).reshape(1, 20)
    times, kept = printed(Tran(H, 2.0, 0.35, 0.3), table, [7, 1, 12])
    # the first step at or after 0.35, 0.65, 0.95 ..
    assert times.tolist() == pytest.approx([0.4, 0.7, 1.0, 1.3, 1.6, 1.9])
    assert kept[0].tolist() == [4, 7, 10, 13, 16, 19]


def test_no_step_printed_and_no_step_taken() -> None:
    times, kept = printed(Tran(H, 2.0, 5.0, 0.3), np.ones((2, 20)), [20])
    assert (times.shape, kept.shape) == ((0,), (2, 0))
    assert Printer(Tran(H, 2.0), H).result()[0].shape == (0,)


def literal(table: np.ndarray, window: float, h: float) -> np.ndarray:
    """JoSIM's filter as its Output.cpp describes it: one sample after another, indices clipped to the run."""
    half = int(0.5 * window / h)
    size = 2 * half + 1
    g = [1.0 - math.cos((k + 0.5) * 2.0 * math.pi / size) for k in range(size)]
    steps = table.shape[1]
    return np.array(
        [
            [sum(g[k] * row[min(max(j + half - k, 0), steps - 1)] for k in range(size)) / sum(g) for j in range(steps)]
            for row in table
        ]
    )


@pytest.mark.parametrize("window", [0.05, 0.2, 0.75, 1.9, 99.0])
@pytest.mark.parametrize("sizes", [[40], [1] * 40, [3, 30, 7]])
def test_filter_is_josims(window: float, sizes: list[int]) -> None:
    table = np.random.default_rng(3).normal(size=(3, 40))
    times, kept = printed(Tran(H, 4.0, 0.5, 0.2, True, window), table, sizes)
    rows = np.rint(times / H).astype(int)
    assert rows.tolist() == list(range(5, 40, 2))
    np.testing.assert_allclose(kept, literal(table, min(window, 4.0), H)[:, rows], rtol=0, atol=1e-14)


def test_filter_weights_add_to_one_and_pass_a_constant() -> None:
    assert hann(0.0, 4.0, H).tolist() == [1.0]
    assert hann(-1.0, 4.0, H).tolist() == [1.0]
    assert hann(0.75, 4.0, H).sum() == pytest.approx(1.0)
    _, kept = printed(Tran(H, 4.0, 0.0, H, True, 0.75), np.full((1, 40), 2.5), [9, 31])
    np.testing.assert_allclose(kept, 2.5, rtol=1e-15)
