"""What from_torch refuses: each error names the path, the rule and the fix."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

from export import MappingError, NetworkError
from export.from_torch import from_torch


class OtherLIF(neuron.LIFNode):
    """A subclass with a law of its own."""


class Loop(nn.Module):
    """A time loop inside the forward, as many examples write it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 2), neuron.IFNode())

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.net(x) for _ in range(3)]).mean(0)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x) if x.sum() > 0 else x


class Twice(nn.Module):
    """BatchNorm of a layer whose raw output is used too."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.fc(x)
        return self.norm(h) + h


def hooked() -> nn.Module:
    net = nn.Sequential(nn.Linear(4, 2), neuron.IFNode())
    net[0].register_forward_hook(lambda _m, _x, y: 2 * y)
    return net


def shared() -> nn.Module:
    node = neuron.IFNode()
    return nn.Sequential(nn.Linear(4, 4), node, nn.Linear(4, 4), node)


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "maxpool": (
        lambda: nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3), neuron.IFNode(), layer.MaxPool2d(2))),
        (1, 8, 8),
        r"^0\.2: MaxPool2d has no exact counterpart.*AvgPool2d",
    ),
    "adaptive": (
        lambda: nn.Sequential(nn.AdaptiveAvgPool2d(3)),
        (1, 8, 8),
        r"^0: AdaptiveAvgPool2d .*kernel",
    ),
    "layernorm": (
        lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)),
        (4,),
        r"^1: LayerNorm .*BatchNorm",
    ),
    "transpose": (lambda: nn.Sequential(nn.ConvTranspose2d(1, 1, 3)), (1, 8, 8), r"^0: ConvTranspose2d"),
    "relu": (lambda: nn.Sequential(nn.Linear(4, 4), nn.ReLU()), (4,), r"^1: ReLU .*spiking neuron"),
    "other node": (lambda: nn.Sequential(neuron.QIFNode()), (4,), r"^0: QIFNode .*supported are .*LIFNode"),
    "subclass": (lambda: nn.Sequential(OtherLIF()), (4,), r"^0: OtherLIF is a subclass of LIFNode"),
    "their subclass": (
        lambda: nn.Sequential(neuron.LIAFNode(nn.ReLU(), False)),
        (4,),
        r"^0: LIAFNode is a subclass",
    ),
    "padding mode": (
        lambda: nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect")),
        (1, 8, 8),
        r"^0: Conv2d has padding_mode 'reflect'",
    ),
    "uneven same": (
        lambda: nn.Sequential(nn.Conv2d(1, 1, 2, padding="same")),
        (1, 8, 8),
        r"^0: Conv2d .*uneven",
    ),
    "ceil mode": (lambda: nn.Sequential(nn.AvgPool2d(2, ceil_mode=True)), (1, 7, 7), r"^0: AvgPool2d needs"),
    "pad not counted": (
        lambda: nn.Sequential(nn.AvgPool2d(2, padding=1, count_include_pad=False)),
        (1, 8, 8),
        r"^0: AvgPool2d needs",
    ),
    "flatten": (lambda: nn.Sequential(nn.Flatten(2)), (1, 8, 8), r"^0: Flatten flattens axes 2 to -1"),
    "norm first": (
        lambda: nn.Sequential(nn.BatchNorm2d(1)),
        (1, 8, 8),
        r"^0: BatchNorm2d .*before it stands input",
    ),
    "norm after pool": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(2), nn.BatchNorm2d(2)),
        (1, 8, 8),
        r"^2: BatchNorm2d .*before it stands 1 \(avgpool2d\)",
    ),
    "norm of one batch": (
        lambda: nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2, track_running_stats=False)),
        (4,),
        r"^1: BatchNorm1d has no running statistics",
    ),
    "norm channels": (
        lambda: nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(3)),
        (4,),
        r"^1: BatchNorm1d normalises 3 channels, 0 before it has 2",
    ),
    "norm used twice": (Twice, (4,), r"^Twice\.norm: .*used elsewhere"),
    "half": (lambda: nn.Sequential(nn.Linear(4, 2).half()), (4,), r"^0: Linear .*\.float\(\)"),
    "soft spikes": (
        lambda: nn.Sequential(neuron.IFNode(surrogate_function=surrogate.Sigmoid(spiking=False))),
        (4,),
        r"^0: IFNode has a surrogate whose forward is no step",
    ),
    "threshold": (lambda: nn.Sequential(neuron.IFNode(v_threshold=-1.0)), (4,), r"^0: IFNode Law.threshold"),
    "shared neuron": (shared, (4,), r"^3: is the same object as 1"),
    "hooks": (hooked, (4,), r"^0: has forward hooks"),
    "time loop": (Loop, (4,), r"^net\.0: is used twice; .* leave a time loop out"),
    "branching": (Branching, (4,), r"^Branching: forward cannot be traced"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_path_rule_and_fix(case: str) -> None:
    make, shape, says = REFUSED[case]
    with pytest.raises(MappingError, match=says):
        from_torch(make(), shape)


def test_bad_weights_and_shapes_are_refused() -> None:
    net = nn.Sequential(nn.Linear(4, 3), neuron.IFNode())
    with torch.no_grad():
        net[0].weight[2, 1] = float("nan")
    with pytest.raises(NetworkError, match=r"^0: weight\[2, 1\] is nan"):
        from_torch(net, (4,))
    with pytest.raises(NetworkError, match=r"^0: takes \(4,\), got \(1, 2, 2\); is a Flatten missing"):
        from_torch(nn.Sequential(nn.Linear(4, 3)), (1, 2, 2))
