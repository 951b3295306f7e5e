"""ONNX programs against torch, SpikingJelly, onnx's own evaluator and published counts."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from float_networks import (
    GRID,
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
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from export import (
    AvgPool2d,
    Conv2d,
    Flatten,
    Input,
    Linear,
    MappingError,
    Network,
    NetworkError,
    Output,
    Spiking,
)
from export.package import PackageError
from export.to_onnx import OnnxProgram, to_onnx_scan, to_onnx_step
from export.to_torch import run_torch
from neuro.neuron import Law, NoLeak, Tau
from sim.edge.counts import fanout, law_ops, layers
from sim.edge.native import Session, open_session, run
from sim.run import Run

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


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
        other = run(
            to_onnx_step(chain(replace(LAWS["tau3_soft"], charge=Tau(tau, decay_input=False)), grid=False)), x
        )
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
    drift = sum(int((unfolded[n] != found.probes[n]).sum()) for n in unfolded) / sum(
        n.size for n in unfolded.values()
    )
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
    with pytest.raises(ValueError, match="Session.state"):
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


def test_file_says_what_it_is(tmp_path: Path) -> None:
    network = residual(LAWS["decay"])
    program = to_onnx_step(network)
    path = program.save(tmp_path / "net.onnx")
    model = onnx.load(path)
    assert (model.ir_version, [(o.domain, o.version) for o in model.opset_import]) == (8, [("", 17)])
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    standard = {
        "Conv",
        "Gemm",
        "AveragePool",
        "Flatten",
        "Add",
        "Sub",
        "Mul",
        "GreaterOrEqual",
        "Cast",
        "Where",
    }
    assert {n.op_type for n in model.graph.node} <= standard | {
        "Identity",
        "Gather",
        "Slice",
        "Concat",
        "Unsqueeze",
    }
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    meta = session.get_modelmeta().custom_metadata_map
    assert meta["snn.form"] == "step"
    assert float(meta["snn.dt_s"]) == network.dt_s
    assert meta["snn.network_hash"] == network.hash()
    assert json.loads(meta["snn.spikes"]) == [f"{n}.s" for n in network.spiking()]
    states = {s["name"]: s["shape"] for s in json.loads(meta["snn.states"])}
    assert states["s1.v"] == states["s1.i"] == [6, 8, 8]
    assert states["back.q"] == [3, 20], "one delay line per source, as deep as its longest delay"
    loaded = OnnxProgram.load(path)
    assert loaded.hash() == program.hash()
    assert loaded.network.hash() == network.hash()
    assert loaded.usage == {"file_bytes": (path.stat().st_size, 2**31 - 1)}
    assert [s["init"] for s in to_onnx_step(chain(LAWS["tau3_rest"])).states] == [-0.1] * 4


def test_broken_files_are_refused(tmp_path: Path) -> None:
    data = to_onnx_step(chain(LAWS["if"])).model
    path = tmp_path / "net.onnx"
    for length in (1, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(PackageError, match=r"net\.onnx: .*export it again"):
            OnnxProgram.load(path)
    middle = len(data) // 2
    path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    with pytest.raises(PackageError, match="damaged"):
        OnnxProgram.load(path)
    with pytest.raises(PackageError, match="cannot be read"):
        OnnxProgram.load(tmp_path / "none.onnx")


def test_onnx_without_our_metadata_is_refused(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(to_onnx_step(chain(LAWS["if"])).model)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(PackageError, match=r"snn\.format None.*make the file with export\.to_onnx"):
        OnnxProgram.load(tmp_path / "other.onnx")


def test_what_cannot_be_exported_says_so() -> None:
    nan = Linear(np.array([[np.nan]], np.float32))
    broken = Network({"in": Input((1,)), "fc": nan, "y": Output()}, chain(LAWS["if"]).edges[:0])
    with pytest.raises(NetworkError, match="training diverged"):
        to_onnx_step(broken)
    wide = chain(LAWS["if"])
    double = wide.with_nodes(conv1=Conv2d(wide.nodes["conv1"].weight.astype(np.float64), padding=(1, 1)))  # type: ignore[union-attr]
    with pytest.raises(MappingError, match="float32, float64; make all of them float32"):
        to_onnx_step(double)
    only = Network.sequential({"in": Input((1, 4, 4)), "c": Conv2d(np.ones((1, 1, 2, 2))), "y": Output()})
    with pytest.raises(MappingError, match="c: onnxruntime has no Conv2d in float64"):
        to_onnx_step(only)
    with pytest.raises(ValueError, match="opset: must be 13 to 21"):
        to_onnx_step(wide, opset=22)


def test_float64_linear_networks_run_in_float64() -> None:
    rng = np.random.default_rng(0)
    w1, w2 = rng.normal(0.1, 0.3, (20, 30)), rng.normal(0.1, 0.4, (5, 20))
    s = Spiking(LAWS["tau3_soft"])
    network = Network.sequential(
        {"in": Input((30,)), "a": Linear(w1), "s1": s, "b": Linear(w2), "s2": s, "y": Output()}
    )
    x = spikes_in(network)
    y, hidden = run_torch(network, x)
    must_fire(hidden)
    found = run(to_onnx_step(network), x)
    same({f"{n}.s": a for n, a in hidden.items()}, found.probes)
    assert (found.y == y).all()


def test_wrong_input_probe_and_form_are_refused() -> None:
    network = chain(LAWS["if"])
    program, x = to_onnx_step(network), spikes_in(network)
    with pytest.raises(ValueError, match=r"takes \(samples, T, 2, 12, 10\)"):
        run(program, x[..., :-1])
    with pytest.raises(ValueError, match="none of them 0"):
        run(program, x[:, :0])
    with pytest.raises(ValueError, match="probe 's9.s': there are s1.s"):
        run(program, x, probes=("s9.s",))
    with pytest.raises(ValueError, match="to_onnx_step"):
        Session(to_onnx_scan(network))
    with pytest.raises(ValueError, match=r"a step takes \(N, 2, 12, 10\)"):
        Session(program).step(x)


@pytest.mark.parametrize("module", ["onnxruntime", "onnx"])
def test_missing_runtime_names_the_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = to_onnx_step(chain(LAWS["if"]))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"{module} is not installed.*spikeport\[edge\]"):
        Session(program) if module == "onnxruntime" else OnnxProgram.from_bytes(program.model)


def test_saved_program_runs_without_torch(tmp_path: Path) -> None:
    to_onnx_step(chain(LAWS["if"])).save(tmp_path / "net.onnx")
    code = (
        "import sys, numpy as np, sim, sim.edge, sim.edge.counts\n"
        "early = [m for m in ('onnx', 'onnxruntime') if m in sys.modules]\n"
        "from export.to_onnx import OnnxProgram\nfrom sim.edge.native import run\n"
        f"r = run(OnnxProgram.load({str(tmp_path / 'net.onnx')!r}), np.ones((2, 5, 2, 12, 10), np.float32))\n"
        "print(early, 'torch' in sys.modules, r.total('spikes') > 0, sorted(r.counts))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert out.startswith(
        "[] False True ['acs', 'activation_bytes', 'effective_macs', 'elementwise_ops', 'macs',"
    )


# ---- counts


def test_macs_of_the_reference_network() -> None:
    """The edge spec's convsnn, 7,800,064 a step."""

    def zeros(*shape: int) -> Array:
        return np.zeros(shape, np.float32)

    s, half = Spiking(Law(Tau(2.0))), AvgPool2d((2, 2), (2, 2))
    nodes: dict[str, Any] = {"in": Input((2, 32, 32))}
    for k, (i, o) in enumerate(((2, 32), (32, 64), (64, 64)), 1):
        nodes |= {f"c{k}": Conv2d(zeros(o, i, 3, 3), padding=(1, 1)), f"s{k}": s, f"p{k}": half}
    nodes |= {
        "f": Flatten(),
        "l1": Linear(zeros(128, 1024)),
        "s4": s,
        "l2": Linear(zeros(10, 128)),
        "s5": s,
        "y": Output(),
    }
    found = run(to_onnx_step(Network.sequential(nodes)), np.ones((2, 3, 2, 32, 32), np.float32))
    per_step = {n: m // 6 for n, m in found.counts["macs"].items()}
    assert per_step == {"c1": 589_824, "c2": 4_718_592, "c3": 2_359_296, "l1": 131_072, "l2": 1_280}
    assert sum(per_step.values()) == 7_800_064
    assert found.total("acs") == 0, "zero weights"
    assert found.counts["weight_bytes"] == {
        n: 6 * 4 * m for n, m in zip(per_step, (576, 18432, 36864, 131072, 1280), strict=True)
    }


def test_effective_operations_are_a_convolution_of_masks() -> None:
    rng = np.random.default_rng(0)
    network = residual(LAWS["tau2"], seed=1)
    sparse = {
        n: Conv2d(np.where(rng.random(c.weight.shape) < 0.5, 0, c.weight), c.bias, c.stride, c.padding)
        for n, c in network.nodes.items()
        if isinstance(c, Conv2d)
    }
    network = network.with_nodes(**sparse)
    x = spikes_in(network)
    x[:, :, 0] *= 0.5  # graded input: multiplications
    found = run(to_onnx_step(network), x)
    hidden = {n: torch.tensor(a).float() for n, a in found.probes.items()}

    def effective(layer: str, into: torch.Tensor) -> int:
        node: Any = network.nodes[layer]
        on, w = (into.flatten(0, 1) != 0).double(), torch.tensor(node.weight != 0).double()
        y = F.conv2d(on, w, None, node.stride, node.padding) if isinstance(node, Conv2d) else F.linear(on, w)
        return int(y.sum())

    assert found.counts["acs"] == {
        "conv2": effective("conv2", hidden["s1.s"]),
        "skip": effective("skip", hidden["s1.s"]),
        "fc": effective("fc", hidden["s3.s"].flatten(2)),
        "back": effective("back", hidden["s4.s"]),
    }
    both = hidden["s4.s"].clone()
    both[:, 2:] += hidden["s4.s"][:, :-2]
    assert both.max() == 2
    assert found.counts["effective_macs"] == {
        "conv1": effective("conv1", torch.tensor(x)),
        "fc2": effective("fc2", both),
    }
    assert found.counts["spikes"]["in"] == int((x != 0).sum())
    assert found.counts["spikes"]["s3"] == int(found.probes["s3.s"].sum())


def test_fanout_of_dilated_grouped_strided_convolutions() -> None:
    network = chain(LAWS["if"], grid=True)  # the grid rounds some weights to zero
    for layer in layers(network):
        node: Any = network.nodes[layer]
        shape = network.shapes()[network.sources(layer)[0].src]
        one = torch.eye(int(np.prod(shape)), dtype=torch.float64).reshape(-1, *shape)
        w = torch.tensor(node.weight != 0).double()
        if isinstance(node, Conv2d):
            y = F.conv2d(one, w, None, node.stride, node.padding, node.dilation, node.groups)
        else:
            y = F.linear(one, w)
        assert (fanout(network, layer) == y.flatten(1).sum(1).numpy()).all(), layer
        assert (node.weight % GRID == 0).all()


@pytest.mark.parametrize("law", LAWS)
def test_elementwise_operations_are_the_nodes_of_the_graph(law: str) -> None:
    model = onnx.load_model_from_string(to_onnx_step(chain(LAWS[law])).model)
    arithmetic = ("Add", "Sub", "Mul", "Div", "GreaterOrEqual", "Where")
    nodes = [n for n in model.graph.node if n.name.startswith("s1.") and n.op_type in arithmetic]
    assert len(nodes) == law_ops(LAWS[law])


def test_counts_scale_with_samples_and_steps() -> None:
    network = chain(LAWS["if"])
    x = spikes_in(network)
    one, four = (run(to_onnx_step(network), a) for a in (x, np.concatenate([x] * 4)))
    assert {e: {n: 4 * k for n, k in by.items()} for e, by in one.counts.items()} == four.counts


def test_without_watch_only_what_is_known_is_counted() -> None:
    network = chain(LAWS["if"])
    x = spikes_in(network)
    bare, full = run(to_onnx_step(network, watch=False), x), run(to_onnx_step(network), x)
    assert (bare.y == full.y).all()
    assert not {"acs", "effective_macs"} & set(bare.counts)
    assert set(bare.counts["spikes"]) == {"in"}
    assert "watch=False" in bare.notes[0]


def test_probes_and_saved_run(tmp_path: Path) -> None:
    network = chain(LAWS["if"])
    x = spikes_in(network)
    assert set(run(to_onnx_step(network), x, probes=("y",)).probes) == set()
    found = run(to_onnx_step(network), x, probes=("s2.s",))
    assert set(found.probes) == {"s2.s"}
    assert found.y.dtype == np.int8
    again = Run.load(found.save(tmp_path / "run"))
    assert (again.y == found.y).all()
    assert again.counts == found.counts
