"""Torch, SpikingJelly, snnTorch and neuro modules as nodes of a Network, one reader each.

A reader takes the module and raises ``ValueError`` with the rule and the fix; :mod:`export.from_torch` adds the path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch

from export.kinds import NIR
from export.network import (
    AvgPool2d,
    Conv1d,
    Conv2d,
    DelayedLinear,
    Flatten,
    Float,
    Integrator,
    Linear,
    Node,
    Pair,
    Spiking,
)
from neuro.neuron import Charge, Decay, Law, Leaky, NoLeak, Rate, Tau


def _read_linear(m: Any) -> Linear:
    return Linear(array(m.weight, "weight"), None if m.bias is None else array(m.bias, "bias"))


def _read_delays(m: Any) -> DelayedLinear:
    """The layer rounded: ``discrete() -> (weight, delays)``; delays in the least bytes that hold them."""
    weight, delays = m.discrete()
    kind = np.min_scalar_type(int(delays.max())) if delays.min() >= 0 else delays.dtype
    bias = getattr(m, "bias", None)
    return DelayedLinear(weight, delays.astype(kind), None if bias is None else array(bias, "bias"))


def _read_conv2d(m: Any) -> Conv2d:
    if m.padding_mode != "zeros":
        raise ValueError(f"has padding_mode {m.padding_mode!r}; only 'zeros' is mapped, train with that")
    padding = (0, 0) if m.padding == "valid" else m.padding
    if padding == "same":
        full = [d * (k - 1) for d, k in zip(m.dilation, m.kernel_size, strict=True)]
        if any(p % 2 for p in full):
            raise ValueError(f"has padding 'same' with kernel {m.kernel_size}, which is uneven; give numbers")
        padding = tuple(p // 2 for p in full)
    bias = None if m.bias is None else array(m.bias, "bias")
    return Conv2d(array(m.weight, "weight"), bias, _pair(m.stride), _pair(padding), _pair(m.dilation), m.groups)


def _read_conv1d(m: Any) -> Conv1d:
    if m.padding_mode != "zeros" or isinstance(m.padding, str):
        raise ValueError(f"has padding {m.padding!r} in mode {m.padding_mode!r}; give a number, only 'zeros' is mapped")
    bias = None if m.bias is None else array(m.bias, "bias")
    (stride,), (padding,), (dilation,) = m.stride, m.padding, m.dilation
    return Conv1d(array(m.weight, "weight"), bias, stride, padding, dilation, m.groups)


def _read_avgpool2d(m: Any) -> AvgPool2d:
    padding = _pair(m.padding)
    if m.ceil_mode or m.divisor_override is not None or (padding != (0, 0) and not m.count_include_pad):
        raise ValueError("needs ceil_mode=False, count_include_pad=True and no divisor_override; set them")
    return AvgPool2d(_pair(m.kernel_size), _pair(m.stride), padding)


def read_adaptive(m: Any, size: Pair) -> AvgPool2d | None:
    """The AvgPool2d that an AdaptiveAvgPool2d comes to on maps of ``size`` (h, w); None where its windows differ."""
    given = m.output_size if isinstance(m.output_size, tuple | list) else (m.output_size,) * 2
    out = [n if k is None else int(k) for k, n in zip(given, size, strict=True)]
    if any(k < 1 or n % k for k, n in zip(out, size, strict=True)):
        return None
    kernel = (size[0] // out[0], size[1] // out[1])
    return AvgPool2d(kernel, kernel)


def _read_flatten(m: Any) -> Flatten:
    if (m.start_dim, m.end_dim) != (1, -1):
        raise ValueError(f"flattens axes {m.start_dim} to {m.end_dim}; only 1 to -1 is mapped, all but the batch")
    return Flatten()


def _read_node(m: Any, charge: Charge) -> Spiking:
    """The law of a SpikingJelly node: its fields, and the comparison that its surrogate really makes."""
    if getattr(m, "_neuron_precision", None) is not None:
        raise ValueError("computes in reduced precision; use full precision, or quantise in the export")
    hard = m.v_reset is not None
    return Spiking(
        Law(
            charge,
            threshold=_one(m.v_threshold, "v_threshold"),
            reset="zero" if hard else "subtract",
            v_reset=_one(m.v_reset, "v_reset") if hard else 0.0,
            fires=_fires(m.surrogate_function),
        )
    )


def _fires(surrogate: Any) -> Literal[">=", ">"]:
    over = torch.tensor([-1.0, -1e-6, 0.0, 1e-6, 1.0])
    with torch.no_grad():
        fired = [float(s) for s in surrogate(over)]
    if fired not in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1]):
        raise ValueError(f"has a surrogate whose forward is no step, {fired}; make it with spiking=True")
    return ">=" if fired[2] else ">"


def _rest(m: Any) -> float:
    return 0.0 if m.v_reset is None else _one(m.v_reset, "v_reset")


def _plif_rate(m: Any) -> float:
    _one(m.w, "w")
    return float(m.w.detach().float().sigmoid())


def array(t: torch.Tensor, what: str) -> Float:
    """Weights in numpy. Errors: ``ValueError`` for another type than float32 and float64."""
    if t.is_complex():
        raise ValueError(f"has a complex {what}; activations are spikes, split it into real and imaginary layers")
    if t.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"has a {what} of {t.dtype}; call .float() on the model first")
    return t.detach().cpu().numpy().copy()


def _pair(value: Any) -> Pair:
    a, b = (value, value) if isinstance(value, int) else value
    return int(a), int(b)


def _read_leaky(m: Any) -> Spiking:
    """snnTorch: ``mem = beta mem + x`` after a reset that comes with the next step; to 0 that is the law's own."""
    return _read_snntorch(m, Leaky)


def _read_synaptic(m: Any) -> Spiking:
    """snnTorch: ``syn = alpha syn + x; mem = beta mem + syn``; a late reset would lose the step's input too."""
    alpha = _one(m.alpha, "alpha")
    if m.reset_delay:
        raise ValueError("resets a step late, which clears that step's current too; make it with reset_delay=False")
    return _read_snntorch(m, lambda beta: Decay(min(1.0, max(0.0, alpha)), beta))


def _read_snntorch(m: Any, charge: Callable[[float], Charge]) -> Spiking:
    if m.reset_mechanism != "zero":
        raise ValueError(
            f"has reset_mechanism '{m.reset_mechanism}', whose late subtraction no machine here does; train with "
            f"reset_mechanism='zero', or {NIR}"
        )
    if not m.init_hidden:
        raise ValueError("hands its state through forward; make it with init_hidden=True, which spikes alone")
    if m.inhibition or m.state_quant or _one(m.graded_spikes_factor, "graded_spikes_factor") != 1.0:
        raise ValueError("has inhibition, state_quant or graded spikes; leave them off")
    beta = min(1.0, max(0.0, _one(m.beta, "beta")))
    return Spiking(Law(charge(beta), _one(m.threshold, "threshold"), fires=_fires(m.spike_grad)))


def _one(value: Any, what: str) -> float:
    if not isinstance(value, torch.Tensor):
        return float(value)
    if value.numel() != 1:
        raise ValueError(
            f"has {value.numel()} values of {what}; a population has one: give each group of neurons a layer of its own"
        )
    return float(value.detach())


READERS: dict[str, Callable[[Any], Node]] = {
    "Linear": _read_linear,
    "DelayLinear": _read_delays,
    "Conv1d": _read_conv1d,
    "Conv2d": _read_conv2d,
    "AvgPool2d": _read_avgpool2d,
    "Flatten": _read_flatten,
    "Spiking": lambda m: Spiking(m.law),
    "ParametricSpiking": lambda m: Spiking(m.law),
    "LearnedSpiking": lambda m: Spiking(m.law),
    "Integrating": lambda m: Integrator(m.charge),
    "IFNode": lambda m: _read_node(m, NoLeak()),
    "LIFNode": lambda m: _read_node(m, Tau(_one(m.tau, "tau"), bool(m.decay_input), _rest(m))),
    "ParametricLIFNode": lambda m: _read_node(m, Rate(_plif_rate(m), bool(m.decay_input), _rest(m))),
    "Leaky": _read_leaky,
    "Synaptic": _read_synaptic,
    "CUBALIFNode": lambda m: _read_node(m, Decay(_one(m.c_decay, "c_decay"), _one(m.v_decay, "v_decay"))),
}
