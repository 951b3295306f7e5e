"""A deck as written: blocks of cards, parameters, models and what to simulate and print.

``load`` and ``loads`` read JoSIM's and WRspice's text; ``Deck.flatten`` makes the circuit. What is not supported is
refused with its line, never skipped in silence. Source of the syntax: docs/sfq.md 1.9, the JoSIM sources named there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sim.sfq.asked import Asked
from sim.sfq.elements import Card
from sim.sfq.errors import DeckError, Where
from sim.sfq.lines import MAX_BYTES, Line, Reader, confined, read_bounded
from sim.sfq.models import JunctionModel, ModelCard
from sim.sfq.requests import Request
from sim.sfq.scope import Scope

if TYPE_CHECKING:
    from sim.sfq.circuit import Circuit

GROUNDS = {"0", "GND"}


@dataclass
class Block:
    """The deck itself (``name`` empty) or one ``.subckt``; definitions are looked up outwards.

    ``noise`` are its own ``.temp``, ``.neb`` and ``.spread`` lines by word; ``defaults`` the parameters of its header,
    which an instance may give another value (WRspice).
    """

    name: str
    pins: tuple[str, ...]
    where: Where
    parent: Block | None = None
    cards: list[Card] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    models: dict[str, ModelCard] = field(default_factory=dict)
    subckts: dict[str, Block] = field(default_factory=dict)
    scope: Scope = field(default_factory=Scope)
    noise: dict[str, Line] = field(default_factory=dict)
    defaults: set[str] = field(default_factory=set)

    def find_subckt(self, name: str) -> Block | None:
        """The nearest definition of a subcircuit."""
        block: Block | None = self
        while block is not None:
            if name in block.subckts:
                return block.subckts[name]
            block = block.parent
        return None

    def find_model(self, name: str) -> tuple[ModelCard, Block] | None:
        """The nearest definition of a model and the block whose parameters it sees."""
        block: Block | None = self
        while block is not None:
            if name in block.models:
                return block.models[name], block
            block = block.parent
        return None


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
    """A parsed deck. ``tran`` is None where the deck has no ``.tran``; ``source`` is its file or ``<text>``.

    ``files`` are the names of its ``.file`` lines in order, ``spread`` the global one by kind letter and ``""`` for the
    rest, ``folders`` the folders of its files by the name that messages show, ``root`` the folder they must stay in.
    """

    source: str
    top: Block
    tran: Tran | None = None
    requests: list[Request] = field(default_factory=list)
    temp_K: float = 0.0
    neb_Hz: float | None = None
    options: dict[str, str] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    seed: int | None = None
    files: list[str] = field(default_factory=list)
    asked: Asked = field(default_factory=Asked)
    folders: dict[str, Path] = field(default_factory=dict)
    root: Path | None = None

    def flatten(self) -> Circuit:
        """All subcircuits expanded, all values numbers; names as in JoSIM, ``B1|X1|XA1``. Raises DeckError."""
        from sim.sfq.flatten import flatten

        return flatten(self)

    def model(self, name: str, subckt: str = "") -> JunctionModel:
        """The junction model of that name, seen from the deck or from one of its subcircuits. Raises DeckError."""
        block = self.top.find_subckt(subckt.upper()) if subckt else self.top
        found = block.find_model(name.upper()) if block else None
        if found is None:
            raise DeckError(self.top.where, name, f"no such model{' in ' + subckt if subckt else ''}", "name a .model")
        card, owner = found
        return card.build(lambda text: owner.scope.evaluate(text, card.where, card.name))

    def wave(self, name: str, where: Where) -> str:
        """The first line of the wave file of a ``CUS`` source. Raises DeckError.

        It is looked for beside the file that names it, then beside the deck; decks are read in capitals, so a name is
        also found in small letters or, where only one file fits, in any.
        """
        folders = dict.fromkeys(f for f in (self.folders.get(where.file), self.folders.get(self.source)) if f)
        if not folders:
            confined(name, None, self.root, where, "CUS wave")
        for folder in folders:
            asked = confined(name, folder, self.root, where, "CUS wave")
            try:
                near = [p for p in asked.parent.iterdir() if p.name.upper() == asked.name.upper()]
            except OSError:
                near = []
            exact = [p for p in near if p.name in (asked.name, asked.name.lower())] or near
            if len(exact) == 1:
                path = confined(exact[0].name, asked.parent, self.root, where, "CUS wave")
                data = read_bounded(path, name, where, MAX_BYTES)
                return data.decode("utf-8", errors="replace").partition("\n")[0]
        raise DeckError(where, name, "no such wave file, or several that differ in case", "put it beside the deck")


def load(path: str | Path, include_root: str | Path | None = None) -> Deck:
    """Read a deck file. Includes are relative to the including file and stay inside ``include_root`` (default: the
    deck's folder). Raises DeckError, also for a file that cannot be read."""
    from sim.sfq.parse import parse

    file = Path(path).resolve()
    reader = Reader(Path(include_root).resolve() if include_root is not None else file.parent)
    lines = reader.file(file, str(path), Where(str(path), 1))
    return parse(lines, Deck(str(path), Block("", (), Where(str(path), 1)), folders=reader.folders, root=reader.root))


def loads(text: str, base_dir: str | Path | None = None, source: str = "<text>") -> Deck:
    """Read a deck from a string; ``source`` is its name in messages. Includes are refused unless ``base_dir`` names
    their folder. Raises DeckError."""
    from sim.sfq.parse import parse

    reader = Reader(Path(base_dir).resolve() if base_dir is not None else None)
    lines = reader.text(text, source, reader.root)
    return parse(lines, Deck(source, Block("", (), Where(source, 1)), folders=reader.folders, root=reader.root))
