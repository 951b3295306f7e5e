"""The kernel in C, built on first use (:mod:`neuro.native`); ``SPIKEPORT_KERNEL=numba`` does without it."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

from neuro import native
from sim.sfq.circuit import Floats, Ints

SOURCE = Path(__file__).with_name("kernel.c")
LANES = 16
"""Corners side by side: two or four vector registers a value."""

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
    loaded = native.library(SOURCE, f"sfq-{width}", ("-ffp-contract=fast", f"-DW={width}"))
    if loaded is None:
        return None
    loaded.kernel_run.restype = ctypes.c_int64
    loaded.kernel_size.restype = ctypes.c_int64
    if loaded.kernel_size() != ctypes.sizeof(Sys):
        raise RuntimeError(f"{loaded._name}: its structure is not that of native.py; delete it")
    return loaded


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
