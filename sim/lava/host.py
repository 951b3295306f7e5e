"""The one process of ours in a lava graph: it feeds the inputs, keeps the spikes, reads and writes variables.

It is written against lava's own ports, so the populations and connections around it are stock. In step k (lava's
time step k + 1) it sends row k of every input, takes what the populations fire, and, only in the steps that a window
asks for, reads variables in lava's post-management phase, as lava's Monitor does. Its arrays lie in memory that is
shared with the worker, which lava's own ``Var.get`` (one element a message) is far too slow for.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


def shared(*shape: int) -> Any:
    """An int32 array that a forked process writes and we read."""
    size = int(np.prod(shape))
    return np.frombuffer(mmap.mmap(-1, max(4, 4 * size)), np.int32)[:size].reshape(shape)


@dataclass
class Window:
    """``rows[k - first]`` is what a port gave in step k; steps outside are not kept. ``loop``: always row 0."""

    rows: Any
    first: int = 0
    loop: bool = False

    def holds(self, k: int) -> bool:
        """Whether step k is kept."""
        return k >= self.first and (self.loop or k < self.first + len(self.rows))

    def row(self, k: int) -> Any:
        """Where step k is kept."""
        return self.rows[0 if self.loop else k - self.first]


@dataclass
class Plan:
    """What the host does: per port a window (``x``: sent, ``s``: spikes, ``r``: variables); values to write.

    ``writes``: port index of ``r``, the step after which the values are in force, the values.
    """

    x: list[Window] = field(default_factory=list)
    s: list[Window] = field(default_factory=list)
    r: list[Window] = field(default_factory=list)
    writes: list[tuple[int, int, Any]] = field(default_factory=list)


class Host(AbstractProcess):  # type: ignore[misc]  # lava has no types
    """Ports ``x0..``, ``s0..`` and ``r0..`` as its plan has them."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan=plan)
        for make, letter, windows in ((OutPort, "x", plan.x), (InPort, "s", plan.s), (RefPort, "r", plan.r)):
            for k, window in enumerate(windows):
                setattr(self, f"{letter}{k}", make(shape=window.rows.shape[1:]))


class HostModel(PyLoihiProcessModel):  # type: ignore[misc]  # lava has no types
    """What the host does in a step; :func:`model` adds the ports."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.plan: Plan = proc_params["plan"]
        self.quiet = [np.zeros(w.rows.shape[1:], np.int32) for w in self.plan.x]

    def run_spk(self) -> None:
        """Send, then receive: the populations' spikes of a step do not wait for the input of that step."""
        k = self.time_step - 1
        for i, window in enumerate(self.plan.x):
            getattr(self, f"x{i}").send(window.row(k) if window.holds(k) else self.quiet[i])
        for i, window in enumerate(self.plan.s):
            s = getattr(self, f"s{i}").recv()
            if window.holds(k):
                window.row(k)[:] = s

    def post_guard(self) -> bool:
        """Whether a variable is to be read or written after this step."""
        k = self.time_step - 1
        return any(after == k for _, after, _ in self.plan.writes) or any(w.holds(k) for w in self.plan.r)

    def run_post_mgmt(self) -> None:
        """Read and write."""
        k = self.time_step - 1
        for i, after, values in self.plan.writes:
            if after == k:
                port = getattr(self, f"r{i}")
                port.write(values)
                port.wait()
        for i, window in enumerate(self.plan.r):
            if window.holds(k):
                window.row(k)[:] = getattr(self, f"r{i}").read()


def model(plan: Plan) -> Any:
    """A process model with the ports of ``plan``: lava takes them from the class."""
    ports: dict[str, Any] = {f"x{k}": LavaPyType(PyOutPort.VEC_DENSE, np.int32) for k in range(len(plan.x))}
    ports |= {f"s{k}": LavaPyType(PyInPort.VEC_DENSE, np.int32) for k in range(len(plan.s))}
    ports |= {f"r{k}": LavaPyType(PyRefPort.VEC_DENSE, np.int32) for k in range(len(plan.r))}
    made = type("HostModelWithPorts", (HostModel,), ports)
    return implements(proc=Host, protocol=LoihiProtocol)(requires(CPU)(tag("fixed_pt")(made)))
