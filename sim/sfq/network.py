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
from dataclasses import replace
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
    done = batch(circuit, Corners(samples, shapes=drives), t_stop=stop, watch=watched, progress=tell, energy=True)
    ledger = Ledger(circuit, wiring)
    ledger.add_slips(done.slips.sum(axis=0))
    ledger.add_time(samples * stop)
    spikes = {
        node: np.stack(
            [
                np.stack(
                    [binned(wiring, done.pulse_times(j, k), late, steps) for j, late in zip(js, lates, strict=True)], 1
                )
                for k in range(samples)
            ]
        )
        for (node, js), lates in zip(wiring.neurons.items(), wiring.latency_s.values(), strict=True)
    }
    speaks = int(spikes[wiring.output_node].any(axis=(1, 2)).argmax())
    wanted = [r.label for r in circuit.requests] if pulses is None and not probes else traces
    shown = _slips(done, speaks) | _joules(done)
    if wanted:
        tell = _share(progress, samples / (samples + 1), 1.0)
        told = one(circuit, Corners(samples, shapes=drives), speaks)
        shown |= _shown(transient(told, t_stop=stop, watch=(), probes=wanted, progress=tell))
    shown |= {f"{n}.s": s for n, s in spikes.items() if not probes or f"{n}.s" in probes}
    out = _run(ledger, spikes[wiring.output_node], wiring.step_s, shown, done.step_s_used, samples * stop)
    return spiked(out, wiring, spikes, None if pulses is None else int(pulses.sum()))


def _joules(done: BatchRun) -> dict[str, Array]:
    """What each sample took from the bias and made heat, by the integrals of the solver; the report tells of it."""
    energy = done.energy_J
    return {"bias_work_J": energy["bias_J"], "heat_J": energy["resistor_J"] + energy["junction_J"]}


def _slips(done: BatchRun, sample: int) -> dict[str, Array]:
    """Time and sign of the slips of one sample, for drawing."""
    out: dict[str, Array] = {}
    mine = done.corner == sample
    for k, name in enumerate(done.names[:DRAWN]):
        at = mine & (done.junction == k)
        out[f"slips({name})"] = np.stack([done.time_s[at], done.sign[at].astype(np.float64)], axis=1)
    return out


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
