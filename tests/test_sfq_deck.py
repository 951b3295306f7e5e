"""Decks: what is read, how it is flattened, and every refusal with its place and its fix."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.sfq import DeckError, load, loads
from sim.sfq.circuit import Circuit

MODEL = ".model jm jj(rtype=1, cap=0.07pF, r0=160, rn=16, icrit=0.1mA)\n"


def flat(text: str) -> Circuit:
    return loads(text).flatten()


def test_elements_and_case() -> None:
    c = flat(
        MODEL
        + "r1 1 0 2\nL1 1 2 3p fcheck\nC1 2 gnd 4f\nb1 2 0 JM area=2.5\ni1 0 1 pwl(0 0 5p 1u)\nV1 3 0 1m\nR2 3 1 1k\n"
    )
    assert c.nodes == ("0", "1", "2", "3")
    assert c.resistors.names == ("R1", "R2")
    assert c.resistors.value.tolist() == [2.0, 1000.0]
    assert c.inductors.value.tolist() == [3e-12]
    assert (c.capacitors.a.tolist(), c.capacitors.b.tolist()) == ([2], [0])
    assert c.junctions.ic_A.tolist() == pytest.approx([2.5e-4])
    assert c.bias_current_A == 1e-6
    assert c.jj_count == 1


def test_junction_model_defaults_area_ic_and_rtype() -> None:
    c = flat(
        ".model a jj\n.model b jj(rtype=0 rn=8, CPR={1, 0.2}, phi=pi)\nB1 1 0 a\nB2 1 0 b ic=2m\nB3 1 0 9 a area=2\n"
    )
    j = c.junctions
    assert j.ic_A.tolist() == [1e-3, 2e-3, 2e-3]
    assert j.r0_ohm.tolist() == [30, 4, 15]
    assert j.rn_ohm.tolist() == [5, 4, 2.5]
    assert j.c_F.tolist() == pytest.approx([2.5e-12, 5e-12, 5e-12])
    assert j.cpr.tolist() == [[1, 0], [1, 0.2], [1, 0]]
    assert j.phi_rad.tolist() == pytest.approx([0, 3.141592653589793, 0])


def test_temperature_sets_the_normal_resistance() -> None:
    j = flat(".model a jj(t=4.2, tc=9.1, icrit=0.1m)\nB1 1 0 a\n").junctions
    # pi Delta/(2 e Ic) tanh(Delta/2kT) with Delta = 1.76 k Tc sqrt(cos(pi/2 (T/Tc)^2)), worked by hand
    delta = 1.76 * 1.38064852e-23 * 9.1 * 0.944538**0.5
    assert j.gap.tolist() == pytest.approx([delta / (2 * 1.38064852e-23 * 4.2)], rel=1e-4)
    assert j.rn_ohm.tolist() == pytest.approx([20.06], rel=1e-3)


def test_nested_names_pins_and_both_orders() -> None:
    c = flat(
        MODEL
        + ".subckt in a b\nB1 a m jm\nL1 m b 1p\n.subckt deep x\nR1 x 0 5\n.ends\nX1 deep m\n.ends in\n"
        + ".subckt out p\nX1 in p q\nRq q 0 1\n.ends\nXA1 out n\nXA2 n out\n"
    )
    assert c.junctions.names == ("B1|X1|XA1", "B1|X1|XA2")
    assert c.resistors.names[0] == "R1|X1|X1|XA1"
    assert {"N", "M|X1|XA1", "Q|XA2"} <= set(c.nodes)
    assert c.junctions.a.tolist() == [c.nodes.index("N")] * 2


def test_pin_named_zero_is_ground() -> None:
    c = flat(".subckt s 0 1\nR1 1 0 2\n.ends\nX1 s 0 a\n")
    assert c.resistors.b.tolist() == [0]


def test_overrides_replace_values_of_elements() -> None:
    c = flat(
        MODEL + ".param W=7\n.subckt s a\nR1 a 0 1\nL1 a b 2p\nB1 b 0 jm area=1\nB2 b 0 jm ic=1m\nI1 0 b dc 1u\n.ends\n"
        "X1 s n R1=W L1={2*3p} B1=2 B2=0.5m I1=3u\nX2 s n\n"
    )
    assert c.resistors.value.tolist() == [7, 1]
    assert c.inductors.value.tolist() == pytest.approx([6e-12, 2e-12])
    assert c.junctions.ic_A.tolist() == pytest.approx([2e-4, 5e-4, 1e-4, 1e-3])
    assert c.bias_current_A == pytest.approx(4e-6)


def test_params_in_any_order_and_scope() -> None:
    c = flat(
        ".param a=b*2\n.param b = c1 + 1 c1=3\n.subckt s x\n.param b=10 own=b+a\nR1 x 0 own\n.ends\nX1 s n\nR2 n 0 a\n"
        ".param c=k2\n.param k2=5\nR3 n 0 c\n"
    )
    assert c.resistors.value.tolist() == [18, 8, 5]


def test_continuation_comments_and_control_block() -> None:
    deck = loads(
        "* title\n  # more\nI1 0 1 pwl(0 0 ; tail\n+ 5p 1u\n   + 9p 2u)\nR1 1 0 1 $ tail\n"
        ".control\ntran 1p 10p DST\nprint p(r1)\n.endc\n.end\nnot read at all\n"
    )
    assert deck.flatten().currents.shapes[0].bias() == 2e-6
    assert deck.tran is not None
    assert not deck.tran.startup
    assert [r.label for r in deck.requests] == ["P(R1)"]


def test_tran_forms() -> None:
    def tran(text: str) -> tuple[float, ...]:
        t = loads(f".param st=2p\n.tran {text}\nR1 1 0 1\n").tran
        assert t is not None
        return t.step_s, t.stop_s, t.print_start_s, t.print_step_s

    assert tran("1p 9p") == pytest.approx((1e-12, 9e-12, 0, 1e-12))
    assert tran("st 9p 3p") == pytest.approx((2e-12, 9e-12, 3e-12, 2e-12))
    assert tran("1p 9p 0 0.5p 0 UIC") == pytest.approx((0.5e-12, 9e-12, 0, 0.5e-12))


def test_requests_in_all_forms() -> None:
    deck = loads(
        "R1 1 0 1\nR2 1 2 1\n.print devv R1\n.print DEVI r1\n.print phase R2.X1\n.print nodev 1 2\n.print nodep 1\n"
        ".file out/Case.csv\n.plot tran v(1) V(1,2) i(R1) c(R2) p(R1)\n.save @R1[c] r2#branch\n.save\n"
    )
    assert [r.label for r in deck.requests] == [
        "V(R1)", "I(R1)", "P(R2|X1)", "V(1,2)", "P(1)", "V(1)", "V(1,2)", "I(R1)", "I(R2)", "P(R1)", "I(R1)", "I(R2)",
    ]  # fmt: skip
    assert {r.file for r in deck.requests[5:]} == {"out/Case.csv"}


def test_temp_zero_neb_and_options_are_kept() -> None:
    deck = loads("R1 1 0 1\n.temp 0\n.neb 1T\n.option seed=11 quiet\n")
    assert (deck.temp_K, deck.neb_Hz, deck.options) == (0.0, 1e12, {"SEED": "11", "QUIET": ""})


def test_zero_inductor_is_a_short() -> None:
    c = flat("L1 1 0 0.000pH\nR1 1 0 0\nC1 1 0 0\n")
    assert (c.phases.names, c.voltages.names, len(c.inductors)) == (("L1",), ("R1",), 0)


REFUSALS = {
    "Q1 1 0 5": "no element begins with 'Q'",
    "R1 1 0": "write R1 node node value",
    "R1 1 0 5 2p": "'2P' after the value",
    "R1 1 0 5 2*W 3": "after the value",
    "R1 1 0 5 tc=1": "unknown option TC=1",
    "R1 1 0 2*wide": r"undefined parameter WIDE .* add \.param WIDE=value",
    "R1 1 0 2*": "has no value",
    ".param a=b\n.param b=a\nR1 1 0 a": r"defined by itself",
    ".param a=nowhere\nR1 1 0 1": "undefined parameter NOWHERE",
    ".param a=1/0\nR1 1 0 1": "has no value",
    ".param 5": "write .param name=expression",
    "B1 1 0 jx": "undefined model JX",
    "B1 1 0 a b c": "3 words where a model belongs",
    "B1 1 0 jm area=0\n" + MODEL: "give a value above 0",
    ".model q npn(bf=1)": "not a junction model",
    ".model q jj(r0=0)\nB1 1 0 q": "r0_ohm is 0",
    ".model q jj(t=10)\nB1 1 0 q": "not below TC",
    "X1 nowhere 1 2": "neither NOWHERE nor 2 is a known subcircuit",
    ".subckt s a b\nR1 a b 1\n.ends\nX1 s 1": r"1 nodes for 2 pins of S \(A B\)",
    ".subckt s a\nR1 a 0 1\n.ends\nX1 s 1 R2=5": "R2= names no element of S",
    ".subckt s a\nX1 s a\n.ends\nX1 s 1": "must not contain itself",
    ".subckt s a\nR1 a 0 1": r"\.subckt without \.ends",
    ".subckt s a a\n.ends": "name each pin once",
    ".ends": r"\.ends without \.subckt",
    "R1 1 0 1\nR1 2 0 1": "defined twice",
    ".dc v1 0 1": "unknown control .DC",
    "K1 R1 L1 0.5": "name two inductors",
    "L1 1 0 1p\nK1 L1 L2 0.5": "no inductor L2",
    "L1 1 0 1p\nL2 1 0 1p\nK1 L1 L2 1": r"give \|k\| below 1",
    "L1 1 0 1p\nL2 1 0 1p\nK1 L1 L2 .5\nK2 L2 L1 .5": "coupled twice",
    ".include cells.inc": "pass base_dir",
    "+ 5": "nothing to continue",
    "R1 1 0 1\n.tran 1p": "wrong number of values",
    "R1 1 0 1\n.tran 9p 1p": "0 < step < stop",
    "R1 1 0 1\n.print q(1)": "not an output request",
    "R1 1 0 1\n.print i(1,2)": "current of one element",
    "R1 1 0 1\n.print": "asks for nothing",
    "R1 1 0 1\n.print devv r1 r2": "DEVV with 2 names",
    "": "no elements",
}

REFUSALS |= {
    "T1 1 0 2 0 z0=5": "write T1 node node node node z0=ohm td=seconds",
    "T1 1 0 2 z0=5 td=1p": "3 nodes of a transmission line",
    "T1 1 0 2 0 5 1p": "6 nodes of a transmission line",
    "T1 1 0 2 0 z0=0 td=1p": "give both above 0",
    "T1 1 0 2 0 z0=5 td=1p len=1": "of a lossless line",
    "E1 1 0 2 0": "4 fields after the name",
    "E1 1 0 poly(1) 2 0 1 2": r"not supported yet: POLY\(1\)",
    "F1 1 0 V9 2": "no voltage source V9",
    "G1 1 0 2 0 m=5": "options on a controlled source",
    "R1 1 0 1\n.iv jm 1m": r"write \.iv model imax file",
    "R1 1 0 1\n.iv jm 0 f.csv": "give a current above 0",
    "R1 1 0 1\n.spread Q=0.1": "is no spread",
    "R1 1 0 1\n.spread 5": "3 sigma over value",
    "R1 1 0 1\n.temp": r"write \.temp value",
    "R1 1 0 1\n.temp -4": "give 0 or more",
    "R1 1 0 1 temp=-4": "give 0 or more",
    "L1 1 0 1p temp=4": "unknown option TEMP=4",
    "B1 1 0 jm lser=-1p\n" + MODEL: "below 0",
    "B1 1 0 jm control=l1\n" + MODEL: "not supported yet: control=",
    "R1 1 0 1\n.option seed=-3": "give a whole number",
    "R1 1 0 1\n.option seed=1.5": "give a whole number",
    "R1 1 0 1\n.op\n.margin tol=2": "0 < tol < 1",
    "R1 1 0 1\n.margin wide=2": "unknown option WIDE=2",
    "R1 1 0 1\n.mc": "write .mc runs",
    "R1 1 0 1\n.mc 2.5": "needs whole runs",
    "R1 1 0 1\n.mc 5 L=-1": "a spread below 0",
    "R1 1 0 1\n.measure a peak v(1)": "not a measurement",
    "R1 1 0 1\n.measure a max q(1)": "not an output request",
    "R1 1 0 1\n.measure a count B1 n=0": "count n from 1",
    "R1 1 0 1\n.file": "write .file name",
    "L1 1 0 1p\nL2 1 0 -1p\nK1 L1 L2 .5": "of unlike sign",
    "I1 1 0 cus(w.dat 1p)": "pass base_dir",
    "R1 1 0 {": "has no value",
    ".subckt a x\n.subckt b y\n.ends a\n.ends": "close the inner one first",
}


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals(text: str) -> None:
    with pytest.raises(DeckError, match=REFUSALS[text]) as caught:
        flat(text)
    assert str(caught.value).startswith("<text>:")
    assert "Fix: " in str(caught.value)
    assert caught.value.fix


def test_error_knows_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "lib.inc").write_text("* library\nR1 1 0 {oops}\n")
    (tmp_path / "a.cir").write_text("\n.include lib.inc\n")
    with pytest.raises(DeckError) as caught:
        load(tmp_path / "a.cir").flatten()
    e = caught.value
    assert (e.file, e.line, e.name) == ("lib.inc", 2, "R1")


def test_includes_are_confined(tmp_path: Path) -> None:
    inside = tmp_path / "project" / "sub"
    inside.mkdir(parents=True)
    (tmp_path / "outer.inc").write_text("R1 1 0 1\n")
    deck = inside.parent / "a.cir"
    for name in ("../outer.inc", str(tmp_path / "outer.inc"), "/etc/hostname"):
        deck.write_text(f".include {name}\n")
        with pytest.raises(DeckError, match="leaves the deck's folder"):
            load(deck)
    deck.write_text(".include ../outer.inc\n")
    assert len(load(deck, include_root=tmp_path).flatten().resistors) == 1
    (inside / "link.inc").symlink_to(tmp_path / "outer.inc")
    deck.write_text(".include sub/link.inc\n")
    with pytest.raises(DeckError, match="leaves the deck's folder"):
        load(deck)


def test_includes_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "a.cir").write_text(".include b.inc\n")
    (tmp_path / "b.inc").write_text(".include a.cir\n")
    with pytest.raises(DeckError, match="in a circle"):
        load(tmp_path / "a.cir")
    (tmp_path / "b.inc").write_text(".include none.inc\n")
    with pytest.raises(DeckError, match=r"b\.inc:1: none\.inc: cannot be read"):
        load(tmp_path / "a.cir")
    with pytest.raises(DeckError, match="cannot be read"):
        load(tmp_path / "none.cir")


def test_loads_with_a_folder(tmp_path: Path) -> None:
    (tmp_path / "lib.inc").write_text("R1 1 0 1\n.end\n")
    assert len(loads(".include lib.inc\nR2 1 0 1", base_dir=tmp_path).flatten().resistors) == 2


def test_cell_library_is_package_data_and_loads() -> None:
    root = Path(__file__).resolve().parent.parent / "hardware"
    text = (root / "sfq_cells.inc").read_text()
    names = [line.split()[1] for line in text.splitlines() if line.startswith(".subckt")]
    assert {"JTL", "SPLIT", "MERGE", "DFF", "INV", "SOMA", "STSYN", "TFF"} <= set(names)
    deck = loads(".include sfq_cells.inc\nX1 JTL a b\nR1 b 0 3\n", base_dir=root)
    assert deck.flatten().jj_count == 2


WORDS = st.sampled_from(
    [
        "R1",
        "L1",
        "L2",
        "C1",
        "B1",
        "I1",
        "V1",
        "P1",
        "K1",
        "X1",
        "X2",
        "T1",
        "0",
        "1",
        "2",
        "a",
        "gnd",
        "jm",
        "s",
        "5",
        "2.5p",
        "1u",
        "{a+1}",
        "(2)",
        "a=3",
        "area=2",
        "ic=1m",
        "k=",
        "=4",
        "pwl(0",
        "0",
        "1p",
        "1u)",
        "pulse(0",
        "1)",
        "sin(",
        "dc",
        ".param",
        ".subckt",
        ".ends",
        ".model",
        "jj(rtype=0)",
        ".tran",
        ".print",
        ".include",
        ".temp",
        ".option",
        ".end",
        "+",
        "*",
        ";",
        "v(1)",
        "p(b1)",
        ".control",
        ".endc",
        "phase",
        "devv",
        "@r1[c]",
        "1n",
        "DST",
        "(",
        ")",
        "{",
        ",",
        ".",
    ]
)


@pytest.mark.filterwarnings("ignore::sim.sfq.errors.DeckWarning")
@given(st.lists(st.lists(WORDS, min_size=1, max_size=6).map(" ".join), max_size=8).map("\n".join))
def test_any_deck_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(DeckError):
        loads(text).flatten()


@pytest.mark.filterwarnings("ignore::sim.sfq.errors.DeckWarning")
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(DeckError):
        loads(text).flatten()


def test_instances_that_multiply_are_bounded() -> None:
    levels = "".join(f".subckt s{k} a\nX1 s{k + 1} a\nX2 s{k + 1} a\n.ends\n" for k in range(40))
    with pytest.raises(DeckError, match="more than 1000000 elements"):
        flat(levels + ".subckt s40 a\nR1 a 0 1\n.ends\nX1 s0 n\n")
