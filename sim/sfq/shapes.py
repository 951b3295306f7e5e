"""Source shapes: the value of a source at a time. One dataclass a shape; times in s, values in A, V or rad.

``sample(t, h, t_stop)`` takes an array of times and the run's step and end, which some defaults need. Before t = 0
(the settling steps) a PWL is 0 and every other shape is what its formula says.
Source of the formulas and defaults: JoSIM Function.cpp; docs/sfq.md 1.8 c, g and 1.9.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeAlias

import numpy as np

from sim.sfq.elements import joined
from sim.sfq.errors import DeckError, DeckWarning, Where
from sim.sfq.expr import plain_number
from sim.sfq.lines import split_outside
from sim.sfq.waves import Array as Array
from sim.sfq.waves import Custom as Custom
from sim.sfq.waves import Noise as Noise

Evaluate: TypeAlias = Callable[[str], float]
WaveFile: TypeAlias = Callable[[str, Where], str]
"""The first line of the wave file of a name."""

MAX_SAMPLES = 2_000_000


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
    out, moving = np.full(t.shape, y[-1]), t < x[-1]
    if not moving.any():
        return out
    now = t[moving]  # a bias ramp is over after some steps of thousands
    i = np.clip(np.searchsorted(x, now, side="right") - 1, 0, len(x) - 2)
    width = x[i + 1] - x[i]
    u = (now - x[i]) / np.where(width > 0, width, 1.0)
    inside = y[i] + (y[i + 1] - y[i]) * ease(u)
    out[moving] = np.where(now < x[0], before, inside)
    return out


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


@dataclass(frozen=True)
class Sum:
    """Shapes added up, ``PULSE(..) + PULSE(..)`` of WRspice; JoSIM has none."""

    terms: tuple[Shape, ...]

    def sample(self, t: Array, h: float, t_stop: float) -> Array:
        """The sum."""
        value: Array = np.sum([term.sample(t, h, t_stop) for term in self.terms], axis=0)
        return value

    def bias(self) -> float:
        """The sum of what each settles at."""
        return sum(term.bias() for term in self.terms)

    def named(self, name: str, seed: int | None) -> Sum:
        """With the noise among its terms that of the source ``name``, see :class:`sim.sfq.waves.Noise`."""
        terms = enumerate(self.terms)
        return Sum(tuple(t.named(f"{name}+{k}", seed) if isinstance(t, Noise) else t for k, t in terms))


KINDS = ("PWL", "PWS", "PULSE", "SIN", "EXP", "CUS", "NOISE")
_CALL = re.compile(rf"^({'|'.join(KINDS)})\b\s*(\(?)(.*)$", re.DOTALL)
_DC = re.compile(r"^DC(?:\s+|(?=\())")
_AC = re.compile(r"\s+AC\b.*$")
_LIMITS = {"PULSE": (2, 7), "SIN": (2, 7), "EXP": (2, 6), "NOISE": (1, 3)}
_ZERO_FORBIDDEN = {"PULSE": {6: "period"}, "EXP": {3: "tau1", 5: "tau2"}, "NOISE": {2: "time step"}}


def parse_shape(text: str, evaluate: Evaluate, where: Where, name: str, wave: WaveFile | None = None) -> Shape:
    """``PWL(..)``, ``PULSE(..)``, ``SIN(..)``, ``EXP(..)``, ``PWS(..)``, ``CUS(file ..)``, ``NOISE(..)``, ``DC v`` or a
    bare value. SPICE's ``DC v SHAPE(..)`` is the shape, and ``AC ..`` behind is left out with a warning. Brackets of a
    shape may miss. Raises DeckError.
    """
    text = text.strip()
    called = _CALL.match(text)
    if called is None and (start := _DC.match(text)):
        text = text[start.end() :].strip()
        if later := re.search(rf"\s({'|'.join(KINDS)})\b\s*\(", text):
            text = text[later.start() :].strip()
        called = _CALL.match(text)
    if alternating := _AC.search(text):
        warnings.warn(DeckWarning(f"{where}: {name}:{alternating[0]} is ignored: no AC analysis"), stacklevel=2)
        text = text[: alternating.start()]
        called = _CALL.match(text)
    if called is None:
        return Dc(evaluate(joined(text)))
    kind, inside = called[1], called[3].rstrip()
    terms = split_outside(text, "+")
    if called[2] and len(terms) > 1:
        return Sum(tuple(parse_shape(term, evaluate, where, name, wave) for term in terms))
    if called[2]:
        inside = _closed(inside, text, where, name)
    values = split_outside(joined(inside), " \t,")
    if kind == "CUS":
        return _custom(values, evaluate, where, name, wave)
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
    build: dict[str, Callable[..., Shape]] = {"PULSE": Pulse, "SIN": Sin, "EXP": Exp, "NOISE": Noise}
    return build[kind](*numbers)


def _closed(inside: str, text: str, where: Where, name: str) -> str:
    """What is between the shape's bracket and the one that closes it, which must be the last."""
    depth = 1
    for at, c in enumerate(inside):
        depth += (c == "(") - (c == ")")
        if depth == 0 and at == len(inside) - 1:
            return inside[:-1]
        if depth == 0:
            break
    raise DeckError(where, name, f"{text!r} is not closed by one )", "write SHAPE(values) and nothing after it")


def _custom(values: list[str], evaluate: Evaluate, where: Where, name: str, wave: WaveFile | None) -> Custom:
    if not 2 <= len(values) <= 6 or wave is None:
        raise DeckError(
            where, name, f"CUS has {len(values)} values", "write CUS(file timestep [scale [0|1|2 [delay [periodic]]]])"
        )
    numbers = [evaluate(v) for v in values[1:]] + [0.0, 1.0, 1.0, 0.0, 0.0][len(values) - 1 :]
    interval, scale, mode, delay, periodic = numbers
    if interval <= 0 or mode not in (0, 1, 2):
        raise DeckError(
            where, name, f"CUS with time step {interval:g}, interpolation {mode:g}",
            "give a time step above 0 and 0 (hold), 1 (straight) or 2 (spline)",
        )  # fmt: skip
    words = re.split(r"[ \t,;]+", wave(values[0].strip("{}\"'"), where).strip(" \t,;"))
    if len(words) > MAX_SAMPLES:
        raise DeckError(where, name, f"the wave has {len(words)} samples", f"use at most {MAX_SAMPLES}")
    samples = []
    for word in words:
        value = plain_number(word.upper())
        if value is None:
            raise DeckError(where, name, f"{word[:20]!r} in the wave file is no number", "write numbers on one line")
        samples.append(value)
    if mode == 2 and len(samples) < 3:
        raise DeckError(where, name, f"a spline through {len(samples)} samples", "give three or more, or use mode 1")
    return Custom(values[0], tuple(samples), interval, scale, int(mode), delay, round(periodic) != 0)


def _points(kind: str, numbers: list[float], where: Where, name: str) -> Shape:
    if len(numbers) < 2 or len(numbers) % 2:
        raise DeckError(where, name, f"{kind} has {len(numbers)} values", "give pairs: time value time value ..")
    times, values = numbers[::2], numbers[1::2]
    if any(b < a for a, b in pairwise(times)):
        raise DeckError(where, name, f"{kind} times go back", "write the points in the order of time")
    if times[0] > 0.0:
        times, values = [0.0, *times], [values[0], *values]
    return (Pwl if kind == "PWL" else Pws)(tuple(times), tuple(values))
