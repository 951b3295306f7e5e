"""The network in numpy, the law as written: the reference engine that needs no extra.

    run(network, x)                    a batch of whole samples -> Run
    step(network, state, x) -> (values, state)    pure

States and values have the names of :mod:`export.to_onnx` (``<node>.v``, ``<node>.i``, ``<source>.q``, ``<delay>.d``,
``<window>.t``; ``<node>.s``, ``<layer>.in``), so a state goes from one engine to the other. The float type is that of
the weights. Sums of Linear and Conv are numpy's matrix product, those of DelayedLinear scipy's sparse one: all else
has the bits of the other float engines, these agree to rounding, and to the bit where every partial sum is exact
(weights on a 2**-k grid).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.network import (
    AvgPool2d,
    Conv1d,
    Conv2d,
    Delay,
    DelayedLinear,
    Flatten,
    Input,
    Integrator,
    Linear,
    Lined,
    Network,
    Node,
    Pair,
    Scale,
    Spiking,
    SumPool2d,
    Weighted,
    Window,
    floats,
)
from export.onnx_names import input_value
from sim.edge import counts
from sim.run import Run

Array: TypeAlias = npt.NDArray[Any]
State: TypeAlias = dict[str, Array]


def run(
    network: Network,
    x: Array,
    *,
    probes: Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
) -> Run:
    """``x (samples, T, *input_shape) -> Run``; ``probes``: ``"<spiking node>.s"``.

    Counts: see :mod:`sim.edge.counts`. Errors: ``ValueError`` for a wrong shape or an unknown probe.
    """
    start = time.perf_counter()
    network.check()
    record = counts.Recorder(network, x, probes, [f"{n}.s" for n in network.spiking()], progress)
    batch = _batch_size(network)
    for at in range(0, len(record.x), batch):
        part = record.x[at : at + batch]
        state = initial(network, len(part))
        for t in range(part.shape[1]):
            values, state = step(network, state, part[:, t])
            record.add(at, t, {n: a[:, None] for n, a in values.items()})
    return record.run("float", start)


def initial(network: Network, batch: int) -> State:
    """The state before the first step: ``v = v_reset``, currents and delay lines 0."""
    shapes, dtype = network.shapes(), element_type(network)
    state: State = {}
    for name, node in network:
        depth = max((e.delay for e in network.targets(name)), default=0)
        if depth:
            state[f"{name}.q"] = np.zeros((batch, depth, *shapes[name]), dtype)
        if isinstance(node, Lined) and node.depth:
            state[f"{name}.d"] = np.zeros((batch, node.depth, *shapes[network.sources(name)[0].src]), dtype)
        if isinstance(node, Window):
            state[f"{name}.t"] = np.zeros((batch, *(1 for _ in shapes[name])), dtype)
        if isinstance(node, Spiking | Integrator):
            law = node.law if isinstance(node, Spiking) else node
            first = law.initial(np.zeros((batch, *shapes[name]), dtype))
            state |= {f"{name}.{k}": a for k, a in zip("vi", first, strict=False)}
    return state


def step(network: Network, state: Mapping[str, Array], x: Array) -> tuple[dict[str, Array], State]:
    """One step of ``x (N, *input_shape)``: ``x``, ``y``, spikes, layer inputs by name, and the next state."""
    value: dict[str, Array] = {}
    seen: dict[str, Array] = {}
    after: State = {}
    x = np.asarray(x, element_type(network))
    for name in network.order():
        node = network.nodes[name]
        if isinstance(node, Delay):
            line = state.get(f"{name}.d")
            value[name] = delayed(node, line, None if node.early else _arriving(network, name, value, state))
            continue
        if isinstance(node, DelayedLinear):
            line = state.get(f"{name}.d")
            value[name] = late_sums(node, line, None if node.early else _arriving(network, name, value, state))
            continue
        into = x if isinstance(node, Input) else _arriving(network, name, value, state)
        if isinstance(node, Spiking | Integrator):
            law = node.law if isinstance(node, Spiking) else node
            before = tuple(state[f"{name}.{k}"] for k in "vi"[: law.charge.states])
            value[name], new = law.step(before, into)
            after |= {f"{name}.{k}": a for k, a in zip("vi", new, strict=False)}
            if isinstance(node, Spiking):
                seen[f"{name}.s"] = value[name]
        elif isinstance(node, Window):
            steps = state[f"{name}.t"]
            value[name] = np.where(steps < node.stop, into, into.dtype.type(0))
            after[f"{name}.t"] = steps + steps.dtype.type(1)
        else:
            value[name] = apply(node, into)
        if isinstance(node, Weighted) and input_value(network, name) == f"{name}.in":
            seen[f"{name}.in"] = into
    for name, node in network:
        if isinstance(node, DelayedLinear) and input_value(network, name) == f"{name}.in":
            seen[f"{name}.in"] = _arriving(network, name, value, state)
    for key, line in state.items():
        if key.endswith((".q", ".d")):
            new_last = value[key[:-2]] if key.endswith(".q") else _arriving(network, key[:-2], value, state)
            after[key] = np.concatenate([line[:, 1:], new_last[:, None]], axis=1)
    return seen | {"x": x, "y": value[network.output]}, after


def delayed(node: Delay, line: Array | None, into: Array | None) -> Array:
    """What a Delay node says: ``line`` (N, depth, ...) its past inputs, oldest first; ``into`` the present one.

    Each may be None where no element needs it.
    """
    if line is None:
        if into is None:
            raise ValueError("a Delay node needs its input or its past")
        return into
    place = np.minimum(node.depth - node.steps, node.depth - 1)[None, None]
    past = np.take_along_axis(line, np.broadcast_to(place, (len(line), 1, *node.steps.shape)), axis=1)[:, 0]
    return past if into is None else np.where(node.steps == 0, into, past)


def late_sums(node: DelayedLinear, line: Array | None, into: Array | None) -> Array:
    """What a DelayedLinear says; arguments as of :func:`delayed`. Synapses add by delay, shortest first."""
    parts = [line[:, node.depth - d] if d and line is not None else into for d in node.waits]
    past = np.concatenate([p for p in parts if p is not None], axis=1)
    y = np.ascontiguousarray((node.sparse @ past.T).T)
    return y if node.bias is None else y + node.bias


def apply(node: Node, x: Array) -> Array:
    """A node without state on ``x (N, ...)``."""
    if isinstance(node, Linear):
        y = x @ node.weight.T
        return y if node.bias is None else y + node.bias
    if isinstance(node, Conv1d):
        return _conv(node.conv2d(), x[:, :, None])[:, :, 0]
    if isinstance(node, Conv2d):
        return _conv(node, x)
    if isinstance(node, Scale):
        return x * node.scale
    if isinstance(node, AvgPool2d | SumPool2d):
        taps = _windows(x, node.kernel, node.stride, node.padding, (1, 1))
        total = np.zeros_like(taps[..., 0, 0])
        for i, j in np.ndindex(*node.kernel):  # in torch's order
            total = total + taps[..., i, j]
        return total / math.prod(node.kernel) if isinstance(node, AvgPool2d) else total
    if isinstance(node, Flatten):
        return x.reshape(len(x), *node.out_shape(x.shape[1:]))
    return x


def element_type(network: Network) -> np.dtype[Any]:
    """float32, or what the weights have together."""
    types = [a.dtype for n in network.nodes.values() for a in floats(n)]
    return np.result_type(*types) if types else np.dtype(np.float32)


def _arriving(network: Network, name: str, value: Mapping[str, Array], state: Mapping[str, Array]) -> Array:
    """Undelayed sources first, then delayed ones, each in the order of the edge list."""
    edges = network.sources(name)
    terms = [value[e.src] for e in edges if not e.delay]
    terms += [state[f"{e.src}.q"][:, -e.delay] for e in edges if e.delay]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def _conv(node: Conv2d, x: Array) -> Array:
    """One matrix product per group over unfolded windows."""
    out, per_group, *kernel = node.weight.shape
    taps = _windows(x, (kernel[0], kernel[1]), node.stride, node.padding, node.dilation)
    n, _, h, w = taps.shape[:4]
    groups = taps.reshape(n, node.groups, per_group, h, w, *kernel).transpose(1, 0, 3, 4, 2, 5, 6)
    weight = node.weight.reshape(node.groups, out // node.groups, -1).transpose(0, 2, 1)
    y = groups.reshape(node.groups, n * h * w, -1) @ weight
    y = y.reshape(node.groups, n, h, w, -1).transpose(1, 0, 4, 2, 3).reshape(n, out, h, w)
    return y if node.bias is None else y + node.bias[:, None, None]


def _windows(x: Array, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    """``(N, c, h, w) -> (N, c, h', w', kh, kw)``, a view of the padded ``x``."""
    (top, left), (dy, dx) = padding, dilation
    padded = np.pad(x, ((0, 0), (0, 0), (top, top), (left, left)))
    spans = (dy * (kernel[0] - 1) + 1, dx * (kernel[1] - 1) + 1)
    view = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=(2, 3))  # type: ignore[call-overload]
    found: Array = view[:, :, :: stride[0], :: stride[1], ::dy, ::dx]
    return found


def _batch_size(network: Network) -> int:
    """As :func:`sim.edge.counts.batch_size`, with room for the unfolded windows of a convolution."""
    taps = max((math.prod(n.weight.shape[2:]) for _, n in network if isinstance(n, Conv2d)), default=1)
    return counts.batch_size(network, taps)
