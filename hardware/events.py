"""Events of a chip's counts: which are part of which, and which neuron updates count as active."""

from __future__ import annotations

from collections.abc import Mapping

Counts = Mapping[str, Mapping[str, int]]
"""Event to node to integer, over all samples and steps of a run."""

PART_OF = {
    "synaptic_events_dense": "synaptic_events",
    "synaptic_events_sparse": "synaptic_events",
    "synaptic_events_conv": "synaptic_events",
    "neuron_updates_active": "neuron_updates",
    "neuron_updates_inactive": "neuron_updates",
    "neuron_updates_input": "neuron_updates",
    "input_messages": "messages",
    "chip_messages": "messages",
    "payload_bytes": "messages",
}
"""Events that tell more of another one, which answers for them: free unless a table prices them."""

ACTIVE = {
    "state": ("neuron_updates_active", "input, state or bias was not 0 in that step"),
    "all": ("neuron_updates", "every neuron in every step"),
    "input": ("neuron_updates_input", "a message reached the neuron in that step"),
    "fired": ("fired", "the neuron fired in that step"),
}
"""What counts as an active update, by name: the event that counts it, and the rule in words. No paper defines it."""


def with_active(counts: Counts, active: str) -> Counts:
    """``counts`` with its updates told apart by the rule ``active`` of :data:`ACTIVE`; "state" leaves them as counted.

    Errors: ``ValueError`` for an unknown rule, and for an event that the run did not count.
    """
    if active not in ACTIVE:
        raise ValueError(f"active must be one of {', '.join(ACTIVE)}, got '{active}'")
    event, updates = ACTIVE[active][0], counts.get("neuron_updates")
    if active == "state" or updates is None:
        return counts
    if event not in counts:
        raise ValueError(
            f"active='{active}': the run does not count {event}; sim.loihi.steps.with_input_updates adds it"
        )
    chosen = {n: counts[event].get(n, 0) for n in updates}
    rest = {n: k - chosen[n] for n, k in updates.items()}
    return {**counts, "neuron_updates_active": chosen, "neuron_updates_inactive": rest}
