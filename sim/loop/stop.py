"""Ctrl-C between environment steps, never inside one: what was recorded and counted then agrees."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stops() -> Iterator[Callable[[], None]]:
    """``with stops() as check:`` and call ``check()`` after each step: it raises the ``KeyboardInterrupt`` that waits.

    A second Ctrl-C does not wait. Outside the main thread, where no signal arrives, ``check`` does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    asked = False

    def wait(*_: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, wait)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)
