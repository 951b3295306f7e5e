"""The law of the cells, compiled: what one pulse at one port does. Both engines call ``react``; nothing repeats it.

Times are attoseconds in int64. ``react`` and ``wake`` put what leaves the instance into ``out`` (port, time) and return
how many; -1 for a violation under the policy ``error``. Source: docs/sfq.md 3.3, 3.4, 4.2.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from sim.sfq.pulse.philox import CHANCE, FATE, JITTER, compiled, normal, uniform

NEVER = -(2**61)
MEALY, SOMA = 0, 1
ERROR, WARN, DROP, RANDOM = 0, 1, 2, 3
STOPPED, GOES_ON, LOST = -1, 0, 1
THETA, TAU, BRANCHES, FLOOR, REFRACTORY, LATE, LATE_V = range(7)
MOST_OUT = 64
"""Pulses that one pulse may cause at one instance."""


class Cells(NamedTuple):
    """What a run changes. Per input: pulses that came, time of the last taken; per output: time of the last sent.

    Per instance: state; counts of transitions. Per soma: v in pulses at a time, when it may fire again, when it will be
    looked at again (0: not).
    """

    state: Any
    arrived: Any
    last: Any
    sent: Any
    taken: Any
    v: Any
    v_at: Any
    ready: Any
    timer: Any


class Found(NamedTuple):
    """Violations: rows (time, port, rule, earliest legal time, 1 if the pulse was lost); how many in ``count[0]``."""

    rows: Any
    count: Any


@compiled
def react(tb: Any, s: Any, port: Any, t: Any, policy: Any, seed: Any, jitter: Any, out: Any, found: Any) -> Any:
    """A pulse at input ``port`` at ``t``."""
    i = tb.owner[port]
    c = tb.cell[i]
    s.arrived[port] += 1
    if tb.kind[c] == SOMA:
        return _charge(tb, s, i, c, port, t, seed, jitter, out)
    k = port - tb.in_at[i]
    if tb.rules_at[tb.rule_at[c] + k] < tb.rules_at[tb.rule_at[c] + k + 1]:
        fate = _judge(tb, s, i, c, k, port, t, policy, seed, found)
        if fate != GOES_ON:
            return STOPPED if fate == STOPPED else 0
    if tb.kind[c] != MEALY:
        k = 0 if uniform(seed, tb.key[i], s.arrived[port], CHANCE) < tb.numbers[tb.row[i], 0] else 1
    at = s.state[i] * tb.width[c] + k
    count = _emit(tb, s, i, c, at, t, tb.in_extra[port], 0.0, s.arrived[port], seed, jitter, out)
    s.state[i] = tb.to[tb.transition_at[c] + at]
    s.last[port] = t
    return count


@compiled
def _judge(tb: Any, s: Any, i: Any, c: Any, k: Any, port: Any, t: Any, policy: Any, seed: Any, found: Any) -> Any:
    """Whether a pulse GOES_ON, is LOST, or has STOPPED the run, by the cell's separations and the policy."""
    worst, legal, drops = -1, t, False
    for r in range(tb.rules_at[tb.rule_at[c] + k], tb.rules_at[tb.rule_at[c] + k + 1]):
        since = s.last[tb.in_at[i] + tb.rule_first[r]] + tb.rule_least[r]
        if since > legal:
            worst, legal = r, since
        drops = drops or (since > t and tb.rule_drops[r])
    if worst < 0:
        return GOES_ON
    lost = drops or policy == DROP
    if policy == RANDOM and not drops:
        lost = uniform(seed, tb.key[i], s.arrived[port], FATE + 4 * (k + 1)) < 0.5
    n = found.count[0]
    if n < found.rows.shape[0]:
        row = found.rows[n]
        row[0], row[1], row[2], row[3], row[4] = t, port, worst, legal, lost
    found.count[0] += 1
    if policy == ERROR:
        return STOPPED
    return LOST if lost else GOES_ON


@compiled
def _emit(
    tb: Any, s: Any, i: Any, c: Any, at: Any, t: Any, extra: Any, late: Any, pulse: Any, seed: Any, jitter: Any, out: Any
) -> Any:  # fmt: skip
    """Take transition ``at`` of the cell: count it, send its pulses. A pulse never overtakes the one before it."""
    tr = tb.transition_at[c] + at
    s.taken[tb.taken_at[i] + at] += 1
    later = late
    for r in range(tb.recovery_at[tr], tb.recovery_at[tr + 1]):
        later += _recovery(tb, r, t - s.last[tb.in_at[i] + tb.recovery_first[r]])
    count = 0
    for e in range(tb.emit_at[tr], tb.emit_at[tr + 1]):
        o = tb.out_at[i] + tb.emit_out[e]
        delay = later
        if jitter and tb.emit_jitter[e] > 0.0:
            delay += tb.emit_jitter[e] * normal(seed, tb.key[i], pulse, JITTER + e - tb.emit_at[tr] + 8 * (at + 1))
        when = t + tb.emit_delay[e] + extra + tb.out_extra[o] + np.int64(round(delay))
        when = max(when, t + 1, s.sent[o] + 1)
        s.sent[o] = when
        out[count, 0], out[count, 1] = o, when
        count += 1
    return count


@compiled
def _recovery(tb: Any, r: Any, since: Any) -> Any:
    times, values = tb.recovery_since[r], tb.recovery_extra[r]
    n = times.shape[0] - 1
    if since >= times[n]:
        return 0.0
    if since <= times[0]:
        return values[0]
    k = 0
    while times[k + 1] <= since:
        k += 1
    return values[k] + (values[k + 1] - values[k]) * (since - times[k]) / (times[k + 1] - times[k])


@compiled
def _charge(tb: Any, s: Any, i: Any, c: Any, port: Any, t: Any, seed: Any, jitter: Any, out: Any) -> Any:
    """v <- v exp(-dt/tau) + weight; slips back at the floor, fires at the threshold if it may."""
    m = tb.row[i]
    p = tb.numbers[m]
    v = s.v[m] * math.exp((s.v_at[m] - t) / p[TAU]) + tb.weight[port]
    s.taken[tb.taken_at[i]] += 1
    if v <= p[FLOOR]:
        v += p[BRANCHES]
        s.taken[tb.taken_at[i] + 2] += 1
    s.v[m], s.v_at[m], s.last[port] = v, t, t
    if v < p[THETA]:
        return 0
    if t < s.ready[m]:
        s.timer[m] = s.ready[m]
        return 0
    return _fire(tb, s, i, c, t, tb.in_extra[port], seed, jitter, out)


@compiled
def _fire(tb: Any, s: Any, i: Any, c: Any, t: Any, extra: Any, seed: Any, jitter: Any, out: Any) -> Any:
    m = tb.row[i]
    p = tb.numbers[m]
    over = max(s.v[m] - p[THETA], 1e-6)
    late = p[LATE] * math.log(1.0 + p[LATE_V] / over) if p[LATE] > 0.0 else 0.0
    fired = s.taken[tb.taken_at[i] + 1]
    count = _emit(tb, s, i, c, 1, t, extra, late, fired, seed, jitter, out)
    s.v[m] -= p[BRANCHES]
    s.ready[m] = t + np.int64(p[REFRACTORY])
    return count


@compiled
def wake(tb: Any, s: Any, i: Any, t: Any, seed: Any, jitter: Any, out: Any) -> Any:
    """The soma ``i`` may fire again: it does if it is still over its threshold."""
    m = tb.row[i]
    p = tb.numbers[m]
    s.timer[m] = 0
    s.v[m], s.v_at[m] = s.v[m] * math.exp((s.v_at[m] - t) / p[TAU]), t
    if s.v[m] < p[THETA]:
        return 0
    if t < s.ready[m]:
        s.timer[m] = s.ready[m]
        return 0
    return _fire(tb, s, i, tb.cell[i], t, 0, seed, jitter, out)


@compiled
def push(times: Any, ports: Any, size: Any, t: Any, port: Any) -> Any:
    """Add to a binary heap by (time, port); the new size."""
    k = size
    while k > 0:
        up = (k - 1) >> 1
        if times[up] < t or (times[up] == t and ports[up] <= port):
            break
        times[k], ports[k] = times[up], ports[up]
        k = up
    times[k], ports[k] = t, port
    return size + 1


@compiled
def pop(times: Any, ports: Any, size: Any) -> Any:
    """Remove the first of a heap, which the caller has read; the new size."""
    size -= 1
    t, port = times[size], ports[size]
    k, child = 0, 1
    while child < size:
        right = child + 1
        if right < size and (
            times[right] < times[child] or (times[right] == times[child] and ports[right] < ports[child])
        ):
            child = right
        if t < times[child] or (t == times[child] and port <= ports[child]):
            break
        times[k], ports[k] = times[child], ports[child]
        k = child
        child = 2 * k + 1
    times[k], ports[k] = t, port
    return size
