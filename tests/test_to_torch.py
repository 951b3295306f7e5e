"""The stepping torch module of a Network: delays, feedback, resumption, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from export import Edge, Input, Linear, Network, Output, Spiking
from export.from_torch import from_torch
from export.to_torch import run_torch, to_torch
from neuro.modules import Spiking as SpikingModule
from neuro.modules import Stack, unroll
from neuro.neuron import Law, NoLeak, Tau
from neuro.surrogate import ATan

T = 12


def delayed() -> Network:
    """Two neurons, the second feeds the first back two steps later."""
    eye = np.eye(1, dtype=np.float32)
    return Network(
        {
            "in": Input((1,)),
            "w": Linear(eye),
            "a": Spiking(Law(NoLeak())),
            "late": Linear(eye),
            "b": Spiking(Law(NoLeak())),
            "out": Output(),
        },
        [
            Edge("in", "w"),
            Edge("w", "a"),
            Edge("a", "late", 3),
            Edge("w", "late"),
            Edge("late", "b"),
            Edge("b", "a", 2),
            Edge("b", "out"),
        ],
    )


def test_delays_and_feedback_arrive_when_they_should() -> None:
    """One spike at t = 0: a fires at 0, b at 0 by w and at 3 by a; b's spikes re-enter a two steps later."""
    x = np.zeros((1, 9, 1), np.float32)
    x[0, 0] = 1.0
    _, s = run_torch(delayed(), x)
    assert s["a"].ravel().tolist() == [1, 0, 1, 0, 0, 1, 0, 1, 0]
    assert s["b"].ravel().tolist() == [1, 0, 0, 1, 0, 1, 0, 0, 1]


def test_stepping_module_is_resumable_and_has_gradients() -> None:
    torch.manual_seed(0)
    net = Stack(
        nn.Conv2d(2, 4, 3),
        SpikingModule(Law(Tau(2.0), 0.1)),
        nn.Flatten(),
        nn.Linear(144, 5),
        SpikingModule(),
    )
    network = from_torch(net, (2, 8, 8))
    module = to_torch(network, dtype=torch.float64, surrogate=ATan())
    x = (torch.rand(3, T, 2, 8, 8, generator=torch.Generator().manual_seed(5)) < 0.4).float()
    whole = unroll(module, x.double())
    state, out = None, []
    for t in range(T):
        y, state = module(x[:, t], state)
        out.append(y)
    assert torch.equal(torch.stack(out, 1), whole)
    whole.sum().backward()
    grads = [p.grad for p in module.parameters()]
    assert all(g is not None and float(g.abs().max()) > 0 for g in grads)
    assert {p.dtype for p in module.parameters()} == {torch.float64}


def test_run_torch_refuses_another_shape() -> None:
    with pytest.raises(ValueError, match=r"x must be \(samples, T, 1\), got \(2, 3\)"):
        run_torch(delayed(), np.zeros((2, 3), np.float32))


def test_plain_output_stays_real() -> None:
    network = from_torch(Stack(nn.Linear(4, 2)), (4,))
    x = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    y, s = run_torch(network, x)
    node = network.nodes["0"]
    assert isinstance(node, Linear)
    assert node.bias is not None
    np.testing.assert_allclose(y, x @ node.weight.T + node.bias, rtol=1e-5, atol=1e-6)
    assert s == {}
