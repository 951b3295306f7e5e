"""Run an SFQ program at junction level: pulses of ``x`` into its sources, slips of its junctions out.

A spike of input i in step t is a triangular voltage pulse of one flux quantum at ``start_i + t step``, in both
polarities. A neuron's spike is a slip of its junction; the slip at time u belongs to step

    t = floor((u - start - latency + step/4) / step),

``start`` the earliest of the inputs, ``latency`` the neuron's from the program (fastest way from an input), the quarter
step because a pulse may be early; slips before the first step count in it. So latency is removed from y and spikes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.sfq_netlist import pulse_points
from export.sfq_program import SfqProgram, Wiring
from sim.run import Run, versions
from sim.sfq.batch import BatchRun, batch
from sim.sfq.circuit import Circuit
from sim.sfq.corners import Corners, one
from sim.sfq.deck import loads
from sim.sfq.ledger import Ledger
from sim.sfq.shapes import Pwl, Shape
from sim.sfq.transient import Transient, transient

Progress = Callable[[float], None]
Array = npt.NDArray[Any]
DRAWN = 64
"""Junctions whose slips are kept for drawing."""
SIDE_BY_SIDE = 1000
"""Junctions above which a sample alone is as fast as one of sixteen in lanes: these leave the cache (measured)."""


def run(
    program: SfqProgram | str | Path,
    x: Array | None,
    *,
    probes: Sequence[str] = (),
    progress: Progress | None = None,
) -> Run:
    """Run ``x (samples, T, *input_shape)`` of 0 and 1, or the deck as it stands (``x=None``, one sample).

    ``probes``: ``"<node>.s"`` spikes per step ``(samples, T, n)``; any trace, ``"P(B1.X1.XL1N0)"`` or ``"I(..)"``, of
    the first sample that answers (else the first), with ``time_s``. Without ``x`` and probes: the ``.print`` lines.
    Probes also hold ``bias_work_J`` and ``heat_J (samples,)`` and, as ``"slips(B1|X1)" (n, 2)``, time in s and sign of
    the slips of up to DRAWN junctions (the neurons' where there are more) in the same sample.
    Counts: ``junction_switchings``, ``slip_ic_nA``, ``bias_charge_nA_ps``, ``spikes``, ``synaptic_events``.
    Errors: ``ValueError`` for input that is not pulses, a plain deck with ``x``, an unknown probe; ``DeckError``.
    """
    start = time.perf_counter()
    program = program if isinstance(program, SfqProgram) else SfqProgram.load(program)
    circuit = loads(program.deck, program.folder, program.source).flatten()
    traces = _traces(program.wiring, probes)
    if program.wiring is None:
        done = _plain(circuit, x, traces, progress)
    else:
        done = _wired(circuit, program.wiring, x, traces, probes, progress)
    return replace(done, program={"machine": "sfq", "hash": program.hash()}, wall_s=time.perf_counter() - start)


def _plain(circuit: Circuit, x: Array | None, traces: list[str], progress: Progress | None) -> Run:
    if x is not None:
        raise ValueError(
            "a deck without '* spikeport' line does not say which source is which input; run it with x=None"
        )
    done = transient(circuit, watch=circuit.junctions.names[:DRAWN], probes=traces or None, progress=progress)
    ledger = Ledger(circuit, None)
    ledger.add_slips(np.array([done.slips[n] for n in circuit.junctions.names]))
    seconds = done.steps * done.step_s
    ledger.add_time(seconds)
    used = np.array([done.step_s_used])
    shown = _shown(done) | {f"slips({n})": rows for n, rows in done.pulses.items()}
    shown |= {k: np.array([v]) for k, v in (("bias_work_J", done.energy.bias_J), ("heat_J", done.energy.dissipated_J))}
    return _run(ledger, np.zeros((1, 1, 0), np.int16), seconds, shown, used, seconds)


def _wired(
    circuit: Circuit,
    wiring: Wiring,
    x: Array | None,
    traces: list[str],
    probes: Sequence[str],
    progress: Progress | None,
) -> Run:
    pulses = None if x is None else pulses_of(wiring, x)
    samples, steps = (1, wiring.steps) if pulses is None else pulses.shape[:2]
    stop = stop_s(wiring, steps)
    neurons = [j for js in wiring.neurons.values() for j in js]
    watched = list(circuit.junctions.names) if circuit.jj_count <= DRAWN else neurons
    drives = {} if pulses is None else drives_of(circuit, wiring, pulses)
    tell = _share(progress, 0.0, samples / (samples + 1))
    done = _simulate(circuit, Corners(samples, shapes=drives), stop, watched, tell)
    ledger = Ledger(circuit, wiring)
    ledger.add_slips(done.slips)
    ledger.add_time(samples * stop)
    spikes = {
        node: np.stack(
            [
                np.stack(
                    [binned(wiring, done.times_s(j, k), late, steps) for j, late in zip(js, lates, strict=True)], 1
                )
                for k in range(samples)
            ]
        )
        for (node, js), lates in zip(wiring.neurons.items(), wiring.latency_s.values(), strict=True)
    }
    speaks = int(spikes[wiring.output_node].any(axis=(1, 2)).argmax())
    wanted = [r.label for r in circuit.requests] if pulses is None and not probes else traces
    shown = done.probes(watched, speaks)
    if wanted:
        tell = _share(progress, samples / (samples + 1), 1.0)
        told = one(circuit, Corners(samples, shapes=drives), speaks)
        shown |= _shown(transient(told, t_stop=stop, watch=(), probes=wanted, progress=tell))
    shown |= {f"{n}.s": s for n, s in spikes.items() if not probes or f"{n}.s" in probes}
    out = _run(ledger, spikes[wiring.output_node], wiring.step_s, shown, done.step_s_used, samples * stop)
    return spiked(out, wiring, spikes, None if pulses is None else int(pulses.sum()))


@dataclass(frozen=True)
class _Seen:
    """``slips_of(junction, sample)``: rows of time (s) and sign; ``slips`` of all junctions, over all samples; by
    sample the smallest step taken, the work of the bias and the heat, by the integrals of the solver."""

    slips_of: Callable[[str, int], Array]
    slips: Array
    step_s_used: Array
    bias_work_J: Array
    heat_J: Array

    def times_s(self, junction: str, sample: int) -> Array:
        """Times of the slips of +2 pi."""
        rows = self.slips_of(junction, sample)
        times: Array = rows[rows[:, 1] == 1, 0]
        return times

    def probes(self, junctions: list[str], sample: int) -> dict[str, Array]:
        """What a report draws and prices."""
        slips = {f"slips({name})": self.slips_of(name, sample) for name in junctions[:DRAWN]}
        return slips | {"bias_work_J": self.bias_work_J, "heat_J": self.heat_J}


def _simulate(circuit: Circuit, samples: Corners, stop: float, watched: list[str], progress: Progress | None) -> _Seen:
    """Every sample of a small circuit side by side; of a large one, each by itself."""
    if circuit.jj_count <= SIDE_BY_SIDE:
        all_ = batch(circuit, samples, t_stop=stop, watch=watched, progress=progress, energy=True)
        work, heat = all_.energy_J["bias_J"], all_.energy_J["resistor_J"] + all_.energy_J["junction_J"]
        return _Seen(_rows_of(all_), all_.slips.sum(axis=0), all_.step_s_used, work, heat)
    each = []
    for k in range(samples.count):
        tell = _share(progress, k / samples.count, (k + 1) / samples.count)
        one_ = one(circuit, samples, k)
        each.append(transient(one_, t_stop=stop, watch=watched, probes=(), progress=tell, corner=k))
    slips = sum(np.array([done.slips[n] for n in circuit.junctions.names]) for done in each)
    used = np.array([done.step_s_used for done in each])
    work, heat = (np.array([getattr(e.energy, k) for e in each]) for k in ("bias_J", "dissipated_J"))
    return _Seen(lambda junction, k: each[k].pulses[junction], np.asarray(slips), used, work, heat)


def _rows_of(done: BatchRun) -> Callable[[str, int], Array]:
    def rows(junction: str, sample: int) -> Array:
        low, high = np.searchsorted(done.corner, [sample, sample + 1])
        at = low + np.flatnonzero(done.junction[low:high] == done.at(junction))
        return np.stack([done.time_s[at], done.sign[at].astype(np.float64)], axis=1)

    return rows


def spiked(run: Run, wiring: Wiring, spikes: Mapping[str, Array], driven: int | None) -> Run:
    """The run with counts of its spikes ``{node: (samples, T, n)}``, ``driven`` of the input, and a note of time."""
    if driven is not None:
        run.counts["spikes"][wiring.input_node] = driven
    for node, s in spikes.items():
        run.counts["spikes"][node] = int(s.sum())
    lag, width = max(wiring.latency_s[wiring.output_node]), wiring.step_s * 1e12
    note = f"y: latency of {lag * 1e12:.1f} ps removed; windows of {width:g} ps begin a quarter step before it"
    return replace(run, latency_steps=round(lag / wiring.step_s), notes=(*run.notes, note), versions=versions("numba"))


def _run(ledger: Ledger, y: Array, dt_s: float, probes: dict[str, Array], step_s_used: Array, machine_s: float) -> Run:
    used = float(step_s_used.min())
    halved = () if used >= ledger.step_s else (f"the phase guard halved the solver's step to {used:g} s",)
    return Run(
        machine="sfq",
        y=y,
        counts=ledger.counts,
        samples=y.shape[0],
        steps=y.shape[1],
        dt_s=dt_s,
        probes=probes,
        machine_s=machine_s,
        notes=halved,
        versions=versions("numba"),
    )


def _traces(wiring: Wiring | None, probes: Sequence[str]) -> list[str]:
    """The probes that are traces. Errors: ``ValueError`` for a node that is not there."""
    nodes = () if wiring is None else tuple(wiring.neurons)
    unknown = [p for p in probes if p.endswith(".s") and p.removesuffix(".s") not in nodes]
    if unknown:
        raise ValueError(f"no probe {unknown}; there are {[f'{n}.s' for n in nodes]} and traces such as P(B1.X1.XL1N0)")
    return [p for p in probes if not p.endswith(".s")]


def pulses_of(wiring: Wiring, x: Array) -> npt.NDArray[np.bool_]:
    """``x`` as flat booleans. Errors: ``ValueError`` for a shape that is not the network's, or no 0/1 pulses."""
    if x.ndim < 2 or x.shape[2:] != wiring.input_shape or not x.shape[0] or not x.shape[1]:
        shape = ", ".join(map(str, wiring.input_shape))
        raise ValueError(f"{wiring.network}: x must be (samples, T, {shape}), got {x.shape}")
    if not np.isin(x, (0, 1)).all():
        bad = x[~np.isin(x, (0, 1))][0]
        raise ValueError(
            f"{wiring.network}: x holds {bad}; a step carries one pulse or none, 0 or 1: encode it (neuro.encode.rate)"
        )
    return np.asarray(x, dtype=bool).reshape(*x.shape[:2], -1)


def starts_s(wiring: Wiring, source: str) -> float:
    """When a source's first step begins."""
    return wiring.start_s[wiring.sources[source][0]] + wiring.delay_s.get(source, 0.0)


def drives_of(circuit: Circuit, wiring: Wiring, pulses: npt.NDArray[np.bool_]) -> dict[str, list[Shape]]:
    """Source to its shape in every sample of ``(samples, T, inputs)``."""
    shapes: dict[str, list[Shape]] = {}
    for name, (index, sign) in wiring.sources.items():
        if name not in circuit.voltages.names:
            raise ValueError(
                f"{wiring.network}: the '* spikeport' line names {name}, no source of the deck; export again"
            )
        peak, start = sign * wiring.peak_V, starts_s(wiring, name)
        lines = (pulse_points(p[:, index], start, wiring.step_s, peak, wiring.rise_s) for p in pulses)
        shapes[name] = [Pwl(tuple(times), tuple(values)) for times, values in lines]
    return shapes


def binned(wiring: Wiring, times_s: Array, latency_s: float, steps: int) -> Array:
    """Spikes of each step ``(steps,)`` from the times of a junction."""
    first = min(wiring.start_s) + latency_s - wiring.step_s / 4
    at = np.floor((times_s - first) / wiring.step_s).astype(np.int64)
    return np.bincount(np.maximum(at[at < steps], 0), minlength=steps).astype(np.int16)


def stop_s(wiring: Wiring, steps: int) -> float:
    """End of the last window, of the input that begins last, in whole ps."""
    latest = max(t for ts in wiring.latency_s.values() for t in ts)
    return math.ceil((max(wiring.start_s) + (steps + 1) * wiring.step_s + latest) * 1e12) * 1e-12


def _shown(done: Transient) -> dict[str, Array]:
    return {"time_s": done.time_s} | dict(done.traces) if done.traces else {}


def _share(progress: Progress | None, begin: float, end: float) -> Progress | None:
    return None if progress is None else lambda part: progress(begin + (end - begin) * part)
