"""This package's own C source, built on first use with the machine's compiler and loaded; None where there is none.

The library goes to the user's cache, named by source, flags, compiler and processor, written beside and renamed.
``SPIKEPORT_CACHE`` moves the cache. Nothing but source that lies in the package is compiled or loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FLAGS = ("-std=c11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")


def library(source: Path, name: str, flags: tuple[str, ...] = (), optional: tuple[str, ...] = ()) -> ctypes.CDLL | None:
    """The library of ``source``, built if need be; None without a compiler that works. Callers keep what they get.

    ``optional``: flags that are left out where the compiler does not know them (``-fopenmp`` on some machines).
    """
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    text = source.read_bytes()
    for given in ((*flags, *optional), flags) if optional else (flags,):
        key = hashlib.sha256(text + repr((FLAGS, given, compiler, _machine())).encode()).hexdigest()[:20]
        path = _cache() / f"{name}-{key}.so"
        if path.exists() or _build(compiler, source, given, path):
            try:
                return ctypes.CDLL(str(path))
            except OSError:
                continue
    return None


def _build(compiler: str, source: Path, flags: tuple[str, ...], path: Path) -> bool:
    """Whether the library is there now; a compiler or a folder that fails is no error, the caller has another way."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            built = Path(folder) / "kernel.so"
            command = [*compiler.split(), *FLAGS, *flags, str(source), "-o", str(built), "-lm"]
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
