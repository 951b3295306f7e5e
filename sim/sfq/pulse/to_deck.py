"""A netlist as a deck, so that what ran at pulse level runs at junction level; and which junction speaks for a line.

Inputs become V sources with triangular flux quanta, outputs end in a resistor, controls get I sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import numpy.typing as npt

from hardware.sfq import library as netlists
from hardware.sfq import parts
from sim.sfq.circuit import Circuit
from sim.sfq.pulse.cells import CellError
from sim.sfq.pulse.from_deck import cell_circuit
from sim.sfq.pulse.netlist import Netlist

PEAK_V, RISE_S = 827.13e-6, 2.5e-12
"""Triangle of one flux quantum, as ``hardware/profiles/sfq_own.toml`` has it."""
END_OHM = 3.0


def deck_text(
    netlist: Netlist, pulses: Mapping[str, npt.ArrayLike], t_stop: float, step: float = 0.1e-12, more: str = ""
) -> str:
    """The deck. ``pulses``: times (s) of each input net, where the middle of the triangle is. ``more``: extra lines.

    Errors: CellError for pulses that overlap, or of no input.
    """
    netlist.check()
    model, cells = netlists()
    lines = ["* pulse-level netlist", model, *used(cells, {i.cell.name for i in netlist.instances.values()})]
    for net, times in pulses.items():
        if net not in netlist.inputs:
            raise CellError(f"pulses for {net}: no input of the netlist; inputs: {', '.join(netlist.inputs)}")
        name, port = netlist.loads[net][0]
        sign = -1 if port in netlist.instances[name].cell.negative else 1
        lines.append(f"V{net} {net} 0 {_train(net, np.sort(np.asarray(times, np.float64)), sign * PEAK_V)}")
    lines += [f"V{net} {net} 0 0" for net in netlist.inputs if net not in pulses]
    for i in netlist.instances.values():
        pins = cells[i.cell.name].splitlines()[0].split()[2:]
        nodes = [i.nets.get(p, f"{i.name}{p}") for p in pins]
        own = (
            f" {i.cell.membrane.source}={_bias(i.currents['bias'])}" if i.cell.membrane and "bias" in i.currents else ""
        )
        lines.append(f"{i.name} {i.cell.name} {' '.join(nodes)}{own}")
        lines += [f"I{i.name}{p} 0 {i.name}{p} {_bias(i.currents[p])}" for p in i.cell.controls]
    lines += [f"R{net} {net} 0 {END_OHM:g}" for net in netlist.outputs]
    return "\n".join([*lines, more, f".tran {step * 1e12:g}p {t_stop * 1e12:.10g}p", ".end", ""])


def used(cells: Mapping[str, str], names: set[str]) -> list[str]:
    """The netlists of some cells and of all that these are made of, parts first."""
    wanted: dict[str, str] = {}

    def add(name: str) -> None:
        for part in parts(cells[name]):
            add(part)
        wanted.setdefault(name, cells[name])

    for name in sorted(names):
        add(name)
    return list(wanted.values())


def _train(net: str, times: npt.NDArray[np.float64], peak_V: float) -> str:
    if len(times) and (times[0] < RISE_S or (np.diff(times) < 2 * RISE_S).any()):
        raise CellError(f"pulses for {net}: nearer than {2 * RISE_S:g} s to each other or {RISE_S:g} s to 0; move them")
    points = ["0 0"]
    for t in times.tolist():
        for at, v in ((t - RISE_S, 0.0), (t, peak_V), (t + RISE_S, 0.0)):
            points.append(f"{at * 1e12:.10g}p {v * 1e6:.10g}u")
    return f"pwl({' '.join(points if len(points) > 1 else [*points, '1p 0'])})"


def _bias(current_A: float) -> str:
    return f"pwl(0 0 5p {current_A * 1e6:.10g}u)"


@cache
def speaker(cell: str, port: str) -> str:
    """The junction of a library cell that speaks for an output: the first to ground behind it, ``B1|X2``.

    Its slip is the pulse. Inductors lead to it; for a synapse also its resistor. Errors: CellError if none does.
    """
    circuit = cell_circuit(cell)
    for groups in ((circuit.inductors,), (circuit.inductors, circuit.resistors)):
        links = [
            (a, b) for g in groups for n, a, b in zip(g.names, g.a.tolist(), g.b.tolist(), strict=True) if "|" in n
        ]
        found = _first_junction(circuit, circuit.nodes.index(port.upper()), links)
        if found is not None:
            return circuit.junctions.names[found].removesuffix("|X0")
    raise CellError(f"{cell}: no junction to ground behind {port}; a cell's output needs one")


def _first_junction(circuit: Circuit, port: int, links: list[tuple[int, int]]) -> int | None:
    """Breadth first from the port."""
    inductors = circuit.inductors
    ground = {0} | {
        x for a, b in zip(inductors.a.tolist(), inductors.b.tolist(), strict=True) if 0 in (a, b) for x in (a, b)
    }
    seen, queue = {port, 0}, [port]
    while queue:
        node = queue.pop(0)
        for k, (a, b) in enumerate(zip(circuit.junctions.a.tolist(), circuit.junctions.b.tolist(), strict=True)):
            if node in (a, b) and (b if node == a else a) in ground:
                return k
        for a, b in links:
            if node in (a, b):
                other = b if node == a else a
                if other not in seen:
                    seen.add(other)
                    queue.append(other)
    return None
