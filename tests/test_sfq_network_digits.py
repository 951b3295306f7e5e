"""Digits on SFQ: the committed network at pulse level, some samples at junction level, and how it is trained."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.network import Linear, Network, Spiking
from export.to_deck import to_deck
from hardware.sfq import load_technology
from sim import numpy_engine
from sim.compare import accuracy, compare, decide
from sim.sfq import network, pulse_network

GOLDEN = Path(__file__).parent / "golden" / "sfq"
"""digits.npz: seed 0 of ``spikeport train sfq-digits``."""

torch = pytest.importorskip("torch", reason="without torch the digits are not encoded: pip install 'spikeport[train]'")
pytest.importorskip("sklearn", reason="without scikit-learn there are no digits: pip install 'spikeport[train]'")

from neuro.branches import branched, branches  # noqa: E402
from neuro.data.digits import digits  # noqa: E402
from neuro.methods.counts import CountBPTT, LosesPulses, Soma  # noqa: E402
from neuro.models import sfq_digits  # noqa: E402
from neuro.modules import steps, unroll  # noqa: E402


@pytest.fixture(scope="module")
def trained() -> Network:
    return Network.load(GOLDEN / "digits.npz")


@pytest.fixture(scope="module")
def test_set() -> tuple[Any, Any]:
    data = digits()
    return sfq_digits.encode(data.test_x), data.test_y


def test_laws_are_the_circuits() -> None:
    """The numbers that training takes are those of the technology's somas, on its grid of biases."""
    tech = load_technology()
    grid = tech.numbers["soma_bias_step_A"]
    for fan_in, (tau_s, threshold, floor) in sfq_digits.SOMA.items():
        soma = tech.soma(fan_in)
        bias = round(soma.bias_A(fan_in) / grid) * grid
        assert tau_s == pytest.approx(soma.tau_s, rel=1e-4)
        assert threshold == pytest.approx(soma.threshold(bias), abs=1e-3)
        assert floor == pytest.approx((soma.ic_A + bias) / soma.pulse_A, abs=1e-2)
    assert tech.numbers["step_min_s"] == sfq_digits.DT_S


def test_committed_network_keeps_its_budget(trained: Network) -> None:
    first, second = (n.weight for n in trained.nodes.values() if isinstance(n, Linear))
    assert (np.abs(first).sum(axis=1) == sfq_digits.HIDDEN).all()
    assert (second.sum(axis=1) == sfq_digits.OUT).all()
    assert np.abs(first).max() == 2
    assert second.min() == 0
    program = to_deck(trained)
    assert program.usage["junctions"][0] < 6000
    worst = {x.what.split(":")[0]: x.size for x in program.losses}
    assert all(abs(size) < 0.06 for what, size in worst.items() if what.startswith(("threshold", "reset")))
    assert all(abs(size) < 0.1 for what, size in worst.items() if what.startswith("leak"))


@pytest.mark.parametrize("every", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_pulse_level_decides_the_test_digits(trained: Network, test_set: tuple[Any, Any], every: int) -> None:
    x, labels = (a[::every] for a in test_set)
    program = to_deck(trained)
    run = pulse_network.run(program, x, probes=["hidden.s"])
    assert len(x) == -(-359 // every)
    assert accuracy(run.y, labels) >= 0.9
    ideal = numpy_engine.run(trained, x, probes=["hidden.s"])
    same, of = compare(ideal, run).decisions
    assert same / of > 0.93
    counts = [r.probes["hidden.s"].sum(1).ravel() for r in (ideal, run)]
    assert np.corrcoef(*counts)[0, 1] > 0.98


@pytest.mark.slow
def test_junction_level_decides_as_pulse_level(trained: Network, test_set: tuple[Any, Any]) -> None:
    x, _ = test_set
    program = to_deck(trained)
    some = x[[1, 20, 300]]
    deep, fast = (e.run(program, some, probes=["hidden.s"]) for e in (network, pulse_network))
    assert (decide(deep.y) == decide(fast.y)).all()
    a, b = (r.probes["hidden.s"].sum(1).ravel() for r in (deep, fast))
    assert np.corrcoef(a, b)[0, 1] > 0.98
    for event in ("junction_switchings", "slip_ic_nA", "synaptic_events"):
        ours, theirs = (sum(r.counts[event].values()) for r in (fast, deep))
        assert ours == pytest.approx(theirs, rel=0.02), event
    assert deep.counts["bias_charge_nA_ps"] == fast.counts["bias_charge_nA_ps"]


def test_branches_by_hand() -> None:
    w = torch.tensor([[0.9, -0.1, 0.3, 1.4], [-2.5, 0.2, 0.1, 0.0]])
    assert branches(w, 3).tolist() == [[1.0, 0.0, 0.0, 2.0], [-2.0, 1.0, 0.0, 0.0]]
    assert branches(w, 3, most=1).tolist() == [[1.0, 0.0, 1.0, 1.0], [-1.0, 1.0, 1.0, 0.0]]
    assert branches(w, 2, signed=False).tolist() == [[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]
    for fan_in in (0, 9):
        with pytest.raises(ValueError, match=r"branches: \d branches of at most 2 a weight do not fit .* use 1 to 8"):
            branches(w, fan_in)


def test_gradient_goes_straight_through() -> None:
    torch.manual_seed(0)
    layer = branched(5, 3, 4)
    x = torch.randn(7, 5)
    layer(x).sum().backward()
    grad = layer.parametrizations["weight"].original.grad  # type: ignore[index, union-attr]
    assert torch.allclose(grad, x.sum(0).expand(3, 5))


def test_strain_by_hand() -> None:
    """v <- v/2 - 4, floor 5: h = -4, -6, -7, and (1 + 4) is the strain."""
    from neuro.neuron import Law, Rate
    from neuro.surrogate import ATan

    soma = Soma(Law(Rate(0.5, decay_input=False), 3.0, "subtract"), ATan(), 5.0)
    _, (v, strain) = steps(soma, torch.full((3, 1, 1), -4.0))
    assert v.item() == -7.0
    assert strain.item() == 5.0


def test_lost_pulses_are_lost_in_training_only() -> None:
    torch.manual_seed(0)
    lines, x = LosesPulses(0.25), torch.ones(100, 100)
    assert lines.train()(x).mean().item() == pytest.approx(0.75, abs=0.02)
    assert (lines.eval()(x) == x).all()


def test_frozen_network_is_the_one_in_training() -> None:
    stack = sfq_digits.digits_somas(3).eval()
    frozen = sfq_digits.frozen(stack)
    x = torch.from_numpy(sfq_digits.encode(digits().train_x[:8]))
    with torch.no_grad():
        assert (unroll(stack, x) == unroll(frozen, x)).all()


def test_training_learns(tmp_path: Path) -> None:
    """Two epochs: three times what guessing gives, all rows in budget; what it exports is the module."""
    from export.from_torch import from_torch

    done = sfq_digits.train_digits(seed=1, epochs=2, checkpoint=tmp_path / "c.pt")
    assert done.accuracy > 0.3
    net = from_torch(done.module, (64,), dt_s=done.dt_s, name="sfq-digits")
    assert [type(n) for n in net.nodes.values()][1:5] == [Linear, Spiking, Linear, Spiking]
    assert (np.abs(net.nodes["fc1"].weight).sum(axis=1) == sfq_digits.HIDDEN).all()  # type: ignore[union-attr]
    assert accuracy(numpy_engine.run(net, done.x).y, done.labels) == pytest.approx(done.accuracy, abs=0.01)
    assert not math.isnan(CountBPTT().strain)
