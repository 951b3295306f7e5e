"""Convolutions cut position by position, against closed forms and every single synapse; routes against the same."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from loihi_programs import KINDS, program
from placed_programs import by_links, dense, lif

from export.assemble import assemble
from export.loihi import ConvEdge, DenseEdge, Edge, InputNode, LoihiProgram, Node, SparseEdge
from export.place import place
from export.routes import routes
from export.synapses import structure
from hardware.loihi import load_profile

LOIHI1 = load_profile("loihi1")


def conv(rng: np.random.Generator, src: str, dst: str, shape: tuple[int, ...], out: int, *law: Any) -> ConvEdge:
    """A kernel with some zeros: ``law`` is kernel size, stride, padding, dilation, groups."""
    size, stride, padding, dilation, groups = law
    w = rng.integers(1, 60, (out, shape[0] // groups, *size)) * 2
    w[rng.random(w.shape) < 0.3] = 0
    return ConvEdge(src, dst, w.astype(np.int16), "excitatory", stride, padding, dilation, groups)


def test_a_convolution_keeps_the_channels_of_a_position_together() -> None:
    nodes = {"in": InputNode((4, 8, 8)), "h": lif(16, 6, 6)}
    edge = ConvEdge("in", "h", np.full((16, 4, 3, 3), 2, np.int16), "excitatory")
    profile = replace(LOIHI1, limits=dict(LOIHI1.limits) | {"neurons_per_core": 96, "conv_shared": 1})
    found = place(nodes, [edge], profile)
    core = found.placement["h"].reshape(16, 36)
    assert (core == core[0]).all()
    assert np.unique(core, return_counts=True)[1].tolist() == [96] * 6
    made = assemble(nodes, [edge], "h", placement=found.placement)
    of, to = made.links[0]
    union = {int(k): len(np.unique(of[found.placement["h"][to] == k])) for k in np.unique(core)}
    assert {c.core: c.axons_in for c in found.cores if c.axons_in} == union
    assert set(union.values()) == {3 * 8 * 4}  # a core holds a row of windows, 3 by 8, of 4 channels
    assert str(found).splitlines()[-1].endswith("h positions 30-35, 16 channels")
    halves = place(nodes, [edge], replace(profile, limits=dict(profile.limits) | {"neurons_per_core": 104}))
    assert "h: 104 neurons at positions 0-6, 16 channels" in str(halves)
    assert all((place(nodes, [edge], profile).placement[n] == a).all() for n, a in found.placement.items())


def test_a_convolution_of_channel_with_channel_is_cut_along_its_channels() -> None:
    nodes = {"in": InputNode((6, 8, 8)), "h": lif(6, 6, 6)}
    edge = ConvEdge("in", "h", np.full((6, 1, 3, 3), 2, np.int16), "excitatory", groups=6)
    profile = replace(LOIHI1, limits=dict(LOIHI1.limits) | {"neurons_per_core": 36})
    found = place(nodes, [edge], profile)
    assert (np.diff(found.placement["h"]) >= 0).all()  # by position a core would have up to 3 * 8 * 6 axons
    assert {c.axons_in for c in found.cores if c.axons_in} == {64}


LAWS = {
    "plain": ((3, 3), (1, 1), (0, 0), (1, 1), 1),
    "stride": ((3, 2), (2, 1), (1, 0), (1, 1), 1),
    "padding": ((3, 3), (1, 1), (2, 1), (1, 1), 2),
    "dilation": ((2, 3), (1, 2), (1, 2), (3, 2), 1),
    "depthwise": ((3, 3), (2, 2), (1, 1), (1, 1), 4),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(
    "limits", [{"neurons_per_core": 37}, {"axons_in_per_core": 70}, {"synapse_words_per_core": 90}]
)
def test_every_core_of_a_convolution_is_used_as_its_single_synapses_say(law: str, limits: dict[str, int]) -> None:
    rng = np.random.default_rng(3)
    a = conv(rng, "in", "a", (4, 9, 7), 8, *LAWS[law])
    shape = a.out_shape((4, 9, 7))
    b = conv(rng, "in", "a", (4, 9, 7), 8, *LAWS[law])
    own = DenseEdge("a", "a", np.eye(int(np.prod(shape)), dtype=np.int16) * 2, "excitatory")
    nodes = {"in": InputNode((4, 9, 7)), "a": lif(*shape)}
    edges: list[Edge] = [a, b] if law != "stride" else [a, b, own, SparseEdge.of_dense(own)]
    profile = replace(LOIHI1, limits=dict(LOIHI1.limits) | limits)
    for orders in (2**21, 0):  # both orders tried; position by position
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("export.place.FEW", orders)
            found = place(nodes, edges, profile)
        made = assemble(nodes, edges, "a", placement=found.placement)
        assert {c.core: (c.axons_in, c.axons_out, c.synapse_words) for c in found.cores} == by_links(
            made, made.placement
        )
        for what, most in limits.items():
            assert 0.5 * most < found.usage[what][0] <= most
        check_routes(made)


def check_routes(made: LoihiProgram) -> None:
    """Routes of a program, with and without a time table, are those of its single synapses."""
    cores = 1 + max(int(c.max()) for c in made.placement.values())
    for profile in ("loihi1", "loihi2"):
        way = routes(replace(made, profile=profile))
        for n in made.nodes:
            events = np.zeros((made.size(n), cores), np.int64)
            for e, (of, to) in zip(made.edges, made.links, strict=True):
                if e.src == n:
                    np.add.at(events, (of, made.placement[e.dst][to]), 1)
            assert (sum(m.toarray() for m in way[n].synapses.values()) == events).all()
            assert (way[n].received.toarray() == (events > 0)).all()
            assert (way[n].messages == (events > 0).sum(axis=1)).all()
            of, away = np.nonzero(events)
            hops = [load_profile(profile).hops(a, b) for a, b in zip(made.placement[n][of], away, strict=True)]
            for k, total in enumerate((way[n].hops_ew, way[n].hops_ns)):
                assert (total == np.bincount(of, [h[k] for h in hops], minlength=made.size(n))).all()


@pytest.mark.parametrize("kind", KINDS)
def test_routes_are_those_of_single_synapses(kind: str) -> None:
    made, _ = program(kind, 5)
    rng = np.random.default_rng(1)
    anywhere = {n: rng.integers(0, 300, made.size(n)).astype(np.int32) for n in made.nodes}
    check_routes(replace(made, placement=anywhere))
    check_routes(made)


def test_a_convolution_of_channels_spread_at_random_is_answered_for_alike() -> None:
    rng = np.random.default_rng(2)
    for law in LAWS.values():
        edge = conv(rng, "in", "a", (4, 20, 17), 8, *law)
        shape = edge.out_shape((4, 20, 17))
        s = structure(edge, (4, 20, 17), shape)
        of, to = edge.links((4, 20, 17), shape)
        assert (edge.fan_out((4, 20, 17), shape) == np.bincount(of, minlength=s.sources)).all()
        size = int(np.prod(shape))
        every = np.arange(size)
        by_position = every.reshape(8, -1).T.ravel()
        some = [
            every[3 : size // 2],
            by_position[5 : size // 2],
            np.sort(rng.permutation(size)[: size // 2]),
            every[:1],
        ]
        for targets in some:
            place_of = np.full(size, size)
            place_of[targets] = np.arange(len(targets))
            on = place_of[to] < size
            first = np.full(s.sources, size)
            np.minimum.at(first, of[on], place_of[to[on]])
            n = np.bincount(of[on], minlength=s.sources)
            for got, want in ((s.firsts(targets), first), (s.counts(targets), n)):
                order = np.argsort(got[0])
                assert (got[0][order] == np.flatnonzero(n)).all()
                assert (got[1][order] == want[n > 0]).all()
            assert (np.sort(s.met(targets)) == np.flatnonzero(n)).all()


def pilot() -> tuple[dict[str, Node], list[Edge]]:
    """The layers of PilotNet (Bojarski et al. 2016, arXiv:1604.07316, figure 4)."""
    rng, shape, last = np.random.default_rng(0), (3, 66, 200), "in"
    nodes: dict[str, Node] = {"in": InputNode((3, 66, 200))}
    edges: list[Edge] = []
    for k, (out, size, stride) in enumerate([(24, 5, 2), (36, 5, 2), (48, 5, 2), (64, 3, 1), (64, 3, 1)]):
        w = (rng.integers(1, 64, (out, shape[0], size, size)) * 2).astype(np.int16)
        edge = ConvEdge(last, f"c{k}", w, "mixed", (stride, stride))
        shape, last = edge.out_shape(shape), f"c{k}"
        nodes[last] = lif(*shape)
        edges.append(edge)
    for k, out in enumerate([100, 50, 10]):
        n = int(np.prod(nodes[last].shape))
        edges.append(dense(last, f"d{k}", n, out, sign_mode="mixed"))
        last = f"d{k}"
        nodes[last] = lif(out)
    return nodes, edges


def test_pilotnet_is_placed_in_the_windows_of_its_positions() -> None:
    nodes, edges = pilot()
    tracemalloc.start()
    found = place(nodes, edges, load_profile("loihi2"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    cores = {n: len(np.unique(c)) for n, c in found.placement.items()}
    assert found.usage["cores"][0] <= 160
    for e in edges[:5]:  # every core holds whole windows of the core before: its axons are those of its positions
        at = found.placement[e.dst].reshape(nodes[e.dst].shape[0], -1)
        spread = [len(np.unique(a)) for a in at.T]
        assert max(spread) <= 2
        assert sum(k > 1 for k in spread) < cores[e.dst]
    c0 = [c for c in found.cores if c.parts[0][0] == "c0"]
    height, width = nodes["c0"].shape[1:]
    for c in c0:
        _, place_of = np.divmod(np.concatenate([np.arange(a, b) for _, a, b in c.parts]), height * width)
        rows, seen = np.divmod(np.unique(place_of), width), np.zeros((66, 200), bool)
        for y, x in zip(*rows, strict=True):
            seen[2 * y : 2 * y + 5, 2 * x : 2 * x + 5] = True
        assert c.axons_in == 3 * seen.sum()
