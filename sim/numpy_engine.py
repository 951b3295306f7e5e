"""A Network stepped in numpy by the law as it is written: the engine that needs nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from export.network import AvgPool2d, Conv2d, Flatten, Linear, Network, Pair, Spiking
from sim.counting import accumulates, static_counts
from sim.run import Run

Array = npt.NDArray[Any]
State = dict[str, Any]


def step(network: Network, state: State, x: Array, watch: Callable[[str, Array], None] | None = None) -> tuple[dict[str, Array], State]:
    """``(state, x (N, ...)) -> (value of every node, state)``; the first state is ``{}``.

    ``watch(name, input)`` sees each node's input. Shapes as ``network.shapes()`` with N before.
    """
    shapes, values, after = network.shapes(), {}, {}
    for name, node in network:
        into = []
        for e in network.sources(name):
            if e.delay:
                zero = np.zeros((len(x), *shapes[e.src]), x.dtype)
                into.append(state.get(f"{e.src}>{name}", [zero] * e.delay)[0])
            else:
                into.append(values[e.src])
        a = sum(into[1:], into[0]) if into else x
        if watch is not None:
            watch(name, a)
        if isinstance(node, Spiking):
            before = state[name] if name in state else node.law.initial(a)
            values[name], after[name] = node.law.step(before, a)
        else:
            values[name] = forward(node, a)
    for e in network.edges:
        if e.delay:
            zero = np.zeros((len(x), *shapes[e.src]), x.dtype)
            key = f"{e.src}>{e.dst}"
            after[key] = [*state.get(key, [zero] * e.delay)[1:], values[e.src]]
    return values, after


def forward(node: Any, x: Array) -> Array:
    """A node without memory on ``x (N, ...)``."""
    if isinstance(node, Linear):
        y = x @ node.weight.T
        return y if node.bias is None else y + node.bias
    if isinstance(node, Conv2d):
        return _conv(node, x)
    if isinstance(node, AvgPool2d):
        return _windows(x, node.kernel, node.stride, node.padding, (1, 1)).mean(axis=(4, 5), dtype=x.dtype)
    return x.reshape(len(x), -1) if isinstance(node, Flatten) else x


def run(
    network: Network,
    x: Array,
    *,
    probes: Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
) -> Run:
    """All steps of ``x (samples, T, ...)``; probes ``"<node>.s"`` of all spiking nodes, or of those named.

    Errors: ``ValueError`` for a shape that is not the network's.
    """
    want = network.shapes()[network.input]
    if x.shape[2:] != want:
        raise ValueError(f"x must be (samples, T, {want}), got {x.shape}")
    start, dtype = time.perf_counter(), _dtype(network)
    spiking = network.spiking()
    counts = static_counts(network, x.shape[0], x.shape[1])
    state: State = {}
    ys, spikes = [], {n: [] for n in spiking}

    def watch(name: str, a: Array) -> None:
        if isinstance(network.nodes[name], Linear | Conv2d):
            event, n = accumulates(network, name, a)
            kind = counts.setdefault(event, {})
            kind[name] = kind.get(name, 0) + n

    for t in range(x.shape[1]):
        values, state = step(network, state, x[:, t].astype(dtype), watch)
        ys.append(values[network.output])
        for n in spiking:
            spikes[n].append(values[n].astype(np.int8))
        if progress is not None:
            progress((t + 1) / x.shape[1])
    hidden = {n: np.stack(s, 1) for n, s in spikes.items()}
    counts["spikes"] = {n: int(s.sum()) for n, s in hidden.items()}
    y = np.stack(ys, 1)
    return Run(
        machine="float",
        y=y.astype(np.int8) if network.sources(network.output)[0].src in hidden else y,
        counts=counts,
        samples=x.shape[0],
        steps=x.shape[1],
        dt_s=network.dt_s,
        probes={f"{n}.s": s for n, s in hidden.items() if not probes or f"{n}.s" in probes},
        wall_s=time.perf_counter() - start,
    )


def _dtype(network: Network) -> Any:
    weights = [n.weight.dtype for _, n in network if isinstance(n, Linear | Conv2d)]
    return np.result_type(*weights) if weights else np.dtype(np.float32)


def _conv(node: Conv2d, x: Array) -> Array:
    kernel = (node.weight.shape[2], node.weight.shape[3])
    w = _windows(x, kernel, node.stride, node.padding, node.dilation)
    n, c, h, v = w.shape[:4]
    g = node.groups
    cols = w.reshape(n, g, c // g, h, v, -1).transpose(1, 0, 3, 4, 2, 5).reshape(g, n * h * v, -1)
    flat = node.weight.reshape(g, node.weight.shape[0] // g, -1)
    y = (cols @ flat.transpose(0, 2, 1)).reshape(g, n, h, v, -1).transpose(1, 0, 4, 2, 3).reshape(n, -1, h, v)
    return y if node.bias is None else y + node.bias[:, None, None]


def _windows(x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """``(N, C, H, W) -> (N, C, h, w, kh, kw)``."""
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    span = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
