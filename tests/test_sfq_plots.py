"""Drawings: what is in them, whole files only, and what a user is told who has no matplotlib."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sim.sfq import load, plots, transient

pytest.importorskip("matplotlib", reason="drawings are not tested: matplotlib (extra plot) is missing")

GOLDEN = Path(__file__).parent / "golden" / "sfq"
PNG = b"\x89PNG\r\n\x1a\n"
X = np.linspace(0.5, 1.5, 5)


def pixels(path: Path) -> Any:
    from matplotlib import image

    return image.imread(path)


def shows(path: Path, colour: str) -> int:
    """Pixels of a colour of the palette."""
    wanted = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return int((np.abs(pixels(path)[..., :3] - wanted) < 0.02).all(axis=2).sum())


@pytest.fixture(scope="module")
def dff() -> Any:
    return transient(load(GOLDEN / "tb_dff.cir"))


def test_waveforms_and_pulses(dff: Any, tmp_path: Path) -> None:
    drawn = plots.waveforms(tmp_path / "w.png", dff.time_s, dff.traces, "DFF")
    assert drawn.read_bytes().startswith(PNG)
    assert shows(drawn, plots.COLOURS[0]) > 500, "phases"
    assert shows(drawn, plots.COLOURS[2]) > 200, "currents"
    raster = plots.pulses(tmp_path / "p.png", dff.pulses, 500e-12)
    assert shows(raster, plots.COLOURS[0]) > 200
    height = pixels(raster).shape[0]
    few = plots.pulses(tmp_path / "f.png", dict(list(dff.pulses.items())[:6]), 500e-12)
    assert height > pixels(few).shape[0], "a row for each junction"
    assert not list(tmp_path.glob("*.part"))


def test_raster_as_svg_has_a_mark_for_each_slip(dff: Any, tmp_path: Path) -> None:
    text = plots.pulses(tmp_path / "p.svg", dff.pulses, 500e-12).read_text()
    assert text.lstrip().startswith("<?xml")
    counts = {s: sum(int((rows[:, 1] == s).sum()) for rows in dff.pulses.values()) for s in (1, -1)}
    assert counts[1] > 20
    marks = {s: text.count(f"stroke: {plots.COLOURS[c]}") for s, c in ((1, 0), (-1, 7))}
    assert marks[1] >= counts[1], "each slip is a line of its own"
    assert (marks[-1] > 0) == (counts[-1] > 0)


def margin(name: str, low: float, high: float, end: float | None = 2.0) -> Any:
    side = SimpleNamespace
    return side(name=name, low=side(works_at=low, fails_at=0.0), high=side(works_at=high, fails_at=end))


def test_margins_shmoo_iv_spread(tmp_path: Path) -> None:
    bars = plots.margins(tmp_path / "m.png", [margin("IC", 0.8, 1.2), margin("R", 0.5, 2.5, None)])
    assert shows(bars, plots.COLOURS[2]) > 0, "the critical one has its own colour"
    assert shows(bars, plots.COLOURS[0]) > 3 * shows(bars, plots.COLOURS[2]), "bars are as wide as the margins"
    works = np.zeros((5, 5), bool)
    works[1:4] = True
    area = shows(plots.shmoo(tmp_path / "s.png", X, X, works, "I", "L"), plots.COLOURS[0])
    works[1] = False
    assert shows(plots.shmoo(tmp_path / "s.png", X, X, works), plots.COLOURS[0]) == pytest.approx(area * 2 / 3, rel=0.1)
    curve = plots.iv(tmp_path / "iv.pdf", {"up": (X, X**2), "down": (X, X)})
    assert curve.read_bytes().startswith(b"%PDF")
    assert shows(plots.spread(tmp_path / "h.png", np.arange(20.0), "delay, ps"), plots.COLOURS[0]) > 100


def test_more_traces_than_fit_are_said(tmp_path: Path) -> None:
    traces = {f"V({k})": X for k in range(plots.MOST_TRACES + 3)}
    text = plots.waveforms(tmp_path / "w.svg", X, traces).read_text()
    assert "3 more not drawn" in text


def test_what_cannot_be_drawn(dff: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(plots.PlotError, match=r"cannot draw \.bmpx; use \.png"):
        plots.pulses(tmp_path / "p.bmpx", dff.pulses, 1e-9)
    with pytest.raises(plots.PlotError, match=r"no traces .* \.print"):
        plots.waveforms(tmp_path / "w.png", X, {})
    with pytest.raises(plots.PlotError, match="no junctions"):
        plots.pulses(tmp_path / "w.png", {}, 1e-9)
    with pytest.raises(plots.PlotError, match=r"shape \(2, 2\) for 5 x 5"):
        plots.shmoo(tmp_path / "w.png", X, X, np.zeros((2, 2), bool))
    for call in (plots.margins, plots.iv):
        with pytest.raises(plots.PlotError, match="to draw"):
            call(tmp_path / "w.png", {})
    with pytest.raises(plots.PlotError, match="no finite"):
        plots.spread(tmp_path / "w.png", np.full(3, np.nan), "delay")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(plots.PlotError, match=r"pip install 'spikeport\[plot\]'"):
        plots.waveforms(tmp_path / "w.png", dff.time_s, dff.traces)
    assert not list(tmp_path.iterdir())


def test_a_failed_drawing_leaves_the_old_file(dff: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    old = plots.waveforms(tmp_path / "w.png", dff.time_s, dff.traces).read_bytes()

    def stopped(_self: Any, beside: str, **_how: Any) -> None:
        Path(beside).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", stopped)
    with pytest.raises(KeyboardInterrupt):
        plots.waveforms(tmp_path / "w.png", dff.time_s, dff.traces)
    assert [p.name for p in tmp_path.iterdir()] == ["w.png"]
    assert (tmp_path / "w.png").read_bytes() == old
