"""Placement against limits counted by hand, and what a spike costs on the way."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loihi_programs import KINDS, program
from placed_programs import by_links, dense, lif

from export import CapacityError
from export.assemble import assemble
from export.loihi import ConvEdge, DenseEdge, Edge, InputNode, LoihiProgram, SparseEdge
from export.place import layout, place
from export.routes import routes
from hardware.loihi import LIMITS, TIMES, load_profile
from hardware.tables import load_table
from sim.loihi import engine

LOIHI1 = load_profile("loihi1")


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
