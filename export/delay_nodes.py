"""Nodes of a Network with a memory of past steps, beside those of :mod:`export.nodes`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from export.node_checks import Float, Int, Shape, check_delays, check_weights, linear_shape, of_shape

MAX_WINDOW_STEPS = 2**24
"""Longest window: a counter in float32 is exact so far, and stays there."""


@dataclass(frozen=True, eq=False)
class Delay:
    """``y[t] = x[t - steps]``, elementwise, 0 before the first step: ``steps`` has the shape of the input.

    State: the last :attr:`depth` inputs, oldest first.
    """

    steps: Int
    kind: ClassVar[str] = "delay"

    @cached_property
    def depth(self) -> int:
        """Longest delay."""
        return int(self.steps.max())

    @cached_property
    def early(self) -> bool:
        """Every element waits: the node speaks before it hears, so that a cycle may go through it."""
        return bool(self.steps.min() > 0)

    def out_shape(self, in_shape: Shape) -> Shape:
        """``in_shape``, which must be that of ``steps``."""
        return of_shape(in_shape, self.steps.shape)

    def check(self) -> None:
        """Whole steps, 0 to :data:`MAX_DELAY_STEPS`."""
        check_delays("steps", self.steps)


@dataclass(frozen=True, eq=False)
class DelayedLinear:
    """``y[t] = b + sum_i w_i x_i[t - d_i]`` for each output, x 0 before the first step; the bias acts in every step.

    ``weight`` (out, in), ``delays`` (out, in) whole steps, ``bias`` (out,) or None. State: the last
    :attr:`depth` inputs, oldest first.
    """

    weight: Float
    delays: Int
    bias: Float | None = None
    kind: ClassVar[str] = "delayed_linear"

    @cached_property
    def depth(self) -> int:
        """Longest delay of a synapse."""
        return int(self.delays.max())

    @cached_property
    def early(self) -> bool:
        """Every synapse waits: the node speaks before it hears, so that a cycle may go through it."""
        return bool(self.delays.min() > 0)

    @cached_property
    def waits(self) -> list[int]:
        """The delays that its synapses have, rising."""
        return [int(d) for d in np.unique(self.delays)]

    @cached_property
    def sparse(self) -> Any:
        """A scipy CSR matrix (out, waits * in): its synapses on the inputs of each of :attr:`waits`, side by side."""
        from scipy import sparse

        out, of = np.nonzero(self.weight)
        column = np.searchsorted(self.waits, self.delays[out, of]) * self.weight.shape[1] + of
        shape = (self.weight.shape[0], len(self.waits) * self.weight.shape[1])
        return sparse.csr_array((self.weight[out, of], (out, column)), shape)

    def masked(self, delay: int) -> Float:
        """The weights of the synapses with that delay, others 0."""
        return np.where(self.delays == delay, self.weight, self.weight.dtype.type(0))

    def out_shape(self, in_shape: Shape) -> Shape:
        """``(in,) -> (out,)``."""
        return linear_shape(self.weight, in_shape)

    def check(self) -> None:
        """As Linear, and a delay of 0 to :data:`MAX_DELAY_STEPS` for each weight."""
        check_weights(self.weight, self.bias, 2)
        check_delays("delays", self.delays)
        if self.delays.shape != self.weight.shape:
            raise ValueError(f"delays must have the weight's shape {self.weight.shape}, got {self.delays.shape}")


@dataclass(frozen=True)
class Window:
    """``y[t] = x[t]`` for ``t < stop``, then 0; shape as its input's. State: how many steps there have been.

    The end that a layer of delays has in training (:class:`neuro.delays.Tail`), made part of the network.
    """

    stop: int
    kind: ClassVar[str] = "window"

    def out_shape(self, in_shape: Shape) -> Shape:
        """``in_shape``."""
        return in_shape

    def check(self) -> None:
        """1 to :data:`MAX_WINDOW_STEPS` steps."""
        if isinstance(self.stop, bool) or not isinstance(self.stop, int) or not 1 <= self.stop <= MAX_WINDOW_STEPS:
            raise ValueError(f"stop must be a whole number of steps in 1..{MAX_WINDOW_STEPS}, got {self.stop!r}")
