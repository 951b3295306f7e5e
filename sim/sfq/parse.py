"""Logical lines to a deck: one method a control word, cards into their block, requests and options kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from sim.sfq import asked
from sim.sfq.deck import Block, Deck, Tran
from sim.sfq.elements import parse_card
from sim.sfq.errors import DeckError, DeckWarning
from sim.sfq.lines import Line, split_outside
from sim.sfq.models import parse_model
from sim.sfq.requests import parse_print
from sim.sfq.scope import Scope

SEED_LIMIT = 1 << 64
MAX_DEPTH = 64


def parse(lines: list[Line], deck: Deck) -> Deck:
    """Fill ``deck`` from its lines. Raises DeckError."""
    parser = _Parser(deck)
    for at, line in enumerate(lines):
        try:
            parser.line(line)
        except DeckError:
            if at or len(lines) < 2 or not _title(line):
                raise
            say(line, "is read as a title: SPICE ignores the first line, JoSIM does not")
    parser.finish()
    return deck


def say(line: Line, what: str) -> None:
    """Warn about a line that the run goes on without, or that means another thing than in JoSIM."""
    warnings.warn(DeckWarning(f"{line.where}: {line.text[:60]}: {what}"), stacklevel=3)


def _title(line: Line) -> bool:
    """Whether a first line that is no element may be a title: words, no control, no ground among them."""
    words = line.text.split()
    return line.where.line == 1 and len(words) > 1 and words[0].isalpha() and not {"0", "GND"} & set(words)


class _Parser:
    """Feeds lines into a deck; ``stack`` is the chain of open subcircuits. What needs parameters waits for the end."""

    def __init__(self, deck: Deck) -> None:
        self.deck, self.stack = deck, [deck.top]
        self.file, self.control, self.told_of_start = "", False, False
        self.tran: Line | None = None
        self.seed_line: Line | None = None
        self.later: list[tuple[Callable[[Line, asked.Evaluate], object], list[object], Line]] = []

    def line(self, line: Line) -> None:
        text = line.text
        if text[0] != "." and not self.control:
            self.card(line)
            return
        word = text.split(None, 1)[0].lstrip(".")
        handler = HANDLERS.get(word)
        if handler is None:
            if self.control and text[0] != ".":
                say(line, "is no command of ours, and ignored")
                return
            raise DeckError(line.where, text, f"unknown control .{word}", f"known: .{' .'.join(HANDLERS).lower()}")
        if len(self.stack) > 1 and word not in IN_SUBCKT:
            say(line, f"inside .subckt {self.stack[-1].name} is ignored, as in JoSIM; move it out")
            return
        handler(self, line)

    def card(self, line: Line) -> None:
        card, block = parse_card(line), self.stack[-1]
        if "VJ" in card.options and not self.told_of_start and "," in line.text:
            self.told_of_start = True
            say(line, "ic=voltage,phase is an initial condition (said once); one number is a critical current")
        if card.name in block.names and card.kind != "K":
            raise DeckError(line.where, card.name, "defined twice", "rename one of the two")
        block.names.add(card.name)
        block.cards.append(card)

    def finish(self) -> None:
        if len(self.stack) > 1:
            open_ = self.stack[-1]
            raise DeckError(open_.where, open_.name, ".subckt without .ends", "close it with .ends")
        deck, scope = self.deck, self.deck.top.scope
        if self.tran is not None:
            deck.tran = _tran(self.tran, scope)
        if self.seed_line is not None:
            deck.seed = _seed(deck.options["SEED"], self.seed_line, scope)
        noise = deck.top.noise
        if "TEMP" in noise:
            deck.temp_K = number(noise["TEMP"], scope)
        if "NEB" in noise:
            deck.neb_Hz = number(noise["NEB"], scope)
        if "SPREAD" in noise:
            deck.spread = spreads(noise["SPREAD"], scope)
        for parser, into, line in self.later:
            # mypy does not type a lambda's default
            into.append(parser(line, lambda t, line=line: scope.evaluate(t, line.where, line.text)))  # type: ignore[misc]

    def subckt(self, line: Line) -> None:
        fields = [f for f in line.fields()[1:] if f not in ("PARAM:", "PARAMS:")]
        if not fields:
            raise DeckError(line.where, line.text, ".subckt without a name", "write .subckt NAME pin ..")
        pins = tuple(f for f in fields[1:] if "=" not in f)
        block, parent = Block(fields[0], pins, line.where), self.stack[-1]
        block.parent, block.scope.parent = parent, parent.scope
        repeated = {p for p in pins if pins.count(p) > 1} if len(set(pins)) < len(pins) else set()
        if repeated or not pins:
            raise DeckError(line.where, block.name, f"pins {pins} are none or repeated", "name each pin once")
        given = [f for f in fields if "=" in f]
        if given:
            block.scope.define(Line(f".PARAM {' '.join(given)}", line.where))
            block.defaults = set(block.scope.texts)
        if len(self.stack) > MAX_DEPTH:
            raise DeckError(
                line.where, block.name, f"definitions nest deeper than {MAX_DEPTH}", "close some with .ends"
            )
        if block.name in parent.subckts:
            say(line, f"replaces the definition at {parent.subckts[block.name].where}, as in JoSIM")
        parent.subckts[block.name] = block
        self.stack.append(block)

    def ends(self, line: Line) -> None:
        names = line.fields()[1:]
        if len(self.stack) == 1:
            raise DeckError(line.where, line.text, ".ends without .subckt", "remove it")
        if names and names[0] != self.stack[-1].name:
            if len(self.stack) > 2:
                raise DeckError(
                    line.where, names[0], f".ends closes {self.stack[-1].name}", "close the inner one first"
                )
            say(line, f"closes {self.stack[-1].name}; JoSIM does not read the name")
        self.stack.pop()

    def model(self, line: Line) -> None:
        card = parse_model(line)
        self.stack[-1].models[card.name] = card

    def param(self, line: Line) -> None:
        self.stack[-1].scope.define(line)

    def tran_line(self, line: Line) -> None:
        if self.tran is not None:
            say(line, f"replaces the .tran at {self.tran.where}, as in JoSIM")
        self.tran = line

    def output(self, line: Line) -> None:
        try:
            self.deck.requests += parse_print(line, self.file)
        except DeckError as error:
            if line.text.lstrip(".").startswith("PRINT") and not self.control:
                raise
            say(line, f"{error.name}: {error.rule}; left out")

    def output_file(self, line: Line) -> None:
        self.file = [*line.text.split(None, 1), ""][1].strip().strip("\"'")
        if not self.file:
            raise DeckError(line.where, line.text, ".file without a name", "write .file name.csv")
        self.deck.files.append(self.file)

    def noise(self, line: Line) -> None:
        word, block = line.text.split(None, 1)[0].lstrip("."), self.stack[-1]
        if len(self.stack) > 1:
            say(line, f"holds for all instances of {block.name}; JoSIM ignores it")
        block.noise[word] = line

    def option(self, line: Line) -> None:
        fields = line.fields()[1:]
        for at, f in enumerate(fields):
            key, equals, value = f.partition("=")
            if key == "SEED" and not equals and at + 1 < len(fields):
                value = fields.pop(at + 1)
            self.deck.options[key] = value
            if key == "SEED":
                self.seed_line = line

    def begin_control(self, line: Line) -> None:
        del line
        self.control = True

    def end_control(self, line: Line) -> None:
        del line
        self.control = False

    def iv(self, line: Line) -> None:
        self.later.append((asked.parse_iv, self.deck.asked.iv, line))  # type: ignore[arg-type]  # a list of its own kind

    def margin(self, line: Line) -> None:
        self.later.append((asked.parse_margin, self.deck.asked.margins, line))  # type: ignore[arg-type]  # a list of its own kind

    def mc(self, line: Line) -> None:
        self.later.append((asked.parse_mc, self.deck.asked.mc, line))  # type: ignore[arg-type]  # a list of its own kind

    def measure(self, line: Line) -> None:
        self.later.append((asked.parse_measure, self.deck.asked.measures, line))  # type: ignore[arg-type]  # a list of its own kind

    def op(self, line: Line) -> None:
        self.deck.asked.op.append(asked.parse_op(line))


HANDLERS: dict[str, Callable[[_Parser, Line], None]] = {
    "SUBCKT": _Parser.subckt, "ENDS": _Parser.ends, "MODEL": _Parser.model, "PARAM": _Parser.param,
    "TRAN": _Parser.tran_line, "PRINT": _Parser.output, "PLOT": _Parser.output, "SAVE": _Parser.output,
    "FILE": _Parser.output_file, "TEMP": _Parser.noise, "NEB": _Parser.noise, "SPREAD": _Parser.noise,
    "OPTION": _Parser.option, "OPTIONS": _Parser.option, "CONTROL": _Parser.begin_control,
    "ENDC": _Parser.end_control, "IV": _Parser.iv, "DC": _Parser.op, "OP": _Parser.op, "MARGIN": _Parser.margin,
    "MC": _Parser.mc, "MEASURE": _Parser.measure, "MEAS": _Parser.measure,
}  # fmt: skip
IN_SUBCKT = {"SUBCKT", "ENDS", "MODEL", "PARAM", "TEMP", "NEB", "SPREAD"}


def number(line: Line, scope: Scope) -> float:
    """The one value of a ``.temp`` or ``.neb`` line. Raises DeckError."""
    fields = line.fields()
    if len(fields) != 2:
        raise DeckError(line.where, line.text, "needs one value", f"write {fields[0].lower()} value")
    value = scope.evaluate(fields[1], line.where, fields[0])
    if value < 0:
        raise DeckError(line.where, line.text, f"value {value:g}", "give 0 or more")
    return value


def spreads(line: Line, scope: Scope) -> dict[str, float]:
    """``.spread 0.1 L=.. B=.. R=.. C=..`` by letter, ``""`` for the value of the rest. Raises DeckError."""
    out: dict[str, float] = {}
    for f in split_outside(" ".join(line.fields()[1:]), " ,"):
        key, equals, text = f.partition("=") if "=" in f else ("", "=", f)
        if key not in ("", "L", "B", "R", "C") or not text or not equals:
            raise DeckError(line.where, line.text, f"{f} is no spread", "write .spread 0.1 [L=..] [B=..] [R=..] [C=..]")
        out[key] = scope.evaluate(text, line.where, ".spread")
        if not 0 <= out[key] < 3:
            raise DeckError(line.where, line.text, f"a spread of {out[key]:g}", "give 3 sigma over value, 0.1 for 10 %")
    return out


def _seed(text: str, line: Line, scope: Scope) -> int | None:
    if text == "AUTO":
        return None
    if text.isdecimal() and text.isascii() and len(text) < 21:
        whole = int(text)
    else:
        value = scope.evaluate(text, line.where, "SEED")
        whole = int(value) if value == int(value) else -1
    if not 0 <= whole < SEED_LIMIT:
        raise DeckError(line.where, line.text, f"seed {text}", "give a whole number from 0 below 2^64, or AUTO")
    return whole


def _tran(line: Line, scope: Scope) -> Tran:
    fields = line.fields()[1:]
    startup, uic = "DST" not in fields, "UIC" in fields
    fields = [f for f in fields if f not in ("DST", "UIC")]
    if not 2 <= len(fields) <= 5:
        raise DeckError(
            line.where, line.text, "wrong number of values", "write .tran step stop [pstart [pstep [window]]] [DST]"
        )
    values = [scope.evaluate(f, line.where, ".tran") for f in fields]
    step, stop = values[:2]
    start, print_step = (values[2:4] + [0.0, step][len(values[2:4]) :]) if len(values) > 2 else (0.0, step)
    if not (0 < step < stop) or print_step <= 0 or start < 0:
        raise DeckError(
            line.where, line.text, "needs 0 < step < stop, pstep > 0, pstart >= 0", "correct the times (seconds)"
        )
    window = max(values[4], 0.0) if len(values) == 5 else 0.0
    return Tran(min(step, print_step), stop, start, print_step, startup, window, uic)
