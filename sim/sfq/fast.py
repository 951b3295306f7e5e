"""The fast engine: the kernel in C where it can be built (``native``), the same in numba (``kernel``) where not."""

from __future__ import annotations

import ctypes
from dataclasses import fields
from typing import Any, cast

import numpy as np

from sim.sfq import native
from sim.sfq.circuit import Floats
from sim.sfq.constants import SIGMA_VS
from sim.sfq.layout import Layout
from sim.sfq.state import GUARD_RAD, Advance, Drive, Events, Options, State, Watch, aligned
from sim.sfq.system import System
from sim.sfq.tables import Tables, sizes, tables, work_space


def compiled(system: System, layout: Layout, watch: Watch, options: Options) -> Advance:
    """An engine for one system of 1 or ``native.LANES`` corners; the first call of all may build the kernel (1 s)."""
    library = native.library(system.corners) if system.corners in (1, native.LANES) else None
    if library is None:
        from sim.sfq import kernel

        return kernel.engine(system, layout, watch, options)
    return Native(library, system, layout, watch, options)


class Native:
    """The kernel of one width with its tables and work space; the state is the caller's."""

    def __init__(self, library: ctypes.CDLL, system: System, layout: Layout, watch: Watch, options: Options) -> None:
        self.library, self.width = library, watch.width
        t = tables(system, layout)
        self.arrays = flat(system, t, watch) | work_space(system, layout)
        self.border_d = np.ascontiguousarray(system.border.d)
        self.sys, self.state = native.Sys(), cast(State, None)
        for name, value in sizes(system, t, watch, options).items():
            setattr(self.sys, name, value)
        self.sys.h, self.sys.guard, self.sys.sigma = system.h, GUARD_RAD, SIGMA_VS
        for name, array in self.arrays.items():
            setattr(self.sys, name, address(array))

    def __call__(
        self, state: State, drive: Drive, first: int, guard_from: float, record: Floats, events: Events
    ) -> tuple[int, int]:
        if self.state is not state:
            self.bind(state)
        buffer = native.Events(
            events.jj.ctypes.data, events.lane.ctypes.data, events.turns.ctypes.data, events.time.ctypes.data,
            len(events.jj), events.filled,
        )  # fmt: skip
        status = ctypes.c_int64()
        done = self.library.kernel_run(
            ctypes.byref(self.sys), ctypes.byref(buffer), ctypes.c_int64(first), ctypes.c_int64(len(record)),
            ctypes.c_double(guard_from), _pointer(drive.waves), _pointer(drive.own),
            ctypes.c_int64(drive.own.shape[1]), _pointer(record), ctypes.c_int64(self.width),
            _pointer(self.arrays["z"]), _pointer(self.arrays["sinv"]), _pointer(self.border_d), ctypes.byref(status),
        )  # fmt: skip
        events.filled = buffer.filled
        return int(done), status.value

    def bind(self, state: State) -> None:
        """Point at the arrays of a state; the factors belong to another one's junctions."""
        for x in fields(state):
            array = getattr(state, x.name)
            if not array.flags.c_contiguous:
                raise ValueError(f"state: {x.name} is not contiguous; make it with start() or copy()")
            setattr(self.sys, x.name, address(array))
        self.arrays["stale"][0] = 1
        self.arrays["head"][0] = int(state.region.any())
        self.state = state


def address(array: Any) -> int:
    """Where an array's numbers are; ``array.ctypes`` makes an object each time."""
    return int(array.__array_interface__["data"][0])


def _pointer(array: Floats) -> ctypes.c_void_p:
    return ctypes.c_void_p(address(array))


def flat(system: System, t: Tables, watch: Watch) -> dict[str, Any]:
    """Every array that kernel.c reads, by its name there: indices as int32, numbers contiguous."""
    given: dict[str, Any] = {**vars(t), **system.border._asdict(), **vars(system)}
    given |= {"watch_nodes": watch.nodes, "watch_jj": watch.jj, "watch_edges": watch.edges}
    out: dict[str, Any] = {}
    for name in native.POINTERS:
        value = given.get(name)
        if value is not None:
            if name in ("phi", "v_low"):
                value = np.repeat(value[:, None], system.corners, axis=1)
            if value.dtype.kind == "i":
                out[name] = np.ascontiguousarray(value, dtype=np.int32)
            elif system.corners == 1:
                out[name] = np.ascontiguousarray(value, dtype=np.float64)
            else:
                out[name] = aligned(value.shape)
                out[name][...] = value
    return out
