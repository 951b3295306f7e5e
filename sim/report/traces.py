"""Small pictures' worth of data out of a run: spike rasters of one sample, waveforms thinned to what a screen shows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.run import Run

Array = npt.NDArray[Any]
MAX_ROWS = 128
"""Neurons drawn of one layer; of more, every k-th."""
MAX_STEPS = 512
MAX_POINTS = 600
MAX_WAVES = 24
UNITS = ("V", "mV", "A", "uA", "rad", "J")
CALLS = {"V(": "V", "I(": "A", "P(": "turns"}
"""What a deck calls a trace to its unit; phases are shown in turns of 2 pi."""
SLIPS = "slips("
MAX_JUNCTIONS = 64


def rasters(run: Run, sample: int = 0) -> list[dict[str, Any]]:
    """``{node, sample, neurons, every, steps, spikes, events}`` of each probe ``"<node>.s"``, else of ``y`` alone.

    ``events``: ``[step, row]`` of sample ``sample``, where row r is neuron ``r * every``. ``spikes``: of all neurons.
    """
    found = {k.removesuffix(".s"): a for k, a in run.probes.items() if k.endswith(".s") and a.ndim >= 3}
    if not found and run.y.ndim >= 3 and not np.issubdtype(run.y.dtype, np.floating):
        found = {"output": run.y}
    out = []
    for node, a in found.items():
        if sample >= len(a) or not a[sample].size:
            continue
        s = a[sample].reshape(a.shape[1], -1)
        every = -(-s.shape[1] // MAX_ROWS)
        steps, rows = np.nonzero(s[:MAX_STEPS, ::every])
        out.append(
            {
                "node": node,
                "sample": sample,
                "neurons": int(s.shape[1]),
                "every": every,
                "steps": int(min(len(s), MAX_STEPS)),
                "spikes": int(np.count_nonzero(s)),
                "events": [[int(t), int(r)] for t, r in zip(steps, rows, strict=True)],
            }
        )
    return out


def waveforms(run: Run) -> list[dict[str, Any]]:
    """``{name, unit, time_s, values}`` of every float probe along ``time_s``, of its first sample.

    The unit is the end of the probe's name (``"out_V"``), or what a deck calls it (``"V(B1|X1)"``). Thinned to minimum
    and maximum of each stretch, so that
    no pulse is lost. At most :data:`MAX_WAVES`.
    """
    time = run.probes.get("time_s")
    if time is None or time.ndim != 1 or len(time) < 2:
        return []
    out = []
    for name, a in run.probes.items():
        if name == "time_s" or not np.issubdtype(a.dtype, np.floating) or a.ndim < 1 or a.shape[-1] != len(time):
            continue
        values = a.reshape(-1, len(time))[0] / (2.0 * np.pi if name.startswith("P(") else 1.0)
        keep = thin(values)
        label, _, unit = name.rpartition("_")
        if not label or unit not in UNITS:
            label, unit = name, CALLS.get(name[:2], "")
        out.append(
            {
                "name": label,
                "unit": unit,
                "time_s": [float(t) for t in time[keep]],
                "values": [float(v) if np.isfinite(v) else None for v in values[keep]],
            }
        )
    return out[:MAX_WAVES]


def pulses(run: Run) -> dict[str, Any] | None:
    """``{junctions, more, stop_s, rows}`` of the probes ``"slips(<junction>)"``: rows ``[time_s, row, sign]``.

    At most :data:`MAX_JUNCTIONS`, by instance; ``more`` are left out. None without such probes.
    """
    found = {k[len(SLIPS) : -1]: a for k, a in run.probes.items() if k.startswith(SLIPS) and a.shape[1:] == (2,)}
    if not found:
        return None
    names = sorted(found, key=lambda n: n.split("|")[::-1])[:MAX_JUNCTIONS]
    rows = [[float(t), k, int(s)] for k, n in enumerate(names) for t, s in found[n]]
    last = max((r[0] for r in rows), default=0.0)
    time = run.probes.get("time_s")
    stop = last if time is None or not len(time) else max(last, float(time[-1]))
    return {"junctions": names, "more": len(found) - len(names), "stop_s": stop, "rows": rows}


def thin(values: Array, most: int = MAX_POINTS) -> npt.NDArray[np.int64]:
    """Indices, ascending, ``most`` and the two ends, that hold the extremes of each of ``most / 2`` stretches."""
    if len(values) <= most:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), most // 2 + 1).astype(np.int64)
    filled = np.nan_to_num(values)
    keep = [at + pick(filled[at:end]) for at, end in pairwise(edges) for pick in (np.argmin, np.argmax)]
    return np.unique(np.array([0, *keep, len(values) - 1], np.int64))
