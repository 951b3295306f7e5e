"""The T = 1 network on its machines: one ONNX pass, the integer chip, an SFQ circuit; and what its arithmetic costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from iir_images import SHAPE, images, small_ann, with_statistics
from torch import nn

from export.from_torch import from_torch
from export.network import Delay, Edge, Input, Linear, Network, Output, Spiking
from export.once import cut_readout, gates, read_voltage, whole_input
from export.program import MappingError
from export.to_deck import to_deck
from export.to_loihi import compile_loihi
from export.to_onnx import OnnxProgram, to_onnx_step
from export.to_onnx_once import to_onnx_once
from hardware.sfq import load_technology
from hardware.tables import load_table
from neuro.methods.iir import convert, one_step, populations, set_steps, spikes
from neuro.models.resnet20 import resnet20
from neuro.models.vgg import VGG16, vgg
from neuro.modules import Spiking as SpikingModule
from neuro.modules import Stack
from neuro.neuron import Charge, Decay, Law, Leaky, NoLeak, Rate, Tau
from sim import engines, numpy_engine
from sim.edge.native import Session
from sim.spike_energy import spike_energy

GOLDEN = Path(__file__).parent / "golden" / "sfq"


def off_edges(snn: Stack) -> Stack:
    """Thresholds are currents of the data; move them off, or sums in another order would decide."""
    with torch.no_grad():
        for p in populations(snn).values():
            p.threshold += 0.00137
    return snn


@pytest.fixture(scope="module")
def snn() -> Stack:
    return off_edges(convert(with_statistics(small_ann(norm=True)), images(64, 3)[0][:, 0], steps=1))


@pytest.fixture(scope="module")
def network(snn: Stack) -> Network:
    return from_torch(one_step(snn), SHAPE)


def spikes_in_torch(snn: Stack, x: torch.Tensor) -> tuple[dict[str, Any], torch.Tensor]:
    found, y = {}, x
    with torch.no_grad():
        for name, m in one_step(snn).named_children():
            y = m(y)[0] if isinstance(m, SpikingModule) else m(y)
            if isinstance(m, SpikingModule):
                found[f"{name}.s"] = y.numpy()
    return found, y


def test_one_pass_is_torch(snn: Stack, network: Network, tmp_path: Path) -> None:
    """Same spikes, logits to rounding, no state in the graph; after a round trip through the file."""
    program = OnnxProgram.load(to_onnx_once(network).save(tmp_path / "once.onnx"))
    graph = onnx.load_model_from_string(program.model).graph
    assert {n.op_type for n in graph.node} == {
        "Conv", "Greater", "Cast", "AveragePool", "Flatten", "Gemm", "Identity",
    }  # fmt: skip
    assert [i.name for i in graph.input] == ["x"]
    assert program.states == []
    assert program.form == "once"
    thresholds = {t.name: float(onnx.numpy_helper.to_array(t)) for t in graph.initializer if "threshold" in t.name}
    law = {f"{n}.threshold": network.law(n).threshold for n in network.spiking()}
    assert thresholds == pytest.approx(law)
    x, _ = images(64, 9)
    run = engines.run(program, x.numpy(), "onnx")
    theirs, logits = spikes_in_torch(snn, x[:, 0])
    for name, s in theirs.items():
        assert 0.01 < s.mean() < 0.5
        assert np.array_equal(run.probes[name][:, 0], s), name
    np.testing.assert_allclose(run.y[:, 0], logits.numpy(), rtol=0, atol=1e-5)
    assert float(logits.abs().max()) > 0.1


def test_one_pass_of_residual_blocks_is_torch() -> None:
    g = torch.Generator().manual_seed(0)
    x = torch.rand(16, 3, 16, 16, generator=g)
    snn = off_edges(convert(with_statistics(resnet20((3, 16, 16), 10, widths=(4, 4, 8, 8), norm=True)), x, steps=1))
    network = from_torch(one_step(snn), (3, 16, 16))
    assert len(network.spiking()) == 19
    run = engines.run(to_onnx_once(network), x[:, None].numpy(), "onnx")
    with torch.no_grad():
        logits, _ = snn(x)
    np.testing.assert_allclose(run.y[:, 0], logits.numpy(), rtol=0, atol=1e-5)
    assert float(logits.abs().max()) > 0.01


@pytest.mark.parametrize(
    "charge", [NoLeak(), Leaky(0.4), Tau(2.5), Tau(2.5, False), Rate(0.3), Rate(0.3, False), Decay(0.2, 0.6)]
)
@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("fires", [">", ">="])
def test_every_law_begins_as_the_step_does(charge: Charge, reset: Any, fires: Any) -> None:
    """One step of the full graph, state and all, has the bits of the pass without one."""
    rng = np.random.default_rng(0)
    weight = (rng.integers(-8, 9, (12, 9)) / 8).astype(np.float32)
    law = Law(charge, 0.75, reset, fires=fires)
    net = Network.sequential({"input": Input((9,)), "fc": Linear(weight), "lif": Spiking(law), "output": Output()})
    x = (rng.random((40, 1, 9)) < 0.5).astype(np.float32)
    a, b, c = (
        engines.run(p, x, "onnx") for p in (to_onnx_once(net), to_onnx_step(net), to_onnx_once(net, watch=False))
    )
    assert np.array_equal(a.y, b.y)
    assert np.array_equal(a.y, c.y)
    assert 0.01 < a.y.mean() < 0.9
    assert np.array_equal(a.y, numpy_engine.run(net, x).y)


def test_what_needs_more_than_a_step_is_refused(network: Network) -> None:
    with pytest.raises(MappingError, match=r"runs for 2 steps, a single pass is one; train it down to T = 1"):
        to_onnx_once(network, steps=2)
    late = replace(network, edges=[Edge(e.src, e.dst, int(e.src == "lif1")) for e in network.edges])
    with pytest.raises(MappingError, match=r"lif1 -> pool1: arrives 1 steps later, and there is one; export it with"):
        to_onnx_once(late)
    nodes: dict[str, Any] = {"input": Input((4,)), "d": Delay(np.array([0, 1, 2, 3])), "output": Output()}
    with pytest.raises(MappingError, match=r"d: delays by up to 3 steps"):
        to_onnx_once(Network.sequential(nodes))
    moved = network.with_nodes(lif1=Spiking(Law(NoLeak(), 1.0, "zero", v_reset=0.5)))
    with pytest.raises(MappingError, match=r"lif1: its membrane begins at 0.5"):
        to_onnx_once(moved)
    program = to_onnx_once(network)
    with pytest.raises(ValueError, match=r"made by to_onnx_once runs one step, x \(samples, 1, ...\), got 2 steps"):
        engines.run(program, np.zeros((3, 2, *SHAPE), np.float32), "onnx")
    session = Session(program)  # a stream of images, each from silence
    x = images(2, 0)[0].numpy()
    assert np.array_equal(session.step(x[0]), session.step(x[0]))


def test_integer_chip_decides_as_the_float_network(snn: Stack) -> None:
    """Grey levels as 8-bit messages, logits as voltages of neurons that never fire."""
    grey = np.rint(np.clip(images(48, 9)[0].numpy(), 0, 1) * 255)
    network = from_torch(one_step(snn), SHAPE)
    chip = read_voltage(whole_input(network))
    exact = engines.run(network, (grey / 255).astype(np.float32), "float")
    same = engines.run(whole_input(network), grey, "float")
    np.testing.assert_allclose(same.y, exact.y, atol=1e-4)
    program = compile_loihi(chip, graded_bits=8, calibration=grey)
    run = engines.run(program, grey, "loihi", probes=["readout.v", *engines.watched(program)])
    assert not run.probes["readout.s"].any()
    for name in network.spiking():
        a, b = exact.probes[f"{name}.s"], run.probes[f"{name}.s"]
        assert 0.01 < a.mean() < 0.5
        assert (a == b).mean() > 0.97, name
    _, readout = cut_readout(network)
    ours, theirs = run.probes["readout.v"][:, 0], run.probes["lif3.s"][:, 0] @ readout.weight.T
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.9999
    assert (ours.argmax(1) == theirs.argmax(1)).mean() > 0.95


def test_rewrites_name_what_does_not_fit(network: Network) -> None:
    with pytest.raises(MappingError, match=r"lif: takes the input and has no weights to divide by 255"):
        whole_input(Network.sequential({"input": Input((3,)), "lif": Spiking(Law()), "output": Output()}))
    cut, readout = cut_readout(network)
    with pytest.raises(MappingError, match=r"output: comes from 'lif3'; a readout is one layer with weights"):
        cut_readout(cut)
    with pytest.raises(MappingError, match=r"lif1: a soma is fed by one Linear of whole weights"):
        gates(cut)
    x = images(8, 1)[0].numpy()
    logits = engines.run(cut, x, "float").y[:, 0] @ readout.weight.T
    np.testing.assert_allclose(logits, engines.run(network, x, "float").y[:, 0], rtol=1e-5, atol=1e-6)


def gate_net(weight: Any, threshold: float) -> Network:
    law = Law(NoLeak(), threshold, "zero", fires=">")
    nodes = {"input": Input((len(weight[0]),)), "fc": Linear(np.array(weight, float)), "lif": Spiking(law)}
    return Network.sequential({**nodes, "output": Output()})


def test_gates_stand_between_two_whole_numbers() -> None:
    weight = [[1, 2, -1, 2], [2, 2, 1, 1]]
    for threshold in (2.0, 2.4, 2.99):
        law = gates(gate_net(weight, threshold)).law("lif")
        assert law.threshold == pytest.approx(2.4)
        assert law.charge.canonical()[1] == pytest.approx(np.exp(-30e-12 / load_technology().soma(6).tau_s))
    assert gates(gate_net(weight, 3.0)).law("lif").threshold == pytest.approx(3.4)
    with pytest.raises(MappingError, match=r"lif: fires from 2 pulses on; a soma of 6 branches has thresholds 2.13 to"):
        gates(gate_net(weight, 1.5))
    with pytest.raises(MappingError, match=r"lif: needs whole weights and as many branches in every row"):
        gates(gate_net([[1, 2, 0.5, 2.5], [2, 2, 1, 1]], 2.5))
    with pytest.raises(MappingError, match=r"as many branches in every row"):
        gates(gate_net([[1, 2, 0, 2], [2, 2, 1, 1]], 2.5))


def test_every_pattern_of_a_gate_at_pulse_level() -> None:
    """All 32 inputs of three gates: the circuit fires exactly where the sum is above V."""
    weight = [[1, 2, -1, 1, 1], [2, 1, 1, -1, -1], [1, 1, 2, 1, 1]]
    net = gate_net(weight, 2.7)
    x = np.array([[int(b) for b in f"{k:05b}"] for k in range(32)], float)[:, None]
    run = engines.run(to_deck(gates(net)), x, "sfq-pulse")
    assert np.array_equal(run.y[:, 0], (x[:, 0] @ np.array(weight).T > 2.7).astype(int))
    assert 0 < run.y.mean() < 1


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_trained_gates_decide_the_same_at_pulse_level(every: int) -> None:
    """The committed T = 1 network (seed 0 of neuro.models.sfq_gates): float law against the circuit's pulses."""
    pytest.importorskip("sklearn", reason="without scikit-learn there are no digits: pip install 'spikeport[train]'")
    from neuro.data.digits import digits
    from neuro.models.sfq_gates import FIRST, SECOND, black_and_white

    network = Network.load(GOLDEN / "gates.npz")
    cut, readout = cut_readout(network)
    for name, (neurons, branches) in {"fc1": FIRST, "fc2": SECOND}.items():
        layer = network.nodes[name]
        assert isinstance(layer, Linear)
        assert len(layer.weight) == neurons
        assert (np.abs(layer.weight).sum(1) == branches).all()
    data = digits()
    x, labels = black_and_white(data.test_x)[::every], data.test_y[::every]
    ideal = engines.run(cut, x, "float")
    run = engines.run(to_deck(gates(cut)), x, "sfq-pulse")
    a, b = (r.y[:, 0] @ readout.weight.T for r in (ideal, run))
    for name in ("lif1.s", "lif2.s"):
        assert 0.05 < ideal.probes[name].mean() < 0.6
        assert (ideal.probes[name] == run.probes[name]).mean() > 0.999, name
    assert (a.argmax(1) == b.argmax(1)).mean() > 0.99
    assert (a.argmax(1) == labels).mean() > 0.75


def chain(pool: bool) -> tuple[Stack, torch.Tensor]:
    layers: list[nn.Module] = [nn.Conv2d(1, 3, 3, padding=1, bias=False), nn.ReLU()]
    layers += [nn.AvgPool2d(2)] if pool else []
    layers += [nn.Conv2d(3, 5, 3, padding=1, stride=2, bias=False), nn.ReLU(), nn.Flatten()]
    layers += [nn.Linear(5 * (9 if pool else 36), 4, bias=False)]
    torch.manual_seed(0)
    x = torch.rand(6, *SHAPE)
    return convert(Stack(*layers).eval(), x, steps=3), x


@pytest.mark.parametrize("pool", [True, False])
def test_additions_are_the_synapses_that_spikes_reach(pool: bool) -> None:
    """Against the dense matrix of each layer, pooling composed: one addition for each weight of each spike."""
    snn, x = chain(pool)
    counted = spikes(snn, x, 3)
    set_steps(snn, 1)
    network = from_torch(one_step(snn), SHAPE)
    bill = spike_energy(network, counted, 3)
    layers = list(one_step(snn))
    (first, second), out = [m for m in layers if isinstance(m, nn.Conv2d)], layers[-1]
    shape = tuple(next(iter(counted.values())).shape)
    basis = torch.eye(int(np.prod(shape))).reshape(-1, *shape)
    with torch.no_grad():
        second.weight.abs_().add_(0.1)
        reached = second(nn.functional.avg_pool2d(basis, 2) if pool else basis)
    fan_out = (reached.flatten(1) > 0).sum(1).double().numpy()
    one, two, three = bill.layers
    assert one.rate is None
    assert one.macs == 12 * 12 * 3 * 9
    assert two.macs == reached[0].numel() * 27
    spikes_1, spikes_2 = counted.values()
    assert two.by_spike == pytest.approx(float(spikes_1.ravel() @ fan_out))
    assert two.rate == pytest.approx(float(spikes_1.mean()))
    assert two.by_rate == pytest.approx(two.rate * two.macs)
    assert three.by_spike == pytest.approx(float(spikes_2.sum()) * len(out.weight))  # type: ignore[arg-type]
    assert float(first.weight.shape[0]) == 3
    if pool:  # k = 4 pixels a window: up to four times the additions of the published count
        assert 2.5 < two.by_spike / two.by_rate <= 4.0


def test_ratios_by_hand() -> None:
    snn, x = chain(False)
    counted = spikes(snn, x, 3)
    set_steps(snn, 1)
    bill = spike_energy(from_torch(one_step(snn), SHAPE), counted, 3)
    one, two, three = bill.layers
    total = one.macs + two.macs + three.macs
    for name, mac, ac in (("float32", 4.6e-12, 0.9e-12), ("int32", 3.2e-12, 0.1e-12)):
        for first in (1, 3):
            snn_J = first * one.macs * mac + ac * (two.by_spike + three.by_spike)
            assert bill.ratio(name, first=first) == pytest.approx(total * mac / snn_J)
            snn_J = first * one.macs * mac + ac * (two.by_rate + three.by_rate)
            assert bill.ratio(name, first=first, counted="by_rate") == pytest.approx(total * mac / snn_J)
    assert len(bill.ratios) == 8
    assert bill.to_dict()["source"].startswith("M. Horowitz")
    assert "ratio" in str(bill)
    with pytest.raises(ValueError, match="no float32 by_spike with the first layer 2 times"):
        bill.ratio(first=2)
    with pytest.raises(ValueError, match=r": spikes must have an array of shape"):
        spike_energy(from_torch(one_step(snn), SHAPE), {}, 1)


def test_vgg16_has_the_papers_work_and_the_claim_its_rate() -> None:
    """338.4 M MAC, the first 1.77 M; 25 and 33 times ask for 0.179 and 0.129 spikes a neuron with the float prices."""
    table = load_table("spike_ops")
    assert {r.grade for r in table.rows.values()} == {"published estimate"}
    nodes: dict[str, Any] = {}
    with torch.device("meta"):
        ann = vgg(VGG16, (3, 32, 32), 10)
    stack = Stack(*(SpikingModule(Law()) if isinstance(m, nn.ReLU) else m for m in ann)).to_empty(device="cpu")
    with torch.no_grad():
        for p in stack.parameters():
            p.fill_(0.01)
    network = from_torch(stack, (3, 32, 32))
    for rate, claim in ((0.179, 25.0), (0.129, 33.0)):
        nodes = {n: np.full(network.shapes()[n], rate) for n in network.spiking()}
        bill = spike_energy(network, nodes, 1)
        assert sum(x.macs for x in bill.layers) == 338_403_328
        assert bill.layers[0].macs == 1_769_472
        assert bill.ratio("float32", counted="by_rate") == pytest.approx(claim, rel=0.02)
        assert bill.ratio("int32", counted="by_rate") > 3 * claim
