"""What the worker does for each request. Worker side.

load   manifests and arrays of one or more programs
run    x of each program (samples, T, inputs), probes         -> arrays by "<program>/<probe>", wall_s, start_s
step   x of each program (samples, inputs), probes            -> the same, one step; state is kept
reset  forget the state;  stats  what is loaded and running;  bye  end
"""

from __future__ import annotations

import gc
from importlib import metadata
from typing import Any

import numpy as np

from sim.lava.build import Graph, Program
from sim.lava.protocol import Arrays, pack, unpack

Reply = tuple[dict[str, Any], Arrays]


def versions() -> dict[str, str]:
    """Versions of what computes."""
    return {n: metadata.version(d) for n, d in (("numpy", "numpy"), ("scipy", "scipy"), ("lava", "lava-nc"))}


class Server:
    """State between requests: the loaded programs and, while stepping, the running graph."""

    def __init__(self) -> None:
        gc.freeze()  # what is imported is never looked at again, so that a fork need not copy it
        self.programs: list[Program] = []
        self.graph: Graph | None = None
        self.asked: Any = None
        self.counts = {"runs": 0, "steps": 0}

    def answer(self, op: str, header: dict[str, Any], arrays: Arrays) -> Reply:
        """The reply to one request. Errors: whatever goes wrong, ``ValueError`` for what cannot be."""
        known = {"load": self.load, "run": self.run, "step": self.step, "reset": self.reset, "stats": self.stats}
        if op not in known:
            raise ValueError(f"no op '{op}'; there are {', '.join(known)}, bye")
        return known[op](header, arrays)

    def load(self, header: dict[str, Any], arrays: Arrays) -> Reply:
        """Programs, without starting anything."""
        self.stop()
        self.programs = []
        for k, manifest in enumerate(header["manifests"]):
            own = {n.split("/", 1)[1]: a for n, a in arrays.items() if n.split("/", 1)[0] == str(k)}
            self.programs.append(Program.parse(manifest, own))
        return {}, {}

    def run(self, header: dict[str, Any], arrays: Arrays) -> Reply:
        """Every sample of every program from rest, all in one graph."""
        self.stop()
        xs = self._inputs(header, arrays)
        each = [
            (p, x[k], probes)
            for p, x, probes in zip(self.programs, xs, header["probes"], strict=True)
            for k in range(len(x))
        ]
        graph = Graph([p for p, _, _ in each], [len(x) for _, x, _ in each], [n for _, _, n in each], False)
        for part, (_, x, _) in zip(graph.parts, each, strict=True):
            part.x[:] = x
        graph.run(graph.end)
        graph.stop()
        self.counts["runs"] += 1
        self.counts["steps"] += graph.end
        return self._found(graph, header, [len(x) for x in xs])

    def step(self, header: dict[str, Any], arrays: Arrays) -> Reply:
        """One step of the graph that is kept running; the first begins from rest."""
        xs = self._inputs(header, arrays)
        asked = [[len(x) for x in xs], header["probes"]]
        if self.graph is None or self.asked != asked:
            if self.graph is not None:
                raise ValueError("samples and probes must stay the same from step to step; reset first")
            each = [(p, n) for p, x, n in zip(self.programs, xs, header["probes"], strict=True) for _ in x]
            self.graph, self.asked = Graph([p for p, _ in each], [1] * len(each), [n for _, n in each], True), asked
        rows = [row for x in xs for row in x]
        for part, row in zip(self.graph.parts, rows, strict=True):
            part.x[0] = row
        self.graph.run(1)
        self.counts["steps"] += 1
        return self._found(self.graph, header, asked[0])

    def reset(self, header: dict[str, Any], arrays: Arrays) -> Reply:
        """The next step begins from rest."""
        self.stop()
        return {}, {}

    def stats(self, header: dict[str, Any], arrays: Arrays) -> Reply:
        """What is loaded, what runs, what was done."""
        running = {} if self.graph is None else {"steps": self.graph.steps, "wall_s": self.graph.wall_s}
        return {"programs": len(self.programs), "running": running, **self.counts}, {}

    def stop(self) -> None:
        """End the running graph, if there is one."""
        graph, self.graph = self.graph, None
        if graph is not None:
            graph.stop()

    def _inputs(self, header: dict[str, Any], arrays: Arrays) -> list[Any]:
        if not self.programs:
            raise ValueError("nothing is loaded; load a program first")
        return [unpack(arrays[f"x{k}"], header["shapes"][k]) for k in range(len(self.programs))]

    def _found(self, graph: Graph, header: dict[str, Any], samples: list[int]) -> Reply:
        out, shapes, first = Arrays(), {}, 0
        for k, n in enumerate(samples):
            for probe in header["probes"][k]:
                stack = np.stack([part.found[probe] for part in graph.parts[first : first + n]])
                out[f"{k}/{probe}"], shapes[f"{k}/{probe}"] = pack(stack)
            first += n
        return {"shapes": shapes, "wall_s": graph.wall_s, "start_s": graph.start_s, "steps": graph.steps}, out
