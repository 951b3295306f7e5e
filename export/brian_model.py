"""A Network as Brian 2 groups and projections: which there are, their equations, their place in a step.

A group is an Input, a Spiking node, or a node without state whose value others take (``relay``): average pooling, a
Linear or Conv2d that does not lead to spiking nodes alone, a graded output. Other Linear and Conv2d nodes are the
weights of synapses, their biases the constant ``bias`` of the group that they lead to.

One step of the network is one ``dt`` of Brian. All of it happens in the slot ``groups``; ``order`` puts group k, as
:meth:`Network.order` counts, at ``10 k``:

    10 k, 10 k + 1   charge: Euler step of the ODE, then ``run_regularly``, which takes ``x`` and sets it to ``bias``
    10 k + 2         threshold, or ``value != 0`` of an input or relay
    10 k + 3         reset
    10 k + 4         synapses that start here: ``x_post += w`` or ``x_post += w * value_pre``

So a spike reaches the groups behind it in its own step. A projection that leads back to a group that has had its
turn delivers to the next one: its delay in Brian is one step less than in the network.

A spike waits in Brian's queue. A value cannot (the synapse would read it on arrival), so a group whose value is
asked for later keeps its last values, ``late1``, ``late2``, and has an event for each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from export.brian_links import Projection
from export.brian_synapses import Array
from export.network import AvgPool2d, Conv2d, Flatten, Input, Linear, Network, Output, Spiking
from export.program import MappingError
from neuro.neuron import Decay, Law, NoLeak, Rate, Tau

CHARGE, UPDATE, FIRE, RESET, SEND = range(5)
"""Offsets to ``order`` of what a group does in its turn."""


@dataclass(frozen=True, eq=False)
class Group:
    """One NeuronGroup: ``size`` neurons of node ``name``, in Brian's words.

    ``update`` runs each step; ``events``: name to condition; ``start``: initial ``v``. ``bias`` per neuron or None: the
    sum over ``biases``, layers whose bias it is and how many places in a row share one element.
    """

    name: str
    size: int
    order: int
    equations: str
    update: str
    events: dict[str, str] = field(default_factory=dict)
    reset: str = ""
    constants: dict[str, float] = field(default_factory=dict)
    biases: tuple[tuple[str, int], ...] = ()
    bias: Array | None = None
    start: float = 0.0
    ode: bool = False
    spiking: bool = False
    note: str = ""


@dataclass(frozen=True, eq=False)
class Model:
    """Groups in execution order, projections in order of delivery; ``graded``: is the output a relay?"""

    groups: dict[str, Group]
    projections: list[Projection]
    output: str
    graded: bool


def model(network: Network, ode: bool = False) -> Model:
    """Errors: ``NetworkError``; :class:`MappingError` for a node that there is no rule for."""
    network.check()
    for name, node in network:
        if not isinstance(node, Input | Output | Linear | Conv2d | AvgPool2d | Flatten | Spiking):
            raise MappingError(
                f"{name}: {type(node).__name__} has no Brian 2 rule; exchange it for Linear, Conv2d, AvgPool2d, "
                "Flatten or Spiking nodes before the export"
            )
    return _Builder(network, ode).model()


def law_text(law: Law, ode: bool) -> tuple[str, str, dict[str, float], bool]:
    """Equations, update, constants and whether the equations are an ODE, of one :class:`Law`, its order of operations.

    The ODE's Euler step has the same bits: Brian cancels ``dt``, and a difference is the negative of the reverse.
    """
    charge = law.charge
    constants = {k: float(v) for k, v in charge.__dict__.items() if k != "decay_input"}
    state, update = "v : 1", "h = v + x\nv = h"
    flow, jump = "x / dt", ""
    if isinstance(charge, Decay):
        state, update = "v : 1\nI : 1", "c = I * current + x\nh = v * voltage + c\nI = c\nv = h"
        ode = False
    elif isinstance(charge, Tau | Rate):
        scale = "/ tau" if isinstance(charge, Tau) else "* rate"
        per_step = "/ (tau * dt)" if isinstance(charge, Tau) else "* rate / dt"
        if charge.decay_input:
            update, flow = f"h = v + (x - (v - rest)) {scale}\nv = h", f"(x - (v - rest)) {per_step}"
        else:
            update, flow = f"h = v - (v - rest) {scale} + x\nv = h", f"(rest - v) {per_step}"
            jump = "v = v + x"
    elif not isinstance(charge, NoLeak):
        raise MappingError(f"charge {charge!r} has no Brian 2 rule; use NoLeak, Tau, Rate or Decay")
    return (f"dv/dt = {flow} : 1", jump, constants, True) if ode else (state, update, constants, False)


class _Builder:
    """Walks a network backwards from each group to the groups that feed it."""

    def __init__(self, network: Network, ode: bool) -> None:
        self.network, self.ode = network, ode
        self.shapes = network.shapes()
        self.nodes = network.nodes
        source = self._direct(network.output)
        self.graded = source is None
        self.output = source or network.output
        self.units = [n for n in network.order() if self._is_unit(n)]
        self.place = {n: k for k, n in enumerate(self.units)}
        self.lines: dict[str, set[int]] = {n: set() for n in self.units}
        self.bias: dict[str, Array] = {}
        self.biases: dict[str, list[tuple[str, int]]] = {n: [] for n in self.units}

    def model(self) -> Model:
        projections = [p for n in self.units for p in self._into(n)]
        projections.sort(key=lambda p: self.place[p.src])
        groups = {n: self._group(n) for n in self.units}
        return Model(groups, projections, self.output, self.graded)

    def _direct(self, output: str) -> str | None:
        """The spiking node whose spikes are the output, or None."""
        name = output
        while True:
            edges = self.network.sources(name)
            if len(edges) != 1 or edges[0].delay:
                return None
            name = edges[0].src
            if not isinstance(self.nodes[name], Flatten):
                return name if isinstance(self.nodes[name], Spiking) else None

    def _is_unit(self, name: str) -> bool:
        node = self.nodes[name]
        if isinstance(node, Output):
            return self.graded
        if isinstance(node, Linear | Conv2d):
            ends = self._ends(name)
            whole = all(isinstance(self.nodes[n], Spiking | Output) for n, _ in ends)
            return not whole or (node.bias is not None and any(delay for _, delay in ends))
        return not isinstance(node, Flatten)

    def _ends(self, name: str) -> list[tuple[str, int]]:
        """What ``name`` leads to, Flatten passed: node and delay on the way."""
        found = []
        for e in self.network.targets(name):
            if isinstance(self.nodes[e.dst], Flatten):
                found += [(n, d + e.delay) for n, d in self._ends(e.dst)]
            else:
                found.append((e.dst, e.delay))
        return found

    def _starts(self, name: str) -> list[tuple[str, int]]:
        """What leads to ``name``, Flatten passed: node and delay on the way."""
        found = []
        for e in self.network.sources(name):
            if isinstance(self.nodes[e.src], Flatten):
                found += [(n, d + e.delay) for n, d in self._starts(e.src)]
            else:
                found.append((e.src, e.delay))
        return found

    def _into(self, name: str) -> list[Projection]:
        node = self.nodes[name]
        if isinstance(node, Input):
            return []
        if isinstance(node, Linear | Conv2d | AvgPool2d):
            self._add_bias(name, name)
            return [self._projection(src, name, name, delay) for src, delay in self._starts(name)]
        found = []
        for by, delay in self._starts(name):
            if by in self.place:
                found.append(self._projection(by, name, None, delay))
                continue
            self._add_bias(name, by)
            found += [self._projection(src, name, by, delay + more) for src, more in self._starts(by)]
        return found

    def _add_bias(self, name: str, layer: str) -> None:
        node = self.nodes[layer]
        if not isinstance(node, Linear | Conv2d) or node.bias is None:
            return
        each = math.prod(self.shapes[layer]) // len(node.bias)  # a channel's bias is that of all its places
        bias = np.repeat(node.bias.astype(np.float64), each)
        self.biases[name].append((layer, each))
        self.bias[name] = self.bias[name] + bias if name in self.bias else bias

    def _projection(self, src: str, dst: str, by: str | None, steps: int) -> Projection:
        delay = steps if self.place[src] < self.place[dst] else steps - 1
        if isinstance(self.nodes[src], Spiking):
            return Projection(src, dst, by, "spike", delay, steps, "x_post += w")
        self.lines[src].add(delay)
        value = f"late{delay}" if delay else "value"
        event = f"late{delay}" if delay else "spike"
        return Projection(src, dst, by, event, 0, steps, f"x_post += w * {value}_pre")

    def _group(self, name: str) -> Group:
        node, size, order = self.nodes[name], math.prod(self.shapes[name]), 10 * self.place[name]
        if isinstance(node, Spiking):
            return self._neurons(name, node.law, size, order)
        depth = max(self.lines[name], default=0)
        late = [f"late{k}" for k in range(depth, 0, -1)]
        shift = [f"{a} = {b}" for a, b in pairwise([*late, "value"])]
        take, constants = "value = x", {}
        if isinstance(node, AvgPool2d):
            take, constants = "value = x / taps", {"taps": float(math.prod(node.kernel))}
        names = ["value", *late[::-1]]
        if isinstance(node, Input):
            take = "value = stimulus(t, i)"
        else:
            names, take = [*names, "x", "bias"], f"{take}\nx = bias"
        used = sorted(self.lines[name])
        return Group(
            name,
            size,
            order,
            "\n".join(f"{n} : 1" for n in names),
            "\n".join([*shift, take]),
            {f"late{k}" if k else "spike": f"late{k} != 0" if k else "value != 0" for k in used},
            constants=constants,
            biases=tuple(self.biases[name]),
            bias=self.bias.get(name),
            note="input" if isinstance(node, Input) else f"relay: {node.kind}",
        )

    def _neurons(self, name: str, law: Law, size: int, order: int) -> Group:
        equations, update, constants, ode = law_text(law, self.ode)
        soft = law.reset == "subtract"
        return Group(
            name,
            size,
            order,
            f"{equations}\nx : 1\nbias : 1",
            f"{update}\nx = bias".strip(),
            {"spike": f"v {law.fires} threshold"},
            "v -= threshold" if soft else "v = v_reset",
            constants | {"threshold": float(law.threshold)} | ({} if soft else {"v_reset": float(law.v_reset)}),
            tuple(self.biases[name]),
            self.bias.get(name),
            float(law.v_reset),
            ode,
            True,
            f"{law.charge}, fires {law.fires}, reset {law.reset}",
        )
