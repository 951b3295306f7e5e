"""Random programs for the comparison with lava-nc, the worker that runs them, and what it leaves behind."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import loihi_programs
import numpy as np
import numpy.typing as npt
import pytest
from loihi_programs import KINDS

from export.loihi import Lif
from sim.lava.cases import Case
from sim.lava.link import WorkerUnavailable
from sim.lava.setup import Environment, setup

Array = npt.NDArray[Any]
STEPS = 20
EXTENSION = 8
"""Every so many seeds a program keeps reset "subtract", which only a process model of ours has."""

__all__ = ["EXTENSION", "KINDS", "case", "fds", "gone", "ready", "session"]


@cache
def ready() -> Environment:
    """lava-nc, set up on first use. Skips where it is not to be had; fails where CI promises it."""
    try:
        return setup()
    except WorkerUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no lava-nc here: {error}")


def case(kind: str, seed: int, wild: bool) -> Case:
    """One sample of a random program, short enough to run hundreds."""
    program, x = loihi_programs.program(kind, seed, wild)
    if seed % EXTENSION:
        hard = {n: replace(p, reset="zero", subtract=0) if isinstance(p, Lif) else p for n, p in program.nodes.items()}
        program = replace(program, nodes=hard)
        program.check()
    return Case(f"{kind} {seed} {wild}", program, np.ascontiguousarray(x[:1, :STEPS]))


def session(leader: int) -> list[int]:
    """Processes of the session that ``leader`` began; the dead too, but for those that init is to reap."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it ended while we looked
        if int(fields[3]) == leader and (fields[0], fields[1]) != ("Z", "1"):
            found.append(int(folder.name))
    return found


def gone(leader: int, within_s: float = 2.0) -> bool:
    """Whether nothing of that session is left; a killed process needs a moment to die."""
    end = time.monotonic() + within_s
    while session(leader):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def fds() -> int:
    """Open file descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))
