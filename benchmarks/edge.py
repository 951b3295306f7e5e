"""The step program in onnxruntime against torch eager, one thread: ``python benchmarks/edge.py``.

The network is the edge spec's convsnn with average pooling (7.8 M multiply-adds a step): three convolutions,
two linear layers, LIF, random weights. Each process times all ways in turns and gives ratios of medians;
processes differ in memory layout and in what else the machine does, so the figures are median, least and most
over processes. Torch is SpikingJelly, stepped as a stream is (``step_vs_torch``), and all steps at once layer
by layer, which a stream cannot do (``step_vs_torch_multi_step``). ``counting_share``: what
``sim.edge.native.run`` spends beyond the steps, opening the session included. Spikes are compared before
anything is timed. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from export import AvgPool2d, Conv2d, Flatten, Input, Linear, Network, Output, Spiking
from neuro.neuron import Law, Tau

Array = npt.NDArray[Any]


def convsnn(seed: int = 0) -> Network:
    """Input (2, 32, 32), channels 32, 64, 64, then 128 and 10 neurons; each layer fires at 0.1 to 0.5."""
    rng = np.random.default_rng(seed)
    lif, half = Spiking(Law(Tau(2.0, decay_input=False))), AvgPool2d((2, 2), (2, 2))

    def weight(gain: float, *shape: int) -> Array:
        fan_in = int(np.prod(shape[1:]))
        return (rng.normal(0.02, 1.0, shape) * gain / np.sqrt(fan_in)).astype(np.float32)

    def bias(n: int) -> Array:
        return rng.normal(0.1, 0.1, n).astype(np.float32)

    nodes: dict[str, Any] = {"in": Input((2, 32, 32))}
    for k, (i, o, gain) in enumerate(((2, 32, 2.2), (32, 64, 2.2), (64, 64, 3.0)), 1):
        nodes |= {
            f"c{k}": Conv2d(weight(gain, o, i, 3, 3), bias(o), padding=(1, 1)),
            f"s{k}": lif,
            f"p{k}": half,
        }
    nodes |= {"f": Flatten(), "l1": Linear(weight(4.0, 128, 1024), bias(128)), "s4": lif}
    nodes |= {"l2": Linear(weight(2.5, 10, 128), bias(10)), "s5": lif, "out": Output()}
    return Network.sequential(nodes, name="convsnn")


def jelly(network: Network, mode: str) -> Any:
    """The same network in torch and SpikingJelly, step mode 's' or 'm'."""
    import torch
    from spikingjelly.activation_based import functional, layer, neuron
    from torch import nn

    found: list[nn.Module] = []
    for _, node in network:
        if isinstance(node, Conv2d):
            conv = layer.Conv2d(node.weight.shape[1], node.weight.shape[0], 3, padding=1)
            conv.weight.data, conv.bias.data = torch.tensor(node.weight), torch.tensor(node.bias)
            found.append(conv)
        elif isinstance(node, Linear):
            linear = layer.Linear(*node.weight.shape[::-1])
            linear.weight.data, linear.bias.data = torch.tensor(node.weight), torch.tensor(node.bias)
            found.append(linear)
        elif isinstance(node, AvgPool2d):
            found.append(layer.AvgPool2d(2))
        elif isinstance(node, Flatten):
            found.append(layer.Flatten())
        elif isinstance(node, Spiking):
            found.append(neuron.LIFNode(tau=2.0, decay_input=False))
    module = nn.Sequential(*found).eval()
    functional.set_step_mode(module, mode)
    return module


def ways(samples: int, steps: int) -> dict[str, Callable[[], Array]]:
    """Each way to run the network over the same input, giving ``y (T, N, 10)``."""
    import torch
    from spikingjelly.activation_based import functional

    from export.to_onnx import to_onnx_step
    from sim.edge.native import Session, run

    torch.set_num_threads(1)
    network = convsnn()
    x = (np.random.default_rng(1).random((samples, steps, 2, 32, 32)) < 0.3).astype(np.float32)
    moved = torch.tensor(x).transpose(0, 1).contiguous()
    single, multi = jelly(network, "s"), jelly(network, "m")
    watched, session = to_onnx_step(network), Session(to_onnx_step(network, watch=False))

    def onnx() -> Array:
        session.reset()
        return np.stack([session.step(x[:, t]) for t in range(steps)])

    @torch.no_grad()
    def stepped() -> Array:
        functional.reset_net(single)
        found: Array = torch.stack([single(moved[t]) for t in range(steps)]).numpy()
        return found

    @torch.no_grad()
    def at_once() -> Array:
        functional.reset_net(multi)
        found: Array = multi(moved).numpy()
        return found

    return {"onnx": onnx, "step": stepped, "multi": at_once, "run": lambda: run(watched, x).y.swapaxes(0, 1)}


def one_process(samples: int, steps: int, repeats: int) -> dict[str, float]:
    """Median seconds of each way, taken in turns."""
    timed = ways(samples, steps)
    y = timed["onnx"]()
    if not 0.005 < y.mean() < 0.9:
        raise SystemExit(f"output fires at {y.mean():.4f}: nothing is compared")
    for name, way in timed.items():
        if (way() != y).any():
            raise SystemExit(f"{name}: spikes differ from the onnx step")
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(repeats):
        for name, way in timed.items():
            start = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(t) for name, t in times.items()}


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most, three digits."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {k: round(v, 3) for k, v in found.items()}


def main() -> None:
    """Run the processes one after the other and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(one_process(args.samples, args.steps, args.repeats)))
        return
    sizes = [f"--{k}={getattr(args, k)}" for k in ("samples", "steps", "repeats")]
    found = []
    for _ in range(args.processes):
        done = subprocess.run([sys.executable, __file__, "--child", *sizes], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        print("  ".join(f"{name} {1e3 * s:.2f} ms" for name, s in found[-1].items()), flush=True)
    report = {
        "samples": args.samples,
        "steps": args.steps,
        "processes": args.processes,
        "step_ms": spread([1e3 * f["onnx"] for f in found]),
        "step_vs_torch": spread([f["step"] / f["onnx"] for f in found]),
        "step_vs_torch_multi_step": spread([f["multi"] / f["onnx"] for f in found]),
        "counting_share": spread([f["run"] / f["onnx"] - 1 for f in found]),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
