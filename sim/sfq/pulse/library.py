"""The pulse-level cells of our own library, from the tables under ``hardware/``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from hardware.sfq import Technology, load_technology
from sim.sfq.pulse.cells import (
    BACK,
    BLOCK,
    FIRE,
    PASS,
    TAKE,
    Chance,
    Emission,
    Membrane,
    PulseCell,
    Separation,
    SomaRow,
    Transition,
    library,
)

ANTI = frozenset({"a", "q", "q0", "q1"})


@cache
def load_library(technology: str = "sfq_own") -> Mapping[str, PulseCell]:
    """Cells by name. Errors: :class:`hardware.tables.TableError`."""
    tech = load_technology(technology)
    gap = 1.0 / tech.numbers["inverter_max_Hz"]
    return library([
        _through(tech, "JTL", ("a",), ("q",)), _through(tech, "JTLN", ("a",), ("q",), ANTI & {"a", "q"}),
        _through(tech, "SPLIT", ("a",), ("q0", "q1")),
        _through(tech, "SPLITN", ("a",), ("q0", "q1"), ANTI - {"q"}), _through(tech, "MERGE", ("a", "b"), ("q",)),
        _through(tech, "INV", ("a",), ("q",), frozenset("q"), (Separation("a", "a", gap, True),)),
        _synapse(tech, "SYNP", 1.0), _synapse(tech, "SYNM", -1.0, frozenset("a")), _soma(tech), _stochastic(),
    ])  # fmt: skip


def _through(
    tech: Technology, name: str, inputs: tuple[str, ...], outputs: tuple[str, ...],
    negative: frozenset[str] = frozenset(), separations: tuple[Separation, ...] = (),
) -> PulseCell:  # fmt: skip
    """A cell without memory: every input comes out at every output."""
    c = tech.cells[name]
    emits = tuple(Emission(o, c.delay_s) for o in outputs)
    rows = tuple(Transition("idle", i, "idle", emits) for i in inputs)
    return PulseCell(
        name, inputs, outputs, rows, separations=separations, negative=negative, junctions=c.junctions, bias_A=c.bias_A
    )


def _synapse(tech: Technology, name: str, weight: float, negative: frozenset[str] = frozenset()) -> PulseCell:
    c = tech.cells[name]
    row = Transition("idle", "a", "idle", (Emission("n", c.delay_s / 2),))
    return PulseCell(
        name, ("a",), ("n",), (row,), negative=negative, weight=weight, junctions=c.junctions, bias_A=c.bias_A
    )


def _soma(tech: Technology) -> PulseCell:
    c = tech.cells["SOMA"]
    rows = (
        Transition("idle", TAKE, "idle"), Transition("idle", FIRE, "idle", (Emission("q", c.delay_s),)),
        Transition("idle", BACK, "idle"),
    )  # fmt: skip
    somas = tuple(SomaRow(r.branches, r.pulse_A, r.tau_s, r.ic_A, float(r.branches)) for r in tech.somas)
    membrane = Membrane(somas, tech.numbers["soma_bias_A"], 8e-12)
    return PulseCell(
        "SOMA", ("n",), ("q",), rows, kind="soma", junctions=c.junctions, bias_A=c.bias_A, membrane=membrane
    )


def _stochastic() -> PulseCell:
    rows = (Transition("idle", PASS, "idle", (Emission("q", 6e-12),)), Transition("idle", BLOCK, "idle"))
    return PulseCell(
        "STSYN", ("a",), ("q",), rows, kind="stochastic", controls=("w",), chance=Chance(70.4e-6, 3.4e-6, 4.2),
        junctions=4,
    )  # fmt: skip
