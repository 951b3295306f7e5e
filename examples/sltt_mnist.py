"""SLTT beside back-propagation through time on MNIST, and the trained network on the Loihi engine.

Run: python examples/sltt_mnist.py [--epochs 14] [--seeds 0 1 2] [--samples 2000]
Needs $SPIKEPORT_DATA/mnist_10k. The chip takes pixels as messages of 8 bits, subtracting reset is an extension of this
engine, and the last linear layer reads the spikes out on the host.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from export.from_torch import from_torch
from export.to_loihi import compile_loihi
from neuro import recipe
from neuro.modules import Stack, steps
from neuro.readout import split_readout
from neuro.recipe_run import Outcome, run
from neuro.residual import Scaled
from sim import engines

GREY = 255


def on_chip(done: Outcome, samples: int) -> tuple[float, float]:
    """Accuracy of the float network and of the integer engine on the same test images."""
    spiking, host = split_readout(done.trained)
    network = from_torch(Stack(Scaled(1.0 / GREY), *spiking), done.input_shape, name="mnist")
    x, y = np.rint(done.x[:samples] * GREY).astype(np.int64), done.labels[:samples]
    program = compile_loihi(network, graded_bits=8, soft_reset=True)
    spikes = engines.run(program, x, "loihi").y
    with torch.no_grad():
        chip, _ = steps(host.eval(), torch.from_numpy(spikes.astype(np.float32)).transpose(0, 1))
        plain, _ = steps(done.trained.eval(), torch.from_numpy(done.x[:samples]).transpose(0, 1))
    right = [float((out.sum(0).argmax(1).numpy() == y).mean()) for out in (plain, chip)]
    return right[0], right[1]


def main() -> None:
    """Train, run, print a row a seed and method."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--epochs", type=int, default=0, help="0 takes the recipes'")
    asked.add_argument("--seeds", type=int, nargs="+", default=[0])
    asked.add_argument("--samples", type=int, default=2000, help="test images on the chip")
    options = asked.parse_args()
    print(f"{'recipe':<12}{'seed':>5}{'test':>9}{'float':>9}{'chip':>9}{'s':>7}")
    for seed in options.seeds:
        for name in ("sltt_mnist", "bptt_mnist"):
            made = recipe.load(name)
            done = run(made.with_epochs(options.epochs) if options.epochs else made, seed=seed, progress=True)
            plain, chip = on_chip(done, options.samples)
            shares = "".join(f"{100 * a:>9.2f}" for a in (done.accuracy, plain, chip))
            print(f"{name:<12}{seed:>5}{shares}{done.seconds:>7.0f}")


if __name__ == "__main__":
    main()
