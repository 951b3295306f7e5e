"""Brian 2 against the law by hand and against the float engine in double precision, spike for spike."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from brian_networks import ALL_LAWS, Grown, double, same_or_rounding
from float_networks import LAWS, Array, Weights, chain, must_fire, residual, same, spikes_in
from torch.nn import functional as F

from export import AvgPool2d, Conv2d, Delay, Edge, Flatten, Input, Integrator, Linear, Network, Output, Scale, Spiking
from export.brian_synapses import convolution
from export.to_brian import to_brian
from neuro.neuron import Charge, Decay, Law, Leaky, NoLeak, Rate, Tau
from sim import brian, engines, numpy_engine
from sim.run import Run

BY_HAND: dict[tuple[Charge, float], dict[tuple[Any, Any], tuple[list[int], list[float]]]] = {
    (NoLeak(), 2.0): {
        ("zero", ">="): ([0, 1, 0, 1, 0], [1.0, 0.0, 0.0, 0.0, -1.0]),
        ("zero", ">"): ([0, 0, 0, 1, 0], [1.0, 2.0, 2.0, 0.0, -1.0]),
        ("subtract", ">="): ([0, 1, 0, 1, 0], [1.0, 0.0, 0.0, 0.0, -1.0]),
        ("subtract", ">"): ([0, 0, 0, 1, 0], [1.0, 2.0, 2.0, 2.0, 1.0]),
    },
    (Tau(2.0), 0.75): {
        ("zero", ">="): ([0, 1, 0, 1, 0], [0.5, 0.0, 0.0, 0.0, -0.5]),
        ("zero", ">"): ([0, 0, 0, 1, 0], [0.5, 0.75, 0.375, 0.0, -0.5]),
        ("subtract", ">="): ([0, 1, 0, 1, 0], [0.5, 0.0, 0.0, 0.25, -0.375]),
        ("subtract", ">"): ([0, 0, 0, 1, 0], [0.5, 0.75, 0.375, 0.4375, -0.28125]),
    },
    (Tau(2.0, rest=0.5), 0.875): {
        ("zero", ">="): ([0, 1, 0, 1, 0], [0.75, 0.0, 0.25, 0.0, -0.25]),
        ("zero", ">"): ([0, 1, 0, 1, 0], [0.75, 0.0, 0.25, 0.0, -0.25]),
        ("subtract", ">="): ([0, 1, 0, 1, 0], [0.75, 0.25, 0.375, 0.5625, 0.03125]),
        ("subtract", ">"): ([0, 1, 0, 1, 0], [0.75, 0.25, 0.375, 0.5625, 0.03125]),
    },
    (Tau(2.0, decay_input=False), 1.5): {
        ("zero", ">="): ([0, 1, 0, 1, 0], [1.0, 0.0, 0.0, 0.0, -1.0]),
        ("zero", ">"): ([0, 0, 0, 1, 0], [1.0, 1.5, 0.75, 0.0, -1.0]),
        ("subtract", ">="): ([0, 1, 0, 1, 0], [1.0, 0.0, 0.0, 0.5, -0.75]),
        ("subtract", ">"): ([0, 0, 0, 1, 0], [1.0, 1.5, 0.75, 0.875, -0.5625]),
    },
    (Rate(0.25), 0.4375): {
        ("zero", ">="): ([0, 1, 0, 1, 0], [0.25, 0.0, 0.0, 0.0, -0.25]),
        ("zero", ">"): ([0, 0, 0, 1, 0], [0.25, 0.4375, 0.328125, 0.0, -0.25]),
        ("subtract", ">="): ([0, 1, 0, 1, 0], [0.25, 0.0, 0.0, 0.0625, -0.203125]),
        ("subtract", ">"): ([0, 0, 0, 1, 0], [0.25, 0.4375, 0.328125, 0.30859375, -0.0185546875]),
    },
    (Rate(0.25, decay_input=False), 1.75): {
        ("zero", ">="): ([0, 1, 0, 1, 0], [1.0, 0.0, 0.0, 0.0, -1.0]),
        ("zero", ">"): ([0, 0, 0, 1, 0], [1.0, 1.75, 1.3125, 0.0, -1.0]),
        ("subtract", ">="): ([0, 1, 0, 1, 0], [1.0, 0.0, 0.0, 0.25, -0.8125]),
        ("subtract", ">"): ([0, 0, 0, 1, 0], [1.0, 1.75, 1.3125, 1.234375, -0.07421875]),
    },
    (Leaky(0.75), 1.75): {
        ("zero", ">="): ([0, 1, 0, 1, 0], [1.0, 0.0, 0.0, 0.0, -1.0]),
        ("zero", ">"): ([0, 0, 0, 1, 0], [1.0, 1.75, 1.3125, 0.0, -1.0]),
        ("subtract", ">="): ([0, 1, 0, 1, 0], [1.0, 0.0, 0.0, 0.25, -0.8125]),
        ("subtract", ">"): ([0, 0, 0, 1, 0], [1.0, 1.75, 1.3125, 1.234375, -0.07421875]),
    },
    (Decay(0.5, 0.75), 2.25): {
        ("zero", ">="): ([0, 1, 0, 1, 0], [1.0, 0.0, 0.75, 0.0, 0.1875]),
        ("zero", ">"): ([0, 0, 1, 1, 0], [1.0, 2.25, 0.0, 0.0, 0.1875]),
        ("subtract", ">="): ([0, 1, 0, 1, 0], [1.0, 0.0, 0.75, 0.6875, 0.703125]),
        ("subtract", ">"): ([0, 0, 1, 1, 0], [1.0, 2.25, 0.1875, 0.265625, 0.38671875]),
    },
}
"""Charge and threshold to reset and comparison to spikes and membranes under the input 1, 1, 0, 2, -1."""


def run(network: Network, x: Array, *, ode: bool = False, **options: Any) -> Run:
    """With the spikes of every node."""
    program = to_brian(network, ode=ode)
    return brian.run(program, x, **{"probes": program.watched} | options)


def truth(network: Network, x: Array) -> Run:
    """The float engine, which computes in the type of the weights."""
    assert numpy_engine.element_type(network) == np.float64
    return numpy_engine.run(network, x, probes=engines.watched(network))


def parallel(laws: dict[str, Law], weight: Array, bias: Array | None = None) -> Network:
    """One layer into a population of each law; the output is the sum of their spikes."""
    nodes: dict[str, Any] = {"in": Input(weight.shape[1:]), "w": Linear(weight, bias)}
    nodes |= {n: Spiking(law) for n, law in laws.items()} | {"out": Output()}
    edges = [Edge("in", "w"), *(Edge("w", n) for n in laws), *(Edge(n, "out") for n in laws)]
    return Network(nodes, edges, name="parallel")


@pytest.mark.parametrize("ode", [False, True])
def test_every_law_by_hand(ode: bool) -> None:
    laws, want = {}, {}
    for (charge, threshold), cases in BY_HAND.items():
        for (reset, fires), series in cases.items():
            name = f"s{len(laws)}"
            laws[name], want[name] = Law(charge, threshold, reset, fires=fires), series
    network = parallel(laws, np.ones((1, 1)))
    x = np.array([1.0, 1.0, 0.0, 2.0, -1.0]).reshape(1, 5, 1)
    found = run(network, x, ode=ode, probes=[f"{n}.{k}" for n in laws for k in "sv"])
    for name, (spikes, membrane) in want.items():
        assert found.probes[f"{name}.s"].ravel().tolist() == spikes, laws[name]
        assert found.probes[f"{name}.v"].ravel().tolist() == membrane, laws[name]
    assert found.y.ravel().tolist() == np.sum([s for s, _ in want.values()], axis=0).tolist()


@pytest.mark.parametrize(("ode", "dt_s"), [(False, 1e-3), (True, 1e-3), (True, 1 / 7)])
def test_every_law_has_the_bits_of_the_float_engine(ode: bool, dt_s: float) -> None:
    """Constants that no double holds exactly, so that another order of operations would show in ``v``."""
    rng = np.random.default_rng(0)
    laws = {n: replace(law, threshold=1.1 * law.threshold) for n, law in ALL_LAWS.items()}
    laws["reset"] = Law(Tau(3.3, decay_input=False, rest=0.07), 0.7, v_reset=-0.3)
    network = replace(parallel(laws, np.round(rng.normal(0.4, 0.8, (6, 5)) * 64) / 64), dt_s=dt_s)
    x = (rng.random((3, 40, 5)) < 0.4).astype(float)
    program = to_brian(network, ode=ode)
    assert sum(g.ode for g in program.model.groups.values()) == ode * sum(
        not isinstance(law.charge, Decay | Leaky) for law in laws.values()
    )
    found = brian.run(program, x, probes=brian.known_probes(network))
    must_fire({n: a for n, a in found.probes.items() if n.endswith(".s")})
    state = numpy_engine.initial(network, len(x))
    for t in range(x.shape[1]):
        values, state = numpy_engine.step(network, state, x[:, t])
        same({n: a[:, t] for n, a in found.probes.items()}, values | state, [n for n in found.probes if n[-2:] != ".s"])
        same({n: a[:, t] for n, a in found.probes.items()}, values | state)


def test_the_ode_is_readable() -> None:
    laws = {"lif": LAWS["tau3_rest"], "jump": LAWS["tau2"], "rate": LAWS["rate"], "if": LAWS["if"]}
    groups = to_brian(parallel(laws, np.ones((1, 1))), ode=True).model.groups
    assert [groups[n].equations.splitlines()[0] for n in laws] == [
        "dv/dt = (x - (v - rest)) / (tau * dt) : 1",
        "dv/dt = (rest - v) / (tau * dt) : 1",
        "dv/dt = (rest - v) * rate / dt : 1",
        "dv/dt = x / dt : 1",
    ]
    assert groups["jump"].update == "v = v + x\nx = bias"


@pytest.mark.parametrize("law", ["tau3_rest", "decay_soft"])
@pytest.mark.parametrize("build", [chain, residual])
def test_exact_sums_give_the_spikes_of_the_float_engine(law: str, build: Any) -> None:
    network = double(build(LAWS[law], seed=3, grid=True))
    x = spikes_in(network)
    want, found = truth(network, x), run(network, x)
    must_fire(want.probes)
    same(want.probes, found.probes)
    assert found.y.dtype == np.int8
    assert (found.y == want.y).all()


def test_float32_weights_become_doubles_unchanged() -> None:
    network = chain(LAWS["tau2"], seed=5, grid=False)
    x = spikes_in(network)
    same(run(network, x).probes, truth(double(network), x).probes)


@pytest.mark.parametrize("grid", [True, False])
@pytest.mark.parametrize("seed", [0, 5, 7])
def test_random_graphs(seed: int, grid: bool) -> None:
    """Delays, loops, skip connections, pooling, layers in a row, graded input and output."""
    network = Grown(seed, grid).network()
    x = spikes_in(network, seed=seed)
    if seed % 2:
        rng = np.random.default_rng(seed)
        x = rng.integers(-2, 3, x.shape) / 4 if grid else rng.normal(size=x.shape)
    want, found = truth(network, x), run(network, x, ode=seed == 5)
    assert 0.02 < np.mean([a.mean() for a in want.probes.values()]) < 0.9
    departures = same_or_rounding(network, x, want.probes, found.probes)
    if grid:
        assert not departures
        assert (found.y == want.y).all()
    elif not departures:
        assert found.y == pytest.approx(want.y, abs=1e-12)


def test_sums_round_in_brians_order() -> None:
    """Bias first, then synapses: (0.1 + 0.2) + 0.3 is one bit above (0.2 + 0.3) + 0.1, and here the threshold."""
    law = Law(NoLeak(), threshold=0.1 + 0.2 + 0.3)
    network = parallel({"s": law}, np.array([[0.2, 0.3]]), np.array([0.1]))
    x = np.ones((1, 1, 2))
    want, found = truth(network, x).probes, run(network, x).probes
    assert (want["s.s"].item(), found["s.s"].item()) == (0, 1)
    assert same_or_rounding(network, x, want, found) == 1


def test_a_flipped_spike_does_not_pass_as_rounding() -> None:
    network = parallel({"s": LAWS["tau2"]}, np.random.default_rng(0).normal(0.5, 1.0, (8, 4)))
    x = np.random.default_rng(1).random((4, 20, 4))
    want, found = truth(network, x).probes, run(network, x).probes
    must_fire(want)
    assert same_or_rounding(network, x, want, found) == 0
    found["s.s"][0, 3, 0] ^= 1
    with pytest.raises(AssertionError, match=r"s at step 3 differs with .*threshold"):
        same_or_rounding(network, x, want, found)


def test_real_digits() -> None:
    pytest.importorskip("sklearn", reason="digits come with scikit-learn")
    from neuro.data.digits import digits

    w, s = Weights(4, grid=False), Spiking(Law(Tau(2.0, decay_input=False), reset="subtract"))
    network = Network.sequential(
        {
            "in": Input((1, 8, 8)),
            "conv1": Conv2d(w(8, 1, 3, 3, gain=1.0), w.bias(8), padding=(1, 1)),
            "s1": s,
            "pool1": AvgPool2d((2, 2), (2, 2)),
            "conv2": Conv2d(w(16, 8, 3, 3, gain=3.0), padding=(1, 1)),
            "s2": s,
            "pool2": AvgPool2d((2, 2), (2, 2)),
            "flat": Flatten(),
            "fc": Linear(w(10, 64, gain=4.0)),
            "s3": s,
            "out": Output(),
        },
        name="digits",
    )
    images = digits().test_x[:24]
    x = np.repeat(images[:, None], 10, axis=1)  # grey values straight into the first layer, each step
    want, found = truth(double(network), x), run(network, x)
    must_fire(want.probes)
    assert want.probes["s1.s"].sum() > 10_000
    same(want.probes, found.probes)
    assert (found.y == want.y).all()


def test_delays_by_hand() -> None:
    """Through a spike's queue, through lines of values, and around a loop; all weights 1, all thresholds 1."""
    one, s = Linear(np.ones((1, 1))), Spiking(Law(NoLeak()))
    x = np.zeros((1, 6, 1))
    x[0, [0, 1, 3]] = 1.0

    def y(edges: list[Edge], **nodes: Any) -> list[float]:
        net = Network({"in": Input((1,))} | nodes | {"out": Output()}, edges)
        found = run(net, x).y
        assert (found == numpy_engine.run(net, x).y).all()
        return found.ravel().tolist()

    into, out = Edge("in", "s"), Edge("w", "out")
    assert y([into, Edge("s", "w"), Edge("s", "w", 2), out], s=s, w=one) == [1, 1, 1, 2, 0, 1]
    assert y([Edge("in", "w"), Edge("in", "w", 2), out], w=one) == [1, 1, 1, 2, 0, 1]
    assert y([into, Edge("s", "w"), Edge("w", "s", 2), Edge("s", "out")], s=s, w=one) == [1, 1, 1, 1, 1, 1]
    d0, d2 = Delay(np.array([0])), Delay(np.array([2]))
    assert y([into, Edge("s", "out"), Edge("s", "d"), Edge("d", "out")], s=s, d=d2) == [1, 1, 1, 2, 0, 1]
    assert y([Edge("in", "d"), Edge("d", "out"), Edge("in", "out")], d=d2) == [1, 1, 1, 2, 0, 1]
    assert y([Edge("in", "d"), Edge("d", "out", 1), Edge("in", "out")], d=d0) == [1, 2, 1, 1, 1, 0]
    assert y([into, Edge("s", "d"), Edge("d", "s"), Edge("s", "out")], s=s, d=d2) == [1, 1, 1, 1, 1, 1]
    double = [Edge("in", "k"), Edge("k", "v"), Edge("v", "out")]
    assert y(double, k=Scale(np.array([2.0])), v=Integrator(Tau(2.0), 0.5)) == [1.5, 2.0, 1.25, 1.875, 1.1875, 0.84375]
    bias = Linear(np.ones((1, 1)), np.full(1, 0.5))
    late = [Edge("in", "w"), Edge("in", "one"), Edge("one", "out"), Edge("w", "out", 2)]
    assert y(late, w=bias, one=one) == [1, 1, 1.5, 2.5, 0.5, 1.5]


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups", "kernel"),
    [
        ((1, 1), (0, 0), (1, 1), 1, (3, 3)),
        ((2, 3), (1, 2), (1, 1), 2, (3, 2)),
        ((1, 2), (2, 0), (2, 3), 4, (1, 3)),
    ],
)
def test_synapses_are_torchs_convolution(stride: Any, padding: Any, dilation: Any, groups: int, kernel: Any) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 4, 11, 13)), rng.normal(size=(8, 4 // groups, *kernel))
    w[rng.random(w.shape) < 0.3] = 0.0
    pre, post, weight = convolution(w, (4, 11, 13), stride, padding, dilation, groups)
    want = F.conv2d(torch.tensor(x), torch.tensor(w), None, stride, padding, dilation, groups).numpy()
    found = np.bincount(post, weight * x.ravel()[pre], minlength=want.size)
    assert found == pytest.approx(want.ravel(), rel=1e-12, abs=1e-12)
    net = Network.sequential(
        {
            "in": Input((4, 11, 13)),
            "c": Conv2d(w, None, stride, padding, dilation, groups),
            "s": Spiking(),
            "y": Output(),
        }
    )
    assert to_brian(net).usage["synapses"][0] == len(pre) == np.count_nonzero(weight)


def test_counts_are_the_operations_of_the_float_engine() -> None:
    """Non-zero inputs times non-zero weights, as NeuroBench counts them; pooling is Brian's own."""
    network = double(chain(LAWS["tau2"]))
    x = spikes_in(network)
    want, found = truth(network, x), run(network, x)
    into = {"conv1": "s1", "fc1": "s3", "fc2": "s4"}
    assert {n: want.counts["acs"][n] for n in into} == {n: found.counts["synaptic_events"][s] for n, s in into.items()}
    assert found.counts["spikes"] == want.counts["spikes"]
    assert found.counts["neuron_updates"] == want.counts["neuron_updates"]
    assert found.counts["synaptic_events"]["pool"] == int(want.probes["s1.s"].sum())


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    network = double(residual(LAWS["tau2"]))
    x = spikes_in(network, samples=5, steps=6)
    whole = run(network, x)
    monkeypatch.setattr("export.to_brian.BATCH_SYNAPSES", 3 * to_brian(network).usage["synapses"][0])
    shares: list[float] = []
    parts = run(network, x, progress=shares.append)
    same(whole.probes, parts.probes)
    assert parts.counts == whole.counts
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_leaves_brian_as_it_was() -> None:
    brian2 = brian.library()
    keys = ("codegen.target", "codegen.loop_invariant_optimisations", "codegen.cpp.extra_compile_args_gcc")
    before = [brian2.prefs[k] for k in keys]
    hook, dt, filters = sys.excepthook, float(brian2.defaultclock.dt), list(warnings.filters)
    network = parallel({"s": LAWS["if"]}, np.ones((1, 1)))
    first = run(network, np.ones((1, 4, 1)))
    assert (run(network, np.ones((1, 4, 1))).y == first.y).all()
    with pytest.raises(ValueError, match=r"probe 's\.u': there are s\.s, s\.v"):
        run(network, np.ones((1, 4, 1)), probes=("s.u",))
    assert [brian2.prefs[k] for k in keys] == before
    assert (sys.excepthook, float(brian2.defaultclock.dt), warnings.filters) == (hook, dt, filters)
    assert first.versions["brian2"]


def test_empty_layers_and_silence() -> None:
    network = Network.sequential(
        {"in": Input((3,)), "w": Linear(np.zeros((2, 3)), np.array([0.0, 1.0])), "s": Spiking(), "out": Output()}
    )
    found = run(network, np.ones((2, 3, 3)))
    assert found.y.sum(0).tolist() == [[0, 2]] * 3
    assert found.counts["synaptic_events"] == {"s": 0}


@pytest.mark.slow
@pytest.mark.skipif("SPIKEPORT_COMPILE" not in os.environ, reason="compiles a dozen C++ modules: SPIKEPORT_COMPILE=1")
def test_compiled_code_has_the_same_bits() -> None:
    network = Network.sequential(
        {
            "in": Input((9,)),
            "w": Linear(np.random.default_rng(0).normal(0.3, 0.5, (7, 9)), np.full(7, 0.03)),
            "s": Spiking(LAWS["tau3_rest"]),
            "out": Output(),
        }
    )
    x = np.random.default_rng(1).normal(size=(2, 30, 9))
    found = run(network, x, target="cython", probes=("s.s", "s.v"))
    must_fire({"s.s": found.probes["s.s"]})
    same(run(network, x, probes=("s.s", "s.v")).probes, found.probes)
