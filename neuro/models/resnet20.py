"""ResNet-20 of IIR-SNN for 32 x 32 images: three convolutions, a mean, eight blocks, one linear layer.

    conv 64, ReLU, conv 64, ReLU, conv 64, ReLU, mean 2
    [2, 2, 2, 2] blocks of widths 64, 128, 256, 512, strides 1, 2, 2, 2
    block: y = act(conv2(drop(act(conv1 x))) + shortcut x)       shortcut: x, or a 1 x 1 convolution where shapes change
    linear -> classes                                            on 512 x 2 x 2 = 2048 values, no bias

In the spiking network the sum enters the second population as current. Source: Rathi and Roy's DIET-SNN, Chowdhury,
Rathi, Roy 2021 (arXiv 2110.05929); in their code the thresholds of the blocks stay at 0.4 (``convert(only=...)``).
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from neuro.modules import HeldDropout, ModuleState, Stack, step, steps

Advance: TypeAlias = Callable[[nn.Module, Tensor, ModuleState], tuple[Tensor, ModuleState]]
WIDTHS, STRIDES, BLOCKS = (64, 128, 256, 512), (1, 2, 2, 2), (2, 2, 2, 2)


class Block(nn.Module):
    """``first``: conv, act, dropout; ``second``: conv; ``shortcut``; ``relu``: the act on the sum.

    State of one step: those of the four, in this order.
    """

    explicit_state = True
    of_layers = True

    def __init__(self, inputs: int, width: int, stride: int, *, norm: bool, dropout: float) -> None:
        super().__init__()
        first = _conv(inputs, width, 3, stride, norm)
        self.first = Stack(OrderedDict(**first, relu=nn.ReLU(), drop=HeldDropout(dropout)))
        self.second = Stack(OrderedDict(**_conv(width, width, 3, 1, norm)))
        changes = stride != 1 or inputs != width
        self.shortcut = Stack(OrderedDict(**_conv(inputs, width, 1, stride, norm) if changes else {}))
        self.act: nn.Module = nn.ReLU()

    def forward(self, x: Tensor, state: ModuleState = None) -> tuple[Tensor, ModuleState]:
        """One step, ``x (N, C, H, W)``."""
        return self._run(x, state, step)

    def forward_steps(self, x: Tensor, state: ModuleState, detached: bool) -> tuple[Tensor, ModuleState]:
        """All steps, ``x (K, N, C, H, W)``."""
        return self._run(x, state, lambda m, x, s: steps(m, x, s, detached=detached))

    def _run(self, x: Tensor, state: ModuleState, go: Advance) -> tuple[Tensor, ModuleState]:
        a, b, c, d = [None] * 4 if state is None else state
        y, a = go(self.first, x, a)
        y, b = go(self.second, y, b)
        z, c = go(self.shortcut, x, c)
        y, d = go(self.act, y + z, d)
        return y, [a, b, c, d]

    def plain(self) -> nn.Module:
        """The same as one call without a state argument, which ``export.from_torch`` reads."""
        return _Plain(self)


class _Plain(nn.Module):
    def __init__(self, block: Block) -> None:
        super().__init__()
        self.first, self.second = copy.deepcopy(block.first), copy.deepcopy(block.second)
        self.shortcut, self.act = copy.deepcopy(block.shortcut), copy.deepcopy(block.act)

    def forward(self, x: Tensor) -> Tensor:
        """As read by a tracer; to run it, make a network of it."""
        y: Tensor = self.act(self.second(self.first(x)) + self.shortcut(x))
        return y


def resnet20(
    input_shape: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    *,
    widths: Sequence[int] = WIDTHS,
    blocks: Sequence[int] = BLOCKS,
    norm: bool = False,
    dropout: float = 0.2,
    seed: int = 0,
) -> Stack:
    """``(N, *input_shape) -> (N, classes)`` a step, an ANN that :func:`neuro.methods.iir.convert` takes.

    ``widths``, ``blocks``: of the four groups. Errors: ``ValueError`` for images too small for the strides.
    """
    channels, height, width = input_shape
    size = [height // 2, width // 2]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for k in range(3):
            first = _conv(channels if k == 0 else widths[0], widths[0], 3, 1, norm)
            layers |= {f"{name}{k + 1}": m for name, m in first.items()} | {f"relu{k + 1}": nn.ReLU()}
            layers |= {f"drop{k + 1}": HeldDropout(dropout)} if k < 2 else {"pool": nn.AvgPool2d(2)}
        before = widths[0]
        for g, (wide, n, stride) in enumerate(zip(widths, blocks, STRIDES, strict=True), start=1):
            for k in range(n):
                by = stride if k == 0 else 1
                layers[f"block{g}_{k + 1}"] = Block(before, wide, by, norm=norm, dropout=dropout)
                before, size = wide, [-(-s // by) for s in size]
        if min(height, width) < 2:
            raise ValueError(f"resnet20: {input_shape} is too small")
        layers["flatten"] = nn.Flatten()
        layers["fc"] = nn.Linear(before * size[0] * size[1], classes, bias=False)
    return Stack(layers)


def _conv(inputs: int, outputs: int, kernel: int, stride: int, norm: bool) -> dict[str, nn.Module]:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return {"conv": layer, "norm": nn.BatchNorm2d(outputs)} if norm else {"conv": layer}
