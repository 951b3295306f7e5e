"""``spikeport lava``: set up the lava-nc worker, examine it, run a program on it."""

from __future__ import annotations

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
