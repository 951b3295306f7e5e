"""How long each chip step takes: a barrier after the slowest core.

    T_step = max(max over cores of generate, max over cores of receive) + barrier(tiles in use)
    generate = active neurons neuron_s + the others idle_s + spikes spike_s + messages axon_out_s
    receive  = messages axon_in_s + synaptic events synapse_s      (each by the kind of its connection)

With every neuron active that is SANA-FE's "simple" timing model. Input lines send messages but update nothing.
``active`` says who pays for a whole update: "all" neurons, those with "input", those that "fired". The paper that the
figures are from does not define it.
"""

from __future__ import annotations

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

Array = npt.NDArray[Any]
Active: TypeAlias = Literal["all", "input", "fired"]
ACTIVE = ("all", "input", "fired")
BLOCK = 2**22
"""Core-steps whose load is computed at a time."""


@dataclass(frozen=True)
class _Load:
    """What the spikes of one population do, per neuron and core (CSR, integers)."""

    home: Any
    sent: Any
    received: Any
    synapses: dict[str, Any]


_LOADS: WeakKeyDictionary[LoihiProgram, dict[str, _Load]] = WeakKeyDictionary()


def timing_of(program: LoihiProgram, timing: str | None = None) -> Timing | None:
    """The named time table of the program's chip (its default); None where the chip has none.

    Errors: ``ValueError`` with the tables there are.
    """
    tables = load_profile(program.profile).timing
    if timing is None:
        return tables.get(DEFAULT_TIMING)
    if timing not in tables:
        raise ValueError(
            f"{program.profile} has no timing '{timing}'; there are {', '.join(tables) or 'none: no figures are public'}"
        )
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

    Row k of a population is chip step ``k + starts[node]`` (0). ``steps``: how many (as many as there are rows); for
    one step of a closed loop give the spikes of that step, one row each, input included.
    """
    if active not in ACTIVE:
        raise ValueError(f"active must be one of {', '.join(ACTIVE)}, got '{active}'")
    starts = starts or {}
    if steps is None:
        steps = max(len(s) + starts.get(n, 0) for n, s in spikes.items())
    loads, profile = _loads(program), load_profile(program.profile)
    cores = next(iter(loads.values())).home.shape[1]
    used = np.unique(np.concatenate([np.unique(c) for c in program.placement.values()]))
    tiles = len({profile.tile(int(c)) for c in used})
    neurons = sum(
        np.bincount(program.placement[n], minlength=cores)
        for n, p in program.nodes.items()
        if not isinstance(p, InputNode)
    )
    masks = spikes if active == "fired" else received(program, spikes, starts, steps) if active == "input" else {}
    out = np.full(steps, timing.sync_s(tiles))
    size = max(1, BLOCK // cores)
    for begin in range(0, steps, size):
        rows = min(steps, begin + size) - begin
        base = timing.neuron_s if active == "all" else timing.idle_s
        generate, receive = np.tile(base * neurons, (rows, 1)), np.zeros((rows, cores))
        total: dict[str, Array] = {}
        for n, s in spikes.items():
            load, fires = loads[n], not isinstance(program.nodes[n], InputNode)
            now = _window(s, starts.get(n, 0), begin, rows)
            if fires:
                _add(total, "spikes", now @ load.home)
            _add(total, "sent", now @ load.sent)
            _add(total, "received", now @ load.received)
            for kind, each in load.synapses.items():
                _add(total, kind, now @ each)
            if fires and n in masks:
                _add(total, "active", _window(masks[n], starts.get(n, 0), begin, rows) @ load.home)
        for what, count in total.items():
            if what in ("spikes", "sent", "active"):
                price = {"spikes": timing.spike_s, "sent": timing.axon_out_s}.get(what, timing.neuron_s - timing.idle_s)
                generate += price * count
            else:
                receive += (timing.axon_in_s if what == "received" else timing.synapse(what)) * count
        out[begin : begin + rows] += np.maximum(generate.max(axis=1), receive.max(axis=1))
    return out


def received(
    program: LoihiProgram, spikes: Mapping[str, Array], starts: Mapping[str, int], steps: int
) -> dict[str, npt.NDArray[np.bool_]]:
    """Per population ``(rows, neurons)``: did a message arrive over at least one synapse, so as to count in that step?

    Rows as those of its ``spikes``; shifted by ``starts`` as in :func:`step_seconds`. A message of step t arrives in
    step ``t + 1 + delay``.
    """
    out = {n: np.zeros(s.shape, bool) for n, s in spikes.items() if not isinstance(program.nodes[n], InputNode)}
    for e, (of, to) in zip(program.edges, program.links, strict=True):
        late = np.zeros(len(of), np.int64) + e.delay if e.delays is None else _delays(e)
        shape = (program.size(e.src), program.size(e.dst))
        for d in np.unique(late):
            on = late == d
            joined = sparse.csr_array((np.ones(int(on.sum()), np.int32), (of[on], to[on])), shape=shape)
            shift = int(d) + 1 + starts.get(e.src, 0) - starts.get(e.dst, 0)
            rows = len(out[e.dst])
            size = max(1, BLOCK // shape[1])
            for k in range(0, rows, size):
                now = _window(spikes[e.src], shift, k, min(size, rows - k))
                out[e.dst][k : k + now.shape[0]] |= (now @ joined).toarray() > 0
    return out


def _delays(edge: Any) -> Array:
    """Steps of every synapse, in the order of its links."""
    on = edge.w != 0
    return np.asarray(edge.delays[on], np.int64)


def _add(total: dict[str, Array], what: str, events: Any) -> None:
    total[what] = total[what] + events.toarray() if what in total else events.toarray()


def _window(s: Array, start: int, begin: int, rows: int) -> Any:
    """Rows of chip steps ``[begin, begin + rows)`` as CSR of 0 and 1; row k of ``s`` is chip step ``k + start``."""
    low, high = max(0, begin - start), max(0, min(len(s), begin + rows - start))
    first = max(0, start - begin)
    at, neuron = np.nonzero(s[low:high])
    pointer = np.searchsorted(at, np.arange(-first, rows - first + 1))
    return sparse.csr_array((np.ones(len(at), np.int32), neuron.astype(np.int32), pointer), shape=(rows, s.shape[1]))


def _loads(program: LoihiProgram) -> dict[str, _Load]:
    if program not in _LOADS:
        _LOADS[program] = {n: _load(program, n) for n in program.nodes}
    return _LOADS[program]


def _load(program: LoihiProgram, name: str) -> _Load:
    way, home = routes(program)[name], program.placement[name]
    shape = (len(home), way.kinds_shape)
    pointer = np.arange(len(home) + 1)

    def at_home(each: Array) -> Any:
        return sparse.csr_array((each.astype(np.int32), home, pointer), shape=shape)

    return _Load(at_home(np.ones(len(home))), at_home(way.messages), way.received, way.synapses)
