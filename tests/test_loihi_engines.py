"""The fast engine equals the readable one bit for bit, and counts follow closed forms."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loihi_programs import KINDS, program

from export import Edge, Input, Linear, Network, Output, Spiking
from export.assemble import assemble
from export.loihi import DenseEdge, InputNode, Lif, LoihiProgram
from export.package import PackageError
from export.to_loihi import compile_loihi
from hardware.loihi import load_profile
from neuro.neuron import Decay, Law
from sim import numpy_engine
from sim.loihi import counting, engine, flow, reference, steps

SEEDS = range(8)


@pytest.mark.parametrize("wild", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_engines_agree_bit_for_bit(kind: str, wild: bool) -> None:
    fired = total = wrapped = 0
    for seed in SEEDS:
        made, x = program(kind, seed, wild)
        probes = tuple(f"{n}.{k}" for n, p in made.populations.items() for k in ("s", *p.states))
        want = reference.run(made, x, probes=probes)
        for numba in (True, False):
            got = engine.run(made, x, probes=probes, numba=numba)
            assert set(got.probes) == set(probes)
            for p in probes:
                assert (got.probes[p] == want.probes[p]).all(), (kind, seed, numba, p)
            assert (got.y == want.y).all()
            assert got.counts == want.counts
            assert got.notes == want.notes
            assert got.machine_s == want.machine_s
        fired += sum(np.count_nonzero(want.probes[p]) for p in probes if p.endswith(".s"))
        total += sum(want.probes[p].size for p in probes if p.endswith(".s"))
        wrapped += any("wrapped" in n for n in want.notes)
    assert 0.005 < fired / total < 0.95
    assert wild == (wrapped > 0) or kind in KINDS[4:]


@pytest.mark.parametrize("kind", KINDS)
def test_stepping_is_running(kind: str) -> None:
    made, x = program(kind, 11)
    want = reference.run(made, x, probes=("o.u", "o.v")).y
    slow = fast = None
    ys = []
    for t in range(x.shape[1] + made.latency):
        now = x[:, t] if t < x.shape[1] else np.zeros_like(x[:, 0])
        y, fast = engine.step(made, fast, now)
        again, slow = reference.step(made, slow, now)
        assert (y == again).all()
        for n in made.populations:
            for variable in made.populations[n].states:
                assert (fast.read(n, variable) == slow.vars[n][variable]).all()
        ys.append(y)
    assert (np.stack(ys, 1)[:, made.latency :] == want).all()


def test_populations_may_be_listed_in_any_order() -> None:
    made, x = program("recurrent", 7)
    turned = replace(made, nodes=dict(reversed(made.nodes.items())))
    assert {frozenset(c) for c in turned.components} == {frozenset(c) for c in made.components}
    assert turned.components[0] == ("in",)
    assert (engine.run(turned, x).y == reference.run(made, x).y).all()
    chain, x = program("dense", 7)
    assert [len(c) for c in chain.components] == [1] * len(chain.nodes)
    assert not chain.loops


def test_kept_state_goes_on_as_it_was() -> None:
    made, x = program("recurrent", 3)
    _, state = engine.step(made, None, x[:, 0])
    kept = state.copy()
    first = [engine.step(made, state, x[:, t])[0] for t in range(1, 5)]
    again = [engine.step(made, kept, x[:, t])[0] for t in range(1, 5)]
    assert all((a == b).all() for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("kind", ["conv", "recurrent", "delay"])
def test_long_runs_in_pieces_and_threads_change_nothing(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, x = program(kind, 5)
    want = engine.run(made, x, probes=("o.v",), threads=1)
    monkeypatch.setattr(flow, "ROWS", 1)
    monkeypatch.setattr(engine, "WIDE", 1)
    got = engine.run(made, x, probes=("o.v",), threads=2)
    assert (got.probes["o.v"] == want.probes["o.v"]).all()
    assert got.counts == want.counts


def test_samples_are_independent_and_progress_ends_at_one() -> None:
    made, x = program("delay", 2)
    seen: list[float] = []
    both = engine.run(made, x, progress=seen.append)
    assert seen[-1] == 1.0
    assert len(seen) == len(x)
    alone = [engine.run(made, x[k : k + 1]).y[0] for k in range(len(x))]
    assert (both.y == np.stack(alone)).all()


def worked_example() -> tuple[LoihiProgram, Any]:
    """20-12-4, 30 steps, 160 input spikes, 178 hidden, 76 out; input and hidden on tile 0, output on tile 1."""
    trains = np.zeros((1, 30, 20), np.int8)
    trains.reshape(-1)[:160] = 1
    hidden, output = np.zeros((1, 30, 12), np.int8), np.zeros((1, 30, 4), np.int8)
    hidden.reshape(-1)[:178] = 1
    output.reshape(-1)[:76] = 1
    made = assemble(
        {"in": InputNode((20,)), "h": Lif((12,), 4095, 0, 100), "o": Lif((4,), 4095, 0, 100)},
        [
            DenseEdge("in", "h", np.full((12, 20), 20, np.int16), "excitatory"),
            DenseEdge("h", "o", np.full((4, 12), 20, np.int16), "excitatory"),
        ],
        "o",
        placement={n: np.full(k, c, np.int32) for n, k, c in (("in", 20, 0), ("h", 12, 1), ("o", 4, 4))},
    )
    return made, (trains, hidden, output)


def test_counts_of_the_worked_energy_example() -> None:
    made, (x, hidden, output) = worked_example()
    activity = counting.Activity.empty(made, 1, 30, ())
    activity.spikes = {"h": hidden, "o": output}
    counts, seconds = counting.count(made, x, activity)
    total = {event: sum(by.values()) for event, by in counts.items()}
    assert total["synaptic_events"] == 2632
    assert total["neuron_updates"] == 480
    assert counts["spikes"] == {"in": 160, "h": 178, "o": 76}
    assert total["messages"] == 338
    assert counts["input_messages"] == {"in": 160}
    assert (total["hops_ew"], total["hops_ns"]) == (0, 178)
    sanafe = 2632 * 35.5 + 480 * (51.2 + 21.6) + (178 + 76) * 69.3 + total["messages"] * 111 + 178 * 4.2
    assert sanafe == pytest.approx(184247.8, abs=0.05)
    assert seconds is not None
    assert seconds > 32 * 113e-9


def test_engines_count_what_a_recount_of_spikes_says() -> None:
    for kind in KINDS:
        made, x = program(kind, 21)
        done = engine.run(made, x, probes=made.watched)
        spikes = {n: (done.probes[f"{n}.s"] != 0).reshape(-1, made.size(n)).astype(np.int64) for n in made.populations}
        spikes["in"] = (x.reshape(-1, made.size("in")) != 0).astype(np.int64)
        events, messages = dict.fromkeys(made.populations, 0), dict.fromkeys(made.nodes, 0)
        for n, s in spikes.items():
            goes = np.zeros((made.size(n), 1000), bool)
            for e, (of, to) in zip(made.edges, made.links, strict=True):
                if e.src == n:
                    goes[of, made.placement[e.dst][to]] = True
                    events[e.dst] += int(s.sum(axis=0)[of].sum())
            messages[n] = int(s.sum(axis=0) @ goes.sum(axis=1))
        assert done.counts["synaptic_events"] == events
        assert done.counts["messages"] == messages
        assert done.counts["spikes"] == {n: int(spikes[n].sum()) for n in made.nodes}


def test_active_updates_are_those_with_something_in_them() -> None:
    made = assemble(
        {"in": InputNode((1,)), "h": Lif((2,), 4095, 4095, 1000)},
        [DenseEdge("in", "h", np.array([[100], [0]], np.int16), "excitatory")],
        "h",
    )
    done = engine.run(made, np.array([1, 0, 0, 0, 0]).reshape(1, 5, 1))
    assert done.counts["neuron_updates"] == {"h": 10}
    assert done.counts["neuron_updates_active"] == {"h": 3}  # input; v = 6400 -> 1; 1 -> 0; then nothing
    assert done.counts["neuron_updates_inactive"] == {"h": 7}
    assert done.counts["synaptic_events"] == {"h": 1}


def test_time_of_a_step_is_the_slowest_core_and_the_barrier() -> None:
    made, (x, hidden, output) = worked_example()
    rasters = {"in": x[0], "h": hidden[0], "o": output[0]}
    for name, timing in load_profile("loihi1").timing.items():
        want = 0.0
        for t in range(32):
            n = {
                k: int(r[t - s].sum()) if 0 <= t - s < 30 else 0
                for (k, r), s in zip(rasters.items(), (0, 1, 2), strict=True)
            }
            generate = [
                n["in"] * timing.axon_out_s,
                12 * timing.neuron_s + n["h"] * (timing.spike_s + timing.axon_out_s),
                4 * timing.neuron_s + n["o"] * timing.spike_s,
            ]
            receive = [
                n["in"] * (timing.axon_in_s + 12 * timing.synapse_s),
                n["h"] * (timing.axon_in_s + 4 * timing.synapse_s),
            ]
            want += max(*generate, *receive) + timing.sync_s(2)
        got = steps.chip_seconds(made, rasters, timing)
        assert len(got) == 32
        assert got.sum() == pytest.approx(want, rel=1e-12), name


def test_barrier_is_linear_between_tiles() -> None:
    timing = load_profile("loihi1").timing["loihi1_davies2018"]
    assert timing.sync_s(1) == 113e-9
    assert timing.sync_s(32) == timing.sync_s(40) == 465e-9
    assert timing.sync_s(9) == pytest.approx(113e-9 + 352e-9 * 8 / 31)
    assert load_profile("loihi2").timing == {}
    with pytest.raises(ValueError, match="no chip profile 'loihi9'; there are loihi1, loihi2"):
        load_profile("loihi9")


def test_saved_program_runs_the_same(tmp_path: Path) -> None:
    for kind in KINDS:
        made, x = program(kind, 4)
        again = LoihiProgram.load(made.save(tmp_path / f"{kind}.npz"))
        assert again.hash() == made.hash()
        a, b = engine.run(made, x), engine.run(again, x)
        assert (a.y == b.y).all()
        assert a.counts == b.counts
    with pytest.raises(PackageError, match="holds 'spikeport-network', expected 'loihi-int'"):
        LoihiProgram.load(_network().save(tmp_path / "net.npz"))


def _network() -> Network:
    w = np.eye(3, dtype=np.float32)
    return Network.sequential({"in": Input((3,)), "fc": Linear(w), "h": Spiking(), "out": Output()})


def test_delayed_and_recurrent_networks_keep_their_time() -> None:
    """Weights on the grid, decays in powers of two: the float law, a residual path and a loop, spike for spike."""
    rng = np.random.default_rng(5)

    def w(n: int, m: int) -> Any:
        return (rng.integers(-62, 60, (n, m)) / 64).astype(np.float64)

    law = Law(Decay(0.5, 0.75), threshold=1.0 + 1 / 256, fires=">")
    nodes = {
        "in": Input((10,)), "w1": Linear(w(12, 10)), "a": Spiking(law), "w2": Linear(w(12, 12)), "b": Spiking(law),
        "skip": Linear(w(12, 10)), "back": Linear(w(12, 12)), "w3": Linear(w(5, 12)), "o": Spiking(law),
        "out": Output(),
    }  # fmt: skip
    edges = [
        ("in", "w1"),
        ("w1", "a"),
        ("a", "w2"),
        ("w2", "b"),
        ("in", "skip"),
        ("skip", "b"),
        ("b", "w3"),
        ("w3", "o"),
    ]
    net = Network(nodes, [*(Edge(*e) for e in edges), Edge("o", "out"), Edge("b", "back"), Edge("back", "b", 1)])
    net.check()
    made = compile_loihi(net)
    assert [e.delay_range()[0] for e in made.edges if (e.src, e.dst) == ("in", "b")] == [1]
    assert made.latency == 3
    x = (rng.random((4, 30, 10)) < 0.3).astype(np.float64)
    probes = ("a.s", "b.s", "o.s")
    want = numpy_engine.run(net, x, probes=probes)
    got = engine.run(made, x, probes=probes)
    for p in probes:
        assert 0.005 < want.probes[p].mean() < 0.9
        assert (want.probes[p] == got.probes[p]).all(), p
