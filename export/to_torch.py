"""A Network as a torch module: the reference that every engine in float is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from export.network import AvgPool2d, Conv2d, Flatten, Input, Linear, Network, Spiking
from neuro import modules


class TorchNetwork(nn.Module):
    """One step of a Network with explicit state: ``forward(x, state) -> (y, state)``; None is the first state.

    ``spikes`` of the last step are in the returned state under each spiking node's name and ``"<node>.s"``.
    """

    explicit_state = True

    def __init__(self, network: Network) -> None:
        super().__init__()
        network.check()
        self.network = network
        self.weights = nn.ParameterDict()
        self.neurons = nn.ModuleDict()
        for name, node in network:
            key = name.replace(".", "/")
            if isinstance(node, Linear | Conv2d):
                self.weights[f"{key} weight"] = nn.Parameter(torch.tensor(node.weight))
                if node.bias is not None:
                    self.weights[f"{key} bias"] = nn.Parameter(torch.tensor(node.bias))
            elif isinstance(node, Spiking):
                self.neurons[key] = modules.Spiking(node.law)

    def forward(self, x: Tensor, state: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """``x (N, ...) -> y (N, ...)`` of the same step."""
        before = state or {}
        after: dict[str, Any] = {}
        value: dict[str, Tensor] = {}
        shapes = self.network.shapes()
        for name in self.network.order():
            into = [value[e.src] for e in self.network.sources(name) if e.delay == 0]
            for e in self.network.sources(name):
                if e.delay:
                    zero = x.new_zeros(len(x), *shapes[e.src])
                    into.append(before.get(f"{e.src}>{e.dst}", [zero] * e.delay)[0])
            value[name] = self._node(name, sum(into[1:], into[0]) if into else x, before, after)
        for e in self.network.edges:
            if e.delay:
                key = f"{e.src}>{e.dst}"
                zero = x.new_zeros(len(x), *shapes[e.src])
                after[key] = [*before.get(key, [zero] * e.delay)[1:], value[e.src]]
        return value[self.network.output], after

    def _node(self, name: str, x: Tensor, before: dict[str, Any], after: dict[str, Any]) -> Tensor:
        node, key = self.network.nodes[name], name.replace(".", "/")
        bias = self.weights[f"{key} bias"] if f"{key} bias" in self.weights else None
        if isinstance(node, Linear):
            return F.linear(x, self.weights[f"{key} weight"], bias)
        if isinstance(node, Conv2d):
            w = self.weights[f"{key} weight"]
            return F.conv2d(x, w, bias, node.stride, node.padding, node.dilation, node.groups)
        if isinstance(node, AvgPool2d):
            return F.avg_pool2d(x, node.kernel, node.stride, node.padding)
        if isinstance(node, Flatten):
            return x.flatten(1)
        if isinstance(node, Spiking):
            s, after[name] = self.neurons[key](x, before.get(name))
            after[f"{name}.s"] = s
            return s
        return x


def to_torch(network: Network) -> TorchNetwork:
    """The module of ``network``; its float type is that of the weights."""
    return TorchNetwork(network)


@torch.no_grad()
def run_torch(
    network: Network, x: npt.NDArray[Any], *, batch: int = 256, progress: Callable[[float], None] | None = None
) -> tuple[npt.NDArray[Any], dict[str, npt.NDArray[np.int8]]]:
    """``x (samples, T, ...)`` to ``y (samples, T, ...)`` and ``{spiking node: spikes (samples, T, ...)}``.

    Errors: ``ValueError`` for a shape that is not the network's.
    """
    module = to_torch(network).eval()
    want = network.nodes[network.input]
    if not isinstance(want, Input) or x.shape[2:] != want.shape:
        raise ValueError(f"x must be (samples, T, {network.shapes()[network.input]}), got {x.shape}")
    dtype = next(iter(module.parameters()), torch.zeros(0)).dtype
    outs, spikes = [], []
    for i in range(0, len(x), batch):
        part = torch.tensor(x[i : i + batch], dtype=dtype)
        state, ys, ss = None, [], []
        for t in range(part.shape[1]):
            y, state = module(part[:, t], state)
            ys.append(y)
            ss.append([state[f"{n}.s"].to(torch.int8) for n in network.spiking()])
        outs.append(torch.stack(ys, 1))
        spikes.append([torch.stack(s, 1) for s in zip(*ss, strict=True)])
        if progress is not None:
            progress(min(1.0, (i + batch) / len(x)))
    hidden = {n: torch.cat([s[k] for s in spikes]).numpy() for k, n in enumerate(network.spiking())}
    y = torch.cat(outs).numpy()
    last = network.sources(network.output)[0].src
    return (y.astype(np.int8) if last in hidden else y), hidden
