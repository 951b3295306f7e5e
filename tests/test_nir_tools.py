"""NIR with its other users as judges: SpikingJelly's and snnTorch's own exporters, importers and spikes.

SpikingJelly fires at ``>=``, exports with dt 1e-4 and steps in float64 here: every spike of 100 steps is equal.

snnTorch fires at ``>`` and computes in float32. NIR's hard reset is its ``reset_mechanism="zero"`` of Leaky, with
either ``reset_delay``, and of Synaptic with ``reset_delay=False``; with True, Synaptic, RLeaky and RSynaptic drop the
input of the step after a spike, which NIR does not say, and with False RSynaptic fails (``spk`` is None): the two
recurrent ones are stepped here with ``reset_mechanism="none"`` and zeroed by hand. ``subtract`` equals reset "soft"
with ``reset_delay=False`` and while no membrane stays above the threshold after a reset: then snnTorch subtracts before
it compares. Its importer knows no IF (it builds a Leaky of 0.9) and no Delay.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import snntorch as snn
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from export import AvgPool2d, Conv2d, Flatten, Input, Linear, Network, Output, Spiking
from export.from_nir import from_nir
from export.to_nir import to_nir
from neuro.neuron import Charge, Decay, Law, NoLeak, Rate, Tau
from sim import numpy_engine

pytest.importorskip(
    "nirtorch", reason="spikingjelly's and snnTorch's NIR exchange needs nirtorch: pip install nirtorch"
)

from snntorch.export_nir import export_to_nir as snn_export
from snntorch.import_nir import import_from_nir as snn_import
from spikingjelly.activation_based.nir_exchange import export_to_nir, import_from_nir

pytestmark = pytest.mark.filterwarnings("ignore:nirtorch.extract_nir_graph:DeprecationWarning")  # snnTorch's call
STEPS = 100
JELLY: dict[str, Any] = {"dt_s": 1e-4, "reset": "hard", "fires": ">=", "discretization": "euler"}
SNN: dict[str, Any] = {"dt_s": 1e-4, "reset": "hard", "fires": ">", "discretization": "euler"}

NODES: dict[str, Callable[[], nn.Module]] = {
    "if": neuron.IFNode,
    "if reset": lambda: neuron.IFNode(v_threshold=0.8, v_reset=-0.2),
    "lif": lambda: neuron.LIFNode(tau=3.0, v_threshold=0.6),
    "lif not decayed": lambda: neuron.LIFNode(tau=2.7, decay_input=False),
    "lif rest": lambda: neuron.LIFNode(tau=3.0, v_reset=-0.1, v_threshold=0.5),
    "plif": lambda: neuron.ParametricLIFNode(init_tau=2.3, v_threshold=0.6),
    "plif not decayed": lambda: neuron.ParametricLIFNode(init_tau=4.0, decay_input=False),
    "cuba": lambda: neuron.CUBALIFNode(c_decay=0.3, v_decay=0.7),
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def bits(*shape: int, rate: float = 0.4) -> Any:
    return (np.random.default_rng(1).random(shape) < rate).astype(np.float64)


@torch.no_grad()
def unrolled(net: nn.Module, x: Any, dtype: torch.dtype) -> Any:
    """Spikes of a module that keeps its state itself."""
    return np.stack([net(torch.tensor(x[:, t]).to(dtype)).numpy() for t in range(x.shape[1])], 1)


@torch.no_grad()
def stepped(graph: nn.Module, x: Any, dtype: torch.dtype) -> Any:
    """Spikes of a graph that an importer made: ``(x, state) -> (y, state)``."""
    state, out = None, []
    for t in range(x.shape[1]):
        y, state = graph(torch.tensor(x[:, t]).to(dtype), state)
        out.append(y.numpy().copy())
    return np.stack(out, 1)


def drive(net: nn.Module, gain: float = 4.0, mean: float = 0.05) -> None:
    for m in net.modules():
        if isinstance(m, nn.Linear | nn.Conv2d):
            m.weight.data.mul_(gain).add_(mean)


def same(found: Any, want: Any) -> None:
    assert 0.005 < want.mean() < 0.9
    assert int((found != want).sum()) == 0


@pytest.mark.parametrize("kind", NODES)
def test_spikingjelly_there_and_back(kind: str, tmp_path: Path) -> None:
    make = NODES[kind]
    net = nn.Sequential(layer.Linear(20, 30), make(), layer.Linear(30, 10, bias=False), make()).double()
    drive(net)
    x = bits(4, STEPS, 20)
    path = tmp_path / "sj.nir"
    export_to_nir(net, torch.zeros(1, 20, dtype=torch.float64), save_path=path)
    want = unrolled(net, x, torch.float64)
    ours = from_nir(path, **JELLY)
    same(numpy_engine.run(ours, x).y, want)
    assert ours.losses == ()
    back = import_from_nir(to_nir(ours).graph, dt=1e-4, dtype=torch.float64)
    same(stepped(back, x, torch.float64), want)


def test_spikingjelly_constants_come_back_as_written() -> None:
    net = nn.Sequential(layer.Linear(4, 4), neuron.LIFNode(tau=2.7), neuron.CUBALIFNode(0.3, 0.7)).double()
    got = from_nir(export_to_nir(net, torch.zeros(1, 4, dtype=torch.float64)), **JELLY)
    assert [n.law.charge for _, n in got if isinstance(n, Spiking)] == [Tau(2.7), Decay(0.3, 0.7)]


def test_spikingjelly_convolutions(tmp_path: Path) -> None:
    net = nn.Sequential(
        layer.Conv2d(2, 6, 3, padding=1),
        neuron.LIFNode(tau=2.0, v_threshold=0.7),
        layer.AvgPool2d(2),
        layer.Conv2d(6, 8, 3, dilation=1, bias=False),
        neuron.IFNode(),
        layer.Flatten(),
        layer.Linear(128, 10),
        neuron.CUBALIFNode(c_decay=0.2, v_decay=0.8),
    ).double()
    drive(net, mean=0.02)
    x = bits(2, STEPS, 2, 12, 12, rate=0.3)
    export_to_nir(net, torch.zeros(1, 2, 12, 12, dtype=torch.float64), save_path=tmp_path / "sj.nir")
    want = unrolled(net, x, torch.float64)
    ours = from_nir(tmp_path / "sj.nir", **JELLY)
    same(numpy_engine.run(ours, x).y, want)
    to_nir(ours, tmp_path / "ours.nir")
    back = import_from_nir(tmp_path / "ours.nir", dt=1e-4, dtype=torch.float64)
    same(stepped(back, x, torch.float64), want)


def test_spikingjelly_another_dt_is_handed_over() -> None:
    net = nn.Sequential(layer.Linear(20, 10), neuron.LIFNode(tau=3.0, v_threshold=0.6)).double()
    drive(net)
    functional.reset_net(net)
    x = bits(2, STEPS, 20)
    want = unrolled(net, x, torch.float64)
    graph = export_to_nir(net, torch.zeros(1, 20, dtype=torch.float64), dt=1e-3)
    same(numpy_engine.run(from_nir(graph, **JELLY | {"dt_s": 1e-3}), x).y, want)
    wrong = numpy_engine.run(from_nir(graph, **JELLY), x).y  # its default of 1e-4 makes it ten times slower
    assert (wrong != want).any()


def leaky(n: int, **options: Any) -> snn.Leaky:
    """Per-neuron tensors, without which snnTorch's exporter makes files of scalars that fail its own type check."""
    return snn.Leaky(torch.full((n,), 0.8), threshold=torch.ones(n), init_hidden=True, **options)


SNN_NODES: dict[str, Callable[[int], nn.Module]] = {
    "leaky": lambda n: leaky(n, reset_mechanism="zero", reset_delay=False),
    "leaky, delayed reset": lambda n: leaky(n, reset_mechanism="zero"),
    "synaptic": lambda n: snn.Synaptic(
        torch.full((n,), 0.6), torch.full((n,), 0.8), torch.ones(n), init_hidden=True, reset_mechanism="zero",
        reset_delay=False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SNN_NODES)
def test_snntorch_export_runs_here(kind: str) -> None:
    make = SNN_NODES[kind]
    net = nn.Sequential(nn.Linear(20, 30), make(30), nn.Linear(30, 10, bias=False), make(10))
    drive(net, 2.0, 0.02)
    x = bits(4, STEPS, 20)
    want = unrolled(net, x, torch.float32)
    graph = snn_export(net, torch.zeros(1, 20), ignore_dims=[0])
    same(numpy_engine.run(from_nir(graph, **SNN), x).y, want)


def test_snntorch_convolutions() -> None:
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        snn.Leaky(torch.full((4, 8, 8), 0.8), threshold=torch.ones(4, 8, 8), init_hidden=True, reset_mechanism="zero"),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 3),
        snn.Leaky(torch.full((6, 2, 2), 0.5), threshold=torch.ones(6, 2, 2), init_hidden=True, reset_mechanism="zero"),
        nn.Flatten(),
        nn.Linear(24, 5),
        leaky(5, reset_mechanism="zero"),
    )
    drive(net, 4.0, 0.03)
    x = bits(2, STEPS, 2, 8, 8)
    want = unrolled(net, x, torch.float32)
    graph = snn_export(net, torch.zeros(1, 2, 8, 8), ignore_dims=[0])
    same(numpy_engine.run(from_nir(graph, **SNN), x).y, want)


@pytest.mark.parametrize("kind", ["RLeaky", "RLeaky one to one", "RSynaptic"])
@torch.no_grad()
def test_snntorch_recurrent_layers(kind: str, tmp_path: Path) -> None:
    """A nested graph with a loop; the recurrent path takes one step."""
    n = 30
    common: dict[str, Any] = {"threshold": torch.ones(n), "reset_mechanism": "none"}
    if kind == "RSynaptic":
        node: Any = snn.RSynaptic(torch.full((n,), 0.6), torch.full((n,), 0.8), linear_features=n, **common)
    elif kind == "RLeaky":
        node = snn.RLeaky(torch.full((n,), 0.8), linear_features=n, **common)
    else:
        node = snn.RLeaky(torch.full((n,), 0.8), V=torch.linspace(-1.0, 0.5, n), all_to_all=False, **common)
    first = nn.Linear(20, n)
    drive(first, 2.0, 0.02)
    x = bits(4, STEPS, 20)
    state = [torch.zeros(4, n) for _ in range(3 if kind == "RSynaptic" else 2)]
    out = []
    for t in range(STEPS):
        state = list(node(first(torch.tensor(x[:, t]).float()), *state))
        out.append(state[0].numpy().copy())
        state[-1] = state[-1] * (1 - state[0])  # the reset that NIR means, at once
    node.init_hidden = True
    net = nn.Sequential(first, node)
    nir.write(tmp_path / "r.nir", snn_export(net, torch.zeros(1, 20), ignore_dims=[0]))
    ours = from_nir(tmp_path / "r.nir", **SNN)
    same(numpy_engine.run(ours, x).y, np.stack(out, 1))
    assert any(e.delay == 1 for e in ours.edges)
    assert "closed over one step" in " ".join(x.what for x in ours.losses)


def test_snntorch_subtract_is_soft_while_one_threshold_is_enough() -> None:
    net = nn.Sequential(nn.Linear(20, 30), leaky(30, reset_mechanism="subtract", reset_delay=False))
    drive(net, 0.8, 0.02)
    x = bits(4, STEPS, 20)
    graph = snn_export(net, torch.zeros(1, 20), ignore_dims=[0])
    ours = from_nir(graph, **SNN | {"reset": "soft"})
    want, state = [], numpy_engine.initial(ours, 4)
    net[1].reset_mem()
    with torch.no_grad():
        for t in range(STEPS):
            values, state = numpy_engine.step(ours, state, x[:, t])
            assert state[f"{ours.spiking()[0]}.v"].max() < 1.0
            want.append(net(torch.tensor(x[:, t]).float()).numpy().copy())
            np.testing.assert_array_equal(values["y"], want[-1])
    assert 0.005 < np.mean(want) < 0.9


CHARGES: dict[str, Charge] = {
    "tau": Tau(5.0, decay_input=False),
    "tau, decayed input": Tau(4.0),
    "rate": Rate(0.25, decay_input=False),
    "cuba": Decay(0.5, 0.75),
    "no current": Decay(0.0, 0.8),
}


@pytest.mark.parametrize("kind", CHARGES)
def test_ours_runs_in_snntorch(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its importer rescales the threshold where the input decays; Synaptic it takes since w_in = tau_syn / dt."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> Any:
        return (np.round(rng.normal(0.05, 0.6, shape) * 64) / 64).astype(np.float32)

    law = Law(CHARGES[kind], threshold=1.03 if kind != "tau, decayed input" else 0.43, fires=">")
    net = Network.sequential(
        {
            "input": Input((20,)),
            "fc1": Linear(weight(30, 20), weight(30)),
            "lif1": Spiking(law),
            "fc2": Linear(weight(10, 30)),
            "lif2": Spiking(law),
            "output": Output(),
        },
        dt_s=1e-4,
    )
    x = bits(4, STEPS, 20)
    same(stepped(snn_import(to_nir(net).graph), x, torch.float32), numpy_engine.run(net, x).y)
    assert "not implemented" not in capsys.readouterr().out


def test_our_convolutions_pass_nirs_type_check_and_run_in_both(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    law = Law(Tau(4.0, decay_input=False), threshold=1.03, fires=">")
    net = Network.sequential(
        {
            "input": Input((2, 8, 8)),
            "conv": Conv2d(rng.normal(0.05, 0.5, (4, 2, 3, 3)).astype(np.float32), padding=(1, 1)),
            "lif1": Spiking(law),
            "pool": AvgPool2d((2, 2), (2, 2)),
            "flat": Flatten(),
            "fc": Linear(rng.normal(0.05, 0.5, (5, 64)).astype(np.float32)),
            "lif2": Spiking(law),
            "output": Output(),
        },
        dt_s=1e-4,
    )
    to_nir(net, tmp_path / "net.nir")
    graph = nir.read(tmp_path / "net.nir")  # type_check=True
    assert graph.nodes["flat"].output_type["output"].tolist() == [64]
    x = bits(2, STEPS, 2, 8, 8)
    want = numpy_engine.run(net, x).y
    jelly = import_from_nir(tmp_path / "net.nir", dt=1e-4, dtype=torch.float64)
    same(stepped(jelly, x, torch.float64), want)  # no membrane meets the threshold, so > and >= are one


def test_spikingjelly_cannot_say_a_soft_reset_and_we_can(tmp_path: Path) -> None:
    net = Network.sequential(
        {"in": Input((3,)), "fc": Linear(np.eye(3)), "s": Spiking(Law(NoLeak(), reset="subtract")), "out": Output()}
    )
    program = to_nir(net, tmp_path / "soft.nir")
    assert "reset 'subtract' stands in the metadata only" in " ".join(x.what for x in program.losses)
    node = from_nir(tmp_path / "soft.nir").nodes["s"]
    assert isinstance(node, Spiking)
    assert node.law.reset == "subtract"
    soft = nn.Sequential(layer.Linear(3, 3), neuron.IFNode(v_reset=None))
    with pytest.raises(NotImplementedError, match="soft reset"):
        export_to_nir(soft, torch.zeros(1, 3))
