"""What the fast kernels need beside a System: places in the factored matrix, the border, and work space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.sfq.circuit import Floats, Ints
from sim.sfq.layout import Layout
from sim.sfq.ldl import Pattern
from sim.sfq.state import Options, Watch, aligned
from sim.sfq.system import System


@dataclass(frozen=True)
class Tables:
    """Places in the factored matrix: values without junctions, pattern of L, junction slots (3, n), corrections.

    ``fold``: b[row] -= value s[j] for entries against extra places; ``need``: the rows of extra places, for the
    sources' currents; ``touch``: junctions with an end on an extra place.
    """

    base: Floats
    start: Ints
    rows: Ints
    first: Ints
    targets: Ints
    slots: Ints
    fold_row: Ints
    fold_j: Ints
    fold_value: Floats
    need_i: Ints
    need_j: Ints
    need_value: Floats
    touch: Ints
    pair_column: Ints
    pair_row: Ints
    pair_at: Ints


def tables(system: System, layout: Layout) -> Tables:
    """The places of a system's numbers in its pattern."""
    n, ground, pattern, static = system.n, layout.ground, layout.pattern, system.static
    row_i, row_j = system.row[static.i], system.row[static.j]
    inside = (row_i >= row_j) & (row_i < n)
    base = aligned((pattern.waste + 1, system.corners))
    _add_rows(base, pattern.slots(row_i[inside], row_j[inside]), static.value[inside])
    a, b = system.row[system.ja], system.row[system.jb]
    slots = np.stack([pattern.slots(a, a), pattern.slots(b, b), pattern.slots(a, b)])
    slots[:, a == b] = pattern.waste
    extra_j = (static.j >= n) & (row_i < n) & (static.j != ground)
    extra_i = (static.i >= n) & (static.i < ground)
    touch = np.flatnonzero(((system.ja >= n) & (system.ja < ground)) | ((system.jb >= n) & (system.jb < ground)))
    return Tables(
        base, pattern.start, pattern.rows, pattern.first, pattern.targets, slots,
        row_i[extra_j], static.j[extra_j], static.value[extra_j],
        static.i[extra_i], static.j[extra_i], static.value[extra_i], touch, *_pairs(pattern),
    )  # fmt: skip


def _pairs(pattern: Pattern) -> tuple[Ints, Ints, Ints]:
    """Columns of L cut into pairs: the column, two rows, their places in L; -1 and the column itself fill up."""
    sizes = np.diff(pattern.start)
    each = np.maximum((sizes + 1) // 2, 1)
    column = np.repeat(np.arange(pattern.n), each)
    begin = pattern.start[column] + 2 * (np.arange(len(column)) - np.repeat(np.cumsum(each) - each, each))
    at = begin[:, None] + np.arange(2)
    inside = at < pattern.start[column + 1][:, None]
    rows = np.append(pattern.rows, 0)[np.where(inside, at, 0)]
    return column, np.where(inside, rows, column[:, None]), np.where(inside, at, -1)


def _add_rows(into: Floats, at: Ints, value: Floats) -> None:
    """``into[at] += value`` where places repeat, rows of corners at a time: far faster than ``add.at``."""
    if not len(at):
        return
    order = np.argsort(at, kind="stable")
    sorted_at = at[order]
    bounds = np.flatnonzero(np.concatenate([[True], sorted_at[1:] != sorted_at[:-1]]))
    into[sorted_at[bounds]] += np.add.reduceat(value[order], bounds, axis=0)


def work_space(system: System, layout: Layout) -> dict[str, Floats | Ints]:
    """Arrays that a kernel writes; ``stale`` 1 asks for a first factorisation."""
    w, places, nj, m = system.corners, len(system.row), len(system.ja), len(system.border.d)
    pairs = int(np.maximum((np.diff(layout.pattern.start) + 1) // 2, 1).sum())
    floats = {
        "factors": (layout.pattern.waste + 1, w), "b": (places, w), "b0": (places, w), "q": (places, w),
        "qc": (places if len(system.ca) else 0, w), "s": (places, w), "need": (places, w), "sv": (len(system.ec), w),
        **{f"w{k}": (nj, w) for k in range(5)}, "w5": (2 * nj, w), "y": (m, w), "tline": (len(system.ta), w),
        "bwork": (2 * m * m + m, 1), "pair_l": (2 * pairs, 1),
        "z": (m * system.n, w), "sinv": (m * m, w),
    }  # fmt: skip
    out: dict[str, Floats | Ints] = {name: aligned(shape) for name, shape in floats.items()}
    return out | {"stale": np.ones(1, np.int64), "head": np.zeros(1, np.int64)}


def sizes(system: System, t: Tables, watch: Watch, options: Options) -> dict[str, int]:
    """The counts of kernel.c's ``Sys``."""
    border = system.border
    return {
        "n": system.n, "places": len(system.row), "mr": len(system.ra), "mc": len(system.ca), "mj": len(system.ja),
        "mt": len(system.ta) // 2, "mf": len(system.fa), "me": len(system.ec), "mo": len(system.oa),
        "mb": len(border.d), "mfold": len(t.fold_row), "mneed": len(t.need_i), "mtouch": len(t.touch),
        "mterm": len(border.bplace), "mrow": len(border.crow), "depth": system.depth,
        "width_nodes": len(watch.nodes), "width_jj": len(watch.jj), "width_edges": len(watch.edges),
        "plain": int(system.plain), "harmonics": system.cpr.shape[1], "corrector": options.corrector,
        "account": int(options.account), "pairs": len(t.pair_column),
        "need_edges": int(bool(len(watch.edges)) or options.account),
    }  # fmt: skip
