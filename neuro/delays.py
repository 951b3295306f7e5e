"""Layers whose synapses learn how long they take (DCLS-Delays), as modules with explicit state.

    I_j[t] = sum_i w_ij s_i[t - d_ij];   d_ij = h - round(p_ij) in 0 .. Td - 1, h = (Td - 1) / 2      after training

In training the delay is a bump of width S around ``h - p_ij`` (:mod:`neuro.delay_kernels`), S shrinks from epoch to
epoch (:class:`Annealing`). A larger position p is a shorter delay. Times are in steps.

The reference lets each layer answer h steps longer than its input lasts and cuts what comes later:
``Stack(Tail(h), DelayLinear(...), ...)``. Several synapses with own delays between two neurons are several inputs or
several layers that are added up; one layer has one.

Source: Hammouamri, Khalfaoui-Hassani, Masquelier, ICLR 2024, arXiv 2306.17670.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neuro.delay_kernels import Gauss, Kernel, Lines, Tent, delayed, has_events

Sharing: TypeAlias = Literal["synapse", "axon", "dendrite"]
Spread: TypeAlias = Callable[[int, int, int], float]
"""``(epochs done, epochs, h) -> S``, taps; ``h`` is half the longest delay of the layer."""


@dataclass(frozen=True)
class Annealing:
    """``S = S0 (end / S0)^(min(e, E1) / E1)`` after e epochs, ``S0 = h``, ``E1 = floor(share epochs)``, at least 1.

    Published: end 0.23 (of Gauss, which is 0.27 wider, 0.5 taps), share 1/4. One value for all layers keeps their S
    the same. Errors: ``ValueError`` for an end below 0 or a share outside (0, 1].
    """

    end: float = 0.23
    share: float = 0.25

    def __post_init__(self) -> None:
        if not self.end > 0.0 or not 0.0 < self.share <= 1.0:
            raise ValueError(f"Annealing: end must be > 0 and share in (0, 1], got {self.end} and {self.share}")

    def __call__(self, done: int, epochs: int, h: int) -> float:
        """S after ``done`` of ``epochs``."""
        last = max(1, math.floor(self.share * epochs))
        if done >= last or h <= self.end:
            return min(self.end, float(h))
        return h * (self.end / h) ** (done / last)


@dataclass(frozen=True)
class Constant:
    """S from beginning to end; 0.23 is the published annealing's end."""

    value: float = 0.23

    def __call__(self, done: int, epochs: int, h: int) -> float:
        """``value``."""
        return self.value


class DelayLinear(nn.Module):
    """``(N, n_in) -> (N, n_out)`` a step with a weight and a delay a synapse; the state is the last Td - 1 inputs.

    ``taps``: Td, odd; delays are 0 .. Td - 1. ``delay_sharing``: one delay a ``"synapse"``, an ``"axon"`` (input) or a
    ``"dendrite"`` (output). Parameters ``weight (n_out, n_in)`` and ``position (n_out | 1, n_in | 1)``, kept within
    [-h, h] by :meth:`after_step`; a buffer ``spread``, S. Weights begin as Kaiming-uniform, positions uniform.

    Errors: ``ValueError`` for sizes below 1, an even number of taps, an unknown sharing.
    """

    explicit_state = True

    def __init__(
        self,
        n_in: int,
        n_out: int,
        taps: int = 25,
        *,
        bias: bool = False,
        delay_sharing: Sharing = "synapse",
        kernel: Kernel | None = None,
        schedule: Spread | None = None,
    ) -> None:
        super().__init__()
        if n_in < 1 or n_out < 1:
            raise ValueError(f"DelayLinear: n_in and n_out must be at least 1, got {n_in} and {n_out}")
        if taps < 1 or taps % 2 == 0:
            raise ValueError(f"DelayLinear.taps: must be odd, so that the kernel has a middle; got {taps}")
        shapes = {"synapse": (n_out, n_in), "axon": (1, n_in), "dendrite": (n_out, 1)}
        if delay_sharing not in shapes:
            raise ValueError(f"DelayLinear.delay_sharing: {delay_sharing!r} is none of {', '.join(shapes)}")
        self.n_in, self.n_out, self.taps = n_in, n_out, taps
        self.delay_sharing = delay_sharing
        self.kernel: Kernel = Gauss() if kernel is None else kernel
        self.schedule: Spread = Annealing() if schedule is None else schedule
        self.weight = nn.Parameter(torch.empty(n_out, n_in))
        self.position = nn.Parameter(torch.empty(shapes[delay_sharing]))
        self.bias = nn.Parameter(torch.zeros(n_out)) if bias else None
        self.spread: Tensor
        self.register_buffer("spread", torch.tensor(self.schedule(0, 1, self.reach), dtype=torch.float64))
        self._lines: tuple[tuple[Tensor, ...], Lines] | None = None
        self.reset_parameters()

    @property
    def reach(self) -> int:
        """``h = (Td - 1) / 2``."""
        return (self.taps - 1) // 2

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """``w ~ U(+-sqrt(6 / n_in))``; ``p ~ U(-h - 1, h)`` clamped, as the reference has it."""
        bound = math.sqrt(6.0 / self.n_in)
        self.weight.uniform_(-bound, bound)
        self.position.uniform_(-self.reach - 1.0 if self.reach else 0.0, self.reach)
        self.after_step()

    @torch.no_grad()
    def after_step(self) -> None:
        """Positions into [-h, h]; the training loop calls it after each optimizer step."""
        self.position.clamp_(-self.reach, self.reach)

    def after_epoch(self, done: int, epochs: int) -> None:
        """S of the schedule; the training loop calls it after each epoch."""
        self.spread.fill_(self.schedule(done, epochs, self.reach))

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step: ``x (N, n_in), state (Td - 1, N, n_in) -> (y (N, n_out), state)``."""
        y, state = self.forward_steps(x[None], state)
        return y[0], state

    def forward_steps(self, x: Tensor, state: Any = None, detached: bool = False) -> tuple[Tensor, Any]:
        """K steps: ``x (K, N, n_in) -> (y (K, N, n_out), state)``; ``y[t]`` depends on x up to t alone."""
        if x.ndim != 3 or x.shape[2] != self.n_in:
            raise ValueError(f"DelayLinear: x must be (steps, N, {self.n_in}), got {tuple(x.shape)}")
        past = 0 if state is None else len(state)
        rows = x if state is None else torch.cat([state, x])
        after = rows[max(0, len(rows) - self.taps + 1) :]
        y = self._delayed(rows, past)
        y = y if self.bias is None else y + self.bias
        return y, after.detach() if detached else after

    def delays(self) -> npt.NDArray[np.int64]:
        """``d = h - round(p)``, ``(n_out, n_in)``, steps."""
        whole = self.position.detach().round().clamp(-self.reach, self.reach).cpu().numpy().astype(np.int64)
        return np.broadcast_to(self.reach - whole, (self.n_out, self.n_in)).copy()

    def discrete(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """``weight, delay (n_out, n_in)``: the layer once rounded, as exported."""
        return self.weight.detach().cpu().numpy().astype(np.float32), self.delays()

    @torch.no_grad()
    def round_(self) -> DelayLinear:
        """Positions to whole numbers and frozen, one tap a synapse: from here on weights alone are trained."""
        self.position.copy_(self.position.round().clamp(-self.reach, self.reach))
        self.position.requires_grad_(False)
        self.kernel, self.schedule = Tent(), Constant(0.0)
        self.spread.zero_()
        return self

    def is_discrete(self) -> bool:
        """Whether each synapse has exactly one tap now."""
        whole = bool((self.position == self.position.round()).all())
        return isinstance(self.kernel, Tent) and float(self.spread) == 0.0 and whole

    def extra_repr(self) -> str:
        return f"{self.n_in}, {self.n_out}, taps={self.taps}, {self.kernel}, delay_sharing={self.delay_sharing}"

    def _delayed(self, rows: Tensor, past: int) -> Tensor:
        learning = torch.is_grad_enabled() and (rows.requires_grad or self.weight.requires_grad)
        if not learning and has_events(self.weight) and self.is_discrete():
            return self._current_lines().run(rows.to(self.weight.dtype), past)
        p = self.position.expand(self.n_out, self.n_in)
        return delayed(rows, self.weight, p, float(self.spread), self.kernel, self.taps, past)

    def _current_lines(self) -> Lines:
        """Synapses sorted by delay, kept until weight or position changes."""
        held = self._lines
        parts = self.weight.detach(), self.position.detach()
        if held is None or not all(
            a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(held[0], parts, strict=True)
        ):
            lines = Lines.of(self.weight, torch.from_numpy(self.delays()), self.taps)
            self._lines = held = tuple(p.clone() for p in parts), lines
        return held[1]


class Tail(nn.Module):
    """``steps`` silent steps behind a whole sequence, so that what is still under way arrives; one step: identity.

    Stepped singly, a network goes on for as many steps as it has tails, fed with 0, and this module cuts nothing;
    exported it is a window that lets nothing through from the sequence's end on.

    Errors: ``ValueError`` for ``steps`` below 0, and for a sequence that comes in pieces: it has an end in each.
    """

    explicit_state = True

    def __init__(self, steps: int) -> None:
        super().__init__()
        if steps < 0:
            raise ValueError(f"Tail.steps: must be at least 0, got {steps}")
        self.steps = steps

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """``x``."""
        return x, state

    def forward_steps(self, x: Tensor, state: Any = None, detached: bool = False) -> tuple[Tensor, Any]:
        """``x (K, ...) -> (K + steps, ...)``."""
        if state is not None:
            raise ValueError("Tail: takes a whole sequence at once; train with BPTT or one chunk of all steps")
        return torch.cat([x, x.new_zeros(self.steps, *x.shape[1:])]), "ended"

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


Module = TypeVar("Module", bound=nn.Module)


def delay_layers(model: nn.Module) -> Iterator[DelayLinear]:
    """Those of ``model``, from input to output."""
    return (m for m in model.modules() if isinstance(m, DelayLinear))


def rounded(model: Module) -> Module:
    """A copy with whole delays; ``model`` is left as it is. What evaluation and export are of."""
    twin = copy.deepcopy(model)
    for layer in delay_layers(twin):
        layer.round_()
    return twin


def horizon(model: nn.Module, steps: int) -> int:
    """Steps that ``model`` answers to a sequence of ``steps``: ``steps`` and its tails."""
    return steps + sum(m.steps for m in model.modules() if isinstance(m, Tail))
