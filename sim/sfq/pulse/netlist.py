"""Cells and the lines between them. A line has one driver and one load; only a soma's input takes several.

net = Netlist(library)
net.add("XS", "SPLIT", a="in", q0="l", q1="r").add("XM", "MERGE", a="l", b="r", q="out")
run(net, {"in": [50e-12, 90e-12]})["out"]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sim.sfq.pulse.cells import CellError, PulseCell


@dataclass(frozen=True)
class Instance:
    """A cell in a netlist: the net of each port, and the current of each control (or ``bias`` of a soma)."""

    name: str
    cell: PulseCell
    nets: Mapping[str, str]
    currents: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Netlist:
    """Instances in the order in which they were added. ``library``: cells by name.

    A net without a driver is an external input, one without a load an output. ``ends``: nets that end in a resistor.
    """

    library: Mapping[str, PulseCell]
    instances: dict[str, Instance] = field(default_factory=dict)
    drivers: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    loads: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    ends: set[str] = field(default_factory=set)

    def add(self, name: str, cell: str, *, bias_A: float | None = None, **ports: str | float) -> Netlist:
        """Add an instance: ``port="net"`` for inputs and outputs, ``port=current`` (A) for controls.

        ``bias_A`` sets a soma's own bias. Returns the netlist. Errors: CellError naming instance, port and fix.
        """
        kind = self.library.get(cell)
        if kind is None:
            raise CellError(f"{name}: no cell {cell}; known: {', '.join(sorted(self.library))}")
        if name in self.instances:
            raise CellError(f"{name}: there already is an instance of that name; rename one")
        wanted = {*kind.inputs, *kind.outputs, *kind.controls}
        if set(ports) != wanted:
            raise CellError(
                f"{name}: ports given {sorted(ports)}, {cell} has {sorted(wanted)}; give one net (a control: one "
                "current in A) a port"
            )
        if bias_A is not None and kind.membrane is None:
            raise CellError(f"{name}: bias_A= is for a soma, and {cell} is none; leave it out")
        nets = {p: n for p, n in ports.items() if isinstance(n, str)}
        currents = {p: float(c) for p, c in ports.items() if not isinstance(c, str)}
        if set(currents) != set(kind.controls):
            raise CellError(f"{name}: {cell} takes a current at {list(kind.controls)}, nets elsewhere; got {ports}")
        if bias_A is not None:
            currents["bias"] = float(bias_A)
        self.instances[name] = Instance(name, kind, nets, currents)
        for port in kind.outputs:
            self.drivers.setdefault(nets[port], []).append((name, port))
        for port in kind.inputs:
            self.loads.setdefault(nets[port], []).append((name, port))
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """Nets that nothing drives, in order: pulses come from outside."""
        return tuple(n for n in self.loads if n not in self.drivers)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Nets that nothing takes, in order."""
        return tuple(n for n in self.drivers if n not in self.loads)

    @property
    def junctions(self) -> int:
        """Of all cells."""
        return sum(i.cell.junctions for i in self.instances.values())

    def check(self) -> None:
        """One driver, one load, one polarity a line. Errors: CellError naming the net, its ends and the fix."""
        if not self.instances:
            raise CellError("the netlist is empty; add a cell")
        for net, ends in self.loads.items():
            if len(ends) > 1:
                raise CellError(f"net {net}: {len(ends)} loads ({_ends(ends)}); a line drives one cell: use SPLIT")
        for net, starts in self.drivers.items():
            self._driven(net, starts, self.loads.get(net, []))

    def _driven(self, net: str, starts: list[tuple[str, str]], ends: list[tuple[str, str]]) -> None:
        into_soma = bool(ends) and self.instances[ends[0][0]].cell.kind == "soma"
        summing = into_soma and not self.instances[ends[0][0]].cell.branches
        if len(starts) > 1 and not summing:
            raise CellError(f"net {net}: {len(starts)} drivers ({_ends(starts)}); join two lines with MERGE")
        for name, port in starts:
            cell = self.instances[name].cell
            if summing and cell.weight == 0.0:
                raise CellError(f"net {net}: {cell.name} {name} drives a soma; only a synapse may: put SYNP between")
            if not summing and cell.weight != 0.0:
                raise CellError(f"net {net}: synapse {name} drives {_ends(ends) or 'nothing'}; its load must be a soma")
            for load, into in ends if not summing else []:
                takes = self.instances[load].cell
                if (port in cell.negative) != (into in takes.negative):
                    sign = "anti-pulses" if port in cell.negative else "pulses"
                    raise CellError(
                        f"net {net}: {name}.{port} sends {sign}, {load}.{into} ({takes.name}) takes the other kind; "
                        "use the cell for that sign (JTLN, SPLITN, SYNM) or an INV between"
                    )


def _ends(ends: list[tuple[str, str]]) -> str:
    return ", ".join(f"{name}.{port}" for name, port in ends[:4]) + (" .." if len(ends) > 4 else "")
