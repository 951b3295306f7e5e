"""Decks of the SFQ benchmark: JTL chains that pulses travel all along, and a clocked gate of 28 junctions.

All cells are our own, of ``hardware/sfq_cells.inc``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hardware.sfq import library, parts

PEAK = "827.13u"
"""Of a triangle 2.5 ps up and 2.5 ps down: one flux quantum."""
GATE28 = f"""\
VA a 0 pulse(0 {PEAK} 30p 2.5p 2.5p 0 100p)
VB b 0 pulse(0 {PEAK} 80p 2.5p 2.5p 0 150p)
VC c 0 pulse(0 {PEAK} 65p 2.5p 2.5p 0 50p)
XA1 JTL a a1
XA2 JTL a1 a2
XB1 JTL b b1
XB2 JTL b1 b2
XC1 JTL c c1
XS SPLIT c1 s0 s1
XC2 JTL s0 k
XC3 JTL s1 t
RT t 0 3
XG XOR a2 b2 k q
XQ1 JTL q q1
XQ2 JTL q1 q2
RQ q2 0 3
.print p(B1.X2.XA2) p(B1.X2.XC2) p(B1.X2.XQ2)
"""
"""The clocked XOR (7 junctions) behind JTLs (18) and a splitter (3) of its 20 GHz clock, as one tests a gate."""

GATE28_COUNTS = ("B1|X2|XA2", "B1|X2|XC2", "B1|X2|XQ2")


def header(body: str) -> str:
    """Model and subcircuits that the body uses, and those that they use."""
    model, cells = library()
    wanted: list[str] = []
    todo = re.findall(r"^X\S+ ([A-Z]\w*) ", body, re.MULTILINE)
    while todo:
        name = todo.pop()
        if name not in wanted:
            wanted.append(name)
            todo += parts(cells[name])
    return "\n".join([model, *(cells[n] for n in wanted)]) + "\n"


def chain(junctions: int) -> str:
    """A chain of JTL cells, two junctions each, with a pulse every 30 ps at its head; 1.9 ps a junction."""
    cells = junctions // 2
    lines = [f"VA n0 0 pulse(0 {PEAK} 20p 2.5p 2.5p 0 30p)", f"RQ n{cells} 0 3"]
    lines += [f"X{k} JTL n{k} n{k + 1}" for k in range(cells)]
    watched = dict.fromkeys((0, cells // 2, cells - 1))
    lines.append(".print " + " ".join(f"p(B1.X2.X{k})" for k in watched))
    return "\n".join(lines) + "\n"


def deck(body: str, step_s: float, stop_s: float, print_s: float) -> str:
    """A whole deck."""
    tran = f".tran {step_s * 1e12:g}p {stop_s * 1e12:g}p 0 {print_s * 1e12:g}p"
    return f"* spikeport benchmark\n{header(body)}{body}{tran}\n.end\n"
