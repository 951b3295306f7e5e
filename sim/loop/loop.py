"""A chip in a control loop: encoder, K chip steps an environment step, decoder; the state stays from step to step.

    obs -> encoder -> x (K, inputs) -> K or K + L chip steps -> window y (K, outputs) -> decoder -> action

What an input causes leaves the chip L steps later (``program.latency``). Two ways to wait for it, by name:

``blocking``    K steps with the input, then L without; the window is steps [L, L + K): exactly the answer to this
                observation, after K + L chip steps.
``pipelined``   K steps; the window is those K: the answer to the input of L steps before, so the action lags by L
                chip steps (L / K environment steps) and costs no waiting. Nothing comes out in the first L.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from export.loihi import LoihiProgram
from export.package import PackageError, read_package, write_package
from neuro.stream import Encoder
from sim.loihi.counting import message_type
from sim.loop.codec import Codec
from sim.loop.decode import Action, Decoder
from sim.loop.meter import Meter
from sim.loop.record import Recorder
from sim.loop.steppers import Arrays, Stepper, stepper

Window: TypeAlias = Literal["blocking", "pipelined"]
Array: TypeAlias = npt.NDArray[Any]
STATE, VERSION = "spikeport-loop-state", 1


@dataclass
class Times:
    """Wall time in seconds: of each environment step (encoder, chip, decoder) and of each chip step."""

    act: array[float] = field(default_factory=lambda: array("d"))
    chip: array[float] = field(default_factory=lambda: array("d"))


@dataclass(frozen=True)
class LoopState:
    """Where a loop is between two environment steps, as plain arrays; saves and loads without pickle."""

    program: str
    episode: int
    step: int
    seed: int
    chip: Arrays
    code: Array

    def save(self, path: str | Path) -> Path:
        """One ``.npz``."""
        manifest = {"format": STATE, "version": VERSION, "program": self.program}
        manifest |= {"episode": self.episode, "step": self.step, "seed": self.seed}
        return write_package(path, manifest, {f"chip.{k}": a for k, a in self.chip.items()} | {"code": self.code})

    @classmethod
    def load(cls, path: str | Path) -> LoopState:
        """Read what :meth:`save` wrote. Errors: ``PackageError`` naming the file."""
        m, arrays = read_package(path, STATE)
        try:
            code = arrays.pop("code")
            chip = {k.removeprefix("chip."): a for k, a in arrays.items()}
            return cls(str(m["program"]), int(m["episode"]), int(m["step"]), int(m["seed"]), chip, code)
        except (KeyError, TypeError, ValueError) as error:
            raise PackageError(f"{path}: no state of a loop ({error!r}); save it again") from None


class Loop:
    """One chip, one stream of observations. ``begin()`` an episode, then ``act(obs) -> action`` each step.

    ``on``: a stepper or its name (``loihi``, ``loihi-reference``, ``lava``). ``record``: a folder that takes every x
    and y; ``resume`` goes on with the recording there from that episode. ``env_dt_s``: time an environment step
    stands for; None takes that of its chip steps, ``rows * program.dt_s``. ``meter``: count what the chip does, where
    it shows its spikes.
    Errors: ``ValueError`` where encoder, program and decoder do not fit together, and for an observation that is
    not finite or has another shape.
    """

    def __init__(
        self,
        program: LoihiProgram,
        encoder: Encoder,
        decoder: Decoder,
        *,
        on: str | Stepper = "loihi",
        window: Window = "blocking",
        seed: int = 0,
        record: str | Path | None = None,
        resume: int | None = None,
        env_dt_s: float | None = None,
        meter: bool = True,
    ) -> None:
        _fit(program, encoder, decoder, window)
        self.program, self.encoder, self.decoder, self.window, self.seed = program, encoder, decoder, window, seed
        self.stepper = stepper(on)
        self.steps, self.latency = encoder.steps, program.latency
        self.rows = self.steps + (self.latency if window == "blocking" else 0)
        self.env_dt_s = self.rows * program.dt_s if env_dt_s is None else float(env_dt_s)
        if not (math.isfinite(self.env_dt_s) and self.env_dt_s > 0):
            raise ValueError(f"loop: env_dt_s must be a positive time in seconds, got {env_dt_s}")
        self.times, self.episode, self.done = Times(), -1, 0
        self._meter = Meter(program, self.rows) if meter else None
        inputs, outputs = program.size(program.input), program.size(program.output)
        self._x, self._y = np.zeros((self.rows, inputs), np.int32), np.zeros((self.rows, outputs), np.int32)
        self._read = self._y[self.rows - self.steps :]
        self._code: Array = np.zeros(0)
        self._narrow = message_type(program, program.input)
        self._recorder = None if record is None else Recorder(record, self.about(), upto=resume)

    def about(self) -> dict[str, Any]:
        """What runs, as JSON data: goes into a recording and a report."""
        return {
            "program": self.program.hash(),
            "name": self.program.name,
            "on": self.stepper.name,
            "seed": self.seed,
            "steps": self.steps,
            "latency": self.latency,
            "window": self.window,
            "codec": Codec(self.encoder, self.decoder, self.window).to_dict(),
        }

    def begin(self, episode: int | None = None) -> None:
        """A new episode: chip at rest, encoder at the start of ``(seed, episode)``; None takes the next number."""
        self.episode = self.episode + 1 if episode is None else episode
        self.done = 0
        self.stepper.begin(self.program)
        if self._meter is not None:
            self._meter.begin()
        self._code = self.encoder.begin(int(np.random.SeedSequence([self.seed, self.episode]).generate_state(1)[0]))

    def act(self, obs: Any) -> Action:
        """One environment step: ``obs (observations,) -> action``."""
        if self.episode < 0:
            self.begin()
        obs = _checked(obs, self.encoder.observations)
        step, meter, chip, x, y = self.stepper.step, self._meter, self.times.chip, self._x, self._y
        began = perf_counter()
        code, self._code = self.encoder(self._code, obs)
        if code.dtype.kind not in "iub":
            raise ValueError(f"loop: the encoder gave {code.dtype}, the chip takes whole messages; round them there")
        x[: self.steps] = code
        for k in range(self.rows):
            a = perf_counter()
            y[k] = step(x[k])
            chip.append(perf_counter() - a)
            if meter is not None and not meter.watch(self.stepper, k):
                self._meter = meter = None
        v = self.stepper.membrane() if self.decoder.read.membrane else None
        action = self.decoder(self._read, v)
        self.times.act.append(perf_counter() - began)
        if meter is not None:
            meter.add(x, self.done * self.rows, self.stepper)
        if self._recorder is not None:
            self._recorder.add(self.episode, self.done, obs, x.astype(self._narrow), y, action)
        self.done += 1
        return action

    @property
    def meter(self) -> Meter | None:
        """The counts so far; None where they were not wanted or the chip does not show its spikes."""
        return self._meter

    def flush(self) -> None:
        """Write what the recording waits with."""
        if self._recorder is not None:
            self._recorder.flush()

    def close(self, complete: bool = True) -> None:
        """End recording and chip."""
        if self._recorder is not None:
            self._recorder.close(complete)
        self.stepper.close()

    def state(self) -> LoopState:
        """Where the loop is. Errors: ``ValueError`` where the chip keeps its state."""
        return LoopState(
            self.program.hash(), self.episode, self.done, self.seed, self.stepper.save(), self._code.copy()
        )

    def restore(self, state: LoopState) -> None:
        """Go on from there: what follows has the same bits. Errors: ``ValueError`` for another program or seed."""
        if state.program != self.program.hash() or state.seed != self.seed:
            raise ValueError(
                f"loop: the state is of program {state.program[:12]} with seed {state.seed}, this loop runs "
                f"{self.program.hash()[:12]} with seed {self.seed}; restore it into the loop that it was saved from"
            )
        self.begin(state.episode)
        if state.code.shape != self._code.shape:
            raise ValueError(f"loop: the state is of another encoder, {state.code.shape} against {self._code.shape}")
        self.stepper.restore(state.chip)
        self._code, self.done = state.code.astype(self._code.dtype), state.step
        if self._meter is not None:
            self._meter.begin(self.stepper.active())

    def __enter__(self) -> Loop:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.close(kind is None)


def _checked(obs: Any, n: int) -> npt.NDArray[np.float64]:
    try:
        a = np.asarray(obs, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"observation: must be {n} numbers, got {type(obs).__name__} ({error})") from None
    if a.shape != (n,):
        raise ValueError(f"observation: the encoder takes shape ({n},), got {a.shape}; flatten or select it first")
    if not math.isfinite(a.sum()) and not np.isfinite(a).all():
        k = int(np.flatnonzero(~np.isfinite(a))[0])
        raise ValueError(f"observation: value {k} is {a[k]}; the environment diverged, or a sensor gave nothing")
    return a


def _fit(program: LoihiProgram, encoder: Encoder, decoder: Decoder, window: str) -> None:
    inputs, outputs = program.size(program.input), program.size(program.output)
    if window not in ("blocking", "pipelined"):
        raise ValueError(f"loop: window must be 'blocking' or 'pipelined', got {window!r}")
    if encoder.steps < 1:
        raise ValueError(f"loop: K must be at least 1 chip step an environment step, got {encoder.steps}")
    if encoder.lines != inputs:
        raise ValueError(
            f"loop: the encoder makes {encoder.lines} lines, the program's input '{program.input}' has {inputs}"
        )
    if decoder.rule.outputs not in (0, outputs):
        raise ValueError(
            f"loop: the decoder reads {decoder.rule.outputs} outputs, the program's output '{program.output}' "
            f"has {outputs}"
        )
