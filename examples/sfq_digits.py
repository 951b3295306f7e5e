"""Handwritten digits on a superconducting circuit: train, export, pulse level, a few at junction level.

python examples/sfq_digits.py [folder] [epochs] [samples at pulse level]

80 epochs take about a minute and a half of one core and give some 92 % of the test digits; each sample is 0.05 s at
pulse level and 5 s at junction level. Element values are our own realisation; nobody has made this circuit.
"""

from __future__ import annotations

import sys
from pathlib import Path

from export.from_torch import from_torch
from neuro.models import sfq_digits
from sim.compare import accuracy, decide
from sim.engines import compile_for, run
from sim.report import report_runs, show

DEEP = 2
"""Samples at junction level."""


def main(folder: Path = Path("out"), epochs: int = sfq_digits.EPOCHS, samples: int = 0) -> None:
    """Write the network, its deck, the runs and report.html into ``folder``."""
    trained = sfq_digits.train_digits(seed=0, epochs=epochs, checkpoint=folder / "sfq-digits.pt")
    network = from_torch(trained.module, (64,), dt_s=trained.dt_s, name="sfq-digits")
    network.save(folder / "network.npz")
    program = compile_for("sfq", network)
    print(program.save(folder / "sfq-digits.cir"), program.usage)

    x, labels = trained.x[: samples or None], trained.labels[: samples or None]
    runs = [run(network, x, "float", labels=labels), run(program, x, "sfq-pulse", labels=labels)]
    for done in runs:
        done.save(folder / f"run-{done.machine}")
        print(f"{done.machine}: {accuracy(done.y, labels):.1%} of {len(x)} test digits")
    deep = run(program, x[:DEEP], "sfq", labels=labels[:DEEP])
    deep.save(folder / "run-sfq")
    print(f"junction level decides {decide(deep.y).tolist()}, pulse level {decide(runs[1].y[:DEEP]).tolist()}")
    report = report_runs(runs, title="Digits as pulses")
    report.save(folder)
    show(report)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(Path(given[0]) if given else Path("out"), *map(int, given[1:3]))
