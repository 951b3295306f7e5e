"""Data that a recipe's [data] may name: loaded, encoded, split, with what a training changes on the way.

One function a kind, its keywords the options. What is not here is named with the place where to get it; nothing is
downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Encoder = Literal["direct", "rate", "latency"]
NMNIST_S = 0.306
"""About what a recording of N-MNIST lasts (Orchard et al. 2015: three saccades of 0.1 s)."""


@dataclass(frozen=True, eq=False)
class Sets:
    """``train`` and ``test`` as :func:`neuro.train.train` takes them; ``shape`` of one step, ``steps`` of a sample.

    ``change (x (N, T, ...), seed) -> x`` augments training, ``changes`` says how; ``split`` says what is tested on.
    """

    train: Any
    test: Any
    shape: tuple[int, ...]
    steps: int
    dt_s: float
    encoder: str
    split: str
    classes: int = 10
    change: Callable[[Array, int], Array] | None = field(default=None, repr=False)
    changes: str = ""

    def tested_on(self, most: int) -> tuple[Array, Array]:
        """The first ``most`` test samples as arrays ``x (samples, T, ...)``, labels."""
        if isinstance(self.test, tuple):
            x, y = self.test
            return np.asarray(x[:most]), np.asarray(y[:most])
        items = [self.test[i] for i in range(min(most, len(self.test)))]
        return np.stack([np.asarray(x) for x, _ in items]), np.array([int(y) for _, y in items])


class Shown:
    """Images that are shown unchanged in each of ``steps`` steps, made when they are asked for: a map-style data set.

    ``x (samples, c, h, w)`` uint8, normalised as ``(x / 255 - mean) / std`` by channel.
    """

    def __init__(self, x: Array, y: Array, steps: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self.x, self.y, self.steps = x, y, steps
        self._mean, self._std = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (mean, std))

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Array, int]:
        image = (self.x[i].astype(np.float32) / np.float32(255.0) - self._mean) / self._std
        return np.repeat(image[None], self.steps, axis=0), int(self.y[i])


def digits(*, steps: int = 8, encoder: Encoder = "rate", test_share: float = 0.2) -> Sets:
    """8 x 8 digits that come with scikit-learn."""
    from neuro.data.digits import digits as load

    data = load(test_share=test_share)
    split = f"{test_share:g} of each class held out, seed 0, of scikit-learn's digits"
    return _images(data, steps, encoder, split, 0)


def mnist_10k(*, steps: int = 8, encoder: Encoder = "rate", test_share: float = 0.2, shift: int = 0) -> Sets:
    """28 x 28 digits; ``shift``: training images move by up to so many pixels."""
    from neuro.data.mnist import mnist_10k as load

    data = load(test_share=test_share)
    return _images(data, steps, encoder, f"{test_share:g} of each class held out, seed 0, of mnist_10k", shift)


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
    return _augmented(made, shift=shift)


def _images(data: Any, steps: int, encoder: Encoder, split: str, shift: int) -> Sets:
    from neuro import encode

    code = {"direct": encode.direct, "rate": encode.rate, "latency": encode.latency}[encoder]
    given, held = (code(data.train_x, steps), data.train_y), (code(data.test_x, steps), data.test_y)
    sizes = f"{split}: {len(data.train_y)} to train with, {len(data.test_y)} to test"
    made = Sets(given, held, given[0].shape[2:], steps, 1e-3, encoder, sizes)
    return _augmented(made, shift=shift)


def _augmented(sets: Sets, *, shift: int = 0, flip: bool = False, cutout: int = 0) -> Sets:
    """With the changes asked for, each drawn once a sample and held over its steps."""
    from dataclasses import replace

    from neuro.data import augment

    if not (shift or flip or cutout):
        return sets

    def change(x: Array, seed: int) -> Array:
        a, b, c = (int(s.generate_state(1)[0]) for s in np.random.SeedSequence(seed).spawn(3))
        x = augment.shifted(x, shift, seed=a) if shift else x
        x = augment.flipped(x, seed=b) if flip else x
        return augment.cut(x, cutout, seed=c) if cutout else x

    said = [f"shifted by up to {shift}"] * bool(shift) + ["mirrored"] * flip + [f"cut out {cutout}"] * bool(cutout)
    return replace(sets, change=change, changes=", ".join(said))
