"""An SFQ technology as a table: cells, drive pulse, and what a soma does at which bias current.

    fires  <=>  v >= threshold(bias),   threshold = (ic_A - bias) / pulse_A,   v <- v exp(-dt/tau_s) + pulses

A slip of the soma takes one flux quantum out of each of its branches: v falls by their number. ``pulse_A``, ``tau_s``
and ``ic_A`` depend on the number of branches and come from the table, linear between its rows. The netlists of the
cells are ``sfq_cells.inc``, or what the table names as ``cells``. Source: the table's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hardware.tables import Row, Table, TableError, load_table

CELLS = Path(__file__).parent / "sfq_cells.inc"
NAMES = ("JTL", "JTLN", "SPLIT", "SPLITN", "MERGE", "INV", "SYNP", "SYNM", "SOMA", "STSYN", "STSYNN")
NUMBERS = (
    "pulse_peak_V", "pulse_rise_s", "step_min_s", "start_s", "solver_step_s", "soma_bias_A", "soma_bias_step_A",
    "branches_max", "junctions_max", "bias_max_A", "inverter_max_Hz", "drive_delay_s",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """``junctions``, sum of bias currents and delay to the next cell's first junction."""

    name: str
    junctions: int
    bias_A: float
    delay_s: float


@dataclass(frozen=True)
class Soma:
    """A soma with so many branches: current a pulse adds, decay of that current, effective critical current."""

    branches: int
    pulse_A: float
    tau_s: float
    ic_A: float

    def bias_A(self, threshold: float) -> float:
        """Bias current for a threshold in pulses."""
        return self.ic_A - threshold * self.pulse_A

    def threshold(self, bias_A: float) -> float:
        """Threshold in pulses that a bias current gives."""
        return (self.ic_A - bias_A) / self.pulse_A


@dataclass(frozen=True)
class Technology:
    """A loaded table: ``numbers`` by name in SI units, ``cells``, and the rows of the soma by branches.

    ``netlists`` is the file with the cells' subcircuits, for :func:`library`.
    """

    name: str
    title: str
    numbers: Mapping[str, float]
    cells: Mapping[str, Cell]
    somas: tuple[Soma, ...]
    bias_low_A: float
    bias_high_A: float
    netlists: Path = CELLS

    def soma(self, branches: int) -> Soma:
        """The soma with ``branches``, linear between the table's rows. Errors: ``ValueError`` outside them."""
        rows = self.somas
        if not rows[0].branches <= branches <= rows[-1].branches:
            raise ValueError(
                f"{self.name}: a soma has {rows[0].branches} to {rows[-1].branches} branches, got {branches}"
            )
        k = next(i for i, row in enumerate(rows) if row.branches >= branches)
        if rows[k].branches == branches:
            return rows[k]
        a, b = rows[k - 1], rows[k]
        u = (branches - a.branches) / (b.branches - a.branches)
        mix = [x + u * (y - x) for x, y in ((a.pulse_A, b.pulse_A), (a.tau_s, b.tau_s), (a.ic_A, b.ic_A))]
        return Soma(branches, *mix)


def load_technology(name: str | Path = "sfq_own") -> Technology:
    """The technology of that name in ``hardware/profiles/``, or of a ``.toml`` file.

    Errors: :class:`hardware.tables.TableError` naming file and row.
    """
    table = load_table(name)
    measured = {row.name.removeprefix("soma_"): row for row in table.rows.values()}
    somas = sorted((_soma(table, row, int(n)) for n, row in measured.items() if n.isdigit()), key=lambda s: s.branches)
    if not somas:
        raise TableError(f"{table.path.name}: has no row soma_<branches>; add one for each number of branches measured")
    bias = table.row("soma_bias_A")
    return Technology(
        table.name,
        table.title,
        {n: float(table.value(n)) for n in NUMBERS},
        {n: _cell(table, table.row(n)) for n in NAMES},
        tuple(somas),
        bias.low,
        bias.high,
        _netlists(table),
    )


def _netlists(table: Table) -> Path:
    """``cells = "FILE"`` of a table: beside the table, else among the package's; without it the package's own."""
    name = table.data.get("cells", CELLS.name)
    for folder in (table.path.parent, CELLS.parent):
        if isinstance(name, str) and name and (folder / name).is_file():
            return folder / name
    raise TableError(f"{table.path.name}: cells = {name!r} is no file beside it; give the file of its subcircuits")


def library(path: Path = CELLS) -> tuple[str, dict[str, str]]:
    """``(model line, {cell: its .subckt .. .ends})`` of the cells; SPLITN and STSYNN are mirrored.

    Errors: :class:`hardware.tables.TableError` for a file without model or cells.
    """
    text = path.read_text(encoding="utf-8")
    model = re.search(r"^\.model .*$", text, re.MULTILINE)
    blocks = re.findall(r"^\.subckt (\S+).*?^\.ends$", text, re.MULTILINE | re.DOTALL)
    bodies = re.findall(r"^\.subckt .*?^\.ends$", text, re.MULTILINE | re.DOTALL)
    if model is None or not blocks:
        raise TableError(f"{path.name}: has no .model line or no .subckt; install the package again")
    cells = dict(zip(blocks, bodies, strict=True))
    for name in ("SPLIT", "STSYN"):
        cells[f"{name}N"] = mirrored(cells[name], name, f"{name}N")
    return model[0], cells


def mirrored(block: str, name: str, mirror: str) -> str:
    """The cell for anti-fluxons: the same with the two nodes of every current source exchanged."""
    turned = re.sub(r"^(I\S+) (\S+) (\S+) ", r"\1 \3 \2 ", block, flags=re.MULTILINE)
    return turned.replace(f".subckt {name} ", f".subckt {mirror} ", 1)


def parts(block: str) -> list[str]:
    """Names of the subcircuits that a cell's netlist uses: ``X1 J250 1`` uses J250."""
    return re.findall(r"^X\S+ (\S+)", block, re.MULTILINE)


def _soma(table: Table, row: Row, branches: int) -> Soma:
    return Soma(branches, row.value, _extra(table, row, "tau_s"), _extra(table, row, "ic_A"))


def _cell(table: Table, row: Row) -> Cell:
    return Cell(row.name, int(row.value), _extra(table, row, "bias_A"), _extra(table, row, "delay_s"))


def _extra(table: Table, row: Row, key: str) -> float:
    value = row.data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise TableError(f"{table.path.name}: row '{row.name}' needs {key} above 0, got {value!r}")
    return float(value)
