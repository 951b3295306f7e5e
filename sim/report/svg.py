"""Drawings as SVG text: ranges on a logarithmic axis, shares, rasters, waveforms. Colours come from the page's CSS.

Every text that may come from a file goes through :func:`html.escape`; everything else is a number made here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from markupsafe import Markup

from hardware.energy import Span
from sim.report.units import si

CHART_W = 1040.0
LABEL_W, VALUE_W, ROW_H, AXIS_H = 270.0, 190.0, 44.0, 26.0


@dataclass(frozen=True)
class Bar:
    """A row of :func:`ranges`: ``value`` None says ``text`` instead of a mark; ``hollow`` marks a derived figure."""

    label: str
    detail: str
    value: Span | None
    text: str
    hollow: bool = False


@dataclass(frozen=True)
class Axis:
    """Decades ``10**first`` to ``10**last`` on ``x0..x1``."""

    first: int
    last: int
    x0: float
    x1: float

    def at(self, value: float) -> float:
        """Place of a value, held inside."""
        if value <= 0:
            return self.x0
        part = (math.log10(value) - self.first) / (self.last - self.first)
        return self.x0 + min(1.0, max(0.0, part)) * (self.x1 - self.x0)

    def ticks(self) -> list[tuple[float, str]]:
        """``(place, text)`` of at most nine decades."""
        step = -(-(self.last - self.first) // 8)
        return [(self.at(10.0**k), si(10.0**k, "J", 1)) for k in range(self.first, self.last + 1, step)]


def axis(spans: Sequence[Span], x0: float, x1: float) -> Axis:
    """Whole decades around every positive bound; at least one."""
    bounds = [b for s in spans for b in s if b > 0] or [1e-12]
    first, last = math.floor(math.log10(min(bounds))), math.ceil(math.log10(max(bounds)))
    return Axis(first, max(last, first + 1), x0, x1)


def ranges(bars: Sequence[Bar]) -> Markup:
    """One row a bar: label, low to high as a band with the typical value as a dot, text. Logarithmic axis in J."""
    scale = axis([b.value for b in bars if b.value], LABEL_W, CHART_W - VALUE_W)
    bottom = ROW_H * len(bars)
    out = [_grid(scale, bottom)]
    for k, bar in enumerate(bars):
        y = ROW_H * (k + 0.5)
        out.append(f'<text class="t" x="0" y="{y - 2:.1f}">{escape(bar.label)}</text>')
        out.append(f'<text class="s" x="0" y="{y + 13:.1f}">{escape(bar.detail)}</text>')
        if bar.value is None:
            out.append(f'<text class="s" x="{LABEL_W + 8:.0f}" y="{y + 4:.1f}">{escape(bar.text)}</text>')
            continue
        out.append(_mark(scale, bar.value, y, 7.0, "hollow" if bar.hollow else "solid"))
        out.append(f'<text class="v" x="{CHART_W:.0f}" y="{y + 5:.1f}">{escape(bar.text)}</text>')
    return _svg(CHART_W, bottom + AXIS_H, "Energy per inference, logarithmic", out)


def cell(value: Span, scale: Axis, colour: int) -> Markup:
    """One row of :func:`ranges` for a table cell, on a scale that its neighbours share."""
    lines = "".join(f'<line class="g" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="22"/>' for x, _ in scale.ticks())
    mark = _mark(scale, value, 11.0, 5.0, f"solid c{colour}") if value.high > 0 else ""
    return _svg(scale.x1 + 6, 22, "Range of energy", [lines, mark], "cell")


def cell_axis(scale: Axis) -> Markup:
    """The ticks of :func:`cell`, first and last decade."""
    (a, low), (b, high) = scale.ticks()[0], scale.ticks()[-1]
    text = f'<text class="a" style="text-anchor:start" x="{max(0.0, a - 4):.1f}" y="11">{escape(low)}</text>'
    text += f'<text class="a" style="text-anchor:end" x="{b + 4:.1f}" y="11">{escape(high)}</text>'
    return _svg(scale.x1 + 6, 14, "Axis", [text], "cell")


def shares(parts: Sequence[tuple[str, float, int]]) -> Markup:
    """A bar cut into ``(label, share, colour)``; shares add to 1."""
    out, x = [], 0.0
    for label, part, colour in parts:
        if part <= 0:
            continue
        w = part * CHART_W
        title = f"<title>{escape(label)}: {100 * part:.1f} %</title>"
        out.append(
            f'<rect class="c{colour}" x="{x:.2f}" y="0" width="{max(w - 1.5, 0.6):.2f}" height="14">{title}</rect>'
        )
        x += w
    return _svg(CHART_W, 14, "Share of each cause", out, "shares")


def raster(events: Sequence[Sequence[int]], rows: int, steps: int) -> Markup:
    """Steps to the right, neurons downward, one mark a spike."""
    width, height = 320.0, min(150.0, max(36.0, 6.0 * rows))
    dx, dy = width / max(1, steps), height / max(1, rows)
    w, h = min(9.0, max(1.2, dx * 0.72)), max(1.1, dy * 0.8)
    path = "".join(f"M{dx * (t + 0.5) - w / 2:.1f} {dy * (r + 0.5):.1f}h{w:.1f}" for t, r in events)
    out = [f'<rect class="panel" width="{width:.0f}" height="{height:.0f}"/>']
    out.append(f'<path class="spike" stroke-width="{h:.2f}" d="{path}"/>')
    return _svg(width, height, "Spike raster", out)


def pulses(junctions: Sequence[str], rows: Sequence[Sequence[float]], stop_s: float) -> Markup:
    """Junctions downward with their names, a mark at each slip over time; slips of -2 pi in another colour."""
    width, left, dy = CHART_W, 150.0, 13.0
    height, room = dy * len(junctions), stop_s or 1.0
    out = [f'<rect class="panel" x="{left:.0f}" width="{width - left:.0f}" height="{height:.0f}"/>']
    for k, name in enumerate(junctions):
        y = dy * (k + 0.5) + 3.5
        out.append(f'<text class="a" style="text-anchor:end" x="{left - 7:.0f}" y="{y:.1f}">{escape(name)}</text>')
    for sign, kind in ((1, "up"), (-1, "down")):
        marks = [(left + t / room * (width - left), dy * row + 1.5) for t, row, s in rows if s == sign]
        path = "".join(f"M{x:.1f} {y:.1f}v{dy - 3:.1f}" for x, y in marks)
        out.append(f'<path class="slip {kind}" d="{path}"/>')
    for part, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x, text = left + part * (width - left), escape(si(part * stop_s, "s", 3))
        out.append(f'<text class="a" style="text-anchor:{anchor}" x="{x:.0f}" y="{height + 15:.0f}">{text}</text>')
    return _svg(width, height + 20, "Pulses of junctions", out)


def waveform(time_s: Sequence[float], values: Sequence[float | None], unit: str) -> Markup:
    """A trace with its extremes on the left and its time span below; a gap where a value is missing."""
    width, height, left, base = 320.0, 110.0, 66.0, 92.0
    known = [v for v in values if v is not None] or [0.0]
    low, high = min(known), max(known)
    room = (high - low) or 1.0
    start, room_s = time_s[0], (time_s[-1] - time_s[0]) or 1.0
    path, pen = [], "M"
    for t, v in zip(time_s, values, strict=True):
        if v is None:
            pen = "M"
            continue
        x = left + (t - start) / room_s * (width - left)
        path.append(f"{pen}{x:.1f} {base - 4 - (v - low) / room * (base - 8):.1f}")
        pen = "L"
    out = [f'<rect class="panel" x="{left:.0f}" width="{width - left:.0f}" height="{base:.0f}"/>']
    out.append(f'<path class="wave" d="{"".join(path)}"/>')
    for y, v in ((10.0, high), (base, low)):
        out.append(
            f'<text class="a" style="text-anchor:end" x="{left - 5:.0f}" y="{y:.0f}">{escape(_value(v, unit))}</text>'
        )
    for x, t, anchor in ((left, start, "start"), (width, time_s[-1], "end")):
        text = escape(si(t, "s", 3))
        out.append(f'<text class="a" style="text-anchor:{anchor}" x="{x:.0f}" y="{height - 4:.0f}">{text}</text>')
    return _svg(width, height, "Waveform", out)


def _value(value: float, unit: str) -> str:
    if unit in ("V", "A", "J"):
        return si(value, unit, 3)
    return f"{value:.2g} {unit}".rstrip()


def _grid(scale: Axis, bottom: float) -> str:
    out = []
    for x, text in scale.ticks():
        out.append(f'<line class="g" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom:.0f}"/>')
        out.append(f'<text class="a" x="{x:.1f}" y="{bottom + 17:.0f}">{escape(text)}</text>')
    return "".join(out)


def _mark(scale: Axis, value: Span, y: float, r: float, kind: str) -> str:
    a, b = scale.at(value.low), scale.at(value.high)
    band = ""
    if b - a > 1:
        band = f'<rect class="band" x="{a:.1f}" y="{y - r:.1f}" width="{b - a:.1f}" height="{2 * r:.1f}" rx="{r:.1f}"/>'
    dot = f'<circle class="dot" cx="{scale.at(value.typical):.1f}" cy="{y:.1f}" r="{r - 1:.1f}"/>'
    return f'<g class="{kind}">{band}{dot}</g>'


def _svg(width: float, height: float, label: str, parts: Sequence[Any], kind: str = "chart") -> Markup:
    """The parts are already escaped; ``label`` is for readers who cannot see."""
    size = f'viewBox="0 0 {width:.0f} {height:.0f}"'
    fixed = f' width="{width:.0f}" height="{height:.0f}"' if kind == "cell" else ""
    head = f'<svg class="{kind}" {size}{fixed} role="img" aria-label="{escape(label)}" preserveAspectRatio="none">'
    if kind != "shares":
        head = head.replace(' preserveAspectRatio="none"', "")
    return Markup(head + "".join(parts) + "</svg>")
