"""Cells that add currents instead of answering pulse by pulse: synapses and soma, neuron, stochastic synapse.

Soma and neuron: first spike of a train at 30 ps against the bias of the threshold junction, fitted to

    fires at pulse n  <=>  bias >= ic_A - pulse_A (1 - a^n)/(1 - a),   a = exp(-30 ps / tau_s)

Stochastic synapse: passed share of a train against the weight current, at 4.2 K, fitted to
``p = erfc(-(IW - i50)/(sqrt2 sigma))/2`` by maximum likelihood.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import erfc

from hardware.sfq import CELLS
from hardware.sfq_cells import Margin, PassFit, SomaFit
from sim.sfq.batch import BatchRun, batch
from sim.sfq.cells import sweep
from sim.sfq.cells.bench import FIRST_S, LOAD_OHM, STEP_S, Bench, netlist, triangles
from sim.sfq.circuit import Circuit, Floats, Ints
from sim.sfq.corners import Corners
from sim.sfq.deck import loads
from sim.sfq.errors import NOWHERE, DeckError
from sim.sfq.shapes import Pwl

PERIOD_S = 30e-12
PULSES = 31
BRANCHES = (1, 2, 3, 4, 8, 16)
BIAS_A: Floats = np.arange(-50, 150, dtype=np.float64) * 2e-6
OUT = "B1|X1|XQ1"
"""First junction after the output."""


@dataclass(frozen=True)
class Stand:
    """A deck with pulse sources ``V0``, ``V1`` .., of sign ``signs``; the cell in question is ``XD``."""

    deck: str
    signs: tuple[int, ...]

    @cached_property
    def circuit(self) -> Circuit:
        """The flat circuit."""
        return loads(self.deck).flatten()

    def run(
        self, trains: Sequence[Sequence[Sequence[float]]], t_stop: float, corners: Corners | None = None
    ) -> BatchRun:
        """One corner a row of ``trains[corner][source]`` = times (s)."""
        shapes: dict[str, list[Pwl]] = {
            f"V{k}": [triangles(row[k], sign) for row in trains] for k, sign in enumerate(self.signs)
        }
        given = {} if corners is None else {g: getattr(corners, g) for g in sweep.GROUPS}
        every = Corners(len(trains), shapes=shapes, **given)
        return batch(self.circuit, every, h=STEP_S, t_stop=t_stop, watch=self.circuit.junctions.names)

    def current(self, name: str) -> tuple[int, float]:
        """Index and value (A) of a bias current."""
        at = self.circuit.currents.names.index(name)
        return at, self.circuit.currents.shapes[at].bias()

    def biased(self, name: str, values_A: Floats) -> Corners:
        """Corners in which one bias current takes each value."""
        at, own = self.current(name)
        factors = np.ones((len(values_A), len(self.circuit.currents)))
        factors[:, at] = values_A / own
        return Corners(len(values_A), currents=factors)


def soma_stand(plus: int, minus: int = 0, subject: str = "SOMA", cells: Path = CELLS) -> Stand:
    """``plus`` SYNP and ``minus`` SYNM on one SOMA. ``subject`` (SOMA, SYNP or SYNM) is ``XD``, first of its kind."""
    lines = ["* synapses on a soma", *_netlists(("JTL", "JTLN", "SYNP", "SYNM", "SOMA"), cells)]
    kinds = ["SYNP"] * plus + ["SYNM"] * minus
    for k, kind in enumerate(kinds):
        jtl = "JTL" if kind == "SYNP" else "JTLN"
        name = "XD" if kind == subject and kinds.index(kind) == k else f"XS{k}"
        lines += [f"V{k} a{k} 0 pwl(0 0)", f"XI{k} {jtl} a{k} b{k}", f"XJ{k} {jtl} b{k} c{k}", f"{name} {kind} c{k} n"]
    lines += [f"{'XD' if subject == 'SOMA' else 'XN'} SOMA n h", *_load()]
    return Stand("\n".join(lines), (1,) * plus + (-1,) * minus)


def neuron_stand(cells: Path = CELLS) -> Stand:
    """One NEURON."""
    lines = ["* neuron", *_netlists(("JTL", "NEURON"), cells), "V0 a0 0 pwl(0 0)", "XI0 JTL a0 b0", "XJ0 JTL b0 c0"]
    return Stand("\n".join([*lines, "XD NEURON c0 h", *_load()]), (1,))


def _netlists(names: Sequence[str], cells: Path) -> list[str]:
    return netlist(names[0], cells, names[1:])


def _load() -> list[str]:
    return ["XQ1 JTL h g", "XQ2 JTL g y", f"RQ y 0 {LOAD_OHM}", f".tran {STEP_S * 1e12:g}p 1n", ".end", ""]


def soma_fit(stand: Stand, bias: str, branches: int, cause: str, threshold: str) -> SomaFit:
    """The fit of the module's head for one branch driven by a train.

    ``bias`` is the threshold junction's current, ``cause`` the junction whose slips are the pulses, ``threshold`` the
    one whose first slip is the spike.
    """
    silent: list[list[float]] = [[] for _ in stand.signs[1:]]
    train = [FIRST_S + k * PERIOD_S for k in range(PULSES)]
    run = stand.run([[train, *silent]] * len(BIAS_A), train[-1] + 2 * PERIOD_S, stand.biased(bias, BIAS_A))
    first = [_first_spike(run, k, cause, threshold) for k in range(len(BIAS_A))]
    reached = [(n, np.flatnonzero([0 < f <= n for f in first])) for n in range(1, PULSES + 1)]
    points = [(n, float(BIAS_A[at[0]]) - 1e-6) for n, at in reached if len(at) and at[0] > 0]
    if len(points) < 4:
        raise DeckError(NOWHERE, "soma", f"only {len(points)} thresholds found", "look at its bias range")
    return SomaFit(branches, *fit_leak(np.array(points)))


def _first_spike(run: BatchRun, corner: int, cause: str, threshold: str) -> int:
    """Number of the pulse that made the first spike; 0 for no spike or one before any pulse."""
    spikes = run.pulse_times(threshold, corner)
    return int(np.searchsorted(run.pulse_times(cause, corner), spikes[0])) if len(spikes) else 0


def fit_leak(points: Floats) -> tuple[float, float, float]:
    """``(pulse_A, tau_s, ic_A)`` by least squares from rows (n, bias): linear but for tau, which is searched."""
    n, bias = points[:, 0], points[:, 1]

    def solve(tau: float) -> tuple[float, float, float]:
        a = math.exp(-PERIOD_S / tau)
        matrix = np.stack([np.ones_like(n), -(1.0 - a**n) / (1.0 - a)], axis=1)
        (ic, pulse), *_ = np.linalg.lstsq(matrix, bias, rcond=None)
        return float(((matrix @ (ic, pulse) - bias) ** 2).sum()), float(pulse), float(ic)

    taus = np.arange(30e-12, 500e-12, 0.1e-12)
    tau = float(min(taus, key=lambda t: solve(float(t))[0]))
    _, pulse, ic = solve(tau)
    return pulse, tau, ic


def spikes(stand: Stand, before: str, pulses: int, period_s: float = PERIOD_S) -> tuple[float, int, float]:
    """Delay (s) of a spike, from the last slip of ``before`` to that of the load; slips of the cell a spike, their Ic.

    A train of ``pulses`` on every positive branch makes it fire at least once.
    """
    train = [FIRST_S + k * period_s for k in range(pulses)]
    run = stand.run([[train if s > 0 else [] for s in stand.signs]], train[-1] + 90e-12)
    out = run.pulse_times(OUT, 0)
    if not len(out):
        raise DeckError(NOWHERE, "soma", f"does not fire on {pulses} pulses", "look at its bias")
    cause = run.pulse_times(before, 0)
    names, ic = stand.circuit.junctions.names, stand.circuit.junctions.ic_A
    own = [k for k, n in enumerate(names) if n.endswith("|XD") and names[k] != before]
    return float(out[0] - cause[cause < out[0]][-1]), len(own), float(ic[own].sum())


def synapse(stand: Stand) -> tuple[float, int, float]:
    """Delay (s) of a synapse ``XD``, from the last slip of its driver to its own; slips a pulse, their Ic."""
    at = 0 if stand.signs[-1] > 0 else len(stand.signs) - 1
    run = stand.run([[[FIRST_S] if k == at else [] for k in range(len(stand.signs))]], FIRST_S + 80e-12)
    sign = stand.signs[at]
    own = next(k for k, n in enumerate(stand.circuit.junctions.names) if n.endswith("|XD"))
    slip, drive = (run.pulse_times(n, 0, sign)[0] for n in ("B1|X1|XD", f"B1|X2|XJ{at}"))
    return float(slip - drive), 1, float(stand.circuit.junctions.ic_A[own])


def soma_margins(stand: Stand, few: int, many: int, period_s: float = PERIOD_S) -> dict[str, Margin]:
    """Margins: silent after ``few`` pulses on one branch, at least one spike on ``many`` on each positive branch.

    A train of ``many`` on positive and negative branches together gives no spike, where there are negative ones.
    """
    trains = _criterion(stand, few, many, period_s)
    stop = FIRST_S + (many + 2) * period_s

    def good(cases: list[sweep.Case]) -> list[bool]:
        if not cases:
            return []
        each = sweep.corners(stand.circuit, [c for c in cases for _ in trains])
        counts = stand.run([t for _ in cases for t in trains], stop, each).count(OUT).reshape(len(cases), len(trains))
        return [bool(row[0] == 0 and 1 <= row[1] <= many and (row[2:] == 0).all()) for row in counts]

    return sweep.sweep(stand.circuit, good)


def _criterion(stand: Stand, few: int, many: int, period_s: float) -> list[list[list[float]]]:
    def train(n: int) -> list[float]:
        return [FIRST_S + k * period_s for k in range(n)]

    first = [train(few) if k == 0 else [] for k in range(len(stand.signs))]
    rows = [first, [train(many) if s > 0 else [] for s in stand.signs]]
    return [*rows, [train(many) for _ in stand.signs]] if -1 in stand.signs else rows


RATE_PERIOD_S = 50e-12
WEIGHTS_A = np.arange(56e-6, 90e-6, 2e-6)
TRIES = 8
SHOTS = 60


def pass_fit(b: Bench, temperature_K: float) -> PassFit:
    """Pass probability of a stochastic synapse against the current into its control pin; ``b`` has a temperature."""
    train = [(FIRST_S + k * RATE_PERIOD_S, b.machine.inputs[0]) for k in range(SHOTS)]
    name = f"IP{b.machine.controls[0].upper()}"
    at = b.circuit.currents.names.index(name)
    weights = np.repeat(WEIGHTS_A, TRIES)
    factors = np.ones((len(weights), len(b.circuit.currents)))
    factors[:, at] = weights / b.machine.control_A
    run = b.run([train] * len(weights), train[-1][0] + 80e-12, Corners(len(weights), currents=factors), seed=1)
    passed = run.count(b.load(b.machine.outputs[0]), b.sign(b.machine.outputs[0]))
    return PassFit(*fit_passes(weights, np.minimum(passed, SHOTS), SHOTS), temperature_K)


def fit_passes(weights_A: Floats, passed: Ints, shots: int) -> tuple[float, float]:
    """``(i50_A, sigma_A)`` of largest likelihood for ``passed`` of ``shots`` at each weight current."""

    def unlikely(x: Floats) -> float:
        z = (weights_A * 1e6 - x[0]) / (math.sqrt(2.0) * math.exp(x[1]))
        p = np.clip(0.5 * erfc(-z), 1e-9, 1.0 - 1e-9)
        return -float((passed * np.log(p) + (shots - passed) * np.log(1.0 - p)).sum())

    middle = float(np.interp(0.5 * shots, np.sort(passed), np.sort(weights_A))) * 1e6
    found = minimize(unlikely, np.array([middle, 1.0]), method="Nelder-Mead")
    return float(found.x[0]) * 1e-6, math.exp(float(found.x[1])) * 1e-6
