"""What a look at a deck finds before a run, and each junction's beta_c and beta_L."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from sim.sfq import DeckError, DeckWarning, load, loads
from sim.sfq.sanity import Finding, check, findings, parameters

GOLDEN = Path(__file__).parent / "golden" / "sfq"
MODEL = ".model jm jj(rtype=1, cap=0.07pF, r0=160, rn=16, icrit=0.1mA)\n"
SHUNTED = "B1 1 0 jm area=2.5\nRS 1 2 2.744\nLS 2 0 1p\n"
JTL = f".subckt jtl a b\nL1 a 1 2p\n{SHUNTED}I1 0 1 pwl(0 0 5p 175u)\nL2 1 b 2p\n.ends\n"
UNUSED = ".subckt s a b\nR1 a 0 1\n.ends\n.subckt t c\n.ends\nX1 s 1 2\nR1 1 0 1"
SYN = ".subckt syn a s\nB1 a 0 jm area=2.5\nRS a 0 2.7\nI1 0 a pwl(0 0 5p 175u)\nLW a 1 36p\nRW 1 s 0.4\n.ends\n"


def found(text: str) -> list[str]:
    return [str(f) for f in findings(loads(text))]


@pytest.mark.parametrize("deck", sorted(p.name for p in GOLDEN.glob("*.cir")))
def test_golden_decks_are_sound(deck: str) -> None:
    # junctions without a shunt, on purpose
    known = {"tb_jj_ramp.cir": ["B1"], "lang_pi.cir": ["BPI1|XI0 and 1 more"]}
    assert [f.name for f in findings(load(GOLDEN / deck))] == known.get(deck, [])


@pytest.mark.parametrize(
    ("text", "rule", "fatal"),
    [
        ("V1 1 0 1m\nV2 1 0 2m\nR1 1 0 1", r":2: V2: closes a loop of voltage or phase sources .* at 0", True),
        ("V1 1 0 1m\nP1 2 1 1\nL1 2 0 0\nR1 1 0 1", r"L1|P1: closes a loop", True),
        ("V1 1 0 1m\nL1 1 2 1p\nL2 2 0 1p", r":1: V1: a constant voltage across inductors only", False),
        ("R1 1 0 1\nR2 2 3 1\nI1 0 2 1m", r":2: R2: floating nodes 2, 3: no way to ground\. ", False),
        ("L1 1 0 1p\nL2 2 3 1p\nK1 L1 L2 0.5\nR1 1 0 1", r":2: L2: floating nodes 2, 3", False),
        ("R1 1 2 1\nR2 2 1 1", r"floating nodes 1, 2: no way to ground, and nothing in the deck is grounded", False),
        ("T1 1 0 2 0 z0=5 td=1p\nE1 3 4 2 0 1\nR1 1 0 1", r"floating nodes 3, 4", False),
        ("R1 1 0 1\nC1 1 1 1p", r":2: C1: both ends on 1", False),
        (
            ".subckt s a b\nR1 a 0 1\n.ends\n.subckt t c\n.ends\nX1 s 1 2\nR1 1 0 1",
            r":1: S: pin B is on no element",
            False,
        ),
        (MODEL + "B1 1 0 jm\nRS 1 0 30", r":2: B1: beta_c is .* \(shunt 30 ohm\)", False),
        (MODEL + "B1 1 0 jm area=200\nRS 1 0 0.01", r"B1: critical current 0\.02 A.*check its unit", False),
    ],
)
def test_what_is_found(text: str, rule: str, fatal: bool) -> None:
    all_ = [f for f in findings(loads(text)) if f.fatal == fatal]
    assert len(all_) == 1
    with pytest.raises(DeckError, match=rule):
        raise all_[0].error()


def test_check_warns_or_raises() -> None:
    with pytest.warns(DeckWarning, match="floating nodes 2, 3"):
        check(loads("R1 1 0 1\nR2 2 3 1"))
    with pytest.raises(DeckError, match="closes a loop"):
        check(loads("V1 1 0 1m\nV2 1 0 2m"))


def test_fan_out_names_the_cells() -> None:
    text = MODEL + JTL + "X1 jtl 0 n\nX2 jtl n p\nX3 jtl n q\nRp p 0 3\nRq q 0 3\n"
    assert found(text) == [
        "<text>:10: X1: node N joins ports of 3 cells (X1, X2, X3). Fix: a pulse goes to one cell: put a splitter "
        "where it fans out, a merger where it fans in"
    ]
    assert found(text.replace("X3 jtl n q", "X3 jtl r q\nRr r 0 3")) == []
    inside = MODEL + JTL + ".subckt s a b\nX1 jtl a n\nX2 jtl n b\nX3 jtl n 0\n.ends\nX1 s 1 2\nR1 1 0 1\nR2 2 0 1\n"
    assert "node N of S joins ports of 3 cells" in found(inside)[0]


def test_summing_nodes_and_bias_rails_are_no_fan_out() -> None:
    summing = (
        MODEL + JTL + SYN + "X1 syn 1 s\nX2 syn 2 s\nX3 syn 3 s\nB1 s 0 jm\nRS s 0 6\nR1 1 0 1\nR2 2 0 1\nR3 3 0 1\n"
    )
    assert found(summing) == []
    rail = JTL.replace("jtl a b", "jtl a b v").replace("I1 0 1 pwl(0 0 5p 175u)", "L9 v 1 9p\nI1 0 1 1u")
    three = "".join(f"X{k} jtl a{k} b{k} v\nRa{k} a{k} 0 1\nRb{k} b{k} 0 1\n" for k in range(3))
    assert found(MODEL + rail + three + "V1 v 0 pwl(0 0 1p 2.5m)\n") == []


def test_numbers_of_junctions() -> None:
    text = (
        MODEL + "B1 1 p jm area=2.5\nLP p 0 0.2p\nRS 1 s 2.744\nLS s p 1p\nL1 1 2 2p\nL2 2 0 8p\n"
        "B2 2 q jm\nLQ q 0 0.1p\nRG 2 t 6\nLG t 0 0.5p\nRload 2 0 9\nB3 1 2 jm\nB4 9 0 jm\nR9 9 0 50\nR8 9 0 50\n"
    )
    b1, b2, b3, b4 = parameters(loads(text).flatten())
    r = 1 / (1 / 2.744 + 2.5 / 160)
    assert b1.beta_c == pytest.approx(2 * math.pi * 2.5e-4 * r**2 * 1.75e-13 / 2.067833831e-15)
    assert (b1.shunt_ohm, b1.inductance_H) == (pytest.approx(2.744), 2e-12)
    assert b1.beta_L == pytest.approx(2 * math.pi * 2e-12 * 2.5e-4 / 2.067833831e-15)
    # nothing on B2's own nodes, so what its node has to ground counts: shunt and load
    assert b2.shunt_ohm == pytest.approx(1 / (1 / 6 + 1 / 9))
    assert (b3.shunt_ohm, b3.inductance_H) == (None, 2e-12)
    assert (b4.shunt_ohm, b4.inductance_H, b4.beta_L) == (pytest.approx(25), None, None)


def test_one_line_is_told_of_once() -> None:
    text = MODEL + ".subckt s a\nB1 a 0 jm\n.ends\n" + "".join(f"X{k} s n{k}\nR{k} n{k} 0 50\n" for k in range(5))
    told = findings(loads(text))
    assert [type(t) for t in told] == [Finding]
    assert told[0].name == "B1|X0 and 4 more"
