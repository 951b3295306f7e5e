"""Runs in, report out: each run compared with the first of its kind, priced by its machine's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hardware.energy import Bill, Span, price
from hardware.prices import load_prices
from hardware.sfq_energy import SfqEnergy, Simulated, configured, is_sfq, sfq_energy
from sim.compare import accuracy, compare
from sim.engines import ENGINES
from sim.report.build import MachineResult, Report, build_report
from sim.report.layers import layer_rows
from sim.run import Run


@dataclass(frozen=True)
class _Options:
    prices: Mapping[str, str]
    active: str
    cooling: Span | None
    ersfq_overhead: Span | None


def report_runs(
    runs: Sequence[Run],
    *,
    title: str = "spikeport report",
    prices: Mapping[str, str] | None = None,
    active: str = "state",
    cooling: Span | None = None,
    ersfq_overhead: Span | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Report:
    """The report of ``runs``. ``prices``: machine to price table, over the machine's own.

    ``active``: which neuron updates are charged as active, see :data:`hardware.events.ACTIVE`. For SFQ runs:
    ``cooling``, watts at the wall per watt at 4.2 K, and ``ersfq_overhead``, 1 to 2, over those of the tables.

    Runs of one network on one input form a group: same name of the program's network where it is known, same output
    shape, same labels. The first of a group is what the others of it are compared with.
    Errors: ``ValueError`` for a machine in ``prices`` that did not run; ``PriceTableError`` for a table.
    """
    prices = dict(prices or {})
    unused = sorted(set(prices) - {r.machine for r in runs})
    if unused:
        raise ValueError(
            f"prices for {', '.join(unused)}: no such run; runs are on {', '.join(r.machine for r in runs)}"
        )
    groups: list[list[Run]] = []
    for run in runs:
        home = next((g for g in groups if _together(g[0], run)), None)
        if home is None:
            groups.append([run])
        else:
            home.append(run)
    names = _names(groups)
    options = _Options(prices, active, cooling, ersfq_overhead)
    results = [_result(run, group, name, options) for group, name in zip(groups, names, strict=True) for run in group]
    return build_report(None, results, title=title, meta=meta)


def _together(a: Run, b: Run) -> bool:
    labels = [r.probes.get("labels") for r in (a, b)]
    same = labels[0] is None or labels[1] is None or np.array_equal(labels[0], labels[1])
    names = [r.program.get("name", "") for r in (a, b)]
    return bool(same) and a.y.shape == b.y.shape and (not all(names) or names[0] == names[1])


def _names(groups: list[list[Run]]) -> list[str]:
    """A name for each group: its network's, else its place; names that stand twice get their place."""
    names = [next((str(r.program["name"]) for r in g if r.program.get("name")), "") for g in groups]
    if len(groups) == 1:
        return names
    return [n if n and names.count(n) == 1 else f"{n or 'network'} {k + 1}" for k, n in enumerate(names)]


def _result(run: Run, group: list[Run], name: str, options: _Options) -> MachineResult:
    bill = _bill(run, options)
    again = [r for r in group if r.machine == run.machine]
    place = next(k for k, r in enumerate(again) if r is run)  # by identity: arrays do not compare to one truth
    known: list[Any] = next((r.program["layers"] for r in group if r.program.get("layers")), [])
    return MachineResult(
        machine=run.machine,
        title=run.machine if len(again) == 1 else f"{run.machine} {place + 1}",
        run=run,
        bill=bill,
        agreement=_agreement(run, group[0]),
        layers=layer_rows(run, bill, known),
        group=name,
        sample=_speaking(group[0]),
        sfq=_sfq(run, options),
    )


def _speaking(run: Run) -> int:
    """The first sample with an output spike: one that shows something."""
    return int(np.argmax(run.y.reshape(len(run.y), -1).any(axis=1)))


def _bill(run: Run, options: _Options) -> Bill | None:
    engine = ENGINES.get(run.machine)
    table = options.prices.get(run.machine, engine.prices if engine else None)
    if table is None:
        return None
    loaded = load_prices(table)
    if is_sfq(run.counts):
        loaded = configured(loaded, options.cooling, options.ersfq_overhead)
    return price(run.counts, loaded, run.machine_s, options.active)


def _sfq(run: Run, options: _Options) -> SfqEnergy | None:
    """RSFQ and ERSFQ side by side, for a run that counts slips and bias; pulses of a network come at most each step."""
    if not is_sfq(run.counts):
        return None
    return sfq_energy(
        run.counts,
        samples=run.samples,
        output_spikes=int(run.y.sum()),
        simulated=_simulated(run),
        step_s=run.dt_s if run.y.size else None,
        cooling=options.cooling,
        overhead=options.ersfq_overhead,
    )


def _simulated(run: Run) -> Simulated | None:
    """The energies of a junction-level run (probes ``bias_work_J`` and ``heat_J``, one a sample)."""
    work, heat = run.probes.get("bias_work_J"), run.probes.get("heat_J")
    return None if work is None or heat is None else Simulated(float(work.sum()), float(heat.sum()))


def _agreement(run: Run, reference: Run) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, r in (("accuracy", run), ("accuracy of reference", reference)):
        labels = r.probes.get("labels")
        if labels is not None and labels.shape == (len(r.y),) and (key == "accuracy" or r is not run):
            out[key] = accuracy(r.y, labels)
    if run is reference:
        return out
    found = compare(reference, run)
    out |= {
        "reference": reference.machine,
        "spikes equal": (found.equal, found.compared),
        "decisions equal": found.decisions,
        "count correlation": found.count_correlation,
    }
    return out | ({"first departure": found.first_departure} if found.first_departure else {})
