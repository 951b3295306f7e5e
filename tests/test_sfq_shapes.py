"""Source shapes: literal values at literal times, defaults, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim.sfq.errors import DeckError, DeckWarning, Where
from sim.sfq.expr import evaluate
from sim.sfq.shapes import Noise, Shape, parse_shape

HERE = Where("a.cir", 3)
NAMES: dict[str, float] = {"A": 4.0}


WAVES = {"W.DAT": "1 3 2 4", "WAVE.DAT": "0 1", "WORDS.DAT": "1 x", "SMOOTH.DAT": "0, 1u;2u\t1e-6"}


def shape(text: str) -> Shape:
    return parse_shape(text.upper(), lambda t: evaluate(t, NAMES.get), HERE, "I1", lambda name, _: WAVES[name])


def at(text: str, *times: float, h: float = 0.5, t_stop: float = 10.0) -> list[float]:
    return [float(v) for v in shape(text).sample(np.array(times, dtype=np.float64), h, t_stop)]


def test_dc() -> None:
    assert at("dc 3", -1, 0, 9) == [3, 3, 3]
    assert at("2*A", 1) == [8]
    assert at("dc A", 1) == [4]
    assert at("dc -3", 1) == [-3]
    assert at("dc(3)", 1) == [3]


def test_pwl_is_zero_before_and_held_after() -> None:
    assert at("pwl(0 1 2 3 4 0)", -1, 0, 1, 2, 3, 4, 9) == [0, 1, 2, 3, 1.5, 0, 0]
    assert at("pwl (0, 0, 2, A)", 1, 5) == [2, 4]
    assert at("pwl(2 6 4 8)", 0, 1, 3) == [6, 6, 7]
    assert at("pwl(0 0 1 0 1 5 2 5)", 0.5, 1, 1.5) == [0, 5, 5]


def test_pws_is_half_a_cosine() -> None:
    assert at("pws(0 0 2 2)", -1, 0, 0.5, 1, 2, 3) == pytest.approx([0, 0, 1 - math.cos(math.pi / 4), 1, 2, 2])


def test_pulse() -> None:
    text = "pulse(1 3 2 1 2 3 8)"
    times = [0, 2, 2.5, 3, 5.9, 7, 8, 9.9, 10.5]
    assert at(text, *times) == pytest.approx([1, 1, 2, 3, 3, 2, 1, 1, 2])


def test_pulse_defaults_and_instant_edges() -> None:
    assert at("pulse(0 1)", 0, 0.25, 0.5, 9) == [0, 0.5, 1, 1]
    assert at("pulse(0 1 1 0 0 2 4)", 0.9, 1, 2.9, 3, 5) == [0, 1, 1, 0, 1]


def test_sin() -> None:
    quarter = at("sin(1 2 0.25 1 0 90 1)", 0, 1, 2, 4.9, 5.1)
    assert quarter == pytest.approx([1, 3, 1, 1 + 2 * math.cos(2 * math.pi * 0.25 * 3.9), 1])
    assert at("sin(0 1)", 2.5) == pytest.approx([1.0])
    assert at("sin(0 1 0.25 0 2)", 1) == pytest.approx([math.exp(-2)])


def test_exp() -> None:
    a, b = 1 - math.exp(-2), 1 - math.exp(-4)
    assert at("exp(0 1 1 0.5 2 0.5)", 0, 1, 2, 3) == pytest.approx([0, 0, a, b - a])
    assert at("exp(0 1)", 0.25) == pytest.approx([1 - math.exp(-0.5)])


def test_custom_wave_holds_or_goes_straight() -> None:
    assert at("cus(w.dat 2 10 0 1)", 0, 1, 2.9, 3, 8.9, 9, 9.1) == [0, 10, 10, 30, 40, 40, 0]
    # JoSIM's straight lines arrive at a sample one interval late, from 0 at first
    assert at("cus(w.dat 2 10)", 0, 1, 2, 3, 6, 7, 8) == [0, 5, 10, 20, 20, 30, 40]
    assert at("cus(w.dat 2 10 0 1 1)", 1, 7, 9, 11) == [10, 40, 10, 30]
    assert at("cus(w.dat 0.1 1 0)", 0, 0.5, 1, h=0.5) == [1, 3, 2]


def test_custom_wave_as_a_spline_goes_through_its_samples() -> None:
    wave = shape("cus(w.dat 2 1 2)")
    assert wave.sample(np.array([0.0, 2, 4, 6]), 0.5, 10.0).tolist() == pytest.approx([1, 3, 2, 4])
    # natural: 4 M1 + M2 = 6/h^2 (1 - 6 + 2), M1 + 4 M2 = 6/h^2 (3 - 4 + 4), so M1 = -1.5; (y0 + y1)/2 - h^2/16 M1
    assert wave.sample(np.array([1.0, 3.0]), 0.5, 10.0).tolist() == pytest.approx([2.375, 2.5])
    assert shape("cus(smooth.dat 2 1 0)").sample(np.array([2.0]), 0.5, 10.0).tolist() == [1e-6]


def test_noise_is_gaussian_straight_and_named() -> None:
    noise = shape("noise(3 1 0.5)")
    assert isinstance(noise, Noise)
    a = noise.named("I1", 5)
    knots = a.sample(1.0 + 0.5 * np.arange(20001), 0.5, 1e9)
    assert knots[0] == 0.0
    assert a.sample(np.array([0.0, 0.99]), 0.5, 1e9).tolist() == [0, 0]
    # deviation amplitude/sqrt(2 dt) = 3, of 20000 values within 5 standard errors
    assert knots[1:].std() == pytest.approx(3.0, abs=5 * 3 / math.sqrt(2 * 20000))
    assert abs(knots[1:].mean()) < 5 * 3 / math.sqrt(20000)
    halves = a.sample(1.25 + 0.5 * np.arange(20000), 0.5, 1e9)
    np.testing.assert_allclose(halves, 0.5 * (knots[1:] + knots[:-1]), atol=1e-6)
    # the same whatever is asked at once; another for another source or seed
    assert a.sample(np.array([6000.0]), 0.5, 1e9)[0] == knots[11998]
    assert noise.named("I2", 5).sample(np.array([3.0]), 0.5, 9.0)[0] != a.sample(np.array([3.0]), 0.5, 9.0)[0]
    assert noise.named("I1", 6).sample(np.array([3.0]), 0.5, 9.0)[0] != a.sample(np.array([3.0]), 0.5, 9.0)[0]
    assert noise.named("I1", 5) == a


def test_spice_ways_of_writing_a_source() -> None:
    assert at("dc 1 pulse(0 1 1 0 0 2 4)", 0.9, 1) == [0, 1]
    assert at("pulse 0 1 1 0 0 2 4", 0.9, 1) == [0, 1]
    assert at("dc {2*a - 1}", 0) == [7]
    assert at("pwl(0 0 {a - 2} 2 * a)", 2) == [8]
    assert at("pulse(0 1 1 0 0 2 4) + pwl(0 0 {2 + 2} 8)+sin(3 0)", 0.5, 1, 2) == [4, 6, 8]
    with pytest.warns(DeckWarning, match="AC 1 is ignored"):
        assert at("pwl(0 2) ac 1", 0) == [2]


def test_bias_is_what_a_ramp_settles_at() -> None:
    assert [shape(t).bias() for t in ("dc 3", "pwl(0 0 5 7)", "pwl(0 0 1 0 2 1 3 0)", "pulse(0 1)")] == [3, 7, 0, 0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("pwl(0 0 1)", "give pairs"), ("pwl(0 0 2 1 1 0)", "order of time"), ("pulse(1)", "2 to 7"),
        ("sin(1 2 3 4 5 6 7 8)", "2 to 7"), ("pulse(0 1 0 1 1 1 0)", "period"), ("exp(0 1 0 0)", "tau1"),
        ("cus(wave.dat)", "CUS has 1 values"), ("cus(wave.dat 0)", "time step 0"),
        ("cus(wave.dat 1 1 3)", "interpolation 3"), ("cus(words.dat 1)", "is no number"),
        ("cus(wave.dat 1 1 2)", "three or more"), ("noise(1 0 0)", "time step"),
        ("pwl(0 0 1 1", "not closed"), ("pwl(0 0) 1", "not closed"), ("pwl(0 0)(1 1)", "not closed"),
    ],
)  # fmt: skip
def test_refusals_name_place_and_fix(text: str, why: str) -> None:
    with pytest.raises(DeckError, match=rf"a\.cir:3: I1: .*{why}"):
        shape(text)
