"""Recipes: each loads and builds; wrong ones are refused by file and key; papers' ones run on files in the sets' own
formats; the small ones run on real data."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from export.from_torch import from_torch
from neuro import recipe
from neuro.data.folder import data_folder
from neuro.delays import DelayLinear
from neuro.modules import HeldDropout, Spiking, steps, unroll
from neuro.recipe_data import Sets, Shown
from neuro.recipe_run import Outcome, augment, build, run
from neuro.recipe_spikes import mel_of_reference
from sim import engines
from tests.data_files import write_aedat2, write_cifar, write_gesture, write_hdf5, write_wav

PAPERS = (
    *("sltt_cifar10", "sltt_cifar100", "sltt_dvs_cifar10", "sltt_k2_dvs_cifar10", "sltt_dvs_gesture"),
    *("sltt_k4_dvs_gesture", "sltt_imagenet", "iir_cifar10", "iir_cifar100", "dcls_shd", "dcls_ssc", "dcls_gsc"),
)
SHAPES: dict[str, tuple[tuple[int, ...], int]] = {
    "cifar10": ((3, 32, 32), 10),
    "cifar100": ((3, 32, 32), 100),
    "dvs_cifar10": ((2, 48, 48), 10),
    "dvs_gesture": ((2, 128, 128), 11),
    "imagenet": ((3, 224, 224), 1000),
    "shd": ((140,), 20),
    "ssc": ((140,), 35),
    "gsc": ((140,), 35),
    "digits": ((1, 8, 8), 10),
    "mnist_10k": ((1, 28, 28), 10),
    "nmnist": ((2, 34, 34), 10),
    "fsdd": ((120,), 10),
}
SMALL = """
[data]
kind = "digits"
steps = 2
[model]
kind = "preact_resnet18"
widths = [16, 16]
blocks = [1, 1]
[method]
kind = "sltt"
[loss]
kind = "ce_mse"
[optimizer]
kind = "sgd"
lr = 0.1
[train]
epochs = 1
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def empty(kind: str, steps: int = 2) -> Sets:
    """Shapes of a set without its data."""
    shape, classes = SHAPES[kind]
    return Sets(None, None, shape, steps, 1e-3, "", "", classes)


@pytest.mark.parametrize("name", recipe.names())
def test_recipe_loads_builds_and_answers(name: str) -> None:
    """The whole network, on shapes alone."""
    made = recipe.load(name)
    assert made.about
    assert made.source
    kind = made.first["data"].kind
    with torch.device("meta"):
        net = build(made, empty(kind), seed=0)
        if made.first["method"].kind == "dcls":  # its kernels run on real memory only
            assert [m.taps for m in net.modules() if isinstance(m, DelayLinear)]
            return
        out, _ = steps(net.eval(), torch.zeros(2, 1, *SHAPES[kind][0]))
    assert out.shape == (2, 1, SHAPES[kind][1])


def test_every_paper_has_a_small_one_that_needs_nothing_else() -> None:
    for name in PAPERS:
        made = recipe.load(name)
        twin = recipe.load(made.twin)
        assert not twin.twin
        assert twin.first["method"].kind == made.first["method"].kind
        assert twin.first["model"].kind == made.first["model"].kind


@pytest.mark.parametrize(
    ("name", "net", "T", "batch", "epochs", "lr", "decay", "dropout"),
    [
        ("sltt_cifar10", "preact_resnet18", 6, 128, 200, 0.1, 5e-5, 0.0),
        ("sltt_cifar100", "preact_resnet18", 6, 128, 200, 0.1, 5e-4, 0.0),
        ("sltt_dvs_cifar10", "vgg11_bn", 10, 128, 300, 0.05, 5e-4, 0.3),
        ("sltt_k2_dvs_cifar10", "vgg11_bn", 10, 128, 300, 0.05, 5e-4, 0.3),
        ("sltt_dvs_gesture", "vgg11_bn", 20, 16, 300, 0.1, 5e-4, 0.4),
        ("sltt_k4_dvs_gesture", "vgg11_bn", 20, 16, 300, 0.1, 5e-4, 0.4),
    ],
)
def test_sltt_settings_are_the_papers(
    name: str, net: str, T: int, batch: int, epochs: int, lr: float, decay: float, dropout: float
) -> None:
    made = recipe.load(name)
    s = made.first
    law = s["neuron"].make()
    assert (law.charge.tau, law.charge.decay_input, law.reset, law.threshold, law.fires) == (
        1.1, False, "subtract", 1.0, ">=",
    )  # fmt: skip
    assert (s["model"].kind, s["data"].options["steps"], made.seed) == (net, T, 2022)
    assert (s["train"].options["batch"], s["train"].options["epochs"]) == (batch, epochs)
    rule = s["optimizer"].make()(nn.Linear(2, 2).parameters()).param_groups[0]
    assert (rule["lr"], rule["momentum"], rule["weight_decay"]) == (lr, 0.9, decay)
    assert s["model"].options["dropout"] == dropout
    assert s["schedule"].kind == "cosine"
    k = s["method"].make().k
    assert k == {"sltt_k2_dvs_cifar10": 2, "sltt_k4_dvs_gesture": 4}.get(name)
    net_ = build(made, empty(s["data"].kind), 0)
    assert {m.p for m in net_.modules() if isinstance(m, HeldDropout)} == {dropout}
    assert all(m.law == law for m in net_.modules() if isinstance(m, Spiking))


def test_imagenet_has_two_stages() -> None:
    one, six = recipe.load("sltt_imagenet").stages
    picked = [
        (
            s["data"].options["steps"], s["train"].options["epochs"], s["optimizer"].options["lr"],
            s["optimizer"].options["weight_decay"], s["method"].make().k, s["train"].options["batch"],
        )
        for s in (one, six)
    ]  # fmt: skip
    assert picked == [(1, 100, 0.1, 1e-5, None, 256), (6, 30, 0.001, 0.0, 2, 256)]
    assert one["model"] == six["model"]


@pytest.mark.parametrize(
    ("name", "parameters", "sigma_steps"),
    [("dcls_shd", 214_016, 37), ("dcls_ssc", 1_230_848, 15), ("dcls_gsc", 1_230_848, 25)],
)
def test_delay_networks_have_the_papers_size(name: str, parameters: int, sigma_steps: int) -> None:
    made = recipe.load(name)
    net = build(made, empty(made.first["data"].kind), 0)
    assert sum(p.numel() for p in net.parameters()) == parameters
    epochs = made.first["train"].options["epochs"]
    layer = next(m for m in net.modules() if isinstance(m, DelayLinear))
    spreads = []
    for e in range(epochs):
        layer.after_epoch(e + 1, epochs)
        spreads.append(float(layer.spread))
    assert spreads[sigma_steps - 1] == pytest.approx(0.23)
    assert spreads[sigma_steps - 2] > 0.231


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[data]", "[dta]"), r"own.toml: dta is unknown; it may have about"),
        (("steps = 2", "step = 2"), r"own.toml: data.step is unknown; it may have steps, encoder, test_share"),
        (("steps = 2", "steps = 2.5"), r"own.toml: data.steps is 2.5; it must be a whole number"),
        (("steps = 2", "steps = true"), r"own.toml: data.steps is True; it must be a whole number"),
        (("steps = 2", 'encoder = "loud"'), r"data.encoder is 'loud'; it must be one of 'direct', 'rate', 'latency'"),
        (('kind = "sltt"', 'kind = "magic"'), r"method.kind is 'magic'; it may be sltt, bptt, iir, dcls"),
        (("lr = 0.1", ""), r"own.toml: optimizer.lr is missing; it is a number"),
        (
            ("widths = [16, 16]", "widths = [16, 0.5]"),
            r"model.widths is \[16, 0.5\]; it must be a list of a whole number",
        ),
        (("epochs = 1", "epochs = 1\n[[stage]]\nname = 'a b'"), r"stage 1.name must be a word"),
        (("epochs = 1", "epochs = 1\n[[stage]]\nname = 'a'\n[stage.model]\nkind='vgg'"), r"stage 1.model is unknown"),
        (("[loss]", "[loss"), r"own.toml: is no TOML"),
    ],
)
def test_wrong_recipe_is_refused_by_file_and_key(change: tuple[str, str], message: str) -> None:
    recipe.read(SMALL, "own.toml")
    with pytest.raises(ValueError, match=message):
        recipe.read(SMALL.replace(*change, 1), "own.toml")


def test_section_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"x.toml: has no \[data\]; give it a kind of .*cifar10"):
        recipe.read("about = 'nothing'", "x.toml")
    with pytest.raises(ValueError, match=r"no recipe 'sltt'; there are .*sltt_cifar10"):
        recipe.load("sltt")
    with pytest.raises(ValueError, match=r"none.toml: cannot be read"):
        recipe.load(tmp_path / "none.toml")
    no_loss = recipe.read(SMALL.replace('[loss]\nkind = "ce_mse"', ""), "own.toml")
    with pytest.raises(ValueError, match=r"method sltt needs \[loss\]"):
        run(no_loss)


def test_a_recipe_is_data() -> None:
    for name in recipe.names():
        made = recipe.load(name)
        json.dumps(made.to_dict())
        short = made.with_epochs(1)
        counted = [v for s in short.stages for p in s.parts.values() for k, v in p.options.items() if "epochs" in k]
        assert counted
        assert set(counted) == {1}


@pytest.mark.parametrize("name", PAPERS)
def test_data_that_is_missing_is_named_with_where_to_get_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPIKEPORT_DATA", str(tmp_path))
    where = {
        "cifar10": r"cifar-10-binary.tar.gz", "cifar100": r"cifar-100-binary.tar.gz", "dvs_cifar10": "figshare",
        "dvs_gesture": r"DvsGesture.tar.gz", "imagenet": r"image-net.org", "shd": r"zenkelab.org/datasets",
        "ssc": r"zenkelab.org/datasets", "gsc": r"speech_commands_v0.02.tar.gz",
    }  # fmt: skip
    made = recipe.load(name)
    with pytest.raises(ValueError, match=where[made.first["data"].kind]):
        run(made)


def shrunk(name: str) -> recipe.Recipe:
    """The paper's recipe with its data, steps and method, a smaller network of its kind and one epoch."""
    made = recipe.load(name).with_epochs(1)
    # a 1 x 1 convolution of stride 2 on fewer than 16 channels corrupts memory in torch 2.14's backward on the CPU
    smaller: dict[str, dict[str, Any]] = {
        "preact_resnet18": {"widths": (16, 16), "blocks": (1, 1)},
        "vgg11_bn": {"plan": (4, "P", 4, "P"), "pooled": 3},
        "nf_resnet": {"widths": (16, 16), "blocks": (1, 1)},
        "vgg": {"plan": (4, "A", 4, "A"), "hidden": (8,)},
        "delay_net": {"hidden": (8,)},
    }

    def changed(p: recipe.Part) -> recipe.Part:
        more = smaller.get(p.kind, {}) if p.section == "model" else {}
        more |= {"schedule": (2, 1)} if p.kind == "iir" else {}
        more |= {"amp": "none"} if p.section == "train" else {}
        return recipe.Part(p.section, p.kind, {**p.options, **more})

    stages = tuple(recipe.Stage(s.name, {k: changed(p) for k, p in s.parts.items()}) for s in made.stages)
    return recipe.Recipe(made.name, made.path, made.about, made.source, made.twin, made.seed, stages)


def write_set(kind: str, root: Path) -> None:
    """A few samples in the files that the set has."""
    if kind == "cifar10":
        (root / kind).mkdir()
        for name in [f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]:
            x = np.random.default_rng(0).integers(0, 256, (10, 3072))
            np.concatenate([np.arange(10)[:, None], x], 1).astype(np.uint8).tofile(root / kind / f"{name}.bin")
    elif kind == "cifar100":
        (root / kind).mkdir()
        for name in ("train", "test"):
            write_cifar(root / kind / f"{name}.bin", 10, (20, 100))
    elif kind == "dvs_cifar10":
        for folder in ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"):
            (root / "cifar10_dvs" / folder).mkdir(parents=True)
            for number in (3, 100, 101):
                write_aedat2(root / "cifar10_dvs" / folder / f"cifar10_{folder}_{number}.aedat")
    elif kind == "dvs_gesture":
        (root / "DvsGesture").mkdir()
        for part in ("train", "test"):
            write_gesture(root / "DvsGesture" / f"{part}.aedat")
            (root / "DvsGesture" / f"trials_to_{part}.txt").write_text(f"{part}.aedat\n")
    elif kind == "imagenet":
        for part in ("train", "val"):
            for word in ("n01", "n02"):
                (root / "imagenet" / part / word).mkdir(parents=True)
                pixels = np.random.default_rng(0).integers(0, 256, (240, 260, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(root / "imagenet" / part / word / "a.jpeg")
    elif kind in ("shd", "ssc"):
        (root / kind).mkdir()
        for part in ("train", "test"):
            write_hdf5(root / kind / f"{kind}_{part}.h5", speakers=kind == "shd")
    elif kind == "gsc":
        for word in ("yes", "no"):
            (root / "speech_commands" / word).mkdir(parents=True)
            for k in range(3):
                write_wav(root / "speech_commands" / word / f"s_nohash_{k}.wav", 16_000)
        (root / "speech_commands" / "validation_list.txt").write_text("yes/s_nohash_0.wav\n")
        (root / "speech_commands" / "testing_list.txt").write_text("yes/s_nohash_1.wav\nno/s_nohash_1.wav\n")


@pytest.mark.parametrize("name", PAPERS)
def test_papers_recipe_runs_where_its_data_is(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading, encoding, shapes, stages: everything but the size and the epochs."""
    monkeypatch.setenv("SPIKEPORT_DATA", str(tmp_path))
    made = shrunk(name)
    kind = made.first["data"].kind
    write_set(kind, tmp_path)
    if made.first["method"].kind == "iir":
        monkeypatch.setattr("neuro.methods.iir.stages.DEAD", 0.0)  # ten images of noise keep nobody alive
    done = run(made)
    shape, _ = SHAPES[kind]
    last = made.stages[-1]["data"].options
    T = {"gsc": 101}.get(kind, last.get("steps"))
    assert done.input_shape == shape
    if made.first["method"].kind != "iir":
        assert done.x.shape[1:] == (T, *shape)
        assert done.facts["T"] == T
    assert 0.0 <= done.accuracy <= 1.0
    assert all(np.isfinite(row["loss"]) for row in done.history)
    same_as_torch(done)


def same_as_torch(done: Outcome, samples: int = 4) -> None:
    """What is exported answers as what was trained, over the steps that both have."""
    network = from_torch(done.module, done.input_shape, dt_s=done.dt_s)
    x = done.x[:samples].astype(np.float32)
    y = engines.run(network, x, "torch").y
    with torch.no_grad():
        expected = unroll(done.module.eval(), torch.from_numpy(x)).numpy()
    agree = np.abs(y.astype(np.float64) - expected[:, : y.shape[1]]) < 1e-3 * (1.0 + np.abs(expected).max())
    assert agree.mean() > 0.97  # a spike on the threshold may fall to either side of a fold's rounding


def needs(name: str) -> None:
    if not data_folder(name).is_dir():
        pytest.skip(f"{name} is not here: put it into $SPIKEPORT_DATA/{name}")


def test_small_resnet_on_digits_learns_and_resumes_to_the_same_bits(tmp_path: Path) -> None:
    made = recipe.load("sltt_digits").with_epochs(2)
    whole = run(made, folder=tmp_path / "whole")
    assert whole.accuracy > 0.3
    again = run(made, folder=tmp_path / "whole", resume=True)
    for a, b in zip(whole.trained.state_dict().values(), again.trained.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert [r["stage"] for r in whole.history] == ["stage1"] * 2
    same_as_torch(whole)
    other = run(made, seed=1)
    assert other.facts["seed"] == 1
    assert any(
        not torch.equal(a, b) for a, b in zip(whole.trained.parameters(), other.trained.parameters(), strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sltt_nmnist", "sltt_k_nmnist"])
def test_small_vgg_on_nmnist(name: str) -> None:
    needs("nmnist_small")
    done = run(recipe.load(name).with_epochs(1))
    assert done.x.shape == (100, 10, 2, 34, 34)
    assert done.accuracy > 0.2
    same_as_torch(done)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sltt_imagenet_small", "sltt_mnist", "bptt_mnist"])
def test_small_ones_on_mnist(name: str) -> None:
    needs("mnist_10k")
    done = run(recipe.load(name).with_epochs(1))
    assert done.accuracy > 0.8
    same_as_torch(done)


@pytest.mark.slow
def test_small_iir_on_mnist() -> None:
    needs("mnist_10k")
    done = run(recipe.load("iir_mnist").with_epochs(1))
    assert set(done.results) == {"ann", "converted", "stages", "control"}
    assert list(done.results["stages"]) == ["5", "4", "3", "2", "1"]
    assert done.results["control"] > 0.5
    assert done.accuracy > 0.5
    assert done.facts["T"] == 1
    same_as_torch(done)


@pytest.mark.slow
def test_small_delays_on_spoken_digits() -> None:
    needs("fsdd")
    done = run(recipe.load("dcls_fsdd").with_epochs(2))
    assert set(done.results) == {"bumps", "rounded", "tuned"}
    assert done.accuracy == done.results["tuned"]
    assert done.facts["horizon"] == 60 + 3 * 7
    same_as_torch(done)


def test_augmentation_is_random_by_its_generator_alone_and_held_over_time() -> None:
    made = recipe.read(
        SMALL.replace('kind = "digits"', 'kind = "cifar10"', 1).replace("steps = 2", "steps = 3"), "a.toml"
    )
    options = made.first["data"].options
    assert (options["shift"], options["flip"]) == (4, True)
    from neuro.recipe_data import augmented

    x = torch.rand(6, 1, 3, 32, 32).expand(6, 3, 3, 32, 32)
    change = augment(augmented(empty("cifar10"), shift=4, flip=True, cutout=8))
    assert change is not None
    a, _ = change(x, torch.zeros(6), np.random.default_rng(1))
    b, _ = change(x, torch.zeros(6), np.random.default_rng(1))
    c, _ = change(x, torch.zeros(6), np.random.default_rng(2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(a, a[:, :1].expand_as(a))
    assert augment(empty("cifar10")) is None


def test_shown_images_are_normalised_by_channel() -> None:
    x = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 2, 2)
    shown = Shown(x, np.array([1, 2]), 5, (0.1, 0.2, 0.3), (0.5, 0.25, 2.0))
    image, label = shown[1]
    assert image.shape == (5, 3, 2, 2)
    assert label == 2
    expected = (x[1] / 255.0 - np.array([0.1, 0.2, 0.3])[:, None, None]) / np.array([0.5, 0.25, 2.0])[:, None, None]
    np.testing.assert_allclose(image[3], expected, rtol=1e-6, atol=1e-7)


def test_mel_bands_of_the_reference() -> None:
    """A tone of 1 kHz is loudest in the band around it; nothing lies above 4 kHz."""
    t = np.arange(16_000) / 16_000
    made = mel_of_reference((10_000 * np.sin(2 * np.pi * 1000 * t)).astype(np.int16)[None])
    assert made.shape == (1, 101, 140)
    mel = np.linspace(2595 * np.log10(1 + 50 / 700), 2595 * np.log10(1 + 14_000 / 700), 142)
    centre = 700 * (10 ** (mel[1 + int(made[0, 50].argmax())] / 2595) - 1)
    assert abs(centre - 1000) < 40
    above = 700 * (10 ** (mel[1:-1] / 2595) - 1) > 4200
    assert (made[0][:, above] == -100.0).all()
    assert above.sum() > 30


def test_command_writes_network_manifest_and_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from sim.cli import app

    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(SMALL)
    shown = CliRunner().invoke(app, ["train", "--list"])
    assert all(name in shown.stdout for name in (*PAPERS, "xor"))
    done = CliRunner().invoke(app, ["train", "own.toml", "-o", "made", "--seed", "3"])
    assert done.exit_code == 0, done.output
    says = json.loads((tmp_path / "made" / "manifest.json").read_text())
    assert says["batchnorm_folded"] is True
    assert says["T"] == says["horizon"] == 2
    assert says["seed"] == says["recipe"]["seed"] + 3 == 3
    assert says["encoder"] == "rate"
    assert "scikit-learn" in says["split"]
    assert says["pooling"] == {"pool": {"kind": "mean", "kernel": [4, 4], "stride": [4, 4]}}
    first = next(iter(says["populations"].values()))
    assert (first["reset"], first["compare"], first["Vth"]) == ("subtract", ">=", 1.0)
    assert first["lam"] == pytest.approx(1 - 1 / 1.1)
    assert says["versions"]["torch"] == torch.__version__.split("+")[0] or says["versions"]["torch"]
    rows = list(csv.DictReader((tmp_path / "made" / "history.csv").read_text().splitlines()))
    assert [r["epoch"] for r in rows] == ["1"]
    assert says["accuracy"] == float(rows[-1]["test_accuracy"])
    with np.load(tmp_path / "made" / "test.npz") as z:
        assert z["x"].shape == (len(z["labels"]), 2, 1, 8, 8)
    kind, network = engines.load(tmp_path / "made" / "network.npz")
    assert kind == "network"
    assert network.hash() == says["network_hash"]
