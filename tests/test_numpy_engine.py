"""The numpy engine against SpikingJelly and torch, its pure step, and its state in another engine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from float_networks import (
    LAWS,
    STRICT,
    Array,
    agree,
    chain,
    jelly,
    jelly_layers,
    must_fire,
    residual,
    same,
    spikes_in,
)
from torch.nn import functional as F

from export import AvgPool2d, Conv2d, Edge, Flatten, Input, Linear, Network, NetworkError, Output, Spiking
from export.to_torch import run_torch
from neuro.neuron import Law, NoLeak
from sim import numpy_engine
from sim.engines import run as run_on
from sim.engines import watched
from sim.numpy_engine import apply, initial, step
from sim.run import Run

ROOT = Path(__file__).resolve().parent.parent


def run(network: Network, x: Array, **options: Any) -> Run:
    """With the spikes of every node."""
    return numpy_engine.run(network, x, **{"probes": watched(network)} | options)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("law", LAWS)
def test_spikes_and_membranes_have_the_bits_of_spikingjelly(law: str) -> None:
    network = chain(LAWS[law], grid=True)
    x = spikes_in(network)
    spikes, states = jelly(jelly_layers(network), x)
    must_fire(spikes)
    state = initial(network, len(x))
    for t in range(x.shape[1]):
        values, state = step(network, state, x[:, t])
        same({n: a[:, t] for n, a in spikes.items()}, values)
        same({n: a[:, t] for n, a in states.items()}, state)


@pytest.mark.parametrize("law", LAWS | STRICT)
@pytest.mark.parametrize("build", [chain, residual])
def test_exact_sums_give_the_bits_of_torch(law: str, build: Any) -> None:
    network = build((LAWS | STRICT)[law], seed=3, grid=True)
    x = spikes_in(network)
    y, hidden = run_torch(network, x)
    must_fire(hidden)
    found = run(network, x)
    same({f"{n}.s": a for n, a in hidden.items()}, found.probes)
    assert (found.y == y).all()


@pytest.mark.parametrize("law", LAWS)
def test_any_weights_give_the_spikes_of_torch(law: str) -> None:
    network = residual(LAWS[law], seed=5, grid=False)
    x = spikes_in(network, samples=8, steps=16)
    agree(network, x, {f"{n}.s": a for n, a in run_torch(network, x)[1].items()}, run(network, x).probes)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups", "kernel"),
    [
        ((1, 1), (0, 0), (1, 1), 1, (3, 3)),
        ((2, 3), (1, 2), (1, 1), 2, (3, 2)),
        ((1, 2), (2, 0), (2, 3), 4, (1, 3)),
    ],
)
def test_convolution_is_torchs(stride: Any, padding: Any, dilation: Any, groups: int, kernel: Any) -> None:
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(3, 4, 11, 13)), rng.normal(size=(8, 4 // groups, *kernel)), rng.normal(size=8)
    node = Conv2d(w, b, stride, padding, dilation, groups)
    want = F.conv2d(*(torch.tensor(a) for a in (x, w, b)), stride, padding, dilation, groups).numpy()
    assert apply(node, x) == pytest.approx(want, rel=1e-12, abs=1e-12)
    assert apply(node, x).shape[1:] == node.out_shape(x.shape[1:])


@pytest.mark.parametrize(("kernel", "stride", "padding"), [((2, 2), (2, 2), (0, 0)), ((3, 2), (2, 1), (1, 1))])
def test_pooling_has_the_bits_of_torch(kernel: Any, stride: Any, padding: Any) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4, 9, 8)).astype(np.float32)
    want = F.avg_pool2d(torch.tensor(x), kernel, stride, padding).numpy()
    assert (apply(AvgPool2d(kernel, stride, padding), x) == want).all()


def test_delays_by_hand() -> None:
    """A spike at step 0 arrives at the output after 0 and 2 steps; nodes x, delay line, y."""
    one = Linear(np.ones((1, 1), np.float32))
    network = Network(
        {"in": Input((1,)), "s": Spiking(Law(NoLeak())), "w": one, "y": Output()},
        [Edge("in", "s"), Edge("s", "w"), Edge("s", "w", 2), Edge("w", "y")],
    )
    x = np.zeros((1, 6, 1), np.float32)
    x[0, [0, 1, 3]] = 1.0
    assert run(network, x).y.ravel().tolist() == [1, 1, 1, 2, 0, 1]


def test_step_is_pure_and_goes_on_anywhere() -> None:
    network = residual(LAWS["decay"], seed=2)
    x = spikes_in(network, samples=3, steps=8)
    whole = run(network, x)
    state = initial(network, 3)
    kept: dict[str, Array] = {}
    for t in range(8):
        if t == 4:
            kept = {n: a.copy() for n, a in state.items()}
            saved = state
        values, state = step(network, state, x[:, t])
        assert (values["y"] == whole.y[:, t]).all()
    same(kept, saved)
    state = kept
    for t in range(4, 8):
        values, state = step(network, state, x[:, t])
        assert (values["y"] == whole.y[:, t]).all()


def test_state_goes_on_in_onnxruntime() -> None:
    from export.to_onnx import to_onnx_step
    from sim.edge.native import Session

    network = residual(LAWS["decay"], seed=2)
    x = spikes_in(network, samples=3, steps=8)
    y = run(network, x).y
    session = Session(to_onnx_step(network))
    for t in range(4):
        session.step(x[:, t])
    state = session.state
    assert set(state) == set(initial(network, 3))
    for t in range(4, 8):
        values, state = step(network, state, x[:, t])
        assert (values["y"] == y[:, t]).all()


@pytest.mark.parametrize("build", [chain, residual])
def test_counts_are_those_of_the_edge_engine(build: Any) -> None:
    network = build(LAWS["tau2"])
    x = spikes_in(network)
    a, b = run_on(network, x, "float"), run_on(network, x, "onnx")
    must_fire(a.probes)
    assert a.counts == b.counts
    assert {"macs", "acs", "effective_macs", "elementwise_ops", "weight_bytes", "spikes"} <= set(a.counts)


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network = chain(LAWS["tau2"])
    x = spikes_in(network, samples=7, steps=5)
    whole = run(network, x)
    monkeypatch.setattr("sim.edge.counts.MAX_BATCH", 2)
    shares: list[float] = []
    parts = run(network, x, progress=shares.append)
    assert (parts.y == whole.y).all()
    assert parts.counts == whole.counts
    assert len(shares) == 4 * 5
    assert shares[-1] == 1.0


def test_errors_name_the_rule() -> None:
    network = chain(LAWS["if"])
    x = spikes_in(network)
    with pytest.raises(ValueError, match=r"chain takes \(samples, T, 2, 12, 10\)"):
        run(network, x[:, 0])
    with pytest.raises(ValueError, match=r"probe 'pool\.s': there are s1\.s"):
        run(network, x, probes=("pool.s",))
    nan = Network(
        {"in": Input((4,)), "f": Flatten(), "w": Linear(np.full((1, 4), np.nan)), "y": Output()},
        [Edge("in", "f"), Edge("f", "w"), Edge("w", "y")],
    )
    with pytest.raises(NetworkError, match=r"w: weight.* is nan"):
        run(nan, np.ones((1, 1, 4)))


def test_graded_output_stays_real() -> None:
    network = Network.sequential({"in": Input((2,)), "w": Linear(np.array([[0.5, 0.25]], np.float32)), "y": Output()})
    assert run(network, np.ones((1, 1, 2), np.uint8)).y.tolist() == [[[0.75]]]


def test_needs_neither_torch_nor_onnx(tmp_path: Path) -> None:
    chain(LAWS["if"]).save(tmp_path / "net.npz")
    code = (
        "import sys, numpy as np\nfrom export import Network\nfrom sim.numpy_engine import run\n"
        f"r = run(Network.load({str(tmp_path / 'net.npz')!r}), np.ones((2, 5, 2, 12, 10)))\n"
        "heavy = ('torch', 'onnx', 'onnxruntime', 'numba')\n"
        "print([m for m in heavy if m in sys.modules], r.total('spikes') > 0)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out == "[] True\n"
