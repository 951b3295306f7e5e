"""What a deck measures and where its junctions rest: ``.measure`` and ``.dc op``, answered.

    count    slips of the sign, from ``from`` to ``to``
    period   (t_last - t_first) / (n - 1)
    time     t_n
    delay    t_n of the second junction - t_n of the first
    max min pp integral (trapezoids) avg (integral by time) rms (of the square)    of a trace, over its printed times

A measurement that has no answer, a period of one slip, is NaN.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from sim.sfq.asked import Measure
from sim.sfq.circuit import Circuit, Floats, Sources
from sim.sfq.errors import NOWHERE, DeckError, DeckWarning
from sim.sfq.shapes import Dc
from sim.sfq.transient import Transient, transient

STILL_RAD = 1e-3
STEP_S, STEPS = 0.1e-12, 20
"""A circuit at its operating point does not move by more than this in so many steps."""


def with_measured(circuit: Circuit, measures: Iterable[Measure]) -> Circuit:
    """The circuit with the traces that are measured among those it prints."""
    known = {r.label for r in circuit.requests}
    more = {m.trace.label: m.trace for m in measures if m.trace is not None and m.trace.label not in known}
    return replace(circuit, requests=(*circuit.requests, *more.values()))


def measured(measures: Iterable[Measure], run: Transient) -> dict[str, float]:
    """Each measurement by name, in SI units. Raises DeckError for a junction or trace that the run does not have."""
    return {m.name: _traced(m, run) if m.trace is not None else _pulsed(m, run) for m in measures}


def _pulsed(m: Measure, run: Transient) -> float:
    first = _times(m, m.first, run)
    if m.what == "count":
        return float(len(first))
    if m.what == "period":
        return float((first[-1] - first[0]) / (len(first) - 1)) if len(first) > 1 else math.nan
    if m.what == "time":
        return float(first[m.number - 1]) if len(first) >= m.number else math.nan
    second = _times(m, m.second, run)
    enough = min(len(first), len(second)) >= m.number
    return float(second[m.number - 1] - first[m.number - 1]) if enough else math.nan


def _times(m: Measure, junction: str, run: Transient) -> Floats:
    if junction not in run.pulses:
        raise DeckError(m.where, junction, f"no such junction in .measure {m.name}", "names grow outwards: B1.X1.XA1")
    times = run.pulse_times(junction, m.sign)
    return times[(times >= m.from_s) & (times <= _end(m))]


def _end(m: Measure) -> float:
    return math.inf if m.to_s is None else m.to_s


def _integral(t: Floats, x: Floats) -> float:
    return float((0.5 * (x[1:] + x[:-1]) * np.diff(t)).sum())


REDUCE: Mapping[str, Callable[[Floats, Floats], float]] = {
    "max": lambda _, x: float(x.max()),
    "min": lambda _, x: float(x.min()),
    "pp": lambda _, x: float(np.ptp(x)),
    "integral": _integral,
    "avg": lambda t, x: _integral(t, x) / float(t[-1] - t[0]),
    "rms": lambda t, x: math.sqrt(_integral(t, x * x) / float(t[-1] - t[0])),
}


def _traced(m: Measure, run: Transient) -> float:
    if m.first not in run.traces:
        raise DeckError(
            m.where, m.first, f"no such trace in .measure {m.name}", "name a node or an element of the deck"
        )
    inside = (run.time_s >= m.from_s) & (run.time_s <= _end(m))
    t, x = run.time_s[inside], run.traces[m.first][inside]
    return REDUCE[m.what](t, x) if len(t) > 1 else math.nan


@dataclass(frozen=True)
class Rest:
    """Where junctions rest: ``phase_rad``, ``current_A`` and ``ic_A`` (junctions,) by ``names``."""

    names: tuple[str, ...]
    ic_A: Floats
    phase_rad: Floats
    current_A: Floats


def resting(circuit: Circuit) -> Rest:
    """The operating point with every source at the constant that its ramp settles at; signals are 0.

    Raises DeckError for a circuit that has none: a junction with more current than it can carry.
    """
    j = circuit.junctions
    steady = replace(
        circuit, currents=_steady(circuit.currents), voltages=_steady(circuit.voltages), temperature_K=None,
        phases=_steady(circuit.phases), tran=None, requests=(), start_V=None, start_rad=None,
    )  # fmt: skip
    probes = [f"{q}({name})" for name in j.names for q in "PI"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeckWarning)  # said below, with the junction
        run = transient(steady, h=STEP_S, t_stop=STEPS * STEP_S, startup="op", watch=(), probes=probes)
    phase, last = (np.array([run.traces[f"P({n})"][k] for n in j.names]) for k in (0, -1))
    current = np.array([run.traces[f"I({n})"][0] for n in j.names])
    moved = np.abs(last - phase)
    if len(moved) and moved.max() > STILL_RAD:
        worst = j.names[int(moved.argmax())]
        raise DeckError(
            circuit.where.get(worst, NOWHERE), worst, "the circuit has no operating point: this junction moves on",
            "lower the bias of its node, or raise its critical current",
        )  # fmt: skip
    return Rest(j.names, j.ic_A, phase, current)


def _steady(sources: Sources) -> Sources:
    return replace(sources, shapes=tuple(Dc(s.bias()) for s in sources.shapes))
