"""Ctrl-C and SIGTERM, noted instead of followed at once, so that what is at hand ends first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

NOTED = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Asked:
    """``signal``: the one that came, 0 while none has."""

    signal: int = 0

    def leave(self) -> NoReturn:
        """What the signal would have done: ``KeyboardInterrupt``, or exit with 128 and its number."""
        if self.signal in (0, signal.SIGINT):  # 0: it was another process of these that was asked
            raise KeyboardInterrupt
        raise SystemExit(128 + self.signal)


@contextmanager
def interrupts(noted: bool) -> Iterator[Asked]:
    """Note signals inside where ``noted`` and this is the main thread; a second one acts at once."""
    asked = Asked()
    if not noted or threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, _: FrameType | None) -> None:
        if asked.signal:
            asked.signal = number
            asked.leave()
        asked.signal = number

    before = {number: signal.signal(number, note) for number in NOTED}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
