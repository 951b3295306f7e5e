"""Element lines to cards: which kind, which nodes, which text is the value. Nothing is evaluated here.

One function a kind of line, found by the first letter in ``PARSERS``. Source: docs/sfq.md 1.9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sim.sfq.errors import DeckError, Where, unsupported
from sim.sfq.lines import Line

WORDS_WITHOUT_MEANING = {"FCHECK", "NFREE"}
"""Marks that layout tools leave behind an element; JoSIM ignores any, we ignore these."""


@dataclass(frozen=True)
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
    fields = line.fields()
    name = fields[0]
    if name[0] not in PARSERS:
        raise DeckError(
            line.where, name, f"no element begins with {name[0]!r}", f"use one of {' '.join(sorted(PARSERS))}"
        )
    return PARSERS[name[0]](name, fields[1:], line.where)


def _options(fields: list[str]) -> tuple[list[str], dict[str, str]]:
    plain = [f for f in fields if "=" not in f]
    return plain, dict(f.split("=", 1) for f in fields if "=" in f)


def _need(name: str, fields: list[str], at_least: int, form: str, where: Where) -> None:
    if len(fields) < at_least:
        raise DeckError(where, name, f"{len(fields)} fields after the name", f"write {name} {form}")


def _known_options(card: Card, known: set[str]) -> Card:
    """Refuse what would change the answer if it were skipped; noise options by name."""
    for key, text in card.options.items():
        if key in ("TEMP", "NEB", "SPREAD"):
            raise unsupported(card.where, card.name, f"{key}={text} (noise and spread)", f"remove {key}=")
        if key not in known:
            raise DeckError(
                card.where, card.name, f"unknown option {key}={text}", f"known here: {sorted(known) or 'none'}"
            )
    return card


def _two_terminal(name: str, fields: list[str], where: Where) -> Card:
    _need(name, fields, 3, "node node value", where)
    rest, options = _options(fields[3:])
    strange = [w for w in rest if w not in WORDS_WITHOUT_MEANING]
    if strange:
        raise DeckError(
            where, name, f"{' '.join(strange)!r} after the value {fields[2]}",
            "write an expression with spaces as {a + b}; remove anything else",
        )  # fmt: skip
    return _known_options(Card(name[0], name, (fields[0], fields[1]), fields[2], where, options), set())


def _junction(name: str, fields: list[str], where: Where) -> Card:
    _need(name, fields, 3, "node node model [area=..|ic=..]", where)
    plain, options = _options(fields[2:])
    if not 1 <= len(plain) <= 2:
        raise DeckError(
            where, name, f"{len(plain)} words where a model belongs", "write [phasenode] model [area=..|ic=..]"
        )
    if "ICS" in options:
        options["IC"] = options.pop("ICS")
    if "," in options.get("IC", ""):
        raise unsupported(where, name, "ic=voltage,phase as an initial condition", "write ic=current or remove it")
    return _known_options(Card("B", name, (fields[0], fields[1]), plain[-1], where, options), {"AREA", "IC"})


def _source(name: str, fields: list[str], where: Where) -> Card:
    _need(name, fields, 3, "node node shape", where)
    return Card(name[0], name, (fields[0], fields[1]), " ".join(fields[2:]), where)


def _mutual(name: str, fields: list[str], where: Where) -> Card:
    _need(name, fields, 3, "L1 L2 k", where)
    plain, options = _options(fields[3:])
    if plain and set(plain) - WORDS_WITHOUT_MEANING:
        raise DeckError(where, name, f"{' '.join(plain)!r} after the coupling", "write Kn L1 L2 k; one K a pair")
    if fields[0][0] != "L" or fields[1][0] != "L":
        raise DeckError(where, name, f"couples {fields[0]} and {fields[1]}", "name two inductors: Kn L1 L2 k")
    return _known_options(Card("K", name, (fields[0], fields[1]), fields[2], where, options), set())


def _instance(name: str, fields: list[str], where: Where) -> Card:
    plain, options = _options(fields)
    _need(name, plain, 2, "SUBCKT nodes.. (or nodes.. SUBCKT)", where)
    return Card("X", name, tuple(plain), "", where, options)


def _refused(what: str) -> Callable[[str, list[str], Where], Card]:
    def refuse(name: str, fields: list[str], where: Where) -> Card:
        del fields
        raise unsupported(where, name, f"element {name} ({what})", "use R, L, C, B, I, V, P, K and X only")

    return refuse


PARSERS: dict[str, Callable[[str, list[str], Where], Card]] = {
    "R": _two_terminal,
    "L": _two_terminal,
    "C": _two_terminal,
    "B": _junction,
    "I": _source,
    "V": _source,
    "P": _source,
    "K": _mutual,
    "X": _instance,
    "T": _refused("transmission line"),
    "E": _refused("voltage-controlled voltage source"),
    "F": _refused("current-controlled current source"),
    "G": _refused("voltage-controlled current source"),
    "H": _refused("current-controlled voltage source"),
}
