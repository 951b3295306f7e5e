"""The solver against what is known in closed form, and both engines against each other."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sim.sfq import DeckError, DeckWarning, Transient, compiled, load, loads, reference, transient
from sim.sfq.constants import PHI0_WB, SIGMA_VS
from sim.sfq.ldl import analyse, factor, solve
from sim.sfq.state import Engine
from sim.sfq.transient import settle_steps

GOLDEN = Path(__file__).parent / "golden" / "sfq"
ENGINES: dict[str, Engine] = {"compiled": compiled, "reference": reference.engine}
SHUNTED = "B1 1 0 jm\nR1 1 2 6.86\nL1 2 0 1p\n.model jm jj(rtype=1, cap=0.07pF, r0=160, rn=16, icrit=0.1mA)\n"


def same(a: Transient, b: Transient, tolerance: float) -> None:
    assert a.traces.keys() == b.traces.keys()
    for name, values in a.traces.items():
        scale = max(1e-12, float(np.abs(values).max()))
        assert np.abs(values - b.traces[name]).max() <= tolerance * scale, name
    assert a.slips == b.slips
    for name, rows in a.pulses.items():
        assert rows == pytest.approx(b.pulses[name], abs=1e-17), name
    assert vars(a.energy) == pytest.approx(vars(b.energy), rel=1e-8, abs=1e-27)


def test_engines_agree_on_the_cells() -> None:
    deck = load(GOLDEN / "tb_cells.cir")
    same(transient(deck, t_stop=150e-12), transient(deck, t_stop=150e-12, engine=reference.engine), 1e-10)


def random_deck(seed: int) -> str:
    """Junctions, R, L, C, coupled coils, floating and grounded V and P sources, currents, between eight nodes."""
    rng = np.random.default_rng(seed)
    lines = [
        ".model ja jj(rtype=1, cap=0.07p, r0=160, rn=16, icrit=0.1m)",
        ".model jb jj(rtype=0, cap=0.05p, rn=8, icrit=0.15m, phi=pi, cpr={0.9, 0.1})",
        ".model jt jj(t=4.2, tc=9.1, d=0.3, cap=0.07p, r0=50, icrit=0.1m)",
        "V1 1 0 pwl(0 0 10p 0.4m)", "V2 2 3 pulse(0 0.5m 5p 1p 1p 3p 12p)", "P1 4 2 sin(0 0.5 20g)", "V3 5 1 0.1m",
    ]  # fmt: skip
    for k in range(1, 9):
        lines.append(f"RG{k} {k} 0 {rng.uniform(2, 20):.6g}")
    for k in range(12):
        a, b = rng.choice(9, 2, replace=False)
        lines.append(f"B{k} {a} {b} {('ja', 'jb', 'jt')[k % 3]} area={rng.uniform(0.5, 2):.6g}")
        a, b = rng.choice(9, 2, replace=False)
        lines.append(f"R{k} {a} {b} {rng.uniform(1, 30):.6g}")
        a, b = rng.choice(9, 2, replace=False)
        lines.append(f"L{k} {a} {b} {rng.uniform(1, 30):.6g}p")
        a, b = rng.choice(9, 2, replace=False)
        lines.append(f"C{k} {a} {b} {rng.uniform(0.01, 0.5):.6g}p")
        a, b = rng.choice(9, 2, replace=False)
        lines.append(f"I{k} {a} {b} pwl(0 0 {rng.uniform(2, 9):.4g}p {rng.uniform(-0.4, 0.4):.6g}m)")
    lines += ["K1 L0 L1 0.3", "K2 L1 L2 -0.2", "K3 L5 L6 0.4"]
    asked = ["v(8)", "v(2,3)", "p(5)", *(f"i({e})" for e in ("B0", "B1", "B2", "R3", "L0", "L2", "L9", "C4", "I5"))]
    asked += [f"{q}({e})" for q in "vip" for e in ("V1", "V2", "P1", "V3", "B4", "C1")]
    return "\n".join([*lines, ".tran 0.05p 40p", ".print " + " ".join(asked)])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_engines_agree_on_random_circuits(seed: int) -> None:
    deck = loads(random_deck(seed))
    same(transient(deck), transient(deck, engine=reference.engine), 1e-8)


def test_currents_obey_kirchhoff_at_every_node() -> None:
    """The current of each source, measured through the others, closes the sum at its node."""
    deck = loads(
        "V1 1 0 sin(0 1m 20g)\nV2 1 2 sin(0 2m 30g)\nR1 1 3 2\nL1 2 3 4p\nC1 2 0 0.1p\nR2 3 0 1\nB1 2 0 jm\n"
        ".model jm jj(icrit=0.1m, cap=0.07p)\nI1 0 2 pulse(0 50u 1p 1p 1p 5p 9p)\n"
        ".tran 0.05p 60p\n.print i(V1) i(V2) i(R1) i(L1) i(C1) i(R2) i(B1) i(I1)\n"
    )
    i = {name[2:4]: v for name, v in transient(deck).traces.items()}
    biggest = max(float(np.abs(v).max()) for v in i.values())
    for total in (
        i["V1"] + i["V2"] + i["R1"],
        i["L1"] + i["C1"] + i["B1"] - i["V2"] - i["I1"],
        i["R2"] - i["R1"] - i["L1"],
    ):
        assert np.abs(total).max() < 1e-9 * biggest


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_rlc_ring(engine: Engine) -> None:
    """Step of current into R || L || C: v = I/(wd C) e^-at sin(wd t), a = 1/2RC, wd^2 = 1/LC - a^2."""
    r, ell, c, current = 20.0, 10e-12, 0.2e-12, 1e-4
    deck = loads(
        f"I1 0 1 pwl(0 0 0.001p {current})\nR1 1 0 {r}\nL1 1 0 10p\nC1 1 0 0.2p\n.tran 0.02p 60p\n.print v(1) i(L1)\n"
    )
    run = transient(deck, engine=engine)
    a = 1 / (2 * r * c)
    w = math.sqrt(1 / (ell * c) - a**2)
    exact = current / (w * c) * np.exp(-a * run.time_s) * np.sin(w * run.time_s)
    assert np.abs(run.traces["V(1)"][10:] - exact[10:]).max() < 0.01 * np.abs(exact).max()
    assert run.traces["I(L1)"][-1] == pytest.approx(current, rel=1e-3)


def test_coupled_coils_give_the_phasor() -> None:
    """R-L1 driven at 20 GHz, k = 0.4 to L2-R (docs/sfq.md 1.8 a): 2.5e-3 of the exact amplitude and phase."""
    deck = loads(
        "V1 1 0 sin(0 1m 20g)\nR1 1 2 10\nL1 2 0 20p\nL2 3 0 30p\nR2 3 0 5\nK1 L1 L2 0.4\n"
        ".tran 0.05p 400p\n.print v(3) i(L1)\n"
    )
    run = transient(deck)
    w, m = 2 * math.pi * 20e9, 0.4 * math.sqrt(20e-12 * 30e-12)
    z = np.array([[10 + 1j * w * 20e-12, 1j * w * m], [1j * w * m, 5 + 1j * w * 30e-12]])
    i1, i2 = np.linalg.solve(z, [1e-3, 0])
    late = run.time_s > 300e-12
    wave = np.exp(1j * w * run.time_s[late])
    assert run.traces["I(L1)"][late] == pytest.approx((i1 * wave).imag, abs=2.5e-3 * abs(i1))
    assert run.traces["V(3)"][late] == pytest.approx((-5 * i2 * wave).imag, abs=2.5e-3 * abs(5 * i2))


def test_overdamped_junction_voltage() -> None:
    """V = R sqrt(I^2 - Ic^2) averaged between slips (Aslamazov and Larkin 1969): 1 ohm, 150 uA, 100 uA -> 111.8 uV."""
    run = transient(load(GOLDEN / "tb_pend.cir"))
    times = run.pulse_times("B1")
    mean = PHI0_WB * (len(times) - 11) / (times[-1] - times[10])
    r = 1 / (1 / 1.0 + 1 / 1000.0)
    assert mean == pytest.approx(r * math.sqrt(150e-6**2 - 100e-6**2), rel=2e-4)


def test_pulse_area_is_one_flux_quantum() -> None:
    deck = loads(SHUNTED + "I1 0 1 pwl(0 0 10p 80u 20p 80u 22p 160u 24p 80u 60p 80u)\n.tran 0.02p 60p\n.print v(B1)\n")
    run = transient(deck)
    assert run.slips == {"B1": 1}
    area = np.trapezoid(run.traces["V(B1)"], run.time_s)
    assert area - SIGMA_VS * math.asin(0.8) == pytest.approx(PHI0_WB, rel=1e-3)


def test_energy_is_conserved_over_a_slip() -> None:
    """Current up, one slip, current back to 0: nothing stored at the end, so the supply's work is the heat."""
    deck = loads(
        SHUNTED + "I1 0 1 pwl(0 0 20p 80u 22p 160u 24p 80u 60p 80u 80p 0 120p 0)\n.tran 0.02p 120p\n.print v(1)\n"
    )
    run = transient(deck)
    assert run.slips == {"B1": 1}
    assert run.energy.dissipated_J == pytest.approx(run.energy.bias_J, rel=1e-3)
    assert run.energy.source_J == 0
    assert run.energy.ic_phi0_J == pytest.approx(1e-4 * PHI0_WB)


def test_voltage_source_work_is_the_heat_of_its_resistor() -> None:
    run = transient(loads("V1 1 0 1m\nR1 1 2 3\nR2 2 0 1\n.tran 0.1p 100p\n"))
    assert run.energy.source_J == pytest.approx(1e-6 / 4 * 99.9e-12, rel=1e-6)
    assert run.energy.resistor_J == pytest.approx(run.energy.source_J, rel=1e-3)


def test_squid_ring_holds_one_flux_quantum() -> None:
    """A slip in a closed ring of L changes its current by Phi0/L when L Ic is far above Phi0."""
    deck = loads(
        SHUNTED + "LR 1 0 2000p\nI1 0 1 pwl(0 0 10p 110u 20p 110u 30p 0 200p 0)\n.tran 0.05p 200p\n.print i(LR) p(B1)\n"
    )
    run = transient(deck)
    slips = run.slips["B1"]
    assert slips > 0
    phase = run.traces["P(B1)"][-1]
    assert run.traces["I(LR)"][-1] == pytest.approx(SIGMA_VS * phase / 2e-9, rel=1e-9)
    assert abs(phase - 2 * math.pi * slips) < 0.2


def test_the_guard_starts_the_run_again_as_josim_does() -> None:
    deck = load(GOLDEN / "tb_jj_ramp.cir")
    coarse, fine = (transient(deck, h=h, t_stop=100e-12, startup="josim") for h in (0.2e-12, 0.1e-12))
    assert coarse.step_s_used == 0.1e-12
    assert fine.step_s_used == 0.1e-12
    assert coarse.slips == fine.slips


def test_startup_settles_or_not() -> None:
    assert [settle_steps(h) for h in (1e-12, 0.25e-12, 0.1e-12, 0.05e-12)] == [20, 320, 1000, 1000]
    deck = "I1 0 1 dc 80u\n" + SHUNTED + "{}\n.print p(B1)\n"
    settled = transient(loads(deck.format(".tran 0.1p 5p")), startup="josim").traces["P(B1)"]
    rest = transient(loads(deck.format(".tran 0.1p 5p"))).traces["P(B1)"]
    assert rest == pytest.approx(math.asin(0.8), rel=1e-9)
    cold = transient(loads(deck.format(".tran 0.1p 5p DST"))).traces["P(B1)"]
    assert settled[0] == pytest.approx(math.asin(0.8), rel=1e-3)
    assert cold[0] < 0.1
    assert transient(loads(deck.format(".tran 0.1p 5p")), startup="none").traces["P(B1)"] == pytest.approx(cold)


def test_long_runs_go_on_where_a_chunk_ended() -> None:
    deck = loads(SHUNTED + "I1 0 1 pwl(0 0 5p 120u)\n.tran 0.1p 900p\n.print i(R1) v(1)\n")
    seen: list[float] = []
    run = transient(deck, progress=seen.append)
    assert seen[-1] == 1.0
    assert sorted(seen) == seen
    times = run.pulse_times("B1")
    steady = np.diff(times[20:])
    assert len(times) > 100
    assert steady == pytest.approx(steady.mean(), rel=1e-3)


def test_print_step_and_start() -> None:
    run = transient(loads("I1 0 1 sin(0 1m 10g)\nR1 1 0 1\n.tran 0.1p 10p 2p 0.5p\n.print v(1)\n"))
    assert run.time_s == pytest.approx(np.arange(4, 20) * 0.5e-12)
    assert run.traces["V(1)"] == pytest.approx(1e-3 * np.sin(2 * np.pi * 10e9 * run.time_s), abs=1e-12)


def test_watch_probes_and_circuits() -> None:
    circuit = load(GOLDEN / "tb_cells.cir").flatten()
    run = transient(circuit, t_stop=70e-12, watch=["B1.X1.XA1"], probes=["V(A)", "I(VA)"])
    assert list(run.pulses) == ["B1|X1|XA1"]
    assert list(run.traces) == ["V(A)", "I(VA)"]
    assert len(run.slips) == 24
    with pytest.raises(DeckError, match="not a watched junction"):
        run.pulse_times("B1|X2|XA1")
    with pytest.raises(DeckError, match="no such junction to watch"):
        transient(circuit, watch=["B9"])
    with pytest.raises(DeckError, match="no element or node NOWHERE"):
        transient(circuit, probes=["V(nowhere)"])


def test_print_of_nothing_warns() -> None:
    with pytest.warns(DeckWarning, match="no element R9"):
        run = transient(loads("I1 0 1 1u\nR1 1 0 1\n.tran 1p 9p\n.print i(R9)\n"))
    assert run.traces == {}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("V1 1 0 1m\nV2 1 0 1m\nR1 1 0 1", "V2: closes a loop"),
        ("V1 1 2 1m\nP1 2 3 1\nL1 3 1 0\nR1 1 0 1", "closes a loop"),
        ("V1 1 1 1m\nR1 1 0 1", "closes a loop"),
        ("L1 1 0 1p\nL2 1 0 1p\nL3 1 0 1p\nK1 L1 L2 .9\nK2 L2 L3 .9\nK3 L1 L3 -.9", "not possible together"),
    ],
)  # fmt: skip
def test_circuits_without_a_solution(text: str, why: str) -> None:
    with pytest.raises(DeckError, match=why):
        transient(loads(text + "\n.tran 1p 9p\n"))


def test_an_island_is_pinned_and_told() -> None:
    """A transformer's secondary without ground: the same as with one of its nodes grounded."""
    text = (
        "I1 0 1 sin(0 1m 10g)\nR1 1 0 1\nL1 1 0 1p\nR2 2 3 1\nL2 2 3 1p\nK1 L1 L2 0.5\n{}\n"
        ".tran 0.1p 50p\n.print v(2,3) i(L2)\n"
    )
    with pytest.warns(DeckWarning, match="floating node 2"):
        floating = transient(loads(text.format("")))
    grounded = transient(loads(text.format("RG 3 0 1")))
    for name, values in floating.traces.items():
        assert values == pytest.approx(grounded.traces[name], abs=1e-9 * np.abs(values).max()), name


def test_missing_or_bad_times() -> None:
    with pytest.raises(DeckError, match=r"no \.tran"):
        transient(loads("R1 1 0 1"))
    with pytest.raises(DeckError, match="0 < h < t_stop"):
        transient(loads("R1 1 0 1"), h=1e-12, t_stop=1e-13)
    assert transient(loads("R1 1 0 1"), h=1e-12, t_stop=5e-12).steps == 5


@pytest.mark.parametrize("seed", range(5))
def test_sparse_factorisation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 30
    a: NDArray[np.float64] = np.zeros((n, n))
    for _ in range(60):
        i, j = rng.choice(n, 2, replace=False)
        g = rng.uniform(0.1, 2)
        a[[i, j, i, j], [i, j, j, i]] += [g, g, -g, -g]
    a += np.diag(rng.uniform(0.1, 1, n))
    i, j = np.nonzero(np.tril(a))
    pattern = analyse(n, zip(i.tolist(), j.tolist(), strict=True))
    place = np.argsort(pattern.order)
    values = np.zeros(pattern.waste + 1)
    np.add.at(values, pattern.slots(place[i], place[j]), a[i, j])
    b = rng.normal(size=n)
    x = solve(pattern, factor(pattern, values), b[pattern.order])
    assert x[place] == pytest.approx(np.linalg.solve(a, b), rel=1e-9)
    with pytest.raises(ValueError, match="not positive definite"):
        factor(pattern, -values)


def test_a_chain_is_shallow_and_has_little_fill() -> None:
    """1000 unknowns in a row: at most two entries a column, and ways of dependent columns of about log2 of them."""
    pattern = analyse(1000, ((k, k + 1) for k in range(999)))
    assert len(pattern.rows) <= 2 * 999
    level = np.zeros(1000, dtype=int)
    for k in range(1000):
        for row in pattern.rows[pattern.start[k] : pattern.start[k + 1]]:
            level[row] = max(level[row], level[k] + 1)
    assert level.max() <= 10
