"""What a deck's own lines ask for is what the functions give."""

from __future__ import annotations

from pathlib import Path

import pytest
from sfq_study_decks import JTL

from sim.sfq import load, loads, margins, montecarlo
from sim.sfq.study.asked import curves_asked, margins_asked, yield_asked
from sim.sfq.study.iv import josim_iv

LINES = """.margin I L1.XA watch=B1.X2.XB dt=4p tol=0.02 max=2
.mc 12 L=0.1 B=0.2 GR=0.1 seed=5 dist=uniform watch=B1.X2.XB
.mc 6
.spread 0.15 R=0.3
"""


def test_margins_and_yields_of_a_deck() -> None:
    deck = loads(JTL + LINES)
    assert margins_asked(deck, deck.asked.margins[0]) == margins(
        deck, parameters=["I", "L1|XA"], watch=["B1|X2|XB"], t_tol_s=4e-12, tolerance=0.02, limits=(0.0, 2.0)
    )
    first, second = (yield_asked(deck, request) for request in deck.asked.mc)
    wanted = montecarlo(
        deck, n=12, spread={"L": 0.1, "B": 0.2}, common={"R": 0.1}, seed=5, distribution="uniform", watch=["B1.X2.XB"]
    )
    assert first.fails.tolist() == wanted.fails.tolist()
    assert first.corner(3).resistors == pytest.approx(wanted.corner(3).resistors)
    assert second.seed == 1
    assert set(second.spread.local["resistors"]) == {0.3}
    assert set(second.spread.local["inductors"]) == {0.15}


def test_noise_where_the_deck_is_warm() -> None:
    warm = loads(JTL + ".temp 4.2\n.neb 1t\n.option seed=4\n.mc 3 L=0.01 watch=B1.X2.XB\n")
    run = yield_asked(warm, warm.asked.mc[0])
    assert run.seed == 4
    assert run.yield_ == 1.0


def test_curves_of_a_deck(tmp_path: Path) -> None:
    path = tmp_path / "d.cir"
    path.write_text("B1 1 0 jm\nR1 1 0 1\n.model jm jj(rtype=0, rn=2, cap=0.01p, icrit=0.1m)\n.iv jm 30u Out.csv\n")
    ((file, curve),) = curves_asked(load(path)).items()
    assert file.lower() == "out.csv"
    assert curve.current_A.tolist() == josim_iv(load(path), "JM", load(path).asked.iv[0].imax_A).current_A.tolist()
    assert 30e-6 <= curve.current_A.max() <= 32.6e-6
    assert abs(curve.voltage_V).max() < 1e-9, "below Ic"
