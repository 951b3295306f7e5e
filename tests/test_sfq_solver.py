"""The solver against closed forms: lines, controlled sources, operating points, halved steps, long runs, energy."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import fsolve

from sim.sfq import DeckError, DeckWarning, check_step, load, loads, transient
from sim.sfq.constants import PHI0_WB, SIGMA_VS

GOLDEN = Path(__file__).parent / "golden" / "sfq"
MODEL = ".model jm jj(rtype=1, cap=0.07pF, r0=160, rn=16, icrit=0.1mA)\n"


@pytest.mark.parametrize("td", [5.0, 5.03])
def test_a_matched_line_delays(td: float) -> None:
    """5 ohm into 5 ohm: half the source, td later; 5.03 ps is no whole number of steps."""
    run = transient(loads(
        f"V1 1 0 sin(0 1m 20g)\nR1 1 2 5\nT1 2 0 3 0 z0=5 td={td}p\nR2 3 0 5\n.tran 0.1p 150p\n.print v(2) v(3) i(T1)\n"
    ))  # fmt: skip
    late = run.time_s > 50e-12
    t = run.time_s[late]
    near, far = (0.5e-3 * np.sin(2 * np.pi * 20e9 * (t - d)) for d in (0.0, td * 1e-12))
    assert run.traces["V(2)"][late] == pytest.approx(near, abs=2e-7)
    assert run.traces["V(3)"][late] == pytest.approx(far, abs=4e-7)
    assert run.traces["I(T1)"][late] == pytest.approx(near / 5, abs=1e-7)


@pytest.mark.parametrize(("end", "sign"), [("T1 2 0 0 0", -1.0), ("T1 2 0 3 0", 1.0)])
def test_shorted_and_open_lines_reflect(end: str, sign: float) -> None:
    """A matched source sees its own step again after 2 td, turned over by a short."""
    run = transient(loads(
        f"V1 1 0 pwl(0 0 10p 0 10.1p 1m)\nR1 1 2 5\n{end} z0=5 td=20p\nRL 3 0 1e9\n.tran 0.1p 100p\n.print v(2)\n"
    ))  # fmt: skip
    v = run.traces["V(2)"]
    assert v[150:490] == pytest.approx(0.5e-3, rel=1e-3)
    assert v[-100:] == pytest.approx(0.5e-3 * (1.0 + sign), abs=1e-6)


def test_a_line_shorter_than_the_step() -> None:
    run = transient(loads(
        "V1 1 0 sin(0 1m 20g)\nR1 1 2 5\nT1 2 0 3 0 z0=5 td=0.03p\nR2 3 0 5\n.tran 0.1p 20p\n.print v(3)\n"
    ))  # fmt: skip
    assert run.step_s == 0.025e-12


def test_controlled_sources_at_direct_current() -> None:
    """Each kind by hand, from the first step on: the operating point has them."""
    run = transient(loads(
        "I1 0 1 dc 1m\nR1 1 0 2\n"  # V(1) = 2 mV
        "E1 2 0 1 0 3\nR2 2 0 4\n"  # V(2) = 6 mV, 1.5 mA
        "G1 0 3 1 0 0.5\nR3 3 0 2\n"  # 1 mA into 3: 2 mV
        "I4 0 4 dc 0.2m\nF1 0 5 4 0 4\nR5 5 0 10\n"  # 0.2 mA through 4 to 0; 0.8 mA into 5: 8 mV
        "I6 0 6 dc 0.3m\nH1 7 0 6 0 20\nR7 7 0 6\n"  # 6 mV, 1 mA
        ".tran 0.1p 5p\n.print v(1) v(2) v(3) v(4) v(5) v(6) v(7) i(E1) i(G1) i(F1) i(H1)\n"
    ))  # fmt: skip
    got = {k: float(v[-1]) for k, v in run.traces.items()}
    wanted = {
        "V(1)": 2e-3, "V(2)": 6e-3, "V(3)": 2e-3, "V(4)": 0.0, "V(5)": 8e-3, "V(6)": 0.0, "V(7)": 6e-3,
        "I(E1)": -1.5e-3, "I(G1)": 1e-3, "I(F1)": 0.8e-3, "I(H1)": -1e-3,
    }  # fmt: skip
    assert got == pytest.approx(wanted, rel=1e-6, abs=1e-12)


def test_operating_point_of_a_loop() -> None:
    """Two junctions and an inductor share a current as the two static equations say; nothing moves afterwards."""
    run = transient(loads(
        f"I1 0 1 dc 150u\nB1 1 0 jm area=1\nL1 1 2 4p\nB2 2 0 jm area=1.2\nRS 1 0 3\nRT 2 0 3\n{MODEL}"
        ".tran 0.1p 50p\n.print p(B1) p(B2) i(L1)\n"
    ))  # fmt: skip
    g = SIGMA_VS / 4e-12

    def still(x: np.ndarray) -> list[float]:
        return [1e-4 * math.sin(x[0]) + g * (x[0] - x[1]) - 150e-6, 1.2e-4 * math.sin(x[1]) - g * (x[0] - x[1])]

    one, two = fsolve(still, [0.5, 0.5], xtol=1e-12)
    assert run.traces["P(B1)"] == pytest.approx(one, rel=1e-7)
    assert run.traces["P(B2)"] == pytest.approx(two, rel=1e-7)
    assert run.traces["I(L1)"] == pytest.approx(g * (one - two), rel=1e-6)


def test_bias_through_a_resistor_from_a_voltage_rail() -> None:
    """2.5 mV over 25 ohm: 100 uA into 130 uA of Ic, at rest from the first step; without it, JoSIM's settling rings."""
    run = transient(loads(
        f"V1 1 0 dc 2.5m\nR1 1 2 25\nB1 2 0 jm area=1.3\nRS 2 0 5\n{MODEL}.tran 0.1p 40p\n.print p(B1) i(R1)\n"
    ))  # fmt: skip
    assert run.traces["P(B1)"] == pytest.approx(math.asin(1 / 1.3), rel=1e-6)
    assert run.traces["I(R1)"] == pytest.approx(1e-4, rel=1e-6)


def test_no_operating_point_is_told() -> None:
    with pytest.warns(DeckWarning, match="no operating point"):
        run = transient(loads(f"I1 0 1 dc 200u\nB1 1 0 jm\nRS 1 0 5\n{MODEL}.tran 0.1p 40p\n.print p(B1)\n"))
    assert run.slips["B1"] > 0


def test_initial_conditions() -> None:
    """UIC: a plasma oscillation from 0.2 rad at wp = sqrt(2 pi Ic/(Phi0 C))."""
    text = (
        "B1 1 0 jw ic=0,0.2\n.model jw jj(rtype=0, rn=1e6, cap=0.07p, icrit=0.1m)\n.tran 0.01p 10p UIC\n.print p(B1)\n"
    )
    with pytest.warns(DeckWarning, match="initial condition"):
        circuit = loads(text).flatten()
    run = transient(circuit)
    wp = math.sqrt(2 * math.pi * 1e-4 / (PHI0_WB * 0.07e-12)) * (1 - 0.2**2 / 16)
    assert run.traces["P(B1)"] == pytest.approx(0.2 * np.cos(wp * (run.time_s + 0.01e-12)), abs=6e-3)


def test_halved_steps_only_where_they_are_asked_for() -> None:
    """The run through the gap: pulse times of a run that halves are those of a fine run, within the coarse step."""
    deck = load(GOLDEN / "tb_jj_ramp.cir")
    coarse, fine = transient(deck, h=0.2e-12, t_stop=250e-12), transient(deck, h=0.0125e-12, t_stop=250e-12)
    assert coarse.step_s == 0.2e-12
    assert coarse.step_s_used < 0.2e-12
    assert coarse.slips["B1"] == pytest.approx(fine.slips["B1"], abs=2)
    a, b = coarse.pulse_times("B1"), fine.pulse_times("B1")
    assert a[:40] == pytest.approx(b[:40], abs=0.15e-12)
    assert coarse.time_s == pytest.approx(0.2e-12 * np.arange(len(coarse.time_s)))


@pytest.mark.filterwarnings("ignore:no operating point")
def test_a_step_that_no_halving_saves() -> None:
    model = ".model jx jj(rtype=0, rn=1e6, cap=1e-21, icrit=0.1m)"
    with pytest.raises(DeckError, match="still jumps at a step"):
        transient(loads(f"I1 0 1 dc 10\nB1 1 0 jx\n{model}\n.tran 1p 10p\n"))


def test_a_run_of_100_ns_keeps_its_phase() -> None:
    """Five thousand pulses through a JTL: none lost, and the last no later against its input than the tenth."""
    deck = loads(
        (GOLDEN / "cells.inc").read_text()
        + f"VA a 0 pulse(0 {PHI0_WB / 2.5e-12!r} 50p 2.5p 2.5p 0 20p)\n"
        + "XA JTL a b\nXB JTL b c\nRQ c 0 3\n.tran 0.1p 100n\n"
    )
    run = transient(deck, watch=["B1.X1.XA", "B1.X2.XB"])
    first, last = run.pulse_times("B1.X1.XA"), run.pulse_times("B1.X2.XB")
    assert len(first) == len(last) == 4998
    period = np.diff(first[10:])
    assert period == pytest.approx(20e-12, abs=1e-15)
    assert np.ptp((last - first)[10:]) < 1e-15


def test_energy_balance_of_the_networks() -> None:
    """What sources give is heat and what is stored, to 1e-3, in every golden circuit of junctions."""
    for name in ("tb_cells", "tb_dff", "tb_inv", "xor_01", "xor_11"):
        e = transient(load(GOLDEN / f"{name}.cir"), h=0.05e-12).energy
        assert e.dissipated_J + e.stored_J == pytest.approx(e.supplied_J, rel=1e-3), name
        assert e.stored_J > 0.0


def test_energy_balance_of_a_line_and_coils() -> None:
    e = transient(loads(
        "I1 0 1 sin(0 1m 20g)\nR1 1 0 10\nL1 1 2 10p\nL2 3 0 20p\nK1 L1 L2 0.5\nC1 2 0 0.1p\nR2 3 0 8\n"
        "T1 2 0 4 0 z0=6 td=7p\nR4 4 0 9\n.tran 0.02p 333p\n"
    )).energy  # fmt: skip
    assert e.dissipated_J + e.stored_J == pytest.approx(e.supplied_J, rel=1e-3)


def test_the_corrector_ends_at_the_implicit_step() -> None:
    """Each repetition changes pulse times much less than the one before: the first is the check that it is meant as."""
    deck = load(GOLDEN / "tb_cells.cir")
    runs = [transient(deck, h=0.25e-12, watch=["B1.X2.XQ2"], corrector=k) for k in range(4)]
    times = [r.pulse_times("B1.X2.XQ2") for r in runs]
    changes = [float(np.abs(b - a).max()) for a, b in pairwise(times)]
    assert 1e-15 < changes[0] < 0.1e-12
    assert changes[1] < 0.2 * changes[0]
    assert changes[2] < 0.2 * changes[1]


def test_half_the_step_moves_pulses_little() -> None:
    check = check_step(load(GOLDEN / "tb_cells.cir"))
    assert check.slips_differ == ()
    assert 0.0 < check.shift_s < 0.2e-12
    assert check.junction
