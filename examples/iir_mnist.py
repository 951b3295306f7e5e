"""MNIST in one time step: an ANN, converted, brought from T = 5 to 1, and run where thresholds are all it takes.

python examples/iir_mnist.py [folder] [epochs a stage] [seed] [images]

A VGG5 in small on 8000 digits, tested on 2000; 800 of the 8000 choose the epoch. Prints the stages beside the control,
energy by both arithmetics, and the T = 1 network as one ONNX pass and on the integer chip, whose input are the grey
levels themselves. Stopped, it goes on from the files in the folder.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from export.from_torch import from_torch
from export.network import Network
from export.once import read_voltage, whole_input
from export.to_loihi import compile_loihi
from export.to_onnx_once import to_onnx_once
from neuro.data.mnist import LEVELS, mnist_10k
from neuro.data.split import stratified
from neuro.methods.iir import IIR, IIRResult, Recipe, convert, one_step, set_steps, sgd, spikes, train_ann
from neuro.models.vgg import vgg_mnist
from neuro.modules import Stack
from neuro.train import evaluate, last
from sim import engines
from sim.compare import accuracy
from sim.spike_energy import spike_energy

SHAPE = (1, 28, 28)
ANN = Recipe(0.05, 14, 64, (0.45, 0.7, 0.9), dropout=0.1, rule=sgd)
STAGE = 1e-3
"""Learning rate of a stage: ten times the paper's, for a hundredth of its epochs."""


def main(folder: Path = Path("out"), epochs: int = 2, seed: int = 0, samples: int = 0) -> dict[str, Any]:
    """Write ``iir.json``, the ONNX file and the checkpoints into ``folder``; give the figures."""
    digits = mnist_10k()
    part = stratified(digits.train_x[:, None], digits.train_y, test_share=0.1, seed=0)
    data = part.train_x[: samples or None], part.train_y[: samples or None]
    validation = part.test_x, part.test_y
    test = digits.test_x[: samples or None, None], digits.test_y[: samples or None]

    ann, began = vgg_mnist(seed=seed), time.perf_counter()
    train_ann(ann, data, ANN, seed=seed, checkpoint=folder / "ann.pt", resume=True, progress=told("ann"))
    print(f"ANN: {evaluate(ann, *test, readout=last):.2%} in {time.perf_counter() - began:.0f} s", flush=True)
    rule = IIR(recipe=Recipe(STAGE, epochs, 64, dropout=0.1))
    result = rule.run(ann, data, validation, test, seed=seed, folder=folder, resume=True, progress=told_stage)
    print(result)
    result.save(folder / "iir.json")
    snn = convert(ann, data[0][:64, 0], steps=5)
    found = energies(snn, result, test[0][:, 0])
    snn.load_state_dict(dict(result.stages[-1].parameters))
    set_steps(snn, 1)
    return found | machines(from_torch(one_step(snn), SHAPE, name="iir-mnist"), test, folder)


def energies(snn: Stack, result: IIRResult, images: Any) -> dict[str, Any]:
    """ANN over SNN, T = 5 and T = 1, arithmetic alone."""
    network = from_torch(one_step(_at(snn, 1)), SHAPE)
    found: dict[str, Any] = {}
    for stage in (result.stages[0], result.stages[-1]):
        snn.load_state_dict(dict(stage.parameters))
        bill = spike_energy(network, spikes(snn, images, stage.steps), stage.steps)
        print(f"T = {stage.steps}\n{bill}")
        found[f"energy T={stage.steps}"] = [r._asdict() for r in bill.ratios]
    return found


def machines(network: Network, test: tuple[Any, Any], folder: Path) -> dict[str, Any]:
    """Accuracy of the T = 1 network in one ONNX pass and on the integer chip."""
    x, labels = test
    once = to_onnx_once(network)
    print(once.save(folder / "iir-mnist.onnx"))
    ran = engines.run(once, x, "onnx")
    grey = np.rint(x * LEVELS)
    program = compile_loihi(read_voltage(whole_input(network, LEVELS)), graded_bits=8, calibration=grey[:64])
    chip = engines.run(program, grey, "loihi", probes=["readout.v", *engines.watched(program)])
    logits = chip.probes["readout.v"]
    equal = {n: float((ran.probes[n] == chip.probes[n]).mean()) for n in ran.probes if n in chip.probes}
    found = {"onnx": accuracy(ran.y, labels), "loihi": accuracy(logits, labels), "spikes equal": equal}
    print(found, program.usage)
    return found


def told(name: str) -> Any:
    """Prints an epoch."""
    return lambda *a: print(name, *(round(v, 4) for v in a), flush=True)


def told_stage(stage: str, epoch: int, epochs: int, loss: float, accuracy: float) -> None:
    """Prints an epoch of a stage."""
    print(f"{stage}: epoch {epoch} of {epochs}, loss {loss:.4f}, accuracy {accuracy:.2%}", flush=True)


def _at(snn: Stack, steps: int) -> Stack:
    set_steps(snn, steps)
    return snn


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    given = sys.argv[1:]
    main(Path(given[0]) if given else Path("out"), *map(int, given[1:4]))
