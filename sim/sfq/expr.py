"""Numbers and expressions of a deck, by a recursive-descent parser of its own: bounded, never ``eval``.

    sum     := product (('+' | '-') product)*
    product := sign (('*' | '/') sign)*
    sign    := ('+' | '-') sign | power
    power   := atom ('^' sign)?                       right-associative, binds tighter than a sign
    atom    := number | NAME | FUNCTION bracket | bracket
    bracket := '(' sum ')' | '[' sum ']' | '{' sum '}'

A number takes one suffix (F P N U M K MEG X G T) and any unit letters after it: ``1pohm`` is 1e-12, ``5F`` is 5e-15.
Text is compared without case. Source of the syntax: JoSIM Parameters.cpp and Misc.cpp, docs/sfq.md 1.9.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from sim.sfq import constants

Lookup = Callable[[str], float | None]
"""A name in capitals to its value, or None for a name nobody knows."""

MAX_CHARS = 4096
MAX_DEPTH = 64

SUFFIX = {"F": 1e-15, "P": 1e-12, "N": 1e-9, "U": 1e-6, "M": 1e-3, "K": 1e3, "X": 1e6, "G": 1e9, "T": 1e12}

CONSTANTS = {
    "PI": math.pi,
    "PHI_ZERO": constants.PHI0_WB,
    "BOLTZMANN": constants.BOLTZMANN_J_K,
    "EV": constants.ELECTRON_C,
    "HBAR": constants.HBAR_JS,
    "C": constants.LIGHT_M_S,
    "MU0": constants.MU0,
    "EPS0": constants.EPS0,
    "SIGMA": constants.SIGMA_VS,
}

FUNCTIONS: dict[str, Callable[[float], float]] = {
    "SIN": math.sin, "COS": math.cos, "TAN": math.tan, "ASIN": math.asin, "ACOS": math.acos, "ATAN": math.atan,
    "SINH": math.sinh, "COSH": math.cosh, "TANH": math.tanh,
    "ASINH": math.asinh, "ACOSH": math.acosh, "ATANH": math.atanh,
    "EXP": math.exp, "LOG": math.log, "LOG10": math.log10, "SQRT": math.sqrt, "CBRT": math.cbrt,
}  # fmt: skip

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:E[+-]?\d+)?)(?P<letters>[A-Z]*)"
    r"|(?P<name>[A-Z_][A-Z0-9_.]*)|(?P<op>[-+*/^()\[\]{}]))"
)
_PLAIN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:E[+-]?\d+)?)([A-Z]*)", re.ASCII)
_CLOSE = {"(": ")", "[": "]", "{": "}"}


class ExprError(ValueError):
    """An expression that has no value; the text says why."""


class UndefinedName(ExprError):
    """A name no parameter and no constant has."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not defined")
        self.name = name


def number(digits: str, letters: str) -> float:
    """``digits`` scaled by the suffix that ``letters`` (capitals) begin with; other letters are a unit."""
    if letters.startswith("MEG"):
        return float(digits) * 1e6
    return float(digits) * SUFFIX.get(letters[:1], 1.0)


def plain_number(text: str) -> float | None:
    """The value of a text that is one number with its suffix, as most are; None for any other."""
    m = _PLAIN.fullmatch(text)
    if m is None or len(text) > MAX_CHARS:
        return None
    value = number(m[1], m[2])
    return value if math.isfinite(value) else None


def evaluate(text: str, lookup: Lookup = CONSTANTS.get) -> float:
    """The value of ``text``. ``lookup`` is asked first for a name, then the constants.

    Raises ``UndefinedName`` for a name nobody knows and ``ExprError`` for anything else that has no finite value.
    """
    if len(text) > MAX_CHARS:
        raise ExprError(f"expression of {len(text)} characters; at most {MAX_CHARS} are read")
    value = _Parser(_tokens(text.upper()), lookup).value()
    if not math.isfinite(value):
        raise ExprError(f"{text.strip()} is not a finite number")
    return value


def _tokens(text: str) -> list[tuple[str, str, str]]:
    """(kind, text, suffix letters) of each token; kinds are number, name and op."""
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        m = _TOKEN.match(text, at)
        if m is None:
            raise ExprError(f"cannot read {text[at : at + 12]!r} in {text!r}")
        kind = m.lastgroup if m.lastgroup != "letters" else "number"
        tokens.append((str(kind), m[str(kind)], m["letters"] or ""))
        at = m.end()
    if not tokens:
        raise ExprError("the expression is empty")
    return tokens


class _Parser:
    """The grammar of the module's docstring, one method a rule."""

    def __init__(self, tokens: list[tuple[str, str, str]], lookup: Lookup) -> None:
        self.tokens, self.lookup, self.at, self.depth = tokens, lookup, 0, 0

    def value(self) -> float:
        try:
            result = self.sum()
        except (OverflowError, ZeroDivisionError) as error:
            raise ExprError(f"arithmetic fails: {error}") from None
        if self.at < len(self.tokens):
            raise ExprError(f"{self.tokens[self.at][1]!r} is not expected here; an operator is missing")
        return result

    def op(self, ops: str) -> str:
        """Take the next token if it is one of ``ops``."""
        if self.at < len(self.tokens):
            kind, text, _ = self.tokens[self.at]
            if kind == "op" and text in ops:
                self.at += 1
                return text
        return ""

    def sum(self) -> float:
        result = self.product()
        while op := self.op("+-"):
            right = self.product()
            result = result + right if op == "+" else result - right
        return result

    def product(self) -> float:
        result = self.sign()
        while op := self.op("*/"):
            right = self.sign()
            result = result * right if op == "*" else result / right
        return result

    def sign(self) -> float:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise ExprError(f"nested deeper than {MAX_DEPTH}")
        op = self.op("+-")
        result = self.power() if not op else self.sign() if op == "+" else -self.sign()
        self.depth -= 1
        return result

    def power(self) -> float:
        base = self.atom()
        if not self.op("^"):
            return base
        result = base ** self.sign()
        if isinstance(result, complex):
            raise ExprError(f"{base} to a broken power is not real")
        return float(result)

    def atom(self) -> float:
        if self.at >= len(self.tokens):
            raise ExprError("the expression ends where a value is expected")
        kind, text, letters = self.tokens[self.at]
        if kind == "op":
            return self.bracket()
        self.at += 1
        if kind == "number":
            return number(text, letters)
        if text in FUNCTIONS and self.at < len(self.tokens) and self.tokens[self.at][1] in _CLOSE:
            return self.call(text)
        known = self.lookup(text)
        if known is None:
            known = CONSTANTS.get(text)
        if known is None:
            raise UndefinedName(text)
        return known

    def call(self, name: str) -> float:
        argument = self.bracket()
        try:
            return FUNCTIONS[name](argument)
        except ValueError:
            raise ExprError(f"{name}({argument:g}) is outside the function's domain") from None

    def bracket(self) -> float:
        opening = self.op("([{")
        if not opening:
            raise ExprError(f"{self.tokens[self.at][1]!r} where a value is expected")
        result = self.sum()
        if not self.op(_CLOSE[opening]):
            raise ExprError(f"{opening!r} is never closed by {_CLOSE[opening]!r}")
        return result
