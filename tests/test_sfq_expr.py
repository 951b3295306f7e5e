"""Expressions and numbers of a deck: suffixes, precedence, functions, and what is refused."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.sfq.errors import DeckError
from sim.sfq.expr import ExprError, UndefinedName, evaluate
from sim.sfq.lines import split_outside

VALUES = {
    "1": 1.0, ".5": 0.5, "2.": 2.0, "1e-12": 1e-12, "1E3": 1e3, "5F": 5e-15, "5fF": 5e-15, "3p": 3e-12, "1pohm": 1e-12,
    "2n": 2e-9, "827.13u": 827.13e-6, "2.5mV": 2.5e-3, "1meg": 1e6, "1X": 1e6, "4k": 4e3, "15GHz": 15e9, "1T": 1e12,
    "5V": 5.0, "1+2*3": 7.0, "(1+2)*3": 9.0, "2^3^2": 512.0, "-2^2": -4.0, "2*-3": -6.0, "2^-1": 0.5, "8/4/2": 1.0,
    "1-2-3": -4.0, "{1+1}*[2]": 4.0, "sqrt(16)": 4.0, "COS(0)+Exp(0)": 2.0, "log10(1000)": 3.0, "cbrt(27)": 3.0,
    "2*pi": 2 * math.pi, "PHI_ZERO": 2.067833831170082e-15, "asinh(0)": 0.0, "100u*6.859904418": 100e-6 * 6.859904418,
}  # fmt: skip


@pytest.mark.parametrize("text", VALUES)
def test_values(text: str) -> None:
    assert evaluate(text) == pytest.approx(VALUES[text], rel=1e-15, abs=1e-300)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"), ("1+", "value is expected"), ("2 3", "operator is missing"), ("(1", "never closed"),
        ("(1]", "never closed"), ("1)", "operator is missing"), ("1/0", "arithmetic"), ("sqrt(-1)", "domain"),
        ("exp(1000)", "arithmetic"), ("1e300*1e300", "not a finite"), ("(-8)^0.5", "not real"), ("a'b", "cannot read"),
        ("(" * 200 + "1" + ")" * 200, "deeper"), ("-" * 200 + "1", "deeper"), ("1+" * 4000 + "1", "at most"),
        ("*2", "value is expected"), ("sin", "SIN is not defined"), ("9^9^9", "arithmetic"),
    ],
)  # fmt: skip
def test_refusals(text: str, why: str) -> None:
    with pytest.raises(ExprError, match=why):
        evaluate(text)


def test_undefined_name_is_named_and_lookup_goes_first() -> None:
    with pytest.raises(UndefinedName, match="WIDTH is not defined"):
        evaluate("2*width")
    assert evaluate("C", {"C": 3.0}.get) == 3.0
    assert evaluate("C") == 299792458.0


@given(st.text(max_size=40))
def test_any_text_has_a_value_or_an_error(text: str) -> None:
    with contextlib.suppress(ExprError):
        assert math.isfinite(evaluate(text))


@given(st.floats(min_value=-1e6, max_value=1e6), st.floats(min_value=1e-3, max_value=1e3))
def test_arithmetic_is_pythons(a: float, b: float) -> None:
    assert evaluate(f"({a!r})*{b!r}-({a!r})/{b!r}") == a * b - a / b


def test_split_keeps_brackets_together() -> None:
    assert split_outside("a (b c) {d, e} f", " ") == ["a", "(b c)", "{d, e}", "f"]
    assert issubclass(DeckError, ValueError)
