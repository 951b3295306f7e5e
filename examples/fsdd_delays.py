"""Spoken digits with learned delays, and the trained network on ONNX and on the Loihi engine.

Run: python examples/fsdd_delays.py [--epochs 20] [--seeds 0 1 2] [--samples 300]
Needs $SPIKEPORT_DATA/fsdd. Delays of single synapses go to the chip as they are, layers are cut at their time as in
training ("exact") or not ("natural"); the readout, which does not spike, is the host's. A minute or two a seed.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from export.ends import natural
from export.from_torch import from_torch
from export.to_loihi import compile_loihi
from neuro.delays import horizon
from neuro.losses import softmax_total
from neuro.models.delay_net import fsdd_stages
from neuro.modules import Stack, steps
from neuro.readout import split_readout
from sim import engines

Array = npt.NDArray[Any]


def silence(x: Array, steps: int) -> Array:
    """``x (N, T, ...)`` with silent steps behind it, ``steps`` in all."""
    return np.concatenate([x, np.zeros((len(x), steps - x.shape[1], *x.shape[2:]), x.dtype)], axis=1)


def share(out: Tensor, y: Array) -> float:
    """Accuracy of ``out (T, N, classes)`` read by ``sum_t softmax``."""
    return float((softmax_total(out).argmax(1).numpy() == y).mean())


@torch.no_grad()
def on_machines(module: Stack, x: Array, y: Array) -> dict[str, float]:
    """Accuracy by way: torch, ONNX of the exact and the natural network, the chip of both with the host's readout."""
    T, shape = x.shape[1], x.shape[2:]
    found = {"torch": share(steps(module.eval(), torch.from_numpy(x).transpose(0, 1))[0], y)}
    whole = from_torch(module, shape, horizon=T)
    spiking, host = split_readout(module)
    hidden = from_torch(spiking, shape, horizon=T)
    for name, network, chip in (("exact", whole, hidden), ("natural", natural(whole), natural(hidden))):
        out = engines.run(network, silence(x, horizon(module, T)), "onnx").y
        found[f"onnx {name}"] = share(torch.from_numpy(out).transpose(0, 1), y)
        spikes = engines.run(compile_loihi(chip), silence(x, horizon(spiking, T)), "loihi").y
        read, _ = steps(host.eval(), torch.from_numpy(spikes.astype(np.float32)).transpose(0, 1))
        found[f"chip {name}"] = share(read, y)
    return found


def main() -> None:
    """Train, run, print a row a seed."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--epochs", type=int, default=0, help="of the first stage; 0 takes the recipe's")
    asked.add_argument("--seeds", type=int, nargs="+", default=[0])
    asked.add_argument("--samples", type=int, default=300, help="test recordings on the machines")
    options = asked.parse_args()
    for seed in options.seeds:
        trained, stages = fsdd_stages(seed=seed, epochs=options.epochs or None, progress=True)
        row = on_machines(trained.module, trained.x[: options.samples], trained.labels[: options.samples])
        print(f"seed {seed}: {stages}; {trained.seconds:.0f} s")
        print("  " + ", ".join(f"{name} {100 * a:.2f} %" for name, a in row.items()), flush=True)


if __name__ == "__main__":
    main()
