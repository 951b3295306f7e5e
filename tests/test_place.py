"""Placement against limits counted by hand, and what a spike costs on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export import CapacityError
from export.loihi import ConvEdge, DenseEdge, Edge, InputNode, Lif
from export.place import place
from export.routes import routes
from export.to_loihi import assemble
from hardware.loihi import LIMITS, TIMES, load_profile
from hardware.tables import load_table

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
    program = assemble(
        {"in": InputNode((2,)), "h": lif(4)},
        [DenseEdge("in", "h", w, "excitatory")],
        "h",
        placement={"in": np.array([0, 5], np.int32), "h": np.array([1, 1, 17, 22], np.int32)},
    )
    way = routes(program)["in"]
    assert way.messages.tolist() == [2, 1]
    assert way.hops_ew.tolist() == [1, 1]  # core 0 to 22: tile (1, 1); core 5 on tile (0, 1) to 17 on (1, 0)
    assert way.hops_ns.tolist() == [1, 1]
    assert way.synapses["dense"].toarray()[0, [1, 17, 22]].tolist() == [2, 0, 1]
    assert routes(program)["h"].messages.tolist() == [0, 0, 0, 0]


def test_usage_is_kept_with_the_program(tmp_path: Path) -> None:
    program = assemble({"in": InputNode((20,)), "h": lif(12)}, [dense("in", "h", 20, 12)], "h")
    again = type(program).load(program.save(tmp_path / "p.npz"))
    assert again.usage == program.usage
    assert (again.placement["h"] == program.placement["h"]).all()
    assert all(0 < used <= most for used, most in program.usage.values())
