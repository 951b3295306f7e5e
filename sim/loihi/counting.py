"""What the chip does for given spikes: exact integer counts per event, and the barrier-synchronised time.

    synaptic_events  spikes times stored non-zero synapses           messages  one per (spike, destination core)
    neuron_updates   neurons times steps, split active / inactive    hops      tiles between source and target core
    T_step = max over cores of max(generate, receive) + barrier(tiles)
    generate = neurons (access + update) + spikes spike + messages axon_out
    receive  = messages in axon_in + synaptic events synapse

This is SANA-FE's "simple" timing model. A neuron is active in a step in which it has input, current, voltage or bias.
Input spikes are injected from the host: they make messages, from the core of tile 0, but no neuron updates.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from export.to_loihi import Connection, LoihiProgram
from sim.run import Counts

Array = npt.NDArray[Any]


@dataclass
class Activity:
    """``busy[node] (T, neurons)``: samples in which a neuron was active; wraps and clips per node."""

    busy: dict[str, Array]
    wrapped: dict[str, int] = field(default_factory=dict)
    clipped: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, program: LoihiProgram, x: Array) -> Activity:
        """Empty, for ``x (samples, T, ...)``."""
        return cls({n: np.zeros((x.shape[1], int(np.prod(p.shape))), np.int64) for n, p in program.populations.items()})

    def add(self, node: str, t: int, busy: Array, wrapped: int, clipped: int) -> None:
        """One step of one population: ``busy (samples, neurons)``."""
        self.busy[node][t] += busy.sum(axis=0)
        self.wrapped[node] = self.wrapped.get(node, 0) + wrapped
        self.clipped[node] = self.clipped.get(node, 0) + clipped

    def notes(self) -> tuple[str, ...]:
        """A line for each population whose current wrapped or voltage clipped: nearly always a mapping error."""
        out = [f"{n}: the current wrapped {k} times; lower its scale" for n, k in self.wrapped.items() if k]
        return (*out, *(f"{n}: the voltage was clipped {k} times" for n, k in self.clipped.items() if k))


def fan(program: LoihiProgram, c: Connection) -> Array:
    """Non-zero synapses from each source neuron into each core of the target: ``(sources, cores)``."""
    cores = program.placement.cores[c.dst]
    base, n_cores = int(cores.min()), int(cores.max() - cores.min() + 1)
    used = c.effective() != 0
    one_hot = np.eye(n_cores, dtype=np.int64)[cores - base]
    if c.kind == "dense":
        return np.asarray(used.T.astype(np.int64) @ one_hot)
    return _conv_fan(used, c, program.shape_of(c.src), program.shape_of(c.dst), one_hot)


def _conv_fan(used: Array, c: Connection, source: Any, target: Any, one_hot: Array) -> Array:
    rows, cols = (_reach(source[k + 1], target[k + 1], used.shape[k + 2], k, c) for k in (0, 1))
    held = one_hot.reshape(*target, -1).astype(np.float64)
    out_g = used.shape[0] // c.groups
    parts = []
    for g in range(c.groups):
        block = used[g * out_g : (g + 1) * out_g].astype(np.float64)
        here = held[g * out_g : (g + 1) * out_g]
        parts.append(np.einsum("ocij,oyxk,iyh,jxw->chwk", block, here, rows, cols, optimize=True))
    fans = np.concatenate(parts)
    return np.rint(fans).astype(np.int64).reshape(-1, one_hot.shape[1])


def _reach(n_in: int, n_out: int, kernel: int, axis: int, c: Connection) -> Array:
    """``[tap, window, input] = 1`` where a tap of a window falls on an input."""
    hit = np.zeros((kernel, n_out, n_in))
    for k in range(kernel):
        at = np.arange(n_out) * c.stride[axis] - c.padding[axis] + k * c.dilation[axis]
        ok = (at >= 0) & (at < n_in)
        hit[k, np.flatnonzero(ok), at[ok]] = 1
    return hit


def count(program: LoihiProgram, x: Array, trains: dict[str, Array], activity: Activity) -> tuple[Counts, float | None]:
    """``(counts, seconds on the chip)`` of a run; the seconds are None where the profile has no timing."""
    samples, steps = x.shape[:2]
    spikes = {n: (s != 0).reshape(samples, steps, -1) for n, s in trains.items()}
    spikes[program.input_name] = (x != 0).reshape(samples, steps, -1)
    out: Counts = {"spikes": {n: int(s.sum()) for n, s in spikes.items()}}
    out["fired"] = {n: int(spikes[n].sum()) for n in trains}
    out["neuron_updates"] = {n: samples * steps * spikes[n].shape[2] for n in trains}
    out["neuron_updates_active"] = {n: int(activity.busy[n].sum()) for n in trains}
    out["neuron_updates_inactive"] = {
        n: k - out["neuron_updates_active"][n] for n, k in out["neuron_updates"].items()
    }
    out["input_messages"] = {}
    for event in ("synaptic_events", "messages", "hops_ew", "hops_ns"):
        out[event] = {}
    load = _Load(program, samples, steps)
    for c in program.connections:
        _connection(program, c, spikes[c.src], out, load)
    for n in trains:
        load.neurons(n, spikes[n])
    return out, load.seconds()


def _connection(program: LoihiProgram, c: Connection, s: Array, out: Counts, load: _Load) -> None:
    fans = fan(program, c)
    sent = fans > 0
    per_source = s.sum(axis=(0, 1))
    base = int(program.placement.cores[c.dst].min())

    def add(event: str, node: str, n: int) -> None:
        out[event][node] = out[event].get(node, 0) + n

    add("synaptic_events", c.dst, int(per_source @ fans.sum(axis=1)))
    messages = per_source[:, None] * sent
    add("messages", c.src, int(messages.sum()))
    if c.src == program.input_name:
        add("input_messages", c.src, int(messages.sum()))
    chip = program.placement.chip
    home = program.placement.cores.get(c.src, np.zeros(s.shape[2], np.int64))
    columns, rows = np.array([chip.tile(int(k)) for k in home]).T
    for k in range(fans.shape[1]):
        column, row = chip.tile(base + k)
        add("hops_ew", c.src, int(messages[:, k] @ np.abs(columns - column)))
        add("hops_ns", c.src, int(messages[:, k] @ np.abs(rows - row)))
    load.traffic(c, s, fans, sent, base)


class _Load:
    """Seconds of work per (sample, step, core): generating and receiving."""

    def __init__(self, program: LoihiProgram, samples: int, steps: int) -> None:
        self.program, self.timing = program, program.placement.chip.timing_s
        top = 1 + max(int(c.max()) for c in program.placement.cores.values())
        self.generate = np.zeros((samples, steps, top), np.float32)
        self.receive = np.zeros_like(self.generate)

    def traffic(self, c: Connection, s: Array, fans: Array, sent: Array, base: int) -> None:
        """Messages and synaptic events of one connection."""
        if not self.timing:
            return
        t, f = self.timing, s.astype(np.float32)
        cost = sent * t["axon_in"] + fans * t["synapse"]
        self.receive[:, :, base : base + fans.shape[1]] += f @ cost.astype(np.float32)
        if c.src in self.program.populations:
            self._by_core(c.src, f * (sent.sum(axis=1) * t["axon_out"]).astype(np.float32))

    def neurons(self, name: str, s: Array) -> None:
        """Updates and spikes of one population."""
        if self.timing:
            each = self.timing["soma_access"] + self.timing["soma_update"]
            self._by_core(name, s * np.float32(self.timing["soma_spike"]) + np.float32(each))

    def seconds(self) -> float | None:
        """Sum over steps of the slowest core plus the barrier; the pipeline's fill is not added."""
        if not self.timing:
            return None
        chip = self.program.placement.chip
        tiles = len({chip.tile(k) for k in range(self.generate.shape[2])})
        slowest = np.maximum(self.generate, self.receive).max(axis=2)
        return float(slowest.sum(dtype=np.float64) + slowest.size * chip.barrier_s(tiles))

    def _by_core(self, name: str, value: Array) -> None:
        cores = self.program.placement.cores[name]
        for core in np.unique(cores):
            self.generate[:, :, core] += value[:, :, cores == core].sum(axis=2)
