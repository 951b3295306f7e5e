"""Training on the CPU against SpikingJelly 2: ``python benchmarks/training.py [--rounds 7] [--threads 2]``.

(a) conv 32-64-128, 3 x 3, BatchNorm, LIF, 2 x 2 mean pooling, then linear, on 32 x 32 x 3, batch 16: 10.3 M
multiply-adds a sample and step. (b) fully connected 700-256-256-20, batch 64, 5 % of inputs spiking. Law and slope are
those of SLTT (Meng et al. 2023): tau 1.1, no decay of the input, threshold 1, soft reset, triangle. Chunks of 2
steps in (a), of 16 in (b), so the memory of (b) is flat from T = 16 on.

Each round times every way once, in turns; a ratio is taken within a round; median, least and most are over the rounds.
Peak memory: rise of the resident peak of a fresh process over the loaded model and its input, each in its own process.
The gradients of both SLTTs are compared before anything is timed. ``lif``: forward and backward of 1e6 neuron-steps
(T = 16) against ``LIFNode`` in step mode 'm', backend 'torch'. Delays: :mod:`benchmarks.delays`. The last line is JSON;
time and memory are ours over theirs, ``lif_`` and ``delay_infer_`` theirs over ours.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neuro.methods.bptt import BPTT
from neuro.methods.sltt import SLTT
from neuro.modules import Spiking, Stack, steps
from neuro.neuron import Law, Tau
from neuro.surrogate import ATan, Triangle

LAW = Law(Tau(1.1, decay_input=False), reset="subtract")
Way = Callable[[], None]


class _Slope(torch.autograd.Function):
    """SLTT's triangle for SpikingJelly, which has none: plain torch operations, as its own surrogates are."""

    @staticmethod
    def forward(ctx: Any, over: Tensor) -> Tensor:
        ctx.save_for_backward(over)
        return (over >= 0).to(over)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (over,) = ctx.saved_tensors
        return grad * (1.0 - over.abs()).clamp_min(0.0)


def triangle(over: Tensor) -> Tensor:
    """Spikes with SLTT's slope."""
    out: Tensor = _Slope.apply(over)
    return out


def ours(net: str) -> Stack:
    """Network (a) or (b) in this package."""
    torch.manual_seed(0)
    if net == "fc":
        sizes = (700, 256, 256)
        parts = [m for a, b in pairwise(sizes) for m in (nn.Linear(a, b), Spiking(LAW, Triangle()))]
        return Stack(*parts, nn.Linear(256, 20))
    parts = []
    for a, b in ((3, 32), (32, 64), (64, 128)):
        conv = nn.Conv2d(a, b, 3, padding=1, bias=False)
        parts += [conv, nn.BatchNorm2d(b), Spiking(LAW, Triangle()), nn.AvgPool2d(2)]
    return Stack(*parts, nn.Flatten(), nn.Linear(128 * 16, 10))


def theirs(net: str, online: bool) -> nn.Module:
    """The same weights in SpikingJelly: SLTT step by step, or BPTT in multi-step mode."""
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.neuron import SLTTLIFNode

    kind = SLTTLIFNode if online else neuron.LIFNode
    parts: list[nn.Module] = []
    for m in ours(net):
        if isinstance(m, nn.Conv2d):
            parts.append(layer.Conv2d(m.in_channels, m.out_channels, 3, padding=1, bias=False))
        elif isinstance(m, nn.BatchNorm2d):
            parts.append(layer.BatchNorm2d(m.num_features))
        elif isinstance(m, nn.Linear):
            parts.append(layer.Linear(m.in_features, m.out_features))
        elif isinstance(m, nn.AvgPool2d):
            parts.append(layer.AvgPool2d(2))
        elif isinstance(m, nn.Flatten):
            parts.append(layer.Flatten())
        else:
            parts.append(kind(tau=1.1, decay_input=False, v_reset=None, surrogate_function=triangle))
        parts[-1].load_state_dict(m.state_dict(), strict=False)
    found = nn.Sequential(*parts)
    functional.set_step_mode(found, "s" if online else "m")
    return found


def data(net: str, T: int) -> tuple[Tensor, Tensor]:
    """``x (N, T, ...)`` and labels."""
    g = torch.Generator().manual_seed(1)
    if net == "fc":
        return (torch.rand(64, T, 700, generator=g) < 0.05).float(), torch.randint(20, (64,), generator=g)
    return torch.rand(16, T, 3, 32, 32, generator=g), torch.randint(10, (16,), generator=g)


def loss(out: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of a step."""
    return nn.functional.cross_entropy(out, y)


def their_step(net: nn.Module, online: bool, x: Tensor, y: Tensor) -> None:
    """One batch as SpikingJelly's users train it."""
    from spikingjelly.activation_based import functional

    T = x.shape[1]
    if online:
        for t in range(T):
            (loss(net(x[:, t]), y) / T).backward()
    else:
        out = net(x.transpose(0, 1))
        torch.stack([loss(o, y) for o in out]).mean().backward()
    functional.reset_net(net)


def way(name: str, T: int) -> Way:
    """``net/who``: one training step, gradients cleared before it."""
    return model_and_way(name, T)[1]


def model_and_way(name: str, T: int) -> tuple[nn.Module, Way]:
    """The network of :func:`way` and its training step."""
    kind, who = name.split("/")
    x, y = data(kind, T)
    model: nn.Module = ours(kind) if who.startswith("our") else theirs(kind, who == "sj_sltt")
    method: Any = {"our_sltt": SLTT(2 if kind == "conv" else 16), "our_sltt4": SLTT(1, k=4), "our_bptt": BPTT()}.get(
        who
    )

    def run() -> None:
        model.zero_grad()
        if method is None:
            their_step(model, who == "sj_sltt", x, y)
        else:
            method(model, loss, x, y)

    return model, run


def same_gradients(kind: str) -> float:
    """Largest difference of SLTT's gradients here and there, of the largest gradient."""
    found = []
    for who in ("our_sltt", "sj_sltt"):
        model, run = model_and_way(f"{kind}/{who}", 4)
        run()
        found.append([p.grad for p in model.parameters()])
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(*found, strict=True))


def lif(who: str, count: int = 1_000_000, T: int = 16) -> Way:
    """Forward and backward of one population, ``count`` neuron-steps."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    x = torch.rand(T, 1, count // T, generator=torch.Generator().manual_seed(2)).requires_grad_()
    g = torch.rand(x.shape, generator=torch.Generator().manual_seed(3))
    node = neuron.LIFNode(2.0, surrogate_function=surrogate.ATan(), step_mode="m")
    node.backend = "torch"
    own = Spiking(Law(Tau(2.0)), ATan())

    def run() -> None:
        x.grad = None
        if who == "our":
            out, _ = steps(own, x)
        else:
            functional.reset_net(node)
            out = node(x)
        torch.autograd.backward(out, g)

    return run


def timed(ways: dict[str, Way], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round, in turns."""
    for run in ways.values():
        run()
        run()
    found: dict[str, list[float]] = {n: [] for n in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            gc.collect()
            start = time.perf_counter()
            run()
            found[name].append(time.perf_counter() - start)
    return found


def peak_mb(name: str, T: int) -> float:
    """Rise of the resident peak of two training steps, MB, in this process."""
    run = way(name, T)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    run()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def fresh_peak_mb(name: str, T: int, threads: int) -> float:
    """:func:`peak_mb` in a process of its own."""
    command = [sys.executable, __file__, "--peak", name, str(T), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])


def ratios(times: dict[str, list[float]], a: str, b: str) -> list[float]:
    """``a / b`` round by round."""
    return [x / y for x, y in zip(times[a], times[b], strict=True)]


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    found = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {k: round(v, 4) for k, v in found.items()}


def time_table(rounds: int) -> dict[str, list[float]]:
    """Times by net, T and way; the ratios of the JSON."""
    found: dict[str, list[float]] = {}
    for kind in ("conv", "fc"):
        print(f"{kind}: SLTT's gradients agree with SpikingJelly's to {same_gradients(kind):.1e} of the largest")
        for T in (4, 16, 64):
            names = [f"{kind}/{w}" for w in ("our_sltt", "our_sltt4", "our_bptt", "sj_sltt", "sj_bptt")]
            times = timed({n: way(n, T) for n in names}, rounds if T < 64 else max(3, rounds // 2))
            cells = [f"{n.split('/')[1]} {1e3 * statistics.median(t):.1f}" for n, t in times.items()]
            print(f"{kind} T={T:<3} ms   " + "   ".join(cells), flush=True)
            if T == 16:
                for a, b, key in (
                    ("our_sltt", "sj_sltt", f"sltt_{kind}_time_vs_sj"),
                    ("our_sltt", "sj_bptt", f"sltt_{kind}_time_vs_bptt"),
                    ("our_bptt", "sj_bptt", f"bptt_{kind}_time_vs_bptt"),
                    ("our_sltt4", "our_sltt", f"sltt4_{kind}_time_vs_sltt"),
                ):
                    found[key] = ratios(times, f"{kind}/{a}", f"{kind}/{b}")
    return found


def memory_table(repeats: int, threads: int) -> dict[str, list[float]]:
    """Peak memory of each way in fresh processes; the ratios at T = 64."""
    found: dict[str, list[float]] = {}
    for kind in ("conv", "fc"):
        peaks: dict[tuple[str, int], list[float]] = {}
        for who in ("our_sltt", "sj_sltt", "sj_bptt"):
            for T in (4, 16, 64):
                peaks[who, T] = [fresh_peak_mb(f"{kind}/{who}", T, threads) for _ in range(repeats)]
            cells = "   ".join(f"T={T} {statistics.median(peaks[who, T]):.1f}" for T in (4, 16, 64))
            print(f"{kind} {who:<9} peak MB   {cells}", flush=True)
        ours_, bptt = peaks["our_sltt", 64], peaks["sj_bptt", 64]
        found[f"sltt_{kind}_memory_vs_bptt"] = [a / b for a, b in zip(ours_, bptt, strict=True)]
        found[f"sltt_{kind}_memory_64_vs_4"] = [a / b for a, b in zip(ours_, peaks["our_sltt", 4], strict=True)]
    return found


def main() -> None:
    """Print the tables, then the JSON."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--rounds", type=int, default=7)
    ask.add_argument("--threads", type=int, default=2)
    ask.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    given = ask.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak:
        print(peak_mb(given.peak[0], int(given.peak[1])))
        return
    found = memory_table(3, given.threads) | time_table(given.rounds)
    times = timed({w: lif(w) for w in ("our", "sj")}, 3 * given.rounds)
    print(f"LIF, 1e6 neuron-steps, ms: ours {1e3 * statistics.median(times['our']):.2f}, "
          f"SpikingJelly {1e3 * statistics.median(times['sj']):.2f}")  # fmt: skip
    found["lif_vs_sj"] = ratios(times, "sj", "our")
    from benchmarks.delays import measure

    found |= measure(given.rounds)
    print(json.dumps({k: spread(v) for k, v in found.items()}))


if __name__ == "__main__":
    main()
