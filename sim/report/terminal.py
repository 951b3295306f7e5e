"""The report in a terminal: first line, one row a machine, causes, losses, caveats."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hardware.energy import Bill
from sim.report import view
from sim.report.build import Report
from sim.report.units import clean


def show(report: Report, console: Console | None = None) -> None:
    """Print ``report``; every figure beside its table and grade. Text from files is printed, never interpreted."""
    console = console or Console()
    _line(console, report.title, "bold")
    _line(console, report.first_line, "dim")
    titles = view.titles(report)
    console.print(_summary(report, titles))
    for k, (m, title) in enumerate(zip(report.machines, titles, strict=True)):
        bill = report.bill(k)
        if bill is None:
            continue
        console.print(_causes(m, title, bill))
        if bill.total_J is None:
            _line(console, f"{title}: {bill.no_total()}", "yellow")
        for text in view.figures(m, bill):
            _line(console, f"{title}: {text}", "")
        for line, text in view.lines(m, bill):
            _line(console, f"{title}: {line.name}: {text} [{line.grade}], not in the total", "")
    for k, title in enumerate(titles):
        _sfq(console, report, k, title)
    for m, title in zip(report.machines, titles, strict=True):
        for node, what, size in view.losses(m):
            _line(console, f"{title}: lost at {node}: {what}: {size}", "")
    for table, _users, texts in view.caveats(report):
        for text in texts:
            _line(console, f"{table}: {text}", "dim")


def _summary(report: Report, titles: list[str]) -> Table:
    table = _table("per inference", "accuracy", "spikes equal", "energy", "range", "latency")
    for k, (m, title) in enumerate(zip(report.machines, titles, strict=True)):
        s = view.summary(m, report.bill(k))
        _row(table, title, s["accuracy"], s["equal"], s["energy"], s["band"], s["latency"])
    return table


def _causes(m: view.Machine, title: str, bill: Bill) -> Table:
    table = _table("per inference", "count", "price", "energy", "share", "grade", title=f"{title}: {bill.table}")
    for c in view.causes(m, bill):
        _row(table, c.event, c.count, c.price, c.energy, c.share, c.grade)
    return table


def _sfq(console: Console, report: Report, k: int, title: str) -> None:
    found = report.sfq(k)
    if found is None:
        return
    heads = ("energy", "at 4.2 K", "per slip", "per synaptic event", "per output spike", "at the wall", "grade")
    table = _table(*heads, title=f"{title}: SFQ, per inference")
    for r in view.sfq_table(found):
        keys = ("name", "energy", "slips", "synaptic_events", "output_spikes", "wall", "grade")
        _row(table, *(r[key] for key in keys))
    console.print(table)
    for text in view.sfq_facts(found):
        _line(console, f"{title}: {text}", "")


def _table(*columns: str, title: str = "") -> Table:
    table = Table(title=Text(clean(title)) if title else None, title_justify="left", box=None, pad_edge=False)
    for k, column in enumerate(columns):
        table.add_column(column, justify="left" if k == 0 or column == "grade" else "right")
    return table


def _row(table: Table, *cells: object) -> None:
    table.add_row(*(Text(clean(c)) for c in cells))


def _line(console: Console, text: str, style: str) -> None:
    console.print(Text(clean(text), style=style), soft_wrap=True)
