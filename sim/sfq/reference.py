"""The transient law, readable: dense matrices, one step after the other. The spec that the fast engines are tested on.

One step at time t = i h (docs/sfq.md 1.5, JoSIM's phase mode; no Newton iteration), ``c = 2h/3 sigma``:

 1. predict, per junction, from the past: ``v0 = 5/2 V1 - 2 V2 + 1/2 V3``, ``phi0 = q + c v0``, ``q = 4/3 f1 - 1/3 f2``
 2. stop if ``|phi0 - f1| > 0.4 pi`` anywhere after the first steps; choose each region by ``|v0|``
 3. gather the past of every branch and the sources into node currents b
 4. phases of V and P sources; solve with ``f = P u + s``: ``P^T (A f + B y - b) = 0``, ``C f + D y = C_past q``
 5. with a corrector, the sine at the solved phase and 4 again
 6. voltages ``V = (f - q)/c`` (kept 0 while settling, i < 0), waves into the lines, slips, work
"""

from __future__ import annotations

import numpy as np

from sim.sfq.circuit import Floats, Ints
from sim.sfq.constants import SIGMA_VS
from sim.sfq.layout import Layout
from sim.sfq.state import DONE, GUARD_RAD, NOT_SPD, STEP_TOO_LARGE, Drive, Events, Options, State, Watch
from sim.sfq.system import System


def engine(system: System, layout: Layout, watch: Watch, options: Options) -> Reference:
    """The reference as an engine for ``transient``; it needs no pattern and takes one corner."""
    del layout
    if system.corners != 1:
        raise ValueError("the reference engine runs one corner at a time; use the compiled engine for a batch")
    return Reference(system, watch, options)


def supercurrent(system: System, phi0: Floats) -> Floats:
    """``Ic F(x)``, ``x = phi0 - PHI``; with a temperature ``amp F(x)/q tanh(q gap)``, ``q^2 = 1 - D F(x/2)^2``."""
    x = phi0 - system.phi
    order = np.arange(1, system.cpr.shape[1] + 1)
    wave = (system.cpr * np.sin(np.outer(x, order))).sum(axis=1)
    half = (system.cpr * np.sin(np.outer(x / 2, order))).sum(axis=1)
    q = np.sqrt(1.0 - system.transparency * half**2)
    thermal = np.where(system.gap > 0, np.tanh(q * system.gap) / q, 1.0)
    current: Floats = system.jamp[:, 0] * wave * thermal
    return current


def regions(system: System, v0: Floats) -> Ints:
    """0 below the gap, 1 across it, 2 above; always 0 for RTYPE 0, whose R0 is RN."""
    v = np.abs(v0)
    return np.where(v < system.v_low, 0, np.where(v < system.v_high, 1, 2)).astype(np.int64)


class Reference:
    """An ``Advance`` for one system of one corner; the state is the caller's."""

    def __init__(self, system: System, watch: Watch, options: Options) -> None:
        self.system, self.watch, self.options = system, watch, options
        places = len(system.row)
        self.projection = np.zeros((places, system.n + 1))
        self.projection[np.arange(places), system.row] = 1.0
        self.projection = self.projection[:, : system.n]
        self.fixed = dense(system.static.i, system.static.j, system.static.value[:, 0], places)
        border, unknowns = system.border, len(system.border.d)
        self.b = np.zeros((places, unknowns))
        np.add.at(self.b, (border.bplace, border.bcol), border.bvalue)
        self.c, self.c_past = np.zeros((unknowns, places)), np.zeros((unknowns, places))
        np.add.at(self.c, (border.crow, border.cplace), border.cvalue)
        np.add.at(self.c_past, (border.crow, border.cplace), border.cvalue * border.row_past)
        self.known: dict[bytes, tuple[Floats, Floats]] = {}

    def __call__(
        self, state: State, drive: Drive, first: int, guard_from: float, record: Floats, events: Events
    ) -> tuple[int, int]:
        for step in range(len(record)):
            if events.filled + len(state.jp) > len(events.jj):
                return step, DONE
            now = (drive.waves[:, step], drive.own[step, :, 0])
            status = self.step(state, now, first + step, guard_from, record[step, :, 0], events)
            if status != DONE:
                return step, status
        return len(record), DONE

    def matrices(self, region: Ints) -> tuple[Floats, Floats]:
        """A over all places and the inverse of the whole bordered matrix, for these regions of the junctions."""
        key = region.tobytes()
        if key not in self.known:
            sy = self.system
            g = sy.jg[region, np.arange(len(region)), 0]
            i, j = np.concatenate([sy.ja, sy.jb, sy.ja, sy.jb]), np.concatenate([sy.ja, sy.jb, sy.jb, sy.ja])
            full = self.fixed + dense(i, j, np.concatenate([g, g, -g, -g]), len(self.fixed))
            p = self.projection
            whole = np.block([[p.T @ full @ p, p.T @ self.b], [self.c @ p, sy.border.d]])
            self.known = {key: (full, np.asarray(np.linalg.inv(whole), dtype=np.float64))}
        return self.known[key]

    def step(
        self, st: State, now: tuple[Floats, Floats], i: int, guard_from: float, record: Floats, events: Events
    ) -> int:
        """One step of the law; see the module."""
        sy, c = self.system, 2.0 * self.system.h / (3.0 * SIGMA_VS)
        f0, f1, f2, f3 = st.f[:, :, 0]
        q = (4.0 / 3.0) * f0 - (1.0 / 3.0) * f1
        jq, (v1, v2, v3) = branch(q, sy.ja, sy.jb), st.jv[:, :, 0]
        v0 = 2.5 * v1 - 2.0 * v2 + 0.5 * v3
        phi0 = jq + c * v0
        if i > guard_from and (np.abs(phi0 - st.jp[:, 0]) > GUARD_RAD).any():
            return STEP_TOO_LARGE
        st.region[:, 0] = region = regions(sy, v0)
        at = np.arange(len(jq))
        g, it = sy.jg[region, at, 0], np.where(region == 1, np.sign(v0) * sy.jit[:, 0], 0.0)
        super_i = supercurrent(sy, phi0)
        rest = it - sy.c_2h[:, 0] * v1 + sy.c_h2[:, 0] * v2
        b = np.zeros(len(sy.row))
        inject(b, sy.ra, sy.rb, sy.rg[:, 0] * branch(q, sy.ra, sy.rb))
        qc = (8 / 3) * f0 - (22 / 9) * f1 + (8 / 9) * f2 - (1 / 9) * f3
        inject(b, sy.ca, sy.cb, sy.cg[:, 0] * branch(qc, sy.ca, sy.cb))
        arriving = self.arriving(st, i)
        inject(b, sy.ta, sy.tb, sy.tg[:, 0] * (branch(q, sy.ta, sy.tb) + c * arriving))
        waves, own = now
        feed = np.concatenate([waves[sy.fwave] * sy.fscale[:, 0], own[: len(sy.oa)]])
        feed_a, feed_b = np.concatenate([sy.fa, sy.oa]), np.concatenate([sy.fb, sy.ob])
        inject(b, feed_a, feed_b, -feed)
        given = np.where(
            sy.ewave >= 0, waves[np.maximum(sy.ewave, 0)], own[-1 - np.minimum(sy.ewave, -1)] if len(own) else 0.0
        )
        source = given * sy.escale[:, 0]
        past = (4.0 / 3.0) * st.source[0, :, 0] - (1.0 / 3.0) * st.source[1, :, 0]
        source = np.where(sy.ephase == 1, source, c * source + past)
        try:
            for _ in range(self.options.corrector + 1):
                now_b = b.copy()
                inject(now_b, sy.ja, sy.jb, g * jq - rest - super_i)
                f, y, need = self.solve(now_b, source, q, region)
                used, super_i = super_i, supercurrent(sy, branch(f, sy.ja, sy.jb))
        except np.linalg.LinAlgError:
            return NOT_SPD
        phase = branch(f, sy.ja, sy.jb)
        v = (phase - jq) / c
        line_v = (branch(f, sy.ta, sy.tb) - branch(q, sy.ta, sy.tb)) / c
        line_i = sy.tg[:, 0] * c * (line_v - arriving)
        st.tw[i % sy.depth, :, 0] = 2.0 * line_v - arriving
        self.slips(st, i, phase, events)
        shift(st.jv[:, :, 0], v if i >= 0 else np.zeros_like(v))
        if self.options.account:
            r_v = (branch(f, sy.ra, sy.rb) - branch(q, sy.ra, sy.rb)) / c
            quasi = (v if i >= 0 else 0.0 * v) * (sy.jcond[region, at, 0] * v + it)
            heat = float((sy.rg[:, 0] * c * r_v**2).sum()), float(quasi.sum())
            self.account(st, i, feed, branch(f, feed_b, feed_a), source, need, heat)
        shift(st.source[:, :, 0], source)
        shift(st.f[:, :, 0], f)
        current = g * c * v + rest + used
        record[:] = np.concatenate([f[self.watch.nodes], current[self.watch.jj], need[self.watch.edges], y, line_i])
        return DONE

    def arriving(self, st: State, i: int) -> Floats:
        """E of each port: what left the other port of its line td ago, between two steps by a straight line."""
        sy = self.system
        other = np.arange(len(sy.ta)) ^ 1
        steps, part = np.repeat(sy.t_steps, 2), np.repeat(sy.t_frac, 2)
        late, later = (i - steps) % sy.depth, (i - steps - 1) % sy.depth
        return np.asarray((1.0 - part) * st.tw[late, other, 0] + part * st.tw[later, other, 0])

    def solve(self, b: Floats, source: Floats, q: Floats, region: Ints) -> tuple[Floats, Floats, Floats]:
        """Node phases, border unknowns, and the current that each V or P source gives to its child (A)."""
        sy = self.system
        offset = np.zeros(len(b))
        for k, (parent, child) in enumerate(zip(sy.ep, sy.ec, strict=True)):
            offset[child] = offset[parent] + sy.esign[k] * source[k]
        full, inverse = self.matrices(region)
        right = np.concatenate([self.projection.T @ (b - full @ offset), self.c_past @ q - self.c @ offset])
        u = inverse @ right
        f, y = self.projection @ u[: sy.n] + offset, u[sy.n :]
        need = full @ f + self.b @ y - b
        for parent, child in reversed(list(zip(sy.ep, sy.ec, strict=True))):
            need[parent] += need[child]
        return f, y, need[sy.ec]

    def account(
        self, st: State, i: int, feed: Floats, feed_p: Floats, source: Floats, source_i: Floats,
        heat: tuple[float, float],
    ) -> None:  # fmt: skip
        """Work since the step before, from step 1 on: ``I sigma df`` of the sources (mean I), ``V^2/R h`` else."""
        sy = self.system
        if i > 0:
            fed = (0.5 * (feed + st.last_fi[:, 0]) * (feed_p - st.last_fp[:, 0])).sum()
            given = (0.5 * (source_i + st.last_si[:, 0]) * sy.esign * (source - st.source[0, :, 0])).sum()
            st.work[:, 0] += np.array([SIGMA_VS * fed, SIGMA_VS * given, heat[0] * sy.h, heat[1] * sy.h])
        st.last_fp[:, 0], st.last_fi[:, 0], st.last_si[:, 0] = feed_p, feed, source_i

    def slips(self, st: State, i: int, phase: Floats, events: Events) -> None:
        """A slip is a change of ``floor((f - PHI)/2pi + 1/2)``; its time is where f crosses, by a straight line."""
        x, before = phase - self.system.phi, st.jp[:, 0] - self.system.phi
        turns = np.floor(x / (2 * np.pi) + 0.5)
        for j in np.flatnonzero(turns != st.turns[:, 0]) if i >= 0 else ():
            edge = (2 * max(turns[j], st.turns[j, 0]) - 1) * np.pi
            k, moved = events.filled, int(turns[j] - st.turns[j, 0])
            events.jj[k], events.lane[k], events.turns[k] = j, 0, moved
            events.time[k] = (i - 1 + (edge - before[j]) / (x[j] - before[j])) * self.system.h
            events.filled += 1
            st.slips[j, 0] += abs(moved)
        st.turns[:, 0] = turns
        st.jp[:, 0] = phase


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


def dense(i: Ints, j: Ints, value: Floats, size: int) -> Floats:
    """A dense matrix of the entries; ground's row and column (the last) stay 0."""
    matrix = np.zeros((size, size))
    np.add.at(matrix, (i, j), value)
    matrix[-1, :] = matrix[:, -1] = 0.0
    return matrix
