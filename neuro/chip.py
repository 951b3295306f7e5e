"""The grid of an integer chip in numbers: what decays, weights, biases and thresholds may be. No torch.

    u = a u + k W x;  v = b v + u + bias;  fires at v > vth
    a = (4095 - du) / 4096;  b = (4096 - dv) / 4096

Training (:mod:`neuro.methods.qat`) and export (:mod:`export.quantize`) go by these.
"""

from __future__ import annotations

from dataclasses import replace

from neuro.neuron import Charge, Decay, Law, Leaky, NoLeak, Rate, Tau

VTH_MAX, MANTISSA_MAX, MAX_EXP = 131071, 4095, 7
BIAS_MAX = MANTISSA_MAX << MAX_EXP
"""As a current: in 1/64 of a weight unit."""

WRAP = 2**23
"""Size at which a current wraps, in 1/64 of a weight unit."""


def decays(a: float, b: float) -> tuple[int, int]:
    """``(du, dv)`` nearest to what a step keeps, dv at most 4095. Errors: ``ValueError`` for a current kept whole."""
    du, dv = round((1.0 - a) * 4096) - 1, round((1.0 - b) * 4096)
    if du < 0:
        raise ValueError(f"a current that keeps {a:g} per step has no legal du; keep at most {1 - 1 / 4096:.6f}")
    return du, min(dv, 4095)


def kept(du: int, dv: int) -> tuple[float, float]:
    """What a step keeps of current and voltage, ``(a, b)``: the inverse of :func:`decays`."""
    return (4095 - du) / 4096, (4096 - dv) / 4096


def chip_law(law: Law) -> Law:
    """The law with its decays on the chip's grid of 1/4096 and ``>``; all else as it is.

    Errors: ``ValueError`` for a current that the chip cannot keep.
    """
    was = law.charge.canonical()[1]
    a, b = kept(*decays(*law.charge.canonical()[:2]))
    charge: Charge = law.charge
    if isinstance(charge, Tau | Rate) and (b != was or isinstance(charge, Rate)):
        charge = Rate(1.0 - b, charge.decay_input, charge.rest)
    elif isinstance(charge, Leaky):
        charge = Leaky(b)
    elif isinstance(charge, Decay):
        charge = Decay(a, b)
    elif not isinstance(charge, NoLeak | Tau):
        raise ValueError(f"{charge} has no canonical form here")
    return replace(law, charge=charge, fires=">")


def largest_scale(high: float, low: float) -> float:
    """By what weights between low and high may be multiplied: -256..254 (even) where signs mix, else up to 255."""
    return min(254 / high, 256 / -low) if high > 0 > low else 255 / max(high, -low)
