"""One block of a deck expanded once: its elements with numbers, its nodes numbered from its own pins.

A part is what every instance of a subcircuit with the same overrides shares; placing it again costs a copy of its names
and a renumbering of its nodes. Names grow outwards as in JoSIM: element ``B1`` of instance ``X1`` of ``XA1`` is
``B1|X1|XA1``; so do inner nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sim.sfq.errors import DeckError, Where

KINDS = "RLCBIVPTEFGHK"
MAX_ELEMENTS = 1_000_000


@dataclass(slots=True)
class Rows:
    """The elements of one kind: ``ends`` has ``width`` node numbers an element, one after another.

    ``values``: R L C a number, B (index of the model, start voltage, start phase), sources a shape, T (z0, td), E F G H
    a gain, K (index of an inductor, of another, k) without nodes.
    """

    width: int
    names: list[str] = field(default_factory=list)
    where: list[Where] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)


@dataclass(slots=True)
class Fill:
    """A value of temperature, bandwidth or spread for the elements ``start`` to ``stop`` of a kind."""

    what: str
    kind: str
    start: int
    stop: int
    value: float


@dataclass
class Part:
    """A block's elements. Node 0 is ground, then come the pins, then inner nodes; ``used`` are the pins in use.

    ``fills`` hold from the inside outwards: an earlier one wins.
    """

    pins: tuple[str, ...]
    nodes: list[str] = field(default_factory=list)
    number: dict[str, int] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    rows: dict[str, Rows] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)
    instances: list[tuple[str, Where]] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.nodes = ["0", *self.pins]
        self.number = {name: k for k, name in enumerate(self.pins, start=1)}

    def node(self, name: str) -> int:
        """The number of a node, a new one if need be."""
        k = self.number.get(name)
        if k is None:
            k = self.number[name] = len(self.nodes)
            self.nodes.append(name)
        elif k <= len(self.pins):
            self.used.add(k)
        return k

    def of(self, kind: str, width: int = 2) -> Rows:
        """The rows of a kind."""
        rows = self.rows.get(kind)
        if rows is None:
            rows = self.rows[kind] = Rows(width)
        return rows

    def add(self, kind: str, name: str, where: Where, ends: list[int], value: Any) -> int:
        """Add one element and return its number among its kind. Raises DeckError for a name that is taken."""
        rows = self.of(kind, len(ends))
        rows.names.append(name)
        rows.where.append(where)
        rows.ends += ends
        rows.values.append(value)
        self.count += 1
        return len(rows.names) - 1

    def place(self, part: Part, label: str, outer: list[int], where: Where) -> None:
        """Add an instance of ``part`` with its pins on these nodes."""
        suffix = "|" + label
        first, pins = len(self.nodes), len(part.pins)
        to = [0, *outer, *range(first, first + len(part.nodes) - 1 - pins)]
        inner = [n + suffix for n in part.nodes[1 + pins :]]
        if not self.number.keys().isdisjoint(inner):
            taken = next(n for n in inner if n in self.number)
            raise DeckError(where, label, f"its inner node {taken} is also named outside", "rename the outer node")
        self.nodes += inner
        self.number.update(zip(inner, range(first, first + len(inner)), strict=True))
        self.count += part.count
        if self.count > MAX_ELEMENTS:
            raise DeckError(where, label, f"more than {MAX_ELEMENTS} elements", "a subcircuit must not contain itself")
        for fill in part.fills:
            at = len(self.rows[fill.kind].names) if fill.kind in self.rows else 0
            self.fills.append(Fill(fill.what, fill.kind, fill.start + at, fill.stop + at, fill.value))
        inductors = len(self.rows["L"].names) if "L" in self.rows else 0
        for kind, rows in part.rows.items():
            mine = self.of(kind, rows.width)
            mine.names += [n + suffix for n in rows.names]
            mine.where += rows.where
            if kind == "K":
                mine.values += [(a + inductors, b + inductors, k) for a, b, k in rows.values]
            else:
                mine.ends += [to[e] for e in rows.ends]
                mine.values += rows.values
        self.instances += [(n + suffix, w) for n, w in part.instances]
        self.instances.append((label, where))
