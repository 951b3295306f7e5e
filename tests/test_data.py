"""Encoders against their definition; data sets against their source."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neuro import encode
from neuro.data.digits import digits
from neuro.data.split import stratified
from neuro.data.xor import xor


def test_digits_are_real_and_split_by_class() -> None:
    data, again = digits(), digits()
    assert len(data.train_y) + len(data.test_y) == 1797
    assert data.train_x.shape[1:] == (1, 8, 8)
    assert data.train_x.max() == 1.0
    assert data.train_x.min() == 0.0
    np.testing.assert_array_equal(data.test_x, again.test_x)
    share = np.bincount(data.test_y) / (np.bincount(data.test_y) + np.bincount(data.train_y))
    assert np.abs(share - 0.2).max() < 0.005
    joined = np.concatenate([data.train_x, data.test_x]).reshape(1797, -1)
    from sklearn.datasets import load_digits

    assert sorted(map(bytes, joined)) == sorted(map(bytes, (load_digits().data / 16.0).astype(np.float32)))
    with pytest.raises(ValueError, match="test_share"):
        stratified(data.test_x, data.test_y, test_share=1.0, seed=0)


def test_xor_is_the_truth_table() -> None:
    x, y = xor(8)
    assert x.sum(1).tolist() == [[0, 0], [0, 8], [8, 0], [8, 8]]
    assert y.tolist() == [0, 1, 1, 0]
    with pytest.raises(ValueError, match="low must be below high"):
        xor(8, high=0.2, low=0.5)


def test_rate_code_is_evenly_spaced() -> None:
    assert encode.rate([0.0, 0.25, 0.5, 0.75, 1.0], 8).tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 0, 0, 0, 1],
        [0, 1, 0, 1, 0, 1, 0, 1],
        [0, 1, 1, 1, 0, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1],
    ]
    for t in (1, 7, 10, 49, 100):
        x = np.arange(t + 1) / t
        np.testing.assert_array_equal(encode.rate(x, t).sum(1), np.arange(t + 1))


def test_other_codes() -> None:
    x = np.random.default_rng(0).random((4, 3, 50))
    drawn = encode.bernoulli(x, 400, seed=5)
    np.testing.assert_array_equal(drawn, encode.bernoulli(x, 400, seed=5))
    assert drawn.shape == (4, 400, 3, 50)
    assert np.abs(drawn.mean(1) - x).max() < 5 * math.sqrt(0.25 / 400)
    assert encode.latency([1.0, 0.5, 0.001, 0.0], 5).tolist() == [
        [1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0],
    ]
    np.testing.assert_array_equal(encode.direct(x, 3)[:, 2], x.astype(np.float32))


@pytest.mark.parametrize("bad", [[1.5], [-0.1], [math.nan]])
def test_encoders_refuse_what_is_no_rate(bad: list[float]) -> None:
    for code in (encode.rate, encode.latency, lambda x, t: encode.bernoulli(x, t, seed=0)):
        with pytest.raises(ValueError, match=r"encode\.\w+: x must be"):
            code(bad, 4)
        with pytest.raises(ValueError, match="T must be at least 1"):
            code([0.5], 0)
