"""A deck as written: blocks of cards, parameters, models and what to simulate and print.

``load`` and ``loads`` read JoSIM-style text; ``Deck.flatten`` makes the circuit. What is not supported is refused
with its line, never skipped. Source of the syntax: docs/sfq.md 1.9 and the JoSIM sources named there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sim.sfq.elements import Card, parse_card
from sim.sfq.errors import DeckError, Where, unsupported
from sim.sfq.lines import Line, Reader
from sim.sfq.models import ModelCard, parse_model
from sim.sfq.requests import Request, parse_print
from sim.sfq.scope import Scope

if TYPE_CHECKING:
    from sim.sfq.circuit import Circuit

GROUNDS = {"0", "GND"}


@dataclass
class Block:
    """The deck itself (``name`` empty) or one ``.subckt``; definitions are looked up outwards."""

    name: str
    pins: tuple[str, ...]
    where: Where
    parent: Block | None = None
    cards: list[Card] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    models: dict[str, ModelCard] = field(default_factory=dict)
    subckts: dict[str, Block] = field(default_factory=dict)
    scope: Scope = field(default_factory=Scope)

    def find_subckt(self, name: str) -> Block | None:
        """The nearest definition of a subcircuit."""
        return self.subckts.get(name) or (self.parent.find_subckt(name) if self.parent else None)

    def find_model(self, name: str) -> tuple[ModelCard, Block] | None:
        """The nearest definition of a model and the block whose parameters it sees."""
        if name in self.models:
            return self.models[name], self
        return self.parent.find_model(name) if self.parent else None


@dataclass(frozen=True)
class Tran:
    """``.tran step stop [print_start [print_step [window]]] [DST] [UIC]`` in seconds.

    ``startup`` False is DST (no settling). ``window_s`` is the print filter's (0: none), see ``printing``. ``uic`` is
    WRspice's: start from the ``ic=`` of the elements.
    """

    step_s: float = 0.25e-12
    stop_s: float = 1e-9
    print_start_s: float = 0.0
    print_step_s: float = 0.25e-12
    startup: bool = True
    window_s: float = 0.0
    uic: bool = False


@dataclass
class Deck:
    """A parsed deck. ``tran`` is None where the deck has no ``.tran``; ``source`` is its file or ``<text>``."""

    source: str
    top: Block
    tran: Tran | None = None
    requests: list[Request] = field(default_factory=list)
    temp_K: float = 0.0
    neb_Hz: float | None = None
    options: dict[str, str] = field(default_factory=dict)

    def flatten(self) -> Circuit:
        """All subcircuits expanded, all values numbers; names as in JoSIM, ``B1|X1|XA1``. Raises DeckError."""
        from sim.sfq.flatten import flatten

        return flatten(self)


def load(path: str | Path, include_root: str | Path | None = None) -> Deck:
    """Read a deck file. Includes are relative to the including file and stay inside ``include_root`` (default: the
    deck's folder). Raises DeckError, also for a file that cannot be read."""
    file = Path(path).resolve()
    reader = Reader(Path(include_root).resolve() if include_root is not None else file.parent)
    return _parse(reader.file(file, str(path), Where(str(path), 1)), str(path))


def loads(text: str, base_dir: str | Path | None = None, source: str = "<text>") -> Deck:
    """Read a deck from a string; ``source`` is its name in messages. Includes are refused unless ``base_dir`` names
    their folder. Raises DeckError."""
    root = Path(base_dir).resolve() if base_dir is not None else None
    return _parse(Reader(root).text(text, source, root), source)


def _parse(lines: list[Line], source: str) -> Deck:
    deck = Deck(source, Block("", (), Where(source, 1)))
    parser = _Parser(deck)
    for line in lines:
        parser.line(line)
    parser.finish()
    return deck


class _Parser:
    """Feeds lines into a deck; ``stack`` is the chain of open subcircuits."""

    def __init__(self, deck: Deck) -> None:
        self.deck, self.stack = deck, [deck.top]
        self.file, self.control = "", False
        self.tran: Line | None = None

    def line(self, line: Line) -> None:
        block = self.stack[-1]
        word = line.text.split(None, 1)[0]
        if word[0] != "." and not self.control:
            card = parse_card(line)
            if card.name in block.names and card.kind != "K":
                raise DeckError(line.where, card.name, "defined twice", "rename one of the two")
            block.names.add(card.name)
            block.cards.append(card)
            return
        word = word.lstrip(".")
        handler = HANDLERS.get(word)
        if handler is None:
            raise DeckError(line.where, line.text, f"unknown control .{word}", f"known: .{' .'.join(HANDLERS).lower()}")
        if len(self.stack) > 1 and word not in IN_SUBCKT:
            raise DeckError(
                line.where, line.text, f".{word} inside .subckt {block.name}", "move it out of the subcircuit"
            )
        handler(self, line)

    def finish(self) -> None:
        if len(self.stack) > 1:
            open_ = self.stack[-1]
            raise DeckError(open_.where, open_.name, ".subckt without .ends", "close it with .ends")
        if self.tran is not None:
            self.deck.tran = _tran(self.tran, self.deck.top.scope)

    def subckt(self, line: Line) -> None:
        fields = line.fields()[1:]
        if not fields:
            raise DeckError(line.where, line.text, ".subckt without a name", "write .subckt NAME pin ..")
        block, parent = Block(fields[0], tuple(fields[1:]), line.where), self.stack[-1]
        block.parent, block.scope.parent = parent, parent.scope
        repeated = {p for p in block.pins if block.pins.count(p) > 1}
        if repeated or not block.pins or any("=" in p for p in block.pins):
            raise DeckError(
                line.where, block.name, f"pins {block.pins} are none, repeated or parameters",
                "name each pin once; write parameters as .param inside",
            )  # fmt: skip
        if block.name in parent.subckts:
            raise DeckError(line.where, block.name, f"also defined at {parent.subckts[block.name].where}", "rename one")
        parent.subckts[block.name] = block
        self.stack.append(block)

    def ends(self, line: Line) -> None:
        names = line.fields()[1:]
        if len(self.stack) == 1:
            raise DeckError(line.where, line.text, ".ends without .subckt", "remove it")
        if names and names[0] != self.stack[-1].name:
            raise DeckError(line.where, names[0], f".ends closes {self.stack[-1].name}", "close the inner one first")
        self.stack.pop()

    def model(self, line: Line) -> None:
        card = parse_model(line)
        self.stack[-1].models[card.name] = card

    def param(self, line: Line) -> None:
        self.stack[-1].scope.define(line)

    def tran_line(self, line: Line) -> None:
        if self.tran is not None:
            raise DeckError(line.where, ".tran", f"also at {self.tran.where}", "keep one of them")
        self.tran = line

    def output(self, line: Line) -> None:
        self.deck.requests += parse_print(line, self.file)

    def output_file(self, line: Line) -> None:
        self.file = line.text.split(None, 1)[1].strip()

    def number(self, line: Line) -> float:
        fields = line.fields()
        if len(fields) != 2:
            raise DeckError(line.where, line.text, "needs one value", f"write {fields[0].lower()} value")
        return self.deck.top.scope.evaluate(fields[1], line.where, fields[0])

    def temp(self, line: Line) -> None:
        self.deck.temp_K = self.number(line)
        if self.deck.temp_K > 0:
            raise unsupported(line.where, line.text, "thermal noise", "remove .temp for a run without noise")

    def neb(self, line: Line) -> None:
        self.deck.neb_Hz = self.number(line)

    def option(self, line: Line) -> None:
        for f in line.fields()[1:]:
            key, _, value = f.partition("=")
            self.deck.options[key] = value

    def begin_control(self, line: Line) -> None:
        del line
        self.control = True

    def end_control(self, line: Line) -> None:
        del line
        self.control = False

    def refuse(self, line: Line) -> None:
        word = line.text.split(None, 1)[0].lower()
        raise unsupported(line.where, line.text, f"{word} analysis", f"remove {word}; simulate with .tran")


HANDLERS: dict[str, Callable[[_Parser, Line], None]] = {
    "SUBCKT": _Parser.subckt, "ENDS": _Parser.ends, "MODEL": _Parser.model, "PARAM": _Parser.param,
    "TRAN": _Parser.tran_line, "PRINT": _Parser.output, "PLOT": _Parser.output, "SAVE": _Parser.output,
    "FILE": _Parser.output_file, "TEMP": _Parser.temp, "NEB": _Parser.neb, "OPTION": _Parser.option,
    "OPTIONS": _Parser.option, "CONTROL": _Parser.begin_control, "ENDC": _Parser.end_control,
    "IV": _Parser.refuse, "SPREAD": _Parser.refuse,
}  # fmt: skip
IN_SUBCKT = {"SUBCKT", "ENDS", "MODEL", "PARAM"}


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
