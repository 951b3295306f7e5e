"""Results as files and text: JSON, CSV, and a table for the terminal."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from export.package import write_text


def save(path: str | Path, data: dict[str, Any], header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Path:
    """Write ``.json`` (``data``) or ``.csv`` (``header`` and ``rows``), by the name's end.

    Errors: ``ValueError`` for another end.
    """
    path = Path(path)
    if path.suffix == ".json":
        return write_text(path, json.dumps(data, indent=1) + "\n")
    if path.suffix == ".csv":
        text = io.StringIO()
        out = csv.writer(text, lineterminator="\n")
        out.writerow(header)
        out.writerows(rows)
        return write_text(path, text.getvalue())
    raise ValueError(f"{path}: results are saved as .json or .csv; choose one by the file's name")


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(header))]
    return "\n".join(
        "  ".join(c.ljust(w) if k == 0 else c.rjust(w) for k, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    )
