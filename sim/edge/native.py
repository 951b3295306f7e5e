"""onnxruntime on this machine, stepping with the state as explicit inputs and outputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from export.network import Conv2d, Linear
from export.to_onnx import OnnxProgram, network_of
from sim.counting import accumulates, static_counts
from sim.run import Run, versions

Array = npt.NDArray[Any]
BATCH = 256


class Session:
    """A step-form program in onnxruntime: :meth:`step` and :meth:`reset`. State stays in the session, visible.

    Buffers of state are swapped, not copied. Errors: ``ValueError`` for a program of another form or a missing
    onnxruntime.
    """

    def __init__(self, program: OnnxProgram, threads: int = 1) -> None:
        if program.meta["form"] != "step":
            raise ValueError(f"program form is '{program.meta['form']}', stepping takes 'step'; export with to_onnx_step")
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.ort, self.program = ort, program
        self.session = ort.InferenceSession(program.model, options, providers=["CPUExecutionProvider"])
        self.dtype = np.float64 if "double" in self.session.get_inputs()[0].type else np.float32
        self.names = [o.name for o in self.session.get_outputs()]
        self.state: dict[str, Any] = {}

    def reset(self, batch: int = 1) -> None:
        """Every state to its initial value, for ``batch`` samples."""
        value = self.ort.OrtValue.ortvalue_from_numpy
        self.state = {
            s: value(np.full((batch, *d["shape"]), d["init"], self.dtype))
            for s, d in self.program.meta["states"].items()
        }

    def step(self, x: Array) -> dict[str, Array]:
        """One step on ``x (N, ...)``: ``{"y": ..., "<node>.s": ...}``."""
        if x.shape[1:] != self.program.input_shape:
            raise ValueError(f"x must be (N, {self.program.input_shape}), got {x.shape}")
        if not self.state and self.program.meta["states"]:
            self.reset(len(x))
        binding = self.session.io_binding()
        binding.bind_cpu_input("x", np.ascontiguousarray(x, self.dtype))
        for name, held in self.state.items():
            binding.bind_ortvalue_input(name, held)
        for name in self.names:
            binding.bind_output(name)
        self.session.run_with_iobinding(binding)
        outputs = dict(zip(self.names, binding.get_outputs(), strict=True))
        self.state = {s: outputs[f"{s}_next"] for s in self.state}
        return {n: v.numpy() for n, v in outputs.items() if not n.endswith("_next")}


def run(
    program: OnnxProgram,
    x: Array,
    *,
    probes: Sequence[str] = (),
    progress: Callable[[float], None] | None = None,
    threads: int = 1,
) -> Run:
    """All steps of ``x (samples, T, ...)`` in batches; probes ``"<node>.s"`` of all spiking nodes or those named."""
    start = time.perf_counter()
    session, network = Session(program, threads), network_of(program)
    if x.shape[2:] != program.input_shape:
        raise ValueError(f"x must be (samples, T, {program.input_shape}), got {x.shape}")
    names = ["y", *(f"{n}.s" for n in program.meta["spikes"])]
    got: dict[str, list[Array]] = {n: [] for n in names}
    for i in range(0, len(x), BATCH):
        part = x[i : i + BATCH]
        session.reset(len(part))
        steps = [session.step(part[:, t]) for t in range(x.shape[1])]
        for n in names:
            got[n].append(np.stack([s[n] for s in steps], 1).astype(np.int8 if n != "y" else session.dtype))
        if progress is not None:
            progress(min(1.0, (i + BATCH) / len(x)))
    wall = time.perf_counter() - start
    found = {n: np.concatenate(a) for n, a in got.items()}
    counts = static_counts(network, x.shape[0], x.shape[1])
    counts["spikes"] = {n: int(found[f"{n}.s"].sum()) for n in program.meta["spikes"]}
    for name, node in network:
        if isinstance(node, Linear | Conv2d):
            given = _given(network, name, x, found)
            event, n = ("acs", 0) if given is None else accumulates(network, name, given)
            counts.setdefault(event, {})[name] = n
    y = found.pop("y")
    spiking_out = f"{network.sources(network.output)[0].src}.s" in found
    return Run(
        machine="onnx",
        y=y.astype(np.int8) if spiking_out else y,
        counts=counts,
        samples=x.shape[0],
        steps=x.shape[1],
        dt_s=program.meta["dt_s"],
        probes={n: s for n, s in found.items() if not probes or n in probes},
        wall_s=wall,
        versions=versions("onnxruntime", "onnx"),
    )


def _given(network: Any, name: str, x: Array, found: dict[str, Array]) -> Array | None:
    """Input of a weight layer ``(samples * T, ...)``, rebuilt from recorded spikes through memoryless nodes."""
    from sim.numpy_engine import forward

    def value(node: str) -> Array:
        if f"{node}.s" in found:
            return found[f"{node}.s"].reshape(-1, *found[f"{node}.s"].shape[2:]).astype(np.float32)
        if node == network.input:
            return x.reshape(-1, *x.shape[2:])
        return forward(network.nodes[node], total(node))

    def total(node: str) -> Array:
        parts = [_late(value(e.src), e.delay, x.shape[:2]) for e in network.sources(node)]
        return np.asarray(sum(parts[1:], parts[0]))

    return total(name)


def _late(a: Array, delay: int, lead: tuple[int, ...]) -> Array:
    if not delay:
        return a
    b = a.reshape(*lead, *a.shape[1:])
    shifted = np.zeros_like(b)
    shifted[:, delay:] = b[:, :-delay]
    return shifted.reshape(a.shape)


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("this needs onnxruntime: pip install 'spikeport[edge]'") from None
    return onnxruntime
