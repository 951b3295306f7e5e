"""The transient law compiled: the same steps as ``reference``, one pass over each kind of element, sparse solve inside.

Costs of docs/sfq.md 2.2: junctions in three loops that vectorise (predict, sine, scatter), then one forward and one
backward sweep through the nearly fill-free L of ``ldl``. The sine is a polynomial: reduced by pi in two parts, then the
Taylor series to the 19th power, whose next term is below 3e-16 at pi/2.

numba is imported with this module and with nothing else; ``fastmath`` stays off.
"""

from __future__ import annotations

import math

import numba

from sim.sfq.circuit import Floats, Ints
from sim.sfq.constants import SIGMA_VS
from sim.sfq.layout import Layout
from sim.sfq.state import DONE, GUARD_RAD, NOT_SPD, STEP_TOO_LARGE, Advance, Events, State, Watch
from sim.sfq.system import Jj, System
from sim.sfq.tables import Scratch, Tables, scratch, tables

PI_HIGH = 3.1415926218032837
PI_LOW = 3.178650954705639e-08
"""pi in two parts: the first has 26 bits, so that its product with a count below 2^27 is exact."""


def engine(system: System, layout: Layout, watch: Watch) -> Advance:
    """The compiled engine for one system. The first call in a process loads or compiles the kernel (some seconds)."""
    t = tables(system, layout)
    work = scratch(system, t)

    def advance(
        state: State, drive: Floats, first: int, guard_from: float, record: Floats, events: Events
    ) -> tuple[int, int]:
        done, status = _advance(system, t, work, watch, state, drive, first, guard_from, record, events)
        return int(done), int(status)

    return advance


def _sine(w: Floats, angle: int, out: int) -> None:
    """Row ``out`` = sin(row ``angle``) below 1e8 rad, error below 1e-15; no branch, so that it vectorises."""
    for k in range(w.shape[1]):
        turns = math.floor(w[angle, k] * (1.0 / math.pi) + 0.5)
        r = (w[angle, k] - turns * PI_HIGH) - turns * PI_LOW
        z = r * r
        p = -1.0 / 121645100408832000.0
        p = p * z + 1.0 / 355687428096000.0
        p = p * z - 1.0 / 1307674368000.0
        p = p * z + 1.0 / 6227020800.0
        p = p * z - 1.0 / 39916800.0
        p = p * z + 1.0 / 362880.0
        p = p * z - 1.0 / 5040.0
        p = p * z + 1.0 / 120.0
        p = p * z - 1.0 / 6.0
        sign = 1.0 - 2.0 * (turns - 2.0 * math.floor(0.5 * turns))
        w[out, k] = sign * (r + r * z * p)


def _predict(jj: Jj, h: float, st: State, guard: bool, w: Floats) -> int:
    """Rows of ``w``: 0 past, 1 predicted voltage, 2 phi0 - PHI. Returns 1 where the guard stops the run."""
    c = 2.0 * h / (3.0 * SIGMA_VS)
    worst = 0.0
    for k in range(w.shape[1]):
        past = (4.0 / 3.0) * st.jj_p[0, k] - (1.0 / 3.0) * st.jj_p[1, k]
        v0 = 2.5 * st.jj_v[0, k] - 2.0 * st.jj_v[1, k] + 0.5 * st.jj_v[2, k]
        phi0 = past + c * v0
        w[0, k] = past
        w[1, k] = v0
        w[2, k] = phi0 - jj.phi[k]
        worst = max(worst, abs(phi0 - st.jj_p[0, k]))
    return 1 if guard and worst > GUARD_RAD else 0


def _regions(jj: Jj, st: State, w: Floats, stale: Ints) -> None:
    """Row 4 of ``w`` becomes the offset current; a changed region makes the factors stale."""
    for k in range(w.shape[1]):
        region, it = 0, 0.0
        v = abs(w[1, k])
        if jj.rtype[k] == 1 and v >= jj.v_low[k]:
            region = 1 if v < jj.v_high[k] else 2
            if region == 1:
                it = -jj.it_A[k] if w[1, k] < 0 else jj.it_A[k]
        w[4, k] = it
        if region != st.region[k]:
            st.region[k] = region
            stale[0] = 1


def _supercurrent(jj: Jj, w: Floats) -> None:
    """Row 3 of ``w`` becomes ``Ic F(phi0 - PHI)``; see ``reference.supercurrent``."""
    if jj.plain:
        _sine(w, 2, 3)
        for k in range(w.shape[1]):
            w[3, k] *= jj.amp_A[k]
        return
    for k in range(w.shape[1]):
        wave, half = 0.0, 0.0
        for m in range(jj.cpr.shape[1]):
            wave += jj.cpr[k, m] * math.sin((m + 1) * w[2, k])
            half += jj.cpr[k, m] * math.sin((m + 1) * 0.5 * w[2, k])
        if jj.gap[k] > 0:
            q = math.sqrt(1.0 - jj.transparency[k] * half * half)
            wave *= math.tanh(q * jj.gap[k]) / q
        w[3, k] = jj.amp_A[k] * wave


def _factor(jj: Jj, t: Tables, region: Ints, v: Floats, n: int) -> int:
    """D and 1/.. into ``v``: L D L^T of the base values plus the junctions. Returns 1 if not positive definite."""
    v[:] = t.base
    for k in range(region.shape[0]):
        g = jj.g[region[k], k]
        v[t.slots[0, k]] += g
        v[t.slots[1, k]] += g
        v[t.slots[2, k]] -= g
    for k in range(n):
        if not v[k] > 0.0:
            return 1
        at = t.first[k]
        d = 1.0 / v[k]
        for p in range(n + t.start[k], n + t.start[k + 1]):
            scaled = v[p] * d
            for q in range(p, n + t.start[k + 1]):
                v[t.targets[at]] -= scaled * v[q]
                at += 1
            v[p] = scaled
        v[k] = d
    return 0


def _gather(system: System, st: State, work: Scratch, drive: Floats, i: int) -> None:
    """Node currents of the past of every branch, and of the current sources."""
    b, w, jj = work.b, work.jj, system.jj
    for k in range(b.shape[0]):
        b[k] = 0.0
    for k in range(w.shape[1]):
        w[3, k] += w[4, k] - jj.c_2h[k] * st.jj_v[0, k] + jj.c_h2[k] * st.jj_v[1, k]
        current = jj.g[st.region[k], k] * w[0, k] - w[3, k]
        b[jj.a[k]] += current
        b[jj.b[k]] -= current
    for k in range(work.past_r.shape[0]):
        past = (4.0 / 3.0) * st.r_p[0, k] - (1.0 / 3.0) * st.r_p[1, k]
        work.past_r[k] = past
        b[system.r.a[k]] += system.r.g[k] * past
        b[system.r.b[k]] -= system.r.g[k] * past
    p = st.c_p
    for k in range(p.shape[1]):
        past = (8.0 / 3.0) * p[0, k] - (22.0 / 9.0) * p[1, k] + (8.0 / 9.0) * p[2, k] - (1.0 / 9.0) * p[3, k]
        b[system.c.a[k]] += system.c.g[k] * past
        b[system.c.b[k]] -= system.c.g[k] * past
    for k in range(system.feeds.a.shape[0]):
        current = drive[system.feeds.wave[k], i]
        b[system.feeds.a[k]] -= current
        b[system.feeds.b[k]] += current


def _solve(system: System, t: Tables, work: Scratch, st: State, drive: Floats, i: int) -> None:
    """Offsets of the source trees, then the unknowns, then every place of ``st.f``."""
    e, n, x, s, c = system.edges, system.n, work.x, work.s, 2.0 * system.h / (3.0 * SIGMA_VS)
    for k in range(e.child.shape[0]):
        value = drive[e.wave[k], i]
        if e.phase[k] == 0:
            value = c * value + (4.0 / 3.0) * st.source[0, k] - (1.0 / 3.0) * st.source[1, k]
        work.source[k] = value
        s[e.child[k]] = s[e.parent[k]] + e.sign[k] * value
    for k in range(n):
        x[k] = work.b[k]
    for k in range(n, system.row.shape[0]):
        x[system.row[k]] += work.b[k]
    for k in range(t.fold_row.shape[0]):
        x[t.fold_row[k]] -= t.fold_value[k] * s[t.fold_j[k]]
    jj = system.jj
    for m in range(t.touch.shape[0]):
        k = t.touch[m]
        current = jj.g[st.region[k], k] * (s[jj.a[k]] - s[jj.b[k]])
        x[system.row[jj.a[k]]] -= current
        x[system.row[jj.b[k]]] += current
    _sweep(n, t, work.factors, x)
    x[n] = 0.0
    for k in range(n):
        st.f[k] = x[k]
    for k in range(n, system.row.shape[0]):
        st.f[k] = x[system.row[k]] + s[k]


def _sweep(n: int, t: Tables, v: Floats, x: Floats) -> None:
    """x becomes the solution; ``v`` holds 1/D and L."""
    for k in range(n):
        y = x[k]
        for p in range(t.start[k], t.start[k + 1]):
            x[t.rows[p]] -= v[n + p] * y
    for k in range(n - 1, -1, -1):
        y = x[k] * v[k]
        for p in range(t.start[k], t.start[k + 1]):
            y -= v[n + p] * x[t.rows[p]]
        x[k] = y


def _source_currents(system: System, t: Tables, work: Scratch, st: State) -> None:
    """``work.need`` of a child: the current its source gives it, sources further out included."""
    need, f, jj, e = work.need, st.f, system.jj, system.edges
    for k in range(system.n, need.shape[0]):
        need[k] = -work.b[k]
    for k in range(t.need_i.shape[0]):
        need[t.need_i[k]] += t.need_value[k] * f[t.need_j[k]]
    for m in range(t.touch.shape[0]):
        k = t.touch[m]
        current = jj.g[st.region[k], k] * (f[jj.a[k]] - f[jj.b[k]])
        need[jj.a[k]] += current
        need[jj.b[k]] -= current
    for k in range(e.child.shape[0] - 1, -1, -1):
        need[e.parent[k]] += need[e.child[k]]


def _account(system: System, work: Scratch, st: State, drive: Floats, col: int, i: int) -> None:
    """Work of current, voltage and phase sources since the step before; see ``reference.Reference.account``."""
    feeds, e = system.feeds, system.edges
    total = 0.0
    for k in range(feeds.a.shape[0]):
        phase, current = st.f[feeds.b[k]] - st.f[feeds.a[k]], drive[feeds.wave[k], col]
        total += 0.5 * (current + st.last_feed_i[k]) * (phase - st.last_feed_p[k])
        st.last_feed_p[k], st.last_feed_i[k] = phase, current
    given = 0.0
    for k in range(e.child.shape[0]):
        current = work.need[e.child[k]]
        given += 0.5 * (current + st.last_source_i[k]) * e.sign[k] * (work.source[k] - st.source[0, k])
        st.last_source_i[k] = current
        st.source[1, k] = st.source[0, k]
        st.source[0, k] = work.source[k]
    if i > 0:
        st.work_J[0] += SIGMA_VS * total
        st.work_J[1] += SIGMA_VS * given


def _shift_branches(system: System, work: Scratch, st: State, i: int) -> None:
    """R and C one step older; what the resistors turned to heat."""
    c = 2.0 * system.h / (3.0 * SIGMA_VS)
    heat, f = 0.0, st.f
    for k in range(work.past_r.shape[0]):
        phase = f[system.r.a[k]] - f[system.r.b[k]]
        v = (phase - work.past_r[k]) / c
        heat += system.r.g[k] * c * v * v
        st.r_p[1, k] = st.r_p[0, k]
        st.r_p[0, k] = phase
    for k in range(st.c_p.shape[1]):
        for m in range(3, 0, -1):
            st.c_p[m, k] = st.c_p[m - 1, k]
        st.c_p[0, k] = f[system.c.a[k]] - f[system.c.b[k]]
    if i > 0:
        st.work_J[2] += heat * system.h


def _shift_junctions(system: System, work: Scratch, st: State, i: int, events: Events) -> None:
    """Voltages, currents (row 5 of the junction rows), slips; one step older."""
    jj, w, f, c = system.jj, work.jj, st.f, 2.0 * system.h / (3.0 * SIGMA_VS)
    heat, rate = 0.0, 1.0 / c
    for k in range(w.shape[1]):
        phase = f[jj.a[k]] - f[jj.b[k]]
        v = (phase - w[0, k]) * rate
        region = st.region[k]
        w[5, k] = jj.g[region, k] * c * v + w[3, k]
        heat += v * (jj.cond[region, k] * v + w[4, k])
        st.jj_v[2, k] = st.jj_v[1, k]
        st.jj_v[1, k] = st.jj_v[0, k]
        st.jj_v[0, k] = v if i >= 0 else 0.0
        st.jj_p[1, k] = st.jj_p[0, k]
        st.jj_p[0, k] = phase
    if i > 0:
        st.work_J[3] += heat * system.h
    for k in range(w.shape[1]):
        x = st.jj_p[0, k] - jj.phi[k]
        turns = math.floor(x * (0.5 / math.pi) + 0.5)
        if turns != st.turns[k]:
            if i >= 0:
                _slip(system.h, st, k, i, x, st.jj_p[1, k] - jj.phi[k], turns, events)
            st.turns[k] = turns


def _slip(h: float, st: State, k: int, i: int, x: float, before: float, turns: int, events: Events) -> None:
    at = events.filled[0]
    edge = (2 * max(turns, st.turns[k]) - 1) * math.pi
    events.jj[at] = k
    events.time[at] = (i - 1 + (edge - before) / (x - before)) * h
    events.turns[at] = turns - st.turns[k]
    events.filled[0] = at + 1
    st.slips[k] += abs(turns - st.turns[k])


def _record(watch: Watch, work: Scratch, st: State, child: Ints, out: Floats, step: int) -> None:
    nodes, jj, edges = watch.nodes, watch.jj, watch.edges
    for k in range(nodes.shape[0]):
        out[step, k] = st.f[nodes[k]]
    for k in range(jj.shape[0]):
        out[step, nodes.shape[0] + k] = work.jj[5, jj[k]]
    for k in range(edges.shape[0]):
        out[step, nodes.shape[0] + jj.shape[0] + k] = work.need[child[edges[k]]]


def _run(
    system: System, t: Tables, work: Scratch, watch: Watch, st: State,
    drive: Floats, first: int, guard_from: float, record: Floats, events: Events,
) -> tuple[int, int]:  # fmt: skip
    """``Advance`` for these tables; see ``state.Advance``."""
    for step in range(record.shape[0]):
        i = first + step
        if events.filled[0] + st.turns.shape[0] > events.jj.shape[0]:
            return step, DONE
        if _predict(system.jj, system.h, st, i > guard_from, work.jj) != 0:
            return step, STEP_TOO_LARGE
        _regions(system.jj, st, work.jj, work.stale)
        if work.stale[0] != 0:
            if _factor(system.jj, t, st.region, work.factors, system.n) != 0:
                return step, NOT_SPD
            work.stale[0] = 0
        _supercurrent(system.jj, work.jj)
        _gather(system, st, work, drive, step)
        _solve(system, t, work, st, drive, step)
        _source_currents(system, t, work, st)
        _account(system, work, st, drive, step, i)
        _shift_branches(system, work, st, i)
        _shift_junctions(system, work, st, i, events)
        _record(watch, work, st, system.edges.child, record, step)
    return record.shape[0], DONE


for _helper in (
    _sine, _predict, _regions, _supercurrent, _factor, _gather, _sweep, _solve, _source_currents, _account,
    _shift_branches, _slip, _shift_junctions, _record,
):  # fmt: skip
    globals()[_helper.__name__] = numba.njit(inline="always", error_model="numpy")(_helper)
_advance = numba.njit(cache=True, nogil=True, error_model="numpy")(_run)
