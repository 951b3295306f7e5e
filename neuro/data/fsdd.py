"""Free Spoken Digit Dataset: 3000 recordings of ten digits, six speakers, fifty each, 8 kHz, 0.44 s on average.

One table ``fsdd.npz``: ``pcm`` int16, ``offset`` int64 of each recording's first sample and the end, ``digit``,
``speaker`` and ``index`` of each, ``speakers``, ``rate``. Customary split: index 0 to 4 of each digit and speaker are
for the test (300), the others for training (2700); a speaker is in both.

Source: Z. Jackson et al., github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from neuro.data.folder import data_folder
from neuro.data.split import Split
from neuro.speech import crossings, mel_energy

TEST_INDICES = 5
_COLUMNS = ("pcm", "offset", "digit", "speaker", "index", "speakers", "rate")


@dataclass(frozen=True, eq=False)
class Speech:
    """Recordings one after the other; samples of recording i are ``pcm[offset[i]:offset[i + 1]]``.

    Errors: ``ValueError`` for columns of other lengths, an empty recording, a label that is no digit.
    """

    pcm: npt.NDArray[np.int16]
    offset: npt.NDArray[np.int64]
    digit: npt.NDArray[np.int64]
    speaker: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    speakers: tuple[str, ...]
    rate_hz: int

    def __post_init__(self) -> None:
        n, o = len(self.digit), self.offset
        if not n or len(o) != n + 1 or not len(self.speaker) == len(self.index) == n:
            raise ValueError(f"fsdd: {n} digits, but {len(o)} offsets, {len(self.speaker)} speakers, {len(self.index)}")
        if o[0] != 0 or o[-1] != len(self.pcm) or (np.diff(o) < 1).any():
            raise ValueError(f"fsdd: offsets must rise from 0 to the {len(self.pcm)} samples, one and more a recording")
        if self.digit.min() < 0 or self.digit.max() > 9:
            raise ValueError(f"fsdd: digits must be 0 to 9, got {self.digit.min()} to {self.digit.max()}")
        if self.speaker.min() < 0 or self.speaker.max() >= len(self.speakers) or self.rate_hz < 1:
            raise ValueError(f"fsdd: speaker {self.speaker.max()} of {len(self.speakers)}, rate {self.rate_hz} Hz")

    def __len__(self) -> int:
        return len(self.digit)

    def recording(self, i: int) -> npt.NDArray[np.int16]:
        """Samples of recording i."""
        return self.pcm[self.offset[i] : self.offset[i + 1]]


def fsdd(folder: str | Path | None = None) -> Speech:
    """The recordings in ``folder``, by default ``$SPIKEPORT_DATA/fsdd``, checked.

    Errors: ``ValueError`` naming the file and what is wrong with it.
    """
    path = (data_folder("fsdd") if folder is None else Path(folder)) / "fsdd.npz"
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as z:
            c: dict[str, Any] = {k: z[k] for k in _COLUMNS}
        numbers = [c[k] for k in ("offset", "digit", "speaker", "index")]
        if c["pcm"].dtype != np.int16 or not all(np.issubdtype(a.dtype, np.integer) and a.ndim == 1 for a in numbers):
            raise ValueError("pcm must be int16, offset, digit, speaker and index rows of integers")
        offset, digit, speaker, index = (a.astype(np.int64) for a in numbers)
        names = tuple(str(s) for s in c["speakers"])
        return Speech(c["pcm"], offset, digit, speaker, index, names, int(c["rate"]))
    except (OSError, EOFError, KeyError, TypeError, ValueError, BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path}: no table of spoken digits ({error}); make it of the recordings of "
            "github.com/Jakobovski/free-spoken-digit-dataset, or point SPIKEPORT_DATA at the folder that holds fsdd/"
        ) from None


def spoken(
    speech: Speech,
    *,
    T: int = 60,
    step_s: float = 0.0125,
    bands: int = 20,
    levels_dB: Sequence[float] = (-36.0, -24.0, -12.0),
    held_out: range = range(TEST_INDICES),
    left_out: range = range(0),
) -> Split:
    """Spikes ``(samples, T, bands * levels * 2)`` split by index: those in ``held_out`` are for the test.

    ``left_out`` go nowhere: ``held_out=range(5, 10), left_out=range(5)`` validates without a look at the test set.
    What lasts longer than ``T step_s`` is cut.
    """
    made = [mel_energy(speech.recording(i), speech.rate_hz, T, step_s=step_s, bands=bands) for i in range(len(speech))]
    x = crossings(np.stack(made), levels_dB)
    test = np.isin(speech.index, list(held_out))
    train = ~test & ~np.isin(speech.index, list(left_out))
    return Split(x[train], speech.digit[train], x[test], speech.digit[test])
