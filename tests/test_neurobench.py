"""NeuroBench's metrics: its check values, the chip's synaptic events, and NeuroBench itself where it is installed."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
import pytest

from export import AvgPool2d, Conv2d, Edge, Flatten, Input, Linear, Network, Output, Spiking
from export.network import Conv1d, Delay, Integrator
from export.to_loihi import compile_loihi
from neuro.neuron import Decay, Law
from sim import neurobench as nb
from sim.loihi import engine
from sim.run import Run

REASON = "neurobench is not installed: its metrics are not compared live, only with its published values"
LAW = Law(Decay(0.0, 0.5), fires=">")


def run_of(network: Network, samples: int, steps: int, **probes: Any) -> Run:
    """A run that did nothing but what its probes say."""
    shapes = network.shapes()
    silent = {f"{n}.s": np.zeros((samples, steps, *shapes[n])) for n in network.spiking()}
    return Run("test", silent[f"{network.spiking()[-1]}.s"], {}, samples, steps, 1e-3, silent | probes)


def small(w: Any) -> Network:
    return Network.sequential({"in": Input((w.shape[1],)), "fc": Linear(w), "n": Spiking(LAW), "out": Output()})


def six_to_four() -> Network:
    w = np.ones((4, 6), np.float32)
    w[0, :2] = 0
    return small(w)


@pytest.mark.parametrize(("gain", "kind"), [(1.0, "Effective_ACs"), (0.3, "Effective_MACs"), (-1.0, "Effective_ACs")])
def test_neurobench_s_check_values(gain: float, kind: str) -> None:
    net, x = six_to_four(), np.array([1, 0, 1, 0, 0, 1]) * gain
    ops = nb.synaptic_operations(net, x.reshape(1, 1, 6), run_of(net, 1, 1))
    assert ops == {"Effective_MACs": 0, "Effective_ACs": 0, "Dense": 24} | {kind: 11}


def test_each_call_is_judged_by_itself_and_by_its_whole_batch() -> None:
    net = six_to_four()
    x = np.zeros((2, 3, 6))
    x[0, 0, 5], x[1, 0, 2] = 1, 0.5  # step 0: a real number in the batch, so both are multiplied; then nothing
    x[0, 2, 0] = 1  # step 2: an accumulate, over three synapses
    ops = nb.synaptic_operations(net, x, run_of(net, 2, 3))
    assert ops == {"Effective_MACs": (4 + 4) / 2, "Effective_ACs": 3 / 2, "Dense": 24 * 3}


def test_padding_is_no_operation() -> None:
    w = np.ones((2, 1, 3, 3), np.float32)
    net = Network.sequential(
        {"in": Input((1, 4, 4)), "c": Conv2d(w, padding=(1, 1)), "n": Spiking(LAW), "out": Output()}
    )
    corner = np.zeros((1, 1, 1, 4, 4))
    corner[..., 0, 0] = 1
    ops = nb.synaptic_operations(net, corner, run_of(net, 1, 1))
    assert ops["Effective_ACs"] == 2 * 4
    assert ops["Dense"] == 2 * (4 * 4 + 8 * 6 + 4 * 9)


def test_sparsity_footprint_and_membrane_updates_by_hand() -> None:
    net = six_to_four()
    assert nb.connection_sparsity(net) == 0.0833
    assert (nb.parameter_count(net), nb.footprint(net)) == (24, 96)
    v = np.array([[[1, 0, 0, 0], [1, 2, 0, 0], [1, 0, 0, 1]]])
    s = np.array([[[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]]])
    run = run_of(net, 1, 3, **{"n.v": v, "n.s": s})
    assert nb.membrane_updates(net, run) == 4 + 1 + 2
    assert nb.activation_sparsity(net, run) == 9 / 12
    found = nb.metrics(net, np.zeros((1, 3, 6)), run)
    assert found["MembraneUpdates"] == 7
    assert "MembraneUpdates" not in nb.metrics(net, np.zeros((1, 3, 6)), run_of(net, 1, 3))
    with pytest.raises(ValueError, match=r"no probe 'n\.v'"):
        nb.membrane_updates(net, run_of(net, 1, 3))


def on_grid(rng: Any, *shape: int) -> Any:
    """Weights that stay exact in 8 bits, none of them 0."""
    w = rng.integers(1, 60, shape) * rng.choice([-1, 1, 1], shape)
    return (w / 64).astype(np.float32)


def conv_net(rng: Any) -> Network:
    return Network.sequential(
        {
            "in": Input((2, 8, 8)), "c": Conv2d(on_grid(rng, 4, 2, 3, 3), padding=(1, 1)), "a": Spiking(LAW),
            "d": Conv2d(on_grid(rng, 6, 2, 3, 3), stride=(2, 2), groups=2), "b": Spiking(LAW), "f": Flatten(),
            "fc": Linear(on_grid(rng, 5, 54)), "o": Spiking(LAW), "out": Output(),
        }
    )  # fmt: skip


def dense_net(rng: Any) -> Network:
    nodes = {
        "in": Input((20,)), "w1": Linear(on_grid(rng, 16, 20)), "a": Spiking(LAW), "w2": Linear(on_grid(rng, 12, 16)),
        "skip": Linear(on_grid(rng, 12, 20)), "b": Spiking(LAW), "out": Output(),
    }  # fmt: skip
    chain = [("in", "w1"), ("w1", "a"), ("a", "w2"), ("w2", "b"), ("in", "skip"), ("skip", "b"), ("b", "out")]
    return Network(nodes, [Edge(a, b) for a, b in chain])


def on_the_chip(network: Network, seed: int) -> tuple[Any, Run]:
    program = compile_loihi(network)
    x = (np.random.default_rng(seed).random((3, 20, *program.input_shape)) < 0.3).astype(np.int8)
    return x, engine.run(program, x, probes=program.watched)


@pytest.mark.parametrize("make", [conv_net, dense_net])
def test_synaptic_events_are_effective_accumulates(make: Any) -> None:
    network = make(np.random.default_rng(3))
    x, run = on_the_chip(network, 4)
    ops = nb.synaptic_operations(network, x, run)
    assert ops["Effective_MACs"] == 0
    assert ops["Effective_ACs"] * run.samples == run.total("synaptic_events")
    assert run.total("synaptic_events") > 10_000
    assert ops["Effective_ACs"] < ops["Dense"]


def line_net(rng: Any) -> Network:
    """A one-dimensional convolution, and a delay of each element before a matrix."""
    late = Delay(np.array([[0, 1, 3], [2, 0, 1]]))
    nodes = {
        "in": Input((2, 5)), "c": Conv1d(on_grid(rng, 2, 2, 3)), "a": Spiking(LAW), "d": late, "f": Flatten(),
        "fc": Linear(on_grid(rng, 8, 6)), "b": Spiking(LAW), "out": Output(),
    }  # fmt: skip
    return Network.sequential(nodes)


def test_lines_and_delays_count_as_the_chip_does() -> None:
    network = line_net(np.random.default_rng(5))
    x, run = on_the_chip(network, 6)
    ops = nb.synaptic_operations(network, x, run)
    assert ops["Dense"] == 20 * (2 * 3 * 2 * 3 + 8 * 6)
    kernel = np.count_nonzero(network.nodes["c"].weight)
    arrived = run.total("synaptic_events") - late_events(network, run)
    assert ops["Effective_ACs"] * run.samples == arrived
    assert nb.connection_sparsity(network) == pytest.approx(
        1 - (kernel + np.count_nonzero(network.nodes["fc"].weight)) / (12 + 48), abs=1e-4
    )


def late_events(network: Network, run: Run) -> int:
    """Synaptic events of spikes that would arrive after the last step: the chip counts them when they are sent."""
    spikes, steps = run.probes["a.s"], np.array([[0, 1, 3], [2, 0, 1]])
    fan = np.count_nonzero(network.nodes["fc"].weight, axis=0).reshape(steps.shape)
    return sum(
        int(spikes[:, spikes.shape[1] - int(steps[i]) :, i[0], i[1]].sum() * fan[i])
        for i in np.ndindex(steps.shape)
        if steps[i]
    )


def test_a_readout_in_the_middle_is_refused() -> None:
    w = np.eye(3)
    nodes = {"in": Input((3,)), "i": Integrator(), "w": Linear(w), "n": Spiking(LAW), "out": Output()}
    net = Network.sequential(nodes)
    with pytest.raises(ValueError, match="i: what it sends to w does not follow from the spikes"):
        nb.synaptic_operations(net, np.ones((1, 2, 3)), run_of(net, 1, 2))


def test_pooling_makes_real_input_and_multiplications() -> None:
    rng = np.random.default_rng(0)
    net = Network.sequential(
        {
            "in": Input((1, 4, 4)), "p": AvgPool2d((2, 2), (2, 2)), "f": Flatten(), "fc": Linear(on_grid(rng, 3, 4)),
            "n": Spiking(LAW), "out": Output(),
        }
    )  # fmt: skip
    x = np.zeros((1, 2, 1, 4, 4))
    x[0, 0, 0, 0, 0] = 1
    x[0, 1] = 1
    ops = nb.synaptic_operations(net, x, run_of(net, 1, 2))
    assert ops == {"Effective_MACs": 3, "Effective_ACs": 12, "Dense": 24}


def live() -> Any:
    """NeuroBench's metrics and models; its imports may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("neurobench", reason=REASON)
        names = ("metrics.workload", "metrics.static", "models")
        return [importlib.import_module(f"neurobench.{n}") for n in names]


@pytest.mark.parametrize("make", [conv_net, dense_net])
def test_live_on_the_chip_s_own_spikes(make: Any) -> None:
    """NeuroBench counts layers that are called with what entered them on the chip, step by step."""
    workload, static, models = live()
    torch = importlib.import_module("torch")
    network = make(np.random.default_rng(7))
    x, run = on_the_chip(network, 8)
    modules, calls = {}, {}
    for name, node in network:
        if isinstance(node, Linear | Conv2d):
            w = torch.tensor(node.weight)
            if isinstance(node, Linear):
                modules[name] = torch.nn.Linear(w.shape[1], w.shape[0])
            else:
                modules[name] = torch.nn.Conv2d(
                    w.shape[1] * node.groups, w.shape[0], tuple(w.shape[2:]), node.stride, node.padding, 1, node.groups
                )
            modules[name].weight.data = w
            source = network.sources(name)[0].src
            source = network.sources(source)[0].src if isinstance(network.nodes[source], Flatten) else source
            spikes = torch.tensor((x if source == "in" else run.probes[f"{source}.s"]).astype(np.float32))
            calls[name] = spikes.flatten(2) if isinstance(node, Linear) else spikes

    class Replay(torch.nn.Module):  # type: ignore[name-defined, misc]  # torch is imported late
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleDict(modules)

        def forward(self, batch: Any) -> Any:
            for name, layer in self.layers.items():
                for t in range(run.steps):
                    out = layer(calls[name][:, t])
            return out

    model = models.TorchModel(Replay())
    model.register_hooks()
    batch = (torch.tensor(x), None)
    with torch.no_grad():
        found = workload.SynapticOperations()(model, model(batch[0]), batch)
    assert found == nb.synaptic_operations(network, x, run)
    assert found["Effective_ACs"] * run.samples == run.total("synaptic_events")
    assert static.ConnectionSparsity()(model) == nb.connection_sparsity(network)


def test_live_on_a_network_of_snntorch() -> None:
    """Its spikes, membranes and sparse weights, judged by NeuroBench and by us."""
    workload, static, models = live()
    torch, snn = importlib.import_module("torch"), importlib.import_module("snntorch")
    torch.manual_seed(2)
    w1, w2 = torch.randn(9, 12), torch.randn(4, 9)
    w1[w1.abs() < 0.3] = 0
    layers = [torch.nn.Linear(12, 9, bias=False), snn.Leaky(0.7, init_hidden=True)]
    layers += [torch.nn.Linear(9, 4, bias=False), snn.Leaky(0.7, init_hidden=True, output=True)]
    layers[0].weight.data, layers[2].weight.data = w1, w2
    model = models.SNNTorchModel(torch.nn.Sequential(*layers))
    seen: dict[str, list[Any]] = {"a.s": [], "a.v": [], "b.s": [], "b.v": []}
    for name, layer in (("a", layers[1]), ("b", layers[3])):

        def keep(layer: Any, _: Any, out: Any, name: str = name) -> None:
            seen[f"{name}.s"].append((out[0] if isinstance(out, tuple) else out).numpy())
            seen[f"{name}.v"].append(layer.mem.numpy())

        layer.register_forward_hook(keep)
    model.register_hooks()
    x = (torch.rand(5, 15, 12) < 0.3).float()
    with torch.no_grad():
        preds = model(x)
    made = [f(model, preds, (x, None)) for f in (workload.SynapticOperations(), workload.MembraneUpdates())]
    made += [workload.ActivationSparsity()(model, preds, (x, None)), static.ConnectionSparsity()(model)]
    nodes = {"in": Input((12,)), "w1": Linear(w1.numpy()), "a": Spiking(), "w2": Linear(w2.numpy()), "b": Spiking()}
    network = Network.sequential({**nodes, "out": Output()})
    run = run_of(network, 5, 15, **{k: np.stack(v, axis=1) for k, v in seen.items()})
    ours = nb.metrics(network, x.numpy(), run)
    assert made[0] == ours["SynapticOperations"]
    assert made[1] == ours["MembraneUpdates"]
    assert made[2] == pytest.approx(ours["ActivationSparsity"], rel=1e-12)
    assert made[3] == ours["ConnectionSparsity"] > 0
    assert static.ParameterCount()(model) == ours["ParameterCount"]
