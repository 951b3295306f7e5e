"""netx files: equal to what lava-dl's own loader made of them, as recorded; what is refused; what broken files say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import netx_cases
import numpy as np
import pytest

from export import Input, Linear, Network, Output, Spiking
from export.assemble import assemble
from export.from_netx import from_netx, input_transform
from export.loihi import ConvEdge, Delta, DenseEdge, InputNode, Lif, LoihiProgram, ResonateFire, SigmaDelta, Ternary
from export.netx_layers import UnloadableError, loaded, stored, written_decay
from export.package import PackageError
from export.program import MappingError
from export.to_loihi import compile_loihi
from export.to_netx import compile_netx, fitted, netx_program, to_netx
from neuro.neuron import Law, Tau
from sim import cli, engines
from sim.loihi import reference

GOLDEN = netx_cases.golden()
W = np.array([[10, -20, 30], [4, 50, -6]], np.int16)
EYE = np.eye(3, dtype=np.int16)


def chain(w: Any = W, lif: Any = None, **edge: Any) -> LoihiProgram:
    """in (3) -> o (2)."""
    nodes = {"in": InputNode((3,)), "o": lif or Lif((2,), 4095, 1024, 40)}
    return assemble(nodes, [DenseEdge("in", "o", np.asarray(w, np.int16), edge.pop("sign", "mixed"), **edge)], "o")


def read(tmp_path: Path, data: bytes, **options: Any) -> LoihiProgram:
    path = tmp_path / "a.net"
    path.write_bytes(data)
    return from_netx(path, **options)


@pytest.mark.parametrize("name", GOLDEN)
def test_runs_as_lava_dls_loader_ran_the_file(name: str, tmp_path: Path) -> None:
    case, y = GOLDEN[name]
    program = read(tmp_path, case.data, **case.reader)
    ran = reference.run(program, case.x).y
    want = y[:, case.lag :]
    assert want.any()
    np.testing.assert_array_equal(
        ran.reshape(len(y), len(ran[0]), -1)[:, : want.shape[1]], want.reshape(*want.shape[:2], -1)
    )


@pytest.mark.parametrize("name", [n for n, (case, _) in GOLDEN.items() if b"spikeport" in case.data])
def test_written_again_it_is_the_file_that_the_loader_ran(name: str, tmp_path: Path) -> None:
    program = read(tmp_path, GOLDEN[name][0].data)
    again = netx_program(program)
    again.save(tmp_path / "b.net")
    with h5py.File(tmp_path / "a.net") as a, h5py.File(tmp_path / "b.net") as b:
        names: list[str] = []
        a.visititems(lambda n, o: names.append(n) if isinstance(o, h5py.Dataset) else None)
        for n in names:
            if n != "spikeport":
                assert a[n].dtype == b[n].dtype
                np.testing.assert_array_equal(a[n][()], b[n][()], n)
            assert a[n].compression is None
    assert program.hash() == read(tmp_path, (tmp_path / "b.net").read_bytes()).hash()


def test_layout_is_lava_dls(tmp_path: Path) -> None:
    lif = Lif((2,), 2047, 1024, 40, np.array([3, -4], np.int16), 7)
    losses = to_netx(chain(lif=lif, delay=2), tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net") as f:
        assert list(f["layer"]) == ["0", "1"]
        one = f["layer/1"]
        assert (one["type"].dtype, one["type"].shape, one["type"][0]) == ("S10", (1,), b"dense")
        got = {k: one[k][()].tolist() for k in ("shape", "weight", "bias", "delay", "inFeatures", "outFeatures")}
        want = {"shape": [2], "weight": W.tolist(), "bias": [6, -8], "delay": 2, "inFeatures": 3, "outFeatures": 2}
        assert got == want
        neuron = {k: one[f"neuron/{k}"][()] for k in ("iDecay", "vDecay", "vThMant", "refDelay")}
        assert neuron == {"iDecay": 2048, "vDecay": 1024, "vThMant": 40, "refDelay": 1}
        assert (one["neuron/type"][()], one["weight"].dtype) == (b"CUBA", np.int32)
    assert [x.node for x in losses] == ["o"]
    assert "reset_interval=STEPS, reset_offset=1" in losses[0].what
    assert losses[0].size == 8  # one step of the largest bias
    assert [p.name for p in tmp_path.iterdir()] == ["a.net"]


def test_a_vector_of_delays_in_a_square_layer_is_never_per_source() -> None:
    w = np.full((3, 3), 10, np.int16)
    w[0, 0] = -10
    columns = np.repeat(np.array([[1, 2, 3]]), 3, 0)
    nodes = {"in": InputNode((3,)), "o": Lif((3,), 4095, 1024, 40)}

    def delay(edge: DenseEdge) -> list[Any]:
        return netx_program(assemble(nodes, [edge], "o")).datasets["layer/1/delay"].tolist()

    assert delay(DenseEdge("in", "o", w, "mixed", delays=columns)) == columns.tolist()
    assert delay(DenseEdge("in", "o", w, "mixed", delays=columns.T.copy())) == [1, 2, 3]
    assert netx_program(chain(delays=columns[:2])).datasets["layer/1/delay"].tolist() == [1, 2, 3]


def test_values_of_each_neuron_are_written_with_a_loss(tmp_path: Path) -> None:
    losses = to_netx(chain(lif=replace(LIF, vth=np.array([40, 90]), dv=np.array([7, 7]))), tmp_path / "a.net")
    assert [(x.node, x.what[:28], x.size) for x in losses] == [("o", "vth differs between neurons:", 50.0)]
    with h5py.File(tmp_path / "a.net") as f:
        assert f["layer/1/neuron/vThMant"][()].tolist() == [40, 90]
        assert f["layer/1/neuron/vDecay"][()] == 7
    node = from_netx(tmp_path / "a.net").populations["o"]
    assert isinstance(node, Lif)
    assert np.array_equal(node.vth, [40, 90])
    nodes = {"in": InputNode((1, 2, 2)), "o": Lif((1, 1, 2), 4095, 0, np.array([40, 90]))}
    kernel = ConvEdge("in", "o", np.full((1, 1, 2, 1), 8, np.int16), "excitatory")
    with pytest.raises(MappingError, match="o: vth differs within a channel"):
        netx_program(assemble(nodes, [kernel], "o"))


def test_the_command_line_writes_and_runs_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = chain(lif=replace(LIF, bias=np.array([64, -128]), bias_exp=0))
    program.save(tmp_path / "chip.npz")
    cli.export(tmp_path / "chip.npz", "netx", tmp_path / "chip.net")
    said = capsys.readouterr().out
    assert "netx program" in said
    assert "lost at o: the loader adds its bias 1 steps" in said
    assert "lava.lib.dl.netx.hdf5.Network(net_config=..., input_message_bits=0)" in said
    x = np.ones((2, 6, 3), np.int8)
    np.savez(tmp_path / "x.npz", x=x)
    cli.run(tmp_path / "chip.net", "loihi-reference", tmp_path / "run", tmp_path / "x.npz", 8, 0)
    assert f"{int(reference.run(program, x).y.sum())} output spikes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("parts", "want"),
    [
        ([[[3, 200, -5]]], [[[3, 200, -5]]]),  # odd weights of both signs survive
        ([[[-200, 0, -3]]], [[[0, 0, 0]]]),  # inhibitory with a zero, odd: shifted by -1
        ([[[-200, 0, -4]]], [[[-200, 0, -4]]]),
        ([[[-64]]], [[[0]]]),  # a power of two is clipped to -255 of 256 and loses its bit
        ([[[200, 3]], [[-5, -4]]], [[[0, 0]], [[0, 0]]]),  # recurrent: of one sign each, scaled as mixed
        ([[[300, -300]]], [[[254, -256]]]),
    ],
)
def test_what_the_loader_makes_of_weights(parts: list[Any], want: list[Any]) -> None:
    got = [p.tolist() for p in loaded([np.array(p) for p in parts])]
    assert got == want


def test_weights_that_the_loader_stops_at_or_rounds() -> None:
    with pytest.raises(UnloadableError, match="all weights are 0"):
        stored([np.zeros((2, 2), int)])
    with pytest.raises(UnloadableError, match="beyond 8 bits"):
        stored([np.array([[300, 2]])])
    with pytest.raises(UnloadableError, match="power of two"):
        loaded([np.array([[-128, 0, -1]])])


def test_decays_of_a_resonator_survive_the_way_through_the_period() -> None:
    """The loader's formulas (get_rf_params, then RF), whose truncation takes integers down by one now and then."""
    for sin, cos in ((2081, 3042), (2719, 2035), (3892, 508), (215, -3949), (0, 4000)):
        s, c = written_decay(sin) / 4096, written_decay(cos) / 4096
        alpha, period = 1 - np.sqrt(s**2 + c**2), 2 * np.pi / np.arctan2(s, c)
        angle = np.pi * 2 / period
        assert (int((1 - alpha) * np.sin(angle) * 4096), int((1 - alpha) * np.cos(angle) * 4096)) == (sin, cos)


def two(edge: Any, node: Any = None) -> LoihiProgram:
    nodes = {"in": InputNode((3,)), "a": node or Lif((3,), 4095, 0, 40), "o": Lif((3,), 4095, 0, 40)}
    return assemble(nodes, [DenseEdge("in", "a", EYE, "excitatory"), DenseEdge("a", "o", EYE, "excitatory"), edge], "o")


LIF = Lif((2,), 4095, 0, 40)
SDN = SigmaDelta((2,), 3, spike_exp=6, state_exp=6)
REFUSED: dict[str, tuple[Callable[[], LoihiProgram], str]] = {
    "residual": (lambda: two(DenseEdge("in", "o", EYE, "excitatory", delay=1)), "in: feeds a and o.*one chain"),
    "backward": (
        lambda: two(DenseEdge("o", "a", EYE, "excitatory")),
        "a: takes spikes from in and o.*without residual",
    ),
    "subtract": (lambda: chain(lif=replace(LIF, reset="subtract", subtract=40)), "o: reset 'subtract'.*train with"),
    "u0": (lambda: chain(lif=replace(LIF, u0=np.array([64, 0]))), "o: starts with u0 not 0.*fitted"),
    "bias": (lambda: chain(lif=replace(LIF, bias=np.array([3, 64]), bias_exp=0)), "o: bias is no whole number.*fitted"),
    "ternary": (lambda: chain(lif=Ternary((2,), 4095, 0, 40, -40)), "o: no netx layer is 'ternary'.*use a LIF"),
    "fraction": (lambda: chain(weight_exp=-2), "in -> o: weight_exp -2 leaves fractions.*larger weights"),
    "too_large": (lambda: chain(weight_exp=3), "o: weights from -160 to 400.*fitted"),
    "zeros": (lambda: chain(w=np.zeros((2, 3))), "o: weights from 0 to 0: all weights are 0"),
    "inhibitory": (
        lambda: chain(w=[[-201, 0, -3], [-5, -7, -9]], sign="inhibitory"),
        "o: weights from -201 to 0: the loader would store other",
    ),
    "loop_delay": (
        lambda: two(DenseEdge("a", "a", EYE, "excitatory", delay=1)),
        "a: the loader gives a recurrent layer's",
    ),
    "unit": (lambda: chain(lif=replace(SDN, activation="unit")), "o: the loader's sigma-delta has ReLU"),
    "state_exp": (lambda: chain(lif=replace(SDN, state_exp=5)), "o: state_exp is 5, the loader's is 6"),
    "delta": (lambda: chain(lif=Delta((2,), 3, spike_exp=6, state_exp=6)), "o: the loader feeds its delta encoder"),
    "real_only": (lambda: chain(lif=ResonateFire((2,), 9, 9, 12, 9, 6)), "o: the loader wants a connection to each"),
    "decay_bits": (lambda: chain(lif=ResonateFire((2,), 9, 9, 11, 9, 6)), "o: decay_bits 11 and state_exp 6"),
    "resets": (
        lambda: two(DenseEdge("a", "a", EYE, "excitatory"), Lif((3,), 4095, 0, 40, reset_interval=5)),
        r"the loader resets every LIF layer with one interval.*\[0, 5\]",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_netx_cannot_hold_is_refused_by_name_rule_and_fix(name: str, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    program = make()
    with pytest.raises(MappingError, match=message):
        to_netx(program, tmp_path / "a.net")
    assert not list(tmp_path.iterdir())


def test_a_convolution_behind_a_dense_layer_has_no_image() -> None:
    nodes = {"in": InputNode((4,)), "a": Lif((1, 2, 2), 4095, 0, 40), "o": Lif((1, 1, 1), 4095, 0, 40)}
    edges = [
        DenseEdge("in", "a", np.eye(4, dtype=np.int16), "excitatory"),
        ConvEdge("a", "o", np.full((1, 1, 2, 2), 8, np.int16), "excitatory"),
    ]
    with pytest.raises(MappingError, match=r"o: a convolution behind the dense layer a has no image.*lower it"):
        netx_program(assemble(nodes, edges, "o"))


def test_fitted_divides_by_the_exponent_exactly_where_nothing_decays() -> None:
    program = chain(lif=Lif((2,), 4095, 0, 333), weight_exp=3)  # v in multiples of 8: above 333 is above 41 * 8
    made = fitted(program)
    node = made.populations["o"]
    assert isinstance(node, Lif)
    assert (node.vth, made.edges[0].weight_exp, made.losses) == (41, 0, ())
    x = (np.random.default_rng(0).random((3, 60, 3)) < 0.5).astype(np.int8)
    y = reference.run(program, x).y
    assert y.any()
    np.testing.assert_array_equal(reference.run(made, x).y, y)


def test_fitted_tells_what_it_rounds() -> None:
    lif = Lif((2,), 2047, 100, 333, np.array([100, -75], np.int16), 2, u0=np.array([128, 0]))
    made = fitted(chain(lif=lif, weight_exp=3))
    node = made.populations["o"]
    assert isinstance(node, Lif)
    assert node.bias is not None
    assert (node.vth, node.bias.tolist(), node.bias_exp, node.u0) == (42, [1, -1], 6, None)
    sizes = [(x.what.split(" for netx")[0], x.size) for x in made.losses]
    assert sizes == [
        ("threshold divided by 2^3", 3.0),
        ("weights, threshold and bias divided by 2^3", 8.0),
        ("bias rounded to whole threshold units", 212.0),
        ("current before the first step dropped", 128.0),
    ]
    netx_program(made)


def test_a_network_goes_through_the_compiler_and_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    law = Law(Tau(2.0, decay_input=False))
    network = Network.sequential(
        {
            "in": Input((5,)),
            "fc": Linear(rng.normal(0, 0.6, (7, 5)).astype(np.float32), rng.normal(0, 0.1, 7).astype(np.float32)),
            "lif": Spiking(law),
            "fc2": Linear(rng.normal(0.2, 0.6, (4, 7)).astype(np.float32)),
            "lif2": Spiking(law),
            "out": Output(),
        },
        dt_s=2e-3,
        name="small",
    )
    made = engines.compile_for("netx", network)
    path = made.save(tmp_path / "chip.net")
    kind, program = engines.load(path)
    assert (kind, program.dt_s, program.name, program.latency) == ("loihi", 2e-3, "small", 2)
    assert list(program.nodes) == ["in", "lif", "lif2"]
    assert made.arguments.reset_offset == 1
    x = (rng.random((4, 30, 5)) < 0.5).astype(np.int8)
    want = engines.run(made.program, x, "loihi-reference").y
    assert want.any()
    np.testing.assert_array_equal(engines.run(program, x, "loihi-reference").y, want)
    float_y = engines.run(network, x, "float").y
    assert np.mean(float_y != want) < 0.05
    assert compile_netx(compile_loihi(network)).hash() == made.hash()


def layers(*more: dict[str, Any]) -> bytes:
    return netx_cases.theirs([netx_cases.dense(W, netx_cases.cuba(40)), *more])


HEAD = netx_cases.dense(W[:, :2], netx_cases.cuba(40))
BROKEN: dict[str, tuple[bytes, str]] = {
    "average": (layers({"type": "average", "shape": [2]}), "layer 1: 'average' is no layer.*num_layers=1"),
    "pool": (layers({"type": "pool", "shape": [2]}), "layer 1: 'pool' is no layer.*strided convolution"),
    "unknown": (layers({"type": "gru", "shape": [2]}), "layer 1: type 'gru' is unknown"),
    "alif": (layers(HEAD | {"neuron/type": "ALIF"}), "layer 1: neuron type 'ALIF'"),
    "adrf": (layers(HEAD | {"neuron/type": "ADRF_PHASE"}), "layer 1: neuron type 'ADRF_PHASE'"),
    "size": (layers(HEAD | {"weight": np.ones((3, 2))}), r"layer 1: 'weight' \(3, 2\) does not join 2 to 2"),
    "nan": (layers(HEAD | {"weight": np.full((2, 2), np.nan)}), "layer 1: 'weight' has NaN"),
    "zeros": (layers(HEAD | {"weight": np.zeros((2, 2))}), "layer 1: all weights are 0"),
    "no_weight": (layers({k: v for k, v in HEAD.items() if k != "weight"}), "layer 1: dataset 'weight' is missing"),
    "no_vth": (layers({k: v for k, v in HEAD.items() if k != "neuron/vThMant"}), "'neuron/vThMant' is missing"),
    "text": (layers(HEAD | {"neuron/vDecay": "fast"}), "'neuron/vDecay' must hold numbers"),
    "delays": (layers(HEAD | {"delay": np.arange(5)}), "layer 1: delays .* fit neither"),
    "negative": (layers(HEAD | {"delay": np.array([-1, 0])}), "layer 1: delays start at -1"),
    "vth": (layers(HEAD | {"neuron/vThMant": 0}), "dense1: vth must be in"),
    "bias": (layers(HEAD | {"bias": np.arange(3)}), "layer 1: bias of 3 values fits neither"),
    "shape": (layers(HEAD | {"shape": np.array([2**20, 2**20])}), "layer 1: shape .* up to 67108864"),
    "conv": (layers(HEAD | {"type": "conv", "shape": np.array([2, 1, 1])}), "layer 1: a convolution reads and makes"),
    "second_input": (layers({"type": "input", "shape": [2]}), "layer 1: an input layer behind others"),
    "no_hdf5": (b"version https://git-lfs.github.com/spec/v1", "cannot be read.*git lfs pull"),
    "cut": (layers()[:3000], "cannot be read|must hold numbers|is missing"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_files_that_cannot_be_read_say_where_and_what_to_do(name: str, tmp_path: Path) -> None:
    data, message = BROKEN[name]
    with pytest.raises(ValueError, match=message):
        read(tmp_path, data)


def test_a_file_cannot_lead_to_another_nor_claim_more_than_it_holds(tmp_path: Path) -> None:
    (tmp_path / "b.net").write_bytes(layers())
    with h5py.File(tmp_path / "a.net", "w") as f:
        f["layer/0/weight"] = h5py.ExternalLink("b.net", "layer/0/weight")
        f["layer/0/type"], f["layer/0/shape"] = np.array([b"dense"]), np.array([2])
    with pytest.raises(PackageError, match="'weight' is missing"):
        from_netx(tmp_path / "a.net", input_shape=(3,))
    with h5py.File(tmp_path / "c.net", "w") as f:
        f["layer/0/type"], f["layer/0/shape"] = np.array([b"dense"]), np.array([2])
        f.create_dataset("layer/0/weight", (2, 2**40), "i8", chunks=(2, 2**10))  # 35 TB of nothing
    with pytest.raises(PackageError, match="goes over the limit"):
        from_netx(tmp_path / "c.net", input_shape=(3,))
    with h5py.File(tmp_path / "d.net", "w") as f:
        f["other"] = 1
    with pytest.raises(PackageError, match="no group 'layer'"):
        from_netx(tmp_path / "d.net")
    with pytest.raises(PackageError, match="no such file"):
        from_netx(tmp_path / "e.net")


def test_what_the_loader_ignores_is_a_loss(tmp_path: Path) -> None:
    odd = {"neuron/refDelay": 3, "neuron/wgtExp": 2, "neuron/gradedSpike": True, "neuron/messageBits": 8}
    program = read(tmp_path, layers(HEAD | odd | {"delay": np.array([70.5, 1.0])}))
    told = {x.what.split(",")[0]: x.size for x in program.losses if x.node == "dense1"}
    assert told == {
        "delays clamped to 62": 8.0,
        "neuron/refDelay is not 1 and ignored": 3.0,
        "neuron/wgtExp is not 0 and ignored": 2.0,
        "neuron/gradedSpike is not 0 and ignored": 1.0,
        "neuron/messageBits is ignored; lava-dl's loader stops at it": 1.0,
        "fractions of dataset 'delay' cut off": 0.5,
    }


def test_a_layer_without_neurons_is_the_loaders_integrator(tmp_path: Path) -> None:
    layer = {k: v for k, v in HEAD.items() if not k.startswith("neuron")} | {"weight": W, "shape": np.array([2])}
    program = read(tmp_path, netx_cases.theirs([layer]))
    node = program.populations["dense0"]
    assert isinstance(node, Lif)
    assert (node.du, node.dv, node.vth) == (-1, 4096, 131072)
    x = np.ones((1, 4, 3), np.int8)
    ran = reference.run(program, x, probes=("dense0.v",))
    total = W.sum(axis=1) * 64
    assert ran.probes["dense0.v"][0].tolist() == [(total * k).tolist() for k in (1, 2, 3, 4)]
    assert not ran.y.any()


def test_input_neurons_take_weight_times_x_plus_bias(tmp_path: Path) -> None:
    case, _ = GOLDEN["bias_input"]
    program = read(tmp_path, case.data)
    assert input_transform(tmp_path / "a.net") == (36, 34)
    assert program.input_shape == (2, 5, 5)
    node = program.populations["input0"]
    assert isinstance(node, Lif)
    assert (node.du, node.bias) == (4095, None)
    (tmp_path / "b.net").write_bytes(layers())
    with pytest.raises(MappingError, match="no input layer with neurons"):
        input_transform(tmp_path / "b.net")


def test_input_shape_and_layer_count_are_arguments_as_the_loaders(tmp_path: Path) -> None:
    kernel = {"type": "conv", "shape": np.array([1, 2, 2]), "weight": np.full((1, 1, 2, 2), 6.0)} | netx_cases.cuba(9)
    data = netx_cases.theirs([kernel, {"type": "average", "shape": [1]}])
    with pytest.raises(MappingError, match=r"layer 0: a convolution without an input layer.*input_shape=\(c, h, w\)"):
        read(tmp_path, data, num_layers=1)
    program = read(tmp_path, data, num_layers=1, input_shape=(1, 3, 3), input_message_bits=5, dt_s=2e-3)
    assert program.input_shape == (1, 3, 3)
    assert program.edges[0].num_message_bits == 5
    assert program.dt_s == 2e-3
