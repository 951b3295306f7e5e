"""A Network as Brian 2 equations, spike for spike the same in double precision.

    to_brian(network)  ->  BrianProgram  ->  save: net.py, for brian2 and numpy alone, and net.brian.npz

:mod:`export.brian_model` says how a step of the network maps to one ``dt`` of Brian. Weights become float64
unchanged and every operation of the neuron law keeps its place, so spikes are those of the float law in float64
wherever sums are exact in any order: weights on a grid of 2**-k, and nearly always float32 weights under spikes,
whose sums fit in a double's 53 bits. Brian adds synapses to the bias, in order of the sending neuron; where that
rounds differently, a spike may differ if ``h`` stood within rounding of the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from export import brian_model
from export.brian_links import synapse_count, synapses
from export.brian_model import Model
from export.brian_names import identifiers
from export.brian_script import script
from export.brian_synapses import Listed
from export.network import Loss, Network, Shape
from export.package import Arrays, PackageError, digest, read_package, write_package, write_text
from export.program import CapacityError

FORMAT = "spikeport-brian"
VERSION = 1
ARRAYS = ".brian.npz"
"""What takes the place of ``.py`` in the name of the file beside a script."""
MAX_SYNAPSES = 2**31 - 1
"""brian2 2.9 numbers synapses, and the neurons at their ends, with int32 (``brian2/synapses/synapses.py``)."""
BATCH_SYNAPSES = 2**22
"""Synapses to which samples are put side by side: about 0.2 GB in Brian."""
BATCH_VALUES = 2**25
"""Input values of all steps that are in memory at once: 0.25 GB."""


@dataclass(frozen=True, eq=False)
class BrianProgram:
    """The Brian 2 model of ``network``; ``ode``: charges written as ODE under Euler where that has the same bits.

    ``usage``: synapses against Brian's int32.
    """

    network: Network = field(repr=False)
    ode: bool = False
    machine: ClassVar[str] = "brian"

    @cached_property
    def model(self) -> Model:
        """Groups and projections in Brian's words."""
        return brian_model.model(self.network, self.ode)

    @cached_property
    def names(self) -> dict[str, str]:
        """Name in Brian of each group's node."""
        return identifiers(self.model.groups)

    @cached_property
    def synapses(self) -> list[Listed]:
        """``(pre, post, weight)`` of every projection."""
        return [synapses(self.network, p) for p in self.model.projections]

    @cached_property
    def sizes(self) -> list[int]:
        """Synapses of every projection, counted without listing them."""
        return [synapse_count(self.network, p) for p in self.model.projections]

    @property
    def usage(self) -> dict[str, tuple[int, int]]:
        """``{"synapses": (used, 2**31 - 1)}``."""
        return {"synapses": (sum(self.sizes), MAX_SYNAPSES)}

    @property
    def losses(self) -> Sequence[Loss]:
        """What the import into the network changed; the export changes nothing."""
        return self.network.losses

    @property
    def dt_s(self) -> float:
        """Seconds that one step stands for: Brian's ``dt``."""
        return self.network.dt_s

    @property
    def input_shape(self) -> Shape:
        """One step of one sample."""
        return self.network.shapes()[self.network.input]

    @property
    def watched(self) -> tuple[str, ...]:
        """Probes of the spikes of every spiking node."""
        return tuple(f"{n}.s" for n in self.network.spiking())

    def copies(self, steps: int) -> int:
        """Samples of ``steps`` steps that run side by side."""
        values = steps * self.model.groups[self.network.input].size
        return max(1, min(BATCH_SYNAPSES // max(1, sum(self.sizes)), BATCH_VALUES // values))

    def hash(self) -> str:
        """SHA-256 of what is saved."""
        return digest(*self._manifest())

    def save(self, path: str | Path) -> Path:
        """Write the script ``net.py`` and its arrays ``net.brian.npz``, each beside and renamed, the script last.

        The script runs alone: ``python net.py input.npz out.npz``. It may be edited; :meth:`load` reads the arrays.
        """
        path = Path(path)
        if path.suffix != ".py":
            raise ValueError(f"{path}: is a script and must end in .py; its arrays go beside it into {ARRAYS}")
        write_package(path.with_suffix(ARRAYS), *self._manifest())
        return write_text(path, self.script())

    def script(self) -> str:
        """The text of the script that :meth:`save` writes."""
        return script(self.network, self.model, self.names, self.sizes, (BATCH_SYNAPSES, BATCH_VALUES))

    @classmethod
    def load(cls, path: str | Path) -> BrianProgram:
        """Read the arrays that :meth:`save` wrote, also where ``path`` is the script; no script is ever read.

        Errors: ``PackageError`` or ``NetworkError`` naming the file.
        """
        path = Path(path)
        file = path.with_suffix(ARRAYS) if path.suffix == ".py" else path
        manifest, arrays = read_package(file, FORMAT)
        if manifest.get("version") != VERSION:
            raise PackageError(f"{file}: version {manifest.get('version')}, this spikeport reads {VERSION}")
        inner, ode = manifest.get("network"), manifest.get("ode")
        if not isinstance(inner, dict) or not isinstance(ode, bool):
            raise PackageError(f"{file}: manifest is not that of a Brian program; export it again")
        return to_brian(Network.from_manifest(inner, arrays, str(file)), ode=ode)

    def _manifest(self) -> tuple[dict[str, object], Arrays]:
        network, arrays = self.network.to_manifest()
        return {"format": FORMAT, "version": VERSION, "ode": self.ode, "network": network}, arrays


def to_brian(network: Network, *, ode: bool = False) -> BrianProgram:
    """The network for Brian 2. ``ode``: write charges as ``dv/dt`` for ``method="euler"`` where the bits are the same.

    That is NoLeak, Tau and Rate; Leaky and Decay stay statements. Errors: ``NetworkError``; ``MappingError``
    naming a node without rule; ``CapacityError`` over 2**31 - 1 synapses.
    """
    program = BrianProgram(network, ode)
    (used, most), sizes = program.usage["synapses"], program.sizes
    if used > most:
        worst = program.model.projections[sizes.index(max(sizes))]
        raise CapacityError(
            f"{worst.by or worst.dst}: the network has {used} synapses in Brian, which counts to {most}; "
            f"{max(sizes)} of them lead from {worst.src} to {worst.dst}: make that layer smaller"
        )
    return program
