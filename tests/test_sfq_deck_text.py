"""A circuit as text and back: nothing may be lost on the way."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from sim.sfq import Circuit, load, loads
from sim.sfq.circuit import PerElement
from sim.sfq.corners import Scaled
from sim.sfq.deck_text import flat, shape_text
from sim.sfq.shapes import Dc

GOLDEN = Path(__file__).parent / "golden" / "sfq"
ENDS = {"a", "b", "c", "d", "ca", "cb"}


EVERYTHING = """
.model a jj(rtype=0, rn=8, phi=1, cpr={1, 0.25, -0.1})
.model b jj(icrit=0.1m cpr=0.9)
.model w jj(vshunt=0.4m, icrit=0.3m, cct=1)
.subckt s p q
B1 p q a area=1.3 vj=1m phi=0.2 temp=4
B2 p 0 b ic=0.37m neb=3g
R1 p q 0
L1 q 0 0
L2 p 9 -2p
L3 9 0 3p spread=0.2
K1 L2 L4 0.1
L4 q 0 -1p
C1 p 0 1f
.ends
X1 s 1 2
X2 s 2 3
B7 3 0 w lser=0.1p
T1 1 0 4 0 z0=5 td=1p
E1 5 0 1 2 3
F1 6 0 V1 2
G1 7 0 1 2 -1m
H1 8 0 9 10 5
V1 1 0 dc 1m
P1 3 0 pws(0 0 5p 1)
I1 0 1 pulse(0 1m 5p)
I2 0 2 pulse(0 1 2 3 4 5 6)
I3 0 3 sin(0 1m)
I4 0 4 sin(0 1m 2g 3p 4 5 6)
I5 0 5 exp(0 1)
I6 0 6 exp(0 1 2 3 4 5)
I7 0 7 cus(w.dat 2p 3 2 1p 1)
I8 0 8 noise(1u 2p)
I9 0 9 noise(1u 2p 3p)
I10 0 10 1m
.tran 0.1p 90p 1p 0.5p 2p UIC DST
.spread 0.1 L=0.05
.option seed=77
.print p(B1.X1) v(1)
.file A.csv
.print i(L2.X2) v(1,2)
"""


def assert_same(one: Circuit, two: Circuit, rtol: float = 0.0) -> None:
    """All of two circuits but the order of their nodes."""
    assert sorted(one.nodes) == sorted(two.nodes)
    groups = (
        "resistors", "inductors", "capacitors", "mutuals", "junctions", "currents", "voltages", "phases", "lines",
        "controlled", "temperature_K", "neb_Hz", "spread",
    )  # fmt: skip
    for group in groups:
        x, y = getattr(one, group), getattr(two, group)
        assert (x is None) == (y is None), group
        for f in fields(x) if x is not None else ():
            u, v = getattr(x, f.name), getattr(y, f.name)
            if f.name in ENDS:
                assert [one.nodes[k] for k in u] == [two.nodes[k] for k in v], (group, f.name)
            elif isinstance(u, np.ndarray):
                np.testing.assert_allclose(u, v, rtol=rtol, atol=0, err_msg=f"{group}.{f.name}")
            else:
                assert u == v, (group, f.name)
    for name in ("start_V", "start_rad"):
        x, y = getattr(one, name), getattr(two, name)
        assert (x is None) == (y is None)
        assert x is None or x.tolist() == y.tolist()
    assert (one.seed, one.tran) == (two.seed, two.tran)
    assert [(r.label, r.file) for r in one.requests] == [(r.label, r.file) for r in two.requests]


def assert_returns(circuit: Circuit, rtol: float = 0.0, base: Path | None = None) -> None:
    again = loads(flat(circuit), base_dir=base).flatten()
    assert_same(circuit, again, rtol)
    assert_same(again, loads(flat(again), base_dir=base).flatten(), rtol)


@pytest.mark.parametrize("deck", sorted(p.name for p in GOLDEN.glob("*.cir")))
def test_golden_decks_return(deck: str) -> None:
    assert_returns(load(GOLDEN / deck).flatten())


def test_everything_returns(tmp_path: Path) -> None:
    (tmp_path / "W.DAT").write_text("1 2 3")
    assert_returns(loads(EVERYTHING, base_dir=tmp_path).flatten(), base=tmp_path)


def test_a_model_with_temperature_returns() -> None:
    text = ".model t jj(t=4.2, tc=9.1, d=0.3, icrit=0.1m)\n.model u jj(t=8.9)\nB1 1 0 t area=2\nB2 1 0 u\n"
    assert_returns(loads(text).flatten(), rtol=1e-13)


def test_a_shape_without_text_is_refused() -> None:
    with pytest.raises(ValueError, match="I1: no deck can write its shape"):
        shape_text(Scaled(Dc(1.0), 2.0), "I1")


def test_per_element_none_stays_none() -> None:
    circuit = loads("R1 1 0 1 temp=4.2\n").flatten()
    assert isinstance(circuit.temperature_K, PerElement)
    assert_returns(circuit)
