"""Steps per second of the integer engines beside lava-nc in one run; the last line is JSON.

    A   784-512-10, dense, 10 % input
    B   28x28x1 - conv 5x5x16 stride 2 - conv 3x3x32 stride 2 - 10, 10 % input
    R   A with a recurrent hidden layer

In every round lava-nc (its own running: no start, no building; one run) and the engines (median of a few runs, which
together are still shorter) take turns on the same input, and the ratio of a round is of neighbours in time. What lava
fires is compared with what the engines fire, and final u and v, before anything is timed.
``mlp_vs_lava`` and ``conv_vs_lava``: one thread of the compiled engine; ``numpy_vs_lava``: without numba, on A;
``whole_vs_lava``: A with counting, timing and everything else that a run does.
``step_us``: one chip step of A in a closed loop.
``python benchmarks/loihi.py [--quick]``; 'spikeport lava setup' first, else the engines are timed alone.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from export.assemble import assemble
from export.loihi import ConvEdge, DenseEdge, InputNode, Lif, LoihiProgram
from sim.lava.client import Client, WorkerUnavailable
from sim.loihi import engine, reference

Array = npt.NDArray[Any]
RATE = 0.1


def net_a(rng: np.random.Generator, recurrent: bool = False) -> LoihiProgram:
    """784-512-10, hidden rate near 0.4."""
    w1 = rng.normal(12, 60, (512, 784)).clip(-256, 254).astype(np.int16)
    w2 = rng.normal(0, 60, (10, 512)).clip(-256, 254).astype(np.int16)
    nodes = {"in": InputNode((784,)), "h": Lif((512,), 4095, 1024, 1400), "o": Lif((10,), 4095, 1024, 1000)}
    edges = [DenseEdge("in", "h", w1, "mixed"), DenseEdge("h", "o", w2, "mixed")]
    if recurrent:
        back = rng.normal(-4, 30, (512, 512)).clip(-256, 254).astype(np.int16)
        edges.append(DenseEdge("h", "h", back, "mixed"))
    return assemble(nodes, edges, "o")


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


def typical(work: Callable[[], float], repeats: int) -> float:
    """Median seconds of some runs."""
    return float(np.median([work() for _ in range(repeats)]))


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": float(np.median(values)), "min": min(values), "max": max(values)}


def wall(work: Callable[[], Any]) -> float:
    """Seconds of the whole call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def agree(name: str, program: LoihiProgram, x: Array, lava: Client | None) -> float:
    """Compare every engine on ``x``, then lava's spikes and last u and v; return synaptic events of a step."""
    states = [f"{n}.{k}" for n, p in program.populations.items() for k in p.states]
    probes = (*program.watched, *states)
    want = reference.run(program, x, probes=probes)
    for numba in (True, False):
        got = engine.run(program, x, probes=probes, numba=numba)
        if any((got.probes[p] != want.probes[p]).any() for p in probes) or got.counts != want.counts:
            raise SystemExit(f"{name}: engines differ")
    if lava is not None:
        lava.load(program)
        done = lava.run(x, (*program.watched, *(f"{p}@end" for p in states)))
        steps = x.shape[1]
        for p in program.watched:
            if (done.found[p].reshape(want.probes[p].shape) != want.probes[p]).any():
                raise SystemExit(f"{name}: lava-nc fires otherwise ({p})")
        last = [p for p in states if program.nodes[p.split(".")[0]].start == program.latency]
        for p in last:
            if (done.found[f"{p}@end"].reshape(1, -1) != want.probes[p][:, steps - 1].reshape(1, -1)).any():
                raise SystemExit(f"{name}: lava-nc ends otherwise ({p})")
    return want.total("synaptic_events") / x.shape[1]


def measure(name: str, program: LoihiProgram, steps: int, rounds: int, lava: Client | None) -> dict[str, Any]:
    """All engines on one net: one sample of ``steps`` steps; then 8 samples on one thread and on two."""
    rng = np.random.default_rng(1)
    x = (rng.random((8, steps, *program.input_shape)) < RATE).astype(np.int8)
    one = x[:1]
    engine.run(program, one[:, :4])
    out: dict[str, Any] = {"steps": steps, "events_per_step": agree(name, program, one, lava)}
    rows: dict[str, Callable[[], float]] = {
        "compiled": lambda: typical(lambda: engine.run(program, one, threads=1).wall_s, 5),
        "compiled, the whole run": lambda: typical(lambda: wall(lambda: engine.run(program, one, threads=1)), 5),
        "numpy": lambda: typical(lambda: engine.run(program, one, threads=1, numba=False).wall_s, 2),
        "reference": lambda: reference.run(program, one[:, : steps // 10]).wall_s * 10,
    }
    seconds: dict[str, list[float]] = {k: [] for k in ("lava-nc", *rows)}
    for _ in range(rounds):
        if lava is not None:
            done = lava.run(one)
            seconds["lava-nc"].append(done.wall_s * steps / done.steps)
        for k, work in rows.items():
            seconds[k].append(work())
    for k, s in seconds.items():
        if s:
            out[k] = {"steps_per_s": steps / float(np.median(s)), "vs_lava": None}
            if lava is not None:
                out[k]["vs_lava"] = spread([a / b for a, b in zip(seconds["lava-nc"], s, strict=True)])
            show(name, k, out[k])
    for threads in (1, 2):
        several = partial(engine.run, program, x, threads=threads)
        rate = 8 * steps / typical(lambda run=several: run().wall_s, rounds)
        out[f"8 samples, {threads} threads"] = {"steps_per_s": rate, "vs_lava": None}
        show(name, f"8 samples, {threads} threads", out[f"8 samples, {threads} threads"])
    return out


def show(name: str, label: str, row: dict[str, Any]) -> None:
    """One line of the table."""
    r = row["vs_lava"]
    ratio = "" if r is None else f"{r['median']:9.1f} x lava-nc ({r['min']:.1f} to {r['max']:.1f})"
    print(f"{name}  {label:<26} {row['steps_per_s']:>12,.0f} steps/s  {ratio}", flush=True)


def closed_loop(program: LoihiProgram, steps: int) -> list[float]:
    """Microseconds of each step with the state in hand."""
    x = (np.random.default_rng(2).random((1, steps, *program.input_shape)) < RATE).astype(np.int8)
    _, state = engine.step(program, None, x[:, 0])
    times = []
    for t in range(1, steps):
        now = x[:, t]
        start = time.perf_counter()
        _, state = engine.step(program, state, now)
        times.append((time.perf_counter() - start) * 1e6)
    return times


def main() -> None:
    """Print the table; last line JSON."""
    quick = "--quick" in sys.argv
    steps, rounds = (100, 2) if quick else (600, 7)
    lava: Client | None = None
    try:
        lava = Client()
        print("lava-nc {lava} on CPython {python}, numpy {numpy}".format(**lava.hello))
    except WorkerUnavailable as error:
        print(f"without lava-nc: {error}")
        lava = None
    rng = np.random.default_rng(0)
    nets = {"A": net_a(rng), "B": net_b(rng), "R": net_a(rng, recurrent=True)}
    found: dict[str, Any] = {
        "machine": {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
    }
    for name, program in nets.items():
        found[name] = measure(name, program, steps, rounds, lava)
    loops = [closed_loop(nets["A"], steps) for _ in range(rounds)]
    medians = spread([float(np.median(t)) for t in loops])
    p99 = float(np.percentile(np.concatenate(loops), 99))
    print(f"A  closed-loop step {medians['median']:.1f} us, p99 {p99:.1f} us")
    if lava is not None:
        lava.close()
    print(
        json.dumps(
            {
                "mlp_vs_lava": found["A"]["compiled"]["vs_lava"],
                "conv_vs_lava": found["B"]["compiled"]["vs_lava"],
                "recurrent_vs_lava": found["R"]["compiled"]["vs_lava"],
                "numpy_vs_lava": found["A"]["numpy"]["vs_lava"],
                "whole_vs_lava": found["A"]["compiled, the whole run"]["vs_lava"],
                "step_us": medians,
                "step_us_p99": p99,
                "rows": found,
            }
        )
    )


if __name__ == "__main__":
    main()
