"""onnxruntime as an engine: steps a program with its state going in and out, and counts its work.

    run(program, x)                     a batch of whole samples -> Run
    Session(program).step(x)            one step of a stream, state kept in two buffers that swap

No input or state is copied inside a step: both directions are bound to numpy buffers once per batch size.
onnxruntime is imported when a session is made; nothing here imports torch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.network import Spiking
from export.package import PackageError
from export.to_onnx import OnnxProgram, need
from sim.edge import counts
from sim.run import Run, versions

Array = npt.NDArray[Any]
BATCH_BYTES = 256 * 2**20
"""Values of one batch in buffers and results, by which samples are cut into batches."""
MAX_BATCH = 256


class Session:
    """A stream through one step program: ``step(x (N, ...)) -> y (N, ...)``, ``reset()``, and the state to keep.

    ``N`` is that of the first step after a reset. ``threads`` is onnxruntime's within an operator. ``outputs`` holds
    what the last step gave beside ``y``: views that the next step overwrites.
    Errors: ``ValueError`` naming a wrong shape, a missing onnxruntime, or a file that it refuses.
    """

    def __init__(self, program: OnnxProgram | str | Path, *, threads: int = 1) -> None:
        self.program = program if isinstance(program, OnnxProgram) else OnnxProgram.load(program)
        if self.program.form != "step":
            raise ValueError(f"Session: takes a step program, got form '{self.program.form}'; make it with to_onnx_step")
        self._session = open_session(self.program, threads)
        self._dtype = _dtype(self._session)
        self._names = {"y": self.program.output_shape} | self.program.watched
        self._batch = 0
        self.outputs: dict[str, Array] = {}

    def step(self, x: Array) -> Array:
        """One step. ``x (N, *input_shape)``; gives ``y (N, *output_shape)``, a copy."""
        x = np.asarray(x)
        if x.shape[1:] != self.program.input_shape or x.ndim < 2 or (self._batch and len(x) != self._batch):
            n = self._batch or "N"
            raise ValueError(f"x: a step takes ({n}, {_list(self.program.input_shape)}), got {x.shape}; reset() frees N")
        if not self._batch:
            self._bind(len(x))
        np.copyto(self._x, x, casting="unsafe")
        self._session.run_with_iobinding(self._bindings[self._turn])
        self._turn = 1 - self._turn
        return self.outputs["y"].copy()

    def reset(self, state: Mapping[str, Array] | None = None) -> None:
        """Back to the state before the first step, or to one that :attr:`state` gave."""
        self._batch = 0
        if state is None:
            return
        self._bind(len(next(iter(state.values()))))
        for name, buffer in self._states[self._turn].items():
            if name not in state or state[name].shape != buffer.shape:
                raise ValueError(f"state: needs '{name}' of shape {buffer.shape}; give what Session.state gave")
            np.copyto(buffer, state[name])

    @property
    def state(self) -> dict[str, Array]:
        """A copy of every state tensor by name; empty before the first step."""
        return {n: a.copy() for n, a in self._states[self._turn].items()} if self._batch else {}

    def _bind(self, batch: int) -> None:
        self._batch, self._turn = batch, 0
        self._x = np.zeros((batch, *self.program.input_shape), self._dtype)
        self.outputs = {n: np.zeros((batch, *s), self._dtype) for n, s in self._names.items()}
        first = {s["name"]: np.full((batch, *s["shape"]), s["init"], self._dtype) for s in self.program.states}
        self._states = (first, {n: np.zeros_like(a) for n, a in first.items()})
        self._bindings = [self._binding(*self._states), self._binding(*self._states[::-1])]

    def _binding(self, before: dict[str, Array], after: dict[str, Array]) -> Any:
        binding = self._session.io_binding()
        for name, a in ({"x": self._x} | before).items():
            binding.bind_input(name, "cpu", 0, self._dtype, a.shape, a.ctypes.data)
        for name, a in (self.outputs | {f"{n}.next": a for n, a in after.items()}).items():
            binding.bind_output(name, "cpu", 0, self._dtype, a.shape, a.ctypes.data)
        return binding


def run(
    program: OnnxProgram,
    x: Array,
    *,
    probes: Sequence[str] = (),
    threads: int = 1,
    progress: Callable[[float], None] | None = None,
) -> Run:
    """``x (samples, T, *input_shape) -> Run``; ``probes``: watched names, as ``"<node>.s"``.

    Samples run in batches that bound the memory. Counts: see :mod:`sim.edge.counts`. Errors: ``ValueError`` for
    a wrong shape or an unknown probe, with what there is.
    """
    start = time.perf_counter()
    x = _checked(program, x, probes)
    samples, steps = x.shape[:2]
    tally = counts.Tally(program.network)
    inputs = _layer_inputs(program)
    advance = _stepping(program, threads) if program.form == "step" else _scanning(program, threads)
    kept: dict[str, Array] = {}
    batch = _batch_size(program, steps)
    for at in range(0, samples, batch):
        part = x[at : at + batch]

        def keep(t: int, values: Mapping[str, Array], at: int = at, part: Array = part) -> None:
            counts.watch(tally, values, inputs)
            for name in ("y", *probes):
                if name not in kept:
                    kept[name] = np.zeros((samples, steps, *values[name].shape[2:]), _kept_type(program, name))
                kept[name][at : at + len(part), t : t + values[name].shape[1]] = values[name]
            if progress is not None:
                progress((at + len(part) * (t + values[name].shape[1]) / steps) / samples)

        advance(part, keep)
    return Run(
        machine="onnx",
        y=kept.pop("y"),
        counts=tally.counts(samples, steps),
        samples=samples,
        steps=steps,
        dt_s=program.dt_s,
        probes=kept,
        wall_s=time.perf_counter() - start,
        notes=_notes(program),
        versions=versions("onnx", "onnxruntime"),
    )


def open_session(program: OnnxProgram, threads: int = 1) -> Any:
    """An onnxruntime session on the CPU with the options under which the bits were compared."""
    ort = need("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(program.model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own types differ between its versions
        raise PackageError(f"onnxruntime {ort.__version__} refuses the program: {error}; export it again") from error


Keep = Callable[[int, Mapping[str, Array]], None]
"""Called with a step and values ``(batch, steps from there on, ...)`` by name; they are overwritten afterwards."""


def _stepping(program: OnnxProgram, threads: int) -> Callable[[Array, Keep], None]:
    session = Session(program, threads=threads)

    def advance(part: Array, keep: Keep) -> None:
        session.reset()
        for t in range(part.shape[1]):
            session.step(part[:, t])
            keep(t, {n: a[:, None] for n, a in session.outputs.items()} | {"x": part[:, t : t + 1]})

    return advance


def _scanning(program: OnnxProgram, threads: int) -> Callable[[Array, Keep], None]:
    session = open_session(program, threads)
    names = ["y", *program.watched]
    dtype = _dtype(session)

    def advance(part: Array, keep: Keep) -> None:
        found = session.run(names, {"x": np.ascontiguousarray(part.swapaxes(0, 1), dtype)})
        keep(0, {n: a.swapaxes(0, 1) for n, a in zip(names, found, strict=True)} | {"x": part})

    return advance


def _checked(program: OnnxProgram, x: Array, probes: Sequence[str]) -> Array:
    x = np.asarray(x)
    if x.ndim < 3 or x.shape[2:] != program.input_shape or 0 in x.shape:
        raise ValueError(f"x: must be (samples, T, {_list(program.input_shape)}), none of them 0, got {x.shape}")
    for name in probes:
        if name not in program.watched:
            known = ", ".join(program.watched) or "nothing: export it with watch=True"
            raise ValueError(f"probe '{name}': the program gives {known}")
    return x


def _batch_size(program: OnnxProgram, steps: int) -> int:
    values = 3 * sum(math.prod(s) for s in program.network.shapes().values())  # a value, and two of a state
    values *= steps if program.form == "scan" else 1
    return max(1, min(MAX_BATCH, BATCH_BYTES // (values * counts.itemsize(program.network))))


def _layer_inputs(program: OnnxProgram) -> dict[str, str]:
    from export.onnx_graph import input_value

    return {n: input_value(program.network, n) for n in counts.layers(program.network)}


def _kept_type(program: OnnxProgram, name: str) -> Any:
    """int8 for spikes; ``y`` is spikes where a spiking node alone leads to it."""
    network = program.network
    source = network.sources(network.output)[0].src if name == "y" else ""
    alone = len(network.sources(network.output)) == 1 and isinstance(network.nodes.get(source), Spiking)
    return np.int8 if name.endswith(".s") or alone else np.float64 if counts.itemsize(network) == 8 else np.float32


def _notes(program: OnnxProgram) -> tuple[str, ...]:
    if program.watched:
        return ()
    return ("spikes, acs: not counted inside, the program was exported with watch=False",)


def _dtype(session: Any) -> np.dtype[Any]:
    return np.dtype(np.float64 if session.get_inputs()[0].type == "tensor(double)" else np.float32)


def _list(shape: Sequence[int]) -> str:
    return ", ".join(str(n) for n in shape)
