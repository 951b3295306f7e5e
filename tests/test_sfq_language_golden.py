"""Whole decks of the language against JoSIM's own output (v2.7, phase mode): parser, flattening, shapes and printing.

Waves from a file in all interpolations, SPICE's node order with lines and continued cards, couplings of pi junctions
with nodes tied by 1 pohm, the print filter, controlled sources and negative elements. JoSIM prints 7 digits; it adds up
print times and so prints a step late now and then, so every step is printed here.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sim.sfq import load, loads, read_csv, transient
from sim.sfq.circuit import Circuit
from sim.sfq.deck_text import flat
from sim.sfq.output import align

GOLDEN = Path(__file__).parent / "golden" / "sfq"
DECKS = sorted(p.name.removesuffix(".cir") for p in GOLDEN.glob("lang_*.cir"))


def assert_josims(name: str, circuit: Circuit) -> None:
    assert circuit.tran is not None
    run = transient(replace(circuit, tran=replace(circuit.tran, print_step_s=circuit.tran.step_s)), startup="josim")
    josim = read_csv(GOLDEN / f"{name}.csv.gz")
    assert list(run.traces) == list(josim)[1:]
    mine, its = align(run.time_s, josim["time"])
    assert len(its) == len(josim["time"])
    for column, values in run.traces.items():
        unit = 1.0 if column.startswith("P") else float(np.abs(josim[column]).max())
        np.testing.assert_allclose(values[mine], josim[column][its], rtol=1e-6, atol=1e-6 * unit, err_msg=column)


def test_there_are_decks() -> None:
    assert len(DECKS) == 5


@pytest.mark.parametrize("name", DECKS)
def test_deck_as_written_and_as_flat_text(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        circuit = load(GOLDEN / f"{name}.cir").flatten()
    assert_josims(name, circuit)
    assert_josims(name, loads(flat(circuit), base_dir=GOLDEN).flatten())
