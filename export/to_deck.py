"""A network as an SFQ deck: drivers, splitter trees, synapses, somas, mergers, drawn cell by cell.

    input i        V -> JTL -> JTL, one line for pulses and, where it has negative weights, one for anti-pulses
    fan-out f      a tree of f - 1 SPLIT (SPLITN), a JTL behind each output
    weight +-k     k branches SYNP (SYNM) into the summing node of the soma
    soma           SOMA with its own bias current -> JTL
    relay          a tree of MERGE -> JTL, for neurons that every single pulse fires
    hidden, w < 0  SPLIT -> INV -> JTLN, once per presynaptic line; input lines too where only pulses are driven
    hidden lines   wait in JTLs for the deepest tree of their layer; input lines are driven later (sfq_timing)
    output         -> JTL -> 3 ohm

Source: docs/sfq.md 3.5 and 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.network import Network
from export.program import MappingError
from export.sfq_map import Plan, Reader, check_inverter, integers, plan
from export.sfq_netlist import Line, Netlist
from export.sfq_program import SfqProgram, Wiring
from export.sfq_timing import LEAD_S, Delays, drive_delays
from hardware.sfq import Technology, load_technology

STEPS = 31
"""Steps of the pattern in a deck written without ``x``: every input fires in each, 0.93 ns at 30 ps."""

BOTH, SINGLE = (1, -1), (1,)
"""Polarities of input lines: pulses and anti-pulses, or pulses alone."""

__all__ = ["BOTH", "SINGLE", "SfqProgram", "to_deck"]


def to_deck(
    network: Network,
    *,
    x: npt.ArrayLike | None = None,
    technology: str | Path = "sfq_own",
    step_s: float | None = None,
    start_s: Sequence[float] | None = None,
    polarities: tuple[int, ...] = BOTH,
    lead_s: float | None = LEAD_S,
) -> SfqProgram:
    """Export a chain of Linear (small integer weights) and Spiking (reset "subtract") nodes as a deck.

    ``x (T, inputs..)`` of 0 and 1: the pattern that stands in the deck's sources; None: every input in every one of
    :data:`STEPS` steps. ``step_s``: seconds of a step, default the network's ``dt_s``, or 30 ps where that is
    longer than 1 ns. ``start_s``: when each input's first step begins, default 50 ps. ``polarities`` in which inputs
    come from outside: :data:`BOTH`, or :data:`SINGLE`, and an inverter on the chip makes the anti-pulses. ``lead_s``:
    by how much the anti-pulses of a step come to the first layer before its pulses; None sends all together.
    Errors: :class:`MappingError` naming node, rule and fix; ``CapacityError`` for too many junctions.
    """
    return draw(network, integers, x, technology, step_s, start_s, polarities, lead_s)


def draw(
    network: Network,
    read: Reader,
    x: npt.ArrayLike | None,
    technology: str | Path,
    step_s: float | None,
    start_s: Sequence[float] | None,
    polarities: tuple[int, ...],
    lead_s: float | None,
) -> SfqProgram:
    """What :func:`to_deck` does, with another way to read weights."""
    tech = load_technology(technology)
    drawing = plan(network, tech, step_s, read)
    inputs = math.prod(drawing.input_shape)
    pattern = np.ones((STEPS, inputs)) if x is None else _pattern(x, drawing)
    starts = _starts(start_s, inputs, tech)
    net = Netlist(tech, polarities, _delays(drawing, tech, polarities, lead_s))
    lines: list[Line] | None = None
    for k, layer in enumerate(drawing.layers, start=1):
        lines = net.layer(k, layer, lines, last=k == len(drawing.layers))
    net.check()
    wiring = _wiring(network, drawing, net, tech, len(pattern), starts)
    return SfqProgram(net.text(wiring, pattern), wiring)


def _wiring(
    network: Network, drawing: Plan, net: Netlist, tech: Technology, steps: int, starts: tuple[float, ...]
) -> Wiring:
    """What the deck's comment line says: the drawing's names beside the network's."""
    owners = {"I": drawing.input_node} | {f"L{k}": layer.node for k, layer in enumerate(drawing.layers, start=1)}
    return Wiring(
        network=network.name,
        technology=tech.name,
        input_node=drawing.input_node,
        input_shape=drawing.input_shape,
        output_node=drawing.layers[-1].node,
        step_s=drawing.step_s,
        steps=steps,
        start_s=starts,
        peak_V=tech.numbers["pulse_peak_V"],
        rise_s=tech.numbers["pulse_rise_s"],
        sources=net.sources,
        neurons=net.neurons,
        latency_s=net.latency_s,
        synapses=net.synapses,
        owners=owners,
        usage=net.usage(),
        losses=(*network.losses, *drawing.losses, *net.losses()),
        delay_s={name: net.delays[line] for name, line in net.sources.items() if net.delays.get(line)},
    )


def _delays(drawing: Plan, tech: Technology, polarities: tuple[int, ...], lead_s: float | None) -> Delays:
    """Of every line of the first layer. Errors: ``MappingError`` for polarities or a lead that cannot be."""
    if polarities not in (BOTH, SINGLE):
        raise MappingError(f"{drawing.input_node}: polarities {polarities}; inputs come as {BOTH} or as {SINGLE}")
    if lead_s is not None and not 0.0 <= lead_s <= drawing.step_s / 2:
        raise MappingError(
            f"{drawing.input_node}: lead_s {lead_s:g} is outside 0 to half a step, {drawing.step_s / 2:g} s; "
            "give None to send anti-pulses and pulses together"
        )
    if polarities == SINGLE:
        if any(w < 0 for n in drawing.layers[0].neurons for w in n.weights):
            check_inverter(drawing.input_node, drawing.step_s, tech)
        return {}
    return drive_delays(np.array([n.weights for n in drawing.layers[0].neurons]), tech, lead_s)


def _pattern(x: npt.ArrayLike, drawing: Plan) -> npt.NDArray[np.float64]:
    pattern = np.asarray(x, dtype=np.float64)
    if pattern.shape[1:] != drawing.input_shape or not len(pattern) or not np.isin(pattern, (0.0, 1.0)).all():
        raise MappingError(
            f"{drawing.input_node}: x must be (T, {', '.join(map(str, drawing.input_shape))}) of 0 and 1, one pulse or "
            f"none a step, got shape {pattern.shape}; encode it first (neuro.encode.rate)"
        )
    return pattern.reshape(len(pattern), -1)


def _starts(start_s: Sequence[float] | None, inputs: int, tech: Technology) -> tuple[float, ...]:
    earliest = tech.numbers["start_s"]
    starts = (earliest,) * inputs if start_s is None else tuple(float(t) for t in start_s)
    if len(starts) != inputs or not all(earliest <= t < 1e-6 for t in starts):
        raise MappingError(
            f"start_s: needs {inputs} times from {earliest:g} s (biases have settled) to 1e-6 s, got {start_s}"
        )
    return starts
