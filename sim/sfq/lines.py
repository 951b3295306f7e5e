"""Files to logical lines: includes read, comments dropped, continuations joined, every line knowing its place."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from sim.sfq.errors import DeckError, Where

MAX_DEPTH = 16
MAX_BYTES = 16 * 1024 * 1024
"""All files of one deck together. A 10^4-junction flat deck is about 1 MB."""

_COMMENT_TAIL = re.compile(r"(;|\$\s).*$")


@dataclass(frozen=True)
class Line:
    """One logical line: ``text`` in capitals (file names keep their case) and where it began."""

    text: str
    where: Where

    def fields(self) -> list[str]:
        """Split at white space that is outside brackets; ``a = b`` counts as one field ``a=b``."""
        return split_outside(re.sub(r"\s*=\s*", "=", self.text), " \t")


def split_outside(text: str, separators: str) -> list[str]:
    """Split at any of ``separators`` where no bracket is open."""
    parts, depth, part = [], 0, ""
    for c in text:
        depth += (c in "([{") - (c in ")]}")
        if c in separators and depth <= 0:
            if part:
                parts.append(part)
            part = ""
        else:
            part += c
    return [*parts, part] if part else parts


@dataclass
class Reader:
    """Reads one deck. ``root`` is the folder that includes must stay in; None refuses every include."""

    root: Path | None
    open_files: list[Path] = field(default_factory=list)
    bytes_read: int = 0

    def file(self, path: Path, shown: str, where: Where) -> list[Line]:
        """The logical lines of a file."""
        if len(self.open_files) >= MAX_DEPTH or path in self.open_files:
            raise DeckError(
                where, shown, f"includes nest deeper than {MAX_DEPTH} or in a circle", "include each file once"
            )
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DeckError(
                where, shown, f"cannot be read ({error.strerror})", "check the name and the folder"
            ) from None
        self.open_files.append(path)
        lines = self.text(data.decode("utf-8", errors="replace"), shown, path.parent)
        self.open_files.pop()
        return lines

    def text(self, text: str, shown: str, folder: Path | None) -> list[Line]:
        """The logical lines of a text that lives in ``folder``."""
        self.bytes_read += len(text)
        if self.bytes_read > MAX_BYTES:
            raise DeckError(
                Where(shown, 1), shown, f"the deck is larger than {MAX_BYTES} bytes", "split the simulation"
            )
        lines: list[Line] = []
        for line in _logical(text, shown):
            word = line.text.split(None, 1)[0].upper().lstrip(".")
            if word == "INCLUDE":
                lines += self.include(line, folder)
            elif word == "END":
                break
            elif word == "FILE":
                lines.append(Line(".FILE " + line.text.split(None, 1)[-1], line.where))
            else:
                lines.append(Line(" ".join(line.text.upper().split()), line.where))
        return lines

    def include(self, line: Line, folder: Path | None) -> list[Line]:
        """The lines of the file that an ``.include`` names, if it is inside the root."""
        name = line.text.split(None, 1)[-1].strip().strip("\"'")
        if folder is None or self.root is None:
            raise DeckError(line.where, name, ".include in a deck without a folder", "pass base_dir to loads()")
        path = (folder / name).resolve()
        if not path.is_relative_to(self.root.resolve()):
            raise DeckError(
                line.where, name, f"the include leaves the deck's folder {self.root}",
                "copy the file there, or pass include_root= with a folder that holds both",
            )  # fmt: skip
        return self.file(path, name, line.where)


def _logical(text: str, shown: str) -> list[Line]:
    """Comments dropped (``*`` or ``#`` first, ``;`` or ``$ `` anywhere), ``+`` lines joined to the one before."""
    pieces: list[list[str]] = []
    places: list[Where] = []
    for at, raw in enumerate(text.splitlines(), start=1):
        body = raw.strip()
        if body and body[0] not in "*#":
            body = _COMMENT_TAIL.sub("", body).rstrip()
        if not body or body[0] in "*#":
            continue
        if body[0] != "+":
            pieces.append([body])
            places.append(Where(shown, at))
        elif pieces:
            pieces[-1].append(body[1:].strip())
        else:
            raise DeckError(Where(shown, at), "+", "nothing to continue", "remove the + or put a line before it")
    return [Line(" ".join(p), w) for p, w in zip(pieces, places, strict=True)]
