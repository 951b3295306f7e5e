"""Float to integers: literal numbers, exactness where it is possible, and a named loss or refusal where it is not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from export import AvgPool2d, Conv2d, Edge, Flatten, Input, Linear, MappingError, Network, NetworkError, Output, Spiking
from export.assemble import assemble
from export.loihi import ConvEdge, DenseEdge, ProgramError, effective
from export.lower import Link, lower
from export.quantize import quantize
from export.to_loihi import compile_loihi
from neuro.neuron import Decay, Law, Leaky, NoLeak, Rate, Tau
from sim import numpy_engine
from sim.loihi import engine, reference

RNG = np.random.default_rng(7)
SEED = RNG.bit_generator.state


@pytest.fixture(autouse=True)
def _same_numbers_in_any_order() -> None:
    RNG.bit_generator.state = SEED


def normal(*shape: int) -> Any:
    return RNG.normal(0.1, 0.5, shape)


def spikes(*shape: int, rate: float = 0.3) -> Any:
    return (RNG.random(shape) < rate).astype(np.float64)


def agreement(net: Network, x: Any, **options: Any) -> dict[str, float]:
    """Share of equal spikes per population between the float law and the chip; what is compared fires."""
    probes = tuple(f"{n}.s" for n in net.spiking())
    want = numpy_engine.run(net, x, probes=probes)
    got = engine.run(compile_loihi(net, **options), x, probes=probes)
    for p in probes:
        assert 0.005 < want.probes[p].mean() < 0.9, p
    return {p: float((want.probes[p] == got.probes[p]).mean()) for p in probes}


def one_layer(law: Law, w: Any, bias: Any = None) -> Network:
    return Network.sequential({"in": Input((w.shape[1],)), "fc": Linear(w, bias), "h": Spiking(law), "out": Output()})


def test_worked_mapping_example() -> None:
    """LIF tau 2 with decayed input, weights -0.8 to 1.1: s = 461.8, vth 462, du 4095, dv 2048."""
    w = RNG.uniform(-0.8, 1.1, (10, 784))
    w[0, 0], w[1, 1] = -0.8, 1.1
    link = Link("in", "h", "fc", w)
    made = quantize("h", Law(Tau(2.0)), [link], None, [1], peak=100.0)  # a batch's maximum leaves e = 0
    assert made.weight_exp == 0
    assert made.scale == pytest.approx(461.818, abs=1e-3)
    assert (made.vth, made.du, made.dv) == (462, 4095, 2048)
    assert (made.weights[0].min(), made.weights[0].max()) == (-184, 254)
    assert (made.weights[0] % 2 == 0).all()
    assert made.sign_modes == ["mixed"]
    full = quantize("h", Law(Tau(2.0)), [replace(link, weight=np.abs(w) + 1.0)], None, [1])
    assert "a current could reach 2^23" in " ".join(x.what for x in full.losses)
    a = np.where(full.weights[0] > 0, full.weights[0], 0).astype(int).sum(axis=1).max() * 2**full.weight_exp
    assert a * 64 < 2**23


def test_single_sign_takes_all_eight_bits() -> None:
    made = quantize("h", Law(), [Link("in", "h", "fc", RNG.uniform(0.1, 0.5, (4, 6)))], None, [1])
    assert made.sign_modes == ["excitatory"]
    assert made.weights[0].max() == 255
    assert (made.weights[0] % 2 == 1).any()
    below = quantize("h", Law(), [Link("in", "h", "fc", -RNG.uniform(0.1, 0.5, (4, 6)))], None, [1])
    assert below.sign_modes == ["inhibitory"]
    assert below.weights[0].min() == -255
    for q in (made, below):
        assert (effective(q.weights[0], q.sign_modes[0]) == q.weights[0]).all()


def test_exponent_is_the_largest_that_cannot_overflow() -> None:
    made = quantize("h", Law(), [Link("in", "h", "fc", np.array([[1.0, -0.7701]]))], None, [1])
    assert made.weight_exp == 7
    assert made.scale == pytest.approx(254 * 128)
    tall = quantize("h", Law(threshold=20.0), [Link("in", "h", "fc", np.array([[1.0, -0.7771]]))], None, [1])
    assert tall.weight_exp == 4
    assert tall.vth + 1 == 20 * 254 * 16


def test_convolution_keeps_exponent_zero() -> None:
    w = RNG.normal(0, 0.3, (4, 1, 3, 3))
    made = quantize("h", Law(), [Link("in", "h", "c", w)], None, [1])
    assert made.weight_exp == 0


@pytest.mark.parametrize("fires", [">=", ">"])
def test_pure_integrator_is_exact_in_its_comparison(fires: Any) -> None:
    """Weights and threshold on the grid: v meets the threshold exactly, and >= fires there, > does not."""
    w = (RNG.integers(-3, 6, (20, 12)) / 4).astype(np.float64)
    net = one_layer(Law(NoLeak(), 1.0, fires=fires), w)
    program = compile_loihi(net)
    node = program.populations["h"]
    assert node.vth == round(program.scale["h"]) - (fires == ">=")
    assert program.losses == ()
    assert agreement(net, spikes(5, 60, 12, rate=0.2)) == {"h.s": 1.0}


@pytest.mark.parametrize(
    "law",
    [
        Law(Tau(2.0, decay_input=False), fires=">"),
        Law(Tau(2.0, decay_input=True), threshold=0.5, fires=">"),
        Law(Tau(4.0, decay_input=False), fires=">="),
        Law(Rate(0.25, decay_input=False), fires=">"),
        Law(Leaky(0.75), fires=">"),
        Law(Leaky(1.0), fires=">="),
        Law(Decay(0.5, 0.75), threshold=3.0, fires=">"),
        Law(Tau(2.0, decay_input=False, rest=-0.25), v_reset=-0.25, fires=">"),
        Law(NoLeak(), v_reset=-0.5),
    ],
)
def test_weights_on_the_grid_agree_with_the_float_law(law: Law) -> None:
    w1, w2 = ((RNG.integers(-50, 60, n) / 64).astype(np.float64) for n in ((24, 16), (10, 24)))
    nodes = {
        "in": Input((16,)),
        "a": Linear(w1),
        "h": Spiking(law),
        "b": Linear(w2),
        "o": Spiking(law),
        "out": Output(),
    }
    assert agreement(Network.sequential(nodes), spikes(6, 50, 16)) == {"h.s": 1.0, "o.s": 1.0}


def test_trained_like_weights_agree_closely_and_say_what_was_lost() -> None:
    law = Law(Tau(2.0))
    w1, w2 = RNG.normal(0.03, 0.25, (64, 100)), RNG.normal(0.05, 0.4, (10, 64))
    nodes = {
        "in": Input((100,)),
        "a": Linear(w1),
        "h": Spiking(law),
        "b": Linear(w2),
        "o": Spiking(law),
        "out": Output(),
    }
    net = Network.sequential(nodes)
    share = agreement(net, spikes(4, 100, 100))
    assert share["h.s"] > 0.98
    assert share["o.s"] > 0.93
    program = compile_loihi(net)
    by = {(x.node, x.what.split(",")[0]): x.size for x in program.losses}
    step = 2 / (program.scale["h"] / 2 ** program.edges[0].weight_exp * 0.5)
    assert 0 < by["a", "weights rounded to 8 bits"] <= step / 2
    assert ("h", "threshold rounded") in by or program.scale["h"] % 1 < 1e-6
    assert [x for x in program.losses if x.node == "h" and "'>=' runs as '>'" in x.what]


def test_bias_of_an_integrator_and_of_a_leaky_neuron() -> None:
    w, bias = RNG.integers(-30, 60, (12, 8)) / 64, RNG.integers(-8, 16, 12) / 64
    for law in (Law(NoLeak(), fires=">"), Law(Tau(2.0, decay_input=False), fires=">")):
        assert agreement(one_layer(law, w, bias), spikes(4, 60, 8)) == {"h.s": 1.0}


def test_bias_through_a_decaying_current_is_a_voltage_bias_and_a_first_current() -> None:
    """Without rounding trouble: bias / (1 - a) on v, u0 = -bias / (1 - a), and the transient cancels."""
    w, bias = RNG.integers(-30, 60, (12, 8)) / 64, RNG.integers(-8, 16, 12) / 64
    law = Law(Decay(0.5, 0.5), threshold=2.0, fires=">")
    net = one_layer(law, w, bias)
    node = compile_loihi(net).populations["h"]
    assert node.u0 is not None
    assert node.bias is not None
    scale = compile_loihi(net).scale["h"]
    assert np.allclose(node.bias.astype(int) << node.bias_exp, 2 * bias * scale * 64, atol=2**node.bias_exp / 2)
    assert np.allclose(node.u0, -2 * bias * scale * 64, atol=0.5)
    assert agreement(net, spikes(4, 60, 8))["h.s"] > 0.995


def test_rest_away_from_reset_is_a_constant_bias() -> None:
    law = Law(Tau(4.0, decay_input=False, rest=0.5), v_reset=-0.5, fires=">")
    w = RNG.integers(-30, 60, (12, 8)) / 64
    program = compile_loihi(one_layer(law, w))
    node = program.populations["h"]
    assert node.bias is not None
    assert (node.bias.astype(int) << node.bias_exp)[0] == pytest.approx(0.25 * program.scale["h"] * 64, rel=1e-3)
    assert agreement(one_layer(law, w), spikes(4, 60, 8))["h.s"] > 0.995


@pytest.mark.parametrize("padding", [0, 1])
def test_pooling_before_a_convolution_becomes_one_convolution(padding: int) -> None:
    w = RNG.integers(-40, 40, (4, 2, 3, 3)) / 16
    law = Law(Tau(2.0, decay_input=False), fires=">")
    nodes = {
        "in": Input((2, 12, 12)), "pool": AvgPool2d((2, 2), (2, 2)), "conv": Conv2d(w, None, (1, 1), (padding,) * 2),
        "h": Spiking(law), "out": Output(),
    }  # fmt: skip
    net = Network.sequential(nodes)
    (link,) = lower(net).links
    assert link.conv
    assert link.weight.shape == (4, 2, 6, 6)
    assert (link.stride, link.padding) == ((2, 2), (2 * padding,) * 2)
    assert isinstance(compile_loihi(net).edges[0], ConvEdge)
    assert agreement(net, spikes(3, 20, 2, 12, 12)) == {"h.s": 1.0}


@pytest.mark.parametrize(
    "chain",
    [
        {"pool": AvgPool2d((3, 3), (2, 2), (1, 1)), "conv": Conv2d(normal(3, 2, 2, 2))},
        {"pool": AvgPool2d((2, 2), (2, 2)), "conv": Conv2d(normal(3, 2, 3, 3), None, (2, 1), (1, 1), (2, 1))},
        {"pool": AvgPool2d((2, 2), (2, 2)), "flat": Flatten(), "fc": Linear(normal(7, 50))},
        {"conv": Conv2d(normal(4, 1, 3, 3), normal(4), groups=2), "flat": Flatten()},
        {"flat": Flatten(), "a": Linear(normal(9, 242), normal(9)), "b": Linear(normal(5, 9))},
        {"pool": AvgPool2d((2, 2), (2, 2))},
        {"flat": Flatten()},
        {},
    ],
)  # fmt: skip
def test_whatever_lies_between_two_populations_is_composed_exactly(chain: Any) -> None:
    net = Network.sequential({"in": Input((2, 11, 11)), **chain, "h": Spiking(), "out": Output()})
    lowered = lower(net)
    (link,) = lowered.links
    x = RNG.random((5, 2, 11, 11))
    shape = net.shapes()["h"]
    y = link.apply(x, shape).reshape(5, *shape)
    bias = lowered.bias["h"]
    want = x
    for node in chain.values():
        want = numpy_engine.apply(node, want)
    assert np.abs(want).max() > 0
    assert np.allclose(y if bias is None else y + bias, want, rtol=0, atol=1e-12)


def test_flatten_permutes_images_into_rows() -> None:
    w = RNG.integers(-30, 60, (5, 4 * 3 * 2)) / 64
    conv = RNG.integers(-30, 60, (4, 1, 2, 2)) / 64
    law = Law(Tau(2.0, decay_input=False), fires=">")
    nodes = {
        "in": Input((1, 4, 3)), "conv": Conv2d(conv), "h": Spiking(law), "flat": Flatten(), "fc": Linear(w[:, :24]),
        "o": Spiking(law), "out": Output(),
    }  # fmt: skip
    assert set(agreement(Network.sequential(nodes), spikes(4, 30, 1, 4, 3)).values()) == {1.0}


def test_two_paths_meet_in_the_same_step() -> None:
    """A residual sum: the short path waits in a delay; a convolution that must wait becomes a matrix."""
    law = Law(Tau(2.0, decay_input=False), fires=">")

    def conv() -> Conv2d:
        return Conv2d(RNG.integers(-20, 40, (2, 2, 3, 3)) / 64, None, (1, 1), (1, 1))

    nodes = {
        "in": Input((2, 5, 5)), "c1": conv(), "a": Spiking(law), "c2": conv(), "b": Spiking(law), "c3": conv(),
        "o": Spiking(law), "out": Output(),
    }  # fmt: skip
    chain = ["in", "c1", "a", "c2", "b", "c3", "o", "out"]
    edges = [Edge(a, b) for a, b in pairwise(chain)] + [Edge("a", "c3"), Edge("in", "o")]
    net = Network(nodes, edges)
    program = compile_loihi(net)
    found = {(e.src, e.dst): (e.kind, e.delay_range()[0]) for e in program.edges}
    assert found["a", "o"] == ("dense", 1)
    assert found["in", "o"] == ("dense", 2)
    assert found["b", "o"] == ("conv", 0)
    assert program.latency == 3
    assert set(agreement(net, spikes(3, 30, 2, 5, 5, rate=0.15)).values()) == {1.0}


def test_calibration_widens_the_scale_and_is_named() -> None:
    w = RNG.uniform(0.5, 1.1, (10, 784))
    net = one_layer(Law(Tau(2.0, decay_input=False), threshold=125.0), w)
    x = spikes(4, 10, 784, rate=0.1)
    worst, measured = compile_loihi(net), compile_loihi(net, calibration=x)
    assert measured.scale["h"] > worst.scale["h"]
    assert [n for n in worst.losses if "a current could reach 2^23" in n.what]
    assert not [n for n in measured.losses if "bits lost" in n.what]
    done = engine.run(measured, x)
    assert not [n for n in done.notes if "wrapped" in n]
    assert 0.005 < done.y.mean() < 0.9
    flood = engine.run(measured, np.ones((1, 10, 784)))
    assert "wrapped" in flood.notes[0]
    with pytest.raises(ValueError, match="calibration must be"):
        compile_loihi(net, calibration=x[:, :, :5])


def test_graded_input_is_multiplied_as_it_is() -> None:
    w = RNG.integers(-30, 60, (6, 5)) / 64
    net = one_layer(Law(Tau(2.0, decay_input=False), threshold=40.0, fires=">"), w)
    x = RNG.integers(-60, 120, (3, 40, 5)).astype(np.float64)
    assert agreement(net, x, graded_bits=7)["h.s"] == 1.0
    with pytest.raises(ValueError, match="more graded_bits"):
        engine.run(compile_loihi(net, graded_bits=6), x)
    assert isinstance(compile_loihi(net, graded_bits=7).edges[0], DenseEdge)


def test_subtracting_reset_runs_as_an_extension_and_says_so() -> None:
    law = Law(Tau(2.0, decay_input=False), reset="subtract", fires=">")
    net = one_layer(law, RNG.integers(-30, 60, (12, 8)) / 64)
    with pytest.raises(MappingError, match=r"h: reset 'subtract' .*train with reset 'zero'.*soft_reset=True"):
        compile_loihi(net)
    program = compile_loihi(net, soft_reset=True)
    assert [x for x in program.losses if "not portable to lava-nc" in x.what]
    assert agreement(net, spikes(4, 60, 8), soft_reset=True) == {"h.s": 1.0}
    exact = one_layer(Law(NoLeak(), reset="subtract"), RNG.integers(0, 6, (12, 8)) / 64)
    node = compile_loihi(exact, soft_reset=True).populations["h"]
    assert node.subtract == node.vth + 1
    assert agreement(exact, spikes(4, 60, 8), soft_reset=True) == {"h.s": 1.0}


def test_compiling_twice_gives_the_same_program() -> None:
    net = one_layer(Law(Tau(3.0)), RNG.normal(0, 1, (9, 5)), RNG.normal(0, 0.1, 9))
    assert compile_loihi(net).hash() == compile_loihi(net).hash()
    assert compile_loihi(net).source_hash == net.hash()


def test_voltage_that_forgets_everything_is_named() -> None:
    program = compile_loihi(one_layer(Law(Decay(0.0, 0.0)), RNG.normal(0, 1, (9, 5))))
    assert program.populations["h"].dv == 4095
    assert [x for x in program.losses if "1/4096" in x.what and x.size == 1 / 4096]


def chain(*nodes: Any) -> Network:
    names = [f"n{k}" for k in range(len(nodes))]
    return Network.sequential(dict(zip(names, nodes, strict=True)))


W = np.eye(3)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (
            chain(Input((3,)), Linear(W), Spiking(), Linear(W), Output()),
            r"n4: the chip sends spikes, but the output is 'n3'",
        ),
        (chain(Input((3,)), Linear(W * 0), Spiking(), Output()), r"n1: all weights are 0, there is no scale"),
        (
            chain(Input((3,)), Linear(W), Spiking(Law(v_reset=1.5)), Output()),
            r"n2: threshold 1 is not above v_reset 1\.5",
        ),
        (
            chain(Input((3,)), Linear(W), Spiking(Law(Decay(1.0, 0.5))), Output()),
            r"n2: a current that keeps 1 .*no legal du",
        ),
        (chain(Input((3,)), Linear(W), Spiking(Law(threshold=1e-5)), Output()), r"n2: threshold 1e-05 rounds to"),
    ],
)
def test_what_cannot_be_mapped_is_refused_with_the_fix(net: Network, message: str) -> None:
    with pytest.raises(MappingError, match=message):
        compile_loihi(net)


def test_weights_that_are_not_numbers_are_refused() -> None:
    with pytest.raises((MappingError, NetworkError), match="weight"):
        compile_loihi(Network({"in": Input((3,)), "fc": Linear(W * np.nan), "h": Spiking(), "out": Output()},
                              [Edge("in", "fc"), Edge("fc", "h"), Edge("h", "out")]))  # fmt: skip


def test_a_loop_shorter_than_its_connections_is_refused() -> None:
    nodes = {
        "in": Input((3,)), "w": Linear(W), "a": Spiking(), "u": Linear(W), "b": Spiking(), "back": Linear(W),
        "out": Output(),
    }  # fmt: skip
    edges = [Edge(*e) for e in (("in", "w"), ("w", "a"), ("a", "u"), ("u", "b"), ("b", "out"), ("b", "back"))]
    with pytest.raises(MappingError, match="a loop has more connections than steps of delay"):
        compile_loihi(Network(nodes, [*edges, Edge("back", "a", 1)]))
    program = compile_loihi(Network(nodes, [*edges, Edge("back", "a", 2)]))
    assert program.loops


def test_delay_beyond_the_chips_is_refused() -> None:
    net = one_layer(Law(), W)
    late = Network(dict(net.nodes), [*net.edges, Edge("h", "fc", 64)])
    with pytest.raises(MappingError, match="h -> h: needs a delay of 63 steps, a synapse has at most 62"):
        compile_loihi(late)
    ok = Network(dict(net.nodes), [*net.edges, Edge("h", "fc", 63)])
    assert compile_loihi(ok).edges[1].delay_range() == (62, 62)


def test_bias_before_a_delay_is_refused() -> None:
    nodes = {"in": Input((3,)), "w": Linear(W), "b": Linear(W, np.ones(3)), "h": Spiking(), "out": Output()}
    edges = [Edge(*e) for e in (("in", "w"), ("in", "b"), ("w", "h"), ("h", "out"))]
    with pytest.raises(MappingError, match="b: its bias passes a delay of 2"):
        compile_loihi(Network(nodes, [*edges, Edge("b", "h", 2)]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vth": 0}, r"h: vth must be in \[1, 131072\], got 0"),
        ({"vth": 131073}, r"h: vth must be in"),
        ({"du": 4096}, r"h: du must be in \[-1, 4095\]"),
        ({"dv": 4097}, r"h: dv must be in \[0, 4096\]"),
        ({"bias": np.array([5000])}, r"h: bias must be in \[-4096, 4095\], got 5000"),
        ({"bias": np.zeros(2, int)}, r"h: bias must have shape \(1,\)"),
        ({"bias_exp": 8}, r"h: bias_exp must be in \[-13, 7\]"),
        ({"reset": "soft"}, r"h: reset must be"),
    ],
)
def test_numbers_beyond_the_chips_name_the_node(change: Any, message: str) -> None:
    good = compile_loihi(one_layer(Law(), np.ones((1, 1))))
    node = replace(good.populations["h"], **change)
    with pytest.raises(ProgramError, match=message):
        assemble({"in": good.nodes["in"], "h": node}, good.edges, "h")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": np.ones((1, 2), np.int16)}, r"in -> h: weights must have shape \(1, 1\), got \(1, 2\)"),
        ({"delay": 63}, r"in -> h: delay must be in \[0, 62\], got 63"),
        ({"sign_mode": "both"}, r"in -> h: sign_mode must be mixed"),
        ({"weight_exp": 8}, r"in -> h: weight_exp must be in"),
        ({"num_message_bits": 25}, r"in -> h: num_message_bits must be in"),
        ({"num_weight_bits": 9}, r"in -> h: num_weight_bits must be in"),
        ({"dst": "x"}, r"in -> x: no node 'x'"),
        ({"dst": "in"}, r"in -> in: an input node takes no connection"),
    ],
)
def test_connections_beyond_the_chips_name_both_ends(change: Any, message: str) -> None:
    good = compile_loihi(one_layer(Law(), np.ones((1, 1))))
    with pytest.raises(ProgramError, match=message):
        assemble(good.nodes, [replace(good.edges[0], **change)], "h")


def test_reference_takes_a_compiled_network() -> None:
    net = one_layer(Law(Tau(2.0)), RNG.normal(0.2, 1, (9, 5)))
    x = spikes(3, 20, 5)
    program = compile_loihi(net)
    assert (reference.run(program, x).y == engine.run(program, x).y).all()
