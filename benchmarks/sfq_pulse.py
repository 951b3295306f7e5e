"""Pulse-level events per second: an event is a pulse that a cell takes. The last line is JSON.

The net is feed-forward, 256-400-400-100 with 16 synapses a neuron (every second one inhibits), splitter trees and a JTL
behind each: every cell of it has its calibrated times, neighbours and separations. 20 GHz into every input for 10 ns.
``--large``: 10^5 synapses, 10 ns (level engine, both cores).
``rate()``: the heap engine on one core, CPU time, so that other work on the machine does not count.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sim.sfq.pulse import Netlist, compile_netlist, heap_engine, level_engine, load_library, run

STOP_S = 10e-9


def network(sizes: tuple[int, ...], fan_in: int, seed: int = 0) -> Netlist:
    """Layers of somas, each with ``fan_in`` synapses from random lines of the layer before."""
    rng = np.random.default_rng(seed)
    net = Netlist(load_library())
    lines = {1: [f"p{i}" for i in range(sizes[0])], -1: [f"m{i}" for i in range(sizes[0])]}
    for layer, count in enumerate(sizes[1:]):
        chosen = [rng.choice(len(lines[1]), min(fan_in, len(lines[1])), replace=False) for _ in range(count)]
        users: dict[tuple[int, int], list[int]] = {}
        for j, sources in enumerate(chosen):
            for k, source in enumerate(sources.tolist()):
                users.setdefault((1 if k % 2 == 0 or layer else -1, source), []).append(j)
        for (sign, source), targets in users.items():
            ends = fan_out(net, lines[sign][source], len(targets), sign)
            for end, j in zip(ends, targets, strict=True):
                net.add(f"XY{end}", "SYNP" if sign > 0 else "SYNM", a=end, n=f"s{layer}_{j}")
        for j in range(count):
            net.add(f"XN{layer}_{j}", "SOMA", n=f"s{layer}_{j}", q=f"h{layer}_{j}", bias_A=165e-6)
            net.add(f"XH{layer}_{j}", "JTL", a=f"h{layer}_{j}", q=f"y{layer}_{j}")
        lines = {1: [f"y{layer}_{j}" for j in range(count)], -1: []}
    return net


def fan_out(net: Netlist, line: str, count: int, sign: int) -> list[str]:
    """``count`` copies of a line: a tree of splitters, a JTL behind each output."""
    split, jtl = ("SPLIT", "JTL") if sign > 0 else ("SPLITN", "JTLN")
    ends = [line]
    while len(ends) < count:
        from_ = ends.pop(0)
        net.add(f"XS{from_}", split, a=from_, q0=f"{from_}l", q1=f"{from_}r")
        for side in "lr":
            net.add(f"XJ{from_}{side}", jtl, a=f"{from_}{side}", q=f"{from_}{side}j")
            ends.append(f"{from_}{side}j")
    return ends


def trains(inputs: Any, seed: int = 1) -> dict[str, Any]:
    """20 GHz each, with a random phase."""
    rng = np.random.default_rng(seed)
    return {n: 50e-12 + rng.uniform(0, 50e-12) + np.arange(int(STOP_S / 50e-12) - 2) * 50e-12 for n in inputs}


def measure(sizes: tuple[int, ...], fan_in: int, repeats: int, engine: Any, clock: Callable[[], float]) -> list[float]:
    """Events per second of each repeat, after one that compiles."""
    compiled = compile_netlist(network(sizes, fan_in))
    given = trains(compiled.sources)
    run(compiled, given, STOP_S / 20, policy="warn", engine=engine)
    found = []
    for _ in range(repeats):
        begin = clock()
        done = run(compiled, given, STOP_S, policy="warn", engine=engine)
        found.append(done.events / (clock() - begin))
    return found


def rate(repeats: int = 5) -> list[float]:
    """Pulses per second of CPU that the heap engine takes on one core, one figure a repeat; prints a line."""
    found = measure((256, 400, 400, 100), 16, repeats, heap_engine, time.process_time)
    print(f"pulse level, heap, one core: {np.median(found) / 1e6:.2f} million events/s ({len(found)} runs)")
    return found


def main() -> None:
    """Both engines, or the large net."""
    if "--large" in sys.argv:
        begin = time.perf_counter()
        compiled = compile_netlist(network((2048, 2080, 2080, 2080), 16))
        built = time.perf_counter() - begin
        given = trains(compiled.sources)
        run(compiled, given, STOP_S / 100, policy="warn", engine=level_engine)
        begin, cpu = time.perf_counter(), time.process_time()
        done = run(compiled, given, STOP_S, policy="warn", engine=level_engine)
        wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
        synapses = sum(i.cell.weight != 0 for i in compiled.instances)
        row = {"synapses": synapses, "cells": len(compiled.instances), "events": done.events, "build_s": built}
        print(json.dumps(row | {"wall_s": wall, "cpu_s": cpu}))
        return
    heap = rate()
    levels = measure((256, 400, 400, 100), 16, 5, level_engine, time.process_time)
    print(f"pulse level, levels, CPU of all threads: {np.median(levels) / 1e6:.2f} million events/s")
    print(json.dumps({"pulse_events_per_s": {"median": np.median(heap), "min": min(heap), "max": max(heap)}}))


if __name__ == "__main__":
    main()
