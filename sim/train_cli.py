"""``spikeport train``: a recipe or a built-in task; what it writes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from export.package import write_npz, write_text
from sim.run import versions

TASKS = ("digits", "nmnist", "xor", "sfq-digits", "sfq-xor")


def add_to(app: typer.Typer) -> None:
    """Put the command on ``app``."""
    app.command()(train)


def train(
    name: Annotated[
        str,
        typer.Argument(help="A recipe, a recipe file .toml, or a task: " + ", ".join(TASKS) + "; see --list."),
    ] = "",
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")] = Path("out"),
    epochs: Annotated[int, typer.Option(help="Epochs of each stage; 0 takes what the recipe says.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Seed of weights and order; -1 takes the recipe's.", min=-1)] = -1,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoints in the output folder.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List recipes and tasks.")] = False,
) -> None:
    """Train a network; write network.npz, test.npz (x, labels), and of a recipe manifest.json and history.csv.

    Needs the extra "train". Stop it with Ctrl-C and go on with --resume: the result has the same bits.
    """
    if list_:
        typer.echo(listing())
        return
    if not name:
        raise ValueError("train needs a recipe or a task; 'spikeport train --list' lists them")
    need_torch()
    if name in TASKS:
        _task(name, output, epochs, max(seed, 0), resume)
    else:
        _recipe(name, output, epochs, None if seed < 0 else seed, resume)


def listing() -> str:
    """Recipes and tasks, a line each."""
    from neuro import recipe

    rows = [(n, recipe.load(n)) for n in recipe.names()]
    wide = max(len(n) for n, _ in rows)
    lines = [f"{n:<{wide}}  {r.first['data'].kind:<12} {r.about}" for n, r in rows]
    tasks = f"tasks, which are programs of their own: {', '.join(TASKS)}"
    return "\n".join([f"{'recipe':<{wide}}  {'data':<12} what", *lines, tasks])


def _task(name: str, output: Path, epochs: int, seed: int, resume: bool) -> None:
    from neuro import tasks

    done = tasks.train(name, folder=output, epochs=epochs or None, seed=seed, resume=resume)
    _write(name, done, output)


def _recipe(name: str, output: Path, epochs: int, seed: int | None, resume: bool) -> None:
    from export.manifest import manifest
    from neuro import recipe
    from neuro.recipe_run import run

    given = recipe.load(name)
    given = given.with_epochs(epochs) if epochs else given
    done = run(given, folder=output, seed=seed, resume=resume, progress=True)
    network = _write(given.name, done, output)
    facts = dict(done.facts) | {
        "accuracy": done.accuracy, "results": dict(done.results), "seconds": done.seconds, "energy_prices": _prices()
    }  # fmt: skip
    text = json.dumps(manifest(network, facts, versions("torch")), indent=1)
    write_text(output / "manifest.json", text)
    write_text(output / "history.csv", table(done.history))
    for key, value in done.results.items():
        typer.echo(f"  {key}: {value:.4f}" if isinstance(value, float) else f"  {key}: {value}")


def _write(name: str, done: Any, output: Path) -> Any:
    from export.from_torch import from_torch
    from neuro.delays import horizon

    x, steps = done.x, done.x.shape[1]
    late = horizon(done.module, steps) - steps  # steps that delays go on for, cut as in training
    network = from_torch(done.module, done.input_shape, dt_s=done.dt_s, name=name, horizon=steps if late else None)
    network.save(output / "network.npz")
    if late:
        x = np.concatenate([x, np.zeros((len(x), late, *x.shape[2:]), x.dtype)], axis=1)
    write_npz(output / "test.npz", {"x": x, "labels": done.labels})
    typer.echo(
        f"{network}\ntest accuracy {done.accuracy:.4f}\nwrote {output / 'network.npz'} and {output / 'test.npz'}"
    )
    return network


def _prices() -> dict[str, str]:
    """The price table that each machine's report takes if no other is named."""
    from sim.engines import ENGINES

    return {e.name: e.prices for e in ENGINES.values() if e.prices}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """CSV with the columns of the first row."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def need_torch() -> None:
    """Errors: ``ValueError`` with what installs it."""
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise ValueError("this command needs torch: pip install 'spikeport[train]'")
