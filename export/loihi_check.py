"""The number ranges of an integer program, each refusal naming the node, the value, the rule and the fix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from export.loihi import (
    MAX_DELAY,
    POPULATIONS,
    ConvEdge,
    Delta,
    DenseEdge,
    Edge,
    Graded,
    InputNode,
    Int,
    Lif,
    LoihiProgram,
    ProgramError,
    ResonateFire,
    SigmaDelta,
    SparseEdge,
    Ternary,
    effective,
)

MAX_MESSAGE_BITS = 24
"""lava's graded data path."""
STATE_MAX = 2**23 - 1
"""Largest magnitude of a 24-bit state variable."""


def check(program: LoihiProgram) -> None:
    """See :meth:`LoihiProgram.check`."""
    inputs = [n for n, node in program.nodes.items() if isinstance(node, InputNode)]
    if len(inputs) != 1:
        raise ProgramError(f"{program.name}: needs exactly one input node, has {inputs}")
    if program.output not in program.populations:
        raise ProgramError(f"{program.name}: output '{program.output}' must be one of {', '.join(program.populations)}")
    if not (math.isfinite(program.dt_s) and program.dt_s > 0):
        raise ProgramError(f"{program.name}: dt_s must be positive seconds, got {program.dt_s}")
    if program.law not in ("lava", "hw"):
        raise ProgramError(f"{program.name}: law must be 'lava' or 'hw', got {program.law!r}")
    for name, node in program.nodes.items():
        if not name or "/" in name:
            raise ProgramError(f"node name {name!r}: must be non-empty and without '/'")
        if not node.shape or min(node.shape) < 1:
            raise ProgramError(f"{name}: shape must have positive sizes, got {node.shape}")
        _node(name, node)
        place = program.placement.get(name)
        if place is None or place.shape != (program.size(name),):
            raise ProgramError(f"{name}: placement must give a core to each of its {program.size(name)} neurons")
    for edge in program.edges:
        _edge(program, edge)


def _node(name: str, node: Any) -> None:
    if not isinstance(node, (InputNode, *POPULATIONS)):
        raise ProgramError(f"{name}: {node!r} is no population of a chip")
    _within(name, "start", node.start, 0, 2**31 - 1, "count steps from 0")
    if isinstance(node, InputNode):
        _within(name, "message_bits", node.message_bits, 0, MAX_MESSAGE_BITS, "quantise the input coarser")
    elif isinstance(node, Lif | Ternary):
        _lif(name, node)
    elif isinstance(node, SigmaDelta | Delta):
        _within(name, "spike_exp", node.spike_exp, 0, 7, "scale the weights instead")
        _within(name, "state_exp", node.state_exp, 0, 7, "scale the weights instead")
        _within(name, "vth", node.vth, 0, STATE_MAX >> node.spike_exp + node.state_exp, "scale it down")
        if isinstance(node, SigmaDelta):
            _array(name, "bias", node.bias, node.shape, STATE_MAX >> node.spike_exp + node.state_exp)
            if node.activation not in ("relu", "unit"):
                raise ProgramError(f"{name}: activation must be 'relu' or 'unit', got {node.activation!r}")
    elif isinstance(node, ResonateFire):
        _within(name, "decay_bits", node.decay_bits, 1, 12, "the chip decays by 12 bits")
        _within(name, "sin_decay", abs(node.sin_decay), 0, 4096, "it is a fraction of 2^decay_bits")
        _within(name, "cos_decay", abs(node.cos_decay), 0, 4096, "it is a fraction of 2^decay_bits")
        _within(name, "vth", node.vth, 0, STATE_MAX, "scale it down")
        _within(name, "state_exp", node.state_exp, 0, 7, "scale the weights instead")
    elif isinstance(node, Graded):
        _within(name, "vth", node.vth, 0, STATE_MAX, "scale it down")


def _lif(name: str, node: Lif | Ternary) -> None:
    _each(name, "du", node.du, node.shape, -1, 4095, "-1 means no current decay")
    _each(name, "dv", node.dv, node.shape, 0, 4096, "the chip decays by dv / 4096")
    _within(name, "bias_exp", node.bias_exp, -13, 7, "shift the mantissa")
    _array(name, "bias", node.bias, node.shape, 4095, -4096)
    _array(name, "u0", node.u0, node.shape, STATE_MAX)
    _array(name, "v0", node.v0, node.shape, STATE_MAX)
    if isinstance(node, Ternary):
        _each(name, "vth_hi", node.vth_hi, node.shape, -131071, 131071, "choose another scale")
        _each(name, "vth_lo", node.vth_lo, node.shape, -131071, 131071, "choose another scale")
        return
    _each(name, "vth", node.vth, node.shape, 1, 131072, "choose another scale")
    if node.reset not in ("zero", "subtract"):
        raise ProgramError(f"{name}: reset must be 'zero' or 'subtract', got {node.reset!r}")
    if node.reset == "subtract":
        _within(name, "subtract", node.subtract, 1, 131072, "it is the threshold that a spike takes off")
    _within(name, "reset_interval", node.reset_interval, 0, 2**31 - 1, "0 means never")
    _within(name, "reset_offset", node.reset_offset, 0, 2**31 - 1, "count steps from 1")


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
    if edge.port not in ("real", "imag") or (edge.port == "imag" and not isinstance(dst, ResonateFire)):
        raise ProgramError(f"{owner}: port {edge.port!r}: 'imag' is for resonate-and-fire, all else takes 'real'")
    _within(owner, "num_weight_bits", edge.num_weight_bits, 1, 8, "the chip stores 8 bits")
    _within(owner, "num_message_bits", edge.num_message_bits, 0, MAX_MESSAGE_BITS, "0 is binary")
    _within(owner, "weight_exp", edge.weight_exp, -8, 7, "choose another scale")
    if src.graded and not isinstance(src, InputNode) and not edge.num_message_bits:
        raise ProgramError(
            f"{owner}: {edge.src} sends signed integers ({src.kind}), a binary synapse would lose sign and size; set "
            "num_message_bits to 1 and more"
        )
    low, high = edge.delay_range()
    _within(owner, "delay", low, 0, MAX_DELAY, "relay through a population")
    _within(owner, "delay", high, 0, MAX_DELAY, "relay through a population")
    if low + 1 + src.start < dst.start:
        first = low + 1 + src.start
        raise ProgramError(f"{owner}: arrives in step {first}, the target starts at {dst.start}; start it earlier")
    if isinstance(edge, ConvEdge):
        _conv(owner, edge, src.shape, dst.shape)
        if program.law == "lava":
            return
    elif isinstance(edge, DenseEdge):
        want = (math.prod(dst.shape), math.prod(src.shape))
        if edge.w.shape != want:
            raise ProgramError(f"{owner}: weights must have shape {want}, got {edge.w.shape}")
        if edge.delays is not None and edge.delays.shape != want:
            raise ProgramError(f"{owner}: delays must have shape {want}, got {edge.delays.shape}")
    else:
        _sparse(owner, edge, math.prod(src.shape), math.prod(dst.shape))
    if (effective(edge.w, edge.sign_mode, edge.num_weight_bits) != edge.w).any():
        raise ProgramError(f"{owner}: weights are not on the {edge.sign_mode} grid; build it with assemble()")


def _sparse(owner: str, edge: SparseEdge, src: int, dst: int) -> None:
    n, pointer, target = len(edge.w), edge.pointer, edge.target
    if pointer.shape != (src + 1,) or pointer[0] != 0 or pointer[-1] != n or (np.diff(pointer) < 0).any():
        raise ProgramError(f"{owner}: pointer must rise from 0 to {n} over {src + 1} entries")
    for what, array in (("w", edge.w), ("target", target), ("delays", edge.delays)):
        if array is not None and array.shape != (n,):
            raise ProgramError(f"{owner}: {what} must have shape ({n},), one per synapse, got {array.shape}")
    if n and not (target.min() >= 0 and target.max() < dst):
        raise ProgramError(f"{owner}: targets must be in [0, {dst - 1}], got {target.min()} to {target.max()}")
    if not edge.sorted and len(np.unique(edge.of() * dst + target)) < n:
        raise ProgramError(f"{owner}: two synapses join the same pair of neurons; add their weights")


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


def _each(owner: str, what: str, value: int | Int, shape: tuple[int, ...], low: int, high: int, fix: str) -> None:
    """One integer, or one per neuron."""
    if isinstance(value, np.ndarray):
        _shape(owner, what, value, shape)
    for v in (int(np.min(value)), int(np.max(value))):
        _within(owner, what, v, low, high, fix)


def _array(
    owner: str, what: str, value: Int | None, shape: tuple[int, ...], most: int, least: int | None = None
) -> None:
    if value is not None:
        _shape(owner, what, value, shape)
        for v in (int(value.min()), int(value.max())):
            _within(owner, what, v, -most if least is None else least, most, "scale it down")


def _shape(owner: str, what: str, value: Int, shape: tuple[int, ...]) -> None:
    if value.shape != (math.prod(shape),):
        raise ProgramError(f"{owner}: {what} must have shape ({math.prod(shape)},), got {value.shape}")
    if not np.issubdtype(value.dtype, np.integer):
        raise ProgramError(f"{owner}: {what} must hold integers, got {value.dtype}; quantise it")


def _within(owner: str, what: str, value: int, low: int, high: int, fix: str) -> None:
    if not low <= value <= high:
        raise ProgramError(f"{owner}: {what} must be in [{low}, {high}], got {value}; {fix}")
