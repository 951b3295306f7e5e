"""Thin torch shells around the pure law: state goes in and comes out, no module keeps any.

    step(module, x[t], state) -> (y[t], state)                   one step, ``x[t] (N, ...)``
    steps(module, x, state)   -> (y, state)                      K steps at once, ``x (K, N, ...)``

A state is None where a module has none, a tuple of tensors for a neuron, a list for a container; None as
input means the state before the first step. ``steps`` goes layer by layer, so a layer without memory sees
all K steps as one batch; its result is that of K calls of ``step`` up to the rounding of the larger matrix
product. SpikingJelly's modules take part through their own functional step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neuro import fused
from neuro.norm import (
    NORM_MODES,
    ChunkNorm1d,
    ChunkNorm2d,
    FrozenNorm1d,
    FrozenNorm2d,
    norm_mode,
)
from neuro.populations import (
    HeldDropout,
    Integrating,
    LearnedSpiking,
    ModuleState,
    ParametricSpiking,
    Spiking,
    compiled,
    detach,
    one_by_one,
)

__all__ = [
    "NORM_MODES",
    "TIMELESS",
    "ChunkNorm1d",
    "ChunkNorm2d",
    "FrozenNorm1d",
    "FrozenNorm2d",
    "HeldDropout",
    "Integrating",
    "LearnedSpiking",
    "ModuleState",
    "ParametricSpiking",
    "Recurrent",
    "Spiking",
    "Stack",
    "detach",
    "norm_mode",
    "step",
    "steps",
    "takes_state",
    "unroll",
]

TIMELESS = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Identity, nn.ReLU),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d),
)
"""Layers whose answer to a step depends neither on other steps nor on chance: K steps may share one call."""


class Recurrent(nn.Module):
    """Layers fed by their own last output: ``y[t] = layers(x[t] + feedback(y[t-1]))`` with ``y[-1] = 0``.

    ``feedback``: a layer without memory whose answer to 0 is 0 (``nn.Linear(n, m, bias=False)``), None for y itself.
    """

    def __init__(self, layers: nn.Module, feedback: nn.Module | None = None) -> None:
        super().__init__()
        self.layers, self.feedback = layers, feedback

    def forward(self, x: Tensor, state: ModuleState = None) -> tuple[Tensor, ModuleState]:
        """One step, ``x (N, ...)``; the state is ``(y[t-1], state of layers)``."""
        y, inner = (None, None) if state is None else state
        if y is not None:
            x = x + (y if self.feedback is None else self.feedback(y))
        y, inner = step(self.layers, x, inner)
        return y, (y, inner)


class Stack(nn.Sequential):
    """Modules in a row, stepped with explicit state: ``forward(x, state) -> (y, state)``."""

    def forward(self, x: Tensor, state: ModuleState = None) -> tuple[Tensor, ModuleState]:
        """One step of every module, ``x (N, ...)``."""
        return _chain(self, x, state, step)


def step(module: nn.Module, x: Tensor, state: ModuleState = None) -> tuple[Tensor, ModuleState]:
    """One step of any module: ``x (N, ...) -> (y, state)``.

    Errors: ``ValueError`` for a SpikingJelly module in step mode 'm', which wants all steps at once.
    """
    if isinstance(module, nn.Sequential):
        return _chain(module, x, state, step)
    x = _precise(module, x)
    if takes_state(module):
        y, state = module(x, state)
        return y, state
    if hasattr(module, "single_step_functional_forward"):
        return _functional(module, x, state)
    if getattr(module, "step_mode", "s") != "s":
        raise ValueError(
            f"{type(module).__name__}: step_mode is 'm'; call spikingjelly.activation_based.functional."
            "set_step_mode(net, 's'), a Stack steps the time itself"
        )
    return module(x), None


def steps(
    module: nn.Module,
    x: Tensor,
    state: ModuleState = None,
    *,
    detached: bool = False,
) -> tuple[Tensor, ModuleState]:
    """K steps: ``x (K, N, ...) -> (y (K, N, ...), state)``. ``detached``: states are passed on without history.

    A module with ``forward_steps(x, state, detached)`` takes all K at once and may return another number of steps.
    """
    if isinstance(module, nn.Sequential):
        return _chain_steps(module, x, state, detached)
    x = _precise(module, x)
    at_once: Any = getattr(module, "forward_steps", None)
    if at_once is not None:
        y, state = at_once(x, state, detached)
        return y, state
    if _timeless(module):
        together = x.flatten(0, 1)
        if together.ndim == 4 and together.device.type == "cpu":
            # twice as fast in oneDNN, and the order that neuro.fused reads
            together = together.contiguous(memory_format=torch.channels_last)
        return module(together).unflatten(0, x.shape[:2]), None
    return one_by_one(partial(step, module), x, state, detached)


def unroll(module: nn.Module, x: Tensor) -> Tensor:
    """All steps from the initial state: ``x (N, T, ...) -> y (N, T, ...)``."""
    return steps(module, x.transpose(0, 1))[0].transpose(0, 1)


def takes_state(module: nn.Module) -> bool:
    """Whether ``module(x, state) -> (y, state)`` is its contract, as it is here and of what ``to_torch`` makes."""
    own = Spiking | Stack | Recurrent | Integrating | HeldDropout
    return isinstance(module, own) or bool(getattr(module, "explicit_state", False))


def _precise(module: nn.Module, x: Tensor) -> Tensor:
    """``x`` in float32 for what has a state: under autocast a membrane that adds up in a half would stand still."""
    if x.dtype not in (torch.float16, torch.bfloat16) or not torch.is_autocast_enabled(x.device.type):
        return x
    return x.float() if takes_state(module) or hasattr(module, "single_step_functional_forward") else x


def _chain(
    modules: nn.Sequential,
    x: Tensor,
    state: ModuleState,
    advance: Callable[[nn.Module, Tensor, ModuleState], tuple[Tensor, ModuleState]],
) -> tuple[Tensor, ModuleState]:
    before = [None] * len(modules) if state is None else state
    after = []
    for module, s in zip(modules, before, strict=True):
        x, s = advance(module, x, s)
        after.append(s)
    return x, after


def _chain_steps(modules: nn.Sequential, x: Tensor, state: ModuleState, detached: bool) -> tuple[Tensor, ModuleState]:
    """All steps of each module in turn; norm, population and mean pooling together where they stand so."""
    row = list(modules)
    before = [None] * len(row) if state is None else state
    after: list[ModuleState] = []
    while len(after) < len(row):
        k = len(after)
        x = _precise(row[k + 1], x) if k + 1 < len(row) and isinstance(row[k + 1], Spiking) else x
        taken = _run(row[k : k + 3], x)
        if taken:
            parts: Any = row[k : k + taken]
            norm, neurons, *pool = parts
            side = _side(pool[0].kernel_size) if pool else 0
            how: Any = {"detach_reset": neurons.detach_reset, "detached": detached, "pool": side}
            x, now = fused.normalised(x, before[k + 1], norm, neurons.law, neurons.surrogate, **how)
            after += [None, now, None][:taken]
        else:
            x, now = steps(row[k], x, before[k], detached=detached)
            after.append(now)
    return x, after


def _run(row: list[nn.Module], x: Tensor) -> int:
    """How many of the modules that come next are one call of :func:`neuro.fused.normalised`: 3, 2 or none."""
    if len(row) < 2 or type(row[1]) is not Spiking or not row[0].training or _hooked(row) or not compiled(row[1], x):
        return 0
    kind = parametrize.type_before_parametrizations(row[0])
    if (kind, x.ndim) not in ((nn.BatchNorm1d, 3), (nn.BatchNorm2d, 5)) or x[0].numel() == x.shape[2]:
        return 0
    pool = row[2] if len(row) > 2 else None
    if x.ndim == 5 and type(pool) is nn.AvgPool2d:
        side = _side(pool.kernel_size)
        plain = side == _side(pool.stride) and not _side(pool.padding) and pool.divisor_override is None
        if side and plain and not x.shape[3] % side and not x.shape[4] % side:
            return 3
    return 2


def _side(size: int | tuple[int, int]) -> int:
    """Of a square; 0 for another window."""
    a, b = (size, size) if isinstance(size, int) else size
    return a if a == b else 0


def _hooked(row: list[nn.Module]) -> bool:
    return any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in row)


def _functional(module: nn.Module, x: Tensor, state: ModuleState) -> tuple[Tensor, ModuleState]:
    node: Any = module
    given = tuple(node._memories_rv.values()) if state is None else state
    states = node.materialize_states((x,), given, "s")
    (y,), after = node.single_step_functional_forward((x,), states)
    return y, after


def _timeless(module: nn.Module) -> bool:
    kind = parametrize.type_before_parametrizations(module)
    if kind in (ChunkNorm1d, ChunkNorm2d, FrozenNorm1d, FrozenNorm2d):
        return True
    if kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout, nn.Dropout2d):
        return not module.training  # in training: statistics and masks per step
    return kind in TIMELESS or (isinstance(module, nn.Flatten) and kind is nn.Flatten and module.start_dim == 1)
