"""A spiking controller balances a pole: train it, put it on the chip, close the loop, see what a step costs.

python examples/cartpole.py [folder]
"""

from __future__ import annotations

import sys
from pathlib import Path

from export.from_torch import from_torch
from neuro.models.controller import train_cartpole
from sim.engines import compile_for
from sim.gym import GymLoop, make, step_seconds
from sim.loop import Argmax, Codec, Count, Decoder, Loop, Recording, as_run, replay
from sim.report import report_runs

EPISODES, SEED = 20, 1000
"""Seeds that training never saw."""


def main(folder: Path = Path("out/cartpole")) -> None:
    """Write the program, its codec, the recording, loop.json, report.json and report.html into ``folder``."""
    print("training, about 20 seconds")
    trained = train_cartpole()
    network = from_torch(trained.module, (trained.encoder.lines,), name="cartpole")
    program = compile_for("loihi", network)
    program.save(folder / "chip.npz")
    codec = Codec(trained.encoder, Decoder(Count(), Argmax(2)))
    codec.save(folder / "chip.codec.json")

    env = make("CartPole-v1")
    with Loop(
        program, codec.encoder, codec.decoder, seed=SEED, env_dt_s=step_seconds(env), record=folder / "recording"
    ) as loop:
        gym = GymLoop(loop, env, folder=folder)
        gym.run(EPISODES)
    env.close()
    made = gym.report(title="Cart-pole on the chip")
    made.save(folder)
    made.show()

    recording = Recording(folder / "recording")
    print(replay(recording, program, "loihi"))
    report_runs([as_run(loop, recording)], title="Cart-pole: one environment step").save(folder)
    print(
        f"open {folder / 'report.html'}; the same again: spikeport loop {folder / 'chip.npz'} --env CartPole-v1 -o new"
    )


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
