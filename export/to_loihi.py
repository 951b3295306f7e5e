"""A Network as a program for a Loihi-class chip: lowered, quantised, timed and placed, with every loss told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from export.assemble import assemble
from export.calibrate import Recording, count_error, record
from export.ends import windows
from export.gate import gate
from export.loihi import ConvEdge, DenseEdge, Edge, InputNode, Lif, LoihiProgram, Node
from export.loihi_check import MAX_MESSAGE_BITS
from export.lower import Link, Lowered, lower
from export.network import AvgPool2d, Conv1d, Conv2d, Loss, Network, Scale, SumPool2d
from export.program import MappingError
from export.quantize import Quantized, quantize
from export.schedule import starts, timed, waits
from hardware.loihi import load_profile


@dataclass(frozen=True)
class Options:
    """How :func:`compile_loihi` was asked to do it."""

    profile: str
    graded_bits: int
    soft_reset: bool
    scale_search: int


def compile_loihi(
    network: Network,
    *,
    profile: str = "loihi1",
    graded_bits: int = 0,
    calibration: npt.NDArray[Any] | None = None,
    scale_search: int = 0,
    soft_reset: bool = False,
    chips: int | None = None,
) -> LoihiProgram:
    """The network in the integers of ``profile``; always the same for the same network and options.

    ``graded_bits``: the input carries signed integers of that magnitude instead of 0 and 1 (0, or up to 24).
    ``calibration (samples, T, ...)``: bounds the currents by 1.5 times what this batch makes, instead of by the worst
    input there could be. ``scale_search=K`` takes, population by population, the scale among ``s_max 2^(-k/8)``,
    k = 0..K, whose spike counts on the calibration batch are nearest the float network's; 0 takes the largest.
    ``soft_reset=True`` lets reset "subtract" through as an extension of this engine. ``chips``: most chips to use.
    Errors: ``MappingError`` (node, rule, fix), ``CapacityError`` (layer, limit, need, have).
    """
    options = Options(profile, graded_bits, soft_reset, scale_search)
    lowered = lower(network)
    _refuse(network, options, calibration)
    start, shapes = starts(network, lowered), network.shapes()
    lowered = replace(lowered, links=[timed(x, start, shapes) for x in lowered.links])
    recording = None if calibration is None else record(network, lowered, calibration)
    nodes: dict[str, Node] = {network.input: InputNode(shapes[network.input], graded_bits)}
    edges: list[Edge] = []
    losses, scale = [*network.losses, *_composed(network, lowered, options)], {}
    for name in network.spiking():
        links = [x for x in lowered.links if x.dst == name]
        made = _quantized(network, name, links, lowered.bias[name], recording, options)
        nodes[name] = _node(made, network, name, start[name])
        edges += [_edge(x, made, k, start, options, network.input) for k, x in enumerate(links)]
        losses += made.losses + _padding(links, start) + _extension(network, name)
        scale[name] = made.scale
    for name in windows(network):
        links = [x for x in lowered.links if x.dst == name]
        more, into, lost = gate(network, name, links, start, graded_bits)
        nodes |= more
        edges += into
        losses += lost + _padding(links, start)
    last = network.sources(network.output)[0].src
    return assemble(
        nodes, edges, last, dt_s=network.dt_s, profile=profile, chips=chips, name=network.name, losses=losses,
        source_hash=network.hash(), scale=scale,
    )  # fmt: skip


def _quantized(
    network: Network, name: str, links: list[Link], bias: Any, recording: Recording | None, options: Options
) -> Quantized:
    """The analytic scale, or the best of a search (the larger of two equal ones)."""
    payload = 2**options.graded_bits - 1 if options.graded_bits else 1
    payloads = [payload if x.src == network.input else 1 for x in links]
    peak = None if recording is None else recording.peaks[name]
    law = network.law(name)
    best = quantize(name, law, links, bias, payloads, peak)
    if recording is None or not options.scale_search:
        return best
    least = count_error(recording, name, links, best, law.reset)
    for k in range(1, options.scale_search + 1):
        try:
            made = quantize(name, law, links, bias, payloads, peak, 2.0 ** (-k / 8))
        except MappingError:  # too coarse for weights or threshold: no candidate
            break
        error = count_error(recording, name, links, made, law.reset)
        if error < least:
            best, least = made, error
    return best


def _refuse(network: Network, options: Options, calibration: npt.NDArray[Any] | None) -> None:
    load_profile(options.profile)
    if not 0 <= options.graded_bits <= MAX_MESSAGE_BITS:
        raise MappingError(f"{network.input}: graded_bits must be 0 to {MAX_MESSAGE_BITS}, got {options.graded_bits}")
    if options.scale_search < 0 or (options.scale_search and calibration is None):
        raise MappingError(
            f"{network.name}: scale_search={options.scale_search} counts scales to try on a calibration batch; give "
            "calibration=(samples, T, ...) and 1 or more, or leave it 0"
        )
    if calibration is not None:
        _messages(network.input, calibration, options.graded_bits)
    for name in network.spiking():
        if network.law(name).reset == "subtract" and not options.soft_reset:
            raise MappingError(
                f"{name}: reset 'subtract' is in no stock lava process; train with reset 'zero' "
                "(neuro.methods.qat.hard_reset makes such a copy to fine-tune), or pass soft_reset=True to run it as "
                "an extension of this engine, not portable to lava-nc"
            )


def _messages(name: str, x: npt.NDArray[Any], bits: int) -> None:
    low, high = (-(2**bits) + 1, 2**bits - 1) if bits else (0, 1)
    if not np.isfinite(x).all() or (x != np.rint(x)).any() or x.min() < low or x.max() > high:
        raise MappingError(
            f"{name}: a synapse takes {'spikes, 0 and 1' if not bits else f'whole messages of {bits} bits'}, the "
            f"calibration batch holds {x.min():g} to {x.max():g}; encode it as spikes (neuro.encode), or scale it to "
            "integers and compile with the graded_bits that hold them"
        )


def _node(made: Quantized, network: Network, name: str, start: int) -> Lif:
    shape = network.shapes()[name]
    n = int(np.prod(shape))

    def full(a: Any) -> Any:
        return None if a is None else np.ascontiguousarray(np.broadcast_to(a, (n,)))

    reset = network.law(name).reset
    return Lif(
        shape, made.du, made.dv, made.vth, full(made.bias), made.bias_exp, reset,
        made.subtract if reset == "subtract" else 0, full(made.u0), start,
    )  # fmt: skip


def _edge(link: Link, made: Quantized, k: int, start: Mapping[str, int], options: Options, source: str) -> Edge:
    w, sign = made.weights[k], made.sign_modes[k]
    bits = options.graded_bits if link.src == source else 0
    if link.conv:
        return ConvEdge(
            link.src, link.dst, w, sign, link.stride, link.padding, link.dilation, link.groups, num_message_bits=bits
        )
    wait, each = waits(link, start)
    return DenseEdge(
        link.src, link.dst, w, sign, made.weight_exp, num_message_bits=bits, delay=wait,
        delays=None if each is None else each.astype(np.int16),
    )  # fmt: skip


def _composed(network: Network, lowered: Lowered, options: Options) -> list[Loss]:
    """What has no counterpart on the chip and became something else, exactly."""
    losses = []
    if options.graded_bits:
        what = "input as signed integers, not spikes: bits of a message, which binary synapses do not take"
        losses.append(Loss(network.input, what, float(options.graded_bits)))
    for name, node in network:
        if isinstance(node, AvgPool2d | SumPool2d | Scale):
            kind = "scaling" if isinstance(node, Scale) else "pooling"
            losses.append(Loss(name, f"{kind} composed with the weights beside it, error of the composition", 0.0))
    for link in lowered.links:
        if isinstance(network.nodes[link.label], Conv1d | Conv2d) and not link.conv:
            kernel: Any = network.nodes[link.label]
            more = float((link.weight != 0).sum() / max(1, (kernel.weight != 0).sum()))
            losses.append(Loss(link.label, "convolution runs as a matrix, stored weights for each of the kernel", more))
    return losses


def _padding(links: list[Link], start: Mapping[str, int]) -> list[Loss]:
    return [
        Loss(x.dst, f"spikes of {x.src} wait for a longer path, steps of delay", float(ahead))
        for x in links
        if (ahead := waits(x, start)[0] - x.delay) > 0
    ]


def _extension(network: Network, name: str) -> list[Loss]:
    if network.law(name).reset == "zero":
        return []
    return [Loss(name, "reset 'subtract' is an extension of this engine, not portable to lava-nc", 1.0)]
