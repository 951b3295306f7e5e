"""What lava-nc 0.10.0 computed, kept in a file: both engines give it to the bit, on machines without lava too."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lava_programs import ready

from export.loihi import POPULATIONS, ConvEdge, DenseEdge, SparseEdge
from sim.lava.cases import Case, cases
from sim.lava.client import Client
from sim.lava.doctor import differing, read_golden, write_golden
from sim.loihi import engine, reference

GOLDEN = Path(__file__).parent / "golden_lava" / "cases.npz"
KEPT = read_golden(GOLDEN)


@pytest.mark.parametrize(("case", "found"), KEPT, ids=[case.name for case, _ in KEPT])
def test_engines_give_what_lava_gave(case: Case, found: dict[str, Any]) -> None:
    assert set(found) == set(case.ends)
    for run in (reference.run, engine.run, partial(engine.run, numba=False)):
        assert differing(case, found, run) == []


def test_cases_are_many_kept_as_they_are_and_reach_the_corners() -> None:
    made = cases()
    assert len(made) == len(KEPT) == 54
    assert len({c.name for c in made}) == 54
    populations = {type(p) for c in made for p in c.program.populations.values()}
    assert populations == set(POPULATIONS)
    assert {(type(e), e.delays is not None) for c in made for e in c.program.edges if not isinstance(e, ConvEdge)} == {
        (kind, each) for kind in (DenseEdge, SparseEdge) for each in (False, True)
    }
    silent, notes = 0, []
    for case, (kept, found) in zip(made, KEPT, strict=True):
        mine, theirs = case.program.to_manifest()[0], kept.program.to_manifest()[0]
        assert all(mine[k] == theirs[k] for k in ("nodes", "edges", "output", "law"))
        assert (case.x == kept.x).all()
        silent += any(not found[f"{n}.s"].any() for n in case.program.populations)
        notes += reference.run(case.program, case.x).notes
    assert silent <= 3
    assert sum("wrapped" in n for n in notes) > 5
    assert sum("clipped" in n for n in notes) > 5


@pytest.mark.lava
@pytest.mark.slow
def test_lava_gives_the_kept_file_again(tmp_path: Path) -> None:
    ready()
    with Client() as client:
        again = write_golden(tmp_path / "again.npz", client)
    for (case, mine), (_, kept) in zip(read_golden(again), KEPT, strict=True):
        assert all((mine[p] == kept[p]).all() for p in kept), case.name
