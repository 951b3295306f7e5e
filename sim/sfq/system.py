"""A circuit and a step to the tables that an engine runs: conductances, places, constants. No time in here.

BDF2 of a branch phase f with step h: ``D f = (3 f - 4 f1 + f2)/2h``, ``c = 2h/3 sigma``, ``q = 4/3 f1 - 1/3 f2``, so
that ``V = sigma D f = (f - q)/c``. Each element is a conductance for phase plus a current made of the past
(docs/sfq.md 1.5, JoSIM's phase mode):

    R   g = 1/(c R)                      past  g q
    C   g = 9 C sigma/(4 h^2)            past  g (8/3 f1 - 22/9 f2 + 8/9 f3 - 1/9 f4)
    L   g = sigma/L, coupled sigma inv(Lmat), Lmat_ij = k sqrt(Li Lj)
    B   g = (G + 3C/2h)/c                past  g q - Ic F(phi0 - PHI) + (2C/h) V1 - (C/2h) V2 - It
    T   g = 1/(c Z), each port           past  g q + E/Z,   E(t) = (V + Z I) of the other port at t - td

E, F, G and H add unknown currents to this positive definite rest: see ``border``.

All values are (elements, corners).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sim.sfq.border import Border, border_of
from sim.sfq.circuit import Circuit, Floats, Ints
from sim.sfq.constants import SIGMA_VS
from sim.sfq.corners import Corners, Scaled
from sim.sfq.layout import Layout, lay_out
from sim.sfq.noise import noisy
from sim.sfq.shapes import Dc, Shape

NOTHING = Dc(0.0)


class Entries(NamedTuple):
    """Matrix entries ``value`` (entries, corners) at (i, j), both places of the state vector."""

    i: Ints
    j: Ints
    value: Floats


@dataclass(frozen=True)
class System:
    """All an engine needs. Names as in kernel.c: a letter for the kind, then places a and b, conductance g.

    ``jg``, ``jcond`` (3, junctions, corners): regions below the gap, across it, above. ``jamp`` is Ic, or
    Ic/tanh(Delta/2kT) with a temperature. Lines have two ports each, one after the other. ``fwave`` and ``ewave`` are
    rows of the table of waveforms, or -1 - k for row k of the corners' own. ``oa``, ``ob``: where own currents flow.
    """

    h: float
    corners: int
    n: int
    row: Ints
    ra: Ints
    rb: Ints
    rg: Floats
    ca: Ints
    cb: Ints
    cg: Floats
    ja: Ints
    jb: Ints
    jg: Floats
    jcond: Floats
    jit: Floats
    jamp: Floats
    c_2h: Floats
    c_h2: Floats
    v_low: Floats
    v_high: Floats
    rtype: Ints
    phi: Floats
    cpr: Floats
    gap: Floats
    transparency: Floats
    ta: Ints
    tb: Ints
    tg: Floats
    t_steps: Ints
    t_frac: Floats
    fa: Ints
    fb: Ints
    fwave: Ints
    fscale: Floats
    ep: Ints
    ec: Ints
    esign: Floats
    ephase: Ints
    ewave: Ints
    escale: Floats
    oa: Ints
    ob: Ints
    static: Entries
    border: Border
    plain: bool

    @property
    def depth(self) -> int:
        """Steps of the past that transmission lines need."""
        return int(self.t_steps.max(initial=0)) + 4


def waves(circuit: Circuit) -> dict[Shape, int]:
    """Each different shape of the circuit and its row in the table of waveforms; the first is 0."""
    table: dict[Shape, int] = {NOTHING: 0}
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


def inverse_inductance(circuit: Circuit, group: Ints, corners: Corners | None = None) -> Floats:
    """``inv(Lmat)`` (corners, group, group) of a coupled group in 1/H.

    Raises DeckError if the couplings are not possible together.
    """
    at = {int(member): x for x, member in enumerate(group)}
    value = _scaled(circuit.inductors.value, None if corners is None else corners.inductors)[group]
    k_all = _scaled(circuit.mutuals.k, None if corners is None else corners.mutuals)
    count = max(value.shape[1], k_all.shape[1])
    root = np.sqrt(np.broadcast_to(value, (len(group), count)))
    shape = np.zeros((count, len(group), len(group)))
    shape[:, range(len(group)), range(len(group))] = 1.0
    for la, lb, k in zip(circuit.mutuals.la.tolist(), circuit.mutuals.lb.tolist(), k_all, strict=True):
        if la in at:
            shape[:, at[la], at[lb]] = shape[:, at[lb], at[la]] = k
    if np.linalg.eigvalsh(shape).min() <= 1e-12:
        names = ", ".join(circuit.inductors.names[m] for m in group)
        raise circuit.error(
            circuit.inductors.names[group[0]], f"couplings of {names} are not possible together",
            "lower their k until the matrix of inductances is positive definite",
        )  # fmt: skip
    return np.asarray(np.linalg.inv(shape) / (root.T[:, :, None] * root.T[:, None, :]))


def build(
    circuit: Circuit, h: float, corners: Corners | None = None, layout: Layout | None = None, round_delay: bool = False
) -> tuple[System, Layout]:
    """The tables of a circuit at step ``h`` (s) for ``corners`` (default one, the circuit as it is).

    ``round_delay`` makes a line's delay a whole number of steps, as JoSIM does; else E is interpolated. Raises
    DeckError for what has no solution.
    """
    groups = coupled_groups(circuit)
    layout = layout or lay_out(circuit, groups)
    s, count = layout.state, 1 if corners is None else corners.count
    factors = corners or Corners(1)
    c = 2.0 * h / (3.0 * SIGMA_VS)

    def fill(value: Floats) -> Floats:
        return np.ascontiguousarray(np.broadcast_to(value, (len(value), count)))

    r, cap, feeds = circuit.resistors, circuit.capacitors, circuit.currents
    rg = fill(1.0 / (c * _scaled(r.value, factors.resistors)))
    cg = fill(2.25 * SIGMA_VS * _scaled(cap.value, factors.capacitors) / h**2)
    lines = _lines(circuit, s, h, round_delay)
    tg = fill(np.repeat(1.0 / (c * circuit.lines.z0_ohm), 2)[:, None])
    table, own = waves(circuit), _own(circuit, factors)
    noise_a, noise_b = _noise_ends(circuit)
    border, pins = border_of(circuit, s, h)
    conductors = [(s[r.a], s[r.b], rg), (s[cap.a], s[cap.b], cg), (lines["ta"], lines["tb"], tg), *pins]
    shared = np.array([k for k, name in enumerate(feeds.names) if name not in factors.shapes], dtype=np.int64)
    apart = np.array([k for k, name in enumerate(feeds.names) if name in factors.shapes], dtype=np.int64)
    j = circuit.junctions
    system = System(
        h=h, corners=count, n=layout.n, row=layout.row, ra=s[r.a], rb=s[r.b], rg=rg, ca=s[cap.a], cb=s[cap.b], cg=cg,
        **_junctions(circuit, s, h, factors, count), **lines, tg=tg, fa=s[feeds.a[shared]], fb=s[feeds.b[shared]],
        fwave=np.array([table[feeds.shapes[k]] for k in shared], dtype=np.int64),
        fscale=fill(_scaled(np.ones(len(feeds)), factors.currents)[shared]),
        **_edges(circuit, layout, table, factors, own, len(noise_a), count),
        oa=s[np.concatenate([feeds.a[apart], noise_a])], ob=s[np.concatenate([feeds.b[apart], noise_b])],
        static=_static(circuit, layout, groups, factors, conductors, count), border=border,
        plain=bool(j.cpr.shape[1] == 1 and (j.cpr == 1.0).all() and not (j.gap > 0).any()),
    )  # fmt: skip
    return system, layout


def _lines(circuit: Circuit, s: Ints, h: float, round_delay: bool) -> dict[str, Any]:
    """Ports of the lines, and their delays as whole steps and a part of one."""
    t = circuit.lines
    steps = t.td_s / h
    near = np.round(steps)
    whole = near if round_delay else np.where(np.abs(steps - near) < 1e-6, near, np.floor(steps))
    return {
        "ta": np.stack([s[t.a], s[t.c]], 1).ravel(), "tb": np.stack([s[t.b], s[t.d]], 1).ravel(),
        "t_steps": np.maximum(whole, 1).astype(np.int64),
        "t_frac": np.zeros(len(t)) if round_delay else np.clip(np.where(whole >= 1, steps - whole, 0.0), 0.0, 1.0),
    }  # fmt: skip


def _scaled(value: Floats, factors: Floats | None) -> Floats:
    """(elements, 1) or (elements, corners)."""
    return value[:, None] if factors is None else value[:, None] * factors.T


def _own(circuit: Circuit, corners: Corners) -> list[str]:
    """Names of the sources with a shape a corner: current sources first, in the circuit's order. Their rows of the own
    table are those of the current sources, then the noise, then the others."""
    names = (*circuit.currents.names, *circuit.voltages.names, *circuit.phases.names)
    return [n for n in names if n in corners.shapes]


def own_shapes(circuit: Circuit, corners: Corners) -> list[tuple[Shape, ...]]:
    """The shapes behind the rows of the own table, one a corner; factors of current sources are in them."""
    rows = []
    for name in _own(circuit, corners):
        shapes = tuple(corners.shapes[name])
        if corners.currents is not None and name in circuit.currents.names:
            factors = corners.currents[:, circuit.currents.names.index(name)]
            shapes = tuple(Scaled(s, float(f)) for s, f in zip(shapes, factors, strict=True))
        rows.append(shapes)
    return rows


def _noise_ends(circuit: Circuit) -> tuple[Ints, Ints]:
    """Nodes between which noise currents flow, in the order of :mod:`sim.sfq.noise`."""
    r, j = noisy(circuit)
    a = np.concatenate([circuit.resistors.a[r], circuit.junctions.a[j]])
    return a, np.concatenate([circuit.resistors.b[r], circuit.junctions.b[j]])


def _junctions(circuit: Circuit, state: Ints, h: float, corners: Corners, count: int) -> dict[str, Any]:
    j = circuit.junctions
    area = np.ones((len(j), 1)) if corners.junctions is None else corners.junctions.T
    area = np.broadcast_to(area, (len(j), count))
    ic, cap = j.ic_A[:, None] * area, j.c_F[:, None] * area
    v_low = j.vg_V - 0.5 * j.delv_V
    across = ic / (j.icfct * j.delv_V)[:, None]
    cond = np.stack([area / j.r0_ohm[:, None], across, area / j.rn_ohm[:, None]])
    thermal = j.gap > 0
    amp = np.where(thermal, 1.0 / np.tanh(np.where(thermal, j.gap, 1.0)), 1.0)[:, None] * ic
    return {
        "ja": state[j.a], "jb": state[j.b], "jcond": cond, "jg": (1.5 * SIGMA_VS / h) * (cond + 1.5 * cap / h),
        "jit": v_low[:, None] * (cond[0] - across), "jamp": amp, "c_2h": 2.0 * cap / h, "c_h2": 0.5 * cap / h,
        "v_low": np.where(j.rtype == 1, v_low, np.inf), "v_high": j.vg_V + 0.5 * j.delv_V, "rtype": j.rtype,
        "phi": j.phi_rad, "cpr": j.cpr, "gap": j.gap, "transparency": j.transparency,
    }  # fmt: skip


def _edges(
    circuit: Circuit, layout: Layout, table: dict[Shape, int], corners: Corners, own: list[str], noises: int, count: int
) -> dict[str, Any]:
    ep, ec, sign, phase, wave = [], [], [], [], []
    scale = np.ones((len(layout.edges), count))
    for k, e in enumerate(layout.edges):
        ep.append(layout.state[e.parent])
        ec.append(layout.state[e.child])
        sign.append(float(e.sign))
        phase.append(int(e.phase))
        if e.index < 0:
            wave.append(0)
            continue
        sources = circuit.phases if e.phase else circuit.voltages
        factors = corners.phases if e.phase else corners.voltages
        name = sources.names[e.index]
        wave.append(-1 - noises - own.index(name) if name in corners.shapes else table[sources.shapes[e.index]])
        if factors is not None:
            scale[k] = factors[:, e.index]
    ints = {n: np.array(v, dtype=np.int64) for n, v in (("ep", ep), ("ec", ec), ("ephase", phase), ("ewave", wave))}
    return {**ints, "esign": np.array(sign), "escale": scale}


def _static(
    circuit: Circuit, layout: Layout, groups: list[Ints], corners: Corners,
    conductors: list[tuple[Ints, Ints, Floats]], count: int,
) -> Entries:  # fmt: skip
    """R, C, T and L as entries; a branch of conductance g is +g at (a,a), (b,b) and -g at (a,b), (b,a)."""
    s, coils = layout.state, circuit.inductors
    alone = np.ones(len(coils), dtype=bool)
    pieces = [(a, b, a, b, g) for a, b, g in conductors]
    for group in groups:
        alone[group] = False
        gamma = SIGMA_VS * inverse_inductance(circuit, group, corners)
        x, y = (m.ravel() for m in np.meshgrid(group, group, indexing="ij"))
        flat = gamma.reshape(len(gamma), -1).T
        pieces.append((s[coils.a[x]], s[coils.b[x]], s[coils.a[y]], s[coils.b[y]], flat))
    a, b = s[coils.a[alone]], s[coils.b[alone]]
    pieces.append((a, b, a, b, SIGMA_VS / _scaled(coils.value, corners.inductors)[alone]))
    i = np.concatenate([np.concatenate([a, b, a, b]) for a, b, _, _, _ in pieces])
    j = np.concatenate([np.concatenate([x, y, y, x]) for _, _, x, y, _ in pieces])
    wide = [np.broadcast_to(g, (len(g), count)) for *_, g in pieces]
    value = np.concatenate([np.concatenate([g, g, -g, -g]) for g in wide])
    keep = (i != layout.ground) & (j != layout.ground)
    return Entries(i[keep], j[keep], value[keep])
