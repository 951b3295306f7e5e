"""Source shapes: the value of a source at a time. One dataclass a shape; times in s, values in A, V or rad.

``sample(t, h, t_stop)`` takes an array of times and the run's step and end, which some defaults need. Before t = 0
(the settling steps) a PWL is 0 and every other shape is what its formula says.
Source of the formulas and defaults: JoSIM Function.cpp; docs/sfq.md 1.8 c, g and 1.9.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sim.sfq.errors import DeckError, Where, unsupported
from sim.sfq.lines import split_outside

Array: TypeAlias = NDArray[np.float64]
Evaluate: TypeAlias = Callable[[str], float]


class Shape(Protocol):
    """What a source needs of its shape; shapes are frozen, so equal sources share one table."""

    def sample(self, t: Array, h: float, t_stop: float) -> Array:
        """The values at times ``t`` (s), shape of ``t``."""

    def bias(self) -> float:
        """The value a constant bias settles at; 0 for a shape that is a signal."""


@dataclass(frozen=True)
class Dc:
    """``v``, at any time."""

    v: float

    def sample(self, t: Array, h: float, t_stop: float) -> Array:
        """A constant."""
        del h, t_stop
        return np.full(t.shape, self.v)

    def bias(self) -> float:
        """The constant."""
        return self.v


@dataclass(frozen=True)
class Pwl:
    """Straight lines through ``(times, values)``; the last value is held, 0 before the first time."""

    times: tuple[float, ...]
    values: tuple[float, ...]

    def sample(self, t: Array, h: float, t_stop: float) -> Array:
        """``y1 + (y2 - y1)/(x2 - x1) (t - x1)``; at an instant edge the later value."""
        del h, t_stop
        return _pieces(self, t, lambda u: u, 0.0)

    def bias(self) -> float:
        """The held value of a ramp (at most three points); a longer train is a signal."""
        return self.values[-1] if len(self.values) <= 3 else 0.0


@dataclass(frozen=True)
class Pws:
    """As ``Pwl`` with half-cosine pieces; the first value is held before the first time."""

    times: tuple[float, ...]
    values: tuple[float, ...]

    def sample(self, t: Array, h: float, t_stop: float) -> Array:
        """``y1 + (y2 - y1) (1 - cos(pi u))/2`` with ``u = (t - x1)/(x2 - x1)``."""
        del h, t_stop
        return _pieces(self, t, lambda u: 0.5 * (1.0 - np.cos(np.pi * u)), self.values[0])

    def bias(self) -> float:
        """As ``Pwl``."""
        return self.values[-1] if len(self.values) <= 3 else 0.0


def _pieces(shape: Pwl | Pws, t: Array, ease: Callable[[Array], Array], before: float) -> Array:
    x, y = np.array(shape.times), np.array(shape.values)
    if len(x) == 1:
        return np.where(t >= x[0], y[0], before)
    i = np.clip(np.searchsorted(x, t, side="right") - 1, 0, len(x) - 2)
    width = x[i + 1] - x[i]
    u = (t - x[i]) / np.where(width > 0, width, 1.0)
    inside = y[i] + (y[i + 1] - y[i]) * ease(u)
    return np.where(t >= x[-1], y[-1], np.where(t < x[0], before, inside))


@dataclass(frozen=True)
class Pulse:
    """``low`` to ``high`` after ``delay``, rising in ``rise``, staying ``width``, falling in ``fall``, each ``period``.

    None stands for JoSIM's default: rise and fall one step, width and period the whole run.
    """

    low: float
    high: float
    delay: float = 0.0
    rise: float | None = None
    fall: float | None = None
    width: float | None = None
    period: float | None = None

    def sample(self, t: Array, h: float, t_stop: float) -> Array:
        """The trapezium, repeated from ``delay`` on."""
        rise, fall = (h if e is None else e for e in (self.rise, self.fall))
        width, period = (t_stop if e is None else e for e in (self.width, self.period))
        since = np.maximum(t - self.delay, 0.0)
        at = t - self.delay - np.floor(since / period) * period
        up = self.low + (self.high - self.low) * at / (rise or 1.0)
        down = self.high + (self.low - self.high) * (at - rise - width) / (fall or 1.0)
        value = np.where(at < rise + width + fall, down, self.low)
        value = np.where(at < rise + width, self.high, value)
        return np.where(t < self.delay, self.low, np.where(at < rise, up, value))

    def bias(self) -> float:
        """A signal."""
        return 0.0


@dataclass(frozen=True)
class Sin:
    """``offset + amplitude exp(-damping t') sin(2 pi f t' + phase)``, ``t' = t - delay``."""

    offset: float
    amplitude: float
    frequency: float | None = None
    delay: float = 0.0
    damping: float = 0.0
    phase_deg: float = 0.0
    cycles: float = 0.0

    def sample(self, t: Array, h: float, t_stop: float) -> Array:
        """The formula of the class; ``offset`` outside the cycles. Default: one period a run, endless."""
        del h
        f = 1.0 / t_stop if self.frequency is None else self.frequency
        since = np.maximum(t - self.delay, 0.0)
        wave = np.sin(2.0 * np.pi * f * since + self.phase_deg * (np.pi / 180.0)) * np.exp(-self.damping * since)
        on = t >= self.delay
        if self.cycles > 0.0 and f > 0.0:
            on &= since < self.cycles / f
        return np.where(on, self.offset + self.amplitude * wave, self.offset)

    def bias(self) -> float:
        """A signal."""
        return 0.0


@dataclass(frozen=True)
class Exp:
    """``first`` to ``second`` from ``delay1`` with time constant ``tau1``, back from ``delay2`` with ``tau2``.

    None stands for JoSIM's default, one step (its documentation swaps two of them; the code counts).
    """

    first: float
    second: float
    delay1: float = 0.0
    tau1: float | None = None
    delay2: float | None = None
    tau2: float | None = None

    def sample(self, t: Array, h: float, t_stop: float) -> Array:
        """``a + (b - a)(1 - e^-(t-d1)/tau1) + (a - b)(1 - e^-(t-d2)/tau2)``, each part from its delay on."""
        del t_stop
        tau1, delay2, tau2 = (h if e is None else e for e in (self.tau1, self.delay2, self.tau2))
        rise = -np.expm1(-np.maximum(t - self.delay1, 0.0) / tau1)
        fall = np.where(t >= max(self.delay1, delay2), -np.expm1(-np.maximum(t - delay2, 0.0) / tau2), 0.0)
        value: Array = self.first + (self.second - self.first) * (rise - fall)
        return value

    def bias(self) -> float:
        """A signal."""
        return 0.0


_CALL = re.compile(r"^(PWL|PWS|PULSE|SIN|EXP|CUS|NOISE)\s*\((.*)\)$", re.DOTALL)
_LIMITS = {"PULSE": (2, 7), "SIN": (2, 7), "EXP": (2, 6)}
_ZERO_FORBIDDEN = {"PULSE": {6: "period"}, "EXP": {3: "tau1", 5: "tau2"}}


def parse_shape(text: str, evaluate: Evaluate, where: Where, name: str) -> Shape:
    """``PWL(..)``, ``PULSE(..)``, ``SIN(..)``, ``EXP(..)``, ``PWS(..)``, ``DC v`` or a bare value. Raises DeckError."""
    text = text.strip()
    if text.startswith("DC ") or text.startswith("DC("):
        text = text[2:]
    called = _CALL.match(text)
    if called is None:
        if re.match(r"^(PWL|PWS|PULSE|SIN|EXP|CUS|NOISE)\b", text) and not re.match(
            r"^[A-Z]+\s*\(.*\)\s*[-+*/^]", text
        ):
            raise DeckError(where, name, f"{text!r} is not closed by one )", "write SHAPE(values) and nothing after it")
        return Dc(evaluate(text))
    kind, values = called[1], split_outside(called[2], " \t,")
    if kind in ("CUS", "NOISE"):
        raise unsupported(where, name, f"{kind} source", "use PWL with the samples of the waveform")
    if kind in ("PWL", "PWS"):
        return _points(kind, [evaluate(v) for v in values], where, name)
    low, high = _LIMITS[kind]
    if not low <= len(values) <= high:
        raise DeckError(where, name, f"{kind} has {len(values)} values", f"give {low} to {high} of them")
    numbers = [evaluate(v) for v in values]
    for at, what in _ZERO_FORBIDDEN.get(kind, {}).items():
        if at < len(numbers) and numbers[at] <= 0:
            raise DeckError(
                where, name, f"{kind} with {what} {numbers[at]:g}", f"give a {what} above 0 or leave it out"
            )
    build: dict[str, Callable[..., Shape]] = {"PULSE": Pulse, "SIN": Sin, "EXP": Exp}
    return build[kind](*numbers)


def _points(kind: str, numbers: list[float], where: Where, name: str) -> Shape:
    if len(numbers) < 2 or len(numbers) % 2:
        raise DeckError(where, name, f"{kind} has {len(numbers)} values", "give pairs: time value time value ..")
    times, values = numbers[::2], numbers[1::2]
    if any(b < a for a, b in pairwise(times)):
        raise DeckError(where, name, f"{kind} times go back", "write the points in the order of time")
    if times[0] > 0.0:
        times, values = [0.0, *times], [values[0], *values]
    return (Pwl if kind == "PWL" else Pws)(tuple(times), tuple(values))
