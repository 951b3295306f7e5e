"""Traces from recorded columns: phases, voltages and currents of nodes and elements, as JoSIM prints them.

An engine records only node phases, junction currents and source currents; all else follows from them:

    V = (3 sigma/2h)(f - 4/3 f1 + 1/3 f2),   I_R = V/R,   I_L = sigma inv(Lmat) f,   I_C = C sigma D(D f)

JoSIM prints V of everything but junctions with the past before t = 0 replaced by f(0), so that V(0) = 0 and V(h) counts
1.5 times a constant voltage; traces follow it, the solution does not. Source: JoSIM Output.cpp.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sim.sfq.border import Border
from sim.sfq.circuit import Branches, Circuit, Floats, Ints, Junctions, Sources
from sim.sfq.constants import SIGMA_VS
from sim.sfq.errors import DeckError
from sim.sfq.layout import Layout
from sim.sfq.requests import Request
from sim.sfq.shapes import Shape
from sim.sfq.state import Watch
from sim.sfq.system import coupled_groups, inverse_inductance

HISTORY = 4
"""Steps before a chunk that a capacitor's current needs."""


@dataclass(frozen=True)
class Chunk:
    """Recorded columns of steps ``first`` on, with HISTORY rows before them, at step ``h`` (s)."""

    rows: Floats
    first: int
    h: float
    stop_s: float

    def lag(self, values: Floats, steps: int, josim_start: bool = False) -> Floats:
        """``values`` (one a row) ``steps`` earlier, without the history rows."""
        out = values[HISTORY - steps : len(values) - steps].copy()
        if josim_start and self.first == 0:
            out[:steps] = values[HISTORY]
        return out


@dataclass(frozen=True)
class Probe:
    """A trace: ``sum weight * column``, then 0, 1 or 2 BDF2 derivatives; or a junction's or source's current.

    ``kind``: phase (no derivative), rate (one), curvature (two), plain (a recorded current), wave (a source's shape).
    """

    label: str
    kind: str
    columns: Ints
    weights: Floats
    josim_start: bool = False
    shape: Shape | None = None

    def values(self, chunk: Chunk) -> Floats:
        """The trace over the steps of the chunk."""
        if self.shape is not None:
            t = chunk.h * np.arange(chunk.first, chunk.first + len(chunk.rows) - HISTORY, dtype=np.float64)
            return self.shape.sample(t, chunk.h, chunk.stop_s)
        x = chunk.rows[:, self.columns] @ self.weights
        if self.kind == "rate":
            lag1, lag2 = (chunk.lag(x, k, self.josim_start) for k in (1, 2))
            return (1.5 / chunk.h) * (x[HISTORY:] - (4.0 / 3.0) * lag1 + (1.0 / 3.0) * lag2)
        if self.kind == "curvature":
            lags = [chunk.lag(x, k) for k in range(HISTORY + 1)]
            return (9 * lags[0] - 24 * lags[1] + 22 * lags[2] - 8 * lags[3] + lags[4]) / (4.0 * chunk.h**2)
        return x[HISTORY:]


@dataclass
class Resolver:
    """Requests to probes, collecting which places an engine must record. Columns: nodes, junctions, sources."""

    circuit: Circuit
    layout: Layout
    border: Border
    nodes: dict[int, int] = field(default_factory=dict)
    jj: dict[int, int] = field(default_factory=dict)
    edges: dict[int, int] = field(default_factory=dict)
    drafts: list[tuple[str, str, list[int], list[float], Shape | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        c = self.circuit
        self.node_of = {name: i for i, name in enumerate(c.nodes)} | {"GND": 0}
        self.place = {name: (a, b) for name, a, b in c.branches()}
        kinds: dict[str, Branches | Junctions | Sources] = {
            "R": c.resistors, "L": c.inductors, "C": c.capacitors, "B": c.junctions,
            "I": c.currents, "V": c.voltages, "P": c.phases,
        }  # fmt: skip
        self.kind_of = {name: (kind, i) for kind, group in kinds.items() for i, name in enumerate(group.names)}
        for k, name in enumerate(c.lines.names):
            self.place[name] = (int(c.lines.a[k]), int(c.lines.b[k]))
            self.kind_of[name] = ("T", k)
        for k, name in enumerate(c.controlled.names):
            self.place[name] = (int(c.controlled.a[k]), int(c.controlled.b[k]))
            self.kind_of[name] = ("X", k)
        self.groups = {int(i): g for g in coupled_groups(c) for i in g}

    def add(self, request: Request) -> None:
        """Resolve one request. Raises DeckError for a name that is neither an element nor a node."""
        q, name = request.quantity, request.first
        if name in self.kind_of and not request.second:
            if q == "I":
                self.current(request)
            else:
                a, b = self.place[name]
                self.phases(request, q, [a, b], [1.0, -1.0], not name.startswith("B"))
            return
        for node in filter(None, (name, request.second)):
            if node not in self.node_of or q == "I":
                raise DeckError(
                    request.where, request.label, f"no {'element' if q == 'I' else 'element or node'} {node}",
                    "names grow outwards: B1.X1.XA1 is B1 of X1 of XA1",
                )  # fmt: skip
        ends = [self.node_of[n] for n in (name, request.second) if n]
        self.phases(request, q, ends, [1.0, -1.0][: len(ends)], True)

    def phases(self, request: Request, quantity: str, ends: list[int], weights: list[float], josim: bool) -> None:
        """A phase, or a voltage as its derivative."""
        scale = SIGMA_VS if quantity == "V" else 1.0
        kind = "phase" if quantity == "P" else "rate_josim" if josim else "rate"
        self.draft(request, kind, [self.column(v) for v in ends], [w * scale for w in weights])

    def current(self, request: Request) -> None:
        """The current from an element's first node to its second."""
        kind, at = self.kind_of[request.first]
        c = self.circuit
        if kind == "B":
            self.draft(request, "jj", [self.jj.setdefault(at, len(self.jj))], [1.0])
        elif kind == "I":
            self.draft(request, "wave", [], [], c.currents.shapes[at])
        elif kind in "VP":
            k = next(k for k, e in enumerate(self.layout.edges) if e.index == at and e.phase == (kind == "P"))
            sign = -float(self.layout.edges[k].sign)
            self.draft(request, "edge", [self.edges.setdefault(k, len(self.edges))], [sign])
        elif kind == "L":
            self.inductor(request, at)
        elif kind == "T":
            self.draft(request, "port", [2 * at], [1.0])
        elif kind == "X":
            unknown, _, _, pin = self.border.output[at]
            ends = [int(c.controlled.a[at]), int(c.controlled.b[at])] if pin else []
            self.draft(
                request, "border", [int(unknown), *(self.column(v) for v in ends)], [1.0, pin, -pin][: 1 + len(ends)]
            )
        else:
            group = c.resistors if kind == "R" else c.capacitors
            value = float(group.value[at])
            g = SIGMA_VS / value if kind == "R" else SIGMA_VS * value
            ends = [self.column(int(group.a[at])), self.column(int(group.b[at]))]
            self.draft(request, "rate" if kind == "R" else "curvature", ends, [g, -g])

    def inductor(self, request: Request, at: int) -> None:
        """``sigma inv(Lmat) f``, over all inductors of a coupled group."""
        c = self.circuit.inductors
        group = self.groups.get(at, np.array([at]))
        inverse = inverse_inductance(self.circuit, group)[0, int(np.flatnonzero(group == at)[0])]
        ends = [self.column(int(v)) for i in group for v in (c.a[i], c.b[i])]
        self.draft(request, "phase", ends, [w for g in inverse for w in (SIGMA_VS * float(g), -SIGMA_VS * float(g))])

    def column(self, node: int) -> int:
        """The column that records a node."""
        return self.nodes.setdefault(int(self.layout.state[node]), len(self.nodes))

    def draft(
        self, request: Request, kind: str, columns: list[int], weights: list[float], shape: Shape | None = None
    ) -> None:
        """Keep what a probe needs until the number of columns is known."""
        self.drafts.append((kind, request.label, columns, weights, shape))

    def watch(self) -> Watch:
        """What the engine must record."""
        unknowns = len(self.border.d)
        nodes, jj, edges = (np.array(list(d), dtype=np.int64) for d in (self.nodes, self.jj, self.edges))
        return Watch(nodes, jj, edges, unknowns + 2 * len(self.circuit.lines))

    def probes(self) -> list[Probe]:
        """The probes, in the order of the requests."""
        edges = len(self.nodes) + len(self.jj)
        first = {"jj": len(self.nodes), "edge": edges, "border": edges + len(self.edges)}
        first["port"] = first["border"] + len(self.border.d)
        out = []
        for kind, label, columns, weights, shape in self.drafts:
            at = np.array(columns, dtype=np.int64)
            at[: 1 if kind == "border" else None] += first.get(kind, 0)
            josim = kind == "rate_josim"
            out.append(Probe(label, "rate" if josim else kind, at, np.array(weights), josim, shape))
        return out
