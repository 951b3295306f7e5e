"""Tables of cells: what loads, what is refused and how, and that a derivation gives the file again."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from hardware.sfq import CELLS, library, load_technology
from hardware.sfq_cells import FOLDER, listing, load_cell, load_cells
from hardware.tables import PROFILES, TableError
from sim.sfq.cells import analogue
from sim.sfq.cells.bench import bench, triangles
from sim.sfq.cells.derive import check, derive, to_toml
from sim.sfq.cells.derive import listing as derivable
from sim.sfq.cells.machines import MACHINES
from sim.sfq.cells.peer import crossings, deck
from sim.sfq.cells.sweep import Parameter, corners, parameters, tour_events
from sim.sfq.deck import loads
from sim.sfq.errors import DeckError
from sim.sfq.transient import transient


def test_a_file_reads_as_it_was_written(tmp_path: Path) -> None:
    assert listing() == sorted(derivable())
    for name, cell in load_cells().items():
        path = tmp_path / f"{name}.toml"
        path.write_text(to_toml(cell))
        again = load_cell(path)
        assert to_toml(again) == to_toml(cell) == (FOLDER / f"{name}.toml").read_text(), name
        assert [(t.source, t.on, t.to, t.out) for t in again.transitions] == [
            (t.source, t.on, t.to, t.out) for t in cell.transitions
        ]
        assert again.separations == cell.separations
        assert again.margins == cell.margins


def test_lookups() -> None:
    dff = load_cell("DFF")
    assert dff.states == ("0", "1")
    read = dff.transition("1", "c")
    assert (read.to, read.out, read.slips) == ("0", ("q",), 1)
    assert math.isnan(dff.transition("0", "c").delay_s)
    with pytest.raises(KeyError, match="DFF: no transition from '2' on 'c'"):
        dff.transition("2", "c")
    fit = load_cell("STSYN").stochastic
    assert fit is not None
    assert fit.probability(fit.i50_A) == pytest.approx(0.5)
    assert fit.probability(fit.i50_A + fit.sigma_A) == pytest.approx(0.8413447)
    assert [s.branches for s in load_cell("SOMA").soma] == [1, 2, 3, 4, 8, 16]


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ('kind = "mealy"', 'kind = "moore"', r"DFF.toml: kind 'moore' is unknown; use one of mealy"),
        ('on = "c"', 'on = "x"', r"DFF.toml: transition 2: on 'x'.*use inputs"),
        ('to = "1"', 'to = "7"', r"DFF.toml: (transition from '7' on 'a' must|state '7' is reached)"),
        ('from = "1"', 'from = "0"', r"DFF.toml: transition from '.' on '.' must stand exactly once"),
        ("slips = 1", "slips = 1.5", r"DFF.toml: transition 1: needs slips as int, got 1.5"),
        ("delay_s = ", "delay_s = -", r"DFF.toml: transition 4: delay_s must be finite and at least 0"),
        ("delay_s = ", "delays_s = ", r"DFF.toml: transition 4: needs delay_s as float"),
        ("least_s = ", "least_s = nan # ", r"separation 1: least_s must be finite"),
        ("least_s = ", "leest_s = ", r"separation 1: needs least_s"),
        ("low = 0.5,", "low = 1.5,", r"DFF.toml: margin.\w+: needs low <= 1 <= high, got 1.5"),
        ("[provenance]", "[origin]", r"DFF.toml: needs provenance as dict"),
        ("[rate]", "[rata]", r"DFF.toml: unknown key 'rata'; remove it"),
        ('name = "DFF"', 'name = "DFG"', r"DFF.toml: holds cell 'DFG'"),
        ('outputs = ["q"]', 'outputs = ["a"]', r"DFF.toml: pins .* each pin once"),
        ("[margin]", "[stochastic]\ni50_A = 1.0\nsigma_A = 1.0\ntemperature_K = 4.2\n[margin]", r"belongs to kind"),
        ("junctions = 4", "junctions = true", r"DFF.toml: needs junctions as int, got True"),
        ("[[transition]]", "[[transition", r"DFF.toml: cannot be read .* derive it again"),
    ],
)
def test_damage_is_refused(tmp_path: Path, before: str, after: str, says: str) -> None:
    text = (FOLDER / "DFF.toml").read_text()
    assert before in text
    path = tmp_path / "DFF.toml"
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(TableError, match=says):
        load_cell(path)


def test_names_that_are_not_there() -> None:
    with pytest.raises(TableError, match="no SFQ cell 'NAND'; there are AND, DCSFQ"):
        load_cell("NAND")
    with pytest.raises(TableError, match="no SFQ cell"):
        load_cell("../profiles/sfq_own")
    with pytest.raises(ValueError, match="no cell 'NAND' to derive; there are JTL"):
        derive(["NAND"])


@pytest.mark.parametrize("name", ["JTL", "MERGE", "NEURON"])
def test_a_derivation_gives_the_file_again(name: str) -> None:
    """Every number, margins and jitter among them, from the netlist alone."""
    assert check(name) == []


def test_check_says_what_moved(tmp_path: Path) -> None:
    cells = tmp_path / "cells.inc"
    text = CELLS.read_text()
    block = library()[1]["JTL"]
    cells.write_text(text.replace(block, block.replace("L2 1 b 2p", "L2 1 b 2.4p"), 1))
    moved = check("JTL", cells=cells)
    assert moved[0] == "JTL: the netlist changed after the table was derived"
    assert any(line.startswith("JTL: idle a delay_s was ") for line in moved)
    paths = derive(["JTL"], tmp_path, cells=cells)
    assert paths == [tmp_path / "JTL.toml"]
    assert load_cell(paths[0]).transitions[0].delay_s > load_cell("JTL").transitions[0].delay_s + 0.1e-12
    assert check("JTL", tmp_path, cells=cells) == []
    assert load_cell(paths[0]).provenance.peer == ""


def test_a_cell_that_does_not_do_it_is_not_written(tmp_path: Path) -> None:
    cells = tmp_path / "cells.inc"
    text = CELLS.read_text()
    block = library()[1]["DFF"]
    cells.write_text(text.replace(block, block.replace("L2 2 3 9p", "L2 2 3 1p"), 1))
    with pytest.raises(DeckError, match="cell DFF: does not do what its machine says"):
        derive(["DFF"], tmp_path, cells=cells)
    assert not (tmp_path / "DFF.toml").exists()


def test_fits_find_what_was_put_in() -> None:
    n, a = np.arange(1.0, 20.0), math.exp(-30.0 / 120.0)
    pulse, tau, ic = analogue.fit_leak(np.stack([n, 280e-6 - 40e-6 * (1 - a**n) / (1 - a)], axis=1))
    assert pulse == pytest.approx(40e-6, rel=1e-3)
    assert tau == pytest.approx(120e-12, rel=1e-3)
    assert ic == pytest.approx(280e-6, rel=1e-4)
    weights = np.repeat(np.arange(60e-6, 84e-6, 2e-6), 8)
    chance = [0.5 * math.erfc(-(w - 71e-6) / (math.sqrt(2) * 4e-6)) for w in weights]
    passed = np.random.default_rng(0).binomial(100, chance)
    i50, sigma = analogue.fit_passes(weights, passed, 100)
    assert i50 == pytest.approx(71e-6, abs=0.3e-6)
    assert sigma == pytest.approx(4e-6, abs=0.3e-6)


def test_soma_fit_against_the_technology() -> None:
    """JoSIM's counts gave the technology's rows; the fit here counts from the synapse's slip: within 6 %."""
    rows = {s.branches: s for s in load_technology().somas}
    for fit in load_cell("SOMA").soma[:4]:
        assert fit.pulse_A == pytest.approx(rows[fit.branches].pulse_A, rel=0.1)
        assert fit.tau_s == pytest.approx(rows[fit.branches].tau_s, rel=0.1)
        assert fit.ic_A == pytest.approx(rows[fit.branches].ic_A, rel=0.02)


def test_parameters_of_a_cell() -> None:
    """A junction takes its shunt along; parasitics are no parameters; every bias is one."""
    b = bench(MACHINES["INV"])
    every = {p.name: p for p in parameters(b.circuit)}
    assert {"X0", "X1", "X2", "X3", "X4", "KPS", "RP1", "LS1", "IB2", "bias_global", "ic_global"} <= set(every)
    assert len(every["bias_global"].scaled["currents"]) == len(b.circuit.currents)
    x2 = every["X2"]
    assert [b.circuit.resistors.names[k] for k in x2.inverse] == ["RS|X2|XD"]
    each = corners(b.circuit, [(x2, 2.0), (Parameter("none"), 3.0)])
    assert each.junctions is not None
    assert each.resistors is not None
    assert each.junctions[0, x2.scaled["junctions"]] == 2.0
    assert each.resistors[0, x2.inverse] == 0.5
    assert (each.junctions[1] == 1.0).all()


def test_bench_as_a_deck_of_its_own_runs_alike() -> None:
    """What JoSIM is given: pulses and biases written out; our own solver reads it and slips at the same times."""
    b = bench(MACHINES["DFF"])
    events = tour_events(b.machine)
    stop = events[-1][0] + 60e-12
    run = b.run([events], stop)
    alone = transient(loads(deck(b, events, stop)))
    for name in b.watch:
        assert run.pulse_times(name, 0) == pytest.approx(alone.pulse_times(name), abs=1e-16)
    half = loads(deck(b, events, stop, bias=0.5)).flatten()
    assert half.bias_current_A == pytest.approx(0.5 * b.circuit.bias_current_A)


def test_crossings_and_triangles_by_hand() -> None:
    time = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    phase = np.pi * np.array([0.0, 0.5, 1.5, 2.0, 0.8])
    assert crossings(time, phase) == [(pytest.approx(1.5), 1), (pytest.approx(3.0 + 1.0 / 1.2), -1)]
    shape = triangles([10e-12, 15e-12], -1)
    assert shape.times == pytest.approx((0.0, 10e-12, 12.5e-12, 15e-12, 17.5e-12, 20e-12))
    assert shape.values == pytest.approx((0.0, 0.0, -827.13e-6, 0.0, -827.13e-6, 0.0))
    with pytest.raises(ValueError, match="nearer than 5 ps"):
        triangles([10e-12, 14e-12])


def test_technology_names_its_netlists(tmp_path: Path) -> None:
    assert load_technology().netlists == CELLS
    text = (PROFILES / "sfq_own.toml").read_text()
    (tmp_path / "mine.toml").write_text(text.replace("version = 1\n", 'version = 1\ncells = "mine.inc"\n', 1))
    with pytest.raises(TableError, match=r"mine.toml: cells = 'mine.inc' is no file beside it"):
        load_technology(tmp_path / "mine.toml")
    (tmp_path / "mine.inc").write_text(CELLS.read_text())
    assert load_technology(tmp_path / "mine.toml").netlists == tmp_path / "mine.inc"
