"""Spikes, energy by term and time equal those of SANA-FE, on the same neurons on the same cores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from export.assemble import assemble
from export.loihi import ConvEdge, DenseEdge, Edge, InputNode, Lif, LoihiProgram, Node, SparseEdge
from hardware.energy import price
from hardware.loihi import load_profile
from sim.loihi import engine, reference
from sim.loihi.steps import Steps, per_step
from sim.run import Run

REASON = "sanafe is not installed: not compared live with SANA-FE's spikes, energy and time"
UNITS = {"dense": "loihi_dense_synapse", "sparse": "loihi_sparse_synapse", "conv": "loihi_conv_synapse"}
TERMS = {
    "synapse": ("synaptic_events_dense", "synaptic_events_sparse", "synaptic_events_conv"),
    "soma": ("neuron_updates", "fired"),
    "network": ("messages", "hops_ew", "hops_ns"),
}


def simulate(program: LoihiProgram, x: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """``(result, spikes by population (T, neurons))`` of SANA-FE for one sample, every neuron updated in each step."""
    sanafe = pytest.importorskip("sanafe", reason=REASON)
    arch, net, groups, lines = sanafe.load_loihi(), sanafe.Network(), {}, iter(range(1024))
    for name, node in program.nodes.items():
        groups[name] = list(net.create_neuron_group(name, program.size(name)))
        for k, neuron in enumerate(groups[name]):
            unit, attributes = "loihi_lif", {}
            if isinstance(node, InputNode):
                unit, attributes = f"loihi_inputs[{next(lines)}]", {"spikes": x[:, k].astype(int).tolist()}
            else:
                attributes = {
                    "threshold": float(node.vth),
                    "leak_decay": (4096 - node.dv) / 4096,
                    "input_decay": 0.0,
                    "reset_mode": "hard" if node.reset == "zero" else "soft",
                    "bias": 0.0 if node.bias is None else float(node.bias[k] * 2**node.bias_exp) / 64,
                    "force_update": True,
                }
            neuron.set_attributes(soma_hw_name=unit, log_spikes=True, model_attributes=attributes)
            core = int(program.placement[name][k])
            neuron.map_to_core(arch.tiles[core // 4].cores[core % 4])
    for e, (of, to) in zip(program.edges, program.links, strict=True):
        for neuron in groups[e.dst]:
            neuron.set_attributes(default_synapse_hw_name=UNITS[e.kind])
        for i, j in zip(of.tolist(), to.tolist(), strict=True):
            groups[e.src][i].connect_to_neuron(groups[e.dst][j], {"weight": weight(e, program, i, j)})
    chip = sanafe.SpikingChip(arch)
    chip.load(net)
    result = chip.sim(len(x), timing_model="simple", spike_trace=True, perf_trace=True)
    fired = {n: np.zeros((len(x), program.size(n)), int) for n in program.nodes}
    for t, found in enumerate(result["spike_trace"]):
        for at in found:
            fired[at.group_name][t, at.neuron_offset] = 1
    return result, fired


def weight(e: Edge, program: LoihiProgram, i: int, j: int) -> float:
    """Of the synapse from neuron i to neuron j."""
    if isinstance(e, DenseEdge):
        return float(e.w[j, i])
    if isinstance(e, SparseEdge):
        row = slice(int(e.pointer[i]), int(e.pointer[i + 1]))
        return float(e.w[row][e.target[row] == j][0])
    (c, y, x), (o, oy, ox) = (np.unravel_index(k, program.nodes[n].shape) for k, n in ((i, e.src), (j, e.dst)))
    ky, kx = y + e.padding[0] - oy * e.stride[0], x + e.padding[1] - ox * e.stride[1]
    return float(e.w[o, c, ky, kx])


def spread(rng: Any, n: int, cores: list[int]) -> Any:
    """A core for each of n neurons, in order."""
    return np.sort(rng.choice(cores, n)).astype(np.int32)


def network(seed: int) -> tuple[LoihiProgram, Any]:
    """A random net over 1 to 7 tiles, of dense, sparse and convolutional connections, loops, hard and soft resets."""
    rng = np.random.default_rng(seed)
    tiles = [1, 2, 3, 4, 5, 7][seed % 6]
    cores = sorted(4 * k + int(rng.integers(4)) for k in rng.choice(8 * 4, tiles, replace=False))

    def lif(*shape: int) -> Lif:
        vth, soft = int(rng.integers(60, 250)), bool(rng.random() < 0.4)
        bias = rng.integers(-200, 400, int(np.prod(shape))).astype(np.int16) if rng.random() < 0.5 else None
        reset: Any = ("subtract", vth) if soft else ("zero", 0)
        return Lif(shape, 4095, int(rng.choice([0, 512, 1777, 4000])), vth, bias, int(rng.integers(0, 4)), *reset)

    def dense(src: str, dst: str, n: int, m: int) -> DenseEdge:
        w = (rng.integers(-60, 90, (m, n)) * 2 * (rng.random((m, n)) < rng.choice([0.5, 1.0]))).astype(np.int16)
        return DenseEdge(src, dst, w, "mixed")

    nodes: dict[str, Node]
    if seed % 3 == 2:
        nodes = {"in": InputNode((2, 5, 4)), "a": lif(3, 3, 2), "b": lif(9), "o": lif(4)}
        kernel = (rng.integers(-40, 90, (3, 2, 3, 3)) * 2).astype(np.int16)
        edges: list[Edge] = [ConvEdge("in", "a", kernel, "mixed", (2, 2), (1, 1)), dense("a", "b", 18, 9)]
    else:
        nodes = {"in": InputNode((18,)), "a": lif(14), "b": lif(9), "o": lif(4)}
        edges = [dense("in", "a", 18, 14), dense("a", "b", 14, 9)]
    edges += [SparseEdge.of_dense(dense("b", "o", 9, 4)), dense("b", "b", 9, 9)]
    sizes = {n: int(np.prod(node.shape)) for n, node in nodes.items()}
    placed = {n: spread(rng, k, cores) for n, k in sizes.items()}
    made = assemble(nodes, edges, "o", placement=placed, late=False)
    return made, (rng.random((1, 40, *made.input_shape)) < rng.choice([0.1, 0.4])).astype(np.int8)


@pytest.mark.parametrize("seed", range(8))
def test_spikes_energy_and_time_are_sanafe_s(seed: int) -> None:
    program, x = network(seed)
    result, fired = simulate(program, x[0].reshape(40, -1))
    for run in (engine.run(program, x, probes=program.watched), reference.run(program, x, probes=program.watched)):
        for n in program.populations:
            assert (run.probes[f"{n}.s"].reshape(40, -1) == fired[n]).all(), n
    assert sum(f.sum() for n, f in fired.items() if n != "in") > 20
    assert run.total("synaptic_events") == result["spikes"]
    assert run.total("messages") == result["packets_sent"]
    energy = by_term(run)
    for term in TERMS:
        assert energy[term] == pytest.approx(result["energy"][term], rel=1e-9, abs=1e-18), term
    assert sum(energy.values()) == pytest.approx(result["energy"]["total"], rel=1e-9)
    steps = per_step(program, x, run, timing="loihi1_sanafe")
    assert steps.seconds == pytest.approx(np.array(result["perf_trace"]["sim_time"]), rel=1e-9)
    assert steps.seconds is not None
    assert steps.seconds.sum() == pytest.approx(result["sim_time"], rel=1e-9)
    same_events(steps, result["perf_trace"])


def by_term(run: Run) -> dict[str, float]:
    """Energy in J under SANA-FE's own headings."""
    bill = price(run.counts, "loihi1_sanafe")
    assert bill.total_J is not None
    joules = {t.event: t.energy_J.typical for t in bill.terms}
    assert {e for events in TERMS.values() for e in events} >= set(joules)
    return {term: sum(joules.get(e, 0.0) for e in events) for term, events in TERMS.items()}


def same_events(steps: Steps, trace: dict[str, Any]) -> None:
    """Counts of each step as SANA-FE has them: its spikes are our synaptic events."""

    def total(*events: str) -> list[int]:
        return sum(np.array(list(steps.counts[e].values())).sum(axis=0) for e in events).tolist()

    assert total("synaptic_events") == trace["spikes"]
    assert total("hops_ew", "hops_ns") == trace["hops"]
    assert total("spikes") == trace["fired"]


def test_the_barrier_of_sanafe_s_table_holds_until_its_next_row() -> None:
    timing = load_profile("loihi1").timing["loihi1_sanafe"]
    waits = [timing.sync_s(n) for n in (1, 2, 3, 4, 28, 29, 32)]
    assert waits == [0.6e-6, 1.0e-6, 1.0e-6, 1.4e-6, 1.4e-6, 1.8e-6, 1.8e-6]


def test_worked_example_in_sanafe_s_digits() -> None:
    """20-12-4, 30 steps: what SANA-FE 2.2.9 printed, so that it holds where it is not installed."""
    counts = {
        "fired": {"h": 178, "o": 76},
        "synaptic_events": {"h": 1920, "o": 712},
        "synaptic_events_dense": {"h": 1920, "o": 712},
        "neuron_updates": {"h": 360, "o": 120},
        "messages": {"in": 160, "h": 178},
        "hops_ew": {},
        "hops_ns": {"h": 178},
    }
    bill = price(counts, "loihi1_sanafe")
    joules = {t.event: t.energy_J.typical * 1e9 for t in bill.terms}
    assert {k: f"{sum(joules.get(e, 0) for e in v):.4f}" for k, v in TERMS.items()} == {
        "synapse": "93.4360",
        "soma": "52.5462",
        "network": "38.2656",
    }
    assert bill.total_J is not None
    assert f"{bill.total_J.typical * 1e9:.4f}" == "184.2478"
