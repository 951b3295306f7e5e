"""Encoders of a stream: literal spikes, closed forms, and what stays the same over many observations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from neuro.stream import Bernoulli, Coded, Crossing, Latency, Payload, Rate
from neuro.tuning import Bells, Opposed, Scaled


def spikes(x: Any) -> list[str]:
    """One string a line."""
    return ["".join(str(int(k)) for k in line) for line in x.T]


def test_rate_spikes_and_phase() -> None:
    train = Rate(4)
    x, phase = train(train.begin(4, 0), np.array([0.25, 0.5, 1.0, 0.3]))
    assert spikes(x) == ["0001", "0101", "1111", "0001"]
    assert phase == pytest.approx([0, 0, 0, 0.2])
    total = x.sum(axis=0)
    for _ in range(9):
        x, phase = train(phase, np.array([0.25, 0.5, 1.0, 0.3]))
        total = total + x.sum(axis=0)
    assert total.tolist() == [10, 20, 40, 12]  # p K n, no part of a spike lost


def test_first_trains_in_closed_form() -> None:
    p = np.random.default_rng(0).random((50, 7))
    p[0], p[1], p[2] = 0.0, 1.0, np.arange(7) / 7
    for k in (1, 5, 8):
        filled = np.floor(np.round(p[:, None] * np.arange(k + 1)[:, None], 9))
        assert (Rate(k)(np.zeros(7), p)[0] == np.diff(filled, axis=1)).all()
        when = np.where(p > 0, np.rint((1.0 - p) * (k - 1)), k)
        assert (Latency(k)(np.zeros(0), p)[0] == (np.arange(k)[:, None] == when[:, None])).all()


def test_bernoulli_is_numpys_philox() -> None:
    train, p = Bernoulli(6), np.array([0.2, 0.9])
    first, state = train(train.begin(2, 5), p)
    second, state = train(state, p)
    for count, x in enumerate((first, second)):
        draw = np.random.Generator(np.random.Philox(key=np.array([5, count], np.uint64))).random((6, 2))
        assert (x == (draw < p)).all()
    assert state.tolist() == [5, 2]
    many, _ = Bernoulli(20000)(np.array([1, 0]), p)
    assert many.mean(axis=0) == pytest.approx(p, abs=0.01)


def test_crossing_tells_levels_and_catches_up() -> None:
    code = Crossing((0.5,), 3)
    state = code.begin()
    told = []
    for value in (0.49, 0.5, 1.2, 1.2, -4.0, -4.0, -4.0, -4.0):
        x, state = code(state, np.array([value]))
        told.append((spikes(x), int(state[0])))
    assert told == [
        (["000", "000"], 0),
        (["100", "000"], 1),
        (["100", "000"], 2),
        (["000", "000"], 2),
        (["000", "111"], -1),
        (["000", "111"], -4),
        (["000", "111"], -7),
        (["000", "100"], -8),
    ]


def test_bells_stand_where_bohte_put_them() -> None:
    bells = Bells((-1.0,), (1.0,), 6, 1.5)
    m, width = 6, 2.0 / (1.5 * 4)
    centres = [-1.0 + (2 * i - 3) / 2 * 2.0 / (m - 2) for i in range(1, m + 1)]
    for x in (-1.0, -0.3, 0.0, 0.77):
        want = [math.exp(-((x - c) ** 2) / (2 * width**2)) for c in centres]
        assert bells(np.array([x])) == pytest.approx(want)
    assert (bells(np.array([9.0])) == bells(np.array([1.0]))).all()
    two = Bells((-1.0, 0.0), (1.0, 3.0), 6)
    assert two(np.array([0.1, 2.0]))[:6] == pytest.approx(bells(np.array([0.1])))
    assert two.lines == 12


def test_other_tunings_and_payloads() -> None:
    assert Scaled((0.0, -2.0), (4.0, 2.0))(np.array([1.0, 9.0])) == pytest.approx([0.25, 1.0])
    assert Opposed((2.0, 1.0))(np.array([-1.0, 3.0])) == pytest.approx([0.0, 1.0, 0.5, 0.0])
    x, _ = Payload((0.1, 1.0), 2, 4)(np.zeros(0), np.array([0.26, -99.0]))
    assert x.tolist() == [[3, -15], [3, -15]]


@pytest.mark.parametrize(
    "code",
    [
        Coded(Bells((-1.0, -2.0), (1.0, 2.0), 5), Rate(4)),
        Coded(Opposed((1.0, 2.0)), Latency(4)),
        Crossing((0.2, 0.3), 4),
        Payload((0.01, 0.1), 4, 8),
    ],
)
def test_streams_side_by_side_are_streams_alone(code: Any) -> None:
    obs = np.random.default_rng(1).normal(size=(5, 3, 2))
    together, state = [], code.begin()
    for now in obs:
        x, state = code(state, now)
        assert x.shape == (3, code.steps, code.lines)
        assert np.issubdtype(x.dtype, np.integer)
        together.append(x)
    for k in range(3):
        state = code.begin()
        for t in range(5):
            x, state = code(state, obs[t, k])
            assert (x == together[t][k]).all()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Rate(0), "K must be at least 1"),
        (lambda: Crossing((0.1,), 0), "K must be at least 1"),
        (lambda: Scaled((0.0,), (0.0,)), "low must be below high"),
        (lambda: Scaled((0.0,), (1.0, 2.0)), "one number a value"),
        (lambda: Bells((0.0,), (1.0,), 2), "count must be >= 3"),
        (lambda: Opposed((0.0,)), "positive"),
        (lambda: Crossing((-1.0,), 2), "positive"),
        (lambda: Payload((1.0,), 2, 25), "1 to 24"),
        (lambda: Payload((math.nan,), 2), "positive"),
    ],
)
def test_refusals(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
