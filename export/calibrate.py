"""The largest current of each population while a lowered float network runs a batch: a bound for the integers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from export.lower import Float, Lowered
from export.network import Network, Spiking


def peaks(network: Network, lowered: Lowered, x: npt.NDArray[Any]) -> dict[str, float]:
    """``x (samples, T, *input shape)`` -> largest ``|u|`` per spiking node, in the network's unit of potential.

    u is the canonical current without the constant input, ``u = a u + k sum(W x)``. Errors: ``ValueError`` for a shape.
    """
    shapes = network.shapes()
    if x.ndim < 2 or x.shape[2:] != shapes[network.input] or not x.size:
        raise ValueError(f"calibration must be (samples, T, {shapes[network.input]}) and not empty, got {x.shape}")
    samples, steps = x.shape[:2]
    past: dict[str, list[Float]] = {network.input: []}
    found: dict[str, float] = {}
    spiking = network.spiking()
    u = {n: np.zeros((samples, *shapes[n])) for n in spiking}
    state: dict[str, Any] = {}
    for t in range(steps):
        past[network.input].append(x[:, t].astype(np.float64))
        for n in spiking:
            a = _sum(n, t, lowered, past, shapes, samples)
            law = _law(network, n)
            keep, _, gain, _ = law.charge.canonical()
            u[n] = keep * u[n] + gain * a
            found[n] = max(found.get(n, 0.0), float(np.abs(u[n]).max()))
            constant = lowered.bias[n]
            total = a if constant is None else a + constant
            s, state[n] = law.step(state[n] if n in state else law.initial(total), total)
            past.setdefault(n, []).append(s)
    return found


def _sum(
    name: str, t: int, lowered: Lowered, past: Mapping[str, list[Float]], shapes: Mapping[str, Any], samples: int
) -> Float:
    total = np.zeros((samples, *shapes[name]))
    for link in (part for x in lowered.links if x.dst == name for part in x.bins()):
        if t >= link.delay:
            total = total + link.apply(past[link.src][t - link.delay], shapes[name])
    return total


def _law(network: Network, name: str) -> Any:
    node = network.nodes[name]
    if not isinstance(node, Spiking):
        raise TypeError(f"{name} is no spiking node")
    return node.law
