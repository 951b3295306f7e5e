"""Population and level crossing codes: closed forms, the streaming twin, and a real ECG told within one level."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neuro import encode
from neuro.data.ecg import mitbih
from neuro.data.folder import data_folder
from neuro.stream import Coded, Crossing, Latency, Rate
from neuro.tuning import Bells


def test_population_is_the_streams_first_train() -> None:
    x = np.random.default_rng(0).uniform(-1, 3, (20, 2))
    for code, train in ((encode.latency, Latency(9)), (encode.rate, Rate(9))):
        twin = Coded(Bells((-1.0, -1.0), (3.0, 3.0), 7, 1.2), train)
        want, _ = twin(twin.begin(), x)
        mine = encode.population(x, 9, low=-1, high=3, count=7, beta=1.2, code=code)
        assert mine.dtype == np.float32
        np.testing.assert_array_equal(mine, want)


def test_nearest_field_is_first_and_fires_most() -> None:
    """On a field's centre its answer is 1; neighbours d away answer exp(-beta^2 / 2)."""
    m, beta = 6, 1.5
    centres = np.array([(2 * i - 3) / 2 / (m - 2) for i in range(1, m + 1)])
    x = centres[1:-1, None]
    first = encode.population(x, 21, count=m)
    often = encode.population(x, 20, count=m, code=encode.rate)
    beside = math.exp(-(beta**2) / 2)
    for k in range(m - 2):
        assert first[k, :, k + 1].argmax() == 0
        assert first[k, :, k].argmax() == round((1 - beside) * 20)
        assert often[k].sum(0)[k : k + 3].tolist() == [math.floor(20 * beside), 20, math.floor(20 * beside)]
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], got 0.5 to 2; give its low and high"):
        encode.population([[0.5], [2.0]], 4)
    with pytest.raises(ValueError, match="T must be at least 1"):
        encode.population([[0.5]], 0)
    with pytest.raises(ValueError, match=r"x must be \(N, n\)"):
        encode.population([0.5], 3)


@pytest.mark.parametrize("steps", [1, 3])
def test_level_crossing_is_the_stream(steps: int) -> None:
    rng = np.random.default_rng(1)
    x = np.cumsum(rng.normal(0, 0.4, (5, 60, 2)), axis=1)
    code = Crossing((0.3, 0.5), steps)
    state = np.zeros((5, 2), np.int64)
    want = []
    for t in range(60):
        spikes, state = code(state, x[:, t])
        want.append(spikes)
    mine = encode.level_crossing(x, (0.3, 0.5), steps=steps, from_first=False)
    np.testing.assert_array_equal(mine, np.concatenate(want, axis=1))
    moved = encode.level_crossing(x + 7.0, (0.3, 0.5), steps=steps)
    np.testing.assert_array_equal(moved, encode.level_crossing(x - x[:, :1], (0.3, 0.5), steps=steps, from_first=False))


def test_level_crossing_of_a_ramp_and_a_sine_in_closed_form() -> None:
    """A ramp crosses floor(a t / delta) levels; a sine of 8.16 levels 8 up, then 16 down and 16 up in turn."""
    t = np.arange(961)
    ramp = encode.crossings((0.013 * t)[None, :, None], 0.1)
    np.testing.assert_array_equal(ramp[0, :, 0].cumsum(), np.floor(0.013 * t / 0.1 + 1e-9))
    sine = encode.crossings(1.02 * np.sin(2 * math.pi * t / 240)[None, :, None], 0.125)[0, :, 0]
    assert np.maximum(sine, 0).sum() == 8 + 3 * 16 + 8
    assert np.minimum(sine, 0).sum() == -4 * 16
    assert sine[:61].sum() == 8
    assert sine[:181].sum() == -8
    assert set(np.unique(encode.level_crossing(np.zeros((2, 5, 3)), 0.1))) == {0.0}


def test_real_ecg_is_told_within_a_level() -> None:
    if not data_folder("mitbih_100").is_dir():
        pytest.skip("MIT-BIH record 100 is not here: put it into $SPIKEPORT_DATA/mitbih_100")
    millivolts = mitbih().millivolts()[None]
    told = encode.crossings(millivolts, 0.05)
    rebuilt = millivolts[0, 0] + 0.05 * told[0].cumsum(0)
    assert np.abs(rebuilt - millivolts[0]).max() < 0.05 + 1e-9
    events = encode.level_crossing(millivolts[:, :20_000], 0.05, steps=8)
    assert events.sum() == np.abs(told[0, :20_000]).sum()
    assert 0.05 < np.abs(told).mean() < 0.5


@pytest.mark.parametrize(
    ("x", "delta", "says"),
    [
        (np.zeros((2, 3)), 0.1, r"signals \(N, T, C\)"),
        (np.full((1, 3, 1), np.nan), 0.1, "must be finite"),
        (np.zeros((1, 3, 1)), 0.0, "delta must be positive"),
        (np.zeros((1, 3, 2)), (0.1, math.inf), "delta must be positive"),
    ],
)
def test_signals_that_cannot_be_told_are_refused(x: object, delta: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        encode.level_crossing(x, delta)
    with pytest.raises(ValueError, match="steps must be 1 to 32767"):
        encode.level_crossing(np.zeros((1, 3, 1)), 0.1, steps=0)
