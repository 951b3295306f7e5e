"""The network as data; into it (torch, NIR), and out of it into programs for machines."""

from export.network import (
    AvgPool2d,
    Conv1d,
    Conv2d,
    Delay,
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
)
from export.program import CapacityError, MappingError, Program

__all__ = [
    "AvgPool2d",
    "CapacityError",
    "Conv1d",
    "Conv2d",
    "Delay",
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
]
