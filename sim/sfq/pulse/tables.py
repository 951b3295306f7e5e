"""A netlist as arrays for the compiled engines. Times are whole attoseconds, so that equal paths give equal times.

Ports are numbered instance by instance, inputs apart from outputs, in the order of the cell; a soma has one input for
each of its branches. Pulses that arrive together are taken in the order of those numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sim.sfq.pulse.cells import Neighbours, PulseCell, Transition
from sim.sfq.pulse.netlist import Instance

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Records: TypeAlias = NDArray[np.void]

TICK_S = 1e-18
"""One attosecond: 2^63 of them are nine seconds."""
KINDS = {"mealy": 0, "soma": 1, "stochastic": 2}
POLICY_DROPS, POLICY_KEEPS = 1, 0
SOMA_NUMBERS = ("theta", "tau", "reset", "floor", "refractory", "late", "late_v", "slip")


INSTANCE = np.dtype(
    [("cell", "i8"), ("row", "i8"), ("in_at", "i8"), ("in_end", "i8"), ("out_at", "i8"), ("out_end", "i8"),
     ("taken_at", "i8"), ("key", "u8")]
)  # fmt: skip
"""Index of its cell; row in ``numbers`` or -1; first and end of its inputs and outputs; of its counts; random key."""
CELL = np.dtype([("kind", "i8"), ("width", "i8"), ("transition_at", "i8")])
"""Kind, events a state, first transition."""
TRANSITION = np.dtype(
    [(n, "i8") for n in ("to", "emit_at", "emit_end", "recovery_at", "recovery_end", "rules_at", "rules_end")]
)
"""Next state; first and end of its emissions, recoveries and separations."""
EMISSION = np.dtype([("out", "i8"), ("delay", "i8"), ("jitter", "f8"), ("blend", "f8")])
RULE = np.dtype([("first", "i8"), ("least", "i8"), ("drops", "b1")])
INPUT = np.dtype([("owner", "i8"), ("shift_at", "i8"), ("watch", "i8"), ("weight", "f8")])
"""Instance; its part of ``shifts``; the output behind if that is watched (-1: none); what a pulse adds to a soma."""
OUTPUT = np.dtype([("to", "i8"), ("extra", "i8"), ("watched", "b1")])
"""Input that takes its pulses, or -1; how much later a pulse is for this load."""


class Tables(NamedTuple):
    """What a run reads: records as named above. Few arrays, for compiled calls copy what they are given.

    ``shifts`` (pairs x transitions of the load, 2): how much later than said a pulse of this driver comes, and the
    outputs after it. ``recovery_first`` (recoveries) input; ``recovery_since``, ``recovery_extra`` (recoveries,
    points) attoseconds. ``numbers`` (somas and stochastic cells, 8): see SOMA_NUMBERS; of a stochastic cell the
    probability comes first.
    """

    instances: Records
    cells: Records
    transitions: Records
    emissions: Records
    rules: Records
    inputs: Records
    outputs: Records
    shifts: Ints
    recovery_first: Ints
    recovery_since: Ints
    recovery_extra: Floats
    numbers: Floats

    @property
    def counts(self) -> int:
        """Length of the counts of transitions."""
        states = self.instances[-1]["cell"]
        first = self.cells["transition_at"]
        end = first[states + 1] if states + 1 < len(first) else len(self.transitions)
        return int(self.instances[-1]["taken_at"] + end - first[states])


@dataclass(frozen=True)
class Compiled:
    """Tables and the names that belong to them. ``sources``: input net to port; ``watch``: net to output port."""

    tables: Tables
    cells: tuple[PulseCell, ...]
    transitions: tuple[tuple[Transition, ...], ...]
    instances: tuple[Instance, ...]
    ports: tuple[tuple[str, str], ...]
    sources: Mapping[str, int]
    watch: Mapping[str, int]
    passed: tuple[str, ...] = field(default=())
    """Watched nets that are inputs: what goes in is what is seen."""


Corrections: TypeAlias = Mapping[tuple[str, str], Neighbours]
"""(driver ``CELL.port``, load ``CELL.port``) to what they do to each other; driver SOURCE, load END."""


def ticks(seconds: float) -> int:
    """Whole attoseconds."""
    return round(seconds / TICK_S)
