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


def mnist_10k(
    *, steps: int = 8, encoder: Encoder = "rate", test_share: float = 0.2, shift: int = 0, normalise: bool = False
) -> Sets:
    """28 x 28 digits; ``shift``: training images move by up to so many pixels.

    ``normalise``: to mean 0 and deviation 1 of the training images, for the direct encoder alone.
    """
    from dataclasses import replace

    from neuro.data.mnist import mnist_10k as load

    data = load(test_share=test_share)
    if normalise and encoder != "direct":
        raise ValueError(f"mnist_10k.normalise: spikes take values in [0, 1]; use encoder 'direct', not {encoder!r}")
    if normalise:
        mean, std = data.train_x.mean(), data.train_x.std()
        data = replace(data, train_x=(data.train_x - mean) / std, test_x=(data.test_x - mean) / std)
    return _images(data, steps, encoder, f"{test_share:g} of each class held out, seed 0, of mnist_10k", shift)


def _images(data: Any, steps: int, encoder: Encoder, split: str, shift: int) -> Sets:
    from neuro import encode

    code = {"direct": encode.direct, "rate": encode.rate, "latency": encode.latency}[encoder]
    given, held = (code(data.train_x, steps), data.train_y), (code(data.test_x, steps), data.test_y)
    sizes = f"{split}: {len(data.train_y)} to train with, {len(data.test_y)} to test"
    made = Sets(given, held, given[0].shape[2:], steps, 1e-3, encoder, sizes)
    return augmented(made, shift=shift)


def augmented(sets: Sets, *, shift: int = 0, flip: bool = False, cutout: int = 0) -> Sets:
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


def cifar10(*, steps: int = 6, shift: int = 4, flip: bool = True, cutout: int = 0, normalise: bool = True) -> Sets:
    """CIFAR-10, the image in every step. ``normalise`` by mean and deviation of the training images by channel."""
    from neuro.data.cifar import cifar10 as load

    return _shown(load(), steps, shift, flip, cutout, normalise, 10)


def cifar100(*, steps: int = 6, shift: int = 4, flip: bool = True, cutout: int = 0, normalise: bool = True) -> Sets:
    """CIFAR-100, as CIFAR-10."""
    from neuro.data.cifar import cifar100 as load

    return _shown(load(), steps, shift, flip, cutout, normalise, 100)


def _shown(data: Any, steps: int, shift: int, flip: bool, cutout: int, normalise: bool, classes: int) -> Sets:
    mean: tuple[float, ...] = (0.0,) * 3
    std: tuple[float, ...] = (1.0,) * 3
    if normalise:
        pixels = data.train_x.reshape(len(data.train_x), 3, -1)
        mean = tuple(float(m) / 255.0 for m in pixels.mean((0, 2)))
        std = tuple(float(s) / 255.0 for s in pixels.std((0, 2)))
    given = Shown(data.train_x, data.train_y, steps, mean, std)
    held = Shown(data.test_x, data.test_y, steps, mean, std)
    split = f"the set's own: {len(given)} to train with, {len(held)} to test"
    coded = "direct" + (", normalised by the training images" if normalise else "")
    made = Sets(given, held, tuple(data.train_x.shape[1:]), steps, 1e-3, coded, split, classes)
    return augmented(made, shift=shift, flip=flip, cutout=cutout)


class Repeated:
    """Images of another map-style data set ``(tensor (c, h, w), label)``, shown in each of ``steps`` steps."""

    def __init__(self, images: Any, steps: int) -> None:
        self.images, self.steps = images, steps

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Array, int]:
        image, label = self.images[i]
        return np.repeat(np.asarray(image)[None], self.steps, axis=0), int(label)


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of torchvision's documented transforms for ImageNet."""


def imagenet(*, steps: int = 1, side: int = 224) -> Sets:
    """ImageNet: a folder of pictures a class in ``imagenet/train`` and ``imagenet/val``; random crop and mirror."""
    from torchvision import datasets, transforms

    from neuro.data.folder import data_folder

    root = data_folder("imagenet")
    for part in ("train", "val"):
        if not (root / part).is_dir():
            raise ValueError(
                f"ImageNet: {root / part} is not there; get ILSVRC2012 from image-net.org, which asks for an account, "
                "sort it into a folder a class, or point SPIKEPORT_DATA elsewhere"
            )
    last = [transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    random = [transforms.RandomResizedCrop(side), transforms.RandomHorizontalFlip(), *last]
    middle = [transforms.Resize(round(side * 256 / 224)), transforms.CenterCrop(side), *last]
    given = datasets.ImageFolder(str(root / "train"), transforms.Compose(random))
    held = datasets.ImageFolder(str(root / "val"), transforms.Compose(middle))
    if given.classes != held.classes:
        raise ValueError(f"ImageNet: {root}: train and val hold other classes; sort both by the same names")
    sizes = f"the set's own: {len(given)} to train with, {len(held)} to validate, on which it is tested"
    return Sets(
        Repeated(given, steps), Repeated(held, steps), (3, side, side), steps, 1e-3, "direct, normalised", sizes,
        len(given.classes), changes="random crop and mirror",
    )  # fmt: skip
