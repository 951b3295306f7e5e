"""The .onnx file as a value: what it says, what is refused and with which words."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from float_networks import (
    LAWS,
    Array,
    chain,
    must_fire,
    residual,
    same,
    spikes_in,
)

from export import (
    Conv2d,
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
from sim.edge import native
from sim.edge.native import Session
from sim.run import Run

ROOT = Path(__file__).resolve().parent.parent


def run(program: OnnxProgram, x: Array, **options: Any) -> Run:
    """With the spikes of every node."""
    return native.run(program, x, **{"probes": program.watched} | options)


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


@pytest.mark.parametrize("opset", [13, 21])
@pytest.mark.parametrize("make", [to_onnx_step, to_onnx_scan])
def test_older_and_newer_operator_sets_give_the_same(opset: int, make: Any) -> None:
    network = residual(LAWS["decay"])
    x = spikes_in(network)
    program = make(network, opset=opset)
    assert onnx.load_model_from_string(program.model).opset_import[0].version == opset
    must_fire(run(program, x).probes)
    same(run(to_onnx_step(network), x).probes, run(program, x).probes)


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
    with pytest.raises(ValueError, match=r"probe 's9\.s': there are s1\.s"):
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
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.startswith("[] False True ['acs', 'activation_bytes', 'effective_macs', 'elementwise_ops', 'macs',")
