"""What a network makes a dense float runtime do, and what of it the spikes made necessary.

Per sample and step, from the network alone (:func:`work`):

    macs               outputs x weights that meet in one: what a dense Conv or Gemm executes, zeros included
    elementwise_ops    operations of the neuron law, bias adds, pooling, adds where edges meet
    neuron_updates     neurons
    weight_bytes       weights, biases and delays, read once per sample and step (batch 1, nothing stays in a cache)
    activation_bytes   values that a node reads and writes, with states and delay lines; Flatten moves none; a
                       DelayedLinear reads one value of its line for each synapse

From what ran (:class:`Tally`):

    spikes             spikes per spiking node; at the input node, its non-zero values
    acs                non-zero input x non-zero weight, of layers whose input was -1, 0 or 1 in the whole run
    effective_macs     the same of the other layers, whose input takes a multiplication

Padding counts as MACs, as in published tables, but never as an effective operation: it is zero. The split of
effective operations is NeuroBench's (Yik et al. 2025, synaptic operations).
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
    DelayedLinear,
    Flatten,
    Input,
    Integrator,
    Linear,
    Lined,
    Network,
    Output,
    Scale,
    Spiking,
    SumPool2d,
    Weighted,
    Window,
    floats,
)
from export.onnx_names import input_value
from neuro.neuron import Charge, Decay, Law, Leaky, NoLeak
from sim.run import Counts, Run, versions

Array: TypeAlias = npt.NDArray[Any]
Ints: TypeAlias = npt.NDArray[np.int64]
BATCH_BYTES = 256 * 2**20
MAX_BATCH = 256
STATIC = ("macs", "elementwise_ops", "neuron_updates", "weight_bytes", "activation_bytes")


def law_ops(law: Law) -> int:
    """Elementwise operations of one neuron in one step: charge, comparison, reset."""
    return _charge_ops(law.charge) + 1 + (1 if law.reset == "zero" else 2)


def _charge_ops(charge: Charge) -> int:
    if isinstance(charge, NoLeak):
        return 1
    if isinstance(charge, Leaky):
        return 2
    return 4 if isinstance(charge, Decay) else 3 + (charge.rest != 0)


def layers(network: Network) -> list[str]:
    """Names of the nodes with weights, in execution order."""
    return [n for n, node in network if isinstance(node, Weighted | DelayedLinear)]


def work(network: Network) -> Counts:
    """The static events of the module's docstring for one sample and one step."""
    shapes = network.shapes()
    size = {n: math.prod(s) for n, s in shapes.items()}
    out: Counts = {event: {} for event in STATIC}
    for name, node in network:
        edges = network.sources(name)
        if isinstance(node, Weighted | DelayedLinear):
            out["macs"][name] = size[name] * math.prod(node.weight.shape[1:])
        if floats(node):
            delays = node.delays.nbytes if isinstance(node, DelayedLinear) else 0
            out["weight_bytes"][name] = sum(a.nbytes for a in floats(node)) + delays
        ops = (len(edges) - 1) * size[edges[0].src] if edges else 0
        ops += _ops(node) * size[name]
        if isinstance(node, Spiking):
            out["neuron_updates"][name] = size[name]
        if ops:
            out["elementwise_ops"][name] = ops
        depth = max((e.delay for e in network.targets(name)), default=0)
        values = 2 * depth * size[name]  # a delay line moves by one place
        if not isinstance(node, Input | Output | Flatten):
            charge = node.law.charge if isinstance(node, Spiking) else getattr(node, "charge", None)
            states = 0 if charge is None else charge.states
            values += sum(size[e.src] for e in edges) + (1 + 2 * states) * size[name]
            if isinstance(node, Lined):
                values += 2 * node.depth * size[edges[0].src]
            if isinstance(node, DelayedLinear):
                values += node.weight.size
            if isinstance(node, Window):
                values += 2  # its counter
        if values:
            out["activation_bytes"][name] = values * itemsize(network)
    return out


def itemsize(network: Network) -> int:
    """Bytes of one value: those of the weights' type, 4 without weights."""
    sizes = [a.itemsize for node in network.nodes.values() for a in floats(node)]
    return max(sizes, default=4)


def fanout(network: Network, layer: str) -> Ints:
    """Non-zero weights that each input element of ``layer`` meets, ``(inputs,)``.

    For a convolution: the sum over ``(o, ky, kx)`` of ``w != 0`` where that tap meets an output.
    """
    node, shapes = network.nodes[layer], network.shapes()
    if isinstance(node, Linear | DelayedLinear):
        return np.asarray(np.count_nonzero(node.weight, axis=0), np.int64)
    if not isinstance(node, Conv1d | Conv2d):
        raise ValueError(f"{layer}: a {type(node).__name__} has no weights; layers are {layers(network)}")
    c, *size = shapes[network.sources(layer)[0].src]
    out_size = shapes[layer][1:]
    if isinstance(node, Conv1d):
        node, size, out_size = node.conv2d(), [1, *size], (1, *out_size)
    taps = (node.weight != 0).reshape(node.groups, -1, *node.weight.shape[1:]).sum(axis=1, dtype=np.int64)
    taps = taps.reshape(c, *node.weight.shape[2:])
    rows, columns = (
        _lands(n, k, m, s, p, d)
        for n, k, m, s, p, d in zip(
            size,
            node.weight.shape[2:],
            out_size,
            node.stride,
            node.padding,
            node.dilation,
            strict=True,
        )
    )
    met: Array = np.einsum("cij,iy,jx->cyx", taps, rows, columns, optimize=True)
    return met.ravel().astype(np.int64)


class Tally:
    """Adds up events over batches and steps; memory is one integer per input element of each layer."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.spikes: dict[str, int] = {}
        self.active: dict[str, Ints] = {}
        self.graded: set[str] = set()
        self._inputs = {n: input_value(network, n) for n in layers(network)}
        self._spiking = network.spiking()

    def add(self, values: Mapping[str, Array]) -> None:
        """Count values ``(samples, steps, ...)`` by the names of :mod:`export.onnx_names`."""
        named = {self.network.input: "x"} | {n: f"{n}.s" for n in self._spiking}
        for node, name in named.items():
            if name in values:
                self.spikes[node] = self.spikes.get(node, 0) + int(np.count_nonzero(values[name]))
        for layer, name in self._inputs.items():
            if name in values:
                self._add_input(layer, name, values[name])

    def _add_input(self, layer: str, name: str, values: Array) -> None:
        on = values.reshape(values.shape[0] * values.shape[1], -1) != 0
        met = np.count_nonzero(on, axis=0)
        self.active[layer] = self.active[layer] + met if layer in self.active else met
        if not name.endswith(".s") and layer not in self.graded and not np.isin(values, (-1, 0, 1)).all():
            self.graded.add(layer)

    def counts(self, samples: int, steps: int) -> Counts:
        """All events over ``samples x steps``; effective operations only if every layer's input was."""
        out: Counts = {e: {n: k * samples * steps for n, k in by.items()} for e, by in work(self.network).items()}
        out["spikes"] = dict(self.spikes)
        if set(self.active) < set(self._inputs):
            return out
        for layer, met in self.active.items():
            event = "effective_macs" if layer in self.graded else "acs"
            out.setdefault(event, {})[layer] = int(met @ fanout(self.network, layer))
        return out


class Recorder:
    """Takes the values of a run batch by batch, keeps ``y`` and ``probes``, and tallies the rest.

    ``known``: names that may be probes. Errors: ``ValueError`` for an ``x`` that is not of the network's shape,
    or an unknown probe.
    """

    def __init__(
        self,
        network: Network,
        x: Array,
        probes: Sequence[str],
        known: Sequence[str],
        progress: Callable[[float], None] | None,
    ) -> None:
        self.network, self.progress = network, progress
        self.x = _checked(network, x)
        for name in probes:
            if name not in known:
                there = ", ".join(known) or "none; export with watch=True"
                raise ValueError(f"probe '{name}': there are {there}")
        self.samples, self.steps = self.x.shape[:2]
        self.names = ("y", *probes)
        self.tally = Tally(network)
        self.kept: dict[str, Array] = {}

    def add(self, sample: int, step: int, values: Mapping[str, Array]) -> None:
        """``values``: ``(batch, steps, ...)`` by name, from that sample and step on; not kept."""
        self.tally.add(values)
        for name in self.names:
            a = values[name]
            if name not in self.kept:
                self.kept[name] = np.zeros((self.samples, self.steps, *a.shape[2:]), self._type(name, a))
            self.kept[name][sample : sample + len(a), step : step + a.shape[1]] = a
        if self.progress is not None:
            n, t = values["y"].shape[:2]
            self.progress((sample + n * (step + t) / self.steps) / self.samples)

    def run(self, machine: str, start_s: float, *packages: str, notes: tuple[str, ...] = ()) -> Run:
        """What was recorded; ``start_s`` as of ``time.perf_counter``."""
        return Run(
            machine=machine,
            y=self.kept["y"],
            counts=self.tally.counts(self.samples, self.steps),
            samples=self.samples,
            steps=self.steps,
            dt_s=self.network.dt_s,
            probes={n: self.kept[n] for n in self.names[1:]},
            wall_s=time.perf_counter() - start_s,
            notes=notes,
            versions=versions(*packages),
        )

    def _type(self, name: str, a: Array) -> npt.DTypeLike:
        """int8 for spikes; ``y`` is spikes where one spiking node alone leads to it."""
        into = self.network.sources(self.network.output)
        spikes = len(into) == 1 and isinstance(self.network.nodes[into[0].src], Spiking)
        return np.int8 if name.endswith(".s") or (name == "y" and spikes) else a.dtype


def batch_size(network: Network, steps: int = 1) -> int:
    """Samples whose values over ``steps`` stay within :data:`BATCH_BYTES`, 1 to :data:`MAX_BATCH`."""
    values = 3 * sum(math.prod(s) for s in network.shapes().values())  # a value, a state before and after
    picked = sum(node.weight.size for _, node in network if isinstance(node, DelayedLinear))  # an input a synapse
    return max(1, min(MAX_BATCH, BATCH_BYTES // ((values * steps + picked) * itemsize(network))))


def _checked(network: Network, x: Array) -> Array:
    x, shape = np.asarray(x), network.shapes()[network.input]
    if x.shape[2:] != shape or 0 in x.shape:
        sizes = ", ".join(map(str, shape))
        raise ValueError(f"x: {network.name} takes (samples, T, {sizes}), none of them 0, got {x.shape}")
    return x


def _ops(node: object) -> int:
    if isinstance(node, Spiking):
        return law_ops(node.law)
    if isinstance(node, Integrator):
        return _charge_ops(node.charge) + (node.offset != 0)
    if isinstance(node, AvgPool2d | SumPool2d):
        return math.prod(node.kernel) - isinstance(node, SumPool2d)  # k - 1 additions, and the division of a mean
    if isinstance(node, Scale):
        return 1
    return int(isinstance(node, Weighted | DelayedLinear) and node.bias is not None)


def _lands(size: int, kernel: int, out: int, stride: int, padding: int, dilation: int) -> Ints:
    """``(kernel, size)``: 1 where a tap at that place of the kernel takes that input for some output."""
    table = np.zeros((kernel, size), np.int64)
    for k in range(kernel):
        places = np.arange(out) * stride + k * dilation - padding
        table[k, places[(places >= 0) & (places < size)]] = 1
    return table
