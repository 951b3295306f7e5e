"""An exclusive or on a superconducting circuit: train, export, both levels, margins.

python examples/sfq_xor.py [folder]

Element values are our own realisation: those of the paper whose task this is (arXiv 2311.10721) were not public to us.
"""

from __future__ import annotations

import sys
from math import inf
from pathlib import Path

from export.from_torch import from_torch
from export.to_deck import BOTH, SINGLE, to_deck
from neuro.data.xor import xor
from neuro.models.xor import STEPS, train_xor
from sim.engines import run
from sim.report import report_runs, show
from sim.sfq.network_bench import network_bench, soma_biases
from sim.sfq.study.margins import margins
from sim.sfq.study.montecarlo import montecarlo

SOLVED: list[list[tuple[float, float]]] = [[(0, 0)], [(3, inf)], [(3, inf)], [(0, 0)]]
"""Output pulses for 00, 01, 10, 11 that count as solved."""


def main(folder: Path = Path("out")) -> None:
    """Write the decks, margins, runs and report.html into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    trained = train_xor(seed=0)
    network = from_torch(trained.module, (2,), dt_s=trained.dt_s, name="xor")
    x, labels = xor(STEPS)
    runs = []
    for name, polarities in (("both", BOTH), ("single", SINGLE)):
        program = to_deck(network, polarities=polarities)
        print(program.save(folder / f"xor-{name}.cir"), program.usage)
        for machine in ("sfq", "sfq-pulse"):
            done = run(program, x, machine, labels=labels)
            print(f"  {machine}: {done.y.sum(axis=(1, 2)).tolist()} output pulses for 00, 01, 10, 11")
            done.save(folder / f"run-{machine}-{name}")
            runs.append(done)
        bench = network_bench(program, x, SOLVED)
        found = margins(bench, parameters=["I", soma_biases(program), "LS|X*Y*", "RL|X*Y*", "L", "IC", "R"])
        found.save(folder / f"margins-{name}.json")
        print(found)
        print("  10 % spread of L, Ic and R:", montecarlo(bench, n=64, spread={"L": 0.1, "B": 0.1, "R": 0.1}))
    report = report_runs(runs[:2], title="Exclusive or: junctions and pulses")
    report.save(folder)
    show(report)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
