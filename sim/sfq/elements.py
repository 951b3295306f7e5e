"""Element lines to cards: which kind, which nodes, which text is the value. Nothing is evaluated here.

One function a kind of line, found by the first letter in ``PARSERS``. Source: JoSIM's component sources and the WRspice
manual (device lines); docs/sfq.md 1.3, 1.9.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

from sim.sfq.errors import DeckError, DeckWarning, Where, unsupported
from sim.sfq.lines import Line, split_outside

WORDS_WITHOUT_MEANING = {"FCHECK", "NFREE"}
"""Marks that layout tools leave behind an element; JoSIM ignores any word there, we ignore these, and a ``[name]``, in
silence."""

NOISE = frozenset({"TEMP", "NEB", "SPREAD"})
"""``temp=`` (K), ``neb=`` (Hz) and ``spread=`` (relative, 3 sigma) of one element."""

JUNCTION = NOISE | {"AREA", "IC", "LSER", "LSH", "VSHUNT", "VJ", "PHI", "PIJJ"}
ALIASES = {"ICS": "IC", "TEMP_K": "TEMP", "IC_V": "VJ", "IC_PHASE": "PHI"}
"""WRspice's names of what we have under another; ``ic=vj,phi`` becomes VJ and PHI."""

_NO_NAME = re.compile(r"[=(){},'\";]")
_WORD = re.compile(r"^[A-Z_]+$")
_OPERATOR = re.compile(r"\s*([*/^])\s*|\s+([-+])\s+")


@dataclass(slots=True)
class Card:
    """One element as written. ``value`` is the text of the value, shape, coupling, model or subcircuit name."""

    kind: str
    name: str
    nodes: tuple[str, ...]
    value: str
    where: Where
    options: dict[str, str] = field(default_factory=dict)


def parse_card(line: Line) -> Card:
    """The card of an element line. Raises DeckError for an unknown letter or a missing part."""
    text = line.text
    kind = text[0]
    if kind in "RLC":
        fields = text.split(" ")
        if len(fields) == 4 and fields[3].replace(".", "", 1).isalnum() and not _NO_NAME.search(text):
            return Card(kind, fields[0], (fields[1], fields[2]), fields[3], line.where, {})
    if kind in "IVP":
        card = _source(line)
    elif kind in PARSERS:
        fields = line.fields()
        card = PARSERS[kind](fields[0], fields[1:], line.where)
    else:
        raise DeckError(
            line.where, text.split(None, 1)[0], f"no element begins with {kind!r}",
            f"use one of {' '.join(sorted({*PARSERS, *'IVP'}))}",
        )  # fmt: skip
    names = " ".join((card.name, *card.nodes))
    if _NO_NAME.search(names) or names.count("[") != names.count("]"):
        raise DeckError(
            line.where,
            card.name,
            f"{names} are no names",
            "names hold letters, digits and signs, but no = ( ) { } , ' or ;",
        )
    return card


def joined(text: str) -> str:
    """Operators with space around them drawn to their operands: ``2 * W + 1`` is one value, ``a -b`` are two."""
    return _OPERATOR.sub(lambda m: m[1] or m[2], text)


def _options(fields: list[str]) -> tuple[list[str], dict[str, str]]:
    plain = [f for f in fields if "=" not in f]
    options = dict(f.split("=", 1) for f in fields if "=" in f)
    return plain, {ALIASES.get(k, k): v for k, v in options.items()}


def _need(name: str, fields: list[str], at_least: int, form: str, where: Where) -> None:
    if len(fields) < at_least:
        raise DeckError(where, name, f"{len(fields)} fields after the name", f"write {name} {form}")


def _known_options(card: Card, known: frozenset[str]) -> Card:
    """Refuse what would change the answer if it were skipped."""
    for key, text in card.options.items():
        if key not in known or not text:
            raise DeckError(
                card.where, card.name, f"unknown option {key}={text}", f"known here: {sorted(known) or 'none'}"
            )
    return card


def _trailing(name: str, words: list[str], value: str, where: Where) -> None:
    """Words behind the value: layout marks are nothing, other plain words are said, values are refused."""
    strange = [w for w in words if w not in WORDS_WITHOUT_MEANING and not (w[0] == "[" and w[-1] == "]")]
    if not strange:
        return
    if not all(_WORD.match(w) for w in strange) or not any(c.isdigit() for c in value):
        raise DeckError(
            where, name, f"{' '.join(strange)!r} after the value {value}",
            "write an expression with spaces as {a + b}; remove anything else",
        )  # fmt: skip
    warnings.warn(
        DeckWarning(f"{where}: {name}: {' '.join(strange)!r} after the value is ignored, as in JoSIM"), stacklevel=2
    )


def _without_comment(fields: list[str]) -> list[str]:
    """The fields up to a comment at the line's end: JoSIM reads none behind a value, so decks have them there.

    ``# words`` and ``// words`` are one, ``* words`` is if it can be no product: two words without an operator.
    """
    for at, f in enumerate(fields[3:], start=3):
        product = f == "*" and (len(fields) <= at + 2 or fields[at + 2] in "+-*/^" or "=" in fields[at + 2])
        if f.startswith(("#", "//")) or (f[0] == "*" and f != "*") or (f == "*" and not product):
            return fields[:at]
    return fields


def _two_terminal(name: str, fields: list[str], where: Where) -> Card:
    _need(name, fields, 3, "node node value", where)
    fields = _without_comment(fields)
    rest, options = _options(split_outside(joined(" ".join(fields[2:])), " "))
    if not rest:
        raise DeckError(where, name, "has no value before its options", f"write {name} node node value")
    _trailing(name, rest[1:], rest[0], where)
    if name[0] in "LC" and options.pop("IC", ""):
        warnings.warn(DeckWarning(f"{where}: {name}: ic= is ignored, as in JoSIM; it starts at rest"), stacklevel=2)
    known = NOISE if name[0] == "R" else frozenset({"SPREAD"})
    return _known_options(Card(name[0], name, (fields[0], fields[1]), rest[0], where, options), known)


def _junction(name: str, fields: list[str], where: Where) -> Card:
    _need(name, fields, 3, "node node model [area=..|ic=..]", where)
    text = re.sub(r"\s*,\s*", ",", " ".join(fields[2:]))
    plain, options = _options(split_outside(joined(text), " "))
    if not 1 <= len(plain) <= 2:
        raise DeckError(
            where, name, f"{len(plain)} words where a model belongs", "write [phasenode] model [area=..|ic=..]"
        )
    if "CONTROL" in options:
        raise unsupported(where, name, "control= (a critical current set by a magnetic field)", "set the area instead")
    start = options.get("IC", "")
    if "," in start:
        options.pop("IC")
        options["VJ"], options["PHI"] = start.split(",", 1)
    return _known_options(Card("B", name, (fields[0], fields[1]), plain[-1], where, options), JUNCTION)


def _source(line: Line) -> Card:
    fields = line.text.split(None, 3)
    _need(fields[0], fields[1:], 3, "node node shape", line.where)
    return Card(fields[0][0], fields[0], (fields[1], fields[2]), fields[3], line.where, {})


def _mutual(name: str, fields: list[str], where: Where) -> Card:
    _need(name, fields, 3, "L1 L2 k", where)
    plain, options = _options(fields[3:])
    if plain and set(plain) - WORDS_WITHOUT_MEANING:
        raise DeckError(where, name, f"{' '.join(plain)!r} after the coupling", "write Kn L1 L2 k; one K a pair")
    if fields[0][0] != "L" or fields[1][0] != "L":
        raise DeckError(where, name, f"couples {fields[0]} and {fields[1]}", "name two inductors: Kn L1 L2 k")
    return _known_options(Card("K", name, (fields[0], fields[1]), fields[2], where, options), frozenset())


def _instance(name: str, fields: list[str], where: Where) -> Card:
    given = next((k for k, f in enumerate(fields) if "=" in f), len(fields))
    fields = [*fields[:given], *split_outside(joined(" ".join(fields[given:])), " ")]
    fields = [f for f in fields if f not in ("PARAM:", "PARAMS:")]
    plain = [f for f in fields if "=" not in f]
    _need(name, plain, 2, "SUBCKT nodes.. (or nodes.. SUBCKT)", where)
    options = dict(f.split("=", 1) for f in fields if "=" in f)
    return Card("X", name, tuple(plain), "", where, {k.replace(".", "|"): v for k, v in options.items()})


def _line(name: str, fields: list[str], where: Where) -> Card:
    form = "node node node node z0=ohm td=seconds"
    plain, options = _options(fields)
    plain = plain[:4] + [f for f in plain[4:] if f != "LOSSLESS"]
    if len(plain) != 4:
        raise DeckError(where, name, f"{len(plain)} nodes of a transmission line", f"write {name} {form}")
    if (
        "LEN" in options
        or "LEVEL" in options
        or not {"Z0", "TD"} <= set(options) | ({"TD"} if "F" in options else set())
    ):
        raise DeckError(where, name, f"options {sorted(options)} of a lossless line", f"write {name} {form}")
    return _known_options(Card("T", name, tuple(plain), "", where, options), frozenset({"Z0", "TD", "F", "NL"}))


def _controlled(name: str, fields: list[str], where: Where) -> Card:
    """``X N+ N- C+ C- gain``; F and H also SPICE's ``X N+ N- VNAME gain``, the current through a voltage source."""
    nodes = 4
    if name[0] in "FH" and len(fields) > 3 and fields[2][0] == "V" and " " not in joined(" ".join(fields[3:])):
        nodes = 3
    plain = [*fields[:nodes], *split_outside(joined(" ".join(fields[nodes:])), " ")]
    if len(plain) > 2 and plain[2].startswith(("POLY", "FUNCTION", "VCVS", "VCCS", "CCCS", "CCVS")):
        raise unsupported(where, name, f"{plain[2]} in a controlled source", f"write {name} N+ N- C+ C- gain")
    if any("=" in f for f in plain):
        raise DeckError(where, name, "options on a controlled source", f"write {name} N+ N- C+ C- gain")
    if nodes == 3:
        return Card(name[0], name, (plain[0], plain[1]), plain[3], where, {"VIA": plain[2]})
    if len(plain) != 5:
        raise DeckError(where, name, f"{len(plain)} fields after the name", f"write {name} N+ N- C+ C- gain")
    return Card(name[0], name, tuple(plain[:4]), plain[4], where, {})


PARSERS: dict[str, Callable[[str, list[str], Where], Card]] = {
    "R": _two_terminal,
    "L": _two_terminal,
    "C": _two_terminal,
    "B": _junction,
    "K": _mutual,
    "X": _instance,
    "T": _line,
    "E": _controlled,
    "F": _controlled,
    "G": _controlled,
    "H": _controlled,
}
