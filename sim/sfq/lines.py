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
_EQUALS = re.compile(r"\s*=\s*")
_QUOTED = re.compile(r"'([^']*)'")
_BRACKETS = frozenset("([{")
_MICRO = str.maketrans("\u00b5\u03bc", "uu")
_INCLUDE, _END = {".INCLUDE", ".INC", "INCLUDE"}, {".END", "END"}
_KEEP_CASE = {".FILE", "FILE", ".IV"}
"""Lines that name files; without the point as JoSIM reads them."""


@dataclass(slots=True)
class Line:
    """One logical line: ``text`` in capitals (file names keep their case) and where it began."""

    text: str
    where: Where

    def fields(self) -> list[str]:
        """Split at white space that is outside brackets; ``a = b`` counts as one field ``a=b``."""
        text = self.text
        if "=" in text:
            text = _EQUALS.sub("=", text)
        return split_outside(text, " \t")


def split_outside(text: str, separators: str) -> list[str]:
    """Split at any of ``separators`` where no bracket is open."""
    if _BRACKETS.isdisjoint(text):
        for other in separators[1:]:
            text = text.replace(other, separators[0])
        return [part for part in text.split(separators[0]) if part]
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
    """Reads one deck. ``root`` is the folder that includes must stay in; None refuses every include.

    ``folders`` remembers in which folder each file was, by the name that its lines show.
    """

    root: Path | None
    open_files: list[Path] = field(default_factory=list)
    bytes_read: int = 0
    folders: dict[str, Path] = field(default_factory=dict)

    def file(self, path: Path, shown: str, where: Where) -> list[Line]:
        """The logical lines of a file."""
        if len(self.open_files) >= MAX_DEPTH or path in self.open_files:
            raise DeckError(
                where, shown, f"includes nest deeper than {MAX_DEPTH} or in a circle", "include each file once"
            )
        data = read_bounded(path, shown, where, MAX_BYTES - self.bytes_read)
        self.open_files.append(path)
        lines = self.text(data.decode("utf-8-sig", errors="replace"), shown, path.parent)
        self.open_files.pop()
        return lines

    def text(self, text: str, shown: str, folder: Path | None) -> list[Line]:
        """The logical lines of a text that lives in ``folder``."""
        self.bytes_read += len(text)
        if self.bytes_read > MAX_BYTES:
            raise too_large(Where(shown, 1), shown)
        if folder is not None:
            self.folders[shown] = folder
        if not text.isascii():
            text = text.translate(_MICRO)
        lines: list[Line] = []
        for line in _logical(text, shown):
            text = line.text
            if text[0] in ".IiFfEe":
                word = text.split(None, 1)[0].upper()
                if word in _INCLUDE:
                    lines += self.include(line, folder)
                    continue
                if word in _END:
                    break
                if word in _KEEP_CASE:
                    lines.append(Line(f".{word.lstrip('.')} " + [*text.split(None, 1), ""][1], line.where))
                    continue
            if "'" in text:
                text = _QUOTED.sub(r"{\1}", text).rstrip("' ")
                if not text:
                    continue
            lines.append(Line(" ".join(text.upper().split()), line.where))
        return lines

    def include(self, line: Line, folder: Path | None) -> list[Line]:
        """The lines of the file that an ``.include`` names, if it is inside the root."""
        name = [*line.text.split(None, 1), ""][1].strip().strip("\"'").replace("\\", "/")
        return self.file(confined(name, folder, self.root, line.where, ".include"), name, line.where)


def confined(name: str, folder: Path | None, root: Path | None, where: Where, what: str) -> Path:
    """The file ``name`` seen from ``folder``, which must be inside ``root``. Raises DeckError."""
    if folder is None or root is None:
        raise DeckError(where, name, f"{what} in a deck without a folder", "pass base_dir to loads()")
    try:
        path = (folder / name).resolve()
    except (OSError, ValueError, RuntimeError):
        raise DeckError(where, name, "is no file name", "write the name of a file beside the deck") from None
    if not path.is_relative_to(root.resolve()):
        raise DeckError(
            where, name, f"the {what.lstrip('.')} leaves the deck's folder {root}",
            "copy the file there, or pass include_root= with a folder that holds both",
        )  # fmt: skip
    return path


def read_bounded(path: Path, shown: str, where: Where, limit: int) -> bytes:
    """The bytes of a file of at most ``limit`` of them. Raises DeckError."""
    try:
        if not path.is_file():
            raise DeckError(where, shown, "cannot be read (not a file)", "check the name and the folder")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise DeckError(where, shown, f"cannot be read ({error.strerror})", "check the name and the folder") from None
    if len(data) > limit:
        raise too_large(where, shown)
    return data


def too_large(where: Where, shown: str) -> DeckError:
    """The refusal of a deck or a wave file over the limit."""
    return DeckError(where, shown, f"the deck is larger than {MAX_BYTES} bytes", "split the simulation")


def _logical(text: str, shown: str) -> list[Line]:
    """Comments dropped (``*`` or ``#`` first, ``;`` or ``$ `` anywhere), ``+`` lines joined to the one before."""
    lines: list[Line] = []
    more: dict[int, list[str]] = {}
    for at, raw in enumerate(text.splitlines(), start=1):
        body = raw.strip()
        if not body or body[0] in "*#":
            continue
        if ";" in body or "$" in body:
            body = _COMMENT_TAIL.sub("", body).rstrip()
            if not body:
                continue
        if body[0] != "+":
            lines.append(Line(body, Where(shown, at)))
        elif lines:
            more.setdefault(len(lines) - 1, []).append(body[1:].strip())
        else:
            raise DeckError(Where(shown, at), "+", "nothing to continue", "remove the + or put a line before it")
    for k, pieces in more.items():
        lines[k].text = " ".join([lines[k].text, *pieces])
    return lines
