"""Weights as pass probabilities: currents, chances at both levels, the XOR trained with bias noise, what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from export.network import Input, Linear, Network, Output, Spiking
from export.program import MappingError
from export.sfq_stochastic import to_stochastic_deck, weight_current_A
from hardware.sfq import load_technology
from hardware.sfq_cells import load_cell
from neuro.data.xor import xor
from neuro.neuron import Law, Rate
from sim import engines
from sim.sfq import network, pulse_network
from sim.sfq.deck import loads

LEAK = Rate(1.0 - math.exp(-0.3), decay_input=False)


def one_layer(weights: list[list[float]], threshold: float) -> Network:
    nodes: dict[str, Any] = {
        "input": Input((len(weights[0]),)),
        "fc": Linear(np.array(weights)),
        "lif": Spiking(Law(LEAK, threshold, "subtract")),
        "output": Output(),
    }
    return Network.sequential(nodes, dt_s=50e-12, name="chances")


def test_weight_current_is_the_inverse_of_the_chance() -> None:
    fit = load_cell("STSYN").stochastic
    assert fit is not None
    assert weight_current_A(0.5, fit) == pytest.approx(fit.i50_A)
    for p in (0.02, 0.3, 0.9, 0.98):
        assert fit.probability(weight_current_A(p, fit)) == pytest.approx(p, abs=1e-9)
    one_sigma = weight_current_A(0.841344746, fit) - fit.i50_A
    assert one_sigma == pytest.approx(fit.sigma_A, rel=1e-6)


def test_share_that_passes_is_the_weight() -> None:
    """480 pulses each: within four sigma of a coin at pulse level; the current's fit adds 0.06 at junction level."""
    weights = [[0.5, 0.0], [0.0, 0.9], [1.0, 0.0], [0.0, 0.2]]
    program = to_stochastic_deck(one_layer(weights, 0.2))
    x = np.ones((8, 60, 2))
    for engine, extra in ((pulse_network, 0.0), (network, 0.06)):
        passed = engine.run(program, x).y.mean(axis=(0, 1))
        for got, p in zip(passed, (0.5, 0.9, 1.0, 0.2), strict=True):
            assert abs(got - p) <= 4 * math.sqrt(p * (1 - p) / 480) + extra, engine
    again = pulse_network.run(program, x)
    assert (again.y == pulse_network.run(program, x).y).all()
    assert (again.y != pulse_network.run(program, x, seed=100).y).any()


def test_negative_chances_are_drawn_on_lines_of_anti_pulses() -> None:
    program = to_stochastic_deck(one_layer([[0.9, -0.8]], 2.5))
    circuit = loads(program.deck).flatten()
    shapes = dict(zip(circuit.currents.names, circuit.currents.shapes, strict=True))
    fit = load_cell("STSYN").stochastic
    assert fit is not None
    assert shapes["IL1N0G0"].bias() == pytest.approx(weight_current_A(0.9, fit), abs=0.06e-6)
    assert shapes["IL1N0G1"].bias() == pytest.approx(weight_current_A(0.8, fit), abs=0.06e-6)
    assert " STSYN " in program.deck
    assert " STSYNN " in program.deck
    assert ".temp 4.2" in program.deck
    assert circuit.bias_current_A * 1e6 == pytest.approx(program.usage["bias_uA"][0], abs=1)


def test_trained_xor_is_decided_at_both_levels() -> None:
    pytest.importorskip("torch", reason="without torch nothing is trained: pip install 'spikeport[train]'")
    from export.from_torch import from_torch
    from neuro.models import xor_stochastic

    done = xor_stochastic.train_passing_xor(seed=0)
    assert done.accuracy > 0.95
    net = from_torch(done.module, (2,), dt_s=done.dt_s, name="xor")
    weights = np.concatenate([np.abs(n.weight).ravel() for n in net.nodes.values() if isinstance(n, Linear)])
    assert ((weights >= 0.02) & (weights <= 0.98)).all(), "every synapse is stochastic"
    program = engines.compile_for("sfq-stochastic", net)
    x, labels = np.repeat(xor(31)[0], 8, axis=0), np.repeat(xor(31)[1], 8)
    for engine in (network, pulse_network):
        counts = engine.run(program, x).y.sum(axis=(1, 2))
        assert (xor_stochastic.decide(counts) == labels).all(), engine
        assert counts[labels == 1].min() - counts[labels == 0].max() >= 4, engine


def test_training_knows_the_cell() -> None:
    pytest.importorskip("torch", reason="without torch nothing is trained: pip install 'spikeport[train]'")
    from neuro import passing
    from neuro.models import xor_stochastic

    fit = load_cell("STSYN").stochastic
    assert fit is not None
    assert pytest.approx(0.01 * fit.i50_A / fit.sigma_A, rel=0.01) == passing.NOISE
    soma = load_technology().soma(2)
    assert pytest.approx(soma.tau_s) == xor_stochastic.TAU_S
    assert load_technology().bias_low_A < soma.bias_A(xor_stochastic.THRESHOLD) < load_technology().bias_high_A


def test_bias_noise_by_hand() -> None:
    torch = pytest.importorskip("torch", reason="without torch nothing is trained: pip install 'spikeport[train]'")
    from neuro.passing import NOISE, disturbed, passed

    w = torch.tensor([0.5, -0.5, 2.0], requires_grad=True)
    e = torch.tensor([1.0 / NOISE, 0.0, 0.0])
    mean = disturbed(w, e)
    assert mean.tolist() == pytest.approx([0.841345, -0.5, 0.98], abs=1e-5)
    torch.manual_seed(0)
    drawn = passed(mean, torch.empty(4000, 3))
    assert drawn.detach().mean(0).tolist() == pytest.approx(mean.tolist(), abs=0.03)
    assert set(drawn[:, 1].tolist()) == {-1.0, 0.0}
    torch.autograd.backward(drawn.sum())
    assert w.grad.tolist() == [4000.0, 4000.0, 4000.0]


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ([[0.5, 1.5]], r"fc: weight\[0, 1\] is 1.5, no pass probability"),
        ([[0.5, 0.5], [0.0, 1e-4]], "fc: row 1 passes no pulse"),
    ],
)
def test_what_is_no_probability_is_refused(weights: list[list[float]], says: str) -> None:
    with pytest.raises(MappingError, match=says):
        to_stochastic_deck(one_layer(weights, 1.0))
