"""Parameters of one block (the deck or a subcircuit), looked up outwards, resolved in any order of definition."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from sim.sfq.errors import DeckError, Where
from sim.sfq.expr import ExprError, UndefinedName, evaluate, plain_number
from sim.sfq.lines import Line

_ASSIGN = re.compile(r"([A-Z_][A-Z0-9_.]*)\s*=")


@dataclass
class Scope:
    """``.param`` lines of a block and the block around it."""

    parent: Scope | None = None
    texts: dict[str, tuple[str, Where]] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    resolved: bool = False
    known: dict[str, float] = field(default_factory=dict)
    """What was evaluated before: the same cell is expanded again and again."""

    def define(self, line: Line) -> None:
        """Add ``.param a=expr [b=expr ..]``. A later definition of a name replaces the earlier, as in JoSIM."""
        body = line.text.split(None, 1)[1] if " " in line.text or "\t" in line.text else ""
        marks = list(_ASSIGN.finditer(body))
        if not marks or body[: marks[0].start()].strip():
            raise DeckError(line.where, line.text, "not a parameter definition", "write .param name=expression")
        for mark, after in zip(marks, [*marks[1:], None], strict=True):
            text = body[mark.end() : after.start() if after else None].strip().rstrip(",")
            self.texts[mark[1]] = (text, line.where)
        self.resolved = False
        self.known.clear()

    def lookup(self, name: str) -> float | None:
        """The value of ``name`` here or further out; None if nobody defines it. Raises UndefinedName while the
        name waits for others: it must not fall through to a constant of the same name."""
        if not self.resolved:
            self.resolve()
        if name in self.values:
            return self.values[name]
        if name in self.texts:
            raise UndefinedName(name)
        return self.parent.lookup(name) if self.parent else None

    def evaluate(self, text: str, where: Where, name: str) -> float:
        """The value of an expression of the element ``name``. Raises DeckError with the undefined parameter named."""
        value = self.known.get(text)
        if value is None:
            value = plain_number(text)
            if value is None:
                value = self._evaluate(text, where, name)
            self.known[text] = value
        return value

    def _evaluate(self, text: str, where: Where, name: str) -> float:
        try:
            return evaluate(text, self.lookup)
        except UndefinedName as error:
            raise DeckError(
                where, name, f"undefined parameter {error.name} in {text!r}", f"add .param {error.name}=value"
            ) from None
        except ExprError as error:
            raise DeckError(where, name, f"{text!r} has no value ({error})", "correct the expression") from None

    def resolve(self) -> None:
        """Evaluate every parameter, what it needs first: each expression once more than it has waited."""
        self.resolved, self.values = True, {}
        self.known.clear()
        try:
            for name in self.texts:
                self._settle(name)
        except DeckError:
            self.resolved = False
            raise

    def _settle(self, name: str) -> None:
        waiting = [name]
        open_ = {name}
        while waiting:
            name = waiting[-1]
            if name not in self.values:
                text, where = self.texts[name]
                try:
                    self.values[name] = evaluate(text, self.lookup)
                except UndefinedName as error:
                    if error.name not in self.texts:
                        raise DeckError(
                            where,
                            name,
                            f"undefined parameter {error.name} in {text!r}",
                            f"add .param {error.name}=value",
                        ) from None
                    if error.name in open_:
                        raise DeckError(
                            where,
                            name,
                            f"defined by itself ({name} -> {error.name} ..)",
                            "break the circle with a number",
                        ) from None
                    waiting.append(error.name)
                    open_.add(error.name)
                    continue
                except ExprError as error:
                    raise DeckError(where, name, f"{text!r} has no value ({error})", "correct the expression") from None
            open_.discard(waiting.pop())
