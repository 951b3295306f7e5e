"""Margins of a cell: each parameter scaled alone until the bench's tour of the machine goes wrong.

A parameter is a junction with its shunt (area), an inductor, resistor, coupling or bias of the cell; ``bias_global`` is
every bias of the bench, the JTL before and behind included; ``ic_global``, ``l_global``, ``r_global`` are the cell's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from hardware.sfq_cells import Margin
from sim.sfq.cells.bench import Bench, Events, right, spaced
from sim.sfq.cells.machines import Machine, tour
from sim.sfq.circuit import Circuit, Floats
from sim.sfq.corners import Corners

SPACING_S = {1: 30e-12}
"""Between the tour's pulses by number of inputs: 33 GHz for one input; else 50 ps, as data and clock share a period."""

WIDEST = 0.5
COARSE, FINE = 0.05, 0.01
GROUPS = ("junctions", "resistors", "inductors", "currents", "mutuals")


@dataclass(frozen=True)
class Parameter:
    """Elements of a circuit that one factor scales; ``inverse`` are resistors divided by it (shunts of an area)."""

    name: str
    scaled: dict[str, list[int]] = field(default_factory=dict)
    inverse: list[int] = field(default_factory=list)


Case = tuple[Parameter, float]
Works = Callable[[list[Case]], list[bool]]
"""Says for each case whether the circuit still does what it should."""


NO_INPUTS: Mapping[str, str] = {}


def parameters(circuit: Circuit, inputs: Mapping[str, str] = NO_INPUTS) -> list[Parameter]:
    """The parameters of the cell ``XD`` in a bench: single ones by name, then the global ones."""
    shunts = {n: k for k, n in enumerate(circuit.resistors.names)}
    out: list[Parameter] = []
    for k, name in enumerate(circuit.junctions.names):
        own = _own(name)
        if own is not None:
            shunt = shunts.get(f"RS{name[name.index('|') :]}") if "|" in own else None
            out.append(Parameter(own.split("|", 1)[-1], {"junctions": [k]}, [] if shunt is None else [shunt]))
    used = {k for p in out for k in p.inverse}
    for group in GROUPS[1:]:
        for k, name in enumerate(getattr(circuit, group).names):
            own = _own(name)
            if own is None or (group == "resistors" and k in used) or _parasitic(own):
                continue
            out.append(Parameter(own, {group: [k]}))
    at = {name: circuit.currents.names.index(source) for name, source in inputs.items()}
    signals = [Parameter(name, {"currents": [k]}) for name, k in at.items()]
    return out + signals + _globals(circuit, out, set(at.values()))


def _own(name: str) -> str | None:
    """The name inside the cell, ``B1|X1`` of ``B1|X1|XD``; None for another cell's element."""
    head, _, last = name.rpartition("|")
    return head if last == "XD" else None


def _parasitic(own: str) -> bool:
    """The 0.2 pH to ground and the 1 pH of a shunt are part of the junction, not a parameter of the cell."""
    return own.split("|")[0] in ("LP", "LS") and "|X" in own


def _globals(circuit: Circuit, single: list[Parameter], signals: set[int]) -> list[Parameter]:
    def of(group: str) -> list[int]:
        return [k for p in single for k in p.scaled.get(group, [])]

    shunts = [k for p in single for k in p.inverse]
    every = [
        Parameter("bias_global", {"currents": [k for k in range(len(circuit.currents)) if k not in signals]}),
        Parameter("ic_global", {"junctions": of("junctions")}),
        Parameter("l_global", {"inductors": of("inductors")}),
        Parameter("r_global", {"resistors": of("resistors") + shunts}),
    ]
    return [p for p in every if any(p.scaled.values())]


def corners(circuit: Circuit, cases: list[Case]) -> Corners:
    """One corner a case: the parameter times the factor, all else nominal."""
    tables = {g: np.ones((len(cases), len(getattr(circuit, g)))) for g in GROUPS}
    for k, (parameter, factor) in enumerate(cases):
        for group, at in parameter.scaled.items():
            tables[group][k, at] *= factor
        tables["resistors"][k, parameter.inverse] /= factor
    return Corners(
        len(cases), junctions=tables["junctions"], resistors=tables["resistors"], inductors=tables["inductors"],
        currents=tables["currents"], mutuals=tables["mutuals"] if len(circuit.mutuals) else None,
    )  # fmt: skip


def margins(b: Bench) -> dict[str, Margin]:
    """Margins of a cell of pulses: its tour is answered right. See :func:`sweep`."""
    return sweep(b.circuit, lambda cases: works(b, cases))


def sweep(circuit: Circuit, good: Works, inputs: Mapping[str, str] = NO_INPUTS) -> dict[str, Margin]:
    """Factors of every parameter between which a circuit is ``good``; steps of 5 %, then 1 %, up to +-50 %.

    ``inputs``: sources of current that are signals and no bias, by the name of their parameter.
    """
    every = parameters(circuit, inputs)
    sides = [(p, s) for p in every for s in (-1.0, 1.0)]
    steps = [_steps(circuit, *side) for side in sides]
    reached = _walk(good, sides, steps, np.zeros(len(sides)))
    fine = [
        r + np.arange(FINE, COARSE - FINE / 2, FINE) if r < s[-1] else s[:0]
        for r, s in zip(reached, steps, strict=True)
    ]
    reached = _walk(good, sides, fine, reached)
    return {
        p.name.lower(): Margin(round(1.0 - float(reached[2 * k]), 2), round(1.0 + float(reached[2 * k + 1]), 2))
        for k, p in enumerate(every)
    }


def _steps(circuit: Circuit, parameter: Parameter, side: float) -> Floats:
    """5 %, 10 % .. as far as a margin is looked for; a coupling must stay below 1."""
    steps = np.round(np.arange(COARSE, WIDEST + COARSE / 2, COARSE), 3)
    couplings = np.abs(circuit.mutuals.k[parameter.scaled.get("mutuals", [])])
    return steps if side < 0 or not len(couplings) else steps[(1.0 + steps) * couplings.max() < 0.99]


def _walk(good: Works, sides: list[Case], steps: list[Floats], reached: Floats) -> Floats:
    """How far each side goes, step by step, before the first wrong one."""
    cases = [(k, float(d)) for k, grid in enumerate(steps) for d in grid]
    passed = good([(sides[k][0], 1.0 + sides[k][1] * d) for k, d in cases])
    out = reached.copy()
    open_ = np.ones(len(sides), dtype=bool)
    for (k, d), ok in zip(cases, passed, strict=True):
        open_[k] &= ok
        if open_[k]:
            out[k] = d
    return out


def tour_events(machine: Machine) -> Events:
    """The tour of a machine as pulses, 30 ps apart for one input, else 50 ps."""
    return spaced(tour(machine), SPACING_S.get(len(machine.inputs), 50e-12))


def works(b: Bench, cases: list[Case]) -> list[bool]:
    """Whether the bench does its tour right with one parameter scaled, for each case."""
    if not cases:
        return []
    events = tour_events(b.machine)
    run = b.run([events] * len(cases), events[-1][0] + 60e-12, corners(b.circuit, cases))
    return [right(b, run, k, events) for k in range(len(cases))]
