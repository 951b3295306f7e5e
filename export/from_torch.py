"""A torch module as a :class:`Network`: read the module itself, map what is exact, refuse the rest.

Taken: ``nn.Sequential`` and what is built like it (``neuro.modules.Stack``, SpikingJelly's containers),
nested; containers that feed their last output back (``neuro.modules.Recurrent``, SpikingJelly's two); sums of two ways
(``neuro.residual.Sum``) and factors (``Scaled``); other modules
whose ``forward`` ``torch.fx`` can trace into calls of modules, ``flatten`` and ``+``; the layers and neurons of
:data:`export.readers.READERS`; BatchNorm, folded into the layer before it with evaluation statistics; Dropout and
Identity, left out. Types count exactly, for a subclass may have another law; parametrised weights count as they come
out. Surrogate slopes and step modes do not change what is computed and leave no trace.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from export.fold import fold, gain_of, with_gain
from export.kinds import CALLS, CHAINS, FIXES, LOOPS, NOTHING, SUMS, is_layer, kind_of, refusal
from export.network import (
    Conv1d,
    Conv2d,
    DelayedLinear,
    Edge,
    Flatten,
    Input,
    Integrator,
    Linear,
    Loss,
    Network,
    NetworkError,
    Node,
    Output,
    Scale,
    Shape,
    Spiking,
    Weighted,
    Window,
)
from export.program import MappingError
from export.readers import READERS, array, read_adaptive
from export.to_torch import NetworkModule

Value: TypeAlias = tuple[str, ...]
"""Names of the nodes whose sum a value is."""


def from_torch(
    module: nn.Module,
    input_shape: Shape,
    *,
    dt_s: float = 1e-3,
    name: str | None = None,
    horizon: int | None = None,
) -> Network:
    """The network that ``module`` computes in evaluation mode, checked; its nodes are named by module path.

    ``input_shape``: one step of one sample. ``horizon``: steps of a sample, for a module with a ``neuro.delays.Tail``.
    Each tail then becomes a Window that closes where its sequence ends in training, after ``horizon`` steps and those
    of the tails before it: the exact answer of the module, in ``neuro.delays.horizon(module, horizon)`` steps. None
    cuts nothing: what is on its way goes on, the natural thing in a stream.
    What folding and rounding changed is in ``Network.losses``; ``module`` is left as it is. Errors:
    :class:`MappingError` naming the path, the rule and the fix; ``NetworkError`` for weights and shapes.
    """
    if isinstance(module, NetworkModule):
        own = module.shapes[module.network.input]
        if tuple(input_shape) != own:
            raise NetworkError(f"{module.network.name}: takes {own}, got input_shape {tuple(input_shape)}; give that")
        return replace(module.trained(), dt_s=dt_s, name=name or module.network.name)
    if horizon is not None and (isinstance(horizon, bool) or not isinstance(horizon, int) or horizon < 1):
        raise MappingError(f"horizon: must be the whole steps of a sample, 1 or more, or None, got {horizon!r}")
    graph = _Builder(name or type(module).__name__, horizon)
    graph.add("input", Input(tuple(int(n) for n in input_shape)), ())
    graph.add("output", Output(), graph.convert(module, "", ("input",)))
    network = Network(graph.nodes, graph.edges, dt_s, graph.name, tuple(graph.losses))
    network.check()
    return network


@dataclass
class _Builder:
    name: str
    horizon: int | None = None
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    neurons: dict[int, str] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    """Steps that a node's sequence lasts, where there is a horizon."""
    sealed: set[str] = field(default_factory=set)
    """Nodes that more than the next layer adds to later, so that a norm behind them cannot fold."""

    def convert(self, module: nn.Module, path: str, value: Value) -> Value:
        """Append what ``module`` does to ``value``; return the result."""
        label, kind = path or self.name, _kind(module)
        if module._forward_hooks or module._forward_pre_hooks:
            raise MappingError(f"{label}: has forward hooks, and what they do cannot be read; remove them")
        if kind in CHAINS:
            for key, child in module._modules.items():
                if child is not None:
                    value = self.convert(child, f"{path}.{key}" if path else key, value)
            return value
        if kind in LOOPS:
            return self._loop(module, kind, path, value)
        if kind in SUMS:
            return self._sum(module, path, value)
        if kind == "Scaled":
            return self._scaled(module, label, value)
        if kind in NOTHING:
            return value
        if kind == "Tail":
            return self._tail(module, label, value)
        if kind in NORMS:
            return self._norm(module, label, value)
        if kind in READERS:
            return self._leaf(module, label, READERS[kind], value)
        if kind == "AdaptiveAvgPool2d":
            shape = self.shapes[value[0]]
            pool = read_adaptive(module, (shape[1], shape[2])) if len(shape) == 3 else None
            if pool is not None:
                return self.add(label, pool, value)
        if is_layer(_type(module)) or not module._modules:
            raise refusal(_type(module), label, set(READERS) | set(NORMS) | LOOPS)
        return self._trace(module, path, value)

    def add(self, name: str, node: Node, value: Value) -> Value:
        """A node fed by ``value``; its shape is checked here, where the path is known."""
        if name in self.nodes:
            raise MappingError(f"{name}: is used twice; give every use its own module, leave a time loop out")
        shapes = {self.shapes[v] for v in value}
        if len(shapes) > 1 or len(set(value)) < len(value):
            raise MappingError(f"{name}: cannot add {' + '.join(value)} of shapes {sorted(shapes)}; shapes must agree")
        try:
            self.shapes[name] = node.out_shape(next(iter(shapes), ()))
        except ValueError as error:
            raise NetworkError(f"{name}: {error}") from None
        if self.horizon is not None:
            self.ends[name] = max((self.ends[v] for v in value), default=self.horizon)
        self.nodes[name] = node
        self.edges += [Edge(v, name) for v in value]
        return (name,)

    def _leaf(self, module: Any, label: str, read: Callable[[Any], Node], value: Value) -> Value:
        try:
            node = read(module)
        except ValueError as error:
            raise MappingError(f"{label}: {_type(module).__name__} {error}") from None
        if isinstance(node, Spiking | Integrator | DelayedLinear):
            if id(module) in self.neurons:
                raise MappingError(
                    f"{label}: is the same object as {self.neurons[id(module)]}, so both share one state; "
                    "give every use a module of its own"
                )
            self.neurons[id(module)] = label
        if isinstance(node, DelayedLinear) and not module.is_discrete():
            position: Any = module.position.detach()
            size = float((position - position.round()).abs().max())
            what = "learned delays rounded, one tap a synapse; largest change in steps"
            self.losses.append(Loss(label, what, size))
        return self.add(label, node, value)

    def _sum(self, module: Any, path: str, value: Value) -> Value:
        """Both ways; a value is named by all that add up to it."""
        at = f"{path}." if path else ""
        made = self.convert(module.body, f"{at}body", value)
        return made + (value if module.shortcut is None else self.convert(module.shortcut, f"{at}shortcut", value))

    def _scaled(self, module: Any, label: str, value: Value) -> Value:
        factor = module.factor * (1.0 if module.gain is None else float(module.gain.detach()))
        return self.add(label, Scale(np.full(self.shapes[value[0]], factor, np.float32)), value)

    def _norm_sum(self, module: Any, label: str, value: Value) -> Value:
        """BN(a + b) = (g a + shift) + g b: all of it into the first layer, its gain into the others."""
        wanted = NORMS[_kind(module)]
        free = [
            v
            for v in value
            if isinstance(self.nodes[v], wanted) and v not in self.sealed and all(e.src != v for e in self.edges)
        ]
        if not free:
            raise MappingError(
                f"{label}: {type(module).__name__} follows the sum {' + '.join(value)}, and none of these is a "
                f"{' or '.join(w.__name__ for w in wanted)} that nothing else uses, to fold it into; put one there"
            )
        self._norm(module, label, (free[0],))
        return tuple(v if v == free[0] else self._gained(module, label, v, v in free) for v in value)

    def _gained(self, module: Any, label: str, name: str, free: bool) -> str:
        node, gain = self.nodes[name], gain_of(module)
        if free and isinstance(node, Linear | Conv1d | Conv2d | DelayedLinear):
            self.nodes[name] = with_gain(node, gain)
            return name
        shape = self.shapes[name]
        each = gain.reshape(-1, *[1] * (len(shape) - 1)).astype(np.float32)
        between: Node = (
            Conv2d(each[:, None], groups=len(each)) if len(shape) == 3 else Scale(each * np.ones(shape, "f4"))
        )
        return self.add(f"{label}.{name}", between, (name,))[0]

    def _norm(self, module: Any, label: str, value: Value) -> Value:
        if len(value) > 1:
            return self._norm_sum(module, label, value)
        wanted = NORMS[_kind(module)]
        names = " or ".join(w.__name__ for w in wanted if w is not DelayedLinear)
        before = self.nodes[value[0]]
        used = value[0] in self.sealed or any(e.src == value[0] for e in self.edges)
        if used or not isinstance(before, wanted):
            raise MappingError(
                f"{label}: {type(module).__name__} is folded into a {names} right before it whose "
                f"output nothing else uses; before it stands {' + '.join(value)} ({before.kind}); move it"
            )
        into = next(e.src for e in self.edges if e.dst == value[0])
        try:
            self.nodes[value[0]], loss = fold(before, module, self.shapes[into], value[0])
        except ValueError as error:
            raise MappingError(f"{label}: {type(module).__name__} {error}") from None
        self.losses.append(loss)
        return value

    def _tail(self, module: Any, label: str, value: Value) -> Value:
        """The end of the sequence so far; what follows lasts longer."""
        if self.horizon is None:
            return value
        value = self.add(label, Window(max(self.ends[v] for v in value)), value)
        self.ends[label] += int(module.steps)
        return value

    def _loop(self, module: Any, kind: str, path: str, value: Value) -> Value:
        """Children fed by ``value`` and, one step later, by their own output."""
        label = path or self.name
        try:
            inner, back, value = self._ends(module, kind, label, value)
        except ValueError as error:
            raise MappingError(f"{label}: {kind} {error}") from None
        known = len(self.edges)
        self.sealed |= set(value)
        made = self.convert(getattr(module, inner), f"{path}.{inner}" if path else inner, value)
        takers = list(dict.fromkeys(e.dst for e in self.edges[known:] if e.src in value))
        if not takers or set(made) & set(value):
            raise MappingError(f"{label}: {kind} hands its input on as it is; put layers into it, add outside of it")
        again = made if back is None else self.convert(*back, made)
        for name in again:
            if self.shapes[name] != self.shapes[value[0]]:
                shapes = f"{self.shapes[name]} and {self.shapes[value[0]]}"
                raise MappingError(f"{label}: {kind} adds its output to its input, but their shapes are {shapes}")
        if any(has_bias(self.nodes[name]) for name in again):
            raise MappingError(f"{label}: {kind} feeds back through a bias; make that layer with bias=False")
        self.edges += [Edge(name, taker, 1) for taker in takers for name in again]
        return made

    def _ends(
        self, module: Any, kind: str, label: str, value: Value
    ) -> tuple[str, tuple[nn.Module, str] | None, Value]:
        """Name of what runs, what its output passes on the way back, and what enters."""
        if kind == "Recurrent":
            back = module.feedback
            return "layers", None if back is None else (back, f"{label}.feedback"), value
        if kind == "ElementWiseRecurrentContainer":
            if not _adds(module.element_wise_function):
                raise ValueError("joins input and output by something else than +; only the sum is mapped")
            return "sub_module", None, value
        weight = array(module.rc.weight, "weight")
        n = weight.shape[1] - module.sub_module_out_features
        bias = None if module.rc.bias is None else array(module.rc.bias, "bias")
        back = nn.Linear(weight.shape[1] - n, len(weight), bias=False)
        back.weight.data = torch.from_numpy(weight[:, n:].copy())
        return (
            "sub_module",
            (back, f"{label}.rc.back"),
            self.add(f"{label}.rc", Linear(weight[:, :n].copy(), bias), value),
        )

    def _trace(self, module: nn.Module, path: str, start: Value) -> Value:
        label = path or self.name
        graph = _traced(module, label)
        values: dict[fx.Node, Value] = {}
        for n in graph.nodes:
            args = [values[a] for a in n.args if isinstance(a, fx.Node) and a in values]
            if n.op == "placeholder":
                if values:
                    raise MappingError(f"{label}: forward takes several inputs; wrap it so that it takes one")
                values[n] = start
            elif n.op == "output":
                return values[n.args[0]] if isinstance(n.args[0], fx.Node) else _untraceable(label, n)
            elif n.op == "call_module" and len(args) == len(n.args) == 1 and not n.kwargs:
                child = module.get_submodule(str(n.target))
                if _kind(child) in NORMS and len(n.args[0].users) > 1:
                    raise MappingError(f"{label}.{n.target}: cannot be folded, its input is used elsewhere too")
                values[n] = self.convert(child, f"{path}.{n.target}" if path else str(n.target), args[0])
            elif n.target in ADDS and len(args) == len(n.args) == 2 and not n.kwargs:
                values[n] = args[0] + args[1]
            elif n.target in FLATTENS and n.args[1:] in ((1,), (1, -1)) and not n.kwargs:
                values[n] = self.add(f"{path}.{n.name}" if path else n.name, Flatten(), args[0])
            else:
                _untraceable(label, n)
        return start


def _traced(module: nn.Module, label: str) -> fx.Graph:
    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
            return bool(_kind(m)) or is_layer(_type(m)) or not m._modules

    modes = [(m, m.training) for m in module.modules()]
    try:
        module.eval()
        graph = Tracer().trace(module)
    except Exception as error:  # what a forward raises on a symbol is anybody's exception
        raise MappingError(
            f"{label}: forward cannot be traced ({type(error).__name__}: {str(error)[:120]}); "
            f"give from_torch the nn.Sequential inside, the time loop is not part of the network"
        ) from None
    finally:
        for m, mode in modes:
            m.training = mode
    for n in reversed(graph.nodes):
        if not n.users and n.op not in ("placeholder", "output"):
            graph.erase_node(n)  # computed, but leads nowhere
    return graph


def has_bias(node: Node) -> bool:
    """Does it answer to silence?"""
    bias = getattr(node, "bias", None)
    return bias is not None and bool(bias.any())


def _adds(function: Any) -> bool:
    """Is it ``(y, x) -> y + x``?"""
    if function in ADDS:
        return True
    try:
        nodes = list(fx.Tracer().trace(function).nodes)
    except Exception:  # what a function raises on a symbol is anybody's exception
        return False
    ops = [n.op for n in nodes]
    return (
        ops in (["placeholder"] * 2 + [k, "output"] for k in ("call_function", "call_method"))
        and nodes[2].target in ADDS
        and set(nodes[2].args) == set(nodes[:2])
        and not nodes[2].kwargs
        and nodes[3].args[0] is nodes[2]
    )


def _untraceable(label: str, n: fx.Node) -> Value:
    called = CALLS.get(getattr(n.target, "__name__", str(n.target)))
    if called:
        raise MappingError(f"{label}: forward uses '{n.name}', which has no exact counterpart; {FIXES[called]}")
    raise MappingError(
        f"{label}: forward uses '{n.name}' ({n.op} {n.target}); only calls of modules with one input, "
        "flatten(1) and + are mapped; write it as an nn.Sequential, leave time loop and decoding out"
    )


def _type(module: nn.Module) -> type[nn.Module]:
    return parametrize.type_before_parametrizations(module)


def _kind(module: nn.Module) -> str:
    return kind_of(_type(module))


_AXIS: dict[str, tuple[type[Weighted | DelayedLinear], ...]] = {
    "1d": (Linear, Conv1d, DelayedLinear),
    "2d": (Conv2d,),
}
NORMS = {f"{kind}{d}": into for kind in ("BatchNorm", "ChunkNorm", "FrozenNorm") for d, into in _AXIS.items()}
ADDS = {operator.add, operator.iadd, torch.add, "add"}
FLATTENS = {torch.flatten, "flatten"}
