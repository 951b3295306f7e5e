"""snnTorch's neurons: read where one law is the other, spike for spike; else the refusal says what to change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from export import MappingError, Spiking
from export.from_torch import from_torch
from export.to_loihi import compile_loihi
from export.to_torch import run_torch
from neuro.neuron import Decay, Law, Leaky
from sim import engines

snn = pytest.importorskip("snntorch", reason="snnTorch is not installed: its neurons are not compared")

T = 40


def leaky(**options: Any) -> nn.Module:
    return snn.Leaky(**{"beta": 0.5, "init_hidden": True, "reset_mechanism": "zero"} | options)


def synaptic(**options: Any) -> nn.Module:
    wanted = {"alpha": 0.5, "beta": 0.75, "init_hidden": True, "reset_mechanism": "zero", "reset_delay": False}
    return snn.Synaptic(**wanted | options)


def theirs(net: nn.Sequential, x: torch.Tensor) -> Any:
    """snnTorch's own loop, and the spikes of its last neuron."""
    for m in net:
        if hasattr(m, "reset_mem"):
            m.reset_mem()
    with torch.no_grad():
        return torch.stack([net(x[:, t]) for t in range(T)], 1).numpy()


@pytest.mark.parametrize(
    "make",
    [
        leaky,
        lambda: leaky(beta=0.9, threshold=1.7, reset_delay=False),
        lambda: leaky(beta=torch.tensor([0.8]), learn_beta=True),
        lambda: synaptic(threshold=3.0),
        lambda: synaptic(alpha=0.9, beta=0.8, threshold=20.0),
    ],
)
def test_reset_to_zero_is_the_law_spike_for_spike(make: Any) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 20), make(), nn.Linear(20, 6), make())
    x = (torch.rand(8, T, 12, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    with torch.no_grad():
        for k in (0, 2):
            net[k].weight.add_(0.1)
    want = theirs(net, x)
    assert 0.02 < want.mean() < 0.9
    network = from_torch(net, (12,))
    np.testing.assert_array_equal(run_torch(network, x.numpy())[0], want)


def test_weights_on_the_grid_are_exact_on_the_chip() -> None:
    net = nn.Sequential(nn.Linear(12, 20), leaky(), nn.Linear(20, 6), leaky())
    g = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randint(-24, 40, p.shape, generator=g) / 64)
    x = (torch.rand(8, T, 12, generator=g) < 0.4).float()
    program = compile_loihi(from_torch(net, (12,)))
    assert program.losses == ()
    want = theirs(net, x)
    assert 0.02 < want.mean() < 0.9
    np.testing.assert_array_equal(engines.run(program, x.numpy(), "loihi").y, want)


def test_the_law_is_read_from_the_module() -> None:
    def law(m: nn.Module) -> Law:
        return next(n.law for n in from_torch(m, (3,)).nodes.values() if isinstance(n, Spiking))

    assert law(leaky(beta=0.25, threshold=2.0)) == Law(Leaky(0.25), 2.0, fires=">")
    assert law(leaky(beta=1.5)).charge == Leaky(1.0)  # their clamp
    assert law(synaptic()) == Law(Decay(0.5, 0.75), fires=">")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: snn.Leaky(0.5, init_hidden=True),
            r"^0: Leaky has reset_mechanism 'subtract'.*'zero', or export",
        ),
        (lambda: leaky(init_hidden=False), r"^0: Leaky hands its state through forward; .*init_hidden=True"),
        (lambda: leaky(beta=torch.rand(3)), r"^0: Leaky has 3 values of beta.*layer of its own"),
        (lambda: leaky(threshold=torch.rand(3)), r"^0: Leaky has 3 values of threshold"),
        (lambda: leaky(graded_spikes_factor=2.0), r"^0: Leaky has inhibition, state_quant or graded"),
        (lambda: synaptic(reset_delay=True), r"^0: Synaptic resets a step late.*reset_delay=False"),
        (lambda: snn.Lapicque(0.5), r"^0: Lapicque has no exact counterpart.*NIR"),
        (lambda: snn.Alpha(0.9, 0.8), r"^0: Alpha has no exact counterpart.*export_nir"),
        (lambda: snn.RLeaky(0.5, linear_features=3), r"^0: RLeaky has no exact counterpart.*export_nir"),
        (lambda: snn.RSynaptic(0.5, 0.5, linear_features=3), r"^0: RSynaptic has no exact counterpart.*export_nir"),
        (lambda: snn.SLSTM(3, 3), r"^0: SLSTM has no exact counterpart.*export_nir"),
    ],
)
def test_other_laws_are_refused_with_the_way_out(make: Any, says: str) -> None:
    with pytest.raises(MappingError, match=says):
        from_torch(nn.Sequential(make()), (3,))
