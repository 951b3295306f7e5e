"""Many corners of one circuit at once: pulses, counts, traces and joules of each.

run = batch(circuit, Corners(1000, junctions=areas), h=0.1e-12, watch=["B1|X2"])
run.count("B1|X2")          # (1000,) pulses
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sim.sfq.circuit import Circuit, Floats, Ints
from sim.sfq.corners import Corners, one
from sim.sfq.deck import Deck
from sim.sfq.errors import NOWHERE, DeckError
from sim.sfq.transient import Transient, transient

Progress = Callable[[float], None]


@dataclass(frozen=True)
class BatchRun:
    """What happened in each corner. Arrays have corners first.

    Slips of all junctions that are watched, one row each, ordered by corner, junction and time: ``corner``,
    ``junction`` (index into ``names``, the watched junctions), ``time_s``, ``sign``. ``slips`` (corners, all
    junctions of the circuit) counts them without sign. ``traces`` are (corners, times). ``energy_J`` by the names of
    :class:`sim.sfq.transient.Energy`, (corners,). ``step_s_used`` (corners,).
    """

    names: tuple[str, ...]
    corner: Ints
    junction: Ints
    time_s: Floats
    sign: Ints
    slips: Ints
    times_s: Floats
    traces: dict[str, Floats]
    energy_J: dict[str, Floats]
    step_s_used: Floats

    @property
    def corners(self) -> int:
        """Number of corners."""
        return len(self.slips)

    def at(self, junction: str) -> int:
        """Index of a watched junction, ``B1|X2`` or ``B1.X2``. Raises DeckError if not watched."""
        name = junction.upper().replace(".", "|")
        if name not in self.names:
            raise DeckError(NOWHERE, name, "is not a watched junction", f"watch= one of {list(self.names)[:6]} ..")
        return self.names.index(name)

    def pulse_times(self, junction: str, corner: int, sign: int = 1) -> Floats:
        """Times (s) of the slips of one sign of a junction in a corner."""
        low, high = np.searchsorted(self.corner, [corner, corner + 1])
        mine = (self.junction[low:high] == self.at(junction)) & (self.sign[low:high] == sign)
        return self.time_s[low:high][mine]

    def count(self, junction: str, sign: int = 1) -> Ints:
        """Slips of one sign of a junction, (corners,)."""
        mine = (self.junction == self.at(junction)) & (self.sign == sign)
        return np.bincount(self.corner[mine], minlength=self.corners)


def batch(
    source: Deck | Circuit,
    corners: Corners | int,
    *,
    h: float | None = None,
    t_stop: float | None = None,
    watch: Iterable[str] | None = None,
    probes: Sequence[str] = (),
    seed: int | None = None,
    startup: Literal["op", "josim", "none"] = "op",
    threads: int = 0,
    progress: Progress | None = None,
) -> BatchRun:
    """Simulate ``corners`` of a circuit (a number: that many alike, which differ by their noise).

    ``h``, ``t_stop`` (s) replace the deck's ``.tran``; ``watch`` as in :func:`transient`; ``probes`` are traces.
    ``seed`` of the noise: with one seed, a corner's result depends on nothing but its own number. ``threads``: 0 takes
    all cores. Raises DeckError and ``ValueError`` for corners that do not fit.
    """
    circuit = source.flatten() if isinstance(source, Deck) else source
    corners = Corners(corners) if isinstance(corners, int) else corners
    corners.check(circuit)
    del startup, threads, seed
    runs: list[Transient] = []
    for k in range(corners.count):
        runs.append(transient(one(circuit, corners, k), h=h, t_stop=t_stop, watch=watch, probes=list(probes)))
        if progress is not None:
            progress((k + 1) / corners.count)
    return _collect(runs)


def _collect(runs: list[Transient]) -> BatchRun:
    names = tuple(runs[0].pulses)
    rows = [(c, j, t, s) for c, r in enumerate(runs) for j, n in enumerate(names) for t, s in r.pulses[n]]
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 4)
    whole = table[:, [0, 1, 3]].astype(np.int64)
    energy = {k: np.array([vars(r.energy)[k] for r in runs]) for k in vars(runs[0].energy)}
    return BatchRun(
        names, whole[:, 0], whole[:, 1], table[:, 2], whole[:, 2], np.array([list(r.slips.values()) for r in runs]),
        runs[0].time_s, {n: np.array([r.traces[n] for r in runs]) for n in runs[0].traces}, energy,
        np.array([r.step_s_used for r in runs]),
    )  # fmt: skip
