"""A network trained down to one step, in the terms of machines that run many: exact rewrites for T = 1.

    whole_input     x / L enters as the whole number x:            W' = W / L            messages of 8 bits for L = 255
    read_voltage    logits W s are the voltage of neurons that never fire, for a chip that sends spikes only
    cut_readout     the network up to its last population, and the layer after it, which the host computes
    gates           whole weights and ``h > V`` as somas of an SFQ circuit: any threshold between two whole numbers

From v = 0 one step sees neither leak nor reset, so both are the machine's to choose. Mean pooling before a layer goes
into its weights, ``W / k`` on the k pixels each: spikes stay 0 and 1, one synaptic event each through an enlarged
fan-out, and no machine sees a quarter. Source: Chowdhury, Rathi, Roy 2021 (arXiv 2110.05929).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from export.network import Edge, Float, Linear, Network, Spiking, Weighted
from export.program import MappingError
from hardware.sfq import Technology, load_technology
from neuro.neuron import Law, NoLeak, Rate

Cut: TypeAlias = tuple[Network, Linear]

LEAKED = 0.12
"""Share of its pulses that a soma may have lost when the last one of a step comes: they arrive some 25 ps apart, and it
forgets in 200 ps. A soma's threshold is half way between one pulse too few and enough of them with that loss."""


def whole_input(network: Network, levels: int = 255) -> Network:
    """The same for inputs that come as whole numbers 0 to ``levels`` instead of as shares of 1.

    Errors: :class:`MappingError` where the input goes into something without weights.
    """
    nodes = dict(network.nodes)
    for edge in network.targets(network.input):
        node = nodes[edge.dst]
        if not isinstance(node, Weighted):
            raise MappingError(
                f"{edge.dst}: takes the input and has no weights to divide by {levels}; put a layer there"
            )
        nodes[edge.dst] = replace(node, weight=(node.weight / levels).astype(node.weight.dtype))
    return _checked(replace(network, nodes=nodes))


def read_voltage(network: Network, name: str = "readout") -> Network:
    """The last layer feeds neurons ``name`` whose threshold no sum of its weights reaches: probe ``<name>.v``.

    Errors: :class:`MappingError` where the output is no layer behind spikes.
    """
    _, layer = _last(network)
    node: Any = network.nodes[layer]
    weight: Float = node.weight
    bias = 0.0 if node.bias is None else np.abs(node.bias)
    most = float((np.abs(weight).reshape(len(weight), -1).sum(axis=1) + bias).max())
    law = Law(NoLeak(), threshold=1.01 * most + 1e-6, reset="zero", fires=">")
    nodes = dict(network.nodes) | {name: Spiking(law)}
    edges = [Edge(name, network.output) if e.dst == network.output else e for e in network.edges]
    return _checked(replace(network, nodes=nodes, edges=[*edges, Edge(layer, name)]))


def cut_readout(network: Network) -> Cut:
    """``(network of populations, readout)``: logits are ``readout.weight @ spikes (+ bias)``, done by the host.

    Errors: :class:`MappingError` where the output is no Linear right behind a population.
    """
    before, layer = _last(network)
    node = network.nodes[layer]
    if not isinstance(node, Linear) or not isinstance(network.nodes[before], Spiking):
        raise MappingError(f"{layer}: a readout is a Linear right behind a population; between is {before}")
    nodes = {n: v for n, v in network.nodes.items() if n != layer}
    edges = [Edge(before, network.output) if e.dst == network.output else e for e in network.edges if e.dst != layer]
    return _checked(replace(network, nodes=nodes, edges=edges)), node


def gates(
    network: Network, *, technology: str = "sfq_own", leaked: float = LEAKED, step_s: float | None = None
) -> Network:
    """Populations as somas: weights stay, the law becomes the circuit's own with the decisions of ``h > V``.

        m = floor(V) + 1 (> V);   threshold ((m - 1) + m (1 - leaked)) / 2,   kept exp(-step/tau(K)),   reset "subtract"

    h is a whole number, so every V from m - 1 up to m decides alike. All rows of a layer have K branches
    (``neuro.branches``). ``step_s``: default the technology's shortest. For :func:`export.to_deck.to_deck`.
    Errors: :class:`MappingError` naming the population, the rule and the fix.
    """
    tech = load_technology(technology)
    step = tech.numbers["step_min_s"] if step_s is None else step_s
    nodes = dict(network.nodes)
    for name in network.spiking():
        source = network.nodes[network.sources(name)[0].src]
        if not isinstance(source, Linear):
            raise MappingError(f"{name}: a soma is fed by one Linear of whole weights, not by {source}; make it dense")
        nodes[name] = Spiking(_soma_law(name, network.law(name), source.weight, tech, leaked, step))
    return _checked(replace(network, nodes=nodes, dt_s=step))


def _soma_law(name: str, law: Law, weight: Float, tech: Technology, leaked: float, step: float) -> Law:
    branches = np.abs(weight).sum(axis=1)
    if (weight != np.rint(weight)).any() or (branches != branches[0]).any():
        raise MappingError(f"{name}: needs whole weights and as many branches in every row; train with neuro.branches")
    soma = tech.soma(int(branches[0]))
    fires = math.floor(law.threshold) + 1 if law.fires == ">" else math.ceil(law.threshold)
    least, most = soma.threshold(tech.bias_high_A), soma.threshold(tech.bias_low_A)
    threshold = max((fires - 1 + fires * (1.0 - leaked)) / 2, least)  # where no bias reaches further down
    if not fires - 1 < threshold < fires or threshold > most:
        raise MappingError(
            f"{name}: fires from {fires} pulses on; a soma of {soma.branches} branches has thresholds {least:.2f} to "
            f"{most:.2f}; train with another number of branches"
        )
    return Law(Rate(1.0 - math.exp(-step / soma.tau_s), decay_input=False), threshold, reset="subtract")


def _last(network: Network) -> tuple[str, str]:
    """What feeds the layer before the output, and the layer."""
    last = network.sources(network.output)
    layer = last[0].src
    if len(last) != 1 or not isinstance(network.nodes[layer], Weighted) or len(network.sources(layer)) != 1:
        names = ", ".join(e.src for e in last)
        raise MappingError(f"{network.output}: comes from '{names}'; a readout is one layer with weights behind spikes")
    return network.sources(layer)[0].src, layer


def _checked(network: Network) -> Network:
    network.check()
    return network
