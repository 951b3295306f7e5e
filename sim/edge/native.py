"""onnxruntime as an engine: steps a program with its state going in and out, and counts its work.

    run(program, x)                     a batch of whole samples -> Run
    Session(program).step(x)            one step of a stream, state kept in two buffers that swap

No state is copied inside a step: both directions are bound to numpy buffers once per batch. onnxruntime is
imported when a session is made; nothing here imports torch.

Measured against torch on equal weights (x86-64, one thread; onnxruntime 1.32, torch 2.14; 32 random networks
of three convolutions and two linear layers, 109 million spikes): with onnxruntime's default optimisations, as
used here, no spike differs; at its `basic` optimisation level 17 do. Most sums of a layer with many inputs
differ in their last bits either way, so this is rarity and no guarantee; :mod:`export.to_onnx` says what is
exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.package import PackageError
from export.to_onnx import OnnxProgram, need
from sim.edge import counts
from sim.run import Run

Array: TypeAlias = npt.NDArray[Any]


class Session:
    """A stream through one step program: ``step(x (N, ...)) -> y (N, ...)``, ``reset()``, ``state`` to keep.

    ``N`` is that of the first step after a reset. ``threads`` are onnxruntime's within an operator.
    ``outputs`` holds ``y`` and the watched values of the last step; the next step overwrites them.
    Errors: ``ValueError`` naming a wrong shape, a missing onnxruntime, or a file that it refuses.
    """

    def __init__(self, program: OnnxProgram | str | Path, *, threads: int = 1) -> None:
        self.program = program if isinstance(program, OnnxProgram) else OnnxProgram.load(program)
        if self.program.form == "scan":
            raise ValueError(
                f"Session: takes a step program, got form '{self.program.form}'; make it with to_onnx_step"
            )
        self._session = open_session(self.program, threads)
        self._dtype = _dtype(self._session)
        self._names = {"y": self.program.output_shape} | self.program.outputs
        self._batch = self._turn = 0
        self._x: Array
        self._states: tuple[dict[str, Array], dict[str, Array]]
        self._bindings: list[Any]
        self.outputs: dict[str, Array] = {}

    def step(self, x: Array) -> Array:
        """One step. ``x (N, *input_shape)``; gives ``y (N, *output_shape)``, a copy."""
        x = np.asarray(x)
        if x.shape[1:] != self.program.input_shape or x.ndim < 2 or (self._batch and len(x) != self._batch):
            n = self._batch or "N"
            raise ValueError(
                f"x: a step takes ({n}, {_list(self.program.input_shape)}), got {x.shape}; reset() frees N"
            )
        if not self._batch:
            self._bind(len(x))
        np.copyto(self._x, x, casting="unsafe")
        self._session.run_with_iobinding(self._bindings[self._turn])
        self._turn = 1 - self._turn
        return self.outputs["y"].copy()

    def reset(self, state: Mapping[str, Array] | None = None) -> None:
        """Back to the state before the first step, or to one that :attr:`state` gave."""
        self._batch = 0
        if not state:
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
    """``x (samples, T, *input_shape) -> Run``; ``probes``: names of ``outputs`` to keep.

    Samples run in batches that bound the memory beside what is kept. Counts: see :mod:`sim.edge.counts`;
    hidden spikes and effective operations only of a program with ``watch``. Errors: ``ValueError`` for a wrong
    shape or an unknown probe.
    """
    start = time.perf_counter()
    record = counts.Recorder(program.network, x, probes, list(program.outputs), progress)
    x = record.x
    scans = program.form == "scan"
    if program.form == "once" and x.shape[1] != 1:
        raise ValueError(
            f"x: a program made by to_onnx_once runs one step, x (samples, 1, ...), got {x.shape[1]} steps"
        )
    advance = _scanning(program, threads) if scans else _stepping(program, threads)
    batch = counts.batch_size(program.network, x.shape[1] if scans else 1)
    for at in range(0, len(x), batch):
        for t, values in advance(x[at : at + batch]):
            record.add(at, t, values)
    notes = () if program.outputs else ("exported with watch=False: no hidden spikes, no effective operations",)
    return record.run("onnx", start, "onnx", "onnxruntime", notes=notes)


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


Values: TypeAlias = Iterator[tuple[int, dict[str, Array]]]
"""A step and values ``(batch, steps from there on, ...)`` by name; the next item overwrites them."""


def _stepping(program: OnnxProgram, threads: int) -> Callable[[Array], Values]:
    session = Session(program, threads=threads)

    def advance(part: Array) -> Values:
        session.reset()
        for t in range(part.shape[1]):
            session.step(part[:, t])
            yield t, {n: a[:, None] for n, a in session.outputs.items()} | {"x": part[:, t : t + 1]}

    return advance


def _scanning(program: OnnxProgram, threads: int) -> Callable[[Array], Values]:
    session = open_session(program, threads)
    names = ["y", *program.outputs]
    dtype = _dtype(session)

    def advance(part: Array) -> Values:
        found = session.run(names, {"x": np.ascontiguousarray(part.swapaxes(0, 1), dtype)})
        yield 0, {n: a.swapaxes(0, 1) for n, a in zip(names, found, strict=True)} | {"x": part}

    return advance


def _dtype(session: Any) -> np.dtype[Any]:
    return np.dtype(np.float64 if session.get_inputs()[0].type == "tensor(double)" else np.float32)


def _list(shape: Sequence[int]) -> str:
    return ", ".join(str(n) for n in shape)
