"""The neuron law, once, as a pure step on explicit state.

Every spiking neuron here is one of five ways to charge a membrane, then one comparison, then one reset:

    h      = charge(v[t-1], x[t])
    s[t]   = 1 where h >= threshold   (or h > threshold), else 0
    v[t]   = v_reset where s[t], else h          reset "zero"  (to ``v_reset``)
    v[t]   = h - threshold * s[t]                reset "subtract"

The order of the floating-point operations is part of the law: an engine that keeps it gives the same bits.
Arrays may be numpy or torch; nothing here imports either beyond numpy. Potentials are in units of the
threshold's unit (dimensionless in training), time constants in steps; ``Network.dt_s`` gives a step its seconds.

Sources: four charges are those of SpikingJelly 2.0 (IFNode, LIFNode, ParametricLIFNode, CUBALIFNode), the fifth is
snnTorch's ``beta`` and the leak of DIET-SNN and IIR-SNN (Rathi and Roy 2020; Chowdhury et al. 2021); the comparison and
both resets are the union of what NIR (``>``) and SpikingJelly (``>=``) users train with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, TypeAlias

Array: TypeAlias = Any
"""A numpy array or a torch tensor: what supports ``+ - * /`` and comparison elementwise."""

State: TypeAlias = tuple[Array, ...]
"""``(v,)``, or ``(v, i)`` for a law with a synaptic current."""

SpikeFunction: TypeAlias = Callable[[Array], Array]
"""``h - threshold`` to spikes; a surrogate gradient hides in here when training."""


@dataclass(frozen=True)
class NoLeak:
    """Perfect integrator (IF): ``h = v + x``."""

    kind: ClassVar[str] = "no_leak"
    states: ClassVar[int] = 1

    def charge(self, state: State, x: Array) -> State:
        """``h = v + x``; shapes of ``v`` and ``x`` agree."""
        return (state[0] + x,)

    def canonical(self) -> tuple[float, float, float, float]:
        """``(current decay a, voltage decay b, input gain k, rest)`` of ``u = a u + k x; v = b v + u``."""
        return 0.0, 1.0, 1.0, 0.0


@dataclass(frozen=True)
class Tau:
    """Leaky integrator with a time constant (LIF), dividing as SpikingJelly does.

    ``decay_input=True``:  ``h = v + (x - (v - rest)) / tau``
    ``decay_input=False``: ``h = v - (v - rest) / tau + x``

    ``tau`` in steps, at least 1 (1 forgets everything).
    """

    tau: float
    decay_input: bool = True
    rest: float = 0.0
    kind: ClassVar[str] = "tau"
    states: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _number(self, "tau", low=1.0)
        _number(self, "rest")

    def charge(self, state: State, x: Array) -> State:
        """The equations of the class; shapes of ``v`` and ``x`` agree."""
        v = state[0]
        if self.decay_input:
            return (v + (x - (v - self.rest)) / self.tau,)
        return (v - (v - self.rest) / self.tau + x,)

    def canonical(self) -> tuple[float, float, float, float]:
        """``(0, 1 - 1/tau, 1/tau or 1, rest)``."""
        return 0.0, 1.0 - 1.0 / self.tau, 1.0 / self.tau if self.decay_input else 1.0, self.rest


@dataclass(frozen=True)
class Rate:
    """Leaky integrator with a leak rate (ParametricLIF), multiplying.

    ``decay_input=True``:  ``h = v + (x - (v - rest)) * rate``
    ``decay_input=False``: ``h = v - (v - rest) * rate + x``

    ``rate`` is the fraction lost in a step, in (0, 1]; a ParametricLIF has ``rate = sigmoid(w)``.
    """

    rate: float
    decay_input: bool = True
    rest: float = 0.0
    kind: ClassVar[str] = "rate"
    states: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _number(self, "rate", low=0.0, high=1.0)
        _number(self, "rest")

    def charge(self, state: State, x: Array) -> State:
        """The equations of the class; shapes of ``v`` and ``x`` agree."""
        v = state[0]
        if self.decay_input:
            return (v + (x - (v - self.rest)) * self.rate,)
        return (v - (v - self.rest) * self.rate + x,)

    def canonical(self) -> tuple[float, float, float, float]:
        """``(0, 1 - rate, rate or 1, rest)``."""
        return 0.0, 1.0 - self.rate, self.rate if self.decay_input else 1.0, self.rest


@dataclass(frozen=True)
class Leaky:
    """Leaky integrator with a factor: ``h = beta * v + x``; ``beta`` is the fraction kept in a step, in [0, 1]."""

    beta: float
    kind: ClassVar[str] = "leaky"
    states: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _number(self, "beta", low=0.0, high=1.0)

    def charge(self, state: State, x: Array) -> State:
        """``h = beta * v + x``; shapes of ``v`` and ``x`` agree."""
        return (state[0] * self.beta + x,)

    def canonical(self) -> tuple[float, float, float, float]:
        """``(0, beta, 1, 0)``."""
        return 0.0, self.beta, 1.0, 0.0


@dataclass(frozen=True)
class Decay:
    """Two-stage decay (CUBA-LIF): ``i = i * current + x``, then ``h = v * voltage + i``.

    ``current`` and ``voltage`` are the fractions kept in a step, in [0, 1]. The current is not reset by a spike.
    """

    current: float
    voltage: float
    kind: ClassVar[str] = "decay"
    states: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _number(self, "current", low=0.0, high=1.0)
        _number(self, "voltage", low=0.0, high=1.0)

    def charge(self, state: State, x: Array) -> State:
        """The equations of the class; shapes of ``v``, ``i`` and ``x`` agree."""
        v, i = state
        i = i * self.current + x
        return v * self.voltage + i, i

    def canonical(self) -> tuple[float, float, float, float]:
        """``(current, voltage, 1, 0)``."""
        return self.current, self.voltage, 1.0, 0.0


Charge: TypeAlias = NoLeak | Tau | Rate | Leaky | Decay
CHARGES: dict[str, type[NoLeak] | type[Tau] | type[Rate] | type[Leaky] | type[Decay]] = {
    c.kind: c for c in (NoLeak, Tau, Rate, Leaky, Decay)
}


@dataclass(frozen=True)
class Law:
    """A complete discrete-time neuron law: charge, comparison, reset.

    ``threshold`` must be positive; ``v_reset`` is used by reset "zero" only and is also the initial ``v``.

    Errors: ``ValueError`` naming the field, its value and the rule.
    """

    charge: Charge = field(default_factory=NoLeak)
    threshold: float = 1.0
    reset: Literal["zero", "subtract"] = "zero"
    v_reset: float = 0.0
    fires: Literal[">=", ">"] = ">="

    def __post_init__(self) -> None:
        if not isinstance(self.charge, tuple(CHARGES.values())):
            raise ValueError(
                f"Law.charge: {self.charge!r} is no charge; use one of "
                f"{', '.join(c.__name__ for c in CHARGES.values())}"
            )
        _number(self, "threshold")
        if self.threshold <= 0:
            raise ValueError(f"Law.threshold: must be > 0, got {self.threshold}; a neuron at 0 fires without input")
        if self.reset not in ("zero", "subtract"):
            raise ValueError(f"Law.reset: must be 'zero' or 'subtract', got {self.reset!r}")
        _number(self, "v_reset")
        if self.reset == "subtract" and self.v_reset != 0.0:
            raise ValueError(f"Law.v_reset: reset 'subtract' has none, got {self.v_reset}; leave it 0")
        if self.fires not in (">=", ">"):
            raise ValueError(f"Law.fires: must be '>=' or '>', got {self.fires!r}")

    def initial(self, like: Array) -> State:
        """State before the first step: ``v = v_reset`` (0 for subtract), ``i = 0``, shaped as ``like``."""
        zero = like * 0.0
        return (zero + self.v_reset, zero)[: self.charge.states]

    def step(
        self, state: State, x: Array, spike: SpikeFunction | None = None, held: SpikeFunction | None = None
    ) -> tuple[Array, State]:
        """One step: ``(state, input) -> (spikes, state)``; spikes have the dtype of ``x``.

        ``spike`` turns ``h - threshold`` into spikes and defaults to the comparison; training passes a
        surrogate with the same forward value. ``held`` is what the reset sees of the spikes: they themselves, or in
        training their values without a gradient.
        """
        h, *rest = self.charge.charge(state, x)
        over = h - self.threshold
        s = self.compare(over) if spike is None else spike(over)
        r = s if held is None else held(s)
        v = h - r * self.threshold if self.reset == "subtract" else (1.0 - r) * h + r * self.v_reset
        return s, (v, *rest)

    def compare(self, over: Array) -> Array:
        """1 where ``over = h - threshold`` is ``>= 0`` (or ``> 0``), else 0, in the dtype of ``over``."""
        fired = over >= 0 if self.fires == ">=" else over > 0
        return fired.to(over.dtype) if hasattr(fired, "to") else fired.astype(over.dtype)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: ``{"charge": {"kind", ...}, "threshold", "reset", "v_reset", "fires"}``."""
        charge = {"kind": self.charge.kind} | {f.name: getattr(self.charge, f.name) for f in fields(self.charge)}
        return {"charge": charge} | {k: getattr(self, k) for k in ("threshold", "reset", "v_reset", "fires")}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Law:
        """Inverse of :meth:`to_dict`. Errors: ``ValueError`` for an unknown kind or field."""
        data = dict(data)
        charge = dict(data.pop("charge", {}))
        kind = charge.pop("kind", None)
        if kind not in CHARGES:
            raise ValueError(f"Law.charge.kind: {kind!r} is unknown; this version knows {', '.join(CHARGES)}")
        try:
            return cls(charge=CHARGES[kind](**charge), **data)
        except TypeError as error:
            raise ValueError(f"Law: {error}; was the file written by a newer version?") from None


def _number(owner: object, name: str, low: float = -math.inf, high: float = math.inf) -> None:
    value = getattr(owner, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{type(owner).__name__}.{name}: must be a finite number, got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{type(owner).__name__}.{name}: must be in [{low:g}, {high:g}], got {value:g}")
