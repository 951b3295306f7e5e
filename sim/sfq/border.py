"""Controlled sources: unknown currents y beside the phases, ``A f + B y = b`` and ``C f + D y = C_past q``.

    E  row  (fa - fb) - gain (fca - fcb) = 0                        F, H also a sensed current ys: row fca - fcb = 0
    G  row  gain/c ((fca - fcb) - q) - y = 0                        F  row  y - gain ys = 0
                                                                    H  row  (fa - fb) - q - c gain ys = 0

To keep A definite where only such a branch holds a node, each branch without resistance gets a conductance G_PIN in A,
and its current becomes ``y' = y - G_PIN (fa - fb)``: the same equations in other unknowns. Source: docs/sfq.md 1.5;
JoSIM VCVS.cpp, VCCS.cpp, CCVS.cpp, CCCS.cpp (order of nodes, signs).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.sfq.circuit import Circuit, Floats, Ints
from sim.sfq.constants import SIGMA_VS


class Border(NamedTuple):
    """Unknown currents of E, F, G, H. B: ``bvalue`` at (place, unknown); C: ``cvalue`` at (row, place), with
    ``row_past`` 1 where it acts on f - q; D is dense. ``output`` (sources, 4): unknown, a, b, G_PIN of each source's
    own current.
    """

    bplace: Ints
    bcol: Ints
    bvalue: Floats
    crow: Ints
    cplace: Ints
    cvalue: Floats
    row_past: Ints
    d: Floats
    output: Floats


class _Rows:
    """Terms of a border as they are gathered."""

    def __init__(self) -> None:
        self.b: list[tuple[int, int, float]] = []
        self.c: list[tuple[int, int, float, int]] = []
        self.d: list[tuple[int, int, float]] = []
        self.pins: list[tuple[int, int, int]] = []
        self.count = 0

    def unknown(self, a: int, b: int, pinned: bool) -> int:
        """A current from ``a`` to ``b``."""
        k = self.count
        self.count += 1
        self.b += [(a, k, 1.0), (b, k, -1.0)]
        if pinned:
            self.pins.append((k, a, b))
        return k

    def phase(self, row: int, a: int, b: int, value: float, past: int = 0) -> None:
        """``value (fa - fb)`` in a row."""
        self.c += [(row, a, value, past), (row, b, -value, past)]


def border_of(circuit: Circuit, s: Ints, h: float) -> tuple[Border, list[tuple[Ints, Ints, Floats]]]:
    """The border of a circuit, and the conductances (places, places, A/rad) that it asks to be put into A."""
    x, c = circuit.controlled, 2.0 * h / (3.0 * SIGMA_VS)
    pin = float(np.median(1.0 / (c * circuit.resistors.value))) if len(circuit.resistors) else 1.0
    rows = _Rows()
    output: list[tuple[float, float, float, float]] = []
    ends = (s[x.a].tolist(), s[x.b].tolist(), s[x.ca].tolist(), s[x.cb].tolist())
    for kind, a, b, ca, cb, gain in zip(x.kinds, *ends, x.gain.tolist(), strict=True):
        sense = rows.unknown(ca, cb, True) if kind in "FH" else -1
        if sense >= 0:
            rows.phase(sense, ca, cb, 1.0)
        own = rows.unknown(a, b, kind in "EH")
        if kind == "E":
            rows.phase(own, a, b, 1.0)
            rows.phase(own, ca, cb, -gain)
        elif kind == "G":
            rows.phase(own, ca, cb, gain / c, past=1)
            rows.d.append((own, own, -1.0))
        elif kind == "F":
            rows.d += [(own, own, 1.0), (own, sense, -gain)]
        else:
            rows.phase(own, a, b, 1.0, past=1)
            rows.d.append((own, sense, -c * gain))
        output.append((own, a, b, pin if kind in "EH" else 0.0))
    d = np.zeros((rows.count, rows.count))
    for r, k, value in rows.d:
        d[r, k] += value
    for k, a, b in rows.pins:
        for r in np.flatnonzero(d[:, k]):
            rows.phase(int(r), a, b, float(d[r, k]) * pin)
    pinned = np.array([(a, b) for _, a, b in rows.pins], dtype=np.int64).reshape(-1, 2)
    bt = np.array(rows.b, dtype=np.float64).reshape(-1, 3)
    ct = np.array(rows.c, dtype=np.float64).reshape(-1, 4)
    whole = [column.astype(np.int64) for column in (bt[:, 0], bt[:, 1], ct[:, 0], ct[:, 1], ct[:, 3])]
    border = Border(
        whole[0], whole[1], bt[:, 2].copy(), whole[2], whole[3], ct[:, 2].copy(), whole[4], d,
        np.array(output, dtype=np.float64).reshape(-1, 4),
    )  # fmt: skip
    return border, [(pinned[:, 0], pinned[:, 1], np.full((len(pinned), 1), pin))]
