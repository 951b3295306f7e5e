"""The architecture, read from the sources: imports go down only, torch stays where training is."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("neuro", "hardware", "export", "sim")
MAY_IMPORT = {
    "neuro": {"neuro"},
    "hardware": {"hardware"},
    "export": {"export", "neuro", "hardware"},
    "sim": {"sim", "export", "neuro", "hardware"},
}
TORCH_FILES = {"export/from_torch.py", "export/to_torch.py", "export/fold.py", "export/readers.py"}


def sources() -> list[Path]:
    found = [p for name in PACKAGES for p in sorted((ROOT / name).rglob("*.py"))]
    assert len(found) > 20
    return found


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import; write the package's name"
            names.add((node.module or "").split(".")[0])
    return names


def test_imports_go_down_only() -> None:
    wrong = [
        f"{p.relative_to(ROOT)} imports {name}"
        for p in sources()
        for name in imports(p) & set(PACKAGES) - MAY_IMPORT[p.relative_to(ROOT).parts[0]]
    ]
    assert not wrong


def test_torch_only_where_training_is() -> None:
    wrong = [
        str(p.relative_to(ROOT))
        for p in sources()
        if imports(p) & {"torch", "spikingjelly"}
        and p.relative_to(ROOT).parts[0] != "neuro"
        and str(p.relative_to(ROOT)) not in TORCH_FILES
    ]
    assert not wrong


@pytest.mark.parametrize("package", PACKAGES)
def test_import_name_comes_from_this_distribution(package: str) -> None:
    owners = set(metadata.packages_distributions().get(package, []))
    assert owners <= {"spikeport"}, f"{package} is also installed by {owners - {'spikeport'}}; an import may get theirs"
    module = __import__(package)
    assert Path(module.__file__ or "").resolve().parent == ROOT / package


def test_base_import_is_light() -> None:
    code = (
        "import sys, time; t = time.perf_counter(); import neuro, hardware, export, sim, sim.cli; "
        "heavy = [m for m in ('torch', 'onnx', 'onnxruntime', 'numba', 'matplotlib', 'sklearn') if m in sys.modules]; "
        "print(time.perf_counter() - t, heavy)"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.endswith("[]\n"), f"heavy modules at import: {out}"


def test_no_pickle_no_eval() -> None:
    banned = {"eval", "exec"}
    for p in sources():
        assert not imports(p) & {"pickle", "dill", "cloudpickle", "marshal", "shelve"}, p
        for node in ast.walk(ast.parse(p.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in banned, f"{p}:{node.lineno} calls {node.func.id}"


def test_user_input_is_not_asserted() -> None:
    for p in sources():
        lines = [n.lineno for n in ast.walk(ast.parse(p.read_text())) if isinstance(n, ast.Assert)]
        assert not lines, f"{p}: assert at {lines}; raise ValueError with the fix"
