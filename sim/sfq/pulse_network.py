"""Run an SFQ program at pulse level: the same deck, each of its instances a cell of ``sim/sfq/pulse``.

Instances, lines and bias currents are read from the deck itself, so both levels run what stands there under the same
names. A neuron's spike is a pulse behind the cell that the program watches, put into steps as
:mod:`sim.sfq.network` does. Source: docs/sfq.md 4.2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.sfq_program import SfqProgram, Wiring
from sim.run import Run, versions
from sim.sfq import pulse
from sim.sfq.circuit import Circuit
from sim.sfq.deck import loads
from sim.sfq.ledger import Ledger
from sim.sfq.network import binned, pulses_of, spiked, starts_s, stop_s
from sim.sfq.pulse.cells import Chance
from sim.sfq.pulse.from_deck import from_deck
from sim.sfq.pulse.library import Library, load_library

Progress = Callable[[float], None]
Array = npt.NDArray[Any]
BEHIND = {("SOMA", "X1"): 1.0, ("JTL", "X1"): 1.0, ("JTL", "X2"): 0.5, ("MERGE", "X5"): 0.0}
"""Watched junction of a cell: the share of the cell's delay by which its pulse comes out later than it slips."""
MERGED = {"X1": "a", "X3": "b"}
"""Junctions of a merger that its inputs flip."""


@dataclass(frozen=True)
class Spoken:
    """Where a neuron is heard: the line, and by how much its pulses are later than the watched junction."""

    net: str
    later_s: float


def run(
    program: SfqProgram | str | Path,
    x: Array | None,
    *,
    probes: Sequence[str] = (),
    progress: Progress | None = None,
    seed: int = 0,
    jitter: bool = False,
) -> Run:
    """Run ``x (samples, T, *input_shape)`` of 0 and 1; None: every input in every step of the deck, one sample.

    ``probes``: ``"<node>.s"`` spikes per step ``(samples, T, n)``; there are no traces at this level. ``seed`` of
    stochastic synapses and, with ``jitter``, of delays: sample k has ``seed + k``. Counts as at junction level.
    Errors: ``ValueError`` for input that is not pulses, for a deck that ``export`` did not write, for a cell that has
    no table.
    """
    start = time.perf_counter()
    program = program if isinstance(program, SfqProgram) else SfqProgram.load(program)
    wiring = program.wiring
    if wiring is None:
        raise ValueError("a deck without '* spikeport' line has no inputs and neurons; run it with --on sfq")
    deck = loads(program.deck, program.folder, program.source)
    circuit = deck.flatten()
    net = from_deck(deck, cells()).netlist
    heard = {node: [_spoken(net, j) for j in js] for node, js in wiring.neurons.items()}
    compiled = pulse.compile_netlist(net, [s.net for each in heard.values() for s in each])
    pulses = np.ones((1, wiring.steps, len(wiring.start_s)), bool) if x is None else pulses_of(wiring, x)
    done = _samples(compiled, circuit, wiring, pulses, heard, progress, seed, jitter)
    left_out = [p for p in probes if not p.endswith(".s")]
    notes = (f"no traces at pulse level, left out: {', '.join(left_out[:4])}",) if left_out else ()
    unknown = [p for p in probes if p.endswith(".s") and p.removesuffix(".s") not in wiring.neurons]
    if unknown:
        raise ValueError(f"no probe {unknown}; there are {[f'{n}.s' for n in wiring.neurons]}")
    kept = {n: s for n, s in done.probes.items() if not probes or n in probes}
    about = {"machine": "sfq", "hash": program.hash()}
    wall = time.perf_counter() - start
    return replace(done, probes=kept, program=about, notes=(*done.notes, *notes), seed=seed, wall_s=wall)


class Mirrored(Chance):
    """The chances of a mirrored cell, whose weight current is drawn out of it."""

    def probability(self, weight_A: float, temperature_K: float | None = None) -> float:
        """Of passing, at a weight current below 0."""
        return super().probability(-weight_A, temperature_K)


def cells() -> Library:
    """The library, and the stochastic synapse for anti-pulses, which is the other one mirrored."""
    found = load_library()
    own = found["STSYN"]
    chance = None if own.chance is None else Mirrored(**vars(own.chance))
    mirror = replace(own, name="STSYNN", negative=frozenset({"a", "q"}), chance=chance)
    return replace(found, cells={"STSYNN": mirror} | dict(found.cells))


def _spoken(net: pulse.Netlist, junction: str) -> Spoken:
    """The output line of the cell that a junction ``B1|X1|XL1N0`` is in."""
    _, part, name = junction.split("|")
    instance = net.instances[name]
    delay = max(e.delay_s for t in instance.cell.transitions for e in t.emits)
    return Spoken(instance.nets[instance.cell.outputs[0]], BEHIND[instance.cell.name, part] * delay)


def _samples(
    compiled: pulse.Compiled,
    circuit: Circuit,
    wiring: Wiring,
    pulses: npt.NDArray[np.bool_],
    heard: Mapping[str, list[Spoken]],
    progress: Progress | None,
    seed: int,
    jitter: bool,
) -> Run:
    samples, steps = pulses.shape[:2]
    stop = stop_s(wiring, steps)
    half = wiring.rise_s  # a source's pulse is where half of its flux has come, as at junction level
    ledger, early = Ledger(circuit, wiring), 0
    first = ""
    spikes = {node: np.zeros((samples, steps, len(each)), np.int16) for node, each in heard.items()}
    for k in range(samples):
        times = {
            source[1:]: starts_s(wiring, source) + half + wiring.step_s * np.flatnonzero(pulses[k, :, index])
            for source, (index, _) in wiring.sources.items()
        }
        done = pulse.run(compiled, times, stop, policy="warn", seed=seed + k, jitter=jitter)
        _count(ledger, done, wiring)
        early += done.violation_count
        first = first or (str(done.violations[0]) if done.violations else "")
        for node, each in heard.items():
            for j, (spoken, late) in enumerate(zip(each, wiring.latency_s[node], strict=True)):
                spikes[node][k, :, j] = binned(wiring, done[spoken.net] - spoken.later_s, late, steps)
        if progress is not None:
            progress((k + 1) / samples)
    ledger.add_time(samples * stop)
    notes = (f"{early} pulses came too early for their cell, the first: {first}",) if early else ()
    out = Run(
        machine="sfq-pulse",
        y=spikes[wiring.output_node],
        counts=ledger.counts,
        samples=samples,
        steps=steps,
        dt_s=wiring.step_s,
        probes={f"{n}.s": s for n, s in spikes.items()},
        machine_s=samples * stop,
        notes=notes,
        versions=versions("numba"),
    )
    return spiked(out, wiring, spikes, int(pulses.sum()))


def _count(ledger: Ledger, done: pulse.PulseRun, wiring: Wiring) -> None:
    """Slips by instance, and pulses through synapses, of one run."""
    for name, slips in done.slips().items():
        ledger.more("junction_switchings", ledger.owner(name), slips)
    for name, ic_A in done.slip_ic_A().items():
        ledger.more("slip_ic_nA", ledger.owner(name), round(ic_A * 1e9))
    taken = done.counts()
    for node, junctions in wiring.synapses.items():
        ledger.more("synaptic_events", node, sum(_through(taken, *j.split("|")[1:]) for j in junctions))


def _through(taken: Mapping[str, Mapping[str, int]], part: str, name: str) -> int:
    """Pulses that an instance took; of a merger, those at the port that ``part`` belongs to."""
    at = MERGED.get(part, "") if len(taken[name]) > 1 else ""
    return sum(n for key, n in taken[name].items() if key.endswith(at))
