"""How long each chip step takes: a barrier after the slowest core.

    T_step = max over cores of max(generate, receive) + barrier(tiles in use)
    generate = active neurons neuron_s + the others idle_s + spikes spike_s + messages axon_out_s
    receive  = messages axon_in_s + synaptic events synapse_s, each by the kind of its connection

With every neuron active this is SANA-FE's "simple" timing model. Input lines send messages but update nothing.
``active`` says which neurons take a whole update: "all", those with "input", those that "fired"; no paper defines it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from scipy import sparse

from export.loihi import InputNode, LoihiProgram
from export.routes import routes
from hardware.loihi import DEFAULT_TIMING, Timing, load_profile
from sim.loihi.arrivals import received, window

Array = npt.NDArray[Any]
Active: TypeAlias = Literal["all", "input", "fired"]
ACTIVE = ("all", "input", "fired")
BLOCK = 2**21
"""Core-steps whose load is computed at a time."""


@dataclass(frozen=True)
class _Load:
    """What a spike of each neuron makes on each core: CSR of integers."""

    home: Any
    sent: Any
    received: Any
    synapses: dict[str, Any]


_LOADS: WeakKeyDictionary[LoihiProgram, dict[str, _Load]] = WeakKeyDictionary()
_PRICES: WeakKeyDictionary[LoihiProgram, dict[str, dict[str, tuple[Array, ...]]]] = WeakKeyDictionary()


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
    fires = [n for n in spikes if not isinstance(program.nodes[n], InputNode)]
    masks = {"all": {}, "fired": {n: spikes[n] for n in fires}}.get(active)
    if masks is None:
        masks = received(program, spikes, starts)
    profile, cores = load_profile(program.profile), 1 + max(int(c.max()) for c in program.placement.values())
    used = np.unique(np.concatenate([np.unique(c) for c in program.placement.values()]))
    barrier = timing.sync_s(len({profile.tile(int(c)) for c in used}))
    neurons = sum(np.bincount(program.placement[n], minlength=cores) for n in program.populations)
    base = (timing.neuron_s if active == "all" else timing.idle_s) * neurons
    out, size = np.full(steps, barrier), max(1, BLOCK // cores)
    if not masks and importlib.util.find_spec("numba") is not None:
        _charge(program, spikes, timing, starts, np.asarray(base), out, size)
        return out
    loads = _loads(program)
    for begin in range(0, steps, size):
        rows = min(steps, begin + size) - begin
        now = {n: window(s, starts.get(n, 0), begin, rows) for n, s in spikes.items()}
        busy = {n: window(m, starts.get(n, 0), begin, rows) for n, m in masks.items()}
        generate = base + sum(now[n] @ loads[n].home for n in fires).toarray() * timing.spike_s
        generate += sum(now[n] @ loads[n].sent for n in now).toarray() * timing.axon_out_s
        if busy:
            generate += sum(busy[n] @ loads[n].home for n in busy).toarray() * (timing.neuron_s - timing.idle_s)
        receive = sum(now[n] @ loads[n].received for n in now).toarray() * timing.axon_in_s
        for kind in dict.fromkeys(k for n in now for k in loads[n].synapses):
            events = sum(now[n] @ loads[n].synapses[kind] for n in now if kind in loads[n].synapses)
            receive += events.toarray() * timing.synapse(kind)
        out[begin : begin + rows] += np.maximum(generate, receive).max(axis=1)
    return out


def _charge(
    program: LoihiProgram, spikes: Mapping[str, Array], timing: Timing, starts: Mapping[str, int], base: Array,
    out: Array, size: int,
) -> None:  # fmt: skip
    """Add the slowest core of every step to ``out``: the same sums spike by spike, compiled."""
    from sim.loihi import kernels

    prices = _prices(program, timing)
    for begin in range(0, len(out), size):
        rows = min(len(out), begin + size) - begin
        generate, receive = np.tile(base.astype(np.float64), (rows, 1)), np.zeros((rows, len(base)))
        for n, s in spikes.items():
            start = starts.get(n, 0)
            low, high = max(0, begin - start), max(0, min(len(s), begin + rows - start))
            home, sends, pointer, core, takes = prices[n]
            kernels.charge(s, low, high, start - begin, home, sends, pointer, core, takes, generate, receive)
        out[begin : begin + rows] += np.maximum(generate, receive).max(axis=1)


def _prices(program: LoihiProgram, timing: Timing) -> dict[str, tuple[Array, ...]]:
    """Per node what :func:`sim.loihi.kernels.charge` takes: seconds of a spike of each neuron, and on which cores."""
    known = _PRICES.setdefault(program, {})
    if timing.name not in known:
        made: dict[str, tuple[Array, ...]] = {}
        for n, node in program.nodes.items():
            way = routes(program)[n]
            fires = 0.0 if isinstance(node, InputNode) else timing.spike_s
            to = way.received * timing.axon_in_s
            to = sum((m * timing.synapse(kind) for kind, m in way.synapses.items()), to).tocsr()
            sends = fires + way.messages * timing.axon_out_s
            made[n] = (program.placement[n], sends, to.indptr.astype(np.int64), to.indices, to.data.astype(np.float64))
        known[timing.name] = made
    return known[timing.name]


def _loads(program: LoihiProgram) -> dict[str, _Load]:
    if program not in _LOADS:
        _LOADS[program] = {n: _load(program, n) for n in program.nodes}
    return _LOADS[program]


def _load(program: LoihiProgram, name: str) -> _Load:
    way, home = routes(program)[name], program.placement[name]

    def at_home(each: Array) -> Any:
        made = (each.astype(np.int32), home, np.arange(len(home) + 1))
        return sparse.csr_array(made, shape=way.received.shape)

    return _Load(at_home(np.ones(len(home))), at_home(way.messages), way.received, way.synapses)
