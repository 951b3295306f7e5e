"""Loihi-class chips as tables: limits, tile geometry and timing, every row with unit, grade and source."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PROFILES = Path(__file__).parent / "profiles"
LIMITS = (
    "cores_per_chip", "max_chips", "neurons_per_core", "synapse_words_per_core", "axons_in_per_core",
    "axons_out_per_core", "delay_bits", "index_bits", "conv_shared",
)  # fmt: skip
GEOMETRY = ("cores_per_tile", "tile_columns", "tile_rows")
TIMES = ("neuron_s", "spike_s", "axon_out_s", "axon_in_s", "synapse_s", "sync_s")
DEFAULT_TIMING = "loihi1_davies2018"


@dataclass(frozen=True)
class Timing:
    """Seconds per event; ``sync``: ``((tiles, seconds), ...)`` of the barrier that ends a step."""

    name: str
    neuron_s: float
    spike_s: float
    axon_out_s: float
    axon_in_s: float
    synapse_s: float
    sync: tuple[tuple[int, float], ...]

    def sync_s(self, tiles: int) -> float:
        """Barrier over ``tiles`` tiles: linear between the rows, held flat outside."""
        rows = self.sync
        if tiles <= rows[0][0]:
            return rows[0][1]
        for (n0, t0), (n1, t1) in zip(rows, rows[1:], strict=False):
            if tiles <= n1:
                return t0 + (t1 - t0) * (tiles - n0) / (n1 - n0)
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
    """The profile ``hardware/profiles/<name>.toml``. Errors: ``ValueError`` naming the file and the row."""
    path = PROFILES / f"{name}.toml"
    known = sorted(p.stem for p in PROFILES.glob("loihi*.toml"))
    if name not in known:
        raise ValueError(f"no chip profile '{name}'; there are {', '.join(known)}")
    data = tomllib.loads(path.read_text())
    limits = {k: int(_value(path, data, "limits", k)) for k in LIMITS}
    columns = {k: int(_value(path, data, "geometry", k)) for k in GEOMETRY}
    timing = {t: _timing(path, data, t) for t in data.get("timing", {})}
    return Profile(name, str(data["title"]), limits, timing=timing, **columns)


def _timing(path: Path, data: Mapping[str, Any], table: str) -> Timing:
    row = {k: _value(path, data, "timing", table, k) for k in TIMES}
    sync = tuple((int(n), float(t)) for n, t in row.pop("sync_s"))
    return Timing(table, sync=sync, **{k: float(v) for k, v in row.items()})


def _value(path: Path, data: Mapping[str, Any], *keys: str) -> Any:
    row: Any = data
    for k in keys:
        row = row.get(k, {})
    for need in ("value", "unit", "grade", "source"):
        if row.get(need) in (None, ""):
            raise ValueError(f"{path.name}: {'.'.join(keys)} has no {need}; every row needs value, unit, grade, source")
    return row["value"]
