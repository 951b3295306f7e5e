"""A soma's numbers from junction level: random trains through its branches, and the law that gives its slips.

    v_j = sum_i w_i exp(-(t_j - t_i)/tau) - reset sum_k exp(-(t_j - s_k)/tau)    after pulse j, s_k the slips before
    fires  <=>  v_j >= theta = (ic_A - bias)/pulse_A,   s - t_j = slip_s + late_s ln(1 + late_v/(v_j - theta))

t are slips of the synapses, s of the soma's output junction. All numbers are fitted at once: what fired, when, and what
did not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from sim.sfq.philox import compiled
from sim.sfq.pulse.bench import junction_level
from sim.sfq.pulse.cells import PulseCell, SomaRow
from sim.sfq.pulse.netlist import Netlist
from sim.sfq.pulse.tables import Floats

STOP_S = 3e-9
MISSED_V, LATE_S = 0.03, 0.3e-12
"""What weighs as much as one another in the fit: pulses of v on the wrong side, and seconds of a slip's time."""
SLOWEST_S = 25e-12
"""A slip belongs to the last pulse that came at most so long before it."""
STEP_S = 0.1e-12


@dataclass(frozen=True)
class Record:
    """One run: pulses (time in s, weight) sorted, slips of the soma's output (s), and the bias (A)."""

    times: Floats
    weights: Floats
    slips: Floats
    bias_A: float


def netlist(library: Mapping[str, PulseCell], signs: Sequence[int], bias_A: float, cell: str = "SOMA") -> Netlist:
    """A soma with a branch for each sign, each behind two lines; inputs ``i0``.., output ``q`` behind ``h``."""
    net = Netlist(library)
    for k, sign in enumerate(signs):
        line, synapse = ("JTL", "SYNP") if sign > 0 else ("JTLN", "SYNM")
        net.add(f"XA{k}", line, a=f"i{k}", q=f"a{k}").add(f"XB{k}", line, a=f"a{k}", q=f"b{k}")
        if not library[cell].branches:
            net.add(f"XY{k}", synapse, a=f"b{k}", n="sum")
    into = {"a": "b0"} if library[cell].branches else {"n": "sum"}
    net.add("XN", cell, bias_A=bias_A, q="h", **into)
    return net.add("XH", "JTL", a="h", q="q")


def record(
    library: Mapping[str, PulseCell], signs: Sequence[int], bias_A: float, trains: Sequence[Floats], cell: str = "SOMA"
) -> Record:
    """Junction level's answer to a train for each branch. A NEURON's pulses are those of the line before it."""
    net = netlist(library, signs, bias_A, cell)
    got = junction_level(net, {f"i{k}": t for k, t in enumerate(trains)}, STOP_S, STEP_S)
    came = [got.times["b0" if library[cell].branches else f"XY{k}.n"] for k in range(len(signs))]
    times = np.concatenate(came)
    weights = np.concatenate([np.full(len(t), float(s)) for t, s in zip(came, signs, strict=True)])
    order = np.argsort(times, kind="stable")
    return Record(times[order], weights[order], got.times["h"], bias_A)


def random_trains(rng: np.random.Generator, count: int, mean_s: float) -> list[Floats]:
    """Trains with at least 25 ps between pulses, the mean as given."""
    gaps = 25e-12 + rng.exponential(mean_s - 25e-12, (count, int(STOP_S / mean_s) + 1))
    trains = 60e-12 + rng.uniform(0, 30e-12, (count, 1)) + np.cumsum(gaps, axis=1)
    return [t[t < STOP_S - 60e-12] for t in trains]


def membrane(r: Record, tau_s: float, reset: float) -> Floats:
    """v just after each pulse, with the slips where they were."""
    out: Floats = _membrane(r.times, r.weights, r.slips, tau_s, reset)
    return out


@compiled
def _membrane(times: Any, weights: Any, slips: Any, tau: Any, reset: Any) -> Any:
    out = np.zeros(times.shape[0])
    v, at, k = 0.0, 0.0, 0
    for j in range(times.shape[0]):
        while k < slips.shape[0] and slips[k] < times[j]:
            v = v * np.exp((at - slips[k]) / tau) - reset
            at = slips[k]
            k += 1
        v = v * np.exp((at - times[j]) / tau) + weights[j]
        at = times[j]
        out[j] = v
    return out


def causes(r: Record) -> tuple[Floats, Floats]:
    """For each pulse: the delay of the slip that it caused (NaN for none), and whether it can be told (1 or 0).

    A pulse while a slip is on its way is not told: it hastens what the one before has begun.
    """
    delay, told = np.full(len(r.times), np.nan), np.ones(len(r.times))
    for s in r.slips:
        before = np.flatnonzero((r.times < s - 1e-12) & (r.times > s - SLOWEST_S) & (r.weights > 0))
        if not len(before):
            continue
        delay[before[-1]] = s - r.times[before[-1]]
        told[(r.times > r.times[before[-1]] - 4e-12) & (r.times < s + 6e-12)] = 0.0
        told[before[-1]] = float(np.sum(np.abs(r.times - r.times[before[-1]]) < 4e-12) == 1)
    return delay, told


def residuals(x: Floats, records: Sequence[Record], told: Sequence[tuple[Floats, Floats]], branches: int) -> Floats:
    """In units of MISSED_V and LATE_S. ``x``: pulse 10 uA, tau 100 ps, ic 100 uA, slip ps, late ps, late_v."""
    out = []
    for r, (delay, known) in zip(records, told, strict=True):
        theta = (x[2] * 100e-6 - r.bias_A) / (x[0] * 10e-6)
        over = membrane(r, x[1] * 100e-12, float(branches)) - theta
        fired = ~np.isnan(delay)
        wrong = np.where(fired, np.minimum(over, 0.0), np.where(r.weights > 0, np.maximum(over, 0.0), 0.0))
        out.append(np.where(known > 0, wrong, 0.0) / MISSED_V)
        law = x[3] + x[4] * np.log1p(x[5] / np.maximum(over, 1e-3))
        late = np.where(fired & (known > 0) & (over > 0), (np.nan_to_num(delay) - law * 1e-12) / LATE_S, 0.0)
        out.append(np.clip(late, -10, 10))
    return np.concatenate(out)


def fit(records: Sequence[Record], begin: SomaRow) -> tuple[SomaRow, float]:
    """The numbers near those of ``begin``, and the rms of the residuals."""
    told = [causes(r) for r in records]
    near = np.array([begin.pulse_A / 10e-6, begin.tau_s / 100e-12, begin.ic_A / 100e-6])
    x0 = np.concatenate([near, [4.0, 2.4, 0.5]])
    low, high = np.concatenate([0.9 * near, [0.5, 0.5, 0.1]]), np.concatenate([1.1 * near, [8.0, 5.0, 3.0]])
    found = least_squares(residuals, x0, args=(records, told, begin.branches), bounds=(low, high), loss="soft_l1")
    x = [float(v) for v in found.x]
    row = SomaRow(
        begin.branches, x[0] * 10e-6, x[1] * 100e-12, x[2] * 100e-6, float(begin.branches), x[3] * 1e-12, x[4] * 1e-12,
        x[5],
    )  # fmt: skip
    return row, float(np.sqrt(np.mean(found.fun**2)))
