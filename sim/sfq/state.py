"""What an engine is given and gives back: the state of a run, the places to record, and the contract.

An engine is a function ``(System, Layout, Watch, Options) -> Advance``; ``Advance`` moves the state and records.
The arrays of ``State`` are changed in place; a run is resumed by calling again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple, Protocol

import numpy as np

from sim.sfq.circuit import Floats, Ints
from sim.sfq.layout import Layout
from sim.sfq.system import System

DONE, STEP_TOO_LARGE, NOT_SPD = 0, 1, 2
"""How a call ended: all steps or event buffer full, the phase guard, a matrix that is not positive definite."""

GUARD_RAD = 0.4 * np.pi
"""JoSIM's limit for a junction's predicted phase change in a step (Simulation.cpp; docs/sfq.md 1.6)."""

FIT = 4
"""Phases of every place that one corner keeps: enough for a cubic through them."""


@dataclass(frozen=True)
class State:
    """All that a step needs of the past, corners last.

    ``f`` (FIT, places, corners): phases, newest first. ``jp`` (junctions, ..) and ``jv`` (3, junctions, ..): phases
    (rad) and voltages (V) of the junctions. ``turns`` are whole turns, ``slips`` counts their changes, ``region`` is
    the branch of the quasiparticle curve. ``tw`` (depth, ports, ..): V + Z I of line ports, the step i at i % depth.
    ``source`` (FIT, edges, ..): phases of V and P sources. ``last_*`` hold the previous step for the work integrals;
    ``work`` (4, ..) in J: current sources, V and P sources, resistors, junctions. ``tripped`` marks corners that broke
    the guard.
    """

    f: Floats
    jp: Floats
    jv: Floats
    region: Ints
    turns: Floats
    slips: Ints
    tw: Floats
    source: Floats
    last_fp: Floats
    last_fi: Floats
    last_si: Floats
    work: Floats
    tripped: Ints

    def copy(self) -> State:
        """The same numbers in arrays of their own."""
        return replace(self, **{x.name: getattr(self, x.name).copy() for x in fields(self)})


class Watch(NamedTuple):
    """Columns to record each step: node places, junction currents (by index), source currents (by edge).

    After them an engine records the border's unknowns and the currents into the ports of lines.
    """

    nodes: Ints
    jj: Ints
    edges: Ints
    more: int

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.nodes) + len(self.jj) + len(self.edges) + self.more


class Options(NamedTuple):
    """``corrector``: how often a step is repeated with the sine at the solved phase. ``account``: work and heat."""

    corrector: int = 0
    account: bool = True


@dataclass
class Events:
    """Slips: junction index, corner, time (s) and change of turns; ``filled`` of them."""

    jj: Ints
    lane: Ints
    time: Floats
    turns: Ints
    filled: int = 0


class Drive(NamedTuple):
    """Source values: ``waves`` (waveforms, steps) that corners share, ``own`` (steps, rows, corners) of each."""

    waves: Floats
    own: Floats


class Advance(Protocol):
    """Moves a run: steps ``first`` .. ``first + len(record) - 1``; step i is at time ``i h``, settling below 0.

    The guard counts from step ``guard_from``. ``record`` (steps, width, corners). Returns (steps done, status); fewer
    steps than asked with status 0 means that ``events`` is full.
    """

    def __call__(
        self, state: State, drive: Drive, first: int, guard_from: float, record: Floats, events: Events
    ) -> tuple[int, int]: ...


Engine = Callable[[System, Layout, Watch, Options], Advance]
"""Prepares a system for stepping."""


def start(system: System) -> State:
    """Everything at rest: all phases and voltages 0."""
    w, nj, ne = system.corners, len(system.ja), len(system.ec)
    turns = np.repeat(np.floor(-system.phi / (2 * np.pi) + 0.5)[:, None], w, axis=1)
    fed = len(system.fa) + len(system.oa)
    return State(
        f=aligned((FIT, len(system.row), w)), jp=aligned((nj, w)), jv=aligned((3, nj, w)),
        region=np.zeros((nj, w), np.int64), turns=turns, slips=np.zeros((nj, w), np.int64),
        tw=aligned((system.depth, len(system.ta), w)), source=aligned((FIT, ne, w)),
        last_fp=aligned((fed, w)), last_fi=aligned((fed, w)), last_si=aligned((ne, w)), work=aligned((4, w)),
        tripped=np.zeros(w, np.int64),
    )  # fmt: skip


def before(state: State, watch: Watch) -> Floats:
    """The rows (FIT, width, corners) that would have been recorded before the first step; phases only."""
    rows = np.zeros((FIT, watch.width, state.f.shape[2]))
    rows[:, : len(watch.nodes)] = state.f[::-1, watch.nodes]
    return rows


def aligned(shape: tuple[int, ...]) -> Floats:
    """Zeros that begin at a cache line: a row of corners then fills whole lines."""
    count = math.prod(shape)
    raw = np.zeros(count + 8)
    skip = (-int(raw.__array_interface__["data"][0]) % 64) // 8
    return raw[skip : skip + count].reshape(shape)


def events(capacity: int) -> Events:
    """An empty buffer."""
    return Events(
        np.zeros(capacity, np.int32), np.zeros(capacity, np.int32), np.zeros(capacity), np.zeros(capacity, np.int32)
    )
