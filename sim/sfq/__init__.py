"""SFQ circuits at junction level: decks in, phases, pulses and joules out.

    deck = load("xor_10.cir")
    run = transient(deck)
    len(run.pulse_times("B1.X2.XY2"))

Importing this loads numpy; numba loads with the first ``transient``.
"""

from __future__ import annotations

from sim.sfq.batch import BatchRun as BatchRun
from sim.sfq.batch import batch as batch
from sim.sfq.circuit import Circuit as Circuit
from sim.sfq.corners import Corners as Corners
from sim.sfq.deck import Deck as Deck
from sim.sfq.deck import load as load
from sim.sfq.deck import loads as loads
from sim.sfq.errors import DeckError as DeckError
from sim.sfq.errors import DeckWarning as DeckWarning
from sim.sfq.fast import engine as compiled  # noqa: F401
from sim.sfq.output import TraceError as TraceError
from sim.sfq.output import compare as compare
from sim.sfq.output import read_csv as read_csv
from sim.sfq.output import write_csv as write_csv
from sim.sfq.transient import Energy as Energy
from sim.sfq.transient import Transient as Transient
from sim.sfq.transient import check_step as check_step
from sim.sfq.transient import transient as transient
