"""lava-nc as an engine: an integer program in, what lava's fixed-point models make of it out.

    with Client() as lava:
        lava.load(program)
        done = lava.run(x, ("h.s", "h.v"))     every sample from rest
        y = lava.step(x[:, 0])                 or step by step, the state is kept

The worker starts with the first request and starts again after a failure. See :mod:`sim.lava.link` for the errors.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from export.loihi import ConvEdge, Lif, LoihiProgram, ResonateFire, Ternary
from sim.lava import setup
from sim.lava.link import Link, WorkerCrashed, WorkerProtocolError, WorkerTimeout, WorkerUnavailable, shared_name
from sim.lava.protocol import MAX_FRAME, pack, unpack
from sim.loihi.counting import Activity, checked, finish
from sim.run import Run

Array = npt.NDArray[Any]

__all__ = [
    "Client",
    "Result",
    "WorkerCrashed",
    "WorkerProtocolError",
    "WorkerTimeout",
    "WorkerUnavailable",
    "run",
    "shared_name",
]

PROCESSES = 96
"""Lava processes (each a process of the system) in one graph; more samples go in several graphs."""


@dataclass(frozen=True)
class Result:
    """``found``: arrays by probe, ``(samples, T, neurons)``, and the output's spikes as ``y``.

    ``wall_s``: seconds of lava's own running, ``start_s``: of building and starting its processes; ``steps``: chip
    steps that ran, of all graphs.
    """

    y: Array
    found: dict[str, Array]
    wall_s: float
    start_s: float
    steps: int


class Client:
    """A lava worker. ``command``: what starts it; None takes the environment of ``spikeport lava setup``.

    ``timeout_s``: seconds for one request. ``start_s``: for its start. ``force``: take any version of lava.
    """

    def __init__(
        self,
        command: Sequence[str] | None = None,
        *,
        timeout_s: float = 600.0,
        start_s: float = 60.0,
        force: bool = False,
        limit: int = MAX_FRAME,
    ) -> None:
        self.command, self.timeout_s, self.start_s, self.force, self.limit = command, timeout_s, start_s, force, limit
        self.programs: list[LoihiProgram] = []
        self.link: Link | None = None
        self.loaded = self.stepping = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def hello(self) -> dict[str, Any]:
        """What the worker says of itself: python, numpy, lava, shim; starts it if need be."""
        return self._alive().hello

    def load(self, program: LoihiProgram) -> None:
        """The program that runs from now on. Errors: ``ValueError`` for what lava-nc cannot run as it is."""
        self.load_many([program])

    def load_many(self, programs: Sequence[LoihiProgram]) -> None:
        """Several programs, which run side by side as disjoint parts of one lava graph."""
        for program in programs:
            refuse(program)
        self.programs, self.loaded, self.stepping = list(programs), False, False
        self._load()

    def run(self, x: Array, probes: Sequence[str] = (), progress: Callable[[float], None] | None = None) -> Result:
        """Every sample of ``x (samples, T, *input)`` from rest; populations are read over their own T steps.

        Probes: ``"<node>.s"``, ``"<node>.<state>"`` after each step, ``"<node>.<state>@end"`` after the last.
        """
        program, x = self._one(), checked(self._one(), x)
        each = max(1, PROCESSES // max(1, len(program.edges) + len(program.nodes)))
        parts = []
        for first in range(0, len(x), each):
            parts.append(self.run_many([x[first : first + each]], [probes])[0])
            if progress is not None:
                progress(min(1.0, (first + each) / len(x)))
        if not parts:
            raise ValueError("x holds no sample")
        return Result(
            np.concatenate([p.y for p in parts]),
            {k: np.concatenate([p.found[k] for p in parts]) for k in parts[0].found},
            sum(p.wall_s for p in parts),
            sum(p.start_s for p in parts),
            sum(p.steps for p in parts),
        )

    def run_many(self, xs: Sequence[Array], probes: Sequence[Sequence[str]]) -> list[Result]:
        """One ``x`` and its probes per program of :meth:`load_many`, all in one lava graph."""
        return self._ask("run", [checked(p, x) for p, x in zip(self.programs, xs, strict=True)], probes)

    def step(self, x: Array, probes: Sequence[str] = ()) -> Array:
        """One chip step, ``x (samples, *input)`` to the output's messages ``(samples, *output)``; the state is kept.

        What x causes leaves ``program.latency`` steps later. Errors: ``RuntimeError`` where the state was lost.
        """
        return self.watch(x, probes).y[:, 0]

    def watch(self, x: Array, probes: Sequence[str] = ()) -> Result:
        """:meth:`step` with its probes, ``(samples, 1, neurons)``; they stay the same until :meth:`reset`.

        Before its ``start`` a population's variables are 0 here, not ``u0`` and ``v0``.
        """
        if self.stepping and (self.link is None or not self.link.alive):
            self.stepping = False
            raise WorkerCrashed("the worker ended and its state is lost; the next step begins from rest")
        program = self._one()
        done = self._ask("step", [checked(program, x[:, None])[:, 0]], [probes])[0]
        self.stepping = True
        return done

    def reset(self) -> None:
        """The next step begins from rest."""
        self.stepping = False
        if self.link is not None and self.link.alive:
            self.link.ask("reset", timeout_s=self.timeout_s)

    def stats(self) -> dict[str, Any]:
        """What the worker has loaded, runs and did."""
        return self._alive().ask("stats", timeout_s=self.timeout_s)[0]

    def close(self) -> None:
        """End the worker; a later request starts another."""
        link, self.link, self.loaded = self.link, None, False
        if link is not None:
            link.close()

    def _alive(self) -> Link:
        if self.link is None or not self.link.alive:
            if self.link is not None:
                self.link.kill()
            command = self.command or setup.command(setup.environment().python)
            self.loaded = False
            self.link = Link(command, start_s=self.start_s, force=self.force, limit=self.limit)
        return self.link

    def _load(self) -> Link:
        link = self._alive()
        if not self.loaded:
            manifests: list[dict[str, Any]] = []
            arrays: dict[str, Array] = {}
            for k, program in enumerate(self.programs):
                manifest, own = program.to_manifest()
                manifests.append(manifest)
                arrays |= {f"{k}/{n}": a for n, a in own.items() if not n.endswith(".core")}
            link.ask("load", {"manifests": manifests}, arrays, self.timeout_s)
            self.loaded = True
        return link

    def _one(self) -> LoihiProgram:
        if len(self.programs) != 1:
            raise ValueError(f"{len(self.programs)} programs are loaded; load one, or use run_many")
        return self.programs[0]

    def _ask(self, op: str, xs: Sequence[Array], probes: Sequence[Sequence[str]]) -> list[Result]:
        link = self._load()
        asked = []
        for program, names in zip(self.programs, probes, strict=True):
            asked.append(tuple(dict.fromkeys((*names, f"{program.output}.s"))))
            known(program, asked[-1])
        packed = [pack(x.reshape(*x.shape[: -len(p.input_shape)], -1)) for p, x in zip(self.programs, xs, strict=True)]
        header = {"probes": asked, "shapes": [shape for _, shape in packed]}
        reply, arrays = link.ask(op, header, {f"x{k}": a for k, (a, _) in enumerate(packed)}, self.timeout_s)
        out = []
        for k, (program, names) in enumerate(zip(self.programs, asked, strict=True)):
            found = {n: unpack(arrays[f"{k}/{n}"], reply["shapes"][f"{k}/{n}"]) for n in names}
            y = found[f"{program.output}.s"]
            y = y.reshape(*y.shape[:2], *program.output_shape)
            out.append(Result(y, found, reply["wall_s"], reply["start_s"], reply["steps"]))
        return out


def known(program: LoihiProgram, names: Sequence[str]) -> None:
    """Errors: ``ValueError`` for a probe that there is not."""
    states = {f"{n}.{k}" for n, node in program.populations.items() for k in ("s", *node.states)}
    for name in names:
        if name.removesuffix("@end") not in states or name.endswith(".s@end"):
            raise ValueError(f"no probe '{name}'; there are {', '.join(sorted(states))}, states also with @end")


def refuse(program: LoihiProgram) -> None:
    """Errors: ``ValueError`` for what lava-nc's fixed-point models do not have, or would compute wrongly or hang on."""
    program.check()
    manifest, arrays = program.to_manifest()
    for entry in (*manifest["nodes"], *manifest["edges"]):
        owner = entry.get("id", f"{entry.get('src')} -> {entry.get('dst')}")
        for name, value in entry.items():
            kind = arrays[value["array"]].dtype.kind if isinstance(value, dict) else np.asarray(value).dtype.kind
            if kind in "fc":
                raise ValueError(f"{owner}: {name} holds floats, on which a fixed-point lava process stops; round it")
    for name, node in program.populations.items():
        restless = isinstance(node, ResonateFire) and node.izhikevich and not node.vth
        if isinstance(node, Ternary):
            restless = bool(np.any(np.asarray(node.vth_lo) > 0) or np.any(np.asarray(node.vth_hi) < 0))
        if restless and node.start:
            raise ValueError(f"{name}: fires at rest, before its start, which lava cannot prevent; let 0 not fire")
    if program.law == "hw" and any(isinstance(e, ConvEdge) for e in program.edges):
        raise ValueError(f"{program.name}: lava's Conv neither clips nor shifts; compile with law='lava' to compare")


def run(
    program: LoihiProgram,
    x: Array,
    *,
    probes: Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
) -> Run:
    """As :func:`sim.loihi.reference.run`, computed by lava-nc; ``wall_s`` is lava's own running without its start.

    Counts follow from the spikes; updates are all counted as active, and wraps are not seen. Reset "subtract" runs on a
    process model of ours, not on a stock one, and says so in ``notes``.
    """
    began, x = time.perf_counter(), checked(program, x)
    activity = Activity.empty(program, len(x), x.shape[1], probes)
    with Client() as client:
        client.load(program)
        done = client.run(x, tuple(dict.fromkeys((*program.watched, *probes))), progress)
        hello = client.hello
    for name in program.populations:
        activity.spikes[name][:] = done.found[f"{name}.s"]
        activity.add(name, activity.spikes[name].size, 0, 0)
    for name in activity.traces:
        activity.traces[name][:] = done.found[name]
    out = finish(program, x, activity, probes, "lava", began)
    stamp = {"lava-nc": hello["lava"], "lava-python": hello["python"], "lava-numpy": hello["numpy"]}
    notes = [f"{n}: reset 'subtract' ran on our model, no stock lava process has it" for n in soft(program)]
    return replace(out, wall_s=done.wall_s, notes=(*out.notes, *notes), versions=out.versions | stamp)


def soft(program: LoihiProgram) -> list[str]:
    """Populations that no stock lava process runs."""
    return [n for n, node in program.populations.items() if isinstance(node, Lif) and node.reset == "subtract"]
