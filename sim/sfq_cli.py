"""``spikeport sfq``: a deck run, compared, varied; thin, as every command of ``spikeport``. Nothing heavy at import."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.bar import Bar
from sim.sfq_look_cli import add_to as add_look
from sim.sfq_study_cli import add_to as add_study
from sim.sfq_study_cli import seconds

if TYPE_CHECKING:
    from sim.sfq import Transient
    from sim.sfq.transient import StepCheck

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Superconducting circuits at junction level: JoSIM decks in, pulses, margins and yield out.\n\n"
    "The whole way: spikeport sfq run jtl.cir -o jtl.csv --png jtl.png; "
    "spikeport sfq compare jtl.csv josim.csv; spikeport sfq margins jtl.cir --watch B1.X2 -o margins.json.",
)

Deck = Annotated[Path, typer.Argument(help="A JoSIM or WRspice deck.")]
Step = Annotated[str, typer.Option(help="Step in s, as in 0.1p; default the deck's .tran.")]
Stop = Annotated[str, typer.Option(help="End in s, as in 1n; default the deck's .tran.")]


@app.command()
def run(
    deck: Deck,
    output: Annotated[
        list[Path] | None, typer.Option("-o", "--output", help="Traces: .csv, .dat or .raw by the name; repeatable.")
    ] = None,
    step: Step = "",
    stop: Stop = "",
    startup: Annotated[
        str, typer.Option(help="op (operating point), josim (settle as JoSIM does) or none; default the deck's.")
    ] = "",
    corrector: Annotated[int, typer.Option(help="Repeats of each step with the sine at the solved phase.", min=0)] = 0,
    check_step: Annotated[
        bool, typer.Option("--check-step", help="Run again at half the step and print the largest shift of a pulse.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of the noise; default the deck's, or 0.")] = None,
    png: Annotated[Path | None, typer.Option(help="Draw the traces (.png, .svg or .pdf).")] = None,
    pulses: Annotated[Path | None, typer.Option(help="Draw the pulses of all junctions.")] = None,
) -> None:
    """Simulate a deck; write what its .print asks for, in JoSIM's CSV form; print pulses, energy and its .measure.

    Traces behind a .file line also go to that file, beside the deck if it is a bare name; an .iv line writes its curve.

    Example: spikeport sfq run xor.cir -o xor.csv --png xor.png
    """
    from sim.sfq import load, plots, transient
    from sim.sfq.measure import with_measured
    from sim.sfq.output import output_path
    from sim.sfq.study.asked import curves_asked
    from sim.sfq.transient import check_step as step_check

    read = load(deck)
    circuit = with_measured(read.flatten(), read.asked.measures)
    how: dict[str, Any] = {"h": seconds("--step", step), "t_stop": seconds("--stop", stop)}
    with _stoppable(), Bar(deck.name) as progress:
        done = transient(
            circuit, **how, startup=_one_of("--startup", startup, ("op", "josim", "none")), corrector=corrector,
            seed=seed, progress=progress,
        )  # fmt: skip
        stable = step_check(circuit, **how) if check_step else None
        curves = curves_asked(read)
    shown = {n: x for n, x in done.traces.items() if n in {r.label for r in read.requests}}
    for file in write_files(replace(done, traces=shown), read, output or []):
        typer.echo(f"wrote {file}")
    for name, curve in curves.items():
        typer.echo(f"wrote {curve.save_josim(output_path(name, deck.parent))}")
    if png is not None:
        typer.echo(f"wrote {plots.waveforms(png, done.time_s, shown, deck.name)}")
    if pulses is not None:
        typer.echo(f"wrote {plots.pulses(pulses, done.pulses, done.steps * done.step_s, deck.name)}")
    for line in (*summary(done), *measurements(read, done)):
        typer.echo(line)
    if read.asked.op:
        typer.echo("the deck asks for .dc op: spikeport sfq op prints it")
    if stable is not None:
        typer.echo(say_check(stable))


def write_files(done: Transient, deck: Any, given: list[Path]) -> list[Path]:
    """All traces to each file given, and those behind a ``.file`` line to its file, as JoSIM; the files written.

    Errors: ``ValueError`` for a deck that prints nothing, ``TraceError`` for a ``.file`` outside its folder.
    """
    from sim.sfq import output

    if given and not done.traces:
        raise ValueError("the deck prints nothing; add a line such as .print P(B1.X1)")
    out = [output.write_traces(path, done.time_s, done.traces) for path in given]
    for name, traces in output.routed(deck.requests, deck.files, done.traces).items():
        if traces:
            out.append(output.write_traces(output.output_path(name, Path(deck.source).parent), done.time_s, traces))
    return out


def summary(done: Transient) -> list[str]:
    """Two lines: size, steps and pulses; energy."""
    from sim.report.units import si

    slips, e = sum(done.slips.values()), done.energy
    return [
        f"{done.jj_count} junctions, {done.steps} steps of {si(done.step_s, 's')}, {slips} slips of 2 pi",
        f"energy: Ic Phi0 {si(e.ic_phi0_J, 'J')}, bias work {si(e.bias_J, 'J')}, heat {si(e.dissipated_J, 'J')}; "
        f"bias {si(done.bias_current_A, 'A')}",
    ]


def measurements(deck: Any, done: Transient) -> list[str]:
    """A line for each ``.measure``."""
    from sim.sfq.measure import measured

    return [f"{name.lower()} = {value:.6g}" for name, value in measured(deck.asked.measures, done).items()]


def say_check(found: StepCheck) -> str:
    """What half the step changes, in words."""
    if found.slips_differ:
        return (
            f"step check: half the step gives other slips at {', '.join(found.slips_differ[:4])}: take a smaller step"
        )
    if not found.junction:
        return "step check: no pulse moves at half the step"
    shift = found.shift_s * 1e12
    return f"step check: same pulses at half the step; the largest shift is {shift:.3f} ps ({found.junction})"


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Traces: .csv (.gz), .dat or .raw.")],
    b: Annotated[Path, typer.Argument(help="Traces of the same deck, of this or another simulator.")],
    tolerance: Annotated[
        float | None, typer.Option(help="Exit code 1 where a difference is above it.", min=0.0)
    ] = None,
    relative_above: Annotated[
        float, typer.Option(help="Values above it are compared relative to it; phases have 7 digits.", min=0.0)
    ] = float("inf"),
) -> None:
    """Align two files on their time columns; print the largest difference of each column.

    Example: spikeport sfq compare ours.csv josim.csv --tolerance 1e-6 --relative-above 1
    """
    from sim.sfq import output

    found = output.compare(output.read_traces(a), output.read_traces(b), relative_above)
    width = max(map(len, found))
    for name, difference in found.items():
        over = "  above the tolerance" if tolerance is not None and not difference <= tolerance else ""
        typer.echo(f"{name:<{width}}  {difference:.3e}{over}")
    if tolerance is not None and not all(d <= tolerance for d in found.values()):
        raise typer.Exit(1)


def _one_of(option: str, text: str, names: tuple[str, ...]) -> Any:
    if text and text not in names:
        raise ValueError(f"{option} {text}: must be {', '.join(names)}")
    return text or None


class _stoppable:
    """Ctrl-C says what it left and ends with 130: files are written beside and renamed, so none is half written."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            print("spikeport: stopped; nothing was written", file=sys.stderr)
            raise SystemExit(130)


add_study(app)
add_look(app)
