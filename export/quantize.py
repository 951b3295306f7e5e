"""One population and what feeds it, from floats to the chip's integers under one joint scale; every rounding a Loss.

Canonical form (``Charge.canonical``):  u = a u + k W x;  v = b v + u + bias;  spike at theta. With the scale s:

    W_int = 2 round(k W s / 2)   mixed signs, -256..254;      round(k W s)   one sign, up to 255
    vth = round(theta s 2^e)     1..131071
    bias = round(bias s 64 2^e)  = mantissa 2^exp, |mantissa| <= 4095
    du = round((1 - a) 4096) - 1;      dv = round((1 - b) 4096), at most 4095

s is the largest the weights allow, or the largest with which weights that lie on a grid stay exact, or ``shrink`` of
the largest where a search asks for it. e (0..7, 0 for convolutions, which ignore it) is the largest with which vth fits
and the current cannot reach 2^23 and wrap.
A bias that feeds a decaying current enters as ``bias / (1 - a)`` on v with ``u0 = -bias / (1 - a)``: the same series.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from export.grid import TOLERANCE, is_whole, step_of
from export.loihi import Int, SignMode
from export.lower import Link
from export.network import Loss
from export.program import MappingError
from neuro.chip import BIAS_MAX, MANTISSA_MAX, MAX_EXP, VTH_MAX, WRAP, decays, kept, largest_scale
from neuro.neuron import Law

Float: TypeAlias = npt.NDArray[np.float64]
MARGIN = 1.5
"""Room over the largest current of a calibration batch."""

BITS_KEPT = 3.0
"""Of the weights' 8 bits; a scale that leaves fewer is refused."""


@dataclass(frozen=True, eq=False)
class Quantized:
    """Integers of one population. ``scale``: threshold units (``s 2^e``) that 1.0 of the float potential became."""

    weights: list[Int]
    sign_modes: list[SignMode]
    weight_exp: int
    du: int
    dv: int
    vth: int
    subtract: int
    bias: Int | None
    bias_exp: int
    u0: Int | None
    scale: float
    losses: list[Loss]


@dataclass(frozen=True, eq=False)
class Task:
    """What is quantised: float weights times gain, signs, threshold and bias above reset, largest payload per link.

    ``peak``: largest current of a calibration batch, or None for the worst case over all inputs.
    """

    name: str
    law: Law
    links: list[Link]
    weights: list[Float]
    signs: list[SignMode]
    payloads: list[int]
    a: float
    b: float
    gain: float
    theta: float
    bias: Float | None
    u0: Float | None
    peak: float | None
    unit: float | None
    """The least scale at which every weight is a legal integer without rounding, or None."""


def quantize(
    name: str,
    law: Law,
    links: list[Link],
    bias: Float | None,
    payloads: list[int],
    peak: float | None = None,
    shrink: float = 1.0,
) -> Quantized:
    """``bias``: constant input of the population (its shape) or None; ``payloads``: largest message of each link.

    ``shrink``: share of the largest scale, 1 for the analytic choice. Errors: :class:`MappingError` naming node, value
    and fix.
    """
    task = _task(name, law, links, bias, payloads, peak)
    du, dv, losses = _decays(task)
    limits = _limits(task)
    cause = min(limits, key=lambda k: limits[k])
    most = limits[cause]
    s = (_on_grid(task, most) or most) if shrink == 1.0 else most * shrink
    weights, e = _fitted(task, s)
    while e < 0:
        cause = "a current could reach 2^23" if peak is None else "a current of the calibration batch times 1.5"
        s = s * min(0.999, _room(task, weights, s))
        s = (_on_grid(task, s) or s) if shrink == 1.0 else s
        weights, e = _fitted(task, s)
    bits = 0.0 if _exact(task, s) else math.log2(limits["the weights"] / s)
    if bits > 8 - BITS_KEPT or any(not w.any() for w in weights):
        raise MappingError(
            f"{name}: {cause}: at scale {s:.3g} the weights keep {max(0.0, 8 - bits):.1f} of 8 bits or round to 0; "
            f"{_FIXES.get(cause, _SMALLER_CURRENT)}"
        )
    if bits > 1e-9:
        cause = cause if shrink == 1.0 else "fewest wrong spike counts of the calibration batch"
        losses.append(Loss(name, f"scale below what the weights allow, bits lost: {cause}", bits))
    losses += _weight_losses(task, weights, s)
    scale = s * 2.0**e
    vth, subtract = _threshold(task, scale, _exact(task, s), losses)
    mantissa, exp, u0 = _bias(task, scale, losses)
    return Quantized(weights, task.signs, e, du, dv, vth, subtract, mantissa, exp, u0, scale, losses)


_SMALLER_CURRENT = (
    "pass calibration=(samples, T, ...) to bound currents by real input, lower graded_bits, or split the layer"
)
_FIXES = {
    "the weights": "the layers into one population differ too much in size; bring their weights nearer",
    "the threshold fits 131071": "lower the threshold or raise the weights",
    "the bias fits 4095 << 7": "lower the bias, or bring the leak's target and v_reset together",
    "the first current of a bias fits 2^22": "lower the bias, or let the current decay faster",
}


def sign_of(w: Float) -> SignMode:
    """The sign mode of weights: all >= 0, all <= 0, or mixed."""
    return "excitatory" if w.min() >= 0 else "inhibitory" if w.max() <= 0 else "mixed"


def _task(name: str, law: Law, links: list[Link], bias: Float | None, payloads: list[int], peak: float | None) -> Task:
    a, b, gain, rest = law.charge.canonical()
    theta = law.threshold - law.v_reset
    if theta <= 0:
        raise MappingError(f"{name}: threshold {law.threshold:g} is not above v_reset {law.v_reset:g}; lower v_reset")
    for link in links:
        if not link.weight.any():
            raise MappingError(f"{link.label}: all weights are 0, there is no scale; train it or take it out")
        if not np.isfinite(link.weight).all():
            raise MappingError(f"{link.label}: weights hold NaN or infinity; the training diverged, lower its rate")
    current = None if bias is None or a == 1.0 else bias.ravel() * gain / (1.0 - a)
    shift = (1.0 - b) * (rest - law.v_reset)
    total = current if shift == 0.0 else np.array([shift]) if current is None else current + shift
    signs = [sign_of(x.weight) for x in links]
    step = step_of([x.weight for x in links])
    return Task(
        name,
        law,
        links,
        [x.weight * gain for x in links],
        signs,
        payloads,
        a,
        b,
        gain,
        theta,
        total,
        None if current is None or a == 0.0 else -current,
        peak,
        None if step is None else (2.0 if "mixed" in signs else 1.0) / (step * gain),
    )


def _decays(task: Task) -> tuple[int, int, list[Loss]]:
    try:
        du, dv = decays(task.a, task.b)
    except ValueError as refused:
        raise MappingError(f"{task.name}: {refused}") from None
    losses = []
    if round(task.b * 4096) == 0:
        losses.append(Loss(task.name, "voltage keeps 1/4096 instead of nothing (dv is at most 4095)", 1 / 4096))
    a, b = kept(du, dv)
    error = max(abs(a - task.a), abs(b - task.b) if task.b else 0.0)
    if error:
        losses.append(Loss(task.name, "decay rounded to 1/4096, error of the fraction kept per step", error))
    return du, dv, losses


def _limits(task: Task) -> dict[str, float]:
    """Largest s at e = 0 by what sets it."""
    limits = {"the weights": math.inf, "the threshold fits 131071": VTH_MAX / task.theta}
    for w in task.weights:
        limits["the weights"] = min(limits["the weights"], largest_scale(float(w.max()), float(w.min())))
    if task.bias is not None and task.bias.any():
        limits["the bias fits 4095 << 7"] = BIAS_MAX / 64 / float(np.abs(task.bias).max())
    if task.u0 is not None and task.u0.any():
        limits["the first current of a bias fits 2^22"] = WRAP / 128 / float(np.abs(task.u0).max())
    return limits


def _on_grid(task: Task, most: float) -> float | None:
    """The largest exact s up to ``most``, preferring one with which the threshold is exact too."""
    unit = task.unit
    if unit is None or unit > most * (1 + TOLERANCE):
        return None
    count, fine = math.floor(most / unit * (1 + TOLERANCE)), task.theta * 2 ** _free_exp(task)
    m = next((m for m in range(count, 0, -1) if is_whole(fine * unit * m)), None)
    return unit * count if m is None else round(fine * unit * m) / fine


def _exact(task: Task, s: float) -> bool:
    return task.unit is not None and is_whole(s / task.unit)


def _free_exp(task: Task) -> int:
    return 0 if any(x.conv for x in task.links) else MAX_EXP


def _integers(task: Task, s: float) -> list[Int]:
    out: list[Int] = []
    for w, sign in zip(task.weights, task.signs, strict=True):
        n = 2 * np.rint(w * s / 2) if sign == "mixed" else np.rint(w * s)
        out.append(np.clip(n, -256, 254 if sign == "mixed" else 255).astype(np.int16))
    return out


def _fitted(task: Task, s: float) -> tuple[list[Int], int]:
    """Integer weights at s and the largest exponent that fits, or -1."""
    weights = _integers(task, s)
    top = -1
    for e in range(_free_exp(task) + 1):
        bias = 0.0 if task.bias is None else float(np.abs(task.bias).max())
        if round(task.theta * s * 2**e) > VTH_MAX or bias * s * 2**e * 64 > BIAS_MAX * (1 + 1e-9):
            break
        if _current(task, weights, s) * 2**e * 64 >= WRAP:
            break
        top = e
    return weights, top


def _current(task: Task, weights: list[Int], s: float) -> float:
    """Largest magnitude of the current in weight units at e = 0: measured times a margin, or the worst input's."""
    start = 0.0 if task.u0 is None else float(np.abs(task.u0).max()) * s
    if task.peak is not None:
        return task.peak * MARGIN * s + start
    high, low = np.zeros(1), np.zeros(1)
    for w, payload in zip(weights, task.payloads, strict=True):
        flat = w.reshape(len(w), -1).astype(np.int64)
        up, down = np.where(flat > 0, flat, 0).sum(axis=1), -np.where(flat < 0, flat, 0).sum(axis=1)
        if payload > 1:  # signed: either sign of a weight can push either way
            up = down = up + down
        if len(task.links) > 1:  # neurons of a matrix and channels of an image do not line up
            up, down = up.max(), down.max()
        high, low = high + up * payload, low + down * payload
    return float(max(high.max(), low.max())) / (1.0 - task.a) + start


def _room(task: Task, weights: list[Int], s: float) -> float:
    return (WRAP - 64) / (64 * max(1.0, _current(task, weights, s)))


def _weight_losses(task: Task, weights: list[Int], s: float) -> list[Loss]:
    losses = []
    for link, n in zip(task.links, weights, strict=True):
        error = n / (s * task.gain) - link.weight
        size = float(np.abs(error).max())
        if size > TOLERANCE * float(np.abs(link.weight).max()):
            losses.append(Loss(link.label, "weights rounded to 8 bits, largest error in the layer's weight unit", size))
            rms = float(np.sqrt((error**2).mean()))
            losses.append(Loss(link.label, "weights rounded to 8 bits, rms error in the layer's weight unit", rms))
    return losses


def _threshold(task: Task, scale: float, exact: bool, losses: list[Loss]) -> tuple[int, int]:
    """``(vth, what a subtracting reset takes off)``. The chip fires at ``v > vth``.

    ``>=`` of values that are whole threshold units is ``> vth - 1``: exact for a neuron without decay. With decay it
    is used where weights and threshold are exact, so that equality does occur; else equality has no weight.
    """
    real = task.theta * scale
    whole = round(real)
    if abs(whole / scale - task.theta) > TOLERANCE * task.theta:
        losses.append(Loss(task.name, "threshold rounded, error in its own unit", abs(whole / scale - task.theta)))
    vth = whole
    if task.law.fires == ">=":
        steady = task.a == 0.0 and task.b == 1.0 and (task.bias is None or not task.bias.any())
        if steady or (exact and is_whole(real)):
            vth = whole - 1
        if not steady:
            what = "'>=' runs as '>': " + (
                "the threshold lies one unit lower, in its own unit" if vth < whole else "equality does not fire"
            )
            losses.append(Loss(task.name, what, (whole - vth) / scale))
    if vth < 1:
        raise MappingError(
            f"{task.name}: threshold {task.theta:g} rounds to {vth} at {scale:.3g} units, the chip takes 1 and more; "
            "the weights are too large against it: lower them or raise the threshold"
        )
    return vth, whole


def _bias(task: Task, scale: float, losses: list[Loss]) -> tuple[Int | None, int, Int | None]:
    """``(mantissa, exponent, u0)``."""
    if task.bias is None or not task.bias.any():
        return None, 0, None
    real = task.bias * scale * 64
    exp = next(k for k in range(MAX_EXP + 1) if float(np.abs(np.rint(real / 2**k)).max()) <= MANTISSA_MAX)
    mantissa = np.rint(real / 2**exp)
    size = float(np.abs(mantissa * 2**exp - real).max()) / (scale * 64)
    if size > TOLERANCE * float(np.abs(task.bias).max()):
        losses.append(Loss(task.name, "bias rounded, largest error in the threshold's unit", size))
    if task.u0 is None:
        return mantissa.astype(np.int16), exp, None
    first = task.u0 * scale * 64
    u0 = np.rint(first)
    size = float(np.abs(u0 - first).max()) / (scale * 64)
    if size > TOLERANCE * float(np.abs(task.u0).max()):
        losses.append(Loss(task.name, "first current of a bias rounded, largest error in the threshold's unit", size))
    return mantissa.astype(np.int16), exp, u0.astype(np.int32)
