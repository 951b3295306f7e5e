"""Tables of numbers with sources: chips, prices, cells. TOML in ``hardware/profiles/``, or the user's own.

A file holds ``title``, ``version``, any settings of its kind, rows and sources:

    [[row]]
    name = "synop"            # or event = "synaptic_events" in a price table
    value = 23.6e-12
    low = 20e-12              # optional, low <= value <= high
    high = 30e-12
    unit = "J"
    grade = "simulated"       # see GRADES
    source = "davies2018"
    note = "..."              # optional; further keys stay in Row.data

    [sources.davies2018]
    authors = "..."; title = "..."; venue = "..."; year = 2018; doi = "..."   # doi, url, note optional

A row without unit, grade and source does not load.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROFILES = Path(__file__).parent / "profiles"
PRICE = "price_"

GRADES = ("measured", "simulated", "regression", "published estimate", "estimate", "unverified")
"""Best to worst. ``measured``: on silicon. ``simulated``: by the makers, before silicon. ``regression``:
fitted to silicon. ``published estimate``: printed in the source as one. ``estimate``: derived here or by
others. ``unverified``: recalled or second-hand."""

VAGUE = frozenset({"estimate", "unverified"})
"""Grades that carry at most two significant digits."""


class TableError(ValueError):
    """A table that cannot be used: names the file, the row and the fix."""


@dataclass(frozen=True)
class Source:
    """Where a number is from, complete enough to find it."""

    key: str
    authors: str
    title: str
    venue: str
    year: int
    doi: str = ""
    url: str = ""
    note: str = ""

    def cite(self) -> str:
        """One line: authors, title, venue, year, DOI or address, note."""
        where = f"doi:{self.doi}" if self.doi else self.url
        parts = [f"{self.authors}: {self.title}", f"{self.venue} ({self.year})", where, self.note]
        return ". ".join(p.rstrip(".") for p in parts if p) + "."

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data."""
        return dict(self.__dict__)


@dataclass(frozen=True)
class Row:
    """One number: ``low <= value <= high`` in ``unit``; ``data`` holds what else stood in the row."""

    name: str
    value: float
    low: float
    high: float
    unit: str
    grade: str
    source: str
    note: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A loaded file: ``rows`` by name, ``sources`` by key, ``data`` as it stood (settings, the rest)."""

    name: str
    title: str
    version: int
    rows: Mapping[str, Row]
    sources: Mapping[str, Source]
    data: Mapping[str, Any]
    path: Path

    def row(self, name: str) -> Row:
        """The row. Errors: :class:`TableError` with the rows there are."""
        if name not in self.rows:
            raise TableError(f"{self.path.name}: no row '{name}'; there are {', '.join(self.rows)}")
        return self.rows[name]

    def value(self, name: str) -> float:
        """Value of a row, in its unit; an int where the file says an int."""
        return self.row(name).value

    def cite(self, name: str) -> str:
        """Citation of a row's source."""
        return self.sources[self.row(name).source].cite()


def list_tables(folder: Path = PROFILES) -> list[tuple[str, str]]:
    """``(name, title)`` of every table, price tables under the name that ``--prices`` takes."""
    return [(p.stem.removeprefix(PRICE), str(_read(p).get("title", ""))) for p in sorted(folder.glob("*.toml"))]


def load_table(name: str | Path) -> Table:
    """Read and check a table: a name in ``hardware/profiles/`` without ``price_``, or a path to a ``.toml``.

    Errors: :class:`TableError` naming file, row and fix.
    """
    path = _find(name)
    data = _read(path)
    sources = {k: _source(k, v, path) for k, v in _section(data, "sources", dict, path).items()}
    rows: dict[str, Row] = {}
    for k, raw in enumerate(_section(data, "row", list, path)):
        row = read_row(raw, sources, f"{path.name}: row {k + 1}")
        if row.name in rows:
            raise TableError(f"{path.name}: row '{row.name}' stands twice; keep one")
        rows[row.name] = row
    version, title = data.get("version"), data.get("title")
    if isinstance(version, bool) or not isinstance(version, int) or not isinstance(title, str) or not title:
        raise TableError(f'{path.name}: needs title = "..." and an integer version; write them at its top')
    return Table(path.stem.removeprefix(PRICE), title, version, rows, sources, data, path)


def read_row(raw: Any, sources: Mapping[str, Source], where: str) -> Row:
    """One row of a table, checked: numbers finite and in order, unit, grade, source among ``sources``."""
    if not isinstance(raw, dict):
        raise TableError(f"{where}: must be a table of key = value, got {raw!r}")
    raw = dict(raw)
    name = raw.pop("event", None) or raw.pop("name", None)
    if not isinstance(name, str) or not name:
        raise TableError(f'{where}: has no name; add name = "..." (event = "..." in a price table)')
    where = f"{where.rsplit(': ', 1)[0]}: row '{name}'"
    value = _number(raw.pop("value", None), "value", where)
    low, high = (_number(raw.pop(k, value), k, where) for k in ("low", "high"))
    if not low <= value <= high:
        raise TableError(f"{where}: needs low <= value <= high, got {low:g}, {value:g}, {high:g}; order them")
    text = {k: raw.pop(k, "") for k in ("unit", "grade", "source", "note")}
    for key, entry in text.items():
        if not isinstance(entry, str) or (not entry and key != "note"):
            raise TableError(f'{where}: has no {key}; add {key} = "..."')
    if text["grade"] not in GRADES:
        raise TableError(f"{where}: grade '{text['grade']}' is unknown; use one of {', '.join(GRADES)}")
    if text["source"] not in sources:
        raise TableError(
            f"{where}: source '{text['source']}' is not in the file; add [sources.{text['source']}] with "
            "authors, title, venue and year"
        )
    return Row(name, value, low, high, text["unit"], text["grade"], text["source"], text["note"], raw)


def worst(grades: list[str]) -> str:
    """The least trustworthy of some grades; the worst of all for none."""
    return max(grades, key=GRADES.index, default=GRADES[-1])


def _find(name: str | Path) -> Path:
    if isinstance(name, Path) or name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise TableError(f"{path}: no such file; give a .toml file or the name of a table in the package")
        return path
    for candidate in (f"{name}.toml", f"{PRICE}{name}.toml"):
        # a name, never a path: it may come from a file
        if Path(candidate).name == candidate and (PROFILES / candidate).is_file():
            return PROFILES / candidate
    known = ", ".join(sorted(p.stem.removeprefix(PRICE) for p in PROFILES.glob("*.toml")))
    raise TableError(f"no table '{name}'; there are {known}, or give a path to a .toml file")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TableError(f"{path.name}: cannot be read ({error}); it must be a TOML file") from None


def _section(data: Mapping[str, Any], key: str, kind: type, path: Path) -> Any:
    section = data.get(key, kind())
    if not isinstance(section, kind):
        form = "[[row]] entries" if kind is list else "[sources.<key>] tables"
        raise TableError(f"{path.name}: '{key}' must be {form}")
    return section


def _source(key: str, raw: Any, path: Path) -> Source:
    try:
        source = Source(key, **raw)
    except TypeError:
        raise TableError(
            f"{path.name}: source '{key}' needs authors, title, venue and year, may have doi, url and note"
        ) from None
    text = [getattr(source, k) for k in ("authors", "title", "venue", "doi", "url", "note")]
    if not all(isinstance(t, str) for t in text) or not all(text[:3]) or type(source.year) is not int:
        raise TableError(f"{path.name}: source '{key}' needs authors, title and venue as text and an integer year")
    return source


def _number(value: Any, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TableError(f"{where}: {key} must be a finite number, got {value!r}; write {key} = 1.0e-12")
    number: float = value
    return number
