"""The integer laws of populations, one chip step each: lava-nc 0.10.0's fixed-point process models, readable.

With ``>>`` arithmetic, ``trunc(p, b) = sign(p) (|p| >> b)``, V = 2^23, wrapN two's complement of N bits, ``a`` what
arrives (int32) and k the chip step:

    Lif, Ternary
        u = v = 0                                        where reset_interval says so (Lif)
        x = wrap32(trunc(u (4096 - (du + 1)), 12) + wrap32(a << 6))
        u = x - 2V where x > V, x + 2V where x <= -V, else x            the current wraps, once
        y = trunc(v (4096 - dv), 12) + u + bias                         bias = mantissa << bias_exp
        v = clip(y, -V + 1, V - 1)                                      the voltage saturates
        s = v > (vth << 6)                 Ternary: (v > vth_hi << 6) - (v < vth_lo << 6)
        v = 0 where s; u is not reset      or v - (subtract << 6): reset "subtract", our extension
    Sigma         sigma = wrap32(sigma + a);  s = sigma
    Delta         y = wrap32(a << (spike_exp + state_exp));  s = send(y)
    SigmaDelta    sigma = wrap32(sigma + a);  y = f(wrap32(sigma + (bias << (spike_exp + state_exp))));  s = send(y)
        send(y):  d = wrap32(y - act + residue);  e = d, or with cum_error error = wrap32(error + d) and e = error
                  out = d where |e| >= vth << (spike_exp + state_exp), else 0;  error = 0 where out != 0
                  residue = wrap32(d - out);  act = y;  send out >> state_exp
    ResonateFire  re = clip(trunc(cos re, b) - trunc(sin im, b) + (a_real << state_exp), -V + 1, V - 1)
                  im = clip(trunc(sin re, b) + trunc(cos im, b) + (a_imag << state_exp), -V + 1, V - 1)
                  s = re >= vth and im >= 0 and im < 0 before            vth << state_exp, b = decay_bits
                  izhikevich: s = im >= vth;  re = 0, im = vth - 1 where s
    Graded        s = a where |a| > vth (relu: a > vth), else 0

u and v are in 1/64 of a weight unit. Source: lava-nc 0.10.0, ``proc/lif``, ``proc/sdn``, ``proc/rf``, ``proc/rf_iz``,
``proc/graded``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.loihi import Delta, Graded, Lif, Population, ResonateFire, Sigma, SigmaDelta, Ternary

Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]
Vars: TypeAlias = Mapping[str, Ints]
V = 2**23


@dataclass(frozen=True)
class Moment:
    """One chip step of one population: messages; who was active, whose current wrapped, whose voltage was clipped."""

    s: Ints
    active: Bools
    wrapped: Bools
    clipped: Bools


Stepped: TypeAlias = tuple[Moment, dict[str, Ints]]


def wrap(x: Ints, bits: int) -> Ints:
    """Two's complement of so many bits."""
    half = 2 ** (bits - 1)
    return np.asarray((x + half) % (2 * half) - half)


def trunc(p: Ints, bits: int) -> Ints:
    """Divided by ``2**bits``, toward zero."""
    return np.asarray(np.sign(p) * (np.abs(p) >> bits))


def shifted(mantissa: Any, exponent: int) -> Any:
    """``mantissa << exponent``, to the right below 0; 0 for None."""
    if mantissa is None:
        return np.int64(0)
    wide = mantissa.astype(np.int64)
    return wide << exponent if exponent >= 0 else wide >> -exponent


def step(node: Population, k: int, x: Vars, a: Mapping[str, Ints]) -> Stepped:
    """One step: ``(chip step, state, what arrives by port) -> (moment, state)``, all arrays (samples, neurons)."""
    return LAWS[type(node)](node, k, x, a)


def lif(node: Lif, k: int, x: Vars, a: Mapping[str, Ints]) -> Stepped:
    """Lif: see the module."""
    u, v = x["u"], x["v"]
    if node.reset_interval and (k + 1) % node.reset_interval == node.reset_offset % node.reset_interval:
        u, v = u * 0, v * 0
    moment, u, v = _integrate(node, u, v, a["real"])
    s = (v > shifted(np.asarray(node.vth), 6)).astype(np.int64)
    left = v - (node.subtract << 6) if node.reset == "subtract" else 0
    return _with(moment, s), {"u": u, "v": np.where(s == 1, left, v)}


def ternary(node: Ternary, k: int, x: Vars, a: Mapping[str, Ints]) -> Stepped:
    """Ternary: see the module."""
    moment, u, v = _integrate(node, x["u"], x["v"], a["real"])
    high, low = (v > shifted(np.asarray(node.vth_hi), 6)), (v < shifted(np.asarray(node.vth_lo), 6))
    s = high.astype(np.int64) - low
    return _with(moment, s), {"u": u, "v": np.where(s != 0, 0, v)}


def _integrate(node: Lif | Ternary, u: Ints, v: Ints, a: Ints) -> tuple[Moment, Ints, Ints]:
    bias = shifted(node.bias, node.bias_exp)
    active = (a != 0) | (u != 0) | (v != 0) | (bias != 0)
    x = wrap(trunc(u * (4096 - (node.du + 1)), 12) + wrap(a << 6, 32), 32)
    u = np.where(x > V, x - 2 * V, np.where(x <= -V, x + 2 * V, x))
    y = trunc(v * (4096 - node.dv), 12) + u + bias
    v = np.clip(y, -V + 1, V - 1)
    return Moment(v, active, u != x, v != y), u, v


def sigma(node: Sigma, k: int, x: Vars, a: Mapping[str, Ints]) -> Stepped:
    """Sigma: see the module."""
    y = wrap(x["sigma"] + a["real"], 32)
    return _quiet(y, (a["real"] != 0) | (x["sigma"] != 0)), {"sigma": y}


def delta(node: Delta, k: int, x: Vars, a: Mapping[str, Ints]) -> Stepped:
    """Delta: see the module."""
    y = wrap(a["real"] << (node.spike_exp + node.state_exp), 32)
    active = (a["real"] != 0) | (x["act"] != 0) | (x["residue"] != 0)
    s, left = _send(node, x, y)
    return _quiet(s, active), left


def sigma_delta(node: SigmaDelta, k: int, x: Vars, a: Mapping[str, Ints]) -> Stepped:
    """SigmaDelta: see the module."""
    total = wrap(x["sigma"] + a["real"], 32)
    y = wrap(total + shifted(node.bias, node.spike_exp + node.state_exp), 32)
    y = np.maximum(y, 0) if node.activation == "relu" else y
    active = (a["real"] != 0) | (total != 0) | (x["act"] != 0) | (x["residue"] != 0) | (y != 0)
    s, left = _send(node, x, y)
    return _quiet(s, active), {"sigma": total, **left}


def _send(node: Delta | SigmaDelta, x: Vars, y: Ints) -> tuple[Ints, dict[str, Ints]]:
    d = wrap(wrap(y - x["act"], 32) + x["residue"], 32)
    error = wrap(x["error"] + d, 32) if node.cum_error else x["error"]
    size = wrap(np.abs(error if node.cum_error else d), 32)  # |-2^31| stays negative in int32
    out = np.where(size >= node.vth << (node.spike_exp + node.state_exp), d, 0)
    error = np.where(wrap(np.abs(out), 32) > 0, 0, error) if node.cum_error else error
    return out >> node.state_exp, {"act": y, "residue": wrap(d - out, 32), "error": error}


def resonate_fire(node: ResonateFire, k: int, x: Vars, a: Mapping[str, Ints]) -> Stepped:
    """ResonateFire: see the module."""
    re, im, b = x["real"], x["imag"], node.decay_bits
    cos, sin, vth = node.cos_decay, node.sin_decay, node.vth << node.state_exp
    into_re, into_im = (wrap(a[p] << node.state_exp, 32) for p in ("real", "imag"))
    active = (into_re != 0) | (into_im != 0) | (re != 0) | (im != 0)
    y_re = trunc(cos * re, b) - trunc(sin * im, b) + into_re
    y_im = trunc(sin * re, b) + trunc(cos * im, b) + into_im
    new_re, new_im = np.clip(y_re, -V + 1, V - 1), np.clip(y_im, -V + 1, V - 1)
    clipped = (new_re != y_re) | (new_im != y_im)
    if node.izhikevich:
        s = (new_im >= vth).astype(np.int64)
        new_re, new_im = new_re * (1 - s), s * (vth - 1) + (1 - s) * new_im
    else:
        s = ((new_re >= vth) & (new_im >= 0) & (im < 0)).astype(np.int64)
    return Moment(s, active, np.zeros_like(active), clipped), {"real": new_re, "imag": new_im}


def graded(node: Graded, k: int, x: Vars, a: Mapping[str, Ints]) -> Stepped:
    """Graded: see the module."""
    v = a["real"]
    on = v > node.vth if node.relu else wrap(np.abs(v), 32) > node.vth
    return _quiet(np.where(on, v, 0), v != 0), {}


LAWS: dict[type, Callable[..., Stepped]] = {
    Lif: lif,
    Ternary: ternary,
    SigmaDelta: sigma_delta,
    Delta: delta,
    Sigma: sigma,
    ResonateFire: resonate_fire,
    Graded: graded,
}


def initial(node: Population, samples: int, size: int) -> dict[str, Ints]:
    """State before the first step: ``u0`` and ``v0`` where there are any, else 0."""
    first = {"u": getattr(node, "u0", None), "v": getattr(node, "v0", None)}
    given = {name: 0 if first.get(name) is None else np.asarray(first[name], np.int64) for name in node.states}
    return {name: np.zeros((samples, size), np.int64) + given[name] for name in node.states}


def _with(moment: Moment, s: Ints) -> Moment:
    return Moment(s, moment.active, moment.wrapped, moment.clipped)


def _quiet(s: Ints, active: Bools) -> Moment:
    no = np.zeros_like(active)
    return Moment(s, active, no, no)
