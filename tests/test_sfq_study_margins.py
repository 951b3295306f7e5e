"""Margins and centring against limits known on paper; parameters and criteria by hand."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from functools import lru_cache
from math import inf, sqrt
from pathlib import Path

import numpy as np
import pytest
from sfq_study_decks import JTL, SWITCH, switch, switches

from sim.sfq import BatchRun, Circuit, Corners, DeckError, batch, load, loads
from sim.sfq.errors import NOWHERE
from sim.sfq.study.bench import Bench, Case, bench, nominal, patterns, pick
from sim.sfq.study.criterion import AllOf, Bools, Counts, Custom, SameSlips, expected_slips, same_slips
from sim.sfq.study.margins import Margins, margins
from sim.sfq.study.optimise import Optimum, Variable, optimise
from sim.sfq.study.parameters import (
    Parameter,
    corners_of,
    elements,
    instances,
    inverse,
    of_instance,
    parameter,
    shunted,
    together,
    value_of,
)  # fmt: skip

GOLDEN = Path(__file__).parent / "golden" / "sfq"


@lru_cache
def of_switch() -> Margins:
    return margins(switch(), switches(), parameters=["I", "IC", "I1", "I2"], points=10)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("I", 5 / 6, 5 / 4), ("IC", 4 / 5, 6 / 5), ("I1", 3 / 4, 5 / 4), ("I2", 1 / 2, None)]
)
def test_margins_of_a_switching_junction(name: str, low: float, high: float | None) -> None:
    """Static limits; a slip needs 1 % of overdrive to happen in time, the last bracket is 0.5 % wide."""
    found = of_switch()[name]
    assert found.low.fails_at is not None
    assert found.low.works_at - found.low.fails_at <= 0.005 + 1e-12
    assert found.low.fails_at < low + 0.005
    assert low - 0.001 < found.low.works_at < low + 0.01
    if high is None:
        assert found.high == type(found.high)(2.5, None)
        return
    assert found.high.fails_at is not None
    assert found.high.works_at < high + 0.006
    assert found.high.fails_at > high - 0.001


def test_margins_print_sort_and_save(tmp_path: Path) -> None:
    found = of_switch()
    assert found.critical.name == "I"
    assert found.critical.critical == pytest.approx(1 / 6, abs=0.01)
    assert [r.critical for r in found.rows] == sorted(r.critical for r in found.rows)
    assert str(found).splitlines()[0].startswith("critical margin 16.")
    assert ">+150.0%" in str(found)
    data = json.loads(found.save(tmp_path / "m.json").read_text())
    assert data["critical"]["parameter"] == "I"
    assert data["margins"][-1]["high"]["fails_at"] is None
    with open(found.save(tmp_path / "m.csv")) as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["low_works"]) == found.rows[0].low.works_at
    with pytest.raises(ValueError, match=r"\.json or \.csv"):
        found.save(tmp_path / "m.xlsx")


def test_bias_margins_of_jtl_splitter_and_merger_are_josims() -> None:
    """JoSIM 2.7 at 0.1 ps, all biases scaled: 8 pulses at the output at 0.858 and 1.2, not at 0.855 and 1.205."""
    found = margins(load(GOLDEN / "tb_cells.cir"), Counts({"B1.X2.XQ2": (8, 8)}), parameters=["I"], h=0.1e-12)["I"]
    assert found.low.fails_at is not None
    assert found.high.fails_at is not None
    assert found.low.fails_at < 0.858
    assert found.low.works_at > 0.855
    assert found.high.works_at < 1.205
    assert found.high.fails_at > 1.2


def test_a_stopped_search_goes_on(tmp_path: Path) -> None:
    """Stopped in the second round: the first is in the file, and the margins are those of an unbroken search."""
    file = tmp_path / "margins.npz"

    def stop(part: float) -> None:
        if part > 0.6:
            raise KeyboardInterrupt

    settings = {"parameters": ["I", "IC", "I1", "I2"], "points": 10, "checkpoint": file}
    with pytest.raises(KeyboardInterrupt):
        margins(switch(), switches(), progress=stop, **settings)  # type: ignore[arg-type]
    seen: list[float] = []
    assert margins(switch(), switches(), progress=seen.append, **settings) == of_switch()  # type: ignore[arg-type]
    assert min(seen) > 0.5


def gap(run: BatchRun) -> Bools:
    """Works unless the junction slips once or twice: not one connected region of the bias."""
    return ~np.isin(run.count("B1"), (1, 2))


def test_a_region_that_comes_back_is_told_and_not_counted() -> None:
    """Up to Ic no slip; the number of slips in 50 ps rises with the voltage R sqrt(I^2 - Ic^2)."""
    deck = loads(
        "B1 1 0 jm\nRS 1 0 1\nI1 0 1 pwl(0 0 10p 80u)\n.tran 0.1p 60p\n"
        ".model jm jj(rtype=0, rn=1000, cap=0.001pF, icrit=.1m)\n"
    )
    side = margins(deck, Custom(gap, ("B1",)), parameters=["I1"], tolerance=0.02, points=8)["I1"].high
    assert side.fails_at is not None
    assert side.fails_at > 1.25
    assert side.works_at < 2
    assert side.again
    assert min(side.again) > side.fails_at


def test_a_circuit_that_fails_as_it_stands_has_no_margins() -> None:
    with pytest.raises(ValueError, match="as it stands fails its criterion in case nominal"):
        margins(switch(), Counts({"B1": (0, 0)}), parameters=["I"], points=2)
    with pytest.raises(ValueError, match="limits"):
        margins(switch(), switches(), limits=(1.0, 2.0))
    with pytest.raises(ValueError, match="dead circuit"):
        bench(switch(), t_stop=100e-12)


def test_centring_finds_the_bias_known_on_paper() -> None:
    """Worst of 1 - 1/(a + 0.4) and 1/a - 1 (bias a Ic, signal 0.4 Ic): largest at a = (1.2 + sqrt(4.64))/4."""
    best = (1.2 + sqrt(4.64)) / 4
    found = optimise(
        switch(), switches(), variables=[Variable(parameter(switch(), "I1"), 0.8, 1.2, grid=1e-6)], margins=["I"],
        rungs=[0.01 * k for k in range(4, 24)], generations=4, candidates=8,
    )  # fmt: skip
    assert found.values["I1"] == pytest.approx(best * 1e-4, abs=1.01e-6)
    assert round(found.values["I1"] * 1e6, 6).is_integer()
    assert found.fitness[0] < 0.17
    assert found.fitness[2] == pytest.approx(1 / best - 1, abs=0.012)
    assert value_of(found.apply(switch().flatten()), parameter(switch(), "I1")) == found.values["I1"]


def test_centring_starts_from_a_circuit_that_does_not_work() -> None:
    """A quarter of the bias: it never slips. The best is where it was."""
    dead = loads(SWITCH.replace("80u", "20u"))
    found = optimise(
        dead, switches(), variables=[Variable(parameter(dead, "I1"), 0.5, 10.0)], margins=["I"],
        rungs=[0.04 * k for k in range(1, 7)], generations=8, candidates=12,
    )  # fmt: skip
    assert found.fitness[0] == -1.0
    assert found.rounded[0] == pytest.approx((1.2 + sqrt(4.64)) / 4 * 1e-4, rel=0.02)
    assert found.history == tuple(sorted(found.history))


def centre(file: Path | None, generations: int, stop_at: float = 2.0) -> Optimum:
    def progress(part: float) -> None:
        if part >= stop_at:
            raise KeyboardInterrupt

    return optimise(
        switch(), switches(), variables=["I1", Variable(parameter(switch(), "I2"), 0.6, 1.2)],
        margins={"I": 1.0, "IC": 0.5},
        rungs=[0.1, 0.2, 0.3], generations=generations, candidates=4, checkpoint=file, progress=progress,
    )  # fmt: skip


def test_centring_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    file = tmp_path / "centre.npz"
    with pytest.raises(KeyboardInterrupt):
        centre(file, 4, stop_at=0.5)
    assert centre(file, 4) == centre(None, 4)
    with pytest.raises(ValueError, match="another circuit"):
        optimise(switch(), switches(), variables=["I1"], margins=["I"], checkpoint=file)
    with pytest.raises(ValueError, match="part would vanish"):
        optimise(switch(), switches(), variables=["I1"], margins={"I": 2.0})


def jtl() -> Circuit:
    return loads(JTL).flatten()


def test_parameters_by_letter_name_pattern_and_cell() -> None:
    deck, circuit = loads(JTL), jtl()
    assert parameter(deck, "I").members == ("IB|XA", "IB|XB")
    assert parameter(deck, "b").members == parameter(circuit, "IC").members == circuit.junctions.names
    assert parameter(deck, "l1.xa").members == ("L1|XA",)
    assert parameter(deck, "L?|XB").members == ("L1|XB", "L2|XB", "L3|XB", "L4|XB")
    assert len(parameter(deck, "L*|XB").members) == 8
    assert parameter(deck, "JTL:L1").members == ("L1|XA", "L1|XB")
    assert parameter(deck, "J250:B1").members == ("B1|X1|XA", "B1|X2|XA", "B1|X1|XB", "B1|X2|XB")
    assert instances(deck, "j250") == ["X1|XA", "X2|XA", "X1|XB", "X2|XB"]
    assert [p.name for p in of_instance(circuit, "X1.XA")] == ["LP|X1|XA", "LS|X1|XA", "RS|X1|XA", "B1|X1|XA"]
    assert "VA" not in {p.name for p in elements(circuit)}
    for wrong, why in (("L9", "no element fits"), ("V", "no element fits"), ("JTL:Q", "no element fits")):
        with pytest.raises(ValueError, match=why):
            parameter(deck, wrong)
    with pytest.raises(ValueError, match="pass the deck"):
        parameter(circuit, "JTL:L1")
    with pytest.raises(ValueError, match="no instance of a subcircuit"):
        parameter(deck, "DFF:L1")


def test_factors_multiply_where_parameters_overlap() -> None:
    circuit = jtl()
    shunted = together("J1", parameter(circuit, "B1|X1|XA"), inverse(parameter(circuit, "RS|X1|XA")))
    chosen = [parameter(circuit, "L"), parameter(circuit, "L1|XA"), shunted]
    corners = corners_of(circuit, chosen, np.array([[2.0, 3.0, 1.0], [1.0, 1.0, 4.0]]))
    corners.check(circuit)
    assert corners.inductors is not None
    assert corners.resistors is not None
    assert corners.junctions is not None
    assert corners.currents is None
    at = circuit.inductors.names.index("L1|XA")
    assert corners.inductors[0, at] == 6.0
    assert set(np.delete(corners.inductors[0], at)) == {2.0}
    assert (corners.inductors[1] == 1.0).all()
    assert corners.junctions[1].tolist() == [4.0, 1.0, 1.0, 1.0]
    assert corners.resistors[1, circuit.resistors.names.index("RS|X1|XA")] == 0.25
    assert value_of(circuit, shunted) == pytest.approx(2.5e-4)
    assert not shunted.may_vanish
    assert Parameter("I", parameter(circuit, "I").parts).may_vanish


def test_a_corner_without_a_solution_fails_alone() -> None:
    """One of five corners cannot be solved; a circuit that cannot be solved is an error."""
    tested = bench(switch(), Custom(no_solution_at(0.5), ("B1",)))
    factors = np.array([[1.0], [0.9], [0.5], [1.1], [1.2]])
    corners = corners_of(tested.circuit, [parameter(tested.circuit, "IC")], factors)
    assert tested.fails(corners).tolist() == [-1, -1, 0, -1, -1]
    with pytest.raises(DeckError, match="no such junction"):
        bench(switch(), Counts({"B9": (0, 0)})).fails(corners)


def no_solution_at(factor: float) -> Callable[[BatchRun], Bools]:
    """A criterion that raises as the solver does, for corners whose Ic is that low: they slip at 80 uA."""

    def judge(run: BatchRun) -> Bools:
        early = np.bincount(run.corner[run.time_s < 200e-12], minlength=run.corners)
        if early.any() and factor < 1:
            raise DeckError(NOWHERE, "transient", "a junction's phase still jumps", "none")
        return np.ones(run.corners, np.bool_)

    return judge


def test_shunted_keeps_the_damping() -> None:
    p = shunted(jtl(), "X1.XA", "X2|XA")
    assert p.members == ("B1|X1|XA", "B1|X2|XA", "RS|X1|XA", "RS|X2|XA")
    corners = corners_of(jtl(), [p], np.array([[2.0]]))
    assert corners.junctions is not None
    assert corners.resistors is not None
    assert corners.junctions[0].tolist() == [2, 2, 1, 1]
    assert sorted(corners.resistors[0].tolist()) == [0.5, 0.5, 1, 1, 1]
    with pytest.raises(ValueError, match="holds no junction"):
        shunted(jtl(), "X9|XA")


def run_of(*slips: tuple[int, int, float, int], corners: int = 2) -> BatchRun:
    """A batch of two junctions with these rows (corner, junction, time in ps, sign)."""
    rows = sorted(slips, key=lambda r: r[:3])
    c, j, t, s = ([r[k] for r in rows] for k in range(4))
    return BatchRun(
        ("A", "B"), np.array(c, np.int64), np.array(j, np.int64), np.array(t) * 1e-12, np.array(s, np.int64),
        np.zeros((corners, 2), np.int64), np.zeros(0), {}, {}, np.zeros(corners),
    )  # fmt: skip


NOMINAL = ((0, 0, 10.0, 1), (0, 1, 13.0, 1), (0, 0, 30.0, -1))


@pytest.mark.parametrize(
    ("slips", "tolerance", "tie", "works"),
    [
        ([(1, 0, 14.9, 1), (1, 1, 17.9, 1), (1, 0, 34.9, -1)], 5, 1, True),
        ([(1, 0, 15.1, 1), (1, 1, 17.9, 1), (1, 0, 34.9, -1)], 5, 1, False),
        ([(1, 0, 10.0, 1), (1, 1, 13.0, 1)], 5, 1, False),
        ([(1, 0, 10.0, 1), (1, 1, 13.0, 1), (1, 0, 30.0, 1)], 5, 1, False),
        ([(1, 0, 13.5, 1), (1, 1, 13.0, 1), (1, 0, 30.0, -1)], 5, 1, False),
        ([(1, 0, 13.5, 1), (1, 1, 13.0, 1), (1, 0, 30.0, -1)], 5, 4, True),
        ([(1, 0, 80.0, 1), (1, 1, 90.0, 1), (1, 0, 99.0, -1)], inf, 1, True),
        ([(1, 0, 10.0, 1), (1, 1, 13.0, 1), (1, 0, 30.0, -1), (1, 1, 40.0, 1)], inf, inf, False),
        ([], 5, 1, False),
    ],
)
def test_same_slips(slips: list[tuple[int, int, float, int]], tolerance: float, tie: float, works: bool) -> None:
    run = run_of(*NOMINAL, *slips)
    wanted = same_slips(run, t_tol_s=tolerance * 1e-12, tie_s=tie * 1e-12)
    assert wanted(run).tolist() == [True, works]
    explicit = expected_slips({"a": [10e-12, -30e-12], "b": [13e-12]}, tolerance * 1e-12, tie * 1e-12)
    assert explicit(run).tolist() == [True, works]
    turned = same_slips(run, junctions=["B", "A"], t_tol_s=tolerance * 1e-12, tie_s=tie * 1e-12)
    assert turned(run).tolist() == [True, works]


def test_counts_custom_and_all_of() -> None:
    run = run_of(*NOMINAL, (1, 0, 10.0, 1))
    assert Counts({"A": (1, 1)})(run).tolist() == [False, True], "the negative slip counts against it"
    assert Counts({"A": (1, 1)}, other=(0, inf))(run).tolist() == [True, True]
    assert Counts({"A": (1, 1)}, sign=-1, other=(1, 1))(run).tolist() == [True, False]
    assert Counts({"B": (0, 0)})(run).tolist() == [False, True]
    assert Counts({"B": (0, 0)}, after_s=14e-12)(run).tolist() == [True, True]
    both = AllOf((Counts({"B": (0, 0)}), Custom(lambda r: r.count("A") == 1, ("a",))))
    assert both(run).tolist() == [False, True]
    assert both.watch == ("B", "A")
    assert AllOf((Counts({"B": (0, 0)}), Custom(gap))).watch is None
    with pytest.raises(ValueError, match="must be bool"):
        Custom(lambda r: r.count("A"))(run)


def test_patterns_share_corners_and_prune() -> None:
    """A pulse and no pulse into the JTL; a bias far too high fails the first, one too low the second."""
    quiet = JTL.replace("827.13u", "0")
    both = patterns(
        {"0": loads(quiet), "1": loads(JTL)}, {"0": Counts({"B1|X2|XB": (0, 0)}), "1": Counts({"B1|X2|XB": (1, 1)})}
    )
    corners = corners_of(both.circuit, [parameter(both.circuit, "I")], np.array([[1.0], [0.1], [1.9]]))
    assert both.fails(corners).tolist() == [-1, 1, 0]
    other = loads(JTL.replace("RT c 0 3", "RT2 c 0 3")).flatten()
    with pytest.raises(ValueError, match=r"resistors of case b differ from a: \['RT', 'RT2'\]"):
        Bench((Case(jtl(), Counts({}), "a"), Case(other, Counts({}), "b")))
    with pytest.raises(ValueError, match="has no case"):
        Bench(()).circuit  # noqa: B018


def test_nominal_is_what_the_jtl_does() -> None:
    """One pulse, 1.9 ps a junction (docs/sfq.md 3.2)."""
    wanted = nominal(jtl())
    assert isinstance(wanted, SameSlips)
    assert wanted.at.tolist() == [0, 1, 2, 3]
    assert np.diff(wanted.time_s)[1:] == pytest.approx(1.9e-12, abs=0.6e-12)
    assert wanted(batch(jtl(), Corners(2))).all()


def test_pick_keeps_the_numbers_of_the_noise() -> None:
    corners = Corners(3, resistors=np.array([[1.0], [2.0], [3.0]]), ids=np.array([7, 8, 9]))
    some = pick(corners, np.array([2, 0]))
    assert some.ids is not None
    assert some.resistors is not None
    assert some.ids.tolist() == [9, 7]
    assert some.resistors.ravel().tolist() == [3.0, 1.0]
