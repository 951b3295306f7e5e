"""Names of nodes as names that Brian 2 takes."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TAKEN = re.compile(r"_(run_regularly|thresholder|resetter|stateupdater|pre|post|codeobject)\w*$")
"""Endings that Brian gives to the parts of a group."""


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """A letter, then ASCII letters, digits and ``_``; no two the same, none like a part of a group."""
    found: dict[str, str] = {}
    for name in names:
        made = re.sub(r"[^A-Za-z0-9_]", "_", name).strip("_")[:60]
        if not made or not made[0].isalpha():
            made = f"node_{made}".rstrip("_")
        if _TAKEN.search(made):
            made += "_node"
        number, base = 2, made
        while made in found.values():
            made, number = f"{base}_{number}", number + 1
        found[name] = made
    return found
