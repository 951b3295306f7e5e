"""Thin torch shells around the pure law: state goes in and comes out, no module keeps any.

    step(module, x[t], state) -> (y[t], state)                   one step, ``x[t] (N, ...)``
    steps(module, x, state)   -> (y, state)                      K steps at once, ``x (K, N, ...)``

A state is None where a module has none, a tuple of tensors for a neuron, a list for a container; None as
input means the state before the first step. ``steps`` goes layer by layer, so a layer without memory sees
all K steps as one batch; its result is that of K calls of ``step`` up to the rounding of the larger matrix
product. SpikingJelly's modules take part through their own functional step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neuro import fused
from neuro.neuron import Charge, Law, Leaky, NoLeak, Rate
from neuro.surrogate import ATan, Normalised, Surrogate

ModuleState: TypeAlias = Any
"""None, a tuple of tensors, or a list of these."""

TIMELESS = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Identity, nn.ReLU),
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d),
)
"""Layers whose answer to a step depends neither on other steps nor on chance: K steps may share one call."""


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
            return _one_by_one(self, x, state, detached)
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

    def extra_repr(self) -> str:
        return f"p={self.p}"


class ChunkNorm1d(nn.BatchNorm1d):
    """BatchNorm whose training statistics are over all steps handed in at once, T N of them, as DCLS-Delays has it."""


class ChunkNorm2d(nn.BatchNorm2d):
    """BatchNorm whose training statistics are over all steps handed in at once, T N of them."""


class FrozenNorm1d(nn.BatchNorm1d):
    """BatchNorm that normalises with its running statistics in training too; weight and bias learn."""

    def train(self, mode: bool = True) -> FrozenNorm1d:
        """Stays in evaluation mode."""
        return super().train(False)


class FrozenNorm2d(nn.BatchNorm2d):
    """As :class:`FrozenNorm1d`."""

    def train(self, mode: bool = True) -> FrozenNorm2d:
        """Stays in evaluation mode."""
        return super().train(False)


NORM_MODES: dict[str, dict[type[nn.Module], type[nn.Module]]] = {
    "per_step": {nn.BatchNorm1d: nn.BatchNorm1d, nn.BatchNorm2d: nn.BatchNorm2d},
    "chunk": {nn.BatchNorm1d: ChunkNorm1d, nn.BatchNorm2d: ChunkNorm2d},
    "frozen": {nn.BatchNorm1d: FrozenNorm1d, nn.BatchNorm2d: FrozenNorm2d},
}
"""How a BatchNorm takes its statistics in training: each step's (SLTT's reference), those of all steps, none."""


def norm_mode(model: nn.Module, mode: str) -> None:
    """Make every BatchNorm of ``model`` one of ``mode``; weights and statistics stay.

    Errors: ``ValueError`` for a mode that is not in :data:`NORM_MODES`.
    """
    if mode not in NORM_MODES:
        raise ValueError(f"norm_mode: {mode!r} is none of {', '.join(NORM_MODES)}")
    for module in model.modules():
        base = next((b for b in NORM_MODES[mode] if isinstance(module, b)), None)
        if base is not None:
            module.__class__ = NORM_MODES[mode][base]
            module.train(model.training)


class Recurrent(nn.Module):
    """Layers fed by their own last output: ``y[t] = layers(x[t] + feedback(y[t-1]))`` with ``y[-1] = 0``.

    ``feedback``: a layer without memory whose answer to 0 is 0 (``nn.Linear(n, m, bias=False)``), None for y itself.
    """

    def __init__(self, layers: nn.Module, feedback: nn.Module | None = None) -> None:
        super().__init__()
        self.layers, self.feedback = layers, feedback

    def forward(self, x: Tensor, state: ModuleState = None) -> tuple[Tensor, ModuleState]:
        """One step, ``x (N, ...)``; the state is ``(y[t-1], state of layers)``."""
        y, inner = (None, None) if state is None else state
        if y is not None:
            x = x + (y if self.feedback is None else self.feedback(y))
        y, inner = step(self.layers, x, inner)
        return y, (y, inner)


class Stack(nn.Sequential):
    """Modules in a row, stepped with explicit state: ``forward(x, state) -> (y, state)``."""

    def forward(self, x: Tensor, state: ModuleState = None) -> tuple[Tensor, ModuleState]:
        """One step of every module, ``x (N, ...)``."""
        return _chain(self, x, state, step)


def step(module: nn.Module, x: Tensor, state: ModuleState = None) -> tuple[Tensor, ModuleState]:
    """One step of any module: ``x (N, ...) -> (y, state)``.

    Errors: ``ValueError`` for a SpikingJelly module in step mode 'm', which wants all steps at once.
    """
    if isinstance(module, nn.Sequential):
        return _chain(module, x, state, step)
    x = _precise(module, x)
    if takes_state(module):
        y, state = module(x, state)
        return y, state
    if hasattr(module, "single_step_functional_forward"):
        return _functional(module, x, state)
    if getattr(module, "step_mode", "s") != "s":
        raise ValueError(
            f"{type(module).__name__}: step_mode is 'm'; call spikingjelly.activation_based.functional."
            "set_step_mode(net, 's'), a Stack steps the time itself"
        )
    return module(x), None


def steps(
    module: nn.Module,
    x: Tensor,
    state: ModuleState = None,
    *,
    detached: bool = False,
) -> tuple[Tensor, ModuleState]:
    """K steps: ``x (K, N, ...) -> (y (K, N, ...), state)``. ``detached``: states are passed on without history.

    A module with ``forward_steps(x, state, detached)`` takes all K at once and may return another number of steps.
    """
    if isinstance(module, nn.Sequential):
        return _chain_steps(module, x, state, detached)
    x = _precise(module, x)
    at_once: Any = getattr(module, "forward_steps", None)
    if at_once is not None:
        y, state = at_once(x, state, detached)
        return y, state
    if _timeless(module):
        together = x.flatten(0, 1)
        if together.ndim == 4 and together.device.type == "cpu":
            together = together.contiguous(
                memory_format=torch.channels_last
            )  # twice as fast in oneDNN, and fused reads it
        return module(together).unflatten(0, x.shape[:2]), None
    return _one_by_one(module, x, state, detached)


def _one_by_one(module: nn.Module, x: Tensor, state: ModuleState, detached: bool) -> tuple[Tensor, ModuleState]:
    out = []
    for now in x:
        y, state = step(module, now, state)
        state = detach(state) if detached else state
        out.append(y)
    return torch.stack(out), state


def unroll(module: nn.Module, x: Tensor) -> Tensor:
    """All steps from the initial state: ``x (N, T, ...) -> y (N, T, ...)``."""
    return steps(module, x.transpose(0, 1))[0].transpose(0, 1)


def detach(state: ModuleState) -> ModuleState:
    """The same state without its history: what SLTT carries from step to step."""
    if isinstance(state, Tensor):
        return state.detach()
    if isinstance(state, dict):
        return {k: detach(s) for k, s in state.items()}
    return type(state)(detach(s) for s in state) if isinstance(state, list | tuple) else state


def takes_state(module: nn.Module) -> bool:
    """Whether ``module(x, state) -> (y, state)`` is its contract, as it is here and of what ``to_torch`` makes."""
    own = Spiking | Stack | Recurrent | Integrating | HeldDropout
    return isinstance(module, own) or bool(getattr(module, "explicit_state", False))


def _precise(module: nn.Module, x: Tensor) -> Tensor:
    """``x`` in float32 for what has a state: under autocast a membrane that adds up in a half would stand still."""
    if x.dtype not in (torch.float16, torch.bfloat16) or not torch.is_autocast_enabled(x.device.type):
        return x
    return x.float() if takes_state(module) or hasattr(module, "single_step_functional_forward") else x


def _chain(
    modules: nn.Sequential,
    x: Tensor,
    state: ModuleState,
    advance: Callable[[nn.Module, Tensor, ModuleState], tuple[Tensor, ModuleState]],
) -> tuple[Tensor, ModuleState]:
    before = [None] * len(modules) if state is None else state
    after = []
    for module, s in zip(modules, before, strict=True):
        x, s = advance(module, x, s)
        after.append(s)
    return x, after


def compiled(module: nn.Module, x: Tensor) -> bool:
    """May :mod:`neuro.fused` step this population? A class that others made goes its own way."""
    own = type(module) in (Spiking, ParametricSpiking, LearnedSpiking)
    return own and isinstance(module, Spiking) and fused.able(x, module.law, module.surrogate)


def _chain_steps(modules: nn.Sequential, x: Tensor, state: ModuleState, detached: bool) -> tuple[Tensor, ModuleState]:
    """All steps of each module in turn; norm, population and mean pooling together where they stand so."""
    row = list(modules)
    before = [None] * len(row) if state is None else state
    after: list[ModuleState] = []
    while len(after) < len(row):
        k = len(after)
        x = _precise(row[k + 1], x) if k + 1 < len(row) and isinstance(row[k + 1], Spiking) else x
        taken = _run(row[k : k + 3], x)
        if taken:
            norm, neurons, *pool = row[k : k + taken]
            side = _side(pool[0].kernel_size) if pool else 0  # type: ignore[arg-type]
            how: Any = {"detach_reset": neurons.detach_reset, "detached": detached, "pool": side}
            x, now = fused.normalised(x, before[k + 1], norm, neurons.law, neurons.surrogate, **how)  # type: ignore[arg-type]
            after += [None, now, None][:taken]
        else:
            x, now = steps(row[k], x, before[k], detached=detached)
            after.append(now)
    return x, after


def _run(row: list[nn.Module], x: Tensor) -> int:
    """How many of the modules that come next are one call of :func:`neuro.fused.normalised`: 3, 2 or none."""
    if len(row) < 2 or type(row[1]) is not Spiking or not row[0].training or _hooked(row) or not compiled(row[1], x):
        return 0
    kind = parametrize.type_before_parametrizations(row[0])
    if (kind, x.ndim) not in ((nn.BatchNorm1d, 3), (nn.BatchNorm2d, 5)) or x[0].numel() == x.shape[2]:
        return 0
    pool = row[2] if len(row) > 2 else None
    if x.ndim == 5 and type(pool) is nn.AvgPool2d:
        side = _side(pool.kernel_size)
        plain = side == _side(pool.stride) and not _side(pool.padding) and pool.divisor_override is None
        if side and plain and not x.shape[3] % side and not x.shape[4] % side:
            return 3
    return 2


def _side(size: int | tuple[int, int]) -> int:
    """Of a square; 0 for another window."""
    a, b = (size, size) if isinstance(size, int) else size
    return a if a == b else 0


def _hooked(row: list[nn.Module]) -> bool:
    return any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in row)


def _functional(module: nn.Module, x: Tensor, state: ModuleState) -> tuple[Tensor, ModuleState]:
    node: Any = module
    given = tuple(node._memories_rv.values()) if state is None else state
    states = node.materialize_states((x,), given, "s")
    (y,), after = node.single_step_functional_forward((x,), states)
    return y, after


def _timeless(module: nn.Module) -> bool:
    kind = parametrize.type_before_parametrizations(module)
    if kind in (ChunkNorm1d, ChunkNorm2d, FrozenNorm1d, FrozenNorm2d):
        return True
    if kind in (nn.BatchNorm1d, nn.BatchNorm2d, nn.Dropout, nn.Dropout2d):
        return not module.training  # in training: statistics and masks per step
    return kind in TIMELESS or (isinstance(module, nn.Flatten) and kind is nn.Flatten and module.start_dim == 1)
