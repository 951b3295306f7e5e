"""Speech Commands: one-second words, a folder of WAV files a word, 16 kHz, 16 bits, one channel.

``validation_list.txt`` and ``testing_list.txt`` name the files ``<word>/<speaker>_nohash_<k>.wav`` of these splits; all
others are for training. ``_background_noise_`` is no word. Clips shorter than a second are filled with zeros.

Source: Warden, arXiv 1804.03209 (2018), CC BY 4.0; 35 words in version 0.02.
"""

from __future__ import annotations

import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neuro.data.files import read_bytes, reading
from neuro.data.folder import data_folder

RATE_HZ = 16_000
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
SPLITS = ("train", *LISTS)
_MOST_BYTES = 2**28

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Clips:
    """Files of one split and their labels, indices into ``words``, which are in the order of the alphabet."""

    files: tuple[Path, ...]
    labels: tuple[int, ...]
    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def pcm(self, which: Sequence[int] | None = None, samples: int = RATE_HZ) -> tuple[Samples, npt.NDArray[np.int64]]:
        """Clips ``which``, by default all: ``(N, samples)`` int16, cut or filled with zeros at the end, and labels.

        Errors: ``ValueError`` naming a file that is damaged or of another rate.
        """
        picked = range(len(self)) if which is None else which
        out = np.zeros((len(picked), samples), np.int16)
        for row, k in zip(out, picked, strict=True):
            clip = read_wav(self.files[k])[:samples]
            row[: len(clip)] = clip
        return out, np.array([self.labels[k] for k in picked], np.int64)


def speech_commands(split: str, folder: str | Path | None = None, words: Sequence[str] | None = None) -> Clips:
    """The clips of "train", "validation" or "test"; by default all words in ``$SPIKEPORT_DATA/speech_commands``.

    Errors: ``ValueError`` naming what is not there, a list that names a file which is not there, an unknown word.
    """
    if split not in SPLITS:
        raise ValueError(f"speech_commands.split: must be one of {', '.join(SPLITS)}, got {split!r}")
    root = data_folder("speech_commands") if folder is None else Path(folder)
    there = sorted(d.name for d in root.glob("*") if d.is_dir() and not d.name.startswith(("_", ".")))
    if not there:
        raise ValueError(f"Speech Commands: {root} holds no folder a word; unpack speech_commands_v0.02.tar.gz there")
    asked = tuple(there if words is None else words)
    strange = [w for w in asked if w not in there]
    if strange:
        raise ValueError(f"Speech Commands: no word {strange[0]!r} in {root}; there are {', '.join(there)}")
    held = {name: _listed(root, file) for name, file in LISTS.items()}
    clips = []
    for label, word in enumerate(asked):
        names = {f"{word}/{f.name}" for f in (root / word).glob("*.wav")}
        mine = names - held["validation"] - held["test"] if split == "train" else names & held[split]
        clips += [(root / n, label) for n in sorted(mine)]
    if not clips:
        raise ValueError(f"Speech Commands: {root} holds no clip of these words for {split}; unpack the set again")
    return Clips(tuple(f for f, _ in clips), tuple(k for _, k in clips), asked)


def read_wav(path: str | Path, rate_Hz: int = RATE_HZ) -> Samples:
    """One clip ``(samples,)``: 16 bits, one channel, of that rate. Errors: ``ValueError`` naming the file."""
    with reading(path, f"clip of {rate_Hz} Hz, 16 bits and one channel"):
        with wave.open(io.BytesIO(read_bytes(path, _MOST_BYTES))) as file:
            form = file.getnchannels(), 8 * file.getsampwidth(), file.getframerate()
            claimed = file.getnframes()
            data = file.readframes(claimed)
        if form != (1, 16, rate_Hz):
            raise ValueError(f"{form[0]} channels of {form[1]} bits at {form[2]} Hz")
        if len(data) != 2 * claimed or not claimed:
            raise ValueError(f"{claimed} samples claimed, {len(data)} bytes there")
        return np.frombuffer(data, "<i2").astype(np.int16)


def _listed(root: Path, name: str) -> set[str]:
    with reading(root / name, "list of Speech Commands", "unpack speech_commands_v0.02.tar.gz again"):
        lines = {n.strip() for n in read_bytes(root / name, 2**26).decode("ascii").splitlines() if n.strip()}
        wrong = [n for n in lines if n.count("/") != 1 or ".." in n or not n.endswith(".wav")]
        absent = [n for n in lines - set(wrong) if not (root / n).is_file()]
        if wrong or absent:
            raise ValueError(f"{sorted(wrong + absent)[0]!r} is no clip of the set")
        return lines
