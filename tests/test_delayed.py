"""Delayed synapses and windows: the node, every engine against conv1d, impulses, and the chip with lava-nc."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from delayed_networks import CHIP, FLOAT, chain, double, layer, probes, recurrent, same, spikes_in, truth
from lava_programs import ready

from export import DelayedLinear, Edge, Input, Linear, MappingError, Network, NetworkError, Output, Spiking, Window
from export.fit import fit
from export.from_torch import from_torch
from export.to_loihi import compile_loihi
from export.to_onnx import OnnxProgram, to_onnx_scan, to_onnx_step
from export.to_torch import to_torch
from neuro.methods.qat import prepare
from neuro.neuron import Law, Leaky, NoLeak
from neuro.surrogate import ATan
from sim import neurobench, numpy_engine
from sim.edge import counts, native
from sim.lava.client import Client
from sim.loihi import engine

RNG = np.random.default_rng(4)


@pytest.mark.parametrize("exact", [True, False], ids=["exact", "natural"])
@pytest.mark.parametrize("name", FLOAT | CHIP)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_engine_gives_the_spikes_of_conv1d(seed: int, name: str, exact: bool) -> None:
    net = chain(seed, exact=exact)
    x = spikes_in(net)
    same((FLOAT | CHIP)[name](net, x), truth(net, x), net)


@pytest.mark.parametrize("name", FLOAT)
def test_potentials_behind_delays(name: str) -> None:
    """A readout that integrates: sums on the grid of 1/64, decayed by halves, so exact in float32 for 16 steps."""
    net = chain(1, exact=True, readout=True)
    x = spikes_in(net, steps=16)
    same(FLOAT[name](net, x), truth(net, x), net)


def test_windows_change_what_follows() -> None:
    """The cut matters, and before the first end nothing differs."""
    x = spikes_in(chain(0, exact=True))
    exact, natural = (truth(chain(0, exact=e), x)["s3"] for e in (True, False))
    np.testing.assert_array_equal(exact[:, :12], natural[:, :12])
    assert (exact[:, 12:] != natural[:, 12:]).mean() > 0.05
    silent = x.copy()
    silent[:, 12:] = 0  # what the host does not send needs no first window
    assert (truth(chain(0, exact=False), silent)["s3"] != exact).any()


@pytest.mark.parametrize("name", [n for n in FLOAT | CHIP if n != "numpy"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_loops_of_delayed_synapses(seed: int, name: str) -> None:
    net = recurrent(seed)
    x = spikes_in(net, steps=25)
    want = FLOAT["numpy"](net, x)
    same((FLOAT | CHIP)[name](net, x), {n[:-2]: a for n, a in want.probes.items()} | {"out": want.y}, net)


def one(node: Any, features: int, *more: Any) -> Network:
    nodes = {"in": Input((features,)), "d": node} | {f"n{k}": m for k, m in enumerate(more)} | {"out": Output()}
    return Network.sequential(nodes)


@pytest.mark.parametrize("name", FLOAT)
def test_an_impulse_comes_after_its_delay_with_its_weight(name: str) -> None:
    """x_i = 1 at t0 alone: y_o = w[o, i] at t0 + d[o, i] alone."""
    node = DelayedLinear(RNG.permutation(24).reshape(4, 6).astype(np.float32) + 1, RNG.integers(0, 8, (4, 6)))
    x = np.zeros((6, 15, 6), np.float32)
    x[np.arange(6), np.arange(6), np.arange(6)] = 1.0  # sample i: input i at step i
    want = np.zeros((6, 15, 4))
    for o, i in np.ndindex(4, 6):
        want[i, i + node.delays[o, i], o] = node.weight[o, i]
    np.testing.assert_array_equal(FLOAT[name](one(node, 6), x).y, want)


@pytest.mark.parametrize("before", [True, False], ids=["behind neurons", "at the input"])
def test_an_impulse_on_the_chip(before: bool) -> None:
    """The current of the population, which forgets at once, and its spikes, in network steps."""
    weight = RNG.permutation(24).reshape(4, 6) * 4.0 + 8
    node = DelayedLinear(weight, RNG.integers(0, 8, (4, 6)))
    relay = {"w": Linear(np.eye(6)), "r": Spiking(Law(Leaky(0.0), 0.5, fires=">"))} if before else {}
    nodes = {"in": Input((6,)), **relay, "d": node, "s": Spiking(Law(Leaky(0.0), 2.0, fires=">")), "out": Output()}
    program = compile_loihi(Network.sequential(nodes))
    x = np.zeros((6, 15, 6))
    x[np.arange(6), np.arange(6), np.arange(6)] = 1.0
    want = np.zeros((6, 15, 4))
    for o, i in np.ndindex(4, 6):
        want[i, i + node.delays[o, i], o] = weight[o, i]
    done = engine.run(program, x, probes=("s.u",))
    np.testing.assert_array_equal(done.y, want != 0)
    np.testing.assert_array_equal(done.probes["s.u"] / (64 * program.scale["s"]), want)


@pytest.mark.lava
def test_lava_gives_the_same_spikes() -> None:
    """lava-nc's DelayDense, and windows as its own LIF populations."""
    ready()
    with Client() as client:
        for net in (chain(0, exact=True), chain(1, exact=False), recurrent(2)):
            x = spikes_in(net, samples=1)
            program = compile_loihi(net)
            assert any(e.delays is not None for e in program.edges)
            client.load(program)
            found = client.run(x, probes(net))
            mine = engine.run(program, x, probes=probes(net))
            for p in probes(net):
                assert mine.probes[p].any()
                np.testing.assert_array_equal(found.found[p], mine.probes[p])
            np.testing.assert_array_equal(found.y, mine.y)


@pytest.mark.parametrize("stop", [1, 2, 700, 60000, 131071])
def test_the_clock_of_a_window_is_exact(stop: int) -> None:
    """Spikes at both sides of the end, over the whole range of the chip's clock."""
    nodes = {"in": Input((2,)), "w": Window(stop), "f": Linear(np.eye(2)), "s": Spiking(Law(NoLeak(), 0.5, fires=">"))}
    program = compile_loihi(Network.sequential(nodes | {"out": Output()}))
    x = np.zeros((1, stop + 4, 2))
    x[0, max(0, stop - 3) :] = 1.0
    y = engine.run(program, x).y[0]
    np.testing.assert_array_equal(y[:stop], x[0, :stop])
    assert not y[stop:].any()


def test_calibration_and_fit_know_windows() -> None:
    net = chain(0, exact=True)
    x = spikes_in(net)
    program = compile_loihi(net, calibration=x)
    want = truth(net, x)
    done = engine.run(program, x, probes=probes(net))
    for n in net.spiking():
        np.testing.assert_array_equal(done.probes[f"{n}.s"], want[n])
    assert fit(net).usage == compile_loihi(net).usage
    bits = fit(net).usage["synapse_words_per_core"][0]
    plain = {n: Linear(k.weight, k.bias) if isinstance(k, DelayedLinear) else k for n, k in net.nodes.items()}
    assert bits > fit(Network(plain, net.edges)).usage["synapse_words_per_core"][0]  # a delay is stored by synapse


def test_training_on_the_chips_grid_takes_layers_of_delays() -> None:
    """Weights of any size, put on the grid, run on the chip as in torch: nothing lost but the relays of windows."""
    rng = np.random.default_rng(5)
    net = chain(1, exact=True)
    wild = {n: replace(k, weight=k.weight + rng.normal(0, 0.01, k.weight.shape).astype(np.float32))
            for n, k in net.nodes.items() if isinstance(k, DelayedLinear)}  # fmt: skip
    module = prepare(to_torch(net.with_nodes(**wild), surrogate=ATan()))
    x = spikes_in(net)
    on_grid = from_torch(module, (10,))
    program = compile_loihi(on_grid)
    assert [k for k in program.losses if "window" not in k.what] == []
    done = engine.run(program, x, probes=probes(net))
    same(done, truth(on_grid, x), on_grid)


def test_trained_weights_come_back() -> None:
    """Gradients reach the weights through the line: those of the closed form of one layer."""
    net = one(layer(RNG, 3, 4, 5), 4)
    module = to_torch(net)
    x = torch.from_numpy(spikes_in(net, steps=9))
    state, total = None, torch.zeros(())
    for t in range(9):
        y, state = module(x[:, t], state)
        total = total + y.sum()
    total.backward()
    node = net.nodes["d"]
    assert isinstance(node, DelayedLinear)
    want = np.array([[x[:, : 9 - d, i].sum() for i, d in enumerate(row)] for row in node.delays])
    params = dict(module.named_parameters())
    grads = {n.rsplit(".", 1)[1]: p.grad for n, p in params.items()}
    np.testing.assert_array_equal(grads["weight"].numpy(), want)
    np.testing.assert_array_equal(grads["bias"].numpy(), np.full(3, 27.0))
    with torch.no_grad():
        for p in params.values():
            p.add_(0.5)
    trained = module.trained().nodes["d"]
    assert isinstance(trained, DelayedLinear)
    np.testing.assert_array_equal(trained.weight, node.weight + np.float32(0.5))
    np.testing.assert_array_equal(trained.delays, node.delays)


def test_onnx_is_small_and_goes_on_where_it_stopped() -> None:
    """No 25-fold kernel: weights and what picks their inputs; a state goes from one engine to the other."""
    rng = np.random.default_rng(0)
    net = one(layer(rng, 64, 80, 24), 80, Spiking(LAW), Window(7))
    program = to_onnx_step(net)
    assert len(program.model) < 4 * 64 * 80 * 5
    assert OnnxProgram.from_bytes(to_onnx_scan(net).model).network.hash() == net.hash()
    x = spikes_in(net, steps=14)
    want = numpy_engine.run(net, x)
    state = numpy_engine.initial(net, len(x))
    for t in range(5):
        _, state = numpy_engine.step(net, state, x[:, t])
    session = native.Session(program)
    session.reset(state)
    np.testing.assert_array_equal(np.stack([session.step(x[:, t]) for t in range(5, 14)], 1), want.y[:, 5:])
    assert set(session.state) == set(state) == {"d.d", "n0.v", "n1.t"}


LAW = Law(Leaky(0.75), fires=">")


def test_counted_work() -> None:
    net = chain(0, exact=True)
    work, x = counts.work(net), spikes_in(net)
    assert work["macs"] == {"d1": 120, "d2": 96, "d3": 40}
    node = net.nodes["d1"]
    assert isinstance(node, DelayedLinear)
    assert work["weight_bytes"]["d1"] == node.weight.nbytes + node.delays.nbytes + 12 * 4
    assert work["activation_bytes"]["d1"] == 4 * (10 + 12 + 2 * 6 * 10 + 120)
    assert counts.fanout(net, "d1").tolist() == np.count_nonzero(node.weight, axis=0).tolist()
    run = numpy_engine.run(net, x, probes=probes(net))
    assert run.counts["acs"]["d1"] == int(truth(net, x)["end0"].sum((0, 1)) @ counts.fanout(net, "d1"))
    assert FLOAT["onnx step"](net, x).counts == run.counts
    ops = neurobench.synaptic_operations(net, x, run)
    assert ops["Effective_ACs"] == pytest.approx(sum(run.counts["acs"].values()) / len(x))
    # Brian and the chip count what arrives: in a run that is long enough all of it
    quiet = np.concatenate([x, np.zeros((3, 12, 10), np.float32)], 1)
    own = FLOAT["numpy"](net, quiet).counts["acs"]
    theirs = FLOAT["brian"](double(net), quiet).counts["synaptic_events"]
    assert own["d1"] == theirs["s1"]


def test_a_network_with_delays_saves_prints_and_checks(tmp_path: Path) -> None:
    net = chain(0, exact=True)
    assert Network.load(net.save(tmp_path / "n.npz")).hash() == net.hash()
    assert "delayed_linear (12, 10) delays 0 to 6 + bias" in str(net)
    assert "Window(stop=12)" in str(net)
    early = DelayedLinear(np.eye(3), np.full((3, 3), 2))
    loop = {"in": Input((3,)), "s": Spiking(), "d": early, "out": Output()}
    edges = [Edge("in", "s"), Edge("s", "d"), Edge("d", "s"), Edge("s", "out")]
    Network(loop, edges).check()
    with pytest.raises(NetworkError, match="cycle without delay through d, out, s"):
        Network(loop | {"d": DelayedLinear(np.eye(3), np.eye(3, dtype=int))}, edges).check()


@pytest.mark.parametrize(
    ("node", "says"),
    [
        (DelayedLinear(np.eye(3), np.zeros((3, 2), int)), r"^d: delays must have the weight's shape \(3, 3\)"),
        (DelayedLinear(np.eye(3), np.eye(3)), r"^d: delays must be a non-empty integer array, got float64"),
        (DelayedLinear(np.eye(3), np.full((3, 3), -1)), r"^d: delays must be in 0\.\.65536, got -1"),
        (DelayedLinear(np.eye(3) * np.nan, np.eye(3, dtype=int)), r"^d: weight\[0, 0\] is nan"),
        (DelayedLinear(np.eye(3), np.eye(3, dtype=int), np.ones(2)), r"^d: bias must have shape"),
        (DelayedLinear(np.eye(4), np.eye(4, dtype=int)), r"^d: takes \(4,\), got \(3,\)"),
        (Window(0), r"^d: stop must be a whole number of steps in 1\.\.16777216, got 0"),
        (Window(2.5), r"^d: stop must be a whole number"),  # type: ignore[arg-type]
        (Window(2**24 + 1), r"^d: stop must be a whole number"),
    ],
)
def test_what_is_no_layer_is_refused(node: Any, says: str) -> None:
    with pytest.raises(NetworkError, match=says):
        one(node, 3)


def test_what_the_chip_cannot_do_is_refused_with_the_way_out() -> None:
    def net(*nodes: Any) -> Network:
        return one(nodes[0], 3, *nodes[1:])

    def delayed(longest: int, bias: bool = False) -> DelayedLinear:
        delays = np.arange(9).reshape(3, 3)
        delays[2, 2] = longest
        return DelayedLinear(np.ones((3, 3)), delays, np.ones(3) if bias else None)

    assert compile_loihi(net(delayed(62), Spiking())).edges[0].delay_range() == (0, 62)
    with pytest.raises(MappingError, match=r"in -> n0: needs a delay of 63 steps, a synapse has at most 62; shorten"):
        compile_loihi(net(delayed(63), Spiking()))
    with pytest.raises(MappingError, match=r"^n0: its bias passes a delay of 8; delay its input"):
        compile_loihi(net(Linear(np.eye(3), np.ones(3)), delayed(8), Spiking()))
    compile_loihi(net(delayed(8, bias=True), Spiking()))  # its own acts in every step
    with pytest.raises(MappingError, match=r"^n0: the window is no plain end.*right behind a Spiking.*--natural"):
        compile_loihi(net(Linear(np.eye(3)), Window(5), Spiking()))
    with pytest.raises(MappingError, match=r"^d: stops after 131072 steps, the chip's clock counts to 131071"):
        compile_loihi(net(Window(2**17), Linear(np.eye(3)), Spiking()))
    with pytest.raises(MappingError, match=r"^d: its relay passes spikes, the input sends graded"):
        compile_loihi(net(Window(5), Linear(np.eye(3)), Spiking()), graded_bits=4)
