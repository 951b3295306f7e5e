"""What a loop leaves: recordings and their replay, states, codecs, reports; and a chip behind a client."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loihi_programs import program as random_program
from loop_programs import SEEDS, closed, relay, scaled
from rich.console import Console

from export.loihi import LoihiProgram
from export.package import PackageError
from neuro.stream import Bernoulli, Coded, Crossing, Payload, Rate
from neuro.tuning import Bells, Opposed
from sim.loihi import engine
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
    as_run,
    measure,
    record,
    replay,
    report,
)


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
