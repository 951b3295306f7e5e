"""Decoders: the output spikes of one environment step to an action. Pure; a read-out, then a rule.

    decoder(y (K, outputs), v (outputs,) or None) -> action

``y`` is the window [L, L + K) that answers the K input steps (L: the program's latency), ``v`` the output
population's membrane at its end, in 1/64 of a weight unit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Action: TypeAlias = Any
"""An integer, or a float array."""


class Read(Protocol):
    """Window to one number an output: ``(y (K, outputs), v) -> (outputs,)``. ``membrane``: whether it needs ``v``."""

    membrane: ClassVar[bool]

    def __call__(self, y: Array, v: Array | None) -> Array:
        """The numbers."""


class Rule(Protocol):
    """Numbers to an action. ``outputs``: how many it takes, 0 for any."""

    @property
    def outputs(self) -> int:
        """Length of what it takes."""

    def __call__(self, r: Array) -> Action:
        """The action."""


@dataclass(frozen=True)
class Count:
    """Spikes in the window (the sum of messages of a graded output)."""

    membrane: ClassVar[bool] = False

    def __call__(self, y: Array, v: Array | None) -> Array:
        """``sum_k y[k]``."""
        return y.sum(axis=0, dtype=np.int64)


@dataclass(frozen=True)
class FirstSpike:
    """``K - k`` for the first spike in step k, 0 without one: the earlier the larger."""

    membrane: ClassVar[bool] = False

    def __call__(self, y: Array, v: Array | None) -> Array:
        """The earliness."""
        fired = y != 0
        return np.where(fired.any(axis=0), len(y) - fired.argmax(axis=0), 0)


@dataclass(frozen=True)
class Membrane:
    """The membrane after the window, times ``unit`` (1/64: weight units)."""

    unit: float = 1.0 / 64.0
    membrane: ClassVar[bool] = True

    def __call__(self, y: Array, v: Array | None) -> Array:
        """``v unit``. Errors: ``ValueError`` without a membrane."""
        if v is None:
            raise ValueError("decoder: Membrane needs the membrane, which this chip does not show; read Count()")
        return v * self.unit


@dataclass(frozen=True)
class Argmax:
    """The index of the largest, the first of equals: a discrete action."""

    outputs: int = 0

    def __call__(self, r: Array) -> int:
        """The index."""
        return int(r.argmax())


@dataclass(frozen=True)
class Linear:
    """``a = w r + b``, held within low and high (None: no limit); ``w`` one row an action."""

    w: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]
    low: float | None = None
    high: float | None = None
    _part: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        w, b = np.array(self.w, np.float64), np.array(self.b, np.float64)
        if w.ndim != 2 or b.shape != w.shape[:1] or not (np.isfinite(w).all() and np.isfinite(b).all()):
            raise ValueError(f"Linear: w must be finite rows, b one number a row; got {w.shape} and {b.shape}")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"Linear: low must be below high, got {self.low} and {self.high}")
        object.__setattr__(self, "_part", (w, b))

    @property
    def outputs(self) -> int:
        """Columns of ``w``."""
        return len(self.w[0])

    def __call__(self, r: Array) -> Array:
        """The action."""
        w, b = self._part
        a: Array = w @ r + b
        return a if self.low is None and self.high is None else np.clip(a, self.low, self.high)


@dataclass(frozen=True)
class PopulationVector:
    """``a = sum_i r_i c_i / sum_i r_i`` over preferred values c; ``silent`` where all are 0 (Georgopoulos 1986)."""

    centres: tuple[float, ...]
    silent: float = 0.0
    _part: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        c = np.array(self.centres, np.float64)
        if c.ndim != 1 or not c.size or not np.isfinite(c).all():
            raise ValueError(f"PopulationVector.centres: must be finite numbers, one an output, got {self.centres}")
        object.__setattr__(self, "_part", c)

    @property
    def outputs(self) -> int:
        """One a centre."""
        return len(self.centres)

    def __call__(self, r: Array) -> Array:
        """``(1,)``."""
        total = float(r.sum())
        return np.array([float(r @ self._part) / total if total else self.silent])


@dataclass(frozen=True)
class Decoder:
    """A read-out and a rule."""

    read: Read
    rule: Rule

    def __call__(self, y: Array, v: Array | None = None) -> Action:
        """``(y (K, outputs), v) -> action``."""
        return self.rule(self.read(y, v))
