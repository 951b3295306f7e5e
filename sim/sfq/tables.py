"""What the compiled kernel needs beside a System: places in the factored matrix, and work space."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.sfq.circuit import Floats, Ints
from sim.sfq.layout import Layout
from sim.sfq.system import System


class Tables(NamedTuple):
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


class Scratch(NamedTuple):
    """Work space: factors, node currents, right-hand side, offsets s, and per-junction and per-branch rows."""

    factors: Floats
    b: Floats
    x: Floats
    s: Floats
    need: Floats
    source: Floats
    jj: Floats
    past_r: Floats
    stale: Ints


def tables(system: System, layout: Layout) -> Tables:
    """The places of a system's numbers in its pattern."""
    n, ground, pattern, static = system.n, layout.ground, layout.pattern, system.static
    row_i, row_j = system.row[static.i], system.row[static.j]
    inside = (row_i >= row_j) & (row_i < n)
    base = np.zeros(pattern.waste + 1)
    np.add.at(base, pattern.slots(row_i[inside], row_j[inside]), static.value[inside])
    jj = system.jj
    a, b = system.row[jj.a], system.row[jj.b]
    slots = np.stack([pattern.slots(a, a), pattern.slots(b, b), pattern.slots(a, b)])
    slots[:, a == b] = pattern.waste
    extra_j = (static.j >= n) & (row_i < n)
    extra_i = (static.i >= n) & (static.i < ground)
    touch = np.flatnonzero(((jj.a >= n) & (jj.a < ground)) | ((jj.b >= n) & (jj.b < ground)))
    return Tables(
        base, pattern.start, pattern.rows, pattern.first, pattern.targets, slots,
        row_i[extra_j], static.j[extra_j], static.value[extra_j],
        static.i[extra_i], static.j[extra_i], static.value[extra_i], touch,
    )  # fmt: skip


def scratch(system: System, t: Tables) -> Scratch:
    """Work space of the right sizes; ``stale`` 1 asks for a first factorisation."""
    places = len(system.row)
    return Scratch(
        factors=np.zeros(len(t.base)),
        b=np.zeros(places),
        x=np.zeros(system.n + 1),
        s=np.zeros(places),
        need=np.zeros(places),
        source=np.zeros(len(system.edges.child)),
        jj=np.zeros((6, len(system.jj.a))),
        past_r=np.zeros(len(system.r.a)),
        stale=np.ones(1, np.int64),
    )
