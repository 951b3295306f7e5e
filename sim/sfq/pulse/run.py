"""Run a netlist at pulse level: pulse times in, pulse times, counts, joules and violations out.

    done = run(netlist, {"a": [50e-12, 90e-12]}, t_stop=1e-9)
    done["q"]                       # times in s
    done = run(netlist, {}, t_stop=2e-9, state=done.state)      # and on

``heap_engine`` runs anything; ``level_engine`` is for netlists without loops and long trains, with the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from sim.sfq.pulse.cells import CellError
from sim.sfq.pulse.compile import compile_netlist
from sim.sfq.pulse.engines import Job, heap_engine
from sim.sfq.pulse.netlist import Netlist
from sim.sfq.pulse.result import PulseRun, collect
from sim.sfq.pulse.state import State, start
from sim.sfq.pulse.tables import TICK_S, Compiled, Ints, ticks

Policy = Literal["error", "warn", "drop", "random"]
POLICIES = ("error", "warn", "drop", "random")
Progress = Callable[[float], None]
Engine = Callable[[Job, Progress | None], None]


def run(
    netlist: Netlist | Compiled,
    pulses: Mapping[str, npt.ArrayLike] | None = None,
    t_stop: float = 1e-9,
    *,
    watch: Sequence[str] | None = None,
    policy: Policy = "error",
    jitter: bool = False,
    seed: int = 0,
    state: State | None = None,
    engine: Engine = heap_engine,
    progress: Progress | None = None,
) -> PulseRun:
    """Run to ``t_stop`` (s). ``pulses``: times (s) for each input net, in any order; nets not named stay silent.

    ``watch``: nets to keep, default the outputs (for a compiled netlist: as compiled). ``policy`` for a pulse that is
    too early: "error" raises; "warn" notes it and goes on; "drop" loses it; "random" loses half of them. ``jitter``:
    delays vary by the cells' deviations. ``seed`` of jitter, stochastic cells and "random". ``state``: of an earlier
    run, which is not changed; without ``t_stop`` beyond its time nothing happens.

    Errors: :class:`CellError` for what does not fit, :class:`Violation` under the policy "error".
    """
    compiled = netlist if isinstance(netlist, Compiled) else compile_netlist(netlist, watch)
    if policy not in POLICIES:
        raise CellError(f"policy '{policy}' is none of {POLICIES}")
    now = start(compiled) if state is None else state.copy()
    now.check(compiled)
    end = ticks(t_stop)
    if end < now.time:
        raise CellError(f"t_stop {t_stop:g} s is before the state's {now.time * TICK_S:g} s; give a later one")
    times, ports = _sources(compiled, pulses or {}, now)
    job = Job(compiled, now, times, ports, end, POLICIES.index(policy), seed & (2**64 - 1), jitter)
    engine(job, progress)
    return collect(job, {n: np.sort(np.asarray((pulses or {}).get(n, ()), np.float64)) for n in compiled.passed})


def _sources(compiled: Compiled, pulses: Mapping[str, npt.ArrayLike], now: State) -> tuple[Ints, Ints]:
    """External pulses as (times, ports), sorted. Errors: CellError for an unknown net or an impossible time."""
    times, ports = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for net, given in pulses.items():
        if net not in compiled.sources:
            raise CellError(f"pulses for {net}: no input of the netlist; inputs: {', '.join(compiled.sources)}")
        seconds = np.asarray(given, dtype=np.float64)
        if seconds.ndim != 1 or not np.isfinite(seconds).all() or (np.abs(seconds) > 1.0).any():
            raise CellError(f"pulses for {net}: give a list of times in s, got {seconds.shape} {seconds[:3]}")
        whole = np.rint(seconds / TICK_S).astype(np.int64)
        if len(whole) and whole.min() < now.time:
            raise CellError(
                f"pulses for {net}: {whole.min() * TICK_S:g} s is before the run's start at {now.time * TICK_S:g} s"
            )
        times.append(np.sort(whole))
        ports.append(np.full(len(whole), compiled.sources[net], np.int64))
    t, p = np.concatenate(times), np.concatenate(ports)
    order = np.lexsort((p, t))
    return t[order], p[order]
