"""The report as one HTML file that loads nothing: styles and drawings are inside, no script, no font, no address.

What comes from files (names, titles, notes) is escaped by jinja2 in the template and by :mod:`sim.report.svg`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from hardware.energy import Bill
from hardware.tables import Source
from sim.report import svg, view
from sim.report.build import Report
from sim.report.units import EVENTS, si, whole

DOI = re.compile(r"10\.\d{4,9}/[-._;()/:A-Za-z0-9]+")
PALETTE = 8
CELL_W = 190.0


def page(report: Report) -> str:
    """The whole page as text."""
    bills = [report.bill(k) for k in range(len(report.machines))]
    sources = _sources(bills)
    titles = view.titles(report)
    machines = [_machine(*each, sources) for each in zip(report.machines, titles, bills, strict=True)]
    for k, m in enumerate(machines):
        m["sfq"] = _sfq(report, k)
    return _template().render(
        report=report,
        machines=machines,
        groups=_groups(report, bills),
        caveats=view.caveats(report),
        sources=[(n, s.cite(), s.doi if DOI.fullmatch(s.doi) else "") for s, n in sources.values()],
        network_layers=[] if report.network is None else report.network["layers"],
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["whole"] = whole
    return environment.get_template("template.html.j2")


def _groups(report: Report, bills: list[Bill | None]) -> list[dict[str, Any]]:
    """Machines that ran one network on one input, with the chart that sets them side by side."""
    out = []
    pairs = list(zip(report.machines, bills, strict=True))
    for name in dict.fromkeys(str(m["group"]) for m in report.machines):
        rows = [(m, bill) for m, bill in pairs if m["group"] == name]
        bars = [bar for m, bill in rows for bar in _bars(m, bill)]
        out.append(
            {
                "name": name,
                "rows": [(m["title"], view.summary(m, bill), view.lines(m, bill)) for m, bill in rows],
                "chart": svg.ranges(bars) if any(b.value for b in bars) else None,
                "rasters": _rasters([m for m, _ in rows]),
                "agreement": view.agreement([m for m, _ in rows]),
            }
        )
    return out


def _rasters(machines: list[view.Machine]) -> list[tuple[str, list[tuple[str, dict[str, Any], Any]]]]:
    """By node, so that the machines of a group stand side by side: ``(node, [(title, raster, drawing)])``."""
    found: dict[str, list[tuple[str, dict[str, Any], Any]]] = {}
    for m in machines:
        for r in m["rasters"]:
            rows = -(-int(r["neurons"]) // int(r["every"]))
            drawing = svg.raster(r["events"], rows, int(r["steps"]))
            found.setdefault(str(r["node"]), []).append((str(m["title"]), r, drawing))
    return list(found.items())


def _bars(m: view.Machine, bill: Bill | None) -> list[svg.Bar]:
    if bill is None:
        return []
    e = view.energy(m, bill)
    bars = [svg.Bar(str(m["title"]), f"{bill.table} [{bill.grade}]", bill.per_sample(m["samples"]), e.why or e.typical)]
    for line, text in view.lines(m, bill):
        if line.energy_J is not None and line.unit == "W/W":
            each = line.energy_J.scaled(1.0 / m["samples"])
            bars.append(
                svg.Bar(f"{m['title']}, with cooling", f"{line.name} [{line.grade}]", each, text.split(" (")[0], True)
            )
    return bars


def _machine(m: view.Machine, title: str, bill: Bill | None, sources: dict[str, tuple[Source, int]]) -> dict[str, Any]:
    causes = view.causes(m, bill)
    scale = svg.axis([c.span_J for c in causes], 6.0, CELL_W)
    return {
        "title": title,
        "data": m,
        "bill": bill,
        "energy": view.energy(m, bill),
        "lines": [(line, text, _number(sources, bill, line.source)) for line, text in view.lines(m, bill)],
        "figures": view.figures(m, bill),
        "causes": [
            (c, _colour(c.key), svg.cell(c.span_J, scale, _colour(c.key)), _number(sources, bill, c.source))
            for c in causes
        ],
        "cause_axis": svg.cell_axis(scale) if causes else "",
        "shares": svg.shares([(c.event, c.part, _colour(c.key)) for c in causes]),
        "usage": view.usage(m),
        "layers": view.layer_table(m, bill),
        "losses": view.losses(m),
        "waveforms": [(w["name"], svg.waveform(w["time_s"], w["values"], w["unit"])) for w in m["waveforms"]],
        "pulses": _pulses(m.get("pulses")),
        "dt": si(m["dt_s"], "s", 3),
    }


def _pulses(found: dict[str, Any] | None) -> dict[str, Any] | None:
    if not found:
        return None
    counts = {s: sum(r[2] == s for r in found["rows"]) for s in (1, -1)}
    drawing = svg.pulses(found["junctions"], found["rows"], found["stop_s"])
    return {"drawing": drawing, "up": counts[1], "down": counts[-1], "more": found["more"]}


def _sfq(report: Report, k: int) -> dict[str, Any] | None:
    found = report.sfq(k)
    if found is None:
        return None
    return {"rows": view.sfq_table(found), "nodes": view.sfq_nodes(found), "facts": view.sfq_facts(found)}


def _colour(event: str) -> int:
    """The same event has the same colour in every machine."""
    names = list(EVENTS)
    return (names.index(event) if event in names else len(names)) % PALETTE


def _sources(bills: list[Bill | None]) -> dict[str, tuple[Source, int]]:
    """Citation to source and number, in order of appearance."""
    cited: dict[str, tuple[Source, int]] = {}
    for bill in bills:
        for source in bill.sources.values() if bill else ():
            cited.setdefault(source.cite(), (source, len(cited) + 1))
    return cited


def _number(sources: dict[str, tuple[Source, int]], bill: Bill | None, key: str) -> int:
    return sources[bill.sources[key].cite()][1] if bill and key in bill.sources else 0
