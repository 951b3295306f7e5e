"""Steps and synaptic events per second of the integer engines on two nets; the last line is JSON.

    A   784-512-10, dense, 10 % input
    B   28x28x1 - conv 5x5x16 stride 2 - conv 3x3x32 stride 2 - 10, 10 % input

Every fast result is compared bit for bit with the reference before it is timed.
``python benchmarks/loihi.py [--quick]``
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from export.loihi import ConvEdge, DenseEdge, InputNode, Lif, LoihiProgram
from export.to_loihi import assemble
from sim.loihi import engine, reference

Array = npt.NDArray[Any]
RATE = 0.1


def net_a(rng: np.random.Generator) -> LoihiProgram:
    """784-512-10, hidden rate near 0.4."""
    w1 = rng.normal(12, 60, (512, 784)).clip(-256, 254).astype(np.int16)
    w2 = rng.normal(0, 60, (10, 512)).clip(-256, 254).astype(np.int16)
    nodes = {"in": InputNode((784,)), "h": Lif((512,), 4095, 1024, 1400), "o": Lif((10,), 4095, 1024, 1000)}
    return assemble(nodes, [DenseEdge("in", "h", w1, "mixed"), DenseEdge("h", "o", w2, "mixed")], "o")


def net_b(rng: np.random.Generator) -> LoihiProgram:
    """Two strided convolutions and a dense layer."""
    w1 = (rng.normal(10, 40, (16, 1, 5, 5)).clip(-128, 127)).astype(np.int16) * 2
    w2 = (rng.normal(2, 30, (32, 16, 3, 3)).clip(-128, 127)).astype(np.int16) * 2
    first = ConvEdge("in", "a", w1, "mixed", (2, 2))
    second = ConvEdge("a", "b", w2, "mixed", (2, 2))
    a = first.out_shape((1, 28, 28))
    b = second.out_shape(a)
    w3 = rng.normal(0, 60, (10, int(np.prod(b)))).clip(-256, 254).astype(np.int16)
    nodes = {
        "in": InputNode((1, 28, 28)),
        "a": Lif(a, 4095, 1024, 300),
        "b": Lif(b, 4095, 1024, 500),
        "o": Lif((10,), 4095, 1024, 1000),
    }
    return assemble(nodes, [first, second, DenseEdge("b", "o", w3, "mixed")], "o")


def best(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Shortest of some runs, and what the last gave."""
    shortest, done = float("inf"), None
    for _ in range(repeats):
        start = time.perf_counter()
        done = work()
        shortest = min(shortest, time.perf_counter() - start)
    return shortest, done


def measure(name: str, program: LoihiProgram, steps: int, repeats: int) -> dict[str, Any]:
    """All engines on one net: one sample of ``steps`` steps, and 8 samples over two threads."""
    rng = np.random.default_rng(1)
    x = (rng.random((8, steps, *program.input_shape)) < RATE).astype(np.int8)
    one, probes = x[:1], ("o.u", "o.v", *program.watched)
    start = time.perf_counter()
    first = engine.run(program, one[:, :4])
    ready = time.perf_counter() - start
    want = reference.run(program, one, probes=probes)
    for numba in (True, False):
        got = engine.run(program, one, probes=probes, numba=numba)
        if any((got.probes[p] != want.probes[p]).any() for p in probes) or got.counts != want.counts:
            raise SystemExit(f"{name}: engines differ")
    out: dict[str, Any] = {
        "steps": steps,
        "events_per_step": want.total("synaptic_events") / steps,
        "rates": {n: float(want.probes[f"{n}.s"].mean()) for n in program.populations},
        "compile_and_first_run_s": ready,
        "kernels_compiled": first.machine == "loihi",
    }
    few = one[:, : max(20, steps // 20)]
    rows: list[tuple[str, Array, Callable[[], Any], int]] = [
        ("reference", few, lambda: reference.run(program, few), 1),
        ("numpy", one, lambda: engine.run(program, one, threads=1, numba=False), max(1, repeats // 4)),
        ("compiled", one, lambda: engine.run(program, one, threads=1), repeats),
        ("compiled 8 samples 1 thread", x, lambda: engine.run(program, x, threads=1), repeats),
        ("compiled 8 samples 2 threads", x, lambda: engine.run(program, x, threads=2), repeats),
    ]
    for label, given, work, times in rows:
        best(work, 1)
        _, done = best(work, times)
        wall = min([done.wall_s] + [work().wall_s for _ in range(times)])
        rate = given.shape[0] * given.shape[1] / wall
        out[label] = {"steps_per_s": rate, "events_per_s": done.total("synaptic_events") / wall}
        print(f"{name}  {label:<30} {rate:>12,.0f} steps/s  {out[label]['events_per_s']:>10.3g} events/s", flush=True)
    out["step_us"] = closed_loop(program, one)
    print(f"{name}  closed-loop step {out['step_us']:.1f} us")
    out["speedup_over_reference"] = out["compiled"]["steps_per_s"] / out["reference"]["steps_per_s"]
    return out


def closed_loop(program: LoihiProgram, x: Array) -> float:
    """Median microseconds of one step with the state in hand."""
    _, state = engine.step(program, None, x[:, 0])
    times = []
    for t in range(1, x.shape[1]):
        now = x[:, t]
        start = time.perf_counter()
        _, state = engine.step(program, state, now)
        times.append(time.perf_counter() - start)
    return float(np.median(times) * 1e6)


def main() -> None:
    """Print the table; last line JSON."""
    quick = "--quick" in sys.argv
    rng = np.random.default_rng(0)
    steps, repeats = (100, 2) if quick else (600, 12)
    found = {
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "A": measure("A", net_a(rng), steps, repeats),
        "B": measure("B", net_b(rng), steps, repeats),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
