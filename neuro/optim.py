"""Optimizers, as what :func:`neuro.train.train` takes: ``parameters -> torch.optim.Optimizer``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

OptimizerFactory: TypeAlias = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]

UNDECAYED = ("position", "positions", "delay", "delays", "sigma", "threshold", "leak")
"""Parameters that are no weights, by the last part of their name: weight decay would pull them towards 0."""

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)


def adam(lr: float = 2e-3, weight_decay: float = 0.0) -> OptimizerFactory:
    """Adam on all parameters."""
    return lambda parameters: torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay)


def adamw(lr: float = 2e-3, weight_decay: float = 1e-2) -> OptimizerFactory:
    """AdamW: weights decay by ``lr weight_decay``, apart from the gradient (Loshchilov and Hutter 2019)."""
    return lambda parameters: torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)


def sgd(lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 0.0) -> OptimizerFactory:
    """Stochastic gradient descent with momentum; SLTT's, with rate 0.1 and momentum 0.9."""
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)


def sgd_sai(lr: float = 1e-2, momentum: float = 0.9, weight_decay: float = 1e-2) -> OptimizerFactory:
    """:class:`SGDSaI` on all parameters."""
    return lambda parameters: SGDSaI(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)


def parameter_groups(
    model: nn.Module, *, weight_decay: float, own: Mapping[str, Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """The trainable parameters of ``model`` in groups, each with a ``name``: only weights of layers decay.

    ``decayed``: two dimensions or more, not of a normalisation, not named as in :data:`UNDECAYED`. ``undecayed``: all
    others, with ``weight_decay`` 0: biases, norms, thresholds, leaks, positions of delays. ``own`` gives parameters
    whose name ends in one of its keys a group of that name and the settings there, without decay unless these say so:
    ``{"position": {"lr": 0.1}}``. Empty groups are left out. Errors: ``ValueError`` for a key that no parameter has.
    """
    own = own or {}
    groups: dict[str, list[nn.Parameter]] = {"decayed": [], "undecayed": [], **{key: [] for key in own}}
    seen: set[int] = set()
    for path, module in model.named_modules():
        for name, p in module.named_parameters(path, recurse=False):
            if not p.requires_grad or id(p) in seen:
                continue
            seen.add(id(p))
            # the path of parametrised weights ends in "parametrizations.weight.original"
            ends = set(name.split(".")) if ".parametrizations." in f".{name}" else {name.rsplit(".", 1)[-1]}
            apart = p.ndim < 2 or isinstance(module, NORMS) or bool(ends & set(UNDECAYED))
            key = next((k for k in own if k in ends), "undecayed" if apart else "decayed")
            groups[key].append(p)
    missing = [key for key in own if not groups[key]]
    if missing:
        raise ValueError(f"parameter_groups.own: no trainable parameter is named {', '.join(missing)}")
    settings = {"decayed": {"weight_decay": weight_decay}, "undecayed": {"weight_decay": 0.0}}
    settings |= {key: {"weight_decay": 0.0, **given} for key, given in own.items()}
    return [{"params": ps, "name": key, **settings[key]} for key, ps in groups.items() if ps]


def grouped(
    factory: Callable[..., torch.optim.Optimizer],
    model: nn.Module,
    *,
    weight_decay: float,
    own: Mapping[str, Mapping[str, Any]] | None = None,
) -> OptimizerFactory:
    """``factory`` on :func:`parameter_groups` of ``model``: ``grouped(adamw(1e-3), model, weight_decay=1e-2)``.

    Errors: ``ValueError`` where the parameters to train are not those of ``model``.
    """

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        groups = parameter_groups(model, weight_decay=weight_decay, own=own)
        mine = {id(p) for group in groups for p in group["params"]}
        if mine != {id(p) for p in parameters if p.requires_grad}:
            raise ValueError("grouped: its model is not the one that is trained; give it the model that train() gets")
        return factory(groups)

    return make


class SGDSaI(torch.optim.Optimizer):
    """SGD with momentum, scaled for each tensor once, at initialisation: half of Adam's state.

        gSNR = ||g||_2 / (std(g) + 1e-8)     once, of the first gradient that is not 0 throughout; std unbiased
        m <- mu m + (1 - mu) g               (m = g at first; mu = 0 keeps none)
        w <- (1 - lr decay) w - lr gSNR m

    ``gSNR^2 = (n - 1) + n (mean / std)^2`` for n elements, so mostly sqrt(n). A scalar has no std, and a gradient that
    is the same everywhere has std 0: dividing by 1e-8 would throw leak and threshold away in one step, so gSNR is 1
    there. A tensor whose gradient is still 0 (a silent layer) is scaled later. Source: Xu, Xiang, Cai, Liu 2024,
    arXiv 2412.11768; the guards and mu = 0 are ours. Errors: ``ValueError`` for settings out of range and
    sparse gradients.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 1e-2,
        eps: float = 1e-8,
    ) -> None:
        if lr < 0.0 or weight_decay < 0.0 or eps <= 0.0 or not 0.0 <= momentum < 1.0:
            raise ValueError(
                f"SGDSaI: lr and weight_decay must be at least 0, eps above 0, momentum in [0, 1), got {lr}, "
                f"{weight_decay}, {eps}, {momentum}"
            )
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]  # torch types it as two overloads
        """One step; ``closure`` computes loss and gradients again, as torch has it."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group)
        return loss

    def _move(self, p: nn.Parameter, group: dict[str, Any]) -> None:
        g, state, mu = p.grad, self.state[p], group["momentum"]
        if g is None or g.is_sparse:
            raise ValueError("SGDSaI: takes no sparse gradients; make the embedding dense")
        if "gsnr" not in state and bool(g.any()):
            state["gsnr"] = gsnr(g, group["eps"])
        m = g
        if mu:
            if "momentum" in state:
                m = state["momentum"].mul_(mu).add_(g, alpha=1.0 - mu)
            else:
                m = state["momentum"] = g.clone()
        if group["weight_decay"]:
            p.mul_(1.0 - group["lr"] * group["weight_decay"])
        p.add_(m, alpha=-group["lr"] * state.get("gsnr", 1.0))


def gsnr(g: Tensor, eps: float = 1e-8) -> float:
    """``||g||_2 / (std(g) + eps)`` with the unbiased std; 1 for a scalar and where all elements are the same."""
    if g.numel() == 1:
        return 1.0
    g = g.double()
    spread = float(g.std())
    # equal elements leave a std of rounding only, about 1e-16 of their size
    if spread <= 1e-12 * float(g.abs().max()):
        return 1.0
    return float(g.norm()) / (spread + eps)
