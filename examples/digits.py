"""Real digits through the whole way: train once, run on three machines, one report.

python examples/digits.py [folder]
"""

from __future__ import annotations

import sys
from pathlib import Path

from export.from_torch import from_torch
from neuro import tasks
from sim.engines import compile_for, run
from sim.report import report_runs, show


def main(folder: Path = Path("out")) -> None:
    """Write report.json, report.html, the networks and the three programs into ``folder``."""
    runs = []
    for task, machines in {"digits": ("torch", "onnx", "loihi"), "xor": ("torch", "sfq")}.items():
        trained = tasks.train(task, folder=folder / task)
        network = from_torch(trained.module, trained.input_shape, dt_s=trained.dt_s, name=task)
        network.save(folder / task / "network.npz")
        for machine in machines:
            program = compile_for(machine, network)
            program.save(folder / task / f"program.{machine}{SUFFIX[machine]}")
            runs.append(run(program, trained.x, machine, labels=trained.labels))
            runs[-1].save(folder / task / f"run-{machine}")

    report = report_runs(runs, title="Digits on three machines")
    report.save(folder)
    show(report)
    print(f"open {folder / 'report.html'}")


SUFFIX = {"torch": ".npz", "onnx": ".onnx", "loihi": ".npz", "sfq": ".cir"}

if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
