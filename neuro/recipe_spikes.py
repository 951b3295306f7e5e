"""Event recordings and speech that a recipe's [data] may name; as :mod:`neuro.recipe_data`."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from neuro.recipe_data import Array, Sets, augmented

NMNIST_S = 0.306
"""About what a recording of N-MNIST lasts (Orchard et al. 2015: three saccades of 0.1 s)."""


def nmnist(*, steps: int = 8, shift: int = 0, binary: bool = True) -> Sets:
    """N-MNIST in frames of equal time, of the training and test recordings that there are."""
    from neuro.data.nmnist import nmnist as load
    from neuro.frames import binary as as_spikes
    from neuro.frames import frames_by_time

    def shown(events: Any) -> Array:
        frames = frames_by_time(events, steps)
        return as_spikes(frames) if binary else frames.astype(np.float32)

    train, test = load()
    given, held = (shown(train), train.label), (shown(test), test.label)
    made = Sets(
        given, held, given[0].shape[2:], steps, NMNIST_S / steps, "frames of equal time" + ", binary" * binary,
        f"as recorded: {len(train)} training and {len(test)} test recordings",
    )  # fmt: skip
    return augmented(made, shift=shift)


class Cast:
    """Integer frames ``x (samples, T, ...)`` that become float32 when they are asked for: a map-style data set."""

    def __init__(self, x: Array, y: Array) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Array, int]:
        return self.x[i].astype(np.float32), int(self.y[i])


def dvs_cifar10(*, steps: int = 10, side: int = 48, shift: int = 0, flip: bool = False) -> Sets:
    """CIFAR10-DVS in frames of equal event count, resized to ``side`` pixels (bilinear, antialiased)."""
    from neuro.data.cifar10_dvs import cifar10_dvs as load
    from neuro.frames import framed, frames_by_count

    def make(events: Any) -> Array:
        return _resized(frames_by_count(events, steps), side)

    given, held = framed(load("train"), make), framed(load("test"), make)
    sizes = f"the first 100 of each class to test: {len(given[1])} to train with, {len(held[1])} to test"
    coded = f"frames of equal event count, {side} x {side}"
    made = Sets(given, held, given[0].shape[2:], steps, 1e-3, coded, sizes)
    return augmented(made, shift=shift, flip=flip)


def dvs_gesture(*, steps: int = 20, side: int = 128, shift: int = 0) -> Sets:
    """DVS128 Gesture in frames of equal event count; ``side`` below 128 resizes them."""
    from neuro.data.dvs_gesture import dvs_gesture as load
    from neuro.frames import framed, frames_by_count

    def make(events: Any) -> Array:
        frames = frames_by_count(events, steps)
        return frames if side == 128 else _resized(frames, side)

    given, held = framed(load("train"), make), framed(load("test"), make)
    sizes = f"the set's own lists: {len(given[1])} to train with, {len(held[1])} to test"
    coded = f"frames of equal event count, {side} x {side}"
    made = Sets(Cast(*given), Cast(*held), given[0].shape[2:], steps, 1e-3, coded, sizes, 11)
    return augmented(made, shift=shift)


def _resized(frames: Array, side: int) -> Array:
    import torch
    from torch.nn import functional

    n, T = frames.shape[:2]
    flat = torch.from_numpy(frames.astype(np.float32)).flatten(0, 1)
    small = functional.interpolate(flat, (side, side), mode="bilinear", antialias=True)
    return small.reshape(n, T, *small.shape[1:]).numpy()


def shd(*, steps: int = 140, dt_s: float = 0.01, join: int = 5, held_speakers: tuple[int, ...] = ()) -> Sets:
    """Spiking Heidelberg Digits in bins; ``held_speakers`` of the training set are tested on instead of the test set.

    The set has no validation split: choose settings with speakers held out, then report the test set once.
    """
    from neuro.data.shd import shd as load
    from neuro.frames import bins

    def binned(spikes: Any) -> tuple[Array, Array]:
        return bins(spikes, dt_s, steps, join=join).astype(np.float32), spikes.label

    train = load("train")
    if held_speakers:
        speaker: Any = train.speaker
        out = np.isin(speaker, held_speakers)
        given, held = binned(train.take(~out)), binned(train.take(out))
        split = f"speakers {', '.join(map(str, held_speakers))} of the training set held out"
    else:
        given, held, split = binned(train), binned(load("test")), "the set's own"
    sizes = f"{split}: {len(given[1])} to train with, {len(held[1])} to test"
    coded = f"counts in bins of {dt_s:g} s on {700 // join} lines"
    return Sets(given, held, given[0].shape[2:], steps, dt_s, coded, sizes, 20)


def ssc(*, steps: int = 100, dt_s: float = 0.01, join: int = 5, tested: Literal["test", "valid"] = "test") -> Sets:
    """Spiking Speech Commands in bins."""
    from neuro.data.folder import data_folder
    from neuro.data.shd import binned_file
    from neuro.data.shd import ssc as load

    for part in ("train", tested):
        load(part, most=1)  # names what is not there before anything long begins
    root = data_folder("ssc")
    how: dict[str, Any] = {"classes": 35, "join": join}
    given = binned_file(root / "ssc_train.h5", dt_s, steps, **how)
    held = binned_file(root / f"ssc_{tested}.h5", dt_s, steps, **how)
    sizes = f"the set's own: {len(given[1])} to train with, {len(held[1])} of '{tested}' to test"
    coded = f"counts in bins of {dt_s:g} s on {700 // join} lines"
    return Sets(Cast(*given), Cast(*held), given[0].shape[2:], steps, dt_s, coded, sizes, 35)


def gsc(*, bands: int = 140, hop_s: float = 0.01, tested: Literal["test", "validation"] = "test") -> Sets:
    """Speech Commands, 35 words, as mel spectrograms of DCLS-Delays (:func:`mel_of_reference`), real-valued."""
    from neuro.data.speech_commands import speech_commands as load

    def shown(part: str) -> tuple[Array, Array]:
        clips = load(part)
        made = []
        for k in range(0, len(clips), 1024):
            pcm, _ = clips.pcm(range(k, min(k + 1024, len(clips))))
            made.append(mel_of_reference(pcm, bands=bands, hop_s=hop_s))
        return np.concatenate(made), np.array(clips.labels)

    given, held = shown("train"), shown(tested)
    sizes = f"the set's own lists: {len(given[1])} to train with, {len(held[1])} of '{tested}' to test"
    coded = f"{bands} mel bands in dB every {hop_s:g} s, real-valued"
    return Sets(given, held, given[0].shape[2:], given[0].shape[1], hop_s, coded, sizes, 35)


def mel_of_reference(pcm: Array, *, bands: int = 140, hop_s: float = 0.01, fft: int = 256) -> npt.NDArray[np.float32]:
    """``(N, samples)`` int16 at 16 kHz to ``(N, T, bands)``: the front end of DCLS-Delays for Speech Commands.

    16 to 8 kHz, a Hann window of 256 every 80 samples, power in triangles even in mel from 50 to 14000 Hz, in dB. The
    upper end lies above the 4 kHz that there are: bands up there are empty and stay at the floor, as published.
    """
    from scipy.signal import resample_poly

    x = resample_poly(pcm.astype(np.float64) / 2**15, 1, 2, axis=1)
    hop = round(hop_s * 8000)
    wide = np.pad(x, ((0, 0), (fft // 2, fft // 2)), mode="reflect")
    at = np.arange(0, x.shape[1] + 1, hop)
    frames = wide[:, at[:, None] + np.arange(fft)] * np.hanning(fft + 1)[:-1]
    power = np.abs(np.fft.rfft(frames, axis=2)) ** 2
    low, high = (2595.0 * np.log10(1.0 + f / 700.0) for f in (50.0, 14000.0))
    edges = 700.0 * (10.0 ** (np.linspace(low, high, bands + 2) / 2595.0) - 1.0)
    f = np.fft.rfftfreq(fft, 1.0 / 8000.0)
    rise = (f - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - f) / np.diff(edges)[1:, None]
    filters = np.maximum(0.0, np.minimum(rise, fall))
    return (10.0 * np.log10(np.maximum(power @ filters.T, 1e-10))).astype(np.float32)


def fsdd(*, steps: int = 60, step_s: float = 0.0125, bands: int = 20) -> Sets:
    """Spoken digits of six speakers as level crossings of mel bands; the customary split, recordings 0 to 4 to test."""
    from neuro.data.fsdd import fsdd as load
    from neuro.data.fsdd import spoken

    data = spoken(load(), T=steps, step_s=step_s, bands=bands)
    sizes = (
        f"recordings 0 to 4 of each digit and speaker: {len(data.train_y)} to train with, {len(data.test_y)} to test"
    )
    coded = f"level crossings of {bands} mel bands"
    given, held = (data.train_x, data.train_y), (data.test_x, data.test_y)
    return Sets(given, held, given[0].shape[2:], steps, step_s, coded, sizes)
