"""The two ends of a chip: DC to SFQ and SFQ to DC.

DCSFQ is driven by ramps of current instead of pulses: an event at ``a`` is the current through ``rise_A`` upwards, then
``fall_A`` downwards. SFQDC holds a level instead of answering: its output is a voltage, the rate of slips of its
read-out junction, ``V = f Phi0``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from hardware.sfq import CELLS
from hardware.sfq_cells import Margin, Transition
from sim.sfq.batch import BatchRun, batch
from sim.sfq.cells import sweep
from sim.sfq.cells.bench import FIRST_S, LOAD_OHM, STEP_S, netlist, triangles
from sim.sfq.circuit import Circuit
from sim.sfq.constants import PHI0_WB
from sim.sfq.corners import Corners
from sim.sfq.deck import loads
from sim.sfq.errors import NOWHERE, DeckError
from sim.sfq.shapes import Pwl, Shape

INPUT_A = 620e-6
SLOW_S, FAST_S, HOLD_S = 400e-12, 20e-12, 100e-12
LEVEL_OHM = 20
WINDOW_S = 200e-12
WORD = ("s", "s", "r", "r", "s", "r")
Numbers = dict[str, float]


@cache
def dc_circuit(cells: Path = CELLS) -> Circuit:
    """DCSFQ between a current source and two JTL."""
    return _circuit("DCSFQ", cells, "IIN 0 na pwl(0 0)", "XD DCSFQ na nq", "XQ1 JTL nq f", "XQ2 JTL f g",
                    f"RQ g 0 {LOAD_OHM}")  # fmt: skip


@cache
def level_circuit(cells: Path = CELLS) -> Circuit:
    """SFQDC between JTL and a resistor."""
    drive = [f"V{p} a{p} 0 pwl(0 0)\nX{p}1 JTL a{p} b{p}\nX{p}2 JTL b{p} n{p}" for p in "sr"]
    return _circuit("SFQDC", cells, *drive, "XD SFQDC ns nr nv", f"RV nv 0 {LEVEL_OHM}")


def _circuit(name: str, cells: Path, *lines: str) -> Circuit:
    return loads("\n".join([f"* {name}", *netlist(name, cells), *lines, ".tran 0.1p 1n", ".end", ""])).flatten()


def ramps(edge_s: float, count: int) -> Pwl:
    """``count`` rises and falls of the input current, each ``edge_s`` long, with a hold between."""
    t, times, values = FIRST_S, [0.0], [0.0]
    for _ in range(count):
        times += [t, t + edge_s, t + edge_s + HOLD_S, t + 2 * edge_s + HOLD_S]
        values += [0.0, INPUT_A, INPUT_A, 0.0]
        t += 2 * (edge_s + HOLD_S)
    return Pwl(tuple(times), tuple(values))


def _run(circuit: Circuit, shapes: Mapping[str, Shape], stop: float, cases: list[sweep.Case]) -> BatchRun:
    each = sweep.corners(circuit, cases)
    given = {g: getattr(each, g) for g in sweep.GROUPS}
    every = Corners(len(cases), shapes={n: [s] * len(cases) for n, s in shapes.items()}, **given)
    return batch(circuit, every, h=STEP_S, t_stop=stop, watch=circuit.junctions.names)


NOMINAL: list[sweep.Case] = [(sweep.Parameter("nominal"), 1.0)]


def dc_sfq(cells: Path = CELLS) -> tuple[tuple[Transition, ...], dict[str, Margin], Numbers]:
    """Transitions, margins and currents of DCSFQ. Margins: three ramps of 20 ps and three of 400 ps, a pulse each."""
    circuit = dc_circuit(cells)
    slow = ramps(SLOW_S, 1)
    run = _run(circuit, {"IIN": slow}, slow.times[-1] + HOLD_S, NOMINAL)
    up, down = run.pulse_times("B1|X2|XD", 0), run.pulse_times("B1|X1|XD", 0, -1)
    if len(up) != 1 or len(down) != 1:
        raise DeckError(NOWHERE, "cell DCSFQ", f"{len(up)} pulses on one rise", "correct its netlist")
    rise, fall = (float(np.interp(t[0], slow.times, slow.values)) for t in (up, down))
    fast = ramps(FAST_S, 1)
    run = _run(circuit, {"IIN": fast}, fast.times[-1] + HOLD_S, NOMINAL)
    delay = float(run.pulse_times("B1|X1|XQ1", 0)[0]) - (FIRST_S + FAST_S * rise / INPUT_A)
    ic = circuit.junctions.ic_A[[circuit.junctions.names.index(f"B1|X{k}|XD") for k in (1, 2, 3)]]
    rows = (
        Transition("low", "a", "high", ("q",), delay, 0.0, float(ic[1] + ic[2]), 2),
        Transition("high", "a", "low", (), float("nan"), 0.0, float(ic[0]), 1),
    )

    def good(cases: list[sweep.Case]) -> list[bool]:
        passed = np.ones(len(cases), dtype=bool)
        for edge in (SLOW_S, FAST_S) if cases else ():
            shape = ramps(edge, 3)
            run = _run(circuit, {"IIN": shape}, shape.times[-1] + HOLD_S, cases)
            wanted = [1, 0] * 3
            for k in range(len(cases)):
                out = np.histogram(run.pulse_times("B1|X1|XQ1", k), [0.0, *_halves(edge, 3)])[0]
                passed[k] &= out.tolist() == wanted
        return [bool(p) for p in passed]

    return rows, sweep.sweep(circuit, good, {"input": "IIN"}), {"rise_A": rise, "fall_A": fall, "input_A": INPUT_A}


def _halves(edge_s: float, count: int) -> list[float]:
    """Ends of the rises and of the falls, holds counted to them."""
    return [FIRST_S + (k + 1) * (edge_s + HOLD_S) for k in range(2 * count)]


def sfq_dc(cells: Path = CELLS) -> tuple[tuple[Transition, ...], dict[str, Margin], Numbers]:
    """Transitions, margins and voltage of SFQDC over WORD: on is over half the voltage, off at most one slip."""
    circuit = level_circuit(cells)
    times = [FIRST_S + k * WINDOW_S for k in range(len(WORD))]
    shapes = {f"V{p.upper()}": triangles([t for t, on in zip(times, WORD, strict=True) if on == p]) for p in "sr"}
    edges = [FIRST_S + 20e-12 + k * WINDOW_S for k in range(len(WORD) + 1)]
    on = np.array([1, 1, 0, 0, 1, 0], dtype=bool)

    def slips(run: BatchRun, corner: int) -> np.ndarray:
        return np.histogram(run.pulse_times("B1|X6|XD", corner), edges)[0]

    run = _run(circuit, shapes, edges[-1], NOMINAL)
    full = float(slips(run, 0)[on].mean())
    if full < 4 or slips(run, 0)[~on].max() > 1:
        raise DeckError(NOWHERE, "cell SFQDC", f"{slips(run, 0)} slips a level", "correct its netlist")

    def good(cases: list[sweep.Case]) -> list[bool]:
        if not cases:
            return []
        run = _run(circuit, shapes, edges[-1], cases)
        counts = np.array([slips(run, k) for k in range(len(cases))])
        held = (counts[:, on] > 0.5 * full).all(axis=1) & (counts[:, ~on] <= 1).all(axis=1)
        return list(map(bool, np.atleast_1d(held)))

    names, ic = circuit.junctions.names, circuit.junctions.ic_A
    x = {k: float(ic[names.index(f"B1|X{k}|XD")]) for k in range(1, 7)}
    nan = float("nan")
    rows = (
        Transition("off", "s", "on", (), nan, 0.0, x[2], 1),
        Transition("off", "r", "off", (), nan, 0.0, x[4], 1),
        Transition("on", "s", "on", (), nan, 0.0, x[1], 1),
        Transition("on", "r", "off", (), nan, 0.0, x[3], 1),
    )
    volts = full * PHI0_WB / WINDOW_S
    return rows, sweep.sweep(circuit, good), {"on_V": volts, "off_V": 0.0, "load_ohm": float(LEVEL_OHM)}
