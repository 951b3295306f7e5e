"""The pulse-level cells of our own library: what they do from ``hardware/sfq_cells``, when from ``timing.toml``.

    delay        of an emission from slip to slip, cell between JTLs, nothing else near in time
    pair         by state of the load, against a JTL in the place of the other: how much later_s the driver slips,
                 how much the load's outputs come after_s that; aside_s: the driver's other outputs
    blend        1/s: driver and load together make an output later by per_s times the product of what each does
    separation   in a state, a pulse at ``then`` must come least_s after one at ``first``
    recovery     how much later outputs are when ``first`` came since_s before ``then``
    blocked      slips of a stochastic cell that lets a pulse not pass
    soma         pulse_A, tau_s, ic_A by branches; a slip slip_s + late_s ln(1 + late_v/(v - theta)) after its pulse

``calibrate`` derives the file. Nothing here is a number of its own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from hardware.sfq_cells import SfqCell, load_cells
from sim.sfq.pulse.cells import (
    BACK,
    BLOCK,
    FIRE,
    PASS,
    TAKE,
    CellError,
    Chance,
    Emission,
    Membrane,
    Neighbours,
    PulseCell,
    Recovery,
    Separation,
    SomaRow,
    Transition,
)

TIMING = Path(__file__).with_name("timing.toml")
SOURCES = {"SOMA": ("IB1", 165e-6), "NEURON": ("IB2", 90e-6)}
"""The element that is a soma's bias, and its value in ``sfq_cells.inc``."""
BACK_A = 340e-6
"""Of a soma: critical current and bias of its second junction in ``sfq_cells.inc``, 200 and 140 uA."""
REFRACTORY_S = 8e-12
"""Between two slips of a soma. Source: docs/sfq.md 3.3."""


@dataclass(frozen=True)
class Library(Mapping[str, PulseCell]):
    """Cells by name, and what their neighbours do to them. ``misfits``: pairs that do not work together, and why."""

    cells: Mapping[str, PulseCell]
    corrections: Mapping[tuple[str, str], Neighbours]
    misfits: Mapping[tuple[str, str], str]

    def __getitem__(self, name: str) -> PulseCell:
        return self.cells[name]

    def __iter__(self) -> Any:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)


@cache
def load_library(path: Path = TIMING) -> Library:
    """Errors: CellError for a file that cannot be read or is of other cells."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise CellError(f"{path.name}: cannot be read ({error}); run python -m sim.sfq.pulse.calibrate") from None
    found = {name: _timed(cell, data) for name, cell in machines().items()}
    pairs = {(p["driver"], p["load"]): p for p in data.get("pair", [])}
    return Library(
        MappingProxyType(found),
        MappingProxyType({k: _neighbours(p) for k, p in pairs.items() if "misfit" not in p}),
        MappingProxyType({k: p["misfit"] for k, p in pairs.items() if "misfit" in p}),
    )


def _neighbours(p: Mapping[str, Any]) -> Neighbours:
    return Neighbours(tuple(p["later_s"]), tuple(p["after_s"]), dict(p["aside_s"]))


def machines() -> dict[str, PulseCell]:
    """The cells of ``hardware/sfq_cells`` with the delays of those tables, which know no neighbours; no converters."""
    return {name: _machine(cell) for name, cell in load_cells().items() if cell.kind != "converter"}


def _machine(c: SfqCell) -> PulseCell:
    rows = tuple(
        Transition(t.source, t.on, t.to, tuple(Emission(o, t.delay_s, t.jitter_s) for o in t.out), t.slips, t.slip_ic_A)
        for t in c.transitions
    )
    more: dict[str, Any] = {}
    if c.kind == "soma":
        fired = rows[0]
        quiet = replace(fired, emits=(), slips=0, slip_ic_A=0.0)
        rows = (replace(quiet, on=TAKE), replace(fired, on=FIRE), replace(fired, on=BACK, emits=()))
        source, bias = SOURCES[c.name]
        somas = tuple(SomaRow(s.branches, s.pulse_A, s.tau_s, s.ic_A, float(s.branches)) for s in c.soma)
        more = {"membrane": Membrane(somas, bias, REFRACTORY_S, BACK_A, source), "branches": int(c.name == "NEURON")}
    if c.stochastic is not None:
        s = c.stochastic
        rows = (replace(rows[0], on=PASS), replace(rows[0], on=BLOCK, emits=()))
        more = {"chance": Chance(s.i50_A, s.sigma_A, s.temperature_K)}
    weight = {"SYNP": 1.0, "SYNM": -1.0}.get(c.name, 0.0)
    kind: Any = c.kind
    return PulseCell(
        c.name, c.inputs, c.outputs, rows, c.start, kind, (), c.controls, frozenset(c.anti), weight, c.junctions,
        c.bias_A, **more,
    )  # fmt: skip


def _timed(cell: PulseCell, data: Mapping[str, Any]) -> PulseCell:
    """A cell with the times of the file."""
    mine = {kind: [r for r in data.get(kind, []) if r["cell"] == cell.name] for kind in _KEYS}
    delays = {(r["from"], r["on"], r["out"]): r["delay_s"] for r in mine["delay"]}
    blends = {(r["on"], r["out"]): r["per_s"] for r in mine["blend"]}
    recoveries: dict[tuple[str, str], list[Recovery]] = {}
    for r in mine["recovery"]:
        row = Recovery(r["first"], tuple(r["since_s"]), tuple(r["extra_s"]))
        recoveries.setdefault((r["from"], r["then"]), []).append(row)
    rows = []
    for t in cell.transitions:
        on = cell.inputs[0] if cell.kind == "stochastic" else t.on
        emits = tuple(
            replace(
                e, delay_s=delays.get((t.state, on, e.out), e.delay_s), blend_per_s=float(blends.get((on, e.out), 0.0))
            )
            for e in t.emits
        )
        rows.append(replace(t, emits=emits, recoveries=tuple(recoveries.get((t.state, on), ()))))
        if t.on == BLOCK and mine["blocked"]:
            rows[-1] = replace(rows[-1], slips=mine["blocked"][0]["slips"], slip_ic_A=mine["blocked"][0]["slip_ic_A"])
    rules = tuple(Separation(r["first"], r["then"], r["least_s"], False, r["from"]) for r in mine["separation"])
    membrane = cell.membrane
    if membrane is not None and mine["soma"]:
        somas = [SomaRow(**{k: v for k, v in r.items() if k not in ("cell", "rms")}) for r in mine["soma"]]
        membrane = replace(membrane, rows=tuple(sorted(somas, key=lambda s: s.branches)))
        rows = [replace(t, emits=tuple(replace(e, delay_s=0.0) for e in t.emits)) for t in rows]
    return replace(cell, transitions=tuple(rows), separations=rules, membrane=membrane)


_KEYS = ("delay", "blocked", "blend", "recovery", "separation", "soma")
