"""A lowered float network on a batch: its currents bound the integers, its spike counts judge a scale.

u = a u + k sum(W x)      canonical current, without the constant input
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from export.lower import Float, Link, Lowered
from export.network import Network, Shape, Window
from export.quantize import Quantized
from neuro.chip import kept
from neuro.neuron import Decay, Law


@dataclass(frozen=True, eq=False)
class Recording:
    """``peaks``: largest ``|u|`` per population, in the network's unit; ``spikes``: (samples, ...) of every step."""

    peaks: dict[str, float]
    spikes: Mapping[str, list[Float]]
    shapes: Mapping[str, Shape]

    def counts(self, name: str) -> Float:
        """Spikes of each neuron in each sample."""
        return np.sum(self.spikes[name], axis=0)

    def current(self, name: str, t: int, links: list[Link]) -> Float:
        """What links of one delay each (``Link.bins``) bring to ``name`` in step t."""
        samples = len(next(iter(self.spikes.values()))[0])
        total = np.zeros((samples, *self.shapes[name]))
        for link in links:
            if t >= link.delay:
                total = total + link.apply(self.spikes[link.src][t - link.delay], self.shapes[name])
        return total


def record(network: Network, lowered: Lowered, x: npt.NDArray[Any]) -> Recording:
    """Run ``x (samples, T, *input shape)`` through the float law. Errors: ``ValueError`` for a shape."""
    shapes = network.shapes()
    if x.ndim < 2 or x.shape[2:] != shapes[network.input] or not x.size:
        raise ValueError(f"calibration must be (samples, T, {shapes[network.input]}) and not empty, got {x.shape}")
    spiking = network.spiking()
    senders = [n for n, node in network if n in spiking or isinstance(node, Window)]
    past: dict[str, list[Float]] = {network.input: [], **{n: [] for n in senders}}
    recording = Recording(dict.fromkeys(spiking, 0.0), past, shapes)
    links = {n: [part for k in lowered.links if k.dst == n for part in k.bins()] for n in senders}
    u = {n: np.zeros((len(x), *shapes[n])) for n in spiking}
    state: dict[str, Any] = {}
    for t in range(x.shape[1]):
        past[network.input].append(x[:, t].astype(np.float64))
        for n in senders:
            a, node = recording.current(n, t, links[n]), network.nodes[n]
            if isinstance(node, Window):
                past[n].append(a if t < node.stop else np.zeros_like(a))
                continue
            law = network.law(n)
            keep, _, gain, _ = law.charge.canonical()
            u[n] = keep * u[n] + gain * a
            recording.peaks[n] = max(recording.peaks[n], float(np.abs(u[n]).max()))
            constant = lowered.bias[n]
            total = a if constant is None else a + constant
            s, state[n] = law.step(state[n] if n in state else law.initial(total), total)
            past[n].append(s)
    return recording


def count_error(recording: Recording, name: str, links: list[Link], made: Quantized, reset: str) -> float:
    """Sum of ``|spike count - float's|`` of population ``name`` with the integers of ``made`` and the float's input.

    The integers run in the float law, in units of ``vth``: with w = u + bias, ``w = a w + W x + (1 - a) bias`` from
    ``w0 = u0 + bias``, spikes above ``vth``, a soft reset by ``subtract``. Truncation of the chip's products, below
    1/64 of a weight unit, is left out.
    """
    a, b = kept(made.du, made.dv)
    soft = reset == "subtract"
    law: Any = Law(Decay(a, b), float(made.subtract if soft else made.vth), "subtract" if soft else "zero", fires=">")
    lower = law.threshold - made.vth
    shape = recording.shapes[name]
    bias = _per_neuron(None if made.bias is None else made.bias.astype(np.float64) * 2**made.bias_exp / 64, shape)
    first = _per_neuron(None if made.u0 is None else made.u0 / 64, shape) + bias
    whole = [
        replace(k, weight=w.astype(np.float64) * 2**made.weight_exp) for k, w in zip(links, made.weights, strict=True)
    ]
    parts = [part for k in whole for part in k.bins()]
    counts = recording.counts(name)
    state = (np.zeros_like(counts), np.zeros_like(counts) + first)
    error = -counts
    for t in range(len(recording.spikes[name])):
        x = recording.current(name, t, parts) + (1.0 - a) * bias
        s, state = law.step(state, x, lambda over: law.compare(over + lower))
        error = error + s
    return float(np.abs(error).sum())


def _per_neuron(a: Float | None, shape: Shape) -> Float:
    return np.zeros(shape) if a is None else np.broadcast_to(a, (int(np.prod(shape)),)).reshape(shape)
