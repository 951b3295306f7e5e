"""What a network makes a dense float runtime do, and what of it the spikes made necessary.

Per sample and step, from the network alone (:func:`work`):

    macs               out elements x weights that meet in one: what a dense Conv or Gemm executes, zeros included
    elementwise_ops    operations of the neuron law, bias adds, pooling adds and division, adds where edges meet
    weight_bytes       weights and biases, read once per sample and step (batch 1, nothing kept in a register)
    activation_bytes   values read and written by each node, states and delay lines included; Flatten moves nothing

From what ran (:class:`Tally`):

    spikes             spikes per spiking node; at the input node, its non-zero values
    acs                non-zero input x non-zero weight, of layers whose input was 0 or 1 in the whole run
    effective_macs     the same of the other layers, whose input takes a multiplication

Padding counts as MACs, as in published tables, but never as an effective operation: it is zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from export.network import AvgPool2d, Conv2d, Flatten, Input, Linear, Network, Shape, Spiking
from neuro.neuron import Decay, Law, NoLeak
from sim.run import Counts

Ints = npt.NDArray[np.int64]
STATIC = ("macs", "elementwise_ops", "weight_bytes", "activation_bytes")


def law_ops(law: Law) -> int:
    """Elementwise operations of one neuron in one step: charge, one comparison, one selection or multiply-subtract."""
    charge = law.charge
    if isinstance(charge, NoLeak):
        n = 1
    elif isinstance(charge, Decay):
        n = 4
    else:
        n = 3 + (charge.rest != 0)
    return n + 1 + (1 if law.reset == "zero" else 2)


def layers(network: Network) -> list[str]:
    """Names of the nodes with weights, in execution order."""
    return [n for n, node in network if isinstance(node, Linear | Conv2d)]


def work(network: Network) -> Counts:
    """The static events of the module's docstring for one sample and one step."""
    shapes = network.shapes()
    size = {n: math.prod(s) for n, s in shapes.items()}
    out: Counts = {event: {} for event in STATIC}
    for name, node in network:
        edges = network.sources(name)
        weights = (node.weight, node.bias) if isinstance(node, Linear | Conv2d) else ()
        if isinstance(node, Linear | Conv2d):
            out["macs"][name] = size[name] * math.prod(node.weight.shape[1:])
            out["weight_bytes"][name] = sum(a.nbytes for a in weights if a is not None)
        ops = (len(edges) - 1) * size[edges[0].src] if edges else 0
        ops += _ops(node, weights) * size[name]
        if ops:
            out["elementwise_ops"][name] = ops
        depth = max((e.delay for e in network.targets(name)), default=0)
        values = 2 * depth * size[name]  # a delay line moves by one place
        if not isinstance(node, Input | Flatten) and edges:
            states = node.law.charge.states if isinstance(node, Spiking) else 0
            values += sum(size[e.src] for e in edges) + (1 + 2 * states) * size[name]
        if values:
            out["activation_bytes"][name] = values * itemsize(network)
    return out


def itemsize(network: Network) -> int:
    """Bytes of one value: those of the weights' type, 4 without weights."""
    sizes = [node.weight.itemsize for _, node in network if isinstance(node, Linear | Conv2d)]
    return max(sizes, default=4)


def fanout(network: Network, layer: str) -> Ints:
    """Non-zero weights that each input element of ``layer`` meets, ``(inputs,)``.

    For a convolution: ``sum over (o, ky, kx) of [w != 0]`` where that tap of ``(c, y, x)`` lands on an output.
    """
    node, shapes = network.nodes[layer], network.shapes()
    if isinstance(node, Linear):
        return np.count_nonzero(node.weight, axis=0).astype(np.int64)
    if not isinstance(node, Conv2d):
        raise ValueError(f"{layer}: a {type(node).__name__} has no weights; layers are {layers(network)}")
    c, *size = shapes[network.sources(layer)[0].src]
    taps = (node.weight != 0).reshape(node.groups, -1, *node.weight.shape[1:]).sum(axis=1, dtype=np.int64)
    taps = taps.reshape(c, *node.weight.shape[2:])
    rows, columns = (
        _lands(n, k, m, s, p, d)
        for n, k, m, s, p, d in zip(
            size, node.weight.shape[2:], shapes[layer][1:], node.stride, node.padding, node.dilation, strict=True
        )
    )
    met: Ints = np.einsum("cij,iy,jx->cyx", taps, rows, columns, optimize=True)
    return met.ravel()


class Tally:
    """Adds up events over batches and steps; memory is one integer per input element of each layer."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.spikes: dict[str, int] = {}
        self.active: dict[str, Ints] = {}
        self.graded: set[str] = set()

    def add_spikes(self, node: str, values: npt.NDArray[Any]) -> None:
        """Count the non-zero values of any array of one node."""
        self.spikes[node] = self.spikes.get(node, 0) + int(np.count_nonzero(values))

    def add_input(self, layer: str, values: npt.NDArray[Any]) -> None:
        """What entered ``layer``: ``(..., *shape)``, all leading axes are samples or steps."""
        flat = values.reshape(-1, self._inputs(layer))
        on = flat != 0
        met = np.count_nonzero(on, axis=0)
        self.active[layer] = self.active.get(layer, 0) + met
        if layer not in self.graded and not (flat[on] == 1).all():
            self.graded.add(layer)

    def counts(self, samples: int, steps: int) -> Counts:
        """All events over ``samples x steps``; ``acs`` and ``effective_macs`` of the layers that were added."""
        out: Counts = {e: {n: k * samples * steps for n, k in by.items()} for e, by in work(self.network).items()}
        out["spikes"] = dict(self.spikes)
        for event, graded in (("acs", False), ("effective_macs", True)):
            found = {
                n: int(met @ fanout(self.network, n)) for n, met in self.active.items() if (n in self.graded) == graded
            }
            if found:
                out[event] = found
        return out

    def _inputs(self, layer: str) -> int:
        shapes: dict[str, Shape] = self.network.shapes()
        return math.prod(shapes[self.network.sources(layer)[0].src])


def watch(tally: Tally, values: Mapping[str, npt.NDArray[Any]], inputs: Mapping[str, str]) -> None:
    """Add one batch of outputs: spikes ``<node>.s``, the input ``x``, and layer inputs by the names in ``inputs``."""
    tally.add_spikes(tally.network.input, values["x"])
    for node in tally.network.spiking():
        if f"{node}.s" in values:
            tally.add_spikes(node, values[f"{node}.s"])
    for layer, name in inputs.items():
        if name in values:
            tally.add_input(layer, values[name])


def _ops(node: object, weights: tuple[Any, ...]) -> int:
    if isinstance(node, Spiking):
        return law_ops(node.law)
    if isinstance(node, AvgPool2d):
        return math.prod(node.kernel)  # k - 1 additions and a division
    return int(bool(weights) and weights[1] is not None)


def _lands(size: int, kernel: int, out: int, stride: int, padding: int, dilation: int) -> Ints:
    """``(kernel, size)``: 1 where a tap at that place of the kernel takes that input for some output."""
    table = np.zeros((kernel, size), np.int64)
    for k in range(kernel):
        places = np.arange(out) * stride + k * dilation - padding
        table[k, places[(places >= 0) & (places < size)]] = 1
    return table
