"""Pulse level against junction level: the same circuits at both, counts and times (docs/sfq.md 3.3, 3.4, 4.3)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from export.network import Input, Linear, Network, Output, Spiking
from export.to_deck import to_deck
from neuro.neuron import Law, Rate
from sim.sfq import DeckError, loads, transient
from sim.sfq.pulse import (
    CellError,
    Netlist,
    PulseRun,
    Violation,
    compile_netlist,
    from_deck,
    level_engine,
    load_library,
    run,
    soma,
)
from sim.sfq.pulse.bench import junction_level
from sim.sfq.pulse.calibrate import fingerprint
from sim.sfq.pulse.library import TIMING
from sim.sfq.pulse.to_deck import deck_text, speaker

PS = 1e-12
BASIC = ("SPLIT", "MERGE", "DFF", "TFF")
GATES = (*BASIC, "NDRO", "AND", "OR", "XOR", "NOT")
STOP_S = 1.5e-9


def circuit(rng: np.random.Generator, kinds: tuple[str, ...], buffered: bool) -> Netlist:
    """Ten random cells behind three inputs of a JTL each; ``buffered``: a JTL behind every output, as decks are drawn.

    JTLs count as cells, but those of the inputs do not.
    """
    library = load_library()
    net = Netlist(library)
    lines = []
    for k in range(3):
        net.add(f"XI{k}", "JTL", a=f"in{k}", q=f"l{k}")
        lines.append(f"l{k}")
    k = 0
    while k < 10:
        kind = str(rng.choice(kinds if buffered else (*kinds, "JTL")))
        if len(lines) < len(library[kind].inputs) + (len(library[kind].inputs) > 1):
            kind = "SPLIT"
        cell = library[kind]
        ports: dict[str, Any] = {p: lines.pop(rng.integers(len(lines))) for p in cell.inputs}
        net.add(f"X{k}", kind, **ports, **{p: f"n{k}{p}" for p in cell.outputs})
        owner, k = k, k + 1
        for p in cell.outputs:
            line = f"n{owner}{p}"
            if buffered and k < 10:
                net.add(f"X{k}", "JTL", a=line, q=f"j{k}")
                line, k = f"j{k}", k + 1
            lines.append(line)
    return net


def legal(kinds: tuple[str, ...], buffered: bool, count: int) -> Iterator[tuple[Netlist, Any, PulseRun]]:
    """Circuits whose cells fit and whose random patterns, at least 15 ps apart, break no separation."""
    seed = 0
    while count:
        rng = np.random.default_rng(seed)
        net, seed = circuit(rng, kinds, buffered), seed + 1
        pulses = {n: 60 * PS + np.cumsum(rng.uniform(15 * PS, 120 * PS, 8)) for n in net.inputs}
        try:
            done = run(net, pulses, STOP_S, watch=list(net.drivers))
        except CellError:
            continue
        count -= 1
        yield net, pulses, done


def deviations(net: Netlist, pulses: Any, done: PulseRun) -> tuple[bool, npt.NDArray[np.float64]]:
    """Whether all counts are equal, and by how much (ps) the pulses of lines with equal counts differ."""
    truth = junction_level(net, pulses, STOP_S, 0.1 * PS)
    pairs = [(done[n], truth.times[n]) for n in net.drivers]
    apart = [np.zeros(0), *((a - b) / PS for a, b in pairs if len(a) == len(b))]
    return all(len(a) == len(b) for a, b in pairs), np.concatenate(apart)


def test_hundred_random_patterns_through_circuits_of_ten_cells() -> None:
    """Drawn as our decks are: all counts equal, every pulse of every line within 0.5 ps and 2 sigma of one merger."""
    off = []
    sigma_ps = load_library()["MERGE"].transitions[0].emits[0].jitter_s / PS
    assert 0.0 < sigma_ps < 0.2
    for net, pulses, done in legal(BASIC, True, 100):
        same, apart = deviations(net, pulses, done)
        assert same
        off.append(np.abs(apart).max())
    assert max(off) < 0.5 + 2 * sigma_ps
    assert np.mean(np.array(off) < 0.5) > 0.95
    assert np.median(off) < 0.25


def test_cells_back_to_back() -> None:
    """Without JTLs between, cells shift each other's bias: counts still equal, times to 0.35 ps rms."""
    all_off = []
    for net, pulses, done in legal(BASIC, False, 50):
        same, apart = deviations(net, pulses, done)
        assert same
        all_off.append(apart)
    assert np.concatenate(all_off).std() < 0.35
    assert np.mean([np.abs(x).max() < 1.0 for x in all_off]) > 0.7


def test_clocked_gates() -> None:
    """With AND, OR, XOR, NOT and NDRO among the ten: 24 of 25 circuits equal in every count, 0.8 ps at most."""
    results = [deviations(*found) for found in legal(GATES, True, 25)]
    assert sum(same for same, _ in results) >= 24
    good = [np.abs(apart).max() for same, apart in results if same]
    assert max(good) < 0.9
    assert np.mean(np.array(good) < 0.5) > 0.8


def test_what_is_too_near_is_told_where_junctions_fail() -> None:
    """Two pulses into a merger 2 ps apart come out as one; at pulse level that is a violation with the legal time."""
    net = Netlist(load_library()).add("XA", "JTL", a="a", q="u").add("XB", "JTL", a="b", q="v")
    net.add("XM", "MERGE", a="u", b="v", q="q").add("XQ", "JTL", a="q", q="out")
    near, far = ({"a": np.array([100 * PS]), "b": np.array([(100 + d) * PS])} for d in (2, 8))
    assert len(junction_level(net, near, 0.2e-9).times["out"]) == 1
    assert len(junction_level(net, far, 0.2e-9).times["out"]) == 2
    with pytest.raises(Violation, match=r"XM \(MERGE\): pulse at b at .* must pass after a; earliest legal time"):
        run(net, near, 0.2e-9)
    assert len(run(net, far, 0.2e-9)["out"]) == 2


@pytest.mark.parametrize(
    ("f_GHz", "stored_GHz"),
    [(20, 0.0), (25.1, 0.0), (30.5, 0.0), (33.2, 3.4), (35.6, 5.4), (40.0, 9.5), (45.4, 14.6), (49.8, 18.3)],
)
def test_neuron_transfer_is_the_stored_one(f_GHz: float, stored_GHz: float) -> None:
    """JoSIM's table of docs/sfq.md 3.3 (3 ns): within 0.5 GHz, and within one spike of our junction level."""
    library = load_library()
    train = 50 * PS + np.arange(int(2.95 * f_GHz)) / (f_GHz * 1e9)
    done = run(soma.netlist(library, [1], 90e-6, "NEURON"), {"i0": train}, 3e-9, watch=["h"])
    truth = soma.record(library, [1], 90e-6, [train], "NEURON")
    assert abs(len(done["h"]) - len(truth.slips)) <= 1
    assert len(done["h"]) / 2.95 == pytest.approx(stored_GHz, abs=0.5)


def test_somas_count_as_junctions_do() -> None:
    """Random trains, one to sixteen branches, some of them inhibiting: within one spike each, 1 % in all."""
    library, counts, first = load_library(), [], []
    for branches in (1, 2, 3, 4, 8, 16):
        for bias in (130e-6, 165e-6, 200e-6):
            rng = np.random.default_rng([branches, int(bias * 1e6)])
            down = branches // 4
            signs = [1] * (branches - down) + [-1] * down
            trains = soma.random_trains(rng, branches, max(30e-12, branches * 18e-12))
            pulses = {f"i{k}": t for k, t in enumerate(trains)}
            done = run(soma.netlist(library, signs, bias), pulses, 3e-9, watch=["h"], policy="warn")
            truth = soma.record(library, signs, bias, trains)
            counts.append((len(done["h"]), len(truth.slips)))
            if len(done["h"]) and len(truth.slips):
                first.append(abs(done["h"][0] - truth.slips[0]))
    ours, theirs = np.array(counts).T
    assert np.abs(ours - theirs).max() <= 1
    assert abs(ours.sum() - theirs.sum()) <= 0.01 * theirs.sum()
    assert theirs.sum() > 400
    assert np.median(first) < 3 * PS


@pytest.mark.parametrize(("branches", "mean_ps"), [(1, 28), (2, 28), (4, 60), (4, 28), (8, 60)])
def test_inhibition_is_kept_until_the_soma_slips_back(branches: int, mean_ps: float) -> None:
    """Anti-pulses alone: never an output, and back slips of the threshold junction within two of junction level."""
    library = load_library()
    trains = soma.random_trains(np.random.default_rng(branches), branches, mean_ps * PS)
    net, pulses = soma.netlist(library, [-1] * branches, 165e-6), {f"i{k}": t for k, t in enumerate(trains)}
    done = run(net, pulses, 3e-9, policy="warn")
    truth = transient(loads(deck_text(net, pulses, 3e-9)), probes=())
    assert len(done["q"]) == len(truth.pulse_times("B1|X2|XH")) == 0
    assert abs(done.counts()["XN"]["idle:back"] - len(truth.pulse_times("B1|X1|XN", -1))) <= 2


@pytest.mark.parametrize(
    ("weight_uA", "passed"), [(66, (21, 17)), (70, (95, 88)), (72, (136, 132)), (74, (170, 174)), (78, (198, 195))]
)
def test_stochastic_synapse_passes_as_stored(weight_uA: float, passed: tuple[int, int]) -> None:
    """JoSIM's counts of 199 pulses at 4.2 K, two seeds (docs/sfq.md 3.4): within 4 sigma of each other."""
    net = Netlist(load_library()).add("XA", "JTL", a="in", q="a").add("XS", "STSYN", a="a", q="s", w=weight_uA * 1e-6)
    net.add("XQ", "JTL", a="s", q="q")
    train = 50 * PS + np.arange(199 * 50) * 50 * PS
    p = len(run(net, {"in": train}, 1e-6, seed=1)["q"]) / len(train)
    stored = sum(passed) / 398
    assert abs(p - stored) < 4 * math.sqrt(max(stored * (1 - stored), 1 / 398) / 398)


def xor(x: npt.NDArray[Any]) -> str:
    """The XOR network of docs/sfq.md 3.5, exported with the pattern x."""
    law = Law(Rate(1.0 - math.exp(-0.3), decay_input=False), 2.3, "subtract")
    nodes: dict[str, Any] = {
        "input": Input((2,)), "fc0": Linear(np.array([[1.0, -1.0], [-1.0, 1.0]])), "lif0": Spiking(law),
        "fc1": Linear(np.array([[1.0, 1.0]])), "lif1": Spiking(Law(law.charge, 1.0, "subtract")), "output": Output(),
    }  # fmt: skip
    return to_deck(Network.sequential(nodes, dt_s=30e-12, name="xor"), x=x).deck


@pytest.mark.parametrize("pattern", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_xor_is_one_deck_at_both_levels(pattern: tuple[int, int]) -> None:
    """The exported deck as it is: sources become trains, cells pulse cells; counts within one of the junctions'."""
    deck = loads(xor(np.tile(pattern, (31, 1))))
    given = from_deck(deck)
    done = run(given.netlist, given.pulses, given.t_stop_s)
    (out,) = done.pulses.values()
    truth = transient(deck, probes=()).pulse_times("B1|X2|XL2N0O")
    assert abs(len(out) - len(truth)) <= 1
    assert (len(out) >= 3) == (pattern[0] != pattern[1])
    if len(truth):
        assert abs(out[0] - truth[0]) < 31 * PS, "not more than one pulse too early or late"
    levels = run(given.netlist, given.pulses, given.t_stop_s, engine=level_engine)
    assert [t.tolist() for t in levels.pulses.values()] == [out.tolist()]


def test_netlist_to_deck_and_back() -> None:
    """What to_deck writes, from_deck reads: the same cells, controls and pulse times, so the same answer."""
    net = Netlist(load_library()).add("XA", "JTL", a="a", q="b").add("XW", "STSYN", a="b", q="c", w=72e-6)
    net.add("XY", "SYNP", a="c", n="s").add("XN", "SOMA", n="s", q="d", bias_A=190e-6).add("XQ", "JTL", a="d", q="q")
    pulses = {"a": (60 + 25 * np.arange(40)) * PS}
    given = from_deck(loads(deck_text(net, pulses, 1.2e-9)))
    one, two = (run(n, p, 1.2e-9, seed=5) for n, p in ((net, pulses), (given.netlist, given.pulses)))
    assert len(one["q"]) > 3
    assert np.abs(one["q"] - two["Q"]).max() < 1e-3 * PS
    assert given.netlist.instances["XW"].currents == pytest.approx({"w": 72e-6})
    assert given.netlist.instances["XN"].currents == pytest.approx({"bias": 190e-6})


HEAD = deck_text(
    Netlist(load_library()).add("XJ", "JTL", a="a", q="b").add("XS", "SPLIT", a="b", q0="c", q1="d"), {}, 1e-9
)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("Va a 0 0", "Va a 0 pulse(0 400u 50p 2.5p 2.5p 0 50p)", r"VA: its area is .* flux quanta"),
        ("Va a 0 0", "Va a 0 sin(0 1m 1g)", "VA: a Sin source is no pulses"),
        ("Va a 0 0", "Va a 0 pulse(0 -827.13u 50p 2.5p 2.5p 0 50p)", r"VA: pulses of sign -1 into XJ.a"),
        ("Va a 0 0", "Va a 0 0\nL9 a z 2p", "L9: an element L between cells"),
        ("IB 0 b pwl(0 0 5p 350u)", "IB 0 b pwl(0 0 5p 300u)", "JTL: is not the library's JTL: the current of IB"),
        ("L1 a 1 2p\nX1 J250 1\nL2 1 b", "L1 a 1 3p\nX1 J250 1\nL2 1 b", "JTL: is not the library's JTL: its ind"),
        ("XJ JTL a b", "XJ JTL a b L1=3p", "XJ: L1= changes JTL"),
    ],
)  # fmt: skip
def test_decks_without_meaning_at_pulse_level_are_refused(before: str, after: str, says: str) -> None:
    assert before in HEAD
    with pytest.raises(DeckError, match=says):
        from_deck(loads(HEAD.replace(before, after, 1)))


def test_subcircuits_of_cells_are_opened() -> None:
    text = HEAD.replace("XJ JTL a b\n", ".subckt TWO x y\nX1 JTL x m\nX2 JTL m y\n.ends\nXJ TWO a b\n", 1)
    net = from_deck(loads(text)).netlist
    assert list(net.instances) == ["X1|XJ", "X2|XJ", "XS"]
    assert net.instances["X2|XJ"].nets == {"a": "M|XJ", "q": "B"}


def test_pairs_that_do_not_fit_are_refused() -> None:
    net = Netlist(load_library()).add("XY", "SYNP", a="a", n="s").add("XN", "SOMA", n="s", q="h")
    net.add("XS", "SPLIT", a="h", q0="x", q1="y")
    with pytest.raises(CellError, match=r"XS.a: SOMA.q cannot drive SPLIT.a: .* put a JTL between"):
        compile_netlist(net)


def test_speakers() -> None:
    """The junction to ground behind an output; a synapse has it behind its resistor."""
    found = {(c, p): speaker(c, p) for c, p in (("JTL", "q"), ("SPLIT", "q1"), ("MERGE", "q"), ("SYNP", "n"))}
    assert list(found.values()) == ["B1|X2", "B1|X3", "B1|X5", "B1|X1"]


def test_times_are_of_these_netlists() -> None:
    """If this fails, a cell was changed: run python -m sim.sfq.pulse.calibrate."""
    text = TIMING.read_text()
    stale = [name for name in load_library() if f'{name} = "{fingerprint(name)}"' not in text]
    assert not stale


def test_energy_is_that_of_the_slips() -> None:
    """Ic Phi0 of every junction that slips: counted at junction level, and by the cells' tables."""
    net = Netlist(load_library()).add("XA", "JTL", a="a", q="b").add("XS", "SPLIT", a="b", q0="c", q1="d")
    net.add("XT", "TFF", a="c", q="e").add("XJ", "JTL", a="d", q="f")
    pulses = {"a": (60 + 50 * np.arange(10)) * PS}
    done = run(net, pulses, 0.7e-9)
    truth = transient(loads(deck_text(net, pulses, 0.7e-9)), probes=())
    assert done.energy_J == pytest.approx(truth.energy.ic_phi0_J, rel=1e-3)
    assert sum(done.slips().values()) == sum(truth.slips.values())


def test_a_blocked_pulse_costs_its_slips() -> None:
    net = Netlist(load_library()).add("XA", "JTL", a="in", q="a").add("XS", "STSYN", a="a", q="s", w=50e-6)
    net.add("XQ", "JTL", a="s", q="q")
    pulses = {"in": (50 + 50 * np.arange(10)) * PS}
    truth = transient(loads(deck_text(net, pulses, 0.7e-9)), probes=())
    assert run(net, pulses, 0.7e-9).slips()["XS"] == sum(n for j, n in truth.slips.items() if j.endswith("|XS")) == 20
