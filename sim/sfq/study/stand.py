"""A cell on its test stand: drivers and load around it, inputs and outputs by name, trains of pulses into it.

For every input there is the source whose pulses drive it and the junction whose slip is the time of arrival (the last
junction of the driver), for every output the junction whose slip is the time of the answer. All trains of one search
are corners of one batch. Source: docs/sfq.md 4.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from sim.sfq.batch import BatchRun, batch
from sim.sfq.circuit import Circuit, Floats
from sim.sfq.constants import PHI0_WB
from sim.sfq.corners import Corners
from sim.sfq.deck import Deck
from sim.sfq.shapes import Pwl, Shape
from sim.sfq.study.bench import quiet
from sim.sfq.study.criterion import jj_name
from sim.sfq.transient import Startup

Train: TypeAlias = Mapping[str, Sequence[float]]
"""Times (s) at which the pulses of each input begin."""

Wave: TypeAlias = Callable[[Sequence[float], int], Shape]

RISE_S = 2.5e-12
"""Rise and fall of a driving pulse; its area is one flux quantum, so the peak is 827.13 uV. Source: golden decks."""


@dataclass(frozen=True)
class Port:
    """An input: its voltage source and the junction whose slips (of ``sign``) are the arrivals."""

    source: str
    junction: str
    sign: int = 1


@dataclass(frozen=True)
class Stand:
    """A circuit with named inputs and outputs.

    ``start_s``: when biases are up and the first pulse may come; ``tail_s``: how long a run goes on after the last
    pulse. ``signs`` of outputs that give anti-fluxons are -1. ``wave`` makes a source's shape of pulse times and sign;
    None is :func:`pulses`, for voltage sources. A converter fed by a current needs its own.
    """

    circuit: Circuit
    inputs: Mapping[str, Port]
    outputs: Mapping[str, str]
    signs: Mapping[str, int] = field(default_factory=dict)
    h: float | None = None
    start_s: float = 50e-12
    tail_s: float = 80e-12
    rise_s: float = RISE_S
    wave: Wave | None = None
    startup: Startup | None = None

    def junction(self, port: str) -> tuple[str, int]:
        """Junction and sign of an input or output. Errors: ``ValueError`` for a port that is not there."""
        if port in self.inputs:
            return self.inputs[port].junction, self.inputs[port].sign
        if port in self.outputs:
            return self.outputs[port], self.signs.get(port, 1)
        raise ValueError(f"timing: no port {port}; there are {[*self.inputs, *self.outputs]}")

    def drive(
        self, trains: Sequence[Train], corners: Corners | None = None, seed: int | None = None, every: bool = False
    ) -> BatchRun:
        """A corner for each train; or, with ``corners`` and one train, that train in each of them.

        Watches the ports' junctions, or with ``every`` all. Errors: ``ValueError`` for an input that is not there.
        """
        unknown = {name for t in trains for name in t} - set(self.inputs)
        if unknown:
            raise ValueError(f"timing: no input {sorted(unknown)}; there are {list(self.inputs)}")
        last = max((max(times) for t in trains for times in t.values() if len(times)), default=0.0)
        count = len(trains) if corners is None else corners.count
        shapes: dict[str, list[Shape]] = {port.source: [] for port in self.inputs.values()}
        for name, port in self.inputs.items():
            waves = [self.shape(t.get(name, ()), port.sign) for t in trains]
            shapes[port.source] += waves * (count // len(trains))
        factors = {} if corners is None else {k: v for k, v in vars(corners).items() if k not in ("count", "shapes")}
        watch = [port.junction for port in self.inputs.values()] + list(self.outputs.values())
        return batch(
            quiet(self.circuit, seed), Corners(count, shapes=shapes, **factors), h=self.h, t_stop=last + self.tail_s,
            watch=None if every else list(dict.fromkeys(map(jj_name, watch))), seed=seed, startup=self.startup,
        )  # fmt: skip

    def shape(self, times: Sequence[float], sign: int) -> Shape:
        """The source's waveform for pulses that begin at ``times``."""
        return pulses(times, sign * self.rise_s) if self.wave is None else self.wave(times, sign)

    def times(self, run: BatchRun, port: str) -> Floats:
        """(corners, most slips) times of a port's slips, NaN where a corner has fewer."""
        name, sign = self.junction(port)
        mine = np.flatnonzero((run.junction == run.at(name)) & (run.sign == sign))
        counts = np.bincount(run.corner[mine], minlength=run.corners)
        table = np.full((run.corners, int(counts.max(initial=0))), np.nan)
        place = np.arange(len(mine)) - np.repeat(np.cumsum(counts) - counts, counts)
        table[run.corner[mine], place] = run.time_s[mine]
        return table


def stand(
    source: Deck | Circuit, inputs: Mapping[str, tuple[str, str] | Port], outputs: Mapping[str, str], **settings: Any
) -> Stand:
    """A stand: ``inputs`` by name as (source, junction), ``outputs`` as junction; settings are fields of
    :class:`Stand`. Errors: DeckError for a junction, ``ValueError`` for a source that is not there."""
    circuit = source.flatten() if isinstance(source, Deck) else source
    ports = {n: p if isinstance(p, Port) else Port(p[0].upper().replace(".", "|"), p[1]) for n, p in inputs.items()}
    for name, port in ports.items():
        fitting = circuit.voltages.names + (circuit.currents.names if settings.get("wave") else ())
        if port.source not in fitting:
            raise ValueError(
                f"timing: input {name}: no voltage source {port.source}; there are {fitting[:8]} "
                "(a current source needs wave=, its own pulse)"
            )
    for junction in (*(p.junction for p in ports.values()), *outputs.values()):
        if jj_name(junction) not in circuit.junctions.names:
            raise circuit.error(jj_name(junction), "no such junction", "name one as B1|X2|XQ, from inside out")
    return Stand(circuit, ports, outputs, **settings)


def pulses(times: Sequence[float], rise_s: float = RISE_S) -> Pwl:
    """Triangles of one flux quantum that begin at ``times``; a negative rise turns them round, overlaps add up."""
    begin, rise = np.asarray(times, dtype=np.float64), abs(rise_s)
    knots = np.unique(np.concatenate([[0.0], begin, begin + rise, begin + 2 * rise]))
    height = np.maximum(0.0, 1.0 - np.abs(knots[:, None] - begin - rise) / rise)
    height[height < 1e-9] = 0.0
    return Pwl(tuple(knots.tolist()), tuple((PHI0_WB / rise_s * height.sum(axis=1)).tolist()))
