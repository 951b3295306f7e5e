"""N-MNIST: SpikingJelly reads the same file and counts the same frames; a damaged file is refused; the real data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spikingjelly.datasets import utils as jelly

from neuro.data.folder import data_folder
from neuro.data.nmnist import (
    Recordings,
    binary,
    frames_by_count,
    frames_by_time,
    nmnist,
    read_bin,
    read_folder,
    read_npz,
)

RNG = np.random.default_rng(3)


def recording(n: int = 500, label: int = 3) -> Recordings:
    x, y, p = (RNG.integers(0, k, n).astype(np.uint8) for k in (34, 34, 2))
    t = np.sort(RNG.integers(5, 2**22, n)).astype(np.uint32)
    return Recordings(x, y, p, t, np.array([0, n]), np.array([label]))


def write_bin(path: Path, r: Recordings) -> Path:
    """40 bits an event, as the data set has them."""
    t = r.t_us.astype(np.uint32)
    columns = (r.x, r.y, r.p << 7 | (t >> 16).astype(np.uint8), (t >> 8).astype(np.uint8), t.astype(np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    np.stack([c.astype(np.uint8) for c in columns], 1).tofile(path)
    return path


def write_npz(path: Path, *parts: Recordings) -> Path:
    offset = np.cumsum([0, *(len(r.x) for r in parts)])
    names = ("x", "y", "p", "t_us", "label")
    np.savez(path, offset=offset, **{k: np.concatenate([getattr(r, k) for r in parts]) for k in names})
    return path


def test_spikingjelly_reads_the_same_events(tmp_path: Path) -> None:
    r = recording()
    path = write_bin(tmp_path / "00001.bin", r)
    mine, theirs = read_bin(path, 3), jelly.load_ATIS_bin(path)
    for name, key in (("x", "x"), ("y", "y"), ("p", "p"), ("t_us", "t")):
        np.testing.assert_array_equal(getattr(mine, name), theirs[key])
        np.testing.assert_array_equal(getattr(mine, name), getattr(r, name))


@pytest.mark.parametrize(("by", "frames"), [("time", frames_by_time), ("number", frames_by_count)])
@pytest.mark.parametrize("steps", [1, 4, 7])
def test_spikingjelly_counts_the_same_frames(by: str, frames: Any, steps: int) -> None:
    r = recording()
    events = {"t": r.t_us.astype(np.int64), "x": r.x.astype(int), "y": r.y.astype(int), "p": r.p.astype(int)}
    want = jelly.integrate_events_by_fixed_frames_number(events, by, steps, 34, 34)
    mine = frames(r, steps)
    np.testing.assert_array_equal(mine[0], want)
    assert mine.sum() == 500
    np.testing.assert_array_equal(binary(mine), mine > 0)


def test_tables_and_folders_are_the_same_recordings(tmp_path: Path) -> None:
    parts = [recording(100, 0), recording(60, 0), recording(80, 7)]
    for k, r in enumerate(parts):
        for name in ("Train", "Test"):
            write_bin(tmp_path / "bin" / name / str(r.label[0]) / f"{k:05}.bin", r)
    (tmp_path / "npz").mkdir()
    for name in ("train1K", "test100"):
        write_npz(tmp_path / "npz" / f"{name}.npz", *parts)
    of_bin, of_npz = nmnist(tmp_path / "bin")[0], nmnist(tmp_path / "npz")[1]
    for name in ("x", "y", "p", "t_us", "offset", "label"):
        np.testing.assert_array_equal(getattr(of_bin, name), getattr(of_npz, name))
    assert of_bin.label.tolist() == [0, 0, 7]
    np.testing.assert_array_equal(frames_by_time(of_bin, 3)[1], frames_by_time(parts[1], 3)[0])


def put(r: Recordings, name: str, at: int, value: int) -> dict[str, Any]:
    changed = getattr(r, name).copy()
    changed[at] = value
    return {name: changed}


@pytest.mark.parametrize(
    ("name", "at", "value", "says"),
    [
        ("x", 7, 34, r"recording 0, event 7 lies outside the 34 x 34 pixels"),
        ("y", 90, 240, r"recording 0, event 90 lies outside"),
        ("p", 5, 2, r"recording 0, event 5 has a polarity that is neither 0 nor 1"),
        ("t_us", 50, 0, r"recording 0, event 50 is earlier than the one before it"),
        ("label", 0, 10, r"labels must be 0 to 9, got 10"),
        ("offset", 1, 99, r"offsets must rise from 0 to the 100 events"),
        ("offset", 0, 1, r"offsets must rise from 0"),
    ],
)
def test_what_is_wrong_is_named(name: str, at: int, value: int, says: str) -> None:
    r = recording(100)
    with pytest.raises(ValueError, match=says):
        replace(r, **put(r, name, at, value))


def test_damaged_and_absent_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.bin").write_bytes(b"1234567")
    with pytest.raises(ValueError, match=r"a\.bin: no N-MNIST recording \(7 bytes are no whole number"):
        read_bin(tmp_path / "a.bin", 0)
    whole = write_npz(tmp_path / "a.npz", recording()).read_bytes()
    (tmp_path / "b.npz").write_bytes(whole[: len(whole) // 2])
    np.savez(tmp_path / "c.npz", x=np.zeros(3))
    for name in ("b.npz", "c.npz", "d.npz"):
        with pytest.raises(ValueError, match=rf"{name}: no table of N-MNIST recordings"):
            read_npz(tmp_path / name)
    with pytest.raises(ValueError, match=r"no <label>/\*\.bin in it"):
        read_folder(tmp_path)
    with pytest.raises(ValueError, match="T must be at least 1"):
        frames_by_count(recording(), 0)
    monkeypatch.setenv("SPIKEPORT_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=r"nmnist_small holds neither .*garrickorchard\.com.*SPIKEPORT_DATA"):
        nmnist()


def test_data_folder_is_the_variable_or_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPIKEPORT_DATA", "/a")
    assert data_folder("s") == Path("/a/s")
    monkeypatch.delenv("SPIKEPORT_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", "/b")
    assert data_folder("s") == Path("/b/spikeport/s")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert data_folder("s").parts[-4:] == (".local", "share", "spikeport", "s")


def test_real_recordings_are_whole() -> None:
    if not data_folder("nmnist_small").is_dir():
        pytest.skip("N-MNIST is not here: put it into $SPIKEPORT_DATA/nmnist_small")
    train, test = nmnist()
    assert (len(train), len(test)) == (1000, 100)
    assert (len(train.x), len(test.x)) == (4_133_231, 385_596)
    assert np.bincount(test.label).tolist() == [8, 14, 8, 11, 14, 7, 10, 15, 2, 11]
    frames = frames_by_time(test, 8)
    assert frames.sum() == len(test.x)
    assert 0.05 < binary(frames).mean() < 0.2
