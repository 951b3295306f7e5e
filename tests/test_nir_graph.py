"""from_nir and to_nir as graphs: loops whatever the order, nested graphs, and the round trip."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
from float_networks import LAWS, STRICT, chain, residual
from nir_graphs import DT, EULER, full, lif, outputs

from export import (
    Conv1d,
    Conv2d,
    Delay,
    Edge,
    Flatten,
    Input,
    Integrator,
    Linear,
    MappingError,
    Network,
    Output,
    Scale,
    Spiking,
    SumPool2d,
)
from export.from_nir import from_nir
from export.to_nir import to_nir
from neuro.neuron import Decay, Law, Leaky, NoLeak, Rate, Tau

RNG = np.random.default_rng(5)


def stripped(net: Network) -> Network:
    return replace(net, losses=())


def recurrent(order: int, delay: float | None = None) -> nir.NIRGraph:
    """in -> fc -> lif -> out with lif -> w -> lif, optionally through a Delay; ``order`` permutes nodes and edges."""
    rng = np.random.default_rng(11)
    nodes: dict[str, Any] = {
        "in": nir.Input(np.array([4])), "fc": nir.Affine(rng.normal(0.3, 0.5, (5, 4)), rng.normal(0, 0.1, 5)),
        "lif": lif(5), "w": nir.Affine(rng.normal(0, 0.4, (5, 5)), rng.normal(0.1, 0.05, 5)),
        "out": nir.Output(np.array([5])),
    }  # fmt: skip
    edges = [("in", "fc"), ("fc", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "out")]
    if delay is not None:
        nodes["d"] = nir.Delay(full(delay, 5))
        edges = [*edges[:2], ("lif", "d"), ("d", "w"), *edges[3:]]
    shuffle = np.random.default_rng(order)
    names = list(nodes)
    shuffle.shuffle(names)
    shuffle.shuffle(edges)  # type: ignore[arg-type]
    return nir.NIRGraph({n: nodes[n] for n in names}, [*map(tuple, edges), tuple(edges[0])], type_check=False)


def test_loop_takes_one_step_whatever_the_order() -> None:
    """s[t] from W s[t-1] + b in plain numpy; a duplicate edge counts once."""
    nets = [from_nir(recurrent(k), **EULER) for k in range(4)]
    assert len({stripped(n).hash() for n in nets}) == 1
    assert all(Edge("lif", "w", 1) in n.edges for n in nets)
    assert all("stands more than once" in " ".join(x.what for x in n.losses) for n in nets)
    x = (RNG.random((60, 4)) < 0.5).astype(float)
    g = recurrent(0).nodes
    v, s, want = np.zeros(5), np.zeros(5), []
    for now in x:
        v = 0.9 * v + g["fc"].weight @ now + g["fc"].bias + g["w"].weight @ s + g["w"].bias
        s = (v > 1.0).astype(float)
        v = v * (1 - s)
        want.append(s)
    assert 0.05 < np.mean(want) < 0.95
    for net in nets:
        np.testing.assert_array_equal(outputs(net, x), want)


def test_delay_in_a_loop_is_the_loops_delay() -> None:
    one, three = from_nir(recurrent(0, DT), **EULER), from_nir(recurrent(0, 3 * DT), **EULER)
    assert all(e.delay == 0 for net in (one, three) for e in net.edges)
    x = (RNG.random((60, 4)) < 0.5).astype(float)
    np.testing.assert_array_equal(outputs(one, x), outputs(from_nir(recurrent(0), **EULER), x))
    assert (outputs(three, x) != outputs(one, x)).any()
    assert any(e.delay for e in from_nir(recurrent(0, 0.0), **EULER).edges)  # a delay of 0 does not open the loop


def test_forward_skip_inside_a_loop_is_not_delayed() -> None:
    """in -> a -> w -> b with a skip a -> b and a way back b -> w2 -> a: only the way back takes a step."""
    nodes = {
        "in": nir.Input(np.array([3])), "a": lif(), "w": nir.Linear(np.eye(3)), "b": lif(), "w2": nir.Linear(np.eye(3)),
        "out": nir.Output(np.array([3])),
    }  # fmt: skip
    edges = [("w2", "a"), ("b", "w2"), ("a", "b"), ("w", "b"), ("a", "w"), ("in", "a"), ("b", "out")]
    net = from_nir(nir.NIRGraph(nodes, edges, type_check=False), **EULER)
    assert {e for e in net.edges if e.delay} == {Edge("b", "w2", 1)}


def test_loop_that_is_entered_at_two_places_delays_at_every_neuron_in_it() -> None:
    """in -> a, in -> b, a -> ab -> b, b -> ba -> a: neither way round is the way back, so both take a step."""
    rng = np.random.default_rng(2)
    w = {n: rng.normal(0.2, 0.6, (3, 3)) for n in ("fa", "fb", "ab", "ba")}
    nodes = {n: nir.Linear(m) for n, m in w.items()} | {"a": lif(), "b": lif()}
    ends = {"in": nir.Input(np.array([3])), "out": nir.Output(np.array([3]))}
    edges = [("in", "fa"), ("in", "fb"), ("fa", "a"), ("fb", "b"), ("a", "ab"), ("ab", "b"), ("b", "ba"), ("ba", "a")]
    net = from_nir(nir.NIRGraph(nodes | ends, [*edges, ("b", "out")], type_check=False), **EULER)
    assert {e for e in net.edges if e.delay} == {Edge("a", "ab", 1), Edge("b", "ba", 1)}
    x = (rng.random((50, 3)) < 0.5).astype(float)
    va, vb, a, b, want = np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3), []
    for now in x:
        va, vb = 0.9 * va + w["fa"] @ now + w["ba"] @ b, 0.9 * vb + w["fb"] @ now + w["ab"] @ a
        a, b = (va > 1.0).astype(float), (vb > 1.0).astype(float)
        va, vb = va * (1 - a), vb * (1 - b)
        want.append(b)
    assert 0.05 < np.mean(want) < 0.95
    np.testing.assert_array_equal(outputs(net, x), want)
    again = from_nir(to_nir(net).graph)
    assert stripped(again).hash() == stripped(net).hash()


def test_nested_graphs_are_inlined() -> None:
    inner = nir.NIRGraph(
        {"input": nir.Input(np.array([5])), "lif": recurrent(0).nodes["lif"], "w": recurrent(0).nodes["w"],
         "output": nir.Output(np.array([5]))},
        [("input", "lif"), ("lif", "w"), ("w", "lif"), ("lif", "output")],
        type_check=False,
    )  # fmt: skip
    middle = nir.NIRGraph(
        {"i": nir.Input(np.array([5])), "rnn": inner, "o": nir.Output(np.array([5]))},
        [("i", "rnn"), ("rnn", "o")],
        type_check=False,
    )
    nodes = {"in": nir.Input(np.array([4])), "fc": recurrent(0).nodes["fc"], "sub": middle}
    nodes["out"] = nir.Output(np.array([5]))
    net = from_nir(nir.NIRGraph(nodes, [("in", "fc"), ("fc", "sub"), ("sub", "out")], type_check=False), **EULER)
    assert set(net.nodes) == {"in", "fc", "sub.rnn.lif", "sub.rnn.w", "out"}
    x = (RNG.random((60, 4)) < 0.5).astype(float)
    np.testing.assert_array_equal(outputs(net, x), outputs(from_nir(recurrent(0), **EULER), x))


@pytest.mark.parametrize("law", LAWS | STRICT)
def test_round_trip_is_the_identity(law: str, tmp_path: Path) -> None:
    """Chains and residual loops under every law, through a file and through the graph in memory."""
    for make in (chain, residual):
        net = make((LAWS | STRICT)[law])
        program = to_nir(net, tmp_path / "net.nir")
        assert stripped(from_nir(tmp_path / "net.nir")).hash() == net.hash()
        assert stripped(from_nir(program.graph)).hash() == net.hash()


def test_every_kind_round_trips(tmp_path: Path) -> None:
    nodes: dict[str, Any] = {
        "in": Input((2, 6, 6)),
        "conv": Conv2d(RNG.normal(size=(4, 2, 3, 3)), np.zeros(4), (1, 1), (1, 1)),
        "s0": Spiking(Law(Decay(0.0, 0.75), fires=">")),
        "pool": SumPool2d((2, 2), (2, 2)),
        "rows": Flatten(1, 2),
        "c1": Conv1d(RNG.normal(size=(3, 4, 3))),
        "s1": Spiking(Law(Rate(0.3), reset="subtract")),
        "flat": Flatten(),
        "scale": Scale(RNG.normal(size=21)),
        "fc": Linear(RNG.normal(size=(4, 21)), RNG.normal(size=4)),
        "wait": Delay(np.array([0, 1, 2, 5])),
        "s2": Spiking(Law(Tau(3.0, rest=-0.1), v_reset=-0.2)),
        "read": Integrator(Decay(0.3, 0.9), 0.5),
        "out": Output(),
    }
    edges = [Edge(a, b) for a, b in pairwise(nodes)] + [Edge("s2", "s2", 1), Edge("wait", "read", 2)]
    net = Network(nodes, edges, 2e-3, "kinds")
    to_nir(net, tmp_path / "net.nir")
    assert stripped(from_nir(tmp_path / "net.nir")).hash() == net.hash()
    kinds = {type(n).__name__ for n in nir.read(tmp_path / "net.nir", type_check=False).nodes.values()}
    assert kinds == {
        "Input", "Conv2d", "CubaLIF", "SumPool2d", "Flatten", "Conv1d", "LIF", "Scale", "Affine", "Delay", "CubaLI",
        "Output",
    }  # fmt: skip


@pytest.mark.parametrize(
    "charge", [NoLeak(), Tau(2.7), Tau(7.3, False, 0.4), Rate(0.37), Rate(0.11, False), Leaky(0.83), Decay(0.3, 0.7)]
)
def test_equations_alone_give_the_same_constants_back(charge: Any) -> None:
    """Without our own metadata, as another tool's file: a, b, k to the last bits of float64."""
    law = Law(charge, 0.8, fires=">")
    program = to_nir(Network.sequential({"in": Input((3,)), "s": Spiking(law), "out": Output()}, dt_s=DT))
    raw = program.graph
    raw.metadata, raw.nodes["s"].metadata = {}, {}
    got = next(n.law for _, n in from_nir(raw, **EULER) if isinstance(n, Spiking))
    assert (got.threshold, got.v_reset, got.fires) == (0.8, 0.0, ">")
    np.testing.assert_allclose(got.charge.canonical(), charge.canonical(), rtol=4e-16)


def test_what_a_hand_changes_wins_over_our_metadata() -> None:
    net = Network.sequential({"in": Input((3,)), "s": Spiking(Law(Tau(3.0), fires=">")), "out": Output()}, dt_s=DT)
    changed = to_nir(net).graph
    changed.nodes["s"].tau = full(5 * DT)
    node = from_nir(changed).nodes["s"]
    assert isinstance(node, Spiking)
    assert node.law.charge == Tau(5.0)
    told = from_nir(to_nir(net).graph, fires=">=")
    assert "fires '>=' taken instead of the file's '>'" in " ".join(x.what for x in told.losses)
    soft = Spiking(Law(Tau(3.0), reset="subtract", fires=">"))
    nodes = {"in": Input((3,)), "s": net.nodes["s"], "t": soft, "out": Output()}
    mixed = Network.sequential(nodes, dt_s=DT)
    assert [(x.node, x.what) for x in from_nir(to_nir(mixed).graph, reset="hard").losses] == [
        ("t", "reset 'hard' taken instead of the file's 'soft'")
    ]


def test_losses_of_the_export_name_what_nir_cannot_say() -> None:
    said = [f"{x.node}: {x.what}" for x in to_nir(residual(LAWS["tau3_soft"])).losses]
    assert "residual: dt stands in the metadata only; seconds" in said
    assert "s1: '>=' stands in the metadata only, NIR fires at '>'; threshold" in said
    assert "s1: reset 'subtract' stands in the metadata only, NIR resets to v_reset; threshold" in said
    with pytest.raises(MappingError, match=r"^s: keeps 1 of itself, tau_mem would be infinite"):
        to_nir(Network.sequential({"in": Input((3,)), "s": Spiking(Law(Decay(0.5, 1.0))), "out": Output()}))


def test_program_saves_beside_and_renames(tmp_path: Path) -> None:
    net = chain(LAWS["if"])
    program = to_nir(net, tmp_path / "a.nir")
    program.save(tmp_path / "b.nir")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nir", "b.nir"]
    assert (tmp_path / "a.nir").read_bytes() == (tmp_path / "b.nir").read_bytes()
    assert program.hash() == to_nir(net).hash()
    assert (program.machine, program.dt_s, program.usage) == ("nir", net.dt_s, {})


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.83, 0.999, 1.0])
def test_leak_by_a_factor_comes_back(beta: float) -> None:
    """tau = dt / (1 - beta), r = tau / dt; what keeps all is NIR's IF, and I as a readout."""
    nodes = {
        "in": Input((3,)),
        "s": Spiking(Law(Leaky(beta), fires=">")),
        "v": Integrator(Leaky(beta)),
        "out": Output(),
    }
    net = Network.sequential(nodes, dt_s=DT)
    program = to_nir(net)
    raw = program.raw["nodes"]["s"]
    if beta < 1.0:
        assert raw["type"] == "LIF"
        np.testing.assert_allclose([raw["tau"][0], raw["r"][0]], [DT / (1 - beta), 1 / (1 - beta)], rtol=1e-15)
    else:
        assert (raw["type"], raw["r"][0]) == ("IF", 1 / DT)
    assert from_nir(program.graph).hash() == net.hash()
