"""Deck to circuit: subcircuits expanded, values computed, nodes numbered, everything checked that needs no step.

Source: JoSIM Netlist.cpp (names, pin order, overrides); docs/sfq.md 1.9.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sim.sfq.assemble import circuit
from sim.sfq.circuit import Circuit
from sim.sfq.deck import GROUNDS, Block, Deck
from sim.sfq.elements import Card
from sim.sfq.errors import DeckError, DeckWarning
from sim.sfq.junction_card import add_junction
from sim.sfq.models import JunctionModel
from sim.sfq.parse import number, spreads
from sim.sfq.parts import MAX_ELEMENTS, Fill, Part
from sim.sfq.requests import Request
from sim.sfq.scope import Scope
from sim.sfq.shapes import Dc, Noise, Shape, Sum, parse_shape

MAX_DEPTH = 64

SHORTS = {"L": "P", "R": "V"}
"""An inductor of 0 H is a phase source of 0 rad, a resistor of 0 ohm a voltage source of 0 V; exactly so in JoSIM."""

LEAST = {"L": 1e-20, "R": 1e-9}
"""Below these (H, ohm) an element is a short, too. Beside a picohenry, a conductance of 1/R costs the solution
1e-15 ohm/R of its digits, and leaving R out costs R 1 ns/1 pH of a current: equal and below 2e-6 at 1e-9 ohm. Decks
have resistors of 1 pohm to tie nodes together."""

Override = tuple[str, Scope]
"""The text that replaces an element's value, and whose parameters it may use."""


@dataclass
class Flattening:
    """What the parts of one deck share: junction models by value, shapes, and what was warned of."""

    deck: Deck
    parts: dict[tuple[object, ...], Part] = field(default_factory=dict)
    models: dict[tuple[int, str], JunctionModel] = field(default_factory=dict)
    scaled: dict[tuple[int, str, float], int] = field(default_factory=dict)
    junctions: list[JunctionModel] = field(default_factory=list)
    shapes: dict[tuple[int, str], Shape] = field(default_factory=dict)
    grounded: set[str] = field(default_factory=set)
    scopes: list[Scope] = field(default_factory=list)
    """Scopes of instances with parameters; kept, because keys name scopes by their address."""

    def part(self, block: Block, over: dict[str, Override], depth: int, card: Card | None) -> Part:
        """The part of a block with these overrides, made once."""
        key = (id(block), *sorted((name, text, id(scope)) for name, (text, scope) in over.items()))
        part = self.parts.get(key)
        if part is None:
            if depth > MAX_DEPTH and card is not None:
                raise DeckError(
                    card.where, card.name, f"deeper than {MAX_DEPTH} or more than {MAX_ELEMENTS} elements",
                    "a subcircuit must not contain itself",
                )  # fmt: skip
            part = self.parts[key] = Expansion(self, block, over, depth).run()
        return part


@dataclass
class Expansion:
    """One block on its way to a part; ``scope`` holds its parameters, with those of the instance."""

    flat: Flattening
    block: Block
    over: dict[str, Override]
    depth: int
    inductors: dict[str, int] | None = None

    def __post_init__(self) -> None:
        self.part = Part(self.block.pins)
        self.scope = self.block.scope
        given = {k: v for k, v in self.over.items() if k in self.block.defaults and k not in self.block.names}
        if given:
            self.scope = Scope(self.scope.parent, dict(self.scope.texts))
            self.flat.scopes.append(self.scope)
            for name, (text, scope) in given.items():
                value = scope.evaluate(text, self.block.where, name)
                self.scope.texts[name] = (repr(value), self.block.where)

    def run(self) -> Part:
        """Add all cards, then what refers to elements, then what the block says of noise."""
        late = []
        for card in self.block.cards:
            if card.kind in "RLC":
                self.two(card)
            elif card.kind == "X":
                self.instance(card)
            elif card.kind == "K" or "VIA" in card.options:
                late.append(card)
            else:
                ADD[card.kind](self, card)
        for card in late:
            if card.kind == "K":
                self.mutual(card)
            else:
                self.sensed(card)
        for line in self.block.noise.values():
            if self.block.parent is not None:
                self.block_noise(line.text.split(None, 1)[0].lstrip("."))
        return self.part

    def node(self, name: str, card: Card) -> int:
        """A node of this block. One rule for ground: 0 and GND, and any name with GND in it that is no pin."""
        if name in GROUNDS:
            return 0
        if "GND" in name and name not in self.part.pins:
            if name not in self.flat.grounded:
                self.flat.grounded.add(name)
                said = f"{card.where}: {card.name}: node {name} contains GND and is ground, as in JoSIM"
                warnings.warn(DeckWarning(said), stacklevel=2)
            return 0
        return self.part.node(name)

    def value(self, card: Card, text: str | None = None) -> float:
        """The value of a card, or what the instance gives instead."""
        if self.over and card.name in self.over:
            given, scope = self.over[card.name]
            return scope.evaluate(given, card.where, card.name)
        return self.scope.evaluate(card.value if text is None else text, card.where, card.name)

    def two(self, card: Card) -> None:
        """R, L or C. A value of 0 or next to it is a short; one below 0 is taken as it is, as in JoSIM."""
        value = self.value(card)
        a, b = card.nodes
        ends = [self.node(a, card), self.node(b, card)]
        kind = card.kind
        if kind != "C" and abs(value) < LEAST[kind]:
            self.part.add(SHORTS[kind], card.name, card.where, ends, Dc(0.0))
        else:
            at = self.part.add(kind, card.name, card.where, ends, value)
            if card.options:
                self.noise(card, kind, at)

    def noise(self, card: Card, kind: str, at: int) -> None:
        """``temp=``, ``neb=`` and ``spread=`` of the element."""
        for what in ("TEMP", "NEB", "SPREAD"):
            if what in card.options:
                value = self.scope.evaluate(card.options[what], card.where, card.name)
                if value < 0:
                    raise DeckError(card.where, card.name, f"{what.lower()}={value:g}", "give 0 or more")
                self.part.fills.append(Fill(what, kind, at, at + 1, value))

    def block_noise(self, word: str) -> None:
        """A ``.temp``, ``.neb`` or ``.spread`` of this block: for all of its elements that nothing inside has set."""
        line = self.block.noise[word]
        by_kind = spreads(line, self.scope) if word == "SPREAD" else {"": number(line, self.scope)}
        for kind in "RB" if word != "SPREAD" else "RLCB":
            value = by_kind.get(kind, by_kind.get(""))
            if value is not None and kind in self.part.rows:
                self.part.fills.append(Fill(word, kind, 0, len(self.part.rows[kind].names), value))

    def option(self, card: Card, key: str) -> float | None:
        """The number of an option, None where it is not given."""
        text = card.options.get(key)
        return None if text is None else self.scope.evaluate(text, card.where, card.name)

    def free(self, name: str) -> str:
        """A name for what a deck does not name, unlike any that it does."""
        while name in self.block.names or name in self.part.number:
            name += "_"
        return name

    def source(self, card: Card) -> None:
        """I, V or P."""
        text, scope = self.over.get(card.name, (card.value, self.scope)) if self.over else (card.value, self.scope)
        key = (id(scope), text)
        shape = self.flat.shapes.get(key)
        if shape is None:
            wave = self.flat.deck.wave
            shape = parse_shape(text, lambda t: scope.evaluate(t, card.where, card.name), card.where, card.name, wave)
            self.flat.shapes[key] = shape
        a, b = card.nodes
        self.part.add(card.kind, card.name, card.where, [self.node(a, card), self.node(b, card)], shape)

    def transmission(self, card: Card) -> None:
        """T. An instance's override is the delay, as in JoSIM."""
        z0 = self.option(card, "Z0") or 0.0
        if "F" in card.options:
            td = (0.25 if "NL" not in card.options else self.option(card, "NL") or 0.0) / (
                self.option(card, "F") or 1.0
            )
        else:
            td = self.value(card, card.options["TD"])
        if z0 <= 0 or td <= 0:
            raise DeckError(card.where, card.name, f"z0={z0:g} ohm, td={td:g} s", "give both above 0")
        self.part.add("T", card.name, card.where, [self.node(n, card) for n in card.nodes], (z0, td))

    def controlled(self, card: Card) -> None:
        """E F G H with both ends of the control."""
        ends = [self.node(n, card) for n in card.nodes]
        self.part.add(card.kind, card.name, card.where, ends, self.value(card))

    def sensed(self, card: Card) -> None:
        """F or H controlled by the current of a voltage source: a branch of no voltage goes in series with it."""
        via, sources = card.options["VIA"], self.part.of("V")
        if via not in sources.names:
            raise DeckError(
                card.where, card.name, f"no voltage source {via} here", f"write {card.name} N+ N- C+ C- gain"
            )
        at = 2 * sources.names.index(via) + 1
        inner, outer = self.part.node(self.free(f"{via}_{card.name}")), sources.ends[at]
        sources.ends[at] = inner
        ends = [*(self.node(n, card) for n in card.nodes), inner, outer]
        self.part.add(card.kind, card.name, card.where, ends, self.value(card))

    def mutual(self, card: Card) -> None:
        """K between two inductors of this block or of its instances."""
        k = self.value(card)
        if not -1 < k < 1:
            raise DeckError(card.where, card.name, f"coupling {k:g}", "give |k| below 1")
        if self.inductors is None:
            self.inductors = {name: i for i, name in enumerate(self.part.of("L").names)}
        names = [n if n in self.inductors else n.replace(".", "|") for n in card.nodes]
        for name in names:
            if name not in self.inductors:
                raise DeckError(
                    card.where, card.name, f"no inductor {name}", "couple inductors (above 0 H) of the same subcircuit"
                )
        la, lb = (self.inductors[name] for name in names)
        self.part.add("K", card.name, card.where, [], (la, lb, k))

    def instance(self, card: Card) -> None:
        """X: the part of its subcircuit, placed."""
        sub, names = subckt_of(self.block, card)
        if len(names) != len(sub.pins):
            pins = f"{len(sub.pins)} pins of {sub.name} ({' '.join(sub.pins)})"
            raise DeckError(card.where, card.name, f"{len(names)} nodes for {pins}", "give one node a pin, in order")
        inner: dict[str, Override] = {}
        if card.options or self.over:
            inner = self.overrides(card, sub)
        part = self.flat.part(sub, inner, self.depth + 1, card)
        outer = [self.node(n, card) if k in part.used else 0 for k, n in enumerate(names, start=1)]
        self.part.place(part, card.name, outer, card.where)

    def overrides(self, card: Card, sub: Block) -> dict[str, Override]:
        """What an instance gives its elements, ``L1=2p`` or ``L1|X1=2p``, and its parameters."""
        inner: dict[str, Override] = {}
        tail = "|" + card.name
        for key, (text, scope) in self.over.items():
            if key.endswith(tail):
                inner[key.removesuffix(tail)] = (text, scope)
        for key, text in card.options.items():
            if key.rpartition("|")[2] not in sub.names and key not in sub.defaults:
                raise DeckError(
                    card.where, card.name, f"{key}= names no element of {sub.name}",
                    f"label=value replaces an element's value, not a .param; elements: {' '.join(sorted(sub.names))}",
                )  # fmt: skip
            inner[key] = (text, self.scope)
        return inner


ADD: dict[str, Callable[[Expansion, Card], None]] = {
    "B": add_junction, "I": Expansion.source, "V": Expansion.source, "P": Expansion.source,
    "T": Expansion.transmission, "E": Expansion.controlled, "F": Expansion.controlled, "G": Expansion.controlled,
    "H": Expansion.controlled,
}  # fmt: skip


def subckt_of(block: Block, card: Card) -> tuple[Block, tuple[str, ...]]:
    """The subcircuit and the nodes of an X card: JSIM order (name first), SPICE order (name last), or any as JoSIM."""
    orders = [(card.nodes[0], card.nodes[1:]), (card.nodes[-1], card.nodes[:-1])]
    found = [(sub, names) for name, names in orders if (sub := block.find_subckt(name))]
    if not found:
        found = [
            (sub, card.nodes[:k] + card.nodes[k + 1 :])
            for k, name in enumerate(card.nodes)
            if (sub := block.find_subckt(name))
        ]
    fitting = [(sub, names) for sub, names in found if len(names) == len(sub.pins)]
    if not found:
        raise DeckError(
            card.where, card.name, f"neither {card.nodes[0]} nor {card.nodes[-1]} is a known subcircuit",
            "define it with .subckt or .include its library",
        )  # fmt: skip
    return (fitting or found)[0]


def flatten(deck: Deck) -> Circuit:
    """The circuit of a deck. Raises DeckError with the line of the card at fault."""
    if not deck.top.cards:
        raise DeckError(deck.top.where, deck.source, "the deck has no elements", "add elements outside .subckt")
    _resolve(deck.top)
    flat = Flattening(deck)
    part = flat.part(deck.top, {}, 0, None)
    rows = part.rows
    for kind in "IVP":
        if kind in rows and any(isinstance(s, Noise | Sum) for s in rows[kind].values):
            named = zip(rows[kind].names, rows[kind].values, strict=True)
            rows[kind].values = [s.named(n, deck.seed) if isinstance(s, Noise | Sum) else s for n, s in named]
    made = circuit(deck, part, flat.junctions)
    return replace(made, requests=_named(made))


def _named(made: Circuit) -> tuple[Request, ...]:
    """The requests, with names in which a point is not a step outwards: ``B1.X1.5`` may be ``B1`` of ``X1.5``."""
    known = made.where.keys() | set(made.nodes)
    strange = [n for r in made.requests for n in (r.first, r.second) if n and n not in known]
    if not strange:
        return made.requests
    pointed = {name.replace(".", "|"): name for name in known if "." in name}
    return tuple(
        replace(r, first=pointed.get(r.first, r.first), second=pointed.get(r.second, r.second)) for r in made.requests
    )


def _resolve(block: Block) -> None:
    """Every parameter has a value, used or not: a misspelt name must not wait for its first use."""
    waiting = [block]
    while waiting:
        block = waiting.pop()
        block.scope.resolve()
        waiting += block.subckts.values()
