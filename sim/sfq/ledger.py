"""Integer counts of an SFQ run per node of the network, for both levels: what the price tables ask for.

``junction_switchings``, ``slip_ic_nA`` (each slip times its junction's critical current), ``bias_charge_nA_ps`` (bias
currents times the time that they flow), ``spikes``, ``synaptic_events``. Source: docs/sfq.md 5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from export.sfq_program import Wiring
from sim.run import Counts
from sim.sfq.circuit import Circuit

EVENTS = ("junction_switchings", "slip_ic_nA", "bias_charge_nA_ps", "spikes", "synaptic_events")
_OWNER = re.compile(r"(?:\|X|^X|^I)(I(?=\d)|L\d+(?=N))")


class Ledger:
    """Counts, summed over samples. An element belongs to the node of its top-level instance, else to ``deck``."""

    def __init__(self, circuit: Circuit, wiring: Wiring | None) -> None:
        self.owners: Mapping[str, str] = {} if wiring is None else wiring.owners
        self.step_s = 0.0 if circuit.tran is None else circuit.tran.step_s
        names, ic_A = circuit.junctions.names, circuit.junctions.ic_A
        self.at = {name: k for k, name in enumerate(names)}
        self.ic_nA = np.array([round(float(i) * 1e9) for i in ic_A], np.int64)
        self.nodes = sorted({self.owner(n) for n in names})
        index = {n: k for k, n in enumerate(self.nodes)}
        self.owned = np.array([index[self.owner(n)] for n in names], np.int64)
        self.bias_nA: dict[str, int] = {}
        for name, shape in zip(circuit.currents.names, circuit.currents.shapes, strict=True):
            owner = self.owner(name)
            self.bias_nA[owner] = self.bias_nA.get(owner, 0) + round(abs(shape.bias()) * 1e9)
        synapses = {} if wiring is None else wiring.synapses
        self.synapses = {node: np.array([self.at[j] for j in js], np.int64) for node, js in synapses.items()}
        self.counts: Counts = {event: {} for event in EVENTS}

    def owner(self, name: str) -> str:
        """The node whose cells an element or instance is in."""
        found = _OWNER.search(name)
        return str(self.owners.get(found[1], "deck")) if found else "deck"

    def add_slips(self, slips: npt.NDArray[Any]) -> None:
        """Count slips ``(junctions,)`` in the circuit's order, and pulses through the synapses."""
        for event, each in (("junction_switchings", slips), ("slip_ic_nA", slips * self.ic_nA)):
            for node, n in zip(self.nodes, np.bincount(self.owned, each, len(self.nodes)), strict=True):
                self.more(event, node, round(float(n)))
        for node, at in self.synapses.items():
            self.more("synaptic_events", node, int(slips[at].sum()))

    def add_time(self, seconds: float) -> None:
        """Count the charge that the biases deliver in so long."""
        for owner, bias in self.bias_nA.items():
            self.more("bias_charge_nA_ps", owner, round(bias * seconds * 1e12))

    def more(self, event: str, node: str, count: int) -> None:
        """Add to one count."""
        self.counts[event][node] = self.counts[event].get(node, 0) + count
