"""Transient simulation of an SFQ circuit at junction level: the driver around an engine.

Fixed step h, one linear solve a step (law: ``reference``; fast: ``kernel``). As in JoSIM, the run first settles for
some hundred steps with the junction voltages held at 0, and starts again at h/2 when a junction's predicted phase moves
more than 0.4 pi in one step after the first 1 %; the step really used is reported. Source: docs/sfq.md 1.5, 1.6.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from sim.sfq.circuit import Circuit, Floats, Ints
from sim.sfq.constants import PHI0_WB
from sim.sfq.deck import Deck, Tran
from sim.sfq.errors import NOWHERE, DeckError, DeckWarning
from sim.sfq.layout import Layout
from sim.sfq.probes import HISTORY, Chunk, Probe, Resolver
from sim.sfq.requests import Request, parse_request
from sim.sfq.shapes import Shape
from sim.sfq.state import NOT_SPD, STEP_TOO_LARGE, Advance, Engine, Events, State, Watch, events, start
from sim.sfq.system import System, build, waves

MAX_HALVINGS = 12
CHUNK_STEPS = 4096
EVENT_CAPACITY = 1 << 16

Progress = Callable[[float], None]
"""Called with the part of the run that is done, 0 to 1; raising stops the run."""


@dataclass(frozen=True)
class Energy:
    """Energies of a run in J (docs/sfq.md 5).

    ``ic_phi0_J`` = sum of Ic Phi0 over all slips (the usual upper estimate). ``bias_J`` is the work of the current
    sources, ``source_J`` of the V and P sources: ``sum I sigma df``, exact for a constant current. ``resistor_J`` and
    ``junction_J`` are the heat ``sum V^2/R h`` in resistors and in the junctions' own conductances.
    """

    ic_phi0_J: float
    bias_J: float
    source_J: float
    resistor_J: float
    junction_J: float

    @property
    def supplied_J(self) -> float:
        """All that the sources gave."""
        return self.bias_J + self.source_J

    @property
    def dissipated_J(self) -> float:
        """All that became heat; differs from ``supplied_J`` by what L, C and junctions have stored."""
        return self.resistor_J + self.junction_J


@dataclass(frozen=True)
class Transient:
    """What happened. ``traces`` by JoSIM's labels over ``time_s``; ``pulses`` per junction, rows (time s, sign).

    ``slips`` counts 2 pi slips of either sign per junction; ``bias_current_A`` is the constant current of all sources.
    ``step_s_used`` is smaller than asked if the phase guard halved it.
    """

    time_s: Floats
    traces: dict[str, Floats]
    pulses: dict[str, Floats]
    slips: dict[str, int]
    step_s_used: float
    steps: int
    energy: Energy
    jj_count: int
    bias_current_A: float
    slip_ic_A: float

    def pulse_times(self, junction: str, sign: int = 1) -> Floats:
        """Times (s) of the slips of one sign of ``B1|X2`` or ``B1.X2``. Raises DeckError if not watched."""
        name = junction.upper().replace(".", "|")
        if name not in self.pulses:
            raise DeckError(NOWHERE, name, "is not a watched junction", f"watch= one of {list(self.slips)[:6]} ..")
        rows = self.pulses[name]
        times: Floats = rows[rows[:, 1] == sign, 0]
        return times


def compiled(system: System, layout: Layout, watch: Watch) -> Advance:
    """The fast engine (numba). Importing numba waits until here."""
    from sim.sfq import kernel

    return kernel.engine(system, layout, watch)


def transient(
    source: Deck | Circuit,
    h: float | None = None,
    t_stop: float | None = None,
    watch: Iterable[str] | None = None,
    probes: Iterable[str] | None = None,
    engine: Engine = compiled,
    startup: Literal["josim", "none"] | None = None,
    progress: Progress | None = None,
) -> Transient:
    """Simulate a deck or a circuit.

    ``h``, ``t_stop`` (s) replace the deck's ``.tran``; ``watch`` names the junctions whose pulses are kept (default
    all), ``probes`` the traces (``"P(B1.X1)"``, default the deck's ``.print``). ``engine`` is ``compiled`` or
    ``reference.engine``. ``startup`` "josim" settles first, "none" (a deck's DST) starts from rest.

    Raises DeckError for a circuit without a solution, an unknown name, or a step that the guard halved 12 times.
    """
    circuit = source.flatten() if isinstance(source, Deck) else source
    tran = _times(circuit.tran, h, t_stop, startup)
    watched = _watched(circuit, watch)
    requests = circuit.requests if probes is None else [parse_request(p, NOWHERE) for p in probes]
    step = tran.step_s
    for _ in range(MAX_HALVINGS + 1):
        run = Run(circuit, tran, step, list(requests), engine)
        if run.go(progress):
            return run.result(watched)
        step /= 2
    raise DeckError(
        circuit.where.get(circuit.junctions.names[0], NOWHERE),
        "transient",
        f"a junction's phase still jumps at a step of {step:g} s",
        "look for a junction without shunt or with a wrong unit in its capacitance",
    )


def settle_steps(h: float) -> int:
    """JoSIM's number of steps before t = 0: ``2 10^(2(|log10 h| - 12) + 1)``, at most 1000. Source: Simulation.cpp."""
    return int(min(1000.0, 2.0 * 10.0 ** ((abs(math.log10(h)) - 12.0) * 2.0 + 1.0)))


def _times(tran: Tran | None, h: float | None, t_stop: float | None, startup: str | None) -> Tran:
    if tran is None and (h is None or t_stop is None):
        raise DeckError(NOWHERE, ".tran", "the deck has no .tran", "add .tran step stop, or pass h= and t_stop=")
    base = tran or Tran(print_step_s=0.0)
    step, stop = h or base.step_s, t_stop or base.stop_s
    if not 0 < step < stop < math.inf:
        raise DeckError(NOWHERE, ".tran", f"step {step:g} s, stop {stop:g} s", "use 0 < h < t_stop, in seconds")
    settle = base.startup if startup is None else startup == "josim"
    return Tran(step, stop, base.print_start_s, max(step, base.print_step_s), settle)


def _watched(circuit: Circuit, watch: Iterable[str] | None) -> list[int]:
    names = circuit.junctions.names
    if watch is None:
        return list(range(len(names)))
    at = {name: i for i, name in enumerate(names)}
    wanted = [w.upper().replace(".", "|") for w in watch]
    for name in wanted:
        if name not in at:
            raise DeckError(NOWHERE, name, "no such junction to watch", f"junctions: {', '.join(names[:8])} ..")
    return [at[name] for name in wanted]


@dataclass
class Run:
    """One attempt at one step: settling, then chunks of steps, of which only the printed ones are kept."""

    circuit: Circuit
    tran: Tran
    h: float
    requests: list[Request]
    engine: Engine
    slips: list[tuple[Ints, Floats, Ints]] = field(default_factory=list)
    kept: list[Floats] = field(default_factory=list)
    times: list[Floats] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.system, layout = build(self.circuit, self.h)
        resolver = Resolver(self.circuit, layout)
        for request in self.requests:
            self.resolve(resolver, request)
        watch = resolver.watch()
        self.probes: list[Probe] = resolver.probes()
        self.steps = int(self.tran.stop_s / self.h + 1e-9)
        self.state: State = start(self.system)
        self.advance: Advance = self.engine(self.system, layout, watch)
        self.buffer: Events = events(max(EVENT_CAPACITY, 2 * self.circuit.jj_count))
        self.history = np.zeros((HISTORY, watch.width))
        self.shapes: list[Shape] = list(waves(self.circuit))

    def resolve(self, resolver: Resolver, request: Request) -> None:
        """As JoSIM, go on without a ``.print`` that names nothing, but say so; a ``probes=`` must exist."""
        try:
            resolver.add(request)
        except DeckError as error:
            if request.where is NOWHERE:
                raise
            warnings.warn(DeckWarning(str(error)), stacklevel=5)

    def go(self, progress: Progress | None) -> bool:
        """Run to the end; False if the step is too large."""
        at = -settle_steps(self.h) if self.tran.startup else 0
        while at < self.steps:
            end = 0 if at < 0 else self.steps
            done, status = self.chunk(at, min(end - at, CHUNK_STEPS))
            if status == STEP_TOO_LARGE:
                return False
            at += done
            if progress is not None:
                progress(max(at, 0) / self.steps)
        return True

    def chunk(self, first: int, count: int) -> tuple[int, int]:
        """Up to ``count`` steps from ``first``."""
        t = self.h * np.arange(first, first + count, dtype=np.float64)
        drive = np.array([s.sample(t, self.h, self.tran.stop_s) for s in self.shapes]).reshape(len(self.shapes), count)
        rows = np.zeros((HISTORY + count, self.history.shape[1]))
        rows[:HISTORY] = self.history
        done, status = self.advance(self.state, drive, first, 0.01 * self.steps, rows[HISTORY:], self.buffer)
        if status == NOT_SPD:
            raise DeckError(NOWHERE, "transient", "the matrix is not positive definite", "look for values out of range")
        self.take_slips()
        rows = rows[: HISTORY + done]
        self.history = rows[len(rows) - HISTORY :].copy()
        if first >= 0:
            self.keep(Chunk(rows, first, self.h, self.tran.stop_s))
        return done, status

    def keep(self, chunk: Chunk) -> None:
        """The printed steps of a chunk: for each print time, the first step at or after it."""
        count = len(chunk.rows) - HISTORY
        t = np.arange(chunk.first, chunk.first + count) * self.h
        slot = np.floor((t - self.tran.print_start_s) / self.tran.print_step_s + 1e-6)
        before = np.floor((t - self.h - self.tran.print_start_s) / self.tran.print_step_s + 1e-6)
        printed = (slot >= 0) & ((slot > before) | (before < 0))
        self.times.append(t[printed])
        table = np.array([p.values(chunk)[printed] for p in self.probes])
        self.kept.append(table.reshape(len(self.probes), int(printed.sum())))

    def take_slips(self) -> None:
        """Empty the engine's event buffer."""
        n = int(self.buffer.filled[0])
        if n:
            self.slips.append((self.buffer.jj[:n].copy(), self.buffer.time[:n].copy(), self.buffer.turns[:n].copy()))
            self.buffer.filled[0] = 0

    def result(self, watched: list[int]) -> Transient:
        """The run as a value."""
        j, counts = self.circuit.junctions, self.state.slips
        labels = [p.label for p in self.probes]
        table = np.concatenate(self.kept, axis=1)
        weighted = float((counts * j.ic_A).sum())
        return Transient(
            np.concatenate(self.times), dict(zip(labels, table, strict=True)), self.pulses(watched),
            dict(zip(j.names, counts.tolist(), strict=True)), self.h, self.steps,
            Energy(weighted * PHI0_WB, *self.state.work_J.tolist()), len(j), self.circuit.bias_current_A, weighted,
        )  # fmt: skip

    def pulses(self, watched: list[int]) -> dict[str, Floats]:
        """(time, sign) rows of the watched junctions; a jump over several turns counts each."""
        if not self.slips:
            return {self.circuit.junctions.names[i]: np.zeros((0, 2)) for i in watched}
        jj, time, turns = (np.concatenate([s[k] for s in self.slips]) for k in range(3))
        jj, time, sign = (np.repeat(x, np.abs(turns)) for x in (jj, time, np.sign(turns)))
        order = np.argsort(jj, kind="stable")
        bounds = np.searchsorted(jj[order], np.arange(self.circuit.jj_count + 1))
        rows = np.stack([time[order], sign[order].astype(np.float64)], axis=1)
        return {self.circuit.junctions.names[i]: rows[bounds[i] : bounds[i + 1]] for i in watched}
