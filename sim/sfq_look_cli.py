"""``spikeport sfq op|check|flatten|cells``: looking at decks and cells without running them in time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.bar import Bar

if TYPE_CHECKING:
    from hardware.sfq_cells import SfqCell

Deck = Annotated[Path, typer.Argument(help="A JoSIM or WRspice deck.")]


def add_to(app: typer.Typer) -> None:
    """Put the commands on ``app``."""
    for command in (op, check, flatten, cells):
        app.command()(command)


def op(deck: Deck) -> None:
    """The operating point: current, share of Ic and phase of each junction with the biases on and no signal.

    Example: spikeport sfq op jtl.cir
    """
    from sim.sfq import load
    from sim.sfq.measure import resting
    from sim.sfq.study.tables import text_table

    found = resting(load(deck).flatten())
    rows = zip(found.names, found.ic_A * 1e6, found.current_A * 1e6, found.phase_rad / 6.283185307179586, strict=True)
    table = [(n, f"{ic:.1f}", f"{i:+.2f}", f"{i / ic:+.3f}", f"{p:+.4f}") for n, ic, i, p in rows]
    typer.echo(text_table(("junction", "Ic, uA", "I, uA", "I/Ic", "phase/2pi"), table))


def check(deck: Deck) -> None:
    """What is wrong or odd in a deck before it runs, and beta_c, beta_L of each junction; exit code 1 if it cannot run.

    Example: spikeport sfq check jtl.cir
    """
    from sim.sfq import load
    from sim.sfq.sanity import findings, parameters
    from sim.sfq.study.tables import text_table

    read = load(deck)
    circuit = read.flatten()
    found = findings(read, circuit)
    table = [
        (
            p.name, f"{p.ic_A * 1e6:.1f}", "-" if p.shunt_ohm is None else f"{p.shunt_ohm:.3g}", f"{p.beta_c:.3g}",
            "-" if p.beta_L is None else f"{p.beta_L:.3g}",
        )
        for p in parameters(circuit)
    ]  # fmt: skip
    typer.echo(text_table(("junction", "Ic, uA", "shunt, ohm", "beta_c", "beta_L"), table))
    for finding in found:
        typer.echo(f"{'error' if finding.fatal else 'note'}: {finding}")
    typer.echo(f"{circuit.jj_count} junctions, {len(circuit.nodes) - 1} nodes, {len(found)} findings")
    if any(f.fatal for f in found):
        raise typer.Exit(1)


def flatten(
    deck: Deck,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A .cir file; default the terminal.")] = None,
) -> None:
    """The deck with all subcircuits expanded and all parameters numbers; it runs as the first one does.

    Example: spikeport sfq flatten xor.cir -o flat.cir
    """
    from export.package import write_text
    from sim.sfq import load
    from sim.sfq.deck_text import flat

    text = flat(load(deck).flatten(), f"{deck.name}, flat")
    if output is None:
        typer.echo(text, nl=not text.endswith("\n"))
    else:
        typer.echo(f"wrote {write_text(output, text)}")


def cells(
    name: Annotated[list[str] | None, typer.Argument(help="Cells to tell all of; default a list of all.")] = None,
    derive: Annotated[
        list[str] | None, typer.Option(help="Derive times and margins of this cell again, or of 'all'; repeatable.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of what is derived; default the library's.")
    ] = None,
    netlist: Annotated[
        Path | None, typer.Option(help="Write the library as a file for .include: models and subcircuits.")
    ] = None,
    check: Annotated[
        list[str] | None, typer.Option(help="Derive it and say what differs from its table; exit code 1 if any.")
    ] = None,
) -> None:
    """The library's cells with size, delay, highest rate and critical margin; or derive them again by simulation.

    Example: spikeport sfq cells DFF; spikeport sfq cells --netlist cells.inc; spikeport sfq cells --derive DFF -o out
    """
    from hardware.sfq_cells import FOLDER, load_cell, load_cells
    from sim.sfq.study.tables import text_table

    if netlist is not None:
        from export.package import write_text
        from hardware.sfq import library

        model, netlists = library()
        text = "\n".join(["* spikeport cells: own realisation", model, *netlists.values()]) + "\n"
        typer.echo(f"wrote {write_text(netlist, text)}")
        return
    if derive or check:
        _derive(derive or [], check or [], output or FOLDER)
        return
    if name:
        for n in name:
            typer.echo(describe(load_cell(n.upper())))
        return
    rows = [_row(cell) for cell in load_cells().values()]
    heads = ("cell", "JJ", "bias, uA", "delay, ps", "GHz at most", "critical margin", "of", "global bias")
    typer.echo(text_table(heads, rows))


def _derive(names: list[str], checked: list[str], folder: Path) -> None:
    from sim.sfq.cells.derive import check as compare
    from sim.sfq.cells.derive import derive as again
    from sim.sfq.cells.derive import listing

    def wanted(given: list[str]) -> list[str]:
        return listing() if "all" in (g.lower() for g in given) else [g.upper() for g in given]

    if names:
        folder.mkdir(parents=True, exist_ok=True)
        with Bar("derive " + " ".join(names)) as progress:
            files = again(wanted(names), folder, progress)
        for file in files:
            typer.echo(f"wrote {file}")
    moved = [f"{n}: {line}" for n in wanted(checked) for line in compare(n)]
    for line in moved:
        typer.echo(line)
    if checked and not moved:
        typer.echo(f"{' '.join(wanted(checked))}: stands as derived")
    if moved:
        raise typer.Exit(1)


def _row(cell: SfqCell) -> tuple[str, ...]:
    delays = [t.delay_s * 1e12 for t in cell.transitions if t.out]
    name, room = cell.critical_margin
    bias = cell.margins.get("bias_global")
    return (
        cell.name, str(cell.junctions), f"{cell.bias_A * 1e6:.0f}",
        f"{min(delays):.1f} to {max(delays):.1f}" if delays else "-",
        f"{cell.max_Hz / 1e9:.0f}" if cell.max_Hz == cell.max_Hz else "-",
        f"{room:.0%}" if name else "-", name,
        "-" if bias is None else f"{bias.low - 1:+.0%} {bias.high - 1:+.0%}",
    )  # fmt: skip


def describe(cell: SfqCell) -> str:
    """A cell in full: pins, transitions, separations, margins, origin."""
    from sim.sfq.study.tables import text_table

    pins = f"pins: in {' '.join(cell.inputs)}; out {' '.join(cell.outputs)}"
    lines = [f"{cell.name}: {cell.title}; {cell.junctions} junctions, {cell.bias_A * 1e6:.0f} uA", pins]
    moves = [
        (t.source, t.on, t.to, " ".join(t.out) or "-", f"{t.delay_s * 1e12:.2f}" if t.out else "-", str(t.slips))
        for t in cell.transitions
    ]
    if moves:
        lines.append(text_table(("in state", "pulse at", "to", "out", "delay, ps", "slips"), moves))
    waits = [(s.first, s.then, f"{s.least_s * 1e12:.2f}") for s in cell.separations]
    if waits:
        lines.append(text_table(("after", "then", "at least, ps"), waits))
    bars = [(n, f"{m.low - 1:+.0%}", f"{m.high - 1:+.0%}") for n, m in cell.margins.items()]
    if bars:
        lines.append(text_table(("margin of", "low", "high"), bars))
    p = cell.provenance
    lines.append(f"derived {p.derived} at {p.step_s * 1e12:g} ps, {p.temperature_K:g} K: {p.solver}")
    return "\n".join(lines)
