"""Quantisation-aware training: the chip's own grid in the forward pass, the gradient straight through.

    prepared = prepare(hard_reset(net))          a copy to train on, with any method (SLTT, BPTT)
    from_torch(prepared, ...)                    reads it as it stands: weights on the grid
    freeze(prepared)                             the same as plain layers, to save or to convert elsewhere

Of a population in canonical form ``u = a u + k W x; v = b v + u + bias``, with one scale s fixed at the start and
theta moved, by less than 1/1024 of it, to where ``theta s`` is whole and ``1 / s`` short enough for exact sums:

    k W s / spread        even integers -256..254, or 0..255 where the weights begin with one sign
    bias s 64             multiples of 2^j up to 4095 2^j, of what enters v
    a, b                  multiples of 1/4096;  b at least 1/4096
    spike                 v > theta

``spread`` is what pooling before the layer divides by. Compiled for the chip, weights, thresholds, decays and biases
go over without rounding, for ``compile_loihi`` finds the grid; what stays is the chip's truncation of the products
``u (4096 - du)`` and ``v (4096 - dv)`` to 1/64 of a weight unit.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn.utils import parametrize

from neuro.chip import BIAS_MAX, MANTISSA_MAX, MAX_EXP, VTH_MAX, WRAP, chip_law, largest_scale
from neuro.grid import BiasGrid, WeightGrid, short
from neuro.modules import Recurrent, Spiking, Stack
from neuro.neuron import Law
from neuro.norm import fold

Weighted: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d
ROOM = 1.5
"""By which the worst current may grow in training."""


@dataclass(eq=False)
class Population:
    """A population and what feeds it: ``layers`` with the divisor of pooling before each, and ``fixed`` weights.

    ``payload``: largest message that reaches it. ``label``: its module path, for errors.
    """

    label: str
    law: Law
    layers: list[tuple[str, Weighted, float]] = field(default_factory=list)
    fixed: list[float] = field(default_factory=list)
    payload: int = 1

    @property
    def conv(self) -> bool:
        """A convolution has no weight exponent on the chip."""
        return any(isinstance(m, nn.Conv2d) for _, m, _ in self.layers)


def prepare(module: nn.Module, *, payload: int = 1) -> nn.Module:
    """A copy of a trained ``module`` that computes on the chip's grid; its weights train on.

    Taken: ``Stack`` and ``nn.Sequential`` of Linear, Conv1d, Conv2d, BatchNorm (folded), AvgPool2d before a layer,
    Flatten, Dropout and this package's spiking modules; and what ``export.to_torch`` makes, with a surrogate, of any
    network that ``from_torch`` reads: SpikingJelly's, residual ones, loops. ``payload``: largest magnitude of the
    input's messages. Errors: ``ValueError`` naming the module, the rule and the fix.
    """
    out: Any = copy.deepcopy(module)
    found = out.populations(payload) if hasattr(out, "populations") else list(_populations(out, payload))
    if not found:
        raise ValueError("prepare: no spiking population in the module; nothing would run on the chip")
    laws = {p.label: _quantise(p) for p in found}
    if hasattr(out, "set_laws"):
        out.set_laws(laws)
    else:
        _set_laws(out, laws)
    made: nn.Module = out
    return made


def freeze(module: nn.Module) -> nn.Module:
    """A copy whose layers are plain again and hold the weights of the grid."""
    out = copy.deepcopy(module)
    for m in list(out.modules()):
        for key, child in m._modules.items():
            if child is not None and parametrize.is_parametrized(child):
                m._modules[key] = _plain(child)
    return out


def _plain(layer: nn.Module) -> nn.Module:
    """A layer of the type before, with the weights that came out: copies share the class that torch made for them."""
    kind: Any = parametrize.type_before_parametrizations(layer)
    out: nn.Module = kind.__new__(kind)
    out.__dict__ = dict(layer.__dict__)
    out._modules = {}
    out._parameters = dict.fromkeys(layer._parameters)
    for name in ("weight", "bias"):
        value = getattr(layer, name)
        out._parameters[name] = None if value is None else nn.Parameter(value.detach().clone())
    return out


def hard_reset(module: nn.Module) -> nn.Module:
    """A copy in which reset "subtract" is reset "zero", which the chip has: to fine-tune, for its answers change."""
    out = copy.deepcopy(module)
    m: Any
    for m in out.modules():
        if isinstance(m, Spiking):
            m._law = replace(m._law, reset="zero")
        elif hasattr(m, "set_laws"):
            m.set_laws({n: replace(law, reset="zero") for n, law in m.laws().items()})
    return out


def _quantise(population: Population) -> Law:
    """Put weights and biases behind grids; return the law."""
    p = population
    try:
        law = chip_law(p.law)
    except ValueError as error:
        raise ValueError(f"{p.label}: {error}") from None
    if not p.layers:
        raise ValueError(f"{p.label}: no Linear or Conv2d leads to it; there is nothing to train on a grid")
    gain, (s, q) = law.charge.canonical()[2], _scale(p, law)
    if not p.fixed:
        s = 1.0 / short(1.0 / s)
        law = replace(law, threshold=q / s + law.v_reset)
    for _, layer, spread in p.layers:
        w = layer.weight.detach()
        single = 1 if bool((w >= 0).all()) else -1 if bool((w <= 0).all()) else 0
        unit = spread / (s * gain)
        low, high, step = {0: (-128, 127, 2 * unit), 1: (0, 255, unit), -1: (-255, 0, unit)}[single]
        parametrize.register_parametrization(layer, "weight", WeightGrid(step, low, high))
    into, layers = _into(law), _biased(p, law)
    high = MANTISSA_MAX // max(1, len(layers))
    most = max([size * s * 64 / high for _, _, size in layers], default=1.0) * ROOM
    j = min(MAX_EXP, max(0, math.ceil(math.log2(max(1.0, most)))))
    for m, shift, _ in layers:
        parametrize.register_parametrization(m, "bias", BiasGrid(2.0**j / (64 * s * into), high, shift / into))
    return law


def _into(law: Law) -> float:
    """What a bias of the current comes to as one of the voltage."""
    a, _, gain, _ = law.charge.canonical()
    return gain / (1.0 - a)


def _biased(p: Population, law: Law) -> list[tuple[Any, float, float]]:
    """``(layer, what else enters v, largest of both)``; the first of several layers takes the rest."""
    _, b, _, rest = law.charge.canonical()
    shift, out = (1.0 - b) * (rest - law.v_reset), []
    for _, m, _ in p.layers:
        if m.bias is not None:
            out.append((m, shift, float((m.bias.detach().double() * _into(law) + shift).abs().max())))
            shift = 0.0
    return out


def _scale(p: Population, law: Law) -> tuple[float, float]:
    """The largest s that weights, bias and the worst current allow, and theta s, whole as are the fixed weights.

    In units of 2^-e, where the chip has an exponent e to spare.
    """
    a, _, gain, _ = law.charge.canonical()
    theta = law.threshold - law.v_reset
    if theta <= 0:
        raise ValueError(f"{p.label}: threshold {law.threshold:g} is not above v_reset {law.v_reset:g}; lower v_reset")
    most, current = 255 / (gain * max(p.fixed)) if p.fixed else math.inf, gain * sum(p.fixed)
    for name, layer, spread in p.layers:
        if parametrize.is_parametrized(layer):
            raise ValueError(f"{name}: its weight is parametrised already; freeze() the network first")
        w = layer.weight.detach().double().flatten(1) * gain / spread
        high, low = float(w.max()), float(w.min())
        if not math.isfinite(high - low) or high == low == 0.0:
            raise ValueError(f"{name}: weights are all 0 or not finite, there is no scale; train it first")
        most = min(most, largest_scale(high, low))
        either = w.abs().sum(1) if p.payload > 1 else torch.maximum(w.clamp(min=0).sum(1), (-w).clamp(min=0).sum(1))
        current += float(either.max()) * spread * p.payload
    bias = sum(size for _, _, size in _biased(p, law))
    free = (WRAP / 64 - 1) / (current / (1.0 - a) + (bias if a else 0.0))
    free = min(free, BIAS_MAX / 64 / max(bias, 1e-30)) / ROOM
    most = min(most, free, VTH_MAX / theta)
    e = 0 if p.conv else min(MAX_EXP, math.floor(math.log2(min(free, VTH_MAX / theta) / most)))
    whole = math.floor(theta * most * 2**e)
    fine = [m / (theta * 2**e) for m in range(whole, whole // 2, -1)]
    if not fine:
        raise ValueError(f"{p.label}: threshold {theta:g} rounds to 0 against its weights; lower them or raise it")
    fits = (s for s in fine if all(abs(gain * w * s - round(gain * w * s)) < 1e-9 * s for w in p.fixed))
    s = next(fits, fine[0])
    return s, round(theta * s * 2**e) / 2**e


def _populations(module: nn.Module, payload: int) -> Iterator[Population]:
    """Those of a chain; folds BatchNorm on the way."""
    waiting = Population("", Law(), payload=payload)
    spread, before = 1.0, None
    for path, owner, key, m in _leaves(module, ""):
        if isinstance(m, Spiking):
            waiting.label, waiting.law = path, m.law
            if not waiting.layers:
                waiting.fixed.append(1.0 / spread)
            yield waiting
            waiting, spread, before = Population("", Law()), 1.0, None
        elif isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d):
            if waiting.layers:
                raise ValueError(f"{path}: two layers in a row without neurons between; make them one")
            waiting.layers.append((path, m, spread))
            spread, before = 1.0, m
        elif isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d):
            if before is None:
                raise ValueError(f"{path}: BatchNorm folds into a layer right before it; move it there")
            try:
                fold(before, m)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
            owner._modules[key] = nn.Identity()
            before = None
        elif isinstance(m, nn.AvgPool2d):
            if waiting.layers:
                raise ValueError(f"{path}: pooling between a layer and its neurons adds weights up; pool before it")
            size = m.kernel_size
            spread, before = spread * (size**2 if isinstance(size, int) else math.prod(size)), None
        elif not isinstance(m, nn.Flatten | nn.Dropout | nn.Dropout2d | nn.Identity):
            raise ValueError(
                f"{path}: {type(m).__name__} is not taken here; give prepare() what export.to_torch makes of "
                "from_torch(module, shape), or write it with neuro.modules"
            )


def _leaves(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module, str, nn.Module]]:
    """``(path, owner, key, module)`` in the order in which a chain runs."""
    for key, child in module._modules.items():
        if child is None:
            continue
        here = f"{path}.{key}" if path else key
        if isinstance(child, Stack | nn.Sequential):
            yield from _leaves(child, here)
        elif isinstance(child, Recurrent):
            raise ValueError(
                f"{here}: a loop is no chain; give prepare() what export.to_torch makes of from_torch(module, shape)"
            )
        else:
            yield here, module, key, child


def _set_laws(module: nn.Module, laws: dict[str, Law]) -> None:
    for label, law in laws.items():
        old = module.get_submodule(label)
        owner, _, key = label.rpartition(".")
        surrogate = old.surrogate if isinstance(old, Spiking) else None
        module.get_submodule(owner)._modules[key] = Spiking(law, surrogate)
