"""The law of the cells, compiled: what one pulse at one port does. Both engines call ``react``; nothing repeats it.

Times are attoseconds in int64. ``react`` and ``wake`` put what leaves the instance into ``out`` (port, time) and return
how many; -1 for a violation under the policy ``error``. Source: docs/sfq.md 3.3, 3.4, 4.2.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from sim.sfq.philox import CHANCE, FATE, JITTER, compiled, normal, uniform

NEVER = -(2**61)
MEALY, SOMA = 0, 1
ERROR, WARN, DROP, RANDOM = 0, 1, 2, 3
STOPPED, GOES_ON, LOST = -1, 0, 1
THETA, TAU, RESET, FLOOR, REFRACTORY, LATE, LATE_V, SLIP = range(8)
MOST_OUT = 64
"""Pulses that one pulse may cause at one instance, and one row more: when it really came."""
CAME = MOST_OUT - 1


class Cells(NamedTuple):
    """What a run changes: state of each instance; records of inputs, outputs' last times, counts, somas.

    ``inputs``: pulses that came, time of the last taken. ``somas``: v in pulses at ``v_at``, when it may fire again,
    when it will be looked at again (``timer``, 0: not).
    """

    state: Any
    inputs: Any
    sent: Any
    taken: Any
    somas: Any


class Found(NamedTuple):
    """Violations: rows (time, port, rule, earliest legal time, 1 if the pulse was lost); how many in ``count[0]``."""

    rows: Any
    count: Any


@compiled
def react(tb: Any, s: Any, port: Any, t: Any, policy: Any, seed: Any, jitter: Any, out: Any, found: Any) -> Any:
    """A pulse at input ``port`` at ``t``; ``out[CAME, 1]`` gets the time at which, for this load, it really came."""
    out[CAME, 1] = t
    line, mine = tb.inputs[port], s.inputs[port]
    mine.arrived += 1
    i = line.owner
    at = tb.instances[i]
    cell = tb.cells[at.cell]
    if cell.kind == SOMA:
        mine.last = t
        return _charge(tb, s, i, line.weight, t, seed, jitter, out)
    which = s.state[i] * cell.width + (port - at.in_at)
    if cell.kind != MEALY:
        which = 0 if uniform(seed, at.key, mine.arrived, CHANCE) < tb.numbers[at.row, 0] else 1
    row = tb.transitions[cell.transition_at + which]
    extra = 0
    if line.shift_at >= 0:
        t += tb.shifts[line.shift_at + which, 0]
        extra = tb.shifts[line.shift_at + which, 1]
    out[CAME, 1] = t
    if row.rules_at < row.rules_end:
        fate = _judge(tb, s, row.rules_at, row.rules_end, port, t, policy, seed, found)
        if fate != GOES_ON:
            return STOPPED if fate == STOPPED else 0
    count = _emit(tb, s, at, row, which, t, extra, mine.arrived, seed, jitter, out)
    s.state[i] = row.to
    mine.last = t
    return count


@compiled
def _judge(
    tb: Any, s: Any, begin: Any, end: Any, port: Any, t: Any, policy: Any, seed: Any, found: Any
) -> Any:  # fmt: skip
    """Whether a pulse GOES_ON, is LOST, or has STOPPED the run, by the cell's separations and the policy."""
    at = tb.instances[tb.inputs[port].owner]
    worst, legal, drops = -1, t, False
    for r in range(begin, end):
        since = s.inputs[at.in_at + tb.rules[r].first].last + tb.rules[r].least
        if since > legal:
            worst, legal = r, since
        drops = drops or (since > t and tb.rules[r].drops)
    if worst < 0:
        return GOES_ON
    lost = drops or policy == DROP
    if policy == RANDOM and not drops:
        lost = uniform(seed, at.key, s.inputs[port].arrived, FATE + 4 * (port - at.in_at + 1)) < 0.5
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
    tb: Any, s: Any, at: Any, row: Any, which: Any, t: Any, extra: Any, pulse: Any, seed: Any, jitter: Any, out: Any
) -> Any:  # fmt: skip
    """Take a transition: count it, send its pulses. A pulse never overtakes the one before it."""
    s.taken[at.taken_at + which] += 1
    after = extra
    for r in range(row.recovery_at, row.recovery_end):
        extra += _recovery(tb, r, t - s.inputs[at.in_at + tb.recovery_first[r]].last)
    count = 0
    for e in range(row.emit_at, row.emit_end):
        emit = tb.emissions[e]
        o = at.out_at + emit.out
        when = t + emit.delay + extra + tb.outputs[o].extra
        if emit.blend != 0.0:
            when += np.int64(round(emit.blend * after * tb.outputs[o].extra))
        if jitter and emit.jitter > 0.0:
            draw = normal(seed, at.key, pulse, JITTER + e - row.emit_at + 8 * (which + 1))
            when += np.int64(round(emit.jitter * draw))
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
        return np.int64(0)
    if since <= times[0]:
        return np.int64(round(values[0]))
    k = 0
    while times[k + 1] <= since:
        k += 1
    part = (since - times[k]) / (times[k + 1] - times[k])
    return np.int64(round(values[k] + (values[k + 1] - values[k]) * part))


@compiled
def _charge(tb: Any, s: Any, i: Any, weight: Any, t: Any, seed: Any, jitter: Any, out: Any) -> Any:
    """v <- v exp(-dt/tau) + weight; slips back at the floor, fires at the threshold if it may."""
    at = tb.instances[i]
    soma, p = s.somas[at.row], tb.numbers[at.row]
    v = soma.v * math.exp((soma.v_at - t) / p[TAU]) + weight
    s.taken[at.taken_at] += 1
    if v <= p[FLOOR]:
        v += p[RESET]
        s.taken[at.taken_at + 2] += 1
    soma.v, soma.v_at = v, t
    if v < p[THETA]:
        return 0
    if t < soma.ready:
        soma.timer = soma.ready
        return 0
    return _fire(tb, s, i, t, seed, jitter, out)


@compiled
def _fire(tb: Any, s: Any, i: Any, t: Any, seed: Any, jitter: Any, out: Any) -> Any:
    at = tb.instances[i]
    soma, p = s.somas[at.row], tb.numbers[at.row]
    over = max(soma.v - p[THETA], 1e-6)
    late = p[LATE] * math.log(1.0 + p[LATE_V] / over) if p[LATE] > 0.0 else 0.0
    row = tb.transitions[tb.cells[at.cell].transition_at + 1]
    fired = s.taken[at.taken_at + 1]
    slip = np.int64(round(p[SLIP] + late))
    count = _emit(tb, s, at, row, 1, t, slip, fired, seed, jitter, out)
    soma.v -= p[RESET] * math.exp(slip / p[TAU])
    soma.ready = t + slip + np.int64(p[REFRACTORY])
    return count


@compiled
def wake(tb: Any, s: Any, i: Any, t: Any, seed: Any, jitter: Any, out: Any) -> Any:
    """The soma ``i`` may fire again: it does if it is still over its threshold."""
    row = tb.instances[i].row
    soma, p = s.somas[row], tb.numbers[row]
    soma.timer = 0
    soma.v, soma.v_at = soma.v * math.exp((soma.v_at - t) / p[TAU]), t
    if soma.v < p[THETA]:
        return 0
    if t < soma.ready:
        soma.timer = soma.ready
        return 0
    return _fire(tb, s, i, t, seed, jitter, out)


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
