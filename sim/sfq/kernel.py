"""kernel.c in numba, for machines without a compiler: the same steps, corners innermost; slower, above all alone.

numba is imported with this module and with nothing else; ``fastmath`` stays off. Each function is that of the same name
in kernel.c.
"""

from __future__ import annotations

import math
from collections import namedtuple
from dataclasses import fields
from typing import Any, NamedTuple

import numba
import numpy as np

from sim.sfq.border import Border
from sim.sfq.circuit import Floats, Ints
from sim.sfq.constants import SIGMA_VS
from sim.sfq.layout import Layout
from sim.sfq.state import DONE, GUARD_RAD, NOT_SPD, STEP_TOO_LARGE, Advance, Drive, Events, Options, State, Watch
from sim.sfq.system import System
from sim.sfq.tables import Tables, tables, work_space

PI_HIGH = 3.1415926218032837
PI_LOW = 3.178650954705639e-08
"""pi in two parts: the first has 26 bits, so that its product with a count below 2^27 is exact."""


def _tuple(name: str, names: list[str]) -> Any:
    """What numba takes for a dataclass: a named tuple of some of its fields."""
    made = namedtuple(name, names)  # type: ignore[misc]  # mypy wants the names written out, which is the point
    made.__module__ = __name__
    return made


NOT_ARRAYS = ("corners", "static", "border", "pair_column", "pair_row", "pair_at", "bwork", "pair_l", "w5")
"""Fields that this kernel does without."""

Net = _tuple("Net", [x.name for x in fields(System) if x.name not in NOT_ARRAYS])
Matrix = _tuple("Matrix", [x.name for x in fields(Tables) if x.name not in NOT_ARRAYS])
Past = _tuple("Past", [x.name for x in fields(State)])
WORK = (
    "factors", "b", "b0", "q", "qc", "s", "need", "sv", "w0", "w1", "w2", "w3", "w4", "y", "tline", "z", "sinv",
    "stale", "head",
)  # fmt: skip
Work = _tuple("Work", list(WORK))


class Slips(NamedTuple):
    """``Events`` as a tuple; ``filled`` is an array of one."""

    jj: Ints
    lane: Ints
    time: Floats
    turns: Ints
    filled: Ints


def engine(system: System, layout: Layout, watch: Watch, options: Options) -> Advance:
    """The numba engine for one system of any number of corners. The first call of all compiles it (some 20 s)."""
    t = tables(system, layout)
    net = Net(*(getattr(system, name) for name in Net._fields))
    matrix = Matrix(*(getattr(t, name) for name in Matrix._fields))
    space: dict[str, Any] = dict(work_space(system, layout))
    space["z"] = space["z"].reshape(len(system.border.d), system.n, system.corners)
    space["sinv"] = space["sinv"].reshape(*system.border.d.shape, system.corners)
    work = Work(*(space[name] for name in Work._fields))
    seen: list[State] = []

    def advance(
        state: State, drive: Drive, first: int, guard_from: float, record: Floats, events: Events
    ) -> tuple[int, int]:
        if not seen or seen[0] is not state:
            seen[:] = [state]
            work.stale[0], work.head[0] = 1, int(state.region.any())
        past = Past(*(getattr(state, name) for name in Past._fields))
        filled = np.array([events.filled], dtype=np.int64)
        slips = Slips(events.jj, events.lane, events.time, events.turns, filled)
        done, status = _advance(
            net, matrix, system.border, work, past, watch, slips, drive.waves, drive.own, record, first, guard_from,
            options.corrector, options.account,
        )  # fmt: skip
        events.filled = int(filled[0])
        return int(done), int(status)

    return advance


def _sine(x: float) -> float:
    turns = math.floor(x * (1.0 / math.pi) + 0.5)
    r = (x - turns * PI_HIGH) - turns * PI_LOW
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
    return (1.0 - 2.0 * (turns - 2.0 * math.floor(0.5 * turns))) * (r + r * z * p)


def _supercurrent(
    plain: bool, jamp: Floats, cpr: Floats, gap: Floats, transparency: Floats, x: Floats, out: Floats
) -> None:
    for k in range(x.shape[0]):
        for w in range(x.shape[1]):
            if plain:
                out[k, w] = jamp[k, w] * _sine(x[k, w])
                continue
            wave, half = 0.0, 0.0
            for m in range(cpr.shape[1]):
                wave += cpr[k, m] * math.sin((m + 1) * x[k, w])
                half += cpr[k, m] * math.sin((m + 1) * 0.5 * x[k, w])
            if gap[k] > 0:
                q = math.sqrt(1.0 - transparency[k] * half * half)
                wave *= math.tanh(q * gap[k]) / q
            out[k, w] = jamp[k, w] * wave


def _factor(net: Any, t: Any, region: Ints, v: Floats) -> int:
    n, corners = net.n, v.shape[1]
    _copy(v, t.base)
    for k in range(region.shape[0]):
        for w in range(corners):
            g = net.jg[region[k, w], k, w]
            v[t.slots[0, k], w] += g
            v[t.slots[1, k], w] += g
            v[t.slots[2, k], w] -= g
    for k in range(n):
        for w in range(corners):
            if not v[k, w] > 0.0:
                return 1
            at = t.first[k]
            d = 1.0 / v[k, w]
            for p in range(n + t.start[k], n + t.start[k + 1]):
                scaled = v[p, w] * d
                for q in range(p, n + t.start[k + 1]):
                    v[t.targets[at], w] -= scaled * v[q, w]
                    at += 1
                v[p, w] = scaled
            v[k, w] = d
    return 0


def _sweep(n: int, start: Ints, rows: Ints, v: Floats, b: Floats, f: Floats) -> None:
    corners = v.shape[1]
    for k in range(n):
        for p in range(start[k], start[k + 1]):
            r = rows[p]
            for w in range(corners):
                b[r, w] -= v[n + p, w] * b[k, w]
    for k in range(n - 1, -1, -1):
        for w in range(corners):
            f[k, w] = b[k, w] * v[k, w]
        for p in range(start[k], start[k + 1]):
            r = rows[p]
            for w in range(corners):
                f[k, w] -= v[n + p, w] * f[r, w]


def _border(net: Any, t: Any, edge: Border, work: Any) -> int:
    n, m = net.n, edge.d.shape[0]
    for col in range(m):
        _fill(work.b0, 0.0)
        for k in range(edge.bplace.shape[0]):
            r = net.row[edge.bplace[k]]
            if edge.bcol[k] == col and r < n:
                for w in range(work.b0.shape[1]):
                    work.b0[r, w] += edge.bvalue[k]
        _sweep(n, t.start, t.rows, work.factors, work.b0, work.z[col])
    for w in range(work.b.shape[1]):
        a = np.zeros((m, 2 * m))
        for i in range(m):
            for j in range(m):
                a[i, j] = edge.d[i, j]
            a[i, m + i] = 1.0
        for k in range(edge.crow.shape[0]):
            r = net.row[edge.cplace[k]]
            if r < n:
                for j in range(m):
                    a[edge.crow[k], j] -= edge.cvalue[k] * work.z[j, r, w]
        if _invert(a, m) != 0:
            return 1
        for i in range(m):
            for j in range(m):
                work.sinv[i, j, w] = a[i, m + j]
    return 0


def _invert(a: Floats, m: int) -> int:
    """Gauss and Jordan with row pivots on (m, 2 m)."""
    for i in range(m):
        best = i
        for r in range(i + 1, m):
            if abs(a[r, i]) > abs(a[best, i]):
                best = r
        if not abs(a[best, i]) > 0.0:
            return 1
        for j in range(2 * m):
            a[i, j], a[best, j] = a[best, j], a[i, j]
        pivot = a[i, i]
        for j in range(2 * m):
            a[i, j] /= pivot
        for r in range(m):
            factor = a[r, i]
            if r != i:
                for j in range(2 * m):
                    a[r, j] -= factor * a[i, j]
    return 0


def _fill(out: Floats, value: float) -> None:
    for k in range(out.shape[0]):
        for w in range(out.shape[1]):
            out[k, w] = value


def _copy(out: Floats, value: Floats) -> None:
    for k in range(out.shape[0]):
        for w in range(out.shape[1]):
            out[k, w] = value[k, w]


def _predict(net: Any, st: Any, work: Any, guard: bool) -> bool:
    c = 2.0 * net.h / (3.0 * SIGMA_VS)
    broken = False
    for k in range(net.ja.shape[0]):
        a, b = net.ja[k], net.jb[k]
        for w in range(work.b.shape[1]):
            past = work.q[a, w] - work.q[b, w]
            v0 = 2.5 * st.jv[0, k, w] - 2.0 * st.jv[1, k, w] + 0.5 * st.jv[2, k, w]
            phi0 = past + c * v0
            work.w0[k, w], work.w1[k, w], work.w2[k, w] = past, v0, phi0 - net.phi[k]
            if guard and abs(phi0 - st.jp[k, w]) > GUARD_RAD:
                st.tripped[w] = 1
                broken = True
            region, it = 0, 0.0
            v = abs(v0)
            if v >= net.v_low[k]:
                region = 1 if v < net.v_high[k] else 2
                if region == 1:
                    it = -net.jit[k, w] if v0 < 0 else net.jit[k, w]
            work.w4[k, w] = it
            if region != st.region[k, w] and not (broken and work.b.shape[1] == 1):
                st.region[k, w] = region
                work.stale[0] = 1
    return broken


def _past(st: Any, work: Any) -> None:
    f = st.f
    for k in range(work.q.shape[0]):
        for w in range(work.q.shape[1]):
            work.q[k, w] = (4.0 / 3.0) * f[0, k, w] - (1.0 / 3.0) * f[1, k, w]
    for k in range(work.qc.shape[0]):
        for w in range(work.qc.shape[1]):
            early = (8.0 / 3.0) * f[0, k, w] - (22.0 / 9.0) * f[1, k, w]
            work.qc[k, w] = early + (8.0 / 9.0) * f[2, k, w] - (1.0 / 9.0) * f[3, k, w]


def _scatter(a: Ints, b: Ints, g: Floats, q: Floats, into: Floats) -> None:
    for k in range(a.shape[0]):
        for w in range(q.shape[1]):
            current = g[k, w] * (q[a[k], w] - q[b[k], w])
            into[a[k], w] += current
            into[b[k], w] -= current


def _gather(net: Any, st: Any, work: Any, waves: Floats, own: Floats, i: int) -> None:
    b = work.b
    _fill(b, 0.0)
    for k in range(net.ja.shape[0]):
        for w in range(b.shape[1]):
            work.w3[k, w] += work.w4[k, w] - net.c_2h[k, w] * st.jv[0, k, w] + net.c_h2[k, w] * st.jv[1, k, w]
            current = net.jg[st.region[k, w], k, w] * work.w0[k, w] - work.w3[k, w]
            b[net.ja[k], w] += current
            b[net.jb[k], w] -= current
    _scatter(net.ra, net.rb, net.rg, work.q, b)
    if net.ca.shape[0]:
        _scatter(net.ca, net.cb, net.cg, work.qc, b)
    for k in range(net.fa.shape[0]):
        for w in range(b.shape[1]):
            current = net.fscale[k, w] * waves[net.fwave[k], i]
            b[net.fa[k], w] -= current
            b[net.fb[k], w] += current
    for k in range(net.oa.shape[0]):
        for w in range(b.shape[1]):
            b[net.oa[k], w] -= own[i, k, w]
            b[net.ob[k], w] += own[i, k, w]


def _lines_in(net: Any, st: Any, work: Any, i: int) -> None:
    c, depth = 2.0 * net.h / (3.0 * SIGMA_VS), st.tw.shape[0]
    _scatter(net.ta, net.tb, net.tg, work.q, work.b)
    for k in range(net.ta.shape[0]):
        at, part = i - net.t_steps[k >> 1], net.t_frac[k >> 1]
        for w in range(work.b.shape[1]):
            e = (1.0 - part) * st.tw[at % depth, k ^ 1, w] + part * st.tw[(at - 1) % depth, k ^ 1, w]
            work.tline[k, w] = e
            work.b[net.ta[k], w] += net.tg[k, w] * c * e
            work.b[net.tb[k], w] -= net.tg[k, w] * c * e


def _lines_out(net: Any, st: Any, work: Any, i: int, f: Floats) -> None:
    c, depth = 2.0 * net.h / (3.0 * SIGMA_VS), st.tw.shape[0]
    for k in range(net.ta.shape[0]):
        a, b = net.ta[k], net.tb[k]
        for w in range(f.shape[1]):
            v, e = (f[a, w] - f[b, w] - (work.q[a, w] - work.q[b, w])) / c, work.tline[k, w]
            st.tw[i % depth, k, w] = 2.0 * v - e
            work.tline[k, w] = (v - e) * net.tg[k, w] * c


def _solve(net: Any, t: Any, edge: Border, work: Any, st: Any, waves: Floats, own: Floats, i: int, f: Floats) -> None:
    n, s, b, c = net.n, work.s, work.b, 2.0 * net.h / (3.0 * SIGMA_VS)
    corners = b.shape[1]
    for k in range(net.ec.shape[0]):
        for w in range(corners):
            value = waves[net.ewave[k], i] if net.ewave[k] >= 0 else own[i, -1 - net.ewave[k], w]
            value *= net.escale[k, w]
            if net.ephase[k] == 0:
                value = c * value + (4.0 / 3.0) * st.source[0, k, w] - (1.0 / 3.0) * st.source[1, k, w]
            work.sv[k, w] = value
            s[net.ec[k], w] = s[net.ep[k], w] + net.esign[k] * value
    for k in range(n, net.row.shape[0] - 1):
        if net.row[k] < n:
            for w in range(corners):
                b[net.row[k], w] += b[k, w]
    for k in range(t.fold_row.shape[0]):
        for w in range(corners):
            b[t.fold_row[k], w] -= t.fold_value[k, w] * s[t.fold_j[k], w]
    for m in range(t.touch.shape[0]):
        k = t.touch[m]
        ra, rb = net.row[net.ja[k]], net.row[net.jb[k]]
        for w in range(corners):
            current = net.jg[st.region[k, w], k, w] * (s[net.ja[k], w] - s[net.jb[k], w])
            if ra < n:
                b[ra, w] -= current
            if rb < n:
                b[rb, w] += current
    _sweep(n, t.start, t.rows, work.factors, b, f)
    if edge.d.shape[0]:
        _bordered(net, edge, work, f)
    for k in range(n, net.row.shape[0]):
        r = net.row[k]
        for w in range(corners):
            f[k, w] = (f[r, w] if r < n else 0.0) + s[k, w]


def _bordered(net: Any, edge: Border, work: Any, f: Floats) -> None:
    n, m = net.n, edge.d.shape[0]
    for w in range(f.shape[1]):
        e = np.zeros(m)
        for k in range(edge.crow.shape[0]):
            place = edge.cplace[k]
            r = net.row[place]
            value = (f[r, w] if r < n else 0.0) + work.s[place, w]
            if edge.row_past[k]:
                value -= work.q[place, w]
            e[edge.crow[k]] -= edge.cvalue[k] * value
        for r in range(m):
            total = 0.0
            for j in range(m):
                total += work.sinv[r, j, w] * e[j]
            work.y[r, w] = total
        for r in range(m):
            for k in range(n):
                f[k, w] -= work.z[r, k, w] * work.y[r, w]


def _source_currents(net: Any, t: Any, edge: Border, work: Any, st: Any, f: Floats) -> None:
    need, n = work.need, net.n
    corners = f.shape[1]
    for k in range(n, need.shape[0]):
        for w in range(corners):
            need[k, w] = -work.b[k, w]
    for k in range(t.need_i.shape[0]):
        for w in range(corners):
            need[t.need_i[k], w] += t.need_value[k, w] * f[t.need_j[k], w]
    for k in range(edge.bplace.shape[0]):
        if edge.bplace[k] >= n:
            for w in range(corners):
                need[edge.bplace[k], w] += edge.bvalue[k] * work.y[edge.bcol[k], w]
    for m in range(t.touch.shape[0]):
        k = t.touch[m]
        a, b = net.ja[k], net.jb[k]
        for w in range(corners):
            current = net.jg[st.region[k, w], k, w] * (f[a, w] - f[b, w])
            if a >= n:
                need[a, w] += current
            if b >= n:
                need[b, w] -= current
    for k in range(net.ec.shape[0] - 1, -1, -1):
        for w in range(corners):
            need[net.ep[k], w] += need[net.ec[k], w]


def _account(net: Any, work: Any, st: Any, waves: Floats, own: Floats, col: int, i: int, f: Floats) -> None:
    c, feeds = 2.0 * net.h / (3.0 * SIGMA_VS), net.fa.shape[0]
    for w in range(f.shape[1]):
        fed, given, heat, quasi = 0.0, 0.0, 0.0, 0.0
        for k in range(feeds + net.oa.shape[0]):
            if k < feeds:
                current = net.fscale[k, w] * waves[net.fwave[k], col]
                phase = f[net.fb[k], w] - f[net.fa[k], w]
            else:
                current = own[col, k - feeds, w]
                phase = f[net.ob[k - feeds], w] - f[net.oa[k - feeds], w]
            fed += 0.5 * (current + st.last_fi[k, w]) * (phase - st.last_fp[k, w])
            st.last_fp[k, w], st.last_fi[k, w] = phase, current
        for k in range(net.ec.shape[0]):
            current = work.need[net.ec[k], w]
            moved = net.esign[k] * (work.sv[k, w] - st.source[0, k, w])
            given += 0.5 * (current + st.last_si[k, w]) * moved
            st.last_si[k, w] = current
        for k in range(net.ra.shape[0]):
            a, b = net.ra[k], net.rb[k]
            v = (f[a, w] - f[b, w] - work.q[a, w] + work.q[b, w]) / c
            heat += net.rg[k, w] * c * v * v
        for k in range(net.ja.shape[0]):
            v = st.jv[0, k, w]
            quasi += v * (net.jcond[st.region[k, w], k, w] * v + work.w4[k, w])
        if i > 0:
            st.work[0, w] += SIGMA_VS * fed
            st.work[1, w] += SIGMA_VS * given
            st.work[2, w] += heat * net.h
            st.work[3, w] += quasi * net.h


def _shift(net: Any, work: Any, st: Any, i: int, f: Floats, slips: Slips) -> None:
    rate = 3.0 * SIGMA_VS / (2.0 * net.h)
    for k in range(net.ja.shape[0]):
        for w in range(f.shape[1]):
            phase = f[net.ja[k], w] - f[net.jb[k], w]
            st.jv[2, k, w] = st.jv[1, k, w]
            st.jv[1, k, w] = st.jv[0, k, w]
            st.jv[0, k, w] = (phase - work.w0[k, w]) * rate if i >= 0 else 0.0
            x = phase - net.phi[k]
            if abs(x - 2 * math.pi * st.turns[k, w]) > math.pi:
                _slip(net, st, k, w, i, x, st.jp[k, w] - net.phi[k], slips)
            st.jp[k, w] = phase


def _slip(net: Any, st: Any, k: int, w: int, i: int, x: float, before: float, slips: Slips) -> None:
    turns, old = math.floor(x * (0.5 / math.pi) + 0.5), st.turns[k, w]
    if turns == old:
        return
    if i >= 0:
        at = slips.filled[0]
        slips.jj[at], slips.lane[at], slips.turns[at] = k, w, int(turns - old)
        slips.time[at] = (i - 1 + ((2 * max(turns, old) - 1) * math.pi - before) / (x - before)) * net.h
        slips.filled[0] = at + 1
        st.slips[k, w] += int(abs(turns - old))
    st.turns[k, w] = turns


def _record(net: Any, watch: Watch, work: Any, st: Any, f: Floats, out: Floats) -> None:
    c = 2.0 * net.h / (3.0 * SIGMA_VS)
    for w in range(f.shape[1]):
        at = 0
        for k in range(watch.nodes.shape[0]):
            out[at, w] = f[watch.nodes[k], w]
            at += 1
        for k in range(watch.jj.shape[0]):
            j = watch.jj[k]
            out[at, w] = net.jg[st.region[j, w], j, w] * c * st.jv[0, j, w] + work.w3[j, w]
            at += 1
        for k in range(watch.edges.shape[0]):
            out[at, w] = work.need[net.ec[watch.edges[k]], w]
            at += 1
        for k in range(work.y.shape[0]):
            out[at, w] = work.y[k, w]
            at += 1
        for k in range(work.tline.shape[0]):
            out[at, w] = work.tline[k, w]
            at += 1


def _correct(net: Any, work: Any, f: Floats, used: Floats) -> None:
    for k in range(net.ja.shape[0]):
        for w in range(f.shape[1]):
            work.w2[k, w] = f[net.ja[k], w] - f[net.jb[k], w] - net.phi[k]
    _supercurrent(net.plain, net.jamp, net.cpr, net.gap, net.transparency, work.w2, work.w1)
    for k in range(net.ja.shape[0]):
        for w in range(f.shape[1]):
            change = work.w1[k, w] - used[k, w]
            work.b[net.ja[k], w] -= change
            work.b[net.jb[k], w] += change
            work.w3[k, w] += change
            used[k, w] = work.w1[k, w]


def _run(
    net: Any, t: Any, edge: Border, work: Any, st: Any, watch: Watch, slips: Slips, waves: Floats, own: Floats,
    record: Floats, first: int, guard_from: float, corrector: int, account: bool,
) -> tuple[int, int]:  # fmt: skip
    """``Advance`` for these tables; see ``state.Advance`` and ``kernel_run`` in kernel.c."""
    f = np.zeros((st.f.shape[1], st.f.shape[2]))
    used = np.zeros(work.w3.shape)
    for step in range(record.shape[0]):
        i = first + step
        if slips.filled[0] + st.turns.size > slips.jj.shape[0]:
            return step, DONE
        _past(st, work)
        if _predict(net, st, work, i > guard_from) and f.shape[1] == 1:
            return step, STEP_TOO_LARGE
        if work.stale[0] != 0:
            if _factor(net, t, st.region, work.factors) != 0:
                return step, NOT_SPD
            if edge.d.shape[0] and _border(net, t, edge, work) != 0:
                return step, NOT_SPD
            work.stale[0] = 0
        _supercurrent(net.plain, net.jamp, net.cpr, net.gap, net.transparency, work.w2, work.w3)
        _copy(used, work.w3)
        _gather(net, st, work, waves, own, step)
        _lines_in(net, st, work, i)
        _copy(work.b0, work.b)
        for again in range(corrector + 1):
            if again:
                _copy(work.b, work.b0)
                _correct(net, work, f, used)
                _copy(work.b0, work.b)
            _solve(net, t, edge, work, st, waves, own, step, f)
        _source_currents(net, t, edge, work, st, f)
        _lines_out(net, st, work, i, f)
        _shift(net, work, st, i, f, slips)
        if account:
            _account(net, work, st, waves, own, step, i, f)
        for k in range(3, 0, -1):
            _copy(st.source[k], st.source[k - 1])
            _copy(st.f[k], st.f[k - 1])
        _copy(st.source[0], work.sv)
        _copy(st.f[0], f)
        _record(net, watch, work, st, f, record[step])
    return record.shape[0], DONE


for _helper in (_fill, _copy, _invert, _sine, _supercurrent, _sweep, _scatter):
    globals()[_helper.__name__] = numba.njit(cache=True, error_model="numpy")(_helper)
for _part in (
    _factor, _border, _predict, _past, _gather, _lines_in, _lines_out, _bordered, _solve, _source_currents, _account,
    _slip, _shift, _record, _correct,
):  # fmt: skip
    # inlined: a call that passes all these arrays costs more to compile than it saves
    globals()[_part.__name__] = numba.njit(inline="always", error_model="numpy")(_part)
_advance = numba.njit(cache=True, nogil=True, error_model="numpy")(_run)
