"""Every engine under its name: what it needs, what it takes, how it runs. Nothing heavy is imported until used."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.network import FORMAT as NETWORK_FORMAT
from export.network import Loss, Network
from export.package import PackageError, read_manifest
from export.program import MappingError
from sim.run import Run

Progress = Callable[[float], None]
"""Called with the share done, 0 to 1."""


@dataclass(frozen=True)
class Engine:
    """``name`` as in ``--on name``. ``kind``: the kind of program it takes; it compiles a Network to that kind.

    ``runner``: ``"module:function"`` with ``function(program, x, *, probes, progress) -> Run``.
    ``needs``: importable modules, and ``extra``: what installs them. ``prices``: its default price table. ``lacks``:
    ``"module:function"`` that lists what else is missing, for an engine that is more than modules.
    """

    name: str
    about: str
    kind: str
    runner: str
    needs: tuple[str, ...] = ()
    extra: str = ""
    prices: str | None = None
    lacks: str = ""

    def missing(self) -> list[str]:
        """What is not there, with the command that installs it; empty means ready."""
        absent = [m for m in self.needs if importlib.util.find_spec(m) is None]
        found = [f"{', '.join(absent)}: pip install 'spikeport[{self.extra}]'"] if absent else []
        return found + (_resolve(self.lacks)() if self.lacks else [])


ENGINES = {
    e.name: e
    for e in (
        Engine("float", "the network itself in numpy, the law as written", "network", "sim.numpy_engine:run"),
        Engine("torch", "the network as a torch module", "network", "sim.torch_engine:run", ("torch",), "train"),
        Engine(
            "loihi",
            "integer law, event-driven",
            "loihi",
            "sim.loihi.engine:run",
            ("numba",),
            "all",
            "loihi1_davies2018",
        ),
        Engine(
            "loihi-reference", "integer law, readable", "loihi", "sim.loihi.reference:run", prices="loihi1_davies2018"
        ),
        Engine(
            "lava",
            "lava-nc itself, in its worker",
            "loihi",
            "sim.lava.client:run",
            prices="loihi1_davies2018",
            lacks="sim.lava.setup:missing",
        ),
        Engine(
            "onnx",
            "onnxruntime, state in and out",
            "onnx",
            "sim.edge.native:run",
            ("onnx", "onnxruntime"),
            "edge",
            "cmos45_horowitz2014",
        ),
        Engine("brian", "Brian 2 equations run by brian2", "brian", "sim.brian:run", ("brian2",), "brian"),
        Engine(
            "sfq-pulse",
            "the deck's cells at pulse level",
            "sfq",
            "sim.sfq.pulse_network:run",
            ("numba",),
            "all",
            "sfq_rsfq",
        ),
        Engine(
            "sfq", "junction-level transient of the deck", "sfq", "sim.sfq.network:run", ("numba",), "all", "sfq_rsfq"
        ),
    )
}

OWNERS = {
    "onnx": "export.to_onnx:OnnxProgram",
    "sfq": "export.to_deck:SfqProgram",
    "loihi": "export.loihi:LoihiProgram",
    "brian": "export.to_brian:BrianProgram",
}
SUFFIXES = {".onnx": "onnx", ".cir": "sfq", ".inc": "sfq", ".js": "sfq", ".py": "brian"}


def engine(name: str) -> Engine:
    """The engine of that name, ready to run. Errors: ``ValueError`` with the names, or with what is missing."""
    if name not in ENGINES:
        raise ValueError(f"no machine '{name}'; there are {', '.join(ENGINES)}")
    found = ENGINES[name]
    if found.missing():
        raise ValueError(f"machine '{name}' is not ready here: {'; '.join(found.missing())}")
    return found


def compile_for(machine: str, network: Network, **options: Any) -> Any:
    """The network as a program for an engine, or of a kind (``network``, ``loihi``, ``onnx``, ``nir``, ``brian``, ...).

    ``options`` go to the exporter. Errors: ``MappingError`` naming node, rule and fix.
    """
    exporters = {
        "loihi": "export.to_loihi:compile_loihi",
        "netx": "export.to_netx:compile_netx",
        "onnx": "export.to_onnx:to_onnx_step",
        "nir": "export.to_nir:to_nir",
        "sfq": "export.to_deck:to_deck",
        "sfq-stochastic": "export.sfq_stochastic:to_stochastic_deck",
        "brian": "export.to_brian:to_brian",
    }
    kind = ENGINES[machine].kind if machine in ENGINES else machine
    if kind == "network":
        return network
    if kind not in exporters:
        raise MappingError(f"no exporter to '{kind}'; there are {', '.join(exporters)}")
    return _resolve(exporters[kind])(network, **options)


def load(path: str | Path, **nir: Any) -> tuple[str, Any]:
    """``(kind, program or network)`` of a saved file, told by its content. Errors: ``PackageError``.

    ``nir``: arguments of :func:`export.from_nir.from_nir`, for a ``.nir`` file.
    """
    path = Path(path)
    if not path.is_file():
        raise PackageError(f"{path}: no such file; give a network or program that 'spikeport export' wrote")
    if path.suffix == ".nir":
        return "network", _resolve("export.from_nir:from_nir")(path, **nir)
    if nir:
        raise PackageError(f"{path}: {', '.join(nir)} are for .nir files only; this file knows, leave them out")
    if path.suffix == ".net":
        return "loihi", _resolve("export.from_netx:from_netx")(path)
    if path.suffix in SUFFIXES:
        kind = SUFFIXES[path.suffix]
        return kind, _resolve(OWNERS[kind]).load(path)
    form = read_manifest(path).get("format")
    if form == NETWORK_FORMAT:
        return "network", Network.load(path)
    kind = {"loihi-int": "loihi", "spikeport-brian": "brian"}.get(str(form), "")
    if kind:
        return kind, _resolve(OWNERS[kind]).load(path)
    raise PackageError(f"{path}: holds '{form}'; 'spikeport run' takes networks and programs")


def run(
    program: Any,
    x: npt.NDArray[Any] | None,
    on: str,
    *,
    probes: Sequence[str] | None = None,
    labels: npt.NDArray[Any] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Run:
    """Run a network or a program on the machine ``on``; the one way to run anything.

    ``x``: ``(samples, T, ...)``; ``labels (samples,)`` are kept in the run as probe ``labels``. ``probes`` are those
    of the engine; None takes the spikes of every spiking node, so that runs can be compared. A Network is compiled
    first, with ``options`` to the exporter. Errors: ``ValueError`` naming the machine, the program and the fix.
    """
    found = engine(on)
    if isinstance(program, Network):
        program = compile_for(found.kind, program, **options)
    kind = "network" if isinstance(program, Network) else program.machine
    if kind != found.kind:
        fits = [e.name for e in ENGINES.values() if e.kind == kind]
        raise ValueError(f"a {kind} program does not run on '{on}'; it runs on {', '.join(fits)}")
    if x is not None and (x.ndim < 2 or not np.isfinite(x).all()):
        raise ValueError(f"x must be finite and (samples, T, ...), got shape {x.shape} or NaN in it; encode it first")
    done = _resolve(found.runner)(
        program, x, probes=watched(program) if probes is None else tuple(probes), progress=progress
    )
    if not isinstance(done, Run):
        raise TypeError(f"{found.runner} returned {type(done).__name__}, not a Run")
    done = replace(done, machine=on, program=summary(program))
    if labels is not None:
        done.probes["labels"] = labels
    return done


def watched(program: Any) -> tuple[str, ...]:
    """Probes ``"<node>.s"`` of every spiking node that a program or network lets one see."""
    if isinstance(program, Network):
        return tuple(f"{n}.s" for n in program.spiking())
    return tuple(getattr(program, "watched", ()))


def summary(program: Any) -> dict[str, Any]:
    """What a report says of a program: machine, name, hash, usage, losses, and the layers where it holds a network."""
    losses: Sequence[Loss] = program.losses
    network = program if isinstance(program, Network) else getattr(program, "network", None)
    out = {
        "machine": getattr(program, "machine", "network"),
        "name": getattr(program, "name", "") or getattr(network, "name", ""),
        "hash": program.hash(),
        "usage": {k: list(v) for k, v in getattr(program, "usage", {}).items()},
        "losses": [[x.node, x.what, x.size] for x in losses],
    }
    if isinstance(network, Network):
        out["layers"] = _resolve("sim.report.layers:network_layers")(network)  # the report imports the engines
    return out


def _resolve(target: str) -> Any:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)
