"""Source shapes: literal values at literal times, defaults, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sim.sfq.errors import DeckError, Where
from sim.sfq.expr import evaluate
from sim.sfq.shapes import Shape, parse_shape

HERE = Where("a.cir", 3)
NAMES: dict[str, float] = {"A": 4.0}


def shape(text: str) -> Shape:
    return parse_shape(text.upper(), lambda t: evaluate(t, NAMES.get), HERE, "I1")


def at(text: str, *times: float, h: float = 0.5, t_stop: float = 10.0) -> list[float]:
    return [float(v) for v in shape(text).sample(np.array(times, dtype=np.float64), h, t_stop)]


def test_dc() -> None:
    assert at("dc 3", -1, 0, 9) == [3, 3, 3]
    assert at("2*A", 1) == [8]
    assert at("dc A", 1) == [4]


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


def test_bias_is_what_a_ramp_settles_at() -> None:
    assert [shape(t).bias() for t in ("dc 3", "pwl(0 0 5 7)", "pwl(0 0 1 0 2 1 3 0)", "pulse(0 1)")] == [3, 7, 0, 0]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("pwl(0 0 1)", "give pairs"), ("pwl(0 0 2 1 1 0)", "order of time"), ("pulse(1)", "2 to 7"),
        ("sin(1 2 3 4 5 6 7 8)", "2 to 7"), ("pulse(0 1 0 1 1 1 0)", "period"), ("exp(0 1 0 0)", "tau1"),
        ("cus(wave.dat 1p 1 1)", "not supported yet: CUS"), ("noise(1u 0 1p)", "not supported yet: NOISE"),
        ("pwl(0 0 1 1", "not closed"), ("pwl(0 0) ac 1", "not closed"),
    ],
)  # fmt: skip
def test_refusals_name_place_and_fix(text: str, why: str) -> None:
    with pytest.raises(DeckError, match=rf"a\.cir:3: I1: .*{why}"):
        shape(text)
