"""The loop against one long run on both engines, the window against literal spikes, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loihi_programs import program as random_program
from loop_programs import SEEDS, closed, relay, scaled

from export.assemble import assemble
from export.loihi import DenseEdge, InputNode, Lif
from neuro.stream import Bernoulli, Coded, Payload, Rate
from neuro.tuning import Scaled
from sim import engines
from sim.loihi import engine, reference
from sim.loop import (
    Argmax,
    Count,
    Decoder,
    EngineStepper,
    FirstSpike,
    Linear,
    Loop,
    Membrane,
    PopulationVector,
    Recording,
    ReferenceStepper,
    replay,
)


def test_decoders_in_numbers() -> None:
    y = np.array([[0, 1, 0], [1, 1, 0], [1, 0, 0]])
    v = np.array([64, -128, 32])
    assert Count()(y, None).tolist() == [2, 2, 0]
    assert FirstSpike()(y, None).tolist() == [2, 3, 0]
    assert Membrane()(y, v).tolist() == [1.0, -2.0, 0.5]
    assert Decoder(Count(), Argmax(3))(y) == 0  # the first of equals
    assert Decoder(FirstSpike(), Argmax(3))(y) == 1
    assert Decoder(Count(), Linear(((1.0, -2.0, 5.0),), (0.5,)))(y).tolist() == [-1.5]
    assert Decoder(Count(), Linear(((1.0, -2.0, 5.0),), (0.5,), -1.0, 1.0))(y).tolist() == [-1.0]
    assert Decoder(Count(), PopulationVector((-1.0, 0.0, 1.0)))(y).tolist() == [-0.5]
    assert Decoder(Count(), PopulationVector((-1.0, 0.0, 1.0), 0.25))(y * 0).tolist() == [0.25]


def test_blocking_reads_the_answer_and_pipelined_lags_by_the_latency() -> None:
    """Drives 3/4 and 1/4 of K = 4 steps through a relay, then the other way round."""
    made, sums = relay(), Decoder(Count(), Linear(((1.0, 0.0), (0.0, 1.0)), (0.0, 0.0)))
    seen = np.array([[0.75, 0.25], [0.25, 0.75], [0.0, 0.0]])
    blocking = Loop(made, scaled(2, Rate(4)), sums)
    assert [blocking.act(o).tolist() for o in seen] == [[3, 1], [1, 3], [0, 0]]
    assert blocking.rows == 6
    # 0.75: 0111, 0.25: 0001; two steps late they come out as 00|01, 11|00, 01|00 and 00|00, 01|01, 11|00
    pipelined = Loop(made, scaled(2, Rate(4)), sums, window="pipelined")
    assert [pipelined.act(o).tolist() for o in seen] == [[1, 0], [2, 2], [1, 2]]
    assert pipelined.rows == 4


def test_membrane_is_the_outputs_after_the_window() -> None:
    w = np.full((1, 1), 10, np.int16)
    made = assemble(
        {"in": InputNode((1,)), "o": Lif((1,), 4095, 0, 1000)}, [DenseEdge("in", "o", w, "excitatory")], "o"
    )
    for on in ("loihi", "loihi-reference"):
        loop = Loop(made, scaled(1, Rate(4)), Decoder(Membrane(), Linear(((1.0,),), (0.0,))), on=on)
        assert [loop.act([p]).tolist() for p in (1.0, 0.5)] == [[40.0], [60.0]]


@pytest.mark.parametrize(
    ("kind", "window"), [*((k, "blocking") for k in SEEDS), *((k, "pipelined") for k in ("dense", "recurrent"))]
)
def test_closed_loop_is_one_long_run(kind: str, window: Any, tmp_path: Path) -> None:
    """1,000 chip steps and more in the loop = one run of the recorded input, on both engines, bit for bit."""
    made, _ = random_program(kind, SEEDS[kind])
    n = made.size(made.input)
    loop = Loop(made, scaled(n, Bernoulli(8)), Decoder(Count(), Argmax()), window=window, record=tmp_path / "r")
    closed(loop, 130)
    loop.begin()
    closed(loop, 10)
    loop.close()
    recording = Recording(tmp_path / "r")
    (first, x, y), (second, _, again) = recording.episodes()
    assert (first, second) == (0, 1)
    assert len(x) == 130 * loop.rows >= 1000
    assert 0 < np.count_nonzero(y) < y.size
    for run in (engine.run, reference.run):
        want = run(made, x.reshape(1, len(x), *made.input_shape)).y.reshape(len(x), -1)
        assert (y[made.latency :] == want[: len(x) - made.latency]).all()
        assert not y[: made.latency].any()
    assert len(again) == 10 * loop.rows
    slow = ("loihi-reference", ReferenceStepper()) if kind == "dense" else ()
    for on in ("loihi", EngineStepper(), *slow):
        found = replay(recording, made, on)
        assert found.equal
        assert (found.episodes, found.steps, found.spikes) == (
            2,
            140 * loop.rows,
            int((y != 0).sum() + (again != 0).sum()),
        )


def test_both_steppers_act_alike() -> None:
    made, _ = random_program("recurrent", SEEDS["recurrent"])
    n = made.size(made.input)
    acts = [
        closed(Loop(made, scaled(n, Rate(6)), Decoder(Count(), Argmax()), on=on), 40)
        for on in ("loihi", "loihi-reference")
    ]
    assert acts[0] == acts[1]
    assert len(set(acts[0])) > 1


def test_graded_input_goes_in_signed() -> None:
    w = np.array([[50], [-50]], np.int16)
    made = assemble(
        {"in": InputNode((1,), 8), "o": Lif((2,), 4095, 4095, 10)},
        [DenseEdge("in", "o", w, "mixed", num_message_bits=8)],
        "o",
    )
    loop = Loop(made, Payload((0.01,), 3), Decoder(Count(), Argmax(2)))
    assert [loop.act([v]) for v in (0.5, -0.5, 2.0)] == [0, 1, 0]


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_counts_and_time_are_those_of_a_run(kind: str, tmp_path: Path) -> None:
    """One episode that ends quietly counts what a run of its input counts."""
    made, _ = random_program(kind, SEEDS[kind])
    n, k = made.size(made.input), 5
    loop = Loop(made, scaled(n, Rate(k)), Decoder(Count(), Argmax()), record=tmp_path / "r")
    loop.act(np.full(n, 0.6))
    loop.act(np.full(n, 0.3))
    loop.close()
    assert loop.meter is not None
    counts, seconds = loop.meter.counts(), loop.meter.seconds()
    _, x, _ = next(Recording(tmp_path / "r").episodes())
    steps = len(x)
    probes = made.watched
    want = engine.run(made, x.reshape(1, steps, *made.input_shape), probes=probes)
    late = {name: node.start for name, node in made.populations.items()}
    for name, start in late.items():  # the run goes on until every population has had all its steps
        raster = want.probes[f"{name}.s"].reshape(steps, -1)[: steps - start]
        assert counts["spikes"][name] == int((raster != 0).sum())
        assert counts["neuron_updates"][name] == (steps - start) * made.size(name)
    assert counts["messages"][made.input] == want.counts["messages"][made.input]
    assert sum(counts["synaptic_events"].values()) <= want.total("synaptic_events")
    assert seconds is not None
    assert want.machine_s is not None
    assert len(seconds) == 2
    assert 0 < seconds.sum() <= want.machine_s


def test_time_of_quiet_steps_and_energy_add_up() -> None:
    """Where nothing fires after the input has passed, the sum over steps is the run's to the last digit."""
    made = relay()
    loop = Loop(made, scaled(2, Rate(4)), Decoder(Count(), Argmax()))
    acts = [0.75, 0.5, 0.25, 0.0]
    for p in acts:
        loop.act([p, 1.0 - p])
    assert loop.meter is not None
    x = np.zeros((1, 4 * 6, 2), np.int8)
    state: Any = np.zeros(2)
    for k, p in enumerate(acts):
        x[0, 6 * k : 6 * k + 4], state = Rate(4)(state, np.array([p, 1.0 - p]))
    want = engine.run(made, x[:, :-2])
    seconds = loop.meter.seconds()
    assert seconds is not None
    assert seconds.sum() == pytest.approx(want.machine_s, rel=1e-12)
    for event in ("spikes", "fired", "synaptic_events", "messages", "input_messages", "hops_ew", "hops_ns"):
        assert loop.meter.counts()[event] == want.counts[event], event
    bill = loop.meter.bill("loihi1_davies2018")
    joules = loop.meter.joules(bill)
    assert joules is not None
    assert bill.total_J is not None
    assert joules.sum() == pytest.approx(bill.total_J.typical, rel=1e-12)


@pytest.mark.parametrize(
    ("obs", "says"),
    [
        ([0.1, np.nan], "value 1 is nan"),
        ([np.inf, 0.0], "value 0 is inf"),
        ([0.1], r"takes shape \(2,\), got \(1,\)"),
        ([[0.1, 0.2]], r"got \(1, 2\)"),
        ("left", "must be 2 numbers"),
    ],
)
def test_bad_observations(obs: Any, says: str) -> None:
    loop = Loop(relay(), scaled(2, Rate(4)), Decoder(Count(), Argmax()))
    with pytest.raises(ValueError, match=says):
        loop.act(obs)
    assert loop.act([0.9, 0.1]) == 0  # still in order


class Fractions(Coded):
    """An encoder that does not round."""

    def __call__(self, state: Any, obs: Any) -> Any:
        return np.full((self.steps, self.lines), 0.5), state


@pytest.mark.parametrize(
    ("encoder", "decoder", "how", "says"),
    [
        (scaled(3, Rate(4)), Decoder(Count(), Argmax()), {}, "makes 3 lines, the program's input 'in' has 2"),
        (scaled(2, Rate(4)), Decoder(Count(), Argmax(5)), {}, "reads 5 outputs, the program's output 'o' has 2"),
        (scaled(2, Rate(4)), Decoder(Count(), Argmax()), {"window": "late"}, "'blocking' or 'pipelined'"),
        (scaled(2, Rate(4)), Decoder(Count(), Argmax()), {"on": "tpu"}, "no machine 'tpu'"),
        (scaled(2, Rate(4)), Decoder(Count(), Argmax()), {"env_dt_s": 0.0}, "positive time"),
        (Fractions(Scaled((0.0,) * 2, (1.0,) * 2), Rate(4)), Decoder(Count(), Argmax()), {}, "whole messages"),
        (Payload((0.01, 0.01), 4), Decoder(Count(), Argmax()), {}, "takes 0 to 1"),
    ],
)
def test_what_does_not_fit(encoder: Any, decoder: Any, how: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Loop(relay(), encoder, decoder, **how).act([0.5, 0.5])


def test_a_stepper_before_its_program() -> None:
    for chip in (EngineStepper(), ReferenceStepper()):
        with pytest.raises(ValueError, match="begin"):
            chip.step(np.zeros(2, np.int8))


@pytest.mark.lava
def test_lava_in_the_loop_acts_as_the_engine_does(tmp_path: Path) -> None:
    """lava-nc in its worker answers the environment step by step; the engines here give its recording back."""
    lacks = engines.ENGINES["lava"].missing()
    if lacks:
        pytest.skip(f"lava-nc is not here: {'; '.join(lacks)}")
    made, _ = random_program("dense", SEEDS["dense"])
    n, acts = made.size(made.input), {}
    for on in ("loihi", "lava"):
        with Loop(made, scaled(n, Rate(8)), Decoder(Count(), Argmax()), on=on, record=tmp_path / on) as loop:
            acts[on] = closed(loop, 10)
            loop.begin()
            acts[on] += closed(loop, 10)
    assert acts["lava"] == acts["loihi"]
    assert len(set(acts["lava"])) > 1
    for on in ("loihi", "loihi-reference", "lava"):
        found = replay(tmp_path / "lava", made, on)
        assert found.equal
        assert found.spikes > 0
