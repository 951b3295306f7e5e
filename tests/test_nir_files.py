"""Files that are broken, hostile or say too little, and the refusals: each names the thing, the rule and the fix."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
from nir_graphs import DT, EULER, cuba, full, graph, lif

from export import Conv2d, Edge, Flatten, Input, Linear, MappingError, Network, NetworkError, Output, Spiking
from export.from_nir import from_nir
from export.package import PackageError
from export.to_nir import to_nir
from neuro.neuron import Law, Tau
from sim.cli import app


@pytest.fixture
def path(tmp_path: Path) -> Path:
    nir.write(tmp_path / "net.nir", graph(nir.Linear(np.eye(3)), lif()))
    return tmp_path / "net.nir"


def says(path: Path, what: str, kind: type[Exception] = PackageError, **told: Any) -> None:
    with pytest.raises(kind, match=what) as caught:
        from_nir(path, **EULER | told)
    assert caught.type is kind


def test_missing_truncated_and_foreign_files(path: Path, tmp_path: Path) -> None:
    says(tmp_path / "no.nir", r"no\.nir: no such file; give a \.nir file")
    data = path.read_bytes()
    for size in (0, 7, 100, len(data) // 2, len(data) - 100):
        path.write_bytes(data[:size])
        says(path, r"net\.nir: cannot be read \(.*\); the file is truncated, damaged or no NIR file: export it again")
    path.write_bytes(b"\x80\x04not a pickle")
    says(path, "cannot be read")
    with h5py.File(path, "w") as f:
        f["weights"] = np.ones(3)
    says(path, "has no group 'node'; it is HDF5 but no NIR file")


def test_damaged_bytes_never_crash(path: Path) -> None:
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(60):
        broken = bytearray(data)
        for at in rng.integers(0, len(data), 20):
            broken[at] = int(rng.integers(0, 256))
        path.write_bytes(bytes(broken))
        with suppress(ValueError):  # one of ours, which says what to do; anything else is a fault
            from_nir(path, **EULER)


def test_damaged_strings_come_back(path: Path) -> None:
    """The HDF5 library loops for ever on some global heaps; sizes of each of its fields at both ends."""
    data = path.read_bytes()
    heap = data.index(b"GCOL")
    for at in (heap, heap + 4, heap + 8, heap + 16, heap + 24):
        for value in (0, 1, 15, 2**31, 2**63 - 1):
            path.write_bytes(data[:at] + value.to_bytes(8, "little") + data[at + 8 :])
            with suppress(PackageError):
                from_nir(path, **EULER)
    path.write_bytes(data[: heap + 8] + (2**40).to_bytes(8, "little") + data[heap + 16 :])
    says(path, "a global heap is damaged")


EDITS: dict[str, tuple[Callable[[Any], None], type[Exception], str]] = {
    "unknown type": (
        lambda g: retype(g["n1"], "Hodgkin"),
        MappingError,
        r"^n1: node type 'Hodgkin' is not one of nir 1\.0\.8; write it with Affine, Linear",
    ),
    "no type": (lambda g: g["n1"].__delitem__("type"), NetworkError, "^n1: is no node, it has no 'type'"),
    "field gone": (lambda g: g["n1"].__delitem__("tau"), NetworkError, "^n1: LIF lacks 'tau'; export it again"),
    "weight gone": (lambda g: g["n0"].__delitem__("weight"), NetworkError, "^n0: Linear lacks 'weight'"),
    "NaN weight": (
        lambda g: put(g["n0"], "weight", np.diag([1.0, np.nan, 1.0])),
        NetworkError,
        r"^n0: Linear weight\[1, 1\] is nan \(1 such values\); the training diverged",
    ),
    "NaN parameter": (lambda g: put(g["n1"], "r", full(np.inf)), NetworkError, "^n1: r holds NaN or infinity"),
    "shape": (
        lambda g: put(g["n1"], "tau", full(1e-3, 4)),
        NetworkError,
        r"^n1: tau has shape \(4,\), its input \(3,\)",
    ),
    "matrix": (
        lambda g: put(g["n0"], "weight", np.ones((3, 4))),
        NetworkError,
        r"^n0: Linear takes \(4,\), got \(3,\)",
    ),
    "stack": (
        lambda g: put(g["n0"], "weight", np.ones((2, 3, 3))),
        NetworkError,
        "^n0: Linear weight must have 2 axes",
    ),
    "text": (lambda g: put(g["n1"], "r", "ten"), NetworkError, "^n1: r is <U3"),
    "no input": (
        lambda g: g.__delitem__("in"),
        NetworkError,
        "^net: edge in -> n0: there is no node 'in'; nodes are n0, n1, out",
    ),
    "output": (
        lambda g: put(g["out"], "shape", np.array([4])),
        NetworkError,
        r"^out: states shape \(4,\), what leads to it has \(3,\); correct one of them",
    ),
    "two inputs": (
        lambda g: retype(g["out"], "Input"),
        MappingError,
        "needs exactly one Input node, has 2: in, out; add nir.Input",
    ),
    "no shape": (lambda g: g["in"].__delitem__("shape"), NetworkError, "^in: states no shape; give nir.Input"),
    "size 0": (lambda g: put(g["in"], "shape", np.array([0])), NetworkError, "^in: .*positive sizes"),
}


def put(group: Any, key: str, value: Any) -> None:
    del group[key]
    group[key] = value


def retype(group: Any, kind: str) -> None:
    put(group, "type", kind)


@pytest.mark.parametrize("case", EDITS)
def test_each_fault_is_named(case: str, path: Path) -> None:
    edit, kind, what = EDITS[case]
    with h5py.File(path, "r+") as f:
        edit(f["node/nodes"])
    says(path, what, kind)


def test_links_and_foreign_data_are_not_followed(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as f:
        f["w"] = np.eye(3)
    with h5py.File(path, "r+") as f:
        del f["node/nodes/n0/weight"]
        f["node/nodes/n0/weight"] = h5py.ExternalLink(str(secret), "w")
    says(path, "n0/weight is a link, which is not followed")
    with h5py.File(path, "r+") as f:
        del f["node/nodes/n0/weight"]
        layout = h5py.VirtualLayout((3, 3), float)
        layout[:] = h5py.VirtualSource(str(secret), "w", (3, 3))
        f["node/nodes/n0"].create_virtual_dataset("weight", layout)
    says(path, "n0/weight is no plain data set inside the file")
    with h5py.File(path, "r+") as f:
        del f["node/nodes/n0/weight"]
        f["node/nodes/n0/weight"] = np.zeros(3, [("a", "f8"), ("b", "f8")])
    says(path, "n0/weight has type .*; only numbers and strings are read")


def test_sizes_are_bounded_before_they_are_allocated(path: Path) -> None:
    with h5py.File(path, "r+") as f:
        del f["node/nodes/n0/weight"]
        f["node/nodes/n0"].create_dataset("weight", (2**20, 2**20), "f8", chunks=(1024, 1024), compression="gzip")
    assert path.stat().st_size < 2**20
    says(path, r"n0/weight \(1048576, 1048576\) brings its arrays over 2147483648 bytes")
    with h5py.File(path, "r+") as f:
        f["node/nodes/n0/self"] = f["node"]  # a hard link to what holds it: no end
    says(path, "is nested more than 12 deep")


def test_what_is_not_told_is_asked_for_by_the_name_of_the_argument(path: Path) -> None:
    with pytest.raises(MappingError) as caught:
        from_nir(path)
    text = str(caught.value)
    for name in ("dt_s=", "discretization=", "reset=", "fires="):
        assert name in text
    with pytest.raises(MappingError, match=r"give fires=\.\.\. '>' \(as NIR's equations, snnTorch\) or '>='") as caught:
        from_nir(path, dt_s=DT, reset="hard", discretization="euler")
    assert "dt_s" not in str(caught.value)
    linear = graph(nir.Linear(np.eye(3)))
    assert from_nir(linear, dt_s=DT).dt_s == DT
    says(path, r"reset must be 'hard' or 'soft', got 'zero'", MappingError, reset="zero")
    says(path, "dt_s must be positive seconds, got -1", MappingError, dt_s=-1.0)
    says(
        path, r"^n1: tau 0\.001 s is shorter than the step of 0\.01 s, where Euler overshoots", MappingError, dt_s=0.01
    )
    with pytest.raises(MappingError, match=r"dict is no NIR graph; give a nir\.NIRGraph or the path"):
        from_nir({}, **EULER)


REFUSED = {
    "readout tau": (
        nir.LI(np.arange(1.0, 101.0), np.ones(100), np.zeros(100)),
        "^n0: tau differs between its neurons, 1 to 100, at more than 64 values or in several axes; split it",
    ),
    "v_reset": (
        lif(v_threshold=np.array([1.0, 2.0, 3.0]), v_reset=full(0.5)),
        r"^n0: v_reset lies at 0\.166667 to 0\.5 of the way from v_leak to v_threshold",
    ),
    "below leak": (
        lif(v_threshold=np.array([1.0, 2.0, -3.0])),
        r"^n0: v_threshold must lie above v_leak, is -3 from it; raise it",
    ),
    "threshold 0": (lif(v_threshold=full(0.0)), r"^n0: Law\.threshold: must be > 0, got 0"),
    "negative tau": (lif(tau=full(-1.0)), "^n0: tau must be positive seconds, got -1"),
    "part of a step": (
        nir.Delay(full(2.5 * DT)),
        r"^n0: a delay of 0\.00025 s is 2\.5 steps of 0\.0001 s, not",
    ),
    "negative delay": (nir.Delay(full(-DT)), "^n0: delays must be finite and >= 0 s"),
    "readout leak": (nir.LI(full(1e-3), full(1.0), np.arange(3.0)), "^n0: v_leak differs .* 0 to 2; split it"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_laws_that_are_not_here_are_refused(case: str) -> None:
    node, what = REFUSED[case]
    with pytest.raises(MappingError, match=what):
        from_nir(graph(node, shape=node.input_type["input"]), **EULER)


def test_soft_reset_with_a_leak_elsewhere_is_refused_where_no_law_is_equal() -> None:
    with pytest.raises(MappingError, match=r"^n0: v_leak 0\.5 with reset 'soft' has no law here"):
        from_nir(graph(cuba(v_leak=full(0.5))), **EULER | {"reset": "soft"})
    net = from_nir(graph(lif(v_leak=full(0.5), v_reset=full(0.5))), **EULER | {"reset": "soft"})
    assert [x.what for x in net.losses] == ["v_reset has no meaning under reset 'soft' and is left out"]


def test_loops_that_cannot_be_computed_are_named() -> None:
    nodes = {"in": nir.Input(np.array([3])), "a": nir.Linear(np.eye(3)), "b": nir.Linear(np.eye(3))}
    nodes["out"] = nir.Output(np.array([3]))
    edges = [("in", "a"), ("a", "b"), ("b", "a"), ("b", "out")]
    with pytest.raises(MappingError, match=r"^loop .*: no neuron and no Delay lies in it; put one there"):
        from_nir(nir.NIRGraph(nodes, edges, type_check=False), **EULER)
    nodes["lone"] = lif()
    nodes["b"] = lif()
    with pytest.raises(NetworkError, match=r"^lone: nothing leads to it; connect it"):
        from_nir(nir.NIRGraph(nodes, edges, type_check=False), **EULER)


def test_copies_of_edges_do_not_multiply_through_nested_graphs() -> None:
    """Nine places in a row with 1000 copies each: 1000^9 ways."""
    port = nir.NIRGraph(
        {"i": nir.Input(np.array([3])), "o": nir.Output(np.array([3]))}, [("i", "o")] * 1000, type_check=False
    )
    nested = graph(port, port, port, port)
    nested.edges = nested.edges * 1000
    net = from_nir(nested, **EULER)
    assert net.edges == [Edge("in", "out")]
    assert [(x.node, x.size) for x in net.losses] == [
        (n, 999.0) for n in ("n0.o", "n1.o", "n2.o", "n3.o", "n0.i", "n1.i", "n2.i", "n3.i", "out")
    ]


def test_an_edge_to_a_name_that_is_not_there_is_named() -> None:
    """As in the NIR paper's subgraph files: edges say 'lif', the node is called 'lif1'."""
    inner = nir.NIRGraph(
        {"input": nir.Input(np.array([3])), "lif1": lif(), "output": nir.Output(np.array([3]))},
        [("input", "lif"), ("lif", "output")],
        type_check=False,
    )
    with pytest.raises(NetworkError, match=r"^n0: edge input -> lif: there is no node 'lif'; nodes are input, lif1"):
        from_nir(graph(inner), **EULER)


def test_scalars_that_nirs_type_check_refuses_are_read(tmp_path: Path) -> None:
    """Neuron parameters and output shapes as some exporters leave them: (), (1,) and leading axes of 1."""
    one = lif()
    one.tau, one.r, one.v_leak, one.v_threshold = (np.array(v) for v in (1e-3, 10.0, 0.0, 1.0))
    one.v_reset = np.array(0.0)
    made = graph(nir.Linear(np.eye(3)), one)
    made.nodes["out"] = nir.Output(np.array([1, 1, 3]))
    made.edges = [*made.edges, made.edges[0]]
    with h5py.File(tmp_path / "s.nir", "w") as f:  # nir.write compresses, which a scalar cannot be
        for name, node in made.nodes.items():
            for key, value in node.to_dict().items():
                if key != "metadata":
                    f[f"node/nodes/{name}/{key}"] = value
        f["node/edges"] = np.array(made.edges, dtype=h5py.string_dtype())
        f["node/type"] = "NIRGraph"
    with pytest.raises(ValueError, match=r"mismatch|Duplicate"):
        nir.read(tmp_path / "s.nir")
    net = from_nir(tmp_path / "s.nir", **EULER)
    assert net.shapes()["out"] == (3,)
    assert [x.what for x in net.losses] == [
        "the edge from in stands more than once and is taken once; times left out",
        "states shape (1, 1, 3), what leads to it has (3,), which is taken",
    ]


def test_torch_is_not_loaded(path: Path) -> None:
    code = (
        "import sys; from export.from_nir import from_nir; from sim import numpy_engine; import numpy as np;"
        f"net = from_nir({str(path)!r}, dt_s=1e-4, reset='hard', fires='>', discretization='euler');"
        "numpy_engine.run(net, np.ones((1, 2, 3)));"
        "print([m for m in ('torch', 'onnx', 'nir') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "[]\n"


def test_a_file_runs_with_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another tool's file with what it does not say; ours without; every machine; and out again."""
    monkeypatch.chdir(tmp_path)

    def spikeport(*args: str) -> str:
        app(args, standalone_mode=False)
        return capsys.readouterr().out

    rng = np.random.default_rng(0)
    law = Law(Tau(4.0, decay_input=False), fires=">")
    net = Network.sequential(
        {
            "in": Input((1, 6, 6)), "conv": Conv2d(rng.normal(0.1, 0.4, (3, 1, 3, 3))), "s": Spiking(law),
            "flat": Flatten(), "fc": Linear(rng.normal(0.05, 0.3, (4, 48))), "o": Spiking(law), "out": Output(),
        },
        dt_s=DT,
    )  # fmt: skip
    x = (rng.random((3, 12, 1, 6, 6)) < 0.4).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    program = to_nir(net, tmp_path / "ours.nir")
    bare = program.graph
    bare.metadata = {}
    for node in bare.nodes.values():
        node.metadata = {}
    nir.write(tmp_path / "theirs.nir", bare)
    told = ("--dt", "1e-4", "--reset", "hard", "--fires", ">", "--discretization", "euler")
    found = {}
    for name, args in (("ours.nir", ()), ("theirs.nir", told)):
        for on in ("float", "loihi-reference", "onnx"):
            more = ("--float32",) if on == "onnx" else ()
            out = f"{name}-{on}"
            spikeport("run", name, "--on", on, "--input", "x.npz", *args, *more, "-o", out)
            found[out] = np.load(tmp_path / out / "run.npz")["y"]
    assert found["ours.nir-float"].mean() > 0.02
    for on in ("float", "loihi-reference", "onnx"):
        np.testing.assert_array_equal(found[f"ours.nir-{on}"], found[f"theirs.nir-{on}"])
    np.testing.assert_array_equal(found["ours.nir-float"], found["ours.nir-onnx"])
    with pytest.raises(MappingError, match=r"give dt_s="):
        spikeport("run", "theirs.nir", "--on", "float", "--input", "x.npz", "-o", "r")
    net.save(tmp_path / "net.npz")
    assert "lost at" in spikeport("export", "net.npz", "--to", "nir", "-o", "again.nir")
    assert from_nir(tmp_path / "again.nir").hash() == from_nir(tmp_path / "ours.nir").hash()
    spikeport("export", "theirs.nir", "--to", "loihi", *told, "-o", "chip.npz")
    with pytest.raises(PackageError, match=r"dt_s are for \.nir files only"):
        spikeport("run", "chip.npz", "--on", "loihi-reference", "--dt", "1", "-o", "r")
