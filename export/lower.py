"""A float Network as populations joined by one linear map each: what lies between two of them is composed exactly.

    a_n[t] = bias_n + sum over links of  W x_src[t - delay]

Convolutions stay convolutions where they are one, or pooling before one with ``kernel == stride``; every other chain
becomes a matrix. A mean and a sum are convolutions with equal weights, a Scale a diagonal. A Delay node turns into
delays of synapses: through one element of it, those of that element; a DelayedLinear has them. A Window is a population
here, for it has a state (:mod:`export.gate`). Weights are float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.ends import NATURAL
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
    Pair,
    Scale,
    Shape,
    Spiking,
    SumPool2d,
    Weighted,
    Window,
)
from export.program import CapacityError, MappingError

Float: TypeAlias = npt.NDArray[np.float64]
Step: TypeAlias = tuple[str, Any]
Population: TypeAlias = Input | Spiking | Window
"""What sends spikes."""
MATRIX_LIMIT = 2**27
"""Largest dense matrix that a chain is composed into: 1 GiB of float64."""


@dataclass(frozen=True, eq=False)
class Link:
    """``src -> dst``, arriving ``delay`` network steps later. ``weight`` (out, in), or (out, in / groups, kh, kw).

    ``label`` names the layer whose weights these are. ``delays``: steps of each synapse, shaped as a matrix ``weight``,
    the least of them ``delay``; None where all have ``delay``.
    """

    src: str
    dst: str
    label: str
    weight: Float
    delay: int = 0
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    delays: npt.NDArray[np.int64] | None = None

    @property
    def conv(self) -> bool:
        """Is the weight a kernel?"""
        return self.weight.ndim == 4

    def bins(self) -> list[Link]:
        """The same as links of one delay each."""
        if self.delays is None:
            return [self]
        found = np.unique(self.delays[self.weight != 0])
        weights = {int(d): np.where(self.delays == d, self.weight, 0.0) for d in found}
        return [replace(self, weight=w, delay=d, delays=None) for d, w in weights.items()]

    def apply(self, x: Float, shape: Shape) -> Float:
        """``x (n, *source shape) -> (n, *target shape)``; ``shape`` of the target."""
        if not self.conv:
            return np.asarray((x.reshape(len(x), -1) @ self.weight.T).reshape(len(x), *shape))
        return convolve(x, self.weight, self.stride, self.padding, self.dilation, self.groups)


@dataclass(frozen=True, eq=False)
class Lowered:
    """Links, and the constant input of each spiking node (its shape, float64) or None."""

    links: list[Link]
    bias: dict[str, Float | None]


def lower(network: Network) -> Lowered:
    """Errors: :class:`MappingError` naming the node, :class:`CapacityError` for a matrix beyond the limit."""
    network.check()
    shapes, spiking = network.shapes(), network.spiking()
    last = network.sources(network.output)
    if len(last) != 1 or not isinstance(network.nodes[last[0].src], Spiking | Window) or last[0].delay:
        names = ", ".join(e.src for e in last)
        raise MappingError(
            f"{network.output}: the chip sends spikes, but the output is '{names}'; let one Spiking node, undelayed, "
            "be the only source of the output"
        )
    links = []
    for name in spiking:
        for src, ops, delay in _paths(network, name):
            links += _delayed(src, name, ops, delay, shapes)
    links += [_relayed(network, n, shapes) for n, node in network if isinstance(node, Window)]
    constants: dict[str, Float | None] = {}
    bias = {n: _constant(network, n, shapes, constants) for n in spiking}
    return Lowered(links, bias)


def _relayed(network: Network, name: str, shapes: dict[str, Shape]) -> Link:
    """What leads to a Window: spikes of one population, as they are."""
    ways = _paths(network, name)
    if len(ways) != 1 or any(not isinstance(op, Flatten) for _, op in ways[0][1]):
        raise MappingError(
            f"{name}: the window is no plain end of one population's spikes, and the chip sends spikes; put it "
            f"right behind a Spiking node, or {NATURAL}"
        )
    return _compose(ways[0][0], name, *ways[0][1:], shapes)


def as_matrix(link: Link, src: Shape, dst: Shape) -> Link:
    """The same link with its convolution written out as a matrix."""
    step = (link.label, Conv2d(link.weight, None, link.stride, link.padding, link.dilation, link.groups))
    return Link(link.src, link.dst, link.label, _matrix([step], src, dst, link.label), link.delay)


def convolve(x: Float, w: Float, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> Float:
    """Cross-correlation ``(n, c, h, w) -> (n, o, h', w')`` with zero padding, one kernel element at a time."""
    n, c = x.shape[:2]
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2)).reshape(
        n, groups, c // groups, x.shape[2] + 2 * padding[0], x.shape[3] + 2 * padding[1]
    )
    kernel = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    size = [(x.shape[3 + a] - dilation[a] * (w.shape[2 + a] - 1) - 1) // stride[a] + 1 for a in (0, 1)]
    y = np.zeros((n, groups, kernel.shape[1], *size), np.result_type(x, w))
    for kh in range(w.shape[2]):
        top = kh * dilation[0]
        for kw in range(w.shape[3]):
            left = kw * dilation[1]
            part = x[..., top : top + size[0] * stride[0] : stride[0], left : left + size[1] * stride[1] : stride[1]]
            y += np.einsum("ngihw,goi->ngohw", part, kernel[..., kh, kw], optimize=True)
    return y.reshape(n, w.shape[0], *size)


def _paths(network: Network, name: str, through: tuple[str, ...] = ()) -> list[tuple[str, list[Step], int]]:
    """Ways back from ``name`` to the populations that feed it: source, operators in order, delay."""
    found: list[tuple[str, list[Step], int]] = []
    for e in network.sources(name):
        node = network.nodes[e.src]
        if isinstance(node, Population):
            found.append((e.src, [], e.delay))
            continue
        if isinstance(node, Integrator):
            raise MappingError(
                f"{e.src}: does not spike, and the chip sends spikes; exchange it for a Spiking node, or end the "
                "network before it and integrate the spikes outside the chip"
            )
        if e.src in through:
            raise MappingError(f"{e.src}: lies in a loop without a Spiking node; put one into the loop")
        waited = e.delay and _has_bias(network, e.src)
        if waited or (isinstance(node, Lined) and node.depth and _hears_bias(network, e.src)):
            late = e.delay or (node.depth if isinstance(node, Lined) else 0)
            raise MappingError(f"{e.src}: its bias passes a delay of {late}; delay its input instead of its output")
        ways = _paths(network, e.src, (*through, e.src))
        found += [(s, [*ops, (e.src, node)], d + e.delay) for s, ops, d in ways]
    return found


def _has_bias(network: Network, name: str, through: tuple[str, ...] = ()) -> bool:
    """Does it answer to silence?"""
    node = network.nodes[name]
    if isinstance(node, Population) or name in through:
        return False
    bias = getattr(node, "bias", None)
    return (bias is not None and bool(bias.any())) or _hears_bias(network, name, through)


def _hears_bias(network: Network, name: str, through: tuple[str, ...] = ()) -> bool:
    return any(_has_bias(network, e.src, (*through, name)) for e in network.sources(name))


def _delayed(src: str, dst: str, ops: list[Step], delay: int, shapes: dict[str, Shape]) -> list[Link]:
    """The chain as links: one, with a delay of each synapse where its way leads through a node with delays.

    Between two linear maps that share targets and sources, a synapse would have several delays: one link for each.
    """
    at = next((k for k, (_, op) in enumerate(ops) if isinstance(op, Lined)), None)
    if at is None:
        return [_compose(src, dst, ops, delay, shapes)]
    name, node = ops[at]
    parts = []
    for d, part in _by_delay(node):
        step = [] if part is None else [(name, part)]
        parts += _delayed(src, dst, [*ops[:at], *step, *ops[at + 1 :]], delay + d, shapes)
    if len(parts) == 1:
        return parts
    used = [as_matrix(p, shapes[src], shapes[dst]) if p.conv else p for p in parts if p.weight.any()]
    return _merged(used) if used else parts[:1]


def _by_delay(node: Delay | DelayedLinear) -> list[tuple[int, Linear | Scale | None]]:
    """Each delay with the map that it delays, rising; None where a Delay has but one."""
    if isinstance(node, DelayedLinear):
        return [(d, Linear(node.masked(d))) for d in node.waits]
    found = [int(d) for d in np.unique(node.steps)]
    return [(d, None if len(found) == 1 else Scale((node.steps == d).astype(np.float64))) for d in found]


def _merged(parts: list[Link]) -> list[Link]:
    """Matrices that share no synapse in one link with delays; others as they are."""
    if sum((p.weight != 0).astype(np.int64) for p in parts).max() > 1:
        return parts
    least = min(p.delay for p in parts)
    weight, delays = np.zeros_like(parts[0].weight), np.full(parts[0].weight.shape, least, np.int64)
    for p in parts:
        used = p.weight != 0
        weight[used] = p.weight[used]
        delays[used] = p.delay if p.delays is None else p.delays[used]
    return [replace(parts[0], weight=weight, delay=least, delays=None if len(parts) == 1 else delays)]


def _compose(src: str, dst: str, ops: list[Step], delay: int, shapes: dict[str, Shape]) -> Link:
    label = next((n for n, op in reversed(ops) if isinstance(op, Weighted)), ops[-1][0] if ops else dst)
    flat = any(isinstance(op, Flatten) for _, op in ops)
    shape = shapes[src]
    before = [shape, *(shapes[n] for n, _ in ops)]
    steps = [(n, _as_conv(op, before[k])) for k, (n, op) in enumerate(ops)]
    kept = [(n, op) for n, op in steps if not isinstance(op, Flatten)]
    if not kept and not flat and len(shape) == 3:
        kept = [(label, Conv2d(np.ones((shape[0], 1, 1, 1)), groups=shape[0]))]
    if len(kept) == 2 and not flat and isinstance(ops[0][1], AvgPool2d | SumPool2d) and isinstance(kept[1][1], Conv2d):
        merged = _pool_conv(ops[0][1], kept[1][1], shape)
        kept = kept if merged is None else [(label, merged)]
    if len(kept) == 1 and isinstance(kept[0][1], Conv2d) and not flat:
        op = kept[0][1]
        w = op.weight.astype(np.float64, copy=False)
        return Link(src, dst, label, w, delay, op.stride, op.padding, op.dilation, op.groups)
    if len(kept) == 1 and isinstance(kept[0][1], Linear):
        return Link(src, dst, label, kept[0][1].weight.astype(np.float64, copy=False), delay)
    return Link(src, dst, label, _matrix(steps, shape, shapes[dst], label), delay)


def _as_conv(op: Any, shape: Shape) -> Any:
    """Pooling as a convolution of each channel with equal weights; anything else as it is."""
    if not isinstance(op, AvgPool2d | SumPool2d):
        return op
    c = shape[0]
    weight = np.full((c, 1, *op.kernel), 1.0 / _divisor(op))
    return Conv2d(weight, None, op.stride, op.padding, (1, 1), c)


def _divisor(pool: AvgPool2d | SumPool2d) -> int:
    """What the sum over a window is divided by."""
    return math.prod(pool.kernel) if isinstance(pool, AvgPool2d) else 1


def _pool_conv(pool: AvgPool2d | SumPool2d, conv: Conv2d, shape: Shape) -> Conv2d | None:
    """One convolution that equals ``conv(pool(x))``, or None where none does.

    With windows that touch, each kernel element spreads over its window. Rows that pooling crops would show up under
    the padding of ``conv``, so padding asks for a size that the window divides.
    """
    fits = all(n % k == 0 or p == 0 for n, k, p in zip(shape[1:], pool.kernel, conv.padding, strict=True))
    if pool.kernel != pool.stride or max(pool.padding) or not fits:
        return None
    (ph, pw), (dh, dw) = pool.kernel, conv.dilation
    o, i, kh, kw = conv.weight.shape
    spread = np.zeros((o, i, (kh - 1) * dh + 1, (kw - 1) * dw + 1))
    spread[:, :, ::dh, ::dw] = conv.weight.astype(np.float64)
    weight = np.repeat(np.repeat(spread, ph, axis=2), pw, axis=3) / _divisor(pool)
    stride, padding = (conv.stride[0] * ph, conv.stride[1] * pw), (conv.padding[0] * ph, conv.padding[1] * pw)
    return replace(conv, weight=weight, bias=None, stride=stride, padding=padding, dilation=(1, 1))


def _matrix(steps: list[Step], src: Shape, dst: Shape, label: str) -> Float:
    """The chain as a matrix (out, in): what it makes of each unit vector."""
    n, m = math.prod(src), math.prod(dst)
    if n * m > MATRIX_LIMIT:
        raise CapacityError(f"{label}: as a matrix it needs {n} x {m} weights, the limit is {MATRIX_LIMIT}; shrink it")
    out = np.zeros((m, n))
    block = max(1, 2**20 // max(n, m))
    for k in range(0, n, block):
        x = np.eye(min(block, n - k), n, k).reshape(-1, *src)
        for _, op in steps:
            x = _forward(op, x, False)
        out[:, k : k + len(x)] = x.reshape(len(x), -1).T
    return out


def _forward(op: Any, x: Float, bias: bool) -> Float:
    if isinstance(op, Linear | DelayedLinear):
        y = x @ op.weight.T.astype(np.float64)
        return y if not bias or op.bias is None else y + op.bias
    if isinstance(op, Conv2d):
        y = convolve(x, op.weight.astype(np.float64), op.stride, op.padding, op.dilation, op.groups)
        return y if not bias or op.bias is None else y + op.bias[:, None, None]
    if isinstance(op, Conv1d):
        return _forward(op.conv2d(), x[:, :, None], bias)[:, :, 0]
    if isinstance(op, Scale):
        return np.asarray(x * op.scale)
    return x.reshape(len(x), *op.out_shape(x.shape[1:])) if isinstance(op, Flatten) else x


def _constant(network: Network, name: str, shapes: dict[str, Shape], known: dict[str, Float | None]) -> Float | None:
    """What enters a spiking node, or leaves any other, when no population spikes; None for nothing."""
    parts = []
    for e in network.sources(name):
        node = network.nodes[e.src]
        if isinstance(node, Population):
            continue
        if e.src not in known:
            inner = _constant(network, e.src, shapes, known)
            before = shapes[network.sources(e.src)[0].src]
            x = np.zeros(before) if inner is None else inner
            y = _forward(_as_conv(node, before), x[None], True)[0]
            known[e.src] = y if y.any() else None
        constant = known[e.src]
        if constant is not None:
            parts.append(constant)
    return np.asarray(sum(parts[1:], parts[0])) if parts else None
