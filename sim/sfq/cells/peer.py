"""A cell's bench in JoSIM (phase mode): the same pulses, and when each junction slips there.

    times = josim_slips(bench(MACHINES["INV"]), events, "josim-cli", bias=0.8)

JoSIM is MIT-licensed and not part of this package: https://github.com/JoeyDelp/JoSIM
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sim.sfq.batch import BatchRun
from sim.sfq.cells.bench import Bench, Events, triangles
from sim.sfq.cells.sweep import tour_events
from sim.sfq.circuit import Floats
from sim.sfq.corners import Corners
from sim.sfq.errors import NOWHERE, DeckError
from sim.sfq.output import read_csv

TURN_RAD = 2.0 * np.pi


def deck(b: Bench, events: Events, t_stop: float, bias: float = 1.0) -> str:
    """The bench as a deck of its own: pulses written out, every bias times a factor, all phases printed."""
    text = b.deck.replace(".end\n", "")
    for pin in b.machine.inputs:
        shape = triangles([t for t, on in events if on == pin], b.sign(pin))
        points = " ".join(f"{t * 1e12:.10g}p {v * 1e6:.10g}u" for t, v in zip(shape.times, shape.values, strict=True))
        source = f"VP{pin.upper()} d{pin} 0 pwl("
        text = text.replace(f"{source}0 0)", f"{source}{points if len(shape.times) > 1 else '0 0 1p 0'})")

    def scaled(line: re.Match[str]) -> str:
        return f"{line[1]}{float(line[2]) * bias:.10g}u)"

    text = re.sub(r"^(I\S+ .*pwl\(0 0 5p )([\d.]+)u\)$", scaled, text, flags=re.MULTILINE)
    text = re.sub(r"^\.tran .*$", f".tran 0.1p {t_stop * 1e12:g}p", text, flags=re.MULTILINE)
    shown = [f".print p({name.replace('|', '.')})" for name in b.watch]
    return "\n".join([text, *shown, ".end", ""])


def josim_slips(
    b: Bench, events: Events, josim: str | Path, *, t_stop: float, bias: float = 1.0
) -> dict[str, list[tuple[float, int]]]:
    """(time in s, sign) of each junction's slips as JoSIM finds them. Raises DeckError where it cannot be run."""
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / "bench.cir", Path(folder) / "out.csv"
        path.write_text(deck(b, events, t_stop, bias), encoding="utf-8")
        try:
            done = subprocess.run(
                [str(josim), "-a", "1", "-o", str(out), str(path)], capture_output=True, text=True, timeout=600
            )
        except OSError as error:
            raise DeckError(NOWHERE, str(josim), f"cannot be run ({error})", "give the path of josim-cli") from None
        if done.returncode or not out.is_file():
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise DeckError(NOWHERE, str(josim), f"did not run the bench: {last}", "use JoSIM 2.7")
        traces = read_csv(out)
    time = traces.pop("time")
    return {_name(column): crossings(time, phase) for column, phase in traces.items()}


def _name(column: str) -> str:
    """``B1|X1|XD`` of a column P(B1|X1|XD)."""
    return column.strip('"')[2:-1].upper()


def crossings(time_s: Floats, phase: Floats) -> list[tuple[float, int]]:
    """(time, sign) of each crossing of an odd multiple of pi."""
    turns = np.floor(phase / TURN_RAD + 0.5)
    out = []
    for k in np.flatnonzero(np.diff(turns)):
        sign = 1 if turns[k + 1] > turns[k] else -1
        level = (2.0 * max(turns[k], turns[k + 1]) - 1.0) * np.pi
        share = (level - phase[k]) / (phase[k + 1] - phase[k])
        out.append((float(time_s[k] + share * (time_s[k + 1] - time_s[k])), sign))
    return out


AGREE_S = 0.05e-12


def compare(b: Bench, josim: str | Path, biases: Sequence[float]) -> str:
    """Our slips and JoSIM's of every junction over the cell's tour, biases times some factors: the same, or an error.

    Returns the sentence for a table's ``peer``. Raises DeckError naming the junction and the bias where they differ.
    """
    events = tour_events(b.machine)
    stop = events[-1][0] + 60e-12
    factors = np.repeat(np.array(biases)[:, None], len(b.circuit.currents), axis=1)
    run = b.run([events] * len(biases), stop, Corners(len(biases), currents=factors))
    worst = 0.0
    for k, bias in enumerate(biases):
        theirs = josim_slips(b, events, josim, t_stop=stop, bias=bias)
        for name in b.watch:
            ours = our_slips(run, name, k)
            if [s for _, s in ours] != [s for _, s in theirs[name]]:
                what = f"slips {len(ours)} times at bias x{bias:g}, {len(theirs[name])} in JoSIM"
                raise DeckError(NOWHERE, name, what, "compare with a smaller step")
            worst = max([worst, *(abs(t - u) for (t, _), (u, _) in zip(ours, theirs[name], strict=True))])
    if worst > AGREE_S:
        raise DeckError(
            NOWHERE, b.machine.name, f"slips up to {worst * 1e12:.3f} ps apart", "compare with a smaller step"
        )
    every = ", ".join(f"{bias:g}" for bias in biases)
    apart = f"at most {worst * 1e15:.1f} fs apart"
    return f"JoSIM, phase mode, 0.1 ps: same slips of all junctions, biases times {every}; {apart}"


def our_slips(run: BatchRun, junction: str, corner: int) -> list[tuple[float, int]]:
    """(time in s, sign) of a junction's slips in a corner, in order."""
    rows = [(float(t), sign) for sign in (1, -1) for t in run.pulse_times(junction, corner, sign)]
    return sorted(rows)
