"""The command ``spikeport``: train, export, run, report, machines. Thin: each command is one call of the library."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from export.package import PackageError
from hardware.energy import Span
from sim import engines
from sim.bar import Bar
from sim.lava.cli import app as lava
from sim.loop_cli import add_to as add_loop
from sim.nir_cli import Discretization, Dt, Fires, Float32, Reset, nir_options
from sim.sfq_cli import app as sfq
from sim.train_cli import add_to as add_train

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Train a spiking network once; run it on a Loihi-class chip, a superconducting circuit and ONNX; "
    "get one sourced energy report.\n\n"
    "The whole way: spikeport train digits -o out; spikeport export out/network.npz --to loihi -o out/chip.npz; "
    "spikeport run out/chip.npz --on loihi --input out/test.npz -o out/run-loihi; "
    "spikeport report out/run-* -o out.",
)

app.add_typer(lava, name="lava")
app.add_typer(sfq, name="sfq")

Out = Annotated[Path, typer.Option("-o", "--output", help="Where to write.")]


add_train(app)


@app.command()
def export(
    network: Annotated[Path, typer.Argument(help="A network: .npz of 'spikeport train' or Network.save, or .nir.")],
    to: Annotated[str, typer.Option(help="Kind of program: loihi, netx, onnx, nir, sfq, sfq-stochastic or brian.")],
    output: Out,
    natural: Annotated[bool, typer.Option(help="Leave out the time windows of layers with delays.")] = False,
    dt: Dt = None,
    reset: Reset = None,
    fires: Fires = None,
    discretization: Discretization = None,
    float32: Float32 = False,
) -> None:
    """Turn a network into one machine's program; say what was lost and how full the machine is.

    Files other tools open: onnx writes .onnx, nir .nir, sfq a SPICE deck .cir, netx lava-dl's HDF5 .net, brian a
    Brian 2 script .py with its .npz; loihi writes integers and JSON in one .npz. netx takes a loihi program too.
    """
    kind, net = engines.load(network, **nir_options(dt, reset, fires, discretization, float32))
    if kind != "network" and (kind, to) != ("loihi", "netx"):
        raise PackageError(f"{network}: is already a {kind} program; export takes a network")
    if natural and kind == "network":
        from export.ends import natural as without_windows

        net = without_windows(net)
    program = engines.compile_for(to, net)
    path = program.save(output)
    typer.echo(f"{path}: {to} program {program.hash()[:12]}")
    for resource, (used, most) in program.usage.items():
        typer.echo(f"  uses {resource}: {used} of {most}")
    for loss in program.losses:
        typer.echo(f"  lost at {loss.node}: {loss.what}: {loss.size:.4g}")
    for note in getattr(program, "notes", ()):
        typer.echo(f"  note: {note}")


@app.command()
def fit(
    network: Annotated[Path, typer.Argument(help="A network (.npz), trained or not, or a loihi program.")],
    chip: Annotated[str, typer.Option(help="Chip profile: loihi1 or loihi2.")] = "loihi1",
    chips: Annotated[int, typer.Option(help="Most chips to use; 0 for as many as the profile allows.", min=0)] = 0,
    cores: Annotated[bool, typer.Option(help="Print a row for each core.")] = False,
) -> None:
    """Place a network on a chip before any training; print how full each resource gets, or what does not fit.

    Every synapse that a layer could have counts; a loihi program is placed with the synapses that it has.
    """
    from export import fit as fits
    from export.place import Layout, place
    from hardware.loihi import load_profile

    kind, net = engines.load(network)
    made: Layout
    if kind == "network":
        made = fits.fit(net, profile=chip, chips=chips or None)
    elif kind == "loihi":
        made = place(net.nodes, net.edges, load_profile(chip), chips or None)
    else:
        raise PackageError(f"{network}: is a {kind} program; fit takes a network or a loihi program")
    typer.echo(str(made) if cores else "\n  ".join([f"{made.profile.name}", *made.summary()]))


@app.command()
def run(
    program: Annotated[Path, typer.Argument(help="A program, or a network (.npz, .nir), which is exported first.")],
    on: Annotated[str, typer.Option(help="The machine; 'spikeport machines' lists them.")],
    output: Out,
    input: Annotated[Path | None, typer.Option(help="X.npz with x as (samples, T, ...) or (samples, ...).")] = None,
    steps: Annotated[int, typer.Option(help="For x without a time axis: show it this many steps.", min=1)] = 8,
    samples: Annotated[int, typer.Option(help="Only the first so many samples; 0 for all.", min=0)] = 0,
    dt: Dt = None,
    reset: Reset = None,
    fires: Fires = None,
    discretization: Discretization = None,
    float32: Float32 = False,
) -> None:
    """Run a program on a machine; write run.npz (y, probes) and run.json (counts, seed, versions).

    A .nir file runs as it is, with --dt, --reset, --fires and --discretization where it does not say them itself.
    A plain .cir deck runs without --input and gives the waveforms of its .print lines.
    """
    kind, loaded = engines.load(program, **nir_options(dt, reset, fires, discretization, float32))
    x, labels = (None, None) if input is None else read_input(input, _input_rank(kind, loaded), steps)
    if samples and x is not None:
        x, labels = x[:samples], None if labels is None else labels[:samples]
    with Bar(on) as progress:
        done = engines.run(loaded, x, on, labels=labels, progress=progress)
    done.save(output)
    typer.echo(
        f"{output}: {done.samples} samples x {done.steps} steps on {on} in {done.wall_s:.2f} s, "
        f"y {done.y.shape}, {int(done.y.sum())} output spikes"
    )
    for note in done.notes:
        typer.echo(f"  note: {note}")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; the first is the one the others are compared with.")],
    output: Out,
    prices: Annotated[
        list[str] | None, typer.Option(help="MACHINE=TABLE, as in loihi=loihi1_sanafe; repeatable.")
    ] = None,
    active: Annotated[
        str, typer.Option(help="Neuron updates charged as active: state, all, input or fired.")
    ] = "state",
    title: Annotated[str, typer.Option(help="Title of the report.")] = "spikeport report",
    cooling: Annotated[
        str | None, typer.Option(help="SFQ: watts at the wall per watt at 4.2 K, as in 400 or 300:400:1000.")
    ] = None,
    ersfq_overhead: Annotated[
        str | None, typer.Option(help="SFQ: factor of ERSFQ for its limiting junctions, 1 to 2, as in 1.4 or 1:1.4:2.")
    ] = None,
) -> None:
    """Price runs and write report.json and a self-contained report.html; print the table.

    Every figure names its price table and the grade of its worst constant.
    """
    from sim.report import report_runs, show
    from sim.run import Run

    tables = dict(p.split("=", 1) for p in prices or [] if "=" in p)
    if len(tables) < len(prices or []):
        raise ValueError(f"--prices takes MACHINE=TABLE, got {prices}; 'spikeport machines' lists the tables")
    made = report_runs(
        [Run.load(folder) for folder in runs],
        title=title,
        prices=tables,
        active=active,
        cooling=_span("--cooling", cooling),
        ersfq_overhead=_span("--ersfq-overhead", ersfq_overhead),
    )
    made.save(output)
    show(made)
    typer.echo(f"wrote {output / 'report.json'} and {output / 'report.html'}")


@app.command()
def machines() -> None:
    """List engines, what each lacks here, and the profiles and price tables there are."""
    from hardware.tables import list_tables

    for e in engines.ENGINES.values():
        state = "ready" if not e.missing() else "needs " + "; ".join(e.missing())
        typer.echo(f"{e.name:<16} {e.about:<46} takes {e.kind:<8} {state}")
    typer.echo("")
    for name, title in list_tables():
        typer.echo(f"{name:<32} {title}")


add_loop(app)


def read_input(path: Path, rank: int | None, steps: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """``x`` as (samples, T, ...) and ``labels`` or None from an ``.npz``.

    ``rank``: axes of one step of the network; an ``x`` without the time axis is repeated ``steps`` times.
    Errors: ``PackageError`` naming the file and what it should hold.
    """
    try:
        with np.load(path, allow_pickle=False) as z:
            x, labels = z["x"], z["labels"] if "labels" in z.files else None
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise PackageError(f"{path}: must be an .npz with an array 'x' (samples, T, ...): {error}") from None
    if rank is not None and x.ndim == rank + 1:
        x = np.repeat(x[:, None], steps, axis=1)
    if rank is not None and x.ndim != rank + 2:
        raise PackageError(f"{path}: x has shape {x.shape}; the network takes (samples, T) and {rank} more axes")
    return x, labels


def _input_rank(kind: str, program: Any) -> int | None:
    if kind == "network":
        return len(program.shapes()[program.input])
    shape = getattr(program, "input_shape", None)
    return None if shape is None else len(shape)


def _span(option: str, text: str | None) -> Span | None:
    """``400`` or ``300:400:1000``. Errors: ``ValueError`` naming the option."""
    if text is None:
        return None
    try:
        numbers = [float(part) for part in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3):
        raise ValueError(f"{option} takes one number, or low:typical:high, got {text!r}")
    return Span(*(numbers * 3)[:3])


def _tell(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning is one line, too."""
    print(f"spikeport: {message}", file=sys.stderr)


def main() -> None:
    """Entry point: a user's error is one line on standard error and exit code 2; a fault keeps its traceback."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _tell
            app(standalone_mode=True)
    except ValueError as error:
        print(f"spikeport: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("spikeport: stopped; what was written is whole, --resume goes on", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
