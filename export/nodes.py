"""The kinds of node of a Network: frozen dataclasses that own ``out_shape(in_shape)`` and ``check()``.

Shapes leave out batch and time. The docstring of a kind is its equation. What has a state says how it steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, TypeAlias

import numpy as np

from export.delay_nodes import Delay, DelayedLinear, Window
from export.node_checks import Float, Pair, Shape, check_finite, check_weights, linear_shape, of_shape, windows
from neuro.neuron import CHARGES, Array, Charge, Law, NoLeak, Rate, State, Tau


@dataclass(frozen=True)
class Input:
    """Where ``x`` enters: ``shape`` of one step, without batch and time."""

    shape: Shape
    kind: ClassVar[str] = "input"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``shape``."""
        return self.shape

    def check(self) -> None:
        """Positive sizes."""
        if not self.shape or min(self.shape) < 1:
            raise ValueError(f"shape must have positive sizes, got {self.shape}")


@dataclass(frozen=True)
class Output:
    """Where ``y`` leaves; identity."""

    kind: ClassVar[str] = "output"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``in_shape``."""
        return in_shape

    def check(self) -> None:
        """Nothing to check."""


@dataclass(frozen=True, eq=False)
class Linear:
    """``y = W x + b``: ``weight`` (out, in), ``bias`` (out,) or None."""

    weight: Float
    bias: Float | None = None
    kind: ClassVar[str] = "linear"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``(in,) -> (out,)``."""
        return linear_shape(self.weight, in_shape)

    def check(self) -> None:
        """Two-dimensional finite weight, matching bias."""
        check_weights(self.weight, self.bias, 2)


@dataclass(frozen=True, eq=False)
class Conv2d:
    """Cross-correlation as in torch: ``weight`` (out, in / groups, kh, kw), zero padding, all pairs (h, w)."""

    weight: Float
    bias: Float | None = None
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    kind: ClassVar[str] = "conv2d"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``(in, h, w) -> (out, h', w')`` with ``h' = (h + 2 p - d (k - 1) - 1) // s + 1``."""
        channels = self.weight.shape[1] * self.groups
        if len(in_shape) != 3 or in_shape[0] != channels:
            raise ValueError(f"takes ({channels}, h, w), got {in_shape}")
        return (
            self.weight.shape[0],
            *windows(in_shape[1:], self.weight.shape[2:], self.stride, self.padding, self.dilation),
        )

    def check(self) -> None:
        """Four-dimensional finite weight, matching bias, legal geometry."""
        check_weights(self.weight, self.bias, 4)
        if self.groups < 1 or self.weight.shape[0] % self.groups:
            raise ValueError(f"groups {self.groups} does not divide {self.weight.shape[0]} output channels")
        if min(self.stride) < 1 or min(self.dilation) < 1 or min(self.padding) < 0:
            raise ValueError(f"stride {self.stride}, dilation {self.dilation}, padding {self.padding} is not legal")


@dataclass(frozen=True, eq=False)
class Conv1d:
    """Cross-correlation as in torch: ``weight`` (out, in / groups, k), zero padding."""

    weight: Float
    bias: Float | None = None
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1
    kind: ClassVar[str] = "conv1d"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``(in, n) -> (out, n')`` with ``n' = (n + 2 p - d (k - 1) - 1) // s + 1``."""
        channels = self.weight.shape[1] * self.groups
        if len(in_shape) != 2 or in_shape[0] != channels:
            raise ValueError(f"takes ({channels}, n), got {in_shape}")
        out, _, n = self.conv2d().out_shape((channels, 1, in_shape[1]))
        return out, n

    def check(self) -> None:
        """Three-dimensional finite weight, matching bias, legal geometry."""
        check_weights(self.weight, self.bias, 3)
        self.conv2d().check()

    def conv2d(self) -> Conv2d:
        """The same on ``(in, 1, n)``."""
        return Conv2d(
            self.weight[:, :, None], self.bias, (1, self.stride), (0, self.padding), (1, self.dilation), self.groups
        )


@dataclass(frozen=True)
class AvgPool2d:
    """Mean over windows, padding counted (torch ``count_include_pad=True``); pairs (h, w)."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    kind: ClassVar[str] = "avgpool2d"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``(c, h, w) -> (c, h', w')``."""
        if len(in_shape) != 3:
            raise ValueError(f"takes (c, h, w), got {in_shape}")
        return (in_shape[0], *windows(in_shape[1:], self.kernel, self.stride, self.padding, (1, 1)))

    def check(self) -> None:
        """Legal geometry."""
        if min(self.kernel) < 1 or min(self.stride) < 1 or min(self.padding) < 0:
            raise ValueError(f"kernel {self.kernel}, stride {self.stride}, padding {self.padding} is not legal")
        if any(2 * p > k for p, k in zip(self.padding, self.kernel, strict=True)):
            raise ValueError(f"padding {self.padding} is more than half of kernel {self.kernel}")


@dataclass(frozen=True)
class SumPool2d:
    """Sum over windows, zero padding; pairs (h, w)."""

    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    kind: ClassVar[str] = "sumpool2d"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``(c, h, w) -> (c, h', w')``."""
        return AvgPool2d(self.kernel, self.stride, self.padding).out_shape(in_shape)

    def check(self) -> None:
        """Legal geometry."""
        AvgPool2d(self.kernel, self.stride, self.padding).check()


@dataclass(frozen=True)
class Flatten:
    """Axes ``start_dim`` to ``end_dim`` into one, last axis fastest; all of them (C order of (c, h, w)) by default."""

    start_dim: int = 0
    end_dim: int = -1
    kind: ClassVar[str] = "flatten"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``(a, b, c, d) -> (a, b * c, d)`` for axes 1 to 2."""
        n = len(in_shape)
        first, last = (d + n if d < 0 else d for d in (self.start_dim, self.end_dim))
        if not 0 <= first <= last < max(n, 1):
            raise ValueError(f"flattens axes {self.start_dim} to {self.end_dim}, got {in_shape} without batch and time")
        return (*in_shape[:first], math.prod(in_shape[first : last + 1]), *in_shape[last + 1 :])

    def check(self) -> None:
        """What the axes must be depends on the input."""


@dataclass(frozen=True, eq=False)
class Scale:
    """``y = s x``, elementwise: ``scale`` has the shape of the input."""

    scale: Float
    kind: ClassVar[str] = "scale"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``in_shape``, which must be that of ``scale``."""
        return of_shape(in_shape, self.scale.shape)

    def check(self) -> None:
        """Finite factors."""
        check_finite("scale", self.scale)


@dataclass(frozen=True)
class Spiking:
    """A population of neurons under one :class:`neuro.neuron.Law`; shape as its input's."""

    law: Law = field(default_factory=Law)
    kind: ClassVar[str] = "spiking"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``in_shape``."""
        return in_shape

    def check(self) -> None:
        """The law checked itself when it was made."""


@dataclass(frozen=True)
class Integrator:
    """A population that does not spike, a readout: ``h = charge(v[t-1], x[t]);  v[t] = h;  y[t] = v[t] + offset``.

    ``v`` begins at :attr:`rest`, a current at 0.
    """

    charge: Charge = field(default_factory=NoLeak)
    offset: float = 0.0
    kind: ClassVar[str] = "integrator"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``in_shape``."""
        return in_shape

    def check(self) -> None:
        """A known charge, a finite offset."""
        if not isinstance(self.charge, tuple(CHARGES.values())):
            raise ValueError(f"charge {self.charge!r} is none; use one of {', '.join(CHARGES)}")
        if not math.isfinite(self.offset):
            raise ValueError(f"offset must be finite, got {self.offset}")

    @property
    def rest(self) -> float:
        """That of the charge, 0 where it has none."""
        return self.charge.rest if isinstance(self.charge, Tau | Rate) else 0.0

    def initial(self, like: Array) -> State:
        """State before the first step, shaped as ``like``."""
        zero = like * 0.0
        return (zero + self.rest, zero)[: self.charge.states]

    def step(self, state: State, x: Array) -> tuple[Array, State]:
        """One step: ``(state, input) -> (y, state)``."""
        after = self.charge.charge(state, x)
        return (after[0] + self.offset if self.offset else after[0]), after


Weighted: TypeAlias = Linear | Conv1d | Conv2d
"""Layers with weights and without a state."""
Lined: TypeAlias = Delay | DelayedLinear
"""What keeps a line of its past inputs."""
Node: TypeAlias = (
    Input | Output | Weighted | DelayedLinear | AvgPool2d | SumPool2d | Flatten | Scale | Delay | Window | Spiking
    | Integrator
)  # fmt: skip
NODES: dict[str, Any] = {
    c.kind: c
    for c in (
        Input, Output, Linear, Conv1d, Conv2d, DelayedLinear, AvgPool2d, SumPool2d, Flatten, Scale, Delay, Window,
        Spiking, Integrator,
    )
}  # fmt: skip


def floats(node: Node) -> list[Float]:
    """The float arrays of a node: weight and bias, or scale."""
    values = (getattr(node, f.name) for f in fields(node))
    return [a for a in values if isinstance(a, np.ndarray) and np.issubdtype(a.dtype, np.floating)]
