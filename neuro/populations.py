"""Populations as modules with explicit state, ``(x, state) -> (y, state)``: spiking ones under the pure law of
:mod:`neuro.neuron`, readouts that integrate, dropout that holds its mask. :mod:`neuro.modules` steps them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from neuro import fused
from neuro.neuron import Charge, Law, Leaky, NoLeak, Rate
from neuro.surrogate import ATan, Normalised, Surrogate

ModuleState: TypeAlias = Any
"""None, a tuple of tensors, or a list of these."""

Stepping: TypeAlias = Callable[[Tensor, ModuleState], tuple[Tensor, ModuleState]]
"""One step: ``(x (N, ...), state) -> (y (N, ...), state)``."""


def one_by_one(step: Stepping, x: Tensor, state: ModuleState, detached: bool) -> tuple[Tensor, ModuleState]:
    """K calls of ``step``, each state without history where ``detached``."""
    out = []
    for now in x:
        y, state = step(now, state)
        state = detach(state) if detached else state
        out.append(y)
    return torch.stack(out), state


def detach(state: ModuleState) -> ModuleState:
    """The same state without its history: what SLTT carries from step to step."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, dict):
        return {k: detach(s) for k, s in state.items()}
    return type(state)(detach(s) for s in state) if isinstance(state, list | tuple) else state


class Spiking(nn.Module):
    """A population under one :class:`neuro.neuron.Law`: ``forward(x, state) -> (s, state)``, shapes as ``x``.

    ``surrogate`` gives the backward slope and does not touch the forward value. ``detach_reset``: the reset takes the
    spike as a constant in the backward pass.
    """

    def __init__(
        self, law: Law | None = None, surrogate: Surrogate | None = None, *, detach_reset: bool = False
    ) -> None:
        super().__init__()
        self._law = Law() if law is None else law
        self.surrogate = ATan() if surrogate is None else surrogate
        self.detach_reset = detach_reset

    @property
    def law(self) -> Law:
        """The law in numbers, as exported."""
        return self._law

    def stepping_law(self) -> Law:
        """The law that steps; a trainable one holds tensors."""
        return self._law

    def forward(self, x: Tensor, state: ModuleState = None) -> tuple[Tensor, ModuleState]:
        """``x, state (N, ...) -> spikes, state``."""
        law = self.stepping_law()
        if state is None:
            state = law.initial(torch.zeros_like(x, requires_grad=False))
        return law.step(state, x, self.surrogate.of(law), Tensor.detach if self.detach_reset else None)

    def trained(self) -> tuple[Tensor, Tensor | None] | None:
        """What of the law is trained, the charge's parameter and the threshold, as tensors; None for nothing."""
        return None

    def forward_steps(self, x: Tensor, state: ModuleState, detached: bool) -> tuple[Tensor, ModuleState]:
        """``x (K, N, ...)``: compiled where :mod:`neuro.fused` is able to, else step after step; the same bits."""
        if not compiled(self, x):
            return one_by_one(self, x, state, detached)
        how: Any = {"detach_reset": self.detach_reset, "detached": detached, "trained": self.trained()}
        return fused.population(x, state, self.law, self.surrogate, **how)

    def extra_repr(self) -> str:
        return f"{self.law}, {self.surrogate}"


@dataclass(frozen=True)
class _TensorRate(Rate):
    """:class:`Rate` with a tensor in training, where the number check does not apply."""

    def __post_init__(self) -> None:
        """No check: sigmoid keeps the rate in (0, 1)."""


class ParametricSpiking(Spiking):
    """A population with one trainable leak, ``rate = sigmoid(w)`` (ParametricLIF, Fang et al. 2021).

    ``law.charge`` must be a :class:`Rate`; its rate is where training starts. Errors: ``ValueError`` else.
    """

    def __init__(self, law: Law, surrogate: Surrogate | None = None) -> None:
        if not isinstance(law.charge, Rate) or not 0.0 < law.charge.rate < 1.0:
            raise ValueError(f"ParametricSpiking.law: charge must be Rate with 0 < rate < 1, got {law.charge}")
        super().__init__(law, surrogate)
        self._start = law.charge
        self.w = nn.Parameter(torch.logit(torch.tensor(law.charge.rate)))

    @property
    def law(self) -> Law:
        """The law with the rate as trained."""
        start = self._start
        trained = Rate(float(self.w.detach().sigmoid()), start.decay_input, start.rest)
        return replace(self._law, charge=trained)

    def trained(self) -> tuple[Tensor, Tensor | None]:
        """The rate."""
        return self.w.sigmoid(), None

    def stepping_law(self) -> Law:
        """The law with the rate as a tensor, so that its gradient flows."""
        tensor: Any = self.w.sigmoid()
        return replace(self._law, charge=_TensorRate(tensor, self._start.decay_input, self._start.rest))


@dataclass(frozen=True)
class _TensorLeaky(Leaky):
    """:class:`Leaky` with a tensor in training."""

    def __post_init__(self) -> None:
        """No check: :meth:`LearnedSpiking.after_step` keeps it in its range."""


@dataclass(frozen=True)
class _TensorLaw(Law):
    """:class:`Law` with tensors in training."""

    def __post_init__(self) -> None:
        """No check: :meth:`LearnedSpiking.after_step` keeps the threshold positive."""


class LearnedSpiking(Spiking):
    """A population with one trainable leak and one trainable threshold: DIET-SNN and IIR-SNN.

        u[t] = k v[t-1] + I[t];   z = u / V - 1;   o = H(u > V);   v[t] = u - V H(u > V)     (H of the reset constant)
        do/dz = 0.3 max(0, 1 - |z|)

    ``law.charge`` must be :class:`Leaky`, ``law`` says where training starts. Source: Chowdhury, Rathi, Roy 2021,
    arXiv 2110.05929; the guard ``V >= 1e-3`` is ours, for z divides by V. Errors: ``ValueError`` for another charge.
    """

    MIN_THRESHOLD = 1e-3

    def __init__(
        self, law: Law | None = None, surrogate: Surrogate | None = None, *, detach_reset: bool = True
    ) -> None:
        law = law or Law(Leaky(1.0), reset="subtract", fires=">")
        if not isinstance(law.charge, Leaky):
            raise ValueError(f"LearnedSpiking.law: charge must be Leaky, got {law.charge}")
        super().__init__(law, surrogate or Normalised(), detach_reset=detach_reset)
        self.leak = nn.Parameter(torch.tensor(law.charge.beta))
        self.threshold = nn.Parameter(torch.tensor(law.threshold))

    @property
    def law(self) -> Law:
        """The law as trained."""
        beta = min(1.0, max(0.0, float(self.leak.detach())))
        return replace(self._law, charge=Leaky(beta), threshold=float(self.threshold.detach()))

    def trained(self) -> tuple[Tensor, Tensor | None]:
        """Leak and threshold."""
        return self.leak, self.threshold

    def stepping_law(self) -> Law:
        """The law with leak and threshold as tensors, so that their gradients flow."""
        leak: Any = self.leak
        threshold: Any = self.threshold
        held = self._law
        return _TensorLaw(_TensorLeaky(leak), threshold, held.reset, held.v_reset, held.fires)

    @torch.no_grad()
    def after_step(self) -> None:
        """Leak into [0, 1], threshold to 1e-3 at least; the training loop calls it after each optimizer step."""
        self.leak.clamp_(0.0, 1.0)
        self.threshold.clamp_(min=self.MIN_THRESHOLD)


class Integrating(nn.Module):
    """A readout that does not spike: ``h = charge(v[t-1], x[t]); v[t] = h; y[t] = v[t]``, v begins at 0.

    ``export.network.Integrator`` is its node. Errors: ``ValueError`` for a charge with a rest.
    """

    def __init__(self, charge: Charge | None = None) -> None:
        super().__init__()
        self.charge = NoLeak() if charge is None else charge
        if getattr(self.charge, "rest", 0.0):
            raise ValueError(f"Integrating.charge: rest must be 0, got {self.charge}")

    def forward(self, x: Tensor, state: ModuleState = None) -> tuple[Tensor, ModuleState]:
        """``x, state (N, ...) -> v, state``."""
        if state is None:
            state = (torch.zeros_like(x),) * self.charge.states
        state = self.charge.charge(state, x)
        return state[0], state

    def extra_repr(self) -> str:
        return str(self.charge)


class HeldDropout(nn.Module):
    """Dropout whose mask is drawn at the first step of a sample and held over all others; identity in evaluation.

    ``y[t] = x[t] m / (1 - p)``, ``m ~ Bernoulli(1 - p)``; the state is ``m / (1 - p)``. SLTT, IIR-SNN and
    DCLS-Delays all train with it. Errors: ``ValueError`` for p outside [0, 1).
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0.0 <= p < 1.0:
            raise ValueError(f"HeldDropout.p: must be in [0, 1), got {p}")
        self.p = p

    def forward(self, x: Tensor, state: ModuleState = None) -> tuple[Tensor, ModuleState]:
        """``x (N, ...)``; state None draws anew."""
        if not self.training or not self.p:
            return x, None
        if state is None:
            state = nn.functional.dropout(torch.ones_like(x), self.p)
        return x * state, state

    def forward_steps(self, x: Tensor, state: ModuleState, detached: bool) -> tuple[Tensor, ModuleState]:
        """``x (K, N, ...)`` under one mask."""
        _, state = self.forward(x[0], state)
        return (x if state is None else x * state), state

    def extra_repr(self) -> str:
        return f"p={self.p}"


def compiled(module: nn.Module, x: Tensor) -> bool:
    """May :mod:`neuro.fused` step this population? A class that others made goes its own way."""
    own = type(module) in (Spiking, ParametricSpiking, LearnedSpiking)
    return own and isinstance(module, Spiking) and fused.able(x, module.law, module.surrogate)
