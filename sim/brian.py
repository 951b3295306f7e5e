"""A :class:`export.to_brian.BrianProgram` run by the brian2 library, in this process.

Samples run as parallel copies of the groups, as many as the synapses leave room for. Arithmetic is double
precision. Brian's optimiser of expressions is off: it would reorder the law (``1 / tau`` taken out of the loop), and
with it the last bits; so are the compiler's liberties where a compiler is used.
"""

from __future__ import annotations

import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.brian_links import QUEUED, Projection, waits
from export.brian_model import CHARGE, FIRE, RESET, SEND, UPDATE, Group
from export.brian_synapses import copied
from export.network import Network, Spiking
from export.to_brian import BrianProgram
from neuro.neuron import Decay
from sim.edge.counts import Recorder
from sim.run import Counts, Run

Array: TypeAlias = npt.NDArray[Any]
TARGETS = ("numpy", "cython")
EXACT_FLAGS = ["-w", "-O3", "-ffp-contract=off", "-std=c++17"]
"""Without Brian's ``-ffast-math -march=native``, which reorder sums and fuse ``a * b + c``."""


def run(
    program: BrianProgram,
    x: Array,
    *,
    probes: Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
    target: str = "numpy",
) -> Run:
    """``x (samples, T, *input_shape) -> Run``; ``target``: Brian's code generator, ``cython`` needs a compiler.

    ``probes``: ``"<node>.s"`` spikes, ``"<node>.v"`` after reset, ``"<node>.i"`` of a Decay law. Counts:

        spikes            per spiking node; at the input, its non-zero values
        synaptic_events   synapses that delivered, per target; zero weights have none
        neuron_updates    neurons of the spiking nodes times steps and samples

    Errors: ``ValueError`` for a wrong shape, an unknown probe or target, or a brian2 that cannot run.
    """
    start = time.perf_counter()
    if target not in TARGETS:
        raise ValueError(f"target {target!r}: there are {', '.join(TARGETS)}")
    network, brian2 = program.network, library()
    record = Recorder(network, x, probes, known_probes(network), None)
    events = dict.fromkeys(program.model.groups, 0)
    batch = program.copies(record.steps)
    with _settings(brian2, target):
        for at in range(0, record.samples, batch):
            part = record.x[at : at + batch].astype(np.float64)
            live = _Live(brian2, program, part, probes)
            live.run(_share(progress, at / record.samples, len(part) / record.samples))
            record.add(at, 0, live.values())
            live.count(events)
    done = record.run("brian", start, "brian2")
    return replace(done, counts=_counts(program, done, events))


def known_probes(network: Network) -> list[str]:
    """Probes that a run can give."""
    found = []
    for name in network.spiking():
        node = network.nodes[name]
        two = isinstance(node, Spiking) and isinstance(node.law.charge, Decay)
        found += [f"{name}.{k}" for k in ("svi" if two else "sv")]
    return found


def library() -> Any:
    """The brian2 module. Errors: ``ValueError`` with the command that makes it run.

    Its import sets ``sys.excepthook`` and uses deprecated names of pyparsing; the first is put back, the second
    kept quiet here and in :func:`_settings`.
    """
    try:
        version = metadata.version("brian2")
    except metadata.PackageNotFoundError:
        raise ValueError("brian2 is not installed; it comes with: pip install 'spikeport[brian]'") from None
    if _numbers(version) < (2, 10) and _numbers(np.__version__) >= (2, 4):
        raise ValueError(f"brian2 {version} does not run with numpy {np.__version__}; pip install 'numpy<2.4'")
    hook = sys.excepthook
    with _quiet():
        import brian2
    sys.excepthook = hook
    if type(brian2.get_device()).__name__ != "RuntimeDevice":
        raise ValueError("brian2 is set to another device; call brian2.device.reinit() and reset_device() before")
    return brian2


class _Live:
    """The Brian objects of one batch ``x (samples, T, ...)``, all samples side by side."""

    def __init__(self, brian2: Any, program: BrianProgram, x: Array, probes: Sequence[str]) -> None:
        self.brian2, self.program, self.x, self.model = brian2, program, x, program.model
        self.copies, self.steps = x.shape[:2]
        self.dt = program.network.dt_s * brian2.second
        self.clock = brian2.Clock(self.dt)
        self.shapes = program.network.shapes()
        self.groups = {n: self._group(g) for n, g in self.model.groups.items()}
        self.synapses = [
            self._synapses(p, k) for k, p in enumerate(self.model.projections) if len(program.synapses[k][0])
        ]  # Brian has no empty Synapses
        self.spikes = {n: brian2.SpikeMonitor(self.groups[n]) for n, g in self.model.groups.items() if g.spiking}
        self.queued = self.spikes | {
            p.src: brian2.SpikeMonitor(self.groups[p.src])
            for p in self.model.projections
            if p.effect == QUEUED and p.src not in self.spikes
        }
        names = {p: (p[:-2], "v" if p.endswith(".v") else "I") for p in probes if not p.endswith(".s")}
        if self.model.graded:
            names["y"] = (self.model.output, "value")
        self.traces = {p: (n, v, self._trace(n, v)) for p, (n, v) in names.items()}
        self.sent = {
            (p.src, p.event): brian2.EventMonitor(self.groups[p.src], p.event, record=False)
            for p in self.model.projections
            if p.src not in self.queued
        }

    def run(self, report: Callable[..., None] | None) -> None:
        """All steps. ``report``: as Brian calls it."""
        traces = [monitor for _, _, monitor in self.traces.values()]
        monitors = (*self.queued.values(), *traces, *self.sent.values())
        net = self.brian2.Network(*self.groups.values(), *self.synapses, *monitors)
        net.run(self.steps * self.dt, report=report, report_period=self.brian2.second, namespace={})

    def values(self) -> dict[str, Array]:
        """``x``, ``y``, every node's spikes and the traces, ``(samples, T, *shape)``."""
        found = {p: self._by_sample(n, np.asarray(getattr(m, v)).T) for p, (n, v, m) in self.traces.items()}
        for name, monitor in self.spikes.items():
            a = np.zeros((self.steps, self.copies * self.model.groups[name].size), np.int8)
            a[self._step(monitor), np.asarray(monitor.i)] = 1
            found[f"{name}.s"] = self._by_sample(name, a)
        if not self.model.graded:
            spikes = found[f"{self.model.output}.s"]
            found["y"] = spikes.reshape(*spikes.shape[:2], *self.shapes[self.program.network.output])
        return found | {"x": self.x}

    def count(self, events: dict[str, int]) -> None:
        """Add the synapses that delivered within the run to ``events``, per target."""
        for p, (pre, _, _) in zip(self.model.projections, self.program.synapses, strict=True):
            size = self.model.groups[p.src].size
            if p.src in self.queued:
                monitor = self.queued[p.src]
                sent = np.zeros((self.steps + 1, size), np.int64)  # by the end of each step
                np.add.at(sent, (self._step(monitor) + 1, np.asarray(monitor.i) % size), 1)
                last = np.maximum(self.steps - waits(self.program.network, p), 0)
                events[p.dst] += int(sent.cumsum(axis=0)[last, pre].sum())
            else:
                sent = np.asarray(self.sent[p.src, p.event].count).reshape(self.copies, size).sum(0)
                events[p.dst] += int(sent @ np.bincount(pre, minlength=size))

    def _group(self, group: Group) -> Any:
        space: dict[str, Any] = dict(group.constants)
        if not group.spiking and group.name == self.program.network.input:
            rows = self.x.swapaxes(0, 1).reshape(self.steps, -1)
            space["stimulus"] = self.brian2.TimedArray(rows, dt=self.dt)
        made = self.brian2.NeuronGroup(
            group.size * self.copies,
            group.equations,
            method="euler" if group.ode else None,
            events={k: v for k, v in group.events.items() if k != "spike"},
            threshold=group.events.get("spike"),
            reset=group.reset if "spike" in group.events else None,
            namespace=space,
            clock=self.clock,
            name=self.program.names[group.name],
        )
        made.state_updater.when, made.state_updater.order = "groups", group.order + CHARGE
        made.run_regularly(group.update, when="groups", order=group.order + UPDATE)
        for event in group.events:
            made.set_event_schedule(event, "groups", group.order + FIRE)
        for resetter in made.resetter.values():
            resetter.when, resetter.order = "groups", group.order + RESET
        if group.start:
            made.v = group.start
        if group.bias is not None:
            made.bias = np.tile(group.bias, self.copies)
            made.x = made.bias
        if group.scale is not None:
            made.scale = np.tile(group.scale, self.copies)
        return made

    def _synapses(self, projection: Projection, k: int) -> Any:
        src, dst = self.groups[projection.src], self.groups[projection.dst]
        sizes = [self.model.groups[n].size for n in (projection.src, projection.dst)]
        pre, post, weight = copied(self.program.synapses[k], sizes[0], sizes[1], self.copies)
        wait = waits(self.program.network, projection)
        made = self.brian2.Synapses(
            src,
            dst,
            "w : 1",
            on_pre=projection.effect,
            on_event=projection.event,
            delay=None if wait.ndim else int(wait) * self.dt,
            clock=self.clock,
            name=f"{src.name}_to_{dst.name}_{k}",
        )
        made.pre.when, made.pre.order = "groups", self.model.groups[projection.src].order + SEND
        made.connect(i=pre, j=post)
        made.w = weight
        if wait.ndim:
            made.pre.delay = np.tile(wait, self.copies) * self.dt
        return made

    def _trace(self, name: str, variable: str) -> Any:
        return self.brian2.StateMonitor(self.groups[name], variable, record=True, when="end", clock=self.clock)

    def _step(self, monitor: Any) -> Array:
        return np.rint(np.asarray(monitor.t) / self.program.network.dt_s).astype(np.int64)

    def _by_sample(self, name: str, a: Array) -> Array:
        """``(T, samples * neurons) -> (samples, T, *shape)``."""
        return a.reshape(self.steps, self.copies, *self.shapes[name]).swapaxes(0, 1)


def _counts(program: BrianProgram, done: Run, events: dict[str, int]) -> Counts:
    groups = program.model.groups.values()
    return {
        "spikes": done.counts["spikes"],
        "synaptic_events": {n: k for n, k in events.items() if n != program.network.input},
        "neuron_updates": {g.name: g.size * done.samples * done.steps for g in groups if g.spiking},
    }


def _share(progress: Callable[[float], None] | None, done: float, part: float) -> Callable[..., None] | None:
    """Brian's report of one batch as a share of the whole run."""
    if progress is None:
        return None

    def report(*state: Any) -> None:  # seconds so far, share of the batch, its start, its duration
        progress(min(1.0, done + part * state[1]))

    return report


@contextmanager
def _settings(brian2: Any, target: str) -> Iterator[None]:
    """Brian's preferences for this run alone."""
    wanted: dict[str, Any] = {"codegen.target": target, "codegen.loop_invariant_optimisations": False}
    if target == "cython":
        # Brian's cache of compiled code does not know flags: exact code has one of its own
        from brian2.codegen.runtime.cython_rt.extension_manager import get_cython_cache_dir

        folder = Path(get_cython_cache_dir()).expanduser()
        wanted["codegen.runtime.cython.cache_dir"] = str(folder.with_name("brian_extensions_exact"))
        wanted["codegen.cpp.extra_compile_args_gcc"] = EXACT_FLAGS
        wanted["codegen.cpp.extra_compile_args_msvc"] = ["/Ox", "/fp:strict", "/w", "/std:c++17"]
    before = {k: brian2.prefs[k] for k in wanted}
    try:
        for k, v in wanted.items():
            brian2.prefs[k] = v
        with _quiet():
            yield
    finally:
        for k, v in before.items():
            brian2.prefs[k] = v


@contextmanager
def _quiet() -> Iterator[None]:
    """brian2 2.9 calls pyparsing by names that pyparsing 3.3 deprecates."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"(brian2|pyparsing)(\.|$)")
        yield


def _numbers(version: str) -> tuple[int, int]:
    major, minor = re.findall(r"\d+", version)[:2]
    return int(major), int(minor)
