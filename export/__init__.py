"""The network as data; into it (torch, NIR), and out of it into programs for machines."""

from export.network import (
    AvgPool2d,
    Conv2d,
    Edge,
    Flatten,
    Input,
    Linear,
    Loss,
    Network,
    NetworkError,
    Output,
    Spiking,
)
from export.program import CapacityError, MappingError, Program

__all__ = [
    "AvgPool2d",
    "CapacityError",
    "Conv2d",
    "Edge",
    "Flatten",
    "Input",
    "Linear",
    "Loss",
    "MappingError",
    "Network",
    "NetworkError",
    "Output",
    "Program",
    "Spiking",
]
