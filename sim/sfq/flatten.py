"""Deck to circuit: subcircuits expanded, values computed, nodes numbered, everything checked that needs no step.

Names grow outwards as in JoSIM: element ``B1`` of instance ``X1`` of ``XA1`` is ``B1|X1|XA1``; so do inner nodes.
Source: JoSIM Netlist.cpp (names, pin order, overrides); docs/sfq.md 1.9.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sim.sfq.circuit import Branches, Circuit, Floats, Ints, Junctions, Mutuals, Sources
from sim.sfq.deck import GROUNDS, Block, Deck
from sim.sfq.elements import Card
from sim.sfq.errors import DeckError, Where
from sim.sfq.models import JunctionModel
from sim.sfq.scope import Scope
from sim.sfq.shapes import Dc, Shape, parse_shape

MAX_DEPTH = 64
MAX_ELEMENTS = 1_000_000

SHORTS = {"L": "P", "R": "V"}
"""An inductor of 0 H is a phase source of 0 rad, a resistor of 0 ohm a voltage source of 0 V; exactly so in JoSIM."""

Override = tuple[str, Scope]
"""The text that replaces an element's value, and whose parameters it may use."""


@dataclass
class _Flat:
    """What the expansion gathers, per kind: (name, a, b, value)."""

    nodes: dict[str, int] = field(default_factory=lambda: {"0": 0})
    two: dict[str, list[tuple[str, int, int, float]]] = field(default_factory=lambda: {"R": [], "L": [], "C": []})
    junctions: list[tuple[str, int, int, JunctionModel]] = field(default_factory=list)
    sources: dict[str, list[tuple[str, int, int, Shape]]] = field(default_factory=lambda: {"I": [], "V": [], "P": []})
    mutuals: list[tuple[str, str, str, float]] = field(default_factory=list)
    where: dict[str, Where] = field(default_factory=dict)
    models: dict[tuple[int, str], JunctionModel] = field(default_factory=dict)
    shapes: dict[tuple[int, str], Shape] = field(default_factory=dict)

    def node(self, name: str) -> int:
        return self.nodes.setdefault(name, len(self.nodes))


def flatten(deck: Deck) -> Circuit:
    """The circuit of a deck. Raises DeckError with the line of the card at fault."""
    if not deck.top.cards:
        raise DeckError(deck.top.where, deck.source, "the deck has no elements", "add elements outside .subckt")
    _resolve(deck.top)
    flat = _Flat()
    _expand(flat, deck.top, {}, "", {}, 0)
    inductor_at = {name: i for i, (name, *_) in enumerate(flat.two["L"])}
    return Circuit(
        tuple(flat.nodes),
        resistors=_branches(flat.two["R"]),
        inductors=_branches(flat.two["L"]),
        capacitors=_branches(flat.two["C"]),
        mutuals=_mutuals(flat, inductor_at),
        junctions=_junctions(flat.junctions),
        currents=_sources(flat.sources["I"]),
        voltages=_sources(flat.sources["V"]),
        phases=_sources(flat.sources["P"]),
        tran=deck.tran,
        requests=tuple(deck.requests),
        where=flat.where,
    )


def _resolve(block: Block) -> None:
    """Every parameter has a value, used or not: a misspelt name must not wait for its first use."""
    block.scope.resolve()
    for sub in block.subckts.values():
        _resolve(sub)


def _expand(flat: _Flat, block: Block, pins: dict[str, str], path: str, over: dict[str, Override], depth: int) -> None:
    """Add the cards of ``block`` as the instance ``path`` (``|X1|XA1``) with its pins on the caller's nodes."""
    for card in block.cards:
        if depth > MAX_DEPTH or len(flat.where) > MAX_ELEMENTS:
            raise DeckError(
                card.where, card.name + path, f"deeper than {MAX_DEPTH} or more than {MAX_ELEMENTS} elements",
                "a subcircuit must not contain itself",
            )  # fmt: skip
        flat.where[card.name + path] = card.where
        if card.kind == "X":
            _instance(flat, block, card, pins, path, over, depth)
        else:
            ADD[card.kind](flat, block, card, pins, path, over.get(card.name))


def _node(name: str, pins: dict[str, str], path: str, card: Card) -> str:
    if name in GROUNDS:
        return "0"
    if "GND" in name:
        raise DeckError(
            card.where, card.name + path, f"node {name} contains GND, which JoSIM grounds",
            "write 0 for ground, or a name without GND",
        )  # fmt: skip
    return pins[name] if name in pins else name + path


def _instance(
    flat: _Flat, block: Block, card: Card, pins: dict[str, str], path: str, over: dict[str, Override], depth: int
) -> None:
    sub, names = subckt_of(block, card)
    if len(names) != len(sub.pins):
        raise DeckError(
            card.where,
            card.name + path,
            f"{len(names)} nodes for {len(sub.pins)} pins of {sub.name} ({' '.join(sub.pins)})",
            "give one node a pin, in order",
        )
    outer = [_node(n, pins, path, card) for n in names]
    inner: dict[str, Override] = {key: (text, block.scope) for key, text in card.options.items()}
    labels = {c.name for c in sub.cards}
    for key in inner:
        if key not in labels:
            raise DeckError(
                card.where, card.name + path, f"{key}= names no element of {sub.name}",
                f"label=value replaces an element's value, not a parameter; elements: {' '.join(sorted(labels))}",
            )  # fmt: skip
    del over
    _expand(flat, sub, dict(zip(sub.pins, outer, strict=True)), f"|{card.name}{path}", inner, depth + 1)


def subckt_of(block: Block, card: Card) -> tuple[Block, tuple[str, ...]]:
    """The subcircuit and the nodes of an X card in JSIM order (name first) or SPICE order (name last)."""
    orders = [(card.nodes[0], card.nodes[1:]), (card.nodes[-1], card.nodes[:-1])]
    found = [(sub, names) for name, names in orders if (sub := block.find_subckt(name))]
    fitting = [(sub, names) for sub, names in found if len(names) == len(sub.pins)]
    if not found:
        raise DeckError(
            card.where, card.name, f"neither {card.nodes[0]} nor {card.nodes[-1]} is a known subcircuit",
            "define it with .subckt or .include its library",
        )  # fmt: skip
    return (fitting or found)[0]


def _value(block: Block, card: Card, path: str, override: Override | None) -> float:
    text, scope = override or (card.value, block.scope)
    return scope.evaluate(text, card.where, card.name + path)


def _add_two(flat: _Flat, block: Block, card: Card, pins: dict[str, str], path: str, override: Override | None) -> None:
    name, value = card.name + path, _value(block, card, path, override)
    if value < 0:
        raise DeckError(
            card.where, name, f"value {value:g}", "give 0 or more; swap the nodes to turn the current's sign"
        )
    a, b = (flat.node(_node(n, pins, path, card)) for n in card.nodes)
    if value == 0 and card.kind in SHORTS:
        flat.sources[SHORTS[card.kind]].append((name, a, b, Dc(0.0)))
    else:
        flat.two[card.kind].append((name, a, b, value))


def _add_junction(
    flat: _Flat, block: Block, card: Card, pins: dict[str, str], path: str, override: Override | None
) -> None:
    name = card.name + path
    found = block.find_model(card.value)
    if found is None:
        raise DeckError(card.where, name, f"undefined model {card.value}", f"add .model {card.value} jj(..)")
    model_card, owner = found
    key = (id(owner), model_card.name)
    if key not in flat.models:
        flat.models[key] = model_card.build(lambda t: owner.scope.evaluate(t, model_card.where, model_card.name))
    model = flat.models[key]
    option = "IC" if "IC" in card.options else "AREA"
    text, scope = override or (card.options.get(option, "1"), block.scope)
    number = scope.evaluate(text, card.where, name)
    area = number / model.ic_A if option == "IC" else number
    if area <= 0:
        raise DeckError(card.where, name, f"{option.lower()} {number:g}", "give a value above 0")
    a, b = (flat.node(_node(n, pins, path, card)) for n in card.nodes)
    flat.junctions.append((name, a, b, model.scaled(area)))


def _add_source(
    flat: _Flat, block: Block, card: Card, pins: dict[str, str], path: str, override: Override | None
) -> None:
    name = card.name + path
    text, scope = override or (card.value, block.scope)
    key = (id(scope), text)
    if key not in flat.shapes:
        flat.shapes[key] = parse_shape(text, lambda t: scope.evaluate(t, card.where, name), card.where, name)
    a, b = (flat.node(_node(n, pins, path, card)) for n in card.nodes)
    flat.sources[card.kind].append((name, a, b, flat.shapes[key]))


def _add_mutual(
    flat: _Flat, block: Block, card: Card, pins: dict[str, str], path: str, override: Override | None
) -> None:
    del pins
    name, k = card.name + path, _value(block, card, path, override)
    if not -1 < k < 1:
        raise DeckError(card.where, name, f"coupling {k:g}", "give |k| below 1")
    flat.mutuals.append((name, card.nodes[0] + path, card.nodes[1] + path, k))


Adder = Callable[[_Flat, Block, Card, dict[str, str], str, "Override | None"], None]
ADD: dict[str, Adder] = {
    "R": _add_two, "L": _add_two, "C": _add_two, "B": _add_junction,
    "I": _add_source, "V": _add_source, "P": _add_source, "K": _add_mutual,
}  # fmt: skip


def _ints(values: list[int]) -> Ints:
    return np.array(values, dtype=np.int64)


def _floats(values: list[float]) -> Floats:
    return np.array(values, dtype=np.float64)


def _branches(rows: list[tuple[str, int, int, float]]) -> Branches:
    return Branches(
        tuple(r[0] for r in rows),
        _ints([r[1] for r in rows]),
        _ints([r[2] for r in rows]),
        _floats([r[3] for r in rows]),
    )


def _sources(rows: list[tuple[str, int, int, Shape]]) -> Sources:
    return Sources(
        tuple(r[0] for r in rows), _ints([r[1] for r in rows]), _ints([r[2] for r in rows]), tuple(r[3] for r in rows)
    )


def _junctions(rows: list[tuple[str, int, int, JunctionModel]]) -> Junctions:
    models = [r[3] for r in rows]
    cpr = np.zeros((len(rows), max((len(m.cpr) for m in models), default=1)))
    for row, m in zip(cpr, models, strict=True):
        row[: len(m.cpr)] = m.cpr
    of = {
        key: _floats([getattr(m, key) for m in models])
        for key in ("ic_A", "c_F", "r0_ohm", "rn_ohm", "vg_V", "delv_V", "icfct", "phi_rad", "transparency")
    }
    return Junctions(
        tuple(r[0] for r in rows), _ints([r[1] for r in rows]), _ints([r[2] for r in rows]),
        rtype=_ints([m.rtype for m in models]), cpr=cpr, gap=_floats([m.gap_over_2kt() for m in models]), **of,
    )  # fmt: skip


def _mutuals(flat: _Flat, inductor_at: dict[str, int]) -> Mutuals:
    pairs: set[frozenset[str]] = set()
    for name, la, lb, _ in flat.mutuals:
        for inductor in (la, lb):
            if inductor not in inductor_at:
                raise DeckError(
                    flat.where.get(name, Where("?", 0)), name, f"no inductor {inductor}",
                    "couple inductors of the same subcircuit",
                )  # fmt: skip
        if la == lb or frozenset((la, lb)) in pairs:
            raise DeckError(flat.where[name], name, f"{la} and {lb} are one or coupled twice", "keep one K a pair")
        pairs.add(frozenset((la, lb)))
    rows = flat.mutuals
    return Mutuals(
        tuple(r[0] for r in rows), _ints([inductor_at[r[1]] for r in rows]), _ints([inductor_at[r[2]] for r in rows]),
        _floats([r[3] for r in rows]),
    )  # fmt: skip
