"""The DC operating point: where a circuit rests with its sources as they stand at t = 0.

Nothing moves, but for the phases of parts that a voltage source holds at a voltage. Two steps:

 1. voltages: parts joined by L, B and P are at one voltage; the voltages of the parts follow from R, V, I, E, F, G, H
    and T (a wire), capacitors open: one linear system, least squares where a part has no voltage of its own
 2. phases: ``sum Ic F(phi - PHI) + sigma f/L = I`` with the currents of 1, by Newton's method, the currents raised in
    RAMP steps

A junction with more current than it can carry has no such rest, and its corner starts with all phases 0 instead.
All corners are solved together, and none waits for or disturbs another. Source: docs/sfq.md 1.6 and 6.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sim.sfq.circuit import Circuit, Floats, Ints
from sim.sfq.constants import SIGMA_VS
from sim.sfq.corners import Corners
from sim.sfq.layout import Layout
from sim.sfq.ldl import factor, solve
from sim.sfq.state import FIT, State, start
from sim.sfq.system import System, coupled_groups, inverse_inductance

Bools: TypeAlias = NDArray[np.bool_]

RAMP = 10
ITERATIONS = 40
TOLERANCE = 1e-10
"""Phase change (rad) of the last iteration."""

TIE = 1e-12
"""Share of the smallest stiffness that ties phases which nothing holds."""


def at_rest(
    circuit: Circuit, system: System, layout: Layout, now: Floats, corners: Corners | None
) -> tuple[State, Bools]:
    """The state before t = 0 at the operating point for source values ``now`` (sources of I, V, P; corners).

    Also which corners have one; the others start from rest.
    """
    state = start(system)
    if not now.any():
        return state, np.ones(now.shape[1], dtype=bool)
    volts, inject, ports = _voltages(circuit, system, now, corners)
    with np.errstate(all="ignore"):
        phase, good = _phases(circuit, system, layout, inject, now, corners)
    turn = system.h / SIGMA_VS
    place_v = np.zeros_like(state.f[0])
    place_v[layout.state] = np.where(good, volts, 0.0)
    for k in range(FIT):
        state.f[k] = phase - (k + 1) * turn * place_v
        for e, edge in enumerate(layout.edges):
            if edge.index >= 0:
                offset = len(circuit.currents) + (len(circuit.voltages) if edge.phase else 0)
                value = now[offset + edge.index]
                state.source[k, e] = np.where(good, value if edge.phase else -(k + 1) * turn * value, 0.0)
    state.jp[:] = state.f[0, system.ja] - state.f[0, system.jb]
    state.turns[:] = np.floor((state.jp - system.phi[:, None]) / (2 * np.pi) + 0.5)
    state.tw[:] = np.where(good, ports, 0.0)
    return state, good


def _parts(circuit: Circuit) -> Ints:
    """A number for each node: nodes that L, B and P sources join have one; ground's part is 0."""
    parent = list(range(len(circuit.nodes)))

    def root(v: int) -> int:
        while parent[v] != v:
            parent[v] = parent[parent[v]]
            v = parent[v]
        return v

    for group in (circuit.inductors, circuit.junctions, circuit.phases):
        for a, b in zip(group.a.tolist(), group.b.tolist(), strict=True):
            low, high = sorted((root(a), root(b)))
            parent[high] = low
    _, numbers = np.unique([root(v) for v in range(len(parent))], return_inverse=True)
    return np.asarray(numbers, dtype=np.int64)


def _voltages(circuit: Circuit, system: System, now: Floats, corners: Corners | None) -> tuple[Floats, Floats, Floats]:
    """Voltages of nodes, currents into nodes from all that is resistive or a source, and V + Z I of line ports."""
    part, count = _parts(circuit), now.shape[1]
    feeds = now[: len(circuit.currents)]
    inject = np.zeros((len(circuit.nodes), count))
    np.add.at(inject, circuit.currents.b, feeds)
    np.subtract.at(inject, circuit.currents.a, feeds)
    ports = np.zeros((len(system.ta), count))
    loose = np.zeros((int(part.max()) + 1, count))
    np.add.at(loose, part, inject)
    held = now[len(circuit.currents) : len(circuit.currents) + len(circuit.voltages)]
    if not held.any() and not loose[1:].any():
        return np.zeros((len(circuit.nodes), count)), inject, ports
    volts = np.zeros((len(circuit.nodes), count))
    for w in range(count):
        scale = (
            np.ones(len(circuit.resistors)) if corners is None or corners.resistors is None else corners.resistors[w]
        )
        volts[:, w], more, ports[:, w] = _network(
            circuit, part, loose[:, w], held[:, w], circuit.resistors.value * scale
        )
        inject[:, w] += more
    return volts, inject, ports


def _network(circuit: Circuit, part: Ints, loose: Floats, held: Floats, ohm: Floats) -> tuple[Floats, Floats, Floats]:
    """One corner: node voltages, currents into nodes from R, V, E, F, G, H and T, and V + Z I of line ports."""
    r, v, x, t = circuit.resistors, circuit.voltages, circuit.controlled, circuit.lines
    n = int(part.max()) + 1
    pairs = ((v.a, v.b), (x.a, x.b), (x.ca, x.cb), (t.a, t.b), (t.c, t.d))
    ends = [end for a, b in pairs for end in zip(a.tolist(), b.tolist(), strict=True)]
    a = np.zeros((n + len(ends), n + len(ends)))
    right = np.concatenate([loose, np.zeros(len(ends))])
    for p, q, g in zip(part[r.a], part[r.b], 1.0 / ohm, strict=True):
        a[p, p] += g
        a[q, q] += g
        a[p, q] -= g
        a[q, p] -= g
    for k, (p, q) in enumerate(ends):
        a[part[p], n + k] += 1.0
        a[part[q], n + k] -= 1.0
    nv, nx, nt = len(v), len(x), len(t)

    def across(row: int, p: int, q: int, gain: float) -> None:
        a[row, part[p]] += gain
        a[row, part[q]] -= gain

    for k in range(nv):
        across(n + k, v.a[k], v.b[k], 1.0)
        right[n + k] = held[k]
    for k, kind in enumerate(x.kinds):
        own, sense = n + nv + k, n + nv + nx + k
        if kind in "FH":
            across(sense, x.ca[k], x.cb[k], 1.0)
        else:
            a[sense, sense] = 1.0
        if kind in "EH":
            across(own, x.a[k], x.b[k], 1.0)
        else:
            a[own, own] = 1.0
        if kind in "EG":
            across(own, x.ca[k], x.cb[k], -x.gain[k])
        else:
            a[own, sense] -= x.gain[k]
    for k in range(nt):
        one, two = n + nv + 2 * nx + k, n + nv + 2 * nx + nt + k
        across(one, t.a[k], t.b[k], 1.0)
        across(one, t.c[k], t.d[k], -1.0)
        a[two, one] = a[two, two] = 1.0
    a[0], right[0] = 0.0, 0.0
    a[0, 0] = 1.0
    found = np.linalg.lstsq(a, right, rcond=1e-13)[0]
    volts, flow = found[:n][part], found[n:]
    inject = np.zeros(len(part))
    i = (volts[r.a] - volts[r.b]) / ohm
    np.subtract.at(inject, r.a, i)
    np.add.at(inject, r.b, i)
    for k, (p, q) in enumerate(ends):
        inject[p] -= flow[k]
        inject[q] += flow[k]
    first = flow[nv + 2 * nx : nv + 2 * nx + nt]
    port = volts[t.a] - volts[t.b]
    waves = np.stack([port + t.z0_ohm * first, port - t.z0_ohm * first], 1).ravel()
    return volts, inject, waves


def _phases(
    circuit: Circuit, system: System, layout: Layout, inject: Floats, now: Floats, corners: Corners | None
) -> tuple[Floats, Bools]:
    """Phases of all places (places, corners), and which corners came to rest; the others' are 0."""
    n, pattern, count = system.n, layout.pattern, now.shape[1]
    places = len(system.row)
    i, j, value = _stiffness(circuit, layout, corners, count)
    offset = np.zeros((places, count))
    for k, edge in enumerate(layout.edges):
        given = (
            now[len(circuit.currents) + len(circuit.voltages) + edge.index] if edge.phase and edge.index >= 0 else 0.0
        )
        offset[system.ec[k]] = offset[system.ep[k]] + system.esign[k] * given
    row_i, row_j = system.row[i], system.row[j]
    a, b = system.row[system.ja], system.row[system.jb]
    inside = (row_i >= row_j) & (row_i < n)
    slots = pattern.slots(row_i[inside], row_j[inside])
    jslots = [pattern.slots(a, a), pattern.slots(b, b), pattern.slots(a, b)]
    tie = TIE * min((float(v) for v in np.abs(value[value != 0])), default=1.0)
    target = np.zeros((places, count))
    target[layout.state] = inject
    f = offset.copy()
    good = np.ones(count, dtype=bool)
    for part in (np.arange(1, RAMP + 1) / RAMP) if np.abs(target).any() else (1.0,):
        active = good.copy()
        for _ in range(ITERATIONS):
            x = f[system.ja] - f[system.jb] - system.phi[:, None]
            current, slope = _curve(system, x)
            force = part * target
            np.add.at(force, i, -value * f[j])
            np.subtract.at(force, system.ja, current)
            np.add.at(force, system.jb, current)
            short = np.zeros((n + 1, count))
            np.add.at(short, system.row, force)
            short[:n] -= tie * f[:n]
            matrix = np.zeros((pattern.waste + 1, count))
            matrix[:n] += tie
            np.add.at(matrix, slots, value[inside])
            for where, sign in zip(jslots, (1.0, 1.0, -1.0), strict=True):
                np.add.at(matrix, where, sign * slope * (a != b)[:, None])
            move = solve(pattern, factor(pattern, matrix, definite=False), short[:n])
            move = np.where(active, np.clip(np.concatenate([move, np.zeros((1, count))]), -1.0, 1.0), 0.0)
            f = f + move[system.row]
            moved = np.abs(move).max(axis=0, initial=0.0)
            good &= np.isfinite(moved)
            active &= (moved >= TOLERANCE) & good
            if not active.any():
                break
        good &= ~active
    return np.where(good, f, 0.0), good


def _curve(system: System, x: Floats) -> tuple[Floats, Floats]:
    """``Ic F(x)`` and its slope by x."""

    def current(x: Floats) -> Floats:
        order = np.arange(1, system.cpr.shape[1] + 1)[:, None, None]
        weight = system.cpr.T[:, :, None]
        wave = (weight * np.sin(order * x)).sum(axis=0)
        half = (weight * np.sin(order * x / 2)).sum(axis=0)
        q = np.sqrt(1.0 - system.transparency[:, None] * half**2)
        gap = system.gap[:, None]
        return np.asarray(system.jamp * wave * np.where(gap > 0, np.tanh(q * gap) / q, 1.0))

    return current(x), (current(x + 1e-6) - current(x - 1e-6)) / 2e-6


def _stiffness(circuit: Circuit, layout: Layout, corners: Corners | None, count: int) -> tuple[Ints, Ints, Floats]:
    """``sigma/L`` as entries between places, couplings included; ground is left out of columns."""
    s, coils = layout.state, circuit.inductors
    groups = coupled_groups(circuit)
    alone = np.ones(len(coils), dtype=bool)
    pieces = []
    for group in groups:
        alone[group] = False
        gamma = SIGMA_VS * inverse_inductance(circuit, group, corners)
        x, y = (m.ravel() for m in np.meshgrid(group, group, indexing="ij"))
        pieces.append((s[coils.a[x]], s[coils.b[x]], s[coils.a[y]], s[coils.b[y]], gamma.reshape(len(gamma), -1).T))
    scale = np.ones((len(coils), 1)) if corners is None or corners.inductors is None else corners.inductors.T
    g = SIGMA_VS / (coils.value[:, None] * scale)[alone]
    a, b = s[coils.a[alone]], s[coils.b[alone]]
    pieces.append((a, b, a, b, g))
    i = np.concatenate([np.concatenate([a, b, a, b]) for a, b, _, _, _ in pieces])
    j = np.concatenate([np.concatenate([x, y, y, x]) for _, _, x, y, _ in pieces])
    value = np.concatenate(
        [np.concatenate([g, g, -g, -g]) for g in (np.broadcast_to(p[4], (len(p[4]), count)) for p in pieces)]
    )
    return i, j, value


def given(circuit: Circuit, system: System) -> State:
    """A state with the junctions' own initial phases and voltages (``ic=`` and UIC).

    Node phases are those nearest to 0 (least squares) that give the junctions theirs.
    """
    state = start(system)
    n = len(circuit.junctions)
    rad = np.zeros(n) if circuit.start_rad is None else np.nan_to_num(circuit.start_rad)
    volt = np.zeros(n) if circuit.start_V is None else np.nan_to_num(circuit.start_V)
    ends = np.zeros((n, system.n + 1))
    at = np.arange(n)
    np.add.at(ends, (at, system.row[system.ja]), 1.0)
    np.subtract.at(ends, (at, system.row[system.jb]), 1.0)
    for k in range(FIT):
        wanted = rad - (k + 1) * system.h / SIGMA_VS * volt
        found = np.append(np.linalg.lstsq(ends[:, : system.n], wanted, rcond=None)[0], 0.0)
        state.f[k, :, 0] = found[system.row]
    state.jp[:, 0] = state.f[0, system.ja, 0] - state.f[0, system.jb, 0]
    state.jv[:, :, 0] = volt
    state.turns[:, 0] = np.floor((state.jp[:, 0] - system.phi) / (2 * np.pi) + 0.5)
    return state
