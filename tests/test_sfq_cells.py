"""The cell library at junction level: every machine at nominal and shifted bias, JoSIM's slips, INV at 33 GHz."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hardware.sfq import CELLS, library
from hardware.sfq_cells import load_cells
from sim.sfq.batch import batch
from sim.sfq.cells import converters, truth
from sim.sfq.cells.bench import FIRST_S, answers, bench, counts_right, digest, right, spaced, triangles
from sim.sfq.cells.machines import CONVERTERS, CURRENTS, MACHINES, Machine, every_word, taken, tour
from sim.sfq.cells.sweep import tour_events
from sim.sfq.corners import Corners

GOLDEN = json.loads((Path(__file__).parent / "golden" / "sfq" / "cells_josim.json").read_text())
SHIFTS = {"MERGE": (0.7, 1.3)}
"""Every bias of the bench times these; 20 % where nothing stands."""


@pytest.mark.parametrize("name", MACHINES)
def test_every_transition_at_nominal_and_shifted_bias(name: str) -> None:
    """Words of all inputs of 3 or 4 pulses (8 for one input): each input in each state, and what follows tells it."""
    b = bench(MACHINES[name])
    events = tour_events(b.machine)
    word = [on for _, on in events]
    assert taken(b.machine, word) == set(b.machine.rows), "the tour leaves out a transition"
    factors = np.array([1.0, *SHIFTS.get(name, (0.8, 1.2))])
    each = Corners(3, currents=np.repeat(factors[:, None], len(b.circuit.currents), axis=1))
    run = b.run([events] * 3, events[-1][0] + 60e-12, each)
    wanted = b.machine.play(word)
    assert any(wanted)
    for corner, factor in enumerate(factors):
        assert answers(b, run, corner, events) == wanted, f"{name} with all biases times {factor}"


@pytest.mark.parametrize("name", GOLDEN["cells"])
def test_slips_are_josims(name: str) -> None:
    """JoSIM 2.7, phase mode, 0.1 ps: the same bench, nominal and at both ends of the bias margin."""
    golden = GOLDEN["cells"][name]
    b = bench(MACHINES[name])
    assert digest(name) == golden["netlist_sha256"], "the netlist changed: run the bench in JoSIM again"
    events = tour_events(b.machine)
    biases = [float(f) for f in golden["slips"]]
    assert len(biases) == 3
    each = Corners(3, currents=np.repeat(np.array(biases)[:, None], len(b.circuit.currents), axis=1))
    run = b.run([events] * 3, events[-1][0] + 60e-12, each)
    for corner, junctions in enumerate(golden["slips"].values()):
        assert len(junctions) == len(b.own) + len(b.machine.outputs)
        for junction, wanted in junctions.items():
            ours = sorted((t * 1e12, s) for s in (1, -1) for t in run.pulse_times(junction, corner, s))
            assert np.array([t * s for t, s in ours]) == pytest.approx(wanted, abs=0.01), junction


@pytest.mark.parametrize("bias", [0.8, 1.0, 1.2])
def test_inverter_answers_every_pulse_at_33_GHz(bias: float) -> None:
    b = bench(MACHINES["INV"])
    train = [(FIRST_S + 30e-12 * k, "a") for k in range(33)]
    each = Corners(1, currents=np.full((1, len(b.circuit.currents)), bias))
    run = b.run([train], train[-1][0] + 300e-12, each)
    out = run.pulse_times(b.load("q"), 0, -1)
    assert len(out) == 33, "and none by itself in the 300 ps after"
    assert len(run.pulse_times(b.load("q"), 0, 1)) == 0
    assert np.abs(np.diff(out)[4:] - 30e-12).max() < 0.5e-12


@pytest.mark.parametrize("bias", [0.85, 1.0, 1.2])
def test_dc_sfq_gives_a_pulse_on_each_rise(bias: float) -> None:
    """The rise of a 20 ps edge and of a 400 ps one; nothing on the falls."""
    circuit = converters.dc_circuit()
    for edge in (20e-12, 400e-12):
        shape = converters.ramps(edge, 2)
        deck = Corners(
            1, shapes={"IIN": [shape]}, currents=np.where(np.array(circuit.currents.names) == "IIN", 1.0, bias)[None]
        )
        run = batch(circuit, deck, h=0.1e-12, t_stop=shape.times[-1] + 100e-12, watch=["B1|X1|XQ1"])
        out = run.pulse_times("B1|X1|XQ1", 0)
        rises = [shape.times[k] for k in (1, 5)]
        assert len(out) == 2
        assert all(0 < t - rise < edge + 20e-12 for t, rise in zip(out, rises, strict=True))
        assert len(run.pulse_times("B1|X1|XQ1", 0, -1)) == 0


def test_sfq_dc_holds_a_voltage() -> None:
    """Mean voltage by the traces, against the table's, which counts slips: V = f Phi0; zero after a reset."""
    circuit = converters.level_circuit()
    pulses = {"VS": [triangles([100e-12, 700e-12])], "VR": [triangles([400e-12])]}
    run = batch(circuit, Corners(1, shapes=pulses), h=0.1e-12, t_stop=1e-9, probes=["V(NV)"])
    volts, table = run.traces["V(NV)"][0], load_cells()["SFQDC"].converter

    def mean(low_ps: float, high_ps: float) -> float:
        return float(volts[(run.times_s >= low_ps * 1e-12) & (run.times_s < high_ps * 1e-12)].mean())

    assert abs(mean(40, 95)) < 2e-6
    assert mean(150, 390) == pytest.approx(table["on_V"], rel=0.1)
    assert abs(mean(450, 690)) < 2e-6
    assert mean(750, 990) == pytest.approx(table["on_V"], rel=0.1)


@pytest.mark.parametrize("name", ["MERGE", "NDRO", "NOT"])
def test_pulses_nearer_than_the_separation_go_wrong(name: str) -> None:
    """Just below ``least_s`` some state answers otherwise; from it on all answer as the machine says."""
    b, cell = bench(MACHINES[name]), load_cells()[name]
    s = max((s for s in cell.separations if s.first != s.then), key=lambda s: s.least_s)
    assert s.least_s > 1e-12
    for apart, good in ((s.least_s, True), (s.least_s + 3e-12, True), (s.least_s - 0.5e-12, False)):
        trains = truth.trains(b, s.first, s.then, apart)
        run = b.run(trains, max(t[-1][0] for t in trains) + 60e-12)
        assert all(counts_right(b, run, k, t) for k, t in enumerate(trains)) == good, (s, apart)


def test_random_words_are_answered_as_the_tables_say() -> None:
    """Words that no derivation saw: 24 inputs, 40 ps apart; answers and delays of the tables within 0.5 ps."""
    rng = np.random.default_rng(5)
    for name in ("DFF", "NDRO", "XOR", "AND"):
        b, cell = bench(MACHINES[name]), load_cells()[name]
        events = spaced([str(x) for x in rng.choice(b.machine.inputs, 24)], 40e-12)
        run = b.run([events], events[-1][0] + 60e-12)
        assert right(b, run, 0, events), name
        out, state = run.pulse_times(b.load("q"), 0), b.machine.start
        seen = dict.fromkeys(b.machine.inputs, 0)
        k = 0
        for _, on in events:
            arrived = run.pulse_times(b.driver(on), 0)[seen[on]]
            seen[on] += 1
            row = cell.transition(state, on)
            if row.out:
                assert out[k] - arrived == pytest.approx(row.delay_s, abs=0.5e-12), (name, state, on)
                k += 1
            state = row.to
        assert k == len(out) >= 2, name


def test_tables_belong_to_the_netlists() -> None:
    cells = load_cells()
    assert set(cells) == {*MACHINES, *CURRENTS, *CONVERTERS}
    _, blocks = library()
    for name, cell in cells.items():
        machine: Machine = (MACHINES | CURRENTS | CONVERTERS)[name]
        assert cell.provenance.deck_sha256 == digest(name), f"{name}: derive its table again"
        assert (*cell.inputs, *cell.outputs, *cell.controls) == tuple(blocks[name].splitlines()[0].split()[2:]), name
        assert {(t.source, t.on): (t.to, t.out) for t in cell.transitions} == dict(machine.rows), name
        assert all(t.delay_s > 0 for t in cell.transitions if t.out)
        assert cell.start == machine.start


def test_margins_of_the_shipped_cells() -> None:
    """MERGE +-30 %, INV +-20 % and 33 GHz; the others at least 18 % on all biases and 15 % on each part."""
    cells = load_cells()
    bias = {name: cell.margins["bias_global"] for name, cell in cells.items()}
    assert bias["MERGE"].low <= 0.7
    assert bias["MERGE"].high >= 1.3
    assert bias["INV"].low <= 0.8
    assert bias["INV"].high >= 1.2
    assert cells["INV"].max_Hz > 33.4e9
    for name, cell in cells.items():
        assert bias[name].low <= 0.82, name
        assert bias[name].high >= 1.2, name
        assert cell.critical_margin[1] >= 0.15, (name, cell.critical_margin)


def test_words_and_machines_by_hand() -> None:
    assert every_word("ab", 2) == list("aabba")
    ndro = MACHINES["NDRO"]
    assert ndro.play("scrcsc") == [(), ("q",), (), (), (), ("q",)]
    assert ndro.way("1") == ("s",)
    assert ndro.probes() == (("c",),)
    assert MACHINES["XOR"].after("ab") == "0"
    assert MACHINES["AND"].play("abcac") == [(), (), ("q",), (), ()]
    assert set(MACHINES["AND"].rows) == {(s, i) for s in ("0", "a", "b", "ab") for i in "abc"}
    assert tour(MACHINES["JTL"]) == ["a"] * 8
    with pytest.raises(ValueError, match="NDRO: state 'x' is out of reach"):
        ndro.way("x")


def test_library_keeps_no_old_cell() -> None:
    """The file of the package is ours and better; JoSIM's traces of the older state stand beside its netlists."""
    _, now = library()
    _, old = library(Path(__file__).parent / "golden" / "sfq" / "cells.inc")
    assert now["JTL"] == old["JTL"]
    assert now["MERGE"] != old["MERGE"]
    assert "not public to us" in CELLS.read_text()
