"""Downloads from a server on this machine that breaks, resumes, forgets, changes and lies."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuro.data import download
from neuro.data.download import fetch, fetch_set, sets, verify

BODY = np.random.default_rng(0).bytes(300_000)
SHA256, MD5 = hashlib.sha256(BODY).hexdigest(), hashlib.md5(BODY, usedforsecurity=False).hexdigest()


class Server:
    """Serves ``body``; each answer ends after the next of ``cuts`` bytes; ``seen`` holds the ranges asked for."""

    def __init__(self) -> None:
        self.body, self.cuts, self.seen, self.ranges, self.tag, self.status = BODY, [], [], True, '"v1"', 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/a.bin"

    def answer(self, to: Any) -> None:
        asked, since = to.headers.get("Range"), to.headers.get("If-Range")
        self.seen.append(asked)
        start = int(asked[6:-1]) if asked and self.ranges and since in (None, self.tag) else 0
        if self.status != 200:
            to.send_error(self.status)
            return
        if start >= len(self.body) > 0:
            to.send_response(416)
            to.send_header("Content-Range", f"bytes */{len(self.body)}")
            to.end_headers()
            return
        to.send_response(206 if start else 200)
        if start:
            to.send_header("Content-Range", f"bytes {start}-{len(self.body) - 1}/{len(self.body)}")
        to.send_header("ETag", self.tag)
        to.send_header("Content-Length", str(len(self.body) - start))
        to.end_headers()
        cut = self.cuts.pop(0) if self.cuts else len(self.body)
        to.wfile.write(self.body[start : start + cut])


@pytest.fixture
def server() -> Iterator[Server]:
    s = Server()
    thread = threading.Thread(target=s.server.serve_forever)
    thread.start()
    yield s
    s.server.shutdown()
    thread.join()
    s.server.server_close()


def test_whole_file_is_checked_and_then_in_place(server: Server, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    path = fetch(server.url, tmp_path / "d" / "a.bin", sha256=SHA256, md5=MD5, size=len(BODY),
                 progress=lambda have, total: told.append((have, total)))  # fmt: skip
    assert path.read_bytes() == BODY
    assert told[-1] == (len(BODY), len(BODY))
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]
    assert fetch(server.url, path, sha256=SHA256) == path
    assert server.seen == [None]
    path.write_bytes(b"other")
    with pytest.raises(ValueError, match=r"a\.bin: its sha256 is .* is wanted; delete it to fetch it anew"):
        fetch(server.url, path, sha256=SHA256)
    assert path.read_bytes() == b"other"


def test_cut_connection_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000, 0, 50_000]
    path = fetch(server.url, tmp_path / "a.bin", sha256=SHA256)
    assert path.read_bytes() == BODY
    assert server.seen == [None, "bytes=100000-", "bytes=100000-", "bytes=150000-"]


def test_second_call_resumes_the_part(server: Server, tmp_path: Path) -> None:
    server.cuts = [70_000] + [0] * 20
    with pytest.raises(ValueError, match=r"the connection stays broken \(.*call again to go on from .*a\.bin\.part"):
        fetch(server.url, tmp_path / "a.bin", sha256=SHA256, tries=2)
    assert not (tmp_path / "a.bin").exists()
    assert (tmp_path / "a.bin.part").read_bytes() == BODY[:70_000]
    server.cuts, server.seen = [], []
    assert fetch(server.url, tmp_path / "a.bin", sha256=SHA256).read_bytes() == BODY
    assert server.seen == ["bytes=70000-"]


def test_whole_part_needs_no_byte(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(BODY)
    assert fetch(server.url, tmp_path / "a.bin", sha256=SHA256).read_bytes() == BODY
    (tmp_path / "b.bin.part").write_bytes(BODY + b"more")
    assert fetch(server.url, tmp_path / "b.bin", sha256=SHA256).read_bytes() == BODY


@pytest.mark.parametrize("changed", ["no ranges", "new file"])
def test_server_that_cannot_go_on_sends_it_all(server: Server, tmp_path: Path, changed: str) -> None:
    server.cuts = [70_000, 0]
    with pytest.raises(ValueError, match="stays broken"):
        fetch(server.url, tmp_path / "a.bin", tries=1)
    if changed == "no ranges":
        server.ranges = False
    else:
        server.body, server.tag = BODY[::-1], '"v2"'
    server.cuts = []
    assert fetch(server.url, tmp_path / "a.bin").read_bytes() == server.body
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_wrong_files_are_deleted_and_named(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    for want, says in (
        ({"sha256": "0" * 64}, "its sha256 is"),
        ({"md5": "0" * 32}, "its md5 is"),
        ({"size": 7}, "300000 bytes, and 7 are wanted"),
        ({"size": 10**6}, "300000 bytes, and 1000000 are wanted"),
    ):
        with pytest.raises(ValueError, match=rf"a\.bin\.part: {says}.*it is deleted; look whether http"):
            fetch(server.url, path, **want)
        assert not list(tmp_path.iterdir())
    server.status = 404
    with pytest.raises(ValueError, match="the server says 404"):
        fetch(server.url, path)
    with pytest.raises(ValueError, match="is no http or https address"):
        fetch("file:///etc/hosts", path)


def test_no_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the connection stays broken"):
        fetch("http://127.0.0.1:9/a", tmp_path / "a", tries=1, timeout_s=2)


def test_sets_of_the_table(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = sets()
    for name, one in known.items():
        assert one.files, name
        assert one.licence
        assert one.source
        for f in one.files:
            assert f.url.startswith("http")
            assert len(f.sha256) in (0, 64)
            assert len(f.md5) in (0, 32)
            assert set(f.sha256 + f.md5) <= set("0123456789abcdef")
    assert {"nmnist", "shd", "ssc", "dvs_gesture", "cifar10_dvs", "speech_commands", "mnist", "cifar10"} <= set(known)
    with pytest.raises(ValueError, match=r"Train\.zip, Test\.zip of nmnist must be fetched by hand from"):
        fetch_set("nmnist", tmp_path)
    with pytest.raises(ValueError, match="no set 'imagenet'; there are"):
        fetch_set("imagenet", tmp_path)
    mine = download.Set("a", "none", "here", (download.Source("a.bin", server.url, SHA256),))
    monkeypatch.setattr(download, "sets", lambda: {"a": mine})
    monkeypatch.setenv("SPIKEPORT_DATA", str(tmp_path))
    assert [p.read_bytes() for p in fetch_set("a")] == [BODY]
    verify(tmp_path / "a" / "a.bin", sha256=SHA256, md5=MD5, size=len(BODY))


def test_no_import_reaches_for_the_network() -> None:
    """Every module of data sets, with sockets forbidden."""
    code = (
        "import socket, pkgutil, importlib\n"
        "def no(*_, **__): raise SystemExit('network')\n"
        "socket.socket.connect = socket.create_connection = no\n"
        "import neuro.data\n"
        "for m in pkgutil.iter_modules(neuro.data.__path__): importlib.import_module('neuro.data.' + m.name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
