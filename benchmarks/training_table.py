"""The tables of docs/training.md out of docs/training_results.toml, between their markers.

Run: python benchmarks/training_table.py          writes the document anew; a test checks that it is in step
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
BEGIN, END = "<!-- table {} -->", "<!-- end -->"
TAGS = {
    "A": "the paper's abstract",
    "S": "second-hand",
    "C": "released code",
    "R": "unverified",
}


def published(rows: list[dict[str, Any]]) -> list[str]:
    """Published figures with their tags and the recipe that runs where the data is."""
    lines = ["| method | what | published | recipe |", "|---|---|---|---|"]
    for r in rows:
        recipe = f"`{r['recipe']}`" if r["recipe"] else ""
        lines.append(f"| {r['method']} | {r['item']} | {r['published']} ({TAGS[r['tag']]}) | {recipe} |")
    return lines


def ours(rows: list[dict[str, Any]]) -> list[str]:
    """Measured here: mean over the seeds, lowest and highest."""
    lines = ["| method | what | ours | lowest to highest | seeds | on what |", "|---|---|---|---|---|---|"]
    for r in rows:
        values = r["values"]
        mean = sum(values) / len(values)
        spread = f"{min(values):.2f} to {max(values):.2f}" if len(values) > 1 else ""
        lines.append(f"| {r['method']} | {r['item']} | {mean:.2f} | {spread} | {r['seeds']} | {r['on']} |")
    return lines


def rendered(text: str, data: dict[str, Any]) -> str:
    """``text`` with its tables replaced. Errors: ``ValueError`` for a marker that is missing."""
    for name, lines in (("published", published(data["row"])), ("ours", ours(data.get("ours", [])))):
        begin = BEGIN.format(name)
        if begin not in text:
            raise ValueError(f"docs/training.md: has no {begin}; put it and {END} where the table goes")
        before, rest = text.split(begin, 1)
        text = before + "\n".join([begin, *lines, END]) + rest.split(END, 1)[1]
    return text


def main() -> None:
    """Write the document anew."""
    page = DOCS / "training.md"
    data = tomllib.loads((DOCS / "training_results.toml").read_text(encoding="utf-8"))
    page.write_text(rendered(page.read_text(encoding="utf-8"), data), encoding="utf-8")


if __name__ == "__main__":
    main()
