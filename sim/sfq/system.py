"""A circuit and a step to the tables that an engine runs: conductances, places, constants. No time in here.

BDF2 of a branch phase f with step h: ``D f = (3 f - 4 f1 + f2)/2h``. Each element is then a conductance for phase
plus a current made of the past (docs/sfq.md 1.5, JoSIM's phase mode):

    R   g = 3 sigma/(2 h R)              past  g (4/3 f1 - 1/3 f2)
    C   g = 9 C sigma/(4 h^2)            past  g (8/3 f1 - 22/9 f2 + 8/9 f3 - 1/9 f4)
    L   g = sigma/L, coupled sigma inv(Lmat), Lmat_ij = k sqrt(Li Lj)
    B   g = (3 sigma/2h)(G + 3C/2h)      past  g (4/3 f1 - 1/3 f2) - Ic F(phi0 - PHI) + (2C/h) V1 - (C/2h) V2 - It
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim.sfq.circuit import Circuit, Floats, Ints, Junctions
from sim.sfq.constants import SIGMA_VS
from sim.sfq.layout import Layout, lay_out
from sim.sfq.shapes import Shape


class Two(NamedTuple):
    """Branches of one kind: places of both ends and the phase conductance (A/rad)."""

    a: Ints
    b: Ints
    g: Floats


class Jj(NamedTuple):
    """Junctions. Rows of ``g`` (A/rad) and ``cond`` (S) are the regions: below the gap, across it, above.

    ``it_A`` is the current offset across the gap; ``amp_A`` is Ic, or Ic/tanh(Delta/2kT) with a temperature.
    """

    a: Ints
    b: Ints
    g: Floats
    cond: Floats
    it_A: Floats
    v_low: Floats
    v_high: Floats
    rtype: Ints
    amp_A: Floats
    phi: Floats
    c_2h: Floats
    c_h2: Floats
    cpr: Floats
    gap: Floats
    transparency: Floats
    plain: bool


class Feeds(NamedTuple):
    """Current sources: places, and which waveform each follows."""

    a: Ints
    b: Ints
    wave: Ints


class Edges(NamedTuple):
    """Voltage and phase sources, parents first; places, +1 where the child is N+, and the waveform."""

    parent: Ints
    child: Ints
    sign: Floats
    phase: Ints
    wave: Ints


class Entries(NamedTuple):
    """Matrix entries ``value`` at (i, j), both places of the state vector."""

    i: Ints
    j: Ints
    value: Floats


class System(NamedTuple):
    """All an engine needs. ``static`` is R, C and L as entries between state places, ground left out."""

    h: float
    n: int
    row: Ints
    r: Two
    c: Two
    jj: Jj
    feeds: Feeds
    edges: Edges
    static: Entries


def waves(circuit: Circuit) -> dict[Shape, int]:
    """Each different shape of the circuit and its row in the table of waveforms."""
    table: dict[Shape, int] = {}
    for sources in (circuit.currents, circuit.voltages, circuit.phases):
        for shape in sources.shapes:
            table.setdefault(shape, len(table))
    return table


def coupled_groups(circuit: Circuit) -> list[Ints]:
    """Inductors that mutuals tie together, as sorted arrays of indices."""
    group: dict[int, set[int]] = {}
    for a, b in zip(circuit.mutuals.la.tolist(), circuit.mutuals.lb.tolist(), strict=True):
        joined = group.get(a, {a}) | group.get(b, {b})
        for member in joined:
            group[member] = joined
    sets = {min(g): g for g in group.values()}
    return [np.array(sorted(sets[key]), dtype=np.int64) for key in sorted(sets)]


def inverse_inductance(circuit: Circuit, group: Ints) -> Floats:
    """``inv(Lmat)`` of a coupled group in 1/H. Raises DeckError if the couplings are not possible together."""
    at = {int(member): x for x, member in enumerate(group)}
    value = circuit.inductors.value[group]
    matrix = np.diag(value)
    for la, lb, k in zip(circuit.mutuals.la, circuit.mutuals.lb, circuit.mutuals.k, strict=True):
        if int(la) in at:
            x, y = at[int(la)], at[int(lb)]
            matrix[x, y] = matrix[y, x] = k * np.sqrt(value[x] * value[y])
    scale = np.sqrt(value)
    if np.linalg.eigvalsh(matrix / np.outer(scale, scale)).min() <= 1e-12:
        names = ", ".join(circuit.inductors.names[m] for m in group)
        raise circuit.error(
            circuit.inductors.names[group[0]], f"couplings of {names} are not possible together",
            "lower their k until the matrix of inductances is positive definite",
        )  # fmt: skip
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def build(circuit: Circuit, h: float) -> tuple[System, Layout]:
    """The tables of a circuit at step ``h`` (s). Raises DeckError for what has no solution."""
    groups = coupled_groups(circuit)
    layout = lay_out(circuit, groups)
    s = layout.state
    r = Two(s[circuit.resistors.a], s[circuit.resistors.b], 1.5 * SIGMA_VS / (h * circuit.resistors.value))
    c = Two(s[circuit.capacitors.a], s[circuit.capacitors.b], 2.25 * SIGMA_VS * circuit.capacitors.value / h**2)
    table = waves(circuit)
    feeds = circuit.currents
    system = System(
        h, layout.n, layout.row, r, c, _junctions(circuit.junctions, s, h),
        Feeds(s[feeds.a], s[feeds.b], np.array([table[x] for x in feeds.shapes], dtype=np.int64)),
        _edges(circuit, layout, table), _static(circuit, layout, groups, r, c),
    )  # fmt: skip
    return system, layout


def _junctions(j: Junctions, state: Ints, h: float) -> Jj:
    v_low = j.vg_V - 0.5 * j.delv_V
    across = j.ic_A / (j.icfct * j.delv_V)
    cond = np.stack([1.0 / j.r0_ohm, across, 1.0 / j.rn_ohm])
    thermal = j.gap > 0
    amp = np.where(thermal, j.ic_A / np.tanh(np.where(thermal, j.gap, 1.0)), j.ic_A)
    plain = bool(j.cpr.shape[1] == 1 and (j.cpr == 1.0).all() and not thermal.any())
    return Jj(
        state[j.a], state[j.b], (1.5 * SIGMA_VS / h) * (cond + 1.5 * j.c_F / h), cond, v_low * (cond[0] - across),
        v_low, j.vg_V + 0.5 * j.delv_V, j.rtype, amp, j.phi_rad, 2.0 * j.c_F / h, 0.5 * j.c_F / h,
        j.cpr, j.gap, j.transparency, plain,
    )  # fmt: skip


def _edges(circuit: Circuit, layout: Layout, table: dict[Shape, int]) -> Edges:
    rows = [
        (layout.state[e.parent], layout.state[e.child], e.phase,
         table[(circuit.phases if e.phase else circuit.voltages).shapes[e.index]])
        for e in layout.edges
    ]  # fmt: skip
    columns = np.array(rows, dtype=np.int64).reshape(len(rows), 4).T.copy()
    sign = np.array([e.sign for e in layout.edges], dtype=np.float64)
    return Edges(columns[0], columns[1], sign, columns[2], columns[3])


def _static(circuit: Circuit, layout: Layout, groups: list[Ints], r: Two, c: Two) -> Entries:
    """R, C and L as entries; a branch of conductance g is +g at (a,a), (b,b) and -g at (a,b), (b,a)."""
    s, coils = layout.state, circuit.inductors
    alone = np.ones(len(coils), dtype=bool)
    pieces = [(r.a, r.b, r.a, r.b, r.g), (c.a, c.b, c.a, c.b, c.g)]
    for group in groups:
        alone[group] = False
        gamma = SIGMA_VS * inverse_inductance(circuit, group)
        x, y = (m.ravel() for m in np.meshgrid(group, group, indexing="ij"))
        pieces.append((s[coils.a[x]], s[coils.b[x]], s[coils.a[y]], s[coils.b[y]], gamma.ravel()))
    a, b = s[coils.a[alone]], s[coils.b[alone]]
    pieces.append((a, b, a, b, SIGMA_VS / coils.value[alone]))
    i = np.concatenate([np.concatenate([a, b, a, b]) for a, b, _, _, _ in pieces])
    j = np.concatenate([np.concatenate([x, y, y, x]) for _, _, x, y, _ in pieces])
    value = np.concatenate([np.concatenate([g, g, -g, -g]) for *_, g in pieces])
    keep = (i != layout.ground) & (j != layout.ground)
    return Entries(i[keep], j[keep], value[keep])
