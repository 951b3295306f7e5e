"""Arithmetic of a spiking network with an analog first layer, against the same network as an ANN.

    N_ANN = sum_l MAC_l;     R_l = spikes of the population that feeds l, over all T / its neurons
    E_ANN = N_ANN E_MAC
    E_SNN = T MAC_1 E_MAC + E_AC sum_{l>=2} ACs_l        MAC_1 once instead of T times where the input is constant

ACs_l is given in two ways. ``by_rate``: ``R_l MAC_l``, as published (Chowdhury, Rathi, Roy 2021; DIET-SNN), where a
layer behind a mean over k pixels counts as if its input were that mean, a 1/k-valued number, added at the price of a
spike. ``by_spike``: each spike adds one weight to each neuron it reaches, through the pooling too, whose window
sums in front of weights W / k: k times the fan-out, no multiplication, and no zeros at the border. The second is what a
machine does that has only additions; the first is what papers print. Both leave out memory, control and leakage: see
the bills of the chip engines for these. Prices: ``hardware/profiles/spike_ops.toml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from export.network import (
    AvgPool2d,
    Conv1d,
    Conv2d,
    Flatten,
    Input,
    Linear,
    Network,
    NetworkError,
    Shape,
    Spiking,
    SumPool2d,
    Weighted,
)
from hardware.tables import load_table

Spikes = Mapping[str, npt.NDArray[Any]]
"""Mean spikes a sample of every neuron over all T steps, by population, in the population's shape."""

ARITHMETICS = ("float32", "int32")


@dataclass(frozen=True)
class Layer:
    """Operations a sample. ``rate`` None: the first layer, whose input is analog."""

    name: str
    macs: int
    rate: float | None
    by_rate: float
    by_spike: float


class Ratio(NamedTuple):
    """``E_ANN / E_SNN`` and both in J a sample. ``first``: times that the first layer is computed; ``counted``: how."""

    arithmetic: str
    first: int
    counted: str
    ann_J: float
    snn_J: float
    ratio: float


@dataclass(frozen=True)
class SpikeEnergy:
    """Layers in order, T, and every ratio: two arithmetics, first layer once and T times, both counts of additions."""

    steps: int
    layers: tuple[Layer, ...]
    ratios: tuple[Ratio, ...]
    source: str

    def ratio(self, arithmetic: str = "float32", *, first: int = 1, counted: str = "by_spike") -> float:
        """One of them. Errors: ``ValueError`` for one that there is not."""
        found = [r.ratio for r in self.ratios if (r.arithmetic, r.first, r.counted) == (arithmetic, first, counted)]
        if not found:
            raise ValueError(f"SpikeEnergy.ratio: no {arithmetic} {counted} with the first layer {first} times")
        return found[0]

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "steps": self.steps,
            "layers": [dict(x.__dict__) for x in self.layers],
            "ratios": [r._asdict() for r in self.ratios],
            "source": self.source,
        }

    def __str__(self) -> str:
        rows = [f"{'layer':<16}{'MAC':>12}{'R':>8}{'AC by rate':>14}{'AC by spike':>14}"]
        for x in self.layers:
            rate = "analog" if x.rate is None else f"{x.rate:.3f}"
            rows.append(f"{x.name:<16}{x.macs:>12}{rate:>8}{x.by_rate:>14.0f}{x.by_spike:>14.0f}")
        for r in self.ratios:
            rows.append(
                f"{r.arithmetic:<8} first layer {r.first} x, {r.counted:<8}: ANN {r.ann_J * 1e6:.3g} uJ, "
                f"SNN {r.snn_J * 1e6:.3g} uJ, ratio {r.ratio:.1f}"
            )
        return "\n".join([*rows, "arithmetic alone; not a measurement of a machine"])


def spike_energy(network: Network, spikes: Spikes, steps: int, *, table: str | Path = "spike_ops") -> SpikeEnergy:
    """``network``: a chain of layers, pooling and populations, one undelayed edge after the other, or sums of such.

    ``spikes``: of :func:`neuro.methods.iir.spikes`, or the mean over samples of a run's probes summed over time.
    Errors: ``NetworkError`` naming a population without spikes, or a node that is neither of these.
    """
    if steps < 1:
        raise NetworkError(f"spike_energy: steps must be at least 1, got {steps}")
    shapes, prices = network.shapes(), load_table(table)
    layers = [_layer(network, name, shapes, spikes) for name, node in network if isinstance(node, Weighted)]
    macs = sum(x.macs for x in layers)
    analog = sum(x.macs for x in layers if x.rate is None)
    ratios = []
    for arithmetic in ARITHMETICS:
        mac, ac = (prices.value(f"{arithmetic}_{op}") for op in ("mac", "ac"))
        for first in dict.fromkeys((1, steps)):
            for counted in ("by_rate", "by_spike"):
                snn = first * analog * mac + ac * sum(getattr(x, counted) for x in layers if x.rate is not None)
                ratios.append(Ratio(arithmetic, first, counted, macs * mac, snn, macs * mac / snn))
    return SpikeEnergy(steps, tuple(layers), tuple(ratios), prices.cite("float32_mac"))


def _layer(network: Network, name: str, shapes: dict[str, Shape], spikes: Spikes) -> Layer:
    node: Any = network.nodes[name]
    size = int(np.prod(shapes[name])) if not isinstance(node, Linear) else len(node.weight)
    macs = size * int(np.prod(node.weight.shape[1:]))
    sources = _sources(network, name, _fan_out(node, _in(network, name, shapes)), shapes)
    if any(isinstance(network.nodes[s], Input) for s, _ in sources):
        return Layer(name, macs, None, 0.0, 0.0)
    fired = neurons = by_spike = 0.0
    for source, reach in sources:
        if source not in spikes or spikes[source].shape != shapes[source]:
            raise NetworkError(f"{source}: spikes must have an array of shape {shapes[source]} for it")
        fired += float(spikes[source].sum())
        neurons += spikes[source].size
        by_spike += float((spikes[source] * reach).sum())
    return Layer(name, macs, fired / neurons, fired / neurons * macs, by_spike)


def _in(network: Network, name: str, shapes: dict[str, Shape]) -> Shape:
    return shapes[network.sources(name)[0].src]


def _sources(
    network: Network, name: str, reach: npt.NDArray[Any], shapes: dict[str, Shape]
) -> list[tuple[str, npt.NDArray[Any]]]:
    """Populations (or the input) that feed ``name`` and how many neurons of it each of theirs reaches."""
    found = []
    for e in network.sources(name):
        node: Any = network.nodes[e.src]
        if isinstance(node, Input | Spiking):
            found.append((e.src, reach.reshape(shapes[e.src])))
        elif isinstance(node, Flatten):
            found += _sources(network, e.src, reach.reshape(_in(network, e.src, shapes)), shapes)
        elif isinstance(node, AvgPool2d | SumPool2d):
            found += _sources(network, e.src, _through(node, reach, _in(network, e.src, shapes)), shapes)
        else:
            raise NetworkError(
                f"{e.src}: {type(node).__name__} between a population and {name}; only pooling is counted"
            )
    return found


def _fan_out(node: Any, shape: Shape) -> npt.NDArray[np.float64]:
    """Neurons that each input of a layer reaches."""
    if isinstance(node, Linear):
        return np.full(shape, float(len(node.weight)))
    if isinstance(node, Conv1d):
        node, shape = node.conv2d(), (shape[0], 1, shape[1])
        return _fan_out(node, shape)[:, 0]
    if not isinstance(node, Conv2d):
        raise NetworkError(f"{type(node).__name__}: has no fan-out here")
    each = [
        _reached(shape[1 + a], node.weight.shape[2 + a], node.stride[a], node.padding[a], node.dilation[a])
        for a in (0, 1)
    ]
    return np.broadcast_to(node.weight.shape[0] / node.groups * np.multiply.outer(*each), shape).copy()


def _through(pool: Any, reach: npt.NDArray[Any], shape: Shape) -> npt.NDArray[np.float64]:
    """What each pixel in front of a pooling reaches: the sum over the windows that hold it."""
    out = np.zeros((shape[0], *(n + 2 * p for n, p in zip(shape[1:], pool.padding, strict=True))))
    for i in range(pool.kernel[0]):
        for j in range(pool.kernel[1]):
            rows = slice(i, i + reach.shape[1] * pool.stride[0], pool.stride[0])
            cols = slice(j, j + reach.shape[2] * pool.stride[1], pool.stride[1])
            out[:, rows, cols] += reach
    (a, b), (h, w) = pool.padding, shape[1:]
    return out[:, a : a + h, b : b + w]


def _reached(n: int, kernel: int, stride: int, padding: int, dilation: int) -> npt.NDArray[np.float64]:
    """Along one axis: outputs that input i reaches."""
    outputs = (n + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    at = np.arange(outputs)[:, None] * stride - padding + np.arange(kernel) * dilation
    return np.bincount(at[(at >= 0) & (at < n)], minlength=n).astype(np.float64)
