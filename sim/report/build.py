"""The report as a value: runs of networks on machines, priced and compared. Its JSON is the truth; pages are views."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from export.network import Network
from export.package import PackageError, write_text
from hardware.energy import Bill
from hardware.sfq_energy import SfqEnergy
from sim.compare import accuracy
from sim.report.layers import layer_rows, network_layers
from sim.report.traces import pulses, rasters, waveforms
from sim.run import Run, versions

FORMAT, VERSION = "spikeport-report", 1
JSON, HTML = "report.json", "report.html"
RUN_FACTS = (
    "seed",
    "samples",
    "steps",
    "dt_s",
    "latency_steps",
    "wall_s",
    "machine_s",
    "versions",
    "counts",
)
MACHINE_KEYS = {"machine", "title", "group", "program", "agreement", "bill", "layers", "rasters", "waveforms"}


@dataclass
class MachineResult:
    """One run on one machine, with what was made of it.

    ``program``: a Program, or what ``sim.engines.summary`` says of one; None takes ``run.program``.
    ``agreement``: name to number (``accuracy`` and the like are fractions), or to ``(n, of)``.
    ``group``: runs of one network on one input share it; only those are drawn on one axis. ``sample``: whose
    spikes are drawn. ``sfq``: what an SFQ run costs as RSFQ and as ERSFQ.
    """

    machine: str
    title: str
    run: Run
    program: Any = None
    bill: Bill | None = None
    agreement: Mapping[str, Any] = field(default_factory=dict)
    layers: Sequence[Mapping[str, Any]] | None = None
    group: str = ""
    sample: int = 0
    sfq: SfqEnergy | None = None


@dataclass(frozen=True)
class Report:
    """``machines``: JSON data of each :class:`MachineResult`. ``network``: name, hash, ``dt_s``, layers, or None.

    ``first_line``: model, version and calibration status; every view starts with it.
    """

    title: str
    first_line: str
    machines: tuple[dict[str, Any], ...]
    network: dict[str, Any] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)

    def bill(self, k: int) -> Bill | None:
        """The bill of machine ``k``."""
        data = self.machines[k]["bill"]
        return None if data is None else Bill.from_dict(data)

    def sfq(self, k: int) -> SfqEnergy | None:
        """The SFQ figures of machine ``k``."""
        data = self.machines[k].get("sfq")
        return None if data is None else SfqEnergy.from_dict(data)

    def to_dict(self) -> dict[str, Any]:
        """JSON data, complete."""
        return {"format": FORMAT, "version": VERSION} | dict(self.__dict__) | {"machines": list(self.machines)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "report") -> Report:
        """Inverse of :meth:`to_dict`. Errors: ``PackageError`` naming ``where``."""
        data = dict(data)
        if data.pop("format", None) != FORMAT or data.pop("version", None) != VERSION:
            raise PackageError(f"{where}: no report of this version; make it again from its runs")
        try:
            data["machines"] = tuple(data["machines"])
            report = cls(**data)
            for k, m in enumerate(report.machines):
                missing = (MACHINE_KEYS | set(RUN_FACTS)) - m.keys()
                if missing:
                    raise ValueError(f"machine {k + 1} has no {', '.join(sorted(missing))}")
                report.bill(k)
                report.sfq(k)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise PackageError(f"{where}: not a report ({error}); make it again from its runs") from None
        return report

    def save(self, folder: str | Path) -> Path:
        """Write ``report.json`` and the self-contained ``report.html`` into ``folder``, each beside and renamed."""
        from sim.report.html import page

        folder = Path(folder)
        text = page(self)
        write_text(folder / JSON, json.dumps(self.to_dict(), indent=1, allow_nan=False))
        write_text(folder / HTML, text)
        return folder

    @classmethod
    def load(cls, path: str | Path) -> Report:
        """Read ``report.json``, or the folder it is in. Errors: ``PackageError`` naming the file."""
        path = Path(path)
        path = path / JSON if path.is_dir() else path
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise PackageError(f"{path}: cannot be read ({error}); make the report again from its runs") from None
        if not isinstance(data, dict):
            raise PackageError(f"{path}: not a report; make it again from its runs")
        return cls.from_dict(data, str(path))


def build_report(
    network: Network | None,
    results: Sequence[MachineResult],
    *,
    title: str,
    labels: npt.NDArray[Any] | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Report:
    """A report of ``results``; ``labels (samples,)`` give an accuracy to those that have none.

    ``network`` adds shapes and synapses to the layers; None leaves them out. ``meta``: JSON data of your own.
    Errors: ``ValueError`` without results.
    """
    if not results:
        raise ValueError("a report needs at least one result; run something first")
    known = [] if network is None else network_layers(network)
    machines = tuple(_clean(_machine(r, labels, known)) for r in results)
    about = None
    if network is not None:
        losses = [[x.node, x.what, x.size] for x in network.losses]
        about = {"name": network.name, "hash": network.hash(), "dt_s": network.dt_s, "losses": losses}
        about = _clean(about | {"layers": known})
    made = versions()
    return Report(title, first_line(network, results, made), machines, about, made, _clean(dict(meta or {})))


def first_line(network: Network | None, results: Sequence[MachineResult], made: Mapping[str, str]) -> str:
    """Model, version, calibration status: what kind of number the energies are, before any number."""
    models = [network.name] if network else [r.group for r in results if r.group]
    bills: dict[str, list[str]] = {}
    for r in results:
        if r.bill is not None:
            bills.setdefault(f"counts x {r.bill.table} [{r.bill.grade}]", []).append(r.title)
    priced = ", ".join(f"{what} ({', '.join(titles)})" for what, titles in bills.items())
    energy = f"energy: {priced}; not a measurement of this chip" if bills else "energy: not priced"
    model = ", ".join(dict.fromkeys(models)) or "network unnamed"
    return f"{model}; spikeport {made['spikeport']}; {energy}"


def _machine(r: MachineResult, labels: npt.NDArray[Any] | None, known: list[dict[str, Any]]) -> dict[str, Any]:
    agreement = {k: list(v) if isinstance(v, tuple) else v for k, v in r.agreement.items()}
    if labels is not None and "accuracy" not in agreement and labels.shape == (len(r.run.y),):
        agreement["accuracy"] = accuracy(r.run.y, labels)
    rows = r.layers if r.layers is not None else layer_rows(r.run, r.bill, known)
    return {
        "machine": r.machine,
        "title": r.title,
        "group": r.group,
        "notes": list(r.run.notes),
        "program": _program(r),
        "agreement": agreement,
        "bill": None if r.bill is None else r.bill.to_dict(),
        "figures": None if r.bill is None else r.bill.figures(r.run.samples, r.run.steps),
        "sfq": None if r.sfq is None else r.sfq.to_dict(),
        "layers": [dict(row) for row in rows],
        "rasters": rasters(r.run, r.sample),
        "waveforms": waveforms(r.run),
        "pulses": pulses(r.run),
    } | {k: getattr(r.run, k) for k in RUN_FACTS}


def _program(r: MachineResult) -> dict[str, Any]:
    """Hash, usage and losses: of a mapping by key, of a Program by attribute."""
    p = r.run.program if r.program is None else r.program
    if isinstance(p, Mapping):
        return {"hash": "", "usage": {}, "losses": []} | dict(p)
    usage = {k: list(v) for k, v in getattr(p, "usage", {}).items()}
    losses = [[x.node, x.what, x.size] for x in p.losses]
    return {"machine": getattr(p, "machine", "network"), "hash": p.hash(), "usage": usage, "losses": losses}


def _clean(value: Any) -> Any:
    """JSON data: tuples to lists, numpy numbers to Python's, what is not finite to None."""
    if isinstance(value, Mapping):
        return {str(k): _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
