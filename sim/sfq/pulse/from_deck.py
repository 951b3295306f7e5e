"""The same deck at pulse level: library cells at its top level become pulse cells, its V sources pulse trains.

    deck = load("xor_01.cir")
    transient(deck)                                                 # every junction
    given = from_deck(deck)
    run(given.netlist, given.pulses, given.t_stop_s)                # every pulse

A deck has library cells (also inside subcircuits of its own), V sources to ground that give single flux quanta, I
sources at control pins, and resistors to ground, which end lines. A pulse of a source is where its flux passes the odd
multiples of half a quantum, which is when the phase of the node passes pi, as a junction's does when it slips.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from hardware.sfq import library as netlists
from sim.sfq.circuit import Circuit
from sim.sfq.deck import GROUNDS, Block, Deck, loads
from sim.sfq.elements import Card
from sim.sfq.errors import DeckError
from sim.sfq.pulse.cells import CellError, PulseCell
from sim.sfq.pulse.netlist import Netlist
from sim.sfq.pulse.tables import Floats
from sim.sfq.pulse.trains import pulse_times
from sim.sfq.shapes import Shape, parse_shape


@dataclass(frozen=True)
class PulseDeck:
    """``pulses``: times (s) by net of the deck's V sources. Nets and instances have the deck's names, ``XA|X1``."""

    netlist: Netlist
    pulses: Mapping[str, Floats]
    t_stop_s: float


def from_deck(deck: Deck, library: Mapping[str, PulseCell] | None = None) -> PulseDeck:
    """Errors: DeckError with the line of what is no cell of the library, or has no meaning at pulse level."""
    if library is None:
        from sim.sfq.pulse.library import load_library

        library = load_library()
    reader = _Reader(deck, Netlist(library))
    reader.block(deck.top, {}, "")
    reader.finish()
    stop = deck.tran.stop_s if deck.tran else max((float(t[-1]) for t in reader.pulses.values() if len(t)), default=0.0)
    return PulseDeck(reader.netlist, reader.pulses, stop)


@dataclass
class _Reader:
    deck: Deck
    netlist: Netlist
    waiting: list[tuple[str, PulseCell, dict[str, str], float | None, Card]] = field(default_factory=list)
    pulses: dict[str, Floats] = field(default_factory=dict)
    signs: dict[str, tuple[int, Card]] = field(default_factory=dict)
    currents: dict[str, float] = field(default_factory=dict)
    ends: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.known = _Known(self.netlist.library)

    def block(self, block: Block, pins: Mapping[str, str], path: str) -> None:
        """All cards of a block whose pins are on the caller's nets."""
        for card in block.cards:
            known: dict[str, Callable[..., None]] = {
                "X": self.instance,
                "V": self.voltage,
                "I": self.current,
                "R": self.end,
            }
            if card.kind not in known:
                raise DeckError(
                    card.where, card.name + path, f"an element {card.kind} between cells has no meaning at pulse level",
                    "put it into a cell of the library, or simulate at junction level",
                )  # fmt: skip
            known[card.kind](block, card, pins, path)

    def net(self, name: str, pins: Mapping[str, str], path: str) -> str:
        return pins.get(name, "0" if name in GROUNDS else name + path)

    def instance(self, block: Block, card: Card, pins: Mapping[str, str], path: str) -> None:
        sub, names = _subckt(block, card)
        nets = {p: self.net(n, pins, path) for p, n in zip(sub.pins, names, strict=True)}
        found = self.known.cell(sub)
        if found is None:
            if not any(c.kind == "X" for c in sub.cards):
                raise DeckError(
                    card.where, card.name + path, f"{sub.name} is no cell of the library",
                    f"use {', '.join(sorted(self.netlist.library))}, or simulate at junction level",
                )  # fmt: skip
            self.block(sub, nets, f"|{card.name}{path}")
            return
        cell, bias = found
        source = cell.membrane.source if cell.membrane else ""
        for key, text in card.options.items():
            if key != source:
                raise DeckError(
                    card.where, card.name + path, f"{key}= changes {cell.name}, whose times are of its own values",
                    "remove it, or simulate at junction level",
                )  # fmt: skip
            bias = parse_shape(text, lambda t: block.scope.evaluate(t, card.where, card.name), card.where, key).bias()
        self.waiting.append((card.name + path, cell, nets, bias, card))

    def voltage(self, block: Block, card: Card, pins: Mapping[str, str], path: str) -> None:
        if self.net(card.nodes[1], pins, path) != "0":
            raise DeckError(
                card.where, card.name + path, "a V source that is not to ground", "let its second node be 0"
            )
        shape = _shape(block, card)
        times, sign = pulse_times(shape, self.deck.tran, card)
        net = self.net(card.nodes[0], pins, path)
        self.pulses[net] = times
        if len(times):
            self.signs[net] = (sign, card)

    def current(self, block: Block, card: Card, pins: Mapping[str, str], path: str) -> None:
        a, b = (self.net(n, pins, path) for n in card.nodes)
        value = _shape(block, card).bias()
        if "0" not in (a, b):
            raise DeckError(card.where, card.name + path, "an I source between two cells", "let one of its nodes be 0")
        net, into = (b, value) if a == "0" else (a, -value)
        self.currents[net] = self.currents.get(net, 0.0) + into

    def end(self, block: Block, card: Card, pins: Mapping[str, str], path: str) -> None:
        a, b = (self.net(n, pins, path) for n in card.nodes)
        if "0" not in (a, b):
            raise DeckError(card.where, card.name + path, "a resistor between two cells", "simulate at junction level")
        self.ends |= {a, b}

    def finish(self) -> None:
        """Add the instances, whose control currents are now known."""
        for name, cell, pins, bias, card in self.waiting:
            ports: dict[str, str | float] = {p: pins[p.upper()] for p in (*cell.inputs, *cell.outputs)}
            for p in cell.controls:
                if pins[p.upper()] not in self.currents:
                    raise DeckError(
                        card.where, name, f"no I source at control {p} (node {pins[p.upper()]})", "add one from ground"
                    )
                ports[p] = self.currents[pins[p.upper()]]
            self.netlist.add(name, cell.name, bias_A=bias, **ports)
        self.netlist.ends |= self.ends - {"0"}
        for net, (sign, card) in self.signs.items():
            for name, port in self.netlist.loads.get(net, []):
                anti = port in self.netlist.instances[name].cell.negative
                if anti != (sign < 0):
                    raise DeckError(
                        card.where, card.name, f"pulses of sign {sign:+d} into {name}.{port}", "turn the source's sign"
                    )


def _shape(block: Block, card: Card) -> Shape:
    return parse_shape(card.value, lambda t: block.scope.evaluate(t, card.where, card.name), card.where, card.name)


def _subckt(block: Block, card: Card) -> tuple[Block, tuple[str, ...]]:
    """The subcircuit and the nodes of an X card, name first or last."""
    for name, nodes in ((card.nodes[0], card.nodes[1:]), (card.nodes[-1], card.nodes[:-1])):
        sub = block.find_subckt(name)
        if sub is not None and len(sub.pins) == len(nodes):
            return sub, nodes
    raise DeckError(
        card.where, card.name, f"neither {card.nodes[0]} nor {card.nodes[-1]} is a subcircuit with as many pins",
        "define it with .subckt or .include its library",
    )  # fmt: skip


@dataclass
class _Known:
    """Which subcircuit is which cell, found out once for each."""

    library: Mapping[str, PulseCell]
    found: dict[int, tuple[PulseCell, float | None] | None] = field(default_factory=dict)

    def cell(self, sub: Block) -> tuple[PulseCell, float | None] | None:
        """The library cell that a subcircuit is, and the bias of a soma whose source differs.

        Errors: DeckError for a subcircuit with a cell's name and other elements.
        """
        if id(sub) not in self.found:
            self.found[id(sub)] = self.look(sub)
        return self.found[id(sub)]

    def look(self, sub: Block) -> tuple[PulseCell, float | None] | None:
        if sub.name in self.library:
            cell = self.library[sub.name]
            unlike, bias = _difference(sub, cell)
            if unlike:
                raise DeckError(
                    sub.where, sub.name, f"is not the library's {sub.name}: {unlike}, and so do its times",
                    "include hardware/sfq_cells.inc, or give the subcircuit another name and from_deck its library",
                )  # fmt: skip
            return cell, bias
        for name, cell in self.library.items():
            if cell.membrane is not None and sub.name.startswith(name):
                unlike, bias = _difference(sub, cell)
                if not unlike:
                    return cell, bias
        return None


def _difference(sub: Block, cell: PulseCell) -> tuple[str, float | None]:
    """What differs from the library's netlist, or nothing; the bias where a soma's own source does."""
    peer = _own().find_subckt(cell.name)
    if peer is None:
        return "", None
    if sub.pins != peer.pins:
        return "its pins differ", None
    ours, theirs = _circuit(peer), _circuit(sub)
    for group in ("resistors", "inductors", "capacitors", "junctions", "mutuals"):
        a, b = vars(getattr(ours, group)), vars(getattr(theirs, group))
        if not all(_alike(a[key], b[key]) for key in a):
            return f"its {group} differ", None
    a, b = ours.currents, theirs.currents
    if a.names != b.names or not (_alike(a.a, b.a) and _alike(a.b, b.b)):
        return "its current sources differ", None
    own = f"{cell.membrane.source}|X0" if cell.membrane else ""
    bias = None
    for name, node, x, y in zip(a.names, a.a, a.shapes, b.shapes, strict=True):
        if not math.isclose(x.bias(), y.bias(), rel_tol=1e-6):
            if name != own:
                return f"the current of {name.removesuffix('|X0')} differs", None
            bias = y.bias() if node == 0 else -y.bias()
    return "", bias


def _alike(a: object, b: object) -> bool:
    if isinstance(a, tuple) or isinstance(b, tuple):
        return a == b
    x, y = np.asarray(a), np.asarray(b)
    return x.shape == y.shape and np.allclose(x, y, rtol=1e-6, atol=0.0)


def _circuit(sub: Block) -> Circuit:
    """The elements of a subcircuit, each pin with a resistor to ground."""
    top = Block("", (), sub.where, cards=[Card("X", "X0", (sub.name, *sub.pins), "", sub.where)])
    top.cards += [Card("R", f"R{p}", (p, "0"), "1", sub.where) for p in sub.pins]
    top.subckts[sub.name] = sub
    return Deck("<cell>", top).flatten()


@cache
def cell_circuit(name: str) -> Circuit:
    """The elements of a library cell as instance ``X0``, each pin at a node of its name with a resistor to ground."""
    sub = _own().find_subckt(name.upper())
    if sub is None:
        raise CellError(f"{name}: no such cell in hardware/sfq_cells.inc")
    return _circuit(sub)


@cache
def _own() -> Block:
    """The library's own subcircuits."""
    model, cells = netlists()
    return loads("\n".join([model, *cells.values(), "R1 1 0 1"])).top
