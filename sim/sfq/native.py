"""The kernel in C, built on first use with the machine's compiler; None where there is none.

The library goes to the user's cache, named by the source, the compiler and the processor, written beside and renamed.
``SPIKEPORT_KERNEL=numba`` does without it. Nothing but this package's own source is compiled or loaded.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sim.sfq.circuit import Floats, Ints

SOURCE = Path(__file__).with_name("kernel.c")
LANES = 16
"""Corners side by side: two or four vector registers a value."""

FLAGS = (
    "-std=c11",
    "-O3",
    "-march=native",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fPIC",
    "-shared",
)
SIZES = (
    "n", "places", "mr", "mc", "mj", "mt", "mf", "me", "mo", "mb", "mfold", "mneed", "mtouch", "mterm", "mrow", "depth",
    "width_nodes", "width_jj", "width_edges", "plain", "harmonics", "corrector", "account", "need_edges", "pairs",
)  # fmt: skip
POINTERS = (
    "row", "ra", "rb", "ca", "cb", "ja", "jb", "ta", "tb", "fa", "fb", "fwave", "ep", "ec", "ephase", "ewave", "oa",
    "ob",
    "start", "rows", "targets", "first", "slots", "pair_column", "pair_row", "pair_at",
    "fold_row", "fold_j", "need_i", "need_j", "touch",
    "bplace", "bcol", "crow", "cplace", "row_past", "watch_nodes", "watch_jj", "watch_edges", "rtype",
    "rg", "cg", "jg", "jcond", "jit", "jamp", "c_2h", "c_h2", "v_low", "v_high", "phi", "cpr", "gap", "transparency",
    "tg", "t_frac", "t_steps",
    "fscale", "esign", "escale", "base", "fold_value", "need_value", "bvalue", "cvalue", "z", "sinv",
    "f", "jp", "jv", "turns", "tw", "source", "last_fp", "last_fi", "last_si", "work", "region", "slips", "tripped",
    "factors", "b", "b0", "q", "qc", "s", "need", "sv", "w0", "w1", "w2", "w3", "w4", "w5", "y", "tline", "bwork",
    "pair_l",
    "stale", "head",
)  # fmt: skip
"""Fields of ``Sys`` in kernel.c, in its order."""


class Sys(ctypes.Structure):
    """``Sys`` of kernel.c."""

    _fields_ = (
        [(name, ctypes.c_int64) for name in SIZES]
        + [(name, ctypes.c_void_p) for name in POINTERS]
        + [(name, ctypes.c_double) for name in ("h", "guard", "sigma")]
        + [(name, ctypes.c_void_p) for name in ("v0", "v1", "v2", "jp_next")]
    )


class Events(ctypes.Structure):
    """``Events`` of kernel.c."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("jj", "lane", "turns", "time")] + [
        ("capacity", ctypes.c_int64),
        ("filled", ctypes.c_int64),
    ]


@functools.cache
def library(width: int) -> ctypes.CDLL | None:
    """The kernel for ``width`` corners, built if need be; None without a compiler that works."""
    if os.environ.get("SPIKEPORT_KERNEL", "c") != "c":
        return None
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    text = SOURCE.read_bytes()
    key = hashlib.sha256(text + repr((FLAGS, width, compiler, _machine())).encode()).hexdigest()[:20]
    path = _cache() / f"sfq-{width}-{key}.so"
    if not path.exists() and not _build(compiler, width, path):
        return None
    try:
        loaded = ctypes.CDLL(str(path))
    except OSError:
        return None
    loaded.kernel_run.restype = ctypes.c_int64
    loaded.kernel_size.restype = ctypes.c_int64
    if loaded.kernel_size() != ctypes.sizeof(Sys):
        raise RuntimeError(f"{path}: its structure is not that of native.py; delete it")
    return loaded


def _build(compiler: str, width: int, path: Path) -> bool:
    """Whether the library is there now; a compiler or a folder that fails is no error, numba takes over."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            built = Path(folder) / "kernel.so"
            command = [*compiler.split(), *FLAGS, f"-DW={width}", str(SOURCE), "-o", str(built), "-lm"]
            done = subprocess.run(command, capture_output=True, timeout=120, check=False)
            if done.returncode or not built.exists():
                return False
            os.replace(built, path)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return True


def _cache() -> Path:
    """``$SPIKEPORT_CACHE``, else the platform's cache folder of the user."""
    if named := os.environ.get("SPIKEPORT_CACHE"):
        return Path(named)
    if sys.platform == "darwin":
        return Path("~/Library/Caches/spikeport").expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "spikeport"


def _machine() -> str:
    """What ``-march=native`` depends on: a cache that several machines share must not mix them up."""
    try:
        info = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
        flags = [line for line in info.splitlines() if line.startswith(("model name", "flags", "Features", "CPU part"))]
        return "\n".join(flags)
    except OSError:
        return platform.platform() + platform.processor()


def fill_normals(
    library: ctypes.CDLL, seed: int, ids: Ints, elements: Ints, low: int, blocks: int, out: Floats
) -> None:
    """``kernel_normals`` into ``out`` (4 blocks, elements, ids)."""
    library.kernel_normals(
        ctypes.c_uint64(seed), _address(ids), ctypes.c_int64(len(ids)), _address(elements),
        ctypes.c_int64(len(elements)), ctypes.c_int64(low), ctypes.c_int64(blocks), _address(out),
    )  # fmt: skip


def _address(array: Ints | Floats) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
