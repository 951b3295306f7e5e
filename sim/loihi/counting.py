"""What an engine collects, and the run that it comes to: integer counts per event and population, seconds on the chip.

Events and chip steps are those of :mod:`sim.loihi.steps`, time that of :mod:`sim.loihi.timing` with every neuron
active, an upper bound. An update is active where a neuron had input, u, v or bias that was not 0.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from export.loihi import InputNode, LoihiProgram
from sim.loihi.steps import chip_seconds, per_spike, time_note
from sim.loihi.timing import timing_of
from sim.run import Counts, Run, versions

Array = npt.NDArray[Any]


@dataclass
class Activity:
    """What an engine collects: ``spikes`` and asked ``traces`` (samples, T, neurons), flags per population.

    ``spikes`` are messages, int8 or int32 payloads. ``flags[node]``: active updates, wrapped currents, clipped
    voltages.
    """

    spikes: dict[str, Array]
    traces: dict[str, npt.NDArray[np.int32]]
    flags: dict[str, npt.NDArray[np.int64]]

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


def tally(s: Array) -> npt.NDArray[np.int64]:
    """Messages of each neuron, ``(..., neurons) -> (neurons,)``: how many are not 0."""
    rows = s.reshape(-1, s.shape[-1])
    on = rows if rows.dtype == np.int8 and s.size and rows.min() >= 0 and rows.max() <= 1 else rows != 0
    parts = [on[k : k + 255].view(np.uint8).sum(axis=0, dtype=np.uint8) for k in range(0, len(on), 255)]
    return np.sum(parts, axis=0, dtype=np.int64) if parts else np.zeros(s.shape[-1], np.int64)


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


def unwrapped(flags: Mapping[str, Array]) -> None:
    """Law "hw". Errors: ``ValueError`` naming the populations whose current wrapped."""
    if bad := [n for n, f in flags.items() if f[1]]:
        raise ValueError(
            f"{', '.join(bad)}: the current left 24 bits and wrapped; under law 'hw' that is an error: compile with a "
            "calibration batch, or assemble with law='lava'"
        )


def finish(
    program: LoihiProgram, x: Array, activity: Activity, probes: Sequence[str], machine: str, began: float
) -> Run:
    """The Run of either engine: counts, seconds on the chip, probes in the shapes of their nodes."""
    wall = time.perf_counter() - began
    if program.law == "hw":
        unwrapped(activity.flags)
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
        notes=_notes(program, counts, activity),
        versions=dict(_stamp()),
    )


def count(program: LoihiProgram, x: Array, activity: Activity) -> tuple[Counts, float | None]:
    """``(counts, seconds on the chip)``; None where the profile has no timing."""
    samples, steps = x.shape[:2]
    spikes = {n: a.reshape(samples * steps, -1) for n, a in {program.input: x, **activity.spikes}.items()}
    each = {n: tally(s) for n, s in spikes.items()}
    active = {n: int(f[0]) for n, f in activity.flags.items()}
    updates = {n: samples * steps * program.size(n) for n in active}
    out: Counts = {}
    for e in per_spike(program):
        by = out.setdefault(e.event, {})
        by[e.node] = by.get(e.node, 0) + int(each[e.source] @ e.counts)
    out |= {
        "neuron_updates": updates,
        "neuron_updates_active": active,
        "neuron_updates_inactive": {n: updates[n] - active[n] for n in active},
    }
    timing = timing_of(program)
    return out, None if timing is None else float(chip_seconds(program, spikes, timing).sum())


@cache
def _stamp() -> dict[str, str]:
    return versions("numba")


def _notes(program: LoihiProgram, counts: Counts, activity: Activity) -> tuple[str, ...]:
    notes = [
        f"{n}: the current wrapped {f[1]} times, nearly always a mapping error; compile with another calibration"
        for n, f in activity.flags.items()
        if f[1]
    ]
    notes += [f"{n}: the voltage was clipped {f[2]} times" for n, f in activity.flags.items() if f[2]]
    far = sum(counts["chip_messages"].values())
    if far:
        notes.append(
            f"{far} messages went to another chip: counted as hops, no table has a price or time for leaving it"
        )
    timing = timing_of(program)
    return (*notes, *([] if timing is None else [time_note(timing, "all")]))
