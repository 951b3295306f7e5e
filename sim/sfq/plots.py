"""Drawings of runs and analyses as PNG (or whatever the suffix says that matplotlib writes: .svg, .pdf).

Needs the extra ``plot``. Files are written beside and renamed; colours are those of the report.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.sfq.circuit import Floats

COLOURS = ("#1d4ed8", "#0f8a7e", "#c26a00", "#b4256b", "#6d3fd1", "#5a8a12", "#58657a", "#c0392b")
INK, SOFT, RULE = "#16181d", "#5b6270", "#e3e4e0"
MOST_TRACES = 24
UNITS = {"V": (1e3, "mV"), "I": (1e6, "µA"), "P": (0.5 / np.pi, "phase/2π")}
"""By the first letter of a trace: factor and unit as drawn."""


class PlotError(ValueError):
    """A drawing that cannot be made; the text says what to do."""


def waveforms(path: str | Path, time_s: Floats, traces: Mapping[str, Floats], title: str = "") -> Path:
    """One strip a trace over time in ps: V in mV, I in uA, phases in turns. At most MOST_TRACES; the title tells more.

    Errors: PlotError without traces or without matplotlib.
    """
    if not traces or not len(time_s):
        raise PlotError("no traces to draw; the deck needs .print lines, or pass probes")
    names = list(traces)[:MOST_TRACES]
    more = f", {len(traces) - len(names)} more not drawn" if len(traces) > len(names) else ""
    figure = _figure(9.0, 0.6 + 0.95 * len(names))
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for name, ax in zip(names, axes, strict=True):
        factor, unit = UNITS.get(name[:1] if name[1:2] == "(" else "", (1.0, ""))
        ax.plot(1e12 * time_s, factor * traces[name], color=COLOURS["PVI".find(name[:1])], linewidth=1.0)
        ax.set_ylabel(unit, fontsize=8, color=SOFT)
        ax.set_title(name, loc="left", fontsize=8.5, color=INK, pad=2)
        if unit.startswith("phase"):
            ax.grid(axis="y", color=RULE, linewidth=0.7)
    axes[-1].set_xlabel("time, ps", color=SOFT, fontsize=9)
    return _save(figure, path, (title or "waveforms") + more)


def pulses(path: str | Path, slips: Mapping[str, Floats], stop_s: float, title: str = "") -> Path:
    """A raster: a row for each junction, a mark for each slip (rows of time s and sign), anti-fluxons in red.

    Errors: PlotError without junctions or without matplotlib.
    """
    if not slips:
        raise PlotError("no junctions to draw; name some with watch=")
    names = list(slips)
    figure = _figure(9.0, 0.9 + 0.2 * max(4, len(names)))
    ax = figure.subplots()
    for sign, colour, label in ((1, COLOURS[0], "+2π"), (-1, COLOURS[7], "−2π")):
        rows = [1e12 * slips[n][slips[n][:, 1] == sign, 0] for n in names]
        if any(map(len, rows)):
            ax.eventplot(rows, lineoffsets=np.arange(len(names)), linelengths=0.8, linewidths=1.1, colors=colour)
            ax.plot([], [], color=colour, label=f"{sum(map(len, rows))} slips of {label}")
    ax.set_yticks(np.arange(len(names)), names, fontsize=7 if len(names) < 60 else 4)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(0, 1e12 * stop_s)
    ax.set_xlabel("time, ps", color=SOFT, fontsize=9)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=8, frameon=False, ncols=2, loc="lower right", bbox_to_anchor=(1, 1))
    return _save(figure, path, title or "pulses")


def margins(path: str | Path, rows: Sequence[Any], title: str = "") -> Path:
    """Bars from the low to the high margin in percent, the most critical on top (rows of ``Margins.rows``).

    A bar that ends in an arrow works to the limit of the search. Errors: PlotError without rows or matplotlib.
    """
    if not rows:
        raise PlotError("no margins to draw; run margins with at least one parameter")
    figure = _figure(8.0, 1.0 + 0.28 * len(rows))
    ax = figure.subplots()
    for k, row in enumerate(rows):
        low, high = 100 * (row.low.works_at - 1.0), 100 * (row.high.works_at - 1.0)
        ax.barh(k, high - low, left=low, height=0.62, color=COLOURS[0] if k else COLOURS[2])
        for side, at, marker, align in ((row.low, low, "<", "right"), (row.high, high, ">", "left")):
            if side.fails_at is None:
                ax.plot(at, k, marker=marker, color=INK, markersize=5, clip_on=False)
            pad = -6 if align == "right" else 6
            ax.annotate(
                f"{at:+.0f}", (at, k), (pad, 0), textcoords="offset points", ha=align, va="center", fontsize=7.5
            )
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.set_yticks(np.arange(len(rows)), [row.name for row in rows], fontsize=8)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ends = [100 * (f - 1.0) for r in rows for f in (r.low.works_at, r.high.works_at)]
    room = 0.1 * (max(ends) - min(ends)) or 1.0
    ax.set_xlim(min(ends) - room, max(ends) + room)
    ax.grid(axis="x", color=RULE, linewidth=0.7)
    ax.set_axisbelow(True)
    ax.set_xlabel("change that still works, %", color=SOFT, fontsize=9)
    return _save(figure, path, title or "margins")


def shmoo(
    path: str | Path, x: Floats, y: Floats, works: NDArray[np.bool_], x_name: str = "x", y_name: str = "y",
    title: str = "",
) -> Path:  # fmt: skip
    """A map of two factors: ``works (len(y), len(x))``, with a cross at 1, 1. Errors: PlotError for shapes."""
    if works.shape != (len(y), len(x)) or not works.size:
        raise PlotError(f"shmoo: works has shape {works.shape} for {len(y)} x {len(x)} factors (rows are y)")
    figure = _figure(6.4, 5.6)
    ax = figure.subplots()
    colours = np.where(works[..., None], _rgb(COLOURS[0]), _rgb("#eceef0"))
    ax.pcolormesh(x, y, colours, shading="nearest", edgecolors="white", linewidth=0.4)
    inside = min(x) <= 1 <= max(x) and min(y) <= 1 <= max(y)
    if inside:
        ax.plot(1, 1, marker="+", color=COLOURS[2], markersize=12, markeredgewidth=2)
    ax.set_xlabel(f"{x_name}, factor", color=SOFT, fontsize=9)
    ax.set_ylabel(f"{y_name}, factor", color=SOFT, fontsize=9)
    return _save(figure, path, title or f"shmoo: works at {int(works.sum())} of {works.size} points (blue)")


def iv(path: str | Path, curves: Mapping[str, tuple[Floats, Floats]], title: str = "") -> Path:
    """Current over mean voltage, a line for each name: ``(current A, voltage V)``. Errors: PlotError for no curve."""
    if not curves:
        raise PlotError("no IV curve to draw")
    figure = _figure(6.8, 5.0)
    ax = figure.subplots()
    for k, (name, (current, voltage)) in enumerate(curves.items()):
        colour = COLOURS[k % len(COLOURS)]
        style = "--" if k else "-"
        ax.plot(1e3 * voltage, 1e6 * current, style, color=colour, linewidth=1.2, marker=".", markersize=3, label=name)
    ax.grid(color=RULE, linewidth=0.7)
    ax.set_xlabel("mean voltage, mV", color=SOFT, fontsize=9)
    ax.set_ylabel("current, µA", color=SOFT, fontsize=9)
    ax.legend(fontsize=8, frameon=False)
    return _save(figure, path, title or "IV")


def spread(path: str | Path, values: Floats, label: str, title: str = "") -> Path:
    """A histogram of one figure over corners, with mean and standard deviation. Errors: PlotError for no value."""
    values = values[np.isfinite(values)]
    if not len(values):
        raise PlotError(f"no finite {label} to draw")
    figure = _figure(6.4, 3.6)
    ax = figure.subplots()
    ax.hist(values, bins=min(60, max(8, int(np.sqrt(len(values))))), color=COLOURS[0])
    ax.axvline(float(values.mean()), color=INK, linewidth=0.8)
    ax.set_xlabel(label, color=SOFT, fontsize=9)
    ax.set_ylabel("corners", color=SOFT, fontsize=9)
    return _save(figure, path, title or f"mean {values.mean():.4g}, standard deviation {values.std():.3g}")


def _rgb(colour: str) -> Floats:
    return np.array([int(colour[i : i + 2], 16) / 255.0 for i in (1, 3, 5)])


def _figure(width: float, height: float) -> Any:
    """An empty figure, without a window system or a global state. Errors: PlotError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise PlotError("drawings need matplotlib: pip install 'spikeport[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: str | Path, title: str) -> Path:
    """Write beside and rename."""
    figure.suptitle(title, fontsize=10, color=INK, x=0.01, ha="left")
    for ax in figure.axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.spines[["left", "bottom"]].set_color(SOFT)
        ax.tick_params(colors=SOFT, labelsize=8)
    path = Path(path)
    kind = path.suffix.removeprefix(".").lower() or "png"
    if kind not in figure.canvas.get_supported_filetypes():
        raise PlotError(f"{path}: cannot draw .{kind}; use .png, .svg or .pdf")
    handle, beside = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
    os.close(handle)
    try:
        figure.savefig(beside, format=kind, dpi=160, facecolor="white")
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    return path
