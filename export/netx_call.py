"""The arguments that a netx file's loader must be called with, and what it does differently in spite of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.loihi import Delta, Int, Lif, LoihiProgram, SigmaDelta
from export.network import Loss
from export.netx_layers import BIAS_EXP, SPIKE_EXP, shifted
from export.netx_plan import Step
from export.program import MappingError


@dataclass(frozen=True, eq=False)
class Arguments:
    """What ``lava.lib.dl.netx.hdf5.Network`` must be called with to run the file as the program runs here.

    ``reset_offset``: also where the program has no ``reset_interval``: a caller who resets between samples needs it.
    """

    input_message_bits: int = 0
    reset_interval: int | None = None
    reset_offset: int = 0
    spike_exp: int = SPIKE_EXP

    def __str__(self) -> str:
        reset = (
            f", reset_interval={self.reset_interval}, reset_offset={self.reset_offset}" if self.reset_interval else ""
        )
        spike = f", spike_exp={self.spike_exp}" if self.spike_exp != SPIKE_EXP else ""
        return f"Network(net_config=..., input_message_bits={self.input_message_bits}{reset}{spike})"


def arguments(program: LoihiProgram, steps: Sequence[Step]) -> Arguments:
    """The loader's arguments. Errors: ``MappingError`` where one argument would need two values."""
    bits = program.into(steps[0].name)[0].num_message_bits if not isinstance(steps[0].node, Delta) else 0
    exps = {s.node.spike_exp for s in steps if isinstance(s.node, SigmaDelta | Delta)}
    if len(exps) > 1:
        raise MappingError(f"{program.name}: spike_exp differs between layers, the loader has one; use the same in all")
    spike_exp = exps.pop() if exps else SPIKE_EXP
    lifs = [(k, s.name, s.node) for k, s in enumerate(steps) if isinstance(s.node, Lif)]
    periods = {n.reset_interval for _, _, n in lifs}
    if periods <= {0}:
        return Arguments(bits, None, _offset(steps) or 0, spike_exp)
    period = max(periods)
    offsets = {(n.reset_offset - 1 - k - _shift(steps)) % period for k, _, n in lifs}
    if len(periods) > 1 or len(offsets) > 1:
        raise MappingError(
            f"{program.name}: the loader resets every LIF layer with one interval, each layer one step after the one "
            f"before; here are intervals {sorted(periods)} and first offsets {sorted(offsets)}: use one of each"
        )
    return Arguments(bits, period, offsets.pop(), spike_exp)


def _shift(steps: Sequence[Step]) -> int:
    """Chip steps by which the loader is ahead: its delta encoder reads the input without a connection."""
    return int(isinstance(steps[0].node, Delta))


def _biased(step: Step) -> bool:
    node = step.node
    return isinstance(node, Lif | SigmaDelta) and node.bias is not None and bool(node.bias.any())


def _offset(steps: Sequence[Step]) -> int | None:
    """``reset_offset`` with which each layer with a bias is reset just as it starts here; None where none does."""
    late = {s.node.start - k - _shift(steps) for k, s in enumerate(steps) if isinstance(s.node, Lif) and _biased(s)}
    late = late or {s.node.start - k - _shift(steps) for k, s in enumerate(steps)}
    return late.pop() if len(late) == 1 else None


def late_bias(steps: Sequence[Step], call: Arguments) -> list[Loss]:
    """Where the loader runs a bias before the layer's first input, which here rests until then."""
    losses = []
    for k, step in enumerate(steps):
        node = step.node
        early = node.start - _shift(steps)
        if not _biased(step) or early == 0:
            continue
        size = float(abs(early) * np.abs(_bias(node)).max())
        if isinstance(node, SigmaDelta):
            what = f"the loader adds its bias {early} steps before its first input; assemble(..., late=False) does too"
            losses.append(Loss(step.name, what, size))
        elif call.reset_interval is None:
            fix = (
                "" if _offset(steps) is None else f"; reset_interval=STEPS, reset_offset={call.reset_offset} clears it"
            )
            losses.append(Loss(step.name, f"the loader adds its bias {early} steps before its first input{fix}", size))
        elif (call.reset_offset + 1 + k) % call.reset_interval != (early + 1) % call.reset_interval:
            what = f"the loader adds its bias {early} steps before its first input and does not reset just then"
            losses.append(Loss(step.name, what, size))
        if isinstance(node, Lif) and _fires(node, early) and (step.recurrent is not None or _delayed(steps, k + 1)):
            what = "its bias alone makes it fire before its first input, and a loop or delay carries that on"
            losses.append(Loss(step.name, what, size))
    return losses


def _delayed(steps: Sequence[Step], k: int) -> bool:
    return k < len(steps) and steps[k].delays is not None


def _bias(node: Any) -> Int:
    """In threshold units, rounded up."""
    wide = node.bias.astype(np.int64)
    if isinstance(node, SigmaDelta):
        return wide
    return -(-shifted(wide, node.bias_exp) >> BIAS_EXP)


def _fires(node: Lif, steps: int) -> bool:
    """Does its bias alone make it fire within so many steps? Upper bound: without decay."""
    return bool((_bias(node) * steps > node.vth).any())
