"""What went in and out of a loop, on disk, and the same again on another machine.

A recording is a folder: ``recording.json`` says what ran, ``part-000000.npz`` and on hold whole environment steps in
order. Every file is written beside and renamed, so whatever stops the loop leaves a readable recording that lacks at
most the last seconds. Chip steps of 0 and 1 are kept as bits.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.loihi import LoihiProgram
from export.package import PackageError, read_package, write_package, write_text
from sim import engines
from sim.loop.steppers import Stepper

Array = npt.NDArray[Any]
FORMAT, PART, VERSION = "spikeport-recording", "spikeport-recording-part", 1
HEADER = "recording.json"
PART_BYTES, PART_S = 2**22, 5.0
"""A part is written when it has this size in memory, or after this time."""


class Recorder:
    """Writes a recording into ``folder``; ``about`` is JSON data that says what runs.

    ``upto`` goes on with the recording that is there, without its episodes from that one on. Errors: ``ValueError``
    where a recording is in the way, or one of another program or size is to go on.
    """

    def __init__(self, folder: str | Path, about: Mapping[str, Any], *, upto: int | None = None) -> None:
        self.folder, self.about = Path(folder), dict(about)
        self._rows: list[tuple[int, int, Array, Array, Array, Array]] = []
        self._bytes, self._parts, self._flushed = 0, 0, time.monotonic()
        there = (self.folder / HEADER).exists()
        if there and upto is None:
            raise ValueError(f"{self.folder}: holds a recording; go on with it (resume), or take another folder")
        if there and upto is not None:
            self._go_on(upto)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._header(False)

    def add(self, episode: int, step: int, obs: Array, x: Array, y: Array, action: Any) -> None:
        """Environment step ``step`` of an episode: ``x (chip steps, inputs)``, ``y (chip steps, outputs)``; copied."""
        self._rows.append((episode, step, obs.copy(), x.copy(), y.copy(), np.asarray(action)))
        self._bytes += x.nbytes + y.nbytes
        if self._bytes >= PART_BYTES or time.monotonic() - self._flushed > PART_S:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting as a part."""
        if not self._rows:
            return
        episode, step, obs, x, y, action = (np.stack([np.asarray(r[k]) for r in self._rows]) for k in range(6))
        self._write(self._parts, {"episode": episode, "step": step, "obs": obs, "action": action}, x, y)
        self._parts += 1
        self._rows, self._bytes, self._flushed = [], 0, time.monotonic()

    def close(self, complete: bool = True) -> None:
        """Write what is waiting; ``complete`` says that the loop ended as it meant to."""
        self.flush()
        self._header(complete)

    def _header(self, complete: bool) -> None:
        data = {"format": FORMAT, "version": VERSION, "complete": complete} | self.about
        write_text(self.folder / HEADER, json.dumps(data, indent=1))

    def _write(self, k: int, arrays: dict[str, Array], x: Array, y: Array) -> None:
        manifest: dict[str, Any] = {"format": PART, "version": VERSION}
        for name, a in (("x", x), ("y", y)):
            arrays[name], manifest[name] = _packed(a)
        write_package(_part(self.folder, k), manifest, arrays)

    def _go_on(self, upto: int) -> None:
        old = Recording(self.folder)
        changed = [k for k, v in self.about.items() if old.about.get(k) != json.loads(json.dumps(v))]
        if changed:
            raise ValueError(
                f"{self.folder}: is a recording of another loop ({', '.join(changed)} differ); take another folder"
            )
        while _part(self.folder, self._parts).exists():
            self._parts += 1
        for k in reversed(range(self._parts)):
            part = old.part(k)
            keep = part.episode < upto
            if keep.all():
                break
            if keep.any():
                kept = {name: getattr(part, name)[keep] for name in ("episode", "step", "obs", "action")}
                self._write(k, kept, part.x[keep], part.y[keep])
                break
            _part(self.folder, k).unlink()
            self._parts = k


@dataclass(frozen=True)
class Part:
    """Environment steps in order: ``episode, step (n,)``, ``obs, action (n, ...)``, ``x, y (n, chip steps, ...)``."""

    episode: Array
    step: Array
    obs: Array
    action: Array
    x: Array
    y: Array


class Recording:
    """A recording on disk; parts are read when they are asked for. Errors: ``PackageError`` naming the file."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            about = json.loads((self.folder / HEADER).read_text())
            if about["format"] != FORMAT or about["version"] != VERSION:
                raise ValueError("not a recording of this version")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PackageError(f"{self.folder}: no readable recording ({error}); record the loop again") from None
        self.complete = bool(about.get("complete"))
        self.about: dict[str, Any] = about

    def part(self, k: int) -> Part:
        """The k-th part."""
        path = _part(self.folder, k)
        manifest, arrays = read_package(path, PART)
        try:
            x, y = _unpacked(arrays["x"], manifest["x"]), _unpacked(arrays["y"], manifest["y"])
            part = Part(arrays["episode"], arrays["step"], arrays["obs"], arrays["action"], x, y)
            if len({len(a) for a in (part.episode, part.step, part.obs, part.action, x, y)}) != 1:
                raise ValueError("its arrays have different lengths")
        except (KeyError, TypeError, ValueError) as error:
            raise PackageError(f"{path}: not a part of a recording ({error!r}); record the loop again") from None
        return part

    def parts(self) -> Iterator[Part]:
        """All parts in order."""
        k = 0
        while _part(self.folder, k).exists():
            yield self.part(k)
            k += 1

    def episodes(self) -> Iterator[tuple[int, Array, Array]]:
        """``(episode, x (chip steps, inputs), y (chip steps, outputs))``, one episode in memory at a time.

        Errors: ``ValueError`` where one does not begin at rest, as after a restored state.
        """
        now, xs, ys = -1, list[Array](), list[Array]()
        for part in self.parts():
            for rows in np.split(np.arange(len(part.step)), np.flatnonzero(part.step == 0)):
                if not len(rows):
                    continue
                if part.step[rows[0]] == 0 and xs:
                    yield now, np.concatenate(xs), np.concatenate(ys)
                    xs, ys = [], []
                now = int(part.episode[rows[0]])
                if not xs and part.step[rows[0]] != 0:
                    raise ValueError(
                        f"{self.folder}: episode {now} begins at step {part.step[rows[0]]}, from a state that is not "
                        "in the recording; record from the start of an episode"
                    )
                xs.append(part.x[rows].reshape(-1, part.x.shape[-1]))
                ys.append(part.y[rows].reshape(-1, part.y.shape[-1]))
        if xs:
            yield now, np.concatenate(xs), np.concatenate(ys)


@dataclass(frozen=True)
class Replay:
    """How a machine answered recorded input. ``first``: ``(episode, chip step, output)`` where it first differed."""

    on: str
    episodes: int
    steps: int
    spikes: int
    different: int
    first: tuple[int, int, int] | None = None

    @property
    def equal(self) -> bool:
        """Every output of every chip step."""
        return self.different == 0

    def __str__(self) -> str:
        what = f"{self.episodes} episodes, {self.steps} chip steps, {self.spikes} output spikes on {self.on}"
        if self.equal:
            return f"{what}: equal bit for bit"
        return f"{what}: {self.different} differ, first in episode {self.first}"


def replay(recording: Recording | str | Path, program: LoihiProgram, on: str | Stepper = "loihi") -> Replay:
    """The recorded input again, every episode from rest, compared with the recorded output bit for bit.

    ``on``: an engine of :data:`sim.engines.ENGINES` that takes Loihi programs, each episode as one long run; or a
    stepper, chip step by chip step. Errors: ``ValueError`` for another program than the recorded one.
    """
    recording = recording if isinstance(recording, Recording) else Recording(recording)
    if recording.about.get("program") != program.hash():
        raise ValueError(
            f"{recording.folder}: was recorded with program {str(recording.about.get('program'))[:12]}, "
            f"this one is {program.hash()[:12]}; give the program that ran"
        )
    name = on if isinstance(on, str) else on.name
    episodes = steps = spikes = different = 0
    first = None
    for episode, x, y in recording.episodes():
        got = _run(program, x, on) if isinstance(on, str) else _stepped(program, x, on)
        wrong = got != y
        if first is None and wrong.any():
            at = np.argwhere(wrong)[0]
            first = (episode, int(at[0]), int(at[1]))
        episodes, steps = episodes + 1, steps + len(x)
        spikes, different = spikes + int(np.count_nonzero(y)), different + int(wrong.sum())
    return Replay(name, episodes, steps, spikes, different, first)


def _run(program: LoihiProgram, x: Array, on: str) -> Array:
    """``(chip steps, outputs)`` in the chip's own time: a run gives the answers without the latency."""
    run = engines.run(program, x.reshape(1, -1, *program.input_shape), on, probes=())
    answers = run.y.reshape(len(x), -1)
    out = np.zeros_like(answers)
    late = min(program.latency, len(x))
    out[late:] = answers[: len(x) - late]
    return out


def _stepped(program: LoihiProgram, x: Array, on: Stepper) -> Array:
    on.begin(program)
    return np.stack([on.step(row) for row in x])


def _part(folder: Path, k: int) -> Path:
    return folder / f"part-{k:06d}.npz"


def _packed(a: Array) -> tuple[Array, dict[str, Any]]:
    if a.size and (a.min() < 0 or a.max() > 1):
        return a, {"bits": False}
    return np.packbits(a.astype(bool), axis=None), {"bits": True, "shape": list(a.shape), "dtype": a.dtype.str}


def _unpacked(a: Array, how: Mapping[str, Any]) -> Array:
    if not how["bits"]:
        return a
    shape = tuple(int(n) for n in how["shape"])
    count = int(np.prod(shape))
    if a.dtype != np.uint8 or a.ndim != 1 or len(a) != -(-count // 8):
        raise ValueError(f"{len(a)} bytes for {count} bits")
    return np.unpackbits(a, count=count).astype(np.dtype(how["dtype"])).reshape(shape)
