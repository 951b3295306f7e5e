"""The cell library by simulation: benches, truth tables, times and margins; writes ``hardware/sfq_cells/*.toml``."""

from __future__ import annotations

from sim.sfq.cells.derive import check as check
from sim.sfq.cells.derive import derive as derive
from sim.sfq.cells.derive import listing as listing
from sim.sfq.cells.machines import MACHINES as MACHINES
