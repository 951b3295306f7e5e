"""docs/training.md: its tables are those of the data, its recipes, kinds and files are there, tags are honest."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from neuro import recipe

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
DATA = tomllib.loads((ROOT / "docs" / "training_results.toml").read_text(encoding="utf-8"))


def script() -> Any:
    spec = importlib.util.spec_from_file_location("training_table", ROOT / "benchmarks" / "training_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_in_step_with_the_data() -> None:
    assert script().rendered(PAGE, DATA) == PAGE, "run python benchmarks/training_table.py"
    with pytest.raises(ValueError, match="has no <!-- table published -->"):
        script().rendered("nothing", DATA)


def test_recalled_figures_are_marked() -> None:
    for row in DATA["row"]:
        line = next(x for x in PAGE.splitlines() if f"| {row['item']} |" in x)
        assert ("unverified" in line) == (row["tag"] == "R")


def test_recipes_and_kinds_that_are_named_are_there() -> None:
    named = {r["recipe"] for r in DATA["row"]} - {""}
    named |= set(re.findall(r"recipe `(\w+)`", PAGE))
    assert named <= set(recipe.names())
    kinds = re.search(r"## Data\n(.*?)\n## ", PAGE, re.S)
    assert kinds is not None
    for kind in recipe.KINDS["data"]:
        assert f"`{kind}`" in kinds[1], kind


def test_files_that_are_named_are_there() -> None:
    for name in re.findall(r"`((?:neuro|tests|benchmarks|examples|docs)/[\w./]+)`", PAGE):
        assert (ROOT / name).exists(), name
    for link in re.findall(r"\]\((\w+\.md)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
