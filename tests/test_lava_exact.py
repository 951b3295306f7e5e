"""Bit for bit with lava-nc on hundreds of random networks, over every law, connection and corner."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lava_programs import EXTENSION, KINDS, case, ready

from sim.lava.client import Client, soft
from sim.lava.doctor import differing, outcomes
from sim.loihi import engine

SEEDS = range(100, 126)
STOCK = len(KINDS) * 2 * sum(1 for s in SEEDS if s % EXTENSION)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    ready()
    with Client() as made:
        yield made


EVERY = [(kind, wild) for kind in KINDS for wild in (False, True)]


@pytest.mark.lava
@pytest.mark.slow
@pytest.mark.parametrize(("kind", "wild"), EVERY)
def test_equal_to_lava(client: Client, kind: str, wild: bool) -> None:
    which = [case(kind, seed, wild) for seed in SEEDS]
    assert sum(not soft(c.program) for c in which) >= sum(1 for s in SEEDS if s % EXTENSION)
    bad = {}
    spikes = 0
    for one, found in zip(which, outcomes(client, which, ends=True), strict=True):
        spikes += sum(int((a != 0).sum()) for p, a in found.items() if p.endswith(".s"))
        if wrong := differing(one, found, engine.run):
            bad[one.name] = wrong
    assert not bad
    assert spikes > 1000


def test_more_than_500_of_them_are_stock_lava() -> None:
    assert STOCK >= 500
