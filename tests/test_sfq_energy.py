"""What an SFQ run costs: heat against the bias work, energy against what is stored, and the figures of the report."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.network import Input, Linear, Network, Output, Spiking
from export.to_deck import to_deck
from hardware.energy import Span, price
from hardware.prices import load_prices
from hardware.sfq_energy import SfqEnergy, Simulated, configured, sfq_energy
from hardware.tables import load_table
from neuro.neuron import Law, Rate
from sim.report import page, report_runs
from sim.run import Run
from sim.sfq import Circuit, Transient, load, network, transient
from sim.sfq.constants import PHI0_WB, SIGMA_VS

GOLDEN = Path(__file__).parent / "golden" / "sfq"
SWITCHING = ("tb_cells", "tb_dff", "tb_inv", "xor_01", "xor_10", "xor_11")


def watched_all(circuit: Circuit) -> Transient:
    phases = [f"P({n})" for n in (*circuit.inductors.names, *circuit.junctions.names)]
    voltages = [f"V({n})" for n in (*circuit.junctions.names, *circuit.capacitors.names)]
    return transient(circuit, probes=phases + voltages)


def stored(circuit: Circuit, run: Transient) -> float:
    """sum (sigma f)^2/2L + Ic sigma (1 - cos f) + C V^2/2 at the end, pairs by the inverse of their matrix."""
    f = np.array([run.traces[f"P({n})"][-1] for n in circuit.inductors.names])
    matrix = np.diag(circuit.inductors.value)
    for a, b, k in zip(circuit.mutuals.la, circuit.mutuals.lb, circuit.mutuals.k, strict=True):
        matrix[a, b] = matrix[b, a] = k * math.sqrt(matrix[a, a] * matrix[b, b])
    total = 0.5 * SIGMA_VS**2 * float(f @ np.linalg.solve(matrix, f))
    j = circuit.junctions
    for name, ic, c in zip(j.names, j.ic_A, j.c_F, strict=True):
        phase, v = run.traces[f"P({name})"][-1], run.traces[f"V({name})"][-1]
        total += float(ic * SIGMA_VS * (1.0 - math.cos(phase)) + 0.5 * c * v**2)
    return total


@pytest.fixture(scope="module")
def runs() -> dict[str, tuple[Circuit, Transient]]:
    circuits = {name: load(GOLDEN / f"{name}.cir").flatten() for name in SWITCHING}
    return {name: (c, watched_all(c)) for name, c in circuits.items()}


@pytest.mark.parametrize("name", SWITCHING)
def test_sources_give_what_becomes_heat_or_is_stored(runs: dict[str, tuple[Circuit, Transient]], name: str) -> None:
    circuit, run = runs[name]
    assert sum(run.slips.values()) > 40
    rest = run.energy.supplied_J - run.energy.dissipated_J - stored(circuit, run)
    assert abs(rest) < 1e-3 * run.energy.supplied_J


@pytest.mark.parametrize("name", SWITCHING)
def test_heat_is_the_bias_work_within_a_quarter(runs: dict[str, tuple[Circuit, Transient]], name: str) -> None:
    energy = runs[name][1].energy
    assert energy.dissipated_J == pytest.approx(energy.bias_J, rel=0.25)
    assert 0.6 < energy.bias_J / energy.ic_phi0_J < 0.9, "bias stands near 0.7 of the critical currents"


def test_a_slip_takes_bias_times_flux_quantum() -> None:
    """Closed form: a junction biased with I slips once for each pulse, and the source has given I Phi0 each time."""
    text = [
        ".model m jj(rtype=0, cap=0.07p, rn=160, icrit=0.1m)", "B1 1 0 m area=2.5", "R1 1 0 2.7", "L1 a 1 4p",
        "VA a 0 pulse(0 827.13u 50p 2.5p 2.5p 0 50p)", "I1 0 1 pwl(0 0 5p 150u)", ".tran 0.1p 500p", ".print p(B1)",
    ]  # fmt: skip
    from sim.sfq import loads

    run = transient(loads("\n".join(text)))
    slips = run.slips["B1"]
    assert slips == 9
    assert run.energy.bias_J == pytest.approx(slips * 150e-6 * PHI0_WB, rel=0.02)
    assert run.energy.ic_phi0_J == pytest.approx(slips * 250e-6 * PHI0_WB, rel=1e-9)


def test_golden_xor_has_the_known_figures(runs: dict[str, tuple[Circuit, Transient]]) -> None:
    """docs/sfq.md 3.5, pattern 10 over 1 ns: 419 slips, 2.1e-16 J, 23.6 aJ a pulse; 15 uW static, 70 times that."""
    circuit, run = runs["xor_10"]
    assert sum(run.slips.values()) == 419
    pulses = len(run.pulse_times("B1.X2.XY2"))
    assert run.energy.ic_phi0_J / pulses == pytest.approx(23.6e-18, rel=0.01)
    assert 2.5e-3 * circuit.bias_current_A == pytest.approx(15e-6, rel=0.03)
    counts = {
        "slip_ic_nA": {"deck": round(run.slip_ic_A * 1e9)},
        "bias_charge_nA_ps": {"deck": round(circuit.bias_current_A * 1e9 * 1000)},
        "junction_switchings": {"deck": 419},
    }
    simulated = Simulated(run.energy.bias_J, run.energy.dissipated_J)
    found = sfq_energy(counts, samples=1, output_spikes=pulses, simulated=simulated, step_s=30e-12)
    assert found.figure("ic").energy_J.typical == pytest.approx(run.energy.ic_phi0_J, rel=1e-6)
    assert found.figure("static").energy_J.typical == pytest.approx(15.4e-15, rel=0.01)
    ratio = found.figure("static").energy_J.typical / found.figure("ic").energy_J.typical
    assert 65 < ratio < 80
    assert found.static_share == pytest.approx(ratio / (1 + ratio))
    assert found.per("ic", "output_spikes") == pytest.approx(Span(*3 * [23.6e-18]), rel=0.01)
    assert found.per("ic", "synaptic_events") is None
    pinned = circuit.bias_current_A * 1e-9 * PHI0_WB / 30e-12
    assert found.figure("pinned").energy_J == pytest.approx([pinned, pinned, 2 * pinned], rel=1e-4)


COUNTS = {
    "slip_ic_nA": {"a": 300_000, "b": 100_000},
    "bias_charge_nA_ps": {"a": 2_000_000, "b": 1_000_000},
    "junction_switchings": {"a": 3, "b": 1},
    "synaptic_events": {"a": 2},
}


def test_figures_by_hand() -> None:
    found = sfq_energy(COUNTS, samples=2, output_spikes=4)
    quantum = 6.62607015e-34 / (2 * 1.602176634e-19)  # h/2e
    ic, static = 400e-6 * quantum, 3e-15 * 2.5e-3 * 1.0
    assert found.figure("ic").energy_J.typical == pytest.approx(ic, rel=1e-8)
    assert found.figure("static").energy_J == pytest.approx([static, static, 2 * static])
    assert found.figure("rsfq").energy_J.typical == pytest.approx(static + ic)
    ersfq = found.figure("ersfq")
    assert ersfq.energy_J == pytest.approx([ic * 1.4e-24 / 2.067833848e-24, ic, 2 * ic])
    assert ersfq.wall_J is not None
    assert ersfq.wall_J.typical == pytest.approx(400 * ic)
    assert ersfq.wall_J.high == pytest.approx(1000 * 2 * ic)
    assert found.per("rsfq", "samples") == pytest.approx([x / 2 for x in found.figure("rsfq").energy_J])
    assert found.per("ic", "slips") == pytest.approx([ic / 4] * 3)
    assert sum(n.static_J.typical + n.switching_J.typical for n in found.nodes) == pytest.approx(static + ic)
    assert [n.node for n in found.nodes] == ["a", "b"]
    assert [n.ersfq_J.high for n in found.nodes] == pytest.approx([1.5 * ic, 0.5 * ic])
    with pytest.raises(ValueError, match=r"no figure 'bias' .* there are ic, static"):
        found.figure("bias")
    assert SfqEnergy.from_dict(found.to_dict()) == found
    with pytest.raises(ValueError, match="make the report again"):
        SfqEnergy.from_dict({"figures": [{}]})


def test_cooling_and_overhead_are_the_users_to_set() -> None:
    found = sfq_energy(COUNTS, samples=1, output_spikes=0, cooling=Span(500, 500, 500), overhead=Span(1.4, 1.4, 1.4))
    ic = found.figure("ic").energy_J.typical
    assert found.figure("ersfq").energy_J.typical == pytest.approx(1.4 * ic)
    wall = found.figure("ersfq").wall_J
    assert wall is not None
    assert wall.typical == pytest.approx(1.4 * 500 * ic)
    ersfq = configured(load_prices("sfq_ersfq"), Span(500, 500, 500), Span(1.4, 1.4, 1.4))
    bill = price(COUNTS, ersfq)
    assert bill.total_J is not None
    assert bill.total_J.typical == pytest.approx(1.4 * ic)
    assert bill.separate[0].energy_J is not None
    assert bill.separate[0].energy_J.typical == pytest.approx(1.4 * 500 * ic)
    rsfq = configured(load_prices("sfq_rsfq"), None, Span(1.4, 1.4, 1.4))
    assert rsfq == load_prices("sfq_rsfq"), "resistive bias has no limiting junctions"
    for cooling in (Span(50, 50, 50), Span(400, 300, 500), Span(math.nan, 1, 1)):
        with pytest.raises(ValueError, match=r"cooling .* Carnot's limit"):
            sfq_energy(COUNTS, samples=1, output_spikes=0, cooling=cooling)
    for overhead in (Span(0.9, 1, 1), Span(1, 1, 2.1)):
        with pytest.raises(ValueError, match=r"ERSFQ overhead .* within 1 to 2"):
            sfq_energy(COUNTS, samples=1, output_spikes=0, overhead=overhead)
    with pytest.raises(ValueError, match="run of another kind"):
        sfq_energy({"synaptic_events": {"a": 1}}, samples=1, output_spikes=0)


def test_tables_say_the_same() -> None:
    constants, rsfq, ersfq = load_table("sfq_energy"), load_prices("sfq_rsfq"), load_prices("sfq_ersfq")
    quantum, cooling = constants.value("flux_quantum_Wb"), constants.row("cooling_W_per_W")
    for prices in (rsfq, ersfq):
        assert prices.prices["slip_ic_nA"].value == pytest.approx(quantum * 1e-9, rel=1e-12)
        (wall,) = prices.separate
        assert (wall.value, wall.low, wall.high) == (cooling.value, cooling.low, cooling.high)
        assert wall.grade == cooling.grade == "unverified"
    assert ersfq.prices["slip_ic_nA"].high == pytest.approx(2 * ersfq.prices["slip_ic_nA"].value)
    assert constants.value("carnot_W_per_W") == pytest.approx((300 - 4.2) / 4.2, rel=1e-3)


def xor_network() -> Network:
    leak = Rate(1.0 - math.exp(-0.3), decay_input=False)
    nodes: dict[str, Any] = {"input": Input((2,))}
    for k, (w, threshold) in enumerate((([[1, -1], [-1, 1]], 2.3), ([[1, 1]], 1.0))):
        nodes |= {f"fc{k}": Linear(np.array(w, dtype=float)), f"lif{k}": Spiking(Law(leak, threshold, "subtract"))}
    return Network.sequential(nodes | {"output": Output()}, dt_s=30e-12, name="xor")


def xor_run() -> Run:
    x = np.broadcast_to(np.array([[0, 1], [1, 1]])[:, None], (2, 16, 2))
    return network.run(to_deck(xor_network()), x, probes=["lif1.s", "P(B1.X2.XL2N0J)"])


def test_report_of_an_sfq_run_says_all_of_it() -> None:
    run = xor_run()
    assert run.probes["heat_J"].shape == run.probes["bias_work_J"].shape == (2,)
    assert run.probes["heat_J"].sum() == pytest.approx(run.probes["bias_work_J"].sum(), rel=0.25)
    report = report_runs([run], cooling=Span(300, 500, 900))
    found = report.sfq(0)
    assert found is not None
    assert found.output_spikes == run.y.sum() > 0
    assert found.synaptic_events == run.total("synaptic_events") > 0
    assert found.figure("bias").energy_J.typical == pytest.approx(run.probes["bias_work_J"].sum())
    assert found.figure("ersfq").energy_J.typical == pytest.approx(run.probes["bias_work_J"].sum())
    bill = report.bill(0)
    assert bill is not None
    assert bill.total_J is not None
    assert found.figure("rsfq").energy_J.typical == pytest.approx(bill.total_J.typical)
    assert bill.separate[0].factor == Span(300, 500, 900)
    text = page(report)
    for part in (
        "per synaptic event",
        "per output spike",
        "static share of RSFQ: 9",
        "500 (300 to 900) W/W",
        "ERSFQ, line",
    ):
        assert part in text, part
    parts = [sum(n.ersfq_J.typical for n in found.nodes), found.figure("ersfq").energy_J.typical]
    assert parts[0] == pytest.approx(parts[1])
    slips = list(report.machines[0]["pulses"]["rows"])
    names = report.machines[0]["pulses"]["junctions"]
    assert len(names) == 37
    answers = [r for r in slips if names[int(r[1])] == "B1|X2|XL2N0J"]
    assert len(answers) == run.y[0].sum() > 0
    assert 'id="pulses"' in text
    assert 'id="waveforms"' in text
    again = type(report).from_dict(report.to_dict())
    assert again.sfq(0) == found


def test_pulse_level_has_the_same_figures_but_the_simulated_ones() -> None:
    from sim import engines

    x = np.broadcast_to(np.array([[0, 1], [1, 1]])[:, None], (2, 16, 2))
    both = [engines.run(to_deck(xor_network()), x, on) for on in ("sfq", "sfq-pulse")]
    report = report_runs(both)
    junction, pulse = report.sfq(0), report.sfq(1)
    assert junction is not None
    assert pulse is not None
    assert {f.key for f in junction.figures} - {f.key for f in pulse.figures} == {"bias", "heat"}
    for key in ("ic", "static"):
        ours, theirs = pulse.figure(key).energy_J.typical, junction.figure(key).energy_J.typical
        assert ours == pytest.approx(theirs, rel=0.15), key
    assert pulse.per("rsfq", "synaptic_events") is not None
    assert pulse.per("ersfq", "output_spikes") is not None
