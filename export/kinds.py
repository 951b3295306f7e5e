"""Types of torch modules by name, which needs no torch: what passes, what is refused and what to do."""

from __future__ import annotations

from collections.abc import Set

from export.program import MappingError

HOMES = ("torch.nn.modules.", "spikingjelly.activation_based.layer.", "spikingjelly.activation_based.neuron.")
OURS = "neuro.modules"

NOTHING = {"Identity", "Dropout", "Dropout1d", "Dropout2d"}
"""Identities in evaluation mode."""

CHAINS = {"Sequential", "Stack", "SeqToANNContainer", "MultiStepContainer"}
"""Containers that run their children in a row."""

_POOL = "use AvgPool2d, or a Conv2d with stride 2"
_NORM = "it normalises by each sample; train with BatchNorm right behind Linear or Conv2d, which folds"
FIXES = {
    "MaxPool2d": _POOL,
    "AdaptiveMaxPool2d": _POOL,
    "AdaptiveAvgPool2d": "write the AvgPool2d with the kernel that it comes to",
    "ConvTranspose2d": "use Conv2d",
    "LayerNorm": _NORM,
    "GroupNorm": _NORM,
    "InstanceNorm2d": _NORM,
    "ReLU": "put a spiking neuron there and train, or leave it out",
    "Conv1d": "write it as Conv2d with kernel (1, k)",
    "MultiheadAttention": "it multiplies activations, which spiking machines do not",
}


def kind_of(cls: type) -> str:
    """Class name of a layer or neuron of torch, SpikingJelly or neuro; empty for anybody else's class."""
    return cls.__qualname__ if cls.__module__.startswith(HOMES) or cls.__module__ == OURS else ""


def is_layer(cls: type) -> bool:
    """Whether ``cls`` is a layer, a neuron or derived from one, so that looking into its forward is wrong."""
    return any(kind_of(c) not in {"", "Module"} | CHAINS for c in cls.__mro__)


def refusal(cls: type, label: str, known: Set[str]) -> MappingError:
    """The error for a module of type ``cls`` at ``label``, with the nearest way out."""
    names = [c.__name__ for c in cls.__mro__]
    parent = next((kind_of(c) for c in cls.__mro__[1:] if kind_of(c) in known), "")
    if parent:
        return MappingError(
            f"{label}: {names[0]} is a subclass of {parent} and may compute otherwise; use {parent} itself"
        )
    fix = next((FIXES[n] for n in names if n in FIXES), f"supported are {', '.join(sorted(known))}")
    return MappingError(f"{label}: {names[0]} has no exact counterpart on the machines; {fix}")
