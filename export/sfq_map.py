"""A network in terms of SFQ cells: signed branches into somas, thresholds as bias currents, relays as mergers.

    law       v <- b v + sum w x,      fires at v >= V,  then v <- v - V            b, V of the network
    circuit   v <- b' v + sum w x,     fires at v >= V', then v <- v - K            b' = exp(-step/tau(K))

K is the number of branches of the soma, ``sum |w|``: a slip takes a flux quantum out of each. V' is free, it is the
bias current. It is chosen so that the constant input at which the neuron begins to fire is the law's:
``V' = V (1 - b) / (1 - b')``. What then differs, in leak, reset and rounding of the bias, is listed as losses.
Source: docs/sfq.md 3.3, 3.5, 4.1, and the measured rows of the technology's table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from export.network import Flatten, Float, Input, Linear, Loss, Network, Output, Spiking
from export.program import MappingError
from hardware.sfq import Soma, Technology
from neuro.neuron import Law

MAX_WEIGHT = 4
LEAK_BAND = (0.4, 2.5)
"""Accepted ratio of the law's leak a step to the circuit's; outside it, no bias current makes them alike."""

MAX_COPIES = 1024
"""Leaves of a splitter tree: ten levels, 87 ps, three steps late. Own choice."""

LONGEST_STEP_S = 1e-9
"""A longer ``dt_s`` is not a time of this technology, and is scaled."""


@dataclass(frozen=True)
class Neuron:
    """``weights`` from every source; ``bias_A`` of its soma, or None for a relay (a tree of mergers).

    ``pass_A``: weight current of the stochastic synapse from each source, 0 for none; empty: there are none.
    """

    weights: tuple[int, ...]
    bias_A: float | None
    pass_A: tuple[float, ...] = ()


@dataclass(frozen=True)
class Layer:
    """The spiking node and its neurons."""

    node: str
    neurons: tuple[Neuron, ...]


@dataclass(frozen=True)
class Plan:
    """What the deck writer draws. ``step_s``: seconds of a step in the circuit."""

    layers: tuple[Layer, ...]
    input_node: str
    input_shape: tuple[int, ...]
    step_s: float
    losses: tuple[Loss, ...]


@dataclass(frozen=True)
class Drawn:
    """A Linear's weights as branches ``(neurons, sources)``; weight currents of stochastic synapses, or none."""

    weights: npt.NDArray[np.int64]
    pass_A: npt.NDArray[np.float64] | None = None
    losses: tuple[Loss, ...] = ()


Reader: TypeAlias = Callable[[str, Network, Technology], Drawn]
"""How the weights of a Linear node become branches: :func:`integers`, or ``sfq_stochastic.probabilities``."""


def plan(network: Network, technology: Technology, step_s: float | None, read: Reader) -> Plan:
    """Map a chain of Linear and Spiking nodes. Errors: :class:`MappingError` naming node, rule and fix."""
    network.check()
    pairs = _chain(network)
    step, losses = _step(network, technology, step_s)
    layers = []
    for k, (linear, spiking) in enumerate(pairs):
        drawn = read(linear, network, technology)
        law = _law(spiking, network)
        layer, lost = _layer(spiking, drawn, law, step, technology)
        layers.append(layer)
        losses += [*drawn.losses, *lost]
        before = pairs[k - 1][1] if k else network.input
        _fan_out(before, drawn.weights)
        if k and (drawn.weights < 0).any():
            check_inverter(before, step, technology)
    shape = network.shapes()[network.input]
    return Plan(tuple(layers), network.input, shape, step, tuple(losses))


def _chain(network: Network) -> list[tuple[str, str]]:
    """``(linear, spiking)`` names from input to output."""
    pairs: list[tuple[str, str]] = []
    before, waiting = network.input, ""
    for name in network.order()[1:]:
        node, edges = network.nodes[name], network.sources(name)
        if len(edges) != 1 or edges[0].src != before or edges[0].delay:
            raise MappingError(f"{name}: an SFQ deck is a chain without delays and branches; remove the extra edges")
        if isinstance(node, Linear) and not waiting:
            waiting = name
        elif isinstance(node, Spiking) and waiting:
            pairs.append((waiting, name))
            waiting = ""
        elif not isinstance(node, Flatten | Output | Input) or (waiting and isinstance(node, Output)):
            raise _refused(name, node, waiting)
        before = name
    if not pairs:
        raise MappingError(f"{network.name}: has no spiking layer; an SFQ deck needs Linear followed by Spiking")
    return pairs


def _refused(name: str, node: object, waiting: str) -> MappingError:
    kind = getattr(node, "kind", type(node).__name__)
    if kind in ("conv2d", "avgpool2d"):
        return MappingError(f"{name}: {kind} has no cells; lower it to dense first (Flatten, Linear with its matrix)")
    if kind in ("delay", "delayed_linear", "window"):
        return MappingError(
            f"{name}: {kind} needs a memory of past steps, and a pulse line holds some ps of a step; train the layer "
            "as a Linear without delays, or run this network on loihi, onnx or brian"
        )
    if waiting:
        return MappingError(f"{name}: {kind} follows {waiting}; a Linear must be followed by its Spiking node")
    return MappingError(f"{name}: {kind} without a Linear before it; pulses enter a soma through weights only")


def _step(network: Network, technology: Technology, step_s: float | None) -> tuple[float, list[Loss]]:
    shortest = technology.numbers["step_min_s"]
    asked = network.dt_s if step_s is None else step_s
    if step_s is None and asked > LONGEST_STEP_S:
        what = f"a step of {asked:g} s becomes {shortest * 1e12:g} ps: machine time is shorter by a factor of"
        return shortest, [Loss(network.input, what, asked / shortest)]
    if not shortest * (1 - 1e-9) <= asked <= LONGEST_STEP_S:
        raise MappingError(
            f"{network.input}: a pulse each {asked:g} s is outside {shortest:g} to {LONGEST_STEP_S:g} s "
            f"({1e-9 / shortest:.1f} GHz at most); give to_deck(step_s=...) or train with another dt_s"
        )
    return asked, [] if asked == network.dt_s else [Loss(network.input, "step changed, s", asked - network.dt_s)]


def integers(name: str, network: Network, technology: Technology) -> Drawn:
    """Whole weights as so many branches each. Errors: :class:`MappingError` naming the weight and the fix."""
    del technology
    node = network.nodes[name]
    if not isinstance(node, Linear):
        raise MappingError(f"{name}: expected a Linear node, got {node}")
    weight: Float = node.weight
    rounded = np.rint(weight).astype(np.int64)
    if node.bias is not None and node.bias.any():
        raise MappingError(f"{name}: has a bias; a soma's constant current is its threshold: put it into Law.threshold")
    if (rounded != weight).any():
        i, j = np.argwhere(rounded != weight)[0]
        raise MappingError(
            f"{name}: weight[{i}, {j}] is {weight[i, j]:g}, and a weight is a number of branches; train with "
            "straight-through rounding (neuro.models.xor.ternary), or scale weights and threshold to integers"
        )
    if np.abs(rounded).max() > MAX_WEIGHT:
        i, j = np.argwhere(np.abs(rounded) > MAX_WEIGHT)[0]
        raise MappingError(f"{name}: weight[{i}, {j}] is {rounded[i, j]}; at most {MAX_WEIGHT} branches a connection")
    silent = np.flatnonzero(~rounded.any(axis=1))
    if len(silent):
        raise MappingError(f"{name}: row {silent[0]} has no weight but 0, its neuron never fires; prune the neuron")
    return Drawn(rounded)


@dataclass(frozen=True)
class _Normal:
    """A law in pulses: kept share ``b`` a step, threshold ``V`` in pulses of weight 1."""

    kept: float
    threshold: float
    strict: bool


def _law(name: str, network: Network) -> _Normal:
    node = network.nodes[name]
    law: Law = node.law if isinstance(node, Spiking) else Law()
    if law.reset != "subtract":
        raise MappingError(f"{name}: reset '{law.reset}'; a slip removes flux, it does not clear: use 'subtract'")
    current, kept, gain, rest = law.charge.canonical()
    if current != 0.0 or rest != 0.0:
        raise MappingError(f"{name}: {law.charge} has a synaptic current or a rest; use Rate(.., decay_input=False)")
    return _Normal(kept, law.threshold / gain, law.fires == ">")


def _fan_out(name: str, weights: npt.NDArray[np.int64]) -> None:
    copies = np.abs(weights).sum(axis=0)
    if copies.max() > MAX_COPIES:
        raise MappingError(
            f"{name}[{copies.argmax()}]: drives {copies.max()} branches, a tree has at most {MAX_COPIES}; prune "
            "weights, or give the layer two neurons of that kind"
        )


def check_inverter(name: str, step: float, technology: Technology) -> None:
    """A line of ``name`` goes through an inverter. Errors: :class:`MappingError` for a pulse each step too fast."""
    fastest = technology.numbers["inverter_max_Hz"]
    if step * fastest < 1.0 - 1e-9:
        raise MappingError(
            f"{name}: negative weights behind need an inverter, which follows {fastest / 1e9:g} GHz, and a step of "
            f"{step * 1e12:g} ps is {1e-9 / step:.1f} GHz; give step_s={1.0 / fastest:.3g}, or train without negative "
            "weights there (inputs may come in both polarities)"
        )


def _layer(name: str, drawn: Drawn, law: _Normal, step: float, technology: Technology) -> tuple[Layer, list[Loss]]:
    neurons, losses = [], []
    for index, row in enumerate(drawn.weights):
        owner = f"{name}[{index}]"
        passes = () if drawn.pass_A is None else tuple(float(i) for i in drawn.pass_A[index])
        if _relays(row, law):
            fan_in = int((row > 0).sum())
            neurons.append(Neuron(tuple(int(w > 0) for w in row), None, passes))
            if fan_in > 1:
                losses.append(Loss(owner, "relay: no charge is kept of pulses that coincide, of inputs", float(fan_in)))
            continue
        bias, lost = _bias(owner, row, law, step, technology)
        neurons.append(Neuron(tuple(int(w) for w in row), bias, passes))
        losses += lost
    return Layer(name, tuple(neurons)), _gathered(name, losses)


def _gathered(name: str, losses: list[Loss]) -> list[Loss]:
    """One entry for the neurons of a layer that lose the same: the largest of them."""
    worst: dict[str, float] = {}
    for loss in losses:
        if abs(loss.size) >= abs(worst.get(loss.what, 0.0)):
            worst[loss.what] = loss.size
    return [Loss(name, what, size) for what, size in worst.items()]


def _relays(row: npt.NDArray[np.int64], law: _Normal) -> bool:
    """Whether any single pulse fires the neuron, so that a merger does its work."""
    least = float(row[row != 0].min())
    return least > 0 and (least > law.threshold if law.strict else least >= law.threshold)


def _bias(
    owner: str, row: npt.NDArray[np.int64], law: _Normal, step: float, technology: Technology
) -> tuple[float, list[Loss]]:
    branches, most = int(np.abs(row).sum()), int(technology.numbers["branches_max"])
    if branches > most:
        raise MappingError(f"{owner}: fan-in of {branches} branches (sum of |weights|), at most {most}; prune it")
    soma = technology.soma(branches)
    kept = math.exp(-step / soma.tau_s)
    ratio = (1.0 - law.kept) / (1.0 - kept)
    if not LEAK_BAND[0] <= ratio <= LEAK_BAND[1]:
        raise MappingError(
            f"{owner}: keeps {law.kept:.4g} a step and the loop {kept:.4g} (tau {soma.tau_s * 1e12:.0f} ps, step "
            f"{step * 1e12:g} ps); train with Rate({1 - kept:.2f}, decay_input=False), or choose step_s"
        )
    grid = technology.numbers["soma_bias_step_A"]
    bias = round(soma.bias_A(law.threshold * ratio) / grid) * grid
    low, high = technology.bias_low_A, technology.bias_high_A
    if not low - grid / 2 <= bias <= high + grid / 2:
        least, greatest = (soma.threshold(b) / ratio for b in (high, low))
        raise MappingError(
            f"{owner}: threshold {law.threshold:g} pulses needs a bias of {bias * 1e6:.0f} uA, outside "
            f"{low * 1e6:.0f} to {high * 1e6:.0f}; with {branches} branches use {least:.2f} to {greatest:.2f}"
        )
    return bias, _losses(owner, row, law, soma, soma.threshold(bias) / ratio, step, bias)


def _losses(
    owner: str, row: npt.NDArray[np.int64], law: _Normal, soma: Soma, realised: float, step: float, bias: float
) -> list[Loss]:
    tau = -step / math.log(law.kept) if 0.0 < law.kept < 1.0 else 0.0
    at = f"threshold {law.threshold:.3g} pulses at {bias * 1e6:.0f} uA"
    losses = [
        Loss(owner, f"{at}: realised more by", realised - law.threshold),
        Loss(owner, f"leak time {tau * 1e12:.0f} ps: realised longer by, ps", (soma.tau_s - tau) * 1e12),
    ]
    if soma.branches != law.threshold:
        what = f"reset of {law.threshold:.3g} pulses: a slip takes one from each branch, more by"
        losses.append(Loss(owner, what, soma.branches - law.threshold))
    down = float(-row[row < 0].sum()) / (1.0 - math.exp(-step / soma.tau_s))
    floor = (soma.ic_A + bias) / soma.pulse_A
    if down > floor:
        losses.append(Loss(owner, f"inhibition to -{down:.1f} pulses: the soma slips back near", -floor))
    return losses
