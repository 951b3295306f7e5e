"""Monte Carlo and shmoo on a circuit whose limits are known: each corner must be what its own numbers say."""

from __future__ import annotations

import csv
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest, kstest, norm
from sfq_study_decks import JTL, switch, switches

from sim.sfq import load, loads
from sim.sfq.circuit import PerElement
from sim.sfq.study.bench import Bench, patterns
from sim.sfq.study.criterion import Counts
from sim.sfq.study.montecarlo import MonteCarlo, Spread, montecarlo, spread_of, wilson
from sim.sfq.study.parameters import corners_of, parameter
from sim.sfq.study.shmoo import shmoo

GOLDEN = Path(__file__).parent / "golden" / "sfq"


@pytest.mark.parametrize(("good", "n"), [(0, 10), (10, 10), (63, 64), (500, 1000), (1, 3)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_wilson_is_scipys(good: int, n: int, confidence: float) -> None:
    wanted = binomtest(good, n).proportion_ci(confidence, method="wilson")
    assert wilson(good, n, confidence) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_wilson_of_a_textbook() -> None:
    """0 of 10 at 95 %: z^2/(n + z^2) = 3.8415/13.8415."""
    assert wilson(0, 10) == pytest.approx((0.0, 3.841459 / 13.841459), rel=1e-6)
    for wrong in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="wilson"):
            wilson(*wrong)


def yields(n: int = 60, **settings: object) -> MonteCarlo:
    return montecarlo(switch(), switches(), n=n, spread={"B": 0.6}, seed=3, **settings)  # type: ignore[arg-type]


def test_each_corner_is_what_its_critical_current_says() -> None:
    """Works for 0.8 < Ic/100 uA < 1.2; normal with sigma 0.2, that is 68 % of all."""
    run = yields()
    assert run.spread.local["junctions"].tolist() == [0.6]
    factors = np.array([run.corner(k).junctions for k in range(60)]).ravel()
    clear = (np.abs(factors - 0.8) > 0.01) & (np.abs(factors - 1.2) > 0.01)
    assert clear.sum() > 50
    assert (run.works == ((factors > 0.8) & (factors < 1.2)))[clear].all()
    low, high = run.interval
    assert low < norm.cdf(1) - norm.cdf(-1) < high
    assert run.yield_ == run.works.mean()


def test_a_corner_depends_on_its_number_alone(tmp_path: Path) -> None:
    run, file = yields(), tmp_path / "mc.npz"
    assert yields(7).fails.tolist() == run.fails[:7].tolist()
    with ThreadPoolExecutor(2) as pool:
        assert yields(executor=pool, chunk=11).fails.tolist() == run.fails.tolist()

    def stop(part: float) -> None:
        if part > 0.4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        yields(chunk=10, checkpoint=file, progress=stop)
    seen: list[float] = []
    assert yields(chunk=10, checkpoint=file, progress=seen.append).fails.tolist() == run.fails.tolist()
    assert len(seen) == 3, "30 of 60 were in the file"


def test_results_print_and_save(tmp_path: Path) -> None:
    run = MonteCarlo(np.array([-1, 0, 1, -1]), ("01", "11"), 5, 0.95, Spread({}, {}))
    assert str(run) == "yield 50.0%, 95% interval 15.0% to 85.0% (2 of 4 corners work)"
    data = json.loads(run.save(tmp_path / "y.json").read_text())
    assert data["fails_by_case"] == {"01": 1, "11": 1}
    assert data["failed_corners"] == [1, 2]
    with open(run.save(tmp_path / "y.csv")) as text:
        assert [r["fails_in"] for r in csv.DictReader(text)] == ["", "01", "11", ""]


def test_draws_have_their_distribution() -> None:
    """Local draws: three sigma = spread, or uniform; Kolmogorov and Smirnov at 1 in 1000. Common: equal in a corner."""
    circuit, ids = loads(JTL).flatten(), np.arange(400)
    names = circuit.inductors.names
    scatter = spread_of(circuit, {"L": 0.3, "L1|XA": 0.0}, None, "normal")
    table = scatter.corners(ids, seed=1).inductors
    assert table is not None
    fixed = names.index("L1|XA")
    assert (table[:, fixed] == 1.0).all()
    z = (np.delete(table, fixed, axis=1) - 1.0) / 0.1
    assert kstest(z.ravel(), norm.cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(z.T) - np.eye(z.shape[1])).max() < 0.25
    flat = spread_of(circuit, {"R": 0.2}, None, "uniform").corners(ids, seed=1).resistors
    assert flat is not None
    assert kstest(flat.ravel(), "uniform", args=(0.8, 0.4)).pvalue > 1e-3
    shared = spread_of(circuit, None, {"IC": 0.3}, "normal").corners(ids, seed=1).junctions
    assert shared is not None
    assert (shared == shared[:, :1]).all()
    assert shared.std() == pytest.approx(0.1, rel=0.15)
    other = scatter.corners(ids, seed=2).inductors
    assert other is not None
    assert (other != table).any(axis=1).all()
    again = scatter.corners(ids[7:9], seed=1).inductors
    assert again is not None
    assert (again == table[7:9]).all()


def test_spread_of_the_deck_and_wrong_ones() -> None:
    circuit = switch().flatten()
    own = PerElement(np.array([0.1]), np.array([0.6]), np.zeros(0), np.zeros(0))
    run = montecarlo(replace(circuit, spread=own), switches(), n=12, seed=3)
    assert run.spread.local["resistors"].tolist() == [0.1]
    assert run.fails.tolist() == yields(12).fails.tolist(), "the shunt does not matter, and draws are its own"
    with pytest.raises(ValueError, match=r"has no \.spread"):
        montecarlo(circuit, switches(), n=2)
    with pytest.raises(ValueError, match="not in"):
        montecarlo(circuit, switches(), n=2, spread={"B": 1.5})
    with pytest.raises(ValueError, match="no element fits"):
        montecarlo(circuit, switches(), n=2, spread={"L1": 0.1})
    with pytest.raises(ValueError, match="is of a kind"):
        montecarlo(circuit, switches(), n=2, common={"B1": 0.1})
    with pytest.raises(ValueError, match="distribution"):
        montecarlo(circuit, switches(), n=2, spread={"B": 0.1}, distribution="flat")
    with pytest.raises(ValueError, match="at least one corner"):
        montecarlo(circuit, switches(), n=0, spread={"B": 0.1})


def test_shmoo_is_the_region_on_paper(tmp_path: Path) -> None:
    """Bias x 80 uA, signal y 40 uA, Ic 100 uA: works for 0.8 x < 1 < 0.8 x + 0.4 y."""
    x, y = np.linspace(0.62, 1.34, 7), np.linspace(0.52, 1.54, 5)
    found = shmoo(switch(), "I1", "I2", switches(), x_factors=x.tolist(), y_factors=y.tolist())
    total = 0.8 * x[None, :] + 0.4 * y[:, None]
    clear = (np.abs(total - 1) > 0.01) & (np.abs(0.8 * x - 1) > 0.01)[None, :]
    assert clear.sum() > 28
    assert (found.works == ((0.8 * x < 1)[None, :] & (total > 1)))[clear].all()
    assert str(found).count("#") - 1 == found.works.sum()
    with open(found.save(tmp_path / "s.csv")) as text:
        rows = list(csv.reader(text))
    assert rows[0][0] == "I2 \\ I1"
    assert [r[1:] for r in rows[1:]] == found.works.astype(int).astype(str).tolist()
    assert json.loads(found.save(tmp_path / "s.json").read_text())["works"] == found.works.astype(int).tolist()
    with pytest.raises(ValueError, match="no factors"):
        shmoo(switch(), "I1", "I2", switches(), x_factors=[])


def xor() -> Bench:
    """The XOR network with its four patterns and the criterion of docs/sfq.md 3.5."""
    wanted = {"01": (3, inf), "10": (3, inf), "00": (0, 0), "11": (0, 0)}
    decks = {p: load(GOLDEN / f"xor_{p}.cir") for p in wanted}
    return patterns(decks, {p: Counts({"B1.X2.XY2": w}) for p, w in wanted.items()}, h=0.1e-12)


def test_the_xor_network_works_as_measured() -> None:
    """docs/sfq.md 3.5, measured with another solver: 64 of 64 corners at 10 %, 94 % at 30 %; biases x0.85 to x1.25
    work, x0.8 is dead, x1.3 leaks on 11."""
    assert montecarlo(xor(), n=16, spread={"L": 0.1, "IC": 0.1, "R": 0.1}).yield_ == 1.0
    wide = montecarlo(xor(), n=48, spread={"L": 0.3, "IC": 0.3, "R": 0.3}, confidence=0.99)
    assert wide.interval[0] < 0.94 < wide.interval[1]
    assert wide.yield_ < 1
    tested = xor()
    factors = np.array([[0.8], [0.85], [1.0], [1.25], [1.3]])
    fails = tested.fails(corners_of(tested.circuit, [parameter(tested.circuit, "I")], factors))
    names = [tested.cases[k].name if k >= 0 else "" for k in fails]
    assert names == ["01", "", "", "", "11"]


def test_noise_of_a_corner_is_its_own() -> None:
    """A stochastic synapse near its threshold passes some of the pulses; how the corners are cut does not matter."""
    text = (
        (GOLDEN / "tb_stsyn.cir").read_text().replace("IBW=60u", "IBW=71u").replace(".end", ".temp 4.2\n.neb 1t\n.end")
    )
    deck = loads(text, GOLDEN)
    junction = next(n for n in deck.flatten().junctions.names if n.endswith("XQ2"))
    half = Counts({junction: (4, 5)}, other=(0, inf))
    settings: dict[str, Any] = {"n": 40, "spread": {}, "h": 0.1e-12, "t_stop": 0.5e-9}
    run = montecarlo(deck, half, noise=True, **settings)
    assert 0 < run.works.sum() < 40
    with ThreadPoolExecutor(2) as pool:
        again = montecarlo(deck, half, noise=True, executor=pool, chunk=7, **settings)
    assert (again.fails == run.fails).all()
    still = montecarlo(deck, half, **settings).works
    assert still.all() or not still.any()
