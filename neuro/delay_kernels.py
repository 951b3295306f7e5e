"""A linear layer whose synapses have delays, as one function of time, and its gradients.

    y[t, b, o] = sum_i sum_d k[i, d, o] x[t - d, b, i]               t = 0 .. T_out - 1, x = 0 outside
    k[i, d, o] = w[o, i] g[d] / sum_m g[m]                           d = 0 .. Td - 1, mu = (Td - 1)/2 - p[o, i]
    g[d]       = exp(-((d - mu) / size)^2 / 2)    or    max(0, size - |d - mu|)

    dk[d]/dw = ghat[d] = g[d] / sum g
    dk[d]/dp = w (g'[d] - ghat[d] sum g') / sum g = w ghat[d] (m - d) / size^2  of the Gauss bump, m = sum d ghat[d]

Every spike of input i adds one block ``k[i]`` to the outputs after it, and its weight gradient is the same block of
``dL/dy``: work in proportion to the spikes, contiguous where the outputs lie side by side. The input's gradient is
dense, one matrix product whose left matrix has rows that overlap. ``delay_kernels.c`` does the three and keeps dL/dk
in the cache; without a compiler, on a GPU and in half precision it is torch's conv1d and autograd.

Source of the model: Hammouamri, Khalfaoui-Hassani, Masquelier, ICLR 2024, arXiv 2306.17670; Khalfaoui-Hassani et al.,
ICLR 2023 (DCLS). Theirs adds 1e-7 to ``sum g``, which a rounded synapse then misses by; sum g is never below 0.18 here,
so it is left out.
"""

from __future__ import annotations

import ctypes
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from neuro.native import library


@dataclass(frozen=True)
class Gauss:
    """``exp(-(x / size)^2 / 2)``, ``size = |S| + 0.27``: what positions are trained with."""

    code: ClassVar[int] = 0
    floor: ClassVar[float] = 0.27

    def bump(self, off: Tensor, size: float) -> Tensor:
        """The bump ``off = d - mu`` taps from its middle."""
        return torch.exp(-0.5 * (off / size).square())


@dataclass(frozen=True)
class Tent:
    """``max(0, size - |x|)``, ``size = |S| + 1``: for S = 0 and a whole position exactly one tap, 1."""

    code: ClassVar[int] = 1
    floor: ClassVar[float] = 1.0

    def bump(self, off: Tensor, size: float) -> Tensor:
        """The bump ``off = d - mu`` taps from its middle."""
        return (size - off.abs()).clamp_min(0.0)


Kernel: TypeAlias = Gauss | Tent
MOST = 2**31
"""Inputs of one call that 32 bits can number; more take torch's way."""


def build(weight: Tensor, position: Tensor, spread: float, kernel: Kernel, taps: int) -> Tensor:
    """``k (n_in, taps, n_out)`` of ``weight, position (n_out, n_in)``; differentiable, by torch."""
    mu = (taps - 1) // 2 - position.t()[:, None]
    off = torch.arange(taps, dtype=weight.dtype, device=weight.device)[None, :, None] - mu
    g = kernel.bump(off, abs(spread) + kernel.floor)
    return weight.t()[:, None] * (g / g.sum(1, keepdim=True))


def delayed(
    x: Tensor, weight: Tensor, position: Tensor, spread: float, kernel: Kernel, taps: int, past: int = 0
) -> Tensor:
    """``x (past + T, N, n_in) -> y (T, N, n_out)``: the equations above, the first ``past`` rows being the past."""
    x = x.to(weight.dtype)
    if has_events(weight) and x.numel() < MOST:
        y: Tensor = _Delayed.apply(x, weight, position, spread, kernel, taps, past)
        return y
    return delayed_by_conv(x, weight, position, spread, kernel, taps, past)


def delayed_by_conv(
    x: Tensor, weight: Tensor, position: Tensor, spread: float, kernel: Kernel, taps: int, past: int = 0
) -> Tensor:
    """:func:`delayed` by torch alone."""
    k = build(weight, position, spread, kernel, taps).permute(2, 0, 1).flip(2)
    rows = torch.nn.functional.pad(x.permute(1, 2, 0), (taps - 1, 0))
    return torch.nn.functional.conv1d(rows, k).permute(2, 0, 1)[past:]


class _Delayed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        position: Tensor,
        spread: float,
        kernel: Kernel,
        taps: int,
        past: int,
    ) -> Tensor:
        lib: Any = _native(weight.dtype)
        x = x if x.stride(2) == 1 or not x.numel() else x.contiguous()
        (steps, samples, n_in), n_out = x.shape, len(weight)
        w, p = weight.t().contiguous(), position.t().contiguous()
        size, tile = abs(spread) + kernel.floor, 64 if n_out > 32 else 32 if n_out > 16 else 16
        width = -(-n_out // tile) * tile
        k = w.new_empty(n_in, taps, width)
        lib.delay_kernel(
            *_pointers(w, p), *_longs(n_in, n_out, taps), ctypes.c_double(size), kernel.code, *_longs(width), _at(k)
        )
        groups = min(samples, 4 if width > tile else 8)
        events = _events(lib, x, groups)
        time = past, steps - past, groups
        y = w.new_empty(steps - past, samples, n_out)
        scratch = w.new_empty(width * samples * (steps - past))
        shape = steps, samples, n_in, n_out, taps
        lib.delay_forward(*_pointers(*events), *_longs(*shape, *time, width, tile), _at(k), *_pointers(scratch, y))
        ctx.save_for_backward(*events, w, p, k)
        ctx.about = shape, time, width, tile, size, kernel.code
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        *events, w, p, k = ctx.saved_tensors
        shape, time, width, tile, size, code = ctx.about
        lib: Any = _native(w.dtype)
        steps, samples, n_in, _, taps = shape
        past, out_steps, _ = time
        dy = dy.contiguous()
        dx = dw = dp = None
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            dw, dp = torch.empty_like(w), torch.empty_like(w) if ctx.needs_input_grad[2] else None
            scratch = w.new_empty(width * samples * out_steps)
            lib.delay_weight_grad(
                *(*_pointers(*events), *_longs(*shape, *time, width, tile), *_pointers(w, p), ctypes.c_double(size)),
                *(code, *_pointers(dy, scratch, dw), None if dp is None else _at(dp)),
            )
        if ctx.needs_input_grad[0]:
            dx = w.new_empty(steps, samples, n_in)
            scratch = w.new_empty(samples * (steps + taps + 6) * width)
            lib.delay_input_grad(*_pointers(dy, k), *_longs(*shape, past, out_steps, width), *_pointers(scratch, dx))
        return dx, None if dw is None else dw.t(), None if dp is None else dp.t(), None, None, None, None


@dataclass(frozen=True, eq=False)
class Lines:
    """Whole delays, input by input, sorted by delay, synapses of weight 0 left out: what :meth:`run` replays."""

    inputs: int
    outputs: int
    taps: int
    start: Tensor
    until: Tensor
    target: Tensor
    weight: Tensor

    @classmethod
    def of(cls, weight: Tensor, delay: Tensor, taps: int) -> Lines:
        """Of ``weight, delay (n_out, n_in)``, delays in [0, taps - 1]."""
        n_out, n_in = weight.shape
        w, d = weight.detach().cpu().t().numpy(), delay.detach().cpu().t().numpy().astype(np.int64)
        order = np.argsort(np.where(w != 0, d, taps), axis=1, kind="stable")
        w, d = np.take_along_axis(w, order, 1), np.take_along_axis(d, order, 1)
        alive = w != 0
        number = alive.sum(1)
        least = np.arange(taps + 1)[None, :, None]
        until = ((d[:, None] < least) & alive[:, None]).sum(2).astype(np.int32)
        start = np.concatenate([[0], np.cumsum(number)[:-1]]).astype(np.int64)
        target = (d * n_out + order)[alive].astype(np.int32)
        return cls(n_in, n_out, taps, *(torch.from_numpy(a) for a in (start, until, target, w[alive])))

    def run(self, x: Tensor, past: int = 0) -> Tensor:
        """``x (past + T, N, n_in) -> y (T, N, n_out)``, one addition a spike and synapse; no gradient."""
        lib: Any = _native(self.weight.dtype)
        x = x if x.stride(2) == 1 or not x.numel() else x.contiguous()
        (steps, samples, _), out = x.shape, self.outputs
        y, scratch = (x.new_empty(steps - past, samples, out) for _ in range(2))
        lib.delay_scatter(
            *(_at(x), *_longs(steps, samples, self.inputs, out, self.taps, x.stride(0), x.stride(1))),
            *(*_longs(past, steps - past), *_pointers(self.start, self.until, self.target, self.weight, scratch, y)),
        )
        return y


def has_events(x: Tensor) -> bool:
    """Whether ``x`` can go by events: on a CPU with a compiler, in single or double precision."""
    return x.device.type == "cpu" and _native(x.dtype) is not None


def _events(lib: Any, x: Tensor, groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """What of ``x`` is not 0, sorted by group of samples and input: starts, places, values."""
    steps, samples, n_in = x.shape
    start = torch.empty(groups * n_in + 1, dtype=torch.int32)
    about = _at(x), *_longs(steps, samples, n_in, x.stride(0), x.stride(1), groups)
    count = lib.delay_count(*about, _at(start))
    at, value, following = torch.empty(count, dtype=torch.int32), x.new_empty(count), torch.empty_like(start)
    lib.delay_events(*about, *_pointers(start, following, at, value))
    return start, at, value


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _pointers(*tensors: Tensor) -> list[ctypes.c_void_p]:
    return [_at(t) for t in tensors]


def _longs(*values: int) -> list[ctypes.c_long]:
    return [ctypes.c_long(v) for v in values]


@functools.cache
def _native(dtype: torch.dtype) -> ctypes.CDLL | None:
    """``delay_kernels.c`` for a dtype; None for others than float and double, without a compiler, and where
    ``SPIKEPORT_FUSED=0``."""
    if os.environ.get("SPIKEPORT_FUSED", "1") == "0":
        return None
    real = {torch.float32: "float", torch.float64: "double"}.get(dtype)
    if real is None:
        return None
    source = Path(__file__).with_name("delay_kernels.c")
    lib = library(source, f"delays-{real}", (f"-DREAL={real}",), ("-fopenmp",))
    if lib is not None:
        lib.delay_count.restype = ctypes.c_long
    return lib
