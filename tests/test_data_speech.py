"""The mel filter bank against torchaudio's, and a tone against the band that it lies in."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neuro.speech import mel_energy, mel_filters


@pytest.mark.parametrize(
    ("bands", "fft", "rate", "low", "high"), [(20, 512, 8000, 50.0, 4000.0), (40, 1024, 16000, 0.0, 7000.0)]
)
def test_filters_are_torchaudios(bands: int, fft: int, rate: int, low: float, high: float) -> None:
    functional = pytest.importorskip("torchaudio", reason="torchaudio is not installed").functional
    theirs = functional.melscale_fbanks(fft // 2 + 1, low, high, bands, rate, norm=None, mel_scale="htk").numpy().T
    mine = mel_filters(bands, fft, rate, low, high)
    np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.parametrize("tone_hz", [300.0, 1000.0, 2500.0])
def test_tone_is_loudest_in_its_band(tone_hz: float) -> None:
    rate, bands, fft = 8000, 16, 512
    energy = mel_energy(
        np.sin(2 * math.pi * tone_hz * np.arange(rate) / rate), rate, 10, step_s=0.05, bands=bands, fft=fft
    )
    mel = [2595 * math.log10(1 + f / 700) for f in (50.0, tone_hz, rate / 2)]
    position = (mel[1] - mel[0]) / (mel[2] - mel[0]) * (bands + 1) - 1
    assert np.abs(energy.argmax(1) - position).max() <= 0.75
