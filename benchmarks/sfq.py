"""SFQ at junction level beside JoSIM in one run; the last line is JSON.

    python benchmarks/sfq.py [--josim PATH] [--quick] [--store]

Same deck, same step, same stop, the same few columns at the same print step. In every round JoSIM (phase mode, a
process: its user and system time) and we (a warm process: load the deck, simulate, write the CSV; CPU time of all
threads) take turns, so the ratio of a round is of neighbours in time. ``stepping`` is the difference of two run
lengths, by step: start, parsing and most of writing cancel on both sides. The step that JoSIM really used is told by
its result: it equals ours at h, or ours at h/2 (then h is too large, and the ratio would flatter us).

``corners``: 1000 corners of the gate with every L, Ic and R its own (normal, 3 sigma = 20 %), 0.1 ps over 1 ns, CPU
time by corner beside JoSIM's for one run of the gate. Without --josim: the stored figures of ``sfq_josim.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import sfq_decks as decks

from sim.sfq import Corners, batch, compare, load, loads, read_csv, transient, write_csv

HERE = Path(__file__).resolve().parent
STEP_S, PRINT_S = 0.1e-12, 1e-12
STORED = HERE / "sfq_josim.json"
SAME = 1e-3
"""rad: JoSIM's CSV has 7 digits; another step differs by 1e-2 and more."""


@dataclass(frozen=True)
class Case:
    """A deck and how long it runs."""

    name: str
    body: str
    stop_s: float


CASES = (
    Case("jtl10", decks.chain(10), 1e-9),
    Case("jtl100", decks.chain(100), 1e-9),
    Case("jtl1000", decks.chain(1000), 2.2e-9),
    Case("gate28", decks.GATE28, 1e-9),
)


def spread(values: list[float]) -> dict[str, float]:
    """Median and range."""
    return {"median": float(np.median(values)), "min": min(values), "max": max(values)}


def child(command: list[str], env: dict[str, str] | None = None) -> tuple[float, float]:
    """CPU s (user and system) and wall s of a process. Errors: SystemExit if it fails."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env) as process:
        said = process.stderr.read() if process.stderr else b""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {process.returncode}: {said.decode()[-400:]}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - start


def peak_MB(command: list[str], env: dict[str, str] | None = None) -> float:
    """Peak memory of a process, started by a small one: a process begins with the peak of the one that started it."""
    tell = "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
    tell += "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    small = [sys.executable, "-I", "-S", "-c", tell]
    done = subprocess.run([*small, *command], env=env, capture_output=True, text=True, check=True)
    return int(done.stdout) / 1024


def ours(deck: Path, out: Path) -> None:
    """The whole way: load, simulate, write."""
    run = transient(load(deck))
    write_csv(out, run.time_s, run.traces)


def cpu(work: Callable[[], Any]) -> float:
    """CPU s of all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def several(work: Callable[[], Any], least_s: float = 0.2) -> float:
    """CPU s by call: the median of up to 15 calls within about ``least_s``."""
    times = [cpu(work)]
    while len(times) < 15 and sum(times) < least_s:
        times.append(cpu(work))
    return float(np.median(times))


def step_used(deck: Path, csv: Path) -> str:
    """Which of our steps gives JoSIM's result."""
    wanted = read_csv(csv)
    for halvings in range(4):
        run = transient(load(deck), h=STEP_S / 2**halvings)
        if max(compare({"time": run.time_s} | run.traces, wanted).values()) < SAME:
            return f"{STEP_S / 2**halvings * 1e12:g} ps" + (" (halved!)" if halvings else "")
    return "unknown: agrees with none of ours"


def single(case: Case, folder: Path, josim: str | None, rounds: int, stored: dict[str, Any]) -> dict[str, Any]:
    """One deck: rounds of JoSIM and us, at two lengths."""
    files = {}
    for part in (1.0, 0.5):
        files[part] = folder / f"{case.name}_{part:g}.cir"
        files[part].write_text(decks.deck(case.body, STEP_S, part * case.stop_s, PRINT_S))
    mine: dict[float, list[float]] = {1.0: [], 0.5: []}
    theirs: dict[float, list[float]] = {1.0: [], 0.5: []}
    ours(files[1.0], folder / "ours.csv")
    if josim is None:
        theirs = {1.0: [stored[case.name]["cpu_s"]] * rounds, 0.5: [stored[case.name]["half_cpu_s"]] * rounds}
    for _ in range(rounds):
        for part, file in files.items():
            if josim is not None:
                theirs[part].append(child([josim, "-a", "1", "-o", str(folder / "josim.csv"), str(file)])[0])
            mine[part].append(several(lambda file=file: ours(file, folder / "ours.csv")))
    used = "as stored"
    if josim is not None:
        child([josim, "-a", "1", "-o", str(folder / "josim.csv"), str(files[1.0])])
        used = step_used(files[1.0], folder / "josim.csv")
    steps = 0.5 * case.stop_s / STEP_S
    per_step = [[(b - a) / steps for a, b in zip(x[0.5], x[1.0], strict=True)] for x in (theirs, mine)]
    junctions = load(files[1.0]).flatten().jj_count
    return {
        "junctions": junctions, "steps": round(case.stop_s / STEP_S), "josim_step": used,
        "josim_cpu_s": spread(theirs[1.0]), "josim_half_cpu_s": spread(theirs[0.5]), "cpu_s": spread(mine[1.0]),
        "ratio": spread([a / b for a, b in zip(theirs[1.0], mine[1.0], strict=True)]),
        "stepping_ns": spread([1e9 * x / junctions for x in per_step[1]]),
        "josim_stepping_ns": spread([1e9 * x / junctions for x in per_step[0]]),
        "stepping_ratio": float(np.median(per_step[0])) / float(np.median(per_step[1])),
    }  # fmt: skip


def varied(circuit: Any, count: int, seed: int) -> Corners:
    """Every L, Ic and R of every corner its own: normal, 3 sigma = 20 %."""
    rng = np.random.default_rng(seed)

    def factors(n: int) -> Any:
        return 1.0 + 0.2 / 3 * rng.standard_normal((count, n)).clip(-4, 4)

    return Corners(
        count,
        junctions=factors(len(circuit.junctions)),
        inductors=factors(len(circuit.inductors)),
        resistors=factors(len(circuit.resistors)),
    )


def corners(count: int, rounds: int, josim_s: list[float]) -> dict[str, Any]:
    """Corners of the gate; ``josim_s``: JoSIM's CPU time of one run, a figure for each round."""
    circuit = loads(decks.deck(decks.GATE28, STEP_S, 1e-9, PRINT_S)).flatten()
    watch = list(decks.GATE28_COUNTS)
    batch(circuit, varied(circuit, 8, 0), h=STEP_S, t_stop=20e-12, watch=watch)
    cpus, walls, singles = [], [], []
    for k in range(rounds):
        some = varied(circuit, count, k)
        start = time.perf_counter()
        cpus.append(cpu(lambda some=some: batch(circuit, some, h=STEP_S, watch=watch)) / count)
        walls.append((time.perf_counter() - start) / count)
        singles.append(cpu(lambda some=some: batch(circuit, some, h=STEP_S, watch=watch, threads=1)) / count)
    ns = [1e9 * c / (circuit.jj_count * 1e-9 / STEP_S) for c in cpus]
    return {
        "corners": count, "cpu_s": spread(cpus), "wall_s": spread(walls), "one_thread_cpu_s": spread(singles),
        "stepping_ns": spread(ns), "ratio": spread([j / c for j, c in zip(josim_s, cpus, strict=True)]),
        "wall_ratio": spread([j / c for j, c in zip(josim_s, walls, strict=True)]),
    }  # fmt: skip


def growth(quick: bool) -> dict[str, float]:
    """Stepping time by junction and step, ns, by number of junctions: two lengths, median of three."""
    out: dict[str, float] = {}
    for junctions in (10, 100, 1000) if quick else (10, 100, 1000, 10000):
        circuit = loads(decks.deck(decks.chain(junctions), STEP_S, 1e-9, PRINT_S)).flatten()
        long = max(3000, min(20000, 4_000_000 // junctions)) * STEP_S

        def run(t: float, circuit: Any = circuit) -> float:
            return several(lambda: transient(circuit, h=STEP_S, t_stop=t, watch=()), 0.1)

        both = [run(long) - run(long / 2) for _ in range(3)]
        out[str(junctions)] = 1e9 * float(np.median(both)) / (0.5 * long / STEP_S * junctions)
    return out


START = "import sys; from sim.sfq import load, transient, write_csv; r = transient(load(sys.argv[1])); \
write_csv(sys.argv[2], r.time_s, r.traces)"


def starts(folder: Path) -> dict[str, float]:
    """Wall s and peak MB of a process of its own: kernels not built yet, and built."""
    file = folder / "start.cir"
    file.write_text(decks.deck(decks.GATE28, STEP_S, 1e-9, PRINT_S))
    caches = {"NUMBA_CACHE_DIR": str(folder / "numba"), "XDG_CACHE_HOME": str(folder / "cache")}
    env = {**os.environ, **caches, "PYTHONPATH": str(HERE.parent)}
    command = [sys.executable, "-c", START, str(file), str(folder / "start.csv")]
    cold, *warm = (child(command, env) for _ in range(4))
    numba = child(command, env | {"SPIKEPORT_KERNEL": "numba"})
    return {
        "cold_wall_s": cold[1],
        "cold_numba_wall_s": numba[1],
        "warm_wall_s": float(np.median([w[1] for w in warm])),
        "warm_cpu_s": float(np.median([w[0] for w in warm])),
        "peak_MB": peak_MB(command, env),
    }


def pulse_rate(quick: bool) -> dict[str, float] | None:
    """Events by second of the pulse level: the last line of ``sfq_pulse.py``."""
    command = [sys.executable, str(HERE / "sfq_pulse.py"), *(["--quick"] if quick else [])]
    if not (HERE / "sfq_pulse.py").exists():
        return None
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"pulse level: {done.stderr[-300:]}")
        return None
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])["pulse_events_per_s"]
    return found


def show(name: str, row: dict[str, Any]) -> None:
    """One line of the table."""
    r = row["ratio"]
    print(
        f"{name:<8} {row['junctions']:>5} JJ  JoSIM {1e3 * row['josim_cpu_s']['median']:8.1f} ms"
        f"  ours {1e3 * row['cpu_s']['median']:8.1f} ms  {r['median']:5.1f} x ({r['min']:.1f} to {r['max']:.1f})"
        f"  stepping {row['josim_stepping_ns']['median']:5.0f} / {row['stepping_ns']['median']:5.1f} ns per JJ and step"
        f" = {row['stepping_ratio']:.1f} x  JoSIM's step {row['josim_step']}",
        flush=True,
    )


def machine() -> dict[str, Any]:
    """Where this ran."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(), "date": time.strftime("%F")}


def main() -> None:
    """Print the table; last line JSON."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--josim", help="JoSIM's program, josim-cli, built with Release flags")
    options.add_argument("--quick", action="store_true", help="fewer rounds and corners")
    options.add_argument("--store", action="store_true", help="keep JoSIM's figures in sfq_josim.json")
    asked = options.parse_args()
    stored: dict[str, Any] = json.loads(STORED.read_text()) if STORED.exists() else {}
    rounds, count = (2, 100) if asked.quick else (7, 1000)
    here = machine()
    print(f"{here['cpu']}, {here['cores']} cores; step {STEP_S * 1e12:g} ps; CPU time; {rounds} rounds")
    if asked.josim is None:
        print(f"without --josim: JoSIM's figures are the stored ones of {stored['machine']}")
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case in CASES:
            found[case.name] = single(case, folder, asked.josim, rounds, stored)
            show(case.name, found[case.name])
        found["corners"] = _corners(folder, asked.josim, 2 if asked.quick else 5, count, stored)
        found["growth_ns"] = growth(asked.quick)
        found["start"] = starts(folder)
        found["josim_peak_MB"] = _josim_memory(folder, asked.josim)
    _say(found)
    if asked.store and asked.josim:
        kept = {c.name: _kept(found[c.name]) for c in CASES}
        STORED.write_text(json.dumps({"machine": here, "josim": "2.7, phase mode, -O3, KLU", **kept}, indent=1) + "\n")
    out = {f"{c.name}_vs_josim": found[c.name]["ratio"] for c in CASES}
    out["corners_vs_josim"] = found["corners"]["ratio"]
    out["pulse_events_per_s"] = pulse_rate(asked.quick)
    print(json.dumps({**out, "rows": found, "machine": here, "josim": "here" if asked.josim else "stored"}))


def _kept(row: dict[str, Any]) -> dict[str, float]:
    return {"cpu_s": row["josim_cpu_s"]["median"], "half_cpu_s": row["josim_half_cpu_s"]["median"]}


def _corners(folder: Path, josim: str | None, rounds: int, count: int, stored: dict[str, Any]) -> dict[str, Any]:
    file = folder / "gate28.cir"
    file.write_text(decks.deck(decks.GATE28, STEP_S, 1e-9, PRINT_S))
    if josim is None:
        return corners(count, rounds, [stored["gate28"]["cpu_s"]] * rounds)
    each = [child([josim, "-a", "1", "-o", str(folder / "j.csv"), str(file)])[0] for _ in range(2 * rounds)]
    return corners(count, rounds, [float(np.mean(each[2 * k : 2 * k + 2])) for k in range(rounds)])


def _josim_memory(folder: Path, josim: str | None) -> float | None:
    if josim is None:
        return None
    return peak_MB([josim, "-a", "1", "-o", str(folder / "j.csv"), str(folder / "gate28.cir")])


def _say(found: dict[str, Any]) -> None:
    c, s, g = found["corners"], found["start"], found["growth_ns"]
    cpu_ms, wall_ms, one_ms = (1e3 * c[k]["median"] for k in ("cpu_s", "wall_s", "one_thread_cpu_s"))
    r, w = c["ratio"], c["wall_ratio"]["median"]
    print(
        f"corners  {c['corners']} of gate28: {cpu_ms:.2f} ms CPU each, {r['median']:.0f} x ({r['min']:.0f} to "
        f"{r['max']:.0f}); {c['stepping_ns']['median']:.1f} ns per JJ, step and corner; both cores: {wall_ms:.2f} ms "
        f"wall each, {w:.0f} x; one thread: {one_ms:.2f} ms CPU each"
    )
    print("growth   " + ", ".join(f"{n} JJ: {t:.1f} ns" for n, t in g.items()) + " per JJ and step; " + _slope(g))
    josim = f", JoSIM {found['josim_peak_MB']:.0f} MB" if found["josim_peak_MB"] else ""
    cold = f"cold {s['cold_wall_s']:.1f} s ({s['cold_numba_wall_s']:.1f} s without a C compiler)"
    warm = f"warm {s['warm_wall_s']:.2f} s wall ({s['warm_cpu_s']:.2f} s CPU)"
    print(f"start    gate28: {cold}, {warm}; peak {s['peak_MB']:.0f} MB{josim}")


def _slope(growth_ns: dict[str, float]) -> str:
    """Exponent of the cost of a step over junctions, from 100 on."""
    known = [(float(n), float(n) * t) for n, t in growth_ns.items() if float(n) >= 100]
    x, y = np.log(np.array(known)).T
    return f"a step costs ~ junctions^{np.polyfit(x, y, 1)[0]:.2f}"


if __name__ == "__main__":
    main()
