"""Chips that go step by step, under one contract, and where another one plugs in.

    begin(program)          every neuron at rest, before chip step 0
    step(x (inputs,)) -> y (outputs,)
    save() -> arrays        restore(arrays) goes on from there

In process: :class:`EngineStepper` (fast) and :class:`ReferenceStepper` (the law as written). Out of process:
:class:`ClientStepper` around anything with ``load(program)``, ``step(x)``, ``reset()`` and ``close()``: a worker that
runs lava-nc, or a chip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from export.loihi import LoihiProgram
from sim import engines
from sim.loihi import engine, reference
from sim.loihi.counting import checked
from sim.loihi.laws import Moment

Array: TypeAlias = npt.NDArray[Any]
Arrays: TypeAlias = dict[str, Array]


class Stepper(Protocol):
    """One chip with one program and one stream of steps."""

    name: str

    def begin(self, program: LoihiProgram) -> None:
        """Every neuron at rest; also ends what ran before."""

    def step(self, x: Array) -> Array:
        """One chip step: ``x (inputs,)`` whole messages, ``y (outputs,)`` what the output population sends now."""

    def membrane(self) -> Array | None:
        """Voltage of the output population after the step, in 1/64 of a weight unit; None where it does not show."""

    def watch(self, rows: Mapping[str, Array], k: int) -> bool:
        """Write the spikes of this step into ``rows[population][k]``; False where they do not show."""

    def active(self) -> dict[str, int]:
        """Neuron updates since ``begin`` with input, current, voltage or bias not 0, per population."""

    def save(self) -> Arrays:
        """The state as plain arrays. Errors: ``ValueError`` where the chip does not give its state away."""

    def restore(self, arrays: Arrays) -> None:
        """Go on from what ``save`` gave, after ``begin`` with the same program."""

    def close(self) -> None:
        """Give back what it holds."""


class Client(Protocol):
    """A chip behind a connection: the seam for a worker process or for hardware."""

    def load(self, program: LoihiProgram) -> Any:
        """Put the program on the chip, at rest."""

    def step(self, x: Array) -> Array:
        """One chip step: ``x (1, *input) -> y (1, *output)``."""

    def reset(self) -> Any:
        """Back to rest with the same program."""

    def close(self) -> Any:
        """End the connection."""


class EngineStepper:
    """:mod:`sim.loihi.engine` in this process; the first ``begin`` of a program compiles its kernels."""

    name = "loihi"

    def __init__(self) -> None:
        self._program: LoihiProgram | None = None
        self._state: engine.State | None = None

    def begin(self, program: LoihiProgram) -> None:
        """At rest."""
        if program is not self._program:
            quiet = np.zeros((1, *program.input_shape), np.int8)
            state: engine.State | None = None
            for _ in range(program.latency + 2):  # until every kernel has run: no compiling inside the loop
                _, state = engine.step(program, state, quiet)
            self._program, self._shape = program, (1, *program.input_shape)
            self._names = tuple(program.populations)
        self._state = None

    def step(self, x: Array) -> Array:
        """One chip step."""
        y, self._state = engine.step(_begun(self._program), self._state, x.reshape(self._shape))
        return y.reshape(-1)

    def membrane(self) -> Array | None:
        """Voltage of the output population."""
        program, state = _begun(self._program), self._state
        if state is None or "v" not in program.populations[program.output].states:
            return None
        return state.read(program.output, "v")[0]

    def watch(self, rows: Mapping[str, Array], k: int) -> bool:
        """Spikes of this step."""
        state = self._state
        if state is None:
            return False
        for n in self._names:
            rows[n][k] = state.plan.outward(n, state.s[n].reshape(-1))
        return True

    def active(self) -> dict[str, int]:
        """From the engine's own totals."""
        state = self._state
        return {} if state is None else {n: int(state.flags[n][0]) for n in self._names}

    def save(self) -> Arrays:
        """The engine's state."""
        return {} if self._state is None else flatten(self._state)

    def restore(self, arrays: Arrays) -> None:
        """Go on."""
        program = _begun(self._program)
        if not arrays:
            self._state = None
            return
        _, fresh = engine.step(program, None, np.zeros(self._shape, np.int8))
        self._state = refill(fresh, arrays)

    def close(self) -> None:
        """Nothing to give back."""


class ReferenceStepper:
    """:mod:`sim.loihi.reference`: slow, and the one that the others are measured by."""

    name = "loihi-reference"

    def __init__(self) -> None:
        self._program: LoihiProgram | None = None
        self._state: reference.State | None = None
        self._moments: dict[str, Moment] = {}
        self._active: dict[str, int] = {}

    def begin(self, program: LoihiProgram) -> None:
        """At rest."""
        self._program, self._state = program, reference.initial(program, 1)
        self._moments, self._active = {}, dict.fromkeys(program.populations, 0)

    def step(self, x: Array) -> Array:
        """One chip step."""
        program = _begun(self._program)
        x = checked(program, x.reshape(1, 1, *program.input_shape)).reshape(1, -1).astype(np.int64)
        if self._state is None:
            raise ValueError("begin(program) comes before step")
        self._moments, self._state = reference.advance(program, self._state, x)
        for n, m in self._moments.items():
            self._active[n] += int(m.active.sum())
        return self._moments[program.output].s[0]

    def membrane(self) -> Array | None:
        """Voltage of the output population."""
        found = None if self._state is None else self._state.vars[_begun(self._program).output].get("v")
        return None if found is None else found[0]

    def watch(self, rows: Mapping[str, Array], k: int) -> bool:
        """Spikes of this step."""
        for n, m in self._moments.items():
            rows[n][k] = m.s[0]
        return bool(self._moments)

    def active(self) -> dict[str, int]:
        """Summed over the steps."""
        return dict(self._active)

    def save(self) -> Arrays:
        """The reference's state."""
        if self._state is None:
            return {}
        return flatten(self._state) | {f"active.{n}": np.array([k]) for n, k in self._active.items()}

    def restore(self, arrays: Arrays) -> None:
        """Go on."""
        self.begin(_begun(self._program))
        if arrays and self._state is not None:
            self._state = refill(self._state, arrays)
            self._active = {n: int(arrays[f"active.{n}"][0]) for n in self._active}

    def close(self) -> None:
        """Nothing to give back."""


class ClientStepper:
    """A :class:`Client` as a stepper. Its hidden spikes and its state stay where they are."""

    def __init__(self, client: Client, name: str = "client") -> None:
        self.client, self.name = client, name
        self._program: LoihiProgram | None = None

    def begin(self, program: LoihiProgram) -> None:
        """Load it once, reset it afterwards."""
        if program is self._program:
            self.client.reset()
        else:
            self.client.load(program)
            self._program = program

    def step(self, x: Array) -> Array:
        """One chip step."""
        return np.asarray(self.client.step(x.reshape(1, *_begun(self._program).input_shape))).reshape(-1)

    def membrane(self) -> Array | None:
        """Not shown."""
        return None

    def watch(self, rows: Mapping[str, Array], k: int) -> bool:
        """Not shown."""
        return False

    def active(self) -> dict[str, int]:
        """Not shown."""
        return {}

    def save(self) -> Arrays:
        """Errors: ``ValueError``, always."""
        raise ValueError(f"{self.name}: keeps its state; stop and go on where an episode ends")

    def restore(self, arrays: Arrays) -> None:
        """Errors: ``ValueError``, always."""
        raise ValueError(f"{self.name}: takes no state; stop and go on where an episode ends")

    def close(self) -> None:
        """End the connection."""
        self.client.close()


def _lava() -> Stepper:
    engines.engine("lava")  # says what is missing
    from sim.lava import client

    return ClientStepper(client.Client(), "lava")


STEPPERS: dict[str, Callable[[], Stepper]] = {
    EngineStepper.name: EngineStepper,
    ReferenceStepper.name: ReferenceStepper,
    "lava": _lava,
}


def stepper(on: str | Stepper) -> Stepper:
    """The stepper of that name, or the one given; ``lava`` is lava-nc in its worker.

    Errors: ``ValueError`` with the names, or with what is missing.
    """
    if not isinstance(on, str):
        return on
    if on not in STEPPERS:
        raise ValueError(
            f"no machine '{on}' goes step by step; there are {', '.join(STEPPERS)}; give another as "
            "ClientStepper(client)"
        )
    return STEPPERS[on]()


def flatten(state: Any) -> Arrays:
    """The arrays of a state dataclass by path: numbers, dictionaries and lists of arrays."""
    out: Arrays = {}

    def walk(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for k, v in value.items():
                walk(f"{path}.{k}", v)
        elif isinstance(value, list | tuple):
            for k, v in enumerate(value):
                walk(f"{path}.{k}", v)
        elif isinstance(value, int | np.ndarray):
            out[path] = np.array(value, ndmin=1)  # a file has no arrays without an axis

    for f in fields(state):
        walk(f.name, getattr(state, f.name))
    return out


def refill(fresh: Any, arrays: Arrays) -> Any:
    """A state like ``fresh`` with the values of ``arrays``. Errors: ``ValueError`` for another program's state."""

    def build(path: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: build(f"{path}.{k}", v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(build(f"{path}.{k}", v) for k, v in enumerate(value))
        if not isinstance(value, int | np.ndarray):
            return value
        got, want = arrays.get(path), np.array(value, ndmin=1)
        if got is None or got.shape != want.shape or got.dtype.kind != want.dtype.kind:
            what = "missing" if got is None else f"{got.dtype} {got.shape}"
            raise ValueError(f"state: {path} is {what}, this program has {want.dtype} {want.shape}; begin anew")
        return got.astype(want.dtype) if isinstance(value, np.ndarray) else int(got[0])

    return replace(fresh, **{f.name: build(f.name, getattr(fresh, f.name)) for f in fields(fresh)})


def _begun(program: LoihiProgram | None) -> LoihiProgram:
    if program is None:
        raise ValueError("begin(program) comes before anything else of a stepper")
    return program
