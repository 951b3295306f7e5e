"""A circuit as text and back: nothing may be lost on the way."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from sfq_decks import EVERYTHING

from sim.sfq import Circuit, load, loads
from sim.sfq.circuit import PerElement
from sim.sfq.corners import Scaled
from sim.sfq.deck_text import flat, shape_text
from sim.sfq.shapes import Dc

GOLDEN = Path(__file__).parent / "golden" / "sfq"
ENDS = {"a", "b", "c", "d", "ca", "cb"}


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
    assert_returns(load(GOLDEN / deck).flatten(), base=GOLDEN)


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
