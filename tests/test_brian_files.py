"""The Brian 2 script in a process of its own, the saved package, the commands, and errors that tell the fix."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from brian_networks import Grown, double
from float_networks import LAWS, Array, must_fire, residual, same, spikes_in

from export import (
    CapacityError,
    Conv2d,
    Delay,
    Edge,
    Input,
    Linear,
    MappingError,
    Network,
    NetworkError,
    Output,
    Spiking,
)
from export.brian_names import identifiers
from export.package import PackageError
from export.to_brian import BrianProgram, to_brian
from neuro.neuron import Law
from sim import brian, engines, numpy_engine

ROOT = Path(__file__).resolve().parent.parent


def run_script(script: Path, x: Array, folder: Path) -> dict[str, Array]:
    """Outputs of the script, run by a Python that cannot see this package."""
    np.savez(folder / "input.npz", x=x)
    command = [sys.executable, "-I", str(script), "input.npz", "out.npz"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "out.npz", allow_pickle=False) as file:
        return {n: file[n] for n in file.files}


@pytest.mark.parametrize(("build", "ode"), [("residual", False), ("grown", True)])
def test_the_script_alone_gives_the_same_spikes(tmp_path: Path, build: str, ode: bool) -> None:
    network = double(residual(LAWS["tau3_rest"], seed=3)) if build == "residual" else Grown(0, True).network()
    x = spikes_in(network)
    want = numpy_engine.run(network, x, probes=engines.watched(network))
    must_fire(want.probes)
    script = to_brian(network, ode=ode).save(tmp_path / "net.py")
    imported = {a.name for n in ast.walk(ast.parse(script.read_text())) if isinstance(n, ast.Import) for a in n.names}
    assert imported == {"sys", "numpy"}
    assert "spikeport" not in re.sub(r'"""A spiking.*?"""', "", script.read_text(), flags=re.DOTALL)
    found = run_script(script, x, tmp_path)
    assert (found["y"] == want.y).all()
    same(want.probes, found)


HOSTILE = [
    "in",
    "0",
    "a b",
    'q"""\'\n    import sys; sys.exit(7)\n#',
    "é\u2028raise SystemExit(8)",
    "{0!r}",
    "s_thresholder",
    "s",
    "s ",
    "__import__('os')._exit(9)",
]


def test_names_cannot_write_code(tmp_path: Path) -> None:
    one = Linear(np.ones((1, 1)), np.full(1, 0.25))
    nodes: dict[str, Any] = {HOSTILE[0]: Input((1,))}
    for k, name in enumerate(HOSTILE[1:-1]):
        nodes[name] = Spiking(LAWS["if"]) if k % 2 else one
    nodes[HOSTILE[-1]] = Output()
    network = Network.sequential(nodes, name='x"""\nraise SystemExit(6)\n')
    x = np.ones((1, 4, 1))
    program = to_brian(network)
    calls = {
        n.func.id for n in ast.walk(ast.parse(program.script())) if isinstance(n, ast.Call) and hasattr(n.func, "id")
    }
    assert not calls & {"__import__", "exec", "eval"}
    want = numpy_engine.run(network, x, probes=program.watched)
    same(want.probes, run_script(program.save(tmp_path / "net.py"), x, tmp_path))
    same(want.probes, brian.run(program, x, probes=program.watched).probes)


def test_names_of_brian() -> None:
    found = identifiers(HOSTILE)
    assert len(set(found.values())) == len(HOSTILE)
    assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", n) for n in found.values())
    assert found["s_thresholder"] == "s_thresholder_node"
    assert (found["s"], found["s "]) == ("s", "s_2")


def test_save_and_load(tmp_path: Path) -> None:
    program = to_brian(residual(LAWS["decay"], seed=2), ode=True)
    script = program.save(tmp_path / "net.py")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.brian.npz", "net.py"]
    before = [p.read_bytes() for p in (script, tmp_path / "net.brian.npz")]
    program.save(tmp_path / "net.py")
    assert [p.read_bytes() for p in (script, tmp_path / "net.brian.npz")] == before
    script.write_text("raise SystemExit(9)")
    for path in (script, tmp_path / "net.brian.npz"):
        kind, loaded = engines.load(path)
        assert kind == "brian"
        assert loaded.hash() == program.hash()
        assert loaded.ode
        assert loaded.script() == program.script()
    assert to_brian(program.network).hash() != program.hash()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    program = to_brian(residual(LAWS["decay"], seed=2))
    program.save(tmp_path / "net.py")
    file = tmp_path / "net.brian.npz"
    data = file.read_bytes()
    file.write_bytes(data[:-400])
    with pytest.raises(PackageError, match=r"net\.brian\.npz.*export it again"):
        BrianProgram.load(tmp_path / "net.py")
    program.network.save(file)
    with pytest.raises(PackageError, match="holds 'spikeport-network', expected 'spikeport-brian'"):
        BrianProgram.load(file)
    file.unlink()
    with pytest.raises(PackageError, match=r"net\.brian\.npz: no such file"):
        BrianProgram.load(tmp_path / "net.py")
    with pytest.raises(ValueError, match=r"must end in \.py"):
        program.save(tmp_path / "net.npz")


def test_the_script_says_what_it_takes(tmp_path: Path) -> None:
    script = to_brian(residual(LAWS["if"])).save(tmp_path / "net.py")
    np.savez(tmp_path / "input.npz", x=np.zeros((2, 3, 8, 8)))
    for args, message in (([], "usage: python net.py"), (["input.npz", "o.npz"], "x must be (samples, T, *(3, 8, 8))")):
        done = subprocess.run([sys.executable, script, *args], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1
        assert message in done.stderr


def spikeport(*args: str, cwd: Path) -> str:
    command = [sys.executable, "-m", "sim.cli", *args]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return done.stdout


def test_commands(tmp_path: Path) -> None:
    network = double(residual(LAWS["tau2"], seed=3))
    network.save(tmp_path / "net.npz")
    np.savez(tmp_path / "x.npz", x=spikes_in(network))
    text = spikeport("export", "net.npz", "--to", "brian", "-o", "net.py", cwd=tmp_path)
    used = sum(len(weight) for _, _, weight in to_brian(network).synapses)
    assert f"uses synapses: {used} of 2147483647" in text
    spikeport("run", "net.py", "--on", "brian", "--input", "x.npz", "-o", "run-brian", cwd=tmp_path)
    spikeport("run", "net.npz", "--on", "float", "--input", "x.npz", "-o", "run-float", cwd=tmp_path)
    a, b = (np.load(tmp_path / f"run-{on}" / "run.npz", allow_pickle=False) for on in ("float", "brian"))
    with a, b:
        assert a.files == b.files
        same({n: a[n] for n in a.files}, {n: b[n] for n in b.files})
    assert "first departure" not in spikeport("report", "run-float", "run-brian", "-o", "report", cwd=tmp_path)
    assert re.search(r"brian +Brian 2 .*takes brian +ready", spikeport("machines", cwd=tmp_path))


@dataclass(frozen=True)
class Strange:
    """A node that there is no rule for."""

    kind: ClassVar[str] = "strange"

    def out_shape(self, in_shape: Any) -> Any:
        """As it is."""
        return in_shape

    def check(self) -> None:
        """Nothing."""


def test_what_cannot_be_mapped_is_refused() -> None:
    nodes: dict[str, Any] = {"in": Input((1,)), "odd": Strange(), "s": Spiking(), "out": Output()}
    edges = [Edge("in", "odd"), Edge("odd", "s"), Edge("s", "out")]
    with pytest.raises(MappingError, match="odd: Strange has no Brian 2 rule; exchange it for"):
        to_brian(Network(nodes, edges))
    with pytest.raises(NetworkError, match="odd"):
        to_brian(Network(nodes, edges[1:]))
    deep = {"in": Input((1,)), "d": Delay(np.array([300])), "s": Spiking(), "out": Output()}
    with pytest.raises(MappingError, match="d: takes values of in 300 steps later"):
        to_brian(Network.sequential(deep))
    wide = Network.sequential(
        {"in": Input((64, 1024, 1024)), "c": Conv2d(np.ones((64, 64, 3, 3))), "s": Spiking(), "out": Output()}
    )
    with pytest.raises(CapacityError, match=r"c: the network has \d+ synapses .* make that layer smaller"):
        to_brian(wide)


def test_a_brian2_that_cannot_run_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    program = to_brian(Network.sequential({"in": Input((1,)), "s": Spiking(Law()), "out": Output()}))
    x = np.ones((1, 3, 1))
    with pytest.raises(ValueError, match=r"x: network takes \(samples, T, 1\)"):
        brian.run(program, x[0])
    with pytest.raises(ValueError, match="target 'c': there are numpy, cython"):
        brian.run(program, x, target="c")
    with monkeypatch.context() as patch:
        patch.setattr(brian.np, "__version__", "2.4.0")
        with pytest.raises(ValueError, match=r"numpy 2\.4\.0; pip install 'numpy<2\.4'"):
            brian.run(program, x)

    def absent(name: str) -> str:
        raise brian.metadata.PackageNotFoundError(name)

    with monkeypatch.context() as patch:
        patch.setattr(brian.metadata, "version", absent)
        with pytest.raises(ValueError, match=r"pip install 'spikeport\[brian\]'"):
            brian.run(program, x)
    with pytest.raises(ValueError, match="a brian program does not run on 'loihi'; it runs on brian"):
        engines.run(program, x, "loihi")


def test_exporting_needs_no_brian2(tmp_path: Path) -> None:
    replace(residual(LAWS["if"]), name="r").save(tmp_path / "net.npz")
    code = (
        "import sys\nfrom sim.engines import compile_for, load\n"
        "compile_for('brian', load('net.npz')[1]).save('net.py')\nload('net.py')\n"
        "print([m for m in ('brian2', 'torch', 'sympy') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "[]\n"
