"""Sound to spikes: a mel filter bank, and the moments at which a band's energy crosses levels.

    E[t, m] = 10 log10(sum_f H[m, f] |FFT(w x)[t, f]|^2)                                     dB, w a Hann window
    up[t, m, l]   = 1 where E[t] >= level_l > E[t-1];   down[t, m, l] = 1 where E[t] < level_l <= E[t-1]

Levels lie below the recording's own loudest band, so that loudness does not matter. Before the first step it is silent.
Mel scale ``2595 log10(1 + f / 700)``: O'Shaughnessy 1987, as in HTK. Level crossings are what an asynchronous delta
modulator or a silicon cochlea sends.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def mel_filters(bands: int, fft: int, rate_hz: float, low_hz: float = 50.0, high_hz: float | None = None) -> Array:
    """``H (bands, fft // 2 + 1)``: triangles over the FFT's frequencies, evenly spaced in mel, each with height 1.

    Errors: ``ValueError`` for frequencies out of ``0 <= low < high <= rate / 2``, and for so many bands that one would
    hold no frequency of the FFT.
    """
    high_hz = rate_hz / 2 if high_hz is None else high_hz
    if bands < 1 or not 0.0 <= low_hz < high_hz <= rate_hz / 2:
        raise ValueError(
            f"mel_filters: needs bands >= 1 and 0 <= low < high <= {rate_hz / 2:g} Hz (half the rate), "
            f"got {bands} bands from {low_hz:g} to {high_hz:g} Hz"
        )
    low, high = (2595.0 * math.log10(1.0 + f / 700.0) for f in (low_hz, high_hz))
    edges = 700.0 * (10.0 ** (np.linspace(low, high, bands + 2) / 2595.0) - 1.0)
    f = np.fft.rfftfreq(fft, 1.0 / rate_hz)
    rise = (f - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - f) / np.diff(edges)[1:, None]
    filters: Array = np.maximum(0.0, np.minimum(rise, fall))
    empty = np.flatnonzero(filters.max(1) == 0.0)
    if len(empty):
        raise ValueError(f"mel_filters: band {empty[0]} of {bands} holds no frequency; use fewer bands or a longer FFT")
    return filters


def mel_energy(
    wave: npt.ArrayLike, rate_hz: float, T: int, *, step_s: float, bands: int, fft: int = 256, low_hz: float = 50.0
) -> Array:
    """``E (T, bands)`` of one recording, dB of its own unit squared; silence behind its end is -inf.

    Frame t is of ``fft`` samples from ``t step_s`` on. Errors: ``ValueError`` for what is no row of finite samples.
    """
    x = np.asarray(wave, dtype=np.float64)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all() or T < 1:
        raise ValueError(f"mel_energy: needs T >= 1 and samples (n,), finite and n >= 1; got T {T}, shape {x.shape}")
    at = np.round(np.arange(T) * step_s * rate_hz).astype(np.int64)
    padded = np.zeros(max(len(x), int(at[-1]) + fft))
    padded[: len(x)] = x
    frames = padded[at[:, None] + np.arange(fft)] * np.hanning(fft)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2 @ mel_filters(bands, fft, rate_hz, low_hz).T
    with np.errstate(divide="ignore"):
        energy: Array = 10.0 * np.log10(power)
    return energy


def crossings(energy: npt.NDArray[Any], levels_dB: Sequence[float]) -> npt.NDArray[np.float32]:
    """``E (N, T, bands) -> spikes (N, T, bands * levels * 2)``: up and down through each level below the peak.

    Errors: ``ValueError`` for levels that are not below 0, or none.
    """
    levels = np.asarray(levels_dB, dtype=np.float64)
    if not levels.size or not (levels < 0.0).all():
        raise ValueError(f"crossings: levels are dB below the peak, negative and at least one; got {list(levels)}")
    peak = energy.max(axis=(1, 2), keepdims=True)
    with np.errstate(invalid="ignore"):  # a silent recording: -inf - -inf is above no level
        above = (energy - peak)[..., None] >= levels
    before = np.concatenate([np.zeros_like(above[:, :1]), above[:, :-1]], axis=1)
    both = np.stack([above & ~before, before & ~above], axis=-1)
    return both.reshape(*energy.shape[:2], -1).astype(np.float32)
