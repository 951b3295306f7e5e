"""``spikeport loop`` and ``spikeport replay``: a program in an environment, and its recording again elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from export.package import PackageError
from sim import engines

RECORDING = "recording"


def add_to(app: typer.Typer) -> None:
    """Put both commands on ``app``."""
    app.command()(loop)
    app.command()(replay)


def loop(
    program: Annotated[Path, typer.Argument(help="A Loihi program (.npz), or a network, which is then exported.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for recording, episodes and report.")],
    env: Annotated[str, typer.Option(help="A Gymnasium environment, as in CartPole-v1.")],
    codec: Annotated[
        Path | None, typer.Option(help="Encoder and decoder (JSON); default PROGRAM.codec.json beside the program.")
    ] = None,
    on: Annotated[str, typer.Option(help="loihi, loihi-reference or lava.")] = "loihi",
    episodes: Annotated[int, typer.Option(help="Episodes in all.", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the first episode; each has the next.")] = 0,
    window: Annotated[str, typer.Option(help="blocking or pipelined; default the codec's.")] = "",
    prices: Annotated[str, typer.Option(help="Price table; default the machine's own.")] = "",
    resume: Annotated[bool, typer.Option(help="Go on from the output folder, after a stop.")] = False,
) -> None:
    """Run a program in a Gymnasium environment; record it; report returns, wall time, modelled time and energy.

    Needs the extra "gym". Ctrl-C leaves a whole recording and a partial report; --resume goes on from there.
    """
    from sim.gym import EPISODES, Episodes, GymLoop, make, step_seconds
    from sim.loop import Codec, Loop, Recording, measure

    loaded = _program(program)
    known = Codec.load(codec or program.with_suffix(".codec.json"))
    going_on = resume and (output / EPISODES).exists()
    done = len(Episodes.load(output).returns) if going_on else 0
    if not resume and (output / RECORDING).exists():
        raise ValueError(f"{output}: holds a loop already; go on with it by --resume, or take another folder")
    world = make(env)
    how: dict[str, Any] = {"window": window or known.window, "env_dt_s": step_seconds(world), "seed": seed, "on": on}
    chip = Loop(loaded, known.encoder, known.decoder, record=output / RECORDING, resume=done if resume else None, **how)
    gym = GymLoop(chip, world, folder=output, resume=resume)
    complete = False
    try:
        gym.run(episodes)
        complete = True
    finally:
        chip.close(complete)
        world.close()
        meter = measure(Recording(output / RECORDING), loaded) if chip.meter is None and not done else None
        made = gym.report(prices=prices or None, complete=complete, meter=meter)
        made.save(output)
        made.show()
    typer.echo(f"wrote {output / 'loop.json'} and {output / RECORDING}")


def replay(
    recording: Annotated[Path, typer.Argument(help="The folder 'recording' that 'spikeport loop' wrote.")],
    program: Annotated[Path, typer.Option(help="The program that was recorded.")],
    on: Annotated[str, typer.Option(help="A machine that takes Loihi programs.")] = "loihi-reference",
) -> None:
    """Put recorded input through a machine again and compare the output bit for bit; exit code 1 where it differs."""
    from sim.loop import Recording
    from sim.loop import replay as again

    found = again(Recording(recording), _program(program), on)
    typer.echo(str(found))
    if not found.equal:
        raise typer.Exit(1)


def _program(path: Path) -> Any:
    kind, loaded = engines.load(path)
    if kind == "network":
        return engines.compile_for("loihi", loaded)
    if kind != "loihi":
        raise PackageError(f"{path}: is a {kind} program; a loop takes a network or a Loihi program")
    return loaded
