"""Placement against limits counted by hand, and what a spike costs on the way."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loihi_programs import KINDS, program

from export import CapacityError
from export.loihi import ConvEdge, DenseEdge, Edge, InputNode, Lif, LoihiProgram, Node, SparseEdge
from export.place import layout, place
from export.routes import routes
from export.synapses import structure
from export.to_loihi import assemble
from hardware.loihi import LIMITS, TIMES, load_profile
from hardware.tables import load_table
from sim.loihi import engine

LOIHI1 = load_profile("loihi1")


def lif(*shape: int) -> Lif:
    return Lif(shape, 4095, 0, 100)


def dense(src: str, dst: str, n_in: int, n_out: int, **kwargs: Any) -> DenseEdge:
    return DenseEdge(src, dst, np.full((n_out, n_in), 2, np.int16), kwargs.pop("sign_mode", "excitatory"), **kwargs)


def placed(nodes: Any, edges: list[Edge], chips: int | None = None, **limits: int) -> Any:
    profile = replace(LOIHI1, limits=dict(LOIHI1.limits) | limits)
    found = place(nodes, edges, profile, chips)
    return found.placement, found.usage


def test_limits_are_those_of_the_papers() -> None:
    assert LOIHI1.limits["neurons_per_core"] == 1024
    assert LOIHI1.limits["synapse_words_per_core"] * 64 == 128 * 1024 * 8
    assert LOIHI1.limits["axons_in_per_core"] == LOIHI1.limits["axons_out_per_core"] == 4096
    assert LOIHI1.limits["cores_per_chip"] == 128 == LOIHI1.cores_per_tile * LOIHI1.tile_columns * LOIHI1.tile_rows
    assert load_profile("loihi2").limits["neurons_per_core"] == 8192
    for name in ("loihi1", "loihi2"):
        table = load_table(name)
        assert set(LIMITS) <= set(table.rows)
        assert all(table.cite(row) for row in table.rows)
    times = load_table("loihi1").rows
    assert all(f"{t}.{k}" in times for t in LOIHI1.timing for k in TIMES)


def test_neurons_fill_cores_in_order() -> None:
    nodes = {"in": InputNode((3,)), "h": lif(2500), "o": lif(2)}
    cores, usage = placed(nodes, [dense("in", "h", 3, 2500), dense("h", "o", 2500, 2)])
    assert np.unique(cores["h"], return_counts=True)[1].tolist() == [1024, 1024, 452]
    assert (np.diff(cores["h"]) >= 0).all()
    assert (cores["in"][0], cores["h"][0], cores["o"][0]) == (0, 1, 4)
    assert usage["cores"] == (5, 128)
    assert usage["chips"] == (1, LOIHI1.limits["max_chips"])
    assert usage["neurons_per_core"] == (1024, 1024)
    assert usage["axons_in_per_core"] == (2500, 4096)


def test_synapse_words_by_hand() -> None:
    nodes = {"in": InputNode((100,)), "h": lif(60)}
    _, usage = placed(nodes, [dense("in", "h", 100, 60)])
    assert usage["synapse_words_per_core"][0] == 100 * 60 * 8 // 64 + 100  # 8 bits, a header per axon
    _, usage = placed(nodes, [dense("in", "h", 100, 60, sign_mode="mixed")])
    assert usage["synapse_words_per_core"][0] == -(-100 * 60 * 9 // 64) + 100  # a sign bit
    _, usage = placed(nodes, [dense("in", "h", 100, 60, delay=3)])
    assert usage["synapse_words_per_core"][0] == -(-100 * 60 * 14 // 64) + 100  # 6 bits of delay
    w = np.zeros((60, 100), np.int16)
    w[:, :30] = 2
    _, usage = placed(nodes, [DenseEdge("in", "h", w, "excitatory")])
    assert usage["synapse_words_per_core"][0] == -(-30 * 60 * 18 // 64) + 30  # 10 bits of index, 30 axons
    assert usage["axons_in_per_core"][0] == 30


def test_memory_splits_a_layer_and_every_core_stays_within() -> None:
    nodes = {"in": InputNode((784,)), "h": lif(512), "o": lif(10)}
    cores, usage = placed(nodes, [dense("in", "h", 784, 512), dense("h", "o", 512, 10)])
    per_core = (16384 - 784) * 64 // (784 * 8)
    sizes = np.unique(cores["h"], return_counts=True)[1]
    assert sizes.tolist() == [per_core] * (512 // per_core) + [512 % per_core]
    assert usage["synapse_words_per_core"][0] == 784 * per_core * 8 // 64 + 784
    assert usage["axons_out_per_core"] == (784 * len(sizes), 4096)


def test_convolution_is_expanded_or_shared() -> None:
    nodes = {"in": InputNode((1, 6, 6)), "h": lif(4, 4, 4)}
    edge = ConvEdge("in", "h", np.full((4, 1, 3, 3), 2, np.int16), "excitatory")
    _, usage = placed(nodes, [edge])
    assert usage["synapse_words_per_core"][0] == -(-64 * 9 * 18 // 64) + 36
    _, usage = placed(nodes, [edge], conv_shared=1)
    assert usage["synapse_words_per_core"][0] == -(-36 * 8 // 64) + 36


def test_axons_in_split_by_distinct_sources() -> None:
    nodes = {"in": InputNode((8,)), "h": lif(8)}
    edge = DenseEdge("in", "h", np.eye(8, dtype=np.int16) * 2, "excitatory")
    cores, usage = placed(nodes, [edge], axons_in_per_core=3)
    assert cores["h"].tolist() == [1, 1, 1, 2, 2, 2, 3, 3]
    assert usage["axons_in_per_core"] == (3, 3)


def test_axons_out_split_the_source() -> None:
    nodes = {"in": InputNode((10,)), "h": lif(6)}
    cores, usage = placed(
        nodes, [dense("in", "h", 10, 6)], neurons_per_core=10, axons_out_per_core=12, axons_in_per_core=10
    )
    assert usage["axons_out_per_core"][0] <= 12
    cores, usage = placed(nodes, [dense("in", "h", 10, 6)], neurons_per_core=2, axons_out_per_core=6)
    assert len(np.unique(cores["h"])) == 3
    assert usage["axons_out_per_core"] == (6, 6)  # two neurons to three cores


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"axons_in_per_core": 99}, r"h: neuron 0 alone needs 100 axons_in_per_core, loihi1 has 99; reduce its fan-in"),
        ({"synapse_words_per_core": 112}, r"h: neuron 0 alone needs 113 synapse_words_per_core, loihi1 has 112"),
        ({"neurons_per_core": 1, "axons_out_per_core": 59}, r"in: one neuron feeds 60 cores, loihi1 has .* 59"),
        (
            {"neurons_per_core": 1, "cores_per_chip": 80},
            r"in: takes 100 of 160 cores; chips: need 2, have 1 of 80 cores",
        ),
    ],
)
def test_what_does_not_fit_names_layer_limit_need_and_have(limits: dict[str, int], message: str) -> None:
    nodes = {"in": InputNode((100,)), "h": lif(60)}
    with pytest.raises(CapacityError, match=message):
        placed(nodes, [dense("in", "h", 100, 60)], chips=1, **limits)


def test_a_second_chip_lies_to_the_east() -> None:
    assert LOIHI1.tile(0) == LOIHI1.tile(3) == (0, 0)
    assert LOIHI1.tile(4) == (0, 1)
    assert LOIHI1.tile(16) == (1, 0)
    assert LOIHI1.tile(127) == (7, 3)
    assert LOIHI1.tile(128) == (8, 0)
    assert LOIHI1.hops(0, 127) == (7, 3)
    nodes = {"in": InputNode((2,)), "h": lif(130)}
    cores, usage = placed(nodes, [dense("in", "h", 2, 130)], neurons_per_core=1)
    assert usage["cores"] == (132, 256)
    assert usage["chips"][0] == 2
    assert cores["h"].max() == 131


def test_a_spike_sends_one_message_to_each_core_that_it_has_a_synapse_on() -> None:
    w = np.zeros((4, 2), np.int16)
    w[0, 0] = w[1, 0] = w[3, 0] = w[2, 1] = 2
    made = assemble(
        {"in": InputNode((2,)), "h": lif(4)},
        [DenseEdge("in", "h", w, "excitatory")],
        "h",
        placement={"in": np.array([0, 5], np.int32), "h": np.array([1, 1, 17, 22], np.int32)},
    )
    way = routes(made)["in"]
    assert way.messages.tolist() == [2, 1]
    assert way.hops_ew.tolist() == [1, 1]  # core 0 to 22: tile (1, 1); core 5 on tile (0, 1) to 17 on (1, 0)
    assert way.hops_ns.tolist() == [1, 1]
    assert way.synapses["dense"].toarray()[0, [1, 17, 22]].tolist() == [2, 0, 1]
    assert routes(made)["h"].messages.tolist() == [0, 0, 0, 0]


def test_usage_is_kept_with_the_program(tmp_path: Path) -> None:
    made = assemble({"in": InputNode((20,)), "h": lif(12)}, [dense("in", "h", 20, 12)], "h")
    again = LoihiProgram.load(made.save(tmp_path / "p.npz"))
    assert again.usage == made.usage
    assert (again.placement["h"] == made.placement["h"]).all()
    assert all(0 < used <= most for used, most in made.usage.values())


def by_links(made: LoihiProgram, placement: Any) -> dict[int, tuple[int, int, int]]:
    """``core: (axons in, axons out, synapse words)`` from every single synapse."""
    ends: dict[int, set[tuple[str, int]]] = {}
    feeds: dict[int, set[tuple[str, int, int]]] = {}
    bits: dict[int, int] = {}
    for e, (of, to) in zip(made.edges, made.links, strict=True):
        width = e.num_weight_bits + (e.sign_mode == "mixed") + 6 * (e.delay_range()[1] > 0)
        sources, targets = made.size(e.src), made.size(e.dst)
        alone = len(of) * (width + 10) < sources * targets * width
        for i, j in zip(of.tolist(), to.tolist(), strict=True):
            home, away = int(placement[e.src][i]), int(placement[e.dst][j])
            ends.setdefault(away, set()).add((e.src, i))
            feeds.setdefault(home, set()).add((e.src, i, away))
            bits[away] = bits.get(away, 0) + alone * (width + 10)
        for core in () if alone else placement[e.dst].tolist():
            bits[core] = bits.get(core, 0) + sources * width
    cores = {int(c) for a in placement.values() for c in a}
    n = {c: len(ends.get(c, ())) for c in cores}
    return {c: (n[c], len(feeds.get(c, ())), -(-bits.get(c, 0) // 64) + n[c]) for c in cores}


@pytest.mark.parametrize("kind", KINDS)
def test_every_core_is_used_as_its_single_synapses_say(kind: str) -> None:
    made, _ = program(kind, 13)
    tight = replace(LOIHI1, limits=dict(LOIHI1.limits) | {"neurons_per_core": 7, "axons_in_per_core": 900})
    rng = np.random.default_rng(0)
    anywhere = {n: rng.integers(0, 9, made.size(n)).astype(np.int32) for n in made.nodes}
    greedy = place(made.nodes, made.edges, tight)
    for found in (greedy, layout(made.nodes, made.edges, anywhere, LOIHI1)):
        want = by_links(made, found.placement)
        assert {c.core: (c.axons_in, c.axons_out, c.synapse_words) for c in found.cores} == want
        assert sum(c.neurons for c in found.cores) == sum(made.size(n) for n in made.nodes)
        assert sum(b - a for c in found.cores for _, a, b in c.parts) == sum(made.size(n) for n in made.nodes)
        assert all((c.chip, c.tile) == (c.core // 128, LOIHI1.tile(c.core)) for c in found.cores)
    assert max(c.neurons for c in greedy.cores) <= 7


def test_the_smaller_of_two_forms_is_stored() -> None:
    nodes = {"in": InputNode((100,)), "h": lif(60)}
    w = np.full((60, 100), 2, np.int16)
    w[::7, ::9] = 0  # a few zeros are stored rather than an index with each synapse
    _, usage = placed(nodes, [DenseEdge("in", "h", w, "excitatory")])
    assert usage["synapse_words_per_core"][0] == 100 * 60 * 8 // 64 + 100
    single = SparseEdge.of_dense(DenseEdge("in", "h", np.eye(60, 100, dtype=np.int16) * 2, "excitatory"))
    kept = single.pointer.copy(), single.target.copy()
    _, usage = placed(nodes, [single])
    assert usage["synapse_words_per_core"][0] == -(-60 * 18 // 64) + 60
    assert (single.pointer == kept[0]).all()
    assert (single.target == kept[1]).all()


def test_layout_prints_core_by_core() -> None:
    nodes = {"in": InputNode((3,)), "h": lif(130)}
    profile = replace(LOIHI1, limits=dict(LOIHI1.limits) | {"neurons_per_core": 26})
    text = str(place(nodes, [dense("in", "h", 3, 130)], profile)).splitlines()
    assert text[0] == "loihi1"
    assert "  cores: 6 of 128" in text
    assert "  h: 130 neurons on 5 cores, 1 to 5" in text
    assert text[-6].split() == ["0", "0", "0,0", "3", "0", "0", "15", "in[0:3]"]
    assert text[-1].split() == ["5", "0", "0,1", "26", str(-(-26 * 3 * 8 // 64) + 3), "3", "0", "h[104:130]"]


def test_a_placement_by_hand_is_held_to_the_same_limits() -> None:
    nodes = {"in": InputNode((100,)), "h": lif(60)}
    edges: list[Edge] = [dense("in", "h", 100, 60)]
    one = {"in": np.zeros(100, np.int32), "h": np.zeros(60, np.int32)}
    found = layout(nodes, edges, one, LOIHI1)
    assert found.usage["cores"] == (1, 128)
    assert found.usage["neurons_per_core"] == (160, 1024)
    assert found.cores[0].parts == (("in", 0, 100), ("h", 0, 60))
    made = assemble(nodes, edges, "h", placement=one)
    assert made.usage == found.usage
    tight = replace(LOIHI1, limits=dict(LOIHI1.limits) | {"axons_in_per_core": 99})
    with pytest.raises(CapacityError, match=r"in: core 0 needs 100 axons_in_per_core, loihi1 has 99; spread"):
        layout(nodes, edges, one, tight)
    with pytest.raises(CapacityError, match=r"h: placement must give a core, 0 or more, to each of its 60"):
        layout(nodes, edges, one | {"h": np.full(60, -1)}, LOIHI1)
    with pytest.raises(CapacityError, match=r"in: takes 1 of 2 cores; chips: need 2, have 1"):
        layout(nodes, edges, one | {"h": np.full(60, 128)}, LOIHI1, chips=1)


def test_ten_million_synapses_take_no_memory_beside_them() -> None:
    w = np.full((2500, 4000), 2, np.int16)
    nodes = {"in": InputNode((4000,)), "h": lif(2500)}
    tracemalloc.start()
    found = place(nodes, [DenseEdge("in", "h", w, "mixed")], LOIHI1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < w.nbytes
    assert found.usage["chips"][0] == 2
    assert found.usage["axons_in_per_core"] == (4000, 4096)
    assert found.usage["synapse_words_per_core"][0] == -(-22 * 4000 * 9 // 64) + 4000


def test_messages_to_another_chip_are_counted_and_said() -> None:
    made = assemble(
        {"in": InputNode((2,)), "h": lif(2)},
        [dense("in", "h", 2, 2)],
        "h",
        placement={"in": np.array([0, 0], np.int32), "h": np.array([1, 131], np.int32)},
    )
    way = routes(made)["in"]
    assert (way.far.tolist(), way.hops_ew.tolist(), way.hops_ns.tolist()) == ([1, 1], [8, 8], [0, 0])
    done = engine.run(made, np.ones((1, 3, 2), np.int8))
    assert done.counts["chip_messages"] == {"in": 6, "h": 0}
    assert any("6 messages went to another chip" in n for n in done.notes)
    assert made.usage["chips"] == (2, 768)


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
