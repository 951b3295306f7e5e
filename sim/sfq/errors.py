"""The one error of this package: where it happened, which name, which rule, and what to do."""

from __future__ import annotations

from typing import NamedTuple


class Where(NamedTuple):
    """A line of a deck. ``file`` is the name as given, ``<text>`` for a deck that came as a string."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


NOWHERE = Where("<circuit>", 0)


class DeckError(ValueError):
    """A deck that cannot be used as it stands.

    Prints ``file:line: NAME: rule broken. Fix: what to do``. The four parts are also fields.
    """

    def __init__(self, where: Where, name: str, rule: str, fix: str) -> None:
        super().__init__(f"{where}: {name}: {rule}. Fix: {fix}")
        self.where, self.name, self.rule, self.fix = where, name, rule, fix

    @property
    def file(self) -> str:
        """The deck's file name."""
        return self.where.file

    @property
    def line(self) -> int:
        """The line of the file, counted from 1."""
        return self.where.line


class DeckWarning(UserWarning):
    """Something in a deck that JoSIM, too, only warns of: the run goes on without it."""


def unsupported(where: Where, name: str, what: str, instead: str) -> DeckError:
    """What JoSIM knows and this solver does not know yet. Never skipped in silence."""
    return DeckError(where, name, f"not supported yet: {what}", instead)
