"""Populations onto cores: neurons in index order, layer after layer, cores in tile order; limits checked.

Per core: neurons; synapse words (64 bit) of ``non-zero synapses * bits + one header word per axon list``, a
convolution storing its kernel once per core; distinct presynaptic axons in. ``bits`` = weight 8 + delay 6 where there
is one + index 10 where the rows are not full.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from export.program import CapacityError, Usage
from hardware.loihi import Chip

if TYPE_CHECKING:
    from export.to_loihi import Connection, Population


@dataclass(frozen=True, eq=False)
class Placement:
    """``cores[population]``: core of each neuron ``(n,)``; ``usage`` over the ``chips`` used."""

    chip: Chip
    cores: Mapping[str, npt.NDArray[np.int64]]
    usage: Usage
    chips: int


def place(
    populations: Mapping[str, Population], connections: Sequence[Connection], chip: Chip, max_chips: int = 768
) -> Placement:
    """Greedy and deterministic. ``max_chips`` 768 is the largest Loihi system built (Pohoiki Springs, Intel 2020).

    Errors: ``CapacityError`` naming layer, limit, need and have.
    """
    limits, cores, first = chip.limits, {}, 0
    worst = {"neurons per core": 0, "synapse words per core": 0, "axons in per core": 0}
    for name, p in populations.items():
        into = [c for c in connections if c.dst == name]
        n = math.prod(p.shape)
        axons = sum(math.prod(_source_shape(c, populations)) for c in into)
        if axons > limits["axons_in_per_core"]:
            raise CapacityError(
                f"{name}: needs {axons} axons into each core, {chip.name} has {limits['axons_in_per_core']}; "
                "make the layer before it smaller or use stride"
            )
        size = min(n, limits["neurons_per_core"])
        while _words(into, size, n, axons) > limits["synapse_words_per_core"]:
            if size == 1:
                raise CapacityError(
                    f"{name}: one neuron needs {_words(into, 1, n, axons)} synapse words, a core of {chip.name} has "
                    f"{limits['synapse_words_per_core']}; reduce its fan-in"
                )
            size -= max(1, size // 16)
        cores[name] = first + np.arange(n) // size
        first += math.ceil(n / size)
        found = (size, _words(into, size, n, axons), axons)
        worst = {k: max(v, f) for (k, v), f in zip(worst.items(), found, strict=True)}
    chips = math.ceil(first / limits["cores"])
    if chips > max_chips:
        raise CapacityError(f"network: needs {first} cores on {chips} chips of {chip.name}, have {max_chips} chips")
    tops = (limits["neurons_per_core"], limits["synapse_words_per_core"], limits["axons_in_per_core"])
    usage = {"cores": (first, limits["cores"] * chips)} | {
        k: (v, m) for (k, v), m in zip(worst.items(), tops, strict=True)
    }
    total = sum(math.prod(p.shape) for p in populations.values())
    return Placement(chip, cores, usage | {"neurons": (total, limits["neurons_per_core"] * limits["cores"] * chips)}, chips)


def _source_shape(c: Connection, populations: Mapping[str, Population]) -> tuple[int, ...]:
    if c.src in populations:
        return populations[c.src].shape
    return (c.weight.shape[1],) if c.kind == "dense" else (c.weight.shape[1] * c.groups,)


def _words(into: list[Any], neurons: int, of: int, axons: int) -> int:
    bits = 0.0
    for c in into:
        used = int(np.count_nonzero(c.weight))
        full = used == c.weight.size
        each = 8 + (6 if c.chip_delay else 0) + (0 if full and c.kind == "dense" else 10)
        bits += used * each * (neurons / of if c.kind == "dense" else 1.0)
    return math.ceil(bits / 64) + axons
