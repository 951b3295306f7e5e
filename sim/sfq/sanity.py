"""Looking at a circuit before solving it: what cannot be solved, and what is probably a slip.

``findings`` says what it sees and raises for nothing; a finding with ``fatal`` is one that no run gets past. Source:
JoSIM's check of cell connections (issue 97); docs/sfq.md 1.2, 6.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sim.sfq.circuit import Circuit, Sources
from sim.sfq.deck import GROUNDS, Block, Deck
from sim.sfq.elements import Card
from sim.sfq.errors import NOWHERE, DeckError, DeckWarning, Where
from sim.sfq.flatten import subckt_of
from sim.sfq.junction_numbers import JunctionNumbers as JunctionNumbers
from sim.sfq.junction_numbers import parameters as parameters

BETA_C_MAX = 5.0
IC_RANGE_A = (1e-6, 1e-2)
"""Critical currents of logic circuits; one outside is probably a unit left out."""


@dataclass(frozen=True)
class Finding:
    """One thing that a look at a deck has found: where, whose, what is wrong and what to do."""

    where: Where
    name: str
    rule: str
    fix: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.name}: {self.rule}. Fix: {self.fix}"

    def error(self) -> DeckError:
        """The finding as an error."""
        return DeckError(self.where, self.name, self.rule, self.fix)


def findings(deck: Deck, circuit: Circuit | None = None) -> list[Finding]:
    """All that is found in a deck; ``circuit`` is its flattened form if there is one already. Raises DeckError only
    where the deck does not flatten."""
    circuit = deck.flatten() if circuit is None else circuit
    out = [*source_loops(circuit), *islands(circuit), *shorted(circuit), *fan_out(deck), *unused_pins(deck)]
    out += [*circuit_findings(circuit)]
    return out


def check(deck: Deck, circuit: Circuit | None = None) -> None:
    """Warn (DeckWarning) of every finding; raise the first fatal one as DeckError."""
    for finding in findings(deck, circuit):
        if finding.fatal:
            raise finding.error()
        warnings.warn(DeckWarning(str(finding)), stacklevel=2)


def _finding(circuit: Circuit, name: str, rule: str, fix: str, fatal: bool = False) -> Finding:
    return Finding(circuit.where.get(name, NOWHERE), name, rule, fix, fatal)


class _Sets:
    """Which nodes belong together: union by path halving."""

    def __init__(self, count: int) -> None:
        self.to = list(range(count))

    def find(self, a: int) -> int:
        while self.to[a] != a:
            self.to[a] = self.to[self.to[a]]
            a = self.to[a]
        return a

    def join(self, a: int, b: int) -> bool:
        """Whether the two were apart."""
        a, b = self.find(a), self.find(b)
        self.to[max(a, b)] = min(a, b)
        return a != b


def _rows(sources: Sources) -> Iterator[tuple[str, int, int]]:
    return zip(sources.names, sources.a.tolist(), sources.b.tolist(), strict=True)


def source_loops(circuit: Circuit) -> Iterator[Finding]:
    """Loops of voltage and phase sources alone (fatal), and of a constant voltage with inductors."""
    sets = _Sets(len(circuit.nodes))
    for name, a, b in (*_rows(circuit.voltages), *_rows(circuit.phases)):
        if not sets.join(a, b):
            rule = f"closes a loop of voltage or phase sources (0 H and 0 ohm count) at {circuit.nodes[b]}"
            yield _finding(circuit, name, rule, "put a resistor or an inductor in series with one of them", True)
    superconducting = _Sets(len(circuit.nodes))
    c = circuit.inductors
    for a, b in zip(
        (*c.a.tolist(), *circuit.phases.a.tolist()), (*c.b.tolist(), *circuit.phases.b.tolist()), strict=True
    ):
        superconducting.join(a, b)
    for name, a, b in _rows(circuit.voltages):
        if name[0] == "V" and a != b and superconducting.find(a) == superconducting.find(b):
            shape = circuit.voltages.shapes[circuit.voltages.names.index(name)]
            if shape.bias():
                rule = "a constant voltage across inductors only: their current grows without end"
                yield _finding(circuit, name, rule, "put a resistor in series, or feed a current")


def islands(circuit: Circuit) -> Iterator[Finding]:
    """Groups of nodes without a way to ground but current sources and couplings; and a circuit without ground."""
    sets = _Sets(len(circuit.nodes))
    current = set(circuit.currents.names)
    for name, a, b in circuit.branches():
        if name not in current:
            sets.join(a, b)
    lines, k = circuit.lines, circuit.controlled
    for a, b in zip(lines.a.tolist() + lines.c.tolist(), lines.b.tolist() + lines.d.tolist(), strict=True):
        sets.join(a, b)
    for kind, a, b, ca, cb in zip(k.kinds, *(e.tolist() for e in (k.a, k.b, k.ca, k.cb)), strict=True):
        if kind in "EH":
            sets.join(a, b)
        if kind in "FH":
            sets.join(ca, cb)
    lost: dict[int, list[int]] = defaultdict(list)
    for v in range(1, len(circuit.nodes)):
        if sets.find(v) != 0:
            lost[sets.find(v)].append(v)
    grounded = len(circuit.nodes) - 1 > sum(len(group) for group in lost.values())
    for group in lost.values():
        inside = set(group)
        name = next((n for n, a, b in circuit.branches() if a in inside or b in inside), circuit.nodes[group[0]])
        names = ", ".join(circuit.nodes[v] for v in group[:8]) + (" .." if len(group) > 8 else "")
        what = "no way to ground" if grounded else "no way to ground, and nothing in the deck is grounded"
        yield _finding(
            circuit, name, f"floating node{'s' if len(group) > 1 else ''} {names}: {what}",
            "connect one of them to 0 by an element other than a current source or a coupling",
        )  # fmt: skip


def shorted(circuit: Circuit) -> Iterator[Finding]:
    """Elements with both ends on one node."""
    for name, a, b in circuit.branches():
        if a == b:
            yield _finding(circuit, name, f"both ends on {circuit.nodes[a]}", "check its nodes; it does nothing")


def _blocks(top: Block) -> Iterator[Block]:
    """The deck and the subcircuits that it uses, each once; a library's others are nobody's fault."""
    waiting, seen = [top], {id(top)}
    while waiting:
        block = waiting.pop()
        yield block
        for card in block.cards:
            if card.kind == "X":
                sub, _ = subckt_of(block, card)
                if id(sub) not in seen:
                    seen.add(id(sub))
                    waiting.append(sub)


def _ground(name: str) -> bool:
    return name in GROUNDS or "GND" in name


class Cells:
    """Which subcircuits are cells, and which of their pins carry pulses: facts of definitions, found once each.

    A cell has a bias source inside. A pin carries pulses if a junction is behind it without a resistor between: a
    branch into a summing node is not a pulse port, and many may share one.
    """

    def __init__(self) -> None:
        self.biased: dict[int, bool] = {}
        self.pulsed: dict[int, set[str]] = {}

    def cell(self, block: Block, depth: int = 0) -> bool:
        """Whether a current or voltage source is inside."""
        if id(block) not in self.biased:
            self.biased[id(block)] = False
            self.biased[id(block)] = depth < 64 and any(
                c.kind in "IV" or (c.kind == "X" and self.cell(subckt_of(block, c)[0], depth + 1)) for c in block.cards
            )
        return self.biased[id(block)]

    def ports(self, block: Block, depth: int = 0) -> set[str]:
        """The pins from which inductors alone lead to a junction."""
        if id(block) in self.pulsed:
            return self.pulsed[id(block)]
        self.pulsed[id(block)] = set()
        near: dict[str, list[str]] = defaultdict(list)
        touched: set[str] = set()
        for card in block.cards:
            if card.kind == "B":
                touched.update(n for n in card.nodes if not _ground(n))
            elif card.kind == "L":
                near[card.nodes[0]].append(card.nodes[1])
                near[card.nodes[1]].append(card.nodes[0])
            elif card.kind == "X" and depth < 64:
                sub, nodes = subckt_of(block, card)
                pins = self.ports(sub, depth + 1)
                touched.update(n for n, p in zip(nodes, sub.pins, strict=False) if p in pins)
        stack = list(touched)
        while stack:
            for n in near[stack.pop()]:
                if n not in touched and not _ground(n):
                    touched.add(n)
                    stack.append(n)
        self.pulsed[id(block)] = touched & set(block.pins)
        return self.pulsed[id(block)]


def fan_out(deck: Deck) -> Iterator[Finding]:
    """Nodes that pulse ports of more than two cell instances share: a flux quantum cannot be divided."""
    cells = Cells()
    for block in _blocks(deck.top):
        sharing: dict[str, list[Card]] = defaultdict(list)
        driven = {n for c in block.cards if c.kind == "V" for n in c.nodes}
        for card in (c for c in block.cards if c.kind == "X"):
            sub, nodes = subckt_of(block, card)
            if cells.cell(sub):
                ports = cells.ports(sub)
                for node, pin in zip(nodes, sub.pins, strict=False):
                    if pin in ports and not _ground(node) and node not in driven:
                        sharing[node].append(card)
        for node, cards in sharing.items():
            if len(cards) > 2:
                names = ", ".join(c.name for c in cards[:6]) + (" .." if len(cards) > 6 else "")
                place = f" of {block.name}" if block.name else ""
                yield Finding(
                    cards[0].where, cards[0].name, f"node {node}{place} joins ports of {len(cards)} cells ({names})",
                    "a pulse goes to one cell: put a splitter where it fans out, a merger where it fans in",
                )  # fmt: skip


def unused_pins(deck: Deck) -> Iterator[Finding]:
    """Pins that no element of their subcircuit is on."""
    for block in _blocks(deck.top):
        used = {n for c in block.cards for n in c.nodes}
        for pin in block.pins:
            if pin not in used and not _ground(pin):
                yield Finding(
                    block.where, block.name, f"pin {pin} is on no element", "connect it, or take it out of .subckt"
                )


def circuit_findings(circuit: Circuit) -> Iterator[Finding]:
    """Junctions that are underdamped or have a critical current of another order than any circuit's, once a line."""
    low, high = IC_RANGE_A
    strange: dict[tuple[Where, str, str], list[str]] = defaultdict(list)
    for p in parameters(circuit):
        where = circuit.where.get(p.name, NOWHERE)
        if not low <= p.ic_A <= high:
            fix = f"check its unit; {low:g} to {high:g} A are usual"
            strange[(where, f"critical current {p.ic_A:g} A", fix)].append(p.name)
        if p.beta_c > BETA_C_MAX:
            shunt = "no shunt found" if p.shunt_ohm is None else f"shunt {p.shunt_ohm:.4g} ohm"
            rule = f"beta_c is {p.beta_c:.3g} ({shunt}): it rings, or stays in the voltage state"
            fix = "shunt it with sqrt(Phi0/(2 pi Ic C)) ohm for beta_c = 1, if it is to make single pulses"
            strange[(where, rule, fix)].append(p.name)
    for (where, rule, fix), names in strange.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield Finding(where, names[0] + more, rule, fix)
