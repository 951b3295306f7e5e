"""Thermal noise of resistors and junctions, the same whatever the step, the batch or the order.

    native    i(t) is constant over cells of CELL_S, independent normals of variance 2 kT/(R CELL_S): white up to
              1/(2 CELL_S). A step takes its mean over (t - h, t], so that a run at h/2 sees the same noise.
    neb       as JoSIM: normals of variance 2 kT neb/R at multiples of 1/neb, straight lines between them; a band
              wider than the step can show is averaged over the step, as the native noise

Random numbers are counter-based (Philox 4x32-10, Salmon et al. 2011): the key is the seed and the corner, the counter
the element and the cell. A junction's R is R0 (RN for RTYPE 0), not its shunt. Source: docs/sfq.md 1.7.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.sfq import native
from sim.sfq.circuit import Circuit, Floats, Ints
from sim.sfq.constants import BOLTZMANN_J_K
from sim.sfq.corners import Corners

CELL_S = 0.05e-12
"""Native noise is white up to 10 THz, far above what a junction of some hundred GHz takes notice of."""


def noisy(circuit: Circuit) -> tuple[Ints, Ints]:
    """Resistors and junctions with a temperature."""
    kelvin = circuit.temperature_K
    if kelvin is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.flatnonzero(kelvin.resistors > 0), np.flatnonzero(kelvin.junctions > 0)


@dataclass(frozen=True)
class Noise:
    """The noise currents of a circuit's corners. ``power`` (elements, corners) is ``2 kT/R`` in A^2 s."""

    seed: int
    ids: Ints
    power: Floats
    neb_Hz: Floats

    def fill(self, first: int, h: float, out: Floats) -> None:
        """``out`` (steps, elements, corners): the currents (A) of steps ``first`` on, at times ``i h``."""
        for neb in np.unique(self.neb_Hz):
            at = np.flatnonzero(self.neb_Hz == neb)
            if 0 < neb < 1.0 / h:
                self._lines(first, h, float(neb), at, out)
            else:
                self._cells(first, h, 1.0 / float(neb) if neb > 0 else CELL_S, at, out)

    def _lines(self, first: int, h: float, neb: float, at: Ints, out: Floats) -> None:
        where = np.arange(first, first + len(out)) * h * neb
        low = np.floor(where + 1e-9).astype(np.int64)
        base = int(low[0])
        sample = self._normals(at, base, int(low[-1]) - base + 2) * np.sqrt(self.power[at] * neb)
        part = (where - low)[:, None, None]
        out[:, at] = (1.0 - part) * sample[low - base] + part * sample[low - base + 1]

    def _cells(self, first: int, h: float, cell: float, at: Ints, out: Floats) -> None:
        scale = np.sqrt(self.power[at] / cell)
        per_step = round(h / cell)
        if per_step >= 1 and abs(h / cell - per_step) < 1e-9:
            cells = self._normals(at, (first - 1) * per_step, len(out) * per_step)
            out[:, at] = cells.reshape(len(out), per_step, len(at), -1).mean(axis=1) * scale
            return
        edges = np.arange(first - 1, first + len(out)) * (h / cell)
        base = int(np.floor(edges[0]))
        cells = self._normals(at, base, int(np.floor(edges[-1])) - base + 1)
        total = np.concatenate([np.zeros((1, *cells.shape[1:])), np.cumsum(cells, axis=0)])
        low = np.floor(edges).astype(np.int64)
        part = (edges - low)[:, None, None]
        upto = total[low - base] + part * cells[np.minimum(low - base, len(cells) - 1)]
        out[:, at] = np.diff(upto, axis=0) * (cell / h) * scale

    def _normals(self, at: Ints, first: int, count: int) -> Floats:
        """(cells, elements, corners) standard normals."""
        return normals(self.seed, self.ids, at, first, count)


def thermal(circuit: Circuit, corners: Corners | None, seed: int) -> Noise | None:
    """The noise of a circuit, None where nothing in it has a temperature."""
    r, j = noisy(circuit)
    kelvin, neb = circuit.temperature_K, circuit.neb_Hz
    if kelvin is None or not len(r) + len(j):
        return None
    count = 1 if corners is None else corners.count
    r_f = None if corners is None else corners.resistors
    j_f = None if corners is None else corners.junctions
    per_r = (1.0 / circuit.resistors.value[r])[:, None] / (1.0 if r_f is None else r_f.T[r])
    rt = circuit.junctions.rtype[j] == 0
    ohm = np.where(rt, circuit.junctions.rn_ohm[j], circuit.junctions.r0_ohm[j])
    per_j = (1.0 / ohm)[:, None] * (1.0 if j_f is None else j_f.T[j])
    siemens = np.concatenate([np.broadcast_to(g, (len(g), count)) for g in (per_r, per_j)])
    t = np.concatenate([kelvin.resistors[r], kelvin.junctions[j]])
    band = np.zeros(len(t)) if neb is None else np.concatenate([neb.resistors[r], neb.junctions[j]])
    ids = np.arange(count, dtype=np.int64) if corners is None or corners.ids is None else corners.ids
    return Noise(seed, ids, 2.0 * BOLTZMANN_J_K * t[:, None] * siemens, band)


def normals(seed: int, ids: Ints, elements: Ints, first: int, count: int) -> Floats:
    """Standard normals (count, elements, ids) of cells ``first`` on: by counter, four a block of four cells."""
    low, high = first >> 2, (first + count + 3) >> 2
    blocks = np.empty(((high - low) * 4, len(elements), len(ids)))
    ids, elements = np.ascontiguousarray(ids), np.ascontiguousarray(elements)
    library = native.library(1)
    if library is None:
        from sim.sfq.philox import fill_normals  # numba, only where there is no compiler

        fill_normals(np.uint64(seed), ids, elements, low, blocks)
    else:
        native.fill_normals(library, seed, ids, elements, low, high - low, blocks)
    return blocks[first - 4 * low : first - 4 * low + count]
