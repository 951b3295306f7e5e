"""Analyses that a deck asks for, as values: JoSIM's ``.iv`` and our ``.dc op``, ``.margin``, ``.mc``, ``.measure``.

    .iv model imax file                     current-voltage curve of a model, ``model.subckt`` for one in a subcircuit
    .dc op   (or .op)                       operating point
    .margin [targets ..] [watch=B1.X1,B2.X2] [dt=5p] [tol=0.005] [max=2.5]
    .mc runs [spread] [L=.. B=.. R=.. C=.. I=..] [GL=.. GB=.. GR=.. GC=.. GI=..] [dist=normal|uniform]
             [watch=..] [dt=5p] [seed=1]
    .measure [tran] name count|period|time junction [from=..] [to=..] [sign=1|-1] [n=1]
    .measure [tran] name delay junction junction [n=1] [sign=1|-1]
    .measure [tran] name max|min|avg|rms|pp|integral trace [from=..] [to=..]

Targets of ``.margin`` are elements (``IB1.X3``) or letters for all elements of a kind at once (``I``, ``L``, ``B``,
``R``, ``C``, ``V``); none is every one of both sorts. ``G..`` in ``.mc`` is the share common to a whole chip. Numbers
may be expressions of the deck's parameters. Source: JoSIM IV.cpp; docs/sfq.md 1.9, 6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sim.sfq.errors import DeckError, Where
from sim.sfq.lines import Line
from sim.sfq.requests import Request, parse_request

Evaluate = Callable[[str], float]

KINDS = ("L", "B", "R", "C", "I", "V")


@dataclass(frozen=True)
class IvRequest:
    """``.iv``: the curve of ``model`` (of the subcircuit ``subckt``) from -imax to imax into ``file``."""

    model: str
    imax_A: float
    file: str
    where: Where
    subckt: str = ""


@dataclass(frozen=True)
class OpRequest:
    """``.dc op``."""

    where: Where


@dataclass(frozen=True)
class MarginRequest:
    """``.margin``: factors of each target, up to ``factor_max``, to a share ``tol``, that keep the watched pulses.

    A pulse may move ``dt_s``. No targets: all; no ``watch``: all junctions.
    """

    targets: tuple[str, ...]
    watch: tuple[str, ...]
    dt_s: float
    tol: float
    factor_max: float
    where: Where


@dataclass(frozen=True)
class McRequest:
    """``.mc``: ``runs`` corners; ``spread`` and ``common`` are 3 sigma (or the half width of ``uniform``) by letter.

    An empty ``spread`` is the deck's ``.spread``.
    """

    runs: int
    spread: dict[str, float]
    common: dict[str, float]
    uniform: bool
    watch: tuple[str, ...]
    dt_s: float
    seed: int | None
    where: Where


@dataclass(frozen=True)
class Measure:
    """``.measure``: ``what`` of ``first`` (and ``second``), a junction for the first four kinds, else a trace.

    ``from_s`` and ``to_s`` bound the time (to the end where None); ``number`` counts pulses from 1.
    """

    name: str
    what: str
    first: str
    second: str
    from_s: float
    to_s: float | None
    sign: int
    number: int
    where: Where
    trace: Request | None = None


@dataclass
class Asked:
    """All that a deck asks for besides its transient."""

    iv: list[IvRequest] = field(default_factory=list)
    op: list[OpRequest] = field(default_factory=list)
    margins: list[MarginRequest] = field(default_factory=list)
    mc: list[McRequest] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)


def parse_iv(line: Line, evaluate: Evaluate) -> IvRequest:
    """``.iv model imax file``. Raises DeckError."""
    fields = line.fields()[1:]
    if len(fields) != 3:
        raise DeckError(line.where, line.text, "wrong number of values", "write .iv model imax file.csv")
    model, _, subckt = fields[0].upper().replace(".", "|").partition("|")
    imax = evaluate(fields[1].upper())
    if imax <= 0:
        raise DeckError(line.where, line.text, f"a largest current of {imax:g} A", "give a current above 0")
    return IvRequest(model, imax, fields[2].strip("\"'"), line.where, subckt)


def parse_op(line: Line) -> OpRequest:
    """``.dc op`` or ``.op``. Raises DeckError: there are no sweeps."""
    if line.fields()[0].lstrip(".") == "DC" and line.fields()[1:] != ["OP"]:
        raise DeckError(line.where, line.text, "unknown control .DC with a sweep", "write .dc op, or .iv for a curve")
    return OpRequest(line.where)


def parse_margin(line: Line, evaluate: Evaluate) -> MarginRequest:
    """``.margin``. Raises DeckError."""
    plain, options = _split(line, {"WATCH", "DT", "TOL", "MAX"})
    request = MarginRequest(
        tuple(p.replace(".", "|") for p in plain), _names(options.get("WATCH", "")),
        _number(options, "DT", 5e-12, evaluate), _number(options, "TOL", 0.005, evaluate),
        _number(options, "MAX", 2.5, evaluate), line.where,
    )  # fmt: skip
    if request.dt_s <= 0 or not 0 < request.tol < 1 or request.factor_max <= 1:
        raise DeckError(line.where, line.text, "needs dt > 0, 0 < tol < 1 and max > 1", "correct the value")
    return request


def parse_mc(line: Line, evaluate: Evaluate) -> McRequest:
    """``.mc``. Raises DeckError."""
    letters = {"L", "B", "R", "C", "I", "V"}
    plain, options = _split(line, letters | {"G" + k for k in letters} | {"DIST", "WATCH", "DT", "SEED"})
    if not 1 <= len(plain) <= 2:
        raise DeckError(line.where, line.text, "needs the number of runs", "write .mc runs [spread] [L=.. B=..]")
    runs, dist = evaluate(plain[0]), options.get("DIST", "NORMAL")
    spread = dict.fromkeys(("L", "B", "R", "C"), evaluate(plain[1])) if len(plain) == 2 else {}
    spread |= {k: evaluate(options[k]) for k in sorted(letters) if k in options}
    common = {k: evaluate(options["G" + k]) for k in sorted(letters) if "G" + k in options}
    seed = evaluate(options["SEED"]) if "SEED" in options else None
    dt = _number(options, "DT", 5e-12, evaluate)
    if runs < 1 or runs != int(runs) or dist not in ("NORMAL", "UNIFORM") or dt <= 0:
        raise DeckError(line.where, line.text, "needs whole runs, dt > 0, dist=normal or uniform", "correct the value")
    if min([*spread.values(), *common.values()], default=0.0) < 0 or (seed is not None and seed != int(seed)):
        raise DeckError(line.where, line.text, "a spread below 0 or a broken seed", "correct the value")
    return McRequest(
        int(runs), spread, common, dist == "UNIFORM", _names(options.get("WATCH", "")), dt,
        None if seed is None else int(seed), line.where,
    )  # fmt: skip


OF_PULSES = ("COUNT", "PERIOD", "TIME", "DELAY")
OF_TRACES = ("MAX", "MIN", "AVG", "RMS", "PP", "INTEGRAL")


def parse_measure(line: Line, evaluate: Evaluate) -> Measure:
    """``.measure`` or ``.meas``. Raises DeckError."""
    plain, options = _split(line, {"FROM", "TO", "SIGN", "N"})
    if plain and plain[0] == "TRAN":
        plain = plain[1:]
    form = f"write .measure name {'|'.join(OF_PULSES + OF_TRACES).lower()} of.what [from=..] [to=..]"
    wanted = 4 if len(plain) > 1 and plain[1] == "DELAY" else 3
    if len(plain) != wanted or plain[1] not in OF_PULSES + OF_TRACES:
        raise DeckError(line.where, line.text, "not a measurement", form)
    name, what, first = plain[:3]
    number, sign = _number(options, "N", 1.0, evaluate), _number(options, "SIGN", 1.0, evaluate)
    if number < 1 or number != int(number) or sign not in (1, -1):
        raise DeckError(line.where, line.text, f"n={number:g}, sign={sign:g}", "count n from 1; sign is 1 or -1")
    trace = parse_request(first, line.where) if what in OF_TRACES else None
    return Measure(
        name, what.lower(), trace.label if trace else first.replace(".", "|"),
        plain[3].replace(".", "|") if wanted == 4 else "", _number(options, "FROM", 0.0, evaluate),
        evaluate(options["TO"]) if "TO" in options else None, int(sign), int(number), line.where, trace,
    )  # fmt: skip


def _split(line: Line, known: set[str]) -> tuple[list[str], dict[str, str]]:
    fields = line.fields()[1:]
    options = dict(f.split("=", 1) for f in fields if "=" in f)
    for key, text in options.items():
        if key not in known or not text:
            raise DeckError(line.where, line.text, f"unknown option {key}={text}", f"known here: {sorted(known)}")
    return [f for f in fields if "=" not in f], options


def _names(text: str) -> tuple[str, ...]:
    return tuple(n.replace(".", "|") for n in text.split(",") if n)


def _number(options: dict[str, str], key: str, default: float, evaluate: Evaluate) -> float:
    return evaluate(options[key]) if key in options else default
