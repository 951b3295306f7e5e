"""A chip in a Gymnasium environment: episodes, returns, stop and go on. Needs the extra [gym].

Each episode has its own seed, ``seed + episode``, begins with the chip at rest, and depends on nothing before it; so a
run that was stopped goes on with the episode that it was in, and ends with the same bits.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from export.package import PackageError, write_text
from sim.loop.decode import Argmax
from sim.loop.loop import Loop
from sim.loop.meter import Meter
from sim.loop.report import LoopReport
from sim.loop.report import report as loop_report
from sim.loop.stop import stops

EPISODES, FORMAT, VERSION = "episodes.json", "spikeport-episodes", 1
SAVE_S = 2.0
"""Wall time after which the episodes so far and the recording are written."""


@dataclass
class Episodes:
    """What happened so far: return and length of each finished episode, in order; ``loop`` says what ran."""

    env: str
    loop: dict[str, Any]
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def save(self, folder: Path) -> Path:
        """Write ``episodes.json``, beside and renamed."""
        return write_text(
            folder / EPISODES, json.dumps({"format": FORMAT, "version": VERSION} | self.__dict__, indent=1)
        )

    @classmethod
    def load(cls, folder: Path) -> Episodes:
        """Read what :meth:`save` wrote. Errors: ``PackageError``."""
        path = folder / EPISODES
        try:
            data = json.loads(path.read_text())
            if data.pop("format") != FORMAT or data.pop("version") != VERSION:
                raise ValueError("not episodes of this version")
            found = cls(**data)
            if len(found.returns) != len(found.lengths):
                raise ValueError("returns and lengths differ in number")
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PackageError(f"{path}: cannot be read ({error}); run the loop again") from None
        return found


def make(env: str, **options: Any) -> Any:
    """``gymnasium.make``. Errors: ``ValueError`` where gymnasium is missing, or has no such environment."""
    if importlib.util.find_spec("gymnasium") is None:
        raise ValueError("gymnasium is not installed: pip install 'spikeport[gym]'")
    import gymnasium

    try:
        return gymnasium.make(env, **options)
    except gymnasium.error.Error as error:
        raise ValueError(f"environment '{env}': {error}; 'gymnasium.envs.registry' lists the names") from None


def step_seconds(env: Any) -> float | None:
    """Time an environment step stands for: its ``tau`` or ``dt``, else one frame of ``render_fps``; None if unknown."""
    inner = env.unwrapped
    for value in (getattr(inner, "tau", None), getattr(inner, "dt", None)):
        if isinstance(value, int | float) and value > 0:
            return float(value)
    fps = inner.metadata.get("render_fps")
    return 1.0 / fps if fps else None


class GymLoop:
    """``loop`` in ``env`` (made by the caller, who closes it): ``run(episodes)`` or ``episode(k)``.

    ``folder`` takes ``episodes.json``; ``resume`` goes on from it. Errors: ``ValueError`` where the spaces do not fit
    the loop's encoder and decoder, or where another loop's episodes are in the folder.
    """

    def __init__(self, loop: Loop, env: Any, *, folder: str | Path | None = None, resume: bool = False) -> None:
        self.loop, self.env = loop, env
        self.folder = None if folder is None else Path(folder)
        self.name = str(env.spec.id) if env.spec is not None else type(env.unwrapped).__name__
        self.start, self.low, self.high = _spaces(loop, env)
        self.done = Episodes(self.name, json.loads(json.dumps(loop.about())))
        if resume and self.folder is not None and (self.folder / EPISODES).exists():
            old = Episodes.load(self.folder)
            if (old.env, old.loop) != (self.done.env, self.done.loop):
                raise ValueError(f"{self.folder}: holds episodes of another loop or environment; take another folder")
            self.done = old
        self.before = len(self.done.returns)

    def episode(self, k: int, check: Callable[[], None] = lambda: None) -> tuple[float, int]:
        """Episode k from its own seed: ``(return, length)``. ``check`` is called between its steps."""
        obs, _ = self.env.reset(seed=self.loop.seed + k)
        self.loop.begin(k)
        total, steps, over = 0.0, 0, False
        while not over:
            obs, reward, ended, cut, _ = self.env.step(self._act(obs))
            total, steps, over = total + float(reward), steps + 1, bool(ended or cut)
            if not over:
                check()
        return total, steps

    def run(self, episodes: int) -> Episodes:
        """Go on until there are so many. Ctrl-C stops it after a step; what is written then is whole."""
        if episodes < 1:
            raise ValueError(f"GymLoop.run: episodes must be at least 1, got {episodes}")
        saved = time.monotonic()
        with stops() as check:
            try:
                while len(self.done.returns) < episodes:
                    total, steps = self.episode(len(self.done.returns), check)
                    self.done.returns.append(total)
                    self.done.lengths.append(steps)
                    if time.monotonic() - saved > SAVE_S:
                        self.save()
                        saved = time.monotonic()
                    check()
            finally:
                self.save()
        return self.done

    def save(self) -> None:
        """The recording so far, then the episodes: never an episode without its recording."""
        self.loop.flush()
        if self.folder is not None:
            self.done.save(self.folder)

    def report(
        self, *, title: str = "", prices: str | None = None, complete: bool = True, meter: Meter | None = None
    ) -> LoopReport:
        """Of the episodes so far; times and counts are those of this process, which a note says after a stop."""
        made = loop_report(
            self.loop,
            title=title or self.name,
            returns=self.done.returns,
            episodes=len(self.done.returns),
            prices=prices,
            complete=complete,
            meter=meter,
        )
        if not self.before:
            return made
        note = f"returns of {self.before} episodes are from before the stop; steps, times and energy are not"
        return replace(made, notes=[*made.notes, note])

    def _act(self, obs: Any) -> Any:
        action = self.loop.act(np.ravel(obs))
        if self.start is not None:
            return self.start + action
        held = np.clip(action, self.low, self.high)
        return held.reshape(self.low.shape).astype(self.low.dtype)


def _spaces(loop: Loop, env: Any) -> tuple[int | None, Any, Any]:
    """First action of a discrete space, or the limits of a box; checked against the loop."""
    seen, does, rule = env.observation_space, env.action_space, loop.decoder.rule
    n = int(np.prod(seen.shape)) if seen.shape is not None else -1
    if n != loop.encoder.observations:
        raise ValueError(f"the environment shows {seen}, the encoder takes {loop.encoder.observations} values")
    discrete = hasattr(does, "n")
    if discrete != isinstance(rule, Argmax):
        fix = "Argmax()" if discrete else "Linear or PopulationVector"
        raise ValueError(f"the environment takes {does}, the decoder gives {type(rule).__name__}; decode with {fix}")
    if discrete:
        outputs = loop.program.size(loop.program.output)
        if outputs != int(does.n):
            raise ValueError(f"the environment takes {does}, the program has {outputs} outputs; one for each action")
        return int(does.start), None, None
    if does.shape is None or not hasattr(does, "low"):
        raise ValueError(f"the environment takes {does}; a loop gives Discrete or Box actions")
    rows = len(getattr(rule, "w", (0,)))
    if int(np.prod(does.shape)) != rows:
        raise ValueError(f"the environment takes {does}, the decoder gives {rows} numbers")
    return None, does.low, does.high
