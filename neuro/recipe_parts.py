"""What a recipe's sections may name, one function a kind: models, neurons, methods, losses, optimizers, schedules.

The keywords of a function are the options of its kind; those that begin with "_" come from the run, not from the file.
torch is imported when something is made, not when a recipe is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from neuro.neuron import Charge, Law, Leaky, NoLeak, Tau
from neuro.recipe_data import Sets

SLTT_LAW = Law(Tau(1.1, decay_input=False), reset="subtract")
"""The neurons of the SLTT papers, where a recipe has no [neuron]."""


@dataclass(frozen=True)
class Loop:
    """How long and in what batches; see :func:`loop`."""

    epochs: int
    batch: int
    amp: str
    accumulate: int
    clip: float


def loop(
    *,
    epochs: int,
    batch: int = 64,
    amp: Literal["none", "mixed", "bfloat16", "float16"] = "none",
    accumulate: int = 1,
    clip: float = 0.0,
) -> Loop:
    """``amp`` "mixed": float16 on a GPU, bfloat16 without one; ``accumulate``: each batch in so many parts; ``clip``:

    bound of the gradients' norm, 0 for none.
    """
    return Loop(epochs, batch, amp, accumulate, clip)


def law(
    *,
    charge: Literal["tau", "leaky", "no_leak"] = "tau",
    tau: float = 1.1,
    decay_input: bool = False,
    beta: float = 1.0,
    threshold: float = 1.0,
    reset: Literal["zero", "subtract"] = "subtract",
    fires: Literal[">=", ">"] = ">=",
) -> Law:
    """The neurons' law. ``tau`` and ``decay_input`` are those of "tau", ``beta`` is that of "leaky"."""
    charges: dict[str, Callable[[], Charge]] = {
        "tau": lambda: Tau(tau, decay_input),
        "leaky": lambda: Leaky(beta),
        "no_leak": NoLeak,
    }
    return Law(charges[charge](), threshold=threshold, reset=reset, fires=fires)


def vgg11_bn(
    *,
    dropout: float = 0.0,
    plan: tuple[int | str, ...] = (),
    pooled: int = 7,
    _sets: Sets,
    _law: Law | None,
    _seed: int,
) -> Any:
    """:func:`neuro.models.vgg11_bn.vgg11_bn`; an empty plan is the paper's."""
    from neuro.models import vgg11_bn as m

    return m.vgg11_bn(
        classes=_sets.classes, channels=_sets.shape[0], dropout=dropout, pooled=pooled, plan=plan or m.PLAN,
        law=_law or SLTT_LAW, seed=_seed,
    )  # fmt: skip


def preact_resnet18(
    *,
    dropout: float = 0.0,
    widths: tuple[int, ...] = (64, 128, 256, 512),
    blocks: tuple[int, ...] = (2, 2, 2, 2),
    _sets: Sets,
    _law: Law | None,
    _seed: int,
) -> Any:
    """:func:`neuro.models.preact_resnet.preact_resnet18`; the last mean takes the whole map."""
    from neuro.models import preact_resnet as m

    side = -(-_sets.shape[1] // 2 ** (len(widths) - 1))
    return m.preact_resnet18(
        classes=_sets.classes, channels=_sets.shape[0], dropout=dropout, widths=widths, blocks=blocks, pool=side,
        law=_law or SLTT_LAW, seed=_seed,
    )  # fmt: skip


def nf_resnet(
    *,
    depth: Literal[34, 50, 101] = 34,
    widths: tuple[int, ...] = (64, 128, 256, 512),
    blocks: tuple[int, ...] = (),
    _sets: Sets,
    _law: Law | None,
    _seed: int,
) -> Any:
    """:func:`neuro.models.nf_resnet.nf_resnet`; empty ``blocks`` are those of the depth."""
    from neuro.models import nf_resnet as m

    side = -(-_sets.shape[1] // 2 ** (len(widths) + 1))
    return m.nf_resnet(
        depth, classes=_sets.classes, channels=_sets.shape[0], widths=widths, blocks=blocks or None, pool=side,
        law=_law or SLTT_LAW, seed=_seed,
    )  # fmt: skip


def mnist_conv(*, channels: int = 16, spiking: bool = False, _sets: Sets, _law: Law | None, _seed: int) -> Any:
    """:func:`neuro.models.mnist_conv.mnist_conv`."""
    from neuro.models import mnist_conv as m

    return m.mnist_conv(channels=channels, classes=_sets.classes, spiking=spiking, law=_law or m.LAW, seed=_seed)


def vgg(
    *,
    plan: tuple[int | str, ...],
    hidden: tuple[int, ...] = (4096, 4096),
    norm: bool = True,
    dropout: float = 0.5,
    shift: int = 0,
    _sets: Sets,
    _law: Law | None,
    _seed: int,
) -> Any:
    """:func:`neuro.models.vgg.vgg`: the ANN of IIR-SNN, "A" in ``plan`` a mean; its neurons come from the method."""
    from neuro.models import vgg as m

    shape: Any = _sets.shape
    given: Any = plan
    return m.vgg(given, shape, _sets.classes, hidden=hidden, norm=norm, dropout=dropout, shift=shift, seed=_seed)


def delay_net(
    *,
    hidden: tuple[int, ...] = (256, 256),
    taps: int = 25,
    tau: float = 1.005,
    dropout: float = 0.4,
    _sets: Sets,
    _law: Law | None,
    _seed: int,
) -> Any:
    """:func:`neuro.models.delay_net.delay_net`; ``tau`` in steps, ``taps`` 1 without delays."""
    from neuro.models import delay_net as m

    return m.delay_net((_sets.shape[0], *hidden, _sets.classes), taps=taps, tau=tau, dropout=dropout, seed=_seed)


def sltt(*, chunk: int = 1, k: int = 0, loss_scale: Literal["T", "K"] = "T") -> Any:
    """:class:`neuro.methods.sltt.SLTT`; ``k``: steps of a batch that learn, 0 for all."""
    from neuro.methods.sltt import SLTT

    more: dict[str, Any] = {"k": k, "loss_scale": loss_scale} if k else {}
    return SLTT(chunk, **more)


def bptt() -> Any:
    """:class:`neuro.methods.bptt.BPTT` on the loss of each step."""
    from neuro.methods.bptt import BPTT

    return BPTT()


@dataclass(frozen=True)
class LatencyPlan:
    """What :func:`neuro.recipe_pipelines.iir` runs."""

    method: Any
    ann: Any
    validation: float


def iir(
    *,
    ann_epochs: int,
    ann_rate: float = 0.01,
    ann_batch: int = 64,
    ann_marks: tuple[float, ...] = (0.45, 0.7, 0.9),
    ann_divide: float = 5.0,
    schedule: tuple[int, ...] = (5, 4, 3, 2, 1),
    q: float = 90.0,
    rate: float = 1e-4,
    marks: tuple[float, ...] = (0.6, 0.8, 0.9),
    divide: float = 5.0,
    dropout: float = 0.2,
    validation: float = 0.1,
    _loop: Loop,
) -> LatencyPlan:
    """IIR-SNN: an ANN, then T of ``schedule`` one after the other, ``[train]`` epochs and batch in each, and a control.

    ``marks``: shares of the epochs at which the rate is divided by ``divide``. ``validation``: share of the training
    images that picks epochs.
    """
    from neuro.methods.iir import IIR, amsgrad, sgd
    from neuro.methods.iir import Recipe as Settings

    ann = Settings(ann_rate, ann_epochs, ann_batch, ann_marks, ann_divide, dropout, sgd)
    snn = Settings(rate, _loop.epochs, _loop.batch, marks, divide, dropout, amsgrad)
    return LatencyPlan(IIR(schedule, snn, q), ann, validation)


@dataclass(frozen=True)
class DelayPlan:
    """What :func:`neuro.recipe_pipelines.dcls` runs."""

    settings: Any
    delays: str


def dcls(
    *,
    delays: Literal["learned", "fixed"] = "learned",
    tune_epochs: int = 30,
    rate: float = 5e-3,
    position_rate: float = 0.1,
    tune_rate: float = 1.2e-4,
    weight_decay: float = 1e-5,
    detach_v: bool = False,
    _loop: Loop,
) -> DelayPlan:
    """DCLS-Delays: ``[train]`` epochs of annealing, rounding, ``tune_epochs`` for the weights alone.

    ``delays`` "fixed": the control, drawn at random and rounded; the control without any is ``taps = 1`` of the model.
    """
    from neuro.methods.dcls import DCLS
    from neuro.methods.dcls import Recipe as Settings

    settings = Settings(
        _loop.epochs, tune_epochs, _loop.batch, rate, position_rate, tune_rate, weight_decay, DCLS(detach_v)
    )
    return DelayPlan(settings, delays)


def ce_mse(*, share: float = 0.05, target: Literal["ones", "onehot"] = "ones") -> Any:
    """``(1 - share) CE(o[t], y) + share MSE(o[t], r)``, r all ones or the label's one-hot."""
    from torch import nn

    from neuro.train import ce_mse as loss

    def value(out: Any, y: Any) -> Any:
        if target == "ones":
            return loss(out, y, share=share)
        wanted = nn.functional.one_hot(y, out.shape[-1]).to(out.dtype)
        return (1.0 - share) * nn.functional.cross_entropy(out, y) + share * nn.functional.mse_loss(out, wanted)

    return value


def spike_ce(*, gain: float = 4.0) -> Any:
    """``CE(gain o[t], y)`` on spikes."""
    from functools import partial

    from neuro.train import spike_ce as loss

    return partial(loss, gain=gain)


def spike_mse() -> Any:
    """``mean((o[t] - onehot(y))^2)`` on spikes."""
    from neuro.train import spike_mse as loss

    return loss


def cross_entropy() -> Any:
    """``CE(o[t], y)``."""
    from torch import nn

    return nn.functional.cross_entropy


def sgd(*, lr: float, momentum: float = 0.9, weight_decay: float = 0.0) -> Any:
    """Stochastic gradient descent."""
    from neuro.optim import sgd as rule

    return rule(lr, momentum, weight_decay)


def adam(*, lr: float = 2e-3, weight_decay: float = 0.0) -> Any:
    """Adam."""
    from neuro.optim import adam as rule

    return rule(lr, weight_decay)


def adamw(*, lr: float = 2e-3, weight_decay: float = 1e-2) -> Any:
    """AdamW."""
    from neuro.optim import adamw as rule

    return rule(lr, weight_decay)


def sgd_sai(*, lr: float = 1e-2, momentum: float = 0.9, weight_decay: float = 1e-2) -> Any:
    """SGD-SaI."""
    from neuro.optim import sgd_sai as rule

    return rule(lr, momentum, weight_decay)


def cosine() -> Any:
    """From 1 to 0 by half a cosine."""
    from neuro.schedules import cosine as schedule

    return schedule


def constant() -> Any:
    """1."""
    from neuro.schedules import constant as schedule

    return schedule


def milestones(*, at: tuple[float, ...] = (0.5, 0.75), factor: float = 0.1) -> Any:
    """``factor`` more at each of these shares of the epochs."""
    from neuro.schedules import Milestones

    return Milestones(at, factor)


def one_cycle(*, rise: float = 0.3, start: float = 25.0, end: float = 1e4) -> Any:
    """Up, then down: one cycle."""
    from neuro.schedules import OneCycle

    return OneCycle(rise, start, end)
