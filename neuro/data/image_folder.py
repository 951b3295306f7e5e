"""Pictures in a folder a class, ImageNet's layout: ``<root>/train/n01440764/*.JPEG``, ``<root>/val/...``.

Classes are the folders in the order of the alphabet, as torchvision has them. Pictures are decoded when asked for: the
shorter side scaled to 8/7 of ``size`` (256 for 224), then the middle cut out. Needs pillow, which torchvision brings.

Source of the layout and the cut: torchvision.datasets.ImageFolder; Krizhevsky, Sutskever, Hinton 2012.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neuro.data.files import reading

ENDINGS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".webp")
MOST_PIXELS = 64 * 10**6
"""Of one picture; the largest of ImageNet has less."""


@dataclass(frozen=True)
class Pictures:
    """Files of one split and their labels, indices into ``classes``."""

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def pixels(self, which: Sequence[int], size: int = 224) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Pictures ``which``: ``(N, 3, size, size)`` uint8 and labels. Errors: ``ValueError`` naming a damaged file."""
        if size < 1:
            raise ValueError(f"Pictures.pixels.size: must be at least 1 pixel, got {size}")
        out = np.zeros((len(which), 3, size, size), np.uint8)
        for row, k in zip(out, which, strict=True):
            row[:] = read_picture(self.files[k], size)
        return out, np.array([self.labels[k] for k in which], np.int64)


def image_folder(root: str | Path) -> Pictures:
    """The pictures below ``root``, one folder a class. Errors: ``ValueError`` for none, or an empty class."""
    classes = sorted(d for d in Path(root).glob("*") if d.is_dir())
    found = [[f for f in sorted(d.rglob("*")) if f.suffix.lower() in ENDINGS] for d in classes]
    empty = [d.name for d, files in zip(classes, found, strict=True) if not files]
    if not classes or empty:
        what = f"no picture in {empty[0]}" if empty else "no folder a class in it"
        raise ValueError(f"{root}: {what}; put <class>/*.jpg there")
    files = tuple(f for part in found for f in part)
    labels = tuple(k for k, part in enumerate(found) for _ in part)
    return Pictures(files, labels, tuple(d.name for d in classes))


def read_picture(path: str | Path, size: int) -> npt.NDArray[np.uint8]:
    """One picture ``(3, size, size)``, red, green, blue. Errors: ``ValueError`` naming the file."""
    from PIL import Image

    with reading(path, "picture"), Image.open(path) as picture:
        width, height = picture.size
        if width * height > MOST_PIXELS:
            raise ValueError(f"{width} x {height} pixels are more than {MOST_PIXELS}")
        short = math.ceil(size * 8 / 7)
        scaled_size = (short * width // min(width, height), short * height // min(width, height))
        scaled = picture.convert("RGB").resize(scaled_size, Image.Resampling.BILINEAR)
        left, top = (round((s - size) / 2) for s in scaled_size)
        cut = np.asarray(scaled.crop((left, top, left + size, top + size)), np.uint8)
        return np.ascontiguousarray(cut.transpose(2, 0, 1))
