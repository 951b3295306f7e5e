"""Cells of round numbers for the tests of the pulse level, where the times can be worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sim.sfq.pulse import Emission, Netlist, PulseCell, Separation, Transition
from sim.sfq.pulse.cells import BACK, BLOCK, FIRE, PASS, TAKE, Chance, Membrane, Recovery, SomaRow, library

PS = 1e-12


def through(name: str, inputs: str, outputs: str, delay_ps: float, jitter_ps: float = 0.0, **more: object) -> PulseCell:
    """Every input comes out at every output."""
    emits = tuple(Emission(o, delay_ps * PS, jitter_ps * PS) for o in outputs.split())
    rows = tuple(Transition("idle", i, "idle", emits, 2, 500e-6) for i in inputs.split())
    return PulseCell(name, tuple(inputs.split()), tuple(outputs.split()), rows, **more)  # type: ignore[arg-type]


DFF = PulseCell(
    "DFF", ("c", "a"), ("q",),
    (
        Transition("0", "a", "1", (), 1, 100e-6), Transition("1", "a", "1", (), 1, 50e-6),
        Transition("0", "c", "0", (), 1, 75e-6), Transition("1", "c", "0", (Emission("q", 6 * PS),), 3, 300e-6),
    ),
    start="0", separations=(Separation("a", "c", 3 * PS), Separation("c", "a", 1 * PS)),
)  # fmt: skip
"""The clock comes first in the list: of a pulse at both together, the clock reads the old state."""

SOMA = PulseCell(
    "SOMA", ("n",), ("q",),
    (
        Transition("idle", TAKE, "idle", (), 0, 0.0),
        Transition("idle", FIRE, "idle", (Emission("q", 5 * PS),), 2, 4e-4),
        Transition("idle", BACK, "idle", (), 1, 2e-4),
    ),
    kind="soma", membrane=Membrane(tuple(SomaRow(n, 50e-6, 100 * PS, 250e-6, n) for n in (1, 16)), 125e-6, 8 * PS),
)  # fmt: skip
"""Threshold (250 - 125)/50 = 2.5 pulses, tau 100 ps."""

STSYN = PulseCell(
    "STSYN", ("a",), ("q",),
    (
        Transition("idle", PASS, "idle", (Emission("q", 6 * PS),), 4, 1e-3),
        Transition("idle", BLOCK, "idle", (), 2, 4e-4),
    ),
    kind="stochastic", controls=("w",), chance=Chance(70e-6, 3e-6, 4.2),
)  # fmt: skip

CELLS: Mapping[str, PulseCell] = library([
    through("JTL", "a", "q", 4.0, separations=(Separation("a", "a", 10 * PS),)),
    through("JIT", "a", "q", 4.0, 0.2), through("JTLN", "a", "q", 4.0, negative=frozenset("aq")),
    through("SPLIT", "a", "q0 q1", 5.0), through("MERGE", "a b", "q", 3.0),
    through("INV", "a", "q", 19.0, negative=frozenset("q"), separations=(Separation("a", "a", 45 * PS, True),)),
    through("SYNP", "a", "n", 2.0, weight=1.0), through("SYNM", "a", "n", 2.0, weight=-1.0, negative=frozenset("a")),
    PulseCell("LAG", ("a",), ("q",), (Transition("idle", "a", "idle", (Emission("q", 4 * PS),), 2, 5e-4, (
        Recovery("a", (10 * PS, 20 * PS), (2 * PS, 1 * PS)),)),)),
    DFF, SOMA, STSYN,
])  # fmt: skip


def random_net(rng: np.random.Generator, inputs: int = 4, cells: int = 60) -> Netlist:
    """A netlist without loops of every kind of cell, whose inputs are ``i0``.. and whose ends are its outputs."""
    net = Netlist(CELLS)
    lines = [f"i{k}" for k in range(inputs)]
    for k in range(cells):
        name, new = f"X{k}", [f"n{k}", f"m{k}"]
        kind = rng.choice(["JIT", "SPLIT", "MERGE", "DFF", "SOMA", "STSYN", "LAG"])
        take = [
            lines.pop(rng.integers(len(lines))) for _ in range(2 if kind in ("MERGE", "DFF") and len(lines) > 3 else 1)
        ]
        if kind == "SPLIT":
            net.add(name, "SPLIT", a=take[0], q0=new[0], q1=new[1])
            lines += new
        elif kind == "SOMA" and len(lines) > 3:
            take += [lines.pop(rng.integers(len(lines))) for _ in range(2)]
            for j, line in enumerate(take):
                net.add(f"{name}Y{j}", "SYNP", a=line, n=f"{name}sum")
            net.add(name, "SOMA", n=f"{name}sum", q=new[0], bias_A=float(rng.uniform(60e-6, 220e-6)))
            lines.append(new[0])
        elif len(take) == 2:
            net.add(name, kind, **dict(zip(CELLS[kind].inputs, take, strict=True)), q=new[0])
            lines.append(new[0])
        elif kind == "STSYN":
            net.add(name, "STSYN", a=take[0], q=new[0], w=float(rng.uniform(66e-6, 76e-6)))
            lines.append(new[0])
        else:
            net.add(name, "LAG" if kind == "LAG" else "JIT", a=take[0], q=new[0])
            lines.append(new[0])
        while len(lines) < inputs:
            line = lines.pop(0)
            net.add(f"{name}S{len(lines)}", "SPLIT", a=line, q0=f"{line}l", q1=f"{line}r")
            lines += [f"{line}l", f"{line}r"]
    return net
