"""One worker process and the pipe to it: every wait has an end, and whatever goes wrong leaves no process behind.

The worker has a session of its own, whose leader, its keeper, kills and reaps lava's processes when it ends. Reading,
writing and the worker's messages go through one loop with a deadline: no thread, no wait for an end of file that an
orphan could hold back. Where anything fails all of it is ended before the error is raised.
"""

from __future__ import annotations

import contextlib
import glob
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from sim.lava.protocol import HEAD, MAX_FRAME, PROTO, Arrays, FrameError, decode, encode, sizes

TAIL = 4096
"""Bytes of the worker's standard error that an error shows."""
KEEPER_S = 3.0
"""Seconds for the worker's keeper to end everything before it is killed itself."""
ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT
POLL_S = 0.2
"""Seconds between looks at whether the worker is alive while its pipe is silent."""
SUPPORTED = "0.10."
"""Start of the lava-nc versions whose law is ours."""


class WorkerUnavailable(ValueError):
    """There is no worker to start, or not the right one; the message has the commands that help."""


class WorkerTimeout(RuntimeError):
    """The worker did not answer in time and was killed."""


class WorkerCrashed(RuntimeError):
    """The worker ended, or lava raised, during a request."""


class WorkerProtocolError(RuntimeError):
    """What came from the worker is no answer: garbage, another protocol, a frame that is too large."""


class Link:
    """A started worker. ``hello``: what it said of itself.

    ``command``: what starts it. ``start_s``: seconds until it must have said hello. ``force``: take any lava version.
    Errors: the four above.
    """

    def __init__(
        self, command: Sequence[str], *, start_s: float = 60.0, force: bool = False, limit: int = MAX_FRAME
    ) -> None:
        self.limit, self.seq, self.tail, self.last = limit, 0, b"", "hello"
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                start_new_session=True, env=environment,
            )  # fmt: skip
        except OSError as error:
            raise WorkerUnavailable(
                f"cannot start the lava worker: {error}; run 'spikeport lava setup' again"
            ) from None
        three = (self.process.stdin, self.process.stdout, self.process.stderr)
        self.pipes = [p for p in three if p is not None]
        self.to, self.back, self.errors = (p.fileno() for p in self.pipes)
        for fd in (self.to, self.back, self.errors):
            os.set_blocking(fd, False)
        self.worker = self.process.pid
        try:
            self.hello = self._checked(self._receive(time.monotonic() + start_s), force)
            self.worker = int(self.hello.get("pid", self.worker))
        except BaseException:
            self.kill()
            raise

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return self.process.poll() is None and not self.pipes[0].closed

    def ask(
        self, op: str, header: dict[str, Any] | None = None, arrays: Arrays | None = None, timeout_s: float = 600.0
    ) -> tuple[dict[str, Any], Arrays]:
        """One request and its reply. Errors: the worker's four; the worker is dead after any of them."""
        self.seq, self.last = self.seq + 1, op
        try:
            frame = encode((header or {}) | {"op": op, "seq": self.seq}, arrays, self.limit)
        except FrameError as error:  # nothing was sent: the worker lives on
            raise ValueError(f"{op}: {error}") from None
        try:
            end = time.monotonic() + timeout_s
            self._send(frame, end)
            reply, found = self._receive(end)
            if reply.get("seq") != self.seq or reply.get("op") not in ("ok", "error"):
                raise WorkerProtocolError(f"{op}: reply {reply.get('op')!r} to {reply.get('seq')}, asked {self.seq}")
            if reply["op"] == "error":
                raise WorkerCrashed(self._told(reply))
        except BaseException:
            self.kill()
            raise
        return reply, found

    def close(self) -> None:
        """Say bye, and kill what does not leave."""
        if self.alive:
            with contextlib.suppress(WorkerTimeout, WorkerCrashed, WorkerProtocolError):
                self.ask("bye", timeout_s=10.0)
        self.kill()

    def kill(self) -> None:
        """End the worker and everything that it started; close the pipes; take away its shared memory."""
        if self.process.returncode is None:
            self.process.terminate()  # its keeper then kills and reaps all the rest
            end = time.monotonic() + KEEPER_S
            while time.monotonic() < end and self.process.returncode is None:  # terminate() may have reaped it
                if os.waitid(os.P_PID, self.process.pid, ENDED) is not None:
                    break
                time.sleep(0.01)
        for group in (self.process.pid, self.worker):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        self.process.wait()
        self._drain()
        for pipe in self.pipes:
            pipe.close()
        for left in glob.glob(f"/dev/shm/{shared_name(self.process.pid)}*"):  # where the keeper had no time to
            with contextlib.suppress(OSError):
                os.unlink(left)

    def _checked(self, got: tuple[dict[str, Any], Arrays], force: bool) -> dict[str, Any]:
        hello = got[0]
        if hello.get("op") != "hello" or hello.get("proto") != PROTO:
            raise WorkerProtocolError(
                f"the worker speaks protocol {hello.get('proto')!r}, this is {PROTO}; run 'spikeport lava setup' again"
            )
        if not str(hello.get("lava", "")).startswith(SUPPORTED) and not force:
            raise WorkerUnavailable(
                f"the worker has lava-nc {hello.get('lava')}, the law here is that of {SUPPORTED}x; run 'spikeport "
                "lava setup' again, or force it"
            )
        return hello

    def _told(self, reply: dict[str, Any]) -> str:
        return (
            f"lava {reply.get('where')}: {reply.get('code')}: {reply.get('message')}\n{reply.get('traceback')}"
            f"{self._stderr()}"
        )

    def _stderr(self) -> str:
        self._drain()
        text = self.tail.decode(errors="replace").strip()
        return f"\nits last words:\n{text}" if text else ""

    def _drain(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while part := os.read(self.errors, 65536):
                self.tail = (self.tail + part)[-TAIL:]

    def _send(self, data: bytes, end: float) -> None:
        view = memoryview(data)
        while view:
            if self._wait(selectors.EVENT_WRITE, end):
                try:
                    view = view[os.write(self.to, view[: 2**20]) :]
                except BrokenPipeError:
                    raise WorkerCrashed(self._crash()) from None

    def _receive(self, end: float) -> tuple[dict[str, Any], Arrays]:
        try:
            head, payload = sizes(self._read(HEAD.size, end), self.limit)
            return decode(self._read(head, end), self._read(payload, end))
        except FrameError as error:
            raise WorkerProtocolError(
                f"{self.last}: {error}; the worker was killed. Something else than the worker writes on its output"
                f"{self._stderr()}"
            ) from None

    def _read(self, n: int, end: float) -> bytes:
        parts = []
        while n:
            if self._wait(selectors.EVENT_READ, end):
                part = os.read(self.back, min(n, 2**20))
                if not part:
                    raise WorkerCrashed(self._crash())
                parts.append(part)
                n -= len(part)
        return b"".join(parts)

    def _wait(self, event: int, end: float) -> bool:
        """Until the pipe is ready, for a moment at most. Errors: past ``end``; a dead worker with nothing to read."""
        with selectors.DefaultSelector() as both:
            wanted = self.to if event == selectors.EVENT_WRITE else self.back
            both.register(wanted, event)
            both.register(self.errors, selectors.EVENT_READ)
            dead = self.process.poll() is not None
            left = end - time.monotonic()
            ready = {key.fd for key, _ in both.select(max(0.0, min(POLL_S, left)))}
        if self.errors in ready:
            self._drain()
        if wanted in ready:
            return True
        if dead:
            raise WorkerCrashed(self._crash())
        if left <= 0:
            raise WorkerTimeout(
                f"lava {self.last}: no answer in time; the worker was killed and starts again with the next request. "
                f"Give it more seconds, or fewer steps{self._stderr()}"
            )
        return False

    def _crash(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        code = self.process.returncode
        how = "closed its pipe" if code is None else f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return f"lava {self.last}: the worker ended ({how}); it starts again with the next request{self._stderr()}"


def shared_name(pid: int) -> str:
    """Start of the names of a worker's shared memory."""
    return f"sp{pid:x}_"
