"""The network as a torch module that steps with explicit state: the reference for folded and imported ones.

    value[n, t] = f_n( sum over edges (m -> n, d) of value[m, t - d] ),   value before the first step is 0

Sums run in the order of the edge list, nodes in ``Network.order()``, the neuron is ``Law.step``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from export.network import (
    AvgPool2d,
    Conv1d,
    Conv2d,
    Delay,
    DelayedLinear,
    Flatten,
    Float,
    Input,
    Integrator,
    Linear,
    Lined,
    Network,
    Node,
    Scale,
    Spiking,
    SumPool2d,
    Weighted,
    Window,
)
from neuro.methods.qat import Population
from neuro.neuron import Law
from neuro.surrogate import Surrogate

GraphState: TypeAlias = dict[str, Any]
"""``"law"``: neurons and integrators to state; ``"past"``: node to its last outputs, newest first; ``"line"``: nodes
with delays to their last inputs (N, depth, ...), oldest first; ``"step"``: steps so far; ``"s"``: spikes."""


class NetworkModule(nn.Module):
    """One step of a :class:`Network`: ``forward(x (N, ...), state) -> (y (N, ...), state)``.

    State None starts anew; ``state["s"]`` holds the step's spikes by node. Weights are parameters; with
    ``surrogate`` the spikes have a gradient.
    """

    explicit_state = True

    def __init__(
        self, network: Network, dtype: torch.dtype = torch.float32, surrogate: Surrogate | None = None
    ) -> None:
        super().__init__()
        network.check()
        self.network, self.surrogate, self.dtype = network, surrogate, dtype
        self.plan = network.order()
        self.sources = {n: network.sources(n) for n in self.plan}
        self.depth = {n: max((e.delay for e in network.targets(n)), default=0) for n in self.plan}
        self.shapes = network.shapes()
        self.layers = nn.ModuleDict({_key(n): _layer(node, dtype) for n, node in network if isinstance(node, LAYERS)})

    def forward(self, x: Tensor, state: GraphState | None = None) -> tuple[Tensor, GraphState]:
        """One step; ``x`` is cast to the module's dtype."""
        x = x.to(self.dtype)
        state = self.initial(x) if state is None else state
        value: dict[str, Tensor] = {}
        laws: dict[str, Any] = {}
        spikes: dict[str, Tensor] = {}
        for name in self.plan:
            node = self.network.nodes[name]
            if isinstance(node, Input):
                value[name] = self._sum(name, value, state, x)
                continue
            if isinstance(node, Delay):
                value[name] = self._delayed(node, state["line"].get(name), name, value, state)
                continue
            if isinstance(node, DelayedLinear):
                now = None if node.early else self._sum(name, value, state, None)
                value[name] = self.layers[_key(name)](now, state["line"].get(name))
                continue
            into = self._sum(name, value, state, None)
            if isinstance(node, Integrator):
                value[name], laws[name] = node.step(state["law"][name], into)
            elif isinstance(node, Spiking):
                spike = None if self.surrogate is None else self.surrogate.of(node.law)
                spikes[name], laws[name] = node.law.step(state["law"][name], into, spike)
                value[name] = spikes[name]
            elif isinstance(node, Window):
                value[name] = into if state["step"] < node.stop else torch.zeros_like(into)
            elif _key(name) in self.layers:
                value[name] = self.layers[_key(name)](into)
            elif isinstance(node, Flatten):
                value[name] = into.reshape(len(into), *self.shapes[name])
            else:
                value[name] = into
        past = {n: [value[n], *held[:-1]] for n, held in state["past"].items()}
        line = {
            n: torch.cat([held[:, 1:], self._sum(n, value, state, None)[:, None]], 1)
            for n, held in state["line"].items()
        }
        return value[self.network.output], {
            "law": laws,
            "past": past,
            "line": line,
            "step": state["step"] + 1,
            "s": spikes,
        }

    def initial(self, x: Tensor) -> GraphState:
        """State before the first step, for a batch like ``x``."""
        for layer in self.layers.values():
            if isinstance(layer, _Delayed):
                layer.forget()
        zeros = {n: x.new_zeros((x.shape[0], *self.shapes[n])) for n in self.plan}
        laws = {n: node.law if isinstance(node, Spiking) else node for n, node in self.network}
        delays = {n: node for n, node in self.network if isinstance(node, Lined) and node.depth}
        lines = {n: x.new_zeros((len(x), d.depth, *self.shapes[self.sources[n][0].src])) for n, d in delays.items()}
        return {
            "law": {n: law.initial(zeros[n]) for n, law in laws.items() if isinstance(law, Law | Integrator)},
            "past": {n: [zeros[n]] * d for n, d in self.depth.items() if d},
            "line": lines,
            "step": 0,
            "s": {},
        }

    def trained(self) -> Network:
        """The network with the weights as they are now. Errors: ``NetworkError`` for weights that are not finite."""
        made = {n: _as_trained(node, self.layers[_key(n)]) for n, node in self.network if _key(n) in self.layers}
        return self.network.with_nodes(**made)

    def laws(self) -> dict[str, Law]:
        """The law of each population."""
        return {n: node.law for n, node in self.network if isinstance(node, Spiking)}

    def set_laws(self, laws: Mapping[str, Law]) -> None:
        """Exchange the laws of some populations."""
        self.network = self.network.with_nodes(**{n: Spiking(law) for n, law in laws.items()})

    def populations(self, payload: int = 1) -> list[Population]:
        """Each population with the layers that feed it, for quantisation-aware training.

        Errors: ``ValueError`` for a chain that the chip's grid does not reach into.
        """
        found = [Population(n, law) for n, law in self.laws().items()]
        for p in found:
            layers: dict[str, float] = {}
            for name, spread, src in _feeds(self.network, p.label, None, 1.0):
                if isinstance(self.network.nodes[src], Input):
                    p.payload = payload
                if name is None:
                    p.fixed.append(1.0 / spread)
                else:
                    layers[name] = max(spread, layers.get(name, 1.0))
            p.layers = [(n, cast("Any", self.layers[_key(n)]), x) for n, x in layers.items()]
        return found

    def _delayed(
        self, node: Delay, line: Tensor | None, name: str, value: dict[str, Tensor], state: GraphState
    ) -> Tensor:
        if line is None:
            return self._sum(name, value, state, None)
        steps = torch.from_numpy(node.steps.astype(np.int64)).to(line.device)
        place = (node.depth - steps).clamp(max=node.depth - 1)[None, None].expand(len(line), 1, *steps.shape)
        past = torch.take_along_dim(line, place, 1)[:, 0]
        return past if node.early else torch.where(steps == 0, self._sum(name, value, state, None), past)

    def _sum(self, name: str, value: dict[str, Tensor], state: GraphState, start: Tensor | None) -> Tensor:
        total = start
        for e in self.sources[name]:
            arrives = state["past"][e.src][e.delay - 1] if e.delay else value[e.src]
            total = arrives if total is None else total + arrives
        if total is None:
            raise ValueError(f"{name}: nothing leads to it; connect it or remove it")
        return total


def to_torch(
    network: Network, *, dtype: torch.dtype = torch.float32, surrogate: Surrogate | None = None
) -> NetworkModule:
    """The stepping module of ``network``, in evaluation mode. Errors: ``NetworkError`` from ``check``."""
    return NetworkModule(network, dtype, surrogate).eval()


@torch.no_grad()
def run_torch(
    network: Network,
    x: npt.NDArray[Any],
    *,
    dtype: torch.dtype = torch.float32,
    progress: Callable[[float], None] | None = None,
    batch: int = 256,
) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[np.uint8]]]:
    """``x (samples, T, ...) -> (y (samples, T, ...), {spiking node: spikes (samples, T, ...) uint8})``.

    ``y`` is uint8 where only spiking nodes lead to the output. Errors: ``ValueError`` for another shape.
    """
    shape = network.shapes()[network.input]
    if x.ndim != len(shape) + 2 or x.shape[2:] != shape or not x.shape[0] or not x.shape[1]:
        raise ValueError(f"{network.name}: x must be (samples, T, {', '.join(map(str, shape))}), got {x.shape}")
    module = to_torch(network, dtype=dtype)
    ys: list[npt.NDArray[Any]] = []
    spikes: dict[str, list[npt.NDArray[np.uint8]]] = {n: [] for n in network.spiking()}
    for start in range(0, len(x), batch):
        part, state, out = torch.from_numpy(np.ascontiguousarray(x[start : start + batch])), None, []
        seen: dict[str, list[Tensor]] = {n: [] for n in spikes}
        for t in range(x.shape[1]):
            y, state = module(part[:, t], state)
            out.append(y)
            for n, s in state["s"].items():
                seen[n].append(s)
        ys.append(torch.stack(out, 1).numpy())
        for n, each in seen.items():
            spikes[n].append(torch.stack(each, 1).numpy().astype(np.uint8))
        if progress is not None:
            progress(min(1.0, (start + batch) / len(x)))
    y_all = np.concatenate(ys)
    if all(isinstance(network.nodes[e.src], Spiking) for e in network.sources(network.output)):
        y_all = y_all.astype(np.uint8)
    return y_all, {n: np.concatenate(each) for n, each in spikes.items()}


def _feeds(network: Network, name: str, layer: str | None, spread: float) -> Iterator[tuple[str | None, float, str]]:
    """Ways back from ``name`` to populations: ``(the one layer with weights or None, divisor of pooling, source)``."""
    for e in network.sources(name):
        node = network.nodes[e.src]
        if isinstance(node, Input | Spiking):
            yield layer, spread, e.src
        elif isinstance(node, Weighted | DelayedLinear):
            if layer is not None:
                raise ValueError(f"{e.src}: another layer, {layer}, follows without neurons between; make them one")
            if spread != 1.0:
                raise ValueError(f"{e.src}: pooling between a layer and its neurons adds weights up; pool before it")
            yield from _feeds(network, e.src, e.src, spread)
        elif isinstance(node, AvgPool2d | Flatten | Delay | Window):
            size = math.prod(node.kernel) if isinstance(node, AvgPool2d) else 1
            yield from _feeds(network, e.src, layer, spread * size)
        else:
            raise ValueError(f"{e.src}: {node.kind} has no grid of the chip; train without it")


def _as_trained(node: Node, layer: Any) -> Node:
    def now(t: Tensor) -> Float:
        return t.detach().cpu().numpy().copy()

    if isinstance(node, Scale):
        return replace(node, scale=now(layer.scale))
    if isinstance(node, Weighted | DelayedLinear):
        return replace(node, weight=now(layer.weight), bias=None if node.bias is None else now(layer.bias))
    return node


class _Scale(nn.Module):
    """``y = s x``."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class _Delayed(nn.Module):
    """``y[t] = b + sum_d (W where delay is d) x[t - d]``: one product with the steps that are waited for, side by side.

    ``x (N, in)`` or None where no synapse takes it, ``line (N, depth, in)`` oldest first, or None.
    """

    def __init__(self, node: DelayedLinear, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight = nn.Parameter(_tensor(node.weight).to(dtype, copy=True))
        self.bias = None if node.bias is None else nn.Parameter(_tensor(node.bias).to(dtype, copy=True))
        self.depth, self.waits = node.depth, node.waits
        features = node.weight.shape[1]
        place = np.searchsorted(node.waits, node.delays)
        self.place: Tensor
        self.register_buffer("place", torch.from_numpy(place * features + np.arange(features)))
        self.width = len(node.waits) * features
        self._kept: tuple[Tensor, int, Tensor] | None = None

    def forward(self, x: Tensor | None, line: Tensor | None) -> Tensor:
        parts = [x if d == 0 else None if line is None else line[:, self.depth - d] for d in self.waits]
        past = torch.cat([p for p in parts if p is not None], 1)
        return nn.functional.linear(past, self._kernel(), self.bias)

    def _kernel(self) -> Tensor:
        """(out, waits * in), each weight under the step that it takes; kept over a sequence where nobody learns."""
        weight = self.weight
        learns = torch.is_grad_enabled()
        if not learns and self._kept is not None and self._kept[0] is weight and self._kept[1] == weight._version:
            return self._kept[2]
        kernel = weight.new_zeros(len(weight), self.width).scatter_(1, self.place, weight)
        self._kept = None if learns else (weight, weight._version, kernel)
        return kernel

    def forget(self) -> None:
        """A new sequence: weights may have changed behind torch's back."""
        self._kept = None


LAYERS = (Linear, Conv1d, Conv2d, DelayedLinear, AvgPool2d, SumPool2d, Scale)


def _layer(node: Node, dtype: torch.dtype) -> nn.Module:
    if isinstance(node, AvgPool2d | SumPool2d):
        divisor = 1 if isinstance(node, SumPool2d) else None
        return nn.AvgPool2d(node.kernel, node.stride, node.padding, divisor_override=divisor)
    if isinstance(node, Scale):
        return _Scale(_tensor(node.scale).to(dtype, copy=True))
    if isinstance(node, DelayedLinear):
        return _Delayed(node, dtype)
    if not isinstance(node, Weighted):
        raise ValueError(f"{node.kind} is no layer")
    out, features = node.weight.shape[:2]
    layer: nn.Linear | nn.Conv1d | nn.Conv2d
    if isinstance(node, Linear):
        layer = nn.Linear(features, out, bias=node.bias is not None, dtype=dtype)
    else:
        kind: Any = nn.Conv1d if isinstance(node, Conv1d) else nn.Conv2d
        layer = kind(
            features * node.groups,
            out,
            node.weight.shape[2:],
            node.stride,
            node.padding,
            node.dilation,
            node.groups,
            bias=node.bias is not None,
            dtype=dtype,
        )
    with torch.no_grad():
        layer.weight.copy_(_tensor(node.weight))
        if node.bias is not None and layer.bias is not None:
            layer.bias.copy_(_tensor(node.bias))
    return layer


def _tensor(a: Float) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(a))


def _key(name: str) -> str:
    return "n" + name.replace("_", "_u").replace(".", "_d")  # a module name holds no dot nor a method's name
