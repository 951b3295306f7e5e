"""Our traces against JoSIM's (v2.7, phase mode), deck by deck, aligned on the time column.

Tolerance of docs/sfq.md 6.1: JoSIM prints 7 digits, so 1e-6 absolute up to 1 rad and 1e-6 relative above; 1e-4
relative for the two long rotating decks. Voltages and currents: 1e-6 of the column's largest value.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from sim.sfq import Transient, compare, load, read_csv, transient
from sim.sfq.output import align

GOLDEN = Path(__file__).parent / "golden" / "sfq"
DECKS = {
    "tb_lin": 1e-6, "tb_cells": 1e-6, "tb_dff": 1e-6, "tb_inv": 1e-6, "tb_src": 1e-6, "tb_jj_ramp": 1e-4,
    "tb_pend": 1e-4,
    "xor_00": 1e-6, "xor_01": 1e-6, "xor_10": 1e-6, "xor_11": 1e-6,
}  # fmt: skip


@cache
def run(name: str) -> Transient:
    """Every step printed: JoSIM adds up print times in floating point and so prints one step late now and then."""
    circuit = load(GOLDEN / f"{name}.cir").flatten()
    assert circuit.tran is not None
    return transient(replace(circuit, tran=replace(circuit.tran, print_step_s=circuit.tran.step_s)))


@pytest.mark.parametrize("name", DECKS)
def test_traces_are_josims(name: str) -> None:
    ours = {"time": run(name).time_s, **run(name).traces}
    josim = read_csv(GOLDEN / f"{name}.csv.gz")
    assert list(ours) == list(josim)
    rows, _ = align(ours["time"], josim["time"])
    assert len(rows) == len(josim["time"]), "every row of JoSIM's file has a partner"
    for column, values in josim.items():
        if column != "time":
            unit = 1.0 if column.startswith("P") else float(np.abs(values).max())
            scaled = [{"time": t["time"], column: t[column] / unit} for t in (ours, josim)]
            assert compare(*scaled, relative_above=1.0)[column] <= DECKS[name], column


@pytest.mark.parametrize(("name", "count"), [("xor_00", 0), ("xor_01", 9), ("xor_10", 9), ("xor_11", 0)])
def test_xor_counts(name: str, count: int) -> None:
    assert len(run(name).pulse_times("B1|X2|XY2")) == count
    assert len(run(name).pulse_times("B1.X2.XY2", sign=-1)) == 0


def test_pulse_times_of_the_cells() -> None:
    """7 inputs by A, 1 by B, 8 at the merger's output; each JTL junction takes its 1.9 ps (docs/sfq.md 3.2)."""
    pulses = run("tb_cells").pulse_times
    assert [len(pulses(j)) for j in ("B1|X1|XA1", "B1|X2|XS0", "B1|X1|XB1", "B1|X2|XQ2")] == [7, 7, 1, 8]
    hops = pulses("B1|X2|XA2") - pulses("B1|X1|XA2")
    assert ((hops > 1.0e-12) & (hops < 2.6e-12)).all()
    stored = read_csv(GOLDEN / "tb_cells.csv.gz")
    phase, t = stored["P(B1|X1|XA1)"], stored["time"]
    crossings = [np.interp((2 * k + 1) * np.pi, phase[:3000], t[:3000]) for k in range(3)]
    assert pulses("B1|X1|XA1")[:3] == pytest.approx(crossings, abs=1e-17 + 2e-16)


def test_dff_stores_once() -> None:
    pulses = run("tb_dff").pulse_times
    assert [len(pulses(j)) for j in ("B1|X1|XD1", "B1|X1|XC1", "B1|X2|XQ2")] == [3, 5, 2]


def test_inverter_gives_antifluxons() -> None:
    assert len(run("tb_inv").pulse_times("B1.X2.XQ2", sign=-1)) == len(run("tb_inv").pulse_times("B1.X2.XA2")) == 7


def test_energy_of_the_xor_is_the_specs() -> None:
    """419 slips, sum Ic Phi0 = 2.1e-16 J, 6.15 mA of bias, 37 junctions (docs/sfq.md 3.5)."""
    r = run("xor_10")
    assert (sum(r.slips.values()), r.jj_count) == (419, 37)
    assert r.bias_current_A == pytest.approx(6.15e-3)
    assert r.energy.ic_phi0_J == pytest.approx(2.1e-16, rel=0.02)
    assert r.energy.ic_phi0_J == pytest.approx(r.slip_ic_A * 2.067833831170082e-15)
    assert 0.6 < r.energy.bias_J / r.energy.ic_phi0_J < 0.9
    assert r.energy.dissipated_J == pytest.approx(r.energy.supplied_J, rel=0.25)
