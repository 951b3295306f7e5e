"""Downloads that a user asks for: resumed where they stopped, checked, and in place only when whole.

    fetch("https://...", "a.zip", sha256="...")       what has come lies in a.zip.part until the checksum agrees
    fetch_set("shd")                                  the files of one set of neuro/data/sets.toml

Nothing here runs by itself: no import and no loader downloads. An archive is not unpacked.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

from neuro.data.folder import data_folder

Report: TypeAlias = Callable[[int, int | None], None]
"""Told after each block: ``(bytes so far, bytes in all or None)``."""

_BLOCK = 2**20
_PAUSED = (TimeoutError, ConnectionError, http.client.HTTPException)
"""What ends a connection but not a download."""


@dataclass(frozen=True)
class Source:
    """One file of a set as ``sets.toml`` has it; checksums "" and size 0 where none is known."""

    file: str
    url: str
    sha256: str = ""
    md5: str = ""
    size: int = 0
    by_hand: bool = False
    """The address is a page that asks before it gives: fetch by hand, then :func:`verify`."""


@dataclass(frozen=True)
class Set:
    """One data set as ``sets.toml`` has it."""

    name: str
    licence: str
    source: str
    """Where addresses and checksums are from."""

    files: tuple[Source, ...]


def fetch(
    url: str,
    path: str | Path,
    *,
    sha256: str = "",
    md5: str = "",
    size: int = 0,
    tries: int = 5,
    timeout_s: float = 30.0,
    progress: bool | Report = False,
) -> Path:
    """Download ``url`` to ``path``, going on from ``<path>.part``; a whole file with the right checksum is left alone.

    A connection that breaks is taken up again, ``tries`` times without a byte between; a server that cannot go on in
    the middle, or whose file has changed meanwhile, sends it all again. ``md5`` finds accidents only.

    Errors: ``ValueError`` for an address that is not http, a server that refuses, a size or checksum that is not the
    one asked for (the part is then deleted), and for a connection that stays broken (the part stays).
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"fetch: {url!r} is no http or https address")
    path = Path(path)
    if path.exists():
        _verify(path, sha256, md5, size, "delete it to fetch it anew")
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with _reporting(progress, path.name) as tell:
        _pull(url, part, size, tries, timeout_s, tell)
    try:
        _verify(part, sha256, md5, size, f"it is deleted; look whether {url} is still that file")
    except ValueError:
        part.unlink()
        _tag(part).unlink(missing_ok=True)
        raise
    os.replace(part, path)
    _tag(part).unlink(missing_ok=True)
    return path


def fetch_set(name: str, folder: str | Path | None = None, *, progress: bool | Report = True) -> list[Path]:
    """The files of one set into ``folder``, by default ``$SPIKEPORT_DATA/<name>``.

    Errors: ``ValueError`` as :func:`fetch`; for an unknown set; for files that have to be fetched by hand.
    """
    known = sets()
    if name not in known:
        raise ValueError(f"fetch_set: no set {name!r}; there are {', '.join(known)}")
    root = data_folder(name) if folder is None else Path(folder)
    by_hand = [f for f in known[name].files if f.by_hand and not (root / f.file).exists()]
    if by_hand:
        names = ", ".join(f.file for f in by_hand)
        raise ValueError(f"fetch_set: {names} of {name} must be fetched by hand from {by_hand[0].url} into {root}")
    return [
        fetch(f.url, root / f.file, sha256=f.sha256, md5=f.md5, size=f.size, progress=progress)
        for f in known[name].files
    ]


def verify(path: str | Path, *, sha256: str = "", md5: str = "", size: int = 0) -> None:
    """Compare a file with what is known of it. Errors: ``ValueError`` naming file, what it has and what it should."""
    _verify(Path(path), sha256, md5, size, "fetch it again")


def sets() -> dict[str, Set]:
    """The table ``neuro/data/sets.toml``: where the sets lie and what is known of their checksums."""
    table = tomllib.loads(resources.files("neuro.data").joinpath("sets.toml").read_text("utf-8"))
    return {
        k: Set(k, v["licence"], v["source"], tuple(Source(**f) for f in v["file"])) for k, v in table["set"].items()
    }


def _verify(path: Path, sha256: str, md5: str, size: int, fix: str) -> None:
    have = path.stat().st_size
    if size and have != size:
        raise ValueError(f"{path}: {have} bytes, and {size} are wanted; {fix}")
    for kind, want in (("sha256", sha256), ("md5", md5)):
        if not want:
            continue
        digest = hashlib.new(kind, usedforsecurity=False)
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        got = digest.hexdigest()
        if got != want.lower():
            raise ValueError(f"{path}: its {kind} is {got}, and {want.lower()} is wanted; {fix}")


def _pull(url: str, part: Path, size: int, tries: int, timeout_s: float, tell: Report) -> None:
    left, before, error = tries, -1, "nothing came"
    while left > 0:
        have = part.stat().st_size if part.exists() else 0
        left = tries if have > before >= 0 else left - 1
        before = have
        try:
            if _go_on(url, part, have, size, timeout_s, tell):
                return
        except urllib.error.HTTPError as refused:
            raise ValueError(f"{url}: the server says {refused.code} {refused.reason}; look the address up") from None
        except (*_PAUSED, urllib.error.URLError) as broken:
            error = str(broken) or type(broken).__name__
    raise ValueError(f"{url}: the connection stays broken ({error}); call again to go on from {part}")


def _go_on(url: str, part: Path, have: int, size: int, timeout_s: float, tell: Report) -> bool:
    """Ask for what is missing and append it; whether the file is whole."""
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    tag = _tag(part)
    if have:
        request.add_header("Range", f"bytes={have}-")
        if tag.exists():
            request.add_header("If-Range", tag.read_text("ascii"))
    try:
        answer = urllib.request.urlopen(request, timeout=timeout_s)
    except urllib.error.HTTPError as refused:
        if refused.code == 416 and have and refused.headers.get("Content-Range") == f"bytes */{have}":
            return True  # nothing is missing
        if refused.code == 416 and have:
            part.unlink()  # longer than the file: it is of another
            return False
        raise
    with answer:
        total = _total(answer, have)
        if answer.status != 206:
            have = 0
            _remember(tag, answer)
        with open(part, "ab" if have else "wb") as out:
            while block := answer.read(_BLOCK):
                have += out.write(block)
                if size and have > size:
                    return True  # more than it may be: the check of the size says so
                tell(have, total)
    return total is None or have >= total


def _total(answer: Any, have: int) -> int | None:
    if answer.status == 206:
        span, _, whole = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if span.partition("-")[0] != str(have):
            raise ConnectionError(f"bytes {span} came, from {have} on were asked for")
        return int(whole) if whole.isdigit() else None
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _tag(part: Path) -> Path:
    """Where the server's name of the version that a part is of lies."""
    return part.with_name(part.name + ".tag")


def _remember(tag: Path, answer: Any) -> None:
    strong = answer.headers.get("ETag", "")
    known = answer.headers.get("Last-Modified", "") if not strong or strong.startswith("W/") else strong
    if known and known.isascii():
        tag.write_text(known, "ascii")
    else:
        tag.unlink(missing_ok=True)


@contextmanager
def _reporting(progress: bool | Report, name: str) -> Iterator[Report]:
    if callable(progress):
        yield progress
    elif not progress:
        yield lambda *_: None
    else:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        with Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn()) as bar:
            task = bar.add_task(name, total=None)
            yield lambda have, total: bar.update(task, completed=have, total=total)
