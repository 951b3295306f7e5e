"""Run an SFQ program at junction level: pulses of ``x`` into its sources, slips of its junctions out.

A spike of input i in step t is a triangular voltage pulse of one flux quantum at ``start_i + t step``, in both
polarities. A neuron's spike is a slip of its junction; the slip at time u belongs to step

    t = floor((u - start - latency + step/4) / step),

``start`` the earliest of the inputs, ``latency`` the neuron's from the program (fastest way from an input), the quarter
step because a pulse may be early; slips before the first step count in it. So latency is removed from y and spikes.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.sfq_netlist import pulse_points
from export.sfq_program import SfqProgram, Wiring
from sim.run import Counts, Run, versions
from sim.sfq.circuit import Circuit
from sim.sfq.deck import loads
from sim.sfq.shapes import Pwl, Shape
from sim.sfq.transient import Transient, transient

Progress = Callable[[float], None]
Array = npt.NDArray[Any]
DRAWN = 64
"""Junctions whose slips are kept for drawing."""
_OWNER = re.compile(r"\|X(I(?=\d)|L\d+(?=N))")


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
    names = circuit.junctions.names[:DRAWN]
    done = transient(circuit, watch=names, probes=traces or None, progress=progress)
    ledger = _Ledger(circuit, {}, {})
    ledger.add(done)
    shown = _shown(done) | _slips(done)
    return _run(ledger, np.zeros((1, 1, 0), np.int16), done.steps * done.step_s_used, shown, [done])


def _wired(
    circuit: Circuit,
    wiring: Wiring,
    x: Array | None,
    traces: list[str],
    probes: Sequence[str],
    progress: Progress | None,
) -> Run:
    pulses = None if x is None else _pulses(wiring, x)
    samples, steps = (1, wiring.steps) if pulses is None else pulses.shape[:2]
    ledger = _Ledger(circuit, wiring.owners, wiring.synapses)
    neurons = [j for js in wiring.neurons.values() for j in js]
    watched = list(circuit.junctions.names) if circuit.jj_count <= DRAWN else neurons
    spikes = {n: np.zeros((samples, steps, len(js)), np.int16) for n, js in wiring.neurons.items()}
    stop = _stop(wiring, steps)
    shown: dict[str, Array] = {}
    slips: dict[str, Array] = {}
    runs: list[Transient] = []
    answered = False
    for k in range(samples):
        driven = circuit if pulses is None else _driven(circuit, wiring, pulses[k])
        wanted = [] if answered else traces
        if pulses is None and not probes:
            wanted = [r.label for r in circuit.requests]
        tell = None if progress is None else _share(progress, k, samples)
        done = transient(driven, t_stop=stop, watch=watched, probes=wanted, progress=tell)
        ledger.add(done)
        for node, junctions in wiring.neurons.items():
            for j, name in enumerate(junctions):
                spikes[node][k, :, j] = _binned(done, wiring, name, wiring.latency_s[node][j], steps)
        speaks = bool(spikes[wiring.output_node][k].any())
        if k == 0 or (speaks and not answered):
            shown, slips = _shown(done), _slips(done)
        answered |= speaks
        runs.append(replace(done, traces={}, pulses={}))
    if pulses is not None:
        ledger.counts["spikes"][wiring.input_node] = int(pulses.sum())
    for node, s in spikes.items():
        ledger.counts["spikes"][node] = int(s.sum())
    y = spikes[wiring.output_node]
    shown |= slips
    shown |= {f"{n}.s": s for n, s in spikes.items() if not probes or f"{n}.s" in probes}
    out = _run(ledger, y, wiring.step_s, shown, runs)
    lag = max(wiring.latency_s[wiring.output_node])
    width = wiring.step_s * 1e12
    note = f"y: latency of {lag * 1e12:.1f} ps removed; windows of {width:g} ps begin a quarter step before it"
    return replace(out, latency_steps=round(lag / wiring.step_s), notes=(*out.notes, note), versions=versions("numba"))


def _run(ledger: _Ledger, y: Array, dt_s: float, probes: dict[str, Array], runs: list[Transient]) -> Run:
    asked, used = max(r.step_s_used for r in runs), min(r.step_s_used for r in runs)
    halved = () if asked == used == ledger.step_s else (f"the phase guard halved the solver's step to {used:g} s",)
    return Run(
        machine="sfq",
        y=y,
        counts=ledger.counts,
        samples=y.shape[0],
        steps=y.shape[1],
        dt_s=dt_s,
        probes=probes | _joules(runs),
        machine_s=sum(r.steps * r.step_s_used for r in runs),
        notes=halved,
        versions=versions("numba"),
    )


def _joules(runs: list[Transient]) -> dict[str, Array]:
    """What each sample took from the bias and made heat, for the report; by the integrals of the solver."""
    return {
        "bias_work_J": np.array([r.energy.bias_J for r in runs]),
        "heat_J": np.array([r.energy.dissipated_J for r in runs]),
    }


def _traces(wiring: Wiring | None, probes: Sequence[str]) -> list[str]:
    """The probes that are traces. Errors: ``ValueError`` for a node that is not there."""
    nodes = () if wiring is None else tuple(wiring.neurons)
    unknown = [p for p in probes if p.endswith(".s") and p.removesuffix(".s") not in nodes]
    if unknown:
        raise ValueError(f"no probe {unknown}; there are {[f'{n}.s' for n in nodes]} and traces such as P(B1.X1.XL1N0)")
    return [p for p in probes if not p.endswith(".s")]


def _pulses(wiring: Wiring, x: Array) -> npt.NDArray[np.bool_]:
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


def _driven(circuit: Circuit, wiring: Wiring, pulses: npt.NDArray[np.bool_]) -> Circuit:
    """The circuit with the sources of one sample ``(T, inputs)``."""
    shapes: list[Shape] = list(circuit.voltages.shapes)
    at = {name: k for k, name in enumerate(circuit.voltages.names)}
    for name, (index, sign) in wiring.sources.items():
        if name not in at:
            raise ValueError(
                f"{wiring.network}: the '* spikeport' line names {name}, no source of the deck; export again"
            )
        peak = sign * wiring.peak_V
        start = wiring.start_s[index] + wiring.delay_s.get(name, 0.0)
        times, values = pulse_points(pulses[:, index], start, wiring.step_s, peak, wiring.rise_s)
        shapes[at[name]] = Pwl(tuple(times), tuple(values))
    return replace(circuit, voltages=replace(circuit.voltages, shapes=tuple(shapes)))


def _binned(done: Transient, wiring: Wiring, junction: str, latency_s: float, steps: int) -> Array:
    first = min(wiring.start_s) + latency_s - wiring.step_s / 4
    at = np.floor((done.pulse_times(junction) - first) / wiring.step_s).astype(np.int64)
    return np.bincount(np.maximum(at[at < steps], 0), minlength=steps)


def _stop(wiring: Wiring, steps: int) -> float:
    """End of the last window, of the input that begins last, in whole ps."""
    latest = max(t for ts in wiring.latency_s.values() for t in ts)
    return math.ceil((max(wiring.start_s) + (steps + 1) * wiring.step_s + latest) * 1e12) * 1e-12


def _shown(done: Transient) -> dict[str, Array]:
    return {"time_s": done.time_s} | dict(done.traces) if done.traces else {}


def _slips(done: Transient) -> dict[str, Array]:
    return {f"slips({name})": rows for name, rows in list(done.pulses.items())[:DRAWN]}


def _share(progress: Progress, k: int, samples: int) -> Progress:
    return lambda part: progress((k + part) / samples)


@dataclass
class _Ledger:
    """Integer counts per node, summed over samples. Nodes by the first instance of a name, else ``deck``."""

    circuit: Circuit
    owners: Any
    synapses: Any

    def __post_init__(self) -> None:
        tran = self.circuit.tran
        self.step_s = 0.0 if tran is None else tran.step_s
        junctions = self.circuit.junctions
        self.ic_nA = {n: round(float(i) * 1e9) for n, i in zip(junctions.names, junctions.ic_A, strict=True)}
        self.bias_nA: dict[str, int] = {}
        for name, shape in zip(self.circuit.currents.names, self.circuit.currents.shapes, strict=True):
            owner = self.owner(name)
            self.bias_nA[owner] = self.bias_nA.get(owner, 0) + round(abs(shape.bias()) * 1e9)
        events = ("junction_switchings", "slip_ic_nA", "bias_charge_nA_ps", "spikes", "synaptic_events")
        self.counts: Counts = {event: {} for event in events}

    def owner(self, name: str) -> str:
        """The node whose cells an element is in."""
        found = _OWNER.search(name)
        return str(self.owners.get(found[1], "deck")) if found else "deck"

    def add(self, done: Transient) -> None:
        """Count one run."""
        for name, slips in done.slips.items():
            self._more("junction_switchings", self.owner(name), slips)
            self._more("slip_ic_nA", self.owner(name), slips * self.ic_nA[name])
        for owner, bias in self.bias_nA.items():
            self._more("bias_charge_nA_ps", owner, round(bias * done.steps * done.step_s_used * 1e12))
        for node, junctions in self.synapses.items():
            self._more("synaptic_events", node, sum(done.slips[j] for j in junctions))

    def _more(self, event: str, node: str, count: int) -> None:
        self.counts[event][node] = self.counts[event].get(node, 0) + int(count)
