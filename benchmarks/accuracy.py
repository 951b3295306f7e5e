"""Accuracy kept on the way to integers: ``python benchmarks/accuracy.py [digits nmnist] [--seeds 3]``.

Trains each task's float network, then decides the same test samples with it and with the integer engine: after plain
quantisation; after a search of the scale on training samples; after a few epochs of quantisation-aware training
(``neuro.methods.qat``), beside the float forward of that network. ``drop`` is in points against the float network that
was trained, negative for a gain. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from export.from_torch import from_torch
from export.network import Network
from export.to_loihi import compile_loihi
from neuro import tasks
from neuro.methods.qat import prepare
from neuro.methods.sltt import SLTT
from neuro.tasks import Trained
from neuro.train import adam, spike_ce, spike_mse, train
from sim import engines
from sim.compare import compare, decide
from sim.run import Run

Array = npt.NDArray[Any]
EPOCHS, BATCH, LEARNING_RATE = 4, 32, 2e-4
CALIBRATION, SCALES = 256, 8
LOSSES = {"digits": spike_mse, "nmnist": spike_ce}
PARTS = {"digits": {"test": slice(None)}, "nmnist": {"test": slice(None)}}


def study(task: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train once; accuracy of every way, agreement of spikes and the training time."""
    done = tasks.train(task, folder=folder / f"{task}{seed}", seed=seed)
    x, y = done.train
    network = from_torch(done.module, done.input_shape, dt_s=done.dt_s)
    float_run = engines.run(network, done.x, "torch")
    out: dict[str, Any] = {"task": task, "seed": seed, "train_s": round(done.seconds, 1)}
    out["float"] = shares(task, float_run, done)
    out["plain"] = on_chip(task, network, float_run, done)
    out["searched"] = on_chip(task, network, float_run, done, calibration=x[:CALIBRATION], scale_search=SCALES)
    tuned = prepare(done.module)
    train(tuned, (x, y), method=SLTT(x.shape[1]), loss=LOSSES[task], epochs=EPOCHS, batch=BATCH,
          optimizer=adam(LEARNING_RATE), seed=seed)  # fmt: skip
    network = from_torch(tuned, done.input_shape, dt_s=done.dt_s)
    tuned_run = engines.run(network, done.x, "torch")
    out["tuned float"] = shares(task, tuned_run, done)
    out["tuned"] = on_chip(task, network, tuned_run, done)
    return out


def shares(task: str, run: Run, done: Trained) -> dict[str, float]:
    """Share of right decisions in each part of the test samples and in all."""
    right = decide(run.y) == done.labels
    return {name: float(right[part].mean()) for name, part in (PARTS[task] | {"all": slice(None)}).items()}


def on_chip(task: str, network: Network, reference: Run, done: Trained, **options: Any) -> dict[str, Any]:
    """The integer engine: accuracy, and how its spikes follow the float law of the same network."""
    run = engines.run(compile_loihi(network, **options), done.x, "loihi")
    found = compare(reference, run)
    equal = min(a / b for a, b in found.by_node.values())
    return shares(task, run, done) | {"spikes equal": equal, "count correlation": found.count_correlation}


def row(r: dict[str, Any]) -> str:
    """One line of the table."""
    ways = ("float", "plain", "searched", "tuned float", "tuned")
    parts = [k for k in r["float"] if k != "all" or len(r["float"]) > 2]
    cells = [" / ".join(f"{100 * r[w][p]:.2f}" for p in parts) for w in ways]
    spikes = f"{r['plain']['spikes equal']:.4f}  {r['tuned']['spikes equal']:.4f}"
    return f"{r['task']:<8}{r['seed']:<3}" + "".join(f"{c:<24}" for c in cells) + spikes


def drop(found: list[dict[str, Any]], way: str) -> dict[str, float]:
    """Points lost against the trained float network over all test samples: mean and most over the seeds."""
    points = [100 * (r["float"]["all"] - r[way]["all"]) for r in found]
    return {"mean": round(float(np.mean(points)), 3), "max": round(max(points), 3)}


def main() -> None:
    """Print a row for each run, then the drops."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("tasks", nargs="*", metavar="task", help=f"of {', '.join(LOSSES)}; all")
    ask.add_argument("--seeds", type=int, default=3)
    given = ask.parse_args()
    ways = "".join(f"{w:<24}" for w in ("float", "plain", "searched", "tuned, float", "tuned, chip"))
    print(f"accuracy in %\n{'':<11}{ways}spikes equal: plain, tuned", flush=True)
    drops = {}
    with tempfile.TemporaryDirectory() as folder:
        for task in given.tasks or LOSSES:
            found = []
            for seed in range(given.seeds):
                found.append(study(task, seed, Path(folder)))
                print(row(found[-1]), flush=True)
            drops[task] = {way: drop(found, way) for way in ("plain", "searched", "tuned")}
    print(json.dumps(drops))


if __name__ == "__main__":
    main()
