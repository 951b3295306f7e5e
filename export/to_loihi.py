"""A Network as a program for a Loihi-class chip: lowered, quantised, timed and placed, with every loss told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from export.calibrate import Recording, count_error, record
from export.loihi import (
    MAX_DELAY,
    ConvEdge,
    DenseEdge,
    Edge,
    InputNode,
    Int,
    Lif,
    LoihiProgram,
    Node,
    SparseEdge,
    effective,
)
from export.loihi_check import MAX_MESSAGE_BITS
from export.lower import Link, Lowered, as_matrix, lower
from export.network import AvgPool2d, Conv1d, Conv2d, Loss, Network, Scale, Shape, Spiking, SumPool2d
from export.place import layout, place
from export.program import MappingError
from export.quantize import Quantized, quantize
from hardware.loihi import load_profile

__all__ = ["ConvEdge", "DenseEdge", "InputNode", "Lif", "LoihiProgram", "SparseEdge", "assemble", "compile_loihi"]


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
    law = _law(network, name)
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


def assemble(
    nodes: Mapping[str, Node],
    edges: Sequence[Edge],
    output: str,
    *,
    dt_s: float = 1e-3,
    profile: str = "loihi1",
    chips: int | None = None,
    placement: Mapping[str, npt.NDArray[np.int32]] | None = None,
    name: str = "network",
    losses: Sequence[Loss] = (),
    source_hash: str = "",
    scale: Mapping[str, float] | None = None,
    law: Literal["lava", "hw"] = "lava",
    late: bool = True,
) -> LoihiProgram:
    """A checked program from nodes and connections written by hand: weights put on their grid, cores given.

    Populations with ``start`` 0 that a spike can reach start as many steps late as they are connections from the
    input; with ``late=False`` they keep it, and start with the first chip step as lava's do. Weights off the grid of
    their sign mode are stored as the chip would and named in ``losses``; those of convolutions only under ``law="hw"``,
    under "lava" they stay as they are. Errors: ``ProgramError``, ``CapacityError``.
    """
    placed = dict(nodes)
    for n, depth in _depth(nodes, edges).items() if late else ():
        node = placed[n]
        if not isinstance(node, InputNode) and node.start == 0:
            placed[n] = replace(node, start=depth)
    kept, lost = [], list(losses)
    for e in edges:
        legal, found = _legal(e, law)
        kept.append(legal)
        lost += found
    program = LoihiProgram(
        placed, kept, output, dt_s, profile, dict(placement or _anywhere(placed)), {}, tuple(lost), name, source_hash,
        dict(scale or {}), law,
    )  # fmt: skip
    program.check()
    chip = load_profile(profile)
    made = place(placed, kept, chip, chips) if placement is None else layout(placed, kept, placement, chip, chips)
    return replace(program, placement=made.placement, usage=made.usage)


def _legal(e: Edge, law: str) -> tuple[Edge, list[Loss]]:
    """The connection with the weights that run, and what that changed."""
    if e.w.size == 0:
        return e, []
    w = effective(e.w, e.sign_mode, e.num_weight_bits)
    size = float(np.abs(w.astype(np.int64) - e.w).max())
    if isinstance(e, ConvEdge) and law == "lava":
        lost = []
        if size:
            what = f"weights of the convolution from {e.src} run as they are, a chip would store others, largest change"
            lost.append(Loss(e.dst, what, size))
        if e.weight_exp:
            what = f"weight_exp of the convolution from {e.src} is ignored, as lava's Conv does; law='hw' applies it"
            lost.append(Loss(e.dst, what, float(e.weight_exp)))
        return e, lost
    if not size:
        return (e if e.w.dtype == np.int16 else replace(e, w=w)), []
    what = f"weights from {e.src} put on the {e.sign_mode} grid, largest change in weight units"
    return replace(e, w=w), [Loss(e.dst, what, size)]


def _anywhere(nodes: Mapping[str, Node]) -> dict[str, npt.NDArray[np.int32]]:
    return {n: np.zeros(int(np.prod(node.shape)), np.int32) for n, node in nodes.items()}


def _depth(nodes: Mapping[str, Node], edges: Sequence[Edge]) -> dict[str, int]:
    """Fewest connections from the input to each population that it reaches."""
    depth = {n: 0 for n, node in nodes.items() if isinstance(node, InputNode)}
    ring, k = list(depth), 0
    while ring:
        k += 1
        ring = list(dict.fromkeys(e.dst for e in edges if e.src in ring and e.dst in nodes and e.dst not in depth))
        depth |= dict.fromkeys(ring, k)
    return depth


def starts(network: Network, lowered: Lowered) -> dict[str, int]:
    """First chip step of each population: the longest way from the input, a connection one step, a delay one back.

    A spike of network step k leaves at ``k + start[src]``, and is integrated at ``k + delay + start[dst]``. The chip
    takes at least one step from one to the other: ``start[dst] >= start[src] + 1 - delay``.
    """
    start = {network.input: 0} | dict.fromkeys(network.spiking(), 1)
    for _ in range(len(start) + 1):
        late = [x for x in lowered.links if start[x.dst] < start[x.src] + 1 - x.delay]
        if not late:
            return start
        for x in late:
            start[x.dst] = max(start[x.dst], start[x.src] + 1 - x.delay)
    loop = late[0]
    raise MappingError(
        f"{loop.src} -> {loop.dst}: a loop has more connections than steps of delay, and each connection takes a chip "
        "step; give a loop over n populations a delay of n steps in all"
    )


def timed(link: Link, start: Mapping[str, int], shapes: Mapping[str, Shape]) -> Link:
    """The link as one the chip can delay: a convolution that must wait becomes a matrix."""
    wait, each = waits(link, start)
    longest = wait if each is None else int(each.max())
    if longest > MAX_DELAY:
        raise MappingError(
            f"{link.src} -> {link.dst}: needs a delay of {longest} steps, a synapse has at most {MAX_DELAY}; shorten "
            "the delay or the other path, or relay the spikes through a population"
        )
    return as_matrix(link, shapes[link.src], shapes[link.dst]) if wait and link.conv else link


def waits(link: Link, start: Mapping[str, int]) -> tuple[int, Int | None]:
    """Steps that a connection waits on the chip, and those of each synapse where they differ."""
    ahead = start[link.dst] - start[link.src] - 1
    return link.delay + ahead, None if link.delays is None else link.delays + ahead


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
        if _law(network, name).reset == "subtract" and not options.soft_reset:
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


def _law(network: Network, name: str) -> Any:
    node = network.nodes[name]
    if not isinstance(node, Spiking):
        raise MappingError(f"{name}: is no spiking node")
    return node.law


def _node(made: Quantized, network: Network, name: str, start: int) -> Lif:
    shape = network.shapes()[name]
    n = int(np.prod(shape))

    def full(a: Any) -> Any:
        return None if a is None else np.ascontiguousarray(np.broadcast_to(a, (n,)))

    reset = _law(network, name).reset
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
        if (ahead := start[x.dst] - start[x.src] - 1) > 0
    ]


def _extension(network: Network, name: str) -> list[Loss]:
    if _law(network, name).reset == "zero":
        return []
    return [Loss(name, "reset 'subtract' is an extension of this engine, not portable to lava-nc", 1.0)]
