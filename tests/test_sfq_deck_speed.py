"""How long reading and flattening take: what bounds a loop over decks, and what a chip of 10^4 junctions costs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from sim.sfq import loads

CELLS = (Path(__file__).parent / "golden" / "sfq" / "cells.inc").read_text()


def chain(junctions: int) -> str:
    """JTL cells in a row, each of two instances of a shunted junction."""
    cells = "".join(f"X{k} JTL n{k} n{k + 1}\n" for k in range(junctions // 2))
    return CELLS + cells + f"R1 0 n0 3\nR2 n{junctions // 2} 0 3\n.tran 0.25p 1n\n.print p(B1.X1.X0)\n"


def flat_chain(junctions: int) -> str:
    """The same sort of line without subcircuits, six elements a junction."""
    one = (
        "B{0} n{0} p{0} jm area=2.5\nLP{0} p{0} 0 0.2p\nRS{0} n{0} s{0} 2.744\nLS{0} s{0} p{0} 1p\n"
        "L{0} n{0} n{1} 2p\nIB{0} 0 n{0} pwl(0 0 5p 175u)\n"
    )
    model = ".model jm jj(rtype=1, vg=2.8mV, cap=0.07pF, r0=160, rn=16, icrit=0.1mA)\n"
    return model + "".join(one.format(k, k + 1) for k in range(junctions)) + f"RL n{junctions} 0 3\n"


@pytest.mark.parametrize(
    ("text", "junctions", "most_s"),
    [(chain(1000), 1000, 0.06), (chain(10_000), 10_000, 0.8), (flat_chain(1000), 1000, 0.12)],
    ids=["1000 in cells", "10000 in cells", "1000 flat"],
)
def test_time_of_reading_and_flattening(text: str, junctions: int, most_s: float) -> None:
    taken = []
    for _ in range(3):
        start = time.process_time()
        circuit = loads(text).flatten()
        taken.append(time.process_time() - start)
        assert circuit.jj_count == junctions
        if taken[-1] < most_s:
            break
    assert min(taken) < most_s
