"""Lava process graphs from integer programs, and their runs. Worker side.

Programs, and the samples of one program, are disjoint parts of one graph: lava spends its time on starting up and on
synchronising, so parts that run together cost little more than one, and each begins from rest.
"""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lava.magma.compiler.compiler_graphs import ProcGroupDiGraphs
from lava.magma.core.process.process import ProcessServer
from lava.magma.core.process.variable import VarServer
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg

from sim.lava.host import Host, Plan, Window, model, shared
from sim.lava.nodes import CUSTOM, STATES, Fields, connect, population

LOOK_S = 0.2
"""Seconds between looks at lava's processes while they run."""
SLOTS = 4
"""Messages that a channel holds; lava's 64 cost memory and start-up and change nothing."""


@dataclass(frozen=True)
class Program:
    """An integer program as its manifest has it: nodes by name, connections, name of the output."""

    nodes: dict[str, Fields]
    edges: list[Fields]
    output: str

    @classmethod
    def parse(cls, manifest: dict[str, Any], arrays: dict[str, Any]) -> Program:
        """From a manifest of format loihi-int and its arrays."""

        def whole(entry: dict[str, Any]) -> Fields:
            return {k: arrays[v["array"]] if isinstance(v, dict) else v for k, v in entry.items()}

        nodes = {d["id"]: whole(d) for d in manifest["nodes"]}
        edges = [{"delay": 0, "delays": None, "port": "real"} | whole(d) for d in manifest["edges"]]
        return cls(nodes, edges, manifest["output"])

    @property
    def input(self) -> str:
        """Name of the input node."""
        return next(n for n, node in self.nodes.items() if node["kind"] == "input")

    def start(self) -> int:
        """Last chip step at which a population starts."""
        return max(int(node["start"]) for node in self.nodes.values())

    def size(self, name: str) -> int:
        """Number of neurons."""
        return int(np.prod(self.nodes[name]["shape"]))


@dataclass
class Part:
    """One program, one sample: ``x (T, inputs)`` and what is watched, arrays by probe name."""

    program: Program
    x: Any
    found: dict[str, Any] = field(default_factory=dict)


class Graph:
    """A running lava graph. ``stepping``: one row of input and output, over and over."""

    def __init__(
        self, programs: Sequence[Program], steps: Sequence[int], probes: Sequence[Sequence[str]], stepping: bool
    ) -> None:
        began = time.perf_counter()
        self.plan, self.stepping, self.models, self.wires = Plan(), stepping, dict[Any, Any](), list[tuple[str, Any]]()
        self.parts = [self._part(*each) for each in zip(programs, steps, probes, strict=True)]
        self.end = max((t + p.start() for p, t in zip(programs, steps, strict=True)), default=0)
        self.host: Any = Host(self.plan)
        for name, other in self.wires:
            self._wire(name, other)
        self.models[self.host] = model(self.plan)
        self._start()
        self.start_s, self.wall_s, self.steps = time.perf_counter() - began, 0.0, 0

    def _part(self, program: Program, t: int, names: Sequence[str]) -> Part:
        rows = 1 if self.stepping else t
        part = Part(program, shared(rows, program.size(program.input)))
        made = {n: self._population(part, n, rows, names) for n, d in program.nodes.items() if d["kind"] != "input"}
        outputs = {n: process.s_out for n, process in made.items()}
        outputs[program.input] = _Later(self.wires, f"x{len(self.plan.x)}")
        self.plan.x.append(Window(part.x, 0, self.stepping))
        for edge in program.edges:
            src, dst = program.nodes[edge["src"]], program.nodes[edge["dst"]]
            self._model(connect(edge, outputs[edge["src"]], made[edge["dst"]], src, dst))
        return part

    def _population(self, part: Part, name: str, rows: int, names: Sequence[str]) -> Any:
        """One population with its windows: spikes and variables that are asked for, variables that begin late."""
        node, n, plan = part.program.nodes[name], part.program.size(name), self.plan
        first = 0 if self.stepping else int(node["start"])
        made, late = population(node)
        self._model(made)
        if f"{name}.s" in names:
            part.found[f"{name}.s"] = shared(rows, n)
            self.wires.append((f"s{len(plan.s)}", made.s_out))
            plan.s.append(Window(part.found[f"{name}.s"], first, self.stepping))
        for state in dict.fromkeys((*STATES[node["kind"]], *late)):
            probe, last = f"{name}.{state}", f"{name}.{state}@end"
            window = Window(shared(0, n))
            if probe in names:
                window = Window(shared(rows, n), first, self.stepping)
                part.found[probe] = window.rows
            elif last in names:
                window = Window(shared(1, n), first + rows - 1, self.stepping)
                part.found[last] = window.rows
            elif state not in late:
                continue
            if state in late:
                plan.writes.append((len(plan.r), int(node["start"]) - 1, np.ascontiguousarray(late[state])))
            self.wires.append((f"r{len(plan.r)}", getattr(made, state)))
            plan.r.append(window)
        return made

    def _wire(self, name: str, other: Any) -> None:
        port = getattr(self.host, name)
        if name[0] == "x":
            other(port)
        elif name[0] == "s":
            other.connect(port)
        else:
            port.connect_var(other)

    def _model(self, process: Any) -> None:
        """Lava's own choice of model, looked up once per kind: it imports a folder of modules each time."""
        kind = type(process)
        if kind not in MODELS:
            MODELS[kind] = CUSTOM.get(kind) or CONFIG.select(process, ProcGroupDiGraphs._find_proc_models(process))
        self.models[process] = MODELS[kind]

    def _start(self) -> None:
        logging.getLogger().handlers.clear()  # lava adds one for every process
        config = Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=self.models)
        self.host.create_runtime(run_cfg=config, compile_config={"pypy_channel_size": SLOTS})
        self.runtime = self.host.runtime

    def run(self, steps: int) -> None:
        """So many chip steps. Errors: ``RuntimeError`` with the traceback of the process that failed.

        Lava waits for ever once one of its processes has ended, so it waits in a thread and we look at them.
        """
        began, failed = time.perf_counter(), list[BaseException]()

        def work() -> None:
            try:
                self.runtime.start(RunSteps(num_steps=steps))
            except BaseException as error:
                failed.append(error)

        waiting = threading.Thread(target=work, daemon=True)
        waiting.start()
        while waiting.is_alive():
            waiting.join(LOOK_S)
            if waiting.is_alive() or failed:
                self._look()
        if failed:
            raise failed[0]
        self.wall_s += time.perf_counter() - began
        self.steps += steps

    def _look(self) -> None:
        for actor in self.runtime._messaging_infrastructure.actors:
            told = actor.exception
            if told:
                raise RuntimeError(told[1])
            if not actor.is_alive():
                raise RuntimeError(f"one of lava's processes ended with exit code {actor.exitcode}")

    def stop(self) -> None:
        """End lava's processes."""
        self.runtime.stop()
        ProcessServer().reset_server()
        VarServer().reset_server()
        self.host = self.runtime = None
        self.models.clear()
        gc.collect()  # lava's processes hold each other; the next graph forks from us, the smaller the faster


class _Later:
    """Stands for an output port of the host, which is made after the populations."""

    def __init__(self, wires: list[Any], name: str, *how: tuple[str, Any]) -> None:
        self.wires, self.name, self.how = wires, name, how

    def reshape(self, shape: Any) -> _Later:
        return _Later(self.wires, self.name, *self.how, ("reshape", shape))

    def transpose(self, axes: Any) -> _Later:
        return _Later(self.wires, self.name, *self.how, ("transpose", axes))

    def connect(self, other: Any) -> None:
        def now(port: Any) -> None:
            for method, argument in self.how:
                port = getattr(port, method)(argument)
            port.connect(other)

        self.wires.append((self.name, now))


CONFIG = Loihi2SimCfg(select_tag="fixed_pt")
MODELS: dict[Any, Any] = {}
