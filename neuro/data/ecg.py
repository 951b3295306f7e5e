"""ECG: QTDB as level-crossing events with a label a step, and MIT-BIH records as WFDB files have them.

    QTDB      ``QTDB_train.mat``: x (N, 1301, 4) events -1, 0, 1; y (N, 1301, 6) one-hot, or all 0 where a step has
              no label; max_i the steps that count
    MIT-BIH   ``100.hea`` (text), ``100.dat`` (format 212: two 12-bit samples in 3 bytes), ``100.atr`` (annotations)

A record's first value and checksum stand in its head and are compared with what was read.

Sources: Yin, Corradi, Bohte, Nat. Mach. Intell. 3, 2021 (QTDB in this form); Laguna et al. 1997 (QT Database); Moody,
Mark, IEEE Eng. Med. Biol. 20(3), 2001 (MIT-BIH); physionet.org/physiotools/wag, "signal-5", "header-5", "annot-5".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neuro.data.files import read_bytes, reading
from neuro.data.folder import data_folder

_MOST_BYTES = 2**30
WAVES = ("P", "PQ", "QR", "RS", "ST", "TP")
"""The six labels of QTDB, in Yin et al.'s order as their paper names them."""

SYMBOLS = dict(enumerate("NLRaVFJASEj/Q~", 1)) | {16: "|"} | dict(enumerate('sT*D"=pB^t+u?![]en@xf()r', 18))
"""Annotation codes of WFDB ("annot-5"); 15 and 17 are none."""
_SKIP, _NUMBER, _SUBTYPE, _CHANNEL, _TEXT = 59, 60, 61, 62, 63


@dataclass(frozen=True, eq=False)
class LabelledSteps:
    """``x (N, T, lines)`` int8 events, ``y (N, T)`` int8 a label a step or -1, ``length (N,)`` the steps that count."""

    x: npt.NDArray[np.int8]
    y: npt.NDArray[np.int8]
    length: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.x)

    def split(self) -> npt.NDArray[np.float32]:
        """Rises and falls as lines of their own, ``(N, T, 2 lines)`` of 0 and 1: first all rises, then all falls."""
        return np.concatenate([self.x > 0, self.x < 0], axis=2).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Record:
    """``adc (samples, signals)`` int16, and ``beat``: annotations as ``(sample, symbol)``, empty without ``.atr``."""

    adc: npt.NDArray[np.int16]
    rate_Hz: float
    gain: tuple[float, ...]
    baseline: tuple[int, ...]
    names: tuple[str, ...]
    sample: npt.NDArray[np.int64]
    symbol: tuple[str, ...]

    def millivolts(self) -> npt.NDArray[np.float64]:
        """``(adc - baseline) / gain``, ``(samples, signals)``."""
        return (self.adc - np.array(self.baseline, np.float64)) / np.array(self.gain)


def qtdb(folder: str | Path | None = None) -> tuple[LabelledSteps, LabelledSteps]:
    """618 training and 141 test beats; by default in ``$SPIKEPORT_DATA/qtdb_ecg``. Errors: ``ValueError``."""
    root = data_folder("qtdb_ecg") if folder is None else Path(folder)
    train, test = (read_qtdb(root / f"QTDB_{which}.mat") for which in ("train", "test"))
    return train, test


def read_qtdb(path: str | Path) -> LabelledSteps:
    """One file of QTDB, checked. Errors: ``ValueError`` naming the file."""
    from scipy import io

    with reading(path, "table of QTDB", "fetch it again, or put it where SPIKEPORT_DATA points"):
        read_bytes(path, _MOST_BYTES)
        shapes = {name: shape for name, shape, _ in io.whosmat(str(path))}
        names = ("x", "y", "max_i")
        if any(n not in shapes for n in names) or sum(8 * math.prod(shapes[n]) for n in names) > _MOST_BYTES:
            raise ValueError(f"it holds {shapes}; x, y and max_i are wanted")
        found = io.loadmat(str(path), variable_names=list(names))
        x, y, length = (np.asarray(found[n]) for n in names)
        if any(a.dtype.kind not in "iuf" for a in (x, y, length)):
            raise ValueError("x, y and max_i must be numbers")
        return _labelled(x, y, length.reshape(-1))


def _labelled(x: Any, y: Any, length: Any) -> LabelledSteps:
    if x.ndim != 3 or y.shape != (*x.shape[:2], len(WAVES)) or length.shape != x.shape[:1] or not x.size:
        raise ValueError(f"x {x.shape}, y {y.shape} and max_i {length.shape} do not fit")
    if not np.isin(x, (-1, 0, 1)).all():
        raise ValueError("events must be -1, 0 or 1")
    if (length < 1).any() or (length > x.shape[1]).any() or (length != np.floor(length)).any():
        raise ValueError(f"max_i must be 1 to {x.shape[1]} steps")
    counted = np.arange(x.shape[1]) < length[:, None]
    labels = y.sum(2, dtype=np.int64)
    if not np.isin(y, (0, 1)).all() or (labels > 1).any():
        raise ValueError("a step must have one label of the six, or none")
    named = np.where(counted & (labels == 1), y.argmax(2), -1).astype(np.int8)
    return LabelledSteps(x.astype(np.int8), named, length.astype(np.int64))


def mitbih(record: str = "100", folder: str | Path | None = None) -> Record:
    """A record of the MIT-BIH database; by default of ``$SPIKEPORT_DATA/mitbih_<record>``. Errors: ``ValueError``."""
    root = data_folder(f"mitbih_{record}") if folder is None else Path(folder)
    return read_wfdb(root / f"{record}.hea")


def read_wfdb(head: str | Path) -> Record:
    """A record of one segment in format 212, with its ``.atr`` where there is one. Errors: ``ValueError``."""
    head = Path(head)
    with reading(head, "WFDB head", "fetch the record again, or put it where SPIKEPORT_DATA points"):
        signals, rate_Hz, samples, rows = _head(read_bytes(head, 2**20).decode("ascii"))
        files = {r[0] for r in rows}
        if len(files) != 1 or Path(rows[0][0]).name != rows[0][0]:
            raise ValueError(f"signals must lie in one file beside it, got {sorted(files)}")
        parsed = [_signal(r) for r in rows]
    data = head.with_name(rows[0][0])
    with reading(data, f"signals of {head.name}", "fetch the record again"):
        adc = _format_212(read_bytes(data, _MOST_BYTES), samples, signals)
        for k, s in enumerate(parsed):
            if s["first"] is not None and adc[0, k] != s["first"]:
                raise ValueError(f"signal {k} begins with {adc[0, k]}, its head says {s['first']}")
            if s["sum"] is not None and (int(adc[:, k].sum(dtype=np.int64)) - s["sum"]) % 2**16:
                raise ValueError(f"signal {k} has another checksum than its head says")
    beats = head.with_suffix(".atr")
    sample, symbol = _annotations(beats, samples) if beats.is_file() else (np.zeros(0, np.int64), ())
    gain, baseline = tuple(s["gain"] for s in parsed), tuple(s["baseline"] for s in parsed)
    return Record(adc, rate_Hz, gain, baseline, tuple(s["name"] for s in parsed), sample, symbol)


def _head(text: str) -> tuple[int, float, int, list[list[str]]]:
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if not rows or len(rows[0]) < 4:
        raise ValueError("its first line must name record, signals, rate and samples")
    signals, rate_Hz, samples = int(rows[0][1]), float(rows[0][2].split("/")[0].split("(")[0]), int(rows[0][3])
    if not 1 <= signals <= 64 or not 0 < rate_Hz <= 1e6 or not 1 <= samples * signals <= _MOST_BYTES:
        raise ValueError(f"{signals} signals of {samples} samples at {rate_Hz} Hz are no record")
    if len(rows) < 1 + signals or any(len(r) < 2 or r[1] != "212" for r in rows[1 : 1 + signals]):
        raise ValueError(f"it must have {signals} lines of signals in format 212")
    return signals, rate_Hz, samples, rows[1 : 1 + signals]


def _signal(row: list[str]) -> dict[str, Any]:
    """gain(baseline)/unit, resolution, zero, first value, checksum, block size, name; any of them may lack."""
    given = row[2].split("/")[0] if len(row) > 2 else "0"
    gain_text, _, base_text = given.partition("(")
    zero = int(row[4]) if len(row) > 4 else 0
    gain = float(gain_text) or 200.0  # the format's own default
    if not math.isfinite(gain) or gain < 0:
        raise ValueError(f"gain {gain} is none")
    return {
        "gain": gain,
        "baseline": int(base_text.rstrip(")")) if base_text else zero,
        "first": int(row[5]) if len(row) > 5 else None,
        "sum": int(row[6]) if len(row) > 6 else None,
        "name": " ".join(row[8:]) if len(row) > 8 else "",
    }


def _format_212(data: bytes, samples: int, signals: int) -> npt.NDArray[np.int16]:
    values = samples * signals
    if len(data) != 3 * (values // 2) + 2 * (values % 2) and len(data) != 3 * -(-values // 2):
        raise ValueError(f"{len(data)} bytes, and {values} values of 12 bits are {-(-3 * values // 2)}")
    raw = np.frombuffer(data.ljust(3 * -(-values // 2), b"\0"), np.uint8).reshape(-1, 3).astype(np.int16)
    low, shared, high = raw.T
    pairs = np.stack([low | (shared & 15) << 8, high | (shared >> 4) << 8], 1).reshape(-1)[:values]
    return np.where(pairs >= 2048, pairs - 4096, pairs).astype(np.int16).reshape(samples, signals)


def _annotations(path: Path, samples: int) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    with reading(path, "WFDB annotations", "fetch the record again"):
        data = read_bytes(path, _MOST_BYTES)
        if len(data) < 2 or len(data) % 2:
            raise ValueError(f"{len(data)} bytes are no whole number of 16-bit words")
        words = np.frombuffer(data, "<u2").tolist()
        at, time = 0, 0
        sample: list[int] = []
        symbol: list[str] = []
        while at < len(words) and words[at]:
            code, rest = divmod(words[at], 1024)
            at += 1
            if code == _SKIP:
                if at + 2 > len(words):
                    raise ValueError("it ends within a jump of time")
                jump = words[at] << 16 | words[at + 1]  # the high word comes first
                time, at = time + (jump - 2**32 if jump >= 2**31 else jump), at + 2
            elif code == _TEXT:
                at += -(-rest // 2)
            elif code not in (_NUMBER, _SUBTYPE, _CHANNEL):
                time += rest
                if code not in SYMBOLS or not 0 <= time < samples or (sample and time < sample[-1]):
                    raise ValueError(f"annotation {len(sample)} is of code {code} at sample {time} of {samples}")
                sample.append(time)
                symbol.append(SYMBOLS[code])
        if at >= len(words):
            raise ValueError("it has no end mark")
        return np.array(sample, np.int64), tuple(symbol)
