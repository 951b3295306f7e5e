"""What each layer is and did: shape, neurons, synapses, spikes, rate, events, energy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from export.network import DelayedLinear, Network, Spiking, Weighted
from hardware.energy import Bill
from sim.run import Run

Layer = dict[str, Any]
WORK = ("synaptic_events", "acs", "effective_macs")
"""Events that say how much a layer's input made necessary; a layer has one of them."""


def network_layers(network: Network) -> list[Layer]:
    """``{name, kind, shape, neurons, synapses}`` of every node in execution order, as JSON data.

    ``neurons``: of a spiking node, else 0. ``synapses``: non-zero weights times the places where each is used.
    """
    shapes = network.shapes()
    out = []
    for name, node in network:
        size, synapses = math.prod(shapes[name]), 0
        if isinstance(node, Weighted | DelayedLinear):
            synapses = int(np.count_nonzero(node.weight)) * size // shapes[name][0]
        neurons = size if isinstance(node, Spiking) else 0
        out.append(
            {"name": name, "kind": node.kind, "shape": list(shapes[name]), "neurons": neurons, "synapses": synapses}
        )
    return out


def layer_rows(run: Run, bill: Bill | None, known: Sequence[Mapping[str, Any]] = ()) -> list[Layer]:
    """One row for each node that did something: what is ``known`` of it, with spikes, rate, events and energy.

    ``rate``: spikes by neuron and step; neurons from ``known``, else from ``neuron_updates``. ``energy_J``:
    ``[low, typical, high]`` of the whole run, or None.
    """
    facts = {str(k["name"]): k for k in known}
    energy = {} if bill is None else bill.by_node()
    seen = [n for by in run.counts.values() for n in by]
    visits = run.samples * run.steps
    rows = []
    for name in [n for n in facts if n in seen] + [n for n in dict.fromkeys(seen) if n not in facts]:
        fact = facts.get(name, {})
        neurons = int(fact.get("neurons") or run.counts.get("neuron_updates", {}).get(name, 0) // max(1, visits))
        spikes = run.counts.get("spikes", {}).get(name)
        cells = neurons or (math.prod(fact["shape"]) if fact.get("kind") == "input" else 0)
        done = next((e for e in WORK if name in run.counts.get(e, {})), None)
        rows.append(
            {
                "name": name,
                "kind": fact.get("kind", ""),
                "shape": list(fact.get("shape", ())),
                "neurons": neurons,
                "synapses": int(fact.get("synapses", 0)),
                "spikes": spikes,
                "rate": spikes / (cells * visits) if spikes is not None and cells and visits else None,
                "event": done,
                "events": run.counts[done][name] if done else None,
                "energy_J": list(energy[name]) if name in energy else None,
            }
        )
    return rows
