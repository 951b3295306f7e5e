"""from_nir: closed forms and literal series for the laws, and every primitive.

The single LIF and its input are those of the NIR paper (Pedersen et al. 2024, Nat. Commun. 15:8122, section on the LIF
neuron): tau 2.5 ms, threshold 0.1, dt 0.1 ms; what all its exact and Euler simulators record is spikes at steps 460,
510, 710 and 760.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import nir
import numpy as np
import pytest
import torch
from nir_graphs import DT, EULER, cuba, full, graph, lif, outputs
from torch.nn import functional

from export import Conv2d, Edge, Linear, Scale, Spiking
from export.from_nir import from_nir
from export.to_loihi import compile_loihi
from neuro.neuron import Decay, Law, NoLeak, Rate, Tau
from sim import numpy_engine
from sim.loihi import engine

RNG = np.random.default_rng(5)

PAPER = [6, 22, 27, 31, 32, 35, 37, 40, 41, *range(43, 54), *range(67, 79), 84, 85]
"""Steps of 1 ms in which the paper's input spikes, for one step of 0.1 ms each."""


def paper_lif(**changes: Any) -> nir.NIRGraph:
    p = {"tau": 2.5e-3, "r": 1.0, "v_leak": 0.0, "v_threshold": 0.1, "v_reset": 0.0} | changes
    neuron = nir.LIF(**{k: np.full(1, v, np.float32) for k, v in p.items()})
    return graph(nir.Affine(np.ones((1, 1), np.float32), np.zeros(1, np.float32)), neuron, shape=(1,))


def paper_input() -> Any:
    x = np.zeros((1, 1000, 1))
    x[0, [10 * k for k in PAPER]] = 1.0
    return x


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("discretization", ["euler", "exact"])
def test_single_lif_of_the_paper(discretization: Any, reset: Any) -> None:
    net = from_nir(paper_lif(), dt_s=DT, reset=reset, fires=">", discretization=discretization)
    assert np.flatnonzero(numpy_engine.run(net, paper_input()).y).tolist() == [460, 510, 710, 760]
    if reset == "hard":
        chip = engine.run(compile_loihi(net), paper_input())
        assert np.flatnonzero(chip.y).tolist() == [460, 510, 710, 760]


def test_single_lif_decays_as_its_closed_form() -> None:
    """After an input in step 60: Euler (1 - dt/tau)^k dt/tau; exact e^(-k dt/tau) (1 - e^(-dt/tau))."""
    for kind, keep in (("euler", 1 - 0.04), ("exact", math.exp(-0.04))):
        net = from_nir(paper_lif(), dt_s=DT, reset="hard", fires=">", discretization=kind)  # type: ignore[arg-type]
        net = replace(net, nodes={n: Linear(np.ones((1, 1))) if n == "n0" else node for n, node in net.nodes.items()})
        state = numpy_engine.initial(net, 1)
        for t in range(100):
            _, state = numpy_engine.step(net, state, paper_input()[:, t])
            want = 0.0 if t < 60 else (1 - keep) * keep ** (t - 60)
            assert state["n1.v"].item() == pytest.approx(want, abs=1e-12), (kind, t)


def test_float32_seconds_give_round_steps() -> None:
    node = from_nir(paper_lif(), **EULER).nodes["n1"]
    assert isinstance(node, Spiking)
    assert node.law == Law(Tau(25.0), threshold=float(np.float32(0.1)), fires=">")


def test_leak_above_threshold_fires_at_the_period_of_the_closed_form() -> None:
    """No input; v_leak 1.2, threshold 1: from 0 up in tau ln(1.2 / 0.2) = 17.92 ms, so every 180 steps of 0.1 ms."""
    node = nir.LIF(full(0.01, 1), full(1.0, 1), full(1.2, 1), full(1.0, 1), full(0.0, 1))
    net = from_nir(graph(node, shape=(1,)), **EULER | {"discretization": "exact"})
    fired = np.flatnonzero(outputs(net, np.zeros((1000, 1))))
    assert fired.tolist() == [179, 359, 539, 719, 899]
    assert math.ceil(0.01 * math.log(1.2 / 0.2) / DT) == 180


def test_literal_laws() -> None:
    def law(node: Any, **told: Any) -> Law:
        return next(n.law for _, n in from_nir(graph(node), **EULER | told) if isinstance(n, Spiking))

    assert law(nir.IF(full(1e4), full(1.0), full(0.0))) == Law(NoLeak(), fires=">")
    assert law(lif()) == Law(Tau(10.0, decay_input=False), fires=">")
    assert law(lif(r=full(1.0)), fires=">=") == Law(Tau(10.0))
    assert law(lif(v_leak=full(-0.5), v_reset=full(-0.5))) == Law(Tau(10.0, False, -0.5), v_reset=-0.5, fires=">")
    exact = law(lif(r=full(1.0)), discretization="exact")
    assert exact.charge == Rate(-math.expm1(-0.1))
    assert law(cuba()) == Law(Decay(0.5, 0.75), fires=">")
    assert law(cuba(), reset="soft").reset == "subtract"
    assert law(cuba(v_leak=full(-1.0), v_reset=full(-1.0))) == Law(Decay(0.5, 0.75), threshold=2.0, fires=">")
    assert law(nir.Threshold(full(0.5))) == Law(Rate(1.0, decay_input=False), 0.5, fires=">")


def test_threshold_remembers_nothing() -> None:
    net = from_nir(graph(nir.Threshold(full(0.5))), dt_s=DT, fires=">")
    x = [[0.4, 0.5, 0.6], [0.9, 0.1, 0.6], [0.4, 0.9, 0.5]]
    assert outputs(net, x).tolist() == [[0, 0, 1], [1, 0, 1], [0, 1, 0]]


def test_integrators_series() -> None:
    """I, LI and CubaLI of an impulse, by NIR's equations stepped with Euler."""
    x = np.zeros((4, 1))
    x[0] = 1.0
    one = {"dt_s": DT, "discretization": "euler"}
    for node, want in (
        (nir.I(full(2e4, 1)), [2.0, 2.0, 2.0, 2.0]),
        (nir.LI(full(2e-4, 1), full(2.0, 1), full(0.0, 1)), [1.0, 0.5, 0.25, 0.125]),
        (nir.LI(full(2e-4, 1), full(1.0, 1), full(3.0, 1)), [3.5, 3.25, 3.125, 3.0625]),
        (nir.CubaLI(full(2e-4, 1), full(2e-4, 1), full(2.0, 1), full(0.0, 1), full(2.0, 1)), [1.0, 1.0, 0.75, 0.5]),
        (nir.CubaLI(full(2e-4, 1), full(2e-4, 1), full(2.0, 1), full(7.0, 1), full(2.0, 1)), [8.0, 8.0, 7.75, 7.5]),
    ):
        net = from_nir(graph(node, shape=(1,)), **one)  # type: ignore[arg-type]
        assert outputs(net, x).ravel().tolist() == want


def stepped(kind: str, p: dict[str, Any], x: Any, discretization: str) -> Any:
    """NIR's equations in plain numpy, per-neuron parameters as they stand; the truth for every folding."""
    v, i, out = np.broadcast_to(p["v_reset"], x.shape[1:]).copy(), np.zeros(x.shape[1:]), []
    share = {k: -np.expm1(-DT / p[k]) if discretization == "exact" else DT / p[k] for k in p if k.startswith("tau")}
    for now in x:
        if kind == "IF":
            v = v + p["r"] * DT * now
        elif kind == "LIF":
            v = v + share["tau"] * (p["v_leak"] - v + p["r"] * now)
        else:
            i = i - share["tau_syn"] * i + share["tau_syn"] * p["w_in"] * now
            v = v + share["tau_mem"] * (p["v_leak"] - v + p["r"] * i)
        s = v > p["v_threshold"]
        v = np.where(s, p["v_reset"], v)
        out.append(s)
    return np.stack(out).astype(float)


def spread(low: float, high: float, n: int = 12) -> Any:
    return RNG.uniform(low, high, n)


@pytest.mark.parametrize("discretization", ["euler", "exact"])
@pytest.mark.parametrize("weights", [True, False], ids=["into weights", "scale node"])
@pytest.mark.parametrize("kind", ["IF", "LIF", "CubaLIF"])
def test_parameters_that_differ_fold_exactly(kind: str, weights: bool, discretization: str) -> None:
    n = 12
    leak = spread(-0.3, 0.2) if kind != "IF" else np.zeros(n)
    p: dict[str, Any] = {"r": spread(0.5, 1.5), "v_threshold": leak + spread(0.3, 1.2), "v_reset": leak}
    if kind == "LIF":
        p |= {"tau": full(4e-4, n), "v_leak": leak}
    elif kind == "CubaLIF":
        p |= {"tau_syn": full(2e-4, n), "tau_mem": full(5e-4, n), "v_leak": leak, "w_in": spread(0.7, 2.0)}
    else:
        p["r"] = p["r"] / DT * 0.2
    w, b = RNG.normal(0.3, 0.8, (n, n)), RNG.normal(0.1, 0.1, n)
    before = [nir.Affine(w, b)] if weights else []
    net = from_nir(graph(*before, getattr(nir, kind)(**p), shape=(n,)), **EULER | {"discretization": discretization})
    assert ("n0.gain" in net.nodes) is not weights
    x = (RNG.random((200, n)) < 0.4) * (1.0 if weights else 2.0)
    want = stepped(kind, p, x @ w.T + b if weights else x, discretization)
    got = outputs(net, x)
    assert 0.01 < want.mean() < 0.9
    np.testing.assert_array_equal(got, want)
    said = " ".join(x.what for x in net.losses)
    assert "its input gain" in said
    assert "thresholds that differ made 1" in said


@pytest.mark.parametrize("kind", ["LIF", "CubaLIF"])
def test_time_constants_that_differ_split_the_population(kind: str) -> None:
    """Three values among twelve neurons, thresholds that differ too, and a loop around them."""
    n, rng = 12, np.random.default_rng(9)
    p = {"r": rng.uniform(0.8, 1.2, n), "v_threshold": rng.uniform(0.3, 0.9, n), "v_reset": np.zeros(n)}
    p |= {"v_leak": np.zeros(n)}
    taus = np.array([2e-4, 5e-4, 9e-4])[rng.integers(0, 3, n)]
    p |= {"tau": taus} if kind == "LIF" else {"tau_syn": full(2e-4, n), "tau_mem": taus, "w_in": full(1.0, n)}
    w, back = rng.normal(0.3, 0.8, (n, n)), rng.normal(-0.2, 0.3, (n, n))
    nodes = {
        "in": nir.Input(np.array([n])), "w": nir.Linear(w), "s": getattr(nir, kind)(**p), "back": nir.Linear(back),
        "out": nir.Output(np.array([n])),
    }  # fmt: skip
    edges = [("in", "w"), ("w", "s"), ("s", "back"), ("back", "s"), ("s", "out")]
    net = from_nir(nir.NIRGraph(nodes, edges, type_check=False), **EULER)
    assert [n for n in net.nodes if isinstance(net.nodes[n], Spiking)] == ["s.0", "s.1", "s.2"]
    assert "split into populations of one each; populations" in " ".join(x.what for x in net.losses)
    x = (rng.random((100, n)) < 0.4) * 2.0
    v, i, s, want = np.zeros(n), np.zeros(n), np.zeros(n), []
    for now in x:
        drive = now @ w.T + s @ back.T
        i = i - DT / 2e-4 * i + DT / 2e-4 * drive if kind == "CubaLIF" else drive
        v = v + DT / taus * (p["r"] * i - v)
        s = (v > p["v_threshold"]).astype(float)
        v = v * (1 - s)
        want.append(s)
    assert 0.02 < np.mean(want) < 0.9
    np.testing.assert_array_equal(outputs(net, x), want)


def test_residual_gain_goes_into_the_weights_as_norse_needs_it() -> None:
    """r = 1, w_in = 1: k = R dt/tau_mem * w_in dt/tau_syn = 1/4 * 1/2."""
    w = RNG.normal(size=(3, 3))
    net = from_nir(graph(nir.Linear(w), cuba(r=full(1.0), w_in=full(1.0))), **EULER)
    node = net.nodes["n0"]
    assert isinstance(node, Linear)
    np.testing.assert_allclose(node.weight, w / 8, rtol=1e-15)
    assert [x.what for x in net.losses] == ["its input gain 0.125 multiplied into the weights of n0, rounded once"]


def test_gain_before_shared_or_missing_weights_becomes_a_node() -> None:
    nodes = {
        "in": nir.Input(np.array([3])), "w": nir.Linear(np.eye(3)), "a": lif(r=full(5.0)), "b": lif(),
        "w2": nir.Linear(np.eye(3)), "out": nir.Output(np.array([3])),
    }  # fmt: skip
    edges = [("in", "w"), ("w", "a"), ("w", "b"), ("a", "w2"), ("w2", "out"), ("b", "out")]
    net = from_nir(nir.NIRGraph(nodes, edges, type_check=False), **EULER)
    assert Edge("w", "a.gain") in net.edges
    assert Edge("a.gain", "a") in net.edges
    scale = net.nodes["a.gain"]
    assert isinstance(scale, Scale)
    assert scale.scale.tolist() == [0.5] * 3


def test_channel_gain_goes_into_a_kernel() -> None:
    threshold = np.broadcast_to(np.array([0.5, 2.0])[:, None, None], (2, 4, 4)).copy()
    zero = np.zeros((2, 4, 4))
    kernel = RNG.normal(size=(2, 1, 3, 3))
    conv = nir.Conv2d((4, 4), kernel, 1, 1, 1, 1, np.zeros(2))
    g = graph(conv, nir.IF(zero + 1 / DT, threshold, zero), shape=(1, 4, 4))
    g.nodes["out"] = nir.Output(np.array([2, 4, 4]))
    net = from_nir(g, **EULER)
    node = net.nodes["n0"]
    assert isinstance(node, Conv2d)
    np.testing.assert_allclose(node.weight[:, 0], kernel[:, 0] / np.array([0.5, 2.0])[:, None, None], rtol=1e-15)
    assert node.bias is None  # exporters write a bias of zeros


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")  # torch copies its input
@pytest.mark.parametrize(
    ("padding", "stride", "dilation", "kernel"),
    [("same", 1, 1, 3), ("same", 1, 1, 4), ("same", 1, 3, 2), ("valid", 2, 1, 3), (2, 1, 2, 3)],
)
def test_convolutions_are_torchs(padding: Any, stride: int, dilation: int, kernel: int) -> None:
    w1, w2, b = RNG.normal(size=(4, 2, kernel)), RNG.normal(size=(4, 1, kernel, kernel)), RNG.normal(size=4)
    x1, x2 = RNG.normal(size=(1, 3, 2, 15)), RNG.normal(size=(1, 3, 2, 13, 12))
    one = graph(nir.Conv1d(None, w1, stride, padding, dilation, 1, b), shape=(2, 15))
    two = graph(nir.Conv2d(None, w2, stride, padding, dilation, 2, b), shape=(2, 13, 12))
    for g, x, f, w, groups in ((one, x1, functional.conv1d, w1, 1), (two, x2, functional.conv2d, w2, 2)):
        want = f(torch.tensor(x[0]), torch.tensor(w), torch.tensor(b), stride, padding, dilation, groups)
        g.nodes["out"] = nir.Output(np.array(want.shape[1:]))
        got = numpy_engine.run(from_nir(g, dt_s=DT), x).y
        np.testing.assert_allclose(got[0], want.numpy(), atol=1e-12)


def test_pooling_flatten_scale_and_delay() -> None:
    x = RNG.normal(size=(1, 4, 2, 6, 4))
    pool = {"kernel_size": np.array([2, 2]), "stride": np.array([2, 2]), "padding": np.array([0, 0])}
    nodes = [
        nir.SumPool2d(**pool),
        nir.Flatten(np.array([2, 3, 2]), start_dim=1, end_dim=-1),
        nir.Scale(np.arange(12.0).reshape(2, 6)),
        nir.Flatten(np.array([2, 6]), start_dim=0),
        nir.Delay(np.arange(12) % 3 * DT),
    ]
    g = graph(*nodes, shape=(2, 6, 4))
    g.nodes["out"] = nir.Output(np.array([12]))
    net = from_nir(g, dt_s=DT)
    assert net.shapes()["n1"] == (2, 6)
    sums = 4 * functional.avg_pool2d(torch.tensor(x[0]), 2).numpy().reshape(4, 12) * np.arange(12)
    want = np.stack([[sums[t - k % 3, k] if t >= k % 3 else 0 for k in range(12)] for t in range(4)])
    np.testing.assert_allclose(numpy_engine.run(net, x).y[0], want, atol=1e-12)
