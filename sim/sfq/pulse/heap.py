"""Any netlist, event by event: a binary heap by (time, port). The order of events depends on nothing else."""

from __future__ import annotations

from typing import Any

from sim.sfq.philox import compiled
from sim.sfq.pulse.kernel import CAME, MOST_OUT, STOPPED, pop, push, react, wake

DONE, GROW, VIOLATED = 0, 1, 2


@compiled
def advance(
    tb: Any, s: Any, somas: Any, heap_t: Any, heap_p: Any, fill: Any, src_t: Any, src_p: Any, t_end: Any, policy: Any,
    seed: Any, jitter: Any, out: Any, seen: Any, found: Any,
) -> Any:  # fmt: skip
    """All events before ``t_end``. ``fill``: size of the heap, sources taken, rows of ``seen`` (port, time), events.

    A port beyond the inputs is the timer of soma ``somas[port - inputs]``. GROW: the heap or ``seen`` is nearly full;
    call again with larger ones.
    """
    inputs = tb.inputs.shape[0]
    size, at, shown, events = fill[0], fill[1], fill[2], fill[3]
    status = DONE
    while True:
        if size + MOST_OUT > heap_t.shape[0] or shown + MOST_OUT > seen.shape[0]:
            status = GROW
            break
        if at < src_t.shape[0] and (
            size == 0 or src_t[at] < heap_t[0] or (src_t[at] == heap_t[0] and src_p[at] <= heap_p[0])
        ):
            t, port = src_t[at], src_p[at]
            if t >= t_end:
                break
            at += 1
        elif size > 0 and heap_t[0] < t_end:
            t, port = heap_t[0], heap_p[0]
            size = pop(heap_t, heap_p, size)
        else:
            break
        if port < inputs:
            m = tb.instances[tb.inputs[port].owner].row
            timer = s.somas[m].timer if m >= 0 else 0
            count = react(tb, s, port, t, policy, seed, jitter, out, found)
            events += 1
            if tb.inputs[port].watch >= 0:
                seen[shown, 0], seen[shown, 1] = tb.inputs[port].watch, out[CAME, 1]
                shown += 1
        else:
            m, timer, count = port - inputs, 0, 0
            if s.somas[m].timer == t:
                count = wake(tb, s, somas[m], t, seed, jitter, out)
        if m >= 0 and s.somas[m].timer != timer and s.somas[m].timer != 0:
            size = push(heap_t, heap_p, size, s.somas[m].timer, inputs + m)
        if count == STOPPED:
            status = VIOLATED
            break
        for e in range(count):
            o = out[e, 0]
            if tb.outputs[o].watched and tb.outputs[o].to < 0:
                seen[shown, 0], seen[shown, 1] = o, out[e, 1]
                shown += 1
            if tb.outputs[o].to >= 0:
                size = push(heap_t, heap_p, size, out[e, 1], tb.outputs[o].to)
    fill[0], fill[1], fill[2], fill[3] = size, at, shown, events
    return status
