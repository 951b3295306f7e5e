"""The network as data; into it (torch, NIR), and out of it into programs for machines."""

from export.ends import natural
from export.network import (
    AvgPool2d,
    Conv1d,
    Conv2d,
    Delay,
    DelayedLinear,
    Edge,
    Flatten,
    Input,
    Integrator,
    Linear,
    Loss,
    Network,
    NetworkError,
    Output,
    Scale,
    Spiking,
    SumPool2d,
    Window,
)
from export.program import CapacityError, MappingError, Program

__all__ = [
    "AvgPool2d",
    "CapacityError",
    "Conv1d",
    "Conv2d",
    "Delay",
    "DelayedLinear",
    "Edge",
    "Flatten",
    "Input",
    "Integrator",
    "Linear",
    "Loss",
    "MappingError",
    "Network",
    "NetworkError",
    "Output",
    "Program",
    "Scale",
    "Spiking",
    "SumPool2d",
    "Window",
    "natural",
]
