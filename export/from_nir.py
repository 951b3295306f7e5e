"""A NIR graph, or a ``.nir`` file, as a :class:`Network`: every primitive of nir 1.0.8, with the discrete law complete.

NIR holds differential equations. What a step is - ``dt``, the discretisation, whether a spike resets to ``v_reset``
("hard") or subtracts the threshold ("soft"), and whether it fires at ``>=`` or ``>`` - comes from the metadata that
:mod:`export.to_nir` writes, or from the caller; nothing is assumed. The laws: :mod:`export.nir_law`.

    Affine, Linear -> Linear         Conv1d, Conv2d -> the same      SumPool2d, AvgPool2d, Flatten, Scale -> the same
    IF, LIF, CubaLIF -> Spiking      I, LI, CubaLI -> Integrator     Threshold -> Spiking that remembers nothing
    Delay -> Delay, whole steps      NIRGraph -> inlined, its nodes named "graph.node"
    a population of several time constants -> one population each (:mod:`export.nir_split`)

A loop takes one step (:func:`export.nir_graph.closing`). Gains go into the weights before a population, or into a
Scale node named ``<population>.gain`` where there are none of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from export.network import Delay, Edge, Loss, Network, NetworkError, Node, Scale, Shape, Weighted, floats
from export.nir_delays import NOTE, restore
from export.nir_file import Raw, graph_dict, read_nir
from export.nir_graph import breadth_first, closing, cyclic, flatten, ordered
from export.nir_law import FIELDS, SPIKING, Step, Value, read_population, told_law
from export.nir_layers import delay_steps, fold_gain, read_layer
from export.nir_split import split
from export.program import MappingError
from neuro.neuron import Law

ASKED = {
    "dt_s": "seconds that a step stands for (spikingjelly and snnTorch export with 1e-4; sinabs means 1)",
    "discretization": "'euler' (as spikingjelly, snnTorch and Norse) or 'exact' (exponential)",
    "reset": "'hard' (to v_reset) or 'soft' (subtract the threshold)",
    "fires": "'>' (as NIR's equations, snnTorch) or '>=' (as spikingjelly)",
}
CHOICES: dict[str, tuple[str, ...]] = {
    "discretization": ("euler", "exact"),
    "reset": ("hard", "soft"),
    "fires": (">=", ">"),
}
META = {"dt_s": "dt", "discretization": "discretization", "reset": "reset", "fires": "spike_cmp"}
"""Arguments and the metadata keys that hold them."""


def from_nir(
    source: Any,
    *,
    dt_s: float | None = None,
    reset: Literal["hard", "soft"] | None = None,
    fires: Literal[">=", ">"] | None = None,
    discretization: Literal["euler", "exact"] | None = None,
    float32: bool = False,
    name: str | None = None,
) -> Network:
    """``source``: a path, or a ``nir.NIRGraph``. Arguments win over metadata, which is then named in the losses.

    ``float32`` rounds all weights to single precision.
    What the import changed is in ``Network.losses``. Errors: ``PackageError`` for a file that cannot be read;
    :class:`MappingError` for a node or law that is not here, and for what neither file nor caller tells, naming the
    argument; ``NetworkError`` for shapes and values.
    """
    path = isinstance(source, str | Path)
    raw = read_nir(source) if path else graph_dict(source)
    meta = _meta(raw)
    label = name or str(meta.get("name") or (Path(source).stem if path else "nir"))
    told = {"dt_s": dt_s, "reset": reset, "fires": fires, "discretization": discretization}
    with np.errstate(all="ignore"):  # Network.check names what is not finite
        network = _Builder(label, raw, meta, told).build()
    return _single(network) if float32 else network


def _single(network: Network) -> Network:
    """All float arrays as float32, with the largest rounding told."""
    nodes, losses = {}, list(network.losses)
    for name, node in network.nodes.items():
        cast = {f.name: getattr(node, f.name) for f in fields(node)}
        cast = {k: a.astype(np.float32) for k, a in cast.items() if isinstance(a, np.ndarray) and a.dtype == np.float64}
        nodes[name] = replace(node, **cast) if cast else node
        off = max((float(np.abs(getattr(node, k) - a).max()) for k, a in cast.items()), default=0.0)
        if off:
            losses.append(Loss(name, "weights rounded to float32, largest error", off))
    return replace(network, nodes=nodes, losses=tuple(losses))


@dataclass
class _Builder:
    label: str
    raw: Raw
    meta: Mapping[str, Any]
    told: Mapping[str, Any]
    nodes: dict[str, Node] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    gains: dict[str, Value] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)

    def build(self) -> Network:
        flat = flatten(self.raw, self.label)
        self.losses += flat.losses
        self.known = flat.nodes
        self._ask()
        dt = self._dt()
        self._overruled(self.label, self.meta)
        start = self._one("Input")
        self._one("Output")
        early = {n for n, r in self.known.items() if r["type"] == "Delay" and delay_steps(n, r, dt)[0].min() > 0}
        late = set(closing(list(self.known), flat.edges, start, early.__contains__, self._keeps))
        for src, _ in sorted(late):
            self.losses.append(Loss(src, "a loop is closed over one step, NIR gives it no time; steps", 1.0))
        self.known, edges, losses = split(self.known, [Edge(a, b, int((a, b) in late)) for a, b in flat.edges])
        self.losses += losses
        direct = [(e.src, e.dst) for e in edges if not e.delay]
        waits = early & cyclic(direct)
        order = ordered(list(self.known), [e for e in direct if e[1] not in waits])
        edges = self._sorted(edges, order)
        reached = breadth_first([start], [(e.src, e.dst) for e in edges])
        for n in (*reached, *sorted(set(order) - set(reached))):
            into = [self.shapes[e.src] for e in edges if e.dst == n and e.src in self.shapes]
            self._add(n, into[0] if into else None, dt)
        self.nodes = {n: self.nodes[n] for n in order}
        for n, gain in self.gains.items():
            edges = self._fold(n, gain, edges)
        notes = {n: _meta(r)[NOTE] for n, r in self.known.items() if NOTE in _meta(r) and n in self.nodes}
        self.nodes, edges = restore(self.nodes, edges, notes)
        network = Network(self.nodes, self._lines(edges), dt, self.label, ())
        network = replace(self._restored(network), losses=tuple(self.losses))
        network.check()
        return network

    def _ask(self) -> None:
        """What is needed and told nowhere, all at once; values checked."""
        kinds = {r["type"] for r in self.known.values()}
        spiking = [n for n, r in self.known.items() if r["type"] in SPIKING]
        need = ["dt_s"]
        need += ["discretization"] if kinds & {"LIF", "LI", "CubaLIF", "CubaLI"} else []
        need += ["reset"] if kinds & {"IF", "LIF", "CubaLIF"} else []
        need += ["fires"] if spiking else []
        own = {"reset", "fires"}
        missing = [
            k for k in need
            if self._value(k, self.meta) is None
            and not (k in own and all(self._value(k, _meta(self.known[n])) is not None for n in spiking))
        ]  # fmt: skip
        if missing:
            lines = "; ".join(f"{k}=... {ASKED[k]}" for k in missing)
            raise MappingError(
                f"{self.label}: NIR does not say how it steps in time, and no metadata does; give {lines}"
            )

    def _value(self, key: str, meta: Mapping[str, Any]) -> Any:
        value = self.told[key] if self.told[key] is not None else meta.get(META[key])
        if key in CHOICES and value is not None and value not in CHOICES[key]:
            raise MappingError(f"{self.label}: {key} must be {' or '.join(map(repr, CHOICES[key]))}, got {value!r}")
        return value

    def _dt(self) -> float:
        value = self._value("dt_s", self.meta)
        try:
            dt = float(np.asarray(value, np.float64).item())
        except (TypeError, ValueError):
            dt = math.nan
        if not math.isfinite(dt) or dt <= 0:
            raise MappingError(f"{self.label}: dt_s must be positive seconds, got {value!r}")
        return dt

    def _overruled(self, owner: str, meta: Mapping[str, Any]) -> None:
        """Losses for what the caller told otherwise than the metadata of ``owner``."""
        for key, own in META.items():
            there = meta.get(own)
            if self.told[key] is not None and there is not None and not np.all(np.asarray(there) == self.told[key]):
                self.losses.append(Loss(owner, f"{key} {self.told[key]!r} taken instead of the file's {there!r}", 1.0))

    def _one(self, kind: str) -> str:
        found = sorted(n for n, r in self.known.items() if r["type"] == kind)
        if len(found) != 1:
            raise MappingError(
                f"{self.label}: needs exactly one {kind} node, has {len(found)}: {', '.join(found) or 'none'}; "
                f"add nir.{kind} in the exporter, or concatenate them"
            )
        return found[0]

    def _keeps(self, name: str) -> bool:
        return self.known[name]["type"] in FIELDS

    def _sorted(self, edges: list[Edge], order: list[str]) -> list[Edge]:
        """Edges as the file has them where spikeport wrote it; else an order that does not depend on the file."""
        if "order" in self.meta:
            return edges
        place = {n: k for k, n in enumerate(order)}
        return sorted(edges, key=lambda e: (place[e.dst], place[e.src]))

    def _add(self, name: str, shape: Shape | None, dt: float) -> None:
        raw = self.known[name]
        kind = raw["type"]
        try:
            if kind in FIELDS:
                node = self._population(name, raw, self._fed(name, shape), dt)
            elif kind == "Delay":
                steps, off = delay_steps(name, raw, dt)
                if off:
                    self.losses.append(Loss(name, "delays rounded to whole steps, largest error in seconds", off))
                node = Delay(np.broadcast_to(steps, shape).copy() if shape is not None and steps.size == 1 else steps)
            else:
                node, notes = read_layer(name, raw, shape)
                self.losses += [Loss(name, what, size) for what, size in notes]
            node.check()
            self.shapes[name] = node.out_shape(self._fed(name, shape) if kind != "Input" else ())
        except (MappingError, NetworkError):
            raise
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise NetworkError(f"{name}: {kind} {error}") from None
        self.nodes[name] = node
        self._fits(name, raw)

    def _fed(self, name: str, shape: Shape | None) -> Shape:
        if shape is None:
            raise NetworkError(f"{name}: nothing leads to it; connect it to the Input, or leave it out")
        return shape

    def _population(self, name: str, raw: Raw, shape: Shape, dt: float) -> Node:
        meta = _meta(raw)
        own = {k: self._value(k, meta) or self._value(k, self.meta) for k in ("discretization", "reset", "fires")}
        step = Step(dt, own["discretization"] or "euler", own["reset"] or "hard", own["fires"] or ">")
        self._overruled(name, {k: v for k, v in meta.items() if k not in self.meta})  # once where all agree
        read = told_law(read_population(name, raw, shape, step), _law(name, meta))
        if not isinstance(read.gain, float) or read.gain != 1.0:
            self.gains[name] = read.gain
        self.losses += [Loss(name, what, size) for what, size in read.notes]
        return read.node

    def _fits(self, name: str, raw: Raw) -> None:
        """An Output that states another shape: leading axes of 1 are let through."""
        stated = raw.get("shape")
        if raw["type"] != "Output" or stated is None:
            return
        said, own = tuple(int(n) for n in np.atleast_1d(stated)), self.shapes[name]
        if said == own:
            return
        if math.prod(said) != math.prod(own):
            raise NetworkError(f"{name}: states shape {said}, what leads to it has {own}; correct one of them")
        self.losses.append(Loss(name, f"states shape {said}, what leads to it has {own}, which is taken", 0.0))

    def _fold(self, name: str, gain: Value, edges: list[Edge]) -> list[Edge]:
        """The gain into the weights before ``name``, or into a Scale node."""
        before = {e.src for e in edges if e.dst == name}
        own = all(
            isinstance(self.nodes[n], Weighted) and {e.dst for e in edges if e.src == n} == {name} for n in before
        )
        folded = {n: fold_gain(self.nodes[n], gain) for n in before} if own else {}
        g = np.asarray(gain)
        where = f"{g.min():.6g}" if g.min() == g.max() else f"{g.min():.6g} to {g.max():.6g}"
        if folded and all(x is not None for x in folded.values()):
            self.nodes |= {n: x for n, x in folded.items() if x is not None}
            what = f"its input gain {where} multiplied into the weights of {', '.join(sorted(before))}, rounded once"
            self.losses.append(Loss(name, what, float(np.finfo(floats(self.nodes[min(before)])[0].dtype).eps) / 2))
            return edges
        types = [a.dtype for n in self.nodes.values() for a in floats(n)]
        scale = np.broadcast_to(g, self.shapes[name]).astype(np.result_type(*types) if types else np.float64)
        self.nodes[f"{name}.gain"] = Scale(scale)
        self.losses.append(Loss(name, f"its input gain {where} became the node {name}.gain; nothing lost", 0.0))
        return [replace(e, dst=f"{name}.gain") if e.dst == name else e for e in edges] + [Edge(f"{name}.gain", name)]

    def _lines(self, edges: list[Edge]) -> list[Edge]:
        """Delay nodes that spikeport wrote for the delay of an edge become one again."""
        for name, raw in self.known.items():
            node = self.nodes.get(name)
            into, out = [e for e in edges if e.dst == name], [e for e in edges if e.src == name]
            if not isinstance(node, Delay) or "edge" not in _meta(raw) or len(into) != 1 or len(out) != 1:
                continue
            steps = int(node.steps.flat[0])
            if (node.steps != steps).any() or into[0].delay or out[0].delay:
                continue
            made = Edge(into[0].src, out[0].dst, steps)
            edges = [made if e is into[0] else e for e in edges if e is not out[0]]
            del self.nodes[name]
        return edges

    def _restored(self, network: Network) -> Network:
        """Nodes in the order that spikeport wrote down, where it still names them all."""
        try:
            order = json.loads(str(self.meta.get("order", "null")))
        except json.JSONDecodeError:
            return network
        if not isinstance(order, list) or sorted(map(str, order)) != sorted(network.nodes):
            return network
        return replace(network, nodes={n: network.nodes[n] for n in order})


def _meta(raw: Raw) -> Mapping[str, Any]:
    meta = raw.get("metadata")
    return meta if isinstance(meta, dict) else {}


def _law(name: str, meta: Mapping[str, Any]) -> Any:
    """The law that spikeport wrote beside the parameters, or None."""
    if "law" not in meta:
        return None
    try:
        data = json.loads(str(meta["law"]))
        return Law.from_dict(data) if "threshold" in data else Law.from_dict(data).charge
    except (ValueError, TypeError, AttributeError) as error:
        raise NetworkError(f"{name}: metadata 'law' cannot be read ({error}); delete it or export again") from None
