"""Event and spike-train files written here as their formats have them; SpikingJelly and h5py read the same."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from data_files import aedat2, aedat3, camera, packet, write_gesture, write_hdf5
from spikingjelly.datasets import cifar10_dvs as jelly_cifar
from spikingjelly.datasets import utils as jelly

from neuro import frames
from neuro.data import cifar10_dvs, dvs_gesture, shd
from neuro.data.aedat import polarity_events
from neuro.data.events import Events


def same_events(mine: Events, theirs: dict[str, Any]) -> None:
    for name, key in (("x", "x"), ("y", "y"), ("p", "p"), ("t_us", "t")):
        np.testing.assert_array_equal(getattr(mine, name), theirs[key])


def test_cifar10_dvs_is_what_spikingjelly_reads(tmp_path: Path) -> None:
    x, y, p, t = camera(500, 128)
    path = tmp_path / "a.aedat"
    path.write_bytes(aedat2(x, y, p, t))
    mine = cifar10_dvs.read_recording(path, 4)
    same_events(mine, jelly_cifar._load_origin_data(path))
    same_events(mine, {"x": x, "y": y, "p": p, "t": t})
    assert mine.x.dtype == mine.y.dtype == mine.p.dtype == np.uint8
    assert (mine.label.tolist(), mine.frame) == ([4], (2, 128, 128))


def test_cifar10_dvs_split_is_by_number(tmp_path: Path) -> None:
    for name, numbers in (("cat", (3, 99, 100, 7)), ("airplane", (250,))):
        (tmp_path / name).mkdir()
        for n in numbers:
            (tmp_path / name / f"cifar10_{name}_{n}.aedat").write_bytes(aedat2(*camera(20 + n, 128)))
    test = list(cifar10_dvs.cifar10_dvs("test", tmp_path))
    assert [(len(e.x), int(e.label[0])) for e in test] == [(23, 3), (27, 3), (119, 3)]
    x, labels = frames.framed(cifar10_dvs.cifar10_dvs("train", tmp_path), lambda e: frames.frames_by_count(e, 4))
    assert (x.shape, labels.tolist()) == ((2, 4, 2, 128, 128), [0, 3])
    with pytest.raises(ValueError, match=r"holds no <class>.*figshare.*SPIKEPORT_DATA"):
        cifar10_dvs.cifar10_dvs("test", tmp_path / "none")
    with pytest.raises(ValueError, match="train or test"):
        cifar10_dvs.cifar10_dvs("both", tmp_path)


def test_gesture_is_what_spikingjelly_reads_and_cuts(tmp_path: Path) -> None:
    x, y, p, t = camera(700, 128, seed=3)
    path = write_gesture(tmp_path / "user01_led.aedat", 10)
    path.write_bytes(aedat3(x, y, p, t))
    theirs = jelly.load_aedat_v3(path)
    for mine, key in zip(polarity_events(path.read_bytes()), ("x", "y", "p", "t"), strict=True):
        np.testing.assert_array_equal(mine, theirs[key])
    trials = dvs_gesture.read_trials(path)
    assert trials.label.tolist() == [0, 10]
    for k, (start, end) in enumerate(((1000, 90_000), (90_000, 200_000))):
        cut = (theirs["t"] >= start) & (theirs["t"] < end)
        same_events(trials.take([k]), {key: theirs[key][cut] for key in theirs})
    (tmp_path / "trials_to_train.txt").write_text("user01_led.aedat\n\n")
    (tmp_path / "trials_to_test.txt").write_text("../user01_led.aedat\n")
    (only,) = dvs_gesture.dvs_gesture("train", tmp_path)
    np.testing.assert_array_equal(only.t_us, trials.t_us)
    with pytest.raises(ValueError, match=r"trials_to_test.txt: .* is no name of an .aedat file"):
        dvs_gesture.dvs_gesture("test", tmp_path)
    with pytest.raises(ValueError, match=r"trials_to_train.txt: .*No such file.*unpack DvsGesture.tar.gz"):
        dvs_gesture.dvs_gesture("train", tmp_path / "none")
    with pytest.raises(ValueError, match="split"):
        dvs_gesture.dvs_gesture("validation", tmp_path)


def test_aedat_time_overflows_and_invalid_events_are_left_out() -> None:
    x, y, p, t = camera(40, 128)
    valid = np.arange(40) % 3 != 0
    assert len(polarity_events(aedat3(x, y, p, t, valid=valid))[0]) == valid.sum()
    late = packet(1, 8, struct.pack("<II", 5 << 17 | 6 << 2 | 3, 9), overflow=2)
    mine = polarity_events(aedat3(x, y, p, t) + late)
    assert [int(c[-1]) for c in mine] == [5, 6, 1, 2 * 2**31 + 9]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: b"#!AER-DAT2.0\r\n" + d[14:], r"AEDAT 2.0, and AEDAT 3.1 is wanted"),
        (lambda d: b"RIFF" + d, r"begins with b'RIFF"),
        (lambda d: d.replace(b"#!END-HEADER", b"#!no-end-head"), "no #!END-HEADER"),
        (lambda d: d[:-3], r"ends within the packet at byte \d+"),
        (lambda d: d + b"\1\0\1\0", r"ends within the header of a packet"),
        (lambda d: d + packet(1, 8, bytes(8), valid=2), "claims 2 of 1 events"),
        (lambda d: d + struct.pack("<HHIIIIII", 1, 1, 8, 4, 0, 2**31, 1, 1), "ends within the packet"),
        (lambda d: d + packet(1, 16, bytes(16)), "polarity events of 16 bytes"),
        (lambda d: d + packet(1, 8, struct.pack("<II", 200 << 17 | 1, 300_000)), "lies outside the 128 x 128"),
        (lambda d: d + packet(1, 8, struct.pack("<II", 1, 5)), "earlier than the one before it"),
        (lambda d: d[: d.index(b"DER\r\n") + 5], "no polarity events"),
    ],
)
def test_broken_gestures_are_named(tmp_path: Path, change: Any, says: str) -> None:
    path = write_gesture(tmp_path / "a.aedat")
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=rf"a\.aedat: no recording of DVS128 Gesture \(.*{says}"):
        dvs_gesture.read_trials(path)
    if "earlier" in says:
        assert len(dvs_gesture.read_trials(path, sort=True)) == 2


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("class,start,end\n12,1,2\n", "classes must be 1 to 11"),
        ("class,start,end\n1,5,5\n", "before it ends"),
        ("class,start,end\n1,5\n", "other than the three numbers"),
        ("class,start,end\n1,a,5\n", "invalid literal"),
        ("class,start,end\n", "has 1 lines"),
        ("class,start,end\n1,900000,900001\n", "no event lies in gesture 1.*take the table that belongs"),
    ],
)
def test_broken_label_tables_are_named(tmp_path: Path, table: str, says: str) -> None:
    path = write_gesture(tmp_path / "a.aedat")
    (tmp_path / "a_labels.csv").write_text(table)
    with pytest.raises(ValueError, match=rf"a_labels\.csv: .*{says}"):
        dvs_gesture.read_trials(path)


def test_broken_aedat_2_is_named(tmp_path: Path) -> None:
    x, y, p, t = camera(30, 128)
    path, whole = tmp_path / "a.aedat", aedat2(x, y, p, t)
    for data, says in (
        (whole[:-1], "no whole number of 8-byte events"),
        (whole[: whole.index(b"us\r\n") + 4], "0 bytes after the header"),
        (whole.replace(b"2.0", b"3.1"), "AEDAT 3.1, and AEDAT 2.0 is wanted"),
        (whole + struct.pack(">II", 1 << 20, 10**6), "address 0x100000 is none of a DVS128"),
        (whole + struct.pack(">II", 1, 0), "earlier than the one before it"),
        (b"#!AER-DAT2.0 no end", "its header has no end"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=rf"a\.aedat: no recording of CIFAR10-DVS \(.*{says}"):
            cifar10_dvs.read_recording(path, 0)
    path.write_bytes(whole + struct.pack(">II", 1, 0))
    assert cifar10_dvs.read_recording(path, 0, sort=True).t_us[0] == 0


def test_shd_is_what_h5py_has(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "shd_train.h5", 7)
    s = shd.shd("train", tmp_path)
    assert (s.time_s.dtype, s.channel.dtype, s.channels, s.classes) == (np.float16, np.uint16, 700, 20)
    with h5py.File(path) as file:
        for k in range(7):
            np.testing.assert_array_equal(s.time_s[s.span(k)], file["spikes/times"][k])
            np.testing.assert_array_equal(s.channel[s.span(k)], file["spikes/units"][k])
    assert s.speaker is not None
    assert s.speaker.tolist() == list(range(7))
    part = shd.read(path, first=2, most=3)
    np.testing.assert_array_equal(part.channel, s.take([2, 3, 4]).channel)
    assert part.speaker is not None
    assert part.speaker.tolist() == [2, 3, 4] == s.take(s.speaker % 7 > 1).label.tolist()[:3]
    x, labels = shd.binned_file(path, 0.01, 100, classes=20, join=5)
    np.testing.assert_array_equal(x, frames.bins(s, 0.01, 100, join=5))
    assert labels.tolist() == list(range(7))
    write_hdf5(tmp_path / "ssc_valid.h5", 40, speakers=False)
    with pytest.raises(ValueError, match="first must be at least 0"):
        shd.read(path, first=-1)
    assert shd.ssc("valid", tmp_path).classes == 35
    with pytest.raises(ValueError, match=r"ssc_test\.h5 is not there; unpack ssc_test\.h5\.zip of zenkelab"):
        shd.ssc("test", tmp_path)
    with pytest.raises(ValueError, match="split"):
        shd.shd("valid", tmp_path)


def test_broken_hdf5_is_named(tmp_path: Path) -> None:
    def damaged(name: str, value: Any) -> Any:
        def change(file: Any) -> None:
            if name in file:
                del file[name]
            if value is not None:
                file[name] = value

        return change

    def put(name: str, k: int, values: Any, kind: Any) -> Any:
        def change(file: Any) -> None:
            file[name][k] = np.array(values, kind)

        return change

    def far(file: Any) -> None:
        del file["labels"]
        file.create_dataset("labels", (10**9,), np.uint16, chunks=(10**6,), compression="gzip")

    def outside(file: Any) -> None:
        del file["labels"]
        file["labels"] = h5py.ExternalLink("other.h5", "/labels")

    for change, says in (
        (damaged("spikes/times", None), "it has no spikes/times"),
        (damaged("labels", np.arange(5)), "6 times, 6 units and 5 labels"),
        (damaged("labels", np.arange(6.0)), "labels are float64, not integers"),
        (damaged("labels", np.full(6, 20)), "labels must be 0 to 19"),
        (damaged("labels", np.zeros((6, 2), int)), "no list of the file itself"),
        (damaged("spikes", np.zeros(6)), "spikes/times"),
        (put("spikes/units", 2, [1, 2], np.uint16), r"recording 2: \(22,\) times"),
        (put("spikes/units", 0, [700] * 20, np.uint16), "recording 0, event 0 is on none of the 700 channels"),
        (put("spikes/times", 1, [0.1] * 20 + [0.05], np.float16), "recording 1, event 20 is earlier"),
        (put("spikes/times", 1, [0.1] * 20 + [np.nan], np.float16), "recording 1, event 20 has a time that is no"),
        (far, "labels claims 1000000000 recordings"),
        (outside, "it has no labels"),
    ):
        path = write_hdf5(tmp_path / "a.h5")
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(ValueError, match=rf"a\.h5: no HDF5 of spike trains \(.*{says}"):
            shd.read(path, classes=20)
        path.unlink()
    path.write_bytes(b"PK\3\4 still zipped")
    with pytest.raises(ValueError, match=r"a\.h5: .*fetch it again and unpack it"):
        shd.read(path)
