"""ONNX programs against torch, SpikingJelly and onnx's own evaluator; streams, scans, batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
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
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export import (
    Conv2d,
    Flatten,
    Input,
    Linear,
    Network,
    Output,
    Spiking,
)
from export.to_onnx import OnnxProgram, to_onnx_scan, to_onnx_step
from export.to_torch import run_torch
from neuro.neuron import Law, NoLeak, Tau
from sim.edge import native
from sim.edge.native import Session, open_session
from sim.run import Run

ROOT = Path(__file__).resolve().parent.parent


def run(program: OnnxProgram, x: Array, **options: Any) -> Run:
    """With the spikes of every node."""
    return native.run(program, x, **{"probes": program.watched} | options)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def stepped(network: Network, x: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    """Spikes and membranes after every step, from the streaming session."""
    session = Session(to_onnx_step(network))
    spikes: dict[str, list[Array]] = {}
    states: dict[str, list[Array]] = {}
    for t in range(x.shape[1]):
        session.step(x[:, t])
        for name, a in session.outputs.items():
            spikes.setdefault(name, []).append(a.copy())
        for name, a in session.state.items():
            states.setdefault(name, []).append(a)
    return ({n: np.stack(a, 1) for n, a in d.items()} for d in (spikes, states))  # type: ignore[return-value]


@pytest.mark.parametrize("law", LAWS)
def test_spikes_and_membranes_have_the_bits_of_spikingjelly(law: str) -> None:
    network = chain(LAWS[law], grid=True)
    x = spikes_in(network)
    spikes, states = jelly(jelly_layers(network), x)
    must_fire(spikes)
    ours, our_states = stepped(network, x)
    same(spikes, ours)
    same(states, our_states)


@pytest.mark.parametrize("law", LAWS | STRICT)
@pytest.mark.parametrize("build", [chain, residual])
def test_exact_sums_give_the_bits_of_torch(law: str, build: Any) -> None:
    network = build((LAWS | STRICT)[law], seed=3, grid=True)
    x = spikes_in(network)
    y, hidden = run_torch(network, x)
    must_fire(hidden)
    found = run(to_onnx_step(network), x)
    same({f"{n}.s": a for n, a in hidden.items()}, found.probes)
    assert (found.y == y).all()


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("build", [chain, residual])
def test_any_weights_give_the_spikes_of_torch(law: str, build: Any) -> None:
    network = build(LAWS[law], seed=5, grid=False)
    x = spikes_in(network, samples=8, steps=16)
    hidden = run_torch(network, x)[1]
    agree(network, x, {f"{n}.s": a for n, a in hidden.items()}, run(to_onnx_step(network), x).probes)


@pytest.mark.parametrize("seed", range(3))
def test_any_weights_give_the_spikes_of_spikingjelly(seed: int) -> None:
    network = chain(LAWS["tau2"], seed, grid=False)
    x = spikes_in(network, samples=8, steps=16)
    agree(network, x, jelly(jelly_layers(network), x)[0], run(to_onnx_step(network), x).probes)


def test_another_law_does_not_pass_as_rounding() -> None:
    network = chain(LAWS["tau3_soft"], grid=False)
    x = spikes_in(network, samples=8, steps=16)
    truth = jelly(jelly_layers(network), x)[0]
    for tau, message in ((3.1, "spikes differ"), (3.0005, "threshold")):
        other = run(to_onnx_step(chain(replace(LAWS["tau3_soft"], charge=Tau(tau, decay_input=False)), grid=False)), x)
        with pytest.raises(AssertionError, match=message):
            agree(network, x, truth, other.probes)


def test_batchnorm_folded_is_exact_and_its_drift_bounded() -> None:
    torch.manual_seed(0)
    conv, bn = nn.Conv2d(2, 16, 3, padding=1), nn.BatchNorm2d(16)
    conv2, bn2 = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
    for b in (bn, bn2):
        nn.init.constant_(b.weight, 1.5)
        nn.init.constant_(b.bias, 0.3)
    x = (np.random.default_rng(0).random((16, 12, 2, 16, 16)) < 0.3).astype(np.float32)
    for _ in range(10):
        bn2(conv2((bn(conv(torch.tensor(x[:, 0]))) > 1).float()))
    fc = nn.Linear(4096, 10)
    nn.init.normal_(fc.weight, 0.0, 0.04)
    f1, f2 = (fuse_conv_bn_eval(c.eval(), b.eval()) for c, b in ((conv, bn), (conv2, bn2)))
    law = LAWS["tau2"]
    a = [Conv2d(f.weight.detach().numpy(), f.bias.detach().numpy(), padding=(1, 1)) for f in (f1, f2)]
    last = Linear(fc.weight.detach().numpy(), fc.bias.detach().numpy())
    s = Spiking(law)
    network = Network.sequential(
        {
            "in": Input((2, 16, 16)),
            "c1": a[0],
            "s1": s,
            "c2": a[1],
            "s2": s,
            "f": Flatten(),
            "fc": last,
            "s3": s,
            "y": Output(),
        }
    )
    found = run(to_onnx_step(network), x)
    folded = jelly_layers(network)
    exact, _ = jelly(folded, x)
    agree(network, x, exact, found.probes)

    whole = jelly_layers(network)
    whole |= {"c1": nn.Sequential(conv, bn).eval(), "c2": nn.Sequential(conv2, bn2).eval()}
    unfolded, _ = jelly(whole, x)
    drift = sum(int((unfolded[n] != found.probes[n]).sum()) for n in unfolded) / sum(n.size for n in unfolded.values())
    assert drift <= 1e-4
    assert (unfolded["s3.s"].sum(1).argmax(-1) == found.y.sum(1).argmax(-1)).mean() >= 0.9


@pytest.mark.parametrize("fires", [">=", ">"])
def test_comparison_at_the_threshold_by_hand(fires: Any) -> None:
    law = Law(NoLeak(), fires=fires)
    one = Linear(np.ones((1, 1), np.float32))
    network = Network.sequential({"in": Input((1,)), "w": one, "s": Spiking(law), "y": Output()})
    x = np.full((1, 6, 1), 0.5, np.float32)
    want = [0, 1, 0, 1, 0, 1] if fires == ">=" else [0, 0, 1, 0, 0, 1]
    assert run(to_onnx_step(network), x).y.ravel().tolist() == want


@pytest.mark.parametrize("build", [chain, residual])
def test_onnx_evaluator_agrees(build: Any) -> None:
    network = build(LAWS["tau3_rest"], seed=7)
    x = spikes_in(network, samples=2, steps=5)
    program = to_onnx_step(network)
    evaluate = ReferenceEvaluator(onnx.load_model_from_string(program.model))
    state = {s["name"]: np.full((2, *s["shape"]), s["init"], np.float32) for s in program.states}
    names = [o.name for o in onnx.load_model_from_string(program.model).graph.output]
    found = run(program, x)
    for t in range(x.shape[1]):
        out = dict(zip(names, evaluate.run(None, {"x": x[:, t]} | state), strict=True))
        state = {s["name"]: out[s["next"]] for s in program.states}
        for name, a in found.probes.items():
            assert (out[name] == a[:, t]).all(), (name, t)


@pytest.mark.parametrize("build", [chain, residual])
@pytest.mark.parametrize("law", ["decay", "tau1.5", "tau3_rest"])
def test_scan_is_the_step_repeated(build: Any, law: str) -> None:
    network = build(LAWS[law], seed=2, grid=False)
    x = spikes_in(network, samples=3, steps=9)
    a, b = run(to_onnx_step(network), x), run(to_onnx_scan(network), x)
    must_fire(a.probes)
    assert (a.y == b.y).all()
    same(a.probes, b.probes)
    assert a.counts == b.counts


def test_last_states_of_a_scan_go_on_in_a_step() -> None:
    network = residual(LAWS["decay"], seed=2)
    x = spikes_in(network, samples=3, steps=9)
    whole = run(to_onnx_step(network), x)
    scan = to_onnx_scan(network)
    names = [s["next"] for s in scan.states]
    last = open_session(scan).run(names, {"x": np.ascontiguousarray(x[:, :6].swapaxes(0, 1))})
    session = Session(to_onnx_step(network))
    session.reset({s["name"]: a for s, a in zip(scan.states, last, strict=True)})
    for t in range(6, 9):
        assert (session.step(x[:, t]) == whole.y[:, t]).all()


def test_a_stream_stops_and_goes_on(tmp_path: Path) -> None:
    network = residual(LAWS["tau3"], seed=2)
    path = to_onnx_step(network).save(tmp_path / "net.onnx")
    x = spikes_in(network, samples=2, steps=8)
    y = run(OnnxProgram.load(path), x).y
    first, second = Session(path), Session(path)
    for t in range(5):
        first.step(x[:, t])
    second.reset(first.state)
    for t in range(5, 8):
        assert (second.step(x[:, t]) == y[:, t]).all()
    first.reset()
    assert first.state == {}
    assert (first.step(x[:1, 0]) == y[:1, 0]).all(), "after a reset another batch size is fine"
    with pytest.raises(ValueError, match=r"reset\(\) frees N"):
        first.step(x[:, 0])
    with pytest.raises(ValueError, match=r"Session\.state"):
        second.reset({"s1.v": np.zeros((2, 1), np.float32)})


def test_one_program_takes_any_batch_and_time() -> None:
    network = chain(LAWS["if"], seed=4)
    x = spikes_in(network, samples=7, steps=11)
    for program in (to_onnx_step(network), to_onnx_scan(network)):
        whole = run(program, x)
        for n, steps in ((1, 1), (3, 11), (7, 5)):
            part = run(program, x[:n, :steps])
            assert (part.y == whole.y[:n, :steps]).all()


def test_batches_bound_memory_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network = chain(LAWS["tau2"], seed=4)
    x = spikes_in(network, samples=7, steps=4)
    whole = run(to_onnx_step(network), x)
    monkeypatch.setattr("sim.edge.counts.MAX_BATCH", 3)
    shares: list[float] = []
    parts = run(to_onnx_step(network), x, progress=shares.append)
    assert (parts.y == whole.y).all()
    assert parts.counts == whole.counts
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) == 3 * 4
