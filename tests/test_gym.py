"""Loops in Gymnasium's own environments: its dynamics, its returns; stopped and gone on; a trained controller."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from export.assemble import assemble
from export.loihi import DenseEdge, InputNode, Lif, LoihiProgram
from neuro.data import cartpole, tracking
from neuro.stream import Coded, Payload, Rate
from neuro.tuning import Opposed, Scaled
from sim import gym
from sim.gym import GymLoop, make, step_seconds
from sim.loop import Argmax, Codec, Count, Decoder, Linear, Loop, LoopReport, Recording, replay

ROOT = Path(__file__).resolve().parent.parent
UNITS = (0.02, 0.02, 0.002, 0.02)
"""What one unit of a message stands for, in m, m/s, rad, rad/s."""


def regulator() -> LoihiProgram:
    """The teacher's regulator in integers: one neuron a side, graded input, no training."""
    gains = -cartpole.regulator() * UNITS
    w = 2 * np.rint(gains * 60.0).astype(np.int16)
    return assemble(
        {"in": InputNode((4,), 8), "o": Lif((2,), 4095, 4095, 1)},
        [DenseEdge("in", "o", np.stack([-w, w]), "mixed", num_message_bits=8)],
        "o",
        name="regulator",
    )


CODEC = Codec(Payload(UNITS, 1, 8), Decoder(Count(), Argmax(2)))


def loop(folder: Path | None = None, resume: int | None = None, **how: Any) -> Loop:
    how = {"seed": 50, "record": None if folder is None else folder / "recording", "resume": resume} | how
    return Loop(regulator(), CODEC.encoder, CODEC.decoder, **how)


def test_cartpole_equations_are_gymnasiums() -> None:
    env, rng = make("CartPole-v1").unwrapped, np.random.default_rng(0)
    for k in range(5):
        env.reset(seed=k)
        for _ in range(100):
            env.state = rng.normal(size=4) * (1.0, 2.0, 0.1, 2.0)
            action = int(rng.integers(2))
            want = cartpole.advance(np.array(env.state), np.array(action))
            fallen = bool(cartpole.fallen(want))
            _, _, ended, _, _ = env.step(action)
            env.steps_beyond_terminated = None
            assert np.asarray(env.state) == pytest.approx(want, rel=1e-12)
            assert ended == fallen
    assert (env.tau, env.x_threshold, env.theta_threshold_radians) == (
        cartpole.TAU_S,
        cartpole.X_LIMIT,
        cartpole.ANGLE_LIMIT,
    )


def test_plant_is_its_closed_form() -> None:
    y = np.zeros(())
    for _ in range(10):
        y = tracking.advance(y, np.ones(()))
    assert float(y) == pytest.approx(1.0 - np.exp(-10 * tracking.DT_S / tracking.TAU_S))
    held = tracking.follow(np.full(400, 0.5), tracking.proportional)
    assert held[-1] == pytest.approx(0.5 * tracking.KP / (1 + tracking.KP))  # P alone never gets there
    assert tracking.follow(np.full(400, 0.5), tracking.proportional_integral())[-1] == pytest.approx(0.5, abs=1e-3)
    assert tracking.follow(np.full(400, 0.5), tracking.teacher)[-1] == pytest.approx(0.5, abs=1e-6)


def test_regulator_on_the_chip_balances_with_gymnasiums_returns(tmp_path: Path) -> None:
    env = make("CartPole-v1")
    with loop(tmp_path, env_dt_s=step_seconds(env)) as chip:
        done = GymLoop(chip, env, folder=tmp_path).run(3)
    assert done.returns == [500.0] * 3
    assert done.lengths == [500] * 3
    assert chip.env_dt_s == 0.02
    by_hand = 0.0
    obs, _ = env.reset(seed=51)
    again = loop()
    over = False
    while not over:
        obs, reward, ended, cut, _ = env.step(again.act(obs))
        by_hand, over = by_hand + float(reward), ended or cut
    assert by_hand == done.returns[1]
    found = replay(tmp_path / "recording", regulator(), "loihi-reference")
    assert found.equal
    assert (found.episodes, found.steps) == (3, 1500 * 2)


def test_a_loop_that_does_not_care_falls() -> None:
    env = make("CartPole-v1")
    chip = Loop(regulator(), Payload((1e6,) * 4, 1, 8), CODEC.decoder)
    assert max(GymLoop(chip, env).run(5).returns) < 50  # blind: always to the left


class Stops(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Somebody presses Ctrl-C in that step."""

    def __init__(self, env: Any, at: int) -> None:
        super().__init__(env)
        self.left = at

    def step(self, action: Any) -> Any:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return self.env.step(action)


def test_stopped_and_gone_on_is_as_if_never_stopped(tmp_path: Path) -> None:
    env = make("CartPole-v1", max_episode_steps=60)
    with loop(tmp_path / "whole") as chip:
        want = GymLoop(chip, env, folder=tmp_path / "whole").run(5).returns
    chip = loop(tmp_path / "part")
    first = GymLoop(chip, Stops(env, 150), folder=tmp_path / "part")
    with pytest.raises(KeyboardInterrupt):
        first.run(5)
    chip.close(False)
    recording = Recording(tmp_path / "part" / "recording")
    assert not recording.complete
    assert replay(recording, regulator()).steps == 150 * 2
    partial = first.report(complete=False)
    assert (partial.episodes, partial.env_steps, partial.complete) == (2, 150, False)

    with loop(tmp_path / "part", 2) as chip:
        second = GymLoop(chip, env, folder=tmp_path / "part", resume=True)
        assert second.run(5).returns == want == [60.0] * 5
    assert any("before the stop" in n for n in second.report().notes)
    a, b = (list(Recording(tmp_path / k / "recording").episodes()) for k in ("whole", "part"))
    assert [e for e, _, _ in b] == [0, 1, 2, 3, 4]
    for (_, x, y), (_, x2, y2) in zip(a, b, strict=True):
        assert (x == x2).all()
        assert (y == y2).all()
    with pytest.raises(ValueError, match="another loop or environment"):
        GymLoop(loop(seed=1), env, folder=tmp_path / "part", resume=True)


def test_continuous_actions_stay_in_their_box() -> None:
    env = make("Pendulum-v1")
    w = (np.arange(6).reshape(2, 3) * 20 + 40).astype(np.int16)
    made = assemble(
        {"in": InputNode((6,)), "o": Lif((2,), 4095, 1000, 60)},
        [DenseEdge("in", "o", np.hstack([w, w[::-1]]), "excitatory")],
        "o",
    )
    chip = Loop(made, Coded(Opposed((1.0, 1.0, 8.0)), Rate(4)), Decoder(Count(), Linear(((9.0, -9.0),), (0.1,))))
    wrapped = GymLoop(chip, env)
    total, steps = wrapped.episode(0)
    assert steps == 200
    assert np.isfinite(total)
    assert wrapped._act(np.array([1.0, 0.0, 0.0], np.float32)).dtype == np.float32
    assert env.action_space.contains(wrapped._act(np.array([1.0, 1.0, 8.0], np.float32)))


def one(outputs: int, inputs: int = 4) -> LoihiProgram:
    w = np.full((outputs, inputs), 10, np.int16)
    nodes = {"in": InputNode((inputs,)), "o": Lif((outputs,), 4095, 4095, 1)}
    return assemble(nodes, [DenseEdge("in", "o", w, "excitatory")], "o")


@pytest.mark.parametrize(
    ("env", "program", "n", "rule", "says"),
    [
        ("CartPole-v1", one(3), 4, Argmax(), "has 3 outputs; one for each action"),
        ("CartPole-v1", one(2, 3), 3, Argmax(), "the encoder takes 3 values"),
        ("CartPole-v1", one(2), 4, Linear(((1.0, 1.0),), (0.0,)), "decode with Argmax"),
        ("Pendulum-v1", one(2, 3), 3, Argmax(), "decode with Linear"),
        ("Pendulum-v1", one(1, 3), 3, Linear(((1.0,), (1.0,)), (0.0, 0.0)), "gives 2 numbers"),
    ],
)
def test_spaces_that_do_not_fit(env: str, program: LoihiProgram, n: int, rule: Any, says: str) -> None:
    chip = Loop(program, Coded(Scaled((0.0,) * n, (1.0,) * n), Rate(2)), Decoder(Count(), rule))
    with pytest.raises(ValueError, match=says):
        GymLoop(chip, make(env))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="environment 'CartPole-v99'"):
        make("CartPole-v99")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gymnasium" else found(name))
    with pytest.raises(ValueError, match=r"pip install 'spikeport\[gym\]'"):
        gym.make("CartPole-v1")


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "sim.cli", *map(str, words)]


def test_commands_stop_and_go_on(tmp_path: Path) -> None:
    """Ctrl-C in mid-run leaves a recording that replays and a partial report; --resume ends it."""
    program, out = tmp_path / "chip.npz", tmp_path / "out"
    regulator().save(program)
    CODEC.save(tmp_path / "chip.codec.json")
    words = ("loop", program, "--env", "CartPole-v1", "-o", out)
    running = subprocess.Popen(
        command(*words, "--episodes", 100000), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    ends = time.monotonic() + 60
    while not (out / "episodes.json").exists() and running.poll() is None and time.monotonic() < ends:
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGINT)
    said, error = running.communicate(timeout=60)
    assert running.returncode == 130, said + error
    assert "stopped before its end" in said
    stopped = LoopReport.load(out)
    assert not stopped.complete
    whole = len(stopped.returns)
    assert whole >= 1
    found = replay(out / "recording", regulator())
    assert found.equal
    assert found.steps == stopped.chip_steps

    done = subprocess.run(
        command(*words, "--episodes", whole + 1, "--resume"), cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for part in ("p99", "real-time factor", "modelled chip", "mean 500"):
        assert part in done.stdout, part
    assert json.loads((out / "loop.json").read_text())["returns"] == [500.0] * (whole + 1)
    assert replay(out / "recording", regulator()).episodes == whole + 1

    done = subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "--resume" in done.stderr
    words = ("replay", out / "recording", "--program", program, "--on", "loihi")
    done = subprocess.run(command(*words), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "equal bit for bit" in done.stdout


@pytest.mark.slow
def test_a_trained_controller_balances_in_float_and_on_the_chip() -> None:
    """Held-out seeds, 20 each: above gymnasium's own mark for 'solved', which untrained weights are far from."""
    torch = pytest.importorskip("torch")
    from export.from_torch import from_torch
    from neuro.methods.imitation import Policy
    from neuro.models.controller import LATENCY, cartpole_encoder, controller_net, train_cartpole
    from sim.engines import compile_for

    trained = train_cartpole(seed=1)
    env = make("CartPole-v1")
    solved = env.spec.reward_threshold
    assert solved == 475
    many = gymnasium.make_vec("CartPole-v1", num_envs=20, vectorization_mode="sync")
    obs, _ = many.reset(seed=[2000 + k for k in range(20)])
    policy, alive, total = Policy(trained.module, trained.encoder, LATENCY), np.ones(20, bool), np.zeros(20)
    while alive.any():
        obs, reward, ended, cut, _ = many.step(policy(obs).argmax(1))
        total += reward * alive
        alive &= ~(ended | cut)
    assert total.mean() >= solved

    raw = controller_net(cartpole_encoder().lines, 32, 2, seed=1)
    assert all(not torch.equal(a, b) for a, b in zip(raw.parameters(), trained.module.parameters(), strict=True))
    means = {}
    for name, module in (("trained", trained.module), ("raw", raw)):
        program = compile_for("loihi", from_torch(module, (trained.encoder.lines,), name=name))
        chip = Loop(program, trained.encoder, Decoder(Count(), Argmax(2)), seed=2000)
        means[name] = float(np.mean(GymLoop(chip, env).run(20).returns))
    assert means["trained"] >= solved
    assert means["raw"] < 100
