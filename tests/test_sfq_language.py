"""The rest of the deck's language: lines, controlled sources, noise and spread, WRspice's ways, JoSIM's warnings."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from sim.sfq import DeckWarning, load, loads
from sim.sfq.asked import IvRequest
from sim.sfq.circuit import Circuit
from sim.sfq.requests import every_node

MODEL = ".model jm jj(rtype=1, cap=0.07pF, r0=160, rn=16, icrit=0.1mA)\n"


def flat(text: str) -> Circuit:
    return loads(text).flatten()


def nodes(c: Circuit, *at: int) -> list[str]:
    return [c.nodes[int(k)] for k in at]


def test_transmission_line_in_both_keyword_orders() -> None:
    c = flat("T1 1 0 2 3 z0=5 td=10pS\n.param z=3\nT2 2 0 4 0 LOSSLESS TD=2p Z0=2*z\nT3 4 0 5 0 z0=5 f=25g\nR1 5 0 1\n")
    t = c.lines
    assert t.names == ("T1", "T2", "T3")
    assert nodes(c, t.a[0], t.b[0], t.c[0], t.d[0]) == ["1", "0", "2", "3"]
    assert t.z0_ohm.tolist() == [5, 6, 5]
    assert t.td_s.tolist() == pytest.approx([10e-12, 2e-12, 10e-12])


def test_controlled_sources_in_josims_order() -> None:
    c = flat("E1 1 0 2 3 2\nF1 4 0 5 0 {1+2}\nG1 0 6 2 0 -0.01\nH1 7 0 8 9 50\nR1 1 0 1\n").controlled
    assert (c.names, c.kinds) == (("E1", "F1", "G1", "H1"), ("E", "F", "G", "H"))
    assert c.gain.tolist() == [2, 3, -0.01, 50]


def test_current_of_a_voltage_source_is_sensed_in_series() -> None:
    c = flat("V1 1 2 0\nR1 1 0 1\nR2 2 0 1\nF1 3 0 V1 2\nH1 4 0 V1 5\n")
    v, k = c.voltages, c.controlled
    chain = nodes(c, v.a[0], v.b[0], k.cb[1], k.ca[0], k.cb[0])
    # V1 goes to a node of its own, from where H1's branch and then F1's lead to node 2
    assert (chain[0], chain[2], chain[4]) == ("1", chain[3], "2")
    assert nodes(c, k.ca[1])[0] == chain[1]
    assert len(set(chain)) == 4


def test_noise_and_spread_of_element_line_and_block() -> None:
    with pytest.warns(DeckWarning, match="holds for all instances of HOT; JoSIM ignores it"):
        deck = loads(
            MODEL + ".subckt hot a\n.temp 20\n.spread R=0.3\nR1 a 0 1\nR2 a 0 1 temp=30\nX1 cold a\n.ends\n"
            ".subckt cold a\nR3 a 0 1\nR4 a 0 2 neb=5g spread=0.4\n.ends\n"
            "X1 hot n\nR5 n 0 1\nB1 n 0 jm temp=2\nL1 n 0 1p\nC1 n 0 1p spread=0.02\nB2 n 0 jm neb=1\n"
            ".temp 4.2\n.neb 1T\n.spread 0.1 L=0.05\n.option seed=7\n"
        )
    c = deck.flatten()
    assert c.resistors.names == ("R1|X1", "R2|X1", "R3|X1|X1", "R4|X1|X1", "R5")
    assert c.temperature_K is not None
    assert c.neb_Hz is not None
    assert c.spread is not None
    assert c.temperature_K.resistors.tolist() == [20, 30, 20, 20, 4.2]
    assert c.temperature_K.junctions.tolist() == [2, 4.2]
    assert c.neb_Hz.resistors.tolist() == [1e12, 1e12, 1e12, 5e9, 1e12]
    assert c.neb_Hz.junctions.tolist() == [1e12, 1]
    assert c.spread.resistors.tolist() == [0.3, 0.3, 0.3, 0.4, 0.1]
    assert (c.spread.inductors.tolist(), c.spread.capacitors.tolist()) == ([0.05], [0.02])
    assert c.seed == 7


def test_a_deck_without_noise_has_none() -> None:
    c = flat(MODEL + "R1 1 0 1\nB1 1 0 jm\n.temp 0\n.neb 1T\n")
    assert (c.temperature_K, c.spread, c.start_V, c.start_rad, c.seed) == (None, None, None, None, None)


@pytest.mark.parametrize(
    ("text", "seed"),
    [
        ("seed=4190754512324577", 4190754512324577),
        ("seed 12", 12),
        ("seed=auto", None),
        ("seed={2*s}", 18),
        ("x=1", None),
    ],
)
def test_seeds(text: str, seed: int | None) -> None:
    assert flat(f"R1 1 0 1\n.option {text}\n.param s=9\n").seed == seed
    assert flat(f"R1 1 0 1\n.option seed={2**64 - 1}\n").seed == 2**64 - 1


def test_initial_conditions() -> None:
    text = "B1 1 0 jm ic=1m, 1.5\nB2 1 0 jm vj=2m ics=0.2m\nB3 1 0 jm phi=pi/2\nB4 1 0 jm ic=0.3m\nB5 1 0 jm ic=0,0\n"
    with pytest.warns(DeckWarning, match="is an initial condition") as said:
        c = flat(MODEL + text)
    assert len(said) == 1
    assert c.start_V is not None
    assert c.start_rad is not None
    assert c.start_V.tolist() == [1e-3, 2e-3, 0, 0, 0]
    assert c.start_rad.tolist() == pytest.approx([1.5, 0, math.pi / 2, 0, 0])
    assert c.junctions.ic_A.tolist() == pytest.approx([0.1e-3, 0.2e-3, 0.1e-3, 0.3e-3, 0.1e-3])


def test_parasitics_of_a_junction() -> None:
    c = flat(MODEL + ".subckt s a\nB1 a 0 jm area=2 lser=0.5p lsh=1p vshunt=0.4m\n.ends\nX1 s n\nR1 n 0 1\n")
    junction, series, shunt = c.junctions, c.inductors, c.resistors
    assert dict(zip(series.names, series.value.tolist(), strict=True)) == pytest.approx(
        {"LB1_SHUNT|X1": 1e-12, "LB1_SERIES|X1": 0.5e-12}
    )
    assert shunt.names == ("RB1_SHUNT|X1", "R1")
    assert shunt.value.tolist() == pytest.approx([2.0, 1.0])
    assert nodes(c, junction.a[0], junction.b[0]) == ["B1_SERIES|X1", "0"]
    assert nodes(c, shunt.a[0], shunt.b[0], series.a[0], series.b[0]) == ["N", "B1_SHUNT|X1", "B1_SHUNT|X1", "0"]


def test_wrspice_model_by_its_parameters() -> None:
    c = flat(
        ".model w jj(rtype=1, icrit=0.2m, vm=16m, icrn=1.7m, cpic=0.6n, vshunt=0.5m, lsh0=1p, lsh1=0.5p, pijj=1)\n"
        ".model free jj(rtype=0, cct=1)\nB1 1 0 w ics=0.4m\nB2 1 0 free\n"
    )
    j = c.junctions
    assert j.ic_A.tolist() == pytest.approx([0.4e-3, 1e-3])
    assert j.r0_ohm.tolist() == pytest.approx([40, 1e12])
    assert j.rn_ohm.tolist() == pytest.approx([4.25, 1e12])
    assert j.c_F.tolist() == pytest.approx([0.6e-9 * 0.4e-3, 0.7e-12])
    assert j.vg_V.tolist() == pytest.approx([2.6e-3, 2.6e-3])
    assert j.delv_V.tolist() == pytest.approx([80e-6, 80e-6])
    assert j.phi_rad.tolist() == pytest.approx([math.pi, 0])
    assert c.resistors.value.tolist() == pytest.approx([1.25])
    assert c.inductors.value.tolist() == pytest.approx([1e-12 + 0.5e-12 * 1.25])


def test_what_wrspice_models_otherwise_is_said() -> None:
    with pytest.warns(DeckWarning, match="not modelled of WRspice's: rtype=4 .*cct=2"):
        flat(".model w jj(rtype=4, cct=2, icrit=0.2m)\nB1 1 0 w\n")


def test_wrspice_deck_with_title_parameters_and_node_order() -> None:
    text = (
        "JTL test bench of a library\n.tran 0.1p 20p uic\n"
        ".subckt jtl a b param: l=2p ib=175u\nL1 a 1 l\nB1 1 0 11 jj1 ics=0.25m\nL2 1 b {2*l}\n"
        "I1 0 1 pwl(0 0 5p ib)\n.ends\n"
        ".model jj1 jj(rtype=1, cct=1, icon=10m, vg=2.8m, delv=0.08m, icrit=1m, r0=30, rn=1.64706, cap=0.7p)\n"
        "X1 1 2 jtl l=3p\nX2 2 3 jtl ib='100u+50u'\nX3 3 4 jtl L1=5p\nV1 1 0 dc 0 pulse(0 1m 5p 1p 1p 2p 50p) ac 1\n"
        "R1 4 0 2 l\n.control\nrun\nset units=x\n.endc\n"
    )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        deck = loads(text)
        c = deck.flatten()
    told = [str(w.message) for w in said]
    assert any("is read as a title" in t for t in told)
    assert any("AC 1 is ignored" in t for t in told)
    assert sum("is no command of ours" in t for t in told) == 2
    assert any("'L' after the value" in t for t in told)
    assert c.inductors.value.tolist() == pytest.approx([3e-12, 6e-12, 2e-12, 4e-12, 5e-12, 4e-12])
    assert c.bias_current_A == pytest.approx((175 + 150 + 175) * 1e-6)
    assert deck.tran is not None
    assert deck.tran.uic


def test_names_with_gnd_are_ground_unless_they_are_pins() -> None:
    with pytest.warns(DeckWarning, match="node GND2 contains GND and is ground, as in JoSIM"):
        c = flat(".subckt s a gndx\nR1 a gndx 1\n.ends\nX1 s n m\nR2 n gnd2 1\nR3 m GND 1\nR4 n m 1\n")
    assert c.nodes == ("0", "N", "M")
    assert c.resistors.b.tolist() == [2, 0, 0, 2]


def test_negative_values_are_taken_as_they_are() -> None:
    c = flat("R1 1 0 -5\nL1 1 2 -3p\nC1 2 0 -1f\nR2 2 0 1\n")
    assert (c.resistors.value.tolist(), c.inductors.value.tolist()) == ([-5, 1], [-3e-12])
    assert c.capacitors.value.tolist() == [-1e-15]


WARNINGS = {
    ".model q jj(bf=1)\nB1 1 0 q": "unknown model parameter BF=1 is ignored",
    ".subckt s a\nR1 a 0 1\n.print p(1)\n.ends\nX1 s 1": "inside .subckt S is ignored",
    ".subckt s a\nR1 a 0 1\n.ends t\nX1 s 1": "closes S; JoSIM does not read the name",
    ".subckt s a\nR1 a 0 1\n.ends\n.subckt s a\nR1 a 0 2\n.ends\nX1 s 1": "replaces the definition",
    "R1 1 0 1\n.tran 1p 9p\n.tran 2p 9p": "replaces the .tran",
    "R1 1 0 5 junk": "'JUNK' after the value is ignored",
    "L1 1 0 5p ic=0": "ic= is ignored",
    ".model q jj(rtype=3)\nB1 1 0 q": "rtype=3 is taken as 1",
    "R1 1 0 1\n.plot v(1) xlimit 0 1n": "XLIMIT: not an output request; left out",
    "R1 1 0 1\n.control\nprint tran phase(b1)\n.endc": "not an output request; left out",
}


@pytest.mark.parametrize("text", WARNINGS)
def test_what_josim_only_warns_of(text: str) -> None:
    with pytest.warns(DeckWarning, match=WARNINGS[text]):
        flat(text)


def test_values_with_spaces_and_quotes() -> None:
    c = flat(
        ".param w = 5 * s\n.param s=2\nR1 1 0 2 * w + 1\nR2 1 0 {w - 1} [R7]\n.param odd=0.7'\nR3 1 0 '3 * w'\n"
        "I1 0 1 pwl(0 0 s*1p w * 1u)\n"
    )
    assert c.resistors.value.tolist() == [21, 9, 30]
    assert c.bias_current_A == pytest.approx(1e-5)


def test_comments_behind_a_value() -> None:
    c = flat(
        "R1 1 0 5 # the load\nR2 1 0 6 // 5\nL1 1 0 2p * to the next cell\nC1 1 0 3f *old\n"
        "R3 1 0 2 * 3\nR4 1 0 2 * 3 + 1\n"
    )
    assert c.resistors.value.tolist() == [5, 6, 6, 7]
    assert [*c.inductors.value.tolist(), *c.capacitors.value.tolist()] == pytest.approx([2e-12, 3e-15])


def test_files_of_other_systems(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "my cells.inc").write_bytes(b"R2 1 0 5\r\n")
    deck = '\ufeff* title\r\nI1 0 1 pwl(0 0 5p 3\u00b5A)\r\n.include "lib\\my cells.inc"\r\nL1 1 0 {2 * 1p}\r\n'
    (tmp_path / "a.cir").write_text(deck, encoding="utf-8", newline="")
    c = load(tmp_path / "a.cir").flatten()
    assert c.bias_current_A == pytest.approx(3e-6)
    assert c.resistors.value.tolist() == [5]


def test_options_with_spaces() -> None:
    c = flat(MODEL + ".subckt s a\nR1 a 0 1\nB1 a 0 jm area = 2 * 1.5\n.ends\nX1 s n R1 = 2 + 3\nX2 s n B1 = 4\n")
    assert c.resistors.value.tolist() == [5, 1]
    assert c.junctions.ic_A.tolist() == pytest.approx([3e-4, 4e-4])


def test_overrides_reach_into_nested_instances() -> None:
    c = flat(
        ".subckt in a\nR1 a 0 1\n.ends\n.subckt out a\nX1 in a\nX2 in a\n.ends\nX9 out n R1|X2=5 \nX8 out n R1.X1=7\n"
    )
    assert c.resistors.value.tolist() == [1, 5, 7, 1]


def test_couplings_reach_into_instances() -> None:
    c = flat(".subckt s a\nL1 a 0 1p\n.ends\nX1 s n\nX2 s m\nR1 n 0 1\nR2 m 0 1\nK1 L1|X1 L1.X2 -0.3\n")
    assert [c.inductors.names[int(k)] for k in (*c.mutuals.la, *c.mutuals.lb)] == ["L1|X1", "L1|X2"]


def test_noise_has_the_name_of_its_source() -> None:
    c = flat(
        "I1 0 1 noise(1 0 1p)\nI2 0 1 noise(1 0 1p)\nI3 0 1 noise(1 0 1p) + noise(1 0 1p)\nR1 1 0 1\n.option seed=3\n"
    )
    t = np.arange(1, 9) * 1e-12
    values = [s.sample(t, 1e-13, 1e-9) for s in c.currents.shapes]
    assert len({tuple(v) for v in values}) == 3
    assert not np.allclose(values[2], 2 * values[0])


def test_names_with_points_in_them_are_found() -> None:
    c = flat(".subckt s a\nR1 a 0 1\n.ends\nXand.3 s n.1\nR2 n.1 0 1\n.print i(R1.Xand.3) v(n.1) v(n.1,0) i(R9.X)\n")
    assert [r.label for r in c.requests] == ["I(R1|XAND.3)", "V(N.1)", "V(N.1,0)", "I(R9|X)"]
    assert [r.label for r in every_node(c.nodes)] == ["P(N.1)"]


def test_requests_of_analyses() -> None:
    deck = loads(
        MODEL
        + "B1 1 0 jm\nR1 1 0 1\nI1 0 1 pwl(0 0 5p 90u)\n.param top=0.3m\n.iv jm top Curve.csv\n.iv jm.cell 1m c2.csv\n"
        ".dc op\n.margin I L1.X2 watch=B1.X1,B2 dt=3p\n.mc 200 0.1 L=0.05 GI=0.02 dist=uniform seed=4\n"
        ".measure n count b1 from=1p to=9p\n.measure tran d delay b1 b2.x1 n=2\n.meas top max v(1)\n"
    )
    a = deck.asked
    assert [(r.model, r.subckt, r.imax_A, r.file) for r in a.iv] == [
        ("JM", "", 0.3e-3, "Curve.csv"), ("JM", "CELL", 1e-3, "c2.csv"),
    ]  # fmt: skip
    assert isinstance(a.iv[0], IvRequest)
    assert len(a.op) == 1
    assert (a.margins[0].targets, a.margins[0].watch, a.margins[0].dt_s) == (("I", "L1|X2"), ("B1|X1", "B2"), 3e-12)
    assert a.mc[0].spread == {"L": 0.05, "B": 0.1, "R": 0.1, "C": 0.1}
    assert (a.mc[0].runs, a.mc[0].common, a.mc[0].uniform, a.mc[0].seed) == (200, {"I": 0.02}, True, 4)
    assert [(m.name, m.what, m.first, m.second) for m in a.measures] == [
        ("N", "count", "B1", ""), ("D", "delay", "B1", "B2|X1"), ("TOP", "max", "V(1)", ""),
    ]  # fmt: skip
    assert (a.measures[0].from_s, a.measures[0].to_s, a.measures[1].number) == (1e-12, 9e-12, 2)
    assert deck.model("jm").ic_A == 1e-4


def test_wave_files_stay_in_the_decks_folder(tmp_path: Path) -> None:
    folder = tmp_path / "deck"
    (folder / "sub").mkdir(parents=True)
    (folder / "Wave.dat").write_text("0 1 2.5, 1m\n9 9 9\n")
    (folder / "a.cir").write_text("I1 0 1 cus(Wave.dat 2p 1u 0)\nR1 1 0 1\n")
    shape = load(folder / "a.cir").flatten().currents.shapes[0]
    assert getattr(shape, "samples", None) == (0.0, 1.0, 2.5, 1e-3)
    (tmp_path / "out.dat").write_text("0 1\n")
    (folder / "a.cir").write_text("I1 0 1 cus(../out.dat 2p)\nR1 1 0 1\n")
    with pytest.raises(ValueError, match="leaves the deck's folder"):
        load(folder / "a.cir").flatten()
    (folder / "a.cir").write_text("I1 0 1 cus(none.dat 2p)\nR1 1 0 1\n")
    with pytest.raises(ValueError, match="no such wave file"):
        load(folder / "a.cir").flatten()
