"""What each spike makes on the chip, and so the counts and the seconds of every chip step of a run.

    spikes, fired         messages that a node sends; neurons only
    synaptic_events       spikes times the non-zero synapses that they visit, per target; and by kind of connection
    messages              one per spike and core that it goes to, per source; input_messages: those of the input
    hops_ew, hops_ns      tiles between the two cores, per source; chip_messages: messages that leave their chip
    payload_bytes         whole bytes of graded payloads; a bare spike has none
    neuron_updates        neurons times steps, per population over its own steps; _input: that a message reached

Samples follow each other without a gap: step k of sample i of a population is chip step ``i T + k + start``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from export.loihi import InputNode, Int, LoihiProgram
from export.routes import routes
from hardware.loihi import Timing
from sim.loihi.arrivals import received, window
from sim.loihi.timing import Active, step_seconds, timing_of
from sim.run import Run

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class PerSpike:
    """``counts (source neurons,)`` of ``event``, kept under ``node``, that a spike of each neuron makes."""

    event: str
    node: str
    source: str
    counts: Int


@dataclass(frozen=True)
class Steps:
    """Per chip step: ``counts[event][node] (steps,)`` integers, ``seconds (steps,)`` or None without a time table."""

    counts: dict[str, dict[str, Int]]
    seconds: npt.NDArray[np.float64] | None
    notes: tuple[str, ...]


def per_spike(program: LoihiProgram) -> list[PerSpike]:
    """Every event that follows from the spikes alone."""
    out, way = [], routes(program)
    for n, node in program.nodes.items():
        one = np.ones(program.size(n), np.int64)
        out.append(PerSpike("spikes", n, n, one))
        out.append(PerSpike("messages", n, n, way[n].messages))
        if isinstance(node, InputNode):
            out.append(PerSpike("input_messages", n, n, way[n].messages))
        else:
            out.append(PerSpike("fired", n, n, one))
        out.append(PerSpike("hops_ew", n, n, way[n].hops_ew))
        out.append(PerSpike("hops_ns", n, n, way[n].hops_ns))
        out.append(PerSpike("chip_messages", n, n, way[n].far))
        bits = max((e.num_message_bits for e in program.edges if e.src == n), default=0)
        out.append(PerSpike("payload_bytes", n, n, way[n].messages * -(-bits // 8)))
    for e, fan in zip(program.edges, program.fan_out, strict=True):
        out.append(PerSpike("synaptic_events", e.dst, e.src, fan))
        out.append(PerSpike(f"synaptic_events_{e.kind}", e.dst, e.src, fan))
    return out


def chip_seconds(
    program: LoihiProgram, spikes: Mapping[str, Array], timing: Timing, active: Active = "all"
) -> npt.NDArray[np.float64]:
    """Seconds of each chip step; ``spikes[node] (samples T, neurons)`` in the node's own steps."""
    starts = {n: node.start for n, node in program.nodes.items()}
    return step_seconds(program, spikes, timing, active=active, starts=starts, steps=chip_steps(program, spikes))


def chip_steps(program: LoihiProgram, spikes: Mapping[str, Array]) -> int:
    """Steps that the chip takes until the last population has had all of its own."""
    return len(spikes[program.input]) + max(node.start for node in program.nodes.values())


def per_step(program: LoihiProgram, x: Array, run: Run, *, timing: str | None = None, active: Active = "all") -> Steps:
    """Counts and seconds of every chip step of ``run``; its sums are the totals of the run.

    ``x`` as it went in; the run needs the probes ``"<node>.s"`` of every population, as :func:`sim.engines.run` takes
    them. ``timing``: a time table of the chip's profile. ``active``: see :mod:`sim.loihi.timing`.
    Errors: ``ValueError`` for a missing probe or an unknown table.
    """
    spikes = _spikes(program, x, run)
    total = chip_steps(program, spikes)
    counts: dict[str, dict[str, Int]] = {}

    def add(event: str, node: str, of: str, each: Any) -> None:
        by = counts.setdefault(event, {})
        start = program.nodes[of].start
        by[node] = by.get(node, np.zeros(total, np.int64))
        by[node][start : start + len(each)] += each

    rows = {n: window(s, 0, 0, len(s)) for n, s in spikes.items()}
    for e in per_spike(program):
        add(e.event, e.node, e.source, rows[e.source] @ e.counts)
    reached = received(program, spikes, {n: node.start for n, node in program.nodes.items()})
    for n in program.populations:
        add("neuron_updates", n, n, np.full(len(spikes[n]), program.size(n)))
        add("neuron_updates_input", n, n, reached[n].sum(axis=1))
    table = timing_of(program, timing)
    seconds = None if table is None else chip_seconds(program, spikes, table, active)
    return Steps(counts, seconds, () if table is None else (time_note(table, active),))


def with_input_updates(program: LoihiProgram, x: Array, run: Run) -> Run:
    """The run with ``neuron_updates_input``, which :func:`hardware.energy.price` needs for ``active="input"``."""
    spikes = _spikes(program, x, run)
    reached = received(program, spikes, {n: node.start for n, node in program.nodes.items()})
    counts = {n: int(m.sum()) for n, m in reached.items()}
    return replace(run, counts=run.counts | {"neuron_updates_input": counts})


def time_note(timing: Timing, active: Active) -> str:
    """What a time is printed with."""
    who = {"all": "every neuron active", "input": "neurons with input active", "fired": "neurons that fired active"}
    return f"chip time: {timing.name}, {who[active]} in each step, no queueing between the cores"


def _spikes(program: LoihiProgram, x: Array, run: Run) -> dict[str, Array]:
    missing = [p for p in program.watched if p not in run.probes]
    if missing:
        raise ValueError(f"the run has no {', '.join(missing)}; run it with probes=program.watched")
    rows = run.samples * run.steps
    spikes = {n: run.probes[f"{n}.s"].reshape(rows, -1) for n in program.populations}
    return {program.input: np.asarray(x).reshape(rows, -1)} | spikes
