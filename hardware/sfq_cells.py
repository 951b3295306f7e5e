"""An SFQ cell as a table: its pins, its Mealy machine with times, its margins, and where the numbers are from.

One TOML file a cell in ``hardware/sfq_cells/``; its netlist is the subcircuit of that name in ``sfq_cells.inc``. Every
number is derived from that netlist by simulation (``sim/sfq/cells/derive.py``); element values are our own realisation
for a 10 kA/cm2-class niobium process, not those of any paper or foundry.

    a transition   in state ``from`` a pulse at ``on`` leads to ``to`` and to pulses at ``out`` after ``delay_s``
    a separation   after a pulse at ``first``, one at ``then`` is taken correctly from ``least_s`` on
    a margin       the factors between which the cell works, all else nominal
    a soma         fires <=> v >= (ic_A - bias) / pulse_A, as in :mod:`hardware.sfq`
    a stochastic   passes a pulse with p = erfc(-(IW - i50_A) / (sqrt2 sigma_A)) / 2
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hardware.tables import TableError

FOLDER = Path(__file__).parent / "sfq_cells"
KINDS = ("mealy", "soma", "stochastic", "converter")
BOILING_K = 4.2

T = TypeVar("T")


@dataclass(frozen=True)
class Transition:
    """What a pulse does in a state; ``slip_ic_A`` is the sum of Ic over the ``slips`` of the cell's junctions.

    ``delay_s`` runs from the slip of the driver's last junction to that of the load's first; NaN without output.
    ``jitter_s`` is the standard deviation of the delay under thermal noise.
    """

    source: str
    on: str
    to: str
    out: tuple[str, ...]
    delay_s: float
    jitter_s: float
    slip_ic_A: float
    slips: int


@dataclass(frozen=True)
class Separation:
    """Least time after a pulse at ``first`` before one at ``then`` is taken as the machine says."""

    first: str
    then: str
    least_s: float


@dataclass(frozen=True)
class Margin:
    """Factors of one parameter between which the cell works; ``low`` and ``high`` are the last that passed."""

    low: float
    high: float


@dataclass(frozen=True)
class SomaFit:
    """A soma with so many branches: current that a pulse adds, its decay, effective critical current."""

    branches: int
    pulse_A: float
    tau_s: float
    ic_A: float


@dataclass(frozen=True)
class PassFit:
    """Pass probability against the weight current: ``p = erfc(-(IW - i50_A) / (sqrt2 sigma_A)) / 2``."""

    i50_A: float
    sigma_A: float
    temperature_K: float

    def probability(self, weight_A: float) -> float:
        """The chance that a pulse passes at a weight current."""
        return 0.5 * math.erfc(-(weight_A - self.i50_A) / (math.sqrt(2.0) * self.sigma_A))


@dataclass(frozen=True)
class Provenance:
    """What the numbers were derived from: deck, step, temperature, solver, day, and who else agreed."""

    deck_sha256: str
    step_s: float
    temperature_K: float
    solver: str
    derived: str
    peer: str = ""


@dataclass(frozen=True)
class SfqCell:
    """A loaded cell. ``inputs`` then ``outputs`` then ``controls`` are the pins of ``subckt`` in order.

    ``anti`` names the pins whose pulses are negative; ``bias_A`` sums the magnitudes of its bias currents.
    ``converter``: for kind "converter", whose input or output is a level, its currents and voltages by name.
    """

    name: str
    title: str
    subckt: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    controls: tuple[str, ...]
    anti: tuple[str, ...]
    start: str
    junctions: int
    bias_A: float
    kind: str
    transitions: tuple[Transition, ...]
    separations: tuple[Separation, ...]
    margins: Mapping[str, Margin]
    max_Hz: float
    soma: tuple[SomaFit, ...]
    stochastic: PassFit | None
    violations: tuple[str, ...]
    converter: Mapping[str, float]
    provenance: Provenance
    path: Path = field(compare=False)

    @property
    def states(self) -> tuple[str, ...]:
        """Every state, the first one first."""
        return tuple(dict.fromkeys((self.start, *(t.source for t in self.transitions))))

    def transition(self, state: str, on: str) -> Transition:
        """What a pulse at ``on`` does in ``state``. Errors: ``KeyError`` for a state or pin that is not there."""
        for row in self.transitions:
            if (row.source, row.on) == (state, on):
                return row
        raise KeyError(f"{self.name}: no transition from '{state}' on '{on}'")

    @property
    def critical_margin(self) -> tuple[str, float]:
        """The single parameter with the least room and that room, min(1 - low, high - 1); bias_global left out."""
        rooms = {n: min(1.0 - m.low, m.high - 1.0) for n, m in self.margins.items() if not n.endswith("_global")}
        name = min(rooms, key=lambda n: rooms[n], default="")
        return name, rooms.get(name, math.nan)


def listing(folder: Path = FOLDER) -> list[str]:
    """Names of the cells that have a table, sorted."""
    return sorted(p.stem for p in folder.glob("*.toml"))


def load_cells(folder: Path = FOLDER) -> dict[str, SfqCell]:
    """Every cell of a folder by name. Errors: :class:`hardware.tables.TableError`."""
    return {name: load_cell(name, folder) for name in listing(folder)}


def load_cell(name: str | Path, folder: Path = FOLDER) -> SfqCell:
    """The cell of that name, or of a ``.toml`` file, checked.

    Errors: :class:`hardware.tables.TableError` naming file, row and fix.
    """
    if isinstance(name, str) and name not in listing(folder):
        raise TableError(f"no SFQ cell '{name}'; there are {', '.join(listing(folder))}, or give a path")
    path = name if isinstance(name, Path) else folder / f"{name}.toml"
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TableError(f"{path.name}: cannot be read ({error}); derive it again") from None
    return _cell(path, _Rows(path.name, data))


class _Rows:
    """A table being read: each value is taken once and checked; what is left over is an error."""

    def __init__(self, where: str, data: Any) -> None:
        if not isinstance(data, dict):
            raise TableError(f"{where}: must be a table of key = value, got {data!r}")
        self.where, self.data = where, dict(data)

    def take(self, key: str, kind: type[T], default: T | None = None) -> T:
        value = self.data.pop(key, default)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise TableError(f"{self.where}: needs {key} as {kind.__name__}, got {value!r}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self.take(key, str, default)
        if not value and default is None:
            raise TableError(f'{self.where}: {key} is empty; write {key} = "..."')
        return value

    def number(self, key: str, default: float | None = None, *, above: float = -math.inf) -> float:
        value = self.take(key, float, default)
        if not (math.isnan(value) and default is not None and math.isnan(default)) and not above <= value < math.inf:
            raise TableError(f"{self.where}: {key} must be finite and at least {above:g}, got {value!r}")
        return value

    def names(self, key: str, default: list[str] | None = None) -> tuple[str, ...]:
        value = self.take(key, list, default)
        if not all(isinstance(n, str) and n for n in value) or len(set(value)) != len(value):
            raise TableError(f"{self.where}: {key} must list different names, got {value!r}")
        return tuple(value)

    def rows(self, key: str) -> list[_Rows]:
        return [_Rows(f"{self.where}: {key} {k + 1}", row) for k, row in enumerate(self.take(key, list, []))]

    def end(self) -> None:
        if self.data:
            raise TableError(f"{self.where}: unknown key '{next(iter(self.data))}'; remove it or spell it right")


def _cell(path: Path, rows: _Rows) -> SfqCell:
    inputs, outputs = rows.names("inputs"), rows.names("outputs")
    controls, anti = rows.names("controls", []), rows.names("anti", [])
    pins = (*inputs, *outputs, *controls)
    if len(set(pins)) != len(pins) or not inputs or not set(anti) <= set(pins):
        raise TableError(
            f"{path.name}: pins {list(pins)} and anti {list(anti)}: needs inputs, each pin once, anti among them"
        )
    kind = rows.text("kind")
    if kind not in KINDS:
        raise TableError(f"{path.name}: kind '{kind}' is unknown; use one of {', '.join(KINDS)}")
    rate = _Rows(f"{path.name}: rate", rows.take("rate", dict, {}))
    margins = _Rows(f"{path.name}: margin", rows.take("margin", dict, {}))
    cell = SfqCell(
        rows.text("name"), rows.text("title"), rows.text("subckt"), inputs, outputs, controls, anti, rows.text("start"),
        rows.take("junctions", int), rows.number("bias_A", above=0.0), kind,
        tuple(_transition(r, inputs, outputs) for r in rows.rows("transition")),
        tuple(_separation(r, inputs) for r in rows.rows("separation")),
        {str(n): _margin(margins.where, str(n), m) for n, m in margins.data.items()},
        rate.number("max_Hz", math.nan, above=0.0),
        tuple(_soma(r) for r in rows.rows("soma")),
        _pass_fit(rows.take("stochastic", dict, {}), path.name),
        tuple(r.text("note") for r in rows.rows("violation")), _converter(rows.take("converter", dict, {}), path.name),
        _provenance(_Rows(f"{path.name}: provenance", rows.take("provenance", dict))), path,
    )  # fmt: skip
    rate.end()
    rows.end()
    _complete(cell)
    return cell


def _complete(cell: SfqCell) -> None:
    """A machine answers every input in every state, and reaches only states that it has."""
    where = cell.path.name
    seen = [(t.source, t.on) for t in cell.transitions]
    wanted = {(s, i) for s in cell.states for i in cell.inputs} if cell.kind != "soma" else set(seen)
    if len(set(seen)) != len(seen) or set(seen) != wanted:
        odd = sorted(wanted.symmetric_difference(seen)) or sorted(r for r in seen if seen.count(r) > 1)
        raise TableError(f"{where}: transition from '{odd[0][0]}' on '{odd[0][1]}' must stand exactly once")
    lost = {t.to for t in cell.transitions} - set(cell.states)
    if lost:
        raise TableError(f"{where}: state '{min(lost)}' is reached but has no transitions; add them")
    if cell.name != cell.path.stem or cell.junctions < 1:
        raise TableError(f"{where}: holds cell '{cell.name}' of {cell.junctions} junctions; name the file after it")
    if cell.kind == "soma" and not cell.soma:
        raise TableError(f"{where}: a soma needs [[soma]] rows: branches, pulse_A, tau_s, ic_A")
    if (cell.kind == "stochastic") != (cell.stochastic is not None):
        raise TableError(f"{where}: [stochastic] with i50_A, sigma_A, temperature_K belongs to kind 'stochastic' alone")


def _transition(r: _Rows, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Transition:
    source, on, to, out = r.text("from"), r.text("on"), r.text("to"), r.names("out", [])
    if on not in inputs or not set(out) <= set(outputs):
        raise TableError(
            f"{r.where}: on '{on}', out {list(out)}: use inputs {list(inputs)} and outputs {list(outputs)}"
        )
    delay = r.number("delay_s", None if out else math.nan, above=0.0)
    row = Transition(
        source, on, to, out, delay, r.number("jitter_s", 0.0, above=0.0), r.number("slip_ic_A", above=0.0),
        r.take("slips", int),
    )  # fmt: skip
    r.end()
    return row


def _separation(r: _Rows, inputs: tuple[str, ...]) -> Separation:
    first, then = r.text("first"), r.text("then")
    if not {first, then} <= set(inputs):
        raise TableError(f"{r.where}: first '{first}', then '{then}': use inputs {list(inputs)}")
    row = Separation(first, then, r.number("least_s", above=0.0))
    r.end()
    return row


def _margin(where: str, name: str, data: Any) -> Margin:
    r = _Rows(f"{where}.{name}", data)
    row = Margin(r.number("low", above=0.0), r.number("high", above=1.0))
    r.end()
    if row.low > 1.0:
        raise TableError(f"{r.where}: needs low <= 1 <= high, got {row.low:g} and {row.high:g}")
    return row


def _soma(r: _Rows) -> SomaFit:
    row = SomaFit(r.take("branches", int), r.number("pulse_A"), r.number("tau_s", above=0.0), r.number("ic_A"))
    r.end()
    return row


def _pass_fit(data: dict[str, Any], name: str) -> PassFit | None:
    if not data:
        return None
    r = _Rows(f"{name}: stochastic", data)
    row = PassFit(r.number("i50_A"), r.number("sigma_A", above=1e-12), r.number("temperature_K", above=0.0))
    r.end()
    return row


def _converter(data: dict[str, Any], name: str) -> dict[str, float]:
    r = _Rows(f"{name}: converter", data)
    return {str(key): r.number(str(key)) for key in data}


def _provenance(r: _Rows) -> Provenance:
    row = Provenance(
        r.text("deck_sha256"), r.number("step_s", above=0.0), r.number("temperature_K", above=0.0), r.text("solver"),
        r.text("derived"), r.text("peer", ""),
    )  # fmt: skip
    r.end()
    return row
