"""A float network is placed before training as it is after, and says what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import AvgPool2d, CapacityError, Conv2d, Edge, Flatten, Input, Linear, Network, Output, Spiking
from export.fit import fit
from export.network import Delay
from export.to_loihi import compile_loihi
from neuro.neuron import Decay, Law
from sim.cli import main

LAW = Law(Decay(0.0, 0.5), fires=">")


def chain(w: Any) -> Network:
    """Convolution, pooling, a layer; ``w(*shape)`` makes weights."""
    nodes = {
        "in": Input((2, 16, 16)), "c": Conv2d(w(8, 2, 3, 3), padding=(1, 1)), "h": Spiking(LAW),
        "p": AvgPool2d((2, 2), (2, 2)), "f": Flatten(), "fc": Linear(w(10, 512), w(10)), "o": Spiking(LAW),
        "out": Output(),
    }  # fmt: skip
    return Network.sequential(nodes)


def residual(w: Any) -> Network:
    """A short way that waits for the long one: its convolution becomes a matrix with delays."""
    nodes = {
        "in": Input((1, 6, 6)), "c1": Conv2d(w(2, 1, 3, 3), padding=(1, 1)), "a": Spiking(LAW),
        "c2": Conv2d(w(2, 2, 3, 3), padding=(1, 1)), "skip": Conv2d(w(2, 1, 1, 1)), "b": Spiking(LAW), "f": Flatten(),
        "fc": Linear(w(4, 72)), "o": Spiking(LAW), "out": Output(),
    }  # fmt: skip
    ways = ["in c1", "c1 a", "a c2", "c2 b", "in skip", "skip b", "b f", "f fc", "fc o", "o out"]
    return Network(nodes, [Edge(*way.split()) for way in ways])


def delayed(w: Any) -> Network:
    """A delay of its own for each line."""
    nodes = {
        "in": Input((6,)), "late": Delay(np.arange(6)), "fc": Linear(w(5, 6)), "h": Spiking(LAW), "out": Output()
    }  # fmt: skip
    return Network.sequential(nodes)


def random(seed: int) -> Any:
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> Any:
        w = rng.integers(1, 100, shape) * rng.choice([-1, 1], shape) / 128
        return w.astype(np.float32)

    return weights


def zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize("profile", ["loihi1", "loihi2"])
@pytest.mark.parametrize("make", [chain, residual, delayed])
def test_zero_weights_fit_as_the_trained_network_does(make: Any, profile: str) -> None:
    trained = compile_loihi(make(random(0)), profile=profile)
    for before in (make(zeros), make(random(1))):
        found = fit(before, profile=profile)
        assert found.usage == trained.usage
        assert all((found.placement[n] == trained.placement[n]).all() for n in trained.nodes)


def test_the_whole_of_a_network_that_no_chip_could_hold_is_refused_by_layer() -> None:
    net = Network.sequential({"in": Input((5000,)), "fc": Linear(zeros(10, 5000)), "h": Spiking(), "out": Output()})
    with pytest.raises(CapacityError, match=r"h: neuron 0 alone needs 5000 axons_in_per_core, loihi1 has 4096"):
        fit(net)
    wide = Network.sequential({"in": Input((4000,)), "fc": Linear(zeros(9000, 4000)), "h": Spiking(), "out": Output()})
    per_core = (16384 - 4000) * 64 // (4000 * 9)
    out = -(-9000 // per_core)
    assert fit(wide).usage["chips"][0] == -(-(out + -(-4000 // (4096 // out))) // 128) == 7
    with pytest.raises(CapacityError, match=r"takes \d+ of \d+ cores; chips: need 7, have 2 of 128 cores \(loihi1\)"):
        fit(wide, chips=2)


def test_untrained_torch_module() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: fit of an untrained module is not tried")
    from export.from_torch import from_torch
    from neuro import modules

    model = torch.nn.Sequential(
        torch.nn.Linear(100, 60), modules.Spiking(LAW), torch.nn.Linear(60, 5), modules.Spiking(LAW)
    )
    found = fit(from_torch(model, (100,)), profile="loihi1")
    assert found.usage["synapse_words_per_core"][0] == -(-100 * 60 * 9 // 64) + 100
    assert found.usage["cores"] == (3, 128)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    net = chain(zeros).save(tmp_path / "net.npz")
    program = compile_loihi(chain(random(0))).save(tmp_path / "chip.npz")
    want = {str(net): "cores: 3 of 128", str(program): "h: 2048 neurons on core 1"}
    for path, line in want.items():
        monkeypatch.setattr("sys.argv", ["spikeport", "fit", path, "--chip", "loihi2"])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        assert line in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["spikeport", "fit", str(net), "--cores"])
    with pytest.raises(SystemExit):
        main()
    assert "h positions 128-255, 8 channels" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["spikeport", "fit", str(net), "--chip", "loihi7"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "no chip profile 'loihi7'" in capsys.readouterr().err
