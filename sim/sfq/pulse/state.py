"""Where a run stands: everything that the next window needs, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from export.package import PackageError, read_package, write_package
from sim.sfq.pulse.cells import CellError
from sim.sfq.pulse.kernel import NEVER, Cells
from sim.sfq.pulse.tables import Compiled, Floats, Ints

FORMAT = "spikeport-pulse-state"


@dataclass
class State:
    """``time``, ``sent``, ``last``: attoseconds. ``way_*``: pulses on their way (time, input port), sorted; ``late_*``:
    watched pulses (output port, time) that left before ``time`` and arrive after it.
    """

    time: int
    state: Ints
    arrived: Ints
    last: Ints
    sent: Ints
    taken: Ints
    v: Floats
    v_at: Ints
    ready: Ints
    timer: Ints
    way_t: Ints
    way_p: Ints
    late: Ints
    events: int = 0

    def cells(self) -> Cells:
        """The arrays that the kernels change."""
        return Cells(
            self.state, self.arrived, self.last, self.sent, self.taken, self.v, self.v_at, self.ready, self.timer
        )

    def copy(self) -> State:
        """Nothing shared."""
        return State(**{k: v.copy() if isinstance(v, np.ndarray) else v for k, v in vars(self).items()})

    def check(self, compiled: Compiled) -> None:
        """Errors: CellError if it is of another netlist."""
        t = compiled.tables
        have = (len(self.state), len(self.arrived), len(self.sent), len(self.taken), len(self.v))
        want = (len(t.cell), len(t.owner), len(t.out_to), int(t.taken_at[-1]), len(t.numbers))
        if have != want:
            raise CellError(f"state: is of another netlist, sizes {have} for {want}; start without it")

    def save(self, path: str | Path) -> Path:
        """One ``.npz``."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("time", "events")}
        return write_package(path, {"format": FORMAT, "version": 1, "time": self.time, "events": self.events}, arrays)

    @classmethod
    def load(cls, path: str | Path) -> State:
        """Inverse of :meth:`save`. Errors: ``PackageError``."""
        manifest, arrays = read_package(path, FORMAT)
        names = {f.name for f in fields(cls)} - {"time", "events"}
        if set(arrays) != names:
            raise PackageError(f"{path}: holds {sorted(arrays)}, a state has {sorted(names)}; save it again")
        return cls(time=int(manifest["time"]), events=int(manifest["events"]), **arrays)


def start(compiled: Compiled) -> State:
    """Everything at rest, nothing on its way."""
    t = compiled.tables
    rows, inputs, outputs = len(t.numbers), len(t.owner), len(t.out_to)

    def zeros(n: int) -> Ints:
        return np.zeros(n, np.int64)

    return State(
        0, zeros(len(t.cell)), zeros(inputs), np.full(inputs, NEVER), np.full(outputs, NEVER),
        zeros(int(t.taken_at[-1])), np.zeros(rows), zeros(rows), np.full(rows, NEVER), zeros(rows),
        zeros(0), zeros(0), np.zeros((0, 2), np.int64),
    )  # fmt: skip
