"""Many corners of one circuit at once: pulses, counts, traces and joules of each.

run = batch(circuit, Corners(1000, junctions=areas), h=0.1e-12, watch=["B1|X2"])
run.count("B1|X2")          # (1000,) pulses
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from sim.sfq.circuit import Circuit, Floats, Ints
from sim.sfq.constants import PHI0_WB
from sim.sfq.corners import Corners
from sim.sfq.deck import Deck
from sim.sfq.errors import NOWHERE, DeckError
from sim.sfq.lanes import Job, Part, run_block
from sim.sfq.layout import lay_out
from sim.sfq.native import LANES
from sim.sfq.requests import parse_request
from sim.sfq.system import coupled_groups
from sim.sfq.transient import Startup, run_times, watched_junctions

Progress = Callable[[float], None]


@dataclass(frozen=True)
class BatchRun:
    """What happened in each corner. Arrays have corners first.

    Slips of the watched junctions, one row each, ordered by corner, junction and time: ``corner``, ``junction`` (index
    into ``names``), ``time_s``, ``sign``. ``slips`` (corners, all junctions of the circuit) counts them without sign.
    ``traces`` are (corners, times). ``energy_J`` by the names of :class:`sim.sfq.transient.Energy`, (corners,): all of
    them if asked for, else ``ic_phi0_J``. ``step_s_used`` (corners,): smaller than the step where a corner's junctions
    asked for it, nan for a corner that could not be run.
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
    startup: Startup | None = None,
    energy: bool = False,
    threads: int = 0,
    progress: Progress | None = None,
) -> BatchRun:
    """Simulate ``corners`` of a circuit (a number: that many alike, which differ by their noise).

    Corners go through the kernel LANES at a time; a corner whose junctions ask for a smaller step is run again by
    itself. A corner's result depends on nothing but the corner: not on the others, their order or the threads.
    ``h``, ``t_stop`` (s) replace the deck's ``.tran``; ``watch``, ``probes`` and ``startup`` as in
    :func:`sim.sfq.transient.transient`, ``seed`` of the noise; ``energy`` also adds up work and heat (a third more
    time). ``threads``: 0 takes all cores.

    Raises DeckError, and ``ValueError`` for corners that do not fit.
    """
    circuit = source.flatten() if isinstance(source, Deck) else source
    corners = Corners(corners) if isinstance(corners, int) else corners
    corners.check(circuit)
    tran, begin = run_times(circuit, h, t_stop, startup)
    watched = watched_junctions(circuit, watch)
    job = Job(
        circuit, lay_out(circuit, coupled_groups(circuit)), tran, begin, [parse_request(p, NOWHERE) for p in probes],
        (circuit.seed or 0) if seed is None else seed, energy,
    )  # fmt: skip
    blocks = [slice(k, min(k + LANES, corners.count)) for k in range(0, corners.count, LANES)]
    tell = _Share(len(blocks), progress)
    workers = min(threads or os.cpu_count() or 1, len(blocks))

    def one_block(at: slice) -> Part:
        return run_block(job, corners.take(at), tell)

    if workers == 1:
        parts = [one_block(at) for at in blocks]
    else:
        with ThreadPoolExecutor(workers) as pool:
            try:
                parts = list(pool.map(one_block, blocks))
            except BaseException:
                tell.stopped = True
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    return _collect(circuit, watched, parts)


class _Share:
    """Adds up the progress of blocks in several threads; ends them when the run is stopped."""

    def __init__(self, blocks: int, progress: Progress | None) -> None:
        self.blocks, self.progress, self.done, self.stopped = blocks, progress, 0.0, False
        self.lock = threading.Lock()

    def __call__(self, more: float) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        if self.progress is not None:
            with self.lock:
                self.done += more / self.blocks
                self.progress(min(self.done, 1.0))


def _collect(circuit: Circuit, watched: list[int], parts: list[Part]) -> BatchRun:
    first = np.cumsum([0, *(p.count for p in parts)])
    corner = np.concatenate([p.lane + at for p, at in zip(parts, first, strict=False)])
    junction = np.concatenate([p.junction for p in parts])
    time, turns = (np.concatenate([getattr(p, n) for p in parts]) for n in ("time_s", "turns"))
    corner, junction, time, sign = (np.repeat(x, np.abs(turns)) for x in (corner, junction, time, np.sign(turns)))
    place = np.full(len(circuit.junctions), -1, dtype=np.int64)
    place[watched] = np.arange(len(watched))
    mine = place[junction] >= 0
    corner, junction, time, sign = corner[mine], place[junction[mine]], time[mine], sign[mine].astype(np.int64)
    order = np.lexsort((time, junction, corner))
    slips = np.concatenate([p.slips for p in parts])
    energy = {"ic_phi0_J": np.concatenate([p.weighted_A for p in parts]) * PHI0_WB}
    if parts[0].work_J is not None:
        work = np.concatenate([p.work_J for p in parts if p.work_J is not None])
        energy |= dict(zip(("bias_J", "source_J", "resistor_J", "junction_J"), work.T, strict=True))
    return BatchRun(
        tuple(circuit.junctions.names[j] for j in watched), corner[order], junction[order], time[order], sign[order],
        slips, parts[0].times_s, {n: np.concatenate([p.traces[n] for p in parts]) for n in parts[0].traces}, energy,
        np.concatenate([p.step_s_used for p in parts]),
    )  # fmt: skip
