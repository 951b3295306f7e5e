"""What the chip did: integer counts per event and population, and the time of a barrier-synchronised step.

    synaptic_events   spikes times the non-zero synapses that they visit, per target
    neuron_updates    neurons times steps, per population over its own T steps; active where a neuron had input, u, v
                      or bias that was not 0
    messages          one per spike and core that it goes to, per source;  hops: tiles between the two cores
    T_step = max over cores of max(generate, receive) + barrier(tiles)
    generate = neurons neuron_s + spikes spike_s + messages axon_out_s
    receive  = messages axon_in_s + synaptic events synapse_s

That is SANA-FE's "simple" timing model. Samples follow each other without a gap, so a run takes ``samples T + latency``
steps. Every neuron is charged as active in it: an upper bound. Input lines sit on cores of their own, which send
messages but update nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from export.loihi import InputNode, LoihiProgram
from export.place import Route, routes
from hardware.loihi import DEFAULT_TIMING, Timing, load_profile
from sim.run import Counts, Run, versions

Array = npt.NDArray[Any]
_LOADS: WeakKeyDictionary[LoihiProgram, dict[str, tuple[Array, Array]]] = WeakKeyDictionary()
BLOCK = 4096
"""Chip steps whose load is computed at a time."""


@dataclass
class Activity:
    """What an engine collects: ``spikes`` and asked ``traces`` (samples, T, neurons), totals per population.

    ``spikes`` are messages, int8 or int32 payloads. ``flags[node]``: active updates, wrapped currents, clipped
    voltages.
    """

    spikes: dict[str, Array]
    traces: dict[str, npt.NDArray[np.int32]]
    flags: dict[str, npt.NDArray[np.int64]]
    events: dict[str, int]

    @classmethod
    def empty(cls, program: LoihiProgram, samples: int, steps: int, probes: Sequence[str]) -> Activity:
        """Room for a run. Errors: ``ValueError`` for a probe that there is not."""
        known = [f"{n}.{k}" for n, p in program.populations.items() for k in ("s", *p.states)]
        for p in probes:
            if p not in known:
                raise ValueError(f"no probe '{p}'; there are {', '.join(known)}")
        return cls(
            {n: np.zeros((samples, steps, program.size(n)), message_type(program, n)) for n in program.populations},
            {p: np.zeros((samples, steps, program.size(owner(p))), np.int32) for p in probes if p[-2:] != ".s"},
            {n: np.zeros(3, np.int64) for n in program.populations},
            dict.fromkeys(program.populations, 0),
        )

    def record(self, name: str, k: int, s: Array, state: Mapping[str, Array]) -> None:
        """Step k of all samples of one population."""
        self.spikes[name][:, k] = s
        for key, value in state.items():
            if f"{name}.{key}" in self.traces:
                self.traces[f"{name}.{key}"][:, k] = value

    def add(self, name: str, active: int, wrapped: int, clipped: int) -> None:
        """Add to the totals of one population."""
        self.flags[name] += (active, wrapped, clipped)


def owner(probe: str) -> str:
    """The population of a probe ``"<node>.<variable>"``."""
    return probe.rpartition(".")[0]


def message_type(program: LoihiProgram, name: str) -> type[np.int8] | type[np.int32]:
    """int32 for a population that sends integers, int8 for one that sends 0 and 1."""
    return np.int32 if program.nodes[name].graded else np.int8


def checked(program: LoihiProgram, x: Array) -> Array:
    """``x (samples, T, *input)`` as int8 spikes or int32 payloads. Errors: ``ValueError`` with the fix."""
    want = program.input_shape
    if x.ndim < 2 or tuple(x.shape[2:]) != tuple(want):
        raise ValueError(f"x must be (samples, T, {', '.join(map(str, want))}), got {x.shape}")
    node = program.nodes[program.input]
    bits = node.message_bits if isinstance(node, InputNode) else 0
    low, high = (-(2**bits) + 1, 2**bits - 1) if bits else (0, 1)
    if x.dtype != np.bool_ and not np.issubdtype(x.dtype, np.integer):
        whole = np.rint(x)
        if not np.array_equal(whole, x):
            raise ValueError(
                f"{program.input}: x holds fractions, the chip takes whole messages; encode it with neuro.encode.rate "
                "or latency, or scale it to integers and compile with graded_bits"
            )
        x = whole
    if x.size and (x.min() < low or x.max() > high):
        raise ValueError(
            f"{program.input}: x holds {x.min():g} to {x.max():g}, the program takes {low} to {high}; encode it as "
            "spikes with neuro.encode, or compile with more graded_bits"
        )
    return x.astype(np.int32 if bits else np.int8)


def finish(
    program: LoihiProgram, x: Array, activity: Activity, probes: Sequence[str], machine: str, began: float
) -> Run:
    """The Run of either engine: counts, seconds on the chip, probes in the shapes of their nodes."""
    wall = time.perf_counter() - began
    if program.law == "hw" and (bad := [n for n, f in activity.flags.items() if f[1]]):
        raise ValueError(
            f"{', '.join(bad)}: the current left 24 bits and wrapped; under law 'hw' that is an error: compile with a "
            "calibration batch, or assemble with law='lava'"
        )
    samples, steps = x.shape[:2]
    counts, chip_s = count(program, x, activity)

    def shaped(name: str, a: Array) -> Array:
        return a.reshape(samples, steps, *program.nodes[name].shape)

    found = {f"{n}.s": shaped(n, s) for n, s in activity.spikes.items() if f"{n}.s" in probes}
    found |= {p: shaped(owner(p), a) for p, a in activity.traces.items()}
    return Run(
        machine=machine,
        y=shaped(program.output, activity.spikes[program.output]),
        counts=counts,
        samples=samples,
        steps=steps,
        dt_s=program.dt_s,
        probes=found,
        latency_steps=program.latency,
        wall_s=wall,
        machine_s=chip_s,
        notes=_notes(activity),
        versions=dict(_stamp()),
    )


def count(program: LoihiProgram, x: Array, activity: Activity) -> tuple[Counts, float | None]:
    """``(counts, seconds on the chip)``; None where the profile has no timing."""
    samples, steps = x.shape[:2]
    rasters: dict[str, Array] = {program.input: (x != 0).reshape(samples * steps, -1)}
    rasters |= {n: (s != 0).reshape(samples * steps, -1) for n, s in activity.spikes.items()}
    each = {n: r.sum(axis=0, dtype=np.int64) for n, r in rasters.items()}
    way = routes(program)
    active = {n: int(f[0]) for n, f in activity.flags.items()}
    updates = {n: samples * steps * program.size(n) for n in active}
    sent = {n: int(each[n] @ way[n].messages) for n in rasters}
    out: Counts = {
        "spikes": {n: int(e.sum()) for n, e in each.items()},
        "fired": {n: int(each[n].sum()) for n in active},
        "synaptic_events": dict(activity.events),
        "neuron_updates": updates,
        "neuron_updates_active": active,
        "neuron_updates_inactive": {n: updates[n] - active[n] for n in active},
        "messages": sent,
        "input_messages": {program.input: sent[program.input]},
        "hops_ew": {n: int(each[n] @ way[n].hops_ew) for n in rasters},
        "hops_ns": {n: int(each[n] @ way[n].hops_ns) for n in rasters},
    }
    timing = load_profile(program.profile).timing.get(DEFAULT_TIMING)
    return out, None if timing is None else seconds(program, rasters, way, timing)


def seconds(program: LoihiProgram, rasters: dict[str, Array], way: dict[str, Route], timing: Timing) -> float:
    """Time of all steps; ``rasters (steps of all samples, neurons)`` per population in its own steps."""
    profile = load_profile(program.profile)
    cores = way[program.input].received.shape[1]
    tiles = len({profile.tile(c) for c in range(cores)})
    idle = timing.neuron_s * sum(np.bincount(program.placement[n], minlength=cores) for n in program.populations)
    if program not in _LOADS:
        _LOADS[program] = {n: _load(program, n, route) for n, route in way.items()}
    loads = _LOADS[program]
    price = np.array([timing.spike_s, timing.axon_out_s, timing.axon_in_s, timing.synapse_s])
    steps = len(rasters[program.input]) + program.latency
    total = steps * timing.sync_s(tiles)
    for begin in range(0, steps, BLOCK):
        end = min(steps, begin + BLOCK)
        events = np.zeros((end - begin, 4 * cores))
        for n in loads:
            start = program.nodes[n].start
            rows = rasters[n][max(0, begin - start) : max(0, end - start)]
            first = max(0, start - begin)
            group, load = loads[n]  # whole numbers below 2^24: float32 is exact
            events[first : first + len(rows)] += rows.astype(np.float32) @ group @ load
        cost = events.reshape(-1, 4, cores) * price[:, None]
        generate, receive = idle + cost[:, 0] + cost[:, 1], cost[:, 2] + cost[:, 3]
        total += float(np.maximum(generate, receive).max(axis=1).sum())
    return total


@cache
def _stamp() -> dict[str, str]:
    return versions("numba")


def _load(program: LoihiProgram, name: str, route: Route) -> tuple[Array, Array]:
    """``(groups (neurons, n), events of a group's spike (n, 4 cores))``: most neurons of a core do the same."""
    home = np.eye(route.received.shape[1], dtype=np.float32)[program.placement[name]]
    fires = not isinstance(program.nodes[name], InputNode)
    load = np.hstack([home * fires, home * route.messages[:, None], route.received, route.synapses]).astype(np.float32)
    kinds, which = np.unique(load, axis=0, return_inverse=True)
    if len(kinds) >= load.shape[1]:
        return load, np.eye(load.shape[1], dtype=np.float32)
    return np.eye(len(kinds), dtype=np.float32)[which.ravel()], kinds


def _notes(activity: Activity) -> tuple[str, ...]:
    wraps = [
        f"{n}: the current wrapped {f[1]} times, nearly always a mapping error; compile with another calibration"
        for n, f in activity.flags.items()
        if f[1]
    ]
    return (*wraps, *(f"{n}: the voltage was clipped {f[2]} times" for n, f in activity.flags.items() if f[2]))
