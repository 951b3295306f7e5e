"""The transient law, readable: dense matrices, one step after the other. The spec that the fast engine is tested on.

One step at time t = i h (docs/sfq.md 1.5, JoSIM's phase mode; no Newton iteration):

 1. predict, per junction, from the past: ``v0 = 5/2 V1 - 2 V2 + 1/2 V3``, ``phi0 = 4/3 f1 - 1/3 f2 + (2h/3 sigma) v0``
 2. stop if ``|phi0 - f1| > 0.4 pi`` anywhere after the first 1 %; choose each region by ``|v0|``
 3. gather the past of every branch and the sources into node currents b
 4. phases of V and P sources; solve ``P^T A P u = P^T (b - A s)``, node phases ``f = P u + s``
 5. voltages ``V = (3 sigma/2h)(f - 4/3 f1 + 1/3 f2)`` (kept 0 while settling, i < 0), slips, work
"""

from __future__ import annotations

import numpy as np

from sim.sfq.circuit import Floats, Ints
from sim.sfq.constants import SIGMA_VS
from sim.sfq.layout import Layout
from sim.sfq.state import DONE, GUARD_RAD, NOT_SPD, STEP_TOO_LARGE, Events, State, Watch
from sim.sfq.system import Entries, Jj, System


def engine(system: System, layout: Layout, watch: Watch) -> Reference:
    """The reference as an engine for ``transient``; it needs no pattern."""
    del layout
    return Reference(system, watch)


def supercurrent(jj: Jj, phi0: Floats) -> Floats:
    """``Ic F(x)``, ``x = phi0 - PHI``; with a temperature ``amp F(x)/q tanh(q gap)``, ``q^2 = 1 - D F(x/2)^2``."""
    x = phi0 - jj.phi
    order = np.arange(1, jj.cpr.shape[1] + 1)
    wave = (jj.cpr * np.sin(np.outer(x, order))).sum(axis=1)
    half = (jj.cpr * np.sin(np.outer(x / 2, order))).sum(axis=1)
    q = np.sqrt(1.0 - jj.transparency * half**2)
    current: Floats = jj.amp_A * wave * np.where(jj.gap > 0, np.tanh(q * jj.gap) / q, 1.0)
    return current


def regions(jj: Jj, v0: Floats) -> Ints:
    """0 below the gap, 1 across it, 2 above; always 0 for RTYPE 0, whose R0 is RN."""
    v = np.abs(v0)
    return np.where(jj.rtype == 0, 0, np.where(v < jj.v_low, 0, np.where(v < jj.v_high, 1, 2))).astype(np.int64)


class Reference:
    """An ``Advance`` for one system; the state is the caller's."""

    def __init__(self, system: System, watch: Watch) -> None:
        self.system, self.watch = system, watch
        places = len(system.row)
        self.projection = np.zeros((places, system.n + 1))
        self.projection[np.arange(places), system.row] = 1.0
        self.projection = self.projection[:, : system.n]
        self.fixed = dense(system.static, places)
        self.known: dict[bytes, tuple[Floats, Floats]] = {}

    def __call__(
        self, state: State, drive: Floats, first: int, guard_from: float, record: Floats, events: Events
    ) -> tuple[int, int]:
        for step in range(len(record)):
            if events.filled[0] + len(state.turns) > len(events.jj):
                return step, DONE
            status = self.step(state, drive[:, step], first + step, guard_from, record[step], events)
            if status != DONE:
                return step, status
        return len(record), DONE

    def matrices(self, region: Ints) -> tuple[Floats, Floats]:
        """A over all places and the inverse of P^T A P, for these regions of the junctions."""
        key = region.tobytes()
        if key not in self.known:
            jj = self.system.jj
            g = jj.g[region, np.arange(len(region))]
            i, j = np.concatenate([jj.a, jj.b, jj.a, jj.b]), np.concatenate([jj.a, jj.b, jj.b, jj.a])
            full = self.fixed + dense(Entries(i, j, np.concatenate([g, g, -g, -g])), len(self.fixed))
            inner = self.projection.T @ full @ self.projection
            inverse = np.asarray(np.linalg.inv(inner), dtype=np.float64)
            self.known = {key: (full, inverse)}
        return self.known[key]

    def step(self, st: State, drive: Floats, i: int, guard_from: float, record: Floats, events: Events) -> int:
        """One step of the law; see the module."""
        sy, jj, c = self.system, self.system.jj, 2.0 * self.system.h / (3.0 * SIGMA_VS)
        past = (4.0 / 3.0) * st.jj_p[0] - (1.0 / 3.0) * st.jj_p[1]
        v0 = 2.5 * st.jj_v[0] - 2.0 * st.jj_v[1] + 0.5 * st.jj_v[2]
        phi0 = past + c * v0
        if i > guard_from and (np.abs(phi0 - st.jj_p[0]) > GUARD_RAD).any():
            return STEP_TOO_LARGE
        st.region[:] = regions(jj, v0)
        at = np.arange(len(past))
        it = np.where(st.region == 1, np.where(v0 < 0, -jj.it_A, jj.it_A), 0.0)
        rest = supercurrent(jj, phi0) - jj.c_2h * st.jj_v[0] + jj.c_h2 * st.jj_v[1] + it
        b = np.zeros(len(sy.row))
        inject(b, jj.a, jj.b, jj.g[st.region, at] * past - rest)
        past_r = (4.0 / 3.0) * st.r_p[0] - (1.0 / 3.0) * st.r_p[1]
        inject(b, sy.r.a, sy.r.b, sy.r.g * past_r)
        p = st.c_p
        inject(b, sy.c.a, sy.c.b, sy.c.g * (8 / 3 * p[0] - 22 / 9 * p[1] + 8 / 9 * p[2] - 1 / 9 * p[3]))
        feed = drive[sy.feeds.wave]
        inject(b, sy.feeds.a, sy.feeds.b, -feed)
        try:
            source, source_i = self.solve(st, b, drive)
        except np.linalg.LinAlgError:
            return NOT_SPD
        voltage = (branch(st.f, jj.a, jj.b) - past) / c
        current = jj.g[st.region, at] * c * voltage + rest
        v_r = (branch(st.f, sy.r.a, sy.r.b) - past_r) / c
        quasi = voltage * (jj.cond[st.region, at] * voltage + it)
        self.account(st, i, feed, source, source_i, float((sy.r.g * c * v_r**2).sum()), float(quasi.sum()))
        self.slips(st, i, branch(st.f, jj.a, jj.b), events)
        shift(st.jj_v, voltage if i >= 0 else np.zeros_like(voltage))
        shift(st.r_p, branch(st.f, sy.r.a, sy.r.b))
        shift(st.c_p, branch(st.f, sy.c.a, sy.c.b))
        record[:] = np.concatenate([st.f[self.watch.nodes], current[self.watch.jj], source_i[self.watch.edges]])
        return DONE

    def solve(self, st: State, b: Floats, drive: Floats) -> tuple[Floats, Floats]:
        """Node phases into ``st.f``; the sources' own phases (rad) and the current each gives to its child (A)."""
        e, c = self.system.edges, 2.0 * self.system.h / (3.0 * SIGMA_VS)
        given = drive[e.wave]
        source = np.where(e.phase == 1, given, c * given + (4.0 / 3.0) * st.source[0] - (1.0 / 3.0) * st.source[1])
        offset = np.zeros(len(st.f))
        for k, (parent, child) in enumerate(zip(e.parent, e.child, strict=True)):
            offset[child] = offset[parent] + e.sign[k] * source[k]
        full, inverse = self.matrices(st.region)
        st.f[:] = self.projection @ (inverse @ (self.projection.T @ (b - full @ offset))) + offset
        need = full @ st.f - b
        for parent, child in reversed(list(zip(e.parent, e.child, strict=True))):
            need[parent] += need[child]
        return source, need[e.child]

    def account(
        self, st: State, i: int, feed: Floats, source: Floats, source_i: Floats, v2_r: float, quasi: float
    ) -> None:
        """Work since the step before, from step 1 on: ``I sigma df`` of the sources (mean I), ``V^2/R h`` else."""
        sy = self.system
        feed_p = branch(st.f, sy.feeds.b, sy.feeds.a)
        if i > 0:
            st.work_J[0] += SIGMA_VS * (0.5 * (feed + st.last_feed_i) * (feed_p - st.last_feed_p)).sum()
            moved = sy.edges.sign * (source - st.source[0])
            st.work_J[1] += SIGMA_VS * (0.5 * (source_i + st.last_source_i) * moved).sum()
            st.work_J[2] += v2_r * sy.h
            st.work_J[3] += quasi * sy.h
        st.last_feed_p[:], st.last_feed_i[:], st.last_source_i[:] = feed_p, feed, source_i
        shift(st.source, source)

    def slips(self, st: State, i: int, phase: Floats, events: Events) -> None:
        """A slip is a change of ``floor((f - PHI)/2pi + 1/2)``; its time is where f crosses, by a straight line."""
        x, before = phase - self.system.jj.phi, st.jj_p[0] - self.system.jj.phi
        turns = np.floor(x / (2 * np.pi) + 0.5).astype(np.int64)
        for j in np.flatnonzero(turns != st.turns) if i >= 0 else ():
            edge = (2 * max(turns[j], st.turns[j]) - 1) * np.pi
            part = (edge - before[j]) / (x[j] - before[j])
            k = int(events.filled[0])
            events.jj[k], events.time[k] = j, (i - 1 + part) * self.system.h
            events.turns[k] = turns[j] - st.turns[j]
            events.filled[0] += 1
            st.slips[j] += abs(turns[j] - st.turns[j])
        st.turns[:] = turns
        shift(st.jj_p, phase)


def branch(f: Floats, a: Ints, b: Ints) -> Floats:
    """Branch phases ``f[a] - f[b]``."""
    return f[a] - f[b]


def inject(b: Floats, into: Ints, out_of: Ints, current: Floats) -> None:
    """Add branch currents to the node currents."""
    np.add.at(b, into, current)
    np.subtract.at(b, out_of, current)


def shift(past: Floats, newest: Floats) -> None:
    """One step older; row 0 is the newest."""
    past[1:] = past[:-1].copy()
    past[:1] = newest


def dense(entries: Entries, size: int) -> Floats:
    """A dense matrix of the entries; ground's row and column (the last) stay 0."""
    matrix = np.zeros((size, size))
    np.add.at(matrix, (entries.i, entries.j), entries.value)
    matrix[-1, :] = matrix[:, -1] = 0.0
    return matrix
