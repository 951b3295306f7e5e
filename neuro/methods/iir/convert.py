"""From an ANN to a spiking network whose thresholds are percentiles of its own currents.

    x[t] = image for every t
    u[t] = k v[t-1] + W o[t] + b;   o[t] = H(u[t] > V);   v[t] = u[t] - V o[t]        a population, k = 1 at first
    U[t] = U[t-1] + W o[t];   logits = U[T]                                           the readout

    V_l = scale * max_t kth(I_l[t]),   k = 1 + round(q/100 (n - 1)),   layers before l at their new thresholds

``I`` is the current that enters the population, negative values too, over batch, channels and space. A percentile of 0
becomes 0.1. Source: Chowdhury, Rathi, Roy 2021 (arXiv 2110.05929) and the authors' conversion script: q = 90, scale 1.
In their ResNets the populations of the blocks keep 0.4; here all are calibrated unless ``only`` says which.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neuro.models.shift import RandomShift
from neuro.modules import HeldDropout, Integrating, LearnedSpiking, ModuleState, Spiking, Stack, step
from neuro.neuron import Law, Leaky, NoLeak
from neuro.norm import fold

DEFAULT_THRESHOLD, SILENT_THRESHOLD = 0.4, 0.1
"""Of a population that is not calibrated; of one whose percentile is 0. Both as in the authors' code."""

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
_FREE = (*_LAYERS, nn.AvgPool2d, nn.Flatten, nn.Identity, RandomShift)
"""What may stand before the first population and is then computed once a sample."""


class HeldInput(nn.Module):
    """One step in, T out: what is before it is computed once a sample, and its result is held for ``steps`` steps.

        y[t] = x,  t = 1..T          x (1, N, ...) -> y (T, N, ...)

    An image does not change over time, so neither does the first layer's current: the same numbers as T times the
    layer. In single steps it hands on what it gets.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """``x (N, ...)`` as it is."""
        return x

    def forward_steps(self, x: Tensor, state: ModuleState, detached: bool) -> tuple[Tensor, ModuleState]:
        """``x (1, N, ...) -> (T, N, ...)``. Errors: ``ValueError`` for more than one step."""
        del state, detached
        if len(x) != 1:
            raise ValueError(f"HeldInput: takes one image a sample, x (N, 1, ...), got {len(x)} steps")
        return x.expand(self.steps, *x.shape[1:]), None

    def extra_repr(self) -> str:
        return f"steps={self.steps}"


def convert(
    ann: nn.Sequential,
    images: Any,
    *,
    steps: int = 5,
    q: float = 90.0,
    scale: float = 1.0,
    calibration_steps: int | None = None,
    dropout: float | None = None,
    only: Collection[str] | None = None,
    least: float | None = None,
) -> Stack:
    """A spiking copy of ``ann`` in evaluation mode: norms folded, ReLU exchanged, an accumulator at its end.

    ``images (N, ...)``: what thresholds are taken from (512 of the training set). ``steps``: T of the network, and of
    the calibration unless ``calibration_steps`` says another (the authors take 500; the first layer needs one).
    ``dropout``: None keeps the ANN's. ``only``: names of the populations to calibrate, others keep 0.4.
    ``least``: below which no threshold falls, in training too, where a machine has none (our own; None: 0.001).
    Errors: ``ValueError`` naming the module that has no spiking counterpart, or a number out of range.
    """
    if steps < 1 or (calibration_steps is not None and calibration_steps < 1):
        raise ValueError(f"convert: steps must be at least 1, got {steps} and {calibration_steps}")
    snn = _spiking(ann, "")
    layers: OrderedDict[str, nn.Module] = OrderedDict(snn.named_children())
    if not isinstance(next(reversed(layers.values()), None), _LAYERS):
        raise ValueError("convert: the last module of the ANN must be the layer that makes the logits, without ReLU")
    made: OrderedDict[str, nn.Module] = OrderedDict()
    for name, module in layers.items():
        if "held" not in made and not isinstance(module, _FREE):
            made["held"] = HeldInput(steps)
        made[name] = module
    made["readout"] = Integrating(NoLeak())
    out = Stack(made)
    for module in out.modules():
        if isinstance(module, HeldDropout) and dropout is not None:
            module.p = dropout
    for population in populations(out).values():
        population.MIN_THRESHOLD = least or LearnedSpiking.MIN_THRESHOLD
    calibrate(out, images, steps=calibration_steps or steps, q=q, scale=scale, only=only)
    return out.eval()


@torch.no_grad()
def calibrate(
    snn: nn.Module,
    images: Any,
    *,
    steps: int,
    q: float = 90.0,
    scale: float = 1.0,
    only: Collection[str] | None = None,
) -> dict[str, float]:
    """Set the thresholds of ``snn``, population after population in the order in which they run; return them by name.

    Optimizers are made after it. Errors: ``ValueError`` for q outside (0, 100], a scale that is not positive, a name in
    ``only`` that is no population, a percentile below 0.
    """
    if not 0.0 < q <= 100.0 or not scale > 0.0:
        raise ValueError(f"calibrate: q must be in (0, 100] and scale > 0, got {q} and {scale}")
    x = torch.as_tensor(images)
    training = snn.training
    snn.eval()
    order = _order(snn, x[:1])
    unknown = set(only or ()) - set(order)
    if unknown:
        raise ValueError(
            f"calibrate.only: {', '.join(sorted(unknown))} are no populations; there are {', '.join(order)}"
        )
    found = {}
    for k, (name, population) in enumerate(order.items()):
        if only is None or name in only:
            currents = _currents(snn, population, x, 1 if k == 0 else steps)
            value = max(percentile(current, q) for current in currents)
            if value < 0.0:
                raise ValueError(f"{name}: {q:g} % of its current is below {value:g} < 0; raise q")
            population.threshold.fill_(max((value or SILENT_THRESHOLD) * scale, population.MIN_THRESHOLD))
        found[name] = float(population.threshold.detach())
    snn.train(training)
    return found


def percentile(values: Tensor, q: float) -> float:
    """The k-th smallest of all ``values``, ``k = 1 + round(q/100 (n - 1))``."""
    flat = values.flatten()
    return float(flat.kthvalue(1 + round(q / 100.0 * (flat.numel() - 1))).values)


def populations(snn: nn.Module) -> dict[str, LearnedSpiking]:
    """The spiking populations by module path."""
    return {n: m for n, m in snn.named_modules() if isinstance(m, LearnedSpiking)}


def set_steps(snn: nn.Module, steps: int) -> None:
    """T of the network; nothing else changes. Errors: ``ValueError`` below 1, or where no ``HeldInput`` is."""
    held = [m for m in snn.modules() if isinstance(m, HeldInput)]
    if steps < 1 or not held:
        raise ValueError(f"set_steps: needs T of 1 and more and a network that convert made, got T = {steps}")
    for module in held:
        module.steps = steps


@torch.no_grad()
def spikes(snn: nn.Module, images: Any, steps: int, *, batch: int = 256) -> dict[str, npt.NDArray[np.float64]]:
    """Mean spikes a sample of every neuron over ``steps`` steps, by population: what energy is counted from.

    ``images (N, ...)``. The mean over a population's neurons is the rate R of the paper.
    """
    x, training = torch.as_tensor(images), snn.training
    totals: dict[str, Tensor] = {}
    snn.eval()

    def add(name: str, given: Any) -> None:
        part = given[0].double().sum(0)
        totals[name] = totals[name] + part if name in totals else part

    with _listening(snn, add):
        for part in torch.split(x, batch):
            state = None
            for _ in range(steps):
                _, state = step(snn, part, state)
    snn.train(training)
    return {n: (a / len(x)).numpy() for n, a in totals.items()}


def deployed(snn: nn.Module) -> Stack:
    """The same without what only training needs, held input, dropout, shifts: single steps, the image given in each.

    Populations are plain ``Spiking`` of the law as trained; the accumulator stays. For ``export.from_torch``.
    """
    return _plain(snn, lambda law: law, keep_readout=True)


def one_step(snn: nn.Module) -> Stack:
    """The T = 1 network: ``o = H(W o + b > V)``, logits ``W o``.

    From v = 0 one step sees neither leak nor reset nor accumulator, so these become none, "zero" and nothing: the same
    bits (Chowdhury et al. 2021). Errors: ``ValueError`` for a network at another T.
    """
    held = [m.steps for m in snn.modules() if isinstance(m, HeldInput)]
    if any(steps != 1 for steps in held):
        raise ValueError(
            f"one_step: the network is at T = {held[0]}; train it down to 1 first, or call set_steps(snn, 1)"
        )
    return _plain(snn, lambda law: Law(NoLeak(), law.threshold, "zero", fires=law.fires), keep_readout=False)


def _plain(snn: nn.Module, law: Any, *, keep_readout: bool) -> Stack:
    def visit(module: nn.Module) -> nn.Module | None:
        if isinstance(module, HeldInput | HeldDropout | RandomShift) or (
            isinstance(module, Integrating) and not keep_readout
        ):
            return None
        if isinstance(module, Spiking):
            return Spiking(law(module.law))
        if isinstance(module, nn.Sequential):
            kept = OrderedDict((n, v) for n, m in module.named_children() if (v := visit(m)) is not None)
            return Stack(kept)
        if not module._modules:
            return copy.deepcopy(module)
        made: Any = copy.deepcopy(module)
        for name, child in module.named_children():
            setattr(made, name, visit(child) or nn.Identity())
        return made.plain() if hasattr(made, "plain") else made

    made: Any = visit(snn)
    return made.eval()


def _spiking(module: nn.Module, path: str) -> Any:
    """A copy with norms folded and ReLU exchanged, containers included."""
    label = path or type(module).__name__
    if isinstance(module, nn.Sequential):
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        last = ""
        for name, child in module.named_children():
            if isinstance(child, _NORMS):
                before: Any = layers.get(last)
                if not isinstance(before, _LAYERS):
                    raise ValueError(f"{label}.{name}: a norm folds into the layer right before it; move it there")
                fold(before, child)
                continue
            last = name.replace("relu", "lif")
            layers[last] = _spiking(child, f"{path}.{name}" if path else name)
        return Stack(layers)
    if isinstance(module, nn.ReLU):
        return LearnedSpiking(Law(Leaky(1.0), DEFAULT_THRESHOLD, "subtract", fires=">"))
    if isinstance(module, nn.Dropout):
        return HeldDropout(module.p)
    if isinstance(module, (*_FREE, HeldDropout)):
        return copy.deepcopy(module)
    if not getattr(module, "of_layers", False):
        raise ValueError(
            f"{label}: {type(module).__name__} has no spiking counterpart here; build the ANN of convolutions, linear "
            "layers, norms, ReLU, mean pooling and dropout"
        )
    made = copy.deepcopy(module)
    for name, child in module.named_children():
        setattr(made, name, _spiking(child, f"{path}.{name}" if path else name))
    return made


class _Reached(Exception):
    """The population that is asked about has its current; what comes after it need not run."""


def _currents(snn: nn.Module, population: nn.Module, x: Tensor, steps: int) -> Iterator[Tensor]:
    """What enters ``population`` at each step."""
    seen: list[Tensor] = []

    def catch(_: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append(given[0])

    def stop(*_: Any) -> None:
        raise _Reached

    state = None
    hooks = [population.register_forward_pre_hook(catch)]
    try:
        for t in range(steps):
            if t == steps - 1:
                hooks.append(population.register_forward_pre_hook(stop))
            with suppress(_Reached):
                _, state = step(snn, x, state)
            yield seen.pop()
    finally:
        for hook in hooks:
            hook.remove()


def _order(snn: nn.Module, x: Tensor) -> dict[str, LearnedSpiking]:
    """Populations in the order in which they run."""
    names: list[str] = []
    with _listening(snn, lambda name, _: names.append(name)):
        step(snn, x)
    known = populations(snn)
    return {n: known[n] for n in names}


@contextmanager
def _listening(snn: nn.Module, tell: Any) -> Iterator[None]:
    """``tell(name, (spikes, state))`` after each step of each population."""
    hooks = [m.register_forward_hook(lambda _, __, out, n=n: tell(n, out)) for n, m in populations(snn).items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
