"""Where a run stands: everything that the next window needs, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.package import PackageError, read_package, write_package
from sim.sfq.pulse.cells import CellError
from sim.sfq.pulse.kernel import NEVER, Cells
from sim.sfq.pulse.tables import Compiled, Ints, Records

FORMAT = "spikeport-pulse-state"
INPUT_STATE = np.dtype([("arrived", "i8"), ("last", "i8")])
SOMA_STATE = np.dtype([("v", "f8"), ("v_at", "i8"), ("ready", "i8"), ("timer", "i8")])


@dataclass
class State:
    """All times in attoseconds; ``inputs`` and ``somas`` are records, see ``kernel.Cells``.

    ``way_*``: pulses on their way (time, input port), sorted; ``late_*``:
    watched pulses (output port, time) that left before ``time`` and arrive after it.
    """

    time: int
    state: Ints
    inputs: Records
    sent: Ints
    taken: Ints
    somas: Records
    way_t: Ints
    way_p: Ints
    late: Ints
    events: int = 0

    def cells(self) -> Cells:
        """The arrays that the kernels change."""
        return Cells(self.state, self.inputs, self.sent, self.taken, self.somas)

    def copy(self) -> State:
        """Nothing shared."""
        copied: dict[str, Any] = {k: v.copy() for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        return replace(self, **copied)

    def check(self, compiled: Compiled) -> None:
        """Errors: CellError if it is of another netlist."""
        t = compiled.tables
        have = (len(self.state), len(self.inputs), len(self.sent), len(self.taken), len(self.somas))
        want = (len(t.instances), len(t.inputs), len(t.outputs), t.counts, len(t.numbers))
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
    inputs, somas = np.zeros(len(t.inputs), INPUT_STATE), np.zeros(len(t.numbers), SOMA_STATE)
    inputs["last"], somas["ready"] = NEVER, NEVER
    return State(
        0, np.zeros(len(t.instances), np.int64), inputs, np.full(len(t.outputs), NEVER), np.zeros(t.counts, np.int64),
        somas, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 2), np.int64),
    )  # fmt: skip
