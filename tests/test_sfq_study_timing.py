"""Delays against JoSIM's stored traces; edges of searches against one run at a time on either side of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from sim.sfq import Corners, DeckError, load, loads, read_csv, transient
from sim.sfq.circuit import Floats
from sim.sfq.constants import PHI0_WB
from sim.sfq.corners import one
from sim.sfq.shapes import Pulse
from sim.sfq.study.stand import Stand, Train, pulses, stand
from sim.sfq.study.timing import Delays, closest, dead_time, delay_against, delays, jitter, maximum_rate, setup_hold

GOLDEN = Path(__file__).parent / "golden" / "sfq"
AS_STORED: Train = {"a": [50e-12 + 50e-12 * k for k in range(7)], "b": [222e-12]}


@lru_cache
def cells() -> Stand:
    """JTL, splitter, merger."""
    return stand(
        load(GOLDEN / "tb_cells.cir"), {"a": ("VA", "B1.X1.XA1"), "b": ("VB", "B1.X2.XB1")},
        {"s": "B1.X2.XS0", "q": "B1.X2.XQ2"}, h=0.1e-12,
    )  # fmt: skip


@lru_cache
def dff() -> Stand:
    return stand(
        load(GOLDEN / "tb_dff.cir"), {"d": ("VD", "B1.X2.XD2"), "c": ("VC", "B1.X2.XC2")}, {"q": "B1.X1.XQ1"}, h=0.1e-12
    )


def crossings(name: str) -> Floats:
    """Slip times of a junction in JoSIM's stored trace: the phase through odd multiples of pi."""
    stored = read_csv(GOLDEN / "tb_cells.csv.gz")
    time, phase = stored["time"], stored[f"P({name})"]
    turns = np.arange(1, int(phase[-1] / (2 * np.pi) + 0.5) + 1)
    return np.interp((2 * turns - 1) * np.pi, phase, time)


def test_delays_are_josims() -> None:
    """Seven pulses at a and one at b, in JoSIM's own trace: 0.02 ps."""
    a, s, q = (crossings(n) for n in ("B1|X1|XA1", "B1|X2|XS0", "B1|X2|XQ2"))
    assert (len(a), len(s), len(q)) == (7, 7, 8)
    assert delays(cells(), AS_STORED, "a", "s").delay_s[0] == pytest.approx(s - a, abs=0.02e-12)
    found = delays(cells(), AS_STORED, "a", "q")
    assert found.delay_s.shape == (1, 8)
    last = a[np.searchsorted(a, q) - 1]
    assert found.delay_s[0] == pytest.approx(q - last, abs=0.02e-12)
    assert found.lost == 0


def test_delay_against_bias_is_that_of_single_runs() -> None:
    curve = delay_against(cells(), {"a": [50e-12]}, "a", "q", "I", [0.5, 0.9, 1.1])
    assert np.isnan(curve.delay_s[0]), "at half the bias the merger is dead"
    circuit = cells().circuit
    signals = {"VA": [pulses([50e-12])], "VB": [pulses([])]}
    for factor, delay in zip(curve.factors[1:], curve.delay_s[1:], strict=True):
        factors = np.full((1, len(circuit.currents)), factor)
        run = transient(one(circuit, Corners(1, currents=factors, shapes=signals), 0), h=0.1e-12, t_stop=130e-12)
        alone = run.pulse_times("B1.X2.XQ2")[0] - run.pulse_times("B1.X1.XA1")[0]
        assert delay == pytest.approx(alone, abs=0.02e-12)
    assert curve.delay_s[1] > curve.delay_s[2]
    assert "nan" in str(curve)


def taken(gap_s: float) -> list[int]:
    """Slips of the DFF's output before and after the second clock, data ``gap_s`` before the first; one run."""
    clocks = [100e-12, 400e-12]
    signals = {"VD": [pulses([clocks[0] - gap_s])], "VC": [pulses(clocks)]}
    run = transient(one(dff().circuit, Corners(1, shapes=signals), 0), h=0.1e-12, t_stop=480e-12)
    times = run.pulse_times("B1.X1.XQ1")
    return [int((times < 250e-12).sum()), int((times > 250e-12).sum())]


def test_setup_and_hold_of_a_dff() -> None:
    """On the good side of the setup edge the first clock takes the data, beyond the hold edge the second does."""
    found = setup_hold(dff(), "d", "c")
    assert taken(found.setup.works_s) == [1, 0]
    assert taken(found.setup.works_s + 1e-12) == [1, 0]
    assert taken(-found.hold.works_s) == [0, 1]
    assert taken(-found.hold.works_s - 1e-12) == [0, 1]
    assert found.setup.fails_s is not None
    assert 0 < found.setup.works_s - found.setup.fails_s <= 0.05e-12 + 1e-18
    assert found.setup.works_s == pytest.approx(1.40e-12, abs=0.12e-12), "JoSIM 2.7 takes it at 1.42 ps, not at 1.37"
    assert found.hold.works_s == pytest.approx(-1.40e-12, abs=0.12e-12)
    assert found.setup_s + found.hold_s >= 0, "one clock cannot both take and leave the data"
    assert found.setup_s + found.hold_s < 2e-12
    assert "setup" in str(found)


def test_dead_time_of_the_merger(tmp_path: Path) -> None:
    """Two pulses at its inputs closer than the edge become one."""
    circuit = cells().circuit
    found = dead_time(cells(), "a", "b")
    assert found.fails_s is not None
    for gap, wanted in ((found.works_s + 0.2e-12, 2), (found.fails_s - 0.2e-12, 1)):
        signals = {"VA": [pulses([50e-12])], "VB": [pulses([50e-12 + gap])]}
        run = transient(one(circuit, Corners(1, shapes=signals), 0), h=0.1e-12, t_stop=180e-12)
        assert len(run.pulse_times("B1.X2.XQ2")) == wanted
    data = json.loads(found.save(tmp_path / "d.json").read_text())
    assert data["time_s"] == found.at_junctions_s
    assert found.save(tmp_path / "d.csv").read_text().startswith("works_s,fails_s")


def test_dead_time_of_one_input_and_state_before() -> None:
    """The DFF takes one of two data; a second far off slips the escape junction. With data stored before, so does
    the first."""
    found = dead_time(dff(), "d", "d", before={"d": [0.0], "c": [60e-12]}, after={"c": [100e-12]}, limit_s=5e-12)
    assert found.at_junctions_s is not None
    assert found.at_junctions_s == pytest.approx(found.works_s, abs=3e-12)


def test_maximum_rate_is_the_edge() -> None:
    """Each answers at the shortest period; 0.1 ps below it, one does not."""
    found = maximum_rate(dff(), {"d": 0.0, "c": 0.5}, pulses=4, slowest_s=100e-12)
    assert found.fails_s is not None
    for period, good in ((found.works_s, True), (found.fails_s, False)):
        train = [50e-12 + k * period for k in range(4)]
        signals = {"VD": [pulses(train)], "VC": [pulses([t + period / 2 for t in train])]}
        run = transient(one(dff().circuit, Corners(1, shapes=signals), 0), h=0.1e-12, t_stop=500e-12)
        assert (sorted(set(run.slips.values())) == [0, 4]) == good
    assert found.works_s < 50e-12
    assert found.rate_Hz == 1 / found.works_s


def test_what_never_fails_is_told() -> None:
    found = closest(cells(), lambda x: {"a": [50e-12], "b": [150e-12 + x]}, 50e-12, 20e-12, points=3)
    assert found.works_s == pytest.approx(20e-12)
    assert found.fails_s is None
    assert "works throughout" in str(found)


def test_jitter_of_a_jtl_is_josims() -> None:
    """Eight junctions at 4.2 K. JoSIM 2.7, seeds 1 to 8, 312 pulses: 13.352 +- 0.006 ps, jitter 0.1120 +- 0.0045 ps."""
    noisy = stand(load(GOLDEN / "tb_jtl_noise.cir"), {"a": ("VA", "B1.X1.XA1")}, {"q": "B1.X2.XA4"}, h=0.1e-12)
    train = {"a": [50e-12, 100e-12, 150e-12]}
    found = jitter(noisy, train, "a", "q", n=192)
    assert found.lost == 0
    assert found.mean_s == pytest.approx(13.352e-12, abs=0.04e-12)
    assert found.jitter_s == pytest.approx(0.112e-12, abs=0.02e-12)
    assert jitter(noisy, train, "a", "q", n=5).delay_s == pytest.approx(found.delay_s[:5], abs=0), (
        "a corner is its number"
    )
    assert (jitter(noisy, train, "a", "q", n=5, seed=2).delay_s != found.delay_s[:5]).all()
    still = delays(noisy, train, "a", "q", Corners(2)).delay_s
    assert (still[0] == still[1]).all(), "no seed, no noise"
    assert still.mean() == pytest.approx(found.mean_s, abs=0.04e-12)


def test_jitter_and_lost_corners() -> None:
    found = Delays("a", "q", np.array([[1.0, 4.0], [3.0, 6.0], [np.nan, np.nan]]) * 1e-12)
    assert found.mean_s == pytest.approx(3.5e-12)
    assert found.jitter_s == pytest.approx(np.sqrt(2) * 1e-12)
    assert found.lost == 1
    assert found.to_dict()["delay_s"][2] == [None, None]
    assert Delays("a", "q", found.delay_s[1:]).jitter_s == 0.0


def test_pulses_are_flux_quanta() -> None:
    t = np.linspace(0, 100e-12, 100001)
    for times, quanta in (([10e-12], 1), ([10e-12, 13e-12, 14e-12], 3), ([], 0)):
        assert np.trapezoid(pulses(times).sample(t, 1e-13, 1e-10), t) == pytest.approx(quanta * PHI0_WB, rel=1e-6)
    assert pulses([10e-12]).sample(np.array([12.5e-12]), 1e-13, 1e-10)[0] == pytest.approx(827.13e-6, rel=1e-5)
    assert pulses([1e-12], -2.5e-12).values[2] < 0


def square(times: Sequence[float], sign: int) -> Pulse:
    """One square pulse of current, at the first time."""
    return Pulse(0.0, sign * 600e-6, times[0] if times else 1.0, 1e-12, 1e-12, 4e-12)


def test_a_current_source_with_a_pulse_of_its_own() -> None:
    """A pulse of current into a JTL makes one slip; its delay is that of the same deck run alone."""
    text = (
        (GOLDEN / "tb_cells.cir")
        .read_text()
        .replace("VA a 0 pulse(0 827.13u 50p 2.5p 2.5p 0 50p)", "IA 0 a 0\nRA a 0 2")
    )
    deck = loads(text, GOLDEN)
    ports = ({"a": ("IA", "B1.X1.XA1")}, {"s": "B1.X2.XS0"})
    found = delays(stand(deck, *ports, h=0.1e-12, wave=square), {"a": [60e-12]}, "a", "s")
    alone = transient(
        loads(text.replace("IA 0 a 0", "IA 0 a pulse(0 600u 60p 1p 1p 4p)"), GOLDEN), h=0.1e-12, t_stop=140e-12
    )
    assert alone.slips["B1|X2|XS0"] == 1
    first = (alone.pulse_times(n)[0] for n in ("B1.X2.XS0", "B1.X1.XA1"))
    assert found.delay_s[0, 0] == pytest.approx(next(first) - next(first), abs=0.02e-12)
    with pytest.raises(ValueError, match="needs wave="):
        stand(deck, *ports)


def test_wrong_names() -> None:
    deck = load(GOLDEN / "tb_dff.cir")
    with pytest.raises(ValueError, match="no voltage source VX"):
        stand(deck, {"d": ("VX", "B1.X2.XD2")}, {})
    with pytest.raises(DeckError, match="no such junction"):
        stand(deck, {"d": ("VD", "B9")}, {})
    with pytest.raises(ValueError, match="no input"):
        dff().drive([{"x": [1e-11]}])
    with pytest.raises(ValueError, match="no port"):
        delays(dff(), {"d": [60e-12], "c": [100e-12]}, "c", "y")
    with pytest.raises(ValueError, match="c answers before q arrives"):
        delays(dff(), {"d": [60e-12], "c": [100e-12, 400e-12]}, "q", "c")
    with pytest.raises(ValueError, match="does not answer"):
        delays(dff(), {"c": [100e-12]}, "c", "q")
