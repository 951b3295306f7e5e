"""Price tables: what one event costs on one machine, ``hardware/profiles/price_*.toml``.

A price table is a :mod:`hardware.tables` file whose rows are events in joules. Beside title and version:

    scope = "per-term"     # or "all-in" with scope_reason: the prices hold the whole chip
    caveats = ["..."]      # printed wherever a total is
    warning = "..."        # optional; printed first

    [[row]]                # see hardware.tables; unit "J"
    event = "neuron_updates"
    unless = ["..."]       # optional: not charged where one of these is counted, which say the same in detail
    optional = true        # optional: a run without this event is complete

    [[exempt]]             # counted, and free
    event = "acs"
    reason = "a dense runtime executes them among its macs"
    within = "macs"        # optional: free only where that event is counted and charged

    [[separate]]           # a line of its own, outside the total: "W/W" times the total, "W" times run time
    name = "wall plug with refrigerator"

    [scaled]               # instead of rows: another table times a factor with its interval
    base = "loihi1_davies2018"
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hardware.tables import Row, Source, Table, TableError, load_table, read_row, worst

ALL_IN = "all-in"
SCOPES = ("per-term", ALL_IN)


class PriceTableError(TableError):
    """A price table that cannot be used: names the file, the row and the fix."""


@dataclass(frozen=True)
class Exemption:
    """A counted event that costs nothing of its own; ``within``: the event that holds its cost, or empty."""

    event: str
    reason: str
    within: str = ""


@dataclass(frozen=True)
class PriceTable:
    """Prices in J by event, exemptions by event, separate lines, and what must be printed with a total."""

    name: str
    title: str
    version: int
    scope: str
    scope_reason: str
    prices: Mapping[str, Row]
    exempt: Mapping[str, Exemption]
    separate: tuple[Row, ...]
    caveats: tuple[str, ...]
    sources: Mapping[str, Source]

    def instead(self, event: str) -> set[str]:
        """Events that say the same as ``event`` in more or less detail: at most one side is charged."""
        others = {e for e, row in self.prices.items() if event in row.data.get("unless", ())}
        return others | set(self.prices[event].data.get("unless", ()))


def load_prices(name: str | Path) -> PriceTable:
    """A price table by name (``loihi1_davies2018``) or path. Errors: :class:`PriceTableError`."""
    try:
        table = load_table(name)
        return scaled(table) if "scaled" in table.data else _priced(table)
    except PriceTableError:
        raise
    except TableError as error:
        raise PriceTableError(str(error)) from None


def scaled(table: Table, factor: Row | None = None) -> PriceTable:
    """The ``base`` of a ``[scaled]`` table times ``factor`` (default: the file's), intervals multiplied.

    The grade of every price is the worse of the two.
    """
    section = table.data.get("scaled")
    if not isinstance(section, dict) or not isinstance(section.get("base"), str):
        raise PriceTableError(f'{table.path.name}: [scaled] needs base = "<table>" and the keys of a row')
    row = factor or read_row({k: v for k, v in section.items() if k != "base"}, table.sources, table.path.name)
    if row.low <= 0 or row.unit != "1":
        raise PriceTableError(f"{table.path.name}: row '{row.name}': a factor is > 0 with unit \"1\"")
    base = load_prices(section["base"])
    prices = {
        event: replace(
            p,
            value=p.value * row.value,
            low=p.low * row.low,
            high=p.high * row.high,
            grade=worst([p.grade, row.grade]),
            note=f"{base.name} {p.value:.3g} J x {row.value:g} ({row.low:g} to {row.high:g})",
        )
        for event, p in base.prices.items()
    }
    return replace(
        base,
        name=table.name,
        title=table.title,
        version=table.version,
        prices=prices,
        separate=(),  # powers of the base chip say nothing of this one
        caveats=(*_texts(table), *base.caveats),
        sources={**base.sources, **table.sources},
    )


def _priced(table: Table) -> PriceTable:
    file, data = table.path.name, table.data
    scope, reason = data.get("scope"), data.get("scope_reason", "")
    if scope not in SCOPES or (scope == ALL_IN and not reason):
        raise PriceTableError(f'{file}: scope must be one of {", ".join(SCOPES)}; "all-in" needs scope_reason')
    if not table.rows:
        raise PriceTableError(f"{file}: prices nothing; add [[row]] entries with event, value, unit, grade, source")
    for row in table.rows.values():
        if row.unit != "J":
            raise PriceTableError(f'{file}: row \'{row.name}\': unit must be "J", got "{row.unit}"; convert the value')
        if row.low < 0:
            raise PriceTableError(f"{file}: row '{row.name}': a price must be >= 0, got {row.low:g}; remove the sign")
        if not isinstance(row.data.get("unless", []), list):
            raise PriceTableError(f"{file}: row '{row.name}': unless must be a list of events")
    exempt = {e.event: e for e in (_exemption(raw, table) for raw in _list(table, "exempt"))}
    separate = tuple(read_row(raw, table.sources, f"{file}: [[separate]]") for raw in _list(table, "separate"))
    for line in separate:
        if line.unit not in ("W", "W/W") or line.low < 0:
            raise PriceTableError(f'{file}: row \'{line.name}\': a separate line is >= 0 in "W" or "W/W"')
    return PriceTable(
        table.name,
        table.title,
        table.version,
        scope,
        reason,
        table.rows,
        exempt,
        separate,
        _texts(table),
        table.sources,
    )


def _exemption(raw: Any, table: Table) -> Exemption:
    try:
        exemption = Exemption(**raw)
    except TypeError:
        raise PriceTableError(
            f"{table.path.name}: [[exempt]] needs event and reason, may have within; got {raw}"
        ) from None
    where = f"{table.path.name}: exempt row '{exemption.event}'"
    if not all(isinstance(t, str) for t in raw.values()) or not exemption.event or not exemption.reason:
        raise PriceTableError(f"{where}: needs event and reason as text")
    if exemption.event in table.rows:
        raise PriceTableError(f"{where}: is priced as well; remove one of the two")
    if exemption.within and exemption.within not in table.rows:
        raise PriceTableError(f"{where}: within '{exemption.within}', which has no price; price it or drop within")
    return exemption


def _list(table: Table, key: str) -> list[Any]:
    section = table.data.get(key, [])
    if not isinstance(section, list):
        raise PriceTableError(f"{table.path.name}: '{key}' must be [[{key}]] entries")
    return section


def _texts(table: Table) -> tuple[str, ...]:
    caveats = table.data.get("caveats", [])
    if not isinstance(caveats, list) or not all(isinstance(c, str) for c in caveats):
        raise PriceTableError(f"{table.path.name}: caveats must be a list of sentences")
    warning = table.data.get("warning", "")
    return (f"Warning: {warning}", *caveats) if warning else tuple(caveats)
