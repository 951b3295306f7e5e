"""Energy: counts x prices, term by term, with the interval, grade and source of each.

    energy[event] = sum over nodes of counts[event][node] * price[event]        low, typical and high alike
    total         = sum over charged events                                     None if one has no price

Intervals add as if every price were at its low, or at its high, together: the widest honest band.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hardware.events import ACTIVE, PART_OF, Counts, with_active
from hardware.prices import ALL_IN, PriceTable, load_prices
from hardware.tables import GRADES, VAGUE, Row, Source, worst

TRAFFIC = ("messages", "hops_ew", "hops_ns", "chip_messages", "payload_bytes")


class Span(NamedTuple):
    """``low <= typical <= high``, in the unit its name says."""

    low: float
    typical: float
    high: float

    def scaled(self, by: float | Span) -> Span:
        """Times a number >= 0, or bound by bound times a span."""
        low, typical, high = by if isinstance(by, Span) else (by, by, by)
        return Span(self.low * low, self.typical * typical, self.high * high)

    def plus(self, other: Span) -> Span:
        """Bound by bound."""
        return Span(self.low + other.low, self.typical + other.typical, self.high + other.high)


ZERO = Span(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Term:
    """One cause: ``energy_J = count * price_J``; ``nodes`` splits the count."""

    event: str
    nodes: Mapping[str, int]
    count: int
    price_J: Span
    energy_J: Span
    grade: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A named figure beside the total, never in it: ``energy_J`` None where the run has no time model."""

    name: str
    factor: Span
    unit: str
    energy_J: Span | None
    grade: str
    source: str
    note: str = ""


@dataclass(frozen=True)
class Bill:
    """What a run costs by one table. ``total_J``: None where an event is unpriced or none was charged.

    ``exempt``: event to the reason why it is free. ``uncounted``: events that the table prices and the run
    has not. ``seconds``: modelled time of the run, or None.
    """

    table: str
    version: int
    title: str
    scope: str
    terms: tuple[Term, ...]
    exempt: Mapping[str, str]
    unpriced: tuple[str, ...]
    uncounted: tuple[str, ...]
    total_J: Span | None
    separate: tuple[Line, ...]
    caveats: tuple[str, ...]
    sources: Mapping[str, Source]
    seconds: float | None = None

    @property
    def grade(self) -> str:
        """Of the worst term."""
        return worst([t.grade for t in self.terms])

    def statement(self) -> str:
        """The sentence that every figure of this bill is printed with."""
        return f"energy: counts x {self.table} v{self.version} [{self.grade}]; not a measurement of this chip"

    def no_total(self) -> str:
        """Why there is no total; empty where there is one."""
        if self.unpriced:
            return f"no total: unpriced {', '.join(self.unpriced)}"
        return "" if self.total_J else f"no total: the run counted nothing that {self.table} prices"

    def per_sample(self, samples: int) -> Span | None:
        """Total by sample, in J."""
        if samples < 1:
            raise ValueError(f"per_sample: samples must be >= 1, got {samples}")
        return None if self.total_J is None else self.total_J.scaled(1.0 / samples)

    def per_step(self, samples: int, steps: int) -> Span | None:
        """Total by sample and time step, in J."""
        return self.per_sample(samples * steps)

    @property
    def power_W(self) -> Span | None:
        """Total by modelled time, in W."""
        return None if self.total_J is None or not self.seconds else self.total_J.scaled(1.0 / self.seconds)

    def edp_Js(self, samples: int) -> Span | None:
        """Energy-delay product of one sample, in J s: its energy times its modelled time."""
        each = self.per_sample(samples)
        return None if each is None or self.seconds is None else each.scaled(self.seconds / samples)

    def figures(self, samples: int, steps: int) -> dict[str, Any]:
        """Energy by sample and step, time by sample, power, energy-delay product, as JSON data; None if unknown."""
        seconds = self.seconds
        return {
            "per_sample_J": self.per_sample(samples),
            "per_step_J": self.per_step(samples, steps),
            "latency_s": None if seconds is None else seconds / samples,
            "power_W": self.power_W,
            "edp_Js": self.edp_Js(samples),
        }

    def by_node(self) -> dict[str, Span]:
        """Energy in J of each node over its priced events; the nodes add up to the terms."""
        out: dict[str, Span] = {}
        for term in self.terms:
            for node, count in term.nodes.items():
                out[node] = out.get(node, ZERO).plus(term.price_J.scaled(count))
        return out

    def to_dict(self) -> dict[str, Any]:
        """JSON data; a span is ``[low, typical, high]``."""
        return dict(self.__dict__) | {
            "grade": self.grade,
            "terms": [dict(t.__dict__) | {"nodes": dict(t.nodes)} for t in self.terms],
            "separate": [dict(x.__dict__) for x in self.separate],
            "exempt": dict(self.exempt),
            "sources": {k: s.to_dict() for k, s in self.sources.items()},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Bill:
        """Inverse of :meth:`to_dict`. Errors: ``ValueError`` for data of another form."""
        try:
            rest = {k: v for k, v in data.items() if k != "grade"}
            rest["terms"] = tuple(Term(**_spans(t, "price_J", "energy_J")) for t in rest["terms"])
            rest["separate"] = tuple(Line(**_spans(x, "factor", "energy_J")) for x in rest["separate"])
            rest["sources"] = {k: Source(**s) for k, s in rest["sources"].items()}
            for key in ("unpriced", "uncounted", "caveats"):
                rest[key] = tuple(rest[key])
            return cls(**_spans(rest, "total_J"))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"bill: not one that this version wrote ({error}); price the run again") from None


def price(counts: Counts, table: str | Path | PriceTable, seconds: float | None = None, active: str = "state") -> Bill:
    """The bill for ``counts``. ``seconds``: modelled time of the run, for power and for lines that are powers.

    ``active``: which updates are charged as active where a table tells them apart, see :data:`ACTIVE`.
    Errors: ``PriceTableError`` for the table, ``ValueError`` for a count that is no integer >= 0, or not there.
    """
    prices = table if isinstance(table, PriceTable) else load_prices(table)
    counts = with_active(counts, active)
    totals = {event: _total(event, nodes) for event, nodes in counts.items()}
    charged = {e: row for e, row in prices.prices.items() if e in totals and not _replaced(row, totals)}
    terms = tuple(_term(row, counts[event]) for event, row in charged.items())
    exempt, unpriced = {}, []
    for event in sorted(set(totals) - set(charged)):
        reason = _reason(event, prices, totals)
        if reason:
            exempt[event] = reason
        elif totals[event]:  # none of it costs nothing at any price
            unpriced.append(event)
    total = None
    if terms and not unpriced:
        total = ZERO
        for term in terms:
            total = total.plus(term.energy_J)
    uncounted = tuple(
        e
        for e, row in prices.prices.items()
        if e not in totals and not row.data.get("optional") and not prices.instead(e) & totals.keys()
    )
    return Bill(
        prices.name,
        prices.version,
        prices.title,
        prices.scope,
        terms,
        exempt,
        tuple(unpriced),
        uncounted,
        total,
        tuple(_line(row, total, seconds) for row in prices.separate),
        (*prices.caveats, *_told_apart(charged, active), *_missing(uncounted)),
        prices.sources,
        seconds,
    )


def without_input(counts: Counts, node: str, events: Collection[str] = TRAFFIC) -> dict[str, dict[str, int]]:
    """A copy of ``counts`` without what the input ``node`` sends, where a host pays for that."""
    return {e: {n: k for n, k in by.items() if n != node or e not in events} for e, by in counts.items()}


def digits(grade: str) -> int:
    """Significant digits that a figure of this grade may be printed with: 2 for an estimate, else 4."""
    if grade not in GRADES:
        raise ValueError(f"grade '{grade}' is unknown; grades are {', '.join(GRADES)}")
    return 2 if grade in VAGUE else 4


def _total(event: str, nodes: Mapping[str, int]) -> int:
    for node, count in nodes.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise ValueError(f"counts['{event}']['{node}']: must be an integer >= 0, got {count!r}")
    return sum(nodes.values())


def _replaced(row: Row, totals: Mapping[str, int]) -> list[str]:
    return [e for e in row.data.get("unless", ()) if e in totals]


def _reason(event: str, prices: PriceTable, totals: Mapping[str, int]) -> str:
    """Why a counted event is free; empty where it is not."""
    if event in prices.prices:
        return f"charged as {' and '.join(_replaced(prices.prices[event], totals))}"
    found = prices.exempt.get(event)
    if found and (not found.within or found.within in totals):
        return found.reason
    if prices.scope == ALL_IN:
        return prices.scope_reason
    whole = PART_OF.get(event, "")
    return f"part of {whole}" if whole in totals else ""


def _term(row: Row, nodes: Mapping[str, int]) -> Term:
    count, each = sum(nodes.values()), Span(row.low, row.value, row.high)
    return Term(row.name, dict(nodes), count, each, each.scaled(count), row.grade, row.source, row.note)


def _line(row: Row, total: Span | None, seconds: float | None) -> Line:
    factor = Span(row.low, row.value, row.high)
    if row.unit == "W":
        energy = None if seconds is None else factor.scaled(seconds)
    else:
        energy = None if total is None else factor.scaled(total)
    return Line(row.name, factor, row.unit, energy, row.grade, row.source, row.note)


def _told_apart(charged: Mapping[str, Row], active: str) -> tuple[str, ...]:
    """What active means, where the bill charges active updates."""
    return (f"Active updates ('{active}'): {ACTIVE[active][1]}.",) if "neuron_updates_active" in charged else ()


def _missing(uncounted: tuple[str, ...]) -> tuple[str, ...]:
    if not uncounted:
        return ()
    return (f"The run does not count {', '.join(uncounted)}, which this table prices: the total leaves it out.",)


def _spans(data: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return dict(data) | {k: None if data[k] is None else Span(*map(float, data[k])) for k in keys}
