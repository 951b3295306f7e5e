"""The integer law by literal numbers, computed by hand from lava-nc's rules; every engine gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from export.assemble import assemble
from export.loihi import (
    ConvEdge,
    Delta,
    DenseEdge,
    Graded,
    InputNode,
    Lif,
    LoihiProgram,
    ResonateFire,
    Sigma,
    SigmaDelta,
    SparseEdge,
    Ternary,
    effective,
    lava_kernel,
)
from sim.loihi import engine, reference
from sim.run import Run

Array = npt.NDArray[Any]


def by_step(module: Any) -> Any:
    """``run`` out of ``step``, so that explicit state obeys the same literals."""

    def run(program: LoihiProgram, x: Array, probes: tuple[str, ...] = ()) -> Run:
        done = reference.run(program, x, probes=probes)
        state, ys = None, []
        for t in range(x.shape[1] + program.latency):
            y, state = module.step(program, state, x[:, t] if t < x.shape[1] else np.zeros_like(x[:, 0]))
            ys.append(y)
        assert (np.stack(ys, 1)[:, program.latency :] == done.y).all()
        return done

    return run


ENGINES = {
    "reference": reference.run,
    "compiled": engine.run,
    "numpy": lambda p, x, probes=(): engine.run(p, x, probes=probes, numba=False),
    "reference step": by_step(reference),
    "compiled step": by_step(engine),
}


@pytest.fixture(params=ENGINES)
def run(request: pytest.FixtureRequest) -> Any:
    return ENGINES[request.param]


def one(
    w: int = 254, sign: Any = "mixed", *, bits: int = 0, du: int = 4095, dv: int = 0, vth: int = 131071, **edge: Any
) -> LoihiProgram:
    """One input line, one synapse, one neuron ``h``."""
    lif = {k: edge.pop(k) for k in ("bias", "bias_exp", "reset", "subtract", "u0") if k in edge}
    return assemble(
        {"in": InputNode((1,), bits), "h": Lif((1,), du, dv, vth, **lif)},
        [DenseEdge("in", "h", np.array([[w]], np.int16), sign, num_message_bits=edge.pop("message", bits), **edge)],
        "h",
    )


def series(run: Any, program: LoihiProgram, x: list[int], probe: str) -> list[int]:
    spikes = np.array(x).reshape(1, -1, 1)
    found: list[int] = run(program, spikes, probes=(probe,)).probes[probe][0, :, 0].tolist()
    return found


def test_a_spike_arrives_one_step_later_and_fires_once(run: Any) -> None:
    program = one(254, vth=100, dv=0)
    assert program.latency == 1
    assert series(run, program, [1, 0, 0, 0], "h.s") == [1, 0, 0, 0]
    y, state = reference.step(program, None, np.array([[1]]))
    assert y.tolist() == [[0]]
    assert reference.step(program, state, np.array([[0]]))[0].tolist() == [[1]]


def test_equality_does_not_fire(run: Any) -> None:
    assert series(run, one(100, vth=100), [1, 0], "h.s") == [0, 0]
    assert series(run, one(100, vth=99), [1, 0], "h.s") == [1, 0]
    assert series(run, one(100, vth=99), [1, 0], "h.v") == [0, 0]


@pytest.mark.parametrize(
    ("w", "sign", "bits", "v"),
    [
        (300, "excitatory", 8, 16320),
        (101, "mixed", 8, 6400),
        (101, "excitatory", 8, 6464),
        (-101, "mixed", 8, -6528),
        (-300, "inhibitory", 8, -16320),
        (-101, "inhibitory", 8, -6464),
        (101, "excitatory", 5, 6144),
        (-101, "inhibitory", 5, -6144),
        (-101, "mixed", 5, -7168),
        (255, "mixed", 8, 16256),
        (-300, "mixed", 8, -16384),
        (-5, "excitatory", 8, 0),
        (5, "inhibitory", 8, 0),
    ],
)
def test_weights_are_clipped_and_truncated_by_sign_mode(run: Any, w: int, sign: str, bits: int, v: int) -> None:
    program = one(w, sign, num_weight_bits=bits)
    assert series(run, program, [1, 0], "h.v") == [v, v]
    assert bool(program.losses) == (v != 64 * w)


def test_preparing_twice_changes_nothing() -> None:
    w = np.arange(-300, 301)
    for sign in ("mixed", "excitatory", "inhibitory"):
        for bits in range(1, 9):
            once = effective(w, sign, bits)
            assert (effective(once, sign, bits) == once).all()
    assert effective(w, "mixed").tolist() == [max(-256, min(254, 2 * (k // 2))) for k in range(-300, 301)]


def test_graded_payload_keeps_sign_and_size(run: Any) -> None:
    assert series(run, one(100, bits=8), [-7, 0], "h.v") == [-44800, -44800]


def test_binary_synapse_loses_sign_and_size_of_a_payload(run: Any) -> None:
    assert series(run, one(100, bits=8, message=0), [-7, 0, 3], "h.v") == [6400, 6400, 12800]


def test_weight_exponent_shifts_the_sum_and_rounds_down(run: Any) -> None:
    assert series(run, one(-1, "inhibitory", weight_exp=-3), [1, 0], "h.v") == [-64, -64]
    assert series(run, one(3, "excitatory", weight_exp=7), [1, 0], "h.v") == [24576, 24576]
    assert series(run, one(7, "excitatory", weight_exp=-3), [1, 0], "h.v") == [0, 0]


def test_bias_with_exponent_adds_every_step(run: Any) -> None:
    assert series(run, one(bias=np.array([5]), bias_exp=3), [0] * 4, "h.v") == [40, 80, 120, 160]
    assert series(run, one(bias=np.array([10]), bias_exp=-2), [0] * 4, "h.v") == [2, 4, 6, 8]


def test_current_decays_by_du_plus_one(run: Any) -> None:
    assert series(run, one(100, du=0), [1, 0, 0], "h.u") == [6400, 6398, 6396]
    assert series(run, one(100, du=4095), [1, 0, 0], "h.u") == [6400, 0, 0]
    assert series(run, one(100, du=-1), [1, 0, 0], "h.u") == [6400, 6400, 6400]
    assert series(run, one(-100, du=0), [1, 0, 0], "h.u") == [-6400, -6398, -6396]


def test_voltage_decay_truncates_toward_zero(run: Any) -> None:
    assert series(run, one(100, dv=4095), [1, 0, 0], "h.v") == [6400, 1, 0]
    assert series(run, one(-100, dv=4095), [1, 0, 0], "h.v") == [-6400, -1, 0]
    assert series(run, one(100, dv=4096), [1, 0, 0], "h.v") == [6400, 0, 0]


def test_spike_resets_voltage_not_current(run: Any) -> None:
    program = one(100, du=2047, vth=50)
    assert series(run, program, [1, 0, 0], "h.u") == [6400, 3200, 1600]
    assert series(run, program, [1, 0, 0], "h.s") == [1, 0, 1]
    assert series(run, program, [1, 0, 0], "h.v") == [0, 3200, 0]


def test_subtracting_reset_takes_its_own_amount(run: Any) -> None:
    program = one(250, vth=99, reset="subtract", subtract=100)
    assert series(run, program, [1, 0, 0, 0], "h.s") == [1, 1, 0, 0]
    assert series(run, program, [1, 0, 0, 0], "h.v") == [9600, 3200, 3200, 3200]


def test_current_wraps_once_and_voltage_saturates(run: Any) -> None:
    top = 2**23
    program = one(254, bits=16)
    assert series(run, program, [520], "h.u") == [254 * 520 * 64 - 2 * top]
    assert series(run, program, [-520], "h.u") == [-254 * 520 * 64 + 2 * top]
    assert series(run, program, [1600], "h.u") == [254 * 1600 * 64 - 2 * top]  # still out of range: one wrap only
    assert series(run, program, [600, 0], "h.v")[0] == 254 * 600 * 64 - 2 * top
    assert series(run, one(254, bits=16, du=-1), [-500, 0], "h.v") == [-8128000, 1 - top]
    assert series(run, one(254, bits=16, du=-1), [500, 0], "h.s") == [0, 1]  # the largest threshold is below the top
    notes = run(program, np.array([[[520]]])).notes
    assert [n.split(",")[0] for n in notes if n.startswith("h:")] == ["h: the current wrapped 1 times"]


def test_port_and_shift_wrap_to_32_bits(run: Any) -> None:
    payload = 2**23 - 1
    a = 254 * payload  # 2,130,706,178 fits; << 6 does not
    x = (a << 6) + 2**31 & (2**32 - 1)
    x -= 2**31
    u = x - 2**24 if x > 2**23 else x + 2**24 if x <= -(2**23) else x
    assert series(run, one(254, bits=23), [payload], "h.u") == [u]


def test_delay_adds_to_the_one_step(run: Any) -> None:
    assert series(run, one(100, delay=3), [1, 0, 0, 0, 0], "h.v") == [0, 0, 0, 6400, 6400]
    program = assemble(
        {"in": InputNode((2,)), "h": Lif((1,), 4095, 0, 131071)},
        [DenseEdge("in", "h", np.array([[100, 50]], np.int16), "excitatory", delays=np.array([[0, 62]]))],
        "h",
    )
    x = np.zeros((1, 70, 2), np.int8)
    x[0, 0] = 1
    v = run(program, x, probes=("h.v",)).probes["h.v"][0, :, 0]
    assert v.tolist() == [6400] * 62 + [9600] * 8


def test_exponent_rounds_each_delay_apart(run: Any) -> None:
    w, delays = np.array([[-1, -1]], np.int16), np.array([[0, 1]])
    both = assemble(
        {"in": InputNode((2,)), "h": Lif((1,), 4095, 0, 131071)},
        [DenseEdge("in", "h", w, "inhibitory", -1, delays=delays)],
        "h",
    )
    x = np.ones((1, 2, 2), np.int8)
    assert run(both, x, probes=("h.v",)).probes["h.v"][0, :, 0].tolist() == [-64, -192]  # -1 each, not -1 for two


def test_recurrence_is_one_step_later(run: Any) -> None:
    program = assemble(
        {"in": InputNode((1,)), "h": Lif((1,), 4095, 4095, 10)},
        [
            DenseEdge("in", "h", np.array([[20]], np.int16), "excitatory"),
            DenseEdge("h", "h", np.array([[20]], np.int16), "excitatory"),
        ],
        "h",
    )
    assert series(run, program, [1, 0, 0, 0], "h.s") == [1, 1, 1, 1]
    assert series(run, program, [0, 0, 1, 0], "h.s") == [0, 0, 1, 1]


def lava_convolution(image: Array, kernel: Array, edge: ConvEdge) -> Array:
    """lava's Conv by its own words: ``image (W, H, C)``, ``kernel (O, kW, kH, I)``, a true convolution."""
    flipped = kernel[:, ::-1, ::-1]
    (sy, sx), (py, px), (dy, dx) = edge.stride, edge.padding, edge.dilation
    o, kw, kh, per_in = kernel.shape
    x = np.pad(image, ((px, px), (py, py), (0, 0)))
    out_w = (x.shape[0] - dx * (kw - 1) - 1) // sx + 1
    out_h = (x.shape[1] - dy * (kh - 1) - 1) // sy + 1
    y = np.zeros((out_w, out_h, o), np.int64)
    for (i, j, k), _ in np.ndenumerate(y):
        first = k // (o // edge.groups) * per_in
        part = x[i * sx : i * sx + dx * kw : dx, j * sy : j * sy + dy * kh : dy, first : first + per_in]
        y[i, j, k] = (part * flipped[k]).sum()
    return y


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups"),
    [((1, 1), (0, 0), (1, 1), 1), ((2, 1), (1, 2), (1, 2), 1), ((1, 3), (2, 0), (2, 1), 2)],
)
def test_convolution_is_lavas(run: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> None:
    rng = np.random.default_rng(1)
    w = (rng.integers(-128, 127, (4, 2, 3, 2)) * 2).astype(np.int16)
    edge = ConvEdge("in", "h", w, "mixed", stride, padding, dilation, groups)
    image = (rng.random((2 * groups, 9, 8)) < 0.4).astype(np.int8)
    shape = edge.out_shape(image.shape)
    program = assemble({"in": InputNode(image.shape), "h": Lif(shape, 4095, 0, 131071)}, [edge], "h")
    v = run(program, image[None, None], probes=("h.v",)).probes["h.v"][0, 0]
    want = lava_convolution(image.transpose(2, 1, 0).astype(np.int64), lava_kernel(w), edge)
    assert np.abs(want).max() > 0
    assert (v == want.transpose(2, 1, 0) * 64).all()


def test_convolution_wraps_to_24_bits_and_is_not_truncated(run: Any) -> None:
    w = np.array([[[[101]]]], np.int16)
    edge = ConvEdge("in", "h", w, "mixed", num_message_bits=20)
    program = assemble({"in": InputNode((1, 1, 2), 20), "h": Lif((1, 1, 2), 4095, 0, 131071)}, [edge], "h")
    u = run(program, np.array([1, 100000]).reshape(1, 1, 1, 1, 2), probes=("h.u",)).probes["h.u"].ravel()
    a = 101 * 100000 - 2**24
    x = a << 6
    assert u.tolist() == [6464, x + 2**24]


def test_input_that_is_no_message_is_refused(run: Any) -> None:
    with pytest.raises(ValueError, match=r"in: x holds fractions.*neuro\.encode\.rate"):
        run(one(), np.array([[[0.5]]]))
    with pytest.raises(ValueError, match=r"in: x holds 0 to 2, the program takes 0 to 1.*graded_bits"):
        run(one(), np.array([[[2], [0]]]))
    with pytest.raises(ValueError, match=r"x must be \(samples, T, 1\)"):
        run(one(), np.zeros((1, 4, 2)))
    with pytest.raises(ValueError, match=r"no probe 'h\.w'; there are h\.s"):
        run(one(), np.zeros((1, 4, 1)), probes=("h.w",))


def through(run: Any, node: Any, x: list[int], probe: str = "h.s", w: int = 1, **edge: Any) -> list[int]:
    """One input line of 16 bits into one neuron of ``node``, through a weight of 1."""
    edges = [DenseEdge("in", "h", np.array([[w]], np.int16), "excitatory" if w > 0 else "inhibitory", **edge)]
    program = assemble({"in": InputNode((1,), 16), "h": node}, edges, "h")
    return series(run, program, x, probe)


def test_ternary_sends_both_signs_and_resets_on_either(run: Any) -> None:
    node = Ternary((1,), 4095, 0, 10, -5)
    x = [10, 1, -5, -1, 0, 11]
    assert through(run, node, x, num_message_bits=16) == [0, 1, 0, -1, 0, 1]  # neither threshold fires on equality
    assert through(run, node, x, "h.v", num_message_bits=16) == [640, 0, -320, 0, 0, 0]


def test_a_negative_message_counts_as_one_on_a_binary_synapse_and_is_refused(run: Any) -> None:
    assert through(run, Lif((1,), 4095, 0, 1000), [-1, 0, -9], "h.v", w=3) == [192, 192, 384]
    nodes = {"in": InputNode((1,), 16), "t": Ternary((1,), 4095, 0, 1, -1), "h": Lif((1,), 4095, 0, 99)}
    w = np.array([[2]], np.int16)
    edges = [DenseEdge("in", "t", w, "mixed", num_message_bits=16), DenseEdge("t", "h", w, "mixed")]
    with pytest.raises(ValueError, match=r"t -> h: t sends signed integers \(ternary\).*num_message_bits"):
        assemble(nodes, edges, "h")


def test_sigma_sums_and_delta_sends_changes_with_their_residue(run: Any) -> None:
    assert through(run, Sigma((1,)), [3, 0, -5], num_message_bits=16) == [3, 3, -2]
    x = [3, 7, 7, 0]
    # y - act + residue: 3 (kept), 4 + 3 = 7 sent, 0, -7 sent
    assert through(run, Delta((1,), 5), x, num_message_bits=16) == [0, 7, 0, -7]
    assert through(run, Delta((1,), 5), x, "h.residue", num_message_bits=16) == [3, 0, 0, 0]
    # spike_exp 1, state_exp 2: inputs << 3, threshold 40, messages >> 2
    assert through(run, Delta((1,), 5, spike_exp=1, state_exp=2), x, num_message_bits=16) == [0, 14, 0, -14]


def test_delta_with_cumulative_error_fires_on_the_sum_of_changes(run: Any) -> None:
    x = [3, 3, 3]
    # d = 3, then 0 + residue 3 twice; error 3, 6 (fires d = 3, cleared), then d = 0 leaves it 0
    assert through(run, Delta((1,), 5, cum_error=True), x, num_message_bits=16) == [0, 3, 0]
    assert through(run, Delta((1,), 5, cum_error=True), x, "h.error", num_message_bits=16) == [3, 0, 0]


def test_sigma_delta_activates_the_sum_with_its_bias(run: Any) -> None:
    x = [4, 0, -20, 20]
    relu = SigmaDelta((1,), 3, np.array([1]))
    # sigma 4, 4, -16, 4; act 5, 5, 0, 5; changes 5, 0, -5, 5
    assert through(run, relu, x, num_message_bits=16) == [5, 0, -5, 5]
    assert through(run, relu, x, "h.sigma", num_message_bits=16) == [4, 4, -16, 4]
    unit = SigmaDelta((1,), 3, np.array([1]), "unit")
    assert through(run, unit, x, num_message_bits=16) == [5, 0, -20, 20]


def test_resonator_turns_and_fires_on_the_way_up(run: Any) -> None:
    # period 4, no decay, 6 bits: cos = int(64 cos(pi / 2)) = 0, sin = 64: (re, im) -> (-im, re)
    node = ResonateFire.of_period((1,), 4.0, 0.0, 10, decay_bits=6)
    assert (node.cos_decay, node.sin_decay) == (0, 64)
    x = [20, 0, 0, 0, 0, 0]
    assert through(run, node, x, "h.real", num_message_bits=16) == [20, 0, -20, 0, 20, 0]
    assert through(run, node, x, "h.imag", num_message_bits=16) == [0, 20, 0, -20, 0, 20]
    assert through(run, node, x, num_message_bits=16) == [0, 0, 0, 0, 1, 0]  # im from -20 to 0 with re >= 10
    iz = ResonateFire.of_period((1,), 4.0, 0.0, 10, decay_bits=6, izhikevich=True)
    assert through(run, iz, x, num_message_bits=16) == [0, 1, 0, 0, 0, 0]
    assert through(run, iz, x, "h.imag", num_message_bits=16) == [0, 9, 0, -9, 0, 9]
    assert through(run, iz, x, "h.imag", num_message_bits=16, port="imag")[:2] == [9, 0]


def test_resonator_decays_toward_zero(run: Any) -> None:
    node = ResonateFire((1,), 0, 32, 6, 1000)  # re and im halve
    assert through(run, node, [-7, 0, 0, 0], "h.real", num_message_bits=16) == [-7, -3, -1, 0]


def test_graded_vector_sends_what_passes_its_threshold(run: Any) -> None:
    x = [5, 6, -6, -5]
    assert through(run, Graded((1,), 5), x, num_message_bits=16) == [0, 6, -6, 0]
    assert through(run, Graded((1,), 5, relu=True), x, num_message_bits=16) == [0, 6, 0, 0]


def test_lif_reset_clears_before_the_step_of_its_offset(run: Any) -> None:
    program = assemble(
        {"in": InputNode((1,)), "h": Lif((1,), -1, 0, 99999, reset_interval=3, reset_offset=2)},
        [DenseEdge("in", "h", np.array([[1]], np.int16), "excitatory")],
        "h",
        late=False,
    )
    # lava's steps 2 and 5 are chip steps 1 and 4; what arrives in them still counts
    assert series(run, program, [1, 0, 0, 1, 0, 0], "h.u") == [0, 64, 64, 64, 64, 64]
    assert series(run, program, [1, 0, 0, 1, 0, 0], "h.v") == [0, 64, 128, 192, 64, 128]


def test_numbers_may_differ_from_neuron_to_neuron(run: Any) -> None:
    node = Lif((2,), np.array([4095, -1]), np.array([0, 2048]), np.array([1, 100]), v0=np.array([64, 640]))
    program = assemble(
        {"in": InputNode((1,)), "h": node},
        [DenseEdge("in", "h", np.array([[1], [2]], np.int16), "excitatory")],
        "h",
    )
    done = run(program, np.array([0, 1, 0]).reshape(1, 3, 1), probes=("h.s", "h.v"))
    assert done.probes["h.s"][0].tolist() == [[0, 0], [1, 0], [0, 0]]
    assert done.probes["h.v"][0].tolist() == [[64, 320], [0, 288], [0, 272]]


def test_sparse_is_dense_with_the_synapses_that_there_are(run: Any) -> None:
    w = np.array([[0, 4, -6], [8, 0, 0]], np.int16)
    dense = DenseEdge("in", "h", w, "mixed", -1, delays=np.array([[0, 2, 0], [1, 0, 0]]))
    nodes = {"in": InputNode((3,)), "h": Lif((2,), 4095, 0, 999)}
    x = np.zeros((1, 5, 3), np.int8)
    x[0, 0] = 1
    v = [run(assemble(nodes, [e], "h"), x, probes=("h.v",)).probes["h.v"] for e in (dense, SparseEdge.of_dense(dense))]
    assert v[0][0].tolist() == [[-192, 0], [-192, 256], [-64, 256], [-64, 256], [-64, 256]]
    assert (v[0] == v[1]).all()


def test_hw_law_prepares_and_shifts_a_convolution(run: Any) -> None:
    edge = ConvEdge("in", "h", np.array([[[[101]]]], np.int16), "mixed", weight_exp=2)
    nodes = {"in": InputNode((1, 1, 1)), "h": Lif((1, 1, 1), 4095, 0, 131071)}
    found = {}
    for law in ("lava", "hw"):
        program = assemble(nodes, [edge], "h", law=law)  # type: ignore[arg-type]
        found[law] = run(program, np.ones((1, 1, 1, 1, 1), np.int8), probes=("h.v",)).probes["h.v"].ravel().tolist()
        assert [x.what.split(",")[0] for x in program.losses] == {
            "lava": [
                "weights of the convolution from in run as they are",
                "weight_exp of the convolution from in is ignored",
            ],
            "hw": ["weights from in put on the mixed grid"],
        }[law]
    assert found == {"lava": [101 * 64], "hw": [100 * 4 * 64]}


def test_hw_law_refuses_a_current_that_wraps(run: Any) -> None:
    program = assemble(
        {"in": InputNode((1,), 16), "h": Lif((1,), 4095, 0, 131071)},
        [DenseEdge("in", "h", np.array([[254]], np.int16), "mixed", num_message_bits=16)],
        "h",
        law="hw",
    )
    with pytest.raises(ValueError, match=r"h: the current left 24 bits and wrapped"):
        run(program, np.array([[[520]]]))
    for module in (engine, reference):
        _, state = module.step(program, None, np.array([[520]]))
        with pytest.raises(ValueError, match=r"h: the current left 24 bits and wrapped"):
            module.step(program, state, np.array([[0]]))
