"""Populations of an integer program: lava-nc's neuron processes under one set of integers each.

Only numbers; the law that they feed is :mod:`sim.loihi.reference`. Shapes are torch's, flattened in C order. ``start``:
chip step of a population's first step; it rests before, silent and untouched. ``states``: its variables, which are its
probes. ``graded``: it sends signed integers, and its targets need ``num_message_bits``. Parameters are those of lava's
constructors, whose shifts are part of the law.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from export.network import Shape

Int: TypeAlias = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class InputNode:
    """Spikes from outside: 0 or 1, or with ``message_bits`` signed integers of magnitude below ``2**message_bits``."""

    shape: Shape
    message_bits: int = 0
    start: int = 0
    kind: ClassVar[str] = "input"
    states: ClassVar[tuple[str, ...]] = ()

    @property
    def graded(self) -> bool:
        """Does it send more than 0 and 1?"""
        return self.message_bits > 0


@dataclass(frozen=True, eq=False)
class Lif:
    """CUBA-LIF: lava's LIF, with ``reset_interval`` its LIFReset.

    ``du, dv`` decay in 1/4096 (the chip adds 1 to ``du``), ``vth`` threshold in 64 voltage units, each one integer or
    one per neuron; ``bias`` mantissa per neuron with exponent ``bias_exp`` (below 0 it shifts right); ``u0, v0`` state
    before the first step. ``reset="subtract"`` takes ``subtract << 6`` off and is an extension of this engine: no
    stock lava process does it. ``reset_interval`` P and ``reset_offset`` O: u = v = 0 before chip step k wherever
    ``(k + 1) mod P == O mod P`` (lava counts its steps from 1); P = 0 never.
    """

    shape: Shape
    du: int | Int
    dv: int | Int
    vth: int | Int
    bias: Int | None = None
    bias_exp: int = 0
    reset: Literal["zero", "subtract"] = "zero"
    subtract: int = 0
    u0: Int | None = None
    start: int = 0
    v0: Int | None = None
    reset_interval: int = 0
    reset_offset: int = 0
    kind: ClassVar[str] = "lif"
    states: ClassVar[tuple[str, ...]] = ("u", "v")
    graded: ClassVar[bool] = False


@dataclass(frozen=True, eq=False)
class Ternary:
    """lava's TernaryLIF: sends -1 below ``vth_lo``, 1 above ``vth_hi`` (both in 64 voltage units), else 0."""

    shape: Shape
    du: int | Int
    dv: int | Int
    vth_hi: int | Int
    vth_lo: int | Int
    bias: Int | None = None
    bias_exp: int = 0
    u0: Int | None = None
    start: int = 0
    v0: Int | None = None
    kind: ClassVar[str] = "ternary"
    states: ClassVar[tuple[str, ...]] = ("u", "v")
    graded: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class SigmaDelta:
    """lava's SigmaDelta: sums what arrives, applies ``activation``, sends the change where it reaches ``vth``."""

    shape: Shape
    vth: int
    bias: Int | None = None
    activation: Literal["relu", "unit"] = "relu"
    cum_error: bool = False
    spike_exp: int = 0
    state_exp: int = 0
    start: int = 0
    kind: ClassVar[str] = "sigma_delta"
    states: ClassVar[tuple[str, ...]] = ("sigma", "act", "residue", "error")
    graded: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class Delta:
    """lava's Delta encoder: sends the change of what arrives where it reaches ``vth``."""

    shape: Shape
    vth: int
    cum_error: bool = False
    spike_exp: int = 0
    state_exp: int = 0
    start: int = 0
    kind: ClassVar[str] = "delta"
    states: ClassVar[tuple[str, ...]] = ("act", "residue", "error")
    graded: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class Sigma:
    """lava's Sigma: sends the sum of all that has arrived."""

    shape: Shape
    start: int = 0
    kind: ClassVar[str] = "sigma"
    states: ClassVar[tuple[str, ...]] = ("sigma",)
    graded: ClassVar[bool] = True


@dataclass(frozen=True, eq=False)
class ResonateFire:
    """lava's RF, or its RF_IZ with ``izhikevich``. Connections name the ``port`` "real" or "imag".

    ``sin_decay, cos_decay``: ``int((1 - alpha) {sin, cos}(2 pi / period) 2^decay_bits)``; see :meth:`of_period`.
    """

    shape: Shape
    sin_decay: int
    cos_decay: int
    decay_bits: int
    vth: int
    state_exp: int = 0
    izhikevich: bool = False
    start: int = 0
    kind: ClassVar[str] = "resonate_fire"
    states: ClassVar[tuple[str, ...]] = ("real", "imag")
    graded: ClassVar[bool] = False

    @classmethod
    def of_period(
        cls, shape: Shape, period: float, alpha: float, vth: int, *, decay_bits: int = 12, state_exp: int = 0,
        izhikevich: bool = False,
    ) -> ResonateFire:  # fmt: skip
        """From the period in steps and the decay ``alpha`` per step, rounded as lava's constructor does."""
        angle = np.pi * 2 * 1 / period
        sin, cos = ((1 - alpha) * f(angle) * (1 << decay_bits) for f in (np.sin, np.cos))
        return cls(shape, int(sin), int(cos), decay_bits, vth, state_exp, izhikevich)


@dataclass(frozen=True, eq=False)
class Graded:
    """lava's GradedVec: sends what arrives where its magnitude exceeds ``vth``; with ``relu`` GradedReluVec."""

    shape: Shape
    vth: int
    relu: bool = False
    start: int = 0
    kind: ClassVar[str] = "graded"
    states: ClassVar[tuple[str, ...]] = ()
    graded: ClassVar[bool] = True


Population: TypeAlias = Lif | Ternary | SigmaDelta | Delta | Sigma | ResonateFire | Graded
Node: TypeAlias = InputNode | Population
POPULATIONS = (Lif, Ternary, SigmaDelta, Delta, Sigma, ResonateFire, Graded)
