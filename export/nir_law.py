"""NIR's differential equations as discrete laws and back.

    LIF       tau v' = (v_leak - v) + r I;   spike where v > v_threshold, then v = v_reset
    CubaLIF   tau_syn I' = -I + w_in S;      tau_mem v' = (v_leak - v) + r I
    IF        v' = r I                       I, LI, CubaLI: the same without spikes

    forward Euler at dt   b = 1 - dt/tau,      k = r dt/tau;    a = 1 - dt/tau_syn,      g = w_in dt/tau_syn
    exact (exponential)   b = exp(-dt/tau),    k = r (1 - b);   a = exp(-dt/tau_syn),    g = w_in (1 - a)

    v[t] = b v[t-1] + (1 - b) v_leak + k x[t];     CubaLIF: i[t] = a i[t-1] + g x[t], v takes i[t]

What the charges of :mod:`neuro.neuron` have no field for is a **gain** of the input: it goes into the weights before
the population. Parameters that differ from neuron to neuron go there too where that is exact: r, w_in, and
v_threshold, v_leak and v_reset where (v_reset - v_leak) / (v_threshold - v_leak) is one number, for then
(v - v_leak) / (v_threshold - v_leak) obeys one law with threshold 1. One tau per population.

Out: tau = dt / (1 - b), r = k tau / dt, w_in = tau_syn / dt, so that Euler at the same dt gives a, b and k back. A
constant is read as the shortest decimal that the file's value, in its own precision, is made from: 2.0 steps times
1e-4 s comes back as 2.0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from export.network import Integrator, NetworkError, Shape, Spiking
from export.nir_file import Raw
from export.nir_split import MAX_GROUPS, TAUS
from export.program import MappingError
from neuro.neuron import Charge, Decay, Law, Leaky, NoLeak, Rate, Tau

Array: TypeAlias = npt.NDArray[np.float64]
Value: TypeAlias = float | Array
Reset: TypeAlias = Literal["hard", "soft"]

FIELDS = {
    "IF": ("r", "v_threshold", "v_reset"),
    "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
    "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "w_in"),
    "I": ("r",),
    "LI": ("tau", "r", "v_leak"),
    "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
    "Threshold": ("threshold",),
}
DEFAULTS = {"v_reset": 0.0, "w_in": 1.0}
SPIKING = ("IF", "LIF", "CubaLIF", "Threshold")


@dataclass(frozen=True)
class Step:
    """The discrete law that the file or the caller told. ``euler`` or ``exact``; ``hard`` or ``soft``."""

    dt: float
    discretization: str
    reset: Reset
    fires: Literal[">=", ">"]


@dataclass(frozen=True)
class Read:
    """A population and the gain of its input; ``notes``: what was folded, and by how much."""

    node: Spiking | Integrator
    gain: Value
    notes: tuple[tuple[str, float], ...] = ()


def read_population(name: str, raw: Raw, shape: Shape, step: Step) -> Read:
    """Errors: :class:`MappingError` where no law here is equal, ``NetworkError`` for wrong shapes and NaN."""
    kind = raw["type"]
    p, single = _parameters(name, raw, shape)
    eps = 4 * float(np.finfo(np.float32 if single else np.float64).eps)
    charge, gain, leak = _charge(name, kind, p, step, single)
    gain = _near_one(gain, eps)
    notes: list[tuple[str, float]] = []
    try:
        if kind not in SPIKING:
            return Read(_integrator(name, charge, leak), gain)
        law, scale = _law(name, kind, charge, leak, p, step, notes)
    except ValueError as error:
        raise error if isinstance(error, MappingError) else MappingError(f"{name}: {error}") from None
    return Read(Spiking(law), _near_one(gain * scale, eps), tuple(notes))


def _parameters(name: str, raw: Raw, shape: Shape) -> tuple[dict[str, Value], bool]:
    """Each a float where it is uniform; and whether any is single precision."""
    found: dict[str, Value] = {}
    single = False
    for key in FIELDS[raw["type"]]:
        if raw.get(key) is None:
            if key not in DEFAULTS:
                raise NetworkError(f"{name}: {raw['type']} lacks '{key}'; export it again with nir 1.0")
            found[key] = DEFAULTS[key]
            continue
        a = np.asarray(raw[key])
        if a.dtype.kind not in "fiub" or not a.size:
            raise NetworkError(f"{name}: {key} is {a.dtype} {a.shape}, not numbers; export it again")
        single |= a.dtype.kind == "f" and a.dtype.itemsize < 8
        a = a.astype(np.float64)
        if not np.isfinite(a).all():
            raise NetworkError(
                f"{name}: {key} holds NaN or infinity; the training diverged, load an earlier checkpoint"
            )
        if a.size > 1 and _trim(a.shape) != _trim(shape):
            raise NetworkError(
                f"{name}: {key} has shape {a.shape}, its input {shape}; one value a neuron, or one for all"
            )
        found[key] = float(a.flat[0]) if (a == a.flat[0]).all() else a.reshape(shape)
    return found, single


def _trim(shape: Shape) -> Shape:
    """Without leading axes of 1."""
    return _trim(shape[1:]) if len(shape) > 1 and shape[0] == 1 else shape


def _one(name: str, key: str, value: Value) -> float:
    if isinstance(value, float):
        return value
    beyond = f", at more than {MAX_GROUPS} values or in several axes" if key in TAUS else ""
    raise MappingError(
        f"{name}: {key} differs between its neurons, {value.min():g} to {value.max():g}{beyond}; split it into "
        "populations of one value each, or train one for all"
    )


def _charge(name: str, kind: str, p: dict[str, Value], step: Step, single: bool) -> tuple[Charge, Value, Value]:
    """``(charge with rest 0, gain, v_leak)``."""
    if kind == "Threshold":
        return Rate(1.0, decay_input=False), 1.0, 0.0  # h = v - v + x: forgets everything
    if kind in ("IF", "I"):
        return NoLeak(), p["r"] * step.dt, 0.0
    exact = step.discretization == "exact"
    if kind in ("LIF", "LI"):
        tau = _one(name, "tau", p["tau"])
        if exact:
            tau = _recovered(tau, lambda c: c, tau, single)
        whole = isinstance(p["r"], float) and abs(p["r"] - 1.0) <= (1e-6 if single else 1e-12)
        if exact:
            lost = -math.expm1(-step.dt / _positive(name, "tau", tau))
            return Rate(lost, whole), 1.0 if whole else p["r"] * lost, p["v_leak"]
        steps = _recovered(tau / step.dt, lambda c: c * step.dt, _positive(name, "tau", tau, step.dt), single)
        return Tau(max(1.0, steps), whole), 1.0 if whole else p["r"] / steps, p["v_leak"]
    kept, gain = [], p["w_in"] * p["r"]
    for key in ("tau_syn", "tau_mem"):
        tau = _one(name, key, p[key])
        if exact:
            tau = _recovered(tau, lambda c: c, tau, single)
            kept.append(math.exp(-step.dt / _positive(name, key, tau)))
            gain = gain * -math.expm1(-step.dt / tau)
        else:
            share = step.dt / _positive(name, key, tau, step.dt)
            kept.append(
                max(0.0, _recovered(1.0 - share, lambda c: step.dt / (1.0 - c) if c < 1.0 else math.inf, tau, single))
            )
            gain = gain * share
    return Decay(*kept), gain, p["v_leak"]


def _positive(name: str, key: str, tau: float, dt: float = 0.0) -> float:
    if tau <= 0:
        raise MappingError(f"{name}: {key} must be positive seconds, got {tau:g}")
    if tau < dt * (1 - 1e-6):
        raise MappingError(
            f"{name}: {key} {tau:g} s is shorter than the step of {dt:g} s, where Euler overshoots; "
            "give a smaller dt_s, or discretization='exact'"
        )
    return tau


def _recovered(guess: float, forward: Callable[[float], float], stored: float, single: bool) -> float:
    """The shortest decimal near ``guess`` from which ``stored`` is made in its own precision, else ``guess``."""
    kind = np.float32 if single else np.float64
    for digits in range(1, 18):
        c = float(f"{guess:.{digits}g}")
        if kind(forward(c)) == kind(stored):
            return c
    return guess


def _near_one(gain: Value, eps: float) -> Value:
    """1 where the file's precision cannot tell it from 1, and one number where all are."""
    if isinstance(gain, float):
        return 1.0 if abs(gain - 1.0) <= eps else gain
    return _near_one(float(gain.flat[0]), eps) if (gain == gain.flat[0]).all() else gain


def _integrator(name: str, charge: Charge, leak: Value) -> Integrator:
    rest = _one(name, "v_leak", leak)
    if isinstance(charge, Decay):
        return Integrator(charge, rest)
    return Integrator(_with_rest(charge, rest))


def _with_rest(charge: Charge, rest: float) -> Charge:
    if isinstance(charge, Tau):
        return Tau(charge.tau, charge.decay_input, rest)
    return Rate(charge.rate, charge.decay_input, rest) if isinstance(charge, Rate) else charge


def _law(
    name: str, kind: str, charge: Charge, leak: Value, p: dict[str, Value], step: Step, notes: list[tuple[str, float]]
) -> tuple[Law, Value]:
    """The law, and what its input is multiplied by beside the gain of the charge."""
    soft = step.reset == "soft" and kind != "Threshold"
    theta = p["threshold"] if kind == "Threshold" else p["v_threshold"]
    reset: Value = 0.0 if soft or kind == "Threshold" else p["v_reset"]
    if soft and np.any(p["v_reset"] != 0.0):
        notes.append(("v_reset has no meaning under reset 'soft' and is left out", float(np.max(np.abs(p["v_reset"])))))
    how: Any = "subtract" if soft else "zero"
    if isinstance(theta, float) and isinstance(leak, float) and isinstance(reset, float):
        if isinstance(charge, Decay) and leak:
            if soft:
                raise MappingError(f"{name}: v_leak {leak:g} with reset 'soft' has no law here; train with v_leak 0")
            notes.append(("membrane potential counted from v_leak", abs(leak)))
            return Law(charge, theta - leak, how, reset - leak, step.fires), 1.0
        return Law(_with_rest(charge, leak), theta, how, reset, step.fires), 1.0
    if soft and np.any(np.asarray(leak) != 0.0):
        raise MappingError(f"{name}: v_threshold differs and v_leak is not 0 under reset 'soft'; train with v_leak 0")
    above = np.asarray(theta, np.float64) - leak
    if above.min() <= 0:
        raise MappingError(f"{name}: v_threshold must lie above v_leak, is {above.min():g} from it; raise it")
    place = np.asarray((np.asarray(reset) - leak) / above if not soft else 0.0)
    if np.ptp(place) > 1e-12:
        raise MappingError(
            f"{name}: v_reset lies at {place.min():g} to {place.max():g} of the way from v_leak to v_threshold; with "
            "thresholds that differ it must be one place; train with v_reset = v_leak"
        )
    notes.append(("thresholds that differ made 1 by the weights before them; largest of them", float(above.max())))
    return Law(charge, 1.0, how, float(place.flat[0]), step.fires), 1.0 / above


def told_law(read: Read, told: Law | Charge | None) -> Read:
    """``read`` with the law that spikeport wrote beside the parameters, where both say the same to 1e-9."""
    if told is None or not isinstance(read.gain, float):
        return read
    node = read.node
    old = node.law.charge if isinstance(node, Spiking) else node.charge
    new = told.charge if isinstance(told, Law) else told
    a, b = np.array(old.canonical()), np.array(new.canonical())
    a[2] *= read.gain
    same = np.allclose(a, b, rtol=1e-9, atol=1e-12)
    if isinstance(node, Spiking):
        if not same or not isinstance(told, Law):
            return read
        old_law, new_law = ([x.threshold, x.v_reset] for x in (node.law, told))
        alike = np.allclose(old_law, new_law, rtol=1e-9, atol=1e-12)
        named = (node.law.reset, node.law.fires) == (told.reset, told.fires)
        return Read(Spiking(told), 1.0, read.notes) if alike and named else read
    return Read(Integrator(new, node.offset), 1.0, read.notes) if same and not isinstance(told, Law) else read


def write_population(name: str, node: Spiking | Integrator, shape: Shape, dt: float) -> Raw:
    """``{"type", parameters of the population's shape}``. Errors: :class:`MappingError` where tau would be infinite."""
    spiking = isinstance(node, Spiking)
    charge = node.law.charge if isinstance(node, Spiking) else node.charge
    offset = 0.0 if isinstance(node, Spiking) else node.offset
    p: dict[str, float] = {}
    if isinstance(charge, NoLeak) or charge == Leaky(1.0):
        kind, p["r"] = "I", 1.0 / dt
    elif isinstance(charge, Decay):
        kind = "CubaLI"
        for key, share in (("tau_syn", charge.current), ("tau_mem", charge.voltage)):
            if share >= 1.0:
                raise MappingError(f"{name}: keeps {share:g} of itself, {key} would be infinite; NIR takes less than 1")
            p[key] = dt / (1.0 - share)
        p |= {"r": p["tau_mem"] / dt, "w_in": p["tau_syn"] / dt, "v_leak": offset}
        offset = 0.0
    elif isinstance(charge, Leaky):
        kind, steps = "LI", 1.0 / (1.0 - charge.beta)
        p |= {"tau": steps * dt, "r": steps, "v_leak": 0.0}
    else:
        kind = "LI"
        steps = charge.tau if isinstance(charge, Tau) else 1.0 / charge.rate if charge.rate else math.inf
        if not math.isfinite(steps):
            raise MappingError(f"{name}: loses nothing, tau would be infinite; use NoLeak, which NIR calls IF")
        p |= {"tau": steps * dt, "r": 1.0 if charge.decay_input else steps, "v_leak": charge.rest}
    if offset:
        raise MappingError(f"{name}: an offset of {offset:g} on {charge.kind} has no NIR node; add it outside")
    if isinstance(node, Spiking):
        p |= {"v_threshold": node.law.threshold, "v_reset": node.law.v_reset}
    return {"type": kind + "F" if spiking else kind} | {k: np.full(shape, v, np.float64) for k, v in p.items()}
