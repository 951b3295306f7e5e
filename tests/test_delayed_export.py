"""Layers of learned delays into a Network, exact and natural, and out of it: NIR, netx, the command; refusals."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from delayed_networks import CHIP, FLOAT, chain, double, layer, recurrent, spikes_in
from torch import nn

from export import DelayedLinear, Edge, Integrator, Linear, MappingError, Network, Spiking, Window, natural
from export.from_netx import from_netx
from export.from_nir import from_nir
from export.from_torch import from_torch
from export.to_brian import to_brian
from export.to_deck import to_deck
from export.to_loihi import compile_loihi
from export.to_netx import compile_netx
from export.to_nir import to_nir
from neuro.delays import DelayLinear, Tail, horizon, rounded
from neuro.models.delay_net import delay_net
from neuro.modules import ChunkNorm1d, HeldDropout, Stack, steps
from neuro.modules import Spiking as SpikingModule
from neuro.neuron import Law, Leaky, Tau
from sim import engines
from sim.loihi import engine
from sim.run import Run

T, TAPS = 20, 7


def trained(net: nn.Module, seed: int = 0) -> nn.Module:
    """BatchNorm as after training, and weights large enough to fire."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for m in net.modules():
            if isinstance(m, nn.BatchNorm1d):
                m.running_mean.copy_(0.2 * torch.randn(m.num_features, generator=g))
                m.running_var.copy_(0.2 + 0.3 * torch.rand(m.num_features, generator=g))
                m.weight.copy_(0.8 + 0.8 * torch.rand(m.num_features, generator=g))
                m.bias.copy_(0.3 * torch.randn(m.num_features, generator=g))
    return net.eval()


def on_grid(*sizes: int, seed: int = 0) -> Stack:
    """Layers of whole delays with weights on the grid of 1/64 and neurons that fire, every one behind a Tail."""
    rng, parts = np.random.default_rng(seed), []
    for n_in, n_out in pairwise(sizes):
        delays = DelayLinear(n_in, n_out, TAPS, bias=True).round_()
        with torch.no_grad():
            delays.weight.copy_(torch.from_numpy(rng.integers(-40, 60, (n_out, n_in)) / 64))
            delays.bias.copy_(torch.from_numpy(rng.integers(-8, 8, n_out) / 64))  # type: ignore[union-attr]
        parts += [Tail(TAPS // 2), delays, SpikingModule(Law(Leaky(0.75), fires=">")), HeldDropout(0.4)]
    return Stack(*parts).eval()


def padded(x: Any, more: int) -> Any:
    """``x (N, T, ...)`` with silent steps behind it."""
    return np.concatenate([x, np.zeros((len(x), more, *x.shape[2:]), x.dtype)], 1)


def answer(net: nn.Module, x: Any) -> Any:
    with torch.no_grad():
        return steps(net, torch.from_numpy(x).transpose(0, 1))[0].transpose(0, 1).numpy()


@pytest.mark.parametrize("name", FLOAT | CHIP)
def test_the_exact_network_is_the_module(name: str) -> None:
    """Its cuts in time and all: equal spikes in every step on every engine, where the natural one differs."""
    torch.manual_seed(0)
    net = on_grid(10, 14, 12, 6)
    x = (np.random.default_rng(1).random((3, T, 10)) < 0.4).astype(np.float32)
    want = answer(net, x)
    assert want.shape[1] == horizon(net, T) == T + 9
    assert 0.03 < want.mean() < 0.9
    exact, free = from_torch(net, (10,), horizon=T), from_torch(net, (10,))
    assert [n.stop for _, n in exact if isinstance(n, Window)] == [T, T + 3, T + 6]
    np.testing.assert_array_equal((FLOAT | CHIP)[name](exact, padded(x, 9)).y, want)
    other = (FLOAT | CHIP)[name](free, padded(x, 9)).y
    np.testing.assert_array_equal(other[:, : T + 3], want[:, : T + 3])  # the first end that cuts spikes
    assert (other != want).any()
    assert natural(exact).hash() == free.hash()
    assert exact.losses == ()


def test_the_papers_network_with_its_norms() -> None:
    """BatchNorm folds into weights and a bias of every step; the readout is the potential."""
    net = trained(delay_net([20, 16, 16, 5], taps=9, tau=2.0, seed=3))
    x = (np.random.default_rng(2).random((4, T, 20)) < 0.4).astype(np.float32)
    whole = rounded(net)
    want = answer(whole, x)
    network = from_torch(net, (20,), horizon=T)  # rounds by itself
    lost = {x.node: x for x in network.losses if "rounded" in x.what}
    assert set(lost) == {"1", "6", "11"}
    assert all(0.0 < k.size <= 0.5 for k in lost.values())
    assert [k.node for k in from_torch(whole, (20,)).losses] == ["1", "6"]
    assert all("BatchNorm folded" in k.what and k.size < 1e-5 for k in from_torch(whole, (20,)).losses)
    node = network.nodes["1"]
    assert isinstance(node, DelayedLinear)
    assert node.bias is not None
    assert node.delays.dtype == np.uint8
    assert node.depth <= 8
    assert isinstance(network.nodes["12"], Integrator)
    done = FLOAT["numpy"](network, padded(x, 12))
    assert 0.02 < done.probes["3.s"].mean() < 0.9
    assert np.mean(np.abs(done.y - want) > 1e-3) < 0.01  # folding rounds: a spike in many may flip
    with torch.no_grad():
        bias_steps = answer(whole, np.zeros((1, T, 20), np.float32))
    np.testing.assert_allclose(FLOAT["numpy"](network, np.zeros((1, T + 12, 20))).y, bias_steps, atol=1e-4)


def test_each_branch_has_its_own_end() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = Stack(Tail(3), DelayLinear(4, 4, 7).round_())
            self.b = Stack(Tail(3), DelayLinear(4, 4, 7).round_(), Tail(2), nn.Linear(4, 4, bias=False))
            self.c = Stack(Tail(2), nn.Linear(4, 4, bias=False))

        def forward(self, x: Any) -> Any:
            return self.c(self.a(x)) + self.b(x)

    network = from_torch(Both(), (4,), horizon=10)
    assert {n: k.stop for n, k in network if isinstance(k, Window)} == {"a.0": 10, "b.0": 10, "c.0": 13, "b.2": 13}


def test_what_from_torch_refuses() -> None:
    for wrong in (0, -3, 2.5, True):
        with pytest.raises(MappingError, match=r"^horizon: must be the whole steps of a sample"):
            from_torch(on_grid(4, 3), (4,), horizon=wrong)  # type: ignore[arg-type]
    shared = DelayLinear(4, 4, 3)
    with pytest.raises(MappingError, match=r"^1: is the same object as 0, so both share one state"):
        from_torch(Stack(shared, shared), (4,))
    with pytest.raises(MappingError, match=r"^1: ChunkNorm1d normalises 3 channels"):
        from_torch(Stack(DelayLinear(4, 4, 3), ChunkNorm1d(3)).eval(), (4,))


@pytest.mark.parametrize("seed", range(3))
def test_nir_there_and_back(seed: int, tmp_path: Path) -> None:
    for make in (lambda s: chain(s, exact=False), recurrent, lambda s: double(recurrent(s))):
        network = make(seed)
        assert from_nir(to_nir(network).graph).hash() == network.hash()
        to_nir(network, tmp_path / "n.nir")
        assert from_nir(tmp_path / "n.nir").hash() == network.hash()


def test_nir_says_it_in_its_own_nodes() -> None:
    """Without our metadata: a Delay and a Linear for each delay, and the same spikes."""
    network = chain(0, exact=False)
    program = to_nir(network)
    assert [x.size for x in program.losses if "NIR delays channels" in x.what] == [7, 10, 4]
    graph = program.graph
    for node in graph.nodes.values():
        node.metadata = {}
    kinds = {type(n) for n in graph.nodes.values()}
    assert kinds == {nir.Input, nir.Output, nir.Delay, nir.Linear, nir.Affine, nir.Scale, nir.LIF}
    told = from_nir(graph, reset="hard", fires=">")
    assert not any(isinstance(n, DelayedLinear) for n in told.nodes.values())
    x = spikes_in(network)
    want = FLOAT["numpy"](network, x)
    np.testing.assert_array_equal(engines.run(told, x, "float").y, want.y)


def test_what_a_hand_changes_in_the_graph_wins() -> None:
    network = chain(0, exact=False)
    graph = to_nir(network).graph
    graph.nodes["d2.late.3"].delay = np.full(12, 20e-3)
    node = from_nir(graph).nodes["d2"]
    old = network.nodes["d2"]
    assert isinstance(node, DelayedLinear)
    assert isinstance(old, DelayedLinear)
    on = old.weight != 0
    np.testing.assert_array_equal(node.delays[on], np.where(old.delays == 3, 20, old.delays)[on])
    graph.nodes["d2"].scale = np.full(8, 2.0, np.float32)  # no longer the layer that we wrote
    assert not isinstance(from_nir(graph).nodes["d2"], DelayedLinear)


def test_netx_there_and_back(tmp_path: Path) -> None:
    network = chain(1, exact=False)
    program = compile_netx(network)
    program.save(tmp_path / "d.net")
    read = from_netx(tmp_path / "d.net")
    x = spikes_in(network)
    assert any(e.delays is not None for e in read.edges)
    np.testing.assert_array_equal(engine.run(read, x).y, engine.run(program.program, x).y)
    with pytest.raises(MappingError, match=r"^end0: netx holds a chain.*natural\(network\)"):
        compile_netx(chain(1, exact=True))


def test_machines_without_a_memory_of_steps_say_so() -> None:
    with pytest.raises(
        MappingError, match=r"^end0: NIR has nothing that ends after 12 steps; export natural\(network\)"
    ):
        to_nir(chain(0, exact=True))
    with pytest.raises(MappingError, match=r"^d1: delayed_linear needs a memory of past steps.*without delays"):
        to_deck(chain(0, exact=False))
    rng = np.random.default_rng(0)
    long = Network.sequential({**chain(0, exact=False).nodes, "d1": layer(rng, 12, 10, 300, least=290)})
    with pytest.raises(MappingError, match=r"^s1: takes values of in 29\d steps later, which Brian 2 keeps"):
        to_brian(long)


def test_natural_leaves_names_edges_and_their_delays() -> None:
    network = chain(0, exact=True)
    late = [replace(e, delay=2) if (e.src, e.dst) in (("s1", "end1"), ("end1", "d2")) else e for e in network.edges]
    late.append(Edge("end1", "d2", 5))
    made = natural(Network(network.nodes, late))
    assert [(e.dst, e.delay) for e in made.edges if e.src == "s1"] == [("d2", 4), ("d2", 7)]
    assert set(made.nodes) == {n for n in network.nodes if not n.startswith("end")}


def cli(*args: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sim.cli", *map(str, args)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_command_exports_and_runs_them(tmp_path: Path) -> None:
    network = chain(0, exact=True)
    x, source = spikes_in(network), network.save(tmp_path / "net.npz")
    np.savez(tmp_path / "x.npz", x=x)
    want = {n: FLOAT["numpy"](natural(network) if n else network, x).y for n in (True, False)}
    made = {
        "loihi": ("l.npz", "loihi"),
        "onnx": ("o.onnx", "onnx"),
        "brian": ("b.py", "brian"),
        "nir": ("n.nir", "float"),
    }
    for to, (name, on) in made.items():
        for cut in (True, False) if to != "nir" else (True,):
            text = cli("export", source, "--to", to, "-o", tmp_path / name, *(["--natural"] if cut else []))
            assert f"{to} program" in text
            assert ("relay of the spikes" in text) == (to == "loihi" and not cut)
            cli("run", tmp_path / name, "--on", on, "--input", tmp_path / "x.npz", "-o", tmp_path / "run")
            np.testing.assert_array_equal(Run.load(tmp_path / "run").y, want[cut])
    done = subprocess.run(
        [sys.executable, "-m", "sim.cli", "export", source, "--to", "nir", "-o", tmp_path / "n.nir"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--natural" in done.stderr


def test_equal_delays_need_no_delay_of_each_synapse() -> None:
    """One delay for all is the connection's own, not a matrix of them."""
    network = chain(0, exact=False)
    node = network.nodes["d2"]
    assert isinstance(node, DelayedLinear)
    edges = compile_loihi(network.with_nodes(d2=replace(node, delays=np.full((8, 12), 4)))).edges
    edge = next(e for e in edges if (e.src, e.dst) == ("s1", "s2"))
    assert edge.delays is None
    assert edge.delay_range()[0] > 0
    plain = network.with_nodes(d2=Linear(node.weight, node.bias), s2=Spiking(Law(Tau(2.0), fires=">")))
    assert not any(e.delayed for e in compile_loihi(plain).edges if e.dst == "s2")
