"""What an SFQ run costs: per slip, static, RSFQ and ERSFQ, at 4.2 K and at the wall.

    E_ic   = sum over slips of Ic Phi0                     the usual upper estimate
    E_bias = work of the bias sources = sum I_b Phi0       of a simulation at junction level, exact
    E_sim  = heat in shunts and junctions                  of the same simulation
    static = V_b sum I_b t                                 resistive bias: drawn whether anything switches or not
    RSFQ   = static + E_ic
    ERSFQ  = E_bias (E_ic where nothing was simulated) times the overhead 1..2 of the limiting junctions
    pinned = sum I_b Phi0 f t                              ERSFQ whose bias line stands at f Phi0, whatever switches
    wall   = cooling times any of these

Everything in J for the whole run; ``Span`` is low, typical, high. Source: docs/sfq.md 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hardware.energy import Span
from hardware.events import Counts
from hardware.prices import PriceTable, load_prices
from hardware.tables import Row, Table, load_table, worst

CONSTANTS = "sfq_energy"
SLIPS, STATIC = "slip_ic_nA", "bias_charge_nA_ps"
COUNTED = (SLIPS, STATIC)
"""A run that counts these is an SFQ run, at junction or at pulse level."""


@dataclass(frozen=True)
class Simulated:
    """Energies of a junction-level run, in J, summed over its samples."""

    bias_J: float
    heat_J: float


@dataclass(frozen=True)
class Figure:
    """One energy of the whole run at 4.2 K: ``wall_J`` is it at room temperature, None for what is no power drawn."""

    key: str
    name: str
    energy_J: Span
    wall_J: Span | None
    grade: str
    note: str = ""


@dataclass(frozen=True)
class NodeEnergy:
    """A layer's part in J at 4.2 K over the whole run: RSFQ static and switching, and ERSFQ by its share of Ic Phi0."""

    node: str
    slips: int
    synaptic_events: int
    static_J: Span
    switching_J: Span
    ersfq_J: Span


@dataclass(frozen=True)
class SfqEnergy:
    """All figures of a run; ``slips``, ``synaptic_events``, ``output_spikes`` and ``samples`` are what to divide by."""

    figures: tuple[Figure, ...]
    nodes: tuple[NodeEnergy, ...]
    slips: int
    synaptic_events: int
    output_spikes: int
    samples: int
    cooling: Span
    overhead: Span
    static_share: float | None

    def figure(self, key: str) -> Figure:
        """By its key: ic, bias, heat, static, rsfq, ersfq, pinned. Errors: ``ValueError`` for one that is not there."""
        found = next((f for f in self.figures if f.key == key), None)
        if found is None:
            raise ValueError(f"no figure '{key}' in this run; there are {', '.join(f.key for f in self.figures)}")
        return found

    def per(self, key: str, what: str) -> Span | None:
        """A figure at 4.2 K by ``samples``, ``synaptic_events``, ``output_spikes`` or ``slips``; None for 0 of them."""
        count = int(getattr(self, what))
        return self.figure(key).energy_J.scaled(1.0 / count) if count else None

    def to_dict(self) -> dict[str, Any]:
        """JSON data; a span is ``[low, typical, high]``."""
        out: dict[str, Any] = dict(self.__dict__)
        out["figures"] = [dict(f.__dict__) for f in self.figures]
        out["nodes"] = [dict(n.__dict__) for n in self.nodes]
        return out

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SfqEnergy:
        """Inverse of :meth:`to_dict`. Errors: ``ValueError`` for data of another form."""
        try:
            rest = dict(data)
            rest["figures"] = tuple(Figure(**_spans(f, "energy_J", "wall_J")) for f in rest["figures"])
            nodes = rest["nodes"]
            rest["nodes"] = tuple(NodeEnergy(**_spans(n, "static_J", "switching_J", "ersfq_J")) for n in nodes)
            return cls(**_spans(rest, "cooling", "overhead"))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"SFQ energy: not one that this version wrote ({error}); make the report again") from None


def is_sfq(counts: Counts) -> bool:
    """Whether a run counted what these figures need."""
    return all(event in counts for event in COUNTED)


def sfq_energy(
    counts: Counts,
    *,
    samples: int,
    output_spikes: int,
    simulated: Simulated | None = None,
    step_s: float | None = None,
    cooling: Span | None = None,
    overhead: Span | None = None,
) -> SfqEnergy:
    """The figures of a run. ``step_s``: time between pulses at the highest rate, 1/f of a pinned bias line.

    ``cooling`` (W/W) and ``overhead`` replace those of ``hardware/profiles/sfq_energy.toml``.
    Errors: ``ValueError`` for counts of another machine, for cooling below Carnot's limit, overhead outside 1..2.
    """
    if not is_sfq(counts) or samples < 1:
        raise ValueError(
            f"SFQ energy needs counts of {' and '.join(COUNTED)} and a sample; this is a run of another kind"
        )
    table, rsfq, ersfq = load_table(CONSTANTS), load_prices("sfq_rsfq"), load_prices("sfq_ersfq")
    cooling, overhead = cooling_of(table, cooling), overhead_of(table, overhead)
    made = _Maker(table, rsfq, ersfq, cooling, overhead, simulated)
    figures = made.figures(counts, step_s)
    static, total = figures["static"].energy_J.typical, figures["rsfq"].energy_J.typical
    return SfqEnergy(
        tuple(figures.values()),
        made.nodes(counts),
        _total(counts, "junction_switchings"),
        _total(counts, "synaptic_events"),
        output_spikes,
        samples,
        cooling,
        overhead,
        static / total if total else None,
    )


def cooling_of(table: Table, given: Span | None) -> Span:
    """Watts at the wall per watt at 4.2 K. Errors: ``ValueError`` below Carnot's limit."""
    row, carnot = table.row("cooling_W_per_W"), table.value("carnot_W_per_W")
    found = Span(row.low, row.value, row.high) if given is None else given
    if not carnot <= found.low <= found.typical <= found.high:
        raise ValueError(f"cooling {tuple(found)}: must rise and be {carnot:g} W/W or more, Carnot's limit at 4.2 K")
    return found


def overhead_of(table: Table, given: Span | None) -> Span:
    """Factor of ERSFQ. Errors: ``ValueError`` outside the table's range."""
    row = table.row("ersfq_overhead")
    found = Span(row.low, row.value, row.high) if given is None else given
    if not row.low <= found.low <= found.typical <= found.high <= row.high:
        raise ValueError(f"ERSFQ overhead {tuple(found)}: must rise and be within {row.low:g} to {row.high:g}")
    return found


def configured(prices: PriceTable, cooling: Span | None, overhead: Span | None) -> PriceTable:
    """An SFQ price table with another cooling factor, and for ERSFQ another overhead; graded as a user's own.

    Errors: ``ValueError`` as :func:`cooling_of` and :func:`overhead_of`.
    """
    table = load_table(CONSTANTS)
    if cooling is not None:
        cooling = cooling_of(table, cooling)
        changed = [_given(r, cooling) if r.unit == "W/W" else r for r in prices.separate]
        prices = replace(prices, separate=tuple(changed))
    if overhead is not None and STATIC in prices.exempt:
        overhead, row = overhead_of(table, overhead), prices.prices[SLIPS]
        slip = Span(row.low, row.value, row.value).scaled(overhead)
        prices = replace(prices, prices={**prices.prices, SLIPS: _given(row, slip)})
    return prices


def _given(row: Row, span: Span) -> Row:
    note = "as given by the user"
    return replace(
        row, value=span.typical, low=span.low, high=span.high, grade=worst([row.grade, "estimate"]), note=note
    )


@dataclass(frozen=True)
class _Maker:
    table: Table
    rsfq: PriceTable
    ersfq: PriceTable
    cooling: Span
    overhead: Span
    simulated: Simulated | None

    def figures(self, counts: Counts, step_s: float | None) -> dict[str, Figure]:
        slip, bias = self.rsfq.prices[SLIPS], self.rsfq.prices[STATIC]
        weighted, charge = _total(counts, SLIPS), _total(counts, STATIC)
        ic, static = _priced(slip, weighted), _priced(bias, charge)
        out = [self._drawn("ic", "slips, Ic Phi0", Span(*3 * [ic.typical]), slip.grade, "upper estimate of switching")]
        if self.simulated is not None:
            work, heat = (Span(*3 * [x]) for x in (self.simulated.bias_J, self.simulated.heat_J))
            out.append(self._drawn("bias", "slips, work of the bias", work, "simulated", "sum of I_b Phi0, exact"))
            out.append(
                Figure(
                    "heat",
                    "heat in the circuit",
                    heat,
                    None,
                    "simulated",
                    "shunts and junctions; the input pulses' work is in it",
                )
            )
        out.append(self._drawn("static", "RSFQ, static", static, bias.grade, bias.note))
        both = worst([slip.grade, bias.grade])
        out.append(self._drawn("rsfq", "RSFQ, static and slips", static.plus(ic), both, self.rsfq.title))
        out.append(
            self._drawn("ersfq", "ERSFQ", self._ersfq(weighted), self._grade(), "work of the bias times overhead")
        )
        if step_s:
            quantum = self.table.value("flux_quantum_Wb")
            pinned = self.overhead.scaled(charge * 1e-21 * quantum / step_s)
            note = f"bias line at f Phi0, f = {1e-9 / step_s:.3g} GHz, drawn whatever switches"
            out.append(self._drawn("pinned", "ERSFQ, line at f Phi0", pinned, self._grade(), note))
        return {f.key: f for f in out}

    def nodes(self, counts: Counts) -> tuple[NodeEnergy, ...]:
        slip, bias = self.rsfq.prices[SLIPS], self.rsfq.prices[STATIC]
        whole = _total(counts, SLIPS)
        ersfq = self._ersfq(whole)
        out = []
        for node in dict.fromkeys([*counts[SLIPS], *counts[STATIC]]):
            weighted = counts[SLIPS].get(node, 0)
            out.append(
                NodeEnergy(
                    node,
                    counts.get("junction_switchings", {}).get(node, 0),
                    counts.get("synaptic_events", {}).get(node, 0),
                    _priced(bias, counts[STATIC].get(node, 0)),
                    _priced(slip, weighted),
                    ersfq.scaled(weighted / whole if whole else 0.0),
                )
            )
        return tuple(out)

    def _ersfq(self, weighted: int) -> Span:
        if self.simulated is not None:
            return self.overhead.scaled(self.simulated.bias_J)
        return _slips(self.ersfq, weighted).scaled(self.overhead)

    def _grade(self) -> str:
        return worst([self.table.row("ersfq_overhead").grade, self.ersfq.prices[SLIPS].grade])

    def _drawn(self, key: str, name: str, energy: Span, grade: str, note: str) -> Figure:
        return Figure(key, name, energy, energy.scaled(self.cooling), grade, note)


def _priced(row: Row, count: int) -> Span:
    return Span(row.low, row.value, row.high).scaled(count)


def _slips(ersfq: PriceTable, weighted: int) -> Span:
    """Switching without the overhead, which the table's high price holds already."""
    row = ersfq.prices[SLIPS]
    return Span(row.low, row.value, row.value).scaled(weighted)


def _total(counts: Counts, event: str) -> int:
    return sum(counts.get(event, {}).values())


def _spans(data: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return dict(data) | {k: None if data[k] is None else Span(*map(float, data[k])) for k in keys}
