"""One small whole file of each format, written as its own description has it, and how it is read back."""

from __future__ import annotations

import gzip
import struct
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy import io

from neuro.data import cifar, cifar10_dvs, dvs_gesture, ecg, idx, nmnist, series, shd, speech_commands

Reader = Callable[[Path], Any]


def camera(n: int, size: int, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """x, y, p, t_us of n events, int64."""
    rng = np.random.default_rng(seed)
    x, y, p = (rng.integers(0, k, n) for k in (size, size, 2))
    return x, y, p, np.sort(rng.integers(1000, 200_000, n))


def write_bin(path: Path, n: int = 60) -> Path:
    """N-MNIST's 40 bits an event."""
    x, y, p, t = camera(n, 34)
    np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8).tofile(path)
    return path


def write_npz(path: Path, n: int = 60) -> Path:
    x, y, p, t = camera(n, 34)
    columns = {"x": x.astype(np.uint8), "y": y.astype(np.uint8), "p": p.astype(np.uint8), "t_us": t.astype(np.uint32)}
    np.savez_compressed(path, **columns, offset=np.array([0, n // 2, n]), label=np.array([3, 9], np.uint8))
    return path


def aedat2(x: Any, y: Any, p: Any, t: Any) -> bytes:
    """As CIFAR10-DVS: x and y where SpikingJelly has them, from the other corner and swapped in the address."""
    address = (127 - y) << 1 | (127 - x) << 8 | (1 - p)
    head = b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n# Timestamps tick is 1 us\r\n"
    return head + np.stack([address, t], 1).astype(">u4").tobytes()


def write_aedat2(path: Path, n: int = 60) -> Path:
    path.write_bytes(aedat2(*camera(n, 128)))
    return path


def packet(kind: int, size: int, body: bytes, valid: int | None = None, overflow: int = 0) -> bytes:
    """28 bytes of header of AEDAT 3.1, and the events."""
    n = len(body) // size
    return struct.pack("<HHIIIIII", kind, 1, size, 4, overflow, n, n, n if valid is None else valid) + body


def aedat3(x: Any, y: Any, p: Any, t: Any, each: int = 25, valid: Any = 1) -> bytes:
    words = np.stack([x << 17 | y << 2 | p << 1 | valid, t], 1).astype("<u4")
    head = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2015-07-17 10:00:00\r\n#!END-HEADER\r\n"
    special = packet(0, 8, struct.pack("<II", 1, 0))
    return head + special + b"".join(packet(1, 8, words[k : k + each].tobytes()) for k in range(0, len(words), each))


def write_gesture(path: Path, n: int = 60) -> Path:
    path.write_bytes(aedat3(*camera(n, 128)))
    table = "class,startTime_usec,endTime_usec\n1,1000,90000\n11,90000,200000\n"
    path.with_name(f"{path.stem}_labels.csv").write_text(table)
    return path


def write_labels(path: Path) -> Path:
    path.write_text("class,startTime_usec,endTime_usec\n1,1000,90000\n11,90000,200000\n")
    return path


def write_hdf5(path: Path, n: int = 6, speakers: bool = True) -> Path:
    """As SHD: float16 seconds and uint16 units of variable length."""
    rng = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        group = file.create_group("spikes")
        times = group.create_dataset("times", (n,), h5py.vlen_dtype(np.float16))
        units = group.create_dataset("units", (n,), h5py.vlen_dtype(np.uint16))
        for k in range(n):
            times[k] = np.sort(rng.uniform(0, 1, 20 + k)).astype(np.float16)
            units[k] = rng.integers(0, 700, 20 + k).astype(np.uint16)
        file["labels"] = (np.arange(n) % 20).astype(np.uint16)
        if speakers:
            file["extra/speaker"] = (np.arange(n) % 12).astype(np.uint16)
    return path


def write_idx(path: Path, shape: tuple[int, ...] = (7, 5, 4), values: Any = None) -> Path:
    a = np.random.default_rng(2).integers(0, 256, shape) if values is None else np.asarray(values)
    data = struct.pack(f">BBBB{a.ndim}I", 0, 0, 8, a.ndim, *a.shape) + a.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def write_cifar(path: Path, n: int = 3, labels: tuple[int, ...] = (10,)) -> Path:
    rng = np.random.default_rng(3)
    y = np.stack([rng.integers(0, k, n) for k in labels], 1)
    np.concatenate([y, rng.integers(0, 256, (n, 3072))], 1).astype(np.uint8).tofile(path)
    return path


def write_wav(path: Path, n: int = 200, rate: int = 16_000, channels: int = 1, width: int = 2) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(np.random.default_rng(4).integers(0, 256, n * channels * width).astype(np.uint8).tobytes())
    return path


def write_ts(path: Path) -> Path:
    path.write_text(
        "#A comment\n@problemName JapaneseVowels\n@timeStamps false\n@missing false\n@univariate false\n@dimensions 2\n"
        "@equalLength false\n@classLabel true 1 2 9\n@data\n1.5,2,-3e-1:0.25,0.5,4:9\n1,2:3,4:1\n"
    )
    return path


def write_mat(path: Path) -> Path:
    rng = np.random.default_rng(5)
    x = rng.integers(-1, 2, (3, 9, 4)).astype(np.int16)
    y = np.eye(6, dtype=np.uint8)[rng.integers(0, 6, (3, 9))]
    y[0, 4] = 0
    t = np.tile(np.arange(9, dtype=np.uint16), (3, 1))
    io.savemat(path, {"x": x, "y": y, "t": t, "max_i": np.array([[9], [8], [9]], np.uint16)}, do_compression=True)
    return path


def format_212(values: Any) -> bytes:
    """Two 12-bit values in 3 bytes."""
    v = np.asarray(values, np.int64).reshape(-1) & 0xFFF
    v = np.append(v, 0) if len(v) % 2 else v
    a, b = v[::2], v[1::2]
    return np.stack([a & 255, a >> 8 | b >> 8 << 4, b & 255], 1).astype(np.uint8).tobytes()


def write_wfdb(path: Path, samples: int = 50) -> Path:
    adc = np.random.default_rng(6).integers(-2048, 2048, (samples, 2))
    sums = [(int(s) + 2**15) % 2**16 - 2**15 for s in adc.sum(0)]
    rows = [f"{path.stem}.dat 212 200 11 1024 {adc[0, k]} {sums[k]} 0 {n}" for k, n in enumerate(("MLII", "V5"))]
    path.write_text("\n".join([f"{path.stem} 2 360 {samples}", *rows, "# 69 M 1085 1629 x1", ""]))
    path.with_suffix(".dat").write_bytes(format_212(adc))
    text = struct.pack("<HH4s", 28 << 10 | 3, 63 << 10 | 4, b"(N\0\0")
    jump = struct.pack("<HHHH", 59 << 10, 0, 30, 5 << 10 | 2)
    path.with_suffix(".atr").write_bytes(text + struct.pack("<H", 1 << 10 | 7) + jump + b"\0\0")
    return path


def write_mnist1d(path: Path) -> Path:
    rng = np.random.default_rng(7)
    x, labels = rng.normal(0, 1, (9, 40)).astype(np.float32), (np.arange(9) % 10).astype(np.uint8)
    np.savez(path, x=x, y=labels, x_test=x[:4], y_test=labels[:4])
    return path


FORMATS: dict[str, tuple[str, Callable[[Path], Any], Reader]] = {
    "nmnist bin": ("a.bin", write_bin, lambda p: nmnist.read_bin(p, 3)),
    "nmnist npz": ("a.npz", write_npz, nmnist.read_npz),
    "aedat 2": ("a.aedat", write_aedat2, lambda p: cifar10_dvs.read_recording(p, 0)),
    "aedat 3": ("a.aedat", write_gesture, dvs_gesture.read_trials),
    "gesture labels": ("a.csv", write_labels, dvs_gesture.read_labels),
    "hdf5": ("a.h5", write_hdf5, lambda p: shd.read(p, classes=20)),
    "idx": ("a-idx3-ubyte", write_idx, lambda p: idx.read_idx(p, 3)),
    "idx gz": ("a-idx3-ubyte.gz", write_idx, lambda p: idx.read_idx(p, 3)),
    "cifar": ("a.bin", write_cifar, lambda p: cifar.read_cifar(p, (10,))),
    "wav": ("a.wav", write_wav, speech_commands.read_wav),
    "ts": ("a.ts", write_ts, series.read_ts),
    "mat": ("a.mat", write_mat, ecg.read_qtdb),
    "wfdb head": ("a.hea", write_wfdb, ecg.read_wfdb),
    "wfdb signals": (
        "a.dat",
        lambda p: write_wfdb(p.with_suffix(".hea")),
        lambda p: ecg.read_wfdb(p.with_suffix(".hea")),
    ),
    "wfdb beats": (
        "a.atr",
        lambda p: write_wfdb(p.with_suffix(".hea")),
        lambda p: ecg.read_wfdb(p.with_suffix(".hea")),
    ),
    "mnist1d": ("a.npz", write_mnist1d, series.mnist1d),
}
"""Name of the file, how it is written, how it is read."""
