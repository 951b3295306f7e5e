"""Types of torch modules by name, which needs no torch: what passes, what is refused and what to do."""

from __future__ import annotations

from collections.abc import Set

from export.program import MappingError

HOMES = (
    "torch.nn.modules.",
    "spikingjelly.activation_based.layer.",
    "spikingjelly.activation_based.neuron.",
    "snntorch._neurons.",
    "snntorch._layers.",
)
OURS = ("neuro.modules", "neuro.populations", "neuro.norm", "neuro.residual", "neuro.delays")

NOTHING = {"Identity", "Dropout", "Dropout1d", "Dropout2d", "HeldDropout"}
"""Identities in evaluation mode."""

CHAINS = {"Sequential", "Stack", "SeqToANNContainer", "MultiStepContainer"}
"""Containers that run their children in a row."""

LOOPS = {"Recurrent", "ElementWiseRecurrentContainer", "LinearRecurrentContainer"}
"""Containers that feed their children's last output back."""

SUMS = {"Sum"}
"""Containers that add the results of two ways."""

_POOL = "use AvgPool2d, or a Conv2d with stride 2"
_NORM = "it normalises by each sample; train with BatchNorm right behind Linear or Conv2d, which folds"
_PRODUCT = "it multiplies activations, which spiking machines do not; use Linear or Conv2d into spiking neurons"
_REFRACTORY = "fixed-point chips have no refractory time; train without one"
NIR = "export the network to NIR with snntorch.export_nir and read that with export.from_nir"
_NIR = f"train Leaky with reset_mechanism='zero', or {NIR}"
FIXES = {
    "MaxPool1d": _POOL,
    "MaxPool2d": _POOL,
    "MaxPool3d": _POOL,
    "AdaptiveMaxPool2d": _POOL,
    "FractionalMaxPool2d": _POOL,
    "LPPool2d": _POOL,
    "AdaptiveAvgPool2d": "its windows differ in size here; write an AvgPool2d whose kernel divides its input",
    "ConvTranspose1d": "use Conv2d",
    "ConvTranspose2d": "use Conv2d",
    "ConvTranspose3d": "use Conv2d",
    "Upsample": "use Conv2d",
    "LayerNorm": _NORM,
    "RMSNorm": _NORM,
    "GroupNorm": _NORM,
    "InstanceNorm1d": _NORM,
    "InstanceNorm2d": _NORM,
    "Softmax": "it divides by a sum over neurons; leave it out and decode by spike count",
    "LogSoftmax": "it divides by a sum over neurons; leave it out and decode by spike count",
    "ReLU": "put a spiking neuron there and train, or leave it out",
    "Conv3d": "use Conv2d",
    "MultiheadAttention": _PRODUCT,
    "TransformerEncoderLayer": _PRODUCT,
    "RNN": "use neuro.modules.Recurrent with spiking neurons",
    "LSTM": "use neuro.modules.Recurrent with spiking neurons",
    "GRU": "use neuro.modules.Recurrent with spiking neurons",
    "LIFRefracCell": _REFRACTORY,
    "LIFRefracRecurrentCell": _REFRACTORY,
    "LIFRefractory": _REFRACTORY,
    "SpikingNeuron": _NIR,
    "SLSTM": _NIR,
    "SConv2dLSTM": _NIR,
}
CALLS = {
    "max_pool1d": "MaxPool1d",
    "max_pool2d": "MaxPool2d",
    "adaptive_avg_pool2d": "AdaptiveAvgPool2d",
    "layer_norm": "LayerNorm",
    "group_norm": "GroupNorm",
    "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
    "relu": "ReLU",
    "matmul": "MultiheadAttention",
    "bmm": "MultiheadAttention",
    "mul": "MultiheadAttention",
    "scaled_dot_product_attention": "MultiheadAttention",
    "conv_transpose2d": "ConvTranspose2d",
}
"""Functions and methods that a forward calls, to the layer with the same fix."""


def kind_of(cls: type) -> str:
    """Class name of a layer or neuron of torch, SpikingJelly or neuro; empty for anybody else's class."""
    return cls.__qualname__ if cls.__module__.startswith(HOMES) or cls.__module__ in OURS else ""


def is_layer(cls: type) -> bool:
    """Whether ``cls`` is a layer, a neuron or derived from one, so that looking into its forward is wrong."""
    return any(kind_of(c) not in {"", "Module"} | CHAINS | LOOPS | SUMS for c in cls.__mro__)


def refusal(cls: type, label: str, known: Set[str]) -> MappingError:
    """The error for a module of type ``cls`` at ``label``, with the nearest way out."""
    names = [c.__name__ for c in cls.__mro__]
    parent = next((kind_of(c) for c in cls.__mro__[1:] if kind_of(c) in known), "")
    if parent:
        return MappingError(
            f"{label}: {names[0]} is a subclass of {parent} and may compute otherwise; use {parent} itself"
        )
    attention = _PRODUCT if names[0].endswith("Attention") else f"supported are {', '.join(sorted(known))}"
    fix = next((FIXES[n] for n in names if n in FIXES), attention)
    return MappingError(f"{label}: {names[0]} has no exact counterpart on the machines; {fix}")
