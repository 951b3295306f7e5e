"""``spikeport sfq margins|mc|shmoo|iv``: many variants of a circuit, with a bar; stopped, the same command goes on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from sim.bar import Bar

Decks = Annotated[
    list[Path], typer.Argument(help="The deck; several decks are patterns of one circuit that must all be right.")
]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Results: .json or .csv.")]
Watch = Annotated[
    list[str] | None, typer.Option(help="A junction whose slips must stay as they are, B1.X2; repeatable. Default all.")
]
Count = Annotated[
    list[str] | None,
    typer.Option(help="Slips that are right instead, B1.X2=3: or =0 or =3:9, commas between; one for each deck."),
]
TimeTolerance = Annotated[float, typer.Option("--t-tol", help="How far a slip may move, ps.", min=0.0)]
Step = Annotated[str, typer.Option(help="Step in s, as in 0.1p; default the deck's .tran.")]
Stop = Annotated[str, typer.Option(help="End in s, as in 1n; default the deck's .tran.")]
Png = Annotated[Path | None, typer.Option(help="Draw it (.png, .svg or .pdf).")]
Workers = Annotated[int, typer.Option(help="Processes; 0 works in this one, with all cores.", min=0)]


def add_to(app: typer.Typer) -> None:
    """Put the commands on ``app``."""
    app.command()(margins)
    app.command("mc")(montecarlo)
    app.command()(shmoo)
    app.command()(iv)


def margins(
    deck: Decks,
    output: Output = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", help="I, L, IC, R, an element (L1.X1) or a pattern (L*.XF); repeatable."),
    ] = None,
    cell: Annotated[str | None, typer.Option(help="Also each element of this instance, XM.")] = None,
    watch: Watch = None,
    count: Count = None,
    t_tol: TimeTolerance = 5.0,
    step: Step = "",
    stop: Stop = "",
    png: Png = None,
    workers: Workers = 0,
) -> None:
    """How far each parameter can be scaled before the circuit fails; the most critical first.

    Right is: the watched junctions slip as in the deck as it stands, or as often as --count says. A deck with .margin
    lines says all that itself, where no option does.

    Example: spikeport sfq margins xor_01.cir xor_11.cir --count B1.X2.XY2=3: --count B1.X2.XY2=0 --png margins.png
    """
    from sim.sfq.study.asked import margins_asked
    from sim.sfq.study.margins import margins as find

    own = _own(deck, not any((parameter, cell, watch, count, step, stop)), "margins")
    tested = _tested(deck, watch, count, t_tol, step, stop)
    with _work(deck, "margins", output, workers) as how:
        for request in own[:-1]:
            typer.echo(str(margins_asked(tested["source"], request, how)))
        if own:
            found = margins_asked(tested["source"], own[-1], how)
        else:
            found = find(**tested, parameters=parameter, cell=cell, **how)
    _done(found, output)
    if png is not None:
        from sim.sfq import plots

        title = f"{deck[0].name}: critical margin {found.critical.critical:.1%} ({found.critical.name})"
        typer.echo(f"wrote {plots.margins(png, found.rows, title)}")


def montecarlo(
    deck: Decks,
    output: Output = None,
    n: Annotated[int, typer.Option("-n", help="Corners.", min=1)] = 1000,
    spread: Annotated[
        list[str] | None,
        typer.Option(help="Relative, three sigma: L=0.1, B=0.1, R=0.1, L1.X1=0.2; default the deck's .spread."),
    ] = None,
    common: Annotated[
        list[str] | None, typer.Option(help="The same for all of a kind in a corner: L=0.05; repeatable.")
    ] = None,
    distribution: Annotated[str, typer.Option(help="normal (three sigma = the spread) or uniform.")] = "normal",
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 1,
    noise: Annotated[bool, typer.Option("--noise", help="Thermal noise of its own in each corner.")] = False,
    watch: Watch = None,
    count: Count = None,
    t_tol: TimeTolerance = 5.0,
    step: Step = "",
    stop: Stop = "",
    workers: Workers = 0,
) -> None:
    """Yield: the share of corners that work when every element scatters, with Wilson's interval.

    A deck with an .mc line says all that itself, where no option does (the last line counts).

    Example: spikeport sfq mc xor_01.cir --spread L=0.1 --spread B=0.1 --spread R=0.1 --count B1.X2.XY2=3: -n 1000
    """
    from sim.sfq.study.asked import yield_asked
    from sim.sfq.study.montecarlo import montecarlo as scatter

    own = _own(deck, not any((spread, common, watch, count, step, stop, noise)), "mc")
    tested = _tested(deck, watch, count, t_tol, step, stop)
    local = None if spread is None else _numbers("--spread", spread)
    with _work(deck, "mc", output, workers) as how:
        if own:
            found = yield_asked(tested["source"], own[-1], how)
        else:
            found = scatter(
                **tested, n=n, spread=local, common=_numbers("--common", common or []), distribution=distribution,
                seed=seed, noise=noise, **how,
            )  # fmt: skip
    _done(found, output)


def shmoo(
    deck: Decks,
    x: Annotated[str, typer.Option(help="Parameter to the right: I, L, IC, R, L1.X1.")] = "I",
    y: Annotated[str, typer.Option(help="Parameter upwards.")] = "IC",
    x_range: Annotated[str, typer.Option(help="Factors LOW:HIGH:POINTS.")] = "0.5:1.5:21",
    y_range: Annotated[str, typer.Option(help="Factors LOW:HIGH:POINTS.")] = "0.5:1.5:21",
    output: Output = None,
    watch: Watch = None,
    count: Count = None,
    t_tol: TimeTolerance = 5.0,
    step: Step = "",
    stop: Stop = "",
    png: Png = None,
    workers: Workers = 0,
) -> None:
    """Where a circuit works over a grid of two parameters; printed as a map.

    Example: spikeport sfq shmoo jtl.cir --watch B1.X2.XQ --x I --y L --png shmoo.png
    """
    from sim.sfq.study.shmoo import shmoo as sweep

    tested = _tested(deck, watch, count, t_tol, step, stop)
    across, up = _range("--x-range", x_range), _range("--y-range", y_range)
    with _work(deck, "shmoo", output, workers) as how:
        found = sweep(x=x, y=y, **tested, x_factors=across, y_factors=up, **how)
    _done(found, output)
    if png is not None:
        from sim.sfq import plots

        drawn = plots.shmoo(png, found.x_factors, found.y_factors, found.works, found.x, found.y)
        typer.echo(f"wrote {drawn}")


def iv(
    deck: Annotated[Path, typer.Argument(help="A deck with the junction and its drive, or with the model alone.")],
    output: Output = None,
    model: Annotated[str, typer.Option(help="As JoSIM's .iv: the curve of this model, jmit or jmit.SUBCKT.")] = "",
    drive: Annotated[str, typer.Option(help="The current source that is ramped, I1.")] = "",
    across: Annotated[str, typer.Option(help="The junction whose voltage is taken, B1.")] = "",
    high: Annotated[str, typer.Option(help="Largest current in A, as in 300u.")] = "300u",
    by: Annotated[str, typer.Option(help="Step of the current in A.")] = "5u",
    dwell: Annotated[str, typer.Option(help="Time at each current in s; the second half is averaged.")] = "500p",
    step: Annotated[str, typer.Option(help="Step in s.")] = "0.05p",
    devices: Annotated[int, typer.Option(help="So many alike, which differ by their noise (--seed).", min=1)] = 1,
    seed: Annotated[int | None, typer.Option(help="Seed of the noise; default none.")] = None,
    png: Png = None,
) -> None:
    """A current-voltage curve, up and down: of a junction in its circuit, or of a model as JoSIM's .iv does.

    Example: spikeport sfq iv squid.cir --drive I1 --across B1 --high 300u --by 5u --png iv.png
    """
    from sim.sfq import load
    from sim.sfq.study import iv as curves

    if bool(model) == bool(drive and across):
        raise ValueError("iv: give --drive and --across, or --model")
    read = load(deck)
    if model:
        found = curves.josim_iv(read, model, positive("--high", high, "A"))
    else:
        found = curves.iv(
            read, curves.up_and_down(positive("--high", high, "A"), positive("--by", by, "A")), drive=drive,
            across=across, dwell_s=positive("--dwell", dwell), h=positive("--step", step), corners=devices, seed=seed,
        )  # fmt: skip
    _done(found, output)
    if png is not None:
        from sim.sfq import plots

        current, volts = found.current_A, found.voltage_V.mean(axis=0)
        up, down = slice(0, found.turn), slice(found.turn - 1, None)
        both = {"up": (current[up], volts[up]), "down": (current[down], volts[down])}
        typer.echo(f"wrote {plots.iv(png, both, deck.name)}")


def _own(decks: list[Path], plain: bool, kind: str) -> list[Any]:
    """The lines of a kind in a single deck, where no option says otherwise."""
    from sim.sfq import load

    if len(decks) > 1 or not plain:
        return []
    found: list[Any] = getattr(load(decks[0]).asked, kind)
    return found


def _tested(
    decks: list[Path], watch: list[str] | None, count: list[str] | None, t_tol: float, step: str, stop: str
) -> dict[str, Any]:
    """Arguments of a study: one deck and its criterion, or a bench of several patterns, each with its own."""
    from sim.sfq import load
    from sim.sfq.study.bench import patterns

    counts = [_counts(text) for text in count or []]
    if len(counts) > 1 and len(counts) != len(decks):
        raise ValueError(f"--count is given {len(counts)} times for {len(decks)} decks; give one, or one for each deck")
    how: dict[str, Any] = {"h": seconds("--step", step), "t_stop": seconds("--stop", stop)}
    how |= {"watch": watch, "t_tol_s": t_tol * 1e-12}
    if len(decks) == 1:
        return {"source": load(decks[0]), "criterion": counts[0] if counts else None, **how}
    names = [f"{k + 1} {d.stem}" for k, d in enumerate(decks)]
    wanted = {n: counts[k if len(counts) > 1 else 0] for k, n in enumerate(names)} if counts else None
    return {"source": patterns(dict(zip(names, map(load, decks), strict=True)), wanted, **how)}


def _counts(text: str) -> Any:
    """``B1.X2=3:,B1.X5=0`` as a criterion. Errors: ``ValueError`` with the form."""
    from sim.sfq.study.criterion import Counts

    ranges: dict[str, tuple[float, float]] = {}
    for part in text.split(","):
        name, _, bounds = part.partition("=")
        low, colon, high = bounds.partition(":")
        try:
            first = int(low or 0)
            last = (int(high) if high else float("inf")) if colon else first
        except ValueError:
            raise ValueError(f"--count {part}: write JUNCTION=N, =LOW:HIGH, =LOW: or =:HIGH, as in B1.X2=3:") from None
        if not name or not bounds or not 0 <= first <= last:
            raise ValueError(f"--count {part}: write JUNCTION=N, =LOW:HIGH, =LOW: or =:HIGH, as in B1.X2=3:")
        ranges[name] = (first, last)
    return Counts(ranges)


def _numbers(option: str, texts: list[str]) -> dict[str, float]:
    """``L=0.1`` as a number by name. Errors: ``ValueError`` naming the option."""
    out = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            out[name] = float(number)
        except ValueError:
            out = {}
        if not name or name not in out:
            raise ValueError(f"{option} {text}: write NAME=NUMBER, as in L=0.1")
    return out


def _range(option: str, text: str) -> list[float]:
    """``0.5:1.5:21`` as factors. Errors: ``ValueError`` naming the option."""
    parts = text.split(":")
    try:
        low, high, points = float(parts[0]), float(parts[1]), int(parts[2])
    except (ValueError, IndexError):
        points = 0
    if len(parts) != 3 or points < 1 or not 0 <= low <= high:
        raise ValueError(f"{option} {text}: write LOW:HIGH:POINTS, as in 0.5:1.5:21")
    return [low + (high - low) * k / max(1, points - 1) for k in range(points)]


def seconds(option: str, text: str) -> float | None:
    """``0.1p`` as a deck says it, in s; None for nothing. Errors: ``ValueError`` naming the option."""
    return positive(option, text) if text else None


def positive(option: str, text: str, unit: str = "s") -> float:
    """``0.1p`` as a deck says it, above 0. Errors: ``ValueError`` naming the option."""
    from sim.sfq.expr import ExprError, evaluate

    try:
        value = evaluate(text.upper())
    except ExprError as error:
        raise ValueError(f"{option} {text}: {error}; write a number of {unit} as in 0.1p or 1e-13") from None
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{option} {text}: must be above 0 {unit}")
    return value


def _done(found: Any, output: Path | None) -> None:
    typer.echo(str(found))
    if output is not None:
        typer.echo(f"wrote {found.save(output)}")


class _work:
    """Bar, processes and checkpoint of a study; ``with _work(..) as how`` gives the study's keyword arguments.

    With an output, what is done is kept beside it until the study is complete, and the same command goes on from there.
    """

    def __init__(self, decks: list[Path], label: str, output: Path | None, workers: int) -> None:
        if output is not None and output.suffix not in (".json", ".csv"):
            raise ValueError(f"{output}: results are saved as .json or .csv; choose one by the file's name")
        self.bar = Bar(f"{label} {decks[0].name}")
        self.kept = None if output is None else output.with_name(output.name + ".work.npz")
        self.pool: Any = ProcessPoolExecutor(workers) if workers else nullcontext()

    def __enter__(self) -> Any:
        executor: Executor | None = self.pool.__enter__()
        progress: Callable[[float], None] = self.bar.__enter__()
        return {"executor": executor, "progress": progress, "checkpoint": self.kept}

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> None:
        self.bar.__exit__()
        self.pool.__exit__(kind, *rest)
        if kind is KeyboardInterrupt:
            again = "; the same command goes on" if self.kept is not None else "; give -o to be able to go on"
            print(f"spikeport: stopped{again}", file=sys.stderr)
            raise SystemExit(130)
        if kind is None and self.kept is not None:
            self.kept.unlink(missing_ok=True)
