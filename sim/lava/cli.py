"""``spikeport lava``: set up the lava-nc worker, examine it, run a program on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="lava-nc as the judge: set up its worker, compare with it, run on it.")


@app.command()
def setup(
    python: Annotated[
        str | None, typer.Option(help="An interpreter to use: as it is if it has lava-nc, else to build on.")
    ] = None,
    rebuild: Annotated[bool, typer.Option(help="Build again, even where there is one.")] = False,
) -> None:
    """Find or build an environment for lava-nc 0.10 and record it.

    A CPython 3.10 on PATH, of pyenv or of conda; uv; else this Python with a shim. SPIKEPORT_LAVA is the folder.
    """
    from sim.lava.setup import setup as do

    found = do(python, rebuild=rebuild, echo=typer.echo)
    shim = ", ".join(found.hello["shim"]) or "none"
    typer.echo(
        f"lava-nc {found.hello['lava']} on CPython {found.hello['python']}, numpy {found.hello['numpy']}\n"
        f"shim: {shim}\n"
        f"rung: {found.rung}\ninterpreter: {found.python}"
    )


@app.command()
def doctor() -> None:
    """Say which lava-nc there is and how it was set up, and compare our engines with it on all conformance cases."""
    import time

    from sim.lava import cases, setup
    from sim.lava.client import Client
    from sim.lava.doctor import differing, outcomes
    from sim.loihi import engine, reference

    found = setup.environment()
    typer.echo(f"folder: {setup.folder()}\ninterpreter: {found.python}\nrung: {found.rung}")
    which, began = cases.cases(), time.perf_counter()
    with Client() as client:
        hello = client.hello
        typer.echo(", ".join(f"{k} {hello[k]}" for k in ("python", "lava", "numpy", "scipy")))
        typer.echo(f"shim: {', '.join(hello['shim']) or 'none'}\nstarted in {time.perf_counter() - began:.1f} s")
        theirs, bad = outcomes(client, which), 0
    for case, probes in zip(which, theirs, strict=True):
        wrong = {
            name: differing(case, probes, run) for name, run in (("reference", reference.run), ("fast", engine.run))
        }
        bad += any(wrong.values())
        for name, where in wrong.items():
            if where:
                typer.echo(f"  {case.name}: the {name} engine differs in {', '.join(where)}")
    typer.echo(f"{len(which) - bad} of {len(which)} cases identical in {time.perf_counter() - began:.1f} s")
    if bad:
        raise typer.Exit(1)


@app.command()
def run(
    program: Annotated[Path, typer.Argument(help="A Loihi program, or a network, which is then exported first.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write.")],
    input: Annotated[Path, typer.Option(help="X.npz with x as (samples, T, ...) or (samples, ...).")],
    steps: Annotated[int, typer.Option(help="For x without a time axis: show it this many steps.", min=1)] = 8,
    samples: Annotated[int, typer.Option(help="Only the first so many samples; 0 for all.", min=0)] = 0,
) -> None:
    """Run a program on lava-nc: 'spikeport run --on lava'."""
    from sim import cli

    cli.run(program, "lava", output, input, steps, samples)
