"""The neuron law over K steps in one pass, forward and backward, on the CPU: :mod:`neuro.neuron` in C (``fused.c``).

    population(x (K, N, ...), state, law, surrogate)       -> (s (K, N, ...), state)
    normalised(x (K, N, C, ...), norm, ...)                -> the same with BatchNorm before and mean pooling behind

Forward has the bits of ``Law.step``; the backward pass is its derivative, and saves ``h`` alone (4 bytes a neuron and
step) besides the input of a normalisation. With ``detached`` a state is passed on without history, as SLTT does.
:func:`able` says whether all this is there for a tensor and a law; who asks goes the readable way where it is not.
``SPIKEPORT_FUSED=0`` always does.
"""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuro import native
from neuro.neuron import Decay, Law, Leaky, NoLeak, Rate, State, Tau
from neuro.surrogate import ATan, Normalised, Rectangular, Sigmoid, Surrogate, Triangle

SOURCE = Path(__file__).with_name("fused.c")
FLAGS = ("-ffp-contract=off",)
OPTIONAL = ("-fopenmp",)
CHARGES = {(NoLeak, False): 0, (Tau, True): 1, (Tau, False): 2, (Rate, True): 3, (Rate, False): 4}
SURROGATES: dict[type[Surrogate], tuple[int, str]] = {
    ATan: (0, "alpha"),
    Sigmoid: (1, "alpha"),
    Triangle: (2, "width"),
    Rectangular: (3, "width"),
}
SMALL = 1 << 14
"""Values below which a second thread costs more than it brings."""

_INTS = ("steps", "rows", "channels", "width", "pool", "charge", "subtract", "strict", "surrogate", "attached",
         "normalised", "threads")  # fmt: skip
_REALS = ("tau", "rest", "current", "threshold", "v_reset", "a", "b", "k", "alpha", "gain", "scale")


class Core(ctypes.Structure):
    """``Core`` of fused.c."""

    _fields_ = [(n, ctypes.c_int64) for n in _INTS] + [(n, ctypes.c_double) for n in _REALS]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled core; None without a compiler, or where ``SPIKEPORT_FUSED=0``."""
    if os.environ.get("SPIKEPORT_FUSED", "1") == "0":
        return None
    loaded = native.library(SOURCE, "fused", FLAGS, OPTIONAL)
    if loaded is None:
        return None
    for name in ("core_blocks", "core_sum_blocks", "core_size"):
        getattr(loaded, name).restype = ctypes.c_int64
    if loaded.core_size() != ctypes.sizeof(Core):
        raise RuntimeError(f"{loaded._name}: its structure is not that of fused.py; delete it")
    return loaded


def able(x: Tensor, law: Law, surrogate: Surrogate) -> bool:
    """Is there a compiled way for this tensor, law and slope? torch.compile cannot see into it and makes its own."""
    if torch.compiler.is_compiling():
        return False
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64) or not x.numel():
        return False
    inner = surrogate.inner if type(surrogate) is Normalised else surrogate
    return type(inner) in SURROGATES and _charge(law) is not None and library() is not None


def _charge(law: Law) -> int | None:
    c = law.charge
    if isinstance(c, Tau | Rate):
        return CHARGES[Tau if isinstance(c, Tau) else Rate, c.decay_input]
    return 0 if isinstance(c, NoLeak) else 5 if isinstance(c, Leaky) else 6 if isinstance(c, Decay) else None


@dataclass(frozen=True)
class _Plan:
    """What one call does, in numbers; ``detached``: no gradient goes to the step before."""

    law: Law
    surrogate: Surrogate
    attached: bool
    detached: bool
    pool: int = 0
    learns: bool = field(default_factory=torch.is_grad_enabled)
    """Is ``h`` kept for a backward pass?"""

    @property
    def two(self) -> bool:
        """Is there a current?"""
        return self.law.charge.states == 2

    def core(self, steps: int, rows: int, channels: int, width: int = 0) -> Core:
        law, c, inner = self.law, self.law.charge, self.surrogate
        gain, scale = 1.0, 1.0
        normalised = isinstance(inner, Normalised)
        if isinstance(inner, Normalised):
            gain, scale, inner = inner.gain, law.threshold, inner.inner
        kind, alpha = SURROGATES[type(inner)]
        first = {Tau: "tau", Rate: "rate", Leaky: "beta", Decay: "voltage"}
        own = next((float(getattr(c, name)) for k, name in first.items() if isinstance(c, k)), 1.0)
        a, b, k, _ = c.canonical()
        threads = torch.get_num_threads() if steps * rows * channels >= SMALL else 1
        return Core(
            steps, rows, channels, width, self.pool, _charge(law), law.reset == "subtract", law.fires == ">", kind,
            self.attached, normalised, threads, own, getattr(c, "rest", 0.0), getattr(c, "current", 0.0),
            law.threshold, law.v_reset, a, b, k, getattr(inner, alpha), gain, scale,
        )  # fmt: skip


def population(
    x: Tensor,
    state: State | None,
    law: Law,
    surrogate: Surrogate,
    *,
    detach_reset: bool = False,
    detached: bool = False,
    trained: tuple[Tensor, Tensor | None] | None = None,
) -> tuple[Tensor, State]:
    """K steps of one population, ``x (K, N, ...) -> (s (K, N, ...), state)``; :func:`able` must hold.

    ``law`` in numbers; ``trained``: the parameter of its charge (rate or beta) and its threshold or None as tensors,
    which then get gradients.
    """
    plan = _Plan(law, surrogate, not detach_reset, detached)
    x = _dense(x)
    v, i = _states(state, x[0])
    of_charge, threshold = trained if trained is not None else (None, None)
    s, *after = _Population.apply(x, v, i, of_charge, threshold, plan)
    return s, tuple(after[: law.charge.states])


def normalised(
    x: Tensor,
    state: State | None,
    norm: nn.BatchNorm1d | nn.BatchNorm2d,
    law: Law,
    surrogate: Surrogate,
    *,
    detach_reset: bool = False,
    detached: bool = False,
    pool: int = 0,
) -> tuple[Tensor, State]:
    """BatchNorm with the statistics of each step, the population, and the mean over ``pool`` x ``pool`` windows.

    ``x (K, N, C)`` or ``(K, N, C, H, W)``; H and W are whole multiples of ``pool``. Running statistics move once a
    step, as K calls of ``norm`` in training would move them.
    """
    plan = _Plan(law, surrogate, not detach_reset, detached, pool)
    x = _channels_last(x)
    v, i = _states(state, x[0])
    mean, m2 = _moments(x)
    count = x[0].numel() // x.shape[2]
    rstd = (m2 / count + norm.eps).rsqrt_()
    _track(norm, mean, m2 / max(1, count - 1))
    s, *after = _Normalised.apply(x, v, i, norm.weight, norm.bias, mean, rstd, plan)
    return s, tuple(after[: law.charge.states])


class _Population(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        v: Tensor | None,
        i: Tensor | None,
        of_charge: Tensor | None,
        threshold: Tensor | None,
        plan: _Plan,
    ) -> tuple[Tensor, ...]:
        core = plan.core(len(x), 1, x[0].numel())
        _as_rows(core)
        wanted = plan.learns and any(ctx.needs_input_grad[:5])
        h, s = torch.empty_like(x) if wanted else None, torch.empty_like(x)
        after, current = torch.empty_like(x[0]), torch.empty_like(x[0]) if plan.two else None
        _call("core_forward", x, core, x, None, None, v, i, after, current, h, s)
        ctx.core, ctx.plan, ctx.own = core, plan, (of_charge is not None, threshold is not None)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(h, v if any(ctx.own) else None)
        return s, *_left(ctx, plan, after, current)

    @staticmethod
    def backward(ctx: Any, gs: Tensor | None, *after: Tensor | None) -> tuple[Tensor | None, ...]:
        h, v0 = ctx.saved_tensors
        core, gs = ctx.core, torch.zeros_like(h) if gs is None else _like(gs, h)
        gx = torch.empty_like(h)
        gv, gi = _carried(ctx.plan, h[0], after)
        blocks = _lib().core_blocks(ctypes.byref(core))
        sums = h.new_zeros(2 * blocks, dtype=torch.float64) if any(ctx.own) else None
        _call("core_backward", h, core, gs, h, v0, gv, gi, gx, None, None, None, None, None, None, None, sums)
        found = [None, None] if sums is None else list(sums.view(-1, 2).sum(0).to(h.dtype))
        return gx, *_wanted(ctx, gv, gi), *(g if own else None for g, own in zip(found, ctx.own, strict=True)), None


class _Normalised(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        v: Tensor | None,
        i: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        rstd: Tensor,
        plan: _Plan,
    ) -> tuple[Tensor, ...]:
        channels = x.shape[2]
        core = plan.core(len(x), x[0].numel() // channels, channels, x.shape[-1])
        gamma = x.new_ones(channels) if weight is None else weight.detach()
        scale = rstd * gamma
        shift = -mean * scale if bias is None else bias.detach() - mean * scale
        h = torch.empty_like(x) if plan.learns and any(ctx.needs_input_grad[:5]) else None
        s = torch.empty_like(x) if not plan.pool else _pooled_like(x, plan.pool)
        after, current = torch.empty_like(x[0]), torch.empty_like(x[0]) if plan.two else None
        _call("core_forward", x, core, x, scale, shift, v, i, after, current, h, s)
        ctx.core, ctx.plan, ctx.affine = core, plan, (weight is not None, bias is not None)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, h, mean, rstd, gamma)
        ctx.like, ctx.shape = s.stride(), s.shape
        return s, *_left(ctx, plan, after, current)

    @staticmethod
    def backward(ctx: Any, gs: Tensor | None, *after: Tensor | None) -> tuple[Tensor | None, ...]:
        x, h, mean, rstd, gamma = ctx.saved_tensors
        core = ctx.core
        if gs is None:
            gs = torch.zeros(1, dtype=h.dtype).expand(ctx.shape)
        if gs.stride() != ctx.like:
            gs = torch.empty_strided(gs.shape, ctx.like, dtype=gs.dtype).copy_(gs)
        gx = torch.empty_like(h)
        gv, gi = _carried(ctx.plan, h[0], after)
        part = h.new_empty(len(h) * _lib().core_blocks(ctypes.byref(core)) * 2 * len(gamma))
        dgamma, dbeta = torch.empty_like(gamma), torch.empty_like(gamma)
        _call("core_backward", h, core, gs, h, None, gv, gi, gx, x, mean, rstd, gamma, part, dgamma, dbeta, None)
        weight, bias = ctx.affine
        return (
            gx,
            *_wanted(ctx, gv, gi),
            dgamma if weight else None,
            dbeta if bias else None,
            None,
            None,
            None,
        )


def _lib() -> Any:
    return library()


def _call(name: str, like: Tensor, core: Core, *tensors: Tensor | None) -> None:
    function = getattr(_lib(), f"{name}_f32" if like.dtype == torch.float32 else f"{name}_f64")
    function(ctypes.byref(core), *(None if t is None else ctypes.c_void_p(t.data_ptr()) for t in tensors))


def _as_rows(core: Core) -> None:
    """A population without channels: rows of up to 64 values do as well as one long row, and make blocks."""
    n = core.channels
    size = next(d for d in (64, 32, 16, 8, 4, 2, 1) if n % d == 0)
    core.rows, core.channels = n // size, size


def _dense(x: Tensor) -> Tensor:
    """``x`` with each step in one piece of memory, in whatever order, and the steps one after the other."""
    last = x.ndim == 5 and x.stride(0) == x[0].numel() and x[0].is_contiguous(memory_format=torch.channels_last)
    return x if last else x.contiguous()


def _channels_last(x: Tensor) -> Tensor:
    if x.ndim == 3:
        return x.contiguous()
    last = x.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return last.view(*x.shape[:2], *last.shape[1:])


def _pooled_like(x: Tensor, pool: int) -> Tensor:
    k, n, c, h, w = x.shape
    out = torch.empty((k * n, c, h // pool, w // pool), dtype=x.dtype, memory_format=torch.channels_last)
    return out.view(k, n, *out.shape[1:])


def _like(x: Tensor, other: Tensor) -> Tensor:
    """``x`` in the memory order of ``other``."""
    if x.stride() == other.stride():
        return x
    return torch.empty_strided(other.shape, other.stride(), dtype=x.dtype).copy_(x)


def _states(state: State | None, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """v and i in the memory order of ``like``; None before the first step."""
    if state is None:
        return None, None
    v, *rest = (_like(s, like) for s in state)
    return v, rest[0] if rest else None


def _carried(plan: _Plan, like: Tensor, after: tuple[Tensor | None, ...]) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the last state, to be turned into those of the first; None where nothing is carried."""
    if plan.detached:
        return None, None
    given = [None if g is None else _like(g, like).clone() for g in after]
    given += [None] * (2 - len(given))
    v, i = (torch.zeros_like(like) if g is None else g for g in given)
    return v, i


def _left(ctx: Any, plan: _Plan, v: Tensor, i: Tensor | None) -> tuple[Tensor, ...]:
    """The last state, as outputs of a function: without a gradient where it is passed on without history."""
    state = (v,) if i is None else (v, i)
    if plan.detached:
        ctx.mark_non_differentiable(*state)
    return state


def _wanted(ctx: Any, gv: Tensor | None, gi: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the first state, where it was given and has a history."""
    return gv if ctx.needs_input_grad[1] else None, gi if ctx.needs_input_grad[2] else None


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sum of squared deviations of each step and channel: ``(K, C)`` both."""
    with torch.no_grad():
        k, c = len(x), x.shape[2]
        core = Core(steps=k, rows=x[0].numel() // c, channels=c)
        core.threads = torch.get_num_threads() if x.numel() >= SMALL else 1
        part = x.new_empty(2 * k * _lib().core_sum_blocks(ctypes.byref(core)) * c)
        mean, m2 = x.new_empty(k, c), x.new_empty(k, c)
        _call("core_moments", x, core, x, mean, m2, part)
        return mean, m2


@torch.no_grad()
def _track(norm: nn.BatchNorm1d | nn.BatchNorm2d, mean: Tensor, var: Tensor) -> None:
    """Move the running statistics once a step."""
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    for m, v in zip(mean, var, strict=True):
        norm.num_batches_tracked.add_(1)
        share = 1.0 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(m, share)
        norm.running_var.lerp_(v, share)
