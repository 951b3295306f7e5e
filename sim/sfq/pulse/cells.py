"""A cell at pulse level is data: states, transitions, least times between its inputs. Times in s, currents in A.

    mealy        (state, input) -> (next state, outputs after their delays)
    stochastic   as mealy, but a pulse takes the transition on PASS or the one on BLOCK, at random:
                 p = erfc(-(I - i50_A) / (sqrt 2 sigma_A)) / 2,  I the weight current, sigma_A ~ sqrt(temperature)
    soma         v <- v exp(-dt/tau_s) + weight;  fires at v >= theta = (ic_A - bias) / pulse_A, then v <- v - reset

The law that runs them is ``kernel.react``. Sources: docs/sfq.md 3.3, 3.4, 4.2; the cells' own tables.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

PASS, BLOCK = "pass", "block"
TAKE, FIRE, BACK = "take", "fire", "back"
"""What a soma does: takes a pulse, fires, or slips back under inhibition. Its transitions are on these."""

Kind = Literal["mealy", "soma", "stochastic"]


class CellError(ValueError):
    """A cell, netlist or pulse train that cannot be used: names the thing, the rule and the fix."""


@dataclass(frozen=True)
class Emission:
    """A pulse at port ``out``, ``delay_s`` after the input's, with normal jitter of ``jitter_s``.

    Where the driver makes it ``x`` later and the load ``y``, both together make it ``x + y + blend_per_s x y`` later.
    """

    out: str
    delay_s: float
    jitter_s: float = 0.0
    blend_per_s: float = 0.0


@dataclass(frozen=True)
class Recovery:
    """``extra_s`` that the outputs of a transition are late when input ``first`` came ``since_s`` before.

    Straight lines between the points, the first value before them, 0 after the last.
    """

    first: str
    since_s: tuple[float, ...]
    extra_s: tuple[float, ...]


@dataclass(frozen=True)
class Transition:
    """In ``state``, a pulse on ``on`` leads to ``to``; ``slips`` junctions slip, their Ic adds up to ``slip_ic_A``."""

    state: str
    on: str
    to: str
    emits: tuple[Emission, ...] = ()
    slips: int = 0
    slip_ic_A: float = 0.0
    recoveries: tuple[Recovery, ...] = ()


@dataclass(frozen=True)
class Separation:
    """A pulse on ``then`` must come ``least_s`` after the last one on ``first``, in ``state`` (empty: in any).

    ``drops``: what the cell itself does with one that is too early is to lose it (an inverter's maximum rate), so the
    policies ``warn`` and ``random`` lose it too.
    """

    first: str
    then: str
    least_s: float
    drops: bool = False
    state: str = ""


@dataclass(frozen=True)
class SomaRow:
    """A soma with so many branches: what a pulse adds (A), how fast it leaks, effective critical current (A).

    A pulse that takes v to theta or over makes the soma slip ``slip_s + late_s ln(1 + late_v / (v - theta))`` later,
    slowly where theta is only just reached; the slip takes ``reset`` pulses off.
    """

    branches: int
    pulse_A: float
    tau_s: float
    ic_A: float
    reset: float
    slip_s: float = 0.0
    late_s: float = 0.0
    late_v: float = 0.0


@dataclass(frozen=True)
class Membrane:
    """A soma's numbers by branches. ``source`` names the element that is its bias ``bias_A``.

    ``refractory_s``: between two slips. Under inhibition it slips back where v comes to ``-(ic_A + bias + back_A) /
    pulse_A``: the junction behind the threshold's takes its part of a current that pulls down.
    """

    rows: tuple[SomaRow, ...]
    bias_A: float
    refractory_s: float
    back_A: float = 0.0
    source: str = "IB1"

    def row(self, branches: int) -> SomaRow:
        """The soma with ``branches``, linear between rows. Errors: CellError outside them."""
        rows = self.rows
        if not rows[0].branches <= branches <= rows[-1].branches:
            raise CellError(
                f"a soma with {branches} branches: measured are {rows[0].branches} to {rows[-1].branches}; "
                "split the fan-in over two somas or add a row to the cell's table"
            )
        k = next(i for i, row in enumerate(rows) if row.branches >= branches)
        if rows[k].branches == branches:
            return rows[k]
        a, b = rows[k - 1], rows[k]
        u = (branches - a.branches) / (b.branches - a.branches)
        mix = {key: x + u * (vars(b)[key] - x) for key, x in vars(a).items() if key != "branches"}
        return SomaRow(branches, **mix)


@dataclass(frozen=True)
class Chance:
    """A stochastic cell's numbers: half of the pulses pass at ``i50_A``; ``sigma_A`` holds at ``temperature_K``."""

    i50_A: float
    sigma_A: float
    temperature_K: float

    def probability(self, weight_A: float, temperature_K: float | None = None) -> float:
        """Of passing, at a weight current; without noise (0 K) 0 or 1."""
        at = self.temperature_K if temperature_K is None else temperature_K
        sigma = self.sigma_A * math.sqrt(at / self.temperature_K)
        if sigma == 0.0:
            return float(weight_A >= self.i50_A)
        return 0.5 * math.erfc(-(weight_A - self.i50_A) / (math.sqrt(2.0) * sigma))


@dataclass(frozen=True)
class Neighbours:
    """What a driver and a load on one line change, against a JTL in the place of the other. Seconds.

    ``later_s`` by state of the load: how much later the driver slips; ``after_s`` likewise: how much later than that
    the load's outputs are; ``aside_s``: how much later the driver's other outputs slip.
    """

    later_s: tuple[float, ...]
    after_s: tuple[float, ...]
    aside_s: Mapping[str, float]


@dataclass(frozen=True)
class PulseCell:
    """A cell as data. ``inputs`` are in the order in which simultaneous pulses are taken.

    ``negative`` names ports that carry anti-pulses; ``controls`` take a current, not pulses. ``weight`` is what a pulse
    of the output adds to a soma, 0 for an output that no soma takes.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    transitions: tuple[Transition, ...]
    start: str = "idle"
    kind: Kind = "mealy"
    separations: tuple[Separation, ...] = ()
    controls: tuple[str, ...] = ()
    negative: frozenset[str] = frozenset()
    weight: float = 0.0
    junctions: int = 0
    bias_A: float = 0.0
    membrane: Membrane | None = None
    branches: int = 0
    chance: Chance | None = None
    pins: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        check(self)

    @property
    def states(self) -> tuple[str, ...]:
        """Start first, then in the order of the transitions."""
        found = [self.start, *(t.state for t in self.transitions), *(t.to for t in self.transitions)]
        return tuple(dict.fromkeys(found))

    @property
    def events(self) -> tuple[str, ...]:
        """What a transition can be on: the inputs of a Mealy cell, what a soma or stochastic cell does."""
        return {"mealy": self.inputs, "soma": (TAKE, FIRE, BACK), "stochastic": (PASS, BLOCK)}[self.kind]

    def table(self) -> list[Transition]:
        """All transitions, states outer, events inner."""
        at = {(t.state, t.on): t for t in self.transitions}
        return [at[s, e] for s in self.states for e in self.events]


def check(cell: PulseCell) -> None:
    """Errors: CellError for a port, state or time that does not fit, a missing or a doubled transition."""
    ports = (*cell.inputs, *cell.outputs, *cell.controls)
    if not cell.inputs or len(set(ports)) != len(ports):
        raise CellError(f"{cell.name}: ports {ports} have no input or a doubled name; name each once")
    unknown = cell.negative - set(ports)
    if unknown:
        raise CellError(f"{cell.name}: negative names {sorted(unknown)}, its ports are {ports}")
    pairs = [(t.state, t.on) for t in cell.transitions]
    for state in cell.states:
        for event in cell.events:
            if pairs.count((state, event)) != 1:
                raise CellError(f"{cell.name}: state '{state}' has {pairs.count((state, event))} transitions on "
                                f"'{event}'; give one")  # fmt: skip
    for t in cell.transitions:
        if t.on not in cell.events:
            raise CellError(f"{cell.name}: a transition is on '{t.on}'; known here: {cell.events}")
        for e in t.emits:
            _time(cell, f"delay of {e.out} on '{t.on}'", e.delay_s)
            _time(cell, f"jitter of {e.out} on '{t.on}'", e.jitter_s)
            if e.out not in cell.outputs:
                raise CellError(f"{cell.name}: a transition emits at '{e.out}'; its outputs are {cell.outputs}")
        for r in t.recoveries:
            _recovery(cell, r)
    for s in cell.separations:
        _time(cell, f"separation {s.first} to {s.then}", s.least_s)
        if not {s.first, s.then} <= set(cell.inputs):
            raise CellError(f"{cell.name}: separation {s.first} to {s.then} is not of its inputs {cell.inputs}")
        if s.state and s.state not in cell.states:
            raise CellError(f"{cell.name}: separation {s.first} to {s.then} in state '{s.state}', which it has not")
    if (cell.kind == "soma") != (cell.membrane is not None) or (cell.kind == "stochastic") != (cell.chance is not None):
        raise CellError(f"{cell.name}: kind '{cell.kind}' without its numbers; soma: membrane, stochastic: chance")


def _recovery(cell: PulseCell, r: Recovery) -> None:
    if r.first not in cell.inputs or len(r.since_s) != len(r.extra_s) or not r.since_s:
        raise CellError(f"{cell.name}: a recovery since '{r.first}' is of no input, or its two rows differ in length")
    if any(b <= a for a, b in zip(r.since_s, r.since_s[1:], strict=False)):
        raise CellError(f"{cell.name}: the times of a recovery since '{r.first}' must rise")


def _time(cell: PulseCell, what: str, value_s: float) -> None:
    if not 0.0 <= value_s < 1e-6:
        raise CellError(f"{cell.name}: {what} is {value_s:g} s; give seconds, 0 to 1e-6")


def library(cells: Sequence[PulseCell]) -> Mapping[str, PulseCell]:
    """Cells by name. Errors: CellError for a doubled one."""
    found = {c.name: c for c in cells}
    if len(found) != len(cells):
        raise CellError("two cells of a library have one name; rename one")
    return found
