"""Loihi-class chips as tables: limits, tile geometry and timing, every row with unit, grade and source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise

from hardware.tables import PROFILES, Table, TableError, load_table

LIMITS = (
    "cores_per_chip", "max_chips", "neurons_per_core", "synapse_words_per_core", "axons_in_per_core",
    "axons_out_per_core", "delay_bits", "index_bits", "conv_shared",
)  # fmt: skip
GEOMETRY = ("cores_per_tile", "tile_columns", "tile_rows")
TIMES = ("neuron_s", "idle_s", "spike_s", "axon_out_s", "axon_in_s", "synapse_s")
KINDS = ("dense", "sparse", "conv")
"""Kinds of connection; a time table may have a row ``synapse_<kind>_s`` for one, else ``synapse_s`` counts."""
DEFAULT_TIMING = "loihi1_davies2018"


@dataclass(frozen=True)
class Timing:
    """Seconds per event; ``sync``: ``((tiles, seconds), ...)`` of the barrier that ends a step.

    ``neuron_s``: an active update, ``idle_s``: one without input. ``sync_linear``: linear between the rows of the
    barrier, else the row at or below. ``kinds``: synaptic event by kind of connection where it has its own time.
    """

    name: str
    sync: tuple[tuple[int, float], ...]
    neuron_s: float
    idle_s: float
    spike_s: float
    axon_out_s: float
    axon_in_s: float
    synapse_s: float
    sync_linear: bool = True
    kinds: Mapping[str, float] = field(default_factory=dict)

    def synapse(self, kind: str) -> float:
        """Seconds of a synaptic event of one kind of connection."""
        return self.kinds.get(kind, self.synapse_s)

    def sync_s(self, tiles: int) -> float:
        """Barrier over ``tiles`` tiles; held flat outside the rows."""
        rows = self.sync
        if tiles <= rows[0][0]:
            return rows[0][1]
        for (n0, t0), (n1, t1) in pairwise(rows):
            if tiles < n1:
                return t0 + (t1 - t0) * (tiles - n0) / (n1 - n0) if self.sync_linear else t0
        return rows[-1][1]


@dataclass(frozen=True)
class Profile:
    """One chip. ``limits`` and geometry are counts; ``timing``: time tables by name, perhaps none."""

    name: str
    title: str
    limits: Mapping[str, int]
    cores_per_tile: int
    tile_columns: int
    tile_rows: int
    timing: Mapping[str, Timing]

    def tile(self, core: int) -> tuple[int, int]:
        """``(column, row)`` of a core's tile; ids run down a column first, chips lie side by side to the east."""
        chip, inside = divmod(core, self.limits["cores_per_chip"])
        column, row = divmod(inside // self.cores_per_tile, self.tile_rows)
        return chip * self.tile_columns + column, row

    def hops(self, a: int, b: int) -> tuple[int, int]:
        """``(east-west, north-south)`` tile hops between two cores."""
        (ax, ay), (bx, by) = self.tile(a), self.tile(b)
        return abs(ax - bx), abs(ay - by)


@cache
def load_profile(name: str) -> Profile:
    """The profile ``hardware/profiles/<name>.toml``. Errors: ``TableError`` naming the file and the row."""
    known = sorted(p.stem for p in PROFILES.glob("loihi*.toml"))
    if name not in known:
        raise TableError(f"no chip profile '{name}'; there are {', '.join(known)}")
    table = load_table(name)
    limits = {k: int(table.value(k)) for k in LIMITS}
    geometry = {k: int(table.value(k)) for k in GEOMETRY}
    names = dict.fromkeys(k.split(".")[0] for k in table.rows if "." in k)
    return Profile(name, table.title, limits, timing={t: _timing(table, t) for t in names}, **geometry)


def _timing(table: Table, name: str) -> Timing:
    prefix = f"{name}.sync_"
    sync = {int(k[len(prefix) : -2]): table.value(k) for k in table.rows if k.startswith(prefix)}
    if not sync:
        raise TableError(f"{table.path.name}: timing '{name}' has no {prefix}<tiles>_s row; add the barrier's time")
    kinds = {k: f"{name}.synapse_{k}_s" for k in KINDS}
    between = table.data.get("sync_between", {}).get(name)
    if between not in ("linear", "below"):
        raise TableError(
            f'{table.path.name}: timing \'{name}\': [sync_between] must say "linear" or "below", got {between!r}'
        )
    return Timing(
        name,
        tuple(sorted(sync.items())),
        **{k: table.value(f"{name}.{k}") for k in TIMES},
        sync_linear=between == "linear",
        kinds={k: table.value(row) for k, row in kinds.items() if row in table.rows},
    )
