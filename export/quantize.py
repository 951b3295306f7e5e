"""Float network to integers: one real scale per population for weights, threshold and bias together.

Canonical form of a population (``Charge.canonical``), shifted so that it resets to 0:

    u = a u + k W x,   v = b v + u + k bias + (1 - b)(rest - v_reset),   fires at theta - v_reset

Only ratios matter, so choose s, the largest for which the weights fit, and

    W_int = 2 round(W s / 2)  (mixed signs, -256..254)  or  round(W s)  (one sign, up to 255)
    vth   = round(theta s 2^e),  du = round((1-a) 4096) - 1,  dv = round((1-b) 4096),  bias = round(b s 64 2^e)

with the largest exponent e in 0..7 for which vth stays in 17 bits and the current can never wrap. A convolution takes
e = 0, because lava-nc's ignores it. Pooling and flattening are composed into the next weights, exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.network import AvgPool2d, Conv2d, Flatten, Linear, Loss, Network, Shape, Spiking
from export.program import MappingError
from export.to_loihi import Connection, Population

Floats: TypeAlias = npt.NDArray[np.float64]
VTH_MAX = 2**17 - 1
CURRENT_LIMIT = 2**23
MAX_COMPOSED = 2**26
"""Weights of one composed matrix (512 MiB as float64); a larger one asks for a convolution instead of pooling."""


@dataclass(frozen=True)
class Path:
    """What lies between two populations: an operation in float and its constant part ``bias (n,)``."""

    src: str
    delay: int
    node: Linear | Conv2d
    bias: Floats


def quantize(
    network: Network, graded_bits: int, soft_reset: bool, delay_max: int
) -> tuple[dict[str, Population], list[Connection], list[Loss]]:
    """Populations, connections and losses of ``network``. Errors: ``MappingError`` with node, rule and fix."""
    shapes = network.shapes()
    paths = {n: [_path(network, n, e.src, e.delay, shapes) for e in network.sources(n)] for n in network.spiking()}
    depth = {network.input: 0}
    for n in network.spiking():
        undelayed = [depth[p.src] for p in paths[n] if p.delay == 0]
        if not undelayed:
            raise MappingError(f"{n}: only delayed connections lead to it; give it one without delay")
        depth[n] = 1 + max(undelayed)
    populations, connections, losses = {}, [], []
    for n in network.spiking():
        made, into, lost = _population(network, n, paths[n], shapes[n], depth[n], soft_reset)
        populations[n] = made
        losses += lost
        for c in into:
            extra = c.delay + depth[n] - depth[c.src] - 1
            if not 0 <= extra <= delay_max:
                raise MappingError(
                    f"{c.src} -> {n}: needs a delay of {extra} chip steps, the chip has 0 to {delay_max}; "
                    "shorten the skip connection or give the recurrent edge delay >= 1"
                )
            graded = graded_bits if c.src == network.input else 0
            connections.append(replace(c, chip_delay=extra, graded=graded))
    return populations, connections, losses


def _path(network: Network, dst: str, start: str, delay: int, shapes: dict[str, Shape]) -> Path:
    """Walk from ``start`` back to a population and compose what is on the way."""
    chain: list[Any] = []
    at = start
    while not isinstance(network.nodes[at], Spiking) and at != network.input:
        node, edges = network.nodes[at], network.sources(at)
        if len(edges) != 1 or edges[0].delay:
            raise MappingError(f"{at}: edges that add or wait must lead into a spiking node; move the sum behind {at}")
        chain.insert(0, node)
        at = edges[0].src
    weighty = [c for c in chain if isinstance(c, Linear | Conv2d)]
    if not weighty:
        raise MappingError(f"{dst}: no Linear or Conv2d leads to it from {at}; the chip has no bare connection, add one")
    plain = [c for c in chain if not isinstance(c, Flatten)]
    out = shapes[dst]
    if len(plain) == 1 and (isinstance(plain[0], Linear) or len(chain) == 1):
        node = plain[0]
        bias = np.zeros(node.weight.shape[0]) if node.bias is None else node.bias.astype(np.float64)
        per_channel = isinstance(node, Conv2d)
        full = np.repeat(bias, math.prod(out[1:])) if per_channel else bias
        return Path(at, delay, replace(node, bias=None), full)
    return _composed(at, delay, chain, shapes[at], dst)


def _composed(src: str, delay: int, chain: list[Any], in_shape: Shape, dst: str) -> Path:
    n = math.prod(in_shape)
    zero = _through(chain, np.zeros((1, *in_shape)))[0]
    if n * zero.size > MAX_COMPOSED:
        raise MappingError(
            f"{dst}: pooling before it makes a matrix of {n} x {zero.size} weights; use a convolution with stride instead"
        )
    matrix = (_through(chain, np.eye(n).reshape(n, *in_shape)) - zero).T
    return Path(src, delay, Linear(np.ascontiguousarray(matrix)), zero)


def _through(chain: list[Any], x: Floats) -> Floats:
    """``(n, ...) -> (n, outputs)`` in float64 through memoryless nodes."""
    for node in chain:
        if isinstance(node, Linear):
            x = x @ node.weight.T.astype(np.float64) + (0.0 if node.bias is None else node.bias)
        elif isinstance(node, Conv2d):
            x = _conv(node, x)
        elif isinstance(node, AvgPool2d):
            x = _windows(x, node.kernel, node.stride, node.padding, (1, 1)).mean(axis=(4, 5))
        else:
            x = x.reshape(len(x), -1)
    return np.asarray(x.reshape(len(x), -1), np.float64)


def _conv(node: Conv2d, x: Floats) -> Floats:
    g, kernel = node.groups, (node.weight.shape[2], node.weight.shape[3])
    w = _windows(x, kernel, node.stride, node.padding, node.dilation)
    w = w.reshape(len(x), g, -1, *w.shape[2:])
    k = node.weight.astype(np.float64).reshape(g, -1, *node.weight.shape[1:])
    y = np.einsum("ngchwij,gocij->ngohw", w, k, optimize=True).reshape(len(x), -1, *w.shape[3:5])
    return np.asarray(y if node.bias is None else y + node.bias[:, None, None])


def _windows(x: Floats, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Floats:
    x = np.pad(x, ((0, 0), (0, 0), (padding[0],) * 2, (padding[1],) * 2))
    span = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _population(
    network: Network, name: str, paths: list[Path], shape: Shape, depth: int, soft_reset: bool
) -> tuple[Population, list[Connection], list[Loss]]:
    node = network.nodes[name]
    if not isinstance(node, Spiking):
        raise MappingError(f"{name}: is no spiking node")
    law = node.law
    if law.reset == "subtract" and not soft_reset:
        raise MappingError(
            f"{name}: reset 'subtract' is not in lava-nc's LIF; train with reset 'zero', "
            "or pass soft_reset=True for our extension, which runs here only"
        )
    a, b, gain, rest = law.charge.canonical()
    reset_to = law.v_reset if law.reset == "zero" else 0.0
    theta = law.threshold - reset_to
    if theta <= 0:
        raise MappingError(f"{name}: threshold {law.threshold:g} is not above v_reset {reset_to:g}; it fires without input")
    bias = gain * sum((p.bias for p in paths), np.zeros(1)) + (1.0 - b) * (rest - reset_to)
    weights = [gain * p.node.weight.astype(np.float64) for p in paths]
    if not any(np.any(w) for w in weights):
        raise MappingError(f"{name}: all weights into it are zero; it can never fire, train it or remove it")
    e, s = _scale(weights, paths, theta, a)
    fine = s * 2**e
    vth = max(1, round(theta * fine))
    if a == 0.0 and b == 1.0 and law.fires == ">=" and not bias.any():
        vth = max(1, vth - 1)  # v moves in whole weight units, so v >= vth is v > vth - 1
    du, dv = round((1.0 - a) * 4096) - 1, min(4095, round((1.0 - b) * 4096))
    connections = [_connection(p, w, s, e, name) for p, w in zip(paths, weights, strict=True)]
    mantissa, exponent = _bias(bias / (1.0 - a) if a < 1.0 else bias, fine, math.prod(shape))
    made = Population(shape, du, dv, vth, depth, law.reset, mantissa, exponent)
    return made, connections, _losses(name, law, (a, b), theta, fine, made, connections, weights, bias, s)


def _scale(weights: list[Floats], paths: list[Path], theta: float, a: float) -> tuple[int, float]:
    """``(e, s)``: s as large as the weights allow, then reduced until threshold and worst-case current fit."""
    s = min(_largest(w) for w in weights)
    exponents = [0] if any(isinstance(p.node, Conv2d) for p in paths) else range(7, -1, -1)
    worst = sum(np.maximum(_reach(p.node, w, 1.0), _reach(p.node, w, -1.0)) for p, w in zip(paths, weights, strict=True))
    current = float(worst) * 64.0 / max(1.0 - a, 1.0 / 4096.0)
    for e in exponents:
        if theta * s * 2**e <= VTH_MAX and current * s * 2**e < CURRENT_LIMIT:
            return e, s
    return 0, min(s, VTH_MAX / theta, 0.999 * CURRENT_LIMIT / current)


def _largest(w: Floats) -> float:
    high, low = float(w.max()), float(-w.min())
    if high > 0 and low > 0:
        return min(254.0 / high, 256.0 / low)
    return 255.0 / max(high, low, 1e-300)


def _reach(node: Any, w: Floats, sign: float) -> float:
    """Largest sum of weights of one sign that can meet in one neuron."""
    return float(np.maximum(sign * w, 0.0).reshape(len(w), -1).sum(axis=1).max())


def _connection(path: Path, w: Floats, s: float, e: int, dst: str) -> Connection:
    mixed = bool((w > 0).any() and (w < 0).any())
    sign = "mixed" if mixed else "inhibitory" if (w < 0).any() else "excitatory"
    q = 2 * np.rint(w * s / 2) if mixed else np.rint(w * s)
    q = np.clip(q, -256, 254) if mixed else np.clip(q, -255, 255)
    node, integers = path.node, q.astype(np.int32)
    if isinstance(node, Linear):
        return Connection(path.src, dst, "dense", integers, e, sign_mode=sign, delay=path.delay)
    geometry = {k: getattr(node, k) for k in ("stride", "padding", "dilation", "groups")}
    return Connection(path.src, dst, "conv", integers, e, sign_mode=sign, delay=path.delay, **geometry)


def _bias(bias: Floats, fine: float, n: int) -> tuple[npt.NDArray[np.int32] | None, int]:
    wanted = np.rint(np.broadcast_to(bias, (n,)) * fine * 64.0)
    if not wanted.any():
        return None, 0
    exponent = max(0, math.ceil(math.log2(max(np.abs(wanted).max() / 4095.0, 1e-9))))
    if exponent > 7:
        raise MappingError("bias: is larger than the chip's 4095 * 2^7; lower the bias or the weights' scale")
    return np.rint(wanted / 2**exponent).astype(np.int32), exponent


def _losses(
    name: str,
    law: Any,
    decays: tuple[float, float],
    theta: float,
    fine: float,
    made: Population,
    connections: list[Connection],
    weights: list[Floats],
    bias: Floats,
    s: float,
) -> list[Loss]:
    out = []
    for c, w in zip(connections, weights, strict=True):
        out.append(Loss(name, f"weights from {c.src} to 8 bits: rms error relative to rms weight", _relative(c.weight / s, w)))
    out.append(Loss(name, "threshold to 17 bits: relative error", abs(round(theta * fine) / fine - theta) / theta))
    a, b = decays
    out.append(Loss(name, "voltage decay to 12 bits: error of the share kept", abs((4096 - made.dv) / 4096 - b)))
    if a:
        out.append(Loss(name, "current decay to 12 bits: error of the share kept", abs((4095 - made.du) / 4096 - a)))
    if made.bias is not None:
        back = made.bias.astype(np.float64) * 2**made.bias_exp / (fine * 64.0) * (1.0 - a)
        full = np.broadcast_to(bias, back.shape)
        out.append(Loss(name, "bias: rms error relative to threshold", float(np.sqrt(((back - full) ** 2).mean())) / theta))
        if a:
            out.append(Loss(name, "bias acts on v at once, not through the current: steps to settle", 1.0 / (1.0 - a)))
    exact = a == 0.0 and b == 1.0 and made.bias is None
    if law.fires == ">=" and not exact:
        out.append(Loss(name, "fires at > instead of >=: threshold shift in units of the threshold", 1.0 / made.vth / 64))
    if law.reset == "subtract":
        out.append(Loss(name, "reset 'subtract' is an extension: portable to lava-nc (1 yes, 0 no)", 0.0))
    return [x for x in out if x.size > 0.0 or "portable" in x.what]


def _relative(have: Floats, want: Floats) -> float:
    return float(np.sqrt(((have - want) ** 2).mean() / (want**2).mean()))
