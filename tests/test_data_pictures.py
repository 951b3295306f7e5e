"""Pictures in folders as torchvision has them; point clouds; what is damaged is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision import transforms
from torchvision.datasets import ImageFolder

from neuro.data.clouds import lidar_terrain, shapes
from neuro.data.folder import data_folder
from neuro.data.image_folder import image_folder, read_picture


def test_folders_and_cut_are_torchvisions(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, size in (("n02/b.png", (40, 61)), ("n02/sub/a.PNG", (29, 29)), ("n01/c.png", (70, 30))):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3)).astype(np.uint8)).save(path, "PNG")
    (tmp_path / "n01" / "notes.txt").write_text("none")
    mine, theirs = image_folder(tmp_path), ImageFolder(str(tmp_path))
    assert list(mine.classes) == theirs.classes
    assert sorted(zip(map(str, mine.files), mine.labels, strict=True)) == sorted(theirs.samples)
    x, y = mine.pixels([0, 1, 2], 28)
    assert (x.shape, x.dtype, y.tolist()) == ((3, 3, 28, 28), np.uint8, [0, 1, 1])
    cut = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(28)])
    for k in range(3):
        with Image.open(mine.files[k]) as picture:
            want = np.asarray(cut(picture.convert("RGB"))).transpose(2, 0, 1)
        np.testing.assert_array_equal(x[k], want)


def test_broken_pictures_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no folder a class in it; put"):
        image_folder(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(ValueError, match="no picture in a"):
        image_folder(tmp_path)
    path = tmp_path / "a" / "x.png"
    Image.fromarray(np.zeros((30, 30, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"\x89PNG\r\n" + whole[20:]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"x\.png: no picture \(.*fetch it again"):
            read_picture(path, 8)
    Image.new("1", (9000, 8000)).save(path)
    with pytest.raises(ValueError, match="9000 x 8000 pixels are more than"):
        read_picture(path, 8)


def test_clouds_by_hand(tmp_path: Path) -> None:
    path, p = tmp_path / "a.npz", np.arange(12.0).reshape(4, 3)
    np.savez(path, b_xyz=p, b_ground=np.array([True, False, True, False]))
    points, ground = lidar_terrain(path)["b"]
    assert (points.tolist(), ground.tolist()) == (p.tolist(), [True, False, True, False])
    np.savez(path, train_cat=p, test_cat=p[:2])
    assert shapes(path)["test"]["cat"].tolist() == p[:2].tolist()
    for tables, read, says in (
        ({"b_xyz": p}, lidar_terrain, "b: 4 points and"),
        ({"c": p}, lidar_terrain, "no <scene>_xyz"),
        ({"train_cat": p, "test_dog": p}, shapes, "the same shapes are wanted"),
        ({"train_cat": p * np.nan, "test_cat": p}, shapes, "train_cat: points must be finite"),
        ({"train_cat": np.array([{}], object)}, shapes, "Python objects"),
    ):
        np.savez(path, **tables)
        with pytest.raises(ValueError, match=rf"a\.npz: no table of .*{says}"):
            read(path)


def test_real_clouds() -> None:
    for name in ("lidar_terrain", "shapes_ism"):
        if not data_folder(name).is_dir():
            pytest.skip(f"{name} is not here: put it into {data_folder(name)}")
    scenes = lidar_terrain()
    assert (len(scenes), sum(len(p) for p, _ in scenes.values())) == (15, 384_955)
    assert all(0.1 < g.mean() < 0.99 for _, g in scenes.values())
    poses = shapes()
    assert sorted(poses["train"]) == ["cat", "horse", "lioness", "michael", "wolf"]
    assert all(p.shape == (3400, 3) for split in poses.values() for p in split.values())
