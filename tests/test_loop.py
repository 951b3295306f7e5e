"""The loop against one long run on both engines, the window against literal spikes, and what survives a stop."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loihi_programs import program as random_program
from rich.console import Console

from export.loihi import DenseEdge, InputNode, Lif, LoihiProgram
from export.package import PackageError
from export.to_loihi import assemble
from neuro.stream import Bernoulli, Coded, Crossing, Payload, Rate
from neuro.tuning import Bells, Opposed, Scaled
from sim import engines
from sim.loihi import engine, reference
from sim.loop import (
    Argmax,
    ClientStepper,
    Codec,
    Count,
    Decoder,
    EngineStepper,
    FirstSpike,
    Linear,
    Loop,
    LoopReport,
    LoopState,
    Membrane,
    PopulationVector,
    Recording,
    ReferenceStepper,
    as_run,
    measure,
    record,
    replay,
    report,
)


def relay(lines: int = 2) -> LoihiProgram:
    """Every input spike leaves two steps later on the same line: L = 2."""
    w = np.eye(lines, dtype=np.int16) * 100
    return assemble(
        {"in": InputNode((lines,)), "h": Lif((lines,), 4095, 4095, 50), "o": Lif((lines,), 4095, 4095, 50)},
        [DenseEdge("in", "h", w, "excitatory"), DenseEdge("h", "o", w, "excitatory")],
        "o",
    )


def closed(loop: Loop, steps: int) -> list[Any]:
    """An environment that answers: what is seen next depends on what was done."""
    obs = np.linspace(0.1, 0.9, loop.encoder.observations)
    actions = []
    for t in range(steps):
        a = loop.act(obs)
        actions.append(a)
        obs = np.abs(np.sin(obs * 3.0 + np.sum(a) + t))
    return actions


def scaled(n: int, train: Any) -> Coded:
    return Coded(Scaled((0.0,) * n, (1.0,) * n), train)


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


SEEDS = {
    "dense": 9,
    "delay": 4,
    "recurrent": 3,
    "conv": 8,
    "ternary": 6,
    "sigma delta": 10,
    "resonate": 11,
    "graded": 1,
}
"""Random programs whose output neither rests nor fires in every step."""


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


class Worker:
    """What a worker process looks like from here."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.state: Any = None

    def load(self, program: LoihiProgram) -> None:
        self.said.append("load")
        self.program, self.state = program, None

    def step(self, x: Any) -> Any:
        y, self.state = engine.step(self.program, self.state, x)
        return y

    def reset(self) -> None:
        self.said.append("reset")
        self.state = None

    def close(self) -> None:
        self.said.append("close")


def test_a_client_plugs_in_and_is_priced_from_its_recording(tmp_path: Path) -> None:
    made, _ = random_program("conv", SEEDS["conv"])
    n, worker = made.size(made.input), Worker()
    chips = (ClientStepper(worker, "worker"), EngineStepper())
    loops = {
        on: Loop(made, scaled(n, Rate(4)), Decoder(Count(), Argmax()), on=on, record=tmp_path / str(k))
        for k, on in enumerate(chips)
    }
    acts = []
    for loop in loops.values():
        with loop:
            acts.append(closed(loop, 20))
            loop.begin()
            acts[-1] += closed(loop, 20)
    assert acts[0] == acts[1]
    assert worker.said == ["load", "reset", "close"]
    here = loops[chips[1]]
    assert loops[chips[0]].meter is None
    assert here.meter is not None
    found = measure(Recording(tmp_path / "0"), made)
    assert found.counts() == here.meter.counts()
    assert (found.seconds() == here.meter.seconds()).all()
    assert any("measure" in n for n in report(loops[chips[0]]).notes)
    with pytest.raises(ValueError, match="keeps its state"):
        loops[chips[0]].state()


@pytest.mark.parametrize("on", ["loihi", "loihi-reference"])
@pytest.mark.parametrize("train", [Rate(5), Bernoulli(5)])
def test_a_saved_state_goes_on_with_the_same_bits(on: str, train: Any, tmp_path: Path) -> None:
    made, _ = random_program("delay", SEEDS["delay"])
    n = made.size(made.input)
    obs = np.random.default_rng(0).random((60, n))

    def new() -> Loop:
        return Loop(made, scaled(n, train), Decoder(Count(), Linear(((1.0,) * 4,), (0.0,))), on=on, seed=3)

    whole = new()
    want = [whole.act(o).tolist() for o in obs]
    first = new()
    got = [first.act(o).tolist() for o in obs[:25]]
    first.state().save(tmp_path / "state.npz")
    second = new()
    second.restore(LoopState.load(tmp_path / "state.npz"))
    got += [second.act(o).tolist() for o in obs[25:]]
    assert got == want
    assert len({tuple(a) for a in want}) > 2
    assert whole.meter is not None
    assert first.meter is not None
    assert second.meter is not None
    for event, by in whole.meter.counts().items():
        for node, count in by.items():
            assert first.meter.counts()[event][node] + second.meter.counts()[event][node] == count
    other = Loop(relay(), scaled(2, train), Decoder(Count(), Argmax()), on=on, seed=3)
    with pytest.raises(ValueError, match="this loop runs"):
        other.restore(first.state())


def test_a_recording_without_its_end_is_read_up_to_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "PART_BYTES", 400)
    monkeypatch.setattr(record, "PART_S", 1e9)
    made = relay()
    loop = Loop(made, scaled(2, Rate(4)), Decoder(Count(), Argmax()), record=tmp_path / "r")
    closed(loop, 50)  # no close: the power went
    found = Recording(tmp_path / "r")
    assert not found.complete
    parts = list(found.parts())
    assert len(parts) > 3
    kept = sum(len(p.step) for p in parts)
    assert 40 <= kept < 50
    assert replay(found, made).steps == kept * loop.rows
    loop.close()
    assert Recording(tmp_path / "r").complete
    assert replay(tmp_path / "r", made).steps == 50 * loop.rows
    with pytest.raises(ValueError, match="holds a recording"):
        Loop(made, scaled(2, Rate(4)), Decoder(Count(), Argmax()), record=tmp_path / "r")
    with pytest.raises(ValueError, match="another loop"):
        Loop(made, scaled(2, Rate(4)), Decoder(Count(), Argmax()), seed=9, record=tmp_path / "r", resume=0)


def test_replay_finds_the_bit_that_differs(tmp_path: Path) -> None:
    made = relay()
    loop = Loop(made, scaled(2, Rate(4)), Decoder(Count(), Argmax()), record=tmp_path / "r")
    closed(loop, 3)
    loop.begin()
    loop._y[4, 1] = 0
    closed(loop, 3)
    waiting = loop._recorder._rows[5] if loop._recorder else None
    assert waiting is not None
    waiting[4][3, 1] ^= 1  # episode 1, its third step, chip step 3 of 6
    loop.close()
    found = replay(tmp_path / "r", made, "loihi-reference")
    assert not found.equal
    assert (found.different, found.first) == (1, (1, 2 * 6 + 3, 1))
    assert "1 differ" in str(found)
    with pytest.raises(ValueError, match="was recorded with program"):
        replay(tmp_path / "r", relay(3))


@pytest.mark.parametrize("harm", ["cut", "other", "header", "gone"])
def test_a_damaged_recording_is_named(harm: str, tmp_path: Path) -> None:
    made, folder = relay(), tmp_path / "r"
    with Loop(made, scaled(2, Rate(4)), Decoder(Count(), Argmax()), record=folder) as loop:
        closed(loop, 5)
    part = folder / "part-000000.npz"
    if harm == "cut":
        part.write_bytes(part.read_bytes()[:100])
    elif harm == "other":
        made.save(part)
    elif harm == "header":
        (folder / "recording.json").write_text("{}")
    else:
        (folder / "recording.json").unlink()
    with pytest.raises(PackageError, match=r"part-000000|r: no readable"):
        replay(folder, made)


def test_codecs_come_back_and_bad_ones_are_named(tmp_path: Path) -> None:
    encoders = [
        Coded(Bells((-1.0,), (1.0,), 7, 1.2), Rate(3)),
        Coded(Opposed((2.0,)), Bernoulli(4)),
        Crossing((0.1, 0.2), 4),
        Payload((0.5,), 2, 6),
    ]
    decoders = [
        Decoder(Count(), Linear(((0.5, 1.0),), (0.0,), None, 3.0)),
        Decoder(FirstSpike(), Argmax()),
        Decoder(Membrane(), PopulationVector((1.0, 2.0))),
    ]
    for e in encoders:
        for d in decoders:
            codec = Codec(e, d, "pipelined")
            codec.save(tmp_path / "c.json")
            assert Codec.load(tmp_path / "c.json") == codec
    good = json.loads((tmp_path / "c.json").read_text())
    for change in ({"encoder": {"kind": "os.system"}}, {"decoder": {"kind": "Argmax"}}, {"version": 9}, {"encoder": 3}):
        (tmp_path / "bad.json").write_text(json.dumps(good | change))
        with pytest.raises(PackageError, match=r"bad\.json"):
            Codec.load(tmp_path / "bad.json")
    with pytest.raises(PackageError, match="cannot be read"):
        Codec.load(tmp_path / "none.json")


def test_report_has_the_quantiles_and_the_factors(tmp_path: Path) -> None:
    made = relay()
    with Loop(made, scaled(2, Rate(4)), Decoder(Count(), Argmax()), env_dt_s=0.02, record=tmp_path / "r") as loop:
        closed(loop, 200)
    made_report = report(loop, title="relay", returns=[1.0, 3.0], figures={"error": 0.5})
    act = np.array(loop.times.act)
    assert len(act) == 200
    assert made_report.wall_s["act"]["p99"] == pytest.approx(np.percentile(act, 99))
    assert made_report.wall_s["chip"]["n"] == 200 * 6
    assert made_report.real_time["here"] == pytest.approx(0.02 / np.median(act))
    assert loop.meter is not None
    seconds = loop.meter.seconds()
    assert seconds is not None
    assert made_report.chip_s is not None
    assert made_report.chip_s["mean"] == pytest.approx(seconds.mean())
    made_report.save(tmp_path)
    assert LoopReport.load(tmp_path).to_dict() == json.loads(json.dumps(made_report.to_dict()))
    out = io.StringIO()
    made_report.show(Console(file=out, width=120))
    for part in ("p99", "real-time factor, here", "modelled chip", "mean 2,", "error: 0.5", "loihi1_davies2018"):
        assert part in out.getvalue(), part
    run = as_run(loop, Recording(tmp_path / "r"))
    assert run.y.shape == (200, 4, 2)
    assert run.total("spikes") == sum(loop.meter.counts()["spikes"].values())


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
