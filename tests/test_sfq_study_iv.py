"""Current-voltage curves against closed forms and against JoSIM's own ``.iv`` file."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from sim.sfq import Corners, DeckError, loads
from sim.sfq.constants import PHI0_WB
from sim.sfq.study.iv import IvCurve, device, iv, josim_iv, staircase, up_and_down

GOLDEN = Path(__file__).parent / "golden" / "sfq"
IC = 100e-6
OVERDAMPED = "B1 1 0 jm\nR1 1 0 1\nI1 0 1 0\n.model jm jj(rtype=0, rn=1000, cap=0.001p, icrit=0.1m)\n"
MODEL = ".model jm jj(rtype=1, vg=2.8mV, cap=0.07pF, r0=160, rn=16, icrit=0.1mA)\n"


def test_overdamped_curve_of_scattered_devices() -> None:
    """V = R sqrt(I^2 - Ic^2) (Aslamazov and Larkin 1969), in both directions and for each device's own Ic."""
    areas = np.array([[1.0], [1.2], [0.7]])
    currents = np.concatenate([np.linspace(130e-6, 200e-6, 4), [160e-6, -160e-6, 50e-6]])
    curve = iv(
        loads(OVERDAMPED),
        currents,
        drive="i1",
        across="b1",
        dwell_s=1e-9,
        h=0.1e-12,
        corners=Corners(3, junctions=areas),
    )
    for area, row in zip(areas[:, 0], curve.voltage_V, strict=True):
        r = 1 / (1 + area / 1000)
        wanted = np.sign(currents) * r * np.sqrt(np.maximum(currents**2 - (area * IC) ** 2, 0))
        assert row == pytest.approx(wanted, rel=3e-4, abs=1e-9)
    assert curve.turn == 4


@pytest.mark.parametrize("beta_c", [49, 100])
def test_hysteresis_of_an_underdamped_junction(beta_c: int) -> None:
    """Switches at Ic; retraps at 4 Ic/(pi sqrt beta_c) (Stewart and McCumber 1968), to the step of 1 uA."""
    c = beta_c * PHI0_WB / (2 * math.pi * IC * 100.0)
    deck = loads(f"B1 1 0 jm\nR1 1 0 100k\nI1 0 1 0\n.model jm jj(rtype=0, rn=10, cap={c:.6g}, icrit=0.1m)\n")
    low = 4 * IC / (math.pi * math.sqrt(beta_c))
    up = np.array([0, 40, 80, 95, 99, 101, 104]) * 1e-6
    down = np.arange(2 * low, 0.5 * low, -1e-6)
    curve = iv(deck, np.concatenate([up, down]), drive="I1", across="B1", dwell_s=1e-9)
    assert curve.switching_A[0] == 101e-6
    assert curve.retrapping_A[0] == pytest.approx(low, abs=1.2e-6)
    assert "voltage from 101 uA on" in str(curve)


def test_josims_curve() -> None:
    """JoSIM 2.7's own file of ``.iv jm 0.15m``, 241 points with both hysteresis loops: within 1 uV of 2.9 mV."""
    stored = np.loadtxt(GOLDEN / "iv_jm.csv", delimiter=",", skiprows=1)
    curve = josim_iv(loads(MODEL + "R1 1 0 1\n"), "jm", 0.15e-3)
    assert curve.current_A == pytest.approx(stored[:, 1], abs=1e-11)
    assert curve.voltage_V[0] == pytest.approx(stored[:, 0], abs=1e-6)
    assert stored[:, 0].max() > 2.8e-3


def test_files(tmp_path: Path) -> None:
    curve = IvCurve(np.array([0.0, 1e-4, 0.0]), np.array([[0.0, 1e-3, np.nan]]), 2, 1e-6)
    assert curve.save_josim(tmp_path / "a.csv").read_text().splitlines()[:3] == [
        "V,I", "0.000000e+00,0.000000e+00", "1.000000e-03,1.000000e-04",
    ]  # fmt: skip
    assert curve.save(tmp_path / "b.csv").read_text().startswith("I_A,V0_V\n0.0,0.0\n")
    assert json.loads(curve.save(tmp_path / "b.json").read_text())["switching_A"] == [1e-4]


def test_ramps() -> None:
    assert up_and_down(3e-6, 1e-6) == pytest.approx(np.array([0, 1, 2, 3, 2, 1, 0]) * 1e-6)
    ramp = staircase(np.array([1.0, 3.0]), 1.0, 0.25)
    t = np.array([0.0, 0.125, 0.5, 1.0, 1.125, 1.25, 2.0])
    assert ramp.sample(t, 0.1, 2.0) == pytest.approx([0, 0.5, 1, 1, 2, 3, 3])
    with pytest.raises(ValueError, match="low < high"):
        up_and_down(0.0, 1e-6)


def test_models_and_wrong_names() -> None:
    local = loads(".subckt S a\n.param x=0.2m\n.model jl jj(icrit=x)\nB1 a 0 jl\n.ends\nXS S 1\n")
    assert device(local, "jl|s").junctions.ic_A.tolist() == [pytest.approx(2e-4)]
    for name in ("jl", "jx|s", "jl|t"):
        with pytest.raises(DeckError, match="no such junction model"):
            device(local, name)
    with pytest.raises(ValueError, match="above 0"):
        josim_iv(local, "jl|s", 0.0)
    with pytest.raises(ValueError, match="need two"):
        iv(loads(OVERDAMPED), [1e-6], drive="I1", across="B1")
    with pytest.raises(ValueError, match="no such source"):
        iv(loads(OVERDAMPED), [1e-6, 2e-6], drive="I9", across="B1")
