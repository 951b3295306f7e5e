"""Hardware in the loop: a chip, simulated here or elsewhere, between an environment's observations and actions."""

from sim.loop.codec import Codec
from sim.loop.decode import Argmax, Count, Decoder, FirstSpike, Linear, Membrane, PopulationVector
from sim.loop.loop import Loop, LoopState
from sim.loop.meter import Meter
from sim.loop.record import Recorder, Recording, Replay, replay
from sim.loop.report import LoopReport, as_run, measure, report
from sim.loop.steppers import Client, ClientStepper, EngineStepper, ReferenceStepper, Stepper
from sim.loop.stop import stops

__all__ = [
    "Argmax",
    "Client",
    "ClientStepper",
    "Codec",
    "Count",
    "Decoder",
    "EngineStepper",
    "FirstSpike",
    "Linear",
    "Loop",
    "LoopReport",
    "LoopState",
    "Membrane",
    "Meter",
    "PopulationVector",
    "Recorder",
    "Recording",
    "ReferenceStepper",
    "Replay",
    "Stepper",
    "as_run",
    "measure",
    "replay",
    "report",
    "stops",
]
