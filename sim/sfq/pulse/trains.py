"""A source's waveform as pulses: where its flux passes the odd multiples of half a quantum."""

from __future__ import annotations

import math

import numpy as np

from sim.sfq.constants import PHI0_WB
from sim.sfq.deck import Tran
from sim.sfq.elements import Card
from sim.sfq.errors import DeckError
from sim.sfq.pulse.tables import Floats
from sim.sfq.shapes import Pulse, Pwl, Shape

AREA_BAND = 0.1
"""How far (in flux quanta) the area of a train may be from a whole number."""


def pulse_times(shape: Shape, tran: Tran | None, card: Card) -> tuple[Floats, int]:
    """Times (s) at which the flux of a source passes (k - 1/2) quanta, and its sign.

    Errors: DeckError for a shape that is not pulses, or whose area is no whole number of quanta.
    """
    stop = tran.stop_s if tran else math.inf
    t, v = _corners(shape, stop, tran.step_s if tran else 0.0, card)
    flux = np.concatenate([[0.0], np.cumsum(np.diff(t) * (v[1:] + v[:-1]) / 2)]) / PHI0_WB
    sign = -1 if flux[-1] < 0 else 1
    flux, v = sign * flux, sign * v
    whole = round(float(flux[-1]))
    if (v < -1e-9).any() or abs(flux[-1] - whole) > max(AREA_BAND, 0.01 * whole):
        raise DeckError(
            card.where, card.name, f"its area is {sign * flux[-1]:.3f} flux quanta, or its sign changes",
            "give pulses of one sign whose area is one flux quantum each, 827.13u over 2.5p + 2.5p",
        )  # fmt: skip
    wanted = (np.arange(whole) + 0.5) * (flux[-1] / whole if whole else 1.0)
    k = np.minimum(np.searchsorted(flux, wanted, side="right"), len(flux) - 1) - 1
    rise, need = (v[k + 1] - v[k]) / (t[k + 1] - t[k]), (wanted - flux[k]) * PHI0_WB
    # v dt + rise dt^2 / 2 = need, solved so that a flat top is no division by zero
    times: Floats = t[k] + 2.0 * need / (v[k] + np.sqrt(np.maximum(v[k] ** 2 + 2.0 * rise * need, 0.0)))
    return times, sign


def _corners(shape: Shape, stop: float, step: float, card: Card) -> tuple[Floats, Floats]:
    """Corner points of a piecewise linear source up to ``stop``."""
    if isinstance(shape, Pwl):
        t, v = np.array(shape.times), np.array(shape.values)
        keep = np.concatenate([[True], np.diff(t) > 0])
        return t[keep], v[keep]
    if not isinstance(shape, Pulse):
        if shape.bias() == 0.0 and hasattr(shape, "v"):
            return np.array([0.0, 1.0]), np.zeros(2)
        raise DeckError(card.where, card.name, f"a {type(shape).__name__} source is no pulses", "use PULSE or PWL")
    if not math.isfinite(stop):
        raise DeckError(card.where, card.name, "PULSE without .tran has no end", "add .tran step stop")
    rise, fall = (step if e is None else e for e in (shape.rise, shape.fall))
    width, period = (stop if e is None else e for e in (shape.width, shape.period))
    starts = np.arange(shape.delay, stop, period)
    at = np.cumsum([0.0, rise, width, fall])
    t = (starts[:, None] + at).ravel()
    v = np.tile([shape.low, shape.high, shape.high, shape.low], len(starts))
    keep = np.concatenate([[True], np.diff(t) > 0]) if len(t) else np.zeros(0, np.bool_)
    return np.concatenate([[-1e-15], t[keep]]), np.concatenate([[shape.low], v[keep]])
