"""A torch module as a :class:`Network`: read the module itself, map what is exact, refuse the rest with the fix.

Taken: ``nn.Sequential`` and what is built like it (``neuro.modules.Stack``, SpikingJelly's containers), nested;
``forward`` methods of other modules that ``torch.fx`` can trace into calls of modules, ``flatten`` and ``+``;
Linear, Conv2d, AvgPool2d, Flatten; BatchNorm folded into the layer before it, with evaluation statistics; Dropout
and Identity left out; ``neuro.modules.Spiking`` and SpikingJelly's IF, LIF, ParametricLIF and CUBA-LIF nodes.
Types count exactly: a subclass may have another law. Surrogates and step modes do not change what is computed.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import fx, nn

from export import leaves
from export.fold import fold
from export.network import Conv2d, Edge, Input, Linear, Loss, Network, NetworkError, Node, Output, Shape
from export.program import MappingError

Value: TypeAlias = tuple[str, ...]
"""Names of the nodes whose sum a value is."""


def from_torch(
    module: nn.Module, input_shape: Shape, *, dt_s: float = 1e-3, name: str | None = None
) -> Network:
    """The network that ``module`` computes in evaluation mode, checked; nodes are named by module path.

    ``input_shape``: one step of one sample. Folding is in ``Network.losses``. The module is not changed.
    Errors: :class:`MappingError` naming the path, the rule and the fix; ``NetworkError`` for weights or shapes.
    """
    build = _Builder(tuple(int(n) for n in input_shape))
    last = build.convert(module, "", ("input",))
    return build.network(last, dt_s, name or type(module).__name__)


@dataclass
class _Builder:
    input_shape: Shape
    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[Edge] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    losses: dict[str, list[Loss]] = field(default_factory=dict)
    seen: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.add("input", Input(self.input_shape), ())

    def convert(self, module: nn.Module, path: str, value: Value) -> Value:
        """Append what ``module`` does to ``value``; return its result."""
        leaves.refuse_hooks(module, path)
        if leaves.is_chain(module):
            for key, child in module._modules.items():
                if child is not None:
                    value = self.convert(child, f"{path}.{key}" if path else key, value)
            return value
        if leaves.is_norm(module):
            return self.norm(module, path, value)
        if leaves.is_nothing(module):
            return value
        node = leaves.node_of(module, path)
        if node is not None:
            self.once(module, path)
            return self.add(path or type(module).__name__.lower(), node, value)
        if type(module).forward is nn.Module.forward or not list(module.children()):
            raise leaves.refusal(module, path)
        return self.trace(module, path, value)

    def add(self, name: str, node: Node, value: Value) -> Value:
        """A node fed by ``value``; shapes are checked here, where the path is known."""
        if name in self.nodes:
            raise MappingError(f"{name}: used twice; give each use its own module, weights may be copied")
        shapes = {self.shapes[v] for v in value}
        if len(shapes) > 1:
            raise MappingError(f"{name}: adds values of shapes {sorted(shapes)}; they must be equal, no broadcasting")
        try:
            self.shapes[name] = node.out_shape(next(iter(shapes), ()))
        except ValueError as error:
            raise NetworkError(f"{name}: {error}") from None
        self.nodes[name] = node
        self.edges += [Edge(v, name) for v in value]
        return (name,)

    def norm(self, module: nn.Module, path: str, value: Value) -> Value:
        """Fold ``module`` into the one linear or convolutional node that is ``value``."""
        before = self.nodes[value[0]]
        kinds = {nn.BatchNorm1d: Linear, nn.BatchNorm2d: Conv2d}
        wants = next(k for base, k in kinds.items() if isinstance(module, base))
        alone = len(value) == 1 and not any(e.src == value[0] for e in self.edges)
        if not alone or not isinstance(before, wants):
            raise MappingError(
                f"{path}: {type(module).__name__} must stand right behind a {wants.__name__} whose output nothing else "
                f"uses, to be folded into it; it stands behind {' + '.join(value)} ({before.kind}); move it"
            )
        (source,) = (e for e in self.edges if e.dst == value[0]) if self._fed_once(value[0]) else (None,)
        in_shape = self.shapes[source.src if source else self._first_source(value[0])]
        try:
            self.nodes[value[0]], loss = fold(before, module, in_shape, value[0])  # type: ignore[arg-type]
        except ValueError as error:
            raise MappingError(f"{path}: {type(module).__name__} {error}") from None
        self.losses.setdefault(value[0], []).append(loss)
        return value
