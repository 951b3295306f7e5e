"""NeuroBench's metrics of a network and what it did, under NeuroBench's names and by its definitions (version 2.3.0).

    ParameterCount, Footprint     number and bytes of weights and biases
    ConnectionSparsity            zeros / weights over Linear, DelayedLinear, Conv1d and Conv2d, no biases
    ActivationSparsity            zeros / outputs of the spiking nodes, over all steps and samples
    SynapticOperations            per layer and step: the layer with w != 0 for weights, x != 0 for input and no bias,
                                  outputs added up; an accumulate (AC) where all that enters the layer in that step, of
                                  the whole batch, is -1, 0 or 1, else a multiply-accumulate (MAC). Dense: all ones.
                                  Padding never counts. By sample.
    MembraneUpdates               every neuron in step 0, later those whose stored potential changed; by sample

On networks of these ``Effective_ACs`` is the chip's count of synaptic events where no weight became 0.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from export.lower import convolve
from export.network import Conv1d, Delay, DelayedLinear, Input, Integrator, Linear, Network, Output, Weighted, Window
from sim.numpy_engine import apply
from sim.run import Run

Array = npt.NDArray[Any]


def metrics(network: Network, x: Array, run: Run) -> dict[str, Any]:
    """All of them; ``MembraneUpdates`` only where the run has the probes ``"<node>.v"``."""
    out = {
        "ParameterCount": parameter_count(network),
        "Footprint": footprint(network),
        "ConnectionSparsity": connection_sparsity(network),
        "ActivationSparsity": activation_sparsity(network, run),
        "SynapticOperations": synaptic_operations(network, x, run),
    }
    known = all(f"{n}.v" in run.probes for n in network.spiking())
    return out | ({"MembraneUpdates": membrane_updates(network, run)} if known else {})


def parameter_count(network: Network) -> int:
    """Weights and biases."""
    return sum(a.size for a in _parameters(network))


def footprint(network: Network) -> int:
    """Bytes of weights and biases; neurons have no parameters of their own here."""
    return sum(a.nbytes for a in _parameters(network))


def connection_sparsity(network: Network) -> float:
    """Share of weights that are 0; 0 for a network without weights."""
    weights = [node.weight for _, node in network if isinstance(node, Weighted | DelayedLinear)]
    zeros = sum(w.size - int(np.count_nonzero(w)) for w in weights)
    return round(zeros / sum(w.size for w in weights), 4) if weights else 0.0


def activation_sparsity(network: Network, run: Run) -> float:
    """Share of the spiking nodes' outputs that are 0. Errors: ``ValueError`` for a run without their probes."""
    spikes = [_probe(run, f"{n}.s") for n in network.spiking()]
    total, fired = sum(s.size for s in spikes), sum(int(np.count_nonzero(s)) for s in spikes)
    return (total - fired) / total if total else 0.0


def synaptic_operations(network: Network, x: Array, run: Run) -> dict[str, float]:
    """``{"Effective_MACs", "Effective_ACs", "Dense"}`` by sample. Errors: as :func:`activation_sparsity`."""
    value: dict[str, Array] = {}
    ops = dict.fromkeys(("Effective_MACs", "Effective_ACs", "Dense"), 0)
    samples, steps = run.samples, run.steps
    order = network.order()
    for name in network.spiking():  # known without running: they end every delayed loop
        value[name] = _probe(run, f"{name}.s")
    for name in order:
        node = network.nodes[name]
        if isinstance(node, Input):
            value[name] = np.asarray(x)
        if name in value or isinstance(node, Output | Integrator):
            continue
        into = _into(network, name, value)
        if isinstance(node, Delay):
            value[name] = _late(into, node.steps)
            continue
        if isinstance(node, Window):
            value[name] = np.concatenate([into[:, : node.stop], np.zeros_like(into[:, node.stop :])], axis=1)
            continue
        if isinstance(node, Weighted | DelayedLinear):
            call = np.moveaxis(into, 1, 0).reshape(steps, samples, *into.shape[2:])
            plain = np.isin(call, (-1, 0, 1)).reshape(steps, -1).all(axis=1)
            ops["Effective_ACs"] += _operations(node, call[plain] != 0)
            ops["Effective_MACs"] += _operations(node, call[~plain] != 0)
            ones = np.ones((1, 1, *into.shape[2:]))
            ops["Dense"] += samples * steps * _operations(node, ones, dense=True)
        if isinstance(node, DelayedLinear):
            value[name] = _late_sums(node, into)
            continue
        value[name] = apply(node, into.reshape(samples * steps, *into.shape[2:]))
        value[name] = value[name].reshape(samples, steps, *value[name].shape[1:])
    return {k: n / samples for k, n in ops.items()}


def membrane_updates(network: Network, run: Run) -> float:
    """By sample; from the probes ``"<node>.v"`` after each step. Errors: ``ValueError`` for a run without them."""
    total = 0
    for name in network.spiking():
        v = _probe(run, f"{name}.v")
        total += v.shape[0] * math.prod(v.shape[2:]) + int(np.count_nonzero(v[:, 1:] != v[:, :-1]))
    return total / run.samples


def _operations(node: Weighted | DelayedLinear, x: Array, *, dense: bool = False) -> int:
    """Outputs of the layer with ones for its weights, or those that are not 0, added up over ``x (T, n, ...)``."""
    seen = x.sum(axis=(0, 1), dtype=np.float64)  # the layer is linear: once for all steps
    if isinstance(node, Conv1d):
        node, seen = node.conv2d(), seen[:, None]
    w = np.ones_like(node.weight, np.float64) if dense else (node.weight != 0).astype(np.float64)
    if isinstance(node, Linear | DelayedLinear):
        return int((w @ seen).sum())
    return int(convolve(seen[None], w, node.stride, node.padding, node.dilation, node.groups).sum())


def _into(network: Network, name: str, value: dict[str, Array]) -> Array:
    """What enters a node: the sum of its sources, each as many steps late as its edge says."""
    total: Any = 0
    for e in network.sources(name):
        if e.src not in value:
            raise ValueError(
                f"{e.src}: what it sends to {name} does not follow from the spikes of this step; put a Spiking node "
                "behind it"
            )
        total = total + _late(value[e.src], e.delay)
    return np.asarray(total)


def _late(x: Array, steps: Any) -> Array:
    """``x (samples, T, ...)`` as many steps later as ``steps`` says, of all or of each element; 0 before."""
    when = np.arange(x.shape[1]).reshape(-1, *[1] * (x.ndim - 2)) - np.asarray(steps)
    when = np.broadcast_to(when, x.shape[1:])[None]
    return np.where(when >= 0, np.take_along_axis(x, np.maximum(when, 0), axis=1), 0)


def _late_sums(node: DelayedLinear, x: Array) -> Array:
    """``x (samples, T, in) -> (samples, T, out)``."""
    total = sum(_late(x, d) @ node.masked(d).T for d in node.waits)
    return np.asarray(total if node.bias is None else total + node.bias)


def _probe(run: Run, name: str) -> Array:
    if name not in run.probes:
        raise ValueError(f"the run has no probe '{name}'; run it with probes that have it")
    return run.probes[name]


def _parameters(network: Network) -> list[Array]:
    found = [getattr(node, k, None) for _, node in network for k in ("weight", "bias")]
    return [a for a in found if isinstance(a, np.ndarray)]
