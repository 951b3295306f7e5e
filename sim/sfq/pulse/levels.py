"""A netlist without loops, instance by instance in the order of the flow, whole pulse trains at a time.

The law is ``kernel.react``; an instance takes its inputs merged by (time, port), as the heap would give them to it. So
both engines agree to the attosecond, and either goes on from the other's state. Instances of one level run in threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.sfq.philox import compiled
from sim.sfq.pulse.kernel import CAME, STOPPED, pop, push, react, wake

FEW = 4
"""Up to so many inputs, looking at each for the earliest is faster than a heap."""


@compiled
def run_instances(
    tb: Any, s: Any, which: Any, pool: Any, begin: Any, end: Any, filled: Any, t_end: Any, policy: Any, seed: Any,
    jitter: Any, out: Any, found: Any,
) -> Any:  # fmt: skip
    """Run each instance of ``which`` to ``t_end``; the number of pulses taken, -1 - that after a violation.

    ``pool[begin[p]:end[p]]`` are the pulses of input p, of which ``begin`` passes those that are taken, whose
    times become those at which they really came; output o
    appends at ``filled[o]``. A violation ends its own instance only: the earliest of all is the run's.
    """
    events = 0
    stopped = False
    widest = 1
    for i in which:
        widest = max(widest, tb.instances[i].in_end - tb.instances[i].in_at)
    heads_t, heads_p = np.empty(widest + 1, np.int64), np.empty(widest + 1, np.int64)
    for i in which:
        at = tb.instances[i]
        first, last, m = at.in_at, at.in_end, at.row
        heaped = last - first > FEW
        size = 0
        if heaped:
            for p in range(first, last):
                if begin[p] < end[p]:
                    size = push(heads_t, heads_p, size, pool[begin[p]], p)
        while True:
            port = -1
            if heaped:
                if size > 0:
                    port = heads_p[0]
            else:
                for p in range(first, last):
                    if begin[p] < end[p] and (port < 0 or pool[begin[p]] < pool[begin[port]]):
                        port = p
            timer = s.somas[m].timer if m >= 0 else 0
            if timer != 0 and timer < t_end and (port < 0 or timer < pool[begin[port]]):
                count = wake(tb, s, i, timer, seed, jitter, out)
            else:
                if port < 0 or pool[begin[port]] >= t_end:
                    break
                count = react(tb, s, port, pool[begin[port]], policy, seed, jitter, out, found)
                pool[begin[port]] = out[CAME, 1]
                events += 1
                begin[port] += 1
                if heaped:
                    size = pop(heads_t, heads_p, size)
                    if begin[port] < end[port]:
                        size = push(heads_t, heads_p, size, pool[begin[port]], port)
            if count == STOPPED:
                stopped = True
                break
            for e in range(count):
                o = out[e, 0]
                pool[filled[o]] = out[e, 1]
                filled[o] += 1
    return -1 - events if stopped else events


@compiled
def reserve(tb: Any, s: Any, which: Any, begin: Any, end: Any, size: Any, filled: Any, load: Any) -> Any:
    """Room in the pool for the outputs of ``which`` from ``size`` on: what already waits at the load, then new pulses.

    ``filled[o]``: where new pulses begin; ``load`` (instances) takes the number of pulses each has. The new size. A
    pulse causes at most one at each output; a soma besides may fire what it has kept.
    """
    for n, i in enumerate(which):
        pulses: Any = 0
        for p in range(tb.instances[i].in_at, tb.instances[i].in_end):
            pulses += end[p] - begin[p]
        load[n] = pulses
        if tb.instances[i].row >= 0:
            pulses += 2 + np.int64(abs(s.somas[tb.instances[i].row].v))
        for o in range(tb.instances[i].out_at, tb.instances[i].out_end):
            p = tb.outputs[o].to
            filled[o] = size + (end[p] - begin[p] if p >= 0 else 0)
            size = filled[o] + pulses
    return size


@compiled
def hand_over(tb: Any, which: Any, pool: Any, begin: Any, end: Any, filled: Any) -> None:
    """Before the instances run: move what waits at their loads in front of the room for new pulses."""
    for i in which:
        for o in range(tb.instances[i].out_at, tb.instances[i].out_end):
            p = tb.outputs[o].to
            if p >= 0:
                n = end[p] - begin[p]
                pool[filled[o] - n : filled[o]] = pool[begin[p] : end[p]]
                begin[p] = filled[o] - n
