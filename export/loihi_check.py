"""The number ranges of an integer program, each refusal naming the node, the value, the rule and the fix."""

from __future__ import annotations

import math

import numpy as np

from export.loihi import MAX_DELAY, ConvEdge, Edge, InputNode, Lif, LoihiProgram, ProgramError, effective

MAX_MESSAGE_BITS = 24
"""lava's graded data path."""


def check(program: LoihiProgram) -> None:
    """See :meth:`LoihiProgram.check`."""
    inputs = [n for n, node in program.nodes.items() if isinstance(node, InputNode)]
    if len(inputs) != 1:
        raise ProgramError(f"{program.name}: needs exactly one input node, has {inputs}")
    if not isinstance(program.nodes.get(program.output), Lif):
        raise ProgramError(f"{program.name}: output '{program.output}' must be one of {', '.join(program.lifs)}")
    if not (math.isfinite(program.dt_s) and program.dt_s > 0):
        raise ProgramError(f"{program.name}: dt_s must be positive seconds, got {program.dt_s}")
    for name, node in program.nodes.items():
        if not name or "/" in name:
            raise ProgramError(f"node name {name!r}: must be non-empty and without '/'")
        if not node.shape or min(node.shape) < 1:
            raise ProgramError(f"{name}: shape must have positive sizes, got {node.shape}")
        if isinstance(node, InputNode):
            _within(name, "message_bits", node.message_bits, 0, MAX_MESSAGE_BITS, "quantise the input coarser")
        else:
            _lif(name, node)
        place = program.placement.get(name)
        if place is None or place.shape != (program.size(name),):
            raise ProgramError(f"{name}: placement must give a core to each of its {program.size(name)} neurons")
    for edge in program.edges:
        _edge(program, edge)


def _lif(name: str, node: Lif) -> None:
    _within(name, "vth", node.vth, 1, 131071, "choose another scale")
    _within(name, "du", node.du, -1, 4095, "-1 means no current decay")
    _within(name, "dv", node.dv, 0, 4095, "the chip decays by dv / 4096")
    _within(name, "bias_exp", node.bias_exp, 0, 7, "shift the mantissa")
    _within(name, "start", node.start, 0, 2**31 - 1, "count steps from 0")
    n = math.prod(node.shape)
    for what, array, low, high in (("bias", node.bias, -4096, 4095), ("u0", node.u0, -(2**23) + 1, 2**23 - 1)):
        if array is None:
            continue
        if array.shape != (n,):
            raise ProgramError(f"{name}: {what} must have shape ({n},), got {array.shape}")
        for value in (int(array.min()), int(array.max())):
            _within(name, what, value, low, high, "scale it down")
    if node.reset not in ("zero", "subtract"):
        raise ProgramError(f"{name}: reset must be 'zero' or 'subtract', got {node.reset!r}")
    if node.reset == "subtract":
        _within(name, "subtract", node.subtract, 1, 131072, "it is the threshold that a spike takes off")


def _edge(program: LoihiProgram, edge: Edge) -> None:
    owner = f"{edge.src} -> {edge.dst}"
    for end in (edge.src, edge.dst):
        if end not in program.nodes:
            raise ProgramError(f"{owner}: no node '{end}'; nodes are {', '.join(program.nodes)}")
    src, dst = program.nodes[edge.src], program.nodes[edge.dst]
    if isinstance(dst, InputNode):
        raise ProgramError(f"{owner}: an input node takes no connection")
    if edge.sign_mode not in ("mixed", "excitatory", "inhibitory"):
        raise ProgramError(f"{owner}: sign_mode must be mixed, excitatory or inhibitory, got {edge.sign_mode!r}")
    _within(owner, "num_weight_bits", edge.num_weight_bits, 1, 8, "the chip stores 8 bits")
    _within(owner, "num_message_bits", edge.num_message_bits, 0, MAX_MESSAGE_BITS, "0 is binary")
    _within(owner, "weight_exp", edge.weight_exp, -8, 7, "choose another scale")
    low, high = edge.delay_range()
    _within(owner, "delay", low, 0, MAX_DELAY, "relay through a population")
    _within(owner, "delay", high, 0, MAX_DELAY, "relay through a population")
    if low + 1 + src.start < dst.start:
        first = low + 1 + src.start
        raise ProgramError(f"{owner}: arrives in step {first}, the target starts at {dst.start}; start it earlier")
    if isinstance(edge, ConvEdge):
        _conv(owner, edge, src.shape, dst.shape)
    else:
        want = (math.prod(dst.shape), math.prod(src.shape))
        if edge.w.shape != want:
            raise ProgramError(f"{owner}: weights must have shape {want}, got {edge.w.shape}")
        if edge.delays is not None and edge.delays.shape != want:
            raise ProgramError(f"{owner}: delays must have shape {want}, got {edge.delays.shape}")
        if (effective(edge.w, edge.sign_mode, edge.num_weight_bits) != edge.w).any():
            raise ProgramError(f"{owner}: weights are not on the {edge.sign_mode} grid; build it with assemble()")


def _conv(owner: str, edge: ConvEdge, src: tuple[int, ...], dst: tuple[int, ...]) -> None:
    if edge.delay:
        raise ProgramError(f"{owner}: a conv connection has no delay; lower it to dense")
    if edge.w.ndim != 4 or edge.groups < 1 or edge.w.shape[0] % edge.groups:
        shape = f"{edge.w.shape} with {edge.groups} groups"
        raise ProgramError(f"{owner}: kernel {shape} is not (out, in / groups, kh, kw)")
    if min(edge.stride) < 1 or min(edge.dilation) < 1 or min(edge.padding) < 0:
        geometry = f"stride {edge.stride}, dilation {edge.dilation}, padding {edge.padding}"
        raise ProgramError(f"{owner}: {geometry} is not legal; strides and dilations are 1 and more")
    if len(src) != 3 or src[0] != edge.w.shape[1] * edge.groups or edge.out_shape(src) != dst:
        raise ProgramError(f"{owner}: kernel {edge.w.shape} does not take {src} to {dst}")
    _within(owner, "weight", int(np.abs(edge.w.astype(np.int64)).max()), 0, 256, "quantise to 8 bits")


def _within(owner: str, what: str, value: int, low: int, high: int, fix: str) -> None:
    if not low <= value <= high:
        raise ProgramError(f"{owner}: {what} must be in [{low}, {high}], got {value}; {fix}")
