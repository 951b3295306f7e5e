"""Time and memory of the integer engine from 1e4 to 1e8 synapses, dense and sparse; the last line is JSON.

    dense    n -> m, n the root of the synapses, at most 4,000      10 % of the sources spike in a step
    sparse   n -> n with 100 synapses a source                      1 % of the sources spike in a step

A core of either chip takes messages of at most 4,096 sources, whence the shape of the largest dense ones.

Every size runs in a process of its own: seconds to assemble (check, place), seconds of the first step (layout), seconds
a step, bytes at the peak over those of the imports. ``time_slope`` is the slope of log(seconds a step) over log(events
a step) and ``memory_slope`` that of log(bytes) over log(synapses), both over the sizes of 1e6 and more: 1 is linear.
``python benchmarks/loihi_scale.py [--quick]``
"""

from __future__ import annotations

import json
import math
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
SIZES = (10**4, 10**5, 10**6, 10**7, 10**8)
FAN_OUT = 100


def peak() -> int:
    """Bytes of the largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def program(kind: str, synapses: int) -> Any:
    """One connection between two populations; a threshold that few pass."""
    from export.assemble import assemble
    from export.loihi import DenseEdge, InputNode, Lif, SparseEdge

    rng = np.random.default_rng(0)
    n = min(4000, round(math.sqrt(synapses))) if kind == "dense" else synapses // FAN_OUT
    m = round(synapses / n) if kind == "dense" else n
    nodes = {"in": InputNode((n,)), "h": Lif((m,), 4095, 1024, 131071)}
    if kind == "dense":
        w = rng.integers(1, 128, (m, n), np.int16) * np.int16(2)
        return assemble(nodes, [DenseEdge("in", "h", w, "mixed")], "h", profile="loihi2", chips=10**6)
    gaps = rng.integers(1, max(2, n // FAN_OUT), (n, FAN_OUT), np.int32)
    target = np.cumsum(gaps, axis=1, dtype=np.int32) - 1  # rising, without repeats
    w = rng.integers(1, 128, synapses, np.int16) * np.int16(2)
    pointer = np.arange(0, synapses + 1, FAN_OUT)
    edge = SparseEdge("in", "h", pointer, target.ravel(), w, "mixed")
    return assemble(nodes, [edge], "h", profile="loihi2", chips=10**6)


def measure(kind: str, synapses: int) -> dict[str, float]:
    """One size, in this process."""
    from sim.loihi import engine

    engine.run(program(kind, 10**4), np.ones((1, 2, 100), np.int8))  # compile
    base = peak()
    start = time.perf_counter()
    made = program(kind, synapses)
    assembled = time.perf_counter() - start
    rate, steps = (0.1, 20) if kind == "dense" else (0.01, 20)
    x = (np.random.default_rng(1).random((1, steps, made.size("in"))) < rate).astype(np.int8)
    start = time.perf_counter()
    first = engine.run(made, x[:, :1])
    ready = time.perf_counter() - start
    walls, events = [], 0
    for _ in range(5):
        done = engine.run(made, x, threads=1)
        walls.append(done.wall_s / steps)
        events = done.total("synaptic_events")
    return {
        "synapses": synapses,
        "assemble_s": assembled,
        "first_step_s": ready - first.wall_s,
        "step_s": float(np.median(walls)),
        "events_per_step": events / steps,
        "peak_bytes": peak() - base,
    }


def slope(x: list[float], y: list[float]) -> float:
    """Least squares in logarithms."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def main() -> None:
    """Print the table; last line JSON."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
        return
    sizes = SIZES[:4] if "--quick" in sys.argv else SIZES
    found: dict[str, float] = {}
    for kind in ("dense", "sparse"):
        rows = []
        for synapses in sizes:
            command = [sys.executable, __file__, "--one", kind, str(synapses)]
            rows.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
            r = rows[-1]
            print(
                f"{kind:<7} {synapses:>11,} synapses  assemble {r['assemble_s']:8.3f} s"
                f"  layout {r['first_step_s']:7.3f} s  step {r['step_s'] * 1e6:11.1f} us"
                f"  {r['events_per_step'] / r['step_s']:9.3g} events/s  peak {r['peak_bytes'] / 2**20:9.1f} MiB"
                f"  {r['peak_bytes'] / synapses:8.1f} B a synapse",
                flush=True,
            )
        big = [r for r in rows if r["synapses"] >= 10**6]
        found[f"{kind}_time_slope"] = slope([r["events_per_step"] for r in big], [r["step_s"] for r in big])
        found[f"{kind}_memory_slope"] = slope([r["synapses"] for r in big], [r["peak_bytes"] for r in big])
        found[f"{kind}_bytes_per_synapse"] = rows[-1]["peak_bytes"] / rows[-1]["synapses"]
        found[f"{kind}_events_per_s"] = rows[-1]["events_per_step"] / rows[-1]["step_s"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
