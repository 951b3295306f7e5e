"""What every program has, whatever machine it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from export.network import Loss

Usage = Mapping[str, tuple[int, int]]
"""Resource to ``(used, max)``."""


class CapacityError(ValueError):
    """A program that does not fit: names layer, limit, need and have."""


class MappingError(ValueError):
    """A network that a machine cannot run: names the node, the rule and the fix."""


class Program(Protocol):
    """The same network in one machine's own terms."""

    @property
    def machine(self) -> str:
        """Name of the kind of machine: ``loihi``, ``onnx``, ``sfq``."""

    @property
    def usage(self) -> Usage:
        """How full the machine is, ``{resource: (used, max)}``."""

    @property
    def losses(self) -> Sequence[Loss]:
        """What the conversion changed; empty means nothing."""

    def hash(self) -> str:
        """SHA-256 of what is saved."""

    def save(self, path: str | Path) -> Path:
        """Write a file that another tool can open."""
