"""Each format read back from files written here as its description has it; other packages read the same; real sets."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from data_files import write_cifar, write_idx, write_mat, write_ts, write_wav, write_wfdb
from scipy.io import loadmat, wavfile
from torchvision.datasets import mnist as vision_mnist

from neuro.data import cifar, ecg, idx, series, speech_commands
from neuro.data.files import npz_columns, read_bytes, unpacked
from neuro.data.folder import data_folder
from neuro.data.nmnist import read_npz


def here(name: str) -> Path:
    """The real set, or the test is left out."""
    folder = data_folder(name)
    if not folder.is_dir():
        pytest.skip(f"{name} is not here: put it into {folder}")
    return folder


def test_idx_is_what_torchvision_reads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for which, n, end in (("train", 12, ""), ("t10k", 5, ".gz")):
        write_idx(tmp_path / f"{which}-images-idx3-ubyte{end}", (n, 6, 5))
        write_idx(tmp_path / f"{which}-labels-idx1-ubyte{end}", values=rng.integers(0, 10, n))
    data = idx.idx_images(tmp_path)
    assert (data.train_x.shape, data.test_x.shape, data.train_x.dtype) == ((12, 1, 6, 5), (5, 1, 6, 5), np.uint8)
    theirs = vision_mnist.read_image_file(str(tmp_path / "train-images-idx3-ubyte"))
    np.testing.assert_array_equal(data.train_x[:, 0], theirs.numpy())
    labels = vision_mnist.read_label_file(str(tmp_path / "train-labels-idx1-ubyte"))
    np.testing.assert_array_equal(data.train_y, labels.numpy())
    scaled = data.scaled()
    assert scaled.train_x.dtype == np.float32
    np.testing.assert_array_equal(np.rint(scaled.test_x * 255), data.test_x)
    path = tmp_path / "train-images-idx3-ubyte"
    whole = path.read_bytes()
    for change, says in (
        (whole[:-1], r"shape \(12, 6, 5\) claimed, 359 bytes there"),
        (b"\0\0\x0d\3" + whole[4:], "begins with 00000d03; uint8 in 3 dimensions is 00000803"),
        (whole[:9], "requires a buffer"),
        (whole[:4] + b"\xff" * 12 + whole[16:], "claimed"),
    ):
        path.write_bytes(change)
        with pytest.raises(ValueError, match=rf"idx3-ubyte: no IDX file \(.*{says}"):
            idx.idx_images(tmp_path)
    path.write_bytes(whole)
    write_idx(tmp_path / "train-labels-idx1-ubyte", values=[10] * 12)
    with pytest.raises(ValueError, match="12 labels up to 10 for 12 images of 10 classes"):
        idx.idx_images(tmp_path)
    with pytest.raises(ValueError, match="train-images-idx3-ubyte: not there"):
        idx.mnist(tmp_path / "none")


def test_cifar_is_its_records_and_a_pickle_is_refused(tmp_path: Path) -> None:
    for k in range(1, 6):
        write_cifar(tmp_path / f"data_batch_{k}.bin", k)
    write_cifar(tmp_path / "test_batch.bin", 2)
    data = cifar.cifar10(tmp_path)
    assert (data.train_x.shape, data.test_x.shape) == ((15, 3, 32, 32), (2, 3, 32, 32))
    raw = (tmp_path / "test_batch.bin").read_bytes()
    assert data.test_y.tolist() == [raw[0], raw[3073]]
    assert data.test_x[1, 2, 0, 1] == raw[3073 + 1 + 2 * 1024 + 1]
    for name, n in (("train", 4), ("test", 3)):
        write_cifar(tmp_path / f"{name}.bin", n, (20, 100))
    fine, coarse = cifar.cifar100(tmp_path), cifar.cifar100(tmp_path, coarse=True)
    raw = (tmp_path / "train.bin").read_bytes()
    assert (coarse.train_y[1], fine.train_y[1]) == (raw[3074], raw[3075])
    np.testing.assert_array_equal(fine.test_x, coarse.test_x)
    (tmp_path / "test_batch.bin").unlink()
    (tmp_path / "test_batch").write_bytes(b"\x80\x02}q")
    with pytest.raises(ValueError, match=r"a pickle, which can run anything.*cifar-10-binary\.tar\.gz"):
        cifar.cifar10(tmp_path)
    (tmp_path / "test_batch").rename(tmp_path / "test_batch.bin")
    with pytest.raises(ValueError, match=r"records of 3073: it is a pickle.*fetch cifar-10-binary"):
        cifar.cifar10(tmp_path)
    (tmp_path / "train.bin").write_bytes(bytes([20, 3]) + bytes(3072))
    with pytest.raises(ValueError, match=r"record 0 has label \[20, 3\]"):
        cifar.cifar100(tmp_path)
    with pytest.raises(ValueError, match=r"data_batch_1\.bin: not there; unpack"):
        cifar.cifar10(tmp_path / "none")


def commands(root: Path) -> Path:
    for word, speakers in (("yes", "abcd"), ("no", "abc"), ("_background_noise_", "x")):
        (root / word).mkdir()
        for k, s in enumerate(speakers):
            write_wav(root / word / f"{s}_nohash_0.wav", 100 + 10 * k)
    (root / "validation_list.txt").write_text("yes/b_nohash_0.wav\nno/a_nohash_0.wav\n")
    (root / "testing_list.txt").write_text("yes/d_nohash_0.wav\n")
    return root


def test_speech_commands_are_split_by_the_lists(tmp_path: Path) -> None:
    root = commands(tmp_path)
    train, held, test = (speech_commands.speech_commands(s, root) for s in ("train", "validation", "test"))
    assert train.words == ("no", "yes")
    assert [f"{f.parent.name}/{f.name[0]}" for f in train.files] == ["no/b", "no/c", "yes/a", "yes/c"]
    assert [len(c) for c in (train, held, test)] == [4, 2, 1]
    assert train.labels == (0, 0, 1, 1)
    x, labels = train.pcm(samples=120)
    assert (x.shape, x.dtype, labels.tolist()) == ((4, 120), np.int16, [0, 0, 1, 1])
    rate, theirs = wavfile.read(train.files[1])
    np.testing.assert_array_equal(x[1], theirs)
    assert rate == speech_commands.RATE_HZ
    np.testing.assert_array_equal(x[2, :100], wavfile.read(train.files[2])[1])
    assert not x[2, 100:].any()
    assert speech_commands.speech_commands("test", root, ["yes"]).labels == (0,)
    with pytest.raises(ValueError, match="no word 'maybe'"):
        speech_commands.speech_commands("test", root, ["maybe"])
    (root / "testing_list.txt").write_text("yes/z_nohash_0.wav\n")
    with pytest.raises(ValueError, match=r"testing_list.txt: .*'yes/z_nohash_0.wav' is no clip"):
        speech_commands.speech_commands("train", root)
    (root / "testing_list.txt").write_text("../yes/a_nohash_0.wav\n")
    with pytest.raises(ValueError, match="is no clip of the set"):
        speech_commands.speech_commands("train", root)
    with pytest.raises(ValueError, match="holds no folder a word"):
        speech_commands.speech_commands("train", root / "yes")


def test_broken_clips_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for form, says in (
        ({"rate": 8000}, "1 channels of 16 bits at 8000 Hz"),
        ({"channels": 2}, "2 channels of 16 bits"),
        ({"width": 1}, "1 channels of 8 bits"),
        ({"n": 0}, "0 samples claimed"),
    ):
        write_wav(path, **form)
        with pytest.raises(ValueError, match=rf"a\.wav: no clip of 16000 Hz.*{says}"):
            speech_commands.read_wav(path)
    whole = write_wav(path).read_bytes()
    path.write_bytes(whole[:-50])
    with pytest.raises(ValueError, match="200 samples claimed, 350 bytes there"):
        speech_commands.read_wav(path)


def test_ts_files_by_hand(tmp_path: Path) -> None:
    path = write_ts(tmp_path / "a.ts")
    s = series.read_ts(path)
    assert [x.tolist() for x in s.x] == [[[1.5, 0.25], [2, 0.5], [np.float32(-0.3), 4]], [[1, 3], [2, 4]]]
    assert (s.label.tolist(), s.classes) == ([2, 0], ("1", "2", "9"))
    x, lengths = s.padded()
    assert (x.shape, lengths.tolist(), x[1, 2].tolist()) == ((2, 3, 2), [3, 2], [0, 0])
    assert s.padded(2)[1].tolist() == [2, 2]
    text = path.read_text()
    for a, b, says in (
        ("0.25,0.5,4:9", "0.25,0.5:9", r"line 10: \[2, 3\] values"),
        (":9\n", ":7\n", "class '7' is none of 1, 2, 9"),
        ("1.5,", "NaN,", "line 10: a value is no finite number"),
        ("1.5,", "1e300,", "no finite number"),
        ("1.5,", "?,", "could not convert"),
        ("@data", "@dta", "neither comment nor head"),
        ("timeStamps false", "timeStamps true", "has time stamps"),
        ("@dimensions 2", "@dimensions 3", r"values in 2 dimensions of 3"),
        (text[text.index("1.5") :], "", "no series after @data"),
    ):
        path.write_text(text.replace(a, b))
        with pytest.raises(ValueError, match=rf"a\.ts: no time series.*{says}"):
            series.read_ts(path)


def test_real_japanese_vowels() -> None:
    here("japanese_vowels")
    train, test = series.japanese_vowels()
    assert (len(train), len(test)) == (270, 370)
    assert np.bincount(train.label).tolist() == [30] * 9
    assert np.bincount(test.label).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]  # Kudo et al., UCI's description
    lengths = [len(x) for x in train.x + test.x]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert train.x[0][0, 0] == np.float32(1.860936)


def test_real_mnist1d() -> None:
    here("mnist1d")
    data = series.mnist1d()
    assert (data.train_x.shape, data.test_x.shape) == ((4000, 40), (1000, 40))
    assert np.bincount(data.train_y, minlength=10).min() > 300


def test_qtdb_is_what_scipy_has(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "a.mat")
    mine, raw = ecg.read_qtdb(path), loadmat(path)
    np.testing.assert_array_equal(mine.x, raw["x"])
    assert mine.y[0, 4] == mine.y[1, 8] == -1  # no label, past the end
    counted = np.arange(9) < mine.length[:, None]
    named = counted & (raw["y"].sum(2) == 1)
    np.testing.assert_array_equal(mine.y[named], raw["y"].argmax(2)[named])
    assert (mine.y[~named] == -1).all()
    np.testing.assert_array_equal(mine.split()[..., :4] - mine.split()[..., 4:], raw["x"])
    with pytest.raises(ValueError, match=r"b\.mat: no table of QTDB \(No such file.*SPIKEPORT_DATA"):
        ecg.read_qtdb(tmp_path / "b.mat")


def test_real_qtdb() -> None:
    here("qtdb_ecg")
    train, test = ecg.qtdb()
    assert (train.x.shape, test.x.shape) == ((618, 1301, 4), (141, 1301, 4))
    assert (train.length == 1301).all()
    assert abs(np.abs(train.x).mean() - 0.08) < 0.01
    assert 0.9 < (train.y >= 0).mean() < 1.0


def test_wfdb_by_hand(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path / "7.hea", 51)
    r = ecg.read_wfdb(path)
    np.testing.assert_array_equal(r.adc, np.random.default_rng(6).integers(-2048, 2048, (51, 2)))
    assert (r.rate_Hz, r.gain, r.baseline, r.names) == (360.0, (200.0, 200.0), (1024, 1024), ("MLII", "V5"))
    assert (r.sample.tolist(), r.symbol) == ([3, 10, 42], ("+", "N", "V"))
    np.testing.assert_allclose(r.millivolts(), (r.adc - 1024) / 200)
    whole = {p: p.read_bytes() for p in tmp_path.iterdir()}
    for name, a, b, says in (
        ("7.hea", b" 212 ", b" 16 ", "lines of signals in format 212"),
        ("7.hea", b" 2 360 51", b" 2 360 52", "7.dat: .*153 bytes, and 104 values"),
        ("7.hea", b"7.dat", b"../7.dat", "signals must lie in one file"),
        ("7.dat", whole[tmp_path / "7.dat"][60:63], b"\1\2\3", "another checksum"),
        ("7.dat", whole[tmp_path / "7.dat"][:3], b"\1\2\3", "signal 0 begins with"),
        ("7.atr", b"\0\0" + b"\x1e\0", b"\0\0" + b"\xff\0", r"at sample 267 of 51"),
    ):
        for p, data in whole.items():
            p.write_bytes(data.replace(a, b, 1) if p.name == name else data)
        with pytest.raises(ValueError, match=says):
            ecg.read_wfdb(path)


def test_real_ecg_of_record_100() -> None:
    """PhysioNet's table of the record: 2239 normal beats, 33 atrial and one ventricular premature."""
    here("mitbih_100")
    r = ecg.mitbih()
    assert r.adc.shape == (650_000, 2)
    assert Counter(r.symbol) == {"N": 2239, "A": 33, "V": 1, "+": 1}
    beats = r.sample[np.array(r.symbol) != "+"]
    near = np.abs(beats[:, None] + np.arange(-18, 19))
    lead = r.millivolts()[:, 0]
    assert (lead[np.minimum(near, 649_999)].max(1) > np.median(lead) + 0.5).mean() > 0.999  # each is on an R wave


def test_real_clips_of_speech() -> None:
    folder = here("speech_micro")
    for path in sorted(folder.glob("*.wav")):
        mine, (_, theirs) = speech_commands.read_wav(path), wavfile.read(path)
        np.testing.assert_array_equal(mine, theirs)
        assert len(mine) == 16_000


def test_pickles_and_bombs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    names = ("x", "y", "p", "t_us", "offset", "label")
    np.savez(path, **{n: np.array([{}], object) for n in names})
    with pytest.raises(ValueError, match=r"a\.npz: no table of N-MNIST.*Python objects, which only a pickle"):
        read_npz(path)
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": (10**13,)})
    with zipfile.ZipFile(path, "w") as archive:
        for n in names:
            archive.writestr(f"{n}.npy", member.getvalue())
    with pytest.raises(ValueError, match=r"x\.npy claims shape \(10000000000000,\)"):
        read_npz(path)
    np.savez_compressed(path, x=np.zeros(2**22, np.uint8))
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match="more than the 1048576 bytes"):
        npz_columns(path, ["x"], 2**20)
    with pytest.raises(ValueError, match="unpacks to more than the 1048576"):
        unpacked(gzip.compress(bytes(2**22)), 2**20)
    with pytest.raises(ValueError, match="longer than the 10 bytes"):
        read_bytes(path, 10)
    with tarfile.open(tmp_path / "c.tar", "w") as archive_2:
        archive_2.add(path, "a.npz")
    with pytest.raises(ValueError, match=r"c\.tar: no table"):
        read_npz(tmp_path / "c.tar")
