"""The fast kernels against the readable law, with everything a deck can hold; batches against single runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim.sfq import Corners, Transient, batch, compiled, load, loads, native, reference, transient
from sim.sfq.corners import one
from sim.sfq.deck import Deck
from sim.sfq.shapes import Pwl
from sim.sfq.state import Engine

GOLDEN = Path(__file__).parent / "golden" / "sfq"


def numba_engine() -> Engine:
    """The engine of machines without a compiler."""
    from sim.sfq import kernel

    return kernel.engine


def same(a: Transient, b: Transient, tolerance: float) -> None:
    assert a.traces.keys() == b.traces.keys()
    for name, values in a.traces.items():
        scale = max(1e-12, float(np.abs(values).max()))
        assert np.abs(values - b.traces[name]).max() <= tolerance * scale, name
    assert a.slips == b.slips
    for name, rows in a.pulses.items():
        assert rows == pytest.approx(b.pulses[name], abs=1e-17), name
    assert vars(a.energy) == pytest.approx(vars(b.energy), rel=1e-8, abs=1e-26)


def random_deck(seed: int, noise: bool = False) -> Deck:
    """Every kind of element between ten nodes: nested sources, lines, couplings, controlled sources, three models."""
    rng = np.random.default_rng(seed)
    lines = [
        ".model ja jj(rtype=1, cap=0.07p, r0=160, rn=16, icrit=0.1m)",
        ".model jb jj(rtype=0, cap=0.05p, rn=8, icrit=0.15m, phi=pi, cpr={0.9, 0.1})",
        ".model jt jj(t=4.2, tc=9.1, d=0.3, cap=0.07p, r0=50, icrit=0.1m)",
        "V1 1 0 pwl(0 0 10p 0.4m)", "V2 2 3 pulse(0 0.5m 5p 1p 1p 3p 12p)", "P1 4 2 sin(0 0.5 20g)", "V3 5 1 0.1m",
        "T1 6 0 7 3 z0=6 td=1.234p", "T2 8 2 9 0 z0=3 td=2p",
        "E1 10 0 6 7 0.6", "F1 6 8 11 0 0.7", "G1 9 7 1 8 0.02", "H1 12 0 13 0 1.5",
        "RE 10 8 4", "RF 11 9 3", "RH 12 6 5", "RS 13 7 6",
    ]  # fmt: skip
    lines += [".temp 4.2", ".option seed=5"] if noise else []
    for k in range(1, 14):
        lines.append(f"RG{k} {k} 0 {rng.uniform(2, 20):.6g}")
    for k in range(12):
        for letter, value in (
            ("B", f"{('ja', 'jb', 'jt')[k % 3]} area={rng.uniform(0.5, 2):.6g}"), ("R", f"{rng.uniform(1, 30):.6g}"),
            ("L", f"{rng.uniform(1, 30):.6g}p"), ("C", f"{rng.uniform(0.01, 0.5):.6g}p"),
        ):  # fmt: skip
            a, b = rng.choice(10, 2, replace=False)
            lines.append(f"{letter}{k} {a} {b} {value}")
        a, b = rng.choice(10, 2, replace=False)
        lines.append(f"I{k} {a} {b} pwl(0 0 {rng.uniform(2, 9):.4g}p {rng.uniform(-0.4, 0.4):.6g}m)")
    lines += ["K1 L0 L1 0.3", "K2 L1 L2 -0.2", "K3 L5 L6 0.4"]
    asked = ["v(8)", "v(2,3)", "p(5)", *(f"i({e})" for e in ("B0", "B1", "B2", "R3", "L0", "L2", "L9", "C4", "I5"))]
    asked += [f"{q}({e})" for q in "vip" for e in ("V1", "V2", "P1", "V3", "B4", "C1", "T1", "E1", "F1", "G1", "H1")]
    return loads("\n".join([*lines, ".tran 0.05p 30p", ".print " + " ".join(asked)]))


@pytest.mark.parametrize("startup", ["op", "josim", "none"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_kernel_is_the_law(seed: int, startup: str) -> None:
    deck = random_deck(seed)
    corrector = seed % 2
    same(
        transient(deck, startup=startup, corrector=corrector),  # type: ignore[arg-type]
        transient(deck, startup=startup, corrector=corrector, engine=reference.engine),  # type: ignore[arg-type]
        1e-8,
    )


@pytest.mark.slow
@pytest.mark.parametrize("corrector", [0, 1])
def test_the_numba_kernel_is_the_law(corrector: int) -> None:
    deck = random_deck(4, noise=True)
    fast = transient(deck, corrector=corrector, engine=numba_engine())
    same(fast, transient(deck, corrector=corrector, engine=reference.engine), 1e-8)
    ramp = load(GOLDEN / "tb_jj_ramp.cir")
    same(
        transient(ramp, h=0.2e-12, t_stop=90e-12, engine=numba_engine()),
        transient(ramp, h=0.2e-12, t_stop=90e-12),
        1e-8,
    )


def corners_of(deck: Deck, count: int) -> Corners:
    """All values different, a source of its own for each corner."""
    c, rng = deck.flatten(), np.random.default_rng(7)

    def near_one(n: int) -> np.ndarray:
        return 1.0 + 0.1 * rng.uniform(-1, 1, (count, n))

    ends = rng.uniform(-0.4e-3, 0.4e-3, count)
    return Corners(
        count, junctions=near_one(len(c.junctions)), inductors=near_one(len(c.inductors)),
        resistors=near_one(len(c.resistors)), capacitors=near_one(len(c.capacitors)),
        currents=near_one(len(c.currents)),
        voltages=near_one(len(c.voltages)), phases=near_one(len(c.phases)), mutuals=near_one(len(c.mutuals)),
        shapes={name: [Pwl((0.0, 4e-12), (0.0, float(e))) for e in ends] for name in ("I3", "V3")},
    )  # fmt: skip


@pytest.mark.parametrize("noise", [False, True])
def test_a_corner_of_a_batch_is_that_circuit_alone(noise: bool) -> None:
    deck = random_deck(5, noise)
    corners, circuit = corners_of(deck, 5), deck.flatten()
    probes = [r.label for r in deck.requests]
    many = batch(circuit, corners, probes=probes, energy=True)
    for k in range(5):
        alone = transient(one(circuit, corners, k), corner=k)
        assert many.slips[k].tolist() == list(alone.slips.values())
        for name, values in alone.traces.items():
            scale = max(1e-12, float(np.abs(values).max()))
            assert np.abs(values - many.traces[name][k]).max() <= 1e-7 * scale, name
        for name in circuit.junctions.names:
            for sign in (1, -1):
                assert many.pulse_times(name, k, sign) == pytest.approx(alone.pulse_times(name, sign), abs=1e-17)
        got = {key: values[k] for key, values in many.energy_J.items()}
        wanted = {key: value for key, value in vars(alone.energy).items() if key != "stored_J"}
        assert got == pytest.approx(wanted, rel=1e-6, abs=1e-24)


def test_a_corner_does_not_depend_on_its_neighbours() -> None:
    """The same bits in any batch, order and number of threads, noise included."""
    deck = random_deck(6, noise=True)
    corners = corners_of(deck, 37)
    whole = batch(deck, corners, threads=2, probes=["P(B1)"], seed=3)
    part = batch(deck, corners.take(slice(9, 20)), threads=1, probes=["P(B1)"], seed=3)
    assert (whole.traces["P(B1)"][9:20] == part.traces["P(B1)"]).all()
    assert (whole.slips[9:20] == part.slips).all()
    for k in range(11):
        for name in whole.names:
            assert (whole.pulse_times(name, 9 + k) == part.pulse_times(name, k)).all()
    other = batch(deck, corners.take(slice(9, 20)), probes=["P(B1)"], seed=4)
    assert np.abs(other.traces["P(B1)"] - part.traces["P(B1)"]).max() > 1e-6


def test_a_corner_that_asks_for_a_smaller_step_gets_it_alone() -> None:
    """Unshunted junctions driven through the gap: some corners break the guard, and equal their own single run."""
    circuit = load(GOLDEN / "tb_jj_ramp.cir").flatten()
    corners = Corners(3, currents=np.array([[0.3], [1.0], [1.1]]))
    many = batch(circuit, corners, h=0.2e-12, t_stop=150e-12)
    assert many.step_s_used[0] == 0.2e-12
    assert (many.step_s_used[1:] < 0.2e-12).all()
    for k in range(3):
        alone = transient(one(circuit, corners, k), h=0.2e-12, t_stop=150e-12)
        assert many.slips[k].tolist() == list(alone.slips.values())
        assert many.pulse_times("B1", k) == pytest.approx(alone.pulse_times("B1"), abs=1e-17)


def test_corners_that_do_not_fit_are_refused() -> None:
    circuit = load(GOLDEN / "tb_cells.cir").flatten()
    with pytest.raises(ValueError, match="junctions has factors of shape"):
        batch(circuit, Corners(2, junctions=np.ones((2, 3))))
    with pytest.raises(ValueError, match="resistors is not finite or not above 0"):
        batch(circuit, Corners(1, resistors=np.zeros((1, len(circuit.resistors)))))
    with pytest.raises(ValueError, match="no such source"):
        batch(circuit, Corners(1, shapes={"V9": [Pwl((0.0,), (0.0,))]}))
    with pytest.raises(ValueError, match="at least one"):
        batch(circuit, 0)


def test_a_stopped_batch_stops() -> None:
    def stop(share: float) -> None:
        del share
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        batch(load(GOLDEN / "tb_cells.cir"), 64, progress=stop)


def test_where_the_kernel_comes_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A compiler that fails, or none, is no error: the library is None and numba takes over."""
    monkeypatch.setenv("SPIKEPORT_CACHE", str(tmp_path))
    build = native.library.__wrapped__
    monkeypatch.setenv("CC", "/bin/false")
    assert build(1) is None
    monkeypatch.delenv("CC")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPIKEPORT_CACHE", str(tmp_path / "file"))
    assert build(1) is None
    (tmp_path / "file").unlink()
    monkeypatch.setenv("SPIKEPORT_KERNEL", "numba")
    assert build(1) is None
    assert list(tmp_path.iterdir()) == []
    assert compiled.__module__ == "sim.sfq.fast"
