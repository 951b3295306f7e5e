"""SFQ circuits at pulse level: cells as tables, lines between them, pulses in and out.

    net = Netlist(load_library())
    net.add("XS", "SPLIT", a="in", q0="l", q1="r").add("XM", "MERGE", a="l", b="r", q="out")
    done = run(net, {"in": [50e-12, 90e-12]})
    done["out"]                                         # times in s

Importing this loads numba.
"""

from __future__ import annotations

from sim.sfq.pulse import soma as soma
from sim.sfq.pulse.cells import CellError as CellError
from sim.sfq.pulse.cells import Emission as Emission
from sim.sfq.pulse.cells import PulseCell as PulseCell
from sim.sfq.pulse.cells import Separation as Separation
from sim.sfq.pulse.cells import Transition as Transition
from sim.sfq.pulse.compile import compile_netlist as compile_netlist
from sim.sfq.pulse.engines import heap_engine as heap_engine
from sim.sfq.pulse.engines import level_engine as level_engine
from sim.sfq.pulse.from_deck import PulseDeck as PulseDeck
from sim.sfq.pulse.from_deck import from_deck as from_deck
from sim.sfq.pulse.library import load_library as load_library
from sim.sfq.pulse.netlist import Netlist as Netlist
from sim.sfq.pulse.result import PulseRun as PulseRun
from sim.sfq.pulse.result import Violation as Violation
from sim.sfq.pulse.run import run as run
from sim.sfq.pulse.state import State as State
from sim.sfq.pulse.tables import Compiled as Compiled
