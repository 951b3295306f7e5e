"""Counts and seconds of every chip step: sums, closed forms by hand, arrivals synapse by synapse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from loihi_programs import KINDS, program

from export.assemble import assemble
from export.loihi import ConvEdge, DenseEdge, InputNode, Lif, LoihiProgram, SparseEdge
from hardware.loihi import load_profile
from sim.loihi import engine, fallback, timing
from sim.loihi.arrivals import received
from sim.loihi.steps import chip_seconds, per_step, with_input_updates
from sim.loihi.timing import step_seconds, timing_of
from sim.run import Run

DAVIES = load_profile("loihi1").timing["loihi1_davies2018"]


def ran(kind: str, seed: int = 31) -> tuple[LoihiProgram, Any, Run]:
    made, x = program(kind, seed)
    return made, x, engine.run(made, x, probes=made.watched)


def rasters(made: LoihiProgram, x: Any, done: Run) -> dict[str, Any]:
    rows = done.samples * done.steps
    spikes = {n: done.probes[f"{n}.s"].reshape(rows, -1) for n in made.populations}
    return {made.input: x.reshape(rows, -1)} | spikes


@pytest.mark.parametrize("kind", KINDS)
def test_steps_add_up_to_the_run(kind: str) -> None:
    made, x, done = ran(kind)
    steps = per_step(made, x, done)
    total = done.samples * done.steps + max(p.start for p in made.nodes.values())
    for event, by in steps.counts.items():
        for n, each in by.items():
            assert each.shape == (total,)
            assert each.dtype == np.int64
            if event != "neuron_updates_input":
                assert int(each.sum()) == done.counts[event][n], (event, n)
    assert set(done.counts) - set(steps.counts) == {"neuron_updates_active", "neuron_updates_inactive"}
    assert steps.seconds is not None
    assert steps.seconds.shape == (total,)
    assert steps.seconds.sum() == pytest.approx(done.machine_s, rel=1e-12)
    assert steps.notes[0] in done.notes
    kinds = [e for e in done.counts if e.startswith("synaptic_events_")]
    assert sum(done.total(e) for e in kinds) == done.total("synaptic_events")
    for n in made.populations:
        first = made.nodes[n].start
        assert not steps.counts["fired"][n][:first].any()
        assert (steps.counts["neuron_updates_input"][n] <= steps.counts["neuron_updates"][n]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_arrivals_synapse_by_synapse(kind: str) -> None:
    made, x, done = ran(kind)
    spikes = rasters(made, x, done)
    starts = {n: p.start for n, p in made.nodes.items()}
    want = {n: np.zeros(spikes[n].shape, bool) for n in made.populations}
    for e, (of, to) in zip(made.edges, made.links, strict=True):
        late = np.full(len(of), e.delay) if e.delays is None else e.delays[e.w != 0]
        shift = late + 1 + starts[e.src] - starts[e.dst]
        for t, i in np.argwhere(spikes[e.src] != 0):
            on = of == i
            rows, targets = t + shift[on], to[on]
            inside = (rows >= 0) & (rows < len(want[e.dst]))
            want[e.dst][rows[inside], targets[inside]] = True
    got = received(made, spikes, starts)
    assert all((got[n] == want[n]).all() for n in made.populations)
    more = with_input_updates(made, x, done)
    assert more.counts["neuron_updates_input"] == {n: int(w.sum()) for n, w in want.items()}
    assert "neuron_updates_input" not in done.counts


def three_cores() -> tuple[LoihiProgram, dict[str, Any]]:
    """Two lines on core 0, three neurons on core 1, one on core 4, the next tile; four steps of spikes."""
    made = assemble(
        {"in": InputNode((2,)), "h": Lif((3,), 4095, 0, 100), "o": Lif((1,), 4095, 0, 100)},
        [
            DenseEdge("in", "h", np.array([[2, 2], [2, 0], [2, 0]], np.int16), "excitatory"),
            DenseEdge("h", "o", np.array([[2, 2, 2]], np.int16), "excitatory"),
        ],
        "o",
        placement={"in": np.zeros(2, np.int32), "h": np.ones(3, np.int32), "o": np.full(1, 4, np.int32)},
        late=False,
    )
    spikes = {"in": [[1, 1], [0, 1], [0, 0], [0, 0]], "h": [[0, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0]]}
    return made, {n: np.array(s) for n, s in spikes.items()} | {"o": np.zeros((4, 1), int)}


@pytest.mark.parametrize(
    ("active", "busy"),
    [
        ("all", [(3, 1), (3, 1), (3, 1), (3, 1)]),
        ("input", [(0, 0), (3, 0), (1, 1), (0, 0)]),
        ("fired", [(0, 0), (2, 0), (0, 0), (0, 0)]),
    ],
)
def test_a_step_by_hand(active: Any, busy: list[tuple[int, int]]) -> None:
    made, spikes = three_cores()
    t = DAVIES
    want = []
    for k, (h, o) in enumerate(busy):
        sent_in, fired = int(spikes["in"][k].sum()), int(spikes["h"][k].sum())
        events = int((spikes["in"][k] * [3, 1]).sum())
        generate = [
            sent_in * t.axon_out_s,
            h * t.neuron_s + (3 - h) * t.idle_s + fired * (t.spike_s + t.axon_out_s),
            o * t.neuron_s + (1 - o) * t.idle_s,
        ]
        receive = [0, sent_in * t.axon_in_s + events * t.synapse_s, fired * (t.axon_in_s + t.synapse_s)]
        want.append(max(*generate, *receive) + 113e-9 + (465e-9 - 113e-9) / 31)
    got = step_seconds(made, spikes, t, active=active)
    assert got == pytest.approx(want, rel=1e-12)
    if active != "input":  # needs the step before
        each = [step_seconds(made, {n: s[k : k + 1] for n, s in spikes.items()}, t, active=active) for k in range(4)]
        assert np.concatenate(each) == pytest.approx(want, rel=1e-12)


def test_who_is_active_orders_the_times() -> None:
    made, x, done = ran("dense")
    spikes = rasters(made, x, done)
    whole, some, few = (chip_seconds(made, spikes, DAVIES, active) for active in ("all", "input", "fired"))
    assert (few <= some + 1e-18).all()
    assert (some <= whole + 1e-18).all()
    assert few.sum() < whole.sum()


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made, x, done = ran("conv")
    want = per_step(made, x, done, timing="loihi1_sanafe", active="input")
    monkeypatch.setattr("sim.loihi.timing.BLOCK", 1)
    monkeypatch.setattr("sim.loihi.arrivals.BLOCK", 1)
    monkeypatch.setattr("export.synapses.BLOCK", 1)
    got = per_step(made, x, done, timing="loihi1_sanafe", active="input")
    assert (np.asarray(got.seconds) == np.asarray(want.seconds)).all()
    assert all((got.counts[e][n] == a).all() for e, by in want.counts.items() for n, a in by.items())


def test_kinds_of_connections_have_their_own_times_and_counts() -> None:
    w = np.full((1, 1, 2, 2), 2, np.int16)
    eye = DenseEdge("in", "b", np.eye(2, 4, dtype=np.int16) * 2, "excitatory", num_message_bits=12)
    made = assemble(
        {"in": InputNode((1, 2, 2), 3), "a": Lif((1, 1, 1), 4095, 0, 1), "b": Lif((2,), 4095, 0, 1)},
        [ConvEdge("in", "a", w, "excitatory", num_message_bits=3), SparseEdge.of_dense(eye)],
        "b",
    )
    x = np.zeros((1, 2, 1, 2, 2), np.int64)
    x[0, 0, 0, 0] = (5, 7)
    done = engine.run(made, x, probes=made.watched)
    assert done.counts["synaptic_events_conv"] == {"a": 2}
    assert done.counts["synaptic_events_sparse"] == {"b": 2}
    assert done.counts["messages"]["in"] == 4
    assert done.counts["payload_bytes"] == {"in": 8, "a": 0, "b": 0}
    seconds = per_step(made, x, done, timing="loihi1_sanafe").seconds
    assert seconds is not None
    assert seconds[0] == pytest.approx(0.6e-6 + 2 * (16e-9 + 4.7e-9), rel=1e-12)  # the core of b takes longest
    assert seconds[1] == pytest.approx(0.6e-6 + 2 * 9.7e-9 + 2 * 30e-9, rel=1e-12)


def test_what_is_not_there_is_named() -> None:
    made, x, done = ran("dense")
    with pytest.raises(ValueError, match=r"loihi1 has no timing 'fast'; there are loihi1_davies2018, loihi1_sanafe"):
        per_step(made, x, done, timing="fast")
    with pytest.raises(ValueError, match="active must be one of all, input, fired, got 'some'"):
        per_step(made, x, done, active="some")  # type: ignore[arg-type]  # not one of them
    bare = engine.run(made, x)
    with pytest.raises(ValueError, match=r"the run has no a\.s, .*probes=program\.watched"):
        per_step(made, x, bare)
    two = assemble(dict(made.nodes), made.edges, made.output, profile="loihi2")
    assert timing_of(two) is None
    assert per_step(two, x, engine.run(two, x, probes=two.watched)).seconds is None
    with pytest.raises(ValueError, match="none: no figures are public"):
        timing_of(two, "loihi1_sanafe")


@pytest.mark.parametrize("kind", KINDS)
def test_times_are_the_same_without_numba(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, x, done = ran(kind)
    spikes = rasters(made, x, done)
    want = [chip_seconds(made, spikes, DAVIES, active) for active in timing.ACTIVE]
    monkeypatch.setattr(timing, "backend", lambda: fallback)
    for active, seconds in zip(timing.ACTIVE, want, strict=True):
        assert seconds.min() > 0
        assert chip_seconds(made, spikes, DAVIES, active) == pytest.approx(seconds, rel=1e-12)
