"""A torch module as a :class:`Network`: read the module itself, map what is exact, refuse the rest.

Taken: ``nn.Sequential`` and what is built like it (``neuro.modules.Stack``, SpikingJelly's containers),
nested; other modules whose ``forward`` ``torch.fx`` can trace into calls of modules, ``flatten`` and ``+``;
the layers of :data:`READERS`; BatchNorm, folded into the layer before it with evaluation statistics; Dropout
and Identity, left out. Types count exactly, for a subclass may have another law. Surrogate slopes and step
modes do not change what is computed and leave no trace.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import fx, nn

from export.fold import fold
from export.kinds import CHAINS, NOTHING, is_layer, kind_of, refusal
from export.network import (
    AvgPool2d,
    Conv2d,
    Edge,
    Flatten,
    Float,
    Input,
    Linear,
    Loss,
    Network,
    NetworkError,
    Node,
    Output,
    Pair,
    Shape,
    Spiking,
)
from export.program import MappingError
from neuro.neuron import Charge, Decay, Law, NoLeak, Rate, Tau

Value: TypeAlias = tuple[str, ...]
"""Names of the nodes whose sum a value is."""


def from_torch(module: nn.Module, input_shape: Shape, *, dt_s: float = 1e-3, name: str | None = None) -> Network:
    """The network that ``module`` computes in evaluation mode, checked; its nodes are named by module path.

    ``input_shape``: one step of one sample. What folding changed is in ``Network.losses``; ``module`` is left
    as it is. Errors: :class:`MappingError` naming the path, the rule and the fix; ``NetworkError`` for
    weights and shapes.
    """
    graph = _Builder(name or type(module).__name__)
    graph.add("input", Input(tuple(int(n) for n in input_shape)), ())
    graph.add("output", Output(), graph.convert(module, "", ("input",)))
    network = Network(graph.nodes, graph.edges, dt_s, graph.name, tuple(graph.losses))
    network.check()
    return network


@dataclass
class _Builder:
    name: str
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    neurons: dict[int, str] = field(default_factory=dict)

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
        if kind in NOTHING:
            return value
        if kind in NORMS:
            return self._norm(module, label, value)
        if kind in READERS:
            return self._leaf(module, label, READERS[kind], value)
        if is_layer(type(module)) or not module._modules:
            raise refusal(type(module), label, set(READERS) | set(NORMS))
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
        self.nodes[name] = node
        self.edges += [Edge(v, name) for v in value]
        return (name,)

    def _leaf(self, module: nn.Module, label: str, read: Callable[[Any], Node], value: Value) -> Value:
        try:
            node = read(module)
        except ValueError as error:
            raise MappingError(f"{label}: {type(module).__name__} {error}") from None
        if isinstance(node, Spiking):
            if id(module) in self.neurons:
                raise MappingError(
                    f"{label}: is the same object as {self.neurons[id(module)]}, so both share one state; "
                    "give every use a module of its own"
                )
            self.neurons[id(module)] = label
        return self.add(label, node, value)

    def _norm(self, module: Any, label: str, value: Value) -> Value:
        wanted = NORMS[_kind(module)]
        before = self.nodes[value[0]]
        used = any(e.src == value[0] for e in self.edges)
        if len(value) > 1 or used or not isinstance(before, Linear | Conv2d) or before.kind != wanted.kind:
            raise MappingError(
                f"{label}: {type(module).__name__} is folded into a {wanted.__name__} right before it whose "
                f"output nothing else uses; before it stands {' + '.join(value)} ({before.kind}); move it"
            )
        into = next(e.src for e in self.edges if e.dst == value[0])
        try:
            self.nodes[value[0]], loss = fold(before, module, self.shapes[into], value[0])
        except ValueError as error:
            raise MappingError(f"{label}: {type(module).__name__} {error}") from None
        self.losses.append(loss)
        return value

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
            return bool(_kind(m)) or is_layer(type(m)) or not m._modules

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


def _untraceable(label: str, n: fx.Node) -> Value:
    raise MappingError(
        f"{label}: forward uses '{n.name}' ({n.op} {n.target}); only calls of modules with one input, "
        "flatten(1) and + are mapped; write it as an nn.Sequential, leave time loop and decoding out"
    )


def _kind(module: nn.Module) -> str:
    return kind_of(type(module))


def _read_linear(m: Any) -> Linear:
    return Linear(_array(m.weight, "weight"), None if m.bias is None else _array(m.bias, "bias"))


def _read_conv2d(m: Any) -> Conv2d:
    if m.padding_mode != "zeros":
        raise ValueError(f"has padding_mode {m.padding_mode!r}; only 'zeros' is mapped, train with that")
    padding = (0, 0) if m.padding == "valid" else m.padding
    if padding == "same":
        full = [d * (k - 1) for d, k in zip(m.dilation, m.kernel_size, strict=True)]
        if any(p % 2 for p in full):
            raise ValueError(f"has padding 'same' with kernel {m.kernel_size}, which is uneven; give numbers")
        padding = tuple(p // 2 for p in full)
    bias = None if m.bias is None else _array(m.bias, "bias")
    return Conv2d(_array(m.weight, "weight"), bias, _pair(m.stride), _pair(padding), _pair(m.dilation), m.groups)


def _read_avgpool2d(m: Any) -> AvgPool2d:
    padding = _pair(m.padding)
    if m.ceil_mode or m.divisor_override is not None or (padding != (0, 0) and not m.count_include_pad):
        raise ValueError("needs ceil_mode=False, count_include_pad=True and no divisor_override; set them")
    return AvgPool2d(_pair(m.kernel_size), _pair(m.stride), padding)


def _read_flatten(m: Any) -> Flatten:
    if (m.start_dim, m.end_dim) != (1, -1):
        raise ValueError(f"flattens axes {m.start_dim} to {m.end_dim}; only 1 to -1 is mapped, all but the batch")
    return Flatten()


def _read_node(m: Any, charge: Charge) -> Spiking:
    """The law of a SpikingJelly node: its fields, and the comparison that its surrogate really makes."""
    over = torch.tensor([-1.0, -1e-6, 0.0, 1e-6, 1.0])
    with torch.no_grad():
        fired = [float(s) for s in m.surrogate_function(over)]
    if fired not in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1]):
        raise ValueError(f"has a surrogate whose forward is no step, {fired}; make it with spiking=True")
    if getattr(m, "_neuron_precision", None) is not None:
        raise ValueError("computes in reduced precision; use full precision, or quantise in the export")
    hard = m.v_reset is not None
    return Spiking(
        Law(
            charge,
            threshold=float(m.v_threshold),
            reset="zero" if hard else "subtract",
            v_reset=float(m.v_reset) if hard else 0.0,
            fires=">=" if fired[2] else ">",
        )
    )


def _rest(m: Any) -> float:
    return 0.0 if m.v_reset is None else float(m.v_reset)


def _plif_rate(m: Any) -> float:
    if m.w.numel() != 1:
        raise ValueError(f"has {m.w.numel()} time constants; one for the layer is mapped")
    return float(m.w.detach().float().sigmoid())


def _array(t: torch.Tensor, what: str) -> Float:
    if t.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"has a {what} of {t.dtype}; call .float() on the model first")
    return t.detach().cpu().numpy().copy()


def _pair(value: Any) -> Pair:
    a, b = (value, value) if isinstance(value, int) else value
    return int(a), int(b)


READERS: dict[str, Callable[[Any], Node]] = {
    "Linear": _read_linear,
    "Conv2d": _read_conv2d,
    "AvgPool2d": _read_avgpool2d,
    "Flatten": _read_flatten,
    "Spiking": lambda m: Spiking(m.law),
    "ParametricSpiking": lambda m: Spiking(m.law),
    "IFNode": lambda m: _read_node(m, NoLeak()),
    "LIFNode": lambda m: _read_node(m, Tau(float(m.tau), bool(m.decay_input), _rest(m))),
    "ParametricLIFNode": lambda m: _read_node(m, Rate(_plif_rate(m), bool(m.decay_input), _rest(m))),
    "CUBALIFNode": lambda m: _read_node(m, Decay(float(m.c_decay), float(m.v_decay))),
}
NORMS: dict[str, type[Linear] | type[Conv2d]] = {"BatchNorm1d": Linear, "BatchNorm2d": Conv2d}
ADDS = {operator.add, operator.iadd, torch.add, "add"}
FLATTENS = {torch.flatten, "flatten"}
