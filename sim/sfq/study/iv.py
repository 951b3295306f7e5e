"""Current-voltage curves: of a junction in a circuit with the current ramped in time, and JoSIM's ``.iv`` of a model.

:func:`iv` steps the current of a source and stays ``dwell_s`` at each; the voltage of a junction is its mean over the
second half. Up and down follow one another in one run, so that a hysteretic junction shows both branches; devices that
scatter, or the same with noise, are corners of one batch.

    V = Phi0 (n - 1)/(t_n - t_1)             of n > 2 slips of one sign in the half: whole periods only
    V = sigma (phi(end) - phi(middle))/half  else

:func:`josim_iv` does as JoSIM's ``.iv``: a run of 500 ps at 0.05 ps for each current in steps of 2.5 uA, from rest; the
current comes straight in the branches away from 0, and over the largest current in those back to 0. All of these runs
are corners of one batch. Sources: JoSIM IV.cpp; docs/sfq.md 6.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.package import write_text
from sim.sfq.batch import BatchRun, batch
from sim.sfq.circuit import Circuit, Floats
from sim.sfq.constants import PHI0_WB, SIGMA_VS
from sim.sfq.corners import Corners
from sim.sfq.deck import Block, Deck, Tran
from sim.sfq.elements import parse_card
from sim.sfq.errors import NOWHERE, DeckError
from sim.sfq.lines import Line
from sim.sfq.shapes import Pwl
from sim.sfq.study.bench import quiet
from sim.sfq.study.criterion import Bools, jj_name
from sim.sfq.study.tables import save

JOSIM_STEP_A, JOSIM_STEP_S, JOSIM_STOP_S = 2.5e-6, 0.05e-12, 500e-12
"""Source: JoSIM IV.cpp."""


@dataclass(frozen=True)
class IvCurve:
    """``current_A (points,)`` in the order of the ramp and ``voltage_V (devices, points)``; ``turn`` is the number of
    points of the upward ramp. ``floor_V`` is the voltage of one slip in the time of averaging."""

    current_A: Floats
    voltage_V: Floats
    turn: int
    floor_V: float

    @property
    def switching_A(self) -> Floats:
        """(devices,) the first current of the ramp up with a voltage; NaN where there is none."""
        on = self._on()[:, : self.turn]
        return np.where(on.any(axis=1), self.current_A[on.argmax(axis=1)], np.nan)

    @property
    def retrapping_A(self) -> Floats:
        """(devices,) the first current of the ramp down without voltage; NaN where there is none."""
        off = ~self._on()[:, self.turn :]
        down = self.current_A[self.turn :]
        return np.where(off.any(axis=1), down[off.argmax(axis=1)], np.nan) if len(down) else np.full(len(off), np.nan)

    def _on(self) -> Bools:
        on: Bools = np.abs(self.voltage_V) > self.floor_V
        return on

    def to_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "current_A": self.current_A.tolist(), "voltage_V": self.voltage_V.tolist(), "turn": self.turn,
            "switching_A": [None if np.isnan(x) else float(x) for x in self.switching_A],
            "retrapping_A": [None if np.isnan(x) else float(x) for x in self.retrapping_A],
        }  # fmt: skip

    def save(self, path: str | Path) -> Path:
        """Write ``.json`` or ``.csv``: the current and a column a device."""
        header = ["I_A", *(f"V{k}_V" for k in range(len(self.voltage_V)))]
        rows = ((i, *v) for i, v in zip(self.current_A.tolist(), self.voltage_V.T.tolist(), strict=True))
        return save(path, self.to_dict(), header, rows)

    def save_josim(self, path: str | Path) -> Path:
        """Write JoSIM's ``.iv`` file: ``V,I`` of the first device, seven digits."""
        pairs = zip(self.voltage_V[0], self.current_A, strict=True)
        return write_text(path, "V,I\n" + "".join(f"{v:.6e},{i:.6e}\n" for v, i in pairs))

    def __str__(self) -> str:
        on, off = self.switching_A * 1e6, self.retrapping_A * 1e6
        ends = f"{self.current_A.min() * 1e6:g} .. {self.current_A.max() * 1e6:g} uA, {len(self.current_A)} points"
        return f"{ends}: voltage from {np.nanmean(on):.4g} uA on, none below {np.nanmean(off):.4g} uA on the way back"


def up_and_down(high_A: float, step_A: float, low_A: float = 0.0) -> Floats:
    """Currents from ``low_A`` to ``high_A`` and back."""
    if not (step_A > 0 and high_A > low_A):
        raise ValueError(
            f"iv: from {low_A:g} to {high_A:g} A in steps of {step_A:g} A; need low < high and a step above 0"
        )
    up = low_A + step_A * np.arange(round((high_A - low_A) / step_A) + 1)
    return np.concatenate([up, up[-2::-1]])


def iv(
    source: Deck | Circuit,
    currents_A: Sequence[float] | Floats,
    *,
    drive: str,
    across: str,
    dwell_s: float = JOSIM_STOP_S,
    h: float = JOSIM_STEP_S,
    rise: float = 0.1,
    corners: Corners | int = 1,
    seed: int | None = None,
    threads: int = 0,
) -> IvCurve:
    """The curve of the junction ``across``, the current source ``drive`` going through ``currents_A`` in turn.

    Each change of the current takes ``rise`` of the dwell. ``corners``: scattered devices, or a number of alike ones,
    which differ by their noise if ``seed`` is given (None: no noise). Errors: DeckError, ``ValueError``.
    """
    circuit = quiet(source.flatten() if isinstance(source, Deck) else source, seed)
    steps = np.asarray(currents_A, dtype=np.float64)
    if len(steps) < 2 or not (0 < rise < 0.5 and dwell_s > 20 * h):
        raise ValueError(
            f"iv: {len(steps)} currents, rise {rise}, dwell {dwell_s:g} s; need two, 0 < rise < 0.5, > 20 h"
        )
    devices = Corners(corners) if isinstance(corners, int) else corners
    ramp = staircase(steps, dwell_s, rise)
    shapes = dict(devices.shapes) | {jj_name(drive): [ramp] * devices.count}
    halves = replace(circuit, tran=Tran(h, dwell_s, 0.0, dwell_s / 2), requests=())
    junction = jj_name(across)
    run = batch(
        halves, replace(devices, shapes=shapes), h=h, t_stop=len(steps) * dwell_s + 2 * h, watch=[junction],
        probes=[f"P({junction})"], seed=seed, threads=threads,
    )  # fmt: skip
    phase = next(iter(run.traces.values()))[:, : 2 * len(steps) + 1]
    mean = SIGMA_VS * (phase[:, 2::2] - phase[:, 1::2]) / (dwell_s / 2)
    turn = int(np.argmax(steps)) + 1
    return IvCurve(steps, _whole_periods(run, mean, dwell_s), turn, 2 * PHI0_WB / dwell_s)


def staircase(currents_A: Floats, dwell_s: float, rise: float) -> Pwl:
    """A current each ``dwell_s``, reached in ``rise`` of it; from 0 at the start."""
    begin = dwell_s * np.arange(len(currents_A))
    times = np.stack([begin, begin + rise * dwell_s], axis=1).ravel()
    values = np.stack([np.concatenate([[0.0], currents_A[:-1]]), currents_A], axis=1).ravel()
    return Pwl(tuple(times.tolist()), tuple(values.tolist()))


def _whole_periods(run: BatchRun, mean: Floats, dwell_s: float) -> Floats:
    """``mean``, made better by the slips where the second half of a dwell has more than two, all of one sign."""
    devices, points = mean.shape
    point = (run.time_s / dwell_s).astype(np.int64)
    late = (run.time_s / dwell_s - point >= 0.5) & (point < points)
    cell = (run.corner * points + point)[late]
    time, sign = run.time_s[late], run.sign[late].astype(np.float64)
    count = np.bincount(cell, minlength=devices * points)
    net = np.bincount(cell, sign, minlength=devices * points)
    first, last = np.full(devices * points, np.inf), np.full(devices * points, -np.inf)
    np.minimum.at(first, cell, time)
    np.maximum.at(last, cell, time)
    steady = (count > 2) & (np.abs(net) == count)
    out = mean.ravel().copy()
    out[steady] = PHI0_WB * (net - np.sign(net))[steady] / (last - first)[steady]
    return out.reshape(mean.shape)


def josim_iv(deck: Deck, model: str, imax_A: float, threads: int = 0) -> IvCurve:
    """JoSIM's ``.iv model imax``: up, back over 0 to ``-imax``, and back to 0; ``model|subckt`` for a local model.

    Errors: DeckError for an unknown model, ``ValueError`` for a current that is not above 0.
    """
    if not imax_A > 0:
        raise ValueError(f"iv: a largest current of {imax_A:g} A; give one above 0")
    circuit = device(deck, model)
    finals, vias = _josim_points(imax_A)
    shapes = [Pwl((0.0, 10e-12, 50e-12), (0.0, via, final)) for final, via in zip(finals, vias, strict=True)]
    half = JOSIM_STOP_S / 2
    late = replace(circuit, tran=Tran(JOSIM_STEP_S, JOSIM_STOP_S, half - JOSIM_STEP_S, half), requests=())
    run = batch(
        late, Corners(len(finals), shapes={"IB01": shapes}), h=JOSIM_STEP_S, t_stop=JOSIM_STOP_S, watch=[],
        probes=["P(B01)"], startup="josim", threads=threads,
    )  # fmt: skip
    phase = next(iter(run.traces.values()))
    mean = SIGMA_VS * (phase[:, 1] - phase[:, 0]) / half
    return IvCurve(np.array(finals), mean[None, :], int(np.argmax(finals)) + 1, PHI0_WB / half)


def _josim_points(imax: float) -> tuple[list[float], list[float]]:
    """Final and intermediate currents of JoSIM's four branches, in its order and with its additions."""
    finals: list[float] = []
    vias: list[float] = []
    now = 0.0
    for sign, via, end in ((1, 0.0, imax), (-1, imax, 0.0), (-1, 0.0, imax), (1, -imax, 0.0)):
        while sign * now <= end:
            now += sign * JOSIM_STEP_A
            finals.append(now)
            vias.append(via)
    return finals, vias


def device(deck: Deck, model: str) -> Circuit:
    """One junction of a deck's model, area 1, to ground, fed by the current source IB01. Errors: DeckError."""
    name, _, subckt = model.upper().replace(".", "|").partition("|")
    block: Block | None = deck.top.find_subckt(subckt) if subckt else deck.top
    found = block.find_model(name) if block is not None else None
    if block is None or found is None:
        raise DeckError(NOWHERE, model, "no such junction model", "define it with .model, or name it model|subcircuit")
    card, owner = found
    texts = (f"B01 1 0 {name} AREA=1", "IB01 0 1 PWL(0 0 10P 0 50P 2.5U)")
    cards = [parse_card(Line(text, card.where)) for text in texts]
    top = Block("", (), card.where, cards=cards, models={name: card}, scope=owner.scope)
    return Deck(deck.source, top).flatten()
