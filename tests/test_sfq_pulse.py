"""The pulse level by hand: exact times, what violations say, random numbers, windows, and both engines alike."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pulse_cells import CELLS, PS, random_net

from sim.sfq.constants import PHI0_WB
from sim.sfq.philox import normal, philox, uniform
from sim.sfq.pulse import (
    CellError,
    Netlist,
    PulseCell,
    PulseRun,
    State,
    Violation,
    compile_netlist,
    heap_engine,
    level_engine,
    run,
)
from sim.sfq.pulse.cells import Emission, Transition

ENGINES = pytest.mark.parametrize("engine", [heap_engine, level_engine])


def ps(times: Any) -> list[float]:
    """In ps, with the digits that an attosecond allows."""
    return [round(float(t) / PS, 6) for t in times]


@ENGINES
def test_exact_times(engine: Any) -> None:
    """50 + 5 (split) -> 55; one way + 4 (JTL) + 3 (merge) = 62, the other + 3 = 58."""
    net = Netlist(CELLS).add("XS", "SPLIT", a="in", q0="l", q1="r")
    net.add("XJ", "JTL", a="l", q="m").add("XM", "MERGE", a="m", b="r", q="out")
    done = run(net, {"in": [50 * PS, 90 * PS]}, watch=["out", "l", "in"], engine=engine)
    assert {n: ps(t) for n, t in done.pulses.items()} == {
        "out": [58, 62, 98, 102], "l": [55, 95], "in": [50, 90],
    }  # fmt: skip
    assert done.events == 8
    assert done.counts() == {"XS": {"idle:a": 2}, "XJ": {"idle:a": 2}, "XM": {"idle:a": 2, "idle:b": 2}}
    assert done.cell_counts()["MERGE"] == {"idle:a": 2, "idle:b": 2}
    assert done.slips() == {"XS": 4, "XJ": 4, "XM": 8}
    assert done.energy_J == pytest.approx(8 * 500e-6 * PHI0_WB, rel=1e-12)
    assert "out: 4 pulses" in str(done)


@ENGINES
def test_flip_flop_keeps_reads_and_forgets(engine: Any) -> None:
    net = Netlist(CELLS).add("XD", "DFF", a="d", c="c", q="q")
    done = run(net, {"d": [10 * PS, 15 * PS, 70 * PS], "c": [5 * PS, 40 * PS, 60 * PS, 80 * PS]}, engine=engine)
    assert ps(done["q"]) == [46, 86]
    assert done.counts()["XD"] == {"0:c": 2, "0:a": 2, "1:c": 2, "1:a": 1}


@ENGINES
def test_pulses_together_are_taken_in_the_order_of_the_cells_list(engine: Any) -> None:
    """At 10 ps both: the clock, listed first, finds nothing; then the data stays for the clock at 40 ps."""
    net = Netlist(CELLS).add("XD", "DFF", a="d", c="c", q="q")
    done = run(net, {"d": [10 * PS], "c": [10 * PS, 40 * PS]}, policy="warn", engine=engine)
    assert ps(done["q"]) == [46]


def test_paths_of_equal_length_meet_exactly() -> None:
    """0.1 + 0.2 is not 0.3 in floating point; in attoseconds it is, and pulses by both ways are simultaneous."""
    row = {n: PulseCell(n, ("a",), ("q",), (Transition("idle", "a", "idle", (Emission("q", d),)),)) for n, d in
           (("A", 0.1 * PS), ("B", 0.2 * PS), ("C", 0.3 * PS))}  # fmt: skip
    net = (
        Netlist({**CELLS, **row}).add("XA", "A", a="x", q="y").add("XB", "B", a="y", q="s").add("XC", "C", a="z", q="t")
    )
    net.add("XD", "DFF", a="t", c="s", q="q")
    done = run(net, {"x": [PS], "z": [PS]}, watch=["s", "t", "q"], policy="drop")
    assert done["s"].tolist() == done["t"].tolist()
    assert [(b.port, *ps([b.time_s, b.legal_s])) for b in done.violations] == [("a", 1.3, 2.3)]


@ENGINES
def test_violation_names_cell_input_time_rule_and_earliest_legal_time(engine: Any) -> None:
    net = Netlist(CELLS).add("XJ1", "JTL", a="in", q="m").add("XJ2", "JTL", a="m", q="q")
    with pytest.raises(Violation) as error:
        run(net, {"in": [50 * PS, 56.5 * PS, 61 * PS]}, engine=engine)
    assert str(error.value) == (
        "XJ1 (JTL): pulse at a at 56.500 ps comes 3.500 ps too early: 10 ps must pass after a; earliest legal time "
        "60.000 ps. Fix: move the pulse, or run with policy warn, drop or random"
    )
    warned = run(net, {"in": [50 * PS, 56.5 * PS, 61 * PS]}, policy="warn", engine=engine)
    assert ps(warned["q"]) == [58, 64.5, 69]
    assert [(b.instance, round(b.time_s / PS, 3), b.lost) for b in warned.violations] == [
        ("XJ1", 56.5, False), ("XJ2", 60.5, False), ("XJ1", 61.0, False), ("XJ2", 65.0, False),
    ]  # fmt: skip
    dropped = run(net, {"in": [50 * PS, 56.5 * PS, 61 * PS]}, policy="drop", engine=engine)
    assert ps(dropped["q"]) == [58, 69], "a lost pulse delays nothing"
    assert dropped.violation_count == 1
    assert "1 pulses too early" in str(dropped)


@ENGINES
def test_earliest_violation_is_told_whatever_the_order_of_cells(engine: Any) -> None:
    net = Netlist(CELLS).add("XB", "JTL", a="b", q="qb").add("XA", "JTL", a="a", q="qa")
    with pytest.raises(Violation, match=r"XA .* at 32"):
        run(net, {"a": [30 * PS, 32 * PS], "b": [40 * PS, 41 * PS]}, engine=engine)


def test_random_policy_loses_half_and_repeats() -> None:
    net = Netlist(CELLS).add("XJ", "JTL", a="in", q="q")
    train = np.sort(np.concatenate([np.arange(2000) * 50 * PS, np.arange(2000) * 50 * PS + 5 * PS]))
    one, two = (run(net, {"in": train}, 200e-9, policy="random", seed=4) for _ in range(2))
    assert one["q"].tolist() == two["q"].tolist()
    assert len(one["q"]) - 2000 == pytest.approx(1000, abs=5 * math.sqrt(500))
    assert one["q"].tolist() != run(net, {"in": train}, 200e-9, policy="random", seed=5)["q"].tolist()


@ENGINES
def test_inverter_loses_what_comes_too_fast(engine: Any) -> None:
    """45 ps recovery: of a pulse each 30 ps every other one is answered, by anti-pulses."""
    net = Netlist(CELLS).add("XI", "INV", a="in", q="m").add("XN", "JTLN", a="m", q="q")
    done = run(net, {"in": np.arange(10) * 30 * PS}, policy="warn", engine=engine)
    assert ps(done["q"]) == [60 * k + 23 for k in range(5)]
    assert done.signs == {"q": -1}
    assert done.violation_count == 5
    with pytest.raises(Violation, match=r"earliest legal time 45\.000 ps"):
        run(net, {"in": np.arange(10) * 30 * PS}, engine=engine)


def lif(times: list[float], weights: list[float], theta: float, branches: float) -> list[float]:
    """The law in words: v <- v exp(-dt/tau) + w, fires at v >= theta, then v - branches; 8 ps between two slips."""
    v, at, out, ready = 0.0, 0.0, [], -1.0
    for t, w in zip(times, weights, strict=True):
        v, at = v * math.exp((at - t) / (100 * PS)) + w, t
        if v >= theta:
            assert t >= ready, "this series has no pulse within 8 ps of a slip"
            out.append(t + 5 * PS)
            v -= branches
            ready = t + 8 * PS
    return out


def neuron(synapses: int = 1, **more: Any) -> Netlist:
    net = Netlist(CELLS)
    for k in range(synapses):
        net.add(f"XY{k}", "SYNP", a=f"i{k}", n="sum")
    return net.add("XN", "SOMA", n="sum", q="q", **more)


@ENGINES
@pytest.mark.parametrize("gap_ps", [20, 30, 40, 50, 60])
def test_soma_follows_the_series(engine: Any, gap_ps: int) -> None:
    train = [k * gap_ps * PS for k in range(100)]
    done = run(neuron(), {"i0": train}, 6e-9, engine=engine)
    wanted = lif([t + 2 * PS for t in train], [1.0] * 100, 2.5, 1.0)
    assert ps(done["q"]) == ps(wanted)
    assert bool(len(wanted)) == (gap_ps <= 50), "1/(1 - exp(-50/100)) = 2.54 is just over 2.5"
    assert done.counts()["XN"] == {"idle:take": 100, "idle:fire": len(wanted), "idle:back": 0}


@ENGINES
def test_soma_in_its_dead_time_fires_at_the_end_of_it(engine: Any) -> None:
    """One branch, threshold 0.4: pulses at 0 and 3 ps; the second waits until 8 ps after the first slip, at 0 + 2."""
    done = run(neuron(bias_A=230e-6), {"i0": [0.0, 3 * PS]}, engine=engine)
    assert ps(done["q"]) == [7, 15]
    leaky = run(neuron(bias_A=202e-6), {"i0": [0.0, 3 * PS]}, engine=engine)
    assert ps(leaky["q"]) == [7], "threshold 0.96: at 10 ps it has leaked to 0.95"


@ENGINES
def test_inhibition_has_a_floor(engine: Any) -> None:
    """(250 + 125)/50 = 7.5 below zero the soma slips back, and gains its one branch."""
    net = Netlist(CELLS).add("XY", "SYNM", a="i", n="sum").add("XN", "SOMA", n="sum", q="q")
    done = run(net, {"i": np.arange(30) * PS}, engine=engine)
    assert done.counts()["XN"]["idle:back"] > 0
    assert done.state.somas["v"][0] > -7.5
    assert len(done["q"]) == 0


@ENGINES
def test_stochastic_synapse_passes_as_often_as_it_should(engine: Any) -> None:
    net = Netlist(CELLS)
    currents = [64e-6, 68e-6, 70e-6, 71e-6, 75e-6]
    for k, w in enumerate(currents):
        net.add(f"XS{k}", "STSYN", a=f"i{k}", q=f"q{k}", w=w)
    train = np.arange(20000) * 50 * PS
    done = run(net, {f"i{k}": train for k in range(5)}, 2e-6, seed=1, engine=engine)
    for k, w in enumerate(currents):
        p = 0.5 * math.erfc(-(w - 70e-6) / (math.sqrt(2) * 3e-6))
        assert len(done[f"q{k}"]) == pytest.approx(20000 * p, abs=4.5 * math.sqrt(20000 * p * (1 - p)))
    cold = run(compile_netlist(net, temperature_K=0.0), {f"i{k}": train for k in range(5)}, 2e-6, engine=engine)
    assert [len(cold[f"q{k}"]) for k in range(5)] == [0, 0, 20000, 20000, 20000]


def test_random_numbers_belong_to_instance_and_pulse_not_to_the_netlist() -> None:
    """The same synapse answers the same whatever else is there and in whatever order it was drawn."""
    alone = Netlist(CELLS).add("XS", "STSYN", a="a", q="q", w=70e-6)
    crowd = Netlist(CELLS).add("XB", "STSYN", a="b", q="r", w=70e-6).add("XS", "STSYN", a="a", q="q", w=70e-6)
    train = np.arange(300) * 50 * PS
    one = run(alone, {"a": train}, 20e-9, seed=3)["q"]
    both = run(crowd, {"a": train, "b": train + PS}, 20e-9, seed=3)
    assert one.tolist() == both["q"].tolist()
    assert (both["r"] - PS).tolist() != one.tolist()
    assert one.tolist() != run(alone, {"a": train}, 20e-9, seed=4)["q"].tolist()


def test_philox_is_philox() -> None:
    """Known answers of Random123 1.14 (kat_vectors, philox4x32 10): all zero, all ones, digits of pi."""
    ones = np.uint64(2**64 - 1)
    words = [
        (np.uint64(0), np.uint64(0), np.uint64(0)), (ones, ones, ones),
        (np.uint64(0x299F31D0A4093822), np.uint64(0x85A308D3243F6A88), np.uint64(0x0370734413198A2E)),
    ]  # fmt: skip
    answers = [
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ]  # fmt: skip
    for (key, a, b), wanted in zip(words, answers, strict=True):
        x, y = (int(v) for v in philox(key, a, b))
        assert (x & 0xFFFFFFFF, x >> 32, y & 0xFFFFFFFF, y >> 32) == wanted


def test_uniform_and_normal_have_their_moments() -> None:
    seed, instance = np.uint64(7), np.uint64(12345)
    u = np.array([uniform(seed, instance, k, 0) for k in range(20000)])
    z = np.array([normal(seed, instance, k, 2) for k in range(20000)])
    assert 0.0 <= u.min() < u.max() < 1.0
    assert u.mean() == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / 20000))
    assert z.mean() == pytest.approx(0.0, abs=4 / math.sqrt(20000))
    assert z.std() == pytest.approx(1.0, abs=4 / math.sqrt(40000))
    assert (np.abs(z) > 3).mean() == pytest.approx(0.0027, abs=0.0015)


def test_jitter_has_the_cells_deviation_and_is_off_by_default() -> None:
    net = Netlist(CELLS).add("X", "JIT", a="in", q="q")
    train = np.arange(5000) * 50 * PS
    assert ps(run(net, {"in": train}, 1e-6)["q"][:2]) == [4, 54]
    late = run(net, {"in": train}, 1e-6, jitter=True, seed=2)["q"] - train
    assert late.mean() == pytest.approx(4 * PS, abs=4 * 0.2 * PS / math.sqrt(5000))
    assert late.std() == pytest.approx(0.2 * PS, rel=0.05)


def test_recovery_makes_late_what_comes_soon() -> None:
    """Extra 2 ps at 10 ps since the last, 1 ps at 20, 1.5 between, none after; a pulse does not overtake."""
    net = Netlist(CELLS).add("X", "LAG", a="in", q="q")
    done = run(net, {"in": [0.1e-9, 0.11e-9, 0.125e-9, 0.145e-9, 0.147e-9]})
    assert ps(done["q"]) == [104, 116, 130.5, 149, 153]


def equal(one: PulseRun, two: PulseRun) -> bool:
    same = {n: t.tolist() for n, t in one.pulses.items()} == {n: t.tolist() for n, t in two.pulses.items()}
    return same and one.counts() == two.counts() and one.events == two.events and one.violations == two.violations


@pytest.mark.parametrize("seed", range(6))
def test_engines_agree_to_the_attosecond_and_in_windows(seed: int) -> None:
    """Random nets of all kinds of cells, with jitter, violations and chance: whole, in windows, engines mixed."""
    rng = np.random.default_rng(seed)
    net = random_net(rng)
    c = compile_netlist(net, watch=[*net.outputs, *list(net.drivers)[::7][:3]] if seed else None)
    trains = {n: np.cumsum(rng.exponential(25 * PS, 200)) for n in c.sources}
    more: Any = {"policy": ("warn", "drop", "random")[seed % 3], "jitter": True, "seed": seed}
    whole = run(c, trains, 6e-9, **more)
    assert whole.events > 3000
    assert equal(whole, run(c, trains, 6e-9, engine=level_engine, **more))
    state: State | None = None
    parts: list[PulseRun] = []
    for k, engine in enumerate([heap_engine, level_engine, level_engine, heap_engine]):
        part = run(c, trains if k == 0 else {}, 1.5e-9 * (k + 1), state=state, engine=engine, **more)
        parts.append(part)
        state = part.state
    for net_name, times in whole.pulses.items():
        assert np.concatenate([p[net_name] for p in parts]).tolist() == times.tolist(), net_name
    assert sum(p.events for p in parts) == whole.events
    assert (sum(p.taken for p in parts) == whole.taken).all()


def test_state_is_saved_and_goes_on(tmp_path: Path) -> None:
    net = random_net(np.random.default_rng(1))
    c = compile_netlist(net)
    trains = {n: np.arange(50) * 31 * PS for n in c.sources}
    half = run(c, trains, 0.7e-9, policy="warn")
    loaded = State.load(half.state.save(tmp_path / "state.npz"))
    one, two = (run(c, {}, 3e-9, policy="warn", state=s) for s in (half.state, loaded))
    assert equal(one, two)
    assert one.events > 0
    with pytest.raises(CellError, match="another netlist"):
        run(neuron(), {}, 3e-9, state=loaded)
    with pytest.raises(CellError, match="before the run's start"):
        run(c, {next(iter(c.sources)): [0.1e-9]}, 3e-9, state=loaded)
    assert (tmp_path / "x.npz").name in str(one.save(tmp_path / "x.npz"))


def test_progress_is_told_and_changes_nothing() -> None:
    net = random_net(np.random.default_rng(2))
    c = compile_netlist(net)
    trains = {n: np.arange(50) * 31 * PS for n in c.sources}
    for engine in (heap_engine, level_engine):
        told: list[float] = []
        done = run(c, trains, 2e-9, policy="warn", engine=engine, progress=told.append)
        assert told == sorted(told)
        assert told[-1] == 1.0
        assert equal(done, run(c, trains, 2e-9, policy="warn"))


def test_loop_runs_by_the_heap_only() -> None:
    """A ring of 4 + 3 + 5 ps that a pulse enters once: one pulse each 12 ps."""
    net = Netlist(CELLS).add("XM", "MERGE", a="in", b="back", q="m").add("XS", "SPLIT", a="m", q0="q", q1="s")
    net.add("XJ", "JTL", a="s", q="back")
    done = run(net, {"in": [0.0]}, 100 * PS)
    assert ps(done["q"]) == [8 + 12 * k for k in range(8)]
    with pytest.raises(CellError, match=r"XM: is in a loop .*engine=heap_engine"):
        run(net, {"in": [0.0]}, 100 * PS, engine=level_engine)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda n: n.add("A", "JTL", a="x", q="y").add("B", "JTL", a="x", q="z"), "net x: 2 loads .*use SPLIT"),
        (lambda n: n.add("A", "JTL", a="x", q="y").add("B", "JTL", a="z", q="y"), "net y: 2 drivers .*MERGE"),
        (lambda n: n.add("A", "JTL", a="x"), r"A: ports given \['a'\], JTL has \['a', 'q'\]"),
        (lambda n: n.add("A", "XYZ", a="x"), "A: no cell XYZ; known: DFF"),
        (lambda n: n.add("A", "JTL", a="x", q="y").add("A", "JTL", a="y", q="z"), "A: there already is"),
        (lambda n: n.add("A", "INV", a="x", q="y").add("B", "JTL", a="y", q="z"), "net y: A.q sends anti-pulses.*JTLN"),
        (lambda n: n.add("A", "JTL", a="x", q="y").add("B", "SOMA", n="y", q="z"), "net y: JTL A drives a soma.*SYNP"),
        (lambda n: n.add("A", "SYNP", a="x", n="y").add("B", "JTL", a="y", q="z"), "net y: synapse A drives B.a"),
        (lambda n: n.add("A", "SYNP", a="x", n="y"), "net y: synapse A drives nothing"),
        (lambda n: n.add("A", "SOMA", n="x", q="y"), "A: a SOMA without synapses"),
        (lambda n: n.add("A", "STSYN", a="x", q="y", w="z"), r"A: STSYN takes a current at \['w'\]"),
        (lambda n: n.add("A", "JTL", a="x", q="y", bias_A=1e-4), "A: bias_A= is for a soma"),
        (lambda n: n.add("Y", "SYNP", a="x", n="s").add("A", "SOMA", n="s", q="y", bias_A=3e-4), "A: bias 300 uA is"),
        (lambda n: n, "the netlist is empty"),
    ],
)  # fmt: skip
def test_netlists_that_cannot_be_are_refused(build: Any, says: str) -> None:
    with pytest.raises(CellError, match=says):
        run(build(Netlist(CELLS)))


def test_many_branches_are_refused_with_the_fix() -> None:
    with pytest.raises(CellError, match="XN: a soma with 17 branches: measured are 1 to 16; split"):
        run(neuron(17))


def test_input_that_does_not_fit_is_refused() -> None:
    net = Netlist(CELLS).add("X", "JTL", a="in", q="q")
    with pytest.raises(CellError, match="pulses for out: no input of the netlist; inputs: in"):
        run(net, {"out": [0.0]})
    with pytest.raises(CellError, match="give a list of times in s"):
        run(net, {"in": [math.nan]})
    with pytest.raises(CellError, match="watch z: no such line"):
        run(net, {"in": [0.0]}, watch=["z"])
    with pytest.raises(CellError, match="z is not watched; watch= one of q"):
        run(net, {"in": [0.0]})["z"]
    with pytest.raises(CellError, match="policy 'ignore' is none of"):
        run(net, {"in": [0.0]}, policy="ignore")  # type: ignore[arg-type]


def test_cells_that_cannot_be_are_refused() -> None:
    row = Transition("0", "a", "1", (Emission("q", PS),))
    with pytest.raises(CellError, match="X: state '1' has 0 transitions on 'a'; give one"):
        PulseCell("X", ("a",), ("q",), (row,), start="0")
    with pytest.raises(CellError, match="emits at 'r'; its outputs are"):
        PulseCell("X", ("a",), ("q",), (Transition("0", "a", "0", (Emission("r", PS),)),), start="0")
    with pytest.raises(CellError, match="delay of q on 'a' is 1 s"):
        PulseCell("X", ("a",), ("q",), (Transition("0", "a", "0", (Emission("q", 1.0),)),), start="0")
    with pytest.raises(CellError, match="kind 'soma' without its numbers"):
        PulseCell("X", ("n",), ("q",), tuple(Transition("0", k, "0") for k in ("take", "fire", "back")), "0", "soma")
