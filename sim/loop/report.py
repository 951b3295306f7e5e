"""What a loop did, as a value: returns, wall time, modelled time and energy of a step, real-time factors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from rich.text import Text

from export.loihi import LoihiProgram
from export.package import PackageError, write_text
from hardware.energy import Span, digits
from sim.engines import ENGINES, summary
from sim.loihi.steps import time_note
from sim.loihi.timing import timing_of
from sim.loop.loop import Loop
from sim.loop.meter import Meter
from sim.loop.record import Recording
from sim.loop.steppers import EngineStepper
from sim.report.units import clean, si, span, whole
from sim.run import Run, versions

FORMAT, VERSION = "spikeport-loop", 1
JSON = "loop.json"
QUANTILES = (50, 95, 99)


@dataclass(frozen=True)
class LoopReport:
    """``wall_s``: ``act`` (a whole environment step) and ``chip`` (one chip step) on this computer, each ``{n, mean,
    p50, p95, p99, max}``. ``chip_s, energy_J``: the same of the modelled chip's time and energy of an environment step,
    None without a model. ``real_time``: how many times faster than ``env_dt_s`` the median step is, ``here`` and on the
    modelled ``chip``; below 1 the loop is too slow. ``complete``: whether it ended as it meant to.
    """

    title: str
    about: Mapping[str, Any]
    env_dt_s: float
    env_steps: int
    chip_steps: int
    episodes: int
    wall_s: Mapping[str, Mapping[str, float]]
    chip_s: Mapping[str, float] | None
    energy_J: Mapping[str, float] | None
    real_time: Mapping[str, float | None]
    counts: Mapping[str, Mapping[str, int]]
    bill: Mapping[str, Any] | None
    returns: Sequence[float] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    complete: bool = True
    notes: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=lambda: versions("numba"))

    def to_dict(self) -> dict[str, Any]:
        """JSON data, complete."""
        return {"format": FORMAT, "version": VERSION} | dict(self.__dict__)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "report") -> LoopReport:
        """Inverse of :meth:`to_dict`. Errors: ``PackageError`` naming ``where``."""
        data = dict(data)
        try:
            if data.pop("format") != FORMAT or data.pop("version") != VERSION:
                raise ValueError("not a loop report of this version")
            return cls(**data)
        except (KeyError, TypeError, ValueError) as error:
            raise PackageError(f"{where}: cannot be read ({error}); run the loop again") from None

    def save(self, folder: str | Path) -> Path:
        """Write ``loop.json`` into ``folder``, beside and renamed."""
        return write_text(Path(folder) / JSON, json.dumps(self.to_dict(), indent=1, allow_nan=False))

    @classmethod
    def load(cls, folder: str | Path) -> LoopReport:
        """Read what :meth:`save` wrote. Errors: ``PackageError``."""
        path = Path(folder) / JSON
        try:
            data = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise PackageError(f"{path}: cannot be read ({error}); run the loop again") from None
        return cls.from_dict(data, str(path))

    def show(self, console: Console | None = None) -> None:
        """Print it."""
        console = console or Console()
        state = "" if self.complete else ", stopped before its end"
        a = self.about
        head = f"{self.title}: {whole(self.env_steps)} environment steps in {whole(self.episodes)} episodes{state}"
        how = (
            f"{a['name']} on {a['on']}, K = {a['steps']}, latency {a['latency']} chip steps, {a['window']}; "
            f"program {str(a['program'])[:12]}, seed {a['seed']}"
        )
        console.print(Text(clean(head), style="bold"), soft_wrap=True)
        console.print(Text(clean(how), style="dim"), soft_wrap=True)
        console.print(self._times())
        for line in self.lines():
            console.print(Text(clean(line)), soft_wrap=True)

    def lines(self) -> list[str]:
        """Returns, real-time factors, energy and notes, each a sentence."""
        out = []
        if self.returns:
            r = np.asarray(self.returns)
            out.append(f"return: mean {r.mean():.4g}, least {r.min():.4g}, most {r.max():.4g}")
        out += [f"{k}: {v:.4g}" for k, v in self.figures.items()]
        for where, key in (("here", "here"), ("modelled chip", "chip")):
            factor = self.real_time.get(key)
            if factor is not None:
                out.append(f"real-time factor, {where}: {factor:.3g} (an environment step is {si(self.env_dt_s, 's')})")
        if self.bill is not None:
            d = digits(str(self.bill["grade"]))
            total = self.bill["total_J"]
            if total is not None and self.env_steps:
                low, typical, high = (float(t) / self.env_steps for t in total)
                band = span(Span(low, typical, high), "J", d)
                out.append(
                    f"energy of an environment step: {si(typical, 'J', d)}{f' ({band})' if band else ''}, counts x "
                    f"{self.bill['table']} [{self.bill['grade']}]; not a measurement of this chip"
                )
        return out + list(self.notes)

    def _times(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for k, column in enumerate(("", "mean", "p50", "p95", "p99", "max")):
            table.add_column(column, justify="right" if k else "left")
        rows: list[tuple[str, Mapping[str, float] | None, str]] = [
            ("environment step, wall", self.wall_s["act"], "s"),
            ("chip step, wall", self.wall_s["chip"], "s"),
            ("environment step, modelled chip", self.chip_s, "s"),
            ("environment step, energy", self.energy_J, "J"),
        ]
        for name, found, unit in rows:
            if found is not None and found["n"]:
                table.add_row(name, *(si(found[k], unit) for k in ("mean", "p50", "p95", "p99", "max")))
        return table


def quantiles(values: npt.NDArray[Any]) -> dict[str, float]:
    """``n, mean, p50, p95, p99, max`` of a column; zeros for none."""
    if not len(values):
        return dict.fromkeys(("n", "mean", *(f"p{q}" for q in QUANTILES), "max"), 0.0)
    found = {f"p{q}": float(p) for q, p in zip(QUANTILES, np.percentile(values, QUANTILES), strict=True)}
    return {"n": float(len(values)), "mean": float(values.mean())} | found | {"max": float(values.max())}


def report(
    loop: Loop,
    *,
    title: str = "Loop",
    returns: Sequence[float] = (),
    figures: Mapping[str, float] | None = None,
    prices: str | None = None,
    episodes: int | None = None,
    complete: bool = True,
    meter: Meter | None = None,
) -> LoopReport:
    """The report of what ``loop`` did since it was made. ``prices``: a table; None takes the machine's own.

    ``meter``: the loop's own where it has one, else what :func:`measure` made of the recording. ``figures``: numbers
    of your own, printed by name. Errors: ``PriceTableError`` for the table.
    """
    act, chip = np.array(loop.times.act), np.array(loop.times.chip)
    seconds = energy = bill = None
    counts: Mapping[str, Mapping[str, int]] = {}
    notes = []
    meter = loop.meter or meter
    if meter is None:
        notes.append(f"{loop.stepper.name}: spikes were not counted; measure(recording, program) prices the recording")
    elif len(act):
        counts = meter.counts()
        table = prices or ENGINES["loihi"].prices or ""
        found = meter.bill(table)
        bill, energy, seconds = json.loads(json.dumps(found.to_dict())), meter.joules(found), meter.seconds()
        timing = timing_of(loop.program)
        notes += [] if timing is None else [time_note(timing, "all")]
        if found.no_total():
            notes.append(f"{found.table}: {found.no_total()}")
    return LoopReport(
        title=title,
        about=loop.about(),
        env_dt_s=loop.env_dt_s,
        env_steps=len(act),
        chip_steps=len(chip),
        episodes=loop.episode + 1 if episodes is None else episodes,
        wall_s={"act": quantiles(act), "chip": quantiles(chip)},
        chip_s=None if seconds is None else quantiles(seconds),
        energy_J=None if energy is None else quantiles(energy),
        real_time={
            "here": loop.env_dt_s / float(np.median(act)) if len(act) else None,
            "chip": None if seconds is None or not len(seconds) else loop.env_dt_s / float(np.median(seconds)),
        },
        counts=counts,
        bill=bill,
        returns=[float(r) for r in returns],
        figures=dict(figures or {}),
        complete=complete,
        notes=notes,
    )


def measure(recording: Recording, program: LoihiProgram) -> Meter:
    """The meter of a recording that was made where spikes do not show: its input once more on the engine here."""
    about, chip = recording.about, EngineStepper()
    rows = int(about["steps"]) + (int(about["latency"]) if about["window"] == "blocking" else 0)
    meter = Meter(program, rows)
    for _, x, _ in recording.episodes():
        chip.begin(program)
        meter.begin()
        for at in range(0, len(x), rows):
            for k in range(rows):
                chip.step(x[at + k])
                meter.watch(chip, k)
            meter.add(x[at : at + rows], at, chip)
    return meter


def as_run(loop: Loop, recording: Recording) -> Run:
    """The loop as a run, one sample an environment step, for :func:`sim.report.report_runs` and its page.

    ``y``: the windows of the recording. Errors: ``ValueError`` where spikes were not counted.
    """
    if loop.meter is None:
        raise ValueError(f"{loop.stepper.name}: spikes were not counted; record the loop and measure the recording")
    first = loop.rows - loop.steps
    windows = [part.y[:, first:] for part in recording.parts()]
    seconds, act = loop.meter.seconds(), np.array(loop.times.act)
    y = np.concatenate(windows).reshape(-1, loop.steps, *loop.program.output_shape)
    if len(y) != len(act):
        raise ValueError(
            f"{recording.folder}: has {len(y)} environment steps, the loop made {len(act)}; flush it first"
        )
    return Run(
        machine="loihi",
        y=y,
        counts=loop.meter.counts(),
        samples=len(act),
        steps=loop.steps,
        dt_s=loop.program.dt_s,
        seed=loop.seed,
        program=summary(loop.program),
        latency_steps=loop.latency,
        wall_s=float(act.sum()),
        machine_s=None if seconds is None else float(seconds.sum()),
    )
