"""What the terminal and the page say, as text: one place decides how many digits a figure may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hardware.energy import Bill, Line, Span, Term, digits
from hardware.sfq_energy import SfqEnergy
from sim.report.build import Report
from sim.report.units import event, fraction, given, share, si, span, whole

Machine = Mapping[str, Any]
FRACTIONS = ("accuracy", "rate")


@dataclass(frozen=True)
class Energy:
    """A total by inference as text: ``typical``, ``band`` (empty without one), or ``why`` there is none."""

    typical: str
    band: str
    why: str
    table: str
    grade: str


@dataclass(frozen=True)
class Cause:
    """A term of a bill as text, with what the charts need of it."""

    event: str
    key: str
    count: str
    price: str
    energy: str
    band: str
    share: str
    part: float
    grade: str
    source: str
    note: str
    span_J: Span


def energy(m: Machine, bill: Bill | None) -> Energy:
    """Energy by inference (one sample) of a machine."""
    if bill is None:
        return Energy("–", "", "no price table for this machine", "", "")
    each, d = bill.per_sample(m["samples"]), digits(bill.grade)
    if each is None:
        return Energy("–", "", bill.no_total(), bill.table, bill.grade)
    return Energy(si(each.typical, "J", d), span(each, "J", d), "", bill.table, bill.grade)


def lines(m: Machine, bill: Bill | None) -> list[tuple[Line, str]]:
    """Each separate line with its text by inference: figures beside the total, never in it."""
    out = []
    for line in bill.separate if bill else ():
        d = min(digits(line.grade), digits(bill.grade) if bill and line.unit == "W/W" else 4)
        factor = given(line.factor.typical, line.unit, digits(line.grade))
        if line.energy_J is None:
            text = f"{factor}; no figure without {'a total' if line.unit == 'W/W' else 'a time model'}"
        else:
            each = line.energy_J.scaled(1.0 / m["samples"])
            band = span(each, "J", d)
            text = f"{si(each.typical, 'J', d)}{f' ({band})' if band else ''} at {factor}"
        out.append((line, text))
    return out


def figures(m: Machine, bill: Bill | None) -> list[str]:
    """Average power and energy-delay product, where there is a time model and a total."""
    if bill is None:
        return []
    d, power, edp = digits(bill.grade), bill.power_W, bill.edp_Js(m["samples"])
    if power is None or edp is None:
        return []
    return [
        f"power {si(power.typical, 'W', d)} over the modelled time",
        f"energy-delay product {si(edp.typical, 'J s', d)} per inference",
    ]


def causes(m: Machine, bill: Bill | None) -> list[Cause]:
    """Terms by inference, dearest first, without those that did not happen."""
    terms = [t for t in bill.terms if t.count] if bill else []
    total = sum(t.energy_J.typical for t in terms)
    return [_cause(t, m["samples"], total) for t in sorted(terms, key=lambda t: -t.energy_J.typical)]


def _cause(t: Term, samples: int, total: float) -> Cause:
    d, each = digits(t.grade), t.energy_J.scaled(1.0 / samples)
    band = span(t.price_J, "J", d, given)
    return Cause(
        event=event(t.event),
        key=t.event,
        count=_average(t.count, samples),
        price=f"{given(t.price_J.typical, 'J', d)}{f' ({band})' if band else ''}",
        energy=si(each.typical, "J", d),
        band=span(each, "J", d),
        share=share(t.energy_J.typical, total),
        part=t.energy_J.typical / total if total else 0.0,
        grade=t.grade,
        source=t.source,
        note=t.note,
        span_J=each,
    )


def titles(report: Report) -> list[str]:
    """A title for each machine; with its group where there are several."""
    several = len({m["group"] for m in report.machines}) > 1
    return [f"{m['title']}, {m['group']}" if several and m["group"] else str(m["title"]) for m in report.machines]


def agreement(machines: Sequence[Machine]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows, one row for each machine that was compared with something."""
    found = [m for m in machines if m["agreement"].keys() - {"accuracy"}]
    heads = list(dict.fromkeys(k for m in found for k in m["agreement"]))
    rows = [[str(m["title"]), *(figure(k, m["agreement"].get(k)) for k in heads)] for m in found]
    return ["machine", *heads], rows


def figure(name: str, value: Any) -> str:
    """A value of an agreement: ``[n, of]`` with its share, fractions in percent, other numbers with four digits."""
    if isinstance(value, list) and len(value) == 2:
        n, of = value
        return f"{whole(n)} of {whole(of)}" + ("" if n == of or not of else f" ({fraction(n / of)})")
    if isinstance(value, bool) or value is None:
        return "–" if value is None else str(value)
    if isinstance(value, int | float):
        return fraction(value) if name.startswith(FRACTIONS) else f"{value:.4g}"
    return str(value)


def summary(m: Machine, bill: Bill | None) -> dict[str, str]:
    """The row of a machine in the first table."""
    e = energy(m, bill)
    a = m["agreement"]
    latency = None if m["machine_s"] is None else m["machine_s"] / m["samples"]
    return {
        "accuracy": figure("accuracy", a.get("accuracy")),
        "spikes equal": figure("", a.get("spikes equal")),
        "equal": _part(a.get("spikes equal")),
        "reference": str(a.get("reference", "")),
        "energy": e.typical,
        "band": e.band,
        "why": e.why,
        "table": e.table,
        "grade": e.grade,
        "latency": si(latency, "s", 3),
        "wall": si(m["wall_s"] / m["samples"], "s", 3),
        "size": f"{whole(m['samples'])} × {whole(m['steps'])}",
    }


def usage(m: Machine) -> list[tuple[str, str, float]]:
    """``(resource, "used of max", share)``, fullest first."""
    pairs = [(k, int(used), int(most)) for k, (used, most) in m["program"].get("usage", {}).items()]
    rows = [(k, f"{whole(used)} of {whole(most)}", used / most if most else 0.0) for k, used, most in pairs]
    return sorted(rows, key=lambda r: -r[2])


def layer_table(m: Machine, bill: Bill | None) -> list[dict[str, str]]:
    """Rows of the layers as text; energy and events by inference."""
    n = m["samples"]
    d = digits(bill.grade) if bill else 3
    total = sum(r["energy_J"][1] for r in m["layers"] if r.get("energy_J"))
    out = []
    for r in m["layers"]:
        joule = r.get("energy_J")
        out.append(
            {
                "name": str(r["name"]),
                "kind": str(r.get("kind", "")),
                "shape": " × ".join(map(str, r.get("shape", ()))),
                "neurons": whole(r.get("neurons") or None),
                "synapses": whole(r.get("synapses") or None),
                "spikes": "–" if r.get("spikes") is None else _average(r["spikes"], n),
                "rate": "–" if r.get("rate") is None else f"{r['rate']:.3f}",
                "events": "–" if r.get("events") is None else _average(r["events"], n),
                "energy": si(joule[1] / n, "J", d) if joule else "–",
                "share": share(joule[1], total) if joule else "–",
            }
        )
    return out


def sfq_table(e: SfqEnergy) -> list[dict[str, str]]:
    """Each figure at 4.2 K by inference, slip, synaptic event and output spike, and by inference at the wall."""
    out = []
    for f in e.figures:
        d, each = digits(f.grade), f.energy_J.scaled(1.0 / e.samples)
        wall = None if f.wall_J is None else f.wall_J.scaled(1.0 / e.samples)
        per = {what: e.per(f.key, what) for what in ("slips", "synaptic_events", "output_spikes")}
        out.append(
            {"name": f.name, "note": f.note, "grade": f.grade, "energy": si(each.typical, "J", d)}
            | {"band": span(each, "J", d), "wall": "–" if wall is None else si(wall.typical, "J", min(d, 2))}
            | {"wall_band": "" if wall is None else span(wall, "J", min(d, 2))}
            | {what: "–" if x is None else si(x.typical, "J", d) for what, x in per.items()}
        )
    return out


def sfq_nodes(e: SfqEnergy) -> list[list[str]]:
    """``[layer, slips, synaptic events, static, switching, static share, ERSFQ]``, by inference at 4.2 K."""
    out = []
    for n in e.nodes:
        parts = [x.typical / e.samples for x in (n.static_J, n.switching_J, n.ersfq_J)]
        counts = [_average(k, e.samples) for k in (n.slips, n.synaptic_events)]
        static, switching, ersfq = (si(x, "J", 2) for x in parts)
        out.append([n.node, *counts, static, switching, share(parts[0], parts[0] + parts[1]), ersfq])
    return out


def sfq_facts(e: SfqEnergy) -> list[str]:
    """Counts, static share, cooling and overhead in a line each."""
    counts = ((e.slips, "slips"), (e.synaptic_events, "synaptic events"), (e.output_spikes, "output spikes"))
    return [
        "by inference: " + ", ".join(f"{_average(n, e.samples)} {what}" for n, what in counts),
        *([] if e.static_share is None else [f"static share of RSFQ: {share(e.static_share, 1.0)}"]),
        f"at the wall: {_factor(e.cooling)} W/W, unverified; ERSFQ overhead {_factor(e.overhead)}",
    ]


def _factor(x: Span) -> str:
    return f"{x.typical:g}" if x.low == x.high else f"{x.typical:g} ({x.low:g} to {x.high:g})"


def losses(m: Machine) -> list[tuple[str, str, str]]:
    """``(node, what, size)`` of what the conversion changed."""
    return [(str(n), str(w), f"{float(s):.4g}") for n, w, s in m["program"].get("losses", [])]


def caveats(report: Report) -> list[tuple[str, str, tuple[str, ...]]]:
    """``(table, titles of its machines, sentences)`` for each price table once."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for k, title in enumerate(titles(report)):
        bill = report.bill(k)
        if bill is not None:
            found.setdefault((bill.table, bill.caveats), []).append(title)
    return [(table, ", ".join(users), texts) for (table, texts), users in found.items()]


def _part(pair: Any) -> str:
    """``[n, of]`` as a percentage alone."""
    return fraction(pair[0] / pair[1]) if isinstance(pair, list) and len(pair) == 2 and pair[1] else "–"


def _average(count: int, samples: int) -> str:
    each = count / samples
    return whole(each) if each >= 100 or each == int(each) else f"{each:.1f}"
