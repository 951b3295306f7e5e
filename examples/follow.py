"""A spiking controller makes a slow plant follow a sine and steps, beside the controllers that one would take.

python examples/follow.py [folder]
"""

from __future__ import annotations

import sys
from pathlib import Path

from export.from_torch import from_torch
from neuro.data import tracking
from neuro.models.controller import tracking_weights, train_tracking
from sim.engines import compile_for
from sim.loop import Codec, Count, Decoder, Linear, Loop, Recording, replay, report

STEPS = 1000


def main(folder: Path = Path("out/follow")) -> None:
    """Write the program, its codec, the recording and loop.json into ``folder``."""
    print("training, about 20 seconds")
    trained = train_tracking()
    network = from_torch(trained.module, (trained.encoder.lines,), name="follow")
    program = compile_for("loihi", network)
    program.save(folder / "chip.npz")
    rows = tuple(tuple(w) for w in tracking_weights().tolist())
    read = Linear(rows, (0.0,), -tracking.U_MAX, tracking.U_MAX)
    codec = Codec(trained.encoder, Decoder(Count(), read))
    codec.save(folder / "chip.codec.json")

    r = tracking.reference(STEPS)
    with Loop(program, codec.encoder, codec.decoder, env_dt_s=tracking.DT_S, record=folder / "recording") as loop:
        y = tracking.follow(r, loop.act)
    figures = {
        "tracking error (rms), chip": tracking.rms(r, y),
        "tracking error (rms), P": tracking.rms(r, tracking.follow(r, tracking.proportional)),
        "tracking error (rms), PI": tracking.rms(r, tracking.follow(r, tracking.proportional_integral())),
        "tracking error (rms), teacher": tracking.rms(r, tracking.follow(r, tracking.teacher)),
    }
    made = report(loop, title="First-order plant under the chip", figures=figures)
    made.save(folder)
    made.show()
    print(replay(Recording(folder / "recording"), program, "loihi-reference"))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
