"""Learned delays on the CPU against conv1d: ``python benchmarks/delays.py [--rounds 7] [--threads 2]``.

Theirs is the authors' formulation (DCLS 0.1.1) in torch: the kernel ``w g / (sum g + 1e-7)`` of every synapse by
elementwise operations and autograd, then conv1d over padded time; the layer is in its own order (N, channels, T), so
nothing is converted. Rounded, it is the same conv1d with a built kernel of single taps.

``layer``: 256 x 256, Td = 25, T = 100 (112 steps out), batch 16, 5 % of inputs spiking; training is forward and
backward with all three gradients (input, weight, position), bumps 5.27 wide. ``net``: 140-256-256-20 with BatchNorm,
neurons and ``sum_t softmax``, T = 100, batch 16, 5 %; neurons and BatchNorm are the same modules on both sides, so the
ratio is that of the delays and what surrounds them. Each round times every way once, in turns; a ratio is taken within
a round. Values and gradients are compared before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from neuro.delay_kernels import Gauss, delayed
from neuro.delays import DelayLinear, Tail, delay_layers, rounded
from neuro.losses import softmax_total
from neuro.models.delay_net import delay_net
from neuro.modules import Stack, steps

TAPS, T, BATCH, WIDTH, SPREAD = 25, 100, 16, 256, 5.0
H = TAPS // 2
Way = Callable[[], Any]


def conv_kernel(w: Tensor, p: Tensor, spread: float) -> Tensor:
    """``k (n_out, n_in, Td)`` by torch's own operations."""
    g = torch.exp(-0.5 * ((torch.arange(TAPS) - (p[:, :, None] + H)) / (abs(spread) + 0.27)) ** 2)
    return w[:, :, None] * (g / (g.sum(-1, keepdim=True) + 1e-7))


def conv(x: Tensor, k: Tensor) -> Tensor:
    """``x (N, n_in, T) -> (N, n_out, T + h)``."""
    return nn.functional.conv1d(nn.functional.pad(x, (TAPS - 1, H)), k)


def single_taps(layer: DelayLinear) -> Tensor:
    """The rounded layer's kernel ``(n_out, n_in, Td)``."""
    weight, delays = (torch.from_numpy(a) for a in layer.discrete())
    return torch.zeros(*weight.shape, TAPS).scatter_(2, TAPS - 1 - delays[:, :, None], weight[:, :, None])


class ConvDelays(nn.Module):
    """Tail and delays of theirs where a :class:`DelayLinear` was, time first outside."""

    def __init__(self, ours: DelayLinear, taps: Tensor | None = None) -> None:
        super().__init__()
        self.weight, self.position, self.spread = ours.weight, ours.position, float(ours.spread)
        self.taps = taps

    def forward_steps(self, x: Tensor, state: Any, detached: bool) -> tuple[Tensor, Any]:
        """The whole sequence."""
        k = conv_kernel(self.weight, self.position, self.spread) if self.taps is None else self.taps
        return conv(x.permute(1, 2, 0), k).permute(2, 0, 1), None


def their_net(net: Stack, whole: bool = False) -> Stack:
    """The same modules but for delays and tails."""
    kept = (m for m in net if not isinstance(m, Tail))
    return Stack(*(ConvDelays(m, single_taps(m) if whole else None) if isinstance(m, DelayLinear) else m for m in kept))


def layer_ways() -> dict[str, Way]:
    """Training and inference of one layer, ours and theirs."""
    g = torch.Generator().manual_seed(0)
    layer = DelayLinear(WIDTH, WIDTH, TAPS)
    w, p = layer.weight, layer.position
    x = (torch.rand(BATCH, WIDTH, T, generator=g) < 0.05).float()
    theirs_in = x.clone().requires_grad_()
    ours_in = torch.cat([x.permute(2, 0, 1), torch.zeros(H, BATCH, WIDTH)]).contiguous().requires_grad_()
    dy = torch.randn(BATCH, WIDTH, T + H, generator=g)
    ours_dy = dy.permute(2, 0, 1).contiguous()
    twin, still = rounded(layer), ours_in.detach()
    taps = single_taps(twin)

    def ours() -> tuple[Tensor, ...]:
        y = delayed(ours_in, w, p, SPREAD, Gauss(), TAPS)
        return torch.autograd.grad(y, (ours_in, w, p), ours_dy)

    def theirs() -> tuple[Tensor, ...]:
        return torch.autograd.grad(conv(theirs_in, conv_kernel(w, p, SPREAD)), (theirs_in, w, p), dy)

    def ours_infer() -> Tensor:
        with torch.no_grad():
            return steps(twin, still)[0]

    def theirs_infer() -> Tensor:
        with torch.no_grad():
            return conv(x, taps)

    for a, b in zip(ours()[1:], theirs()[1:], strict=True):
        _same(a, b)
    _same(ours()[0][:T].permute(1, 2, 0), theirs()[0])
    _same(ours_infer().permute(1, 2, 0), theirs_infer())
    return {"layer": ours, "layer conv": theirs, "infer": ours_infer, "infer conv": theirs_infer}


def net_ways() -> dict[str, Way]:
    """A training step and inference of the whole network."""
    net = delay_net((140, WIDTH, WIDTH, 20), taps=TAPS, dropout=0.0)
    for layer in delay_layers(net):
        layer.spread.fill_(SPREAD)
    g = torch.Generator().manual_seed(0)
    x = (torch.rand(T, BATCH, 140, generator=g) < 0.05).float()
    label = torch.arange(BATCH) % 20
    other, twin = their_net(net), rounded(net).eval()
    other_twin = their_net(twin, whole=True).eval()

    def training(model: nn.Module) -> list[Tensor]:
        net.zero_grad()
        value = nn.functional.cross_entropy(softmax_total(steps(model, x)[0]), label)
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return [p.grad for p in net.parameters() if p.grad is not None]

    def inference(model: nn.Module) -> Tensor:
        with torch.no_grad():
            return steps(model, x)[0]

    return {
        "net": lambda: training(net),
        "net conv": lambda: training(other),
        "net infer": lambda: inference(twin),
        "net infer conv": lambda: inference(other_twin),
    }


def timed(rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every way in every round."""
    ways = layer_ways() | net_ways()
    for way in ways.values():
        way()
    out: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            out[name].append(1e3 * (time.perf_counter() - start))
    return out


def ratios(ms: dict[str, list[float]]) -> dict[str, list[float]]:
    """Ours over theirs for training, theirs over ours for inference; of the layer and of the net."""

    def over(a: str, b: str) -> list[float]:
        return [p / q for p, q in zip(ms[a], ms[b], strict=True)]

    return {
        "delay_train_vs_conv1d": over("layer", "layer conv"),
        "delay_infer_vs_conv1d": over("infer conv", "infer"),
        "delay_net_train_vs_conv1d": over("net", "net conv"),
        "delay_net_infer_vs_conv1d": over("net infer conv", "net infer"),
    }


def measure(rounds: int) -> dict[str, list[float]]:
    """``delay_train_vs_conv1d`` and ``delay_infer_vs_conv1d`` of the layer, ``delay_net_...`` of the net, by round."""
    return ratios(timed(rounds))


def _same(a: Tensor, b: Tensor) -> None:
    far = float((a - b).detach().abs().max() / b.detach().abs().max())
    if far > 1e-4:
        raise SystemExit(f"ours and theirs differ by {far:.2g}; nothing is timed")


def main() -> None:
    """Print times and ratios; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    ms = timed(given.rounds)
    for name, values in ms.items():
        print(f"{name:<16}{statistics.median(values):9.2f} ms  ({min(values):.2f} to {max(values):.2f})")
    table = ratios(ms)
    for name, values in table.items():
        print(f"{name:<28}{statistics.median(values):7.3f}  ({min(values):.3f} to {max(values):.3f})")
    print(json.dumps({k: {"median": statistics.median(v), "min": min(v), "max": max(v)} for k, v in table.items()}))


if __name__ == "__main__":
    main()
