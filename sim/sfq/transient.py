"""Transient simulation of an SFQ circuit at junction level: the driver around an engine.

Step h, one linear solve a step (law: ``reference``; fast: ``compiled``). A run begins at the operating point
(``op``) and goes down to half its step where a junction's phase would move more than 0.4 pi in one (``ladder``); with
``startup="josim"`` it does as JoSIM does. Source: docs/sfq.md 1.5, 1.6.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np

from sim.sfq.circuit import Circuit, Floats, Ints
from sim.sfq.constants import PHI0_WB
from sim.sfq.corners import Corners
from sim.sfq.deck import Deck, Tran
from sim.sfq.errors import NOWHERE, DeckError, DeckWarning
from sim.sfq.fast import compiled
from sim.sfq.ladder import MAX_HALVINGS, Ladder
from sim.sfq.layout import Layout
from sim.sfq.noise import thermal
from sim.sfq.op import at_rest, given
from sim.sfq.printing import Printer
from sim.sfq.probes import HISTORY, Chunk, Probe, Resolver
from sim.sfq.requests import Request, parse_request
from sim.sfq.shapes import Shape
from sim.sfq.state import STEP_TOO_LARGE, Drive, Engine, Events, Options, State, before, events, start
from sim.sfq.stored import stored_J
from sim.sfq.system import build, waves

Startup: TypeAlias = Literal["op", "josim", "none"]
CHUNK_STEPS, CHUNK_WORK = 16384, 1 << 22
"""Steps, and junctions times steps, between two calls of the progress: some tenths of a second at most."""
EVENT_CAPACITY = 1 << 16

Progress = Callable[[float], None]
"""Called with the part of the run that is done, 0 to 1; raising stops the run."""


@dataclass(frozen=True)
class Energy:
    """Energies of a run in J (docs/sfq.md 5).

    ``ic_phi0_J`` = sum of Ic Phi0 over all slips (the usual upper estimate). ``bias_J`` is the work of the current
    sources, ``source_J`` of the V and P sources: ``sum I sigma df``, exact for a constant current. ``resistor_J`` and
    ``junction_J`` are the heat ``sum V^2/R h`` in resistors and in the junctions' own conductances; ``stored_J`` is
    what L, C, T and junctions hold at the end more than at the start. Controlled sources are not in the balance.
    """

    ic_phi0_J: float
    bias_J: float
    source_J: float
    resistor_J: float
    junction_J: float
    stored_J: float = 0.0

    @property
    def supplied_J(self) -> float:
        """All that the sources gave."""
        return self.bias_J + self.source_J

    @property
    def dissipated_J(self) -> float:
        """All that became heat; ``supplied_J`` is this and ``stored_J``."""
        return self.resistor_J + self.junction_J


@dataclass(frozen=True)
class Transient:
    """What happened. ``traces`` by JoSIM's labels over ``time_s``; ``pulses`` per junction, rows (time s, sign).

    ``slips`` counts 2 pi slips of either sign per junction; ``bias_current_A`` is the constant current of all sources.
    ``step_s`` is the run's step, ``step_s_used`` the smallest that the phase guard made it take.
    """

    time_s: Floats
    traces: dict[str, Floats]
    pulses: dict[str, Floats]
    slips: dict[str, int]
    step_s: float
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


def transient(
    source: Deck | Circuit,
    h: float | None = None,
    t_stop: float | None = None,
    watch: Iterable[str] | None = None,
    probes: Iterable[str] | None = None,
    engine: Engine = compiled,
    startup: Startup | None = None,
    progress: Progress | None = None,
    corrector: int = 0,
    seed: int | None = None,
    corner: int = 0,
) -> Transient:
    """Simulate a deck or a circuit.

    ``h``, ``t_stop`` (s) replace the deck's ``.tran``; ``watch`` names the junctions whose pulses are kept (default
    all), ``probes`` the traces (``"P(B1.X1)"``, default the deck's ``.print``). ``engine`` is ``compiled`` or
    ``reference.engine``. ``startup``: "op" begins at the DC operating point and halves the step only where a junction
    asks; "josim" does as JoSIM: settles first, rounds delays to steps, and starts again at h/2 for the whole run;
    "none" (a deck's DST) begins from rest. None is "op", or the deck's DST. ``corrector``: how often each step is
    repeated with the sine at the solved phase. ``seed`` (default the deck's, or 0) and ``corner`` name the noise.

    Raises DeckError for a circuit without a solution, an unknown name, or a step that the guard halved 12 times.
    """
    circuit = source.flatten() if isinstance(source, Deck) else source
    tran, begin = run_times(circuit, h, t_stop, startup)
    watched = watched_junctions(circuit, watch)
    requests = circuit.requests if probes is None else [parse_request(p, NOWHERE) for p in probes]
    step = tran.step_s
    seed = (circuit.seed or 0) if seed is None else seed
    for _ in range(MAX_HALVINGS + 1):
        run = Run(circuit, tran, step, list(requests), engine, begin, Options(corrector), seed, corner)
        if run.go(progress):
            return run.result(watched)
        step /= 2
    raise DeckError(
        circuit.where.get(circuit.junctions.names[0], NOWHERE),
        "transient",
        f"a junction's phase still jumps at a step of {step:g} s",
        "look for a junction without shunt or with a wrong unit in its capacitance",
    )


@dataclass(frozen=True)
class StepCheck:
    """What half the step changes: ``shift_s`` of the pulse that moves most, junctions whose ``slips`` differ."""

    step_s: float
    shift_s: float
    junction: str
    slips_differ: tuple[str, ...]


def check_step(source: Deck | Circuit, h: float | None = None, t_stop: float | None = None) -> StepCheck:
    """Run at ``h`` and at ``h/2`` and compare all pulses. Raises as :func:`transient`."""
    circuit = source.flatten() if isinstance(source, Deck) else source
    first = transient(circuit, h=h, t_stop=t_stop, probes=())
    second = transient(circuit, h=first.step_s / 2, t_stop=t_stop, probes=())
    shift, worst = 0.0, ""
    differ = []
    for name, rows in first.pulses.items():
        other = second.pulses[name]
        if rows.shape != other.shape:
            differ.append(name)
        elif len(rows) and (moved := float(np.abs(rows[:, 0] - other[:, 0]).max())) > shift:
            shift, worst = moved, name
    return StepCheck(first.step_s, shift, worst, tuple(differ))


def settle_steps(h: float) -> int:
    """JoSIM's number of steps before t = 0: ``2 10^(2(|log10 h| - 12) + 1)``, at most 1000. Source: Simulation.cpp."""
    return int(min(1000.0, 2.0 * 10.0 ** ((abs(math.log10(h)) - 12.0) * 2.0 + 1.0)))


def run_times(circuit: Circuit, h: float | None, t_stop: float | None, startup: Startup | None) -> tuple[Tran, Startup]:
    """The times of a run and how it begins; a step is halved until no transmission line is shorter.

    Raises DeckError for a deck without ``.tran`` or times out of order.
    """
    tran = circuit.tran
    if tran is None and (h is None or t_stop is None):
        raise DeckError(NOWHERE, ".tran", "the deck has no .tran", "add .tran step stop, or pass h= and t_stop=")
    base = tran or Tran(print_step_s=0.0)
    step, stop = h or base.step_s, t_stop or base.stop_s
    if not 0 < step < stop < math.inf:
        raise DeckError(NOWHERE, ".tran", f"step {step:g} s, stop {stop:g} s", "use 0 < h < t_stop, in seconds")
    begin: Startup = startup or ("op" if base.startup else "none")
    while float(circuit.lines.td_s.min(initial=np.inf)) < step * (1.0 - 1e-6):
        step /= 2.0
    return replace(base, step_s=step, stop_s=stop, print_step_s=max(step, base.print_step_s)), begin


def watched_junctions(circuit: Circuit, watch: Iterable[str] | None) -> list[int]:
    """Indices of the junctions of these names, all for None. Raises DeckError for an unknown one."""
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
    """One attempt at one step: where it begins, then chunks of steps, of which only the printed ones are kept."""

    circuit: Circuit
    tran: Tran
    h: float
    requests: list[Request]
    engine: Engine
    startup: Startup
    options: Options
    seed: int
    corner: int
    slips: list[tuple[Ints, Floats, Ints]] = field(default_factory=list)

    def __post_init__(self) -> None:
        josim = self.startup == "josim"
        self.system, layout = build(self.circuit, self.h, round_delay=josim)
        resolver = Resolver(self.circuit, layout, self.system.border)
        for request in self.requests:
            self.resolve(resolver, request)
        self.watch = resolver.watch()
        self.probes: list[Probe] = resolver.probes()
        self.steps = int(self.tran.stop_s / self.h + 1e-9)
        self.buffer: Events = events(max(EVENT_CAPACITY, 2 * self.circuit.jj_count))
        self.shapes: list[Shape] = list(waves(self.circuit))
        ids = Corners(1, ids=np.array([self.corner], dtype=np.int64))
        self.noise = thermal(self.circuit, ids, self.seed)
        state, rest = self.begin(layout)
        self.at_rest, self.layout = rest, layout
        self.history = before(state, self.watch)[:, :, 0]
        self.stored_J = stored_J(self.circuit, self.system, layout, state)
        self.ladder = Ladder(
            self.circuit, layout, self.system, state, self.engine, self.watch, self.options, self.drive, self.buffer,
            self.take_slips,
        )  # fmt: skip
        self.ladder.guard_from = 0.01 * self.steps if josim else -1.0
        self.printer = Printer(self.tran, self.h)

    def begin(self, layout: Layout) -> tuple[State, bool]:
        """The state before the first step, and whether it is what was asked for."""
        if self.startup != "op":
            return start(self.system), True
        if self.tran.uic and self.circuit.start_rad is not None:
            return given(self.circuit, self.system), True
        zero = {s: float(s.sample(np.zeros(1), self.h, self.tran.stop_s)[0]) for s in self.shapes}
        now = np.array([[zero[s]] for s in self.circuit.sources()]).reshape(-1, 1)
        state, good = at_rest(self.circuit, self.system, layout, now, None)
        if not good.all():
            warnings.warn(
                DeckWarning("no operating point at t = 0 (a junction carries more than its Ic): begins from rest"),
                stacklevel=5,
            )
        return state, bool(good.all())

    def resolve(self, resolver: Resolver, request: Request) -> None:
        """As JoSIM, go on without a ``.print`` that names nothing, but say so; a ``probes=`` must exist."""
        try:
            resolver.add(request)
        except DeckError as error:
            if request.where is NOWHERE:
                raise
            warnings.warn(DeckWarning(str(error)), stacklevel=5)

    def drive(self, h: float, first: int, count: int) -> Drive:
        """Values of the sources and the noise."""
        t = h * np.arange(first, first + count, dtype=np.float64)
        table = np.array([s.sample(t, h, self.tran.stop_s) for s in self.shapes])
        own = np.zeros((count, len(self.system.oa), 1))
        if self.noise is not None:
            self.noise.fill(first, h, own)
        return Drive(table, own)

    def go(self, progress: Progress | None) -> bool:
        """Run to the end; False if the step is too large and the whole run is to begin again."""
        josim = self.startup == "josim"
        at = -settle_steps(self.h) if josim else 0
        most = max(CHUNK_STEPS // 32, min(CHUNK_STEPS, CHUNK_WORK // max(self.circuit.jj_count, 1)))
        while at < self.steps:
            end = 0 if at < 0 else self.steps
            rows, status = self.ladder.steps(at, min(end - at, most), stop_at_guard=josim)
            self.take_slips()
            if status == STEP_TOO_LARGE:
                return False
            self.keep(at, rows[:, :, 0])
            at += len(rows)
            if progress is not None:
                progress(max(at, 0) / self.steps)
        return True

    def keep(self, first: int, new: Floats) -> None:
        """The printed steps of a chunk."""
        rows = np.concatenate([self.history, new])
        self.history = rows[len(rows) - HISTORY :]
        times = self.h * np.arange(first, first + len(new), dtype=np.float64)
        if first >= 0 and self.probes:
            chunk = Chunk(rows, first, self.h, self.tran.stop_s)
            table = np.array([p.values(chunk) for p in self.probes])
            self.printer.take(times, table)
        elif first >= 0:
            self.printer.take(times, np.zeros((0, len(new))))

    def take_slips(self) -> None:
        """Empty the engine's event buffer."""
        n = self.buffer.filled
        if n:
            self.slips.append((self.buffer.jj[:n].copy(), self.buffer.time[:n].copy(), self.buffer.turns[:n].copy()))
            self.buffer.filled = 0

    def result(self, watched: list[int]) -> Transient:
        """The run as a value."""
        state = self.ladder.states[0]
        j, counts = self.circuit.junctions, state.slips[:, 0]
        stored = stored_J(self.circuit, self.system, self.layout, state)
        time, table = self.printer.result()
        labels = [p.label for p in self.probes]
        weighted = float((counts * j.ic_A).sum())
        bias, source, resistor, junction = state.work[:, 0].tolist()
        energy = Energy(weighted * PHI0_WB, bias, source, resistor, junction, stored - self.stored_J)
        return Transient(
            time, dict(zip(labels, table, strict=True)), self.pulses(watched),
            dict(zip(j.names, counts.tolist(), strict=True)), self.h, self.h / 2**self.ladder.finest, self.steps,
            energy, len(j), self.circuit.bias_current_A, weighted,
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
