"""A Network as Brian 2 groups and projections: which there are, their equations, their place in a step.

A group is an Input, a Spiking node, or a node whose value others take (``relay``): pooling, Scale, Delay, Window,
Integrator, a graded output, and a layer with weights that does not lead to neurons alone. Other layers are the weights
of synapses, their biases the constant ``bias`` of the group that they lead to.

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

from export.brian_links import QUEUED, Projection
from export.brian_synapses import Array
from export.network import (
    AvgPool2d,
    Delay,
    DelayedLinear,
    Flatten,
    Input,
    Integrator,
    Lined,
    Network,
    Output,
    Scale,
    Spiking,
    SumPool2d,
    Weighted,
    Window,
)
from export.program import MappingError
from neuro.neuron import Charge, Decay, Law, Leaky, NoLeak, Rate, Tau

KNOWN = (
    Input | Output | Weighted | DelayedLinear | AvgPool2d | SumPool2d | Flatten | Scale | Delay | Window | Spiking
    | Integrator
)  # fmt: skip
MAX_LATE = 256
"""Past values that a group keeps in variables of its own; a choice, not a limit of Brian."""
CHARGE, UPDATE, FIRE, RESET, SEND = range(5)
"""Offsets to ``order`` of what a group does in its turn."""


@dataclass(frozen=True, eq=False)
class Group:
    """One NeuronGroup: ``size`` neurons of node ``name``, in Brian's words.

    ``update`` runs each step; ``events``: name to condition; ``start``: initial ``v``. ``bias`` per neuron or None: the
    sum over ``biases``, layers whose bias it is and how many places in a row share one element.
    ``scale``: that of a Scale node.
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
    scale: Array | None = None
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
        if not isinstance(node, KNOWN):
            raise MappingError(
                f"{name}: {type(node).__name__} has no Brian 2 rule; exchange it for layers and Spiking nodes that have"
            )
    return _Builder(network, ode).model()


def charge_text(charge: Charge, ode: bool) -> tuple[str, str, dict[str, float], bool]:
    """Equations, update, constants and whether the equations are an ODE, of one charge, in its order of operations.

    The ODE's Euler step has the same bits: Brian cancels ``dt``, and a difference is the negative of the reverse.
    """
    constants = {k: float(v) for k, v in charge.__dict__.items() if k != "decay_input"}
    state, update = "v : 1", "h = v + x\nv = h"
    flow, jump = "x / dt", ""
    if isinstance(charge, Decay):
        state, update = "v : 1\nI : 1", "c = I * current + x\nh = v * voltage + c\nI = c\nv = h"
        ode = False
    elif isinstance(charge, Leaky):
        update, ode = "h = v * beta + x\nv = h", False
    elif isinstance(charge, Tau | Rate):
        scale = "/ tau" if isinstance(charge, Tau) else "* rate"
        per_step = "/ (tau * dt)" if isinstance(charge, Tau) else "* rate / dt"
        if charge.decay_input:
            update, flow = f"h = v + (x - (v - rest)) {scale}\nv = h", f"(x - (v - rest)) {per_step}"
        else:
            update, flow = f"h = v - (v - rest) {scale} + x\nv = h", f"(rest - v) {per_step}"
            jump = "v = v + x"
    elif not isinstance(charge, NoLeak):
        raise MappingError(f"charge {charge!r} has no Brian 2 rule; use NoLeak, Tau, Rate, Leaky or Decay")
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
        if isinstance(node, Weighted | DelayedLinear):
            ends = self._ends(name)
            whole = all(isinstance(self.nodes[n], Spiking | Integrator | Output) for n, _ in ends)
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
        if isinstance(node, Weighted | Lined | AvgPool2d | SumPool2d):
            self._add_bias(name, name)
            return [p for src, delay in self._starts(name) for p in self._through(src, name, name, delay)]
        found = []
        for by, delay in self._starts(name):
            if by in self.place:
                found.append(self._projection(by, name, None, delay))
                continue
            self._add_bias(name, by)
            found += [p for src, more in self._starts(by) for p in self._through(src, name, by, delay + more)]
        return found

    def _add_bias(self, name: str, layer: str) -> None:
        node = self.nodes[layer]
        if not isinstance(node, Weighted | DelayedLinear) or node.bias is None:
            return
        each = math.prod(self.shapes[layer]) // len(node.bias)  # a channel's bias is that of all its places
        bias = np.repeat(node.bias.astype(np.float64), each)
        self.biases[name].append((layer, each))
        self.bias[name] = self.bias[name] + bias if name in self.bias else bias

    def _projection(self, src: str, dst: str, by: str | None, steps: int, only: int | None = None) -> Projection:
        delay = steps if self.place[src] < self.place[dst] else steps - 1
        if self._sends_spikes(src):
            return Projection(src, dst, by, "spike", delay, steps, QUEUED)
        if delay > MAX_LATE:
            raise MappingError(
                f"{dst}: takes values of {src} {steps} steps later, which Brian 2 keeps in as many variables, at most "
                f"{MAX_LATE}; shorten the delay, or put it behind a Spiking node"
            )
        self.lines[src].add(delay)
        value, event = (f"late{delay}",) * 2 if delay else ("value", "spike")
        return Projection(src, dst, by, event, 0, steps, f"x_post += w * {value}_pre", only)

    def _through(self, src: str, dst: str, by: str, steps: int) -> list[Projection]:
        """Spikes wait in one queue with a delay for each synapse; values in lines, one projection for each delay."""
        node = self.nodes[by]
        if self._sends_spikes(src) or not isinstance(node, Lined):
            return [self._projection(src, dst, by, steps)]
        waits = np.unique(node.steps if isinstance(node, Delay) else node.delays[node.weight != 0])
        return [self._projection(src, dst, by, steps + int(k), int(k)) for k in waits]

    def _sends_spikes(self, name: str) -> bool:
        """A Spiking node, or a Window on one: values 0 and 1, so that an event says all."""
        if not isinstance(self.nodes[name], Window):
            return isinstance(self.nodes[name], Spiking)
        starts = self._starts(name)
        return len(starts) == 1 and isinstance(self.nodes[starts[0][0]], Spiking)

    def _group(self, name: str) -> Group:
        node = self.nodes[name]
        if isinstance(node, Spiking):
            return self._neurons(name, node.law)
        if self._sends_spikes(name):
            self.lines[name].add(0)
        depth = max(self.lines[name], default=0)
        late = [f"late{k}" for k in range(depth, 0, -1)]
        shift = [f"{a} = {b}" for a, b in pairwise([*late, "value"])]
        variables, take, constants, ode = ["x : 1", "bias : 1"], ["value = x"], {}, False
        if isinstance(node, Input):
            variables, take = [], ["value = stimulus(t, i)"]
        elif isinstance(node, AvgPool2d):
            take, constants = ["value = x / taps"], {"taps": float(math.prod(node.kernel))}
        elif isinstance(node, Window):
            take, constants = ["value = x * int(t_in_timesteps < stop)"], {"stop": float(node.stop)}
        elif isinstance(node, Scale):
            variables, take = [*variables, "scale : 1"], ["value = x * scale"]
        elif isinstance(node, Integrator):
            charge, update, constants, ode = charge_text(node.charge, self.ode)
            variables, take = [charge, *variables], [update, "value = v + offset"]
            constants |= {"offset": float(node.offset)}
        names = ["value", *late[::-1]]
        return Group(
            name,
            math.prod(self.shapes[name]),
            10 * self.place[name],
            "\n".join([*variables, *(f"{n} : 1" for n in names)]),
            "\n".join(filter(None, [*shift, *take, *(["x = bias"] if variables else [])])),
            {f"late{k}" if k else "spike": f"late{k} != 0" if k else "value != 0" for k in sorted(self.lines[name])},
            constants=constants,
            biases=tuple(self.biases[name]),
            bias=self.bias.get(name),
            scale=node.scale.astype(np.float64).ravel() if isinstance(node, Scale) else None,
            start=constants.get("rest", 0.0),
            ode=ode,
            note="input" if isinstance(node, Input) else f"relay: {node.kind}",
        )

    def _neurons(self, name: str, law: Law) -> Group:
        equations, update, constants, ode = charge_text(law.charge, self.ode)
        soft = law.reset == "subtract"
        return Group(
            name,
            math.prod(self.shapes[name]),
            10 * self.place[name],
            f"{equations}\nx : 1\nbias : 1",
            f"{update}\nx = bias".strip(),
            {"spike": f"v {law.fires} threshold"},
            "v -= threshold" if soft else "v = v_reset",
            constants | {"threshold": float(law.threshold)} | ({} if soft else {"v_reset": float(law.v_reset)}),
            tuple(self.biases[name]),
            self.bias.get(name),
            start=float(law.v_reset),
            ode=ode,
            spiking=True,
            note=f"{law.charge}, fires {law.fires}, reset {law.reset}",
        )
