"""An exported network as a bench: what margins, Monte Carlo and shmoo of ``sim/sfq/study`` judge it by.

    stand = network_bench(program, x, accept=[[(0, 0)], [(3, inf)], ..])
    margins(stand, parameters=["I", soma_biases(program), "LS|X*Y*", "RL|X*Y*"])

Source of what XOR must do, and of the parameters: docs/sfq.md 3.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from export.sfq_program import SfqProgram
from sim.sfq.corners import Corners, one
from sim.sfq.deck import loads
from sim.sfq.network import drives_of, pulses_of, stop_s
from sim.sfq.study.bench import Bench, Case
from sim.sfq.study.criterion import Counts
from sim.sfq.study.parameters import Parameter, Part


def network_bench(
    program: SfqProgram,
    x: npt.NDArray[Any],
    accept: Sequence[Sequence[tuple[float, float]]],
    *,
    seed: int | None = None,
) -> Bench:
    """A case for each sample of ``x (samples, T, ...)``: output neuron j spikes between so and so many times.

    ``accept (samples, outputs)`` pairs, both ends allowed; a pulse backwards fails. ``seed`` of the noise, None: none.
    Errors: ``ValueError`` for a plain deck, or another number of samples or outputs.
    """
    wiring = program.wiring
    if wiring is None:
        raise ValueError("network_bench: a deck without '* spikeport' line has no outputs; export a network")
    outputs = wiring.neurons[wiring.output_node]
    pulses = pulses_of(wiring, x)
    if len(accept) != len(pulses) or any(len(each) != len(outputs) for each in accept):
        shape = f"({len(accept)}, {len(accept[0]) if accept else 0})"
        raise ValueError(
            f"network_bench: accept is {shape}; give a pair for {len(pulses)} samples x {len(outputs)} outputs"
        )
    circuit = loads(program.deck, program.folder, program.source).flatten()
    drives = Corners(len(pulses), shapes=drives_of(circuit, wiring, pulses))
    cases = [
        Case(one(circuit, drives, k), Counts(dict(zip(outputs, ranges, strict=True))), f"sample {k}")
        for k, ranges in enumerate(accept)
    ]
    return Bench(tuple(cases), t_stop=stop_s(wiring, pulses.shape[1]), seed=seed)


def soma_biases(program: SfqProgram) -> Parameter:
    """The biases that are thresholds, all together. Errors: ``ValueError`` where the program has no soma."""
    wiring = program.wiring
    junctions = [] if wiring is None else [j for js in wiring.neurons.values() for j in js]
    circuit = loads(program.deck, program.folder, program.source).flatten()
    names = tuple(n for n in circuit.currents.names if n.startswith("IB1|") and f"B1|X1|{n[4:]}" in set(junctions))
    if not names:
        raise ValueError("soma_biases: the program has no soma; its neurons are relays")
    return Parameter("SOMA BIAS", (Part("currents", names),))


def offset(program: SfqProgram, input_index: int, seconds: float) -> SfqProgram:
    """The program with one input later by so much: XOR must not care (docs/sfq.md 3.5)."""
    if program.wiring is None:
        raise ValueError("offset: a deck without '* spikeport' line has no inputs; export a network")
    starts = list(program.wiring.start_s)
    starts[input_index] += seconds
    return replace(program, wiring=replace(program.wiring, start_s=tuple(starts)))
