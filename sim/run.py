"""What happened: spikes, probes and integer counts per event and node, with seed and versions."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.package import PackageError, write_text
from export.package import write_npz as _write_npz

Counts = dict[str, dict[str, int]]
"""Event to node to integer: ``counts["synaptic_events"]["fc1"]``. Sums over samples and steps."""

RUN_NPZ, RUN_JSON = "run.npz", "run.json"


@dataclass
class Run:
    """One run of one program.

    ``y``: output spikes, integer ``(samples, T, outputs...)``. ``probes``: named arrays, ``(samples, T, ...)`` for
    a node's spikes (name ``"<node>.s"``), or ``(time,)`` for a waveform (names with their unit, such as ``time_s``).
    ``latency_steps``: steps by which ``y`` lags the input that caused it (already removed from ``y``).
    """

    machine: str
    y: npt.NDArray[Any]
    counts: Counts
    samples: int
    steps: int
    dt_s: float
    probes: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    seed: int = 0
    program: dict[str, Any] = field(default_factory=dict)
    """What ran: ``machine``, ``hash``, ``usage``, ``losses`` (see :func:`sim.engines.summary`)."""
    latency_steps: int = 0
    wall_s: float = 0.0
    machine_s: float | None = None
    """Seconds that the modelled machine takes for the whole run, where it has a time model."""
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=lambda: versions())

    def total(self, event: str) -> int:
        """Sum of one event over nodes; 0 where it was not counted."""
        return sum(self.counts.get(event, {}).values())

    def save(self, folder: str | Path) -> Path:
        """Write ``run.npz`` (``y`` and probes) and ``run.json`` (the rest) into ``folder``, JSON last."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        _write_npz(folder / RUN_NPZ, {"y": self.y} | self.probes)
        write_text(folder / RUN_JSON, json.dumps(self.to_dict(), indent=1))
        return folder

    def to_dict(self) -> dict[str, Any]:
        """Everything but the arrays, as JSON data."""
        return {"format": "spikeport-run", "version": 1} | {
            k: v for k, v in self.__dict__.items() if k not in ("y", "probes")
        }

    @classmethod
    def load(cls, folder: str | Path) -> Run:
        """Read what :meth:`save` wrote. Errors: ``PackageError`` naming the file."""
        folder = Path(folder)
        try:
            data = json.loads((folder / RUN_JSON).read_text())
            with np.load(folder / RUN_NPZ, allow_pickle=False) as z:
                arrays = {k: z[k] for k in z.files}
            if data.pop("format") != "spikeport-run" or data.pop("version") != 1:
                raise ValueError("not a run of this version")
            data["notes"] = tuple(data["notes"])
            return cls(y=arrays.pop("y"), probes=arrays, **data)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            raise PackageError(f"{folder}: no readable run ({error}); run the program again") from None


def versions(*names: str) -> dict[str, str]:
    """Versions of Python, spikeport, numpy and ``names``, for a run's stamp."""
    found: Mapping[str, str] = {"python": platform.python_version(), "machine": platform.machine()}
    out = dict(found)
    for name in ("spikeport", "numpy", *names):
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            out[name] = "not installed"
    return out
