"""What is used of a chip, core by core, and how it prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from export.loihi import Int
from export.network import Shape
from export.program import CapacityError, Usage
from hardware.loihi import Profile

Placement: TypeAlias = Mapping[str, Int]
MANY = 4
"""Ranges of one population on one core from which on they print as positions and channels."""


@dataclass(frozen=True)
class CoreUse:
    """One core: ``parts`` are neurons ``(population, first, last)``, ``[first, last)``; what they take of its limits.

    ``chip`` and ``tile`` (column, row; columns count on through the chips) say where it is.
    """

    core: int
    chip: int
    tile: tuple[int, int]
    parts: tuple[tuple[str, int, int], ...]
    neurons: int
    synapse_words: int
    axons_in: int
    axons_out: int


@dataclass(frozen=True)
class Layout:
    """``placement[population]``: core of each neuron; ``usage`` ``{resource: (used, max)}``; each core.

    Resources: cores and chips in all; neurons, synapse words, axons in and out of the fullest core. Prints as a table.
    """

    profile: Profile
    placement: Placement = field(repr=False)
    cores: tuple[CoreUse, ...] = field(repr=False)
    usage: Usage
    shapes: Mapping[str, Shape] = field(repr=False)

    def table(self) -> Table:
        """One row for each core."""
        table = Table(box=None, pad_edge=False)
        for k, head in enumerate(
            ("core", "chip", "tile", "neurons", "synapse words", "axons in", "axons out", "holds")
        ):
            table.add_column(head, justify="left" if k == 7 else "right")
        for c in self.cores:
            holds = ", ".join(self._held(n, ranges) for n, ranges in _by_name(c.parts).items())
            cells = (
                c.core,
                c.chip,
                "{},{}".format(*c.tile),
                c.neurons,
                c.synapse_words,
                c.axons_in,
                c.axons_out,
                holds,
            )
            table.add_row(*(Text(str(cell)) for cell in cells))
        return table

    def _held(self, name: str, ranges: list[tuple[int, int]]) -> str:
        """Neurons of one population: as ranges, or where they are many as positions and channels."""
        shape = self.shapes[name]
        if len(ranges) < MANY or len(shape) != 3:
            return ", ".join(f"{name}[{a}:{b}]" for a, b in ranges)
        neurons = np.concatenate([np.arange(a, b) for a, b in ranges])
        channels, positions = (np.unique(x) for x in np.divmod(neurons, shape[1] * shape[2]))
        first, last = int(positions[0]), int(positions[-1])
        every = len(neurons) == len(channels) * (last - first + 1)
        what = name if every else f"{name}: {len(neurons)} neurons at"
        return f"{what} positions {first}-{last}, {len(channels)} channels"

    def summary(self) -> list[str]:
        """A line for each resource, and one for each population with the cores that it takes."""
        lines = [f"{k}: {used} of {most}" for k, (used, most) in self.usage.items()]
        for n, cores in self.placement.items():
            found = np.unique(cores)
            where = f"core {found[0]}" if len(found) == 1 else f"{len(found)} cores, {found[0]} to {found[-1]}"
            lines.append(f"{n}: {len(cores)} neurons on {where}")
        return lines

    def __str__(self) -> str:
        console = Console(width=160, no_color=True, highlight=False)
        with console.capture() as got:
            console.print(self.table())
        rows = (line.rstrip() for line in got.get().splitlines())
        return "\n".join([self.profile.name, *(f"  {line}" for line in self.summary()), *rows])


def _by_name(parts: Sequence[tuple[str, int, int]]) -> dict[str, list[tuple[int, int]]]:
    out: dict[str, list[tuple[int, int]]] = {}
    for n, a, b in parts:
        out.setdefault(n, []).append((a, b))
    return out


def usage_of(cores: Sequence[CoreUse], profile: Profile, chips: int | None) -> dict[str, tuple[int, int]]:
    """Fullest of everything. Errors: :class:`CapacityError` naming layer, limit, need and have."""
    limits = profile.limits
    most = limits["max_chips"] if chips is None else chips
    used = 1 + max(c.chip for c in cores)
    if used > most:
        held: dict[str, int] = {}
        for c in cores:
            for n in {n for n, _, _ in c.parts}:
                held[n] = held.get(n, 0) + 1
        worst = max(held, key=lambda n: held[n])
        raise CapacityError(
            f"{worst}: takes {held[worst]} of {len(cores)} cores; chips: need {used}, have {most} of "
            f"{limits['cores_per_chip']} cores ({profile.name}); make the layer smaller or allow more chips"
        )
    usage = {"cores": (len(cores), used * limits["cores_per_chip"]), "chips": (used, most)}
    for what in ("neurons", "synapse_words", "axons_in", "axons_out"):
        limit = f"{what}_per_core"
        top = max(cores, key=lambda c: getattr(c, what))
        value = getattr(top, what)
        if value > limits[limit]:
            raise CapacityError(
                f"{top.parts[0][0]}: core {top.core} needs {value} {limit}, {profile.name} has {limits[limit]}; "
                "spread its neurons over more cores"
            )
        usage[limit] = (value, limits[limit])
    return usage


def parts_of(placement: Placement) -> dict[int, list[tuple[str, int, int]]]:
    """Ranges of neurons on each core."""
    parts: dict[int, list[tuple[str, int, int]]] = {}
    for n, cores in placement.items():
        cut = np.flatnonzero(np.diff(cores)) + 1
        for a, b in zip([0, *cut.tolist()], [*cut.tolist(), len(cores)], strict=True):
            parts.setdefault(int(cores[a]), []).append((n, a, b))
    return parts
