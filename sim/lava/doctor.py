"""Compare our engines with the lava-nc that is installed, bit for bit, and keep what it computed as golden traces."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.loihi_file import from_manifest
from export.package import read_package, write_package
from sim.lava.cases import Case, cases
from sim.lava.client import Client
from sim.run import Run

Array = npt.NDArray[Any]
FORMAT = "lava-golden"
BATCH = 9
"""Cases in one lava graph."""


def outcomes(client: Client, which: Sequence[Case], ends: bool = False) -> list[dict[str, Array]]:
    """What lava makes of each case: probes ``(1, T, neurons)``, many cases in one graph. ``ends``: final variables."""
    found: list[dict[str, Array]] = []
    for first in range(0, len(which), BATCH):
        part = which[first : first + BATCH]
        client.load_many([c.program for c in part])
        probes = [c.ends if ends else c.probes for c in part]
        found += [r.found for r in client.run_many([c.x for c in part], probes)]
    return found


def differing(case: Case, found: dict[str, Array], run: Callable[..., Run]) -> list[str]:
    """Probes in which our ``run(program, x, probes=...)`` is not what was ``found``, to the bit."""
    ours = run(case.program, case.x, probes=tuple(p.removesuffix("@end") for p in found)).probes
    bad = []
    for probe, theirs in found.items():
        mine = ours[probe.removesuffix("@end")]
        mine = mine.reshape(*mine.shape[:2], -1)
        if not np.array_equal(mine[:, -1:] if probe.endswith("@end") else mine, theirs):
            bad.append(probe)
    return bad


def write_golden(path: str | Path, client: Client) -> Path:
    """All cases, with programs, inputs and what lava made of them, as one file; equal lavas give equal files."""
    which = cases()
    manifest: dict[str, Any] = {"format": FORMAT, "version": 1, "made_by": f"lava-nc {client.hello['lava']}"}
    entries: list[dict[str, Any]] = []
    arrays: dict[str, Array] = {}
    for k, (case, found) in enumerate(zip(which, outcomes(client, which, ends=True), strict=True)):
        program, own = case.program.to_manifest()
        entries.append({"name": case.name, "program": program, "probes": list(found)})
        arrays |= {f"{k}/program/{n}": a for n, a in own.items()} | {f"{k}/x": case.x}
        arrays |= {f"{k}/found/{n}": a for n, a in found.items()}
    index, data = _pack(arrays)
    return write_package(path, json.loads(json.dumps(manifest | {"cases": entries, "index": index})), data)


def read_golden(path: str | Path) -> list[tuple[Case, dict[str, Array]]]:
    """What :func:`write_golden` wrote. Errors: ``PackageError``."""
    manifest, data = read_package(path, FORMAT)
    arrays = {n: data[kind][i : i + int(np.prod(s))].reshape(s) for n, (kind, i, s) in manifest["index"].items()}
    out = []
    for k, entry in enumerate(manifest["cases"]):
        begin = f"{k}/program/"
        own = {n.removeprefix(begin): a for n, a in arrays.items() if n.startswith(begin)}
        case = Case(entry["name"], from_manifest(entry["program"], own), arrays[f"{k}/x"])
        out.append((case, {n: arrays[f"{k}/found/{n}"] for n in entry["probes"]}))
    return out


def _pack(arrays: dict[str, Array]) -> tuple[dict[str, tuple[str, int, list[int]]], dict[str, Array]]:
    """``(type, offset, shape)`` of each array, and one long array per type: 54 cases are 800 small ones."""
    index: dict[str, tuple[str, int, list[int]]] = {}
    parts: dict[str, list[Array]] = {"int8": [], "int16": [], "int32": []}
    for name, a in arrays.items():
        kind = next(k for k in parts if a.size == 0 or np.iinfo(k).min <= a.min() <= a.max() <= np.iinfo(k).max)
        index[name] = kind, sum(p.size for p in parts[kind]), list(a.shape)
        parts[kind].append(a.astype(kind).ravel())
    return index, {k: np.concatenate(p) for k, p in parts.items() if p}
