"""Quantisation-aware training: on the chip's grid to the last weight, a straight-through gradient, resumable."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import layer, neuron
from torch import Tensor, nn

from export import Network
from export.from_torch import from_torch
from export.loihi import LoihiProgram
from export.to_loihi import compile_loihi
from export.to_torch import NetworkModule, run_torch, to_torch
from neuro.chip import chip_law
from neuro.grid import WeightGrid
from neuro.methods.qat import freeze, hard_reset, prepare
from neuro.methods.sltt import SLTT
from neuro.modules import ParametricSpiking, Recurrent, Spiking, Stack, step, unroll
from neuro.neuron import Decay, Law, Leaky, NoLeak, Rate, Tau
from neuro.surrogate import ATan
from neuro.train import adam, train
from sim import engines

T = 10
CHIP = {"weights rounded", "threshold rounded", "bias rounded", "decay rounded", "first current", "bits lost", "'>='"}


def normed(m: nn.Module) -> nn.Module:
    """Statistics that are not those of the start."""
    g = torch.Generator().manual_seed(0)
    for n in m.modules():
        if isinstance(n, nn.BatchNorm1d | nn.BatchNorm2d):
            with torch.no_grad():
                n.running_mean.copy_(0.2 * torch.randn(n.num_features, generator=g))
                n.running_var.copy_(0.2 + 0.3 * torch.rand(n.num_features, generator=g))
                n.bias.copy_(0.3 + 0.3 * torch.randn(n.num_features, generator=g))
    return m.eval()


def conv_net(law: Law, last: Law | None = None) -> nn.Module:
    torch.manual_seed(1)
    return normed(
        Stack(
            nn.Conv2d(2, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            Spiking(law),
            nn.AvgPool2d(2),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            Spiking(law),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(12 * 16, 10),
            nn.BatchNorm1d(10),
            Spiking(last or law),
        )
    )


def spikes(*shape: int, rate: float = 0.35) -> Any:
    return (np.random.default_rng(3).random((12, T, *shape)) < rate).astype(np.float32)


def agreement(network: Network, x: Any, **options: Any) -> tuple[LoihiProgram, float]:
    """The chip's program, and the share of spikes of all populations in which it is the float law."""
    y, s = run_torch(network, x)
    assert 0.01 < y.mean() < 0.9
    program = compile_loihi(network, **options)
    done = engines.run(program, x, "loihi")
    equal = [float((done.probes[f"{n}.s"] == a).mean()) for n, a in s.items()]
    return program, min(equal)


def rounded(program: LoihiProgram) -> list[str]:
    return [x.what for x in program.losses if any(k in x.what for k in CHIP)]


@pytest.mark.parametrize(
    "law",
    [
        Law(Tau(2.0, decay_input=False)),
        Law(Tau(2.0), threshold=0.5),
        Law(NoLeak(), fires=">"),
        Law(Tau(3.0, decay_input=False), threshold=1.3),
        Law(Decay(0.3, 0.7), threshold=1.7),
        Law(Rate(0.4), threshold=0.6),
        Law(Tau(2.0, decay_input=False, rest=-0.2), v_reset=-0.2),
    ],
)
def test_a_prepared_network_goes_over_without_rounding(law: Law) -> None:
    net = prepare(conv_net(law))
    program, equal = agreement(from_torch(net, (2, 8, 8)), spikes(2, 8, 8))
    assert rounded(program) == []
    assert equal > (0.998 if law.charge.canonical()[2] != 1.0 or law.charge.canonical()[1] > 0.6 else 0.9995)


def test_training_keeps_it_on_the_grid_and_lowers_the_loss() -> None:
    net = prepare(conv_net(Law(Tau(2.0, decay_input=False))))
    rng = np.random.default_rng(0)
    y = rng.integers(0, 10, 96)
    x = (rng.random((96, T, 2, 8, 8)) < 0.1 + 0.08 * y[:, None, None, None, None]).astype(np.float32)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    done = train(net, (x, y), method=SLTT(T), epochs=2, batch=16, optimizer=adam(5e-4))
    assert done.loss[-1] < done.loss[0]
    assert any(not torch.equal(v, before[k]) for k, v in net.state_dict().items())
    program, equal = agreement(from_torch(net, (2, 8, 8)), x)
    assert rounded(program) == []
    assert equal > 0.998
    plain = freeze(net)
    assert from_torch(plain, (2, 8, 8), name="n").hash() == from_torch(net, (2, 8, 8), name="n").hash()
    assert {type(m) for m in plain.modules()} <= {
        Stack, nn.Conv2d, nn.Linear, nn.Identity, nn.AvgPool2d, nn.Flatten, nn.Dropout, Spiking, ATan,
    }  # fmt: skip
    assert any(p is not q for p, q in zip(net.parameters(), plain.parameters(), strict=True))


def test_resumed_training_has_the_same_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = spikes(2, 8, 8), rng.integers(0, 10, 12)
    law, options = Law(Tau(2.0, decay_input=False)), {"method": SLTT(T), "epochs": 3, "batch": 4, "seed": 1}
    whole, halves, fresh = (prepare(conv_net(law)) for _ in range(3))
    train(whole, data, **options)

    def stop(epoch: int, *_: Any) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(halves, data, checkpoint=tmp_path / "q.pt", progress=stop, **options)
    train(fresh, data, checkpoint=tmp_path / "q.pt", resume=True, **options)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), fresh.parameters(), strict=True))


def test_the_gradient_is_that_of_the_network_on_the_grid() -> None:
    net = prepare(conv_net(Law(Tau(2.0, decay_input=False))))
    plain, x = freeze(net), torch.from_numpy(spikes(2, 8, 8))
    for m in (net, plain):
        unroll(m, x).square().sum().backward()
    grads = [p.grad for p in net.parameters() if p.grad is not None]
    theirs = [p.grad for p in plain.parameters() if p.grad is not None]
    assert len(grads) == len(theirs) > 0
    by_shape = {tuple(g.shape): g for g in theirs}
    for g in grads:
        torch.testing.assert_close(g, by_shape[tuple(g.shape)])


def test_grid_by_hand() -> None:
    grid = WeightGrid(0.5, -2, 3)
    w = torch.tensor([-9.0, -1.0, -0.3, 0.24, 0.26, 1.6, 4.0], requires_grad=True)
    out = grid(w)
    assert out.tolist() == [-1.0, -1.0, -0.5, 0.0, 0.5, 1.5, 1.5]
    out.sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [0, 1, 1, 1, 1, 1, 0]


def test_laws_on_the_grid() -> None:
    assert chip_law(Law(Tau(2.0, decay_input=False))) == Law(Tau(2.0, decay_input=False), fires=">")
    assert chip_law(Law(Tau(3.0, rest=0.1))).charge == Rate(1 - 2731 / 4096, True, 0.1)
    assert chip_law(Law(Rate(0.1, False))).charge == Rate(1 - 3686 / 4096, False)
    assert chip_law(Law(Leaky(0.9))).charge == Leaky(3686 / 4096)
    assert chip_law(Law(Decay(0.3, 0.0), 2.0)) == Law(Decay(1229 / 4096, 1 / 4096), 2.0, fires=">")
    assert chip_law(Law(NoLeak(), reset="subtract")) == Law(NoLeak(), reset="subtract", fires=">")
    with pytest.raises(ValueError, match=r"keep at most 0\.999756"):
        chip_law(Law(Decay(1.0, 0.5)))


def test_soft_reset_trains_with_a_hard_one_or_stays_an_extension() -> None:
    soft = Law(Tau(2.0, decay_input=False), reset="subtract")
    net, x = conv_net(soft), spikes(2, 8, 8)
    with pytest.raises(ValueError, match="hard_reset"):
        compile_loihi(from_torch(prepare(net), (2, 8, 8)))
    program, equal = agreement(from_torch(prepare(net), (2, 8, 8)), x, soft_reset=True)
    assert (rounded(program), equal > 0.998) == ([], True)
    hard = prepare(hard_reset(net))
    program, equal = agreement(from_torch(hard, (2, 8, 8)), x)
    assert (rounded(program), equal > 0.998) == ([], True)
    assert all(m.law.reset == "subtract" for m in net.modules() if isinstance(m, Spiking))
    graph = to_torch(from_torch(net, (2, 8, 8)), surrogate=ATan())
    found = {law.reset for law in hard_reset(graph).laws().values()}
    assert (found, {law.reset for law in graph.laws().values()}) == ({"zero"}, {"subtract"})


class Block(nn.Module):
    """SpikingJelly's parts in a residual forward of its own, a downsampling branch with its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            layer.Conv2d(2, 6, 3, padding=1), layer.BatchNorm2d(6), neuron.LIFNode(2.0, True, 0.4)
        )
        self.a = nn.Sequential(layer.Conv2d(6, 8, 3, 2, 1), layer.BatchNorm2d(8), neuron.LIFNode(2.0, True, 0.4))
        self.b = nn.Sequential(layer.Conv2d(8, 8, 3, padding=1), layer.BatchNorm2d(8))
        self.down = nn.Sequential(layer.Conv2d(6, 8, 1, 2), layer.BatchNorm2d(8))
        self.lif, self.fc, self.last = neuron.ParametricLIFNode(3.0, True, 0.4), nn.Linear(8 * 4, 5), neuron.IFNode()
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.lif(self.b(self.a(x)) + self.down(x))
        return self.last(self.fc(torch.flatten(self.pool(x), 1)))


def test_any_network_that_is_read_can_be_prepared() -> None:
    """SpikingJelly, residual, through the graph: trains, keeps the grid, and its spikes on the chip."""
    torch.manual_seed(2)
    graph = to_torch(from_torch(normed(Block()), (2, 8, 8)), surrogate=ATan())
    net, x = prepare(graph), spikes(2, 8, 8)
    assert isinstance(net, NetworkModule)
    train(net, (x, np.arange(12) % 5), method=SLTT(T), epochs=2, batch=6, optimizer=adam(2e-4))
    program, equal = agreement(from_torch(net, (2, 8, 8)), x)
    assert rounded(program) == []
    assert equal > 0.99
    assert [z for z in program.losses if "wait for a longer path" in z.what]
    with pytest.raises(ValueError, match=r"takes \(2, 8, 8\), got input_shape \(2, 9\)"):
        from_torch(net, (2, 9))


def test_a_loop_can_be_prepared_as_a_graph() -> None:
    torch.manual_seed(3)
    law = Law(Tau(2.0, decay_input=False))
    net = Stack(
        nn.Linear(8, 16), Recurrent(Spiking(law), nn.Linear(16, 16, bias=False)), nn.Linear(16, 4), Spiking(law)
    )
    with torch.no_grad():
        net[0].weight.add_(0.2)
        net[2].weight.add_(0.2)
    prepared = prepare(to_torch(from_torch(net, (8,)), surrogate=ATan()))
    program, equal = agreement(from_torch(prepared, (8,)), spikes(8))
    assert rounded(program) == []
    assert equal > 0.998


def test_leak_of_a_parametric_population_lands_on_the_grid() -> None:
    torch.manual_seed(4)
    net = Stack(nn.Linear(8, 16), ParametricSpiking(Law(Rate(0.37), 0.3)))
    with torch.no_grad():
        net[0].weight.add_(0.2)
    prepared = prepare(net)
    program, equal = agreement(from_torch(prepared, (8,)), spikes(8))
    assert (rounded(program), equal > 0.998) == ([], True)
    assert program.populations["1"].dv == round(0.37 * 4096)


def test_weights_of_one_sign_use_all_eight_bits() -> None:
    net = Stack(nn.Linear(8, 6, bias=False), Spiking(Law(Tau(2.0, decay_input=False), 2.0)))
    with torch.no_grad():
        net[0].weight.copy_(torch.rand(6, 8, generator=torch.Generator().manual_seed(0)) + 0.05)
    program, equal = agreement(from_torch(prepare(net), (8,)), spikes(8))
    assert (rounded(program), equal > 0.998) == ([], True)
    assert program.edges[0].sign_mode == "excitatory"
    assert (program.edges[0].w % 2 == 1).any()


def test_wide_layers_and_graded_input_stay_below_the_wrap() -> None:
    torch.manual_seed(0)
    net = Stack(nn.Linear(4000, 4, bias=False), Spiking(Law(Tau(2.0, decay_input=False), 90.0)))
    with torch.no_grad():
        net[0].weight.copy_(0.5 + torch.rand(4, 4000) / 2)
    program = compile_loihi(from_torch(prepare(net), (4000,)))
    assert rounded(program) == []
    graded = prepare(net, payload=15)
    assert rounded(compile_loihi(from_torch(graded, (4000,)), graded_bits=4)) == []


def bad(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: Stack(*layers)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "two layers": (bad(nn.Linear(4, 4), nn.Linear(4, 4), Spiking()), r"^1: two layers in a row"),
    "pool behind": (
        bad(nn.Conv2d(1, 1, 3), nn.AvgPool2d(2), Spiking()), r"^1: pooling between a layer and its neurons",
    ),
    "norm": (bad(nn.BatchNorm1d(4), nn.Linear(4, 4), Spiking()), r"^0: BatchNorm folds into a layer right before"),
    "statistics": (
        bad(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False), Spiking()), r"^1: .*running statistics",
    ),
    "jelly": (bad(nn.Linear(4, 4), neuron.IFNode()), r"^1: IFNode is not taken here; .*export\.to_torch"),
    "loop": (bad(Recurrent(Spiking(), nn.Linear(4, 4, bias=False))), r"^0: a loop is no chain; .*to_torch"),
    "nothing": (bad(nn.Linear(4, 4)), r"no spiking population"),
    "unweighted": (bad(nn.Flatten(), Spiking()), r"^1: no Linear or Conv2d leads to it"),
    "current": (bad(nn.Linear(4, 4), Spiking(Law(Decay(1.0, 0.5)))), r"^1: a current that keeps 1 "),
    "reset": (bad(nn.Linear(4, 4), Spiking(Law(v_reset=1.5))), r"^1: threshold 1 is not above v_reset"),
    "threshold": (bad(nn.Conv2d(1, 1, 3), Spiking(Law(threshold=1e-6))), r"^1: threshold 1e-06 rounds to 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_grid_is_refused(case: str) -> None:
    make, says = REFUSED[case]
    with pytest.raises(ValueError, match=says):
        prepare(make())


def test_dead_weights_are_refused() -> None:
    net = Stack(nn.Linear(4, 4, bias=False), Spiking())
    with torch.no_grad():
        net[0].weight.zero_()
    with pytest.raises(ValueError, match=r"^0: weights are all 0 or not finite"):
        prepare(net)


def test_step_and_steps_see_a_prepared_layer_as_the_layer() -> None:
    net = prepare(conv_net(Law(Tau(2.0, decay_input=False))))
    x, state, out = torch.from_numpy(spikes(2, 8, 8)), None, []
    with torch.no_grad():
        for t in range(T):
            y, state = step(net, x[:, t], state)
            out.append(y)
        torch.testing.assert_close(torch.stack(out, 1), unroll(net, x))
