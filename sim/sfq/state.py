"""What an engine is given and gives back: the state of a run, the places to record, and the contract.

An engine is a function ``(System, Layout, Watch) -> Advance``; ``Advance`` moves the state and records.
The arrays of ``State`` are changed in place; a run is resumed by calling again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from sim.sfq.circuit import Floats, Ints
from sim.sfq.layout import Layout
from sim.sfq.system import System

DONE, STEP_TOO_LARGE, NOT_SPD = 0, 1, 2
"""How a call ended: all steps or event buffer full, the phase guard, a matrix that is not positive definite."""

GUARD_RAD = 0.4 * np.pi
"""JoSIM's limit for a junction's predicted phase change in a step (Simulation.cpp; docs/sfq.md 1.6)."""


class State(NamedTuple):
    """All that a step needs of the past.

    ``jj_p`` (2, n) and ``jj_v`` (3, n): phases (rad) and voltages (V) of the junctions, newest first; ``r_p`` (2, n),
    ``c_p`` (4, n): branch phases; ``source`` (2, n): phases of V and P sources. ``region`` and ``turns`` (whole turns
    of each junction) are per junction, ``slips`` counts their changes. ``last_*`` hold the previous step for the work
    integrals; ``work_J`` is current sources, V and P sources, resistors, junctions. ``f`` is the state vector.
    """

    jj_p: Floats
    jj_v: Floats
    region: Ints
    turns: Ints
    slips: Ints
    r_p: Floats
    c_p: Floats
    source: Floats
    last_feed_p: Floats
    last_feed_i: Floats
    last_source_i: Floats
    work_J: Floats
    f: Floats


class Watch(NamedTuple):
    """Columns to record each step: node places, junction currents (by index), source currents (by edge)."""

    nodes: Ints
    jj: Ints
    edges: Ints

    @property
    def width(self) -> int:
        """Number of columns."""
        return len(self.nodes) + len(self.jj) + len(self.edges)


class Events(NamedTuple):
    """Slips: junction index, time (s) and change of turns; ``filled[0]`` of them."""

    jj: Ints
    time: Floats
    turns: Ints
    filled: Ints


class Advance(Protocol):
    """Moves a run: steps ``first`` .. ``first + len(record) - 1``; step i is at time ``i h``, settling below 0.

    ``drive`` is (waveforms, steps). The guard counts from step ``guard_from``. Returns (steps done, status); fewer
    steps than asked with status 0 means that ``events`` is full.
    """

    def __call__(
        self, state: State, drive: Floats, first: int, guard_from: float, record: Floats, events: Events
    ) -> tuple[int, int]: ...


Engine = Callable[[System, Layout, Watch], Advance]
"""Prepares a system for stepping."""


def start(system: System) -> State:
    """Everything at rest: all phases and voltages 0."""
    nj, ns = len(system.jj.a), len(system.feeds.a)
    turns = np.floor(-system.jj.phi / (2 * np.pi) + 0.5).astype(np.int64)
    return State(
        np.zeros((2, nj)), np.zeros((3, nj)), np.zeros(nj, np.int64), turns, np.zeros(nj, np.int64),
        np.zeros((2, len(system.r.a))), np.zeros((4, len(system.c.a))), np.zeros((2, len(system.edges.child))),
        np.zeros(ns), np.zeros(ns), np.zeros(len(system.edges.child)), np.zeros(4), np.zeros(len(system.row)),
    )  # fmt: skip


def events(capacity: int) -> Events:
    """An empty buffer."""
    return Events(np.zeros(capacity, np.int64), np.zeros(capacity), np.zeros(capacity, np.int64), np.zeros(1, np.int64))
