"""How long each chip step takes: a barrier after the slowest core.

    T_step = max over cores of max(generate, receive) + barrier(tiles in use)
    generate = active neurons neuron_s + the others idle_s + spikes spike_s + messages axon_out_s
    receive  = messages axon_in_s + synaptic events synapse_s, each by the kind of its connection

With every neuron active this is SANA-FE's "simple" timing model. Input lines send messages but update nothing.
``active`` says which neurons take a whole update: "all", those with "input", those that "fired"; no paper defines it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from export.loihi import InputNode, LoihiProgram
from export.routes import routes
from hardware.loihi import DEFAULT_TIMING, Timing, load_profile
from sim.loihi.arrivals import received
from sim.loihi.fallback import backend

Array = npt.NDArray[Any]
Active: TypeAlias = Literal["all", "input", "fired"]
ACTIVE = ("all", "input", "fired")
BLOCK = 2**21
"""Core-steps whose load is computed at a time."""


Price: TypeAlias = tuple[Array, Array, Array, Array, Array]
"""``(home, sends, pointer, core, takes)``: see :func:`sim.loihi.kernels.charge`."""
_PRICES: WeakKeyDictionary[LoihiProgram, dict[str, dict[str, Price]]] = WeakKeyDictionary()


def timing_of(program: LoihiProgram, timing: str | None = None) -> Timing | None:
    """The named time table of the program's chip, or its default; None where no figures are public.

    Errors: ``ValueError`` with the tables that there are.
    """
    tables = load_profile(program.profile).timing
    if timing is None:
        return tables.get(DEFAULT_TIMING)
    if timing not in tables:
        known = ", ".join(tables) or "none: no figures are public"
        raise ValueError(f"{program.profile} has no timing '{timing}'; there are {known}")
    return tables[timing]


def step_seconds(
    program: LoihiProgram,
    spikes: Mapping[str, Array],
    timing: Timing,
    *,
    active: Active = "all",
    starts: Mapping[str, int] | None = None,
    steps: int | None = None,
) -> npt.NDArray[np.float64]:
    """``(chip steps,)`` seconds of each. ``spikes[node] (rows, neurons)``: whatever is not 0 is a message.

    Row k of a population is chip step ``k + starts[node]`` (by default k). ``steps``: how many, by default up to the
    last row. For a step of a closed loop: one row for each population and the input.
    Errors: ``ValueError`` for an unknown ``active``.
    """
    if active not in ACTIVE:
        raise ValueError(f"active must be one of {', '.join(ACTIVE)}, got '{active}'")
    starts = starts or {}
    if steps is None:
        steps = max(len(s) + starts.get(n, 0) for n, s in spikes.items())
    masks: Mapping[str, Array] = {}
    if active != "all":
        fires = {n: s for n, s in spikes.items() if not isinstance(program.nodes[n], InputNode)}
        masks = fires if active == "fired" else received(program, spikes, starts)
    profile, cores = load_profile(program.profile), 1 + max(int(c.max()) for c in program.placement.values())
    used = np.unique(np.concatenate([np.unique(c) for c in program.placement.values()]))
    barrier = timing.sync_s(len({profile.tile(int(c)) for c in used}))
    neurons = sum(np.bincount(program.placement[n], minlength=cores) for n in program.populations)
    base = np.asarray((timing.neuron_s if active == "all" else timing.idle_s) * neurons, np.float64)
    prices, more = _prices(program, timing), timing.neuron_s - timing.idle_s
    charges = [(s, starts.get(n, 0), prices[n]) for n, s in spikes.items()]
    charges += [(m, starts.get(n, 0), _at_home(program.placement[n], more)) for n, m in masks.items()]
    code, out, size = backend(), np.full(steps, barrier), max(1, BLOCK // cores)
    for begin in range(0, steps, size):
        rows = min(steps, begin + size) - begin
        generate, receive = np.tile(base, (rows, 1)), np.zeros((rows, cores))
        for s, start, (home, sends, pointer, core, takes) in charges:
            low, high = max(0, begin - start), max(0, min(len(s), begin + rows - start))
            code.charge(s, low, high, start - begin, home, sends, pointer, core, takes, generate, receive)
        out[begin : begin + rows] += np.maximum(generate, receive).max(axis=1)
    return out


def _prices(program: LoihiProgram, timing: Timing) -> dict[str, Price]:
    """Per node: seconds that a spike of each neuron takes, and on which cores."""
    known = _PRICES.setdefault(program, {})
    if timing.name not in known:
        made: dict[str, Price] = {}
        for n, node in program.nodes.items():
            way = routes(program)[n]
            fires = 0.0 if isinstance(node, InputNode) else timing.spike_s
            to = way.received * timing.axon_in_s
            to = sum((m * timing.synapse(kind) for kind, m in way.synapses.items()), to).tocsr()
            sends = fires + way.messages * timing.axon_out_s
            made[n] = (program.placement[n], sends, to.indptr.astype(np.int64), to.indices, to.data.astype(np.float64))
        known[timing.name] = made
    return known[timing.name]


def _at_home(home: Array, seconds: float) -> Price:
    """What an active neuron costs its core on top of an idle one."""
    n = len(home)
    return home, np.full(n, seconds), np.zeros(n + 1, np.int64), np.zeros(0, np.int32), np.zeros(0)
