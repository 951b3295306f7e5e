"""SFQ circuits at junction level: decks in, phases, pulses and joules out.

    deck = load("xor_10.cir")
    run = transient(deck)
    len(run.pulse_times("B1.X2.XY2"))
    print(margins(deck, watch=["B1.X2.XY2"]))

Importing this loads numpy; numba loads with the first ``transient``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from sim.sfq.batch import BatchRun as BatchRun
from sim.sfq.batch import batch as batch
from sim.sfq.circuit import Circuit as Circuit
from sim.sfq.corners import Corners as Corners
from sim.sfq.deck import Deck as Deck
from sim.sfq.deck import load as load
from sim.sfq.deck import loads as loads
from sim.sfq.errors import DeckError as DeckError
from sim.sfq.errors import DeckWarning as DeckWarning
from sim.sfq.fast import compiled as compiled
from sim.sfq.output import TraceError as TraceError
from sim.sfq.output import compare as compare
from sim.sfq.output import read_csv as read_csv
from sim.sfq.output import write_csv as write_csv
from sim.sfq.transient import Energy as Energy
from sim.sfq.transient import Transient as Transient
from sim.sfq.transient import check_step as check_step
from sim.sfq.transient import transient as transient

if TYPE_CHECKING:
    from sim.sfq.study.bench import bench as bench
    from sim.sfq.study.bench import patterns as patterns
    from sim.sfq.study.criterion import AllOf as AllOf
    from sim.sfq.study.criterion import Counts as Counts
    from sim.sfq.study.criterion import Custom as Custom
    from sim.sfq.study.criterion import SameSlips as SameSlips
    from sim.sfq.study.iv import iv as iv
    from sim.sfq.study.iv import josim_iv as josim_iv
    from sim.sfq.study.many import Many as Many
    from sim.sfq.study.margins import margins as margins
    from sim.sfq.study.montecarlo import montecarlo as montecarlo
    from sim.sfq.study.optimise import Variable as Variable
    from sim.sfq.study.optimise import optimise as optimise
    from sim.sfq.study.shmoo import shmoo as shmoo
    from sim.sfq.study.stand import stand as stand
    from sim.sfq.study.timing import dead_time as dead_time
    from sim.sfq.study.timing import delay_against as delay_against
    from sim.sfq.study.timing import delays as delays
    from sim.sfq.study.timing import jitter as jitter
    from sim.sfq.study.timing import maximum_rate as maximum_rate
    from sim.sfq.study.timing import setup_hold as setup_hold

_STUDY = {
    "margins": "margins", "optimise": "optimise", "Many": "many", "bench": "bench", "patterns": "bench",
    "Counts": "criterion", "SameSlips": "criterion", "AllOf": "criterion", "Custom": "criterion",
    "Variable": "optimise", "montecarlo": "montecarlo", "shmoo": "shmoo", "iv": "iv", "josim_iv": "iv",
    "stand": "stand", "delays": "timing", "setup_hold": "timing", "dead_time": "timing", "maximum_rate": "timing",
    "jitter": "timing", "delay_against": "timing",
}  # fmt: skip


def __getattr__(name: str) -> object:
    """The analyses of ``sim.sfq.study`` by name, loaded when first asked for."""
    if name in _STUDY:
        return getattr(import_module(f"sim.sfq.study.{_STUDY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
